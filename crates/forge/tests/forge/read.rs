//! Single files of a commit, read from the mirror.

use carrel_domain::Revision;
use carrel_forge::ForgeError;

use crate::support::World;

#[tokio::test]
async fn a_file_is_read_as_it_is_at_the_commit() {
    let world = World::new();
    std::fs::create_dir_all(world.source.path.join(".carrel/deep")).expect("made");
    world.source.write(".carrel/environment.toml", "image = \"host\"\n");
    world.source.write(".carrel/deep/file", "x");
    world.source.commit("settings");
    let mirror = world.fetch().await.expect("a mirror");
    let base = mirror.resolve(&Revision::DefaultBranch).await.expect("a commit");

    let read = mirror.file(&base.commit, ".carrel/environment.toml", 100).await.expect("read");

    assert_eq!(read.as_deref(), Some(b"image = \"host\"\n".as_slice()));
    for absent in [".carrel", "nothing", ".carrel/environment", ":/README.md", "../README.md"] {
        let read = mirror.file(&base.commit, absent, 100).await;
        assert!(matches!(read, Ok(None) | Err(ForgeError::Git { .. })), "{absent}: {read:?}");
    }
    let long = mirror.file(&base.commit, ".carrel/environment.toml", 3).await;
    assert!(matches!(long, Err(ForgeError::TooLarge { .. })), "{long:?}");
}

#[tokio::test]
async fn a_link_is_no_file() {
    let world = World::new();
    std::os::unix::fs::symlink("/etc/passwd", world.source.path.join("settings.toml")).expect("linked");
    world.source.commit("a link");
    let mirror = world.fetch().await.expect("a mirror");
    let base = mirror.resolve(&Revision::DefaultBranch).await.expect("a commit");

    assert_eq!(mirror.file(&base.commit, "settings.toml", 100).await.expect("looked"), None);
}

#[tokio::test]
async fn files_are_listed_at_the_root_and_one_folder_down() {
    let world = World::new();
    std::fs::create_dir_all(world.source.path.join("web/src")).expect("made");
    world.source.write("web/package.json", "{}");
    world.source.write("web/src/main.js", "");
    world.source.write("[odd] *name", "");
    world.source.commit("files");
    let mirror = world.fetch().await.expect("a mirror");
    let base = mirror.resolve(&Revision::DefaultBranch).await.expect("a commit");

    let listed = mirror.files_near_the_root(&base.commit).await.expect("listed");

    assert_eq!(listed, ["README.md", "[odd] *name", "web/package.json"]);
}
