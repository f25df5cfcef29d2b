//! `carrel serve`: everything that a process does by its role, put together here and nowhere else.

mod doors;
mod figures;
mod keys;
mod logs;
mod places;
mod traces;

use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anstyle::Style;
use carrel_agent::ModelClient;
use carrel_api::{ApiOptions, Hosts};
use carrel_control::{Author, Control, ControlLimits, ControlOptions, Model, Models};
use carrel_domain::{Clock, Redactor, Secret, SharedClock, WorkerId};
use carrel_forge::{Forge, GitOptions};
use carrel_identity::Identity;
use carrel_sandbox::{Kits, Launcher, Limits, LocalOptions, USUAL_PATH};
use carrel_store::{ArtifactPlace, AtOnce, Role, Store, StoreOptions};
use jiff::Timestamp;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use crate::client::TOKEN_FILE;
use crate::demo::{DEMO_MODEL, RecordedModel};
use crate::exit::Failure;
use crate::models::{self, Configured};
use crate::output;
use crate::settings::Settings;
use doors::Doors;

/// How long requests under way may take when the service is told to stop.
const GRACE: std::time::Duration = std::time::Duration::from_secs(5);

/// How long a process that is just ending may still hold the data folder, and how often it is looked.
const WAIT_FOR_LOCK: std::time::Duration = std::time::Duration::from_secs(2);
const LOCK_AGAIN: std::time::Duration = std::time::Duration::from_millis(20);

struct SystemClock {
    started: std::time::Instant,
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn passed(&self) -> std::time::Duration {
        self.started.elapsed()
    }
}

/// A running service.
pub(crate) struct Service {
    pub(crate) url: Url,
    pub(crate) token: Secret,
    pub(crate) sign_in: String,
    role: Role,
    /// The models in words, if there are any.
    model: Option<String>,
    stop: CancellationToken,
    server: JoinHandle<std::io::Result<()>>,
    worker: JoinHandle<()>,
    /// Serves figures on an address of their own, as long as the service lives.
    traces: Option<traces::Traces>,
    _figures: Option<AbortOnDropHandle<()>>,
    _recorded: RecordedModel,
    _lock: File,
}

/// Runs the service until it is told to stop.
pub(crate) async fn serve(settings: Settings) -> Result<(), Failure> {
    let data = settings.data.display().to_string();
    let mut service = Service::start(settings).await?;
    banner(&service, &data)?;
    tokio::select! {
        asked = asked_to_stop() => asked?,
        ended = &mut service.worker => return Err(ended_badly("worker", &format!("{ended:?}"))),
        ended = &mut service.server => return Err(ended_badly("server", &format!("{ended:?}"))),
    }
    tracing::info!("stopping; attempts under way go on when the service is started again");
    service.stop().await
}

impl Service {
    /// Puts the service together and starts it.
    pub(crate) async fn start(settings: Settings) -> Result<Self, Failure> {
        settings.check_role().map_err(|error| Failure::usage(error.to_string()))?;
        let role = settings.work.role;
        let (lock, doors) = enter(&settings).await?;
        let token = carrel_identity::local_token(&settings.data.join(TOKEN_FILE))
            .map_err(|error| Failure::usage(error.to_string()))?;
        let configured = models::load(&settings.models)?;
        let redactor = Redactor::new(&secrets(&settings, &configured, &token)?);
        let traces = traces::Traces::start(settings.traces.as_ref(), &settings.work.name)?;
        let tracer = traces.as_ref().map(traces::Traces::tracer);
        logs::start(&settings.log, settings.log_format, redactor.clone(), tracer)?;
        let clock: SharedClock = Arc::new(SystemClock { started: std::time::Instant::now() });
        let store = open_store(&settings, &clock, &redactor).await?;
        let identity = Identity::new(store.clone(), Arc::clone(&clock));
        let owner = store.ensure_owner().await.map_err(|error| Failure::service(error.to_string()))?;
        identity
            .accept_local_token(owner.principal, &token)
            .await
            .map_err(|error| Failure::service(error.to_string()))?;
        let (model, tried) = (configured.words(), store.clone());
        let recorded = RecordedModel::start().await?;
        let sandboxes = places::open_sandboxes(&settings).await?;
        let control = Control::new(ControlOptions {
            machine: settings.work.name.clone(),
            role: settings.work.role,
            version: env!("CARGO_PKG_VERSION"),
            images: places::open_images(&settings, &sandboxes)?,
            kits: open_kits(&settings, settings.data.join("kits")),
            image_folders: settings.image_folders.clone(),
            sandboxes,
            egress: places::open_egress(&settings)?,
            trust_folder: settings.data.join("trust"),
            forge: open_forge(&settings, settings.data.join("mirrors"), &redactor)?,
            models: all_models(configured, &recorded),
            agents: crate::agents::load(settings.agents_file.as_deref())?,
            client: ModelClient::new().map_err(|error| Failure::service(error.to_string()))?,
            diff_hosts: settings.git.diff_hosts.clone(),
            author: Author { name: settings.git.author_name.clone(), email: settings.git.author_email.clone() },
            limits: limits(&settings),
            store,
            redactor,
            clock,
        });
        control.recover().await.map_err(|error| Failure::service(error.to_string()))?;
        if !matches!(settings.artifact_place(), Ok(ArtifactPlace::DataFolder)) {
            tokio::spawn(try_artifacts(tried));
        }
        let url = doors.tell(&settings)?;
        let stop = CancellationToken::new();
        let figures = doors.figures.map(|listener| figures::serve(listener, &control, &stop));
        let link = identity.owner_link(owner.principal).await.map_err(|error| Failure::service(error.to_string()))?;
        let worker = tokio::spawn({
            let (control, stop) = (control.clone(), stop.clone());
            async move { Box::pin(control.work(stop)).await }
        });
        let hosts = Hosts::new(settings.listen().ip(), &url);
        let sign_in = carrel_api::sign_in_url(&url, link.secret.expose());
        let options = ApiOptions { control, identity, hosts, public_url: url.clone(), stop: stop.clone() };
        let app = if role.answers() { carrel_api::router(options) } else { carrel_api::worker_router(options) };
        let ended = stop.clone();
        let server = tokio::spawn(async move {
            axum::serve(doors.main, app).with_graceful_shutdown(async move { ended.cancelled().await }).await
        });
        Ok(Self {
            url,
            token,
            sign_in,
            role,
            model,
            stop,
            server,
            worker,
            traces,
            _figures: figures,
            _recorded: recorded,
            _lock: lock,
        })
    }

    /// Lets go of the work and ends.
    pub(crate) async fn stop(self) -> Result<(), Failure> {
        self.stop.cancel();
        let ended = async {
            let (server, worker) = tokio::join!(self.server, self.worker);
            worker.map_err(|error| Failure::service(format!("the worker ended badly: {error}")))?;
            match server {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(Failure::service(format!("the server ended badly: {error}"))),
                Err(error) => Err(Failure::service(format!("the server ended badly: {error}"))),
            }
        };
        let ended = tokio::time::timeout(GRACE, ended).await.unwrap_or(Ok(()));
        if let Some(traces) = self.traces {
            traces.end().await;
        }
        ended
    }
}

fn ended_badly(part: &str, how: &str) -> Failure {
    Failure::service(format!("the {part} has ended by itself ({how}); start the service again"))
}

fn banner(service: &Service, data: &str) -> Result<(), Failure> {
    let bold = Style::new().bold();
    let model = match &service.model {
        Some(model) => format!("model      {model}"),
        None => "model      none is configured; only `carrel demo`, with a recorded model, can run\n           \
                 set CARREL_MODEL_URL (such as https://api.openai.com/v1), CARREL_MODEL_KEY and CARREL_MODEL,\n           \
                 or CARREL_MODELS_FILE for several (docs/models.md)"
            .to_owned(),
    };
    let doors = if service.role.answers() {
        format!(
            "sign in    {}\n           (works once, for an hour; `carrel owner-link` prints a fresh one)\n\
             API        {}api/v1/openapi.json",
            service.sign_in, service.url
        )
    } else {
        format!("ready      {}readyz", service.url)
    };
    let role = match service.role {
        Role::All => "",
        Role::Api => "\nrole       api: serves people and programs, and leaves the work to others",
        Role::Worker => "\nrole       worker: works, and serves no API",
    };
    output::line(&format!(
        "{bold}Carrel {}{bold:#} is ready\n\n{doors}\ndata       {data}{role}\n{model}\n",
        env!("CARGO_PKG_VERSION"),
    ))
}

pub(crate) async fn asked_to_stop() -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |error| Failure::service(format!("cannot listen for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Takes the addresses and the data folder. Where there is no folder yet, the addresses come first; of one that another
/// process uses, to hear that says more than that its port is taken.
async fn enter(settings: &Settings) -> Result<(File, Doors), Failure> {
    let early = if settings.data.exists() { None } else { Some(Doors::open(settings).await?) };
    make_data_folder(&settings.data)?;
    let lock = lock(&settings.data).await?;
    let doors = match early {
        Some(doors) => doors,
        None => Doors::open(settings).await?,
    };
    Ok((lock, doors))
}

pub(crate) fn make_data_folder(data: &Path) -> Result<(), Failure> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .and_then(|()| fs::set_permissions(data, fs::Permissions::from_mode(0o700)))
        .map_err(|error| {
            Failure::usage(format!("cannot use the data folder {}: {error}; set CARREL_DATA", data.display()))
        })
}

/// One process uses a data folder at a time. One that was killed a moment ago may still hold it: it is waited for.
pub(crate) async fn lock(data: &Path) -> Result<File, Failure> {
    let file = data.join("lock");
    let lock =
        File::create(&file).map_err(|error| Failure::usage(format!("cannot use {}: {error}", file.display())))?;
    let deadline = tokio::time::Instant::now() + WAIT_FOR_LOCK;
    let mut locked = lock.try_lock();
    while matches!(locked, Err(fs::TryLockError::WouldBlock)) && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(LOCK_AGAIN).await;
        locked = lock.try_lock();
    }
    match locked {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => Err(Failure::usage(format!(
            "another `carrel serve` uses the data folder {}; stop it, or set CARREL_DATA to another folder",
            data.display()
        ))),
        Err(fs::TryLockError::Error(error)) => Err(Failure::usage(format!("cannot lock {}: {error}", file.display()))),
    }
}

/// What must never be seen in an event or a log line.
fn secrets(settings: &Settings, configured: &Configured, token: &Secret) -> Result<Vec<Secret>, Failure> {
    let mut secrets = vec![token.clone()];
    secrets.extend(configured.secrets.iter().cloned());
    let database = settings.database_url.iter().filter_map(|url| Url::parse(url.expose()).ok());
    for password in database.filter_map(|url| url.password().map(str::to_owned)) {
        secrets.extend([percent_decoded(&password), password].map(Secret::new));
    }
    secrets.extend(settings.artifacts.secrets());
    let Some(file) = settings.git.credentials() else { return Ok(secrets) };
    let failed = |error| Failure::usage(format!("cannot read the git credentials in {}: {error}", file.display()));
    let text = fs::read_to_string(&file).map_err(failed)?;
    if fs::metadata(&file).map_err(failed)?.permissions().mode() & 0o077 != 0 {
        tracing::warn!(file = %file.display(), "others may read the git credentials: chmod 600 it");
    }
    for url in text.lines().filter_map(|line| Url::parse(line.trim()).ok()) {
        // Some forges take the token as the user's name, with a password that says nothing.
        let says_nothing = url.password().is_none_or(|password| matches!(password, "" | "x-oauth-basic"));
        let secret = if says_nothing { Some(url.username()) } else { url.password() };
        for form in secret.into_iter().flat_map(|secret| [secret.to_owned(), percent_decoded(secret)]) {
            secrets.push(Secret::new(form));
        }
    }
    Ok(secrets)
}

/// The file has secrets percent-encoded; what leaks may be either form.
fn percent_decoded(text: &str) -> String {
    let form = format!("x={}", text.replace('+', "%2B"));
    let mut pairs = url::form_urlencoded::parse(form.as_bytes());
    pairs.next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}

async fn open_store(settings: &Settings, clock: &SharedClock, redactor: &Redactor) -> Result<Store, Failure> {
    let keys = keys::load(&settings.secrets, redactor)?;
    let (folder, clock, redactor) = (settings.data.clone(), Arc::clone(clock), redactor.clone());
    let postgres = settings.postgres().map_err(|error| Failure::usage(error.to_string()))?;
    let artifacts = settings.artifact_place().map_err(|error| Failure::usage(error.to_string()))?;
    let worker = worker_id(&settings.data.join("worker"))?;
    let keys_at_hand = keys.all.clone();
    let options = StoreOptions { folder, postgres, artifacts, worker, clock, redactor, keys: keys_at_hand };
    let opened = Store::open(options).await;
    let (store, closed) = opened.map_err(|error| Failure::service(error.to_string()))?;
    keys.settle(&settings.secrets, &closed)?;
    let most = |number: Option<usize>| number.map(|number| u32::try_from(number).unwrap_or(u32::MAX));
    let work = &settings.work;
    Ok(store.with_at_once(AtOnce {
        person: most(work.attempts_per_person),
        organization: most(work.attempts_per_organization),
    }))
}

/// Says at once when results cannot be kept, and not only when there is one. It may pass, so the service starts all the same.
async fn try_artifacts(store: Store) {
    if let Err(error) = store.try_artifacts().await {
        tracing::error!(%error, "nothing that attempts make can be kept; see CARREL_ARTIFACTS, and `carrel doctor`");
    }
}

/// Who this worker is: the same whenever it is started on this folder, for sandboxes, layers and mirrors are there.
fn worker_id(file: &Path) -> Result<WorkerId, Failure> {
    let failed = |error| Failure::usage(format!("cannot use {}: {error}", file.display()));
    match fs::read_to_string(file) {
        Ok(text) => text.trim().parse().map_err(|_| {
            let file = file.display();
            Failure::usage(format!("{file} is no worker's id; remove it, and its attempts are made again"))
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let id = WorkerId::from_uuid(uuid::Uuid::now_v7());
            let beside = file.with_extension("new");
            fs::write(&beside, format!("{id}\n"))
                .and_then(|()| fs::File::open(&beside)?.sync_all())
                .and_then(|()| fs::rename(&beside, file))
                .map_err(failed)?;
            Ok(id)
        }
        Err(error) => Err(failed(error)),
    }
}

fn limits(settings: &Settings) -> ControlLimits {
    let mut limits = ControlLimits {
        jobs: settings.max_jobs,
        patch_bytes: settings.max_patch_bytes,
        layer_bytes: settings.max_layer_bytes,
        ..ControlLimits::default()
    };
    let seconds = |seconds: usize| std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(u64::MAX));
    limits.gone_after = settings.work.gone_s.map_or(limits.gone_after, seconds);
    limits.returns_within = settings.work.return_s.map(seconds);
    limits.agent.steps = settings.max_steps.unwrap_or(limits.agent.steps);
    limits.agent.tokens = settings.max_tokens;
    limits.agent.cost_usd_micros = settings.max_cost_usd_micros;
    limits.agent.wall_clock = settings.max_attempt_s.map_or(limits.agent.wall_clock, seconds);
    limits
}

/// How sandboxes are made that live in the folder.
pub(crate) fn sandbox_options(settings: &Settings, folder: PathBuf) -> LocalOptions {
    let mut private_paths = vec![settings.data.clone(), settings.git.home.clone(), "/etc/gitconfig".into()];
    private_paths.push(settings.git.credentials_file.clone());
    private_paths.push(settings.secrets.key_file.clone());
    private_paths.extend(settings.artifacts.folder());
    private_paths.extend(settings.private_paths.iter().cloned());
    LocalOptions {
        folder,
        private_paths,
        // This very program, also when a newer one has been put in its place meanwhile.
        launcher: Launcher::new("/proc/self/exe", [crate::RUNNER.to_owned()]),
        limits: Limits::default(),
    }
}

/// The tool kits, made of what this machine has, in the folder.
pub(crate) fn open_kits(settings: &Settings, folder: PathBuf) -> Kits {
    Kits::new(folder, settings.git.search_path.clone().unwrap_or_else(|| USUAL_PATH.into()))
}

/// Git, with its mirrors in the folder.
pub(crate) fn open_forge(settings: &Settings, mirrors: PathBuf, redactor: &Redactor) -> Result<Forge, Failure> {
    let mut options = GitOptions::new(mirrors, &settings.git.home);
    options.credentials = settings.git.credentials();
    options.ssh_auth_sock.clone_from(&settings.git.ssh_auth_sock);
    options.committer_name.clone_from(&settings.git.author_name);
    options.committer_email.clone_from(&settings.git.author_email);
    options.redactor = redactor.clone();
    if let Some(path) = &settings.git.search_path {
        options.search_path.clone_from(path);
    }
    Forge::new(options).map_err(|error| Failure::usage(error.to_string()))
}

fn all_models(configured: Configured, recorded: &RecordedModel) -> Models {
    let demo = Model { is_listed: false, ..recorded.endpoint().into() };
    let all = configured.models.into_iter().fold(Models::none(), |all, (name, model)| {
        if configured.default.as_ref() == Some(&name) { all.with_default(name, model) } else { all.with(name, model) }
    });
    all.with(DEMO_MODEL, demo)
}

/// An error with what lies beneath it.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
