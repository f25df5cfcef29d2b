//! Trees of files as values that can be compared.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// One file, in every respect that an image sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) kind: &'static str,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: (i64, i64),
    /// A file's content, or where a link leads.
    pub(crate) content: Vec<u8>,
    /// The first name, in order, of the same file.
    pub(crate) same_as: PathBuf,
}

/// Everything below a folder, by path.
pub(crate) fn tree(root: &Path) -> BTreeMap<PathBuf, Node> {
    let mut paths = Vec::new();
    list(root, root, &mut paths);
    paths.sort();
    let mut first = BTreeMap::new();
    let mut found = BTreeMap::new();
    for path in paths {
        let full = root.join(&path);
        let meta = full.symlink_metadata().expect("there");
        let kind = meta.file_type();
        let (kind, content) = match kind {
            _ if kind.is_dir() => ("folder", Vec::new()),
            _ if kind.is_symlink() => ("link", OsString::from(fs::read_link(&full).expect("a link")).into_vec()),
            _ if kind.is_file() => ("file", fs::read(&full).expect("readable")),
            _ if kind.is_fifo() => ("pipe", Vec::new()),
            _ => ("device", Vec::new()),
        };
        let same_as = first.entry((meta.dev(), meta.ino())).or_insert_with(|| path.clone()).clone();
        let node = Node {
            kind,
            mode: meta.mode() & 0o7777,
            owner: (meta.uid(), meta.gid()),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            content,
            same_as,
        };
        found.insert(path, node);
    }
    found
}

fn list(root: &Path, folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("readable") {
        let path = entry.expect("readable").path();
        into.push(path.strip_prefix(root).expect("below it").to_owned());
        if path.symlink_metadata().expect("there").is_dir() {
            list(root, &path, into);
        }
    }
}

/// Paths and contents only.
pub(crate) fn contents(root: &Path) -> BTreeMap<String, String> {
    let shown = |bytes: &[u8]| bytes.iter().take(60).flat_map(|byte| byte.escape_ascii()).map(char::from).collect();
    let nodes = tree(root).into_iter();
    nodes
        .map(|(path, node)| {
            let content: String = shown(&node.content);
            let name: String = shown(&OsString::from(path).into_vec());
            let content = match node.kind {
                "file" => content,
                "link" => format!("-> {content}"),
                other => other.to_owned(),
            };
            (name, content)
        })
        .collect()
}
