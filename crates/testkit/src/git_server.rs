//! A git server over HTTP: the real `git http-backend`, behind basic authentication, and as ill-tempered as a test wants it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What the server does with a request.
#[derive(Clone)]
pub enum Policy {
    /// Serves everybody.
    Open,
    /// Serves those who send this `Authorization`; 401 for others.
    Basic(&'static str),
    /// As before, but 403 for pushes.
    ReadOnly(&'static str),
    /// This status, whatever is asked.
    Status(&'static str),
    /// Sends everybody to another server.
    Redirect(String),
    /// Serves the listing to everybody, and sends those who then ask for objects to another server.
    RedirectLater(String),
}

/// A server that ends when it is dropped.
pub struct GitServer {
    /// Its port of the loopback.
    pub port: u16,
    /// The `Authorization` headers of all requests; empty where there was none.
    pub authorizations: Arc<Mutex<Vec<String>>>,
    policy: Arc<Mutex<Policy>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

struct Request {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl GitServer {
    /// Serves the repositories below this folder.
    ///
    /// # Panics
    /// When the loopback has no free port.
    #[must_use]
    pub fn serve(root: &Path, policy: Policy) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let stop = Arc::new(AtomicBool::new(false));
        let authorizations = Arc::new(Mutex::new(Vec::new()));
        let (stopping, seen, root) = (Arc::clone(&stop), Arc::clone(&authorizations), root.to_owned());
        let policy = Arc::new(Mutex::new(policy));
        let current = Arc::clone(&policy);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopping.load(Ordering::SeqCst) {
                    return;
                }
                let policy = current.lock().expect("no panic under the lock").clone();
                // A client that goes away is none of the test's business.
                let _ = stream.and_then(|stream| answer(stream, &root, &policy, &seen));
            }
        });
        Self { port, authorizations, policy, stop, thread: Some(thread) }
    }

    /// Does otherwise from the next request on.
    ///
    /// # Panics
    /// When the server has.
    pub fn set(&self, policy: Policy) {
        *self.policy.lock().expect("no panic under the lock") = policy;
    }

    /// The address of a repository.
    #[must_use]
    pub fn url(&self, repository: &str) -> String {
        format!("http://127.0.0.1:{}/{repository}", self.port)
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(mut stream: TcpStream, root: &PathBuf, policy: &Policy, seen: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let Some(request) = Request::read(&mut stream)? else {
        return Ok(());
    };
    let authorization = request.header("authorization").unwrap_or_default().to_owned();
    seen.lock().expect("no panic under the lock").push(authorization.clone());
    let is_push = request.query.contains("git-receive-pack") || request.path.ends_with("git-receive-pack");
    let plain = |status: &str, header: &str| {
        format!("HTTP/1.1 {status}\r\n{header}Content-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
    };
    let response = match policy {
        Policy::Redirect(to) => plain("302 Found", &format!("Location: {to}{}?{}\r\n", request.path, request.query)),
        Policy::RedirectLater(to) if request.method == "POST" => {
            plain("307 Temporary Redirect", &format!("Location: {to}{}\r\n", request.path))
        }
        Policy::Status(status) => plain(status, ""),
        Policy::Basic(wanted) | Policy::ReadOnly(wanted) if authorization != *wanted => {
            plain("401 Unauthorized", "WWW-Authenticate: Basic realm=\"git\"\r\n")
        }
        Policy::ReadOnly(_) if is_push => plain("403 Forbidden", ""),
        Policy::Open | Policy::Basic(_) | Policy::ReadOnly(_) | Policy::RedirectLater(_) => run(&request, root)?,
    };
    stream.write_all(&response)
}

/// One call of the CGI program.
fn run(request: &Request, root: &PathBuf) -> std::io::Result<Vec<u8>> {
    let mut command = Command::new("git");
    command
        .arg("http-backend")
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REMOTE_USER", "tester")
        .env("REMOTE_ADDR", "127.0.0.1")
        .env("REQUEST_METHOD", &request.method)
        .env("PATH_INFO", &request.path)
        .env("QUERY_STRING", &request.query)
        .env("CONTENT_LENGTH", request.body.len().to_string());
    for (header, variable) in [
        ("content-type", "CONTENT_TYPE"),
        ("content-encoding", "HTTP_CONTENT_ENCODING"),
        ("git-protocol", "HTTP_GIT_PROTOCOL"),
    ] {
        if let Some(value) = request.header(header) {
            command.env(variable, value);
        }
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut input = child.stdin.take().expect("a pipe");
    let body = request.body.clone();
    let feed = std::thread::spawn(move || input.write_all(&body));
    let output = child.wait_with_output()?.stdout;
    let _ = feed.join();
    let end = output.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap_or(output.len());
    let head = String::from_utf8_lossy(&output[..end]).into_owned();
    let status = head.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK");
    let mut response = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{head}\r\n\r\n").into_bytes();
    response.extend_from_slice(output.get(end + 4..).unwrap_or_default());
    Ok(response)
}

impl Request {
    fn read(stream: &mut TcpStream) -> std::io::Result<Option<Self>> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let first = line(&mut reader)?;
        let mut words = first.split(' ').map(str::to_owned);
        let (Some(method), Some(target)) = (words.next(), words.next()) else {
            return Ok(None);
        };
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let mut headers = Vec::new();
        loop {
            let header = line(&mut reader)?;
            let Some((name, value)) = header.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut request = Self { method, path: path.to_owned(), query: query.to_owned(), headers, body: Vec::new() };
        if request.header("expect").is_some() {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if request.header("transfer-encoding") == Some("chunked") {
            loop {
                let size = u64::from_str_radix(line(&mut reader)?.trim(), 16).unwrap_or(0);
                (&mut reader).take(size).read_to_end(&mut request.body)?;
                line(&mut reader)?;
                if size == 0 {
                    break;
                }
            }
        } else if let Some(length) = request.header("content-length").and_then(|length| length.parse().ok()) {
            reader.take(length).read_to_end(&mut request.body)?;
        }
        Ok(Some(request))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

fn line(reader: &mut impl BufRead) -> std::io::Result<String> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
