//! Bodies on their way: of one kind for all roads, each with a deadline for its next piece.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

use crate::http1::head::Framing;

/// Why a body ends before its end.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A body of whatever origin.
pub(crate) type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, BodyError>;

/// Pieces that wait between reading and sending.
const WAITING_PIECES: usize = 4;

/// A whole body.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body without a byte.
pub(crate) fn empty() -> Body {
    full(Bytes::new())
}

/// A body with a deadline for each piece.
pub(crate) fn timed<B>(inner: B, idle: Duration) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BodyError>,
{
    if inner.is_end_stream() {
        return empty();
    }
    Timed { inner, idle, deadline: Box::pin(tokio::time::sleep(idle)) }.boxed_unsync()
}

/// Reads a body that nobody wants, for so much and so long at most.
pub(crate) async fn drain(mut body: Body, mut most: usize, wait: Duration) {
    let read = async {
        while let Some(Ok(frame)) = body.frame().await {
            most = match most.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(rest) => rest,
                None => return,
            };
        }
    };
    // Whoever sends more than that finds its stream reset.
    let _too_slow = tokio::time::timeout(wait, read).await;
}

struct Timed<B> {
    inner: B,
    idle: Duration,
    deadline: Pin<Box<Sleep>>,
}

impl<B> http_body::Body for Timed<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(context) {
            let next = Instant::now() + this.idle;
            this.deadline.as_mut().reset(next);
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if this.deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err("a body stopped coming".into())));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A body that is read elsewhere: its pieces come through the sender, and `None` after the last. A sender that is gone
/// before is an error, so that half a body never passes for a whole one.
pub(crate) fn channel(framing: Framing) -> (mpsc::Sender<Option<Bytes>>, Body) {
    let (sender, receiver) = mpsc::channel(WAITING_PIECES);
    let left = match framing {
        Framing::Empty | Framing::Length(0) => return (sender, empty()),
        Framing::Length(length) => Some(length),
        Framing::Chunked => None,
    };
    (sender, Channel { receiver, left, is_done: false }.boxed_unsync())
}

/// The same of a receiver, with a length that nobody knows.
pub(crate) fn received(receiver: mpsc::Receiver<Option<Bytes>>) -> Body {
    Channel { receiver, left: None, is_done: false }.boxed_unsync()
}

struct Channel {
    receiver: mpsc::Receiver<Option<Bytes>>,
    left: Option<u64>,
    is_done: bool,
}

impl http_body::Body for Channel {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.is_done {
            return Poll::Ready(None);
        }
        let Poll::Ready(piece) = this.receiver.poll_recv(context) else { return Poll::Pending };
        match piece {
            Some(Some(bytes)) => {
                this.left = this.left.map(|left| left.saturating_sub(bytes.len() as u64));
                this.is_done = this.left == Some(0);
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Some(None) => {
                this.is_done = true;
                Poll::Ready(None)
            }
            None => Poll::Ready(Some(Err("the body ended before its end".into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_done
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}
