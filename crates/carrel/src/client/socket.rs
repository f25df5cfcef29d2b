//! WebSockets of the API, over the same connections, proxies and trust as every other request.

use futures::StreamExt as _;
use futures::stream::{SplitSink, SplitStream};
use reqwest::{Method, StatusCode, Upgraded, header};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

use super::{Client, TIMEOUT};
use crate::exit::Failure;

/// The largest message that is taken, in bytes.
const MESSAGE_BYTES: usize = 1 << 20;

/// What goes to the service.
pub(crate) type Sink = SplitSink<WebSocketStream<Upgraded>, Message>;

/// What comes from it.
pub(crate) type Stream = SplitStream<WebSocketStream<Upgraded>>;

impl Client {
    /// Opens a WebSocket.
    ///
    /// # Errors
    /// When the service cannot be reached, or refuses, and says why.
    pub(crate) async fn socket(&self, path: &str) -> Result<(Sink, Stream), Failure> {
        let key = generate_key();
        // A connection of its own: one that is shared, as those of HTTP/2 are, becomes no WebSocket.
        let own =
            Self { http: Self::builder(self.is_local).http1_only().build().map_err(super::no_client)?, ..self.clone() };
        let request = own
            .request(Method::GET, path)?
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, &key);
        let response = tokio::time::timeout(TIMEOUT, request.send())
            .await
            .map_err(|_| Failure::unreachable(format!("{} does not answer", self.base)))?
            .map_err(|error| self.unreachable(&error))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(self.refusal(response).await);
        }
        let accepted = response.headers().get(header::SEC_WEBSOCKET_ACCEPT).and_then(|value| value.to_str().ok());
        if accepted != Some(derive_accept_key(key.as_bytes()).as_str()) {
            return Err(Failure::service(format!("what stands before {} does not let WebSockets through", self.base)));
        }
        let upgraded = response.upgrade().await.map_err(|error| self.unreachable(&error))?;
        let config =
            WebSocketConfig::default().max_message_size(Some(MESSAGE_BYTES)).max_frame_size(Some(MESSAGE_BYTES));
        Ok(WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await.split())
    }
}
