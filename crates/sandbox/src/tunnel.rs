//! The connections that programs in a sandbox make to its proxy address, as streams on this side.
//!
//! What they ask for, and whether they get it, is not decided here: the bytes are a program's own, and hostile.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use crate::connection::Shared;

/// Where programs in a sandbox reach the receiver of [`Sandbox::tunnels`]: what their proxy variables should name.
///
/// [`Sandbox::tunnels`]: crate::Sandbox::tunnels
pub const TUNNEL_ADDRESS: (std::net::Ipv4Addr, u16) =
    (std::net::Ipv4Addr::LOCALHOST, carrel_runner::protocol::TUNNEL_PORT);

/// Hears of a sandbox's connections. It does not hold the sandbox's stream open: that ends with the last [`Sandbox`].
///
/// When it is dropped, new connections are refused and the ones it handed out are cut.
///
/// [`Sandbox`]: crate::Sandbox
pub struct Tunnels {
    number: u64,
    arrived: Arc<Notify>,
    shared: Arc<Shared>,
}

/// One connection a program made. Shutting it down ends what the program reads; dropping it before both sides are
/// shut down resets the program's connection, but for what was written before a shutdown, which still arrives.
pub struct Tunnel {
    number: u32,
    shared: Arc<Shared>,
}

impl Tunnels {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        let (number, arrived) = shared.lines().receive();
        Self { number, arrived, shared: Arc::clone(shared) }
    }

    /// The next connection; `None` when the stream to the runner is closed, or somebody else hears of them now.
    /// Nothing is lost when the wait is cancelled.
    pub async fn next(&mut self) -> Option<Tunnel> {
        loop {
            let arrived = self.arrived.notified();
            let next = self.shared.lines().next(self.number);
            match next {
                Ok(Some(number)) => return Some(Tunnel { number, shared: Arc::clone(&self.shared) }),
                Ok(None) => arrived.await,
                Err(()) => return None,
            }
        }
    }
}

impl Drop for Tunnels {
    fn drop(&mut self) {
        self.shared.lines().leave(self.number);
        self.shared.has_something_to_say();
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut lines = self.shared.lines();
        let result = lines.poll_read(self.number, context, into);
        if lines.has_words() {
            self.shared.has_something_to_say();
        }
        result
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = self.shared.lines().poll_write(self.number, context, bytes);
        if result.is_ready() {
            self.shared.has_something_to_say();
        }
        result
    }

    /// Nothing to do: what was written is on its way.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = self.shared.lines().end(self.number);
        self.shared.has_something_to_say();
        Poll::Ready(result)
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.shared.lines().drop_line(self.number);
        self.shared.has_something_to_say();
    }
}

impl fmt::Debug for Tunnels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnels").finish_non_exhaustive()
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").field("number", &self.number).finish_non_exhaustive()
    }
}
