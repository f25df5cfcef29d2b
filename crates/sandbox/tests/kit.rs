//! The tool kit in roots that are not its own. Needs git, bash and the package `busybox-static`.

mod world;

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use carrel_sandbox::{Command, FolderIds, Kit, Kits, Root, Sandbox, SandboxSpec};
use world::{World, as_ordinary_user, new_id, said};

/// Where this machine's programs are.
const HOST: &str = "/usr/local/bin:/usr/bin:/bin";

fn kits(world: &World) -> Kits {
    Kits::new(world.folder.path().join("kits"), OsString::from(HOST))
}

/// A root folder with nothing in it but `bin`.
fn root(world: &World) -> PathBuf {
    let root = world.folder.path().join("image");
    fs::create_dir_all(root.join("bin")).expect("made");
    root
}

/// A root of one static program and its shell.
fn busybox(world: &World) -> PathBuf {
    let root = root(world);
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("the package `busybox-static` is installed");
    for name in ["sh", "sed", "cat", "ls"] {
        symlink("busybox", root.join("bin").join(name)).expect("linked");
    }
    root
}

fn folder(path: PathBuf) -> Root {
    Root::Folder { path, ids: FolderIds::Shifted }
}

async fn needed(world: &World, kits: &Kits, root: &Root) -> (Kit, Vec<&'static str>) {
    kits.for_root(&world.sandboxes, root, "/bin").await.expect("this machine has git and bash").expect("needed")
}

async fn launch(world: &World, root: Root, kit: &Kit) -> Sandbox {
    let environment = vec![("PATH".to_owned(), kit.at_end_of("/bin"))];
    let spec = SandboxSpec { root, mounts: kit.mounts(), environment, ..SandboxSpec::new(new_id()) };
    world.sandboxes.launch(spec).await.expect("launched")
}

async fn bash(sandbox: &Sandbox, id: &str, text: &str) -> String {
    let finished = sandbox.run(Command::new(id, ["bash", "-c", text])).await.expect("bash runs");
    String::from_utf8_lossy(&finished.output).trim_end().to_owned()
}

#[test]
fn all_of_this_holds_for_an_ordinary_user() {
    as_ordinary_user();
}

#[tokio::test]
async fn a_root_without_any_program_has_git_bash_and_a_shell_by_the_kit() {
    let world = World::new().await;
    let (kits, root) = (kits(&world), folder(root(&world)));

    let (kit, lacks) = needed(&world, &kits, &root).await;
    let sandbox = launch(&world, root, &kit).await;

    assert_eq!(lacks[..4], ["sh", "bash", "git", "sed"]);
    let work = "cd /workspace && git init -q . && git config user.name a && git config user.email a@b && echo 1 > f \
         && git add . && git commit -qm x && echo 2 > f && git diff | tail -n 2; /bin/sh -c 'command -v git'";
    assert_eq!(bash(&sandbox, "work", work).await, "-1\n+2\n/opt/carrel/bin/git");
    let libraries =
        "while read -r _ _ _ _ _ file; do case $file in /*) echo $file;; esac; done < /proc/self/maps | sort -u";
    for file in bash(&sandbox, "libraries", libraries).await.lines() {
        assert!(file.starts_with("/opt/carrel/"), "nothing comes from elsewhere: {file}");
    }
    assert_eq!(
        bash(&sandbox, "write", "echo x > /opt/carrel/bin/git || echo closed").await.lines().last(),
        Some("closed")
    );
}

#[tokio::test]
async fn links_to_nothing_in_an_image_do_not_keep_the_kit_out() {
    let world = World::new().await;
    let root = root(&world);
    symlink("var/opt", root.join("opt")).expect("linked");
    symlink("/usr/bin/dash", root.join("bin/sh")).expect("linked");
    let (kits, root) = (kits(&world), folder(root));

    let (kit, _) = needed(&world, &kits, &root).await;
    let sandbox = launch(&world, root, &kit).await;

    assert_eq!(bash(&sandbox, "shell", "/bin/sh -c 'git --version' | cut -d ' ' -f 1-2").await, "git version");
}

#[tokio::test]
async fn who_no_longer_waits_for_the_kit_leaves_no_sandbox_behind() {
    let world = World::new().await;
    let kits = Arc::new(kits(&world));
    let (asked, sandboxes) = (Arc::clone(&kits), world.sandboxes.clone());
    let waiting = tokio::spawn(async move { asked.kit(&sandboxes).await });
    let is_tried = async {
        while world.sandboxes.list().await.expect("listed").is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), is_tried).await.expect("the kit is tried out");

    waiting.abort();

    assert!(waiting.await.is_err_and(|ended| ended.is_cancelled()));
    kits.kit(&world.sandboxes).await.expect("made by then");
    assert_eq!(world.sandboxes.list().await.expect("listed"), []);
}

#[tokio::test]
async fn the_programs_of_the_image_come_before_those_of_the_kit() {
    let world = World::new().await;
    let (kits, root) = (kits(&world), folder(busybox(&world)));

    let (kit, lacks) = needed(&world, &kits, &root).await;
    let sandbox = launch(&world, root, &kit).await;

    assert_eq!(lacks, ["bash", "git", "cp", "mkdir", "rm", "xargs", "stat", "sort", "head"]);
    assert_eq!(
        bash(&sandbox, "which", "command -v sh sed bash git; readlink -f /bin/sh").await,
        "/bin/sh\n/bin/sed\n/opt/carrel/bin/bash\n/opt/carrel/bin/git\n/bin/busybox"
    );
    assert_ne!(needed(&world, &kits, &folder(world.folder.path().join("kits"))).await.0.digest(), kit.digest());
}

#[tokio::test]
async fn variables_and_libraries_of_an_image_do_not_reach_into_the_kit() {
    let world = World::new().await;
    let root = root(&world);
    fs::create_dir_all(root.join("lib/x86_64-linux-gnu")).expect("made");
    for name in ["lib/libc.so.6", "lib/libz.so.1", "lib/x86_64-linux-gnu/libc.so.6"] {
        fs::write(root.join(name), "no library").expect("written");
    }
    let root = folder(root);

    let (kit, _) = needed(&world, &kits(&world), &root).await;
    let sandbox = launch(&world, root, &kit).await;

    let text = "LD_LIBRARY_PATH=/lib:/lib/x86_64-linux-gnu git --version | cut -d ' ' -f 1-2";
    assert_eq!(bash(&sandbox, "version", text).await, "git version");
}

#[tokio::test]
async fn a_root_that_has_everything_gets_no_kit_and_neither_does_the_hosts() {
    let world = World::new().await;
    let root = busybox(&world);
    let kits = Kits::new(world.folder.path().join("kits"), OsString::from("/nowhere"));
    for name in ["bash", "git", "cp", "mkdir", "rm", "xargs", "stat", "sort", "head"] {
        symlink("/bin/busybox", root.join("bin").join(name)).expect("linked");
    }

    for root in [folder(root.clone()), Root::Host] {
        assert_eq!(kits.for_root(&world.sandboxes, &root, "/bin").await.expect("looked"), None);
    }

    // What cannot be run, or lies outside, is not there.
    fs::remove_file(root.join("bin/git")).expect("ours");
    symlink("../../../../../../../../../../../usr/bin/git", root.join("bin/git")).expect("linked");
    let refused = kits.for_root(&world.sandboxes, &folder(root), "/bin").await;
    let words = refused.expect_err("there is nothing to make a kit of").to_string();
    assert!(words.contains("no `bash` in its PATH"), "{words}");
}

#[tokio::test]
async fn a_kit_is_kept_by_what_is_in_it_and_old_ones_go() {
    let world = World::new().await;
    let folder = world.folder.path().join("kits");
    fs::create_dir_all(folder.join(".making-left")).expect("made");
    for name in ["a", "b", "c", "d", "e"] {
        fs::create_dir(folder.join(name)).expect("made");
    }

    let kit = kits(&world).kit(&world.sandboxes).await.expect("made");
    let again = kits(&world).kit(&world.sandboxes).await.expect("found");

    assert_eq!(kit, again);
    let names = |folder: &Path| {
        fs::read_dir(folder).expect("there").flatten().map(|entry| entry.file_name()).collect::<Vec<_>>()
    };
    let kept: Vec<_> = names(&folder).into_iter().filter(|name| !name.to_string_lossy().starts_with('.')).collect();
    assert_eq!(kept.len(), 4, "{kept:?}");
    assert!(!folder.join(".making-left").exists());
    assert!((1..200_000_000).contains(&kit.size_bytes()), "{}", kit.size_bytes());
}

#[tokio::test]
async fn a_kit_whose_programs_do_not_do_what_they_should_is_refused() {
    let world = World::new().await;
    let bin = world.folder.path().join("bin");
    fs::create_dir(&bin).expect("made");
    symlink("/usr/bin/true", bin.join("sed")).expect("linked");
    let path = OsString::from(format!("{}:{HOST}", bin.display()));

    let made = Kits::new(world.folder.path().join("kits"), path).kit(&world.sandboxes).await;

    let words = made.expect_err("that is no sed").to_string();
    assert!(words.contains("what was made does not run"), "{words}");
    assert_eq!(world.sandboxes.list().await.expect("listed"), [], "nothing is left of the attempt");
    assert_eq!(said(&world.sandbox().await, "echo fine").await, "fine");
}
