//! What it takes to prepare a sandbox and to work in it, be it for an attempt or for somebody who tries an environment.

use std::time::Instant;

use carrel_domain::{
    Attempt, Environment, EventBody, NewEvent, OrganizationId, Recipe, RepositoryId, RepositoryLocation, SandboxId,
};
use carrel_store::Store;
use tokio::sync::mpsc;

use super::Halt;
use crate::Control;
use crate::metrics::Tally;

/// A sandbox that is prepared and worked in, and what for.
pub(crate) struct Site<'a> {
    pub(crate) control: &'a Control,
    /// The state, in the hands of whoever works here.
    pub(crate) store: &'a Store,
    pub(crate) organization: OrganizationId,
    /// The environment, at the version that counts here.
    pub(crate) environment: &'a Environment,
    pub(crate) repository_id: RepositoryId,
    pub(crate) repository: &'a RepositoryLocation,
    /// The sandbox itself.
    pub(crate) sandbox: SandboxId,
    /// The sandbox in which a snapshot is built, if there is none yet.
    pub(crate) builder: SandboxId,
    pub(crate) listener: Listener<'a>,
}

/// Who is told what happens.
pub(crate) enum Listener<'a> {
    /// Everybody who may see the attempt, by its task's log.
    Log(&'a Attempt),
    /// The one who looks on. Nothing of it is kept.
    Viewer(mpsc::Sender<EventBody>),
}

impl Site<'_> {
    pub(crate) fn store(&self) -> &Store {
        self.store
    }

    /// The folder of the repository in the sandbox.
    pub(crate) fn workspace(&self) -> String {
        format!("/workspace/{}", self.repository.name())
    }

    /// The agent that is to run in it, by its name, if one is.
    pub(crate) fn guest(&self) -> Option<&str> {
        match &self.listener {
            Listener::Log(attempt) => attempt.agent.as_deref(),
            Listener::Viewer(_) => None,
        }
    }

    pub(crate) async fn tell(&self, body: EventBody) -> Result<(), Halt> {
        self.tell_all(vec![body]).await
    }

    pub(crate) async fn tell_all(&self, bodies: Vec<EventBody>) -> Result<(), Halt> {
        if bodies.is_empty() {
            return Ok(());
        }
        match &self.listener {
            Listener::Log(attempt) => {
                let events = bodies.into_iter().map(|body| NewEvent { attempt: Some(attempt.id), body });
                let events: Vec<_> = events.collect();
                let tally = Tally::of(&events);
                self.store().append(self.organization, attempt.task, events).await?;
                self.control.metrics().add(&attempt.model, tally);
            }
            Listener::Viewer(viewer) => {
                for body in bodies {
                    // One who has gone is noticed by whoever serves the terminal.
                    let _gone = viewer.send(body).await;
                }
            }
        }
        Ok(())
    }

    pub(crate) async fn progress(&self, message: String, since: Instant) -> Result<(), Halt> {
        let duration_ms = u64::try_from(since.elapsed().as_millis()).ok();
        self.tell(EventBody::Progress { message, duration_ms }).await
    }

    /// Writes down what the sandbox is made of. A try is over when its process is, so there is nothing to write down.
    pub(crate) async fn pin(&self, recipe: &Recipe) -> Result<(), Halt> {
        match &self.listener {
            Listener::Log(attempt) => Ok(self.store().pin_recipe(attempt, recipe).await?),
            Listener::Viewer(_) => Ok(()),
        }
    }
}
