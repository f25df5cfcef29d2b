//! Which paths a sandbox hides, and the checks on what a launch request names.

use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::privileges::Inside;
use crate::protocol::{Launch, MAX_LAYERS, Root, USUAL_PATH};

/// Folders that are empty inside: homes, sockets, mail, logs, and file systems of other purposes.
pub(super) const HIDDEN_FOLDERS: &[&str] = &[
    "/root",
    "/home",
    "/run",
    "/tmp",
    "/srv",
    "/mnt",
    "/media",
    "/boot",
    "/lost+found",
    "/proc",
    "/sys",
    "/dev",
    "/workspace",
    "/attachments",
    "/var/run",
    "/var/lock",
    "/var/tmp",
    "/var/log",
    "/var/mail",
    "/var/spool",
    "/var/backups",
    "/var/crash",
];

/// What is shown of the host's top level: programs and what they need. Anything else there is somebody's data.
const SHOWN_FOLDERS: &[&str] =
    &["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/usr", "/etc", "/opt", "/var", "/nix", "/gnu", "/snap"];

/// The entries of the host's top level that no list names.
pub(super) fn unknown_at_the_top() -> Vec<PathBuf> {
    let entries = fs::read_dir("/").into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| !SHOWN_FOLDERS.iter().chain(HIDDEN_FOLDERS).any(|known| path == Path::new(known))).collect()
}

/// The paths that lie in no other of them: what is in a hidden folder is hidden, and not even its name is shown.
pub(super) fn outermost(mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
    paths.sort();
    let mut kept: Vec<PathBuf> = Vec::new();
    for path in paths {
        // Sorted, a folder stands before everything in it.
        if !kept.iter().any(|folder| path.starts_with(folder)) {
            kept.push(path);
        }
    }
    kept
}

/// Files that are not there inside: password hashes, keys, and what tells this machine from others.
pub(super) const HIDDEN_FILES: &[&str] = &[
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/passwd-",
    "/etc/group-",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/krb5.keytab",
    "/etc/ssh",
    "/etc/ssl/private",
    "/etc/fstab",
    "/etc/crypttab",
    "/etc/docker",
    "/etc/kubernetes",
    "/etc/NetworkManager",
    "/etc/wireguard",
    "/etc/openvpn",
    "/etc/letsencrypt",
    "/var/lib/dbus/machine-id",
];

/// Files with a content of ours.
pub(super) const REPLACED_FILES: &[&str] = &["passwd", "group", "hostname", "hosts", "resolv.conf", "machine-id"];

/// Folders that belong to the sandbox's user, and their permission bits.
pub(super) const OWN_FOLDERS: &[(&str, u32)] =
    &[("/workspace", 0o755), ("/attachments", 0o755), ("/home/carrel", 0o755)];

/// The variables every command has, before those of the sandbox and its own: `home` is where root is at home.
pub(super) fn environment(inside: Inside, home: Option<String>) -> Vec<(String, String)> {
    let mut variables: Vec<(String, String)> =
        ENVIRONMENT.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    if inside == Inside::Root {
        let home = home.unwrap_or_else(|| "/root".to_owned());
        for (name, value) in [("HOME", home.as_str()), ("USER", "root"), ("LOGNAME", "root")] {
            variables.retain(|(known, _)| known != name);
            variables.push((name.to_owned(), value.to_owned()));
        }
    }
    variables
}

/// The variables of commands on the host's root.
const ENVIRONMENT: &[(&str, &str)] = &[
    ("PATH", USUAL_PATH),
    ("HOME", "/home/carrel"),
    ("USER", "carrel"),
    ("LOGNAME", "carrel"),
    ("LANG", "C.UTF-8"),
    ("TERM", "xterm-256color"),
];

/// Refuses a launch that names anything outside its own folder, or what cannot be a target or a host name.
pub(super) fn check(launch: &Launch) -> Result<(), String> {
    if launch.name.contains('/') || launch.name == ".." || launch.name.is_empty() {
        return Err(format!("`{}` is no name for a sandbox's folder", launch.name));
    }
    let letters = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.');
    if launch.hostname.is_empty() || launch.hostname.len() > 63 || !letters(&launch.hostname) {
        return Err(format!("`{}` is no host name: use up to 63 letters, digits, `-` and `.`", launch.hostname));
    }
    if launch.layers.len() > MAX_LAYERS {
        let count = launch.layers.len();
        return Err(format!("{count} kept layers are more than the {MAX_LAYERS} one sandbox can stand on: keep fewer"));
    }
    if let Some(name) = launch.layers.iter().find(|name| name.is_empty() || name.starts_with('.') || name.contains('/'))
    {
        return Err(format!("`{name}` is no name of a kept layer"));
    }
    if let Root::Folder { path, .. } = &launch.root
        && !Path::new(path).is_absolute()
    {
        return Err(format!("root folder `{path}` is not absolute"));
    }
    for (source, target) in &launch.mounts {
        if !Path::new(source).is_absolute() {
            return Err(format!("mount source `{source}` is not absolute"));
        }
        check_target(target)?;
    }
    Ok(())
}

fn check_target(target: &str) -> Result<(), String> {
    let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    let path = Path::new(target);
    if !path.is_absolute() || !path.components().all(plain) || target.contains('\0') {
        return Err(format!("mount target `{target}` is not an absolute path without `..`"));
    }
    let reserved = ["/proc", "/sys", "/dev"].iter().any(|reserved| path.starts_with(reserved));
    if reserved || path.components().count() < 2 {
        return Err(format!("mount target `{target}` would cover a part of the sandbox itself"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Resources;

    fn launch() -> Launch {
        Launch {
            number: 1,
            name: "a".into(),
            mounts: Vec::new(),
            environment: Vec::new(),
            hostname: "carrel".into(),
            root: Root::Host,
            layers: Vec::new(),
            resources: Resources::default(),
        }
    }

    #[test]
    fn what_lies_in_another_is_left_out() {
        let paths = ["/data/a/b", "/data", "/database", "/data/a"].map(PathBuf::from).to_vec();

        assert_eq!(outermost(paths), ["/data", "/database"].map(PathBuf::from));
    }

    #[test]
    fn targets_outside_the_sandboxs_own_tree_are_refused() {
        for target in ["/", "relative", "/a/../b", "/proc/sys", "/dev", "/sys/fs"] {
            let launch = Launch { mounts: vec![("/usr".into(), target.into())], ..launch() };

            assert!(check(&launch).is_err(), "{target}");
        }
        assert_eq!(check(&Launch { mounts: vec![("/usr".into(), "/opt/tools".into())], ..launch() }), Ok(()));
    }

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        for name in ["", "..", "a/b", "../a"] {
            assert!(check(&Launch { name: name.into(), ..launch() }).is_err(), "{name}");
        }
    }
}
