//! `carrel task artifacts`: the files an agent attached, listed or saved. Their names come from the agent, so nothing is
//! written but plain files of one folder, and nothing is replaced.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use carrel_wire::{Artifact, ArtifactList, Task};
use serde_json::json;
use uuid::Uuid;

use super::choose;
use crate::cli::Which;
use crate::client::Client;
use crate::exit::Failure;
use crate::output::{self, safe};

pub(super) async fn artifacts(
    client: &Client,
    id: Uuid,
    which: Which,
    folder: Option<PathBuf>,
    json: bool,
) -> Result<(), Failure> {
    let task: Task = client.get(&format!("tasks/{id}")).await?;
    let attempt = choose(&task, which)?.id;
    let list: ArtifactList = client.get(&format!("attempts/{attempt}/artifacts")).await?;
    let Some(folder) = folder else {
        return if json { output::document(&list) } else { output::line(&table(&list)) };
    };
    std::fs::create_dir_all(&folder).map_err(|error| cannot_write(&folder, &error))?;
    let mut saved = Vec::with_capacity(list.items.len());
    for artifact in &list.items {
        let path = folder.join(file_name(artifact)?);
        let bytes = client.bytes(&format!("attempts/{attempt}/artifacts/{}", encoded(&artifact.name))).await?;
        save(&path, &bytes)?;
        saved.push(path.display().to_string());
    }
    if json {
        return output::document(&json!({ "saved": saved }));
    }
    match saved.len() {
        0 => output::line("the attempt has no artifacts"),
        _ => output::line(&saved.iter().map(|path| safe(path)).collect::<Vec<_>>().join("\n")),
    }
}

fn table(list: &ArtifactList) -> String {
    if list.items.is_empty() {
        return "the attempt has no artifacts".to_owned();
    }
    let line = |artifact: &Artifact| {
        format!("{:>10}  {:<24}  {}", artifact.size_bytes, safe(&artifact.media_type), safe(&artifact.name))
    };
    list.items.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The name as one of a file in a folder.
fn file_name(artifact: &Artifact) -> Result<&str, Failure> {
    let name = artifact.name.as_str();
    let is_plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
    if is_plain { Ok(name) } else { Err(Failure::service(format!("`{}` is no name for a file", safe(name)))) }
}

fn save(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    // Through no link and over no file: whatever lies there is the person's.
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    file.and_then(|mut file| file.write_all(bytes)).map_err(|error| cannot_write(path, &error))
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("cannot write {}: {error}; choose another --output", path.display()))
}

/// A name as a part of a URL's path.
fn encoded(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        let named = |name: &str| Artifact {
            name: name.to_owned(),
            size_bytes: 1,
            media_type: "image/png".to_owned(),
            created_at: jiff::Timestamp::UNIX_EPOCH,
        };

        for name in ["../x", "/etc/passwd", "", ".bashrc", "a\\b"] {
            assert!(file_name(&named(name)).is_err(), "{name}");
        }
        assert!(file_name(&named("a b.png")).is_ok());
        assert_eq!(encoded("a b/ü"), "a%20b%2F%C3%BC");
    }

    #[test]
    fn what_is_there_is_not_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x");

        save(&path, b"one").expect("saved");
        assert!(save(&path, b"two").is_err());

        assert_eq!(std::fs::read(&path).expect("a file"), b"one");
    }
}
