//! Where the files of indexes are: each index is asked, on our side, for one page that every client reads, and the hosts
//! in its answer are taken. Nothing else of the answer is kept.
//!
//! The formats: PEP 503 and PEP 691 (Python), the packument of npm's registry, `config.json` of Cargo's sparse indexes,
//! `packages.json` of Composer, the service index of NuGet 3.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use carrel_domain::HostName;
use futures::StreamExt;
use serde::Deserialize;
use url::Url;

use super::{Index, Known, Tool, scan};

/// How long one index has to answer.
const INDEX_DEADLINE: Duration = Duration::from_secs(10);
/// How long all of them have together.
const DEADLINE: Duration = Duration::from_secs(60);
/// Indexes that are asked at once.
const AT_ONCE: usize = 8;
/// Most redirects that are followed from one index.
const MAX_REDIRECTS: usize = 5;
/// Most hosts that one index may add.
const MAX_HOSTS: usize = 16;
/// What is read of a page whose first links are enough.
const MAX_PREFIX_BYTES: usize = 512 << 10;
/// What is read of a document that has to be whole.
const MAX_DOCUMENT_BYTES: usize = 8 << 20;

/// What a request was answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// A body with status 200, or its beginning where it is longer than what was asked for.
    Body(Vec<u8>),
    /// A redirect, with the `location` as it was given.
    MovedTo(String),
}

/// Hosts of files, and of what leads to them.
#[derive(Debug, Default)]
pub(super) struct FileHosts {
    /// The hosts.
    pub(super) hosts: BTreeSet<HostName>,
    /// Which indexes could not be asked, as sentences for a person.
    pub(super) notes: Vec<String>,
}

/// Asks indexes where their files are. Takes a minute at most.
pub(super) async fn hosts<F, Fut>(indexes: &[Index], known: &Known, fetch: F) -> FileHosts
where
    F: Fn(Url, &'static str, usize) -> Fut,
    Fut: Future<Output = Result<Fetched, String>>,
{
    let fetch = &fetch;
    // A list and no lazy chain: closures over borrowed items are not known to be sendable.
    let mut asked = Vec::new();
    for index in indexes.iter().filter(|index| index.names_files) {
        asked.push(async move {
            let answer = tokio::time::timeout(INDEX_DEADLINE, ask(index, fetch)).await;
            (index, answer.unwrap_or_else(|_| Err(late())))
        });
    }
    let answers = futures::stream::iter(asked).buffer_unordered(AT_ONCE);
    let mut answers = std::pin::pin!(answers);
    let mut answered = BTreeSet::new();
    let mut files = FileHosts::default();
    let all = async {
        while let Some((index, answer)) = answers.next().await {
            match answer {
                Ok(hosts) => {
                    answered.insert((index.tool, index.url.clone()));
                    files.hosts.extend(hosts.into_iter().take(MAX_HOSTS));
                }
                Err(problem) => files.notes.push(note(index, &problem)),
            }
        }
    };
    if tokio::time::timeout(DEADLINE, all).await.is_err() {
        files.notes.push("some indexes were not asked where their files are: a minute was over".to_owned());
    }
    // What the index would have said, as far as it is known.
    for index in indexes.iter().filter(|index| !answered.contains(&(index.tool, index.url.clone()))) {
        files.hosts.extend(known.files(&index.host).iter().cloned());
    }
    files.notes.sort();
    files
}

fn late() -> String {
    format!("it did not answer within {} seconds", INDEX_DEADLINE.as_secs())
}

fn note(index: &Index, problem: &str) -> String {
    let shown: String = problem.chars().take(200).flat_map(char::escape_default).collect();
    format!("{}'s index at {} was not asked where its files are: {shown}", index.tool, index.host)
}

/// Asks one index. The hosts of its redirects are among those it gives.
async fn ask<F, Fut>(index: &Index, fetch: &F) -> Result<BTreeSet<HostName>, String>
where
    F: Fn(Url, &'static str, usize) -> Fut,
    Fut: Future<Output = Result<Fetched, String>>,
{
    let mut hosts = BTreeSet::new();
    match index.tool {
        Tool::Npm | Tool::Pnpm | Tool::Yarn => {
            let page = below(&index.url, "npm")?;
            let accept = "application/vnd.npm.install-v1+json, application/json;q=0.8";
            let (body, _) = page_of(page, accept, MAX_PREFIX_BYTES, fetch, &mut hosts).await?;
            hosts.extend(hosts_of(&index.url, scan::values(&body, &["tarball"])));
        }
        Tool::Pip | Tool::Uv | Tool::Poetry => {
            let page = below(&index.url, "pip/")?;
            let accept =
                "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1";
            let (body, page) = page_of(page, accept, MAX_PREFIX_BYTES, fetch, &mut hosts).await?;
            let is_json = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
            let links = if is_json { scan::values(&body, &["url"]) } else { scan::links(&body) };
            hosts.extend(hosts_of(&page, links));
        }
        Tool::Cargo => {
            let page = below(&index.url, "config.json")?;
            let (body, page) = page_of(page, "application/json", MAX_DOCUMENT_BYTES, fetch, &mut hosts).await?;
            let config: CargoConfig = document(&body)?;
            hosts.extend(hosts_of(&page, [Some(config.dl), config.api].into_iter().flatten()));
        }
        Tool::Nuget => {
            let accept = "application/json";
            let (body, page) = page_of(index.url.clone(), accept, MAX_DOCUMENT_BYTES, fetch, &mut hosts).await?;
            let services: NugetIndex = document(&body)?;
            let used = services.resources.into_iter().filter(NugetResource::is_read_by_clients);
            hosts.extend(hosts_of(&page, used.map(|resource| resource.id)));
        }
        Tool::Composer => composer(index, fetch, &mut hosts).await?,
        Tool::Apt | Tool::Go | Tool::Maven | Tool::Gradle | Tool::Gem | Tool::Bundler => {}
    }
    Ok(hosts)
}

/// Composer's repository names where its metadata is; that of one package says where its archives are.
async fn composer<F, Fut>(index: &Index, fetch: &F, hosts: &mut BTreeSet<HostName>) -> Result<(), String>
where
    F: Fn(Url, &'static str, usize) -> Fut,
    Fut: Future<Output = Result<Fetched, String>>,
{
    let page = below(&index.url, "packages.json")?;
    let (body, page) = page_of(page, "application/json", MAX_PREFIX_BYTES, fetch, hosts).await?;
    let keys = ["metadata-url", "providers-url", "providers-lazy-url", "dist-url"];
    hosts.extend(hosts_of(&page, scan::values(&body, &keys)));
    let Some(metadata) = scan::values(&body, &["metadata-url"]).into_iter().next() else { return Ok(()) };
    let page = page.join(&metadata.replace("%package%", "psr/log")).map_err(|_| "its metadata-url is none")?;
    // A private repository need not have that package; what it said so far counts.
    let Ok((body, page)) = page_of(page, "application/json", MAX_DOCUMENT_BYTES, fetch, hosts).await else {
        return Ok(());
    };
    let packages: ComposerPackages = document(&body)?;
    let archives = packages
        .packages
        .into_values()
        .flatten()
        .filter_map(|version| Some(version.dist?.get("url")?.as_str()?.to_owned()));
    hosts.extend(hosts_of(&page, archives));
    Ok(())
}

/// Fetches a page, and where it was found after redirects. Their hosts are added.
async fn page_of<F, Fut>(
    page: Url,
    accept: &'static str,
    max_bytes: usize,
    fetch: &F,
    hosts: &mut BTreeSet<HostName>,
) -> Result<(Vec<u8>, Url), String>
where
    F: Fn(Url, &'static str, usize) -> Fut,
    Fut: Future<Output = Result<Fetched, String>>,
{
    let mut page = page;
    for _ in 0..=MAX_REDIRECTS {
        if page.scheme() != "https" {
            return Err("it is not at an https address".to_owned());
        }
        let Some(Ok(host)) = page.host_str().map(str::parse::<HostName>) else {
            return Err("it leads to an address without a plain host name".to_owned());
        };
        hosts.insert(host);
        match fetch(page.clone(), accept, max_bytes).await? {
            Fetched::Body(mut body) => {
                body.truncate(max_bytes);
                return Ok((body, page));
            }
            Fetched::MovedTo(location) => {
                page = page.join(&location).map_err(|_| "it redirects to something that is no address")?;
            }
        }
    }
    Err(format!("it redirects more than {MAX_REDIRECTS} times"))
}

/// A page below an index, whether or not the index ends with a slash.
fn below(index: &Url, page: &str) -> Result<Url, String> {
    let mut folder = index.clone();
    if !folder.path().ends_with('/') {
        folder.set_path(&format!("{}/", index.path()));
    }
    folder.join(page).map_err(|_| "its address takes no page below it".to_owned())
}

/// The hosts of addresses, which may be relative to a page.
fn hosts_of(page: &Url, texts: impl IntoIterator<Item = String>) -> BTreeSet<HostName> {
    let addresses = texts.into_iter().filter_map(|text| page.join(&text).ok());
    let web = addresses.filter(|address| matches!(address.scheme(), "http" | "https"));
    web.filter_map(|address| address.host_str()?.parse().ok()).collect()
}

fn document<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|_| "its answer is not of the format of such an index".to_owned())
}

/// <https://doc.rust-lang.org/cargo/reference/registry-index.html#index-configuration>
#[derive(Deserialize)]
struct CargoConfig {
    dl: String,
    api: Option<String>,
}

/// <https://learn.microsoft.com/nuget/api/service-index>
#[derive(Deserialize)]
struct NugetIndex {
    resources: Vec<NugetResource>,
}

#[derive(Deserialize)]
struct NugetResource {
    #[serde(rename = "@id")]
    id: String,
    #[serde(rename = "@type")]
    kind: String,
}

impl NugetResource {
    /// Whether restoring and searching packages reads it, unlike pages for people and places to publish at.
    fn is_read_by_clients(&self) -> bool {
        let kinds = ["PackageBaseAddress", "RegistrationsBaseUrl", "SearchQueryService", "SearchAutocompleteService"];
        let further = ["RepositorySignatures", "VulnerabilityInfo"];
        kinds.iter().chain(&further).any(|kind| self.kind.starts_with(kind))
    }
}

/// <https://getcomposer.org/doc/05-repositories.md#metadata-url-available-packages-and-available-package-patterns>
#[derive(Deserialize)]
struct ComposerPackages {
    packages: std::collections::BTreeMap<String, Vec<ComposerVersion>>,
}

#[derive(Deserialize)]
struct ComposerVersion {
    /// An object, or a word in versions that are given as what differs from the one before.
    dist: Option<serde_json::Value>,
}
