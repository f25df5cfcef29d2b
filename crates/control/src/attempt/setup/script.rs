//! A script of the environment as people see it: the command, its output while it runs, and how it ended.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Duration;

use carrel_agent::{COLLECT_FOR, Shown, for_people};
use carrel_domain::event::CommandEnd;
use carrel_domain::{EventBody, Internet, ResourceLimits};
use carrel_sandbox::{Command, CommandId, ExitStatus, ProcessEvent, Sandbox, SandboxError};
use tokio::time::{Instant, sleep_until};

use crate::attempt::raise::Raise;
use crate::attempt::{Halt, Site};

/// How many of the last lines an error repeats.
const LAST_LINES: usize = 10;

/// A script to run.
pub(super) struct Script<'a> {
    /// What it is called: `setup`, `maintenance`.
    pub(super) what: &'static str,
    /// Told apart from its neighbours.
    pub(super) number: usize,
    /// What people see as the command.
    pub(super) shown: String,
    /// What bash is given.
    pub(super) text: &'a str,
    /// Where it starts.
    pub(super) directory: String,
    /// Variables it alone has: the setup secrets.
    pub(super) secrets: &'a [(String, String)],
    /// When it is ended.
    pub(super) limit: Duration,
    /// How much it may print.
    pub(super) output_bytes: u64,
}

/// Runs a script to its end. One that fails fails the attempt, with its last lines and its exit code.
pub(super) async fn run(site: &Site<'_>, sandbox: &Sandbox, script: Script<'_>) -> Result<(), Halt> {
    let id = format!("{}.{}", script.what, script.number);
    // From a file, because an argument may not be as long as a script. A login shell, as the agent's commands are.
    let file = format!("/tmp/.carrel-{id}");
    sandbox.write_file(&file, unix_lines(script.text).as_bytes(), Some(0o600)).await?;
    let mut command = Command::new(CommandId(id.clone()), ["bash", "-l", file.as_str()])
        .directory(&script.directory)
        .time_limit(script.limit);
    command.environment.extend(script.secrets.iter().cloned());
    let mut process = sandbox.exec(command).await?;
    let started = EventBody::CommandStarted {
        command_id: id.clone(),
        command: script.shown.clone(),
        directory: script.directory.clone(),
    };
    tell(site, [started]).await?;
    let mut output = Output { id: &id, shown: Shown::new(0), last: VecDeque::new(), wakes: None };
    let mut is_over = false;
    let (status, duration) = loop {
        let wake = output.wakes.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        tokio::select! {
            event = process.next() => match event {
                Some(ProcessEvent::Output(bytes)) => output.take(&bytes),
                Some(ProcessEvent::Dropped(bytes)) => output.shown.skip(bytes),
                Some(ProcessEvent::Ended(finished)) => break (finished.status, finished.duration),
                None => return Err(lost(script.what)),
            },
            () = sleep_until(wake), if output.wakes.is_some() => output.flush(site).await?,
        }
        if !is_over && output.shown.totals().0 > script.output_bytes {
            is_over = true;
            process.kill().await?;
        }
    };
    output.finish(site, status, duration).await?;
    if is_over {
        let message = format!("{} printed more than {} bytes and was ended", script.what, script.output_bytes);
        let message = raise(site, &script, |raise| raise.with_way_out("output", &message));
        tell(site, [EventBody::LimitHit { limit: "output".to_owned(), message: message.clone() }]).await?;
        return Err(Halt::failed(message));
    }
    match sandbox.remove_file(&file).await {
        // A script may well empty `/tmp`.
        Ok(()) | Err(SandboxError::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    verdict(site, &script, status, &output).await
}

/// The script with the line ends that bash knows: to it, a carriage return is part of the word before it.
fn unix_lines(text: &str) -> Cow<'_, str> {
    if text.contains("\r\n") { Cow::Owned(text.replace("\r\n", "\n")) } else { Cow::Borrowed(text) }
}

async fn verdict(site: &Site<'_>, script: &Script<'_>, status: ExitStatus, output: &Output<'_>) -> Result<(), Halt> {
    let how = match status {
        ExitStatus::Exited(0) => return Ok(()),
        ExitStatus::Exited(code) => format!("ended with exit code {code}"),
        ExitStatus::Signalled(signal) => format!("was ended by signal {signal}"),
        ExitStatus::TimedOut => {
            let message = format!("did not end within its limit of {} s", script.limit.as_secs());
            let message = raise(site, script, |raise| raise.with_way_out("setup", &message));
            let event =
                EventBody::LimitHit { limit: "setup".to_owned(), message: format!("{} {message}", script.what) };
            tell(site, [event]).await?;
            message
        }
    };
    let last: Vec<&str> = output.last.iter().map(String::as_str).collect();
    let said = if last.is_empty() { "it printed nothing".to_owned() } else { format!("it said:\n{}", last.join("\n")) };
    let halt = Halt::failed(format!("{} (`{}`) {how}; {said}", script.what, script.shown));
    Err(match offline(site) {
        Some(way_out) if !matches!(status, ExitStatus::TimedOut) => halt.with_way_out(&way_out),
        Some(_) | None => halt,
    })
}

/// What may help a script that failed for want of the network; nothing where it has all of it.
fn offline(site: &Site<'_>) -> Option<String> {
    let policy = &site.environment.spec.setup_network;
    let reach = match policy.internet {
        Internet::All => return None,
        Internet::Off if policy.domains.is_empty() => "setup may reach nothing here".to_owned(),
        Internet::Off => format!("setup may reach only {} listed hosts here", policy.domains.len()),
        Internet::Packages => "setup may reach only package managers' hosts here".to_owned(),
        Internet::Common => "setup may reach only common hosts here".to_owned(),
    };
    let name = &site.environment.name;
    Some(format!(
        "{reach}; if it needs more: carrel environment edit {name} --setup-internet all, or --setup-allow-domain HOST"
    ))
}

/// Asks how the script's limits are raised.
fn raise<T>(site: &Site<'_>, script: &Script<'_>, ask: impl FnOnce(Raise<'_>) -> T) -> T {
    let setup_s = u32::try_from(script.limit.as_secs()).unwrap_or(u32::MAX);
    let limits = ResourceLimits { setup_s, output_bytes: script.output_bytes, ..site.environment.spec.limits };
    ask(Raise { environment: site.environment, limits: &limits })
}

/// Output on its way into events.
struct Output<'a> {
    id: &'a str,
    shown: Shown,
    last: VecDeque<String>,
    wakes: Option<Instant>,
}

impl Output<'_> {
    fn take(&mut self, bytes: &[u8]) {
        self.shown.push(bytes);
        self.wakes.get_or_insert_with(|| Instant::now() + COLLECT_FOR);
    }

    async fn flush(&mut self, site: &Site<'_>) -> Result<(), Halt> {
        let texts = self.shown.flush(&site.control.inner.redactor);
        self.wakes = self.shown.is_waiting().then(|| Instant::now() + COLLECT_FOR);
        self.tell(site, texts).await
    }

    async fn finish(&mut self, site: &Site<'_>, status: ExitStatus, took: Duration) -> Result<(), Halt> {
        let texts = self.shown.finish(&site.control.inner.redactor);
        self.tell(site, texts).await?;
        let (output_bytes, dropped_bytes) = self.shown.totals();
        let end = match status {
            ExitStatus::Exited(code) => CommandEnd::Exited { code },
            ExitStatus::Signalled(signal) => CommandEnd::Signalled { signal },
            ExitStatus::TimedOut => CommandEnd::TimedOut,
        };
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let command_id = self.id.to_owned();
        tell(site, [EventBody::CommandEnded { command_id, end, duration_ms, output_bytes, dropped_bytes }]).await
    }

    async fn tell(&mut self, site: &Site<'_>, texts: Vec<String>) -> Result<(), Halt> {
        for line in texts.iter().flat_map(|text| text.lines()).filter(|line| !line.trim().is_empty()) {
            self.last.push_back(line.chars().take(300).collect());
            if self.last.len() > LAST_LINES {
                self.last.pop_front();
            }
        }
        let output = |text| EventBody::CommandOutput { command_id: self.id.to_owned(), text };
        tell(site, texts.into_iter().map(output)).await
    }
}

async fn tell(site: &Site<'_>, bodies: impl IntoIterator<Item = EventBody>) -> Result<(), Halt> {
    let redactor = &site.control.inner.redactor;
    site.tell_all(bodies.into_iter().map(|body| for_people(body, redactor)).collect()).await
}

fn lost(what: &str) -> Halt {
    Halt::Failed { reason: format!("the connection to the sandbox was lost while {what} ran"), retryable: true }
}
