//! The request of an agent inside as it goes on to the server. Whatever it holds is read beside the runtime, a few at a time
//! of all attempts together, and is refused before it is read when it would take more memory than it is long.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::super::asked;
use super::counting::BYTES_OF_A_TOKEN;
use crate::{ModelEndpoint, Protocol};

/// Requests that are read at the same time.
const READ_AT_ONCE: usize = 2;

/// Bytes of requests that are read or sent at the same time.
const HELD_BYTES: usize = 256 << 20;

/// Values that one request may have: each takes many times the bytes that it is written with.
const MAX_VALUES: usize = 500_000;

/// What an image costs, in bytes of text: about 1,500 tokens, whatever its file is long.
const IMAGE_BYTES: usize = 6_000;

/// Room for the requests of all agents inside.
#[derive(Debug, Clone)]
pub(in crate::model) struct GuestRoom {
    reading: Arc<Semaphore>,
    held: Arc<Semaphore>,
}

impl Default for GuestRoom {
    fn default() -> Self {
        Self { reading: Arc::new(Semaphore::new(READ_AT_ONCE)), held: Arc::new(Semaphore::new(HELD_BYTES)) }
    }
}

/// A request as it is sent.
#[derive(Debug)]
pub(super) struct Sent {
    /// Gives its room back once nobody holds it.
    pub(super) body: Bytes,
    /// About how many tokens it has.
    pub(super) tokens: u64,
}

/// Why a request is not sent.
#[derive(Debug)]
pub(super) enum Unread {
    /// What it asks for makes no sense, or is not available.
    Refused(String),
    /// There was no room in time.
    Busy,
}

struct Body {
    bytes: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl GuestRoom {
    /// Reads what an agent asks, and writes what its server is asked. Its own words are dropped before this returns.
    pub(super) async fn read(&self, endpoint: &ModelEndpoint, asked: Bytes, deadline: Instant) -> Result<Sent, Unread> {
        let length = u32::try_from(asked.len()).map_err(|_| Unread::Busy)?;
        let room = |wanted, most: &Arc<Semaphore>| timeout_at(deadline, Arc::clone(most).acquire_many_owned(wanted));
        // Neither is ever closed.
        let held = room(length, &self.held).await.map_err(|_| Unread::Busy)?.map_err(|_| Unread::Busy)?;
        let reading = room(1, &self.reading).await.map_err(|_| Unread::Busy)?.map_err(|_| Unread::Busy)?;
        let (protocol, stream_usage, name) = (endpoint.protocol, endpoint.stream_usage, endpoint.name.clone());
        let read = tokio::task::spawn_blocking(move || {
            let written = write(protocol, stream_usage, &name, asked);
            drop(reading);
            written.map(|(bytes, tokens)| Sent { body: Bytes::from_owner(Body { bytes, _room: held }), tokens })
        });
        match read.await {
            Ok(read) => read.map_err(Unread::Refused),
            // It panics on nothing; whatever it was, this request is not sent.
            Err(_) => Err(Unread::Refused("the body cannot be read".to_owned())),
        }
    }
}

fn write(protocol: Protocol, stream_usage: bool, name: &str, asked: Bytes) -> Result<(Vec<u8>, u64), String> {
    if values_in(&asked) > MAX_VALUES {
        return Err(format!("the body has more than {MAX_VALUES} values"));
    }
    let Ok(Value::Object(mut body)) = serde_json::from_slice(&asked) else {
        return Err("the body is no JSON object".to_owned());
    };
    drop(asked);
    asked::allowed(protocol, &mut body)?;
    // An attempt has one model, whatever other names its agent knows: a smaller one for titles, for example.
    body.insert("model".to_owned(), json!(name));
    let streams = body.get("stream") == Some(&Value::Bool(true));
    if protocol == Protocol::ChatCompletions && streams && stream_usage {
        body.insert("stream_options".to_owned(), json!({ "include_usage": true }));
    }
    let body = Value::Object(body);
    let tokens = (text_bytes(&body) / BYTES_OF_A_TOKEN) as u64;
    Ok((body.to_string().into_bytes(), tokens))
}

/// About how many values there are: brackets, and what follows a comma or a colon, outside of strings.
fn values_in(json: &[u8]) -> usize {
    let (mut count, mut is_text, mut is_escaped) = (0, false, false);
    for byte in json {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            b'[' | b'{' | b',' | b':' if !is_text => count += 1,
            _ => {}
        }
    }
    count
}

/// How much text there is, with names and numbers; images as they are charged.
fn text_bytes(value: &Value) -> usize {
    let (mut left, mut bytes) = (vec![value], 0);
    while let Some(value) = left.pop() {
        match value {
            Value::String(text) if text.starts_with("data:") => bytes += IMAGE_BYTES,
            Value::String(text) => bytes += text.len(),
            Value::Array(values) => left.extend(values),
            Value::Object(fields) if fields.get("type").is_some_and(|kind| kind == "base64") => bytes += IMAGE_BYTES,
            Value::Object(fields) => {
                bytes += fields.keys().map(String::len).sum::<usize>();
                left.extend(fields.values());
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => bytes += BYTES_OF_A_TOKEN,
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn endpoint() -> ModelEndpoint {
        ModelEndpoint::new("gpt-5-test", "http://127.0.0.1:9/v1".parse().expect("a URL"), None)
    }

    async fn read(room: &GuestRoom, body: impl Into<Bytes>) -> Result<Sent, Unread> {
        room.read(&endpoint(), body.into(), Instant::now() + Duration::from_millis(50)).await
    }

    #[tokio::test]
    async fn what_is_sent_holds_its_room_until_it_is_sent() {
        let room = GuestRoom { held: Arc::new(Semaphore::new(40)), ..GuestRoom::default() };

        let sent = read(&room, r#"{"input":"four words of text"}"#).await.expect("there is room");
        assert!(matches!(read(&room, r#"{"input":"more"}"#).await, Err(Unread::Busy)));
        let written: Value = serde_json::from_slice(&sent.body).expect("it is JSON");
        drop(sent);

        assert_eq!(written, json!({"input": "four words of text", "model": "gpt-5-test", "store": false}));
        assert!(read(&room, r#"{"input":"more"}"#).await.is_ok());
        assert_eq!(room.held.available_permits(), 40);
    }

    #[tokio::test]
    async fn a_request_is_read_only_while_few_others_are() {
        let room = GuestRoom { reading: Arc::new(Semaphore::new(0)), ..GuestRoom::default() };

        assert!(matches!(read(&room, "{}").await, Err(Unread::Busy)));
        assert_eq!(room.held.available_permits(), HELD_BYTES);
    }

    #[tokio::test]
    async fn what_would_take_more_memory_than_it_is_long_is_not_read() {
        let many = format!(r#"{{"input":[{}[]]}}"#, "[],".repeat(MAX_VALUES));
        let text = json!({"input": "[,],{:".repeat(MAX_VALUES)}).to_string();

        let refused = read(&GuestRoom::default(), many).await;
        let fine = GuestRoom::default().read(&endpoint(), text.into(), Instant::now() + Duration::from_secs(60)).await;

        assert!(matches!(&refused, Err(Unread::Refused(why)) if why.contains("500000 values")), "{refused:?}");
        assert!(fine.is_ok(), "{fine:?}");
    }

    #[test]
    fn values_are_counted_outside_of_texts() {
        for (json, count) in [(r#"{"a":[1,2]}"#, 4), (r#"{"a,b\"[":"\\"}"#, 2), ("", 0), (r#""[[["#, 0)] {
            assert_eq!(values_in(json.as_bytes()), count, "{json}");
        }
    }

    #[test]
    fn an_image_counts_as_one_however_long_it_is() {
        let image = format!("data:image/png;base64,{}", "A".repeat(1 << 20));
        let body =
            json!({"input": [{"image_url": image}, {"source": {"type": "base64", "data": "A".repeat(1 << 20)}}]});

        assert!(text_bytes(&body) < 3 * IMAGE_BYTES, "{}", text_bytes(&body));
    }
}
