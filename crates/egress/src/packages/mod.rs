//! The hosts of package managers, found and not listed: the image's own tools say which indexes they are configured for,
//! the indexes say where their files are, and a data file says what neither can.
//!
//! Running [`PROBE`] in a sandbox and fetching pages is left to the caller. What the probe prints and what an index
//! answers is untrusted: both are read bounded, and only host names come out.
//!
//! Who writes to a repository must not widen what may be reached. So the probe is run in a fresh sandbox of the image,
//! with the variables of the stored environment and without those that the repository's own files ask for. What is found
//! after setup, or in an image that the repository chose, goes through [`Found::limited_to`].

mod files;
mod known;
mod reading;
mod scan;
mod tools;

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::str::FromStr;

use carrel_domain::{DomainRule, HostName};
use url::Url;

pub use files::Fetched;
pub use known::{InvalidKnown, Known};
pub use reading::read;

/// A POSIX shell script that prints what the package managers of an image are configured for, in a second or two; each
/// question has 10 seconds, and all tools are asked at once. It needs no network. Give it to `sh -c`;
/// arguments after `$0` name the tools to ask, and without any all are asked.
pub const PROBE: &str = include_str!("probe.sh");

/// Longest output of the probe that is read, in bytes.
pub const MAX_PROBE_BYTES: usize = 64 << 10;

/// Most indexes that are taken from one image.
const MAX_INDEXES: usize = 100;

macro_rules! tools {
    ($($variant:ident $name:literal $doc:literal)*) => {
        /// A package manager that can be asked.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Tool {$(
            #[doc = $doc]
            $variant,
        )*}

        impl Tool {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its name in the probe's output and in the data file.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {$(Self::$variant => $name,)*}
            }
        }
    };
}

tools! {
    Npm "npm" "npm."
    Pnpm "pnpm" "pnpm."
    Yarn "yarn" "Yarn, 1.x and later."
    Pip "pip" "pip."
    Uv "uv" "uv."
    Poetry "poetry" "Poetry."
    Cargo "cargo" "Cargo."
    Apt "apt" "apt."
    Go "go" "The go command."
    Maven "maven" "Maven."
    Gradle "gradle" "Gradle."
    Gem "gem" "RubyGems."
    Bundler "bundler" "Bundler."
    Composer "composer" "Composer."
    Nuget "nuget" "NuGet, by itself or as part of dotnet."
}

impl FromStr for Tool {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.iter().copied().find(|tool| tool.name() == text).ok_or(())
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// An address that a tool is configured for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Whose.
    pub tool: Tool,
    /// Its address: http or https, without user, password, query and fragment.
    pub url: Url,
    /// The host in it.
    pub host: HostName,
    /// Whether it is an index that can be asked where its files are.
    pub names_files: bool,
}

/// What an image's tools are configured for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// The tools that are installed.
    pub tools: BTreeSet<Tool>,
    /// Those of them that are at their built-in default, which the data file knows.
    pub at_default: BTreeSet<Tool>,
    /// The indexes they named, each once a tool; 100 at most.
    pub indexes: Vec<Index>,
    /// What was left out and why, as sentences for a person. Nothing of the image's text is repeated in them but hosts.
    pub notes: Vec<String>,
}

impl Found {
    /// What is left when only indexes count that the data file names, or that were found earlier.
    ///
    /// For a sandbox in which something ran that must not decide what is reached: setup, which runs what the repository
    /// and its packages bring along, or an image that the repository chose; then `earlier` is empty.
    #[must_use]
    pub fn limited_to(self, known: &Known, earlier: &Self) -> Self {
        let is_trusted = |index: &Index| {
            known.names(&index.host) || earlier.indexes.iter().any(|earlier| earlier.host == index.host)
        };
        let (indexes, other): (Vec<_>, Vec<_>) = self.indexes.into_iter().partition(is_trusted);
        let mut notes = self.notes;
        for Index { tool, host, .. } in other {
            notes.push(format!(
                "{tool} is configured for {host} by something that the repository brought along, so the preset does not \
                 allow it; allow the host by name in the environment"
            ));
        }
        Self { indexes, notes, ..self }
    }
}

/// The hosts of an image's package managers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PackageHosts {
    /// One rule a host, in order.
    pub rules: Vec<DomainRule>,
    /// What was left out and why, as sentences for a person.
    pub notes: Vec<String>,
}

/// The hosts of the indexes that were found, of their files, and of what the data file adds. Takes a minute at most.
///
/// `fetch` makes one GET request over HTTPS with the given `accept`, reads no more than the given number of bytes, follows
/// no redirect, and must refuse addresses that are private: the URL was named by an image. Every status but 200 and
/// redirects is an error. It is called for up to eight indexes at once, and dropped when its time is over.
pub async fn hosts<F, Fut>(found: &Found, known: &Known, fetch: F) -> PackageHosts
where
    F: Fn(Url, &'static str, usize) -> Fut,
    Fut: Future<Output = Result<Fetched, String>>,
{
    let defaults = found.at_default.iter().flat_map(|tool| known.default_indexes(*tool));
    let indexes: Vec<Index> = found.indexes.iter().cloned().chain(defaults).collect();
    let files = files::hosts(&indexes, known, fetch).await;
    let mut hosts = files.hosts;
    for tool in &found.tools {
        hosts.extend(known.beside_tool(*tool).iter().cloned());
    }
    for index in indexes {
        hosts.extend(known.beside_index(&index.host).iter().cloned());
        hosts.insert(index.host);
    }
    let mut notes = found.notes.clone();
    notes.extend(files.notes);
    PackageHosts { rules: hosts.into_iter().map(DomainRule::Exactly).collect(), notes }
}

/// An address as a tool writes it, without what is no part of where it leads.
///
/// `None` where it leads to no network: a path or a `file:` address.
fn address(text: &str) -> Option<Result<(Url, HostName), &'static str>> {
    let mut text = text.trim();
    for prefix in ["sparse+", "registry+", "git+", "mirror+", "tor+"] {
        text = text.strip_prefix(prefix).unwrap_or(text);
    }
    let (scheme, _) = text.split_once("://")?;
    if scheme.eq_ignore_ascii_case("file") {
        return None;
    }
    let Ok(mut url) = Url::parse(text) else { return Some(Err("is no address")) };
    if !matches!(url.scheme(), "http" | "https") {
        return Some(Err("is neither http nor https"));
    }
    let Some(Ok(host)) = url.host_str().map(str::parse::<HostName>) else {
        return Some(Err("has no plain host name; rules are about names"));
    };
    if url.set_username("").is_err() || url.set_password(None).is_err() {
        return Some(Err("is no address"));
    }
    url.set_query(None);
    url.set_fragment(None);
    Some(Ok((url, host)))
}
