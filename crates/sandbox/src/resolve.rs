//! Paths of a root folder, resolved as they would be inside: no link in it leads anywhere else.

use std::fs::File;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

/// How often the kernel is asked again that gave up on `..`, because something was renamed anywhere at the same time.
const TRIES: usize = 128;

/// Opens what programs inside would come to by this path.
pub(crate) fn open_inside(root: &File, path: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let mut found = Err(Errno::EAGAIN);
    for _ in 0..TRIES {
        found = openat2(root, path.trim_start_matches('/'), how);
        if !matches!(found, Err(Errno::EAGAIN)) {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read as _;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn a_way_up_is_found_while_something_else_is_renamed() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let root = place.path().join("root");
        fs::create_dir_all(root.join("usr/lib")).expect("made");
        fs::write(root.join("usr/os-release"), "found").expect("written");
        symlink("../../usr/lib/../os-release", root.join("usr/lib/link")).expect("linked");
        let [one, other] = ["one", "other"].map(|name| place.path().join(name));
        fs::write(&one, "").expect("written");
        let (is_done, root) = (AtomicBool::new(false), File::open(root).expect("opened"));

        let found = thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    fs::rename(&one, &other).and_then(|()| fs::rename(&other, &one)).expect("renamed");
                }
            });
            let found: Vec<_> = (0..2000).map(|_| open_inside(&root, "/usr/lib/link", OFlag::O_RDONLY)).collect();
            is_done.store(true, Ordering::Relaxed);
            found
        });

        let failed = found.iter().filter_map(|found| found.as_ref().err()).count();
        assert_eq!(failed, 0);
        let mut text = String::new();
        let last = found.into_iter().next_back().expect("tried").expect("opened");
        File::from(last).read_to_string(&mut text).expect("read");
        assert_eq!(text, "found");
    }
}
