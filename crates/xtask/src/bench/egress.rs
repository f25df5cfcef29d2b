//! What the egress policy costs, over loopback: small requests and large bodies through the proxy, beside a plain connection
//! and beside squid in the same run, where that is installed.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use carrel_domain::{Internet, Methods, NetworkPolicy};
use carrel_egress::{Egress, EgressOptions, Phase, SessionPolicy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

const LARGE_BYTES: usize = 1 << 30;
const NAME: &str = "localhost";

/// Measures so many requests of each kind and prints what they take.
pub(crate) fn run(requests: u32) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(compare(requests))
}

#[expect(clippy::print_stdout, reason = "the figures are what this command is for")]
async fn compare(requests: u32) -> Result<()> {
    let place = tempfile::tempdir().context("cannot make a temporary folder")?;
    let origin = origin().await?;
    println!("direct");
    measure(None, origin, requests).await?;
    println!("through the policy");
    measure(Some(proxy(origin, place.path()).await?), origin, requests).await?;
    match Squid::start(place.path()).await? {
        Some(squid) => {
            println!("squid");
            measure(Some(squid.address), origin, requests).await?;
        }
        None => println!("squid is not installed"),
    }
    Ok(())
}

/// Another proxy, without a cache, for as long as this is around.
struct Squid {
    address: SocketAddr,
    _process: Child,
}

impl Squid {
    async fn start(place: &Path) -> Result<Option<Self>> {
        let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
        let file = place.join("squid.conf");
        let text = format!(
            "http_port {address}\nhttp_access allow all\ncache deny all\naccess_log none\ncache_log /dev/null\n\
             cache_store_log none\npid_filename none\nvia off\nforwarded_for delete\npinger_enable off\n"
        );
        fs::write(&file, text)?;
        let mut squid = Command::new("/usr/sbin/squid");
        squid.arg("-N").arg("-f").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = match squid.kill_on_drop(true).spawn() {
            Ok(process) => process,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context("cannot start squid"),
        };
        for _ in 0..200 {
            if TcpStream::connect(address).await.is_ok() {
                return Ok(Some(Self { address, _process: process }));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("squid does not listen")
    }
}

/// Answers requests with five bytes, and what begins like TLS with a gigabyte.
async fn origin() -> Result<SocketAddr> {
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

async fn proxy(origin: SocketAddr, folder: &Path) -> Result<SocketAddr> {
    let mut options = EgressOptions::new(folder.join("egress"));
    options.private_hosts = vec![format!("{NAME}:{}", origin.port()).parse()?];
    let egress = Egress::open(options)?;
    let (sender, mut decisions) = mpsc::channel(1000);
    tokio::spawn(async move { while decisions.recv().await.is_some() {} });
    let session = egress.session(
        SessionPolicy {
            model: None,
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

#[expect(clippy::print_stdout, reason = "the figures are what this command is for")]
#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
async fn measure(proxy: Option<SocketAddr>, origin: SocketAddr, requests: u32) -> Result<()> {
    let to = proxy.unwrap_or(origin);
    let at = format!("{NAME}:{}", origin.port());
    let target = if proxy.is_some() { format!("http://{at}/") } else { "/".to_owned() };
    let request = format!("GET {target} HTTP/1.1\r\nHost: {at}\r\n\r\n");
    let mut kept = connect(to).await?;
    ask(&mut kept, &request).await?;
    let mut took = Vec::new();
    for _ in 0..requests {
        let start = Instant::now();
        ask(&mut kept, &request).await?;
        took.push(start.elapsed());
    }
    show("  kept connection", took);
    let mut took = Vec::new();
    for _ in 0..requests {
        let start = Instant::now();
        ask(&mut connect(to).await?, &request).await?;
        took.push(start.elapsed());
    }
    show("  new connection", took);
    if proxy.is_some() {
        let mut took = Vec::new();
        for _ in 0..requests {
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

async fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn tunnel(to: SocketAddr, at: &str) -> Result<TcpStream> {
    let mut stream = connect(to).await?;
    stream.write_all(format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n").as_bytes()).await?;
    let answer = head(&mut stream).await?;
    if answer.starts_with("HTTP/1.1 200") { Ok(stream) } else { bail!("{answer}") }
}

async fn ask(stream: &mut TcpStream, request: &str) -> Result<()> {
    stream.write_all(request.as_bytes()).await?;
    let answer = head(stream).await?;
    let mut body = [0; 5];
    stream.read_exact(&mut body).await?;
    if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { bail!("{answer}") }
}

/// Reads a head to its end and no further: as a program would, with as few reads as a small buffer allows.
async fn head(stream: &mut TcpStream) -> Result<String> {
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

fn greeting() -> Result<Vec<u8>> {
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

#[expect(clippy::print_stdout, reason = "the figures are what this command is for")]
fn show(what: &str, mut took: Vec<Duration>) {
    took.sort();
    let at = |percent: usize| took[took.len() * percent / 100].as_micros();
    println!("  {what:24} {:6} us median, {:6} us at the 99th percentile", at(50), at(99));
}
