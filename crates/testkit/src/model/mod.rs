//! A model server that answers from a script: real HTTP on the loopback, the Responses, Chat Completions and Messages
//! APIs in their whole published forms, and as strict about requests as the real ones. It plays the model in tests and in
//! `carrel demo`.

mod chat;
mod check;
mod events;
mod messages;
mod place;
mod refusals;
mod script;
mod serve;
mod turn;
mod wire;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};
use url::Url;

pub use script::{Conversation, Fault, Item, Reply, Script, ScriptError, Step, Usage};

/// A running server. It ends when this is dropped.
#[derive(Debug)]
pub struct ScriptedModel {
    url: Url,
    exchanges: Arc<Exchanges>,
    _running: DropGuard,
}

/// One request the server got, and when.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// The path it was sent to, such as `/v1/responses`.
    pub path: String,
    /// The headers, names in lower case, in the order of their arrival.
    pub headers: Vec<(String, String)>,
    /// The body, byte for byte.
    pub body: Bytes,
    /// When the body had arrived.
    pub received_at: Instant,
    /// When the last byte of the answer was handed to the connection; `None` while it is under way, and when it was
    /// cut off.
    pub answered_at: Option<Instant>,
}

/// What the server and its owner share.
#[derive(Debug, Default)]
struct Exchanges {
    /// Every request so far, in the order of arrival.
    all: Mutex<Vec<Exchange>>,
    /// Told of each arrival.
    arrived: Notify,
}

impl Exchanges {
    fn lock(&self) -> MutexGuard<'_, Vec<Exchange>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ScriptedModel {
    /// Serves the script on a free port of the loopback.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start(script: Script) -> io::Result<Self> {
        let exchanges = Arc::<Exchanges>::default();
        let stop = CancellationToken::new();
        let address = serve::start(script, Arc::clone(&exchanges), stop.clone()).await?;
        let url = Url::parse(&format!("http://{address}/v1")).map_err(io::Error::other)?;
        Ok(Self { url, exchanges, _running: stop.drop_guard() })
    }

    /// The base URL, ending in `/v1`, the same for all three APIs.
    #[must_use]
    pub fn url(&self) -> Url {
        self.url.clone()
    }

    /// Every request so far, refused ones included.
    #[must_use]
    pub fn requests(&self) -> Vec<Exchange> {
        self.exchanges.lock().clone()
    }

    /// The request of this number, counted from 0: waits until it has arrived, however long that is.
    pub async fn request(&self, number: usize) -> Exchange {
        loop {
            // Asked for first, so that an arrival in between is not missed.
            let arrival = self.exchanges.arrived.notified();
            let mut arrival = std::pin::pin!(arrival);
            arrival.as_mut().enable();
            if let Some(exchange) = self.exchanges.lock().get(number) {
                return exchange.clone();
            }
            arrival.await;
        }
    }
}

impl Exchange {
    /// The value of a header, if it was sent.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null when it is not.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The items of the conversation: as they were sent to the Responses API, and as those that mean the same for the
    /// others.
    #[must_use]
    pub fn input(&self) -> Vec<Value> {
        wire::Wire::at(&self.path).items(&self.json())
    }

    /// The output sent for a tool call, if it was among the input: the first call's is 0.
    #[must_use]
    pub fn output(&self, index: usize) -> Option<String> {
        let outputs = self
            .input()
            .into_iter()
            .filter(|item| matches!(item["type"].as_str(), Some("function_call_output" | "custom_tool_call_output")));
        outputs.skip(index).map(|item| text(&item["output"])).next()
    }
}

/// The text of an output, which may be in parts.
fn text(output: &Value) -> String {
    match output {
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        output => output.as_str().unwrap_or_default().to_owned(),
    }
}
