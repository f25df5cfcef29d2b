//! Indexes asked where their files are, over real connections to a server on loopback that speaks their formats.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use carrel_egress::packages::{Fetched, Known, PackageHosts, hosts, read};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use url::Url;

/// A server that plays every host: pages by host and path. A body `-> X` is a redirect to X, and `!` never answers.
struct Indexes {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    serving: JoinHandle<()>,
}

impl Drop for Indexes {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Indexes {
    async fn with(pages: &[(&str, &str)]) -> Self {
        let pages: BTreeMap<String, String> =
            pages.iter().map(|(page, body)| ((*page).to_owned(), (*body).to_owned())).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                answer(stream, &pages, &log).await;
            }
        });
        Self { address, requests, serving }
    }

    async fn asked(&self, probe: &str) -> PackageHosts {
        let found = read(probe.as_bytes());
        let address = self.address;
        hosts(&found, Known::built_in(), move |url, accept, max| fetch(address, url, accept, max)).await
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no test panics with it").clone()
    }
}

async fn answer(mut stream: TcpStream, pages: &BTreeMap<String, String>, log: &Mutex<Vec<String>>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.expect("a request"));
    }
    let request = String::from_utf8(request).expect("plain");
    let path = request.split(' ').nth(1).expect("a path");
    let host = request.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host");
    let page = format!("{host}{path}");
    let body = pages.get(&page).cloned();
    log.lock().expect("no test panics with it").push(page);
    let response = match body.as_deref() {
        None => "HTTP/1.1 404 Not Found\r\n\r\n".to_owned(),
        Some(body) => match body.strip_prefix("-> ") {
            Some(to) => format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\n\r\n"),
            None => format!("HTTP/1.1 200 OK\r\n\r\n{body}"),
        },
    };
    // A client that has read enough hangs up.
    let _ = stream.write_all(response.as_bytes()).await;
}

async fn fetch(address: SocketAddr, url: Url, accept: &'static str, max: usize) -> Result<Fetched, String> {
    let mut stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let host = url.host_str().expect("a name");
    let request = format!("GET {} HTTP/1.1\r\nhost: {host}\r\naccept: {accept}\r\n\r\n", url.path());
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut response = Vec::new();
    stream.take(max as u64 + 1024).read_to_end(&mut response).await.map_err(|error| error.to_string())?;
    let end = response.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8_lossy(&response[..end]).into_owned();
    match head.split(' ').nth(1) {
        Some("200") => Ok(Fetched::Body(response[end + 4..].iter().copied().take(max).collect())),
        Some("302") => Ok(Fetched::MovedTo(head.split("location: ").nth(1).expect("a location").trim().to_owned())),
        status => Err(format!("status {}", status.unwrap_or("none"))),
    }
}

fn names(hosts: &PackageHosts) -> Vec<String> {
    hosts.rules.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn python_indexes_name_their_file_hosts_as_json_and_as_html() {
    let json = r#"{"meta":{"api-version":"1.1"},"name":"pip","files":[{"filename":"a","url":"https:\/\/files.example.com/a"}]}"#;
    let html = r#"<html><a href="https://html-files.example.com/x.whl#sha256=0">x</a> <a href='../../packages/y.whl'>y</a></html>"#;
    let indexes =
        Indexes::with(&[("json.example.com/simple/pip/", json), ("html.example.com/simple/pip/", html)]).await;

    let hosts = indexes
        .asked("pip\there\t\npip\tindex\thttps://json.example.com/simple\nuv\there\t\nuv\tenv\tUV_DEFAULT_INDEX=https://html.example.com/simple/\n")
        .await;

    assert_eq!(names(&hosts), ["files.example.com", "html-files.example.com", "html.example.com", "json.example.com"]);
    assert_eq!(hosts.notes, Vec::<String>::new());
}

#[tokio::test]
async fn a_page_is_read_only_as_far_as_its_first_links() {
    let mut page = r#"{"files":[{"url":"https://files.example.com/a"},"#.to_owned();
    page.push_str(&r#"{"filename":"filler"},"#.repeat(100_000));
    let indexes = Indexes::with(&[("npm.example.com/npm", &page.replace("url", "tarball"))]).await;

    let hosts = indexes.asked("npm\there\t\nnpm\tindex\thttps://npm.example.com\n").await;

    assert_eq!(names(&hosts), ["files.example.com", "npm.example.com"]);
}

#[tokio::test]
async fn cargo_nuget_and_composer_name_theirs() {
    let nuget = r#"{"version":"3.0.0","resources":[
        {"@id":"https://flat.example.com/v3/","@type":"PackageBaseAddress/3.0.0"},
        {"@id":"https://search.example.com/query","@type":"SearchQueryService"},
        {"@id":"https://www.example.com/report","@type":"ReportAbuseUriTemplate/3.0.0"}]}"#;
    let package = r#"{"packages":{"psr/log":[{"dist":{"type":"zip","url":"https://zips.example.com/x"},
        "source":{"url":"https://git.example.com/x"}},{"dist":"__unset"}]},"minified":"composer/2.0"}"#;
    let indexes = Indexes::with(&[
        (
            "crates.example.com/config.json",
            r#"{"dl":"https://dl.example.com/{crate}/{version}","api":"https://api.example.com"}"#,
        ),
        ("nuget.example.com/v3/index.json", nuget),
        ("php.example.com/packages.json", r#"{"packages":[],"metadata-url":"/p2/%package%.json"}"#),
        ("php.example.com/p2/psr/log.json", package),
    ])
    .await;

    let hosts = indexes
        .asked(
            "cargo\there\t\ncargo\tfile\tx\ncargo\tline\tsource.crates-io.replace-with = 'm'\n\
             cargo\tline\tsource.m.registry = 'sparse+https://crates.example.com/'\n\
             nuget\there\t\nnuget\tsource\tE https://nuget.example.com/v3/index.json\n\
             composer\there\t\ncomposer\tconfig\t[repositories.p.url] https://php.example.com\n",
        )
        .await;

    let expected = [
        "api.example.com",
        "crates.example.com",
        "dl.example.com",
        "flat.example.com",
        "nuget.example.com",
        "php.example.com",
        "search.example.com",
        "zips.example.com",
    ];
    assert_eq!(names(&hosts), expected);
    assert_eq!(hosts.notes, Vec::<String>::new());
}

#[tokio::test]
async fn hosts_on_the_way_of_redirects_are_added_and_a_circle_ends() {
    let indexes = Indexes::with(&[
        ("npm.example.com/npm", "-> https://hop.example.com/npm"),
        ("hop.example.com/npm", "-> /all/npm"),
        ("hop.example.com/all/npm", r#"{"versions":{"1":{"dist":{"tarball":"https://files.example.com/a.tgz"}}}}"#),
        ("circle.example.com/npm", "-> /npm"),
    ])
    .await;

    let hosts = indexes.asked("npm\there\t\nnpm\tindex\thttps://npm.example.com\npnpm\there\t\npnpm\tindex\thttps://circle.example.com/\n").await;

    assert_eq!(names(&hosts), ["circle.example.com", "files.example.com", "hop.example.com", "npm.example.com"]);
    assert_eq!(hosts.notes.len(), 1);
    assert!(hosts.notes[0].contains("redirects more than 5 times"), "{:?}", hosts.notes);
}

#[tokio::test]
async fn nothing_is_asked_without_tls_or_where_a_name_is_none() {
    let indexes = Indexes::with(&[
        ("moved.example.com/npm", "-> http://169.254.169.254/latest/"),
        ("plain.example.com/npm", "{}"),
    ])
    .await;

    let hosts = indexes
        .asked("npm\there\t\nnpm\tindex\thttp://plain.example.com/\nyarn\there\t\nyarn\tindex\thttps://moved.example.com/\n")
        .await;

    assert_eq!(names(&hosts), ["moved.example.com", "plain.example.com"]);
    assert_eq!(indexes.requests(), ["moved.example.com/npm"]);
    assert_eq!(hosts.notes.len(), 2, "{:?}", hosts.notes);
}

#[tokio::test]
async fn an_index_that_cannot_be_asked_is_left_out_with_a_note_and_its_known_hosts_stand_in() {
    let indexes = Indexes::with(&[("index.crates.io/config.json", "no json")]).await;

    let hosts = indexes.asked("pip\there\t\npip\tindex\thttps://pypi.org/simple\ncargo\there\t\n").await;

    assert_eq!(
        names(&hosts),
        ["crates.io", "files.pythonhosted.org", "index.crates.io", "pypi.org", "static.crates.io"]
    );
    let expected = [
        "cargo's index at index.crates.io was not asked where its files are: its answer is not of the format of such an index",
        "pip's index at pypi.org was not asked where its files are: status 404",
    ];
    assert_eq!(hosts.notes, expected);
}

#[tokio::test]
async fn hosts_that_are_no_names_and_floods_of_hosts_are_left_out() {
    let hostile = r#"{"files":[{"url":"https://127.0.0.1/a"},{"url":"https://[::1]/"},{"url":"https://2130706433/"},
        {"url":"ssh://git.example.com/"},{"url":"\u0000"},{"url":["https://nested.example.com/"]},{"url":"https://ok.example.com/"}]}"#;
    let flood: String = (0..1000).map(|number| format!("<a href=\"https://h{number}.example.com/\">")).collect();
    let indexes = Indexes::with(&[("a.example.com/pip/", hostile), ("b.example.com/pip/", &flood)]).await;

    let hostile = indexes.asked("pip\there\t\npip\tindex\thttps://a.example.com/\n").await;
    let flooded = indexes.asked("pip\there\t\npip\tindex\thttps://b.example.com/\n").await;

    assert_eq!(names(&hostile), ["a.example.com", "ok.example.com"]);
    assert_eq!(flooded.rules.len(), 16);
}
