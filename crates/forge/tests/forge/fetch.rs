//! Mirrors are made, updated, kept and looked at.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use carrel_domain::{RepositoryLocation, Revision};
use carrel_forge::{Base, Forge, ForgeError};

use crate::support::{Repository, World, branch, branch_name, commit, git, options};

#[tokio::test]
async fn a_path_is_mirrored_with_its_branches_tags_and_default_branch() {
    let world = World::new();
    world.source.git(&["branch", "feature/x"]);
    world.source.git(&["tag", "-a", "v1", "-m", "one"]);
    world.source.git(&["checkout", "--quiet", "-b", "trunk"]);
    let tip = world.source.commit("second");

    let mirror = world.fetch().await.expect("a mirror");

    let base = mirror.resolve(&Revision::DefaultBranch).await.expect("the default branch");
    assert_eq!(base, Base { commit: tip, branch: Some(branch_name("trunk")) });
    let list = ["for-each-ref", "--format=%(objectname) %(refname)", "refs/heads", "refs/tags"];
    assert_eq!(git(mirror.path(), &list), world.source.git(&list));
    assert!(mirror.objects().is_dir());
    let mode = |path| fs::metadata(path).expect("a folder").permissions().mode() & 0o777;
    assert_eq!(mode(mirror.path().parent().expect("the mirrors' folder")), 0o700);
}

#[tokio::test]
async fn an_update_brings_new_commits_forced_branches_and_the_new_default() {
    let world = World::new();
    world.fetch().await.expect("a mirror");
    world.source.git(&["commit", "--quiet", "--amend", "-m", "rewritten"]);
    world.source.git(&["checkout", "--quiet", "-b", "next"]);
    let tip = world.source.commit("second");

    let mirror = world.fetch().await.expect("a mirror");

    let base = mirror.resolve(&Revision::DefaultBranch).await.expect("the default branch");
    assert_eq!(base, Base { commit: tip, branch: Some(branch_name("next")) });
    assert_eq!(mirror.resolve(&branch("main")).await.expect("main").commit, world.source.oid("main"));
}

#[tokio::test]
async fn a_branch_that_is_gone_is_unknown_but_the_commit_an_attempt_started_from_lives() {
    let world = World::new();
    world.source.git(&["checkout", "--quiet", "-b", "a"]);
    let pinned = world.source.commit("on a");
    let mirror = world.fetch().await.expect("a mirror");
    mirror.resolve(&branch("a")).await.expect("the branch");

    world.source.git(&["checkout", "--quiet", "main"]);
    world.source.git(&["branch", "--quiet", "-D", "a"]);
    world.source.git(&["branch", "--quiet", "a/b"]);
    let mirror = world.fetch().await.expect("a mirror, although a file became a folder");
    git(mirror.path(), &["gc", "--quiet", "--prune=now"]);

    assert!(matches!(mirror.resolve(&branch("a")).await, Err(ForgeError::UnknownBranch { .. })));
    assert_eq!(mirror.resolve(&commit(pinned.as_str())).await.expect("the commit").commit, pinned);
}

#[tokio::test]
async fn fetches_at_once_take_turns_within_and_across_forges() {
    let world = World::new();
    for number in 0..20 {
        world.source.git(&["branch", &format!("branch-{number}")]);
    }
    let other = Forge::new(options(world.folder.path())).expect("a usable git");
    let location = world.source.location();

    let (first, second, third) = tokio::join!(
        world.forge.fetch(world.id, &location),
        world.forge.fetch(world.id, &location),
        other.fetch(world.id, &location)
    );

    for mirror in [first, second, third] {
        mirror.expect("a mirror").resolve(&branch("branch-19")).await.expect("the branch");
    }
}

#[tokio::test]
async fn a_fetch_that_is_dropped_leaves_nothing_that_stops_the_next() {
    let world = World::new();
    let location = world.source.location();

    let slow = world.forge.fetch(world.id, &location);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(2), slow).await.is_err());

    world.fetch().await.expect("a mirror");
    let left: Vec<_> = fs::read_dir(world.path("mirrors"))
        .expect("the mirrors' folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .filter(|name| name.starts_with(".scratch"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn what_a_git_that_was_killed_has_left_in_a_mirror_is_not_in_the_way() {
    let world = World::new();
    world.source.git(&["branch", "other"]);
    let mirror = world.fetch().await.expect("a mirror");
    // As files are that were made, and whose text had not come to the disk.
    for file in ["HEAD", "refs/heads/main", "refs/heads/other"] {
        fs::write(mirror.path().join(file), "").expect("written");
    }
    let tip = world.source.commit("second");
    let kept = format!("refs/carrel/base/{tip}.lock");
    fs::create_dir_all(mirror.path().join("refs/carrel/base")).expect("a folder");
    for lock in ["HEAD.lock", "refs/heads/main.lock", &kept] {
        fs::write(mirror.path().join(lock), "").expect("written");
    }

    let mirror = world.fetch().await.expect("a mirror");

    fs::write(mirror.path().join(&kept), "").expect("written");
    assert_eq!(mirror.resolve(&Revision::DefaultBranch).await.expect("the default branch").commit, tip);
    let list = ["for-each-ref", "--format=%(objectname) %(refname)", "refs/heads"];
    assert_eq!(git(mirror.path(), &list), world.source.git(&list));
}

#[tokio::test]
async fn a_bare_source_a_linked_work_tree_and_the_git_folder_itself_can_be_fetched() {
    let world = World::new();
    let tip = world.source.oid("HEAD");
    let bare = world.bare();
    world.source.git(&["worktree", "add", "--quiet", "../linked", "-b", "linked"]);

    for path in [bare.path.clone(), world.path("linked"), world.source.path.join(".git")] {
        let location = RepositoryLocation::Path(path.clone());
        let mirror = world.forge.fetch(world.id, &location).await.unwrap_or_else(|error| panic!("{path:?}: {error}"));
        world.forge.probe(&location, &branch("main")).await.unwrap_or_else(|error| panic!("{path:?}: {error}"));
        world.forge.probe(&location, &commit(tip.short())).await.unwrap_or_else(|error| panic!("{path:?}: {error}"));
        assert_eq!(mirror.resolve(&branch("main")).await.expect("main").commit, tip);
    }
}

#[tokio::test]
async fn a_shallow_clone_can_be_fetched() {
    let world = World::new();
    world.source.commit("second");
    git(
        world.folder.path(),
        &["clone", "--quiet", "--depth=1", &format!("file://{}", world.source.path.display()), "shallow"],
    );
    let shallow = Repository { path: world.path("shallow") };

    let mirror = world.forge.fetch(world.id, &shallow.location()).await.expect("a mirror");

    let base = mirror.resolve(&Revision::DefaultBranch).await.expect("the default branch");
    assert_eq!(base.commit, world.source.oid("main"));
}

#[tokio::test]
async fn a_repository_with_sha_256_names_can_be_fetched() {
    let world = World::new();
    let other = Repository::init(&world.path("sha256"), &["--object-format=sha256"]);
    let tip = other.commit("first");

    let mirror = world.forge.fetch(world.id, &other.location()).await.expect("a mirror");

    assert_eq!(tip.as_str().len(), 64);
    assert_eq!(mirror.resolve(&branch("main")).await.expect("main").commit, tip);
}

#[tokio::test]
async fn a_path_with_spaces_quotes_and_shell_characters_is_a_path() {
    let world = World::new();
    let odd = Repository::init(&world.path("it's $(touch ran) `touch ran`; x & \"y\" ünï"), &[]);
    let tip = odd.commit("first");

    world.forge.probe(&odd.location(), &branch("main")).await.expect("a good path");
    let mirror = world.forge.fetch(world.id, &odd.location()).await.expect("a mirror");

    assert_eq!(mirror.resolve(&branch("main")).await.expect("main").commit, tip);
    assert!(!world.path("ran").exists() && !odd.path.join("ran").exists() && !mirror.path().join("ran").exists());
}

#[tokio::test]
async fn what_is_not_there_not_a_repository_or_empty_is_said_by_fetch_and_probe() {
    let world = World::new();
    let empty = Repository::init(&world.path("empty"), &[]);
    fs::create_dir(world.path("folder")).expect("a folder");
    fs::create_dir(world.source.path.join("inside")).expect("a folder");
    fs::write(world.path("file"), "no repository").expect("a file");
    fs::create_dir(world.path("broken")).expect("a folder");
    fs::write(world.path("broken/.git"), "gitdir: /nonexistent\n").expect("a file");

    for (path, expected) in [
        (world.path("nothing"), "there is no repository at"),
        (world.path("file/below"), "there is no repository at"),
        (world.path("folder"), "is not a git repository"),
        (world.path("file"), "is not a git repository"),
        (world.path("broken"), "is not a git repository"),
        (world.source.path.join("inside"), "is not a git repository"),
        (empty.path, "is empty; push a first commit"),
    ] {
        let location = RepositoryLocation::Path(path.clone());
        let fetched = world.forge.fetch(world.id, &location).await.expect_err("no mirror");
        let probed = world.forge.probe(&location, &Revision::DefaultBranch).await.expect_err("no repository");
        for error in [fetched, probed] {
            assert!(error.to_string().contains(expected), "{path:?}: {error:?}");
            assert!(error.to_string().contains(&path.display().to_string()), "{path:?}: {error}");
            assert!(!error.is_retryable());
        }
    }
}

#[tokio::test]
async fn probe_says_what_resolve_would_and_asks_no_url() {
    let world = World::new();
    let location = world.source.location();
    let tip = world.source.oid("HEAD");

    world.forge.probe(&location, &commit(&tip.as_str()[..9])).await.expect("the commit");
    world.forge.probe(&location, &branch("main")).await.expect("the branch");
    let unknown = world.forge.probe(&location, &commit("0123456789")).await;
    assert!(matches!(unknown, Err(ForgeError::UnknownCommit { .. })), "{unknown:?}");
    let unknown = world.forge.probe(&location, &branch("mian")).await.expect_err("no such branch");
    assert_eq!(unknown.to_string(), "there is no branch `mian`; did you mean `main`?");
    let url = "https://nowhere.invalid/acme/api".parse().expect("a URL");
    world.forge.probe(&url, &branch("main")).await.expect("not asked");
}

#[tokio::test]
async fn a_repository_of_another_user_is_served_as_that_user() {
    let world = World::new();
    if !nix::unistd::geteuid().is_root() {
        // Only root can make such a repository, and only root may serve it.
        return;
    }
    let tip = world.source.oid("HEAD");
    world.source.git(&["config", "uploadpack.hideRefs", "refs/heads/hidden"]);
    std::process::Command::new("chown").args(["-R", "4321:4321"]).arg(&world.source.path).status().expect("chown");

    let mirror = world.fetch().await.expect("a mirror");
    world.forge.probe(&world.source.location(), &commit(tip.short())).await.expect("the commit");

    let base = mirror.resolve(&branch("main")).await.expect("main");
    assert_eq!(base.commit, tip);
    let made = world.commit_onto(&mirror, &base.commit, "new.txt").await;
    let location = world.source.location();
    mirror.push(&location, &made, &branch_name("from-carrel"), None).await.expect("a push");
    let reference = fs::metadata(world.source.path.join(".git/refs/heads/from-carrel")).expect("the branch");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&reference), 4321);
}
