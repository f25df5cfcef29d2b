//! Running: the agent works. Everything it tells is stored before it goes on, and what was stored is what it goes on
//! from when its worker died.

use std::time::Duration;

use carrel_agent::{AgentContext, AgentError, AgentTask, Bell, Entry, Given, Journal, Limit, Said};
use carrel_domain::repository_facts::RepositoryFacts;
use carrel_domain::{AttemptId, AttemptState, BranchName, NewEvent, Revision};
use carrel_egress::ModelDoor;
use carrel_store::{KeptDiff, StoreError};
use serde_json::Value;
use tokio::sync::mpsc;

use super::setup::{self, attachments};
use super::spending::{self, Allowed};
use super::{Halt, Scene, Step, limits};
use super::{door, network};
use crate::metrics::Tally;
use crate::{Agent, steer};

/// How many entries of the journal are stored in one transaction at most.
const BATCH: usize = 64;

/// What an agent is asked that goes on with the conversation of an attempt that ended early.
const RESUME: &str = "Your work on the request above was cut off. Go on with it from where you were. The files are as you \
                      left them; commands that ran then have been ended.";

pub(super) async fn run(scene: &Scene<'_>) -> Result<Step, Halt> {
    let inner = &scene.control.inner;
    let endpoint = inner
        .models
        .get(&scene.attempt.model)
        .ok_or_else(|| Halt::failed(format!("the model `{}` is no longer configured", scene.attempt.model)))?
        .endpoint
        .clone()
        .with_effort(scene.attempt.effort.as_deref());
    let endpoint = &endpoint;
    let recipe = scene.recipe().await?;
    let (sandbox, (branch, facts)) = tokio::join!(setup::attach(scene, &recipe), facts(scene));
    let sandbox = sandbox?;
    let allowed = Allowed::of(scene, &recipe.limits);
    let task = AgentTask { branch, facts, ..describe(scene, allowed).await? };
    if task.resumed.is_empty() {
        spending::admit(scene).await?;
        spending::warn_of_what_is_not_counted(scene, endpoint, allowed).await?;
    }
    let (journal, entries) = Journal::channel();
    let (changes, bell) = (scene.store().changes(), journal.bell());
    spending::watch(&spending::budgets(scene).await?, &bell);
    if !scene.store().waiting_messages(scene.attempt).await?.is_empty() {
        bell.ring();
    }
    // The journal goes with the agent's end, and the storing ends with it. Where storing fails, the agent finds its
    // journal closed and ends too.
    let place = &sandbox;
    let guest = guest(scene)?;
    let (model, asked) = ModelDoor::new();
    let model = guest.map(|_| model);
    let agent = async move {
        let context = AgentContext {
            endpoint,
            client: &inner.client,
            sandbox: place,
            journal: &journal,
            redactor: &inner.redactor,
            cancel: scene.cancel.clone(),
        };
        match guest {
            Some(guest) => door::run(guest, task, asked, &context).await,
            None => carrel_agent::run(task, &context).await,
        }
    };
    let work = Box::pin(async { tokio::join!(agent, store_entries(scene, entries, allowed, &bell)) });
    let work = Box::pin(limits::during(scene, &sandbox, &recipe.limits, work));
    let work = Box::pin(network::during_with_model(scene, &sandbox, &recipe.package_hosts, model, work));
    let (outcome, stored) = tokio::select! {
        biased;
        done = work => done??,
        never = steer::ring(scene.store(), changes, scene.attempt, &bell) => match never {},
    };
    stored?;
    match outcome {
        Ok(finished) => Ok(Step::to(AttemptState::Collecting { answer: finished.answer, notes: finished.notes })),
        Err(AgentError::Cancelled) => Err(Halt::Cancelled),
        Err(AgentError::ContextFull { reason }) => Err(Halt::Failed { reason, retryable: false }),
        Err(AgentError::Model { reason, retryable }) => Err(Halt::Failed { reason, retryable }),
        Err(AgentError::Limit(limit)) => Err(allowed.halt(limit)),
        Err(AgentError::Sandbox { action, source }) => {
            Err(Halt::Failed { reason: format!("the sandbox could not {action}: {source}"), retryable: true })
        }
        Err(error @ AgentError::Journal(_)) => Err(Halt::Around(error.to_string())),
    }
}

/// The agent that runs in the sandbox, if one does.
fn guest<'a>(scene: &Scene<'a>) -> Result<Option<&'a Agent>, Halt> {
    let Some(name) = &scene.attempt.agent else { return Ok(None) };
    let found = scene.control.inner.agents.get(name);
    found
        .map(Some)
        .ok_or_else(|| Halt::failed(format!("the agent `{name}` is no longer configured: see CARREL_AGENTS_FILE")))
}

/// What the mirror says of the commit the attempt starts from: the same whenever it is asked, and in milliseconds.
/// And the name of the branch it was taken from, if it was one.
async fn facts(scene: &Scene<'_>) -> (Option<BranchName>, Option<RepositoryFacts>) {
    let mirror = scene.control.inner.forge.mirror(scene.thread.task.repository_id);
    let branch = match &scene.thread.task.revision {
        // A mirror that cannot say it is no reason to end.
        revision @ Revision::DefaultBranch => mirror.resolve(revision).await.ok().and_then(|found| found.branch),
        Revision::Branch(_) | Revision::Commit(_) => scene.branch(),
    };
    match &scene.attempt.base {
        Some(base) => (branch, Some(mirror.facts(base).await)),
        None => (branch, None),
    }
}

async fn describe(scene: &Scene<'_>, allowed: Allowed<'_>) -> Result<AgentTask, Halt> {
    let attempt = scene.attempt;
    let base = attempt.base.clone().ok_or_else(|| Halt::failed("the attempt has no base commit"))?;
    let resumed = scene.store().conversation(attempt.organization, attempt.id).await?;
    let shown = scene.store().shown_output(attempt.organization, attempt.id).await?;
    let diffs = scene.store().prompt_diffs(attempt.organization, scene.turn.id).await?;
    Ok(AgentTask {
        prompt: prompt(scene),
        given: given(scene, &diffs).await?,
        missing: missing(diffs),
        mode: scene.turn.mode,
        workspace: scene.workspace(),
        base,
        branch: None,
        facts: None,
        network: scene.environment.spec.agent_network.clone(),
        history: history(scene).await?,
        resumed,
        cut_off: scene.store().items_cut_off(attempt.organization, attempt.id).await?,
        shown,
        started_patch: scene.store().started_patch(attempt.organization, attempt.id).await?,
        cache_key: scene.task().to_string(),
        spent: scene.store().spent(attempt).await?,
        limits: allowed.agent(time_left(scene, allowed)?),
    })
}

/// What the agent is asked: the turn's prompt; or, where it goes on with what it was doing, that it is to. Why it ended is
/// not repeated: those may be words of the sandbox, and these are a person's.
fn prompt(scene: &Scene<'_>) -> String {
    let resumed = scene.attempt.retry.filter(|retry| retry.resumes);
    match resumed {
        None => scene.turn.prompt.clone(),
        Some(_) => RESUME.to_owned(),
    }
}

/// The files that came with the turn. Those of earlier turns are in the conversation.
async fn given(scene: &Scene<'_>, diffs: &[KeptDiff]) -> Result<Vec<Given>, Halt> {
    let mut given = Vec::new();
    for one in attachments::so_far(scene).await?.into_iter().filter(|one| one.turn == scene.turn.id) {
        let is_image = one.attachment.media_type.is_some();
        let image = if is_image { Some(scene.store().artifact_bytes(&one.artifact).await?) } else { None };
        given.push(Given {
            path: format!("{}/{}", carrel_domain::attachment::FOLDER, one.attachment.name),
            size_bytes: one.attachment.size_bytes,
            image,
            origin: diffs
                .iter()
                .find(|diff| diff.attachment == Some(one.attachment.id))
                .map(|diff| diff.source.clone()),
        });
    }
    Ok(given)
}

/// The diffs that the prompt names and that could not be had.
fn missing(diffs: Vec<KeptDiff>) -> Vec<(String, String)> {
    diffs.into_iter().filter_map(|diff| Some((diff.source, diff.problem?))).collect()
}

/// How much of its time the attempt still has, however often its worker was another.
fn time_left(scene: &Scene<'_>, allowed: Allowed<'_>) -> Result<Duration, Halt> {
    let wall_clock = allowed.wall_clock();
    let since = scene.attempt.started_at.unwrap_or(scene.attempt.created_at);
    let gone = Duration::try_from(scene.control.inner.clock.now().duration_since(since)).unwrap_or_default();
    let left = wall_clock.saturating_sub(gone);
    if left.is_zero() { Err(allowed.halt(Limit::WallClock { wall_clock })) } else { Ok(left) }
}

/// The conversations of the attempts this one goes on from, the oldest first.
async fn history(scene: &Scene<'_>) -> Result<Vec<Value>, StoreError> {
    let mut items = Vec::new();
    for id in earlier(scene).into_iter().rev() {
        items.extend(scene.store().conversation(scene.attempt.organization, id).await?);
    }
    if scene.attempt.agent.is_none() {
        items.retain(|item| !carrel_agent::is_of_a_guest(item));
    }
    Ok(items)
}

/// The attempts this one goes on from, the latest first.
fn earlier(scene: &Scene<'_>) -> Vec<AttemptId> {
    let mut chain: Vec<AttemptId> = Vec::new();
    let mut from = scene.goes_on_from();
    while let Some(id) = from.filter(|id| !chain.contains(id)) {
        chain.push(id);
        from = scene.thread.attempt(id).and_then(|(turn, attempt)| attempt.goes_on_from(turn));
    }
    chain
}

/// What the log has of a command's output: of this attempt, or of the latest before it that ran a command of that id.
async fn recall(scene: &Scene<'_>, command_id: &str) -> Result<Option<String>, StoreError> {
    for attempt in std::iter::once(scene.attempt.id).chain(earlier(scene)) {
        let text = scene.store().command_output(scene.attempt.organization, attempt, command_id).await?;
        if text.is_some() {
            return Ok(text);
        }
    }
    Ok(None)
}

/// Stores what the agent tells, several entries in one transaction when they come fast.
async fn store_entries(
    scene: &Scene<'_>,
    mut entries: mpsc::Receiver<Entry>,
    allowed: Allowed<'_>,
    bell: &Bell,
) -> Result<(), StoreError> {
    let mut batch = Vec::with_capacity(BATCH);
    while entries.recv_many(&mut batch, BATCH).await > 0 {
        let mut waiting = Vec::with_capacity(batch.len());
        let mut events = Vec::with_capacity(batch.len());
        let (mut files, mut questions) = (Vec::new(), Vec::new());
        let (mut readers, mut listeners) = (Vec::new(), Vec::new());
        for entry in batch.drain(..) {
            match entry {
                Entry::Store { bodies, attachments, stored } => {
                    let bodies = bodies.into_iter().map(|body| allowed.told(body));
                    events.extend(bodies.map(|body| NewEvent { attempt: Some(scene.attempt.id), body }));
                    files.extend(attachments.into_iter().map(|file| (file.name, file.bytes)));
                    waiting.push(stored);
                }
                Entry::Recall { command_id, recalled } => questions.push((command_id, recalled)),
                Entry::Conversation { items } => readers.push(items),
                Entry::Messages { waiting } => listeners.push(waiting),
            }
        }
        if !events.is_empty() {
            let tally = Tally::of(&events);
            let budgets = scene.store().append_with_files(scene.attempt, events, files).await?;
            scene.control.metrics().add(&scene.attempt.model, tally);
            spending::watch(&budgets, bell);
        }
        for stored in waiting {
            // Live output is not waited for: then nobody listens.
            let _nobody = stored.send(());
        }
        for (command_id, recalled) in questions {
            // Whoever asked may have been cancelled.
            let _nobody = recalled.send(recall(scene, &command_id).await?);
        }
        for items in readers {
            let own = scene.store().conversation(scene.attempt.organization, scene.attempt.id).await?;
            let _nobody = items.send((history(scene).await?, own));
        }
        for waiting in listeners {
            let said = scene.store().waiting_messages(scene.attempt).await?;
            let said = said.into_iter().map(|message| Said { id: message.id, text: message.text }).collect();
            let _nobody = waiting.send(said);
        }
    }
    Ok(())
}
