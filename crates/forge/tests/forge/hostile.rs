//! A repository whose configuration would run programs: looked at, mirrored and worked with, it runs none.

use std::fs;
use std::time::{Duration, Instant};

use carrel_domain::Revision;
use carrel_forge::{Forge, ForgeError, GitOptions, Timeouts};

use crate::support::{World, branch, commit, executable, git, options};

/// Programs that leave a file behind, named wherever git's configuration takes one.
fn arm(world: &World) -> std::path::PathBuf {
    let (trap, ran) = (world.path("trap"), world.path("ran"));
    executable(&trap, &format!("echo \"$0 $*\" >>'{}'\nexit 1", ran.display()));
    let trap = trap.display().to_string();
    let included = world.path("included");
    fs::write(
        &included,
        format!("[core]\n\tfsmonitor = {trap}\n[alias]\n\tls-remote = !{trap}\n\trev-parse = !{trap}\n"),
    )
    .expect("a file");
    for (key, value) in [
        ("core.fsmonitor", &trap),
        ("core.hooksPath", &world.path("hooks").display().to_string()),
        ("core.sshCommand", &trap),
        ("core.gitProxy", &trap),
        ("core.askPass", &trap),
        ("core.pager", &trap),
        ("core.editor", &trap),
        ("core.alternateRefsCommand", &trap),
        ("credential.helper", &trap),
        ("diff.external", &trap),
        ("filter.x.smudge", &trap),
        ("filter.x.clean", &trap),
        ("filter.x.process", &trap),
        ("gpg.program", &trap),
        ("uploadpack.packObjectsHook", &trap),
        ("alias.upload-pack", &format!("!{trap}")),
        ("alias.rev-parse", &format!("!{trap}")),
        ("includeIf.gitdir:/**.path", &included.display().to_string()),
        ("include.path", &included.display().to_string()),
        ("remote.origin.url", &"ssh://nowhere.invalid/x".to_owned()),
        ("remote.origin.promisor", &"true".to_owned()),
        ("remote.origin.uploadpack", &trap),
        ("remote.origin.vcs", &"ext".to_owned()),
        ("extensions.partialClone", &"origin".to_owned()),
    ] {
        world.source.git(&["config", "--add", key, value]);
    }
    fs::create_dir(world.path("hooks")).expect("a folder");
    for hook in ["reference-transaction", "post-checkout", "pre-receive", "pre-push", "fsmonitor-watchman"] {
        executable(&world.path("hooks").join(hook), &format!("'{trap}' {hook}"));
        executable(&world.source.path.join(".git/hooks").join(hook), &format!("'{trap}' {hook}"));
    }
    ran
}

#[tokio::test]
async fn probing_and_fetching_a_hostile_repository_runs_nothing_of_it() {
    let world = World::empty();
    world.source.write(".gitattributes", "* filter=x diff=x\n");
    world.source.write("file.txt", "x\n");
    let tip = world.source.commit("first");
    world.source.commit("second");
    let ran = arm(&world);
    let location = world.source.location();

    world.forge.probe(&location, &Revision::DefaultBranch).await.expect("a repository");
    world.forge.probe(&location, &branch("main")).await.expect("the branch");
    world.forge.probe(&location, &commit(tip.short())).await.expect("the commit");
    for missing in ["0123456789", "0123456789012345678901234567890123456789"] {
        world.forge.probe(&location, &commit(missing)).await.expect_err("no such commit");
    }
    let (mirror, _) = world.made("new.txt").await;
    mirror.resolve(&commit("0123456789012345678901234567890123456789")).await.expect_err("no such commit");

    assert!(!ran.exists(), "{}", fs::read_to_string(&ran).unwrap_or_default());
    // The trap works: a git that heeds the configuration goes into it.
    let _ = crate::support::command(&world.source.path).arg("status").output().expect("git");
    assert!(ran.exists());
}

#[tokio::test]
async fn a_git_file_that_points_into_another_users_repository_is_not_followed_for_them() {
    let world = World::new();
    if !nix::unistd::geteuid().is_root() {
        // Only root serves repositories of several users.
        return;
    }
    let folder = world.path("theirs");
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join(".git"), format!("gitdir: {}/.git\n", world.source.path.display())).expect("a file");
    std::process::Command::new("chown").args(["-R", "4321:4321"]).arg(&folder).status().expect("chown");
    let location = carrel_domain::RepositoryLocation::Path(folder);

    for error in [
        world.forge.probe(&location, &Revision::DefaultBranch).await.expect_err("not theirs"),
        world.forge.fetch(world.id, &location).await.expect_err("not theirs"),
    ] {
        assert!(matches!(error, ForgeError::NotOurs { .. }), "{error:?}");
        assert!(error.to_string().contains("safe.directory"), "{error}");
    }
}

#[tokio::test]
async fn hooks_that_got_into_a_mirror_do_not_run() {
    let world = World::new();
    let bare = world.bare();
    let mirror = world.fetch().await.expect("a mirror");
    let ran = world.path("ran");
    fs::create_dir_all(mirror.path().join("hooks")).expect("a folder");
    for hook in ["reference-transaction", "pre-push", "post-update", "pre-auto-gc"] {
        executable(&mirror.path().join("hooks").join(hook), &format!("touch '{}'", ran.display()));
    }
    git(mirror.path(), &["config", "core.hooksPath", &mirror.path().join("hooks").display().to_string()]);

    world.source.commit("second");
    let (mirror, made) = world.made("new.txt").await;
    mirror.push(&bare.location(), &made, &crate::support::branch_name("work"), None).await.expect("a push");

    assert!(!ran.exists());
}

#[tokio::test]
async fn nothing_of_where_it_came_from_is_written_into_a_mirror() {
    let world = World::new();
    let (mirror, _) = world.made("new.txt").await;

    assert!(!crate::support::holds(mirror.path(), &world.source.path.display().to_string()));
}

#[tokio::test]
async fn a_call_that_passes_its_deadline_dies_with_its_children() {
    let world = World::new();
    let bin = world.path("bin");
    fs::create_dir(&bin).expect("a folder");
    let children = world.path("children");
    let script = format!(
        "test \"$1\" = --version && exec /usr/bin/git --version\nsleep 600 & echo $! >'{}'\nwait",
        children.display()
    );
    executable(&bin.join("git"), &script);
    let timeouts = Timeouts { listing: Duration::from_millis(300), ..Timeouts::default() };
    let search_path = format!("{}:/usr/bin:/bin", bin.display()).into();
    let slow = Forge::new(GitOptions { timeouts, search_path, ..options(world.folder.path()) }).expect("a usable git");

    let error = slow.fetch(world.id, &world.source.location()).await.expect_err("too slow");

    assert!(matches!(error, ForgeError::TimedOut { what: "ls-remote", .. }), "{error:?}");
    assert!(error.is_retryable());
    let child = fs::read_to_string(&children).expect("the child's number");
    let status = format!("/proc/{}/stat", child.trim());
    let until = Instant::now() + Duration::from_secs(5);
    // A zombie waits for its new parent; it runs no more.
    while fs::read_to_string(&status).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < until, "the child still runs");
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn a_git_that_is_too_old_or_missing_is_named() {
    let world = World::new();
    let bin = world.path("bin");
    fs::create_dir(&bin).expect("a folder");
    let with_path = |path: &std::path::Path| {
        Forge::new(GitOptions { search_path: path.into(), ..options(world.folder.path()) }).expect_err("unusable")
    };

    assert!(with_path(&bin).to_string().starts_with("git cannot be used: it does not start"));
    executable(&bin.join("git"), "echo git version 2.30.2");
    assert_eq!(with_path(&bin).to_string(), "git cannot be used: version 2.30.2 is too old; install git 2.39 or newer");
}

/// A tree object as it stands, whatever git thinks of it.
fn raw_tree(world: &World, entries: &[(&str, &str)]) -> String {
    use std::io::Write;

    let blob = world.source.git(&["rev-parse", "HEAD:README.md"]);
    let oid: Vec<u8> =
        (0..20).map(|at| u8::from_str_radix(&blob[2 * at..2 * at + 2], 16).expect("hexadecimal digits")).collect();
    let bytes: Vec<u8> =
        entries.iter().flat_map(|(mode, name)| [format!("{mode} {name}\0").as_bytes(), &oid].concat()).collect();
    let mut hash = crate::support::command(&world.source.path)
        .args(["hash-object", "-t", "tree", "-w", "--literally", "--stdin"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("git");
    hash.stdin.take().expect("a pipe").write_all(&bytes).expect("a tree");
    let output = hash.wait_with_output().expect("git").stdout;
    String::from_utf8(output).expect("an object name").trim().to_owned()
}

#[tokio::test]
async fn a_tree_that_would_write_into_git_folders_is_not_fetched_and_a_merely_old_one_is() {
    for (entries, is_taken) in [
        (&[("100644", "a"), ("0100644", "b")][..], true),
        (&[("100664", "a")], true),
        (&[("100644", ".git")], false),
        (&[("100644", "..")], false),
        (&[("100644", "a"), ("100644", "a")], false),
        (&[("120000", ".gitmodules")], false),
    ] {
        let world = World::new();
        let tree = raw_tree(&world, entries);
        let made = world.source.git(&["commit-tree", &tree, "-m", "odd"]);
        world.source.git(&["update-ref", "refs/heads/odd", &made]);

        let fetched = world.fetch().await;

        assert_eq!(fetched.is_ok(), is_taken, "{entries:?}: {fetched:?}");
        if let Err(error) = fetched {
            assert!(error.to_string().contains("fsck") || error.to_string().contains("tree"), "{error}");
        }
    }
}
