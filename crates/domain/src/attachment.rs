//! Files that people give with a prompt: how many and how large they may be, what they are, and what they are called in
//! the sandbox.

use jiff::Timestamp;

use crate::AttachmentId;

/// The longest file, in bytes.
pub const MAX_BYTES: usize = 20 * 1024 * 1024;

/// The most files of one turn.
pub const MAX_IN_TURN: usize = 20;

/// The most files of one person that no turn has taken, and how many bytes they may have together.
pub const MAX_WAITING: u32 = 200;
/// See [`MAX_WAITING`].
pub const MAX_WAITING_BYTES: u64 = 1 << 30;

/// The folder of a sandbox they lie in.
pub const FOLDER: &str = "/attachments";

/// The longest name, in bytes.
const MAX_NAME_BYTES: usize = 120;

/// A file that a person gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Which one.
    pub id: AttachmentId,
    /// What it is called: one safe name of a file. In a turn, the name it has in the sandbox.
    pub name: String,
    /// How long it is.
    pub size_bytes: u64,
    /// The type of an image; `None` for anything else.
    pub media_type: Option<String>,
    /// When it was given.
    pub created_at: Timestamp,
}

/// What an image is by its first bytes: PNG, JPEG, GIF or WebP. What a file is called says nothing.
#[must_use]
pub fn image_type(bytes: &[u8]) -> Option<&'static str> {
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        Some("image/png")
    } else if bytes.starts_with(b"\xff\xd8\xff") {
        Some("image/jpeg")
    } else if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
        Some("image/gif")
    } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        Some("image/webp")
    } else {
        None
    }
}

/// A name that is one file of one folder and needs no quotes, as like the given one as can be.
#[must_use]
pub fn safe_name(given: &str) -> String {
    let last = given.rsplit(['/', '\\']).next().unwrap_or_default();
    let plain = |letter: char| {
        if letter.is_alphanumeric() || matches!(letter, '.' | '-' | '_' | '+' | '@') { letter } else { '_' }
    };
    let name: String = last.trim().chars().map(plain).collect();
    let name = name.trim_start_matches(['.', '-']);
    let (stem, end) = split(name);
    let mut stem = stem.to_owned();
    while stem.len() + end.len() > MAX_NAME_BYTES && stem.pop().is_some() {}
    let name = format!("{stem}{}", if stem.len() + end.len() > MAX_NAME_BYTES { "" } else { end });
    if name.chars().all(|letter| matches!(letter, '.' | '_')) { "file".to_owned() } else { name }
}

/// The name, numbered if it is taken: `log.txt`, `log-2.txt`, …
#[must_use]
pub fn free_name(name: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let (stem, end) = split(name);
    let numbered = (2..).map(|number: u32| format!("{stem}-{number}{end}"));
    std::iter::once(name.to_owned()).chain(numbered).find(|name| !is_taken(name)).expect("numbers do not end")
}

/// The name before its last dot, and the rest.
fn split(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(at) if at > 0 => name.split_at(at),
        _ => (name, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_becomes_one_file_of_one_folder() {
        for (given, safe) in [
            ("log.txt", "log.txt"),
            ("../../etc/passwd", "passwd"),
            ("C:\\Users\\me\\trace one.log", "trace_one.log"),
            (".bashrc", "bashrc"),
            ("-rf", "rf"),
            ("a\nb'$(c)", "a_b___c_"),
            ("bücher.md", "bücher.md"),
            ("", "file"),
            ("..", "file"),
            ("/", "file"),
        ] {
            assert_eq!(safe_name(given), safe, "{given:?}");
        }
        let long = safe_name(&format!("{}.png", "ä".repeat(200)));
        assert!(long.len() <= MAX_NAME_BYTES && long.ends_with("ä.png"), "{long}");
        assert!(safe_name(&format!("a.{}", "b".repeat(300))).len() <= MAX_NAME_BYTES);
    }

    #[test]
    fn a_name_that_is_taken_is_numbered_before_its_end() {
        let taken = ["a.txt", "a-2.txt", "b"];

        let free = |name: &str| free_name(name, |name| taken.contains(&name));

        assert_eq!((free("a.txt"), free("b"), free("c.txt")), ("a-3.txt".into(), "b-2".into(), "c.txt".into()));
    }

    #[test]
    fn an_image_is_known_by_its_first_bytes() {
        assert_eq!(image_type(b"\x89PNG\r\n\x1a\n"), Some("image/png"));
        assert_eq!(image_type(b"RIFF\0\0\0\0WEBP"), Some("image/webp"));
        assert_eq!(image_type(b"<svg/>"), None);
    }
}
