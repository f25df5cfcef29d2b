//! Where these worlds lie: in a folder whose neighbours sandboxes show. So what is hidden there is hidden for what it is,
//! and not with everything around it, as it would be in `/tmp` or beside the sources.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;

use super::world::{self, World};

/// A folder of the host that is shown, as others of programs are.
pub(crate) const SHOWN: &str = "/opt";
/// How the folders begin that root lends an ordinary user there.
const LENT: &str = "carrel-place-";

/// A backend in such a folder, if this user can have one.
pub(crate) async fn world() -> World {
    let folder = shown_folder().unwrap_or_else(world::folder);
    // There before the backend is: from then on it is hidden.
    fs::create_dir(folder.path().join("private")).expect("made");
    let sandboxes = world::open(folder.path()).await;
    World { folder, sandboxes }
}

/// A folder in which an ordinary user can have such a folder; only root can make one.
pub(crate) fn lend() -> Option<TempDir> {
    let folder = tempfile::Builder::new().prefix(LENT).tempdir_in(SHOWN).ok()?;
    open_to_all(folder.path(), 0o1777);
    Some(folder)
}

fn shown_folder() -> Option<TempDir> {
    let lent = fs::read_dir(SHOWN)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(LENT)));
    let folder =
        tempfile::tempdir_in(SHOWN).ok().or_else(|| lent.filter_map(|path| tempfile::tempdir_in(path).ok()).next())?;
    open_to_all(folder.path(), 0o755);
    Some(folder)
}

fn open_to_all(folder: &Path, mode: u32) {
    fs::set_permissions(folder, fs::Permissions::from_mode(mode)).expect("ours");
}
