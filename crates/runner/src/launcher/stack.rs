//! Stacks of folders shown as one: the overlays that sandboxes' roots are.
//!
//! Folders are opened first and named by descriptor, because no character of a path may be taken for a separator, and
//! because what is opened is seen in this mount namespace.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use crate::protocol::{LAYERS_FOLDER, UPPER_FOLDER};
use crate::sys::mount::Notes;

/// What an overlay is made of.
pub(super) struct Stack<'a> {
    /// The folders that are never written, topmost first.
    pub(super) lower: &'a [File],
    /// The writable folder and the kernel's own beside it, relative to the working folder; neither may be taken for
    /// an option, so they are ours.
    pub(super) writable: Option<(&'a str, &'a str)>,
    /// Where the kernel writes down what it hides.
    pub(super) notes: Notes,
}

impl Stack<'_> {
    /// Shows it at `target`.
    pub(super) fn show_at(&self, target: &Path) -> Result<(), Errno> {
        let lower: Vec<String> =
            self.lower.iter().map(|layer| format!("/proc/self/fd/{}", layer.as_fd().as_raw_fd())).collect();
        let mut options = format!("lowerdir={}", lower.join(":"));
        if let Some((upper, work)) = self.writable {
            // `volatile`: nobody waits for the disk when the sandbox goes; what must last is synced by who keeps it.
            options.push_str(&format!(",upperdir={upper},workdir={work},volatile"));
        }
        // Files keep their numbers when their layer becomes a lower one, folders too: what git knows of them stays true.
        options.push_str(",xino=on");
        // Whatever this kernel's own choice is: a layer must be whole without the ones beneath, and may be used again
        // while the last sandbox that wrote it is still taken apart.
        options.push_str(",index=off,metacopy=off");
        options.push_str(match self.notes {
            // Renaming a folder of a lower layer works. In a namespace of an ordinary user no kernel can do that.
            Notes::Trusted => ",redirect_dir=on",
            Notes::User => ",userxattr",
        });
        let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        flags.set(MsFlags::MS_RDONLY, self.writable.is_none());
        mount(Some("overlay"), target, Some("overlay"), flags, Some(options.as_str()))
    }
}

/// A folder as a layer, or as the place of one.
pub(super) fn open_folder(path: &Path) -> Result<File, std::io::Error> {
    File::options().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(path)
}

/// Opens kept layers, or the folder `part` in each that has one.
pub(super) fn open_layers(folder: &Path, names: &[String], part: Option<&str>) -> Result<Vec<File>, String> {
    let open = |name: &String| {
        let upper = folder.join(LAYERS_FOLDER).join(name).join(UPPER_FOLDER);
        let layer = open_folder(&upper).map_err(|error| {
            format!("cannot open the kept layer `{name}` ({error}): make it again, or launch without it")
        });
        let Some(part) = part else { return layer.map(Some) };
        layer?;
        // A layer of another kind of root may hold a link of that name.
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        match File::options().read(true).custom_flags(flags).open(upper.join(part)) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("cannot open `{part}` of the kept layer `{name}`: {error}")),
        }
    };
    names.iter().map(open).filter_map(Result::transpose).collect()
}

/// Makes the writable folder of a stack, looking as the topmost layer does, or as said where there is none. One that
/// exists, of a sandbox that is launched again, stays as it is.
pub(super) fn make_upper(path: &Path, top: Option<&File>, mode: u32, owner: Option<u32>) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot make `{}`: {error}", path.display());
    match fs::create_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
        made => made.map_err(failed)?,
    }
    let top = top.map(File::metadata).transpose().map_err(failed)?;
    if let Some(owner) = owner {
        let (user, group) = top.as_ref().map_or((owner, owner), |top| (top.uid(), top.gid()));
        chown(path, Some(user), Some(group)).map_err(failed)?;
    }
    let mode = top.map_or(mode, |top| top.permissions().mode() & 0o7777);
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)
}

/// Why a stack could not be shown; `folder` is the one its writable folder lies in.
pub(super) fn explain(folder: &Path, error: Errno) -> String {
    let place = folder.parent().unwrap_or(folder).display();
    match error {
        Errno::ENODEV => "this kernel has no overlay file system: load the module `overlay`".to_owned(),
        Errno::ENOSPC | Errno::EDQUOT => format!("the disk of `{place}` is full"),
        Errno::EINVAL | Errno::EREMOTE | Errno::ELOOP => format!(
            "cannot mount an overlay with its upper layer in `{place}` ({error}): that folder must be on a real file system \
             (ext4, xfs, btrfs); inside a container, put the data folder on a volume"
        ),
        Errno::EPERM | Errno::EACCES => {
            format!(
                "this user may not mount here ({error}): give the service CAP_SYS_ADMIN, or run it as an ordinary user"
            )
        }
        error => format!("cannot mount the overlay in `{place}`: {error}"),
    }
}
