//! `carrel task push`: asks for a publication and waits until the remote has said yes or no.

use std::time::Duration;

use carrel_wire::{CreatePublication, Publication, PublicationState, Task};
use uuid::Uuid;

use super::choose;
use crate::cli::Which;
use crate::client::Client;
use crate::exit::Failure;
use crate::output;

/// How often the publication is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A push may take as long as git gives it, and some tries.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

pub(super) async fn push(
    client: &Client,
    id: Uuid,
    which: Which,
    branch: String,
    message: Option<String>,
    json: bool,
) -> Result<(), Failure> {
    let task: Task = client.get(&format!("tasks/{id}")).await?;
    let attempt = choose(&task, which)?.id;
    let request = CreatePublication { branch, message };
    let asked: Publication = client.post(&format!("attempts/{attempt}/publications"), &request).await?;
    let publication = ended(client, id, asked).await?;
    if json {
        output::document(&publication)?;
    } else {
        output::line(&output::publication_line(&publication))?;
    }
    match publication.state {
        PublicationState::Pushed => Ok(()),
        PublicationState::Failed if publication.failure.as_ref().is_some_and(|failure| failure.retryable) => {
            Err(Failure::work("the branch was not pushed; the same command tries again"))
        }
        PublicationState::Failed => Err(Failure::work("the branch was not pushed; settle what the reason says first")),
        PublicationState::Requested | PublicationState::Committed => {
            Err(Failure::work("the branch is still being pushed; `carrel task show` tells how it goes on"))
        }
    }
}

async fn ended(client: &Client, task: Uuid, asked: Publication) -> Result<Publication, Failure> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut publication = asked;
    while matches!(publication.state, PublicationState::Requested | PublicationState::Committed)
        && tokio::time::Instant::now() < deadline
    {
        tokio::time::sleep(LOOK_EVERY).await;
        let task: Task = client.get(&format!("tasks/{task}")).await?;
        let mut all = task.turns.into_iter().flat_map(|turn| turn.attempts).flat_map(|attempt| attempt.publications);
        publication = all.find(|one| one.id == publication.id).unwrap_or(publication);
    }
    Ok(publication)
}
