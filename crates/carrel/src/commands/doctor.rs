//! `carrel doctor`: what this machine offers, without the service and beside a running one. It makes a sandbox the way the
//! service does, in a folder of its own, and says of each thing how good it is and what to do about it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use carrel_domain::{Redactor, SandboxId};
use carrel_sandbox::{Command, Fact, FactState, SandboxError, SandboxSpec, Sandboxes};
use carrel_store::{ArtifactPlace, Role};
use carrel_wire::Me;
use serde::Serialize;
use tempfile::TempDir;
use uuid::Uuid;

use super::installation;
use crate::client::Client;
use crate::exit::Failure;
use crate::models;
use crate::output::{self, safe};
use crate::serve;
use crate::settings::Settings;

/// How long a program that is asked for its version may take.
const WITHIN: Duration = Duration::from_secs(10);

/// How often, and after how long each time, it is tried to remove what was tried in.
const REMOVE_TRIES: u32 = 100;
const REMOVE_WAIT: Duration = Duration::from_millis(20);

/// What was found.
#[derive(Serialize)]
struct Findings<'a> {
    /// What a process does that is started with these settings.
    role: &'static str,
    /// Whether sandboxes can be made here. Not tried where the role makes none.
    sandboxes: bool,
    /// Each thing that was looked at.
    facts: &'a [Fact],
}

/// What no service does anything without, beside sandboxes.
const NEEDED: [&str; 2] = ["database", "artifacts"];

/// Looks, and says what was found.
///
/// # Errors
/// When no sandbox can be made here, or something else is missing that the service cannot do without.
pub(crate) async fn doctor(settings: &Settings, json: bool) -> Result<(), Failure> {
    let (data, home) = data_folder(&settings.data);
    let works = settings.work.role.works();
    let tried = match &home {
        _ if !works => Ok(Vec::new()),
        Some(home) => try_sandboxes(settings, home.path()).await,
        None => Err("there is no folder to make one in".to_owned()),
    };
    let sandboxes = works && tried.is_ok();
    let found = match tried {
        Ok(facts) => facts,
        Err(reason) => vec![fact("sandboxes", FactState::Missing, reason, None)],
    };
    let mut facts = vec![role(settings)];
    facts.extend(found);
    facts.extend([
        data,
        database(settings).await,
        artifacts(settings, home.as_ref().map(TempDir::path)).await,
        git(settings, home.as_ref().map(TempDir::path)).await,
        service(settings).await,
        model(settings),
    ]);
    if let Some(home) = &home {
        take_away(home.path()).await;
    }
    let is_lacking = |fact: &&Fact| fact.state == FactState::Missing && NEEDED.contains(&fact.name.as_str());
    let lacking: Vec<&str> = facts.iter().filter(is_lacking).map(|fact| fact.name.as_str()).collect();
    if json {
        output::document(&Findings { role: settings.work.role.word(), sandboxes, facts: &facts })?;
    } else {
        let mut verdict = match (works, sandboxes) {
            (false, _) => "sandboxes are not needed here",
            (true, true) => "sandboxes can be made here",
            (true, false) => "sandboxes cannot be made here",
        }
        .to_owned();
        if !lacking.is_empty() {
            verdict.push_str(&format!("; without {} the service does no work", lacking.join(" and ")));
        }
        output::text(&shown(&facts, &verdict))?;
    }
    if (sandboxes || !works) && lacking.is_empty() { Ok(()) } else { Err(Failure::exit(1)) }
}

/// What a process does that is started with these settings.
fn role(settings: &Settings) -> Fact {
    let words = match settings.work.role {
        Role::All => "all: serves people and programs, and works",
        Role::Api => "api: serves people and programs, and makes no sandboxes",
        Role::Worker => "worker: works, and serves only /healthz, /readyz and /metrics",
    };
    match settings.check_role() {
        Ok(()) => fact("role", FactState::Ok, words, None),
        Err(error) => fact("role", FactState::Missing, error.to_string(), None),
    }
}

fn fact(name: &str, state: FactState, words: impl Into<String>, advice: Option<&str>) -> Fact {
    Fact { name: name.to_owned(), state, words: words.into(), advice: advice.map(str::to_owned) }
}

/// What is known of the data folder, and a folder on the same disk, which is its own or, before the first start, what
/// there is above it, to try things in.
fn data_folder(data: &Path) -> (Fact, Option<TempDir>) {
    let there = data.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    let (shown, is_there) = (data.display(), there == data);
    // Sandboxes live in folders that only their user may enter, and so does this one's.
    let made =
        tempfile::Builder::new().prefix(".carrel-doctor-").permissions(Permissions::from_mode(0o700)).tempdir_in(there);
    match made {
        Ok(home) => {
            let how = if is_there { "can be written to" } else { "will be made when the service is first started" };
            (fact("data folder", FactState::Ok, format!("{shown} {how}"), None), Some(home))
        }
        Err(error) => {
            let words = format!("{shown} cannot be written to: {error}");
            let advice = "run as the user of the service, or set CARREL_DATA to a folder of your own";
            // Whether sandboxes can be made here is worth knowing all the same.
            (fact("data folder", FactState::Missing, words, Some(advice)), tempfile::tempdir().ok())
        }
    }
}

/// Removes a folder in which sandboxes were: what they leave is cleared away in the background, and gets in the way of
/// whoever removes the same files.
async fn take_away(folder: &Path) {
    for _ in 0..REMOVE_TRIES {
        match tokio::fs::remove_dir_all(folder).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => tokio::time::sleep(REMOVE_WAIT).await,
            _ => return,
        }
    }
    tracing::warn!(folder = %folder.display(), "the folder that was tried in could not be removed");
}

/// Makes a sandbox, runs a program in it, and takes it away: what the machine offers sandboxes, or why there are none.
async fn try_sandboxes(settings: &Settings, home: &Path) -> Result<Vec<Fact>, String> {
    let words = |error: SandboxError| serve::with_causes(&error);
    let options = serve::sandbox_options(settings, home.join("sandboxes"));
    let sandboxes = Sandboxes::open(options).await.map_err(words)?;
    let id = SandboxId::from_uuid(Uuid::now_v7());
    let worked = try_one(&sandboxes, id).await;
    sandboxes.destroy(id).await.map_err(words)?;
    worked.map_err(words)?;
    let mut facts = vec![fact("sandboxes", FactState::Ok, "one was made, and a program ran in it", None)];
    facts.extend(sandboxes.facts());
    facts.push(kit(settings, &sandboxes, home).await);
    Ok(facts)
}

/// Makes the tool kit, and runs it.
async fn kit(settings: &Settings, sandboxes: &Sandboxes, home: &Path) -> Fact {
    let name = "tool kit";
    match serve::open_kits(settings, home.join("kits")).kit(sandboxes).await {
        Ok(kit) => {
            let words = format!("git, bash and {} MB in all for images without them", kit.size_bytes() / 1_000_000);
            fact(name, FactState::Ok, words, None)
        }
        Err(error) => {
            let advice = "install git and bash (apt-get install git bash), or use images that have them";
            fact(name, FactState::Degraded, serve::with_causes(&error), Some(advice))
        }
    }
}

async fn try_one(sandboxes: &Sandboxes, id: SandboxId) -> Result<(), SandboxError> {
    let sandbox = sandboxes.launch(SandboxSpec::new(id)).await?;
    let command = Command::new("doctor", ["bash", "-lc", "exit 0"]).directory("/").time_limit(WITHIN);
    let finished = sandbox.run(command).await?;
    if finished.status.is_success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&finished.output).into_owned();
    Err(SandboxError::Unsupported(format!(
        "bash does not run in a sandbox: it ended with {:?} {said}",
        finished.status
    )))
}

/// The database that the settings name, and how far its schema is.
async fn database(settings: &Settings) -> Fact {
    let name = "database";
    let place = match installation::place(settings) {
        Ok(place) => place,
        Err(failure) => return fact(name, FactState::Missing, failure.message(), None),
    };
    let kind = if place.postgres.is_some() { "PostgreSQL" } else { "SQLite, in the data folder" };
    match tokio::time::timeout(WITHIN, carrel_store::schema(&place)).await {
        Ok(Ok(Some(schema))) if schema.missing.is_empty() => {
            fact(name, FactState::Ok, format!("{kind}; its schema is up to date"), None)
        }
        Ok(Ok(Some(schema))) if !schema.made.is_empty() => {
            let words = format!("{kind}; its schema lacks {}", schema.missing.join(", "));
            let advice = "`carrel migrate`, or the next start of the service, brings it forward";
            fact(name, FactState::Degraded, words, Some(advice))
        }
        Ok(Ok(_)) => {
            fact(name, FactState::Ok, format!("{kind}; the service makes its schema when it is started"), None)
        }
        Ok(Err(error)) => fact(name, FactState::Missing, serve::with_causes(&error), None),
        Err(_) => fact(name, FactState::Missing, format!("{kind}; it does not answer"), None),
    }
}

/// Whether results can be kept where the settings say.
async fn artifacts(settings: &Settings, home: Option<&Path>) -> Fact {
    let name = "artifacts";
    let place = match installation::place(settings) {
        Ok(place) => place,
        Err(failure) => return fact(name, FactState::Missing, failure.message(), None),
    };
    let shown = place.artifacts.to_string();
    let Some(home) = home.filter(|_| !matches!(place.artifacts, ArtifactPlace::DataFolder)) else {
        return fact(name, FactState::Ok, shown, None);
    };
    match place.try_artifacts(home.join("artifacts")).await {
        Ok(()) => fact(name, FactState::Ok, format!("{shown}; a small one was kept"), None),
        Err(error) => fact(name, FactState::Missing, serve::with_causes(&error), None),
    }
}

async fn git(settings: &Settings, home: Option<&Path>) -> Fact {
    let advice = Some("install git 2.39 or newer (apt-get install git)");
    let asked = tokio::process::Command::new("git").arg("--version").stdin(Stdio::null()).kill_on_drop(true).output();
    let version = match tokio::time::timeout(WITHIN, asked).await {
        Ok(Ok(told)) => String::from_utf8_lossy(&told.stdout).trim().to_owned(),
        Ok(Err(error)) => return fact("git", FactState::Missing, format!("git cannot be started: {error}"), advice),
        Err(_) => return fact("git", FactState::Missing, "`git --version` does not end", advice),
    };
    // What is too old is for the one to say who uses it.
    let usable = home.map(|home| serve::open_forge(settings, home.join("mirrors"), &Redactor::default()));
    match usable {
        Some(Err(failure)) => fact("git", FactState::Missing, failure.message(), advice),
        Some(Ok(_)) | None => fact("git", FactState::Ok, version, None),
    }
}

async fn service(settings: &Settings) -> Fact {
    let name = "service";
    let asked = async { Client::find(settings)?.get::<Me>("me").await };
    match tokio::time::timeout(WITHIN, asked).await {
        Ok(Ok(me)) if me.version == env!("CARGO_PKG_VERSION") => {
            fact(name, FactState::Ok, format!("it runs, and answers as version {}", me.version), None)
        }
        Ok(Ok(me)) => {
            let words = format!("it runs as version {}, and this program is {}", me.version, env!("CARGO_PKG_VERSION"));
            fact(name, FactState::Degraded, words, Some("start the service again with the new program"))
        }
        Ok(Err(failure)) => fact(name, FactState::Missing, failure.message(), None),
        Err(_) => fact(name, FactState::Missing, "it does not answer", Some("look at the service's log")),
    }
}

fn model(settings: &Settings) -> Fact {
    match models::load(&settings.models) {
        Ok(configured) => match configured.words() {
            Some(words) => fact("model", FactState::Ok, format!("{words}; none was asked for anything"), None),
            None => {
                let advice = "set CARREL_MODEL_URL (such as https://api.openai.com/v1), CARREL_MODEL_KEY and CARREL_MODEL, \
                              or CARREL_MODELS_FILE; `carrel demo` works without";
                fact("model", FactState::Missing, "none is configured in this environment", Some(advice))
            }
        },
        Err(failure) => fact("model", FactState::Missing, failure.message(), Some("see docs/models.md")),
    }
}

/// The findings for people, with the verdict at the end.
fn shown(facts: &[Fact], verdict: &str) -> String {
    let width = facts.iter().map(|fact| fact.name.chars().count()).max().unwrap_or_default();
    let mut text = String::new();
    for fact in facts {
        let (word, colour) = match fact.state {
            FactState::Ok => ("ok", AnsiColor::Green),
            FactState::Degraded => ("degraded", AnsiColor::Yellow),
            FactState::Missing => ("missing", AnsiColor::Red),
        };
        let style = Style::new().fg_color(Some(colour.into()));
        text.push_str(&format!("{style}{word:<8}{style:#}  {:<width$}  {}\n", safe(&fact.name), safe(&fact.words)));
        if let Some(advice) = &fact.advice {
            text.push_str(&format!("{:8}  {:width$}  to do: {}\n", "", "", safe(advice)));
        }
    }
    text.push_str(&format!("\n{verdict}\n"));
    text
}
