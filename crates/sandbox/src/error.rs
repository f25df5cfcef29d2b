//! What can go wrong with a sandbox, each variant a thing a caller can do something about.

use carrel_domain::SandboxId;
use carrel_runner::protocol::ProtocolError;

use crate::LayerName;

/// Why an operation on a sandbox failed.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// There is no such sandbox any more (destroyed, rebooted, or ended for want of a controller).
    #[error("sandbox {0} is gone; launch it again")]
    Gone(SandboxId),
    /// A sandbox of that id was launched before.
    #[error("sandbox {0} exists already; attach to it or destroy it first")]
    Exists(SandboxId),
    /// There is no such kept layer.
    #[error("there is no kept layer `{0}`; make it again, or launch without it")]
    NoSuchLayer(LayerName),
    /// A layer of that name was kept before.
    #[error("a kept layer `{0}` exists already; use it, or remove it first")]
    LayerExists(LayerName),
    /// The stream to the runner broke or was taken over; the sandbox may well be alive.
    #[error("the connection to the sandbox's runner is closed; attach to the sandbox again")]
    Disconnected,
    /// The runner said something it must not; the connection was closed.
    #[error("the sandbox's runner broke its protocol ({0}); destroy the sandbox")]
    Protocol(#[from] ProtocolError),
    /// This machine does not let sandboxes be made; the text says what to change.
    #[error("{0}")]
    Unsupported(String),
    /// The launcher could not make this sandbox.
    #[error("the sandbox was not launched: {0}")]
    Launch(String),
    /// Nothing answered in time.
    #[error("{what} took longer than {seconds} s")]
    TimedOut {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        seconds: u64,
    },
    /// Nothing is at the path in the sandbox.
    #[error("`{path}` is not in the sandbox")]
    NotFound {
        /// The path asked for.
        path: String,
    },
    /// It is a folder, FIFO, socket or device.
    #[error("`{path}` is not a regular file")]
    NotAFile {
        /// The path asked for.
        path: String,
    },
    /// The file is longer than the caller takes.
    #[error("`{path}` has {size_bytes} bytes, more than the {max_bytes} asked for")]
    TooLarge {
        /// The path asked for.
        path: String,
        /// Its length.
        size_bytes: u64,
        /// The caller's limit.
        max_bytes: u64,
    },
    /// The command's program could not be run.
    #[error("cannot start `{program}`: {reason}")]
    CannotStart {
        /// The first word of the command.
        program: String,
        /// Why.
        reason: String,
    },
    /// The command's output was streamed; it cannot be had again.
    #[error("command `{0}` streams its output and cannot be attached to; start it under a new id")]
    NotAttachable(String),
    /// The runner knows no command of that id.
    #[error("the sandbox knows no command `{0}`")]
    UnknownCommand(String),
    /// The command reads no more input.
    #[error("the command has closed its standard input")]
    StdinClosed,
    /// The caller asked for something that makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The operating system inside the sandbox refused.
    #[error("{what}: {reason}")]
    Inside {
        /// What was tried.
        what: String,
        /// The system's words.
        reason: String,
    },
    /// The host's operating system refused.
    #[error("{what}")]
    Host {
        /// What was tried.
        what: String,
        /// The system's error.
        source: std::io::Error,
    },
}

impl SandboxError {
    /// For `map_err`: says what was tried on the host.
    pub(crate) fn host(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Host { what, source }
    }
}
