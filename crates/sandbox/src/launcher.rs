//! The launcher process: started with nothing of ours in it, asked over a socket, started again when it died.

use std::collections::HashMap;
use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use carrel_runner::LAUNCHER_ARGUMENT;
use carrel_runner::ids::IdMap;
use carrel_runner::protocol::{
    self, Decoder, Fact, Frame, FromLauncher, Launch, LentIds, Setup, ToLauncher, encode_control,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::SandboxError;
use crate::keeper::{KEEPER_ARGUMENT, Program};

/// How long a launcher may take to prepare, and a sandbox to be made.
const WITHIN: Duration = Duration::from_secs(30);

/// The program that makes sandboxes: it calls `carrel_runner::main` with the last of these arguments. With
/// [`KEEPER_ARGUMENT`] and one more in its place, it is to call [`crate::keep`] with that one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launcher {
    /// The program.
    pub program: PathBuf,
    /// Its arguments; the last is `carrel_runner::LAUNCHER_ARGUMENT`.
    pub arguments: Vec<String>,
    /// What has the subordinate ids of an ordinary user.
    pub(crate) keeper: Program,
}

impl Launcher {
    /// A program that takes these arguments before the launcher's own.
    pub fn new(program: impl Into<PathBuf>, leading: impl IntoIterator<Item = String>) -> Self {
        let (program, leading): (PathBuf, Vec<String>) = (program.into(), leading.into_iter().collect());
        let with = |last: &str| leading.iter().cloned().chain([last.to_owned()]).collect();
        let keeper = Program { program: program.clone(), arguments: with(KEEPER_ARGUMENT) };
        Self { program, arguments: with(LAUNCHER_ARGUMENT), keeper }
    }

    /// The `carrel-runner` that cargo put beside the running test or benchmark, and the `carrel-keeper` beside that.
    pub fn beside_tests() -> Result<Self, SandboxError> {
        let here = std::env::current_exe().map_err(SandboxError::host("cannot find the running program"))?;
        let found = here
            .ancestors()
            .skip(1)
            .take(2)
            .map(|folder| folder.join("carrel-runner"))
            .find(|program| program.is_file());
        let program = found.ok_or_else(|| {
            SandboxError::Unsupported(
                "there is no `carrel-runner` beside the tests; build it with `cargo build -p carrel-runner`".to_owned(),
            )
        })?;
        let mut launcher = Self::new(&program, []);
        launcher.keeper.program = program.with_file_name("carrel-keeper");
        Ok(launcher)
    }
}

/// The way to the launcher; clones ask the same one.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// Nothing where there is no launcher, because nobody is to make sandboxes here.
    orders: Option<mpsc::Sender<Order>>,
}

/// What a launcher found when it started.
#[derive(Debug, Default)]
pub(crate) struct Offered {
    pub(crate) facts: Vec<Fact>,
    /// The subordinate ids that images have.
    pub(crate) lent_ids: Option<IdMap>,
}

struct Order {
    launch: Launch,
    reply: oneshot::Sender<Result<(), LaunchError>>,
}

/// Why a launch failed.
#[derive(Debug)]
pub(crate) enum LaunchError {
    /// The launcher said why.
    Refused(String),
    /// The launcher died; a new one may do better.
    Died,
}

impl Client {
    /// Starts the launcher, which checks the kernel; what it found comes with it.
    pub(crate) async fn start(
        launcher: Launcher,
        mut setup: Setup,
        tasks: &TaskTracker,
    ) -> Result<(Self, Offered), SandboxError> {
        let (parked, offered) = match Parked::start(&launcher, &setup).await {
            // Better fewer ids than no sandboxes; what was wrong stands among the facts then.
            Err(SandboxError::Unsupported(reason)) if setup.lent_ids == LentIds::Found => {
                setup.lent_ids = LentIds::None { reason };
                Parked::start(&launcher, &setup).await?
            }
            started => started?,
        };
        // A launcher that takes this one's place must not give files other ids.
        if let (LentIds::Found, Some(map)) = (&setup.lent_ids, &offered.lent_ids) {
            setup.lent_ids = LentIds::These(map.clone());
        }
        let (orders, received) = mpsc::channel(64);
        tasks.spawn(serve(launcher, setup, parked, received));
        Ok((Self { orders: Some(orders) }, offered))
    }

    /// No launcher: whatever is asked of it is refused.
    pub(crate) const fn absent() -> Self {
        Self { orders: None }
    }

    /// Has a sandbox made.
    pub(crate) async fn launch(&self, launch: Launch) -> Result<(), LaunchError> {
        let Some(orders) = &self.orders else {
            return Err(LaunchError::Refused("this process makes no sandboxes".to_owned()));
        };
        let (reply, answer) = oneshot::channel();
        orders.send(Order { launch, reply }).await.map_err(|_| LaunchError::Died)?;
        match tokio::time::timeout(WITHIN, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(LaunchError::Died),
            Err(_) => Err(LaunchError::Refused(format!("it was not made within {} s", WITHIN.as_secs()))),
        }
    }
}

/// Owns the launcher: hands on orders, pairs the answers, and replaces it when it died and is needed.
async fn serve(launcher: Launcher, setup: Setup, first: Parked, mut orders: mpsc::Receiver<Order>) {
    let mut parked = Some(first);
    let mut waiting: HashMap<u32, oneshot::Sender<Result<(), LaunchError>>> = HashMap::new();
    let mut number = 0_u32;
    loop {
        let heard = async {
            match &mut parked {
                Some(parked) => parked.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            order = orders.recv() => {
                let Some(mut order) = order else { break };
                number = number.wrapping_add(1);
                order.launch.number = number;
                if parked.is_none() {
                    tracing::warn!("the launcher had died; starting another");
                    let started = Parked::start(&launcher, &setup).await.inspect_err(|error| tracing::error!(%error, "cannot start a launcher"));
                    parked = started.ok().map(|(parked, _as_before)| parked);
                }
                waiting.insert(number, order.reply);
                let sent = match &mut parked {
                    Some(parked) => parked.send(&ToLauncher::Launch(order.launch)).await,
                    None => Err(io::ErrorKind::NotConnected.into()),
                };
                if sent.is_err() {
                    parked = None;
                    waiting.clear();
                }
            }
            word = heard => match word {
                Ok(FromLauncher::Launched { number }) => answer(&mut waiting, number, Ok(())),
                Ok(FromLauncher::Failed { number, reason }) => answer(&mut waiting, number, Err(LaunchError::Refused(reason))),
                // Dropping the reply tells each that it died.
                Ok(FromLauncher::Ready { .. } | FromLauncher::Unable { .. }) | Err(_) => {
                    parked = None;
                    waiting.clear();
                }
            },
        }
    }
    if let Some(parked) = parked {
        parked.end().await;
    }
}

fn answer(
    waiting: &mut HashMap<u32, oneshot::Sender<Result<(), LaunchError>>>,
    number: u32,
    result: Result<(), LaunchError>,
) {
    if let Some(reply) = waiting.remove(&number) {
        // Whoever asked may have gone; the sandbox is found by its id.
        let _nobody_waits = reply.send(result);
    }
}

/// A launcher that runs.
struct Parked {
    process: Child,
    stream: UnixStream,
    decoder: Decoder,
}

impl Parked {
    async fn start(launcher: &Launcher, setup: &Setup) -> Result<(Self, Offered), SandboxError> {
        let failed = || SandboxError::host(format!("cannot start the launcher `{}`", launcher.program.display()));
        let (ours, theirs) = StdStream::pair().map_err(failed())?;
        ours.set_nonblocking(true).map_err(failed())?;
        let mut command = Command::new(&launcher.program);
        command.args(&launcher.arguments).arg0("carrel-runner").env_clear().current_dir("/");
        command.stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs))).stdout(Stdio::null());
        let process = command.spawn().map_err(failed())?;
        // The command still holds the other end: without this the stream would never end.
        drop(command);
        let mut parked =
            Self { process, stream: UnixStream::from_std(ours).map_err(failed())?, decoder: Decoder::default() };
        parked.send(&ToLauncher::Setup(setup.clone())).await.map_err(failed())?;
        match tokio::time::timeout(WITHIN, parked.next()).await {
            Ok(Ok(FromLauncher::Ready { facts, lent_ids })) => Ok((parked, Offered { facts, lent_ids })),
            Ok(Ok(FromLauncher::Unable { reason })) => Err(SandboxError::Unsupported(reason)),
            Ok(Ok(_)) => Err(SandboxError::Launch("the launcher spoke out of turn".to_owned())),
            Ok(Err(error)) => Err(failed()(error)),
            Err(_) => Err(SandboxError::TimedOut { what: "the launcher's start", seconds: WITHIN.as_secs() }),
        }
    }

    async fn send(&mut self, message: &ToLauncher) -> io::Result<()> {
        let mut frame = Vec::new();
        encode_control(&mut frame, message).map_err(io::Error::other)?;
        self.stream.write_all(&frame).await
    }

    /// The launcher's next word; what is half read stays when the wait is cancelled.
    async fn next(&mut self) -> io::Result<FromLauncher> {
        let mut buffer = [0; 4096];
        loop {
            match self.decoder.next_frame().map_err(io::Error::other)? {
                Some(Frame::Control(payload)) => return protocol::message(payload).map_err(io::Error::other),
                Some(Frame::Data(..) | Frame::Tunnel(..)) => {
                    return Err(io::Error::other("a launcher sends no data"));
                }
                None => {}
            }
            match self.stream.read(&mut buffer).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                bytes => self.decoder.push(&buffer[..bytes]),
            }
        }
    }

    async fn end(self) {
        let Self { mut process, stream, .. } = self;
        drop(stream);
        if tokio::time::timeout(WITHIN, process.wait()).await.is_err() {
            tracing::warn!("the launcher did not end with its stream");
        }
    }
}
