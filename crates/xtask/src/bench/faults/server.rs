//! A server before the scripted model that hands its answers on, and spoils one answer of each case.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use super::damage::Damage;

/// How long a connection that stalls is kept, and how long events that never end come: longer than anybody waits.
const STALL: Duration = Duration::from_secs(120);
/// What is sent at once of what never ends.
const NOTHING: &[u8] = b": nothing\n\ndata: {\"type\":\"ping\"}\n\n";
const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n";

type Cases = Arc<Mutex<HashMap<String, Case>>>;

/// An answer that is to be spoilt, once.
struct Case {
    damage: Damage,
    turn: usize,
}

pub(super) struct Server {
    address: SocketAddr,
    cases: Cases,
    /// The cases so far: those that are over are no longer among the others.
    count: AtomicUsize,
}

impl Server {
    pub(super) async fn start(model: Url) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let behind = *model.socket_addrs(|| None)?.first().context("the model has an address")?;
        let cases = Cases::default();
        let known = Arc::clone(&cases);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let cases = Arc::clone(&known);
                // Whoever goes away in the middle has seen enough.
                tokio::spawn(async move { drop(serve(client, behind, &cases).await) });
            }
        });
        Ok(Self { address, cases, count: AtomicUsize::new(0) })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Spoils the answer of this turn of a case; its name, which must stand in its prompt.
    pub(super) fn expect(&self, damage: Damage, turn: usize) -> String {
        let mut cases = self.cases.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("case-{:04}", self.count.fetch_add(1, Ordering::Relaxed));
        cases.insert(name.clone(), Case { damage, turn });
        name
    }
}

async fn serve(mut client: TcpStream, behind: SocketAddr, cases: &Cases) -> Result<()> {
    let (head, request) = read_request(&mut client).await?;
    let path = head.split(' ').nth(1).context("a request has a path")?;
    let text = String::from_utf8_lossy(&request);
    let damage = take(cases, &text);
    // In HTTP/1.0 an answer ends with its connection, so its bytes are its own.
    let mut model = TcpStream::connect(behind).await?;
    let method = head.split(' ').next().unwrap_or("POST");
    let ask = format!("{method} {path} HTTP/1.0\r\nhost: model\r\ncontent-length: {}\r\n\r\n", request.len());
    model.write_all(ask.as_bytes()).await?;
    model.write_all(&request).await?;
    let mut answer = Vec::new();
    model.read_to_end(&mut answer).await?;
    let Some(damage) = damage else {
        client.write_all(&answer).await?;
        return Ok(client.shutdown().await?);
    };
    let head_end = answer.windows(4).position(|window| window == b"\r\n\r\n").context("an answer has a head")? + 4;
    spoil(client, &damage, answer.split_off(head_end)).await
}

/// The damage for this request, the first time that it is of the turn in question.
fn take(cases: &Cases, request: &str) -> Option<Damage> {
    let mut cases = cases.lock().unwrap_or_else(PoisonError::into_inner);
    let (_, rest) = request.split_once("[case-")?;
    let name = format!("case-{}", rest.get(..4)?);
    let case = cases.get(&name)?;
    // The result of the command stands in every later request.
    let turn = usize::from(request.contains("Process exited with code") || request.contains("tool_call_id"));
    if turn != case.turn {
        return None;
    }
    cases.remove(&name).map(|case| case.damage)
}

async fn read_request(client: &mut TcpStream) -> Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if client.read_buf(&mut bytes).await? == 0 {
            anyhow::bail!("it went away");
        }
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        });
        let mut body = bytes.split_off(end + 4);
        let mut rest = vec![0; length.unwrap_or_default().saturating_sub(body.len())];
        client.read_exact(&mut rest).await?;
        body.extend(rest);
        return Ok((head, body));
    }
}

async fn spoil(mut client: TcpStream, damage: &Damage, body: Vec<u8>) -> Result<()> {
    let head = format!("{HEAD}\r\n");
    let whole = [head.as_bytes(), &body].concat();
    match damage {
        Damage::Cut(place) => client.write_all(&chunked(&body)[..chunked_at(place.find(HEAD_LEN, &body))]).await?,
        Damage::Reset(place) => {
            client.write_all(&chunked(&body)[..chunked_at(place.find(HEAD_LEN, &body))]).await?;
            // What was sent before must have been read, or the reset takes it away.
            tokio::time::sleep(Duration::from_millis(50)).await;
            client.set_zero_linger()?;
            return Ok(());
        }
        Damage::Stall(place) => {
            client.write_all(&chunked(&body)[..chunked_at(place.find(HEAD_LEN, &body))]).await?;
            tokio::time::sleep(STALL).await;
        }
        Damage::Garbage(place) => {
            let at = place.find(head.len(), &body);
            client.write_all(&[&whole[..at], b"\xff\xfe{\0}\n\ndata: {\"broken\n\n", &whole[at..]].concat()).await?;
        }
        Damage::Twice | Damage::Swapped => {
            let mut events: Vec<&[u8]> = events(&body);
            if *damage == Damage::Twice {
                events = events.iter().flat_map(|event| [*event, *event]).collect();
            } else {
                let middle = events.len() / 2;
                events.swap(middle - 1, middle);
            }
            client.write_all(&[head.as_bytes(), &events.concat()].concat()).await?;
        }
        Damage::Status(status, body) => {
            let kind = if body.starts_with('{') { "application/json" } else { "text/event-stream" };
            let length =
                if matches!(status, 204) { String::new() } else { format!("content-length: {}\r\n", body.len()) };
            let location = if matches!(status, 301 | 302) { "location: /elsewhere\r\n" } else { "" };
            let text = format!(
                "HTTP/1.1 {status} So\r\ncontent-type: {kind}\r\n{length}{location}connection: close\r\n\r\n{body}"
            );
            client.write_all(text.as_bytes()).await?;
        }
        Damage::Type(kind) => {
            let kind = if kind.is_empty() { String::new() } else { format!("content-type: {kind}\r\n") };
            let head = format!("HTTP/1.1 200 OK\r\n{kind}connection: close\r\n\r\n");
            client.write_all(&[head.as_bytes(), &body].concat()).await?;
        }
        Damage::Huge(bytes) => {
            client.write_all(head.as_bytes()).await?;
            client.write_all(b"data: {\"type\":\"x\",\"y\":\"").await?;
            let piece = vec![b'z'; 1 << 16];
            for _ in 0..bytes / piece.len() {
                client.write_all(&piece).await?;
            }
            client.write_all(&[b"\"}\n\n", &body[..]].concat()).await?;
        }
        Damage::Endless => {
            client.write_all(head.as_bytes()).await?;
            let many = NOTHING.repeat(1000);
            let began = tokio::time::Instant::now();
            while began.elapsed() < STALL {
                client.write_all(&many).await?;
            }
        }
        Damage::Gzip => {
            let head = format!("{HEAD}content-encoding: gzip\r\n\r\n");
            client.write_all(&[head.as_bytes(), &body].concat()).await?;
        }
        Damage::EarlyHints => {
            client.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n").await?;
            client.write_all(&whole).await?;
        }
        Damage::FalseChunk => {
            let head = format!("{HEAD}transfer-encoding: chunked\r\n\r\n{:x}\r\n", body.len() + 100);
            client.write_all(&[head.as_bytes(), &body, b"\r\n0\r\n\r\n"].concat()).await?;
        }
        Damage::FalseLength(more) => {
            let length = i64::try_from(body.len())? + more;
            let head = format!("{HEAD}content-length: {length}\r\n\r\n");
            client.write_all(&[head.as_bytes(), &body].concat()).await?;
        }
        Damage::OtherLineEnds => {
            let text =
                String::from_utf8(body)?.replace("\n\n", "\r\n\r\n: a comment\r\n\r\n").replace("data: ", "data:");
            client.write_all(&[head.as_bytes(), text.as_bytes()].concat()).await?;
        }
        Damage::Trickled => {
            client.set_nodelay(true)?;
            for byte in whole {
                client.write_all(&[byte]).await?;
            }
        }
    }
    Ok(client.shutdown().await?)
}

/// The length of the head before a body that comes in chunks.
const HEAD_LEN: usize = HEAD.len() + "transfer-encoding: chunked\r\n\r\n".len();

/// An answer whose end is told: a byte a chunk would be true as well, but one chunk leaves places as they are.
fn chunked(body: &[u8]) -> Vec<u8> {
    let head = format!("{HEAD}transfer-encoding: chunked\r\n\r\n{:08x}\r\n", body.len());
    [head.as_bytes(), body, b"\r\n0\r\n\r\n"].concat()
}

/// Where a place of head and body is once the length of the chunk stands between them.
const fn chunked_at(place: usize) -> usize {
    if place > HEAD_LEN { place + CHUNK_LEN } else { place }
}

const CHUNK_LEN: usize = "00000000\r\n".len();

fn events(body: &[u8]) -> Vec<&[u8]> {
    let mut events = Vec::new();
    let mut from = 0;
    for at in body.windows(2).enumerate().filter(|(_, two)| *two == b"\n\n").map(|(at, _)| at + 2) {
        events.push(&body[from..at]);
        from = at;
    }
    events
}
