//! The way up for what happens: batches of events and files, each known to be durable before the next step is taken;
//! and the way back to what was recorded of earlier commands, and to what people say meanwhile.

use std::sync::{Arc, OnceLock};

use carrel_domain::{EventBody, MessageId};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};

/// How many batches may wait to be stored. Then whoever has more to tell waits.
const WAITING_ENTRIES: usize = 64;

/// Takes events, in order. Clones write to the same journal.
#[derive(Debug, Clone)]
pub struct Journal {
    entries: mpsc::Sender<Entry>,
    bell: Bell,
}

/// Tells an agent that a person has said something, or that it is to come to an end. Of the first it is only a bell: the
/// words are asked for by [`Entry::Messages`].
#[derive(Debug, Clone)]
pub struct Bell {
    rings: Arc<watch::Sender<bool>>,
    /// Why the agent is to sum up.
    closing: Arc<OnceLock<String>>,
}

/// What a person has said to the agent while it worked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Which message: whoever stores learns by [`EventBody::MessageDelivered`] that it was taken up.
    pub id: MessageId,
    /// What was said.
    pub text: String,
}

/// What is told, or asked back.
#[derive(Debug)]
pub enum Entry {
    /// Must be stored in one transaction, all of it or nothing.
    Store {
        /// The events, in this order. Secrets have been taken out.
        bodies: Vec<EventBody>,
        /// Files the attempt leaves, beside its patch. One of the same name again replaces the first.
        attachments: Vec<Attachment>,
        /// To be sent once all is durable. Dropping it says that it never will be. The receiver may be gone: live
        /// output is not waited for.
        stored: oneshot::Sender<()>,
    },
    /// What was recorded of the output of a command that this sandbox knows nothing of: one of an earlier turn, or of
    /// before the sandbox was made anew.
    Recall {
        /// The command's id in its events.
        command_id: String,
        /// Takes the text of its `command.output` events, the latest command of that id deciding; `None` when there is
        /// none.
        recalled: oneshot::Sender<Option<String>>,
    },
    /// All items that the conversation ever had, with the marks of where it was compacted.
    Conversation {
        /// Takes those of the attempts this one goes on from, and its own.
        items: oneshot::Sender<(Vec<Value>, Vec<Value>)>,
    },
    /// What people have said that was not told to be delivered, in order.
    Messages {
        /// Takes it.
        waiting: oneshot::Sender<Vec<Said>>,
    },
}

/// A file that an attempt leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Its name: letters, digits, `.`, `-`, `_` and the like, no folders.
    pub name: String,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// Whoever stored the events no longer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what the agent does can no longer be recorded; it stops until a worker takes it up again")]
pub struct JournalClosed;

impl Bell {
    /// Rings until what was said is asked for.
    pub fn ring(&self) {
        self.rings.send_replace(true);
    }

    /// Asks the agent to sum up and end, for this reason: it makes one more request at most. Asked again, the first reason
    /// stands. What it waits for in the sandbox is cut short.
    pub fn close(&self, reason: String) {
        if self.closing.set(reason).is_ok() {
            self.ring();
        }
    }

    /// Why the agent is to sum up, if it is.
    pub(crate) fn closing(&self) -> Option<&str> {
        self.closing.get().map(String::as_str)
    }

    /// Whether it rings.
    pub(crate) fn rings(&self) -> bool {
        *self.rings.borrow()
    }

    /// Returns once it rings.
    pub(crate) async fn rung(&self) {
        let mut rings = self.rings.subscribe();
        // The sender is held by this very value.
        let _held = rings.wait_for(|rings| *rings).await;
    }
}

impl Journal {
    /// A journal, and the end from which its entries are to be taken and stored.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<Entry>) {
        let (entries, receiver) = mpsc::channel(WAITING_ENTRIES);
        let bell = Bell { rings: Arc::new(watch::Sender::new(false)), closing: Arc::default() };
        (Self { entries, bell }, receiver)
    }

    /// What tells the agent that somebody has said something.
    #[must_use]
    pub fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// What people have said that was not yet told to be delivered, in order. Stops the bell.
    ///
    /// # Errors
    /// When nobody answers any more.
    pub(crate) async fn messages(&self) -> Result<Vec<Said>, JournalClosed> {
        // First: what is said from here on rings again.
        self.bell.rings.send_replace(false);
        let (waiting, said) = oneshot::channel();
        self.entries.send(Entry::Messages { waiting }).await.map_err(|_| JournalClosed)?;
        said.await.map_err(|_| JournalClosed)
    }

    /// Returns once the events are durable.
    ///
    /// # Errors
    /// When nobody stores them any more.
    pub async fn record(&self, bodies: Vec<EventBody>) -> Result<(), JournalClosed> {
        self.record_with(bodies, Vec::new()).await
    }

    /// Returns once the events and the files they tell of are durable.
    ///
    /// # Errors
    /// When nobody stores them any more.
    pub async fn record_with(&self, bodies: Vec<EventBody>, attachments: Vec<Attachment>) -> Result<(), JournalClosed> {
        let (stored, durable) = oneshot::channel();
        self.entries.send(Entry::Store { bodies, attachments, stored }).await.map_err(|_| JournalClosed)?;
        durable.await.map_err(|_| JournalClosed)
    }

    /// What was recorded of a command's output: see [`Entry::Recall`].
    ///
    /// # Errors
    /// When nobody answers any more.
    pub async fn recall(&self, command_id: String) -> Result<Option<String>, JournalClosed> {
        let (recalled, text) = oneshot::channel();
        self.entries.send(Entry::Recall { command_id, recalled }).await.map_err(|_| JournalClosed)?;
        text.await.map_err(|_| JournalClosed)
    }

    /// The conversation as it was recorded: see [`Entry::Conversation`].
    ///
    /// # Errors
    /// When nobody answers any more.
    pub(crate) async fn conversation(&self) -> Result<(Vec<Value>, Vec<Value>), JournalClosed> {
        let (items, recorded) = oneshot::channel();
        self.entries.send(Entry::Conversation { items }).await.map_err(|_| JournalClosed)?;
        recorded.await.map_err(|_| JournalClosed)
    }

    /// Hands the events over, in order, without waiting until they are durable; waits only while too many others wait.
    ///
    /// # Errors
    /// When nobody stores them any more.
    pub async fn send(&self, bodies: Vec<EventBody>) -> Result<(), JournalClosed> {
        let (stored, _) = oneshot::channel();
        self.entries.send(Entry::Store { bodies, attachments: Vec::new(), stored }).await.map_err(|_| JournalClosed)
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
        let Entry::Store { bodies, stored, .. } = entry else { panic!("nothing was asked") };
        assert_eq!(bodies, [warning("a")]);
        stored.send(()).expect("somebody waits");

        assert_eq!(record.await, Ok(()));
    }

    #[tokio::test]
    async fn what_is_recalled_comes_from_whoever_stores() {
        let (journal, mut entries) = Journal::channel();
        let storing = tokio::spawn(async move {
            while let Some(Entry::Recall { command_id, recalled }) = entries.recv().await {
                recalled.send((command_id == "call-1").then(|| "text".to_owned())).expect("somebody waits");
            }
        });

        assert_eq!(journal.recall("call-1".to_owned()).await, Ok(Some("text".to_owned())));
        assert_eq!(journal.recall("call-2".to_owned()).await, Ok(None));

        drop(journal);
        storing.await.expect("no panic");
    }

    #[tokio::test]
    async fn the_bell_rings_until_what_was_said_is_asked_for() {
        let (journal, mut entries) = Journal::channel();
        let bell = journal.bell();
        let said = Said { id: MessageId::from_uuid(uuid::Uuid::from_u128(1)), text: "faster".to_owned() };
        let answer = vec![said.clone()];
        let storing = tokio::spawn(async move {
            while let Some(Entry::Messages { waiting }) = entries.recv().await {
                waiting.send(answer.clone()).expect("somebody waits");
            }
        });
        bell.ring();
        bell.rung().await;

        assert_eq!(journal.messages().await, Ok(vec![said]));

        assert!(!bell.rings());
        drop(journal);
        storing.await.expect("no panic");
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
