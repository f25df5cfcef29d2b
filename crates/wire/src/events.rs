//! Entries of a task's log, as pages of JSON and as server-sent events.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// One entry of a task's log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Its place in the log: 1, 2, 3, … without gaps.
    pub seq: i64,
    /// When it was stored.
    pub at: Timestamp,
    /// The attempt it is about; null when it is about the task.
    pub attempt_id: Option<Uuid>,
    /// What kind of event it is. New kinds may be added: pass over those you do not know.
    #[serde(rename = "type")]
    #[schema(example = "command.started")]
    pub kind: String,
    /// What happened; its shape follows from `type`. Fields may be added.
    #[schema(value_type = Object)]
    pub data: serde_json::Value,
}

impl From<carrel_domain::Event> for Event {
    fn from(event: carrel_domain::Event) -> Self {
        let kind = event.body.kind().to_owned();
        let data = match serde_json::to_value(&event.body) {
            Ok(serde_json::Value::Object(mut fields)) => fields.remove("data").unwrap_or_default(),
            // An event body is plain data with string keys: it always becomes an object.
            Ok(_) | Err(_) => serde_json::Value::Null,
        };
        Self {
            seq: event.seq,
            at: event.at,
            attempt_id: event.attempt.map(carrel_domain::AttemptId::as_uuid),
            kind,
            data,
        }
    }
}

/// A page of a task's log, oldest first.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct EventPage {
    /// The events.
    pub items: Vec<Event>,
    /// Give this as `after` to get the next page; null when the log has no more for now.
    pub next: Option<i64>,
}

#[cfg(test)]
mod tests {
    use carrel_domain::{EventBody, OrganizationId, TaskId};

    use super::*;

    #[test]
    fn an_event_crosses_as_type_and_data() {
        let event = carrel_domain::Event {
            organization: OrganizationId::from_uuid(Uuid::nil()),
            task: TaskId::from_uuid(Uuid::nil()),
            seq: 3,
            at: Timestamp::UNIX_EPOCH,
            attempt: None,
            body: EventBody::AgentMessage { text: "hello".to_owned() },
        };

        assert_eq!(
            serde_json::to_value(Event::from(event)).expect("plain data"),
            serde_json::json!({
                "seq": 3, "at": "1970-01-01T00:00:00Z", "attempt_id": null,
                "type": "agent.message", "data": {"text": "hello"},
            })
        );
    }
}
