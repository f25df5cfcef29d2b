//! Pushes to a local bare repository: once, twice, onto another's branch, into a refusal.

use carrel_forge::{Forge, ForgeError, GitOptions, Pushed};

use crate::support::{World, branch_name, executable, options};

#[tokio::test]
async fn a_push_makes_the_branch_and_a_second_one_finds_it_done() {
    let world = World::new();
    let bare = world.bare();
    let (mirror, made) = world.made("new.txt").await;
    let branch = branch_name("carrel/it's-$(done)");

    let first = mirror.push(&bare.location(), &made, &branch, None).await.expect("a push");
    let second = mirror.push(&bare.location(), &made, &branch, None).await.expect("done already");

    assert_eq!(first, Pushed { branch: branch.clone(), commit: made.clone(), before: None });
    assert_eq!(second, Pushed { before: Some(made.clone()), ..first });
    assert_eq!(bare.oid(&branch.reference()), made);
    assert_eq!(bare.git(&["show", "carrel/it's-$(done):new.txt"]), "x");
}

#[tokio::test]
async fn a_branch_with_others_commits_is_not_touched() {
    let world = World::new();
    let bare = world.bare();
    let base = bare.oid("main");
    let (mirror, made) = world.made("new.txt").await;
    let theirs = world.source.commit("theirs");
    world.source.git(&["push", "--quiet", "../bare.git", "HEAD:refs/heads/taken"]);

    for (name, at) in [("taken", &theirs), ("main", &base)] {
        let error = mirror.push(&bare.location(), &made, &branch_name(name), None).await.expect_err("taken");

        assert!(matches!(&error, ForgeError::BranchTaken { at: found, .. } if found == at), "{error:?}");
        assert!(error.to_string().contains(name) && error.to_string().contains(at.short()), "{error}");
        assert_eq!(&bare.oid(name), at);
    }
}

#[tokio::test]
async fn a_branch_moves_on_from_what_was_expected_or_made_here() {
    let world = World::new();
    let bare = world.bare();
    let base = bare.oid("main");
    let (mirror, first) = world.made("first.txt").await;
    let branch = branch_name("carrel/work");
    mirror.push(&bare.location(), &first, &branch, None).await.expect("a push");

    let second = world.commit_onto(&mirror, &first, "second.txt").await;
    let grown = mirror.push(&bare.location(), &second, &branch, None).await.expect("a push onto our own");
    let other = world.commit_onto(&mirror, &base, "other.txt").await;
    let taken = mirror.push(&bare.location(), &other, &branch, None).await;
    let replaced = mirror.push(&bare.location(), &other, &branch, Some(&second)).await.expect("as expected");

    assert_eq!(grown.before, Some(first.clone()));
    assert!(matches!(taken, Err(ForgeError::BranchTaken { .. })), "not an ancestor: {taken:?}");
    assert_eq!(replaced.before, Some(second));
    let late = mirror.push(&bare.location(), &first, &branch, Some(&first)).await;
    assert!(matches!(late, Err(ForgeError::BranchTaken { .. })), "not where it was expected: {late:?}");
    assert_eq!(bare.oid(&branch.reference()), other);
}

#[tokio::test]
async fn a_branch_that_is_taken_while_we_push_is_not_overwritten() {
    let world = World::new();
    let bare = world.bare();
    let (mirror, made) = world.made("new.txt").await;
    let theirs = bare.oid("main");
    // Somebody else is quicker, by the time the remote has our objects.
    bare.hook("update", &format!("git update-ref --no-deref refs/heads/carrel/work {theirs}"));

    let error = mirror.push(&bare.location(), &made, &branch_name("carrel/work"), None).await.expect_err("taken");

    assert!(matches!(&error, ForgeError::BranchTaken { at, .. } if *at == theirs), "{error:?}");
    assert_eq!(bare.oid("carrel/work"), theirs);
}

#[tokio::test]
async fn a_branch_that_is_taken_between_our_look_and_our_push_is_not_overwritten() {
    let world = World::new();
    let bare = world.bare();
    let (_, made) = world.made("new.txt").await;
    let theirs = bare.oid("main");
    let bin = world.path("bin");
    std::fs::create_dir(&bin).expect("a folder");
    // The real git, before whose push somebody else is quicker.
    let script = format!(
        "if [ \"$2\" = push ]; then env -i /usr/bin/git -C '{}' update-ref refs/heads/carrel/work {theirs}; fi\n\
         exec /usr/bin/git \"$@\"",
        bare.path.display()
    );
    executable(&bin.join("git"), &script);
    let search_path = format!("{}:/usr/bin:/bin", bin.display()).into();
    let forge = Forge::new(GitOptions { search_path, ..options(world.folder.path()) }).expect("a usable git");

    let pushed = forge.mirror(world.id).push(&bare.location(), &made, &branch_name("carrel/work"), None).await;

    assert!(matches!(&pushed, Err(ForgeError::BranchTaken { at, .. }) if *at == theirs), "{pushed:?}");
    assert_eq!(bare.oid("carrel/work"), theirs);
}

#[tokio::test]
async fn the_words_of_a_hook_that_rejects_are_shown_clean() {
    let world = World::new();
    let bare = world.bare();
    let (mirror, made) = world.made("new.txt").await;
    bare.hook("pre-receive", "printf '\\033[31mno tests,\\033[0m no merge\\n' >&2; exit 1");

    let error = mirror.push(&bare.location(), &made, &branch_name("carrel/work"), None).await.expect_err("rejected");

    assert_eq!(
        error.to_string(),
        "the remote rejected the push: no tests, no merge\n[remote rejected] (pre-receive hook declined)"
    );
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_push_onto_a_branch_that_is_checked_out_says_why_it_cannot_be() {
    let world = World::new();
    let (mirror, made) = world.made("new.txt").await;
    let before = world.source.oid("main");

    let pushed = mirror.push(&world.source.location(), &made, &branch_name("main"), Some(&before)).await;

    assert!(matches!(&pushed, Err(ForgeError::Rejected { words }) if words.contains("checked out")), "{pushed:?}");
    assert_eq!(world.source.oid("main"), before);
}

#[tokio::test]
async fn a_remote_that_is_gone_is_not_found() {
    let world = World::new();
    let (mirror, made) = world.made("new.txt").await;
    let gone = carrel_domain::RepositoryLocation::Path(world.path("gone.git"));

    let error = mirror.push(&gone, &made, &branch_name("carrel/work"), None).await.expect_err("gone");

    assert!(matches!(error, ForgeError::NotFound { .. }), "{error:?}");
}
