//! Figures of the proxy over loopback beside a plain connection, and beside another proxy whose address is given:
//! `figures [127.0.0.1:3128]`. Each line is the median and the 99th percentile of one small request, or a rate.
#![allow(clippy::print_stdout, reason = "figures are what it is for")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use carrel_domain::{Internet, Methods, NetworkPolicy};
use carrel_egress::{Egress, EgressOptions, Phase, SessionPolicy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

const REQUESTS: usize = 2000;
const LARGE_BYTES: usize = 1 << 30;
const NAME: &str = "localhost";

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let origin = origin().await?;
    let ours = proxy(origin).await?;
    println!("direct");
    measure(None, origin).await?;
    println!("carrel-egress");
    measure(Some(ours), origin).await?;
    if let Some(other) = std::env::args().nth(1) {
        println!("{other}");
        measure(Some(other.parse()?), origin).await?;
    }
    Ok(())
}

/// Answers requests with five bytes, and what begins like TLS with a gigabyte.
async fn origin() -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.set_nodelay(true)?;
                let mut buffer = vec![0; 64 << 10];
                loop {
                    let count = stream.read(&mut buffer).await?;
                    if count == 0 {
                        return Ok::<_, std::io::Error>(());
                    }
                    if buffer[0] == 22 {
                        for _ in 0..LARGE_BYTES / buffer.len() {
                            stream.write_all(&buffer).await?;
                        }
                        return Ok(());
                    }
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await?;
                }
            });
        }
    });
    Ok(address)
}

async fn proxy(origin: SocketAddr) -> Result<SocketAddr, Failure> {
    let folder = tempfile::tempdir()?;
    let mut options = EgressOptions::new(folder.path());
    options.private_hosts = vec![format!("{NAME}:{}", origin.port()).parse()?];
    let egress = Egress::open(options)?;
    let (sender, mut decisions) = mpsc::channel(1000);
    tokio::spawn(async move { while decisions.recv().await.is_some() {} });
    let session = egress.session(
        SessionPolicy {
            network: NetworkPolicy { internet: Internet::Off, domains: vec![NAME.parse()?], methods: Methods::All },
            packages: Vec::new(),
            secrets: Vec::new(),
            environment: "figures".into(),
            phase: Phase::Agent,
        },
        sender,
    );
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let session = session.clone();
            tokio::spawn(async move {
                stream.set_nodelay(true)?;
                session.serve(stream).await;
                Ok::<_, std::io::Error>(())
            });
        }
    });
    Ok(address)
}

async fn measure(proxy: Option<SocketAddr>, origin: SocketAddr) -> Result<(), Failure> {
    let to = proxy.unwrap_or(origin);
    let at = format!("{NAME}:{}", origin.port());
    let target = if proxy.is_some() { format!("http://{at}/") } else { "/".to_owned() };
    let request = format!("GET {target} HTTP/1.1\r\nHost: {at}\r\n\r\n");
    let mut kept = connect(to).await?;
    ask(&mut kept, &request).await?;
    let mut took = Vec::new();
    for _ in 0..REQUESTS {
        let start = Instant::now();
        ask(&mut kept, &request).await?;
        took.push(start.elapsed());
    }
    show("  kept connection", took);
    let mut took = Vec::new();
    for _ in 0..REQUESTS {
        let start = Instant::now();
        ask(&mut connect(to).await?, &request).await?;
        took.push(start.elapsed());
    }
    show("  new connection", took);
    if proxy.is_some() {
        let mut took = Vec::new();
        for _ in 0..REQUESTS {
            let start = Instant::now();
            ask(&mut tunnel(to, &at).await?, &format!("GET / HTTP/1.1\r\nHost: {at}\r\n\r\n")).await?;
            took.push(start.elapsed());
        }
        show("  tunnel, plain inside", took);
    }
    let mut stream = if proxy.is_some() { tunnel(to, &at).await? } else { connect(to).await? };
    stream.write_all(&greeting()?).await?;
    let (mut buffer, mut total, start) = (vec![0; 256 << 10], 0, Instant::now());
    loop {
        match stream.read(&mut buffer).await? {
            0 => break,
            count => total += count,
        }
    }
    let rate = total as f64 / start.elapsed().as_secs_f64() / 1e6;
    println!("  {:24} {rate:8.0} MB/s of {} MB", "sealed tunnel", total / 1_000_000);
    Ok(())
}

async fn connect(to: SocketAddr) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn tunnel(to: SocketAddr, at: &str) -> Result<TcpStream, Failure> {
    let mut stream = connect(to).await?;
    stream.write_all(format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n").as_bytes()).await?;
    let answer = head(&mut stream).await?;
    if answer.starts_with("HTTP/1.1 200") { Ok(stream) } else { Err(answer.into()) }
}

async fn ask(stream: &mut TcpStream, request: &str) -> Result<(), Failure> {
    stream.write_all(request.as_bytes()).await?;
    let answer = head(stream).await?;
    let mut body = [0; 5];
    stream.read_exact(&mut body).await?;
    if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(answer.into()) }
}

/// Reads a head to its end and no further: as a program would, with as few reads as a small buffer allows.
async fn head(stream: &mut TcpStream) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 2048];
    loop {
        let seen = stream.peek(&mut buffer).await?;
        let end = buffer[..seen].windows(4).position(|part| part == b"\r\n\r\n");
        let take = end.map_or(seen, |end| end + 4);
        stream.read_exact(&mut buffer[..take]).await?;
        bytes.extend_from_slice(&buffer[..take]);
        if end.is_some() || take == 0 {
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}

fn greeting() -> Result<Vec<u8>, Failure> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let mut connection = rustls::ClientConnection::new(Arc::new(config), NAME.try_into()?)?;
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes)?;
    Ok(bytes)
}

fn show(what: &str, mut took: Vec<Duration>) {
    took.sort();
    let at = |percent: usize| took[took.len() * percent / 100].as_micros();
    println!("  {what:24} {:6} us median, {:6} us at the 99th percentile", at(50), at(99));
}
