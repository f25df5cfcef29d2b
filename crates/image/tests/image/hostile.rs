//! Archives that try what no archive may. Each ends in an error that says why, or in files that all lie below the root;
//! nothing beside it ever changes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use carrel_image::{Images, Owner};

use crate::fake::{Fake, FakeLayer};
use crate::tars::{Header, Tar, seal};
use crate::tree::{contents, tree};
use crate::{is_root, options, pulled};

/// What must come of an archive.
enum Outcome {
    /// An error with these words.
    Refused(&'static str),
    /// Exactly these paths with these contents.
    Kept(Vec<(&'static str, &'static str)>),
}

use Outcome::{Kept, Refused};

struct Case {
    name: &'static str,
    layers: Vec<Vec<u8>>,
    outcome: Outcome,
}

fn case(name: &'static str, archive: Vec<u8>, outcome: Outcome) -> Case {
    Case { name, layers: vec![archive], outcome }
}

/// Names that would lead out, or nowhere.
fn names(outside: &str) -> Vec<Case> {
    let deep = vec!["d"; 300].join("/");
    let long_part = "x".repeat(256);
    let long = vec!["d".repeat(200); 25].join("/");
    vec![
        case("dots at the beginning", Tar::new().file("../pwned", "x").end(), Refused("has `..`")),
        case("dots in the middle", Tar::new().file("a/../../pwned", "x").end(), Refused("has `..`")),
        case("dots that would stay inside", Tar::new().file("a/../b", "x").end(), Refused("has `..`")),
        case("dots at the end", Tar::new().folder("a/..").end(), Refused("has `..`")),
        case(
            "dots in a pax path",
            Tar::new().pax(&[("path", b"../../pwned")]).file("a", "x").end(),
            Refused("has `..`"),
        ),
        case("dots in a GNU name", Tar::new().gnu_long(b'L', b"../pwned").file("a", "x").end(), Refused("has `..`")),
        case("an absolute path", Tar::new().file("/pwned", "x").end(), Kept(vec![("pwned", "x")])),
        case(
            "slashes and dots",
            Tar::new().file("//.///./a/.//b", "x").end(),
            Kept(vec![("a", "folder"), ("a/b", "x")]),
        ),
        case("a file as the root", Tar::new().file("./", "x").end(), Refused("checksum")),
        case("a link as the root", Tar::new().symlink(".", outside).end(), Refused("root's place")),
        case("an empty name", Tar::new().file("", "x").end(), Refused("root's place")),
        case("a NUL in a pax path", Tar::new().pax(&[("path", b"a\0../b")]).file("a", "x").end(), Refused("broken")),
        case(
            "a name of 256 bytes",
            Tar::new().gnu_long(b'L', long_part.as_bytes()).file("a", "x").end(),
            Refused("255 bytes"),
        ),
        case(
            "a path of 5,000 bytes",
            Tar::new().pax(&[("path", long.as_bytes())]).file("a", "x").end(),
            Refused("4,095"),
        ),
        case(
            "300 folders",
            Tar::new().pax(&[("path", deep.as_bytes())]).folder("a").end(),
            Refused("128 folders deep"),
        ),
        case(
            "folders that are deeper than their path says",
            (0..5)
                .fold(Tar::new(), |tar, turn| {
                    let end = vec!["e"; 100].join("/");
                    tar.pax(&[("path", format!("l{turn}/{end}").as_bytes())])
                        .folder("a")
                        .symlink(format!("l{}", turn + 1), format!("l{turn}/{}", vec!["e"; 40].join("/")))
                })
                .end(),
            Refused("128 folders deep"),
        ),
        case(
            "control characters and bytes that are no text",
            Tar::new().file(b"a\n\x1b[31m", "x").file(b"\xff\xfe", "y").end(),
            Kept(vec![(r"\xff\xfe", "y"), (r"a\n\x1b[31m", "x")]),
        ),
    ]
}

/// Links that lead out, and what is then put through them.
fn links(outside: &str) -> Vec<Case> {
    let through = |link: &str| Tar::new().symlink("l", link).file("l/pwned", "x").end();
    vec![
        case(
            "a file through a link upwards",
            through("../../../.."),
            Kept(vec![("l", "-> ../../../.."), ("pwned", "x")]),
        ),
        case("a file through a link to the root", through("/"), Kept(vec![("l", "-> /"), ("pwned", "x")])),
        case(
            "a file through a link of an older layer",
            Vec::new(),
            Kept(vec![("a", "-> /b/../../c"), ("b", "folder"), ("c", "folder"), ("c/pwned", "x")]),
        )
        .with_layers(vec![
            Tar::new().folder("b").symlink("a", "/b/../../c").folder("c").end(),
            Tar::new().file("a/pwned", "x").end(),
        ]),
        case(
            "a file through a link to nothing",
            Tar::new().symlink("var/run", "../run").file("var/run/x/pid", "1").end(),
            Kept(vec![
                ("run", "folder"),
                ("run/x", "folder"),
                ("run/x/pid", "1"),
                ("var", "folder"),
                ("var/run", "-> ../run"),
            ]),
        ),
        case(
            "links that go round",
            Tar::new().symlink("a", "b").symlink("b", "a").file("a/x", "x").end(),
            Refused("go round"),
        ),
        case("a link to itself", Tar::new().symlink("a", "a").file("a/x", "x").end(), Refused("go round")),
        case(
            "many links to nothing",
            (0..40)
                .fold(Tar::new(), |tar, at| tar.symlink(format!("l{at}"), format!("l{}/x", at + 1)))
                .file("l0/y", "x")
                .end(),
            Refused("links"),
        ),
        case(
            "a file in place of a link",
            Tar::new().symlink("a", outside).file("a", "x").end(),
            Kept(vec![("a", "x")]),
        ),
        case(
            "a folder in place of a link",
            Tar::new().symlink("a", outside).folder("a").file("a/b", "x").end(),
            Kept(vec![("a", "folder"), ("a/b", "x")]),
        ),
        case("a file in a file", Tar::new().file("a", "x").file("a/b", "x").end(), Refused("no folder")),
        case("an empty link", Tar::new().symlink("a", "").end(), Refused("link to nothing")),
        case("a hard link upwards", Tar::new().hard_link("a", "../../outside/secret").end(), Refused("has `..`")),
        case("a hard link outside", Tar::new().hard_link("a", format!("{outside}/secret")).end(), Refused("not there")),
        case(
            "a hard link through a link",
            Tar::new().symlink("l", outside).hard_link("a", "l/secret").end(),
            Refused("not there"),
        ),
        case(
            "a file over a hard link to a link",
            Tar::new()
                .symlink("l", format!("{outside}/secret"))
                .hard_link("h", "l")
                .file("h", "x")
                .symlink("l", "z")
                .end(),
            Kept(vec![("h", "x"), ("l", "-> z")]),
        ),
        case("a hard link to a folder", Tar::new().folder("a").hard_link("b", "a").end(), Refused("to a folder")),
        case("a hard link to the root", Tar::new().hard_link("b", "/").end(), Refused("not there")),
        case("a hard link to itself", Tar::new().file("a", "x").hard_link("a", "a").end(), Kept(vec![("a", "x")])),
        case("a hard link to nothing", Tar::new().hard_link("a", "b").end(), Refused("not there")),
        case(
            "a hard link onto its target's folder",
            Tar::new().file("a/b", "x").hard_link("a", "a/b").end(),
            Refused("not there"),
        ),
        case(
            "a file over one of two names",
            Tar::new().file("a", "old").hard_link("b", "a").file("b", "new").end(),
            Kept(vec![("a", "old"), ("b", "new")]),
        ),
    ]
}

/// Whiteouts, devices, and kinds that images do not have.
fn kinds() -> Vec<Case> {
    let device = |kind: u8| {
        Tar::new()
            .file("n", "x")
            .with(kind, "n", |header| header.device = (1, 3))
            .hard_link("m", "n")
            .hard_link("o", "m")
            .end()
    };
    vec![
        case("a character device, and links to it", device(b'3'), Kept(vec![])),
        case("a block device", device(b'4'), Kept(vec![])),
        case("a pipe", device(b'6'), Kept(vec![])),
        case("a whiteout of `..`", Tar::new().file("a/.wh...", "").end(), Refused("whiteout of nothing")),
        case("a whiteout of `.`", Tar::new().file("a/.wh..", "").end(), Refused("whiteout of nothing")),
        case("a whiteout of nothing", Tar::new().file("a/.wh.", "").end(), Refused("whiteout of nothing")),
        case("a whiteout of what is not there", Tar::new().file("a/b/.wh.c", "").end(), Kept(vec![])),
        case("AUFS's own files", Tar::new().file(".wh..wh.plnk", "").file(".wh..wh.aufs", "").end(), Kept(vec![])),
        case("GNU's sparse files", Tar::new().with(b'S', "a", |_| {}).end(), Refused("sparse")),
        case(
            "pax's sparse files",
            Tar::new().pax(&[("GNU.sparse.major", b"1")]).file("a", "x").end(),
            Refused("sparse"),
        ),
        case(
            "a part of an archive of several volumes",
            Tar::new().with(b'M', "a", |_| {}).end(),
            Refused("unknown kind"),
        ),
        case("a global header", Tar::new().with(b'g', "g", |_| {}).file("a", "x").end(), Kept(vec![("a", "x")])),
    ]
}

/// Archives that are broken, or mean two things.
fn broken() -> Vec<Case> {
    let mut wrong_sum = Header::new(b'0', "a").block();
    wrong_sum[0] = b'b';
    let mut negative = Header::new(b'0', "a").block();
    negative[124..136].fill(0xff);
    seal(&mut negative);
    let mut no_number = Header::new(b'0', "a").block();
    no_number[124..136].copy_from_slice(b"12345678 9ab");
    no_number[124] = b'z';
    seal(&mut no_number);
    let hidden: &'static str = Box::leak(format!("hidden{}", r"\x00".repeat(54)).into_boxed_str());
    let sized = |kind: u8, size: u64| Tar::new().with(kind, "a", |header| header.size = size);
    vec![
        case("no archive at all", b"this is no archive, however long it may be".repeat(20), Refused("no archive")),
        case("half a block", vec![1; 100], Refused("too early")),
        case("nothing", Vec::new(), Kept(vec![])),
        case("a wrong checksum", Tar::new().bytes(&wrong_sum).end(), Refused("checksum")),
        case("a negative size", Tar::new().bytes(&negative).end(), Refused("negative")),
        case("a size that is no number", Tar::new().bytes(&no_number).end(), Refused("no number")),
        case("a file that ends early", sized(b'0', 5000).cut(), Refused("too early")),
        case("a file of 2^63 bytes", sized(b'0', 1 << 63).end(), Refused("no number")),
        case("a file of 2^62 bytes", sized(b'0', 1 << 62).end(), Refused("more bytes when unpacked")),
        case(
            "a link with a size and a file behind it",
            Tar::new()
                .with(b'2', "l", |header| {
                    header.link = b"x".to_vec();
                    header.size = 1024;
                })
                .file("a", "x")
                .end(),
            Kept(vec![("a", "x"), ("l", "-> x")]),
        ),
        case(
            "a pax size that another reader overlooks",
            Tar::new()
                .pax(&[("size", b"1024")])
                .bytes(&Header::new(b'0', "a").block())
                .bytes(&Header::new(b'0', "hidden").block())
                .bytes(&[0; 512])
                .end(),
            Kept(vec![("a", hidden)]),
        ),
        case(
            "a name given twice",
            Tar::new().pax(&[("path", b"b")]).gnu_long(b'L', b"c").file("a", "x").end(),
            Refused("twice"),
        ),
        case(
            "a pax name given twice",
            Tar::new().pax(&[("path", b"b"), ("path", b"c")]).file("a", "x").end(),
            Refused("twice"),
        ),
        case(
            "a pax header without a length",
            Tar::new().pax_bytes(b"path=b\n").file("a", "x").end(),
            Refused("pax header"),
        ),
        case(
            "a pax header that is too long for itself",
            Tar::new().pax_bytes(b"99 path=b\n").file("a", "x").end(),
            Refused("pax header"),
        ),
        case(
            "a pax header with nothing behind it",
            Tar::new().pax(&[("path", b"b")]).end(),
            Refused("middle of an entry"),
        ),
        case("a pax header of 1 GiB", sized(b'x', 1 << 30).end(), Refused("honest")),
        case("a GNU name of 1 GiB", sized(b'L', 1 << 30).end(), Refused("honest")),
        case(
            "more after the end",
            Tar::new().file("a", "x").bytes(&[0; 512]).file("b", "x").end(),
            Refused("after its end"),
        ),
        case(
            "something after two empty blocks",
            [Tar::new().file("a", "x").end(), vec![7; 700]].concat(),
            Kept(vec![("a", "x")]),
        ),
        case("no end", Tar::new().file("a", "x").cut(), Kept(vec![("a", "x")])),
        case(
            "the same name three times",
            Tar::new().file("a", "1").folder("a").file("a/b", "x").file("a", "3").end(),
            Kept(vec![("a", "3")]),
        ),
    ]
}

impl Case {
    fn with_layers(mut self, layers: Vec<Vec<u8>>) -> Self {
        self.layers = layers;
        self
    }
}

/// Pulls a case's image and looks at what came of it.
async fn check(case: &Case, fake: &Fake, images: &Images, around: &Path) {
    let layers: Vec<FakeLayer> = case.layers.iter().map(|archive| FakeLayer::gzip(archive)).collect();
    fake.image("hostile", "latest", &layers);
    let before = tree(around);

    let outcome = pulled(images, &fake.name("hostile")).await;

    assert!(tree(around) == before, "{}: something outside has changed", case.name);
    match (&case.outcome, outcome) {
        (Refused(words), Err(error)) => {
            assert!(error.to_string().contains(words), "{}: {error}", case.name);
            assert!(!error.is_transient(), "{}: {error}", case.name);
        }
        (Kept(expected), Ok(image)) => {
            let expected: BTreeMap<String, String> =
                expected.iter().map(|(path, content)| ((*path).to_owned(), (*content).to_owned())).collect();
            assert_eq!(contents(&image.root), expected, "{}", case.name);
            let digest = image.digest.clone();
            drop(image);
            assert!(images.remove(&digest).await.expect("removed"), "{}", case.name);
        }
        (Refused(words), Ok(image)) => {
            panic!("{}: kept instead of refused for `{words}`: {:?}", case.name, contents(&image.root))
        }
        (Kept(_), Err(error)) => panic!("{}: refused: {error}", case.name),
    }
}

#[tokio::test]
async fn a_hostile_archive_changes_nothing_outside_and_says_why_it_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let around = folder.path().join("outside");
    fs::create_dir(&around).expect("made");
    fs::write(around.join("secret"), "untouched").expect("written");
    let outside = around.to_str().expect("text").to_owned();
    let cases: Vec<Case> = [names(&outside), links(&outside), kinds(), broken()].into_iter().flatten().collect();
    assert!(cases.len() >= 60, "{} cases", cases.len());

    let by_another = || Some(crate::unpacker::unpacker());
    let mut owners = vec![(Owner::Own, None), (Owner::Own, by_another())];
    if is_root() {
        owners.extend([None, by_another()].map(|unpacker| (Owner::Shifted { start: 300_000 }, unpacker)));
    }
    for (owner, unpacker) in owners {
        let fake = Fake::start().await;
        let cache = folder.path().join("cache");
        let mut options = options(&cache, &fake.address.to_string());
        (options.owner, options.unpacker) = (owner, unpacker);
        let images = Images::open(options).expect("opened");
        for case in &cases {
            check(case, &fake, &images, &around).await;
        }

        assert_eq!(contents(&cache).into_keys().collect::<Vec<_>>(), ["lock"], "a refused image leaves nothing");
    }
}

#[tokio::test]
async fn a_link_to_an_absolute_path_of_this_machine_stays_below_the_root() {
    let folder = tempfile::tempdir().expect("a folder");
    let outside = folder.path().join("outside");
    fs::create_dir(&outside).expect("made");
    let fake = Fake::start().await;
    let archive = Tar::new().symlink("l", outside.to_str().expect("text")).file("l/pwned", "x").end();
    fake.image("a", "latest", &[FakeLayer::gzip(&archive)]);
    let images = Images::open(options(&folder.path().join("cache"), &fake.address.to_string())).expect("opened");

    let image = pulled(&images, &fake.name("a")).await.expect("pulled");

    let inside = image.root.join(outside.strip_prefix("/").expect("absolute")).join("pwned");
    assert_eq!(fs::read_to_string(inside).expect("made inside"), "x");
    assert_eq!(fs::read_dir(&outside).expect("readable").count(), 0);
}
