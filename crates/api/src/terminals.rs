//! A terminal over a WebSocket: binary frames are bytes, text frames are `TerminalRequest` and `TerminalNews`. Who may open
//! one, and on what, is decided by the routes; here it is carried, as long as the one who opened it may.

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use carrel_control::{Terminal, TerminalInput, TerminalOutput, TerminalSize};
use carrel_wire::{TerminalNews, TerminalRequest};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::Shared;
use crate::caller::Caller;
use crate::problem::ApiError;

/// The largest frame that is taken, in bytes.
const FRAME_BYTES: usize = 64 << 10;

/// Frames that may wait in either direction. Whoever does not take them holds the other side back.
const FRAMES: usize = 16;

/// How often a quiet connection is used, so that nothing between here and there takes it for dead. A peer that is gone
/// without a word is noticed by the system; one that merely does not look is waited for, as long as a terminal may idle.
const PING_EVERY: Duration = Duration::from_secs(30);

/// How often it is looked whether whoever opened it still may.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// How long the last frame may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// The largest terminal, in characters either way.
const LARGEST: u16 = 10_000;

/// The request to become a WebSocket.
pub(crate) struct Upgrade(WebSocketUpgrade);

impl<S: Send + Sync> FromRequestParts<S> for Upgrade {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let upgrade = WebSocketUpgrade::from_request_parts(parts, state).await.map_err(|rejection| {
            ApiError::new(StatusCode::BAD_REQUEST, "not-a-websocket").detail(format!(
                "a terminal is a WebSocket (RFC 6455, version 13): {}; `carrel task shell` opens one",
                rejection.body_text()
            ))
        })?;
        Ok(Self(upgrade.max_frame_size(FRAME_BYTES).max_message_size(FRAME_BYTES)))
    }
}

/// The size that a query names: of both directions, or of neither.
pub(crate) fn size(columns: Option<u16>, rows: Option<u16>) -> Result<Option<TerminalSize>, ApiError> {
    match (columns, rows) {
        (Some(columns), Some(rows)) => checked(columns, rows).map(Some),
        (None, None) => Ok(None),
        (Some(_), None) => {
            Err(ApiError::field("rows", "`columns` comes with `rows`; without both there is no terminal"))
        }
        (None, Some(_)) => {
            Err(ApiError::field("columns", "`rows` comes with `columns`; without both there is no terminal"))
        }
    }
}

fn checked(columns: u16, rows: u16) -> Result<TerminalSize, ApiError> {
    for (field, value) in [("columns", columns), ("rows", rows)] {
        if !(1..=LARGEST).contains(&value) {
            return Err(ApiError::field(field, format!("`{field}` is 1 to {LARGEST}, not {value}")));
        }
    }
    Ok(TerminalSize { columns, rows })
}

/// Becomes the WebSocket and carries the terminal over it.
pub(crate) fn open(shared: Shared, caller: Caller, upgrade: Upgrade, terminal: Terminal) -> Response {
    upgrade.0.on_upgrade(move |socket| async move {
        let (input, typed) = mpsc::channel(FRAMES);
        let (shown, output) = mpsc::channel(FRAMES);
        // When one of the two is over it drops its ends of the channels, and so the other is.
        tokio::join!(terminal.serve(typed, shown), carry(&shared, &caller, socket, input, output));
    })
}

/// Why a connection is closed.
enum Close {
    /// The terminal has ended.
    Ended,
    /// The client has gone.
    Gone,
    /// The client says what makes no sense.
    Nonsense(String),
    /// The client may not go on.
    NotAllowed,
    /// The service stops.
    Stopping,
}

async fn carry(
    shared: &Shared,
    caller: &Caller,
    socket: WebSocket,
    input: mpsc::Sender<TerminalInput>,
    output: mpsc::Receiver<TerminalOutput>,
) {
    let (mut sink, stream) = socket.split();
    let why = tokio::select! {
        // The shell's last words go before everything else.
        biased;
        why = outwards(&mut sink, output) => why,
        why = inwards(stream, input) => why,
        () = revoked(shared, caller) => Close::NotAllowed,
        () = shared.stop.cancelled() => Close::Stopping,
    };
    let (code, reason) = match why {
        Close::Gone => return,
        Close::Ended => (close_code::NORMAL, String::new()),
        Close::Nonsense(reason) => (close_code::POLICY, reason),
        Close::NotAllowed => (close_code::POLICY, "the token or session no longer holds; sign in again".to_owned()),
        Close::Stopping => (close_code::AWAY, "the service is stopping; open the terminal again later".to_owned()),
    };
    let last = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
    // Whoever does not take it in time has the connection end all the same.
    let _untaken = tokio::time::timeout(CLOSE_WITHIN, sink.send(last)).await;
}

/// Sends what the terminal shows.
async fn outwards(sink: &mut SplitSink<WebSocket, Message>, mut output: mpsc::Receiver<TerminalOutput>) -> Close {
    let mut pings = tokio::time::interval(PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            shown = output.recv() => match shown {
                Some(TerminalOutput::Told(text)) => news(&TerminalNews::Told { text }),
                Some(TerminalOutput::Started) => news(&TerminalNews::Started {}),
                Some(TerminalOutput::Bytes(bytes)) => Message::Binary(bytes),
                Some(TerminalOutput::Exited(code)) => news(&TerminalNews::Exit { code }),
                Some(TerminalOutput::Failed(reason)) => news(&TerminalNews::Failed { reason }),
                None => return Close::Ended,
            },
            _ = pings.tick() => Message::Ping(Vec::new().into()),
        };
        if sink.send(message).await.is_err() {
            return Close::Gone;
        }
    }
}

fn news(news: &TerminalNews) -> Message {
    Message::Text(serde_json::to_string(news).expect("news are plain data").into())
}

/// Takes what the client types.
async fn inwards(mut stream: SplitStream<WebSocket>, input: mpsc::Sender<TerminalInput>) -> Close {
    while let Some(Ok(message)) = stream.next().await {
        let typed = match message {
            Message::Binary(bytes) => TerminalInput::Bytes(bytes),
            Message::Text(text) => match request(&text) {
                Ok(typed) => typed,
                Err(reason) => return Close::Nonsense(reason),
            },
            Message::Ping(_) | Message::Pong(_) => continue,
            Message::Close(_) => return Close::Gone,
        };
        if input.send(typed).await.is_err() {
            // The terminal has ended. What it said last is on its way out.
            std::future::pending::<()>().await;
        }
    }
    Close::Gone
}

fn request(text: &str) -> Result<TerminalInput, String> {
    let request: TerminalRequest = serde_json::from_str(text)
        .map_err(|_| "a text frame is `{\"resize\":{\"columns\":80,\"rows\":24}}` or `{\"end\":{}}`".to_owned())?;
    match request {
        TerminalRequest::End {} => Ok(TerminalInput::End),
        TerminalRequest::Resize { columns, rows }
            if (1..=LARGEST).contains(&columns) && (1..=LARGEST).contains(&rows) =>
        {
            Ok(TerminalInput::Resize(TerminalSize { columns, rows }))
        }
        TerminalRequest::Resize { .. } => Err(format!("a terminal has 1 to {LARGEST} columns and rows")),
    }
}

/// Waits until the one who opened it may not go on.
async fn revoked(shared: &Shared, caller: &Caller) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if !caller.still_holds(&shared.identity).await {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_frame_is_a_request_or_is_refused() {
        let size = TerminalSize { columns: 120, rows: 40 };

        assert_eq!(request(r#"{"resize":{"columns":120,"rows":40}}"#), Ok(TerminalInput::Resize(size)));
        assert_eq!(request(r#"{"end":{}}"#), Ok(TerminalInput::End));
        for wrong in ["", "{}", "resize", r#"{"resize":{"columns":120}}"#, r#"{"resize":{"columns":-1,"rows":1}}"#] {
            assert!(request(wrong).is_err(), "{wrong}");
        }
        for wrong in [r#"{"resize":{"columns":0,"rows":40}}"#, r#"{"resize":{"columns":80,"rows":65535}}"#] {
            assert!(request(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_size_is_given_whole_or_not_at_all() {
        assert_eq!(size(Some(80), Some(24)).expect("a size"), Some(TerminalSize { columns: 80, rows: 24 }));
        assert_eq!(size(None, None).expect("none"), None);
        for (columns, rows) in [(Some(80), None), (None, Some(24)), (Some(0), Some(24)), (Some(80), Some(10_001))] {
            assert!(size(columns, rows).is_err(), "{columns:?} {rows:?}");
        }
    }
}
