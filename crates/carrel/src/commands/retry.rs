//! `carrel task retry`: attempts that ended without a result are made again.

use carrel_wire::{Attempt, AttemptState, RetryAttempt, Task};

use super::watch;
use crate::cli::RetryArguments;
use crate::client::Client;
use crate::exit::Failure;
use crate::output;

/// Makes every attempt of the last turn that failed or was stopped again, or the one that is meant.
pub(crate) async fn retry(client: &Client, arguments: RetryArguments, json: bool) -> Result<(), Failure> {
    let id = arguments.id;
    let before: Task = client.get(&format!("tasks/{id}")).await?;
    let attempts = before.turns.last().map(|turn| turn.attempts.as_slice()).unwrap_or_default();
    let request = RetryAttempt {
        resume: arguments.resume,
        latest_environment: arguments.latest_environment,
        limits: arguments.limits.into(),
    };
    for attempt in meant(attempts, arguments.attempt)? {
        let _queued: Attempt = client.post(&format!("attempts/{}/retry", attempt.id), &request).await?;
    }
    if arguments.watch {
        return watch(client, id, before.last_seq, json).await;
    }
    let task: Task = client.get(&format!("tasks/{id}")).await?;
    if json { output::document(&task) } else { output::line(&output::task(&task)) }
}

/// The attempts that are meant. Where none ended without a result, the last one: the service says why not.
fn meant(attempts: &[Attempt], number: Option<u32>) -> Result<Vec<&Attempt>, Failure> {
    if let Some(number) = number {
        let found = attempts.iter().find(|attempt| attempt.number == number);
        let none = || Failure::usage(format!("the last turn has attempts 1 to {}", attempts.len()));
        return Ok(vec![found.ok_or_else(none)?]);
    }
    let was_made_again = |id| attempts.iter().any(|other| other.retry_of == Some(id));
    let without_result = attempts.iter().filter(|attempt| {
        matches!(attempt.state, AttemptState::Failed | AttemptState::Cancelled) && !was_made_again(attempt.id)
    });
    let without_result: Vec<&Attempt> = without_result.collect();
    Ok(if without_result.is_empty() { attempts.last().into_iter().collect() } else { without_result })
}
