//! The commands. All but two make requests of the public API and print what comes back: `doctor` looks at this machine,
//! `installation` at the data itself.

mod apply;
mod artifacts;
mod attach;
mod budget;
mod compare;
mod doctor;
mod environment;
mod installation;
mod local_changes;
mod push;
mod retry;
mod steer;
mod terminal;
mod watch;
mod workers;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use carrel_domain::Prompt;
use carrel_domain::prompt::InvalidPrompt;
use carrel_wire::{AgentList, Attempt, AttemptState, CreateTask, CreateTurn, ModelList, OwnerLink, Task, TaskPage};
use serde_json::json;
use uuid::Uuid;

use crate::cli::{CreateArguments, FollowUpArguments, TaskCommand, Which};
use crate::client::Client;
use crate::exit::Failure;
use crate::output;
use crate::settings::Settings;

pub(crate) use budget::budget;
pub(crate) use doctor::doctor;
pub(crate) use environment::environment;
pub(crate) use installation::installation;
pub(crate) use watch::watch;
pub(crate) use workers::workers;

/// How long `cancel` waits for the attempts to be gone.
const CANCEL_PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn owner_link(settings: &Settings, json: bool) -> Result<(), Failure> {
    let link: OwnerLink = Client::find(settings)?.post("owner-links", &json!({})).await?;
    if json { output::document(&link) } else { output::line(&link.url) }
}

pub(crate) async fn agents(settings: &Settings, json: bool) -> Result<(), Failure> {
    let list: AgentList = Client::find(settings)?.get("agents").await?;
    if json { output::document(&list) } else { output::line(&output::agents(&list)) }
}

pub(crate) async fn models(settings: &Settings, json: bool) -> Result<(), Failure> {
    let list: ModelList = Client::find(settings)?.get("models").await?;
    if json { output::document(&list) } else { output::line(&output::models(&list)) }
}

pub(crate) async fn task(command: TaskCommand, settings: &Settings, json: bool) -> Result<(), Failure> {
    let client = Client::find(settings)?;
    match command {
        TaskCommand::Create(arguments) => create(&client, arguments, json).await,
        TaskCommand::List { limit } => list(&client, limit, json).await,
        TaskCommand::Show { id } => show(&client, id, json).await,
        TaskCommand::Watch { id, after } => watch(&client, id, after, json).await,
        TaskCommand::Diff { id, which } => diff(&client, id, which, json).await,
        TaskCommand::Artifacts { id, output, which } => artifacts::artifacts(&client, id, which, output, json).await,
        TaskCommand::Apply { id, which } => apply::apply(&client, id, which, json).await,
        TaskCommand::FollowUp(arguments) => follow_up(&client, arguments, json).await,
        TaskCommand::Compare { id, turn } => compare::compare(&client, id, turn, json).await,
        TaskCommand::Steer { id, text, attempt } => steer::steer(&client, id, text, attempt, json).await,
        TaskCommand::Retry(arguments) => retry::retry(&client, arguments, json).await,
        TaskCommand::Shell { id, attempt } => terminal::in_attempt(&client, id, attempt).await,
        TaskCommand::Cancel { id, attempt } => cancel(&client, id, attempt, json).await,
        TaskCommand::Push { id, branch, message, which } => push::push(&client, id, which, branch, message, json).await,
    }
}

async fn create(client: &Client, arguments: CreateArguments, json: bool) -> Result<(), Failure> {
    if arguments.prompt == "-" && arguments.local_changes.local_changes.as_deref() == Some(Path::new("-")) {
        return Err(Failure::usage("standard input is either the prompt or the patch; give one of them as a file"));
    }
    let repository = location(client, &arguments.repository)?;
    let local = local_changes::send(client, &arguments.local_changes, &repository).await?;
    let request = CreateTask {
        repository,
        branch: arguments.branch,
        commit: local.commit.or(arguments.commit),
        mode: arguments.mode.into(),
        prompt: prompt(arguments.prompt)?,
        attempts: Some(arguments.attempts),
        environment: arguments.environment,
        model: arguments.model,
        effort: arguments.effort,
        agent: arguments.agent,
        attachments: attach::attach(client, &arguments.files).await?,
        local_changes: local.patch,
        limits: arguments.limits.into(),
        priority: arguments.priority.into(),
    };
    let task: Task = client.post("tasks", &request).await?;
    if !json {
        budget::warn(client, task.created_by).await?;
    }
    if arguments.watch {
        return watch(client, task.id, 0, json).await;
    }
    if json {
        return output::document(&task);
    }
    output::line(&format!("{}\nfollow it with `carrel task watch {}`", output::task(&task), task.id))
}

async fn follow_up(client: &Client, arguments: FollowUpArguments, json: bool) -> Result<(), Failure> {
    let before: Task = client.get(&format!("tasks/{}", arguments.id)).await?;
    let from = match arguments.from_attempt {
        Some(number) => Some(choose(&before, Which { attempt: Some(number), turn: None })?.id),
        None => None,
    };
    let request = CreateTurn {
        prompt: prompt(arguments.prompt)?,
        mode: arguments.mode.map(Into::into),
        attempts: Some(arguments.attempts),
        from_attempt_id: from,
        model: arguments.model,
        effort: arguments.effort,
        agent: arguments.agent,
        attachments: attach::attach(client, &arguments.files).await?,
        limits: arguments.limits.into(),
    };
    let task: Task = client.post(&format!("tasks/{}/turns", arguments.id), &request).await?;
    if arguments.watch {
        return watch(client, task.id, before.last_seq, json).await;
    }
    if json { output::document(&task) } else { output::line(&output::task(&task)) }
}

async fn list(client: &Client, limit: u32, json: bool) -> Result<(), Failure> {
    let page: TaskPage = client.get(&format!("tasks?limit={limit}")).await?;
    if json { output::document(&page) } else { output::line(&output::tasks(&page)) }
}

async fn show(client: &Client, id: Uuid, json: bool) -> Result<(), Failure> {
    let task: Task = client.get(&format!("tasks/{id}")).await?;
    if json { output::document(&task) } else { output::line(&output::task(&task)) }
}

async fn diff(client: &Client, id: Uuid, which: Which, json: bool) -> Result<(), Failure> {
    let task: Task = client.get(&format!("tasks/{id}")).await?;
    let attempt = choose(&task, which)?;
    let patch = patch_of(client, attempt).await?;
    if json {
        let text = String::from_utf8_lossy(&patch);
        return output::document(
            &json!({ "attempt_id": attempt.id, "base_commit": attempt.base_commit, "patch": text }),
        );
    }
    output::patch(&patch)
}

async fn cancel(client: &Client, id: Uuid, number: Option<u32>, json: bool) -> Result<(), Failure> {
    let task: Task = client.get(&format!("tasks/{id}")).await?;
    let attempts = task.turns.last().map(|turn| turn.attempts.as_slice()).unwrap_or_default();
    let wanted: Vec<&Attempt> = attempts
        .iter()
        .filter(|attempt| number.is_none_or(|number| attempt.number == number) && !has_ended(attempt.state))
        .collect();
    for attempt in &wanted {
        let _as_it_stands: Attempt = client.post(&format!("attempts/{}/cancel", attempt.id), &json!({})).await?;
    }
    let task = ended(client, id, &wanted.iter().map(|attempt| attempt.id).collect::<Vec<_>>()).await?;
    if json {
        return output::document(&task);
    }
    let mut all = task.turns.iter().flat_map(|turn| &turn.attempts);
    if all.any(|attempt| wanted.iter().any(|one| one.id == attempt.id) && !has_ended(attempt.state)) {
        return Err(Failure::work("the attempts are still being stopped; `carrel task show` tells when they are"));
    }
    if wanted.is_empty() {
        return output::line("there is nothing to stop: the attempts have ended already");
    }
    output::line(&output::task(&task))
}

/// The task, once these attempts have ended, or as it is when patience runs out.
async fn ended(client: &Client, id: Uuid, attempts: &[Uuid]) -> Result<Task, Failure> {
    let deadline = tokio::time::Instant::now() + CANCEL_PATIENCE;
    loop {
        let task: Task = client.get(&format!("tasks/{id}")).await?;
        let mut all = task.turns.iter().flat_map(|turn| &turn.attempts);
        let done = !all.any(|attempt| attempts.contains(&attempt.id) && !has_ended(attempt.state));
        if done || tokio::time::Instant::now() > deadline {
            return Ok(task);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) const fn has_ended(state: AttemptState) -> bool {
    matches!(state, AttemptState::Ready | AttemptState::Failed | AttemptState::Cancelled)
}

/// The attempt that is meant: by turn and number, or the first ready one of the last turn.
fn choose(task: &Task, which: Which) -> Result<&Attempt, Failure> {
    let turn = match which.turn {
        Some(number) => task.turns.iter().find(|turn| turn.number == number),
        None => task.turns.last(),
    };
    let turn = turn.ok_or_else(|| Failure::usage(format!("the task has turns 1 to {}", task.turns.len())))?;
    let chosen = match which.attempt {
        Some(number) => turn.attempts.iter().find(|attempt| attempt.number == number),
        None => turn
            .attempts
            .iter()
            .find(|attempt| attempt.result.as_ref().is_some_and(|result| result.patch.is_some()))
            .or_else(|| turn.attempts.first()),
    };
    chosen.ok_or_else(|| Failure::usage(format!("turn {} has attempts 1 to {}", turn.number, turn.attempts.len())))
}

/// The attempt's patch; none is a failure that says why.
async fn patch_of(client: &Client, attempt: &Attempt) -> Result<Vec<u8>, Failure> {
    match (&attempt.result, &attempt.failure) {
        (Some(result), _) if result.patch.is_some() => client.bytes(&format!("attempts/{}/patch", attempt.id)).await,
        (Some(_), _) => Err(Failure::work("the attempt has changed nothing, so there is no patch")),
        (None, Some(failure)) => {
            Err(Failure::work(format!("the attempt has no patch, it failed: {}", output::safe(&failure.reason))))
        }
        (None, None) => {
            let word = output::attempt_word(attempt.state);
            Err(Failure::work(format!("the attempt has no patch: it is {word}")))
        }
    }
}

fn prompt(argument: String) -> Result<String, Failure> {
    let text = if argument == "-" { from_standard_input()? } else { argument };
    // The service says what is wrong with a prompt; one that is far too long would not even reach it.
    match Prompt::parse(&text) {
        Err(error @ InvalidPrompt::TooLong { .. }) => Err(Failure::refused_here(error.to_string())),
        _ => Ok(text),
    }
}

fn from_standard_input() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| Failure::usage(format!("cannot read the prompt from standard input: {error}")))?;
    Ok(text)
}

/// What the service is to fetch from: a path of this machine is made absolute, for the service stands elsewhere; `.` and
/// what lies inside a checkout mean the checkout. Everything else goes as it is, and the service says what it thinks of it.
fn location(client: &Client, text: &str) -> Result<String, Failure> {
    let path = Path::new(text);
    if !client.is_local || text.is_empty() || text.contains("://") || (!path.exists() && text.contains(':')) {
        return Ok(text.to_owned());
    }
    let absolute = path
        .canonicalize()
        .map_err(|error| Failure::usage(format!("there is no repository at `{}`: {error}", output::safe(text))))?;
    let checkout: PathBuf =
        absolute.ancestors().find(|folder| folder.join(".git").exists()).unwrap_or(&absolute).to_owned();
    checkout
        .into_os_string()
        .into_string()
        .map_err(|_| Failure::usage("the repository's path is not UTF-8; rename it, or use a link"))
}
