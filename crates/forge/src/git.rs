//! Running the git program: a strict environment, an argument vector, a deadline, bounded output, and no survivors.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use carrel_domain::Redactor;

use crate::error::ForgeError;
use crate::options::GitOptions;
use crate::words;

/// Configuration of every call. Where the mirror's own configuration differs, this wins.
const CONFIGURATION: &[(&str, &str)] = &[
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.protectHFS", "true"),
    ("core.protectNTFS", "true"),
    // What a commit or a reference leads to outlasts a power cut; many objects wait for the disk together.
    ("core.fsync", "committed,loose-object,reference"),
    ("core.fsyncMethod", "batch"),
    ("core.filesRefLockTimeout", "5000"),
    ("core.packedRefsTimeout", "5000"),
    ("credential.helper", ""),
    ("fetch.recurseSubmodules", "false"),
    ("gc.auto", "0"),
    ("http.followRedirects", "initial"),
    ("http.lowSpeedLimit", "1000"),
    ("http.lowSpeedTime", "60"),
    ("init.defaultBranch", "main"),
    ("maintenance.auto", "false"),
    ("protocol.ext.allow", "never"),
    ("protocol.fd.allow", "never"),
    ("submodule.recurse", "false"),
    ("transfer.fsckObjects", "true"),
    // Old repositories have these harmless flaws, and every forge takes them.
    ("fetch.fsck.badDate", "ignore"),
    ("fetch.fsck.badDateOverflow", "ignore"),
    ("fetch.fsck.badEmail", "ignore"),
    ("fetch.fsck.badFilemode", "ignore"),
    ("fetch.fsck.badName", "ignore"),
    ("fetch.fsck.badTimezone", "ignore"),
    ("fetch.fsck.missingEmail", "ignore"),
    ("fetch.fsck.missingNameBeforeEmail", "ignore"),
    ("fetch.fsck.missingSpaceBeforeDate", "ignore"),
    ("fetch.fsck.missingSpaceBeforeEmail", "ignore"),
    ("fetch.fsck.missingTaggerEntry", "ignore"),
    ("fetch.fsck.multipleAuthors", "ignore"),
    ("fetch.fsck.zeroPaddedDate", "ignore"),
    ("fetch.fsck.zeroPaddedFilemode", "ignore"),
];

/// What is kept of standard error: its end.
const STDERR_BYTES: usize = 32 << 10;

/// What standard output may be unless the call says otherwise.
const STDOUT_BYTES: usize = 1 << 20;

/// How long a killed process may take to be gone.
const KILLED_WITHIN: Duration = Duration::from_secs(1);

/// Takes known secrets out; one for the installation's, one for those of the credentials file.
pub(crate) type Redactors = Vec<Redactor>;

/// One call of git being put together.
pub(crate) struct Call {
    what: &'static str,
    command: Command,
    configuration: Vec<(OsString, OsString)>,
    stdin: Vec<u8>,
    deadline: Duration,
    stdout_bytes: usize,
    redactors: Redactors,
}

/// How a call ended.
pub(crate) struct Ended {
    what: &'static str,
    code: Option<i32>,
    /// Everything it wrote.
    pub(crate) stdout: Vec<u8>,
    stderr: Vec<u8>,
    redactors: Redactors,
}

impl Call {
    /// `git [--git-dir=…] <what>` with nothing of this process's environment, and at most so much memory.
    pub(crate) fn new(
        options: &GitOptions,
        git_dir: Option<&Path>,
        what: &'static str,
        deadline: Duration,
        memory_bytes: Option<u64>,
    ) -> Self {
        let mut command = match memory_bytes {
            None => Command::new("git"),
            Some(most) => {
                let mut command = Command::new("prlimit");
                command.arg(format!("--as={most}")).arg("git");
                command
            }
        };
        command
            .env_clear()
            .env("PATH", &options.search_path)
            .env("HOME", "/nonexistent")
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .env("GIT_ALLOW_PROTOCOL", "file:http:https:ssh")
            .env("GIT_ASKPASS", "/bin/false")
            .env("SSH_ASKPASS", "/bin/false")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_SSH_COMMAND", "/bin/false")
            .env("GIT_TERMINAL_PROMPT", "0")
            .current_dir("/");
        if let Some(git_dir) = git_dir {
            let mut option = OsString::from("--git-dir=");
            option.push(git_dir);
            command.arg(option);
        }
        command.arg(what);
        Self {
            what,
            command,
            configuration: CONFIGURATION.iter().map(|(key, value)| (key.into(), value.into())).collect(),
            stdin: Vec::new(),
            deadline,
            stdout_bytes: STDOUT_BYTES,
            redactors: vec![options.redactor.clone()],
        }
    }

    /// Adds an argument.
    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    pub(crate) fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets a variable of the environment.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Adds a setting; for one that may be given several times, after those that are there.
    pub(crate) fn configure(mut self, key: &str, value: impl Into<OsString>) -> Self {
        self.configuration.push((key.into(), value.into()));
        self
    }

    /// Runs as this user and group, in this folder.
    pub(crate) fn within(mut self, folder: &Path, owner: Option<(u32, u32)>) -> Self {
        self.command.current_dir(folder);
        if let Some((user, group)) = owner {
            self.command.uid(user).gid(group);
        }
        self
    }

    /// Hands these bytes in.
    pub(crate) fn stdin(mut self, bytes: Vec<u8>) -> Self {
        self.stdin = bytes;
        self
    }

    /// Allows that much standard output; more is an error.
    pub(crate) fn stdout_bytes(mut self, most: usize) -> Self {
        self.stdout_bytes = most;
        self
    }

    /// Takes these secrets out of what is said, too.
    pub(crate) fn redact(mut self, redactor: Redactor) -> Self {
        self.redactors.push(redactor);
        self
    }

    /// Starts it in a group of its own, so that what git starts (ssh, index-pack, a helper) can be killed with it.
    fn spawn(&mut self) -> std::io::Result<(Child, Group)> {
        self.command.env("GIT_CONFIG_COUNT", self.configuration.len().to_string());
        for (index, (key, value)) in self.configuration.iter().enumerate() {
            self.command.env(format!("GIT_CONFIG_KEY_{index}"), key);
            self.command.env(format!("GIT_CONFIG_VALUE_{index}"), value);
        }
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.command.process_group(0).kill_on_drop(true);
        let child = self.command.spawn()?;
        let group = Group::of(child.id());
        Ok((child, group))
    }

    /// Starts it, to be asked one thing after another. It is killed when what is given back is dropped.
    pub(crate) fn talk(mut self) -> Result<Talk, ForgeError> {
        let what = self.what;
        let failed = || ForgeError::io(format!("run git {what}"));
        let (mut child, group) = self.spawn().map_err(failed())?;
        let (Some(input), Some(output), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(failed()(std::io::Error::other("its input or output is not a pipe")));
        };
        let output = BufReader::new(output);
        Ok(Talk { what, input, output, errors, redactors: self.redactors, _child: child, _group: group })
    }

    /// Runs it to its end, or to its deadline; then it is killed with all its children, as it is when this is dropped.
    pub(crate) async fn run(mut self) -> Result<Ended, ForgeError> {
        let what = self.what;
        let failed = || ForgeError::io(format!("run git {what}"));
        let (mut child, mut group) = self.spawn().map_err(failed())?;
        let input = child.stdin.take();
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(failed()(std::io::Error::other("its output is not a pipe")));
        };
        let work = async {
            let feed = async {
                if let Some(mut input) = input {
                    // Git may end before it has read everything; why it did is in its words.
                    let _ = input.write_all(&self.stdin).await;
                }
                Ok(())
            };
            let (stdout, stderr, ()) =
                tokio::try_join!(read_within(stdout, self.stdout_bytes), read_tail(stderr), feed)?;
            Ok::<_, std::io::Error>((stdout, stderr, child.wait().await?))
        };
        let Ok(done) = tokio::time::timeout(self.deadline, work).await else {
            drop(group);
            // It goes at once, unless the kernel holds it; then it is waited for behind our back.
            let _ = tokio::time::timeout(KILLED_WITHIN, child.wait()).await;
            return Err(ForgeError::TimedOut { what, after: self.deadline });
        };
        let (stdout, stderr, status) = done.map_err(failed())?;
        group.has_ended();
        Ok(Ended { what, code: status.code(), stdout, stderr, redactors: self.redactors })
    }
}

/// A git that is asked one thing after another.
pub(crate) struct Talk {
    what: &'static str,
    pub(crate) input: ChildStdin,
    pub(crate) output: BufReader<ChildStdout>,
    errors: ChildStderr,
    redactors: Redactors,
    _child: Child,
    _group: Group,
}

impl Talk {
    /// What is to be said when an answer could not be read: git's own last words, or else the error.
    pub(crate) async fn failed(self, error: std::io::Error) -> ForgeError {
        // It may live on and say nothing: it is killed first, and its words are in the pipe.
        let Self { what, errors, redactors, _group: group, .. } = self;
        drop(group);
        let said = tokio::time::timeout(KILLED_WITHIN, read_tail(errors)).await;
        let words =
            words::clean(&said.ok().and_then(Result::ok).unwrap_or_default(), &redactors.iter().collect::<Vec<_>>());
        let words = if words.is_empty() { error.to_string() } else { words };
        ForgeError::Git { what, words }
    }
}

impl Ended {
    /// Whether it ended with zero.
    pub(crate) fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// Its exit status; none when a signal ended it.
    pub(crate) fn code(&self) -> Option<i32> {
        self.code
    }

    /// What it said, fit to be shown.
    pub(crate) fn words(&self) -> String {
        self.clean(&self.stderr)
    }

    /// Text of git's or a remote's, fit to be shown.
    pub(crate) fn clean(&self, text: &[u8]) -> String {
        words::clean(text, &self.redactors.iter().collect::<Vec<_>>())
    }

    /// Standard output as text, without the line end.
    pub(crate) fn line(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }

    /// Itself when it succeeded; else an error that has to do with this machine only.
    pub(crate) fn local(self) -> Result<Self, ForgeError> {
        if self.succeeded() {
            return Ok(self);
        }
        let words = self.words();
        match words::meaning(&words) {
            words::Meaning::DiskFull => Err(ForgeError::DiskFull { words }),
            _ => Err(self.other(words)),
        }
    }

    /// The error that has no name of its own.
    pub(crate) fn other(&self, words: String) -> ForgeError {
        let words = match (words.is_empty(), self.code) {
            (false, _) => words,
            (true, Some(code)) => format!("it said nothing and ended with status {code}"),
            (true, None) => "it was killed".to_owned(),
        };
        ForgeError::Git { what: self.what, words }
    }
}

/// A process group that is killed when this is dropped, unless its leader is known to have ended.
struct Group(Option<Pid>);

impl Group {
    fn of(leader: Option<u32>) -> Self {
        Self(leader.and_then(|id| i32::try_from(id).ok()).filter(|id| *id > 1).map(Pid::from_raw))
    }

    /// The leader has been waited for: its number may now be another's.
    fn has_ended(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

async fn read_within(mut from: impl AsyncRead + Unpin, most: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    (&mut from).take(limit).read_to_end(&mut bytes).await?;
    if bytes.len() > most {
        return Err(std::io::Error::other(format!("its output is longer than {most} bytes")));
    }
    Ok(bytes)
}

/// The last bytes of a stream, from a whole line on.
async fn read_tail(mut from: impl AsyncRead + Unpin) -> std::io::Result<Vec<u8>> {
    let mut tail = Vec::new();
    let mut cut = false;
    let mut chunk = [0_u8; 4096];
    loop {
        let length = from.read(&mut chunk).await?;
        if length == 0 {
            break;
        }
        tail.extend_from_slice(&chunk[..length]);
        if tail.len() > 2 * STDERR_BYTES {
            tail.drain(..tail.len() - STDERR_BYTES);
            cut = true;
        }
    }
    if cut {
        // The first line may be half a secret.
        let whole = tail.iter().position(|byte| *byte == b'\n').map_or(tail.len(), |end| end + 1);
        tail.drain(..whole);
    }
    Ok(tail)
}
