//! Collecting the artifacts that nobody needs any more, a part at a time.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::Control;

/// How long until the next of 256 parts: with one process all of them are looked at in a bit over four hours, with more in
/// less.
const PART_EVERY: Duration = Duration::from_secs(60);

impl Control {
    /// Collects again and again until told to stop.
    pub(crate) async fn tend_artifacts(&self, stop: &CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PART_EVERY) => {}
            }
            let collected = tokio::select! {
                () = stop.cancelled() => return,
                collected = Box::pin(self.inner.store.collect_artifacts()) => collected,
            };
            match collected {
                Ok(0) => {}
                Ok(artifacts) => tracing::info!(artifacts, "removed the bytes of artifacts that nobody needs"),
                Err(error) => tracing::warn!(%error, "cannot look for artifacts that nobody needs"),
            }
        }
    }
}
