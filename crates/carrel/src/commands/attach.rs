//! `--attach` and `--image`: files that go along with a prompt, uploaded before it.

use std::path::Path;

use carrel_domain::attachment::{MAX_BYTES, MAX_IN_TURN, image_type};
use carrel_wire::Attachment;
use uuid::Uuid;

use crate::cli::FileArguments;
use crate::client::Client;
use crate::exit::Failure;
use crate::output::safe;

/// Uploads the files, in the order they are given, and gives their ids.
pub(crate) async fn attach(client: &Client, files: &FileArguments) -> Result<Vec<Uuid>, Failure> {
    let all = files.attach.iter().map(|path| (path, false)).chain(files.image.iter().map(|path| (path, true)));
    let all: Vec<_> = all.collect();
    if all.len() > MAX_IN_TURN {
        return Err(Failure::usage(format!("{} files are given, and {MAX_IN_TURN} at most go along", all.len())));
    }
    // All are read first: when one is wrong, nothing is sent.
    let read: Vec<(String, Vec<u8>)> =
        all.into_iter().map(|(path, is_image)| read(path, is_image)).collect::<Result<_, _>>()?;
    let mut ids = Vec::with_capacity(read.len());
    for (name, bytes) in read {
        let name: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
        let attachment: Attachment = client.upload(&format!("attachments?name={name}"), bytes).await?;
        ids.push(attachment.id);
    }
    Ok(ids)
}

fn read(path: &Path, is_image: bool) -> Result<(String, Vec<u8>), Failure> {
    let shown = safe(&path.to_string_lossy());
    let unreadable = |error: std::io::Error| Failure::usage(format!("cannot read `{shown}`: {error}"));
    let size_bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if size_bytes > MAX_BYTES as u64 {
        return Err(Failure::usage(format!("`{shown}` has {size_bytes} bytes, more than the {MAX_BYTES} allowed")));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    if is_image && image_type(&bytes).is_none() {
        return Err(Failure::usage(format!("`{shown}` is no PNG, JPEG, GIF or WebP image; attach it with --attach")));
    }
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok((name, bytes))
}
