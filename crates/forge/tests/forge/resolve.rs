//! The commit an attempt starts from: by branch, by name, by part of a name; or a clear error.

use carrel_domain::Revision;
use carrel_forge::{Base, ForgeError};

use crate::support::{World, branch, branch_name, commit};

#[tokio::test]
async fn an_unknown_branch_is_an_error_that_names_the_nearest() {
    let world = World::new();
    for name in ["release/1.0", "release/2.0", "docs"] {
        world.source.git(&["branch", name]);
    }
    let mirror = world.fetch().await.expect("a mirror");

    let error = mirror.resolve(&branch("release/3.0")).await.expect_err("no such branch");

    assert_eq!(
        error.to_string(),
        "there is no branch `release/3.0`; did you mean `release/1.0`, `release/2.0`, `docs`, `main`?"
    );
}

#[tokio::test]
async fn branch_names_with_shell_characters_are_names() {
    let world = World::new();
    let names = ["it's", "$(touch${IFS}x)", "a;touch&x|y", "x\"y", "`id`"];
    for name in names {
        world.source.git(&["branch", name]);
    }
    let location = world.source.location();

    let mirror = world.fetch().await.expect("a mirror");

    for name in names {
        let base = mirror.resolve(&branch(name)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(base.branch, Some(branch_name(name)));
        world.forge.probe(&location, &branch(name)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    for folder in [world.folder.path(), &world.source.path, mirror.path(), "/".as_ref()] {
        assert!(!folder.join("x").exists(), "{}", folder.display());
    }
}

#[tokio::test]
async fn a_commit_is_found_by_the_beginning_of_its_name_whatever_branches_are_called() {
    let world = World::new();
    let first = world.source.oid("HEAD");
    world.source.commit("second");
    world.source.git(&["branch", &first.as_str()[..8]]);
    world.source.git(&["branch", first.as_str()]);
    let mirror = world.fetch().await.expect("a mirror");

    for digits in [7, 8, 20, 40] {
        let base = mirror.resolve(&commit(&first.as_str()[..digits])).await.expect("the commit");
        assert_eq!(base, Base { commit: first.clone(), branch: None }, "{digits} digits");
    }
}

#[tokio::test]
async fn a_name_that_is_no_commits_or_several_commits_is_an_error() {
    let world = World::new();
    let tree = world.source.git(&["rev-parse", "HEAD^{tree}"]);
    let mirror = world.fetch().await.expect("a mirror");

    for name in [&tree[..12], &tree, "0123456789", "0123456789012345678901234567890123456789"] {
        let error = mirror.resolve(&commit(name)).await.expect_err("no such commit");
        assert!(matches!(error, ForgeError::UnknownCommit { .. }), "{name}: {error:?}");
        assert!(!error.is_retryable());
    }
}

#[tokio::test]
async fn a_full_name_that_no_branch_reaches_is_asked_for_at_the_remote() {
    let world = World::new();
    world.source.git(&["checkout", "--quiet", "-b", "gone"]);
    let lost = world.source.commit("soon on no branch");
    world.source.git(&["checkout", "--quiet", "main"]);
    world.source.git(&["branch", "--quiet", "-D", "gone"]);
    let mirror = world.fetch().await.expect("a mirror");

    let base = mirror.resolve(&commit(lost.as_str())).await.expect("the commit");

    assert_eq!(base.commit, lost);
    assert_eq!(world.forge.mirror(world.id).resolve(&commit(lost.short())).await.expect("the commit").commit, lost);
}

#[tokio::test]
async fn a_detached_head_is_a_base_without_a_branch_and_a_missing_one_is_an_error() {
    let world = World::new();
    world.source.git(&["checkout", "--quiet", "--detach"]);
    let detached = world.source.commit("on no branch");
    let mirror = world.fetch().await.expect("a mirror");

    let base = mirror.resolve(&Revision::DefaultBranch).await.expect("the head");

    assert_eq!(base, Base { commit: detached, branch: None });
    world.source.git(&["symbolic-ref", "HEAD", "refs/heads/unborn"]);
    let mirror = world.fetch().await.expect("a mirror");
    let error = mirror.resolve(&Revision::DefaultBranch).await.expect_err("no default branch");
    assert!(matches!(error, ForgeError::NoDefaultBranch { .. }), "{error:?}");
    let probed = world.forge.probe(&world.source.location(), &Revision::DefaultBranch).await.expect_err("none");
    assert_eq!(probed.to_string(), error.to_string());
}

#[tokio::test]
async fn a_mirror_that_was_never_fetched_says_so() {
    let world = World::new();

    let error = world.forge.mirror(world.id).resolve(&Revision::DefaultBranch).await.expect_err("no mirror");

    assert!(matches!(error, ForgeError::NotFound { .. }), "{error:?}");
}
