//! The world a test of the whole product stands in: the real program as a process, its data in a folder of its own, a
//! scripted model on the real wire, and repositories made by the real git.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::model::{Script, ScriptedModel};
use crate::repository::Repository;

/// The key the scripted model wants: a canary, which must be found nowhere.
pub const MODEL_KEY: &str = "sk-canary-4f1c9e2b7d6a";

/// How long anything may take before the test gives up on it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A service, its model, and what they work on.
pub struct World {
    folder: TempDir,
    program: PathBuf,
    variables: Vec<(String, String)>,
    model: ScriptedModel,
    service: Option<Child>,
}

/// A program that has run.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl World {
    /// Starts `carrel serve` from this program, with a model that follows the script.
    ///
    /// # Panics
    /// When the service does not come up: then no test can go on.
    pub async fn new(program: &str, script: Script) -> Self {
        Self::with(program, script, &[]).await
    }

    /// The same, with further variables in the service's environment.
    ///
    /// # Panics
    /// When the service does not come up.
    pub async fn with(program: &str, script: Script, variables: &[(&str, &str)]) -> Self {
        let model = ScriptedModel::start(script.key(MODEL_KEY)).await.expect("the loopback has a free port");
        let folder = tempfile::tempdir().expect("the temporary folder is writable");
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut world = Self { folder, program: program.into(), variables, model, service: None };
        std::fs::create_dir_all(world.home()).expect("the temporary folder is writable");
        world.start().await;
        world
    }

    /// Starts the service, again if it was there before.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start(&mut self) {
        self.start_with(&[]).await;
    }

    /// The same, with further arguments of `carrel serve`.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start_with(&mut self, arguments: &[&str]) {
        let address = self.data().join("address");
        let _was_there = std::fs::remove_file(&address);
        let log = std::fs::File::options().create(true).append(true).open(self.log()).expect("a log file");
        let mut command = self.command(&[&["serve"], arguments].concat());
        let banner = log.try_clone().expect("a file can be used twice");
        let mut service = command.stdout(banner).stderr(log).spawn().expect("the program can be started");
        let up = async {
            while !address.exists() || !self.answers().await {
                assert!(service.try_wait().expect("our own process").is_none(), "{}", self.logged());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, up).await.is_ok(), "the service does not answer: {}", self.logged());
        self.service = Some(service);
    }

    /// Whether the service answers: the API, or, of one that has none, that it is ready.
    async fn answers(&self) -> bool {
        if !self.variables.iter().any(|(name, value)| name == "CARREL_ROLE" && value == "worker") {
            return self.carrel(&["task", "list"]).await.code == 0;
        }
        let asked = reqwest::get(format!("{}/readyz", self.url())).await;
        asked.is_ok_and(|answer| answer.status().is_success())
    }

    /// Ends the service as a power cut would: `kill -9`.
    ///
    /// # Panics
    /// When it was not running.
    pub async fn kill(&mut self) {
        let mut service = self.service.take().expect("the service runs");
        service.kill().await.expect("our own process");
    }

    /// Ends the service as whoever looks after it would: it is asked to, and waited for.
    ///
    /// # Panics
    /// When it was not running, or does not end.
    pub async fn stop(&mut self) {
        let pid = self.service_pid().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status().await.expect("kill can be started");
        assert!(asked.success(), "our own process");
        let mut service = self.service.take().expect("the service runs");
        let ended = tokio::time::timeout(PATIENCE, service.wait()).await;
        ended.unwrap_or_else(|_| panic!("the service does not end: {}", self.logged())).expect("our own process");
    }

    /// The process of the service.
    ///
    /// # Panics
    /// When it is not running.
    #[must_use]
    pub fn service_pid(&self) -> u32 {
        self.service.as_ref().and_then(Child::id).expect("the service runs")
    }

    /// The folder of all data of the service.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A folder for whatever a test needs.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Everything the service has logged, its banner included.
    #[must_use]
    pub fn logged(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// The scripted model: what it was asked can be looked at.
    #[must_use]
    pub const fn model(&self) -> &ScriptedModel {
        &self.model
    }

    /// A repository with one commit of these files.
    #[must_use]
    pub fn repository(&self, name: &str, files: &[(&str, &str)]) -> Repository {
        Repository::make(&self.folder.path().join(name), files)
    }

    /// The base URL of the service.
    ///
    /// # Panics
    /// When it is not running.
    #[must_use]
    pub fn url(&self) -> String {
        let address = std::fs::read_to_string(self.data().join("address")).expect("the service runs");
        format!("http://{}", address.trim())
    }

    /// The token of the programs on this machine.
    ///
    /// # Panics
    /// When the service has not been started.
    #[must_use]
    pub fn token(&self) -> String {
        std::fs::read_to_string(self.data().join("token")).expect("the service was started").trim().to_owned()
    }

    /// Runs `carrel` with these arguments, in the temporary folder.
    pub async fn carrel(&self, arguments: &[&str]) -> Ran {
        self.carrel_in(self.folder.path(), arguments).await
    }

    /// Runs `carrel` with these arguments in a folder.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn carrel_in(&self, folder: &Path, arguments: &[&str]) -> Ran {
        let mut command = self.command(arguments);
        let running = command.current_dir(folder).stdin(Stdio::null()).output();
        let output = tokio::time::timeout(PATIENCE, running).await;
        let output = output.unwrap_or_else(|_| panic!("carrel {arguments:?} does not end; {}", self.logged()));
        Ran::from(output.expect("the program can be started"))
    }

    /// Runs `carrel` with these arguments and this text on its standard input.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn carrel_given(&self, input: &str, arguments: &[&str]) -> Ran {
        let file = self.folder.path().join("input");
        std::fs::write(&file, input).expect("the temporary folder is writable");
        let file = std::fs::File::open(&file).expect("it was just written");
        let mut command = self.command(arguments);
        let running = command.current_dir(self.folder.path()).stdin(file).output();
        let output = tokio::time::timeout(PATIENCE, running).await;
        let output = output.unwrap_or_else(|_| panic!("carrel {arguments:?} does not end; {}", self.logged()));
        Ran::from(output.expect("the program can be started"))
    }

    /// Starts `carrel` with these arguments on a terminal, which becomes its own: its keys and its size arrive there as
    /// signals. The process that is given is `carrel` itself.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn carrel_on(&self, terminal: std::os::fd::OwnedFd, arguments: &[&str]) -> Child {
        let copy = || terminal.try_clone().expect("a terminal can be used twice");
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(&self.program).args(arguments);
        self.furnish(&mut command);
        command.stdin(copy()).stdout(copy()).stderr(copy()).spawn().expect("setsid can be started")
    }

    /// Runs `carrel --json` with these arguments and reads what it prints.
    ///
    /// # Panics
    /// When it fails or prints no JSON.
    pub async fn json(&self, arguments: &[&str]) -> Value {
        let ran = self.carrel(&[&["--json"], arguments].concat()).await;
        assert_eq!(ran.code, 0, "carrel {arguments:?}: {}", ran.stderr);
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.stdout))
    }

    /// Delegates a code task on a repository and gives its id.
    pub async fn create(&self, repository: &Repository, prompt: &str) -> String {
        self.create_with(repository, &[prompt]).await
    }

    /// The same, with further arguments.
    ///
    /// # Panics
    /// When the service refuses.
    pub async fn create_with(&self, repository: &Repository, arguments: &[&str]) -> String {
        let path = repository.path().to_string_lossy().into_owned();
        let task = self.json(&[&["task", "create", "--repository", &path], arguments].concat()).await;
        task["id"].as_str().expect("a task has an id").to_owned()
    }

    /// Waits until a task has ended and gives it.
    pub async fn ended(&self, id: &str) -> Value {
        // Exit code 1 says that it failed, which is as much an end as any.
        let watched = self.carrel(&["task", "watch", id]).await;
        assert!(watched.code <= 1, "{}", watched.stderr);
        self.json(&["task", "show", id]).await
    }

    /// Delegates a code task and waits for its end.
    pub async fn run(&self, repository: &Repository, prompt: &str) -> Value {
        let id = self.create(repository, prompt).await;
        self.ended(&id).await
    }

    /// Waits until the events of a task satisfy the test, and gives them.
    ///
    /// # Panics
    /// When they never do.
    pub async fn events_until(&self, id: &str, satisfied: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let events = self.events(id).await;
            if satisfied(&events) {
                return events;
            }
            assert!(tokio::time::Instant::now() < deadline, "waited in vain; {events:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a file or folder is there no more.
    ///
    /// # Panics
    /// When it stays.
    pub async fn until_gone(&self, path: &Path) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while path.exists() {
            assert!(tokio::time::Instant::now() < deadline, "{} is still there; {}", path.display(), self.logged());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// All events of a task so far.
    ///
    /// # Panics
    /// When the service does not give them.
    pub async fn events(&self, id: &str) -> Vec<Value> {
        let mut events = Vec::new();
        let mut after = 0;
        loop {
            let url = format!("{}/api/v1/tasks/{id}/events?after={after}&limit=1000", self.url());
            let page: Value = self.get(&url).await;
            events.extend(page["items"].as_array().expect("a page has items").iter().cloned());
            match page["next"].as_i64() {
                Some(next) => after = next,
                None => return events,
            }
        }
    }

    async fn get(&self, url: &str) -> Value {
        let answer =
            reqwest::Client::new().get(url).bearer_auth(self.token()).send().await.expect("the service answers");
        answer.json().await.expect("JSON")
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("service.log")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments);
        self.furnish(&mut command);
        command
    }

    /// Gives a program the variables of this world.
    fn furnish(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.home())
            .env("CARREL_DATA", self.data())
            .env("CARREL_LISTEN", "127.0.0.1:0")
            .env("CARREL_MODEL_URL", self.model.url().as_str())
            .env("CARREL_MODEL_KEY", MODEL_KEY)
            .env("CARREL_MODEL", "gpt-5-codex")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .kill_on_drop(true);
    }
}

impl Drop for World {
    /// Ends the service, and the sandboxes that are made to outlive it.
    fn drop(&mut self) {
        if let Some(service) = &mut self.service {
            // It may have ended by itself; the folder goes all the same.
            let _ended = service.start_kill();
        }
        for pid in sandboxes(&self.data().join("sandboxes")) {
            let _ended = std::process::Command::new("kill").args(["-9", &pid]).stderr(Stdio::null()).status();
        }
    }
}

/// The process ids of the runners whose records are in the folder.
fn sandboxes(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let records = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("runner.json")).ok());
    let records = records.filter_map(|text| serde_json::from_str::<Value>(&text).ok());
    records.filter_map(|record| record["pid"].as_i64()).map(|pid| pid.to_string()).collect()
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
