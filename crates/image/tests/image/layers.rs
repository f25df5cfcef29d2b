//! Layers over layers, and what is kept of a file.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use carrel_image::{Images, Owner};

use crate::fake::{Fake, FakeLayer};
use crate::tars::{Tar, gzip, zstd};
use crate::tree::contents;
use crate::{is_root, options, pulled};

/// The image of these archives, unpacked.
async fn unpacked(layers: &[Vec<u8>]) -> (tempfile::TempDir, carrel_image::UnpackedImage) {
    unpacked_as(layers, Owner::Own).await
}

async fn unpacked_as(layers: &[Vec<u8>], owner: Owner) -> (tempfile::TempDir, carrel_image::UnpackedImage) {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::start().await;
    let layers: Vec<FakeLayer> = layers.iter().map(|archive| FakeLayer::gzip(archive)).collect();
    fake.image("team/a", "1", &layers);
    let mut options = options(&folder.path().join("cache"), &fake.address.to_string());
    options.owner = owner;
    let images = Images::open(options).expect("opened");
    let image = pulled(&images, &fake.name("team/a:1")).await.expect("pulled");
    (folder, image)
}

fn map(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    pairs.iter().map(|(path, content)| ((*path).to_owned(), (*content).to_owned())).collect()
}

#[tokio::test]
async fn a_later_layer_hides_replaces_and_adds() {
    let base = Tar::new()
        .folder("etc")
        .file("etc/a", "1")
        .file("etc/b", "2")
        .folder("usr")
        .folder("usr/bin")
        .file("usr/bin/sh", "sh")
        .symlink("bin", "usr/bin")
        .folder("opt")
        .file("opt/x/y", "deep")
        .folder("srv")
        .file("srv/old", "old");
    let change = Tar::new()
        .file("etc/.wh.a", "")
        .file("etc/b", "22")
        .file("etc/c", "3")
        .file("bin/new", "through a link")
        .file(".wh.opt", "")
        .file("srv", "a file now")
        .hard_link("usr/sh", "bin/sh");

    let (_folder, image) = unpacked(&[base.end(), change.end()]).await;

    let expected = [
        ("bin", "-> usr/bin"),
        ("etc", "folder"),
        ("etc/b", "22"),
        ("etc/c", "3"),
        ("srv", "a file now"),
        ("usr", "folder"),
        ("usr/bin", "folder"),
        ("usr/bin/new", "through a link"),
        ("usr/bin/sh", "sh"),
        ("usr/sh", "sh"),
    ];
    assert_eq!(contents(&image.root), map(&expected));
}

#[tokio::test]
async fn a_whiteout_is_for_older_layers_wherever_it_stands_among_its_own() {
    let base =
        Tar::new().file("a/old", "1").file("a/b/old", "1").file("c", "old").file("d/old", "1").file("e/old", "1");
    let change = Tar::new()
        .file("a/new", "2")
        .file("a/b/new", "2")
        .file("a/.wh..wh..opq", "")
        .file("a/later", "2")
        .file("c", "new")
        .file(".wh.c", "")
        .file("d/new", "2")
        .file(".wh.d", "")
        .file(".wh.e", "")
        .file("e/new", "2");

    let (_folder, image) = unpacked(&[base.end(), change.end()]).await;

    let expected = [
        ("a", "folder"),
        ("a/b", "folder"),
        ("a/b/new", "2"),
        ("a/later", "2"),
        ("a/new", "2"),
        ("c", "new"),
        ("d", "folder"),
        ("d/new", "2"),
        ("e", "folder"),
        ("e/new", "2"),
    ];
    assert_eq!(contents(&image.root), map(&expected));
}

#[tokio::test]
async fn a_whiteout_in_what_is_a_file_by_now_hides_nothing() {
    let base = Tar::new().file("a/b", "1").file("c", "1");
    let change = Tar::new().file("a", "2").file("a/.wh.b", "").file("c/.wh..wh..opq", "");

    let (_folder, image) = unpacked(&[base.end(), change.end()]).await;

    assert_eq!(contents(&image.root), map(&[("a", "2"), ("c", "1")]));
}

#[tokio::test]
async fn an_opaque_root_forgets_all_that_was_before() {
    let base = Tar::new().file("a/b", "1").file("c", "1");
    let change = Tar::new().file("n", "2").file(".wh..wh..opq", "");

    let (_folder, image) = unpacked(&[base.end(), change.end()]).await;

    assert_eq!(contents(&image.root), map(&[("n", "2")]));
}

#[tokio::test]
async fn modes_and_times_are_kept_also_of_folders_that_are_filled_later() {
    let base = Tar::new()
        .with(b'5', "./", |header| header.mtime = 5)
        .with(b'5', "closed", |header| {
            header.mode = 0o555;
            header.mtime = 10;
        })
        .with(b'5', "tmp", |header| {
            header.mode = 0o1777;
            header.mtime = 20;
        })
        .with(b'0', "su", |header| header.mode = 0o6755)
        .pax(&[("mtime", b"30.25")])
        .file("fine", "x");
    let change = Tar::new().file("closed/in", "x").symlink("tmp/l", "x");

    let (_folder, image) = unpacked(&[base.end(), change.end()]).await;

    let meta = |path: &str| image.root.join(path).symlink_metadata().expect("there");
    let mode = |path: &str| meta(path).permissions().mode() & 0o7777;
    assert_eq!([mode(""), mode("closed"), mode("tmp"), mode("su")], [0o755, 0o555, 0o1777, 0o755]);
    assert_eq!([meta("").mtime(), meta("closed").mtime(), meta("tmp").mtime()], [5, 10, 20]);
    assert_eq!((meta("fine").mtime(), meta("fine").mtime_nsec()), (30, 250_000_000));
    assert_eq!(meta("tmp/l").mtime(), 1_700_000_000);
}

#[tokio::test]
async fn owners_are_shifted_and_set_user_id_bits_kept_where_the_service_is_root() {
    if !is_root() {
        return;
    }
    let archive = Tar::new()
        .folder("d")
        .with(b'0', "su", |header| {
            header.mode = 0o4755;
            header.user = 0;
            header.group = 8;
        })
        .with(b'0', "last", |header| {
            header.user = 65_535;
            header.group = 65_535;
        })
        .with(b'2', "link", |header| {
            header.link = b"su".to_vec();
            header.user = 33;
        })
        .pax(&[("uid", b"4294967295"), ("gid", b"1000620000")])
        .file("huge", "x");

    let (_folder, image) = unpacked_as(&[archive.end()], Owner::Shifted { start: 200_000 }).await;

    let owner = |path: &str| {
        let meta = image.root.join(path).symlink_metadata().expect("there");
        (meta.uid() - 200_000, meta.gid() - 200_000)
    };
    let expected = [(0, 0), (0, 0), (0, 8), (65_535, 65_535), (33, 0), (65_534, 65_534)];
    assert_eq!(["", "d", "su", "last", "link", "huge"].map(owner), expected);
    assert_eq!(image.root.join("su").metadata().expect("there").mode() & 0o7777, 0o4755);
    assert_eq!(image.notes.owners, 1);
}

#[tokio::test]
async fn only_attributes_of_the_user_s_own_are_kept_and_none_that_an_overlay_would_obey() {
    let records: [(&str, &[u8]); 5] = [
        ("SCHILY.xattr.user.note", b"kept\0whole"),
        ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.security.capability", b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        ("SCHILY.xattr.system.posix_acl_access", b"\x02\0\0\0"),
    ];

    let (_folder, image) = unpacked(&[Tar::new().pax(&records).file("a", "x").end()]).await;

    let file = std::fs::File::open(image.root.join("a")).expect("there");
    let mut names = [0; 1024];
    let length = rustix::fs::flistxattr(&file, &mut names).expect("listed");
    assert_eq!(&names[..length], b"user.note\0");
    assert_eq!(image.notes.attributes, 4);
}

#[tokio::test]
async fn layers_come_as_gzip_zstd_or_plain_in_one_piece_or_several() {
    let archive = |name: &str| Tar::new().file(name, name).end();
    let halves = archive("members");
    let members = [gzip(&halves[..700]), gzip(&halves[700..])].concat();
    let frames = [
        zstd(&archive("frames")[..700]),
        vec![0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9],
        zstd(&archive("frames")[700..]),
    ];
    let skippable = [vec![0x5f, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 9], zstd(&archive("skippable"))].concat();
    let fake = Fake::start().await;
    let of = |kind: &str, blob: Vec<u8>, name: &str| FakeLayer::of(kind, blob, &archive(name));
    fake.image(
        "a",
        "1",
        &[
            of("application/vnd.oci.image.layer.v1.tar", archive("plain"), "plain"),
            of("application/vnd.oci.image.layer.v1.tar+zstd", zstd(&archive("zstd")), "zstd"),
            of("application/vnd.docker.image.rootfs.diff.tar.gzip", archive("mislabelled"), "mislabelled"),
            of("application/vnd.oci.image.layer.v1.tar+gzip", members, "members"),
            of("application/vnd.oci.image.layer.v1.tar+zstd", frames.concat(), "frames"),
            of("application/vnd.oci.image.layer.v1.tar+zstd", skippable, "skippable"),
        ],
    );
    let folder = tempfile::tempdir().expect("a folder");
    let images = Images::open(options(folder.path(), &fake.address.to_string())).expect("opened");

    let image = pulled(&images, &fake.name("a:1")).await.expect("pulled");

    let names = ["frames", "members", "mislabelled", "plain", "skippable", "zstd"];
    assert_eq!(contents(&image.root), map(&names.map(|name| (name, name))));
}

/// Runs itself as `nobody` where it is run as root.
#[tokio::test]
async fn an_ordinary_user_fills_closed_folders_and_removes_them_again() {
    if is_root() {
        // The checkout may be in a folder that is root's alone.
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("opened");
        let program = folder.path().join("image");
        std::fs::copy(std::env::current_exe().expect("this program"), &program).expect("copied");
        let name = "layers::an_ordinary_user_fills_closed_folders_and_removes_them_again";
        let status = Command::new(program).args(["--exact", name]).uid(65_534).gid(65_534).status().expect("started");
        assert!(status.success(), "as an ordinary user");
        return;
    }
    let closed = |mode: u32| move |header: &mut crate::tars::Header| header.mode = mode;
    let base = Tar::new()
        .with(b'5', "closed", closed(0o555))
        .with(b'5', "nothing", closed(0))
        .file("nothing/a", "x")
        .with(b'5', "gone", closed(0o555))
        .with(b'5', "gone/deeper", closed(0))
        .file("gone/deeper/a", "x")
        .with(b'0', "unreadable", closed(0))
        .with(b'0', "su", closed(0o6755))
        .with(b'0', "of-somebody", |header| header.user = 1000);
    let change = Tar::new().file("closed/in", "x").file(".wh.gone", "").hard_link("again", "unreadable");
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::start().await;
    let layers = [base.end(), change.end()].map(|archive| FakeLayer::gzip(&archive));
    fake.image("a", "1", &layers);
    let images = Images::open(options(&folder.path().join("cache"), &fake.address.to_string())).expect("opened");

    let image = pulled(&images, &fake.name("a:1")).await.expect("pulled");

    let mode = |path: &str| image.root.join(path).metadata().expect("there").mode() & 0o7777;
    assert_eq!(["closed", "nothing", "unreadable", "again", "su"].map(mode), [0o555, 0, 0, 0, 0o755]);
    assert!(image.root.join("closed/in").is_file() && !image.root.join("gone").exists());
    let digest = image.digest.clone();
    drop(image);
    assert!(images.remove(&digest).await.expect("removed"));
    let left = std::fs::read_dir(folder.path().join("cache")).expect("readable").count();
    assert_eq!(left, 1, "only the lock is left");
}
