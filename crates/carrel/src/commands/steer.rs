//! `carrel task steer`: something said to the attempts of a task that are under way.

use carrel_wire::{Attempt, Message, SendMessage, Task};
use serde_json::json;
use uuid::Uuid;

use super::{has_ended, prompt};
use crate::client::Client;
use crate::exit::Failure;
use crate::output;

/// Says it to every attempt of the last turn that has not ended, or to the one that is meant.
pub(crate) async fn steer(
    client: &Client,
    id: Uuid,
    text: String,
    number: Option<u32>,
    json: bool,
) -> Result<(), Failure> {
    let request = SendMessage { text: prompt(text)? };
    let task: Task = client.get(&format!("tasks/{id}")).await?;
    let attempts = task.turns.last().map(|turn| turn.attempts.as_slice()).unwrap_or_default();
    let mut sent: Vec<Message> = Vec::new();
    for attempt in meant(attempts, number)? {
        sent.push(client.post(&format!("attempts/{}/messages", attempt.id), &request).await?);
    }
    if json {
        return output::document(&json!({ "items": sent }));
    }
    let whom = if sent.len() == 1 { "it".to_owned() } else { format!("each of the {} attempts", sent.len()) };
    output::line(&format!("sent; the log says when {whom} was told: `carrel task watch {id}`"))
}

/// The attempts that are meant. Where all have ended, the last one: the service says why it hears nothing.
fn meant(attempts: &[Attempt], number: Option<u32>) -> Result<Vec<&Attempt>, Failure> {
    if let Some(number) = number {
        let found = attempts.iter().find(|attempt| attempt.number == number);
        let none = || Failure::usage(format!("the last turn has attempts 1 to {}", attempts.len()));
        return Ok(vec![found.ok_or_else(none)?]);
    }
    let under_way: Vec<&Attempt> = attempts.iter().filter(|attempt| !has_ended(attempt.state)).collect();
    Ok(if under_way.is_empty() { attempts.last().into_iter().collect() } else { under_way })
}
