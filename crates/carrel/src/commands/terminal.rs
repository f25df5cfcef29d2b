//! A shell in a sandbox, on this terminal: what is typed goes there, what it shows comes here, byte for byte. With anything
//! but a terminal as standard input the commands in it are run, and the shell's output is all that comes back.

use std::io;
use std::time::Duration;

use anstyle::Style;
use carrel_wire::{Attempt, AttemptState, Task, TerminalNews, TerminalRequest};
use futures::{SinkExt as _, StreamExt as _};
use rustix::termios::{self, OptionalActions, Termios};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::protocol::Message;
use uuid::Uuid;

use super::choose;
use crate::cli::Which;
use crate::client::{Client, Sink, SocketStream};
use crate::exit::Failure;
use crate::output;

/// How long the service may be silent: it says something every 30 seconds.
const SILENCE: Duration = Duration::from_secs(120);

const DIM: Style = Style::new().dimmed();

/// How much is read from standard input at a time.
const INPUT_BYTES: usize = 16 << 10;

/// Opens a shell in a running attempt of the task's last turn.
pub(super) async fn in_attempt(client: &Client, id: Uuid, number: Option<u32>) -> Result<(), Failure> {
    let task: Task = client.get(&format!("tasks/{id}")).await?;
    let attempt = chosen(&task, number)?;
    run(client, &format!("attempts/{}/terminal", attempt.id), &[]).await
}

/// The attempt that is meant: by its number, or the first that runs.
fn chosen(task: &Task, number: Option<u32>) -> Result<&Attempt, Failure> {
    if number.is_none() {
        let last = task.turns.last().map(|turn| turn.attempts.as_slice()).unwrap_or_default();
        if let Some(running) = last.iter().find(|attempt| attempt.state == AttemptState::Running) {
            return Ok(running);
        }
    }
    // One that does not run is refused by the service, which says why.
    choose(task, Which { attempt: number, turn: None })
}

/// Opens a shell in a fresh sandbox of the environment at this path.
pub(super) async fn in_environment(client: &Client, path: &str, repository: Option<&str>) -> Result<(), Failure> {
    let query: Vec<(&str, &str)> = repository.map(|repository| ("repository", repository)).into_iter().collect();
    run(client, &format!("{path}/terminal"), &query).await
}

/// Runs the shell behind a path to its end. Its exit code becomes the program's.
async fn run(client: &Client, path: &str, query: &[(&str, &str)]) -> Result<(), Failure> {
    let size = termios::isatty(io::stdin()).then(window_size);
    let mut pairs = url::form_urlencoded::Serializer::new(String::new());
    pairs.extend_pairs(query);
    if let Some((columns, rows)) = size {
        pairs.append_pair("columns", &columns.to_string()).append_pair("rows", &rows.to_string());
    }
    let (sink, stream) = client.socket(&format!("{path}?{}", pairs.finish())).await?;
    let mut ends = Ends::listen()?;
    let (tell, started) = oneshot::channel();
    // Whichever is over first, dropping the others puts the terminal back.
    let end = tokio::select! {
        end = show(stream, size.is_some(), tell) => end,
        failure = carry(sink, size.is_some(), started) => Err(failure),
        code = ends.next() => Err(Failure::exit(code)),
    };
    match end? {
        0 => Ok(()),
        code => Err(Failure::exit(code)),
    }
}

/// Shows what comes, until the shell has ended: its exit code. From the shell's start on the terminal is the shell's; before,
/// keys act as usual, so that a preparation can be interrupted.
async fn show(mut stream: SocketStream, is_terminal: bool, started: oneshot::Sender<()>) -> Result<u8, Failure> {
    let lost = || Failure::unreachable("the connection to the service is lost, and with it the terminal");
    let mut out = tokio::io::stdout();
    let mut started = Some(started);
    let mut raw = None;
    loop {
        let heard = tokio::time::timeout(SILENCE, stream.next()).await.map_err(|_| lost())?;
        match heard {
            Some(Ok(Message::Binary(bytes))) => {
                let written = async {
                    out.write_all(&bytes).await?;
                    out.flush().await
                };
                // Whoever read this program's output has gone.
                written.await.map_err(|_| Failure::exit(0))?;
            }
            Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                Ok(TerminalNews::Told { text }) => tell(&text, raw.is_some()),
                Ok(TerminalNews::Started {}) => {
                    if is_terminal && raw.is_none() {
                        raw = Some(Raw::enter()?);
                    }
                    if let Some(started) = started.take() {
                        // Whoever types is told once; that nobody does is no matter.
                        let _nobody_types = started.send(());
                    }
                }
                Ok(TerminalNews::Exit { code }) => return Ok(u8::try_from(code & 0xff).unwrap_or(u8::MAX)),
                Ok(TerminalNews::Failed { reason }) => {
                    return Err(Failure::work(format!("the terminal has ended: {}", output::safe(&reason))));
                }
                // News that only a newer client knows.
                Err(_) => {}
            },
            Some(Ok(Message::Close(Some(frame)))) if !frame.reason.is_empty() => {
                return Err(Failure::refused_here(format!("the terminal was closed: {}", output::safe(&frame.reason))));
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(lost()),
        }
    }
}

/// What the service tells goes where errors go: it is no output of the shell.
fn tell(text: &str, is_raw: bool) {
    let end = if is_raw { "\r\n" } else { "\n" };
    for line in output::safe(text).lines() {
        anstream::eprint!("{DIM}{line}{DIM:#}{end}");
    }
}

/// Carries what is typed, from the shell's start on, and the terminal's size when it changes. Ends only when something is wrong on this side; that the
/// connection is lost is told by the other direction.
async fn carry(mut sink: Sink, is_terminal: bool, started: oneshot::Receiver<()>) -> Failure {
    let mut input = tokio::io::stdin();
    let mut bytes = vec![0; INPUT_BYTES];
    let mut has_ended = false;
    let mut resized = match signal(SignalKind::window_change()) {
        Ok(resized) => resized,
        Err(error) => return cannot_listen(&error),
    };
    // Where there is no shell, the other direction says why.
    let _never = started.await;
    loop {
        let message = tokio::select! {
            read = input.read(&mut bytes), if !has_ended => match read {
                Ok(0) | Err(_) => {
                    has_ended = true;
                    request(&TerminalRequest::End {})
                }
                Ok(count) => Message::Binary(bytes[..count].to_vec().into()),
            },
            _ = resized.recv(), if is_terminal => {
                let (columns, rows) = window_size();
                request(&TerminalRequest::Resize { columns, rows })
            }
            else => std::future::pending().await,
        };
        if sink.send(message).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn request(request: &TerminalRequest) -> Message {
    Message::Text(serde_json::to_string(request).expect("requests are plain data").into())
}

/// The size of this terminal. One that does not know its own is taken for the usual.
fn window_size() -> (u16, u16) {
    match termios::tcgetwinsize(io::stdin()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.min(10_000), size.ws_row.min(10_000)),
        _ => (80, 24),
    }
}

/// A terminal that hands on every key instead of acting on it, until this is dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> Result<Self, Failure> {
        let failed = |error| Failure::service(format!("cannot set up this terminal: {error}"));
        let before = termios::tcgetattr(io::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing put back.
        let _gone = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// The signals that end this program: it ends by itself, so that the terminal is put back.
struct Ends([(Signal, u8); 4]);

impl Ends {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind: SignalKind, code: u8| Ok((signal(kind).map_err(|error| cannot_listen(&error))?, code));
        Ok(Self([
            listen(SignalKind::hangup(), 128 + 1)?,
            listen(SignalKind::interrupt(), 128 + 2)?,
            listen(SignalKind::quit(), 128 + 3)?,
            listen(SignalKind::terminate(), 128 + 15)?,
        ]))
    }

    /// The exit code of a program that such a signal has ended.
    async fn next(&mut self) -> u8 {
        let [(hangup, a), (interrupt, b), (quit, c), (terminate, d)] = &mut self.0;
        tokio::select! {
            _ = hangup.recv() => *a,
            _ = interrupt.recv() => *b,
            _ = quit.recv() => *c,
            _ = terminate.recv() => *d,
        }
    }
}

fn cannot_listen(error: &io::Error) -> Failure {
    Failure::service(format!("cannot listen for signals: {error}"))
}
