//! `view_image`: an image file of the sandbox, shown to the model as part of the result.

pub(crate) mod header;

use std::sync::atomic::Ordering;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use carrel_domain::EventBody;
use carrel_sandbox::SandboxError;

use super::{IMAGE, Outcome, Tools, arguments, is_about_the_request};
use crate::AgentError;
use crate::model::Call;

/// The longest image file: in base64 it stays below the 5 MB that every provider takes.
pub(crate) const MAX_FILE_BYTES: u64 = 3_670_016;

/// The most pixels: more cost tokens, and models see no more.
pub(crate) const MAX_PIXELS: u64 = 24_000_000;

/// The way out of every limit.
const SMALLER: &str = "make a smaller copy with a command (ImageMagick, Pillow and ffmpeg can), and view that";

impl Tools {
    /// Shows an image to the model.
    pub(super) async fn view_image(&self, call: &Call) -> Result<Outcome, AgentError> {
        let Some(max_side) = self.image_side else {
            let what = "this model takes no images; find out what you need from the file with commands";
            return Ok(Outcome::refused(IMAGE, what));
        };
        let path = match arguments::View::parse(&call.input) {
            Ok(view) => super::patch::join(&self.workspace, &view.path),
            Err(problem) => return Ok(Outcome::refused(IMAGE, problem)),
        };
        let bytes = match self.sessions.sandbox().read_file(&path, MAX_FILE_BYTES).await {
            Ok(bytes) => bytes,
            Err(SandboxError::TooLarge { size_bytes, .. }) => {
                let what = format!("`{path}` has {size_bytes} bytes, and {MAX_FILE_BYTES} can be shown; {SMALLER}");
                return Ok(Outcome::refused(IMAGE, what));
            }
            Err(error) if is_about_the_request(&error) => return Ok(Outcome::refused(IMAGE, error.to_string())),
            Err(source) => return Err(AgentError::Sandbox { action: "read an image", source }),
        };
        let Some(header::Header { media_type, width, height }) = header::read(&bytes) else {
            let what = format!("`{path}` is no PNG, JPEG, GIF or WebP image; convert it with a command first");
            return Ok(Outcome::refused(IMAGE, what));
        };
        if width.max(height) > max_side || u64::from(width) * u64::from(height) > MAX_PIXELS {
            let what = format!("`{path}` has {width} x {height} pixels, which is too many; {SMALLER}");
            return Ok(Outcome::refused(IMAGE, what));
        }
        let url = format!("data:{media_type};base64,{}", STANDARD.encode(&bytes));
        let take = |room: usize| room.checked_sub(url.len());
        if let Err(room) = self.image_room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            let what = format!(
                "the images of this conversation leave room for {room} bytes in base64 only; {SMALLER}, or do without"
            );
            return Ok(Outcome::refused(IMAGE, what));
        }
        let size_bytes = bytes.len() as u64;
        let text = format!("{path}: {media_type}, {width} x {height} pixels, {size_bytes} bytes");
        let event = EventBody::ImageViewed { path, media_type: media_type.to_owned(), size_bytes, width, height };
        Ok(Outcome { image: Some(url), ..Outcome::plain(text).with(event) })
    }
}
