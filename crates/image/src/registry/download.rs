//! Layers on their way: streamed to whoever unpacks them, and gone on with where they broke.

use bytes::Bytes;
use reqwest::header::CONTENT_RANGE;
use reqwest::{Response, StatusCode};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Ask, Failure, Registry, STALL_TIMEOUT, checked, transient, words_of};
use crate::error::ImageError;
use crate::manifest::Descriptor;
use crate::reference::ImageReference;

/// A download that brought this much before it broke has its tries anew.
const PROGRESS_BYTES: u64 = 1 << 20;

/// How far a download is.
struct Way<'a> {
    of: &'a Descriptor,
    have: u64,
    to: &'a mpsc::Sender<Bytes>,
    arrived: &'a (dyn Fn(u64) + Send + Sync),
}

impl Registry {
    /// Sends a blob's bytes to `to`, exactly as many as promised; `arrived` hears how many each piece had. Whether they
    /// are the right ones is for the receiver to check. When nobody receives any more it stops, without an error.
    pub(crate) async fn blob(
        &self,
        reference: &ImageReference,
        of: &Descriptor,
        to: &mpsc::Sender<Bytes>,
        arrived: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), ImageError> {
        let mut ask = Ask { reference, path: format!("blobs/{}", of.digest), accept: None, from: 0 };
        let mut way = Way { of, have: 0, to, arrived };
        let mut tries = 1;
        loop {
            let before = way.have;
            ask.from = way.have;
            let Err(failure) = self.some_of(&ask, &mut way).await else { return Ok(()) };
            if way.have - before >= PROGRESS_BYTES {
                tries = 1;
            }
            self.pause(failure, &mut tries).await?;
        }
    }

    /// One request's worth of a blob; `Ok` at its end.
    async fn some_of(&self, ask: &Ask<'_>, way: &mut Way<'_>) -> Result<(), Failure> {
        let response = self.answer(ask).await?;
        let mut response = checked(ask, response).await?;
        // A server that does not know ranges begins anew.
        let mut to_skip = match response.status() {
            StatusCode::PARTIAL_CONTENT if begins_at(&response) == Some(way.have) => 0,
            StatusCode::PARTIAL_CONTENT => {
                return Err(ImageError::invalid(ask.reference, "its registry sends another part than asked for").into());
            }
            _ => way.have,
        };
        loop {
            let piece = timeout(STALL_TIMEOUT, response.chunk()).await;
            let piece = piece.map_err(|_| transient(ask, "a download stands still"))?;
            let Some(mut piece) = piece.map_err(|error| transient(ask, words_of(&error)))? else { break };
            let skipped = to_skip.min(piece.len() as u64);
            let _ = piece.split_to(usize::try_from(skipped).expect("no more than the piece has"));
            to_skip -= skipped;
            if piece.is_empty() {
                continue;
            }
            way.have += piece.len() as u64;
            if way.have > way.of.size_bytes {
                return Err(ImageError::invalid(ask.reference, "a layer of it is longer than promised").into());
            }
            (way.arrived)(piece.len() as u64);
            if way.to.send(piece).await.is_err() {
                return Ok(());
            }
        }
        if way.have < way.of.size_bytes {
            return Err(transient(ask, "a download ended early"));
        }
        Ok(())
    }
}

/// The first byte of a partial answer: `bytes 100-199/200`.
fn begins_at(response: &Response) -> Option<u64> {
    let text = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    text.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}
