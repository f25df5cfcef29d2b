//! What people say to attempts that work: stored before it is answered, delivered exactly once.
//!
//! A message waits until the transaction that stores its item of the conversation says that it was delivered. An attempt
//! cannot be said to be done while one waits, and none is taken once it is.

use carrel_domain::message::MAX_WAITING;
use carrel_domain::{
    Attempt, AttemptId, AttemptState, EventBody, Message, MessageId, NewEvent, OrganizationId, UserId,
};

use crate::database::{Row, StoreError, Transaction, time};
use crate::error::AT_ITS_END;
use crate::{Change, Store, attempts, events, fresh};

const COLUMNS: &str = "id, attempt_id, body, created_by, created_at, delivered_at";

impl Store {
    /// Takes a message for an attempt, with the event that tells of it.
    ///
    /// # Errors
    /// [`StoreError::TooLate`] when the attempt hears nothing any more, [`StoreError::TooManyMessages`] when as many wait
    /// as may; nothing is stored then. When this organization has no such attempt.
    pub async fn send_message(
        &self,
        organization: OrganizationId,
        id: AttemptId,
        text: &str,
        by: UserId,
    ) -> Result<Message, StoreError> {
        let transaction = self.write(self.scope_of(organization, id).await?).await?;
        let attempt = attempts::find(&transaction, organization, id).await?;
        if attempt.cancel_requested_by.is_some() || !attempt.state.hears() {
            let state = if attempt.state.has_ended() { attempt.state.word() } else { AT_ITS_END };
            return Err(StoreError::TooLate { state });
        }
        if count_waiting(&transaction, &attempt).await? >= i64::from(MAX_WAITING) {
            return Err(StoreError::TooManyMessages { most: MAX_WAITING });
        }
        let message = Message {
            id: MessageId::from_uuid(fresh()),
            attempt: id,
            text: self.shared.redactor.redact(text).into_owned(),
            created_by: by,
            created_at: self.now(),
            delivered_at: None,
        };
        transaction
            .run(
                "insert into message (id, organization_id, attempt_id, body, created_by, created_at)
                 values ($1, $2, $3, $4, $5, $6)",
                [
                    message.id.as_uuid().into(),
                    organization.as_uuid().into(),
                    id.as_uuid().into(),
                    message.text.as_str().into(),
                    by.as_uuid().into(),
                    time(message.created_at),
                ],
            )
            .await?;
        let body = EventBody::MessageSent { message_id: message.id, text: message.text.clone() };
        let event = NewEvent { attempt: Some(id), body };
        let last_seq = events::append(self, &transaction, organization, attempt.task, &[event]).await?;
        transaction.commit().await?;
        self.shared.changes.ring(Change::MessageSent(id));
        self.shared.changes.ring(Change::Log { organization, task: attempt.task, last_seq });
        Ok(message)
    }

    /// The messages that wait for an attempt's agent, in the order they were sent.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn waiting_messages(&self, attempt: &Attempt) -> Result<Vec<Message>, StoreError> {
        let rows = self
            .database
            .all(
                &format!(
                    "select {COLUMNS} from message
                     where attempt_id = $1 and organization_id = $2 and delivered_at is null order by id"
                ),
                [attempt.id.as_uuid().into(), attempt.organization.as_uuid().into()],
            )
            .await?;
        rows.iter().map(message).collect()
    }
}

/// Writes down that an attempt's agent was told a message.
pub(crate) async fn deliver(
    store: &Store,
    transaction: &Transaction,
    attempt: &Attempt,
    id: MessageId,
) -> Result<(), StoreError> {
    let changed = transaction
        .run(
            "update message set delivered_at = $4
             where id = $1 and organization_id = $2 and attempt_id = $3 and delivered_at is null",
            [
                id.as_uuid().into(),
                attempt.organization.as_uuid().into(),
                attempt.id.as_uuid().into(),
                time(store.now()),
            ],
        )
        .await?;
    // Told twice is worse than told again: whoever delivers reads anew what waits.
    if changed == 1 { Ok(()) } else { Err(StoreError::Conflict { noun: "message" }) }
}

/// What has to be said of the messages that an attempt has not heard when it goes into its next state. An agent that is
/// done while one waits is not done, unless that was the last it could say.
pub(crate) async fn unheard(transaction: &Transaction, moved: &Attempt) -> Result<Option<EventBody>, StoreError> {
    if moved.state.hears() {
        return Ok(None);
    }
    let waiting = count_waiting(transaction, moved).await?;
    if waiting == 0 {
        return Ok(None);
    }
    let what = if waiting == 1 { "a message was".to_owned() } else { format!("{waiting} messages were") };
    let why = match &moved.state {
        AttemptState::Collecting { notes, .. } => match &notes.last_word {
            Some(why) => format!("{why}; say it in a follow-up"),
            None => return Err(StoreError::Conflict { noun: "attempt" }),
        },
        // Told when it came to its answer.
        AttemptState::Ready(_) => return Ok(None),
        _ => "the attempt ended before its agent took another step; a retry of it is told".to_owned(),
    };
    Ok(Some(EventBody::Warning { message: format!("{what} not delivered: {why}") }))
}

/// Gives what one attempt has not heard to the one that makes it again.
pub(crate) async fn pass_on(transaction: &Transaction, from: &Attempt, to: AttemptId) -> Result<(), StoreError> {
    transaction
        .run(
            "update message set attempt_id = $3
             where attempt_id = $1 and organization_id = $2 and delivered_at is null",
            [from.id.as_uuid().into(), from.organization.as_uuid().into(), to.as_uuid().into()],
        )
        .await
        .map(drop)
}

async fn count_waiting(transaction: &Transaction, attempt: &Attempt) -> Result<i64, StoreError> {
    let row = transaction
        .one(
            "select count(*) as waiting from message
             where attempt_id = $1 and organization_id = $2 and delivered_at is null",
            [attempt.id.as_uuid().into(), attempt.organization.as_uuid().into()],
        )
        .await?;
    row.map_or(Ok(0), |row| row.get("waiting"))
}

fn message(row: &Row) -> Result<Message, StoreError> {
    Ok(Message {
        id: row.id("id", MessageId::from_uuid)?,
        attempt: row.id("attempt_id", AttemptId::from_uuid)?,
        text: row.get("body")?,
        created_by: row.id("created_by", UserId::from_uuid)?,
        created_at: row.time("created_at")?,
        delivered_at: row.maybe_time("delivered_at")?,
    })
}
