//! `carrel demo`: a small repository with a failing test, a recorded conversation of a model, and everything else real:
//! the model's wire, the sandbox, the commands, the patch, the log.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anstyle::Style;
use carrel_agent::{ModelEndpoint, PatchTool, Reasoning};
use carrel_domain::Secret;
use carrel_testkit::model::{Script, ScriptedModel};
use carrel_wire::{AttemptLimits, CreateTask, Mode, Priority, Task};
use uuid::Uuid;

use crate::client::Client;
use crate::commands::watch;
use crate::exit::Failure;
use crate::output;
use crate::serve::Service;
use crate::settings::Settings;

/// The name under which tasks are given to the recorded model.
pub(crate) const DEMO_MODEL: &str = "recorded-demo";

const PROMPT: &str = "Fix the failing test of this thermostat.";

const FILES: [(&str, &str, u32); 4] = [
    ("README.md", include_str!("../demo/repository/README.md"), 0o644),
    ("AGENTS.md", include_str!("../demo/repository/AGENTS.md"), 0o644),
    ("temperature.sh", include_str!("../demo/repository/temperature.sh"), 0o755),
    ("test.sh", include_str!("../demo/repository/test.sh"), 0o755),
];

/// The recorded model, served over the real wire on the loopback, behind a key of its own.
pub(crate) struct RecordedModel {
    server: ScriptedModel,
    key: Secret,
}

impl RecordedModel {
    pub(crate) async fn start() -> Result<Self, Failure> {
        let key = Uuid::new_v4().to_string();
        let script = Script::from_json(include_str!("../demo/recording.json"))
            .map_err(|error| Failure::service(format!("the recording cannot be read: {error}")))?;
        let server = ScriptedModel::start(script.key(key.as_str()))
            .await
            .map_err(|error| Failure::service(format!("cannot serve the recorded model: {error}")))?;
        Ok(Self { server, key: Secret::new(key) })
    }

    pub(crate) fn endpoint(&self) -> ModelEndpoint {
        ModelEndpoint {
            patch_tool: PatchTool::Freeform,
            reasoning: Reasoning::On { effort: None },
            ..ModelEndpoint::new(DEMO_MODEL, self.server.url(), Some(self.key.clone()))
        }
    }
}

/// Plays the demo in the running service, or in one that is started for it.
pub(crate) async fn demo(settings: Settings, json: bool) -> Result<(), Failure> {
    if settings.remote.is_some() {
        return Err(Failure::usage("the demo needs a service on this machine; unset CARREL_URL"));
    }
    let running = match Client::find(&settings) {
        Ok(client) if client.is_there().await => Some(client),
        _ => None,
    };
    match running {
        Some(client) => play(&client, &settings, json).await,
        None => {
            let quiet = Settings {
                listen: Some(([127, 0, 0, 1], 0).into()),
                public_url: None,
                log: "warn".to_owned(),
                ..settings.clone()
            };
            let service = Service::start(quiet).await?;
            let client = Client::at(service.url.clone(), service.token.clone(), true)?;
            let played = play(&client, &settings, json).await;
            service.stop().await?;
            played
        }
    }
}

async fn play(client: &Client, settings: &Settings, json: bool) -> Result<(), Failure> {
    let folder = settings.data.join("demo").join("thermostat");
    make_repository(&folder)?;
    let bold = Style::new().bold();
    if !json {
        output::line(&format!(
            "{bold}The model of this demo is recorded.{bold:#} Everything else is real: the wire to it, the sandbox, the commands, \
             the patch, the log.\nFor a real model start the service with CARREL_MODEL_URL, CARREL_MODEL_KEY and CARREL_MODEL set.\n\
             The repository: {}\n",
            folder.display()
        ))?;
    }
    let request = CreateTask {
        repository: folder.to_string_lossy().into_owned(),
        branch: None,
        commit: None,
        mode: Mode::Code,
        prompt: PROMPT.to_owned(),
        attempts: Some(1),
        environment: None,
        model: Some(DEMO_MODEL.to_owned()),
        effort: None,
        agent: None,
        attachments: Vec::new(),
        local_changes: None,
        limits: AttemptLimits::default(),
        priority: Priority::Normal,
    };
    let task: Task = client.post("tasks", &request).await?;
    watch(client, task.id, 0, json).await?;
    if json {
        return Ok(());
    }
    let task: Task = client.get(&format!("tasks/{}", task.id)).await?;
    output::line(&format!("\n{}", output::task(&task)))?;
    let attempt = task.turns.first().and_then(|turn| turn.attempts.first());
    if let Some(attempt) =
        attempt.filter(|attempt| attempt.result.as_ref().is_some_and(|result| result.patch.is_some()))
    {
        let patch = client.bytes(&format!("attempts/{}/patch", attempt.id)).await?;
        output::line("\nThe patch:\n")?;
        output::line(&output::safe(&String::from_utf8_lossy(&patch)))?;
    }
    Ok(())
}

/// Makes the sample repository, unless it is there.
fn make_repository(folder: &Path) -> Result<(), Failure> {
    if folder.join(".git").join("HEAD").exists() {
        return Ok(());
    }
    let failed = |error: std::io::Error| {
        Failure::service(format!("cannot make the sample repository in {}: {error}", folder.display()))
    };
    fs::create_dir_all(folder).map_err(failed)?;
    for (name, text, mode) in FILES {
        use std::os::unix::fs::PermissionsExt;
        let path: PathBuf = folder.join(name);
        fs::write(&path, text)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
            .map_err(failed)?;
    }
    for arguments in [
        &["init", "--quiet", "--initial-branch=main", "."] as &[&str],
        &["add", "--all"],
        &[
            "-c",
            "user.name=Carrel",
            "-c",
            "user.email=carrel@localhost",
            "-c",
            "commit.gpgsign=false",
            "commit",
            "--quiet",
            "--no-verify",
            "-m",
            "Convert temperatures",
        ],
    ] {
        let status =
            Command::new("git").args(arguments).current_dir(folder).stdin(Stdio::null()).status().map_err(failed)?;
        if !status.success() {
            return Err(Failure::service(format!("git {} failed in {}", arguments[0], folder.display())));
        }
    }
    Ok(())
}
