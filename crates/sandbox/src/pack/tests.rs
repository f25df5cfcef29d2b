//! What is packed comes back as it was, to the last odd byte; what is broken is refused.

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use nix::sys::stat::makedev;
use nix::unistd::{Gid, Uid, chown, mkfifo};

use super::*;

/// A layer of everything that a sandbox can leave; some of it only root can make.
fn layer(root: &Path) {
    let text = |path: &str, text: &str| fs::write(root.join(path), text).expect("written");
    fs::create_dir_all(root.join("a/b")).expect("made");
    text("a/plain", "x");
    text("a/empty", "");
    text("a/b/first", "shared");
    fs::hard_link(root.join("a/b/first"), root.join("a/second")).expect("linked");
    symlink("../outside//./x", root.join("a/link")).expect("linked");
    symlink("z".repeat(3000), root.join("a/long")).expect("linked");
    mkfifo(&root.join("a/pipe"), Mode::from_bits_truncate(0o640)).expect("made");
    text("line\nbreak é \u{7f}", "named oddly");
    fs::write(root.join(OsStr::from_bytes(b"not \xff UTF-8")), b"\0\xff\n").expect("written");
    let sparse = File::create(root.join("sparse")).expect("made");
    sparse.write_at(b"end", 8 << 20).expect("written");
    sparse.set_len((8 << 20) + 100_000).expect("set");
    lsetxattr(root.join("a/plain"), "user.some", b"va\nlue\0", XattrFlags::empty()).expect("set");
    lsetxattr(root.join("a"), "user.overlay.opaque", b"y", XattrFlags::empty()).expect("set");
    lsetxattr(root.join("a"), "user.overlay.origin", b"here", XattrFlags::empty()).expect("set");
    mknod(&root.join("a/gone"), SFlag::S_IFCHR, Mode::empty(), 0).expect("a whiteout needs no right");
    if Uid::current().is_root() {
        chown(&root.join("a/plain"), Some(Uid::from_raw(0x6FFF_03E8)), Some(Gid::from_raw(7))).expect("given");
        lsetxattr(root.join("a/plain"), "trusted.overlay.opaque", b"y", XattrFlags::empty()).expect("set");
    }
    fs::set_permissions(root.join("a/plain"), Permissions::from_mode(0o4751)).expect("set");
    fs::set_permissions(root.join("a/b"), Permissions::from_mode(0o500)).expect("set");
    let old = TimeSpec::new(-5, 123_456_789);
    for path in ["a/plain", "a/link", "a/b", "a", ""] {
        utimensat(AT_FDCWD, &root.join(path), &old, &old, UtimensatFlags::NoFollowSymlink).expect("set");
    }
}

/// All that can be seen of a tree, but for the inode numbers; which names are the same file is told by the first.
fn seen(root: &Path) -> Vec<String> {
    let wanted = AtomicBool::new(false);
    let mut names = HashMap::new();
    let top = open(root, OFlag::O_PATH, Mode::empty()).expect("opened");
    let mut seen =
        vec![format!("{:?} {:?}", head_of(Kind::Folder, &fstat(&top).expect("there"), b""), attributes_of(&top))];
    walk(root, &wanted, |entry, path| {
        let stat = &entry.stat;
        let first = names.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| path.to_vec());
        let content = entry.open().ok().flatten().filter(|_| entry.kind() == SFlag::S_IFREG).map(|mut file| {
            let mut content = Vec::new();
            file.read_to_end(&mut content).expect("read");
            content.iter().fold(content.len(), |sum, byte| sum.wrapping_mul(31) + usize::from(*byte))
        });
        let handle = entry.handle()?.expect("there");
        let what = (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev, stat.st_mtime, stat.st_mtime_nsec);
        let mut attributes = attributes_of(&handle)?;
        attributes.sort();
        seen.push(format!("{path:?} {first:?} {what:?} {content:?} {:?} {attributes:?}", entry.link_target()));
        Ok(ControlFlow::<()>::Continue(()))
    })
    .expect("walked");
    seen.sort();
    seen
}

fn packed(place: &Path) -> PathBuf {
    let (root, file) = (place.join("layer"), place.join("packed"));
    fs::create_dir(&root).expect("made");
    layer(&root);
    File::create(&file).expect("made");
    pack(&root, &file, &AtomicBool::new(false)).expect("packed");
    file
}

#[test]
fn what_was_packed_comes_back_as_it_was() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let file = packed(place.path());

    unpack(&file, &place.path().join("again"), &AtomicBool::new(false)).expect("unpacked");

    let before = seen(&place.path().join("layer"));
    assert_eq!(seen(&place.path().join("again")), before);
    assert!(before.iter().any(|line| line.contains("user.overlay.opaque") || line.contains("111, 112, 97, 113")));
    let sparse = fs::metadata(place.path().join("again/sparse")).expect("there");
    assert!(sparse.blocks() * 512 < 1 << 20, "holes came back as holes: {} blocks", sparse.blocks());
    let again = open(&place.path().join("again/a"), OFlag::O_PATH, Mode::empty()).expect("opened");
    let mut names = Vec::new();
    each_attribute(&again, &mut vec![0; ATTRIBUTE_BYTES], |name, _| {
        names.push(String::from_utf8_lossy(name).into_owned());
        ControlFlow::<()>::Continue(())
    })
    .expect("listed");
    assert!(!names.iter().any(|name| name.contains("origin")), "what points into this machine stays here: {names:?}");
}

#[test]
fn a_packed_layer_that_was_cut_or_is_another_form_is_refused() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let file = packed(place.path());
    let whole = fs::read(&file).expect("read");
    let wanted = AtomicBool::new(false);

    for (index, length) in (0..whole.len()).step_by(whole.len() / 40 + 1).enumerate() {
        fs::write(&file, &whole[..length]).expect("written");
        let into = place.path().join(format!("cut-{index}"));
        unpack(&file, &into, &wanted).expect_err("it is cut");
    }
    fs::write(&file, b"carrel layer 2\n anything").expect("written");
    let other = unpack(&file, &place.path().join("other"), &wanted).expect_err("another form");
    assert_eq!(other.to_string(), "the packed layer is no packed layer of this version");
}

#[test]
fn nothing_is_put_where_a_link_or_a_path_leads() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let head = |kind, path: &str, link: &str| Head {
        kind,
        mode: 0o700,
        uid: Uid::current().as_raw(),
        gid: Gid::current().as_raw(),
        seconds: 0,
        nanoseconds: 0,
        path: path.as_bytes().to_vec(),
        link: link.as_bytes().to_vec(),
        attributes: Vec::new(),
        size: 0,
    };
    let top = || head(Kind::Folder, "", "");
    let outside = place.path().display().to_string();
    let bad = [
        vec![head(Kind::Folder, "a", "")],
        vec![top(), head(Kind::File, "../evil", "")],
        vec![top(), head(Kind::File, "/evil", "")],
        vec![top(), head(Kind::File, "..", "")],
        vec![top(), head(Kind::Link, "a", &outside), head(Kind::File, "a/evil", "")],
        vec![top(), head(Kind::Twin, "a", "../packed")],
        vec![],
    ];

    for (index, heads) in bad.iter().enumerate() {
        let file = place.path().join("packed");
        let mut output = zstd::stream::write::Encoder::new(Vec::new(), LEVEL).expect("made");
        heads.iter().for_each(|head| head.write(&mut output).expect("written"));
        output.write_all(&[END]).expect("written");
        fs::write(&file, [MAGIC, &output.finish().expect("compressed")].concat()).expect("written");

        let refused = unpack(&file, &place.path().join(format!("into-{index}")), &AtomicBool::new(false));

        assert_eq!(refused.expect_err("it leads elsewhere").kind(), ErrorKind::InvalidData, "{index}");
        assert!(!place.path().join("evil").exists());
    }
}

#[test]
fn a_device_is_not_packed() {
    if !Uid::current().is_root() {
        return;
    }
    let place = tempfile::tempdir().expect("a temporary folder");
    let root = place.path().join("layer");
    fs::create_dir(&root).expect("made");
    if mknod(&root.join("null"), SFlag::S_IFCHR, Mode::empty(), makedev(1, 3)).is_err() {
        return;
    }
    let file = place.path().join("packed");
    File::create(&file).expect("made");

    let refused = pack(&root, &file, &AtomicBool::new(false)).expect_err("a device");

    assert_eq!(refused.to_string(), "`/null` is a device");
}
