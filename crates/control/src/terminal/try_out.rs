//! Trying an environment: a sandbox is prepared as it would be for an attempt, whoever looks on is told what happens, and
//! then it is theirs. It ends with the terminal; one that the service left behind is removed at its next start.

use std::future::Future;

use carrel_agent::for_people;
use carrel_domain::{
    Environment, EnvironmentName, EventBody, OrganizationId, Recipe, Redactor, RepositoryId, RepositoryLocation,
    SandboxId,
};
use carrel_egress::Phase;
use carrel_sandbox::{Sandbox, TerminalSize};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::shell::{End, Shell};
use super::{LAST_WORD_WITHIN, TerminalOutput, Viewer, words};
use crate::attempt::{Halt, Listener, Site, limits, network, setup};
use crate::{Control, ControlError};

/// Events that may wait for the one who looks on.
const EVENTS: usize = 64;

/// An environment to try, and on what.
pub(super) struct TryOut {
    environment: Environment,
    repository_id: RepositoryId,
    repository: RepositoryLocation,
}

impl TryOut {
    /// What is meant by these names.
    pub(super) async fn find(
        control: &Control,
        organization: OrganizationId,
        name: &EnvironmentName,
        repository: Option<RepositoryLocation>,
    ) -> Result<Self, ControlError> {
        let environment = control.inner.store.environment(organization, name).await?;
        let repository = match repository {
            Some(repository) if environment.spec.covers(&repository) => repository,
            Some(repository) => {
                return Err(ControlError::invalid(
                    "repository",
                    format!(
                        "the environment `{name}` is not for `{repository}`; add it with `carrel environment edit {name} \
                         --repository {repository}`"
                    ),
                ));
            }
            None => environment.spec.repositories.first().cloned().ok_or_else(|| {
                ControlError::invalid(
                    "repository",
                    format!("the environment `{name}` is for any repository; name the one to try it on (--repository)"),
                )
            })?,
        };
        let repository_id = control.inner.store.know_repository(organization, &repository).await?;
        Ok(Self { environment, repository_id, repository })
    }

    /// Prepares the sandbox, serves a shell in it, and takes it away.
    pub(super) async fn run(
        &self,
        control: &Control,
        who: &str,
        size: Option<TerminalSize>,
        viewer: &mut Viewer,
    ) -> End {
        let name = &self.environment.name;
        // A try is no attempt and has no log of its own; who had a shell where is on record all the same.
        tracing::info!(environment = %name, repository = %self.repository, %who, "an environment is being tried");
        let [sandbox, builder] = [(); 2].map(|()| SandboxId::from_uuid(Uuid::now_v7()));
        let (listener, told) = mpsc::channel(EVENTS);
        let site = Site {
            control,
            store: &control.inner.store,
            organization: self.environment.organization,
            environment: &self.environment,
            repository_id: self.repository_id,
            repository: &self.repository,
            sandbox,
            builder,
            listener: Listener::Viewer(listener),
        };
        let output = viewer.output.clone();
        let work = Box::pin(work(&site, size, viewer));
        let told = Told { told, output, redactor: &control.inner.redactor };
        let end = told.during(work).await;
        for id in [sandbox, builder] {
            if let Err(error) = control.inner.sandboxes.destroy(id).await {
                tracing::warn!(sandbox = %id, %error, "the sandbox of a try could not be removed; the next start tries again");
            }
        }
        tracing::info!(environment = %name, %who, "the try has ended");
        end
    }
}

async fn work(site: &Site<'_>, size: Option<TerminalSize>, viewer: &mut Viewer) -> End {
    // What is typed meanwhile stays where it is until the shell takes it; only that the viewer has gone is looked for.
    let gone = viewer.output.clone();
    let prepared = tokio::select! {
        prepared = Box::pin(setup::try_out(site)) => prepared,
        () = gone.closed() => return End::Left,
    };
    drop(gone);
    let served = match prepared {
        Ok((sandbox, recipe)) => Box::pin(serve(site, &sandbox, &recipe, size, viewer)).await,
        Err(halt) => Err(halt),
    };
    match served {
        Ok(end) => end,
        Err(Halt::Failed { reason, .. } | Halt::NoRoom { reason } | Halt::Lost { reason } | Halt::Around(reason)) => {
            End::Failed(reason)
        }
        Err(Halt::Cancelled | Halt::PassedOn) => End::Left,
    }
}

/// Serves the shell with the network and the limits that an agent would have.
async fn serve(
    site: &Site<'_>,
    sandbox: &Sandbox,
    recipe: &Recipe,
    size: Option<TerminalSize>,
    viewer: &mut Viewer,
) -> Result<End, Halt> {
    let shell = Shell::start(sandbox, &site.workspace(), size).await?;
    let served = Box::pin(limits::during(site, sandbox, &recipe.limits, shell.serve(viewer)));
    let served = Box::pin(network::during(site, sandbox, Phase::Agent, &recipe.package_hosts, served)).await??;
    Ok(served.unwrap_or_else(|| End::Failed("its sandbox was ended from outside".to_owned())))
}

/// What is told, on its way to the one who looks on.
struct Told<'a> {
    told: mpsc::Receiver<EventBody>,
    output: mpsc::Sender<TerminalOutput>,
    redactor: &'a Redactor,
}

impl Told<'_> {
    /// Does the work and shows what is told meanwhile.
    async fn during(mut self, work: impl Future<Output = End>) -> End {
        let show = async {
            while let Some(body) = self.told.recv().await {
                self.show(body).await;
            }
            std::future::pending().await
        };
        let end = tokio::select! {
            end = work => end,
            never = show => never,
        };
        // What was told last often says why it ended.
        while let Ok(body) = self.told.try_recv() {
            self.show(body).await;
        }
        end
    }

    async fn show(&self, body: EventBody) {
        if let Some(text) = words::of(&for_people(body, self.redactor)) {
            // One who has gone, or does not look, is noticed by the work.
            let _unseen = tokio::time::timeout(LAST_WORD_WITHIN, self.output.send(TerminalOutput::Told(text))).await;
        }
    }
}
