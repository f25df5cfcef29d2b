//! What a sandbox has changed below a folder is told from its layer alone, and what cannot be told so is not guessed.

mod world;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use carrel_sandbox::{Changed, LayerName, Sandbox, SandboxSpec};
use world::{World, as_ordinary_user, new_id, run};

/// What lies beneath.
const BEFORE: &str = "mkdir -p /workspace/r/a/b /workspace/r/full/x; cd /workspace/r; touch one two a/three a/b/four full/x/five; \
    ln -s one link; echo s > ~/settings";

fn name(text: &str) -> LayerName {
    text.parse().expect("a name")
}

fn paths(paths: &[&str]) -> Changed {
    Changed::Paths(paths.iter().map(|path| path.as_bytes().to_vec()).collect())
}

impl World {
    async fn on(&self, layers: &[&str]) -> Sandbox {
        let layers = layers.iter().map(|text| name(text)).collect();
        self.sandboxes
            .launch(SandboxSpec { layers, ..SandboxSpec::new(new_id()) })
            .await
            .expect("a sandbox is launched")
    }

    /// A sandbox on a layer in which this was done.
    async fn after(&self, script: &str) -> Sandbox {
        let builder = self.on(&[]).await;
        assert!(run(&builder, BEFORE).await.status.is_success());
        self.sandboxes.keep(builder.id(), &name("before")).await.expect("kept");
        let sandbox = self.on(&["before"]).await;
        let ran = run(&sandbox, &format!("cd /workspace/r; {script}")).await;
        assert!(ran.status.is_success(), "{ran:?}");
        sandbox
    }

    async fn changed(&self, sandbox: &Sandbox, below: &str, also: &[&str]) -> Changed {
        let also: Vec<LayerName> = also.iter().map(|text| name(text)).collect();
        self.sandboxes.changed_in_sandbox(sandbox.id(), below, &also, 20).await.expect("looked")
    }
}

#[test]
fn all_of_it_holds_for_an_ordinary_user() {
    as_ordinary_user();
}

#[tokio::test]
async fn nothing_was_changed_where_nothing_was_written() {
    let world = World::new().await;

    let sandbox = world.after("cat one; ls -R; echo x > /tmp/elsewhere").await;

    for below in ["/workspace/r", "/workspace/r/a/b", "/home/carrel", "/etc", "/nowhere/at/all"] {
        assert_eq!(world.changed(&sandbox, below, &[]).await, paths(&[]), "{below}");
    }
    assert_eq!(world.changed(&sandbox, "/tmp", &[]).await, paths(&["elsewhere"]));
}

#[tokio::test]
async fn files_are_named_wherever_they_are_and_new_folders_as_a_whole() {
    let world = World::new().await;

    let sandbox = world
        .after(
            "echo x > one; rm two; chmod +x a/three; echo n > $'a/b/new\\nline'; ln -sfn two link; mkdir -p new/deep; \
             touch new/deep/file new/other; rm -rf full; echo s > ~/settings; mkdir a/empty; touch passing; rm passing",
        )
        .await;

    let found = world.changed(&sandbox, "/workspace/r", &[]).await;
    assert_eq!(found, paths(&["a/b/new\nline", "a/empty", "a/three", "full", "link", "new", "one", "two"]));
    assert_eq!(world.changed(&sandbox, "/workspace/r/a", &[]).await, paths(&["b/new\nline", "empty", "three"]));
    assert_eq!(world.changed(&sandbox, "/home/carrel", &[]).await, paths(&["settings"]));
    assert_eq!(world.changed(&sandbox, "/workspace/r/new", &[]).await, Changed::Everything);
    assert_eq!(world.changed(&sandbox, "/workspace/r/new/deep", &[]).await, Changed::Everything);
    assert_eq!(world.changed(&sandbox, "/workspace/r/one", &[]).await, Changed::Everything);
}

#[tokio::test]
async fn folders_that_moved_or_were_replaced_are_named_as_a_whole() {
    let world = World::new().await;

    let sandbox =
        world.after("mv full moved; touch moved/x/more; rm -rf a; mkdir a; touch a/again; mv a/again one").await;

    assert_eq!(world.changed(&sandbox, "/workspace/r", &[]).await, paths(&["a", "full", "moved", "one"]));
}

#[tokio::test]
async fn what_earlier_turns_changed_is_told_when_asked() {
    let world = World::new().await;
    let first = world.after("echo x > one; mkdir new; touch new/file").await;
    world.sandboxes.keep(first.id(), &name("attempt-1")).await.expect("kept");

    let second = world.on(&["attempt-1", "before"]).await;
    run(&second, "cd /workspace/r; rm two; touch new/more").await;

    assert_eq!(world.changed(&second, "/workspace/r", &[]).await, paths(&["new/more", "two"]));
    let both = world.changed(&second, "/workspace/r", &["attempt-1"]).await;
    assert_eq!(both, paths(&["new", "new/more", "one", "two"]));
}

#[tokio::test]
async fn what_is_too_much_too_deep_or_closed_may_be_everything() {
    for script in [
        "for i in $(seq 30); do touch $i; done",
        "chmod 0 a",
        "cd ..; mv r s; cp -a s r",
        "cd ..; mv r s; ln -s s r",
        "cd ..; rm -rf r",
    ] {
        let world = World::new().await;

        let sandbox = world.after(script).await;

        assert_eq!(world.changed(&sandbox, "/workspace/r", &[]).await, Changed::Everything, "{script}");
    }
}

#[tokio::test]
async fn a_layer_whose_top_was_closed_may_have_changed_everything_and_comes_to_the_disk() {
    let world = World::new().await;
    let sandbox = world.after("echo x > one").await;
    let closed = world.folder.path().join("sandboxes").join(sandbox.id().to_string()).join("upper");
    let is_root = nix::unistd::geteuid().is_root();

    // As `chmod 0 /` in an image does it.
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("it is ours");

    let expected = if is_root { paths(&["one"]) } else { Changed::Everything };
    assert_eq!(world.changed(&sandbox, "/workspace/r", &[]).await, expected);
    world.sandboxes.keep(sandbox.id(), &name("closed")).await.expect("kept");
    let is_on_disk = async {
        while !world
            .sandboxes
            .layers()
            .await
            .expect("listed")
            .iter()
            .any(|layer| layer.name == name("closed") && layer.is_on_disk)
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), is_on_disk).await.expect("it comes to the disk");
}

#[tokio::test]
async fn where_no_layer_lies_beneath_nothing_is_said_to_be_unchanged() {
    let world = World::new().await;
    let sandbox = world.on(&[]).await;

    run(&sandbox, "mkdir -p /workspace/r/a; touch /workspace/r/a/one").await;

    let found = world.changed(&sandbox, "/workspace/r", &[]).await;
    assert!([Changed::Everything, paths(&["a/one"])].contains(&found), "{found:?}");
}
