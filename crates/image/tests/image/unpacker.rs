//! Unpacking by another process: the same files, the same refusals, and nothing left of either.

use std::fs;
use std::path::Path;

use carrel_image::{ImageError, ImageOptions, Images, Owner, Unpacker};

use crate::fake::{Fake, FakeLayer};
use crate::tars::Tar;
use crate::tree::{contents, tree};
use crate::{is_root, options, pulled};

/// The program of this crate, with the ids of this test.
pub(crate) fn unpacker() -> Unpacker {
    Unpacker { program: env!("CARGO_BIN_EXE_carrel-unpacker").into(), arguments: Vec::new(), ids: "lent1".to_owned() }
}

/// Whose files are, as far as this user can say.
fn owner() -> Owner {
    if is_root() { Owner::Shifted { start: 200_000 } } else { Owner::Own }
}

fn by_another(folder: &Path, registry: &str) -> ImageOptions {
    ImageOptions { owner: owner(), unpacker: Some(unpacker()), ..options(folder, registry) }
}

#[tokio::test]
async fn another_process_puts_down_what_this_one_would() {
    let large = "x".repeat(3 << 20);
    let base = Tar::new().folder("etc").file("etc/a", "1").symlink("l", "etc").file("etc/large", &large).with(
        b'0',
        "su",
        |header| {
            header.mode = 0o4755;
            header.user = 33;
        },
    );
    let change = Tar::new().file("etc/.wh.a", "").file("l/b", "2").hard_link("same", "etc/b");
    let layers = [base.end(), change.end()].map(|archive| FakeLayer::gzip(&archive));
    let (folder, fake) = (tempfile::tempdir().expect("a folder"), Fake::start().await);
    fake.image("team/a", "1", &layers);
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    let address = fake.address.to_string();
    let own = Images::open(ImageOptions { owner: owner(), ..options(&here, &address) }).expect("opened");
    let other = Images::open(by_another(&there, &address)).expect("opened");

    let one = pulled(&own, &fake.name("team/a:1")).await.expect("pulled");
    let two = pulled(&other, &fake.name("team/a:1")).await.expect("pulled");

    assert_eq!(tree(&one.root), tree(&two.root));
    assert_eq!((one.notes, one.config), (two.notes, two.config));
    let sizes = [&own, &other].map(|images| images.list().expect("listed")[0].size_bytes);
    assert_eq!(sizes[0], sizes[1]);
    assert!(two.root.parent().is_some_and(|folder| folder.to_string_lossy().ends_with("-lent1")));
}

#[tokio::test]
async fn an_image_that_another_process_unpacked_is_found_again_and_removed() {
    let (folder, fake) = (tempfile::tempdir().expect("a folder"), Fake::start().await);
    fake.image("team/a", "1", &[FakeLayer::gzip(&Tar::new().file("a", "1").end())]);
    let open = || Images::open(by_another(folder.path(), &fake.address.to_string())).expect("opened");
    let images = open();
    let digest = pulled(&images, &fake.name("team/a:1")).await.expect("pulled").digest;
    drop(images);

    let images = open();
    let before = images.list().expect("listed").len();
    let removed = images.remove(&digest).await.expect("removed");

    assert_eq!((before, removed), (1, true));
    assert_eq!(contents(folder.path()).into_keys().collect::<Vec<_>>(), ["lock"]);
}

#[tokio::test]
async fn an_unpacker_that_cannot_be_started_or_has_no_ids_fails_the_image_and_leaves_nothing() {
    let fake = Fake::start().await;
    fake.image("team/a", "1", &[FakeLayer::gzip(&Tar::new().file("a", "1").end())]);
    for program in ["/nowhere/unpacker", "/bin/false"] {
        let folder = tempfile::tempdir().expect("a folder");
        let unpacker = Unpacker { program: program.into(), ..unpacker() };
        let wrong = ImageOptions { unpacker: Some(unpacker), ..by_another(folder.path(), &fake.address.to_string()) };
        let images = Images::open(wrong).expect("opened");

        let failed = pulled(&images, &fake.name("team/a:1")).await.expect_err(program);

        assert!(matches!(failed, ImageError::Io { .. }), "{program}: {failed}");
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1, "{program}: more than its lock");
    }
}
