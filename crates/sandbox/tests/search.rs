//! Looking for secrets in layers: they are found wherever a sandbox left them, and nothing is followed or changed.

mod world;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use carrel_domain::SandboxId;
use carrel_sandbox::{LayerName, Sandbox, SandboxError};
use nix::unistd::geteuid;
use world::{World, as_ordinary_user, run};

fn name(text: &str) -> LayerName {
    text.parse().expect("a name")
}

impl World {
    async fn keep(&self, sandbox: Sandbox, as_name: &str) {
        self.sandboxes.keep(sandbox.id(), &name(as_name)).await.expect("it is kept");
    }

    fn folder_of(&self, id: SandboxId) -> PathBuf {
        self.folder.path().join("sandboxes").join(id.to_string())
    }

    fn layer(&self, name: &str) -> PathBuf {
        self.folder.path().join("sandboxes/layers").join(name)
    }
}

#[test]
fn all_of_this_holds_for_an_ordinary_user() {
    as_ordinary_user();
}

#[tokio::test]
async fn a_secret_is_found_wherever_it_was_left_and_nothing_is_followed() {
    let world = World::new().await;
    let secret = b"s3cret-canary".to_vec();
    let outside = world.folder.path().join("outside");
    fs::write(&outside, &secret).expect("written");
    let clean = world.sandbox().await;
    let made = run(
        &clean,
        &format!(
            "cd /workspace && mkfifo fifo && ln -s {} out && ln -s / root && ln -s fifo to-fifo && truncate -s 8T sparse \
             && mkdir closed && echo s3cret > closed/part && chmod 000 closed closed/part 2>/dev/null; echo -canary > rest; \
             python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"socket\")'",
            outside.display()
        ),
    )
    .await;
    assert!(made.status.is_success(), "{}", String::from_utf8_lossy(&made.output));
    let needles = vec![b"never".to_vec(), secret];
    assert_eq!(world.sandboxes.find_in_sandbox(clean.id(), needles.clone()).await.expect("looked"), None);
    world.keep(clean, "clean").await;
    assert_eq!(world.sandboxes.find_in_layer(&name("clean"), needles.clone()).await.expect("looked"), None);

    // 262,138 is six bytes before the border of what is read at once.
    for (number, (script, place)) in [
        ("mkdir -p a && head -c 262138 /dev/zero | tr '\\0' x > a/f && printf s3cret-canary >> a/f", "workspace/a/f"),
        ("printf s3cret-canary | dd of=sparse bs=1 seek=1000000000 status=none", "workspace/sparse"),
        ("mkdir -p b/s3cret-canary.d", "workspace/b/s3cret-canary.d"),
        ("ln -s /x/s3cret-canary/y link", "workspace/link"),
        ("mkdir -p c && echo '-s3cret-canary-' > c/f && chmod 000 c/f && chmod 000 c", "workspace/c/f"),
    ]
    .into_iter()
    .enumerate()
    {
        let sandbox = world.sandbox().await;
        run(&sandbox, &format!("cd /workspace && {script}")).await;
        let found = world.sandboxes.find_in_sandbox(sandbox.id(), needles.clone()).await.expect("looked");
        assert_eq!(found.as_deref(), Some(format!("/{place}").as_str()), "{script}");
        let layer = format!("dirty-{number}");
        world.keep(sandbox, &layer).await;
        let found = world.sandboxes.find_in_layer(&name(&layer), needles.clone()).await.expect("looked");
        assert_eq!(found.as_deref(), Some(format!("/{place}").as_str()), "{script}");
    }

    let closed = world.layer("dirty-4").join("upper/workspace/c");
    assert_eq!(fs::metadata(closed).expect("there").permissions().mode() & 0o777, 0, "its rights are as they were");
    for broken in [vec![Vec::new()], vec![vec![b'x'; 70_000]]] {
        let refused = world.sandboxes.find_in_layer(&name("clean"), broken).await;
        assert!(matches!(refused, Err(SandboxError::Invalid(_))), "{refused:?}");
    }
    let absent = world.sandboxes.find_in_layer(&name("absent"), needles).await;
    assert!(matches!(absent, Err(SandboxError::NoSuchLayer(_))), "{absent:?}");
}

#[tokio::test]
async fn a_secret_is_found_in_extended_attributes_and_rights_stay_as_they_were() {
    let world = World::new().await;
    let needles = vec![b"s3cret-canary".to_vec()];
    let set = |script: &str| format!("cd /workspace && python3 -c 'import os\n{script}'");
    let clean = world.sandbox().await;
    let many = set("open(\"f\", \"w\"); [os.setxattr(\"f\", f\"user.{n:0200}\", b\"x\" * n) for n in range(9)]");
    assert!(run(&clean, &many).await.status.is_success());
    assert_eq!(world.sandboxes.find_in_sandbox(clean.id(), needles.clone()).await.expect("looked"), None);

    for (script, place) in [
        ("open(\"f\", \"w\"); os.setxattr(\"f\", \"user.k\", b\"-s3cret-canary-\")", "/workspace/f"),
        ("open(\"f\", \"w\"); os.setxattr(\"f\", \"user.s3cret-canary\", b\"\")", "/workspace/f"),
        ("os.mkdir(\"d\"); os.setxattr(\"d\", \"user.k\", b\"s3cret-canary\"); os.chmod(\"d\", 0)", "/workspace/d"),
        ("open(\"f\", \"w\"); os.setxattr(\"f\", \"user.k\", b\"s3cret-canary\"); os.chmod(\"f\", 0)", "/workspace/f"),
        (
            "open(\"f\", \"w\"); [os.setxattr(\"f\", f\"user.{n:0200}\", b\"x\") for n in range(9)]
os.setxattr(\"f\", \"user.k\", b\"s3cret-canary\")",
            "/workspace/f",
        ),
        ("os.setxattr(\".\", \"user.k\", b\"s3cret-canary\")", "/workspace"),
    ] {
        let sandbox = world.sandbox().await;
        let made = run(&sandbox, &set(script)).await;
        assert!(made.status.is_success(), "{script}: {}", String::from_utf8_lossy(&made.output));
        let upper = world.folder_of(sandbox.id()).join("upper");
        let rights = || fs::metadata(upper.join(&place[1..])).expect("there").permissions().mode();
        let before = rights();

        let found = world.sandboxes.find_in_sandbox(sandbox.id(), needles.clone()).await.expect("looked");

        assert_eq!((found.as_deref(), rights()), (Some(place), before), "{script}");
    }
}

#[tokio::test]
async fn a_secret_is_found_in_attributes_of_a_link_and_of_the_root_of_a_layer() {
    let world = World::new().await;
    let needles = vec![b"s3cret-canary".to_vec()];
    let sandbox = world.sandbox().await;
    run(&sandbox, "ln -s nowhere /workspace/link").await;
    let upper = world.folder_of(sandbox.id()).join("upper");
    let set = |path: PathBuf, name: &str, value: &[u8]| {
        rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty()).expect("set");
    };
    let find = async || world.sandboxes.find_in_sandbox(sandbox.id(), needles.clone()).await.expect("looked");

    if geteuid().is_root() {
        // Links have no attributes of the kind that everybody may set.
        set(upper.join("workspace/link"), "trusted.k", b"s3cret-canary");
        assert_eq!(find().await.as_deref(), Some("/workspace/link"));
    }
    set(upper, "user.k", b"s3cret-canary");
    assert_eq!(find().await.as_deref(), Some("/"));
}
