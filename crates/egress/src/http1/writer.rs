//! Writes answers to a connection: a head, and a body of a known length, in chunks, or up to the end.

use std::io::{self, Write as _};

use bytes::{Buf, Bytes};
use http::header;
use http::response::Parts;
use http::{Method, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::body::Body;

/// A first piece up to this long is written together with the head.
const TOGETHER_BYTES: usize = 16 << 10;

/// How an answer's body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delimited {
    /// There is none.
    Empty,
    /// By `content-length`.
    Length,
    /// By chunks.
    Chunked,
    /// By the end of the connection.
    End,
}

/// What was asked, as far as it decides how the answer is written.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// The method: an answer to HEAD has no body.
    pub(crate) method: Method,
    /// HTTP/1.0, which knows no chunks.
    pub(crate) is_old: bool,
    /// Whether another request may follow.
    pub(crate) keeps_alive: bool,
}

/// Writes an answer whose hop-by-hop headers have been taken out. Returns whether another request may follow.
pub(crate) async fn answer<W: AsyncWrite + Unpin>(
    writer: &mut W,
    asked: &Asked,
    mut parts: Parts,
    mut body: Body,
) -> io::Result<bool> {
    let delimited = delimited(asked, &mut parts, &body);
    let keeps_alive = asked.keeps_alive && delimited != Delimited::End;
    let mut out = head(asked, &parts, delimited, keeps_alive)?;
    if delimited == Delimited::Empty {
        writer.write_all(&out).await?;
        writer.flush().await?;
        return Ok(keeps_alive);
    }
    loop {
        // What waits is written before waiting for more: an answer may take its time.
        let frame = match futures::poll!(body.frame()) {
            std::task::Poll::Ready(frame) => frame,
            std::task::Poll::Pending => {
                if !out.is_empty() {
                    writer.write_all(&out).await?;
                    out.clear();
                }
                writer.flush().await?;
                body.frame().await
            }
        };
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(io::Error::other)?.into_data() else { continue };
        if !data.is_empty() {
            piece(writer, &mut out, data, delimited).await?;
        }
    }
    if delimited == Delimited::Chunked {
        out.extend_from_slice(b"0\r\n\r\n");
    }
    if !out.is_empty() {
        writer.write_all(&out).await?;
    }
    writer.flush().await?;
    Ok(keeps_alive)
}

async fn piece<W: AsyncWrite + Unpin>(
    writer: &mut W,
    out: &mut Vec<u8>,
    data: Bytes,
    delimited: Delimited,
) -> io::Result<()> {
    let is_chunk = delimited == Delimited::Chunked;
    if is_chunk {
        write!(out, "{:x}\r\n", data.len())?;
    }
    let end: &[u8] = if is_chunk { b"\r\n" } else { b"" };
    if out.len() + data.len() <= TOGETHER_BYTES {
        out.extend_from_slice(&data);
        out.extend_from_slice(end);
        return Ok(());
    }
    let mut all = (&out[..]).chain(data).chain(end);
    writer.write_all_buf(&mut all).await?;
    out.clear();
    Ok(())
}

fn delimited(asked: &Asked, parts: &mut Parts, body: &Body) -> Delimited {
    let has_none = asked.method == Method::HEAD
        || parts.status.is_informational()
        || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if has_none {
        if parts.status == StatusCode::NO_CONTENT || parts.status.is_informational() {
            parts.headers.remove(header::CONTENT_LENGTH);
        }
        return Delimited::Empty;
    }
    if let Some(length) = body.size_hint().exact() {
        parts.headers.insert(header::CONTENT_LENGTH, length.into());
        return Delimited::Length;
    }
    parts.headers.remove(header::CONTENT_LENGTH);
    if asked.is_old { Delimited::End } else { Delimited::Chunked }
}

fn head(asked: &Asked, parts: &Parts, delimited: Delimited, keeps_alive: bool) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(1024);
    let version = if asked.is_old { "HTTP/1.0" } else { "HTTP/1.1" };
    let reason = parts.status.canonical_reason().unwrap_or("Unknown");
    write!(out, "{version} {} {reason}\r\n", parts.status.as_u16())?;
    for (name, value) in &parts.headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if delimited == Delimited::Chunked {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    match (keeps_alive, asked.is_old) {
        (true, true) => out.extend_from_slice(b"connection: keep-alive\r\n"),
        (false, _) => out.extend_from_slice(b"connection: close\r\n"),
        (true, false) => {}
    }
    out.extend_from_slice(b"\r\n");
    Ok(out)
}

/// Tells the client to send the body it holds back.
pub(crate) async fn go_on<W: AsyncWrite + Unpin>(writer: &mut W) -> io::Result<()> {
    writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    writer.flush().await
}

/// Answers a request for a WebSocket: the connection is the server's from here.
pub(crate) async fn switched<W: AsyncWrite + Unpin>(writer: &mut W, parts: &Parts) -> io::Result<()> {
    let mut out = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n".to_vec();
    for (name, value) in &parts.headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    writer.write_all(&out).await?;
    writer.flush().await
}

/// Tells a client that its tunnel is open.
pub(crate) async fn tunnel_open<W: AsyncWrite + Unpin>(writer: &mut W) -> io::Result<()> {
    writer.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    writer.flush().await
}
