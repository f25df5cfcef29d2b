//! Running: the agent works. Everything it tells is stored before it goes on, and what was stored is what it goes on
//! from when its worker died.

use std::time::Duration;

use carrel_agent::{AgentContext, AgentError, AgentLimits, AgentTask, Entry, Given, Journal, Limit, Said};
use carrel_domain::{AttemptId, AttemptState, NewEvent, ResourceLimits};
use carrel_egress::Phase;
use carrel_sandbox::{Sandbox, SandboxError};
use carrel_store::StoreError;
use serde_json::Value;
use tokio::sync::mpsc;

use super::network;
use super::raise::Raise;
use super::setup::attachments;
use super::{Halt, Scene, Step, limits};
use crate::steer;

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
    let sandbox = attach(scene).await?;
    let recipe = scene.recipe().await?;
    let task = describe(scene, &recipe.limits).await?;
    let (journal, entries) = Journal::channel();
    let (changes, bell) = (scene.store().changes(), journal.bell());
    if !scene.store().waiting_messages(scene.attempt).await?.is_empty() {
        bell.ring();
    }
    // The journal goes with the agent's end, and the storing ends with it. Where storing fails, the agent finds its
    // journal closed and ends too.
    let place = &sandbox;
    let agent = async move {
        let context = AgentContext {
            endpoint,
            client: &inner.client,
            sandbox: place,
            journal: &journal,
            redactor: &inner.redactor,
            cancel: scene.cancel.clone(),
        };
        carrel_agent::run(task, &context).await
    };
    let raise = Raise { environment: scene.environment, limits: &recipe.limits };
    let work = Box::pin(async { tokio::join!(agent, store_entries(scene, entries, raise)) });
    let work = Box::pin(limits::during(scene, &sandbox, &recipe.limits, work));
    let work = Box::pin(network::during(scene, &sandbox, Phase::Agent, &recipe.package_hosts, work));
    let (outcome, stored) = tokio::select! {
        biased;
        done = work => done??,
        never = steer::ring(changes, scene.attempt, &bell) => match never {},
    };
    stored?;
    match outcome {
        Ok(finished) => Ok(Step::to(AttemptState::Collecting { answer: finished.answer, notes: finished.notes })),
        Err(AgentError::Cancelled) => Err(Halt::Cancelled),
        Err(AgentError::ContextFull { reason }) => Err(Halt::Failed { reason, retryable: false }),
        Err(AgentError::Model { reason, retryable }) => Err(Halt::Failed { reason, retryable }),
        // The agent was given what was left; a person set the whole.
        Err(AgentError::Limit(Limit::WallClock { .. })) => Err(out_of_time(scene, &recipe.limits)),
        Err(error @ AgentError::Limit(_)) => Err(Halt::failed(error)),
        Err(AgentError::Sandbox { action, source }) => {
            Err(Halt::Failed { reason: format!("the sandbox could not {action}: {source}"), retryable: true })
        }
        Err(error @ AgentError::Journal(_)) => Err(Halt::Around(error.to_string())),
    }
}

async fn attach(scene: &Scene<'_>) -> Result<Sandbox, Halt> {
    match scene.control.inner.sandboxes.attach(scene.attempt.id.sandbox()).await {
        Ok(sandbox) => Ok(sandbox),
        Err(SandboxError::Gone(_)) => Err(Halt::Failed {
            reason: "the sandbox is gone: the machine was restarted, or the sandbox was ended from outside".to_owned(),
            retryable: true,
        }),
        Err(error) => Err(error.into()),
    }
}

async fn describe(scene: &Scene<'_>, bounds: &ResourceLimits) -> Result<AgentTask, Halt> {
    let attempt = scene.attempt;
    let base = attempt.base.clone().ok_or_else(|| Halt::failed("the attempt has no base commit"))?;
    let resumed = scene.store().conversation(attempt.organization, attempt.id).await?;
    let shown = scene.store().shown_output(attempt.organization, attempt.id).await?;
    Ok(AgentTask {
        prompt: prompt(scene),
        given: given(scene).await?,
        mode: scene.turn.mode,
        workspace: scene.workspace(),
        base,
        branch: scene.branch(),
        network: scene.environment.spec.agent_network.clone(),
        history: history(scene).await?,
        resumed,
        sandbox_kept_running: true,
        shown,
        cache_key: scene.task().to_string(),
        spent: scene.store().spent(attempt).await?,
        limits: AgentLimits {
            wall_clock: time_left(scene, bounds)?,
            output_bytes: bounds.output_bytes,
            ..scene.control.inner.limits.agent
        },
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
async fn given(scene: &Scene<'_>) -> Result<Vec<Given>, Halt> {
    let mut given = Vec::new();
    for one in attachments::so_far(scene).await?.into_iter().filter(|one| one.turn == scene.turn.id) {
        let is_image = one.attachment.media_type.is_some();
        let image = if is_image { Some(tokio::fs::read(&one.path).await.map_err(StoreError::from)?) } else { None };
        given.push(Given {
            path: format!("{}/{}", carrel_domain::attachment::FOLDER, one.attachment.name),
            size_bytes: one.attachment.size_bytes,
            image,
        });
    }
    Ok(given)
}

/// How much of its time the attempt still has, however often its worker was another.
fn time_left(scene: &Scene<'_>, bounds: &ResourceLimits) -> Result<Duration, Halt> {
    let limit = wall_clock(scene, bounds.wall_clock_s);
    let since = scene.attempt.started_at.unwrap_or(scene.attempt.created_at);
    let gone = Duration::try_from(scene.control.inner.clock.now().duration_since(since)).unwrap_or_default();
    let left = limit.saturating_sub(gone);
    if left.is_zero() { Err(out_of_time(scene, bounds)) } else { Ok(left) }
}

/// How long the attempt may take: what the environment says, and never more than the installation allows.
fn wall_clock(scene: &Scene<'_>, wall_clock_s: Option<u32>) -> Duration {
    let installation = scene.control.inner.limits.agent.wall_clock;
    wall_clock_s.map_or(installation, |seconds| installation.min(Duration::from_secs(seconds.into())))
}

fn out_of_time(scene: &Scene<'_>, bounds: &ResourceLimits) -> Halt {
    let wall_clock = wall_clock(scene, bounds.wall_clock_s);
    let raise = Raise { environment: scene.environment, limits: bounds };
    let installation = scene.control.inner.limits.agent.wall_clock;
    Halt::failed(AgentError::Limit(Limit::WallClock { wall_clock })).with_way_out(&raise.of_wall_clock(installation))
}

/// The conversations of the attempts this one goes on from, the oldest first.
async fn history(scene: &Scene<'_>) -> Result<Vec<Value>, StoreError> {
    let mut items = Vec::new();
    for id in earlier(scene).into_iter().rev() {
        items.extend(scene.store().conversation(scene.attempt.organization, id).await?);
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
    raise: Raise<'_>,
) -> Result<(), StoreError> {
    // What was spent before a worker died is in the log.
    let mut usage = scene.store().spent(scene.attempt).await?;
    let mut batch = Vec::with_capacity(BATCH);
    while entries.recv_many(&mut batch, BATCH).await > 0 {
        let mut waiting = Vec::with_capacity(batch.len());
        let mut events = Vec::with_capacity(batch.len());
        let (mut files, mut questions) = (Vec::new(), Vec::new());
        let (mut readers, mut listeners) = (Vec::new(), Vec::new());
        for entry in batch.drain(..) {
            match entry {
                Entry::Store { bodies, attachments, stored } => {
                    let bodies = bodies.into_iter().map(|body| raise.told(body));
                    events.extend(bodies.map(|body| NewEvent { attempt: Some(scene.attempt.id), body }));
                    files.extend(attachments.into_iter().map(|file| (file.name, file.bytes)));
                    waiting.push(stored);
                }
                Entry::Recall { command_id, recalled } => questions.push((command_id, recalled)),
                Entry::Conversation { items } => readers.push(items),
                Entry::Messages { waiting } => listeners.push(waiting),
            }
        }
        let spent = events.iter().filter_map(|event| event.body.cost()).fold(usage, |mut sum, one| {
            sum += one;
            sum
        });
        if !events.is_empty() {
            scene.store().append_with_files(scene.attempt, events, files).await?;
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
        if spent != usage {
            usage = spent;
            scene.store().set_usage(scene.attempt, usage).await?;
        }
    }
    Ok(())
}
