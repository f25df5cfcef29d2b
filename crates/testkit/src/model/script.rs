//! What the scripted model says, to whom, and what goes wrong first.
//!
//! A script is a list of conversations. A request belongs to the conversation whose `when` is contained in the latest
//! possible message of a person; its step is the number of answers the model has given since then, counted in the
//! request itself. So a request that is made again gets the same answer again, and any number of attempts can be
//! served at once.

use serde::Deserialize;
use serde_json::Value;

/// Everything a server will say.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// The bearer token, or the `x-api-key`, that must be sent. Without one, any is taken, and none.
    #[serde(default)]
    pub(super) key: Option<String>,
    /// The models the server says it has, and without which it answers 404; none for any.
    #[serde(default)]
    pub(super) models: Vec<String>,
    /// Who is answered what. The first that matches is taken.
    pub(super) conversations: Vec<Conversation>,
}

/// What is said to one prompt and what follows it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conversation {
    /// A part of the prompt; empty for any.
    #[serde(default)]
    pub when: String,
    /// The answers, one for each request.
    pub steps: Vec<Step>,
}

/// One answer, and what goes wrong before it is given.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What happens to the first requests for this step, one each. In a step without a reply the last one happens to
    /// all further requests too.
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// The answer.
    #[serde(default)]
    pub reply: Option<Reply>,
}

/// One response of the model.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// What it consists of.
    pub items: Vec<Item>,
    /// What it is said to have cost; counted from the request and the items unless given.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// Whether only the least is sent that a server may send: no `event:` lines, no deltas, no usage, no item ids.
    #[serde(default)]
    pub terse: bool,
    /// Whether all of it is sent in one piece, by a server that does not stream although it is asked to.
    #[serde(default)]
    pub whole: bool,
    /// Time to think before the first byte.
    #[serde(default)]
    pub delay_ms: u64,
}

/// One output item of a response.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Item {
    /// Text for the person.
    Message(String),
    /// A summary of thoughts, with encrypted content beside it.
    Reasoning(String),
    /// A call of a function.
    Call {
        /// Its name.
        name: String,
        /// Its arguments; a string is sent as it is, so that it need not be JSON.
        arguments: Value,
    },
    /// A call of a freeform tool.
    Custom {
        /// Its name.
        name: String,
        /// Its input.
        input: String,
    },
}

/// What a response is said to have cost, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Sent, cached ones included.
    pub input: u64,
    /// Cached.
    #[serde(default)]
    pub cached: u64,
    /// Produced, reasoning included.
    pub output: u64,
    /// Reasoning.
    #[serde(default)]
    pub reasoning: u64,
}

/// What can go wrong with a response.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// An HTTP error in the API's form.
    Status {
        /// Its status code.
        code: u16,
        /// What the server says.
        #[serde(default)]
        message: String,
        /// The `retry-after` header.
        #[serde(default)]
        retry_after: Option<String>,
    },
    /// The connection breaks after so many bytes of the whole answer.
    Cut {
        /// Bytes of the body.
        after_bytes: usize,
    },
    /// A whole answer in which there is nothing.
    Empty,
    /// The answer ends early, but properly, after so many whole items.
    Short {
        /// Items that still arrive.
        after_items: usize,
    },
    /// Nothing more comes after so many bytes, though the connection stays.
    Stall {
        /// Bytes of the body.
        after_bytes: usize,
    },
    /// After the events within so many bytes the connection is only kept alive, by comments and `ping` events.
    KeepAlive {
        /// Bytes of the body.
        after_bytes: usize,
    },
    /// An event stream whose events are not JSON.
    Garbage,
    /// A page instead of an event stream.
    Html,
    /// One event of this size, never ending in a line feed before it.
    Huge {
        /// Its length.
        size_bytes: usize,
    },
    /// A whole answer that ends in `response.incomplete`, or with the reason that says the same in the other APIs.
    Incomplete {
        /// `max_output_tokens`, `content_filter`, …
        reason: String,
    },
    /// `response.failed` right after the beginning; in the other APIs an error.
    Failed {
        /// `rate_limit_exceeded`, `context_length_exceeded`, `insufficient_quota`, `server_error`, …
        code: String,
        /// In words.
        message: String,
    },
    /// An `error` event right after the beginning.
    Error {
        /// The same codes.
        code: String,
        /// In words.
        message: String,
    },
}

/// A script that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the script is not understood: {0}")]
pub struct ScriptError(#[from] serde_json::Error);

impl Script {
    /// One conversation for every prompt.
    pub fn new<S: Into<Step>>(steps: impl IntoIterator<Item = S>) -> Self {
        Self::default().when("", steps)
    }

    /// Adds a conversation for prompts that contain this text, before the one for every prompt.
    #[must_use]
    pub fn when<S: Into<Step>>(mut self, prompt: impl Into<String>, steps: impl IntoIterator<Item = S>) -> Self {
        let steps = steps.into_iter().map(Into::into).collect();
        let catch_all = self.conversations.iter().position(|conversation| conversation.when.is_empty());
        let place = catch_all.unwrap_or(self.conversations.len());
        self.conversations.insert(place, Conversation { when: prompt.into(), steps });
        self
    }

    /// Asks for this bearer token.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Has only these models.
    #[must_use]
    pub fn models<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.models = names.into_iter().map(Into::into).collect();
        self
    }

    /// Reads a recorded script: the fields of this module's types, as JSON.
    ///
    /// # Errors
    /// When it is not JSON of that form; the message names line and column.
    pub fn from_json(text: &str) -> Result<Self, ScriptError> {
        Ok(serde_json::from_str(text)?)
    }
}

impl Step {
    /// This happens to every request, and nothing is ever answered.
    #[must_use]
    pub fn always(fault: Fault) -> Self {
        Self { faults: vec![fault], reply: None }
    }
}

impl Reply {
    /// Text for the person.
    pub fn message(text: impl Into<String>) -> Self {
        Self::default().and(Item::Message(text.into()))
    }

    /// A call of a function.
    pub fn call(name: impl Into<String>, arguments: Value) -> Self {
        Self::default().and(Item::Call { name: name.into(), arguments })
    }

    /// A call of `exec_command` with nothing but the command.
    pub fn command(cmd: impl Into<String>) -> Self {
        Self::call("exec_command", serde_json::json!({ "cmd": cmd.into() }))
    }

    /// A call of a freeform tool.
    pub fn custom(name: impl Into<String>, input: impl Into<String>) -> Self {
        Self::default().and(Item::Custom { name: name.into(), input: input.into() })
    }

    /// Thoughts first.
    pub fn reasoning(text: impl Into<String>) -> Self {
        Self::default().and(Item::Reasoning(text.into()))
    }

    /// Adds an item.
    #[must_use]
    pub fn and(mut self, item: Item) -> Self {
        self.items.push(item);
        self
    }

    /// Adds the items of another reply.
    #[must_use]
    pub fn then(mut self, other: Self) -> Self {
        self.items.extend(other.items);
        self
    }

    /// Says what it cost.
    #[must_use]
    pub const fn usage(mut self, usage: Usage) -> Self {
        self.usage = Some(usage);
        self
    }

    /// Sends only the least that a server may send.
    #[must_use]
    pub const fn terse(mut self) -> Self {
        self.terse = true;
        self
    }

    /// Sends all of it in one piece.
    #[must_use]
    pub const fn whole(mut self) -> Self {
        self.whole = true;
        self
    }

    /// Lets something go wrong once before.
    #[must_use]
    pub fn after(self, fault: Fault) -> Step {
        Step::from(self).after(fault)
    }
}

impl Step {
    /// Lets one more thing go wrong before.
    #[must_use]
    pub fn after(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }
}

impl From<Reply> for Step {
    fn from(reply: Reply) -> Self {
        Self { faults: Vec::new(), reply: Some(reply) }
    }
}
