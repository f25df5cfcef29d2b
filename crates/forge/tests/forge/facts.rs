//! The facts of a commit, read from the mirror.

use std::fs;
use std::time::{Duration, Instant};

use carrel_domain::repository_facts::{MAX_FILE_BYTES, MAX_FOLDERS};
use carrel_domain::{CommitOid, Revision};
use carrel_forge::Mirror;

use crate::support::World;

async fn base(world: &World) -> (Mirror, CommitOid) {
    let mirror = world.fetch().await.expect("a mirror");
    let base = mirror.resolve(&Revision::DefaultBranch).await.expect("a commit");
    (mirror, base.commit)
}

#[tokio::test]
async fn facts_are_read_from_the_trees_of_the_commit() {
    let world = World::new();
    fs::create_dir_all(world.source.path.join("web/src")).expect("made");
    world.source.write("web/package.json", r#"{"scripts": {"test": "x"}}"#);
    world.source.write("web/src/app.ts", "");
    world.source.write("a\nb", "");
    std::os::unix::fs::symlink("web", world.source.path.join("link")).expect("linked");
    world.source.commit("Add the web app");
    let (mirror, commit) = base(&world).await;

    let facts = mirror.facts(&commit).await;

    assert_eq!(facts.subject, "Add the web app");
    assert_eq!(facts.date.len(), "2026-11-23".len());
    assert_eq!(facts.tree, ["web/ (2): src/ (1), package.json", "README.md, \"a\\u{a}b\", link (link)"]);
    assert_eq!(facts.languages, [("TypeScript", 1)]);
    assert_eq!(facts.commands, [("cd web && npm run test".to_owned(), "web/package.json".to_owned())]);
    assert_eq!((facts.files_seen, facts.is_all, facts.missing.len()), (4, true, 0));
    assert_eq!(mirror.facts(&commit).await, facts, "the same commit has the same facts");
    assert_eq!(world.forge.mirror(world.id).facts(&commit).await, facts);
}

#[tokio::test]
async fn many_files_cost_no_more_than_some() {
    let world = World::new();
    for folder in 0..MAX_FOLDERS + 20 {
        fs::create_dir_all(world.source.path.join(format!("area{folder}"))).expect("made");
        for file in 0..50 {
            world.source.write(&format!("area{folder}/file{file}.py"), "");
        }
    }
    world.source.commit("many");
    let (mirror, commit) = base(&world).await;

    let began = Instant::now();
    let facts = mirror.facts(&commit).await;

    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(facts.files_seen, (MAX_FOLDERS - 1) * 50 + 1);
    assert!(!facts.is_all);
}

#[tokio::test]
async fn what_is_too_large_or_not_there_is_said_and_stops_nothing() {
    let world = World::new();
    world.source.write("package.json", " ".repeat(usize::try_from(MAX_FILE_BYTES).expect("small") + 1));
    world.source.write("go.mod", "");
    world.source.commit("large");
    let (mirror, commit) = base(&world).await;

    let facts = mirror.facts(&commit).await;

    assert_eq!(facts.missing, ["package.json could not be read, or is too large"]);
    assert_eq!(facts.commands[0].0, "go build ./...");
    let unknown: CommitOid = "a".repeat(40).parse().expect("an object name");
    let facts = mirror.facts(&unknown).await;
    assert_eq!(facts.missing, ["the root could not be listed, or is too large"]);
    assert_eq!(facts.tree, Vec::<String>::new());
}

#[tokio::test]
async fn a_mirror_that_is_broken_answers_and_is_asked_again_once_it_is_whole() {
    let world = World::new();
    let (mirror, commit) = base(&world).await;
    let (there, away) = (mirror.path().to_owned(), world.path("away"));

    fs::rename(&there, &away).expect("moved");
    let fresh = world.forge.mirror(world.id);
    let broken = fresh.facts(&commit).await;
    fs::rename(&away, &there).expect("moved back");
    let whole = fresh.facts(&commit).await;

    assert_eq!(broken.missing, ["git could not show all of it"]);
    assert_eq!(whole.tree, ["README.md"]);
}

#[tokio::test]
async fn a_commit_that_comes_while_the_mirror_is_read_is_found() {
    let world = World::new();
    let (mirror, first) = base(&world).await;
    assert_eq!(mirror.facts(&first).await.tree, ["README.md"]);

    world.source.write("second.rs", "");
    world.source.commit("second");
    let (_, second) = base(&world).await;

    assert_eq!(mirror.facts(&second).await.tree, ["README.md, second.rs"], "by the very process that was there before");
    assert_eq!(mirror.resolve(&Revision::DefaultBranch).await.expect("a commit").commit, second);
}
