//! The way up for what happens: batches of events, each known to be durable before the next step is taken.

use carrel_domain::EventBody;
use tokio::sync::{mpsc, oneshot};

/// How many batches may wait to be stored. Then whoever has more to tell waits.
const WAITING_ENTRIES: usize = 64;

/// Takes events, in order. Clones write to the same journal.
#[derive(Debug, Clone)]
pub struct Journal {
    entries: mpsc::Sender<Entry>,
}

/// A batch of events that must be stored in one transaction, in this order.
#[derive(Debug)]
pub struct Entry {
    /// The events. Secrets have been taken out.
    pub bodies: Vec<EventBody>,
    /// To be sent once they are durable. Dropping it says that they never will be. The receiver may be gone: live
    /// output is not waited for.
    pub stored: oneshot::Sender<()>,
}

/// Whoever stored the events no longer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what the agent does can no longer be recorded; it stops until a worker takes it up again")]
pub struct JournalClosed;

impl Journal {
    /// A journal, and the end from which its entries are to be taken and stored.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<Entry>) {
        let (entries, receiver) = mpsc::channel(WAITING_ENTRIES);
        (Self { entries }, receiver)
    }

    /// Returns once the events are durable.
    ///
    /// # Errors
    /// When nobody stores them any more.
    pub async fn record(&self, bodies: Vec<EventBody>) -> Result<(), JournalClosed> {
        let (stored, durable) = oneshot::channel();
        self.entries.send(Entry { bodies, stored }).await.map_err(|_| JournalClosed)?;
        durable.await.map_err(|_| JournalClosed)
    }

    /// Hands the events over, in order, without waiting until they are durable; waits only while too many others wait.
    ///
    /// # Errors
    /// When nobody stores them any more.
    pub async fn send(&self, bodies: Vec<EventBody>) -> Result<(), JournalClosed> {
        let (stored, _) = oneshot::channel();
        self.entries.send(Entry { bodies, stored }).await.map_err(|_| JournalClosed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warning(message: &str) -> EventBody {
        EventBody::Warning { message: message.to_owned() }
    }

    #[tokio::test]
    async fn a_record_returns_only_once_it_is_durable() {
        let (journal, mut entries) = Journal::channel();
        let mut record = std::pin::pin!(journal.record(vec![warning("a")]));

        let entry = tokio::select! {
            biased;
            _ = &mut record => panic!("returned before anything was stored"),
            entry = entries.recv() => entry.expect("an entry"),
        };
        assert_eq!(entry.bodies, [warning("a")]);
        entry.stored.send(()).expect("somebody waits");

        assert_eq!(record.await, Ok(()));
    }

    #[tokio::test]
    async fn what_cannot_be_stored_is_an_error() {
        let (journal, mut entries) = Journal::channel();
        let storing = tokio::spawn(async move { drop(entries.recv().await) });

        assert_eq!(journal.record(vec![warning("a")]).await, Err(JournalClosed));
        storing.await.expect("no panic");
        assert_eq!(journal.send(vec![warning("b")]).await, Err(JournalClosed));
    }
}
