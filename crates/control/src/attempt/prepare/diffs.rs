//! The diffs that a prompt names or holds are put among the files of its turn, for the sandbox may be offline. Each is seen to
//! once, whichever attempt of the turn comes first and however often its worker dies; one that cannot be had is told to
//! everybody, the agent included, and ends nothing.

use std::time::Duration;

use carrel_domain::RepositoryLocation;
use carrel_domain::prompt_diff::{self, MAX_BYTES, PromptDiff, THE_PROMPT};
use carrel_egress::Download;
use carrel_store::NewDiff;
use url::Url;

use super::super::{Halt, Scene};

/// How long fetching one may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// The host of GitHub, and where it leads to for diffs of pull requests, with a token in the address.
const GITHUB: &str = "github.com";
const GITHUB_DIFFS: &str = "patch-diff.githubusercontent.com";
/// Where it gives diffs to whoever has a token: its web pages take none.
const GITHUB_API: &str = "api.github.com";

const ANY_DIFF: &str = "text/plain, text/x-diff, text/x-patch, */*;q=0.1";

/// Sees to the diffs of the turn's prompt that nobody has seen to.
pub(super) async fn provide(scene: &Scene<'_>) -> Result<(), Halt> {
    let wanted = prompt_diff::find(&scene.turn.prompt);
    if wanted.is_empty() {
        return Ok(());
    }
    let kept = scene.store().prompt_diffs(scene.attempt.organization, scene.turn.id).await?;
    for (position, diff) in (0..).zip(wanted) {
        if kept.iter().any(|kept| kept.position == position) {
            continue;
        }
        let name = diff.file_name();
        let (source, content) = match diff {
            PromptDiff::Inline(text) => (THE_PROMPT.to_owned(), Ok(text.into_bytes())),
            PromptDiff::At(url) => (url.to_string(), fetch(scene, url).await),
        };
        let new = NewDiff { position, source, content: content.map(|bytes| (name, bytes)) };
        scene.store().keep_prompt_diff(scene.attempt, new).await?;
    }
    Ok(())
}

async fn fetch(scene: &Scene<'_>, url: Url) -> Result<Vec<u8>, String> {
    let inner = &scene.control.inner;
    let own = own_server(&scene.thread.task.repository);
    let mut hosts = inner.diff_hosts.clone();
    if hosts.iter().any(|host| host == GITHUB) {
        hosts.extend([GITHUB_DIFFS, GITHUB_API].map(str::to_owned));
    }
    // Whatever else a prompt names is asked for as anybody may: the text may be a stranger's.
    let is_of_task = is_of_repository(&scene.thread.task.repository, &url);
    let login = if is_of_task { inner.forge.login(&url) } else { None };
    let (url, accept) = match login.as_ref().and_then(|_| github_api(&url)) {
        Some((url, accept)) => (url, accept),
        None => (url, ANY_DIFF),
    };
    let wanted =
        Download { url, hosts: &hosts, own: own.as_ref(), login, accept, max_bytes: MAX_BYTES, deadline: DEADLINE };
    let downloaded = inner.egress.download(&wanted).await.map_err(|why| inner.redactor.redact(&why).into_owned())?;
    let is_page = downloaded.content_type.is_some_and(|kind| kind.trim_start().starts_with("text/html"));
    if is_page || downloaded.bytes.trim_ascii_start().starts_with(b"<") {
        return Err(
            "the server answered with a page instead of a diff; most likely it wants somebody to sign in".to_owned()
        );
    }
    let mut lines = downloaded.bytes.split(|byte| *byte == b'\n');
    if !lines.any(|line| line.starts_with(b"diff --git ") || line.starts_with(b"--- ")) {
        return Err("what the server answered is no diff, or an empty one".to_owned());
    }
    Ok(downloaded.bytes)
}

/// The server that has the repository. One that git reaches by ssh shows its pages over TLS.
fn own_server(location: &RepositoryLocation) -> Option<Url> {
    let of_host = |host: &str| Url::parse(&format!("https://{host}/")).ok();
    match location {
        RepositoryLocation::Path(_) => None,
        RepositoryLocation::Url(url) if matches!(url.scheme(), "http" | "https") => Some(url.clone()),
        RepositoryLocation::Url(url) => of_host(url.host_str()?),
        RepositoryLocation::Scp { authority, .. } => of_host(authority.rsplit('@').next()?),
    }
}

/// Whether an address is one of the repository's own, not of another on the same server.
fn is_of_repository(location: &RepositoryLocation, url: &Url) -> bool {
    let path = match location {
        RepositoryLocation::Path(_) => return false,
        RepositoryLocation::Url(own) => own.path(),
        RepositoryLocation::Scp { path, .. } => path,
    };
    let path = path.trim_matches('/').trim_end_matches(".git");
    let is_below = url.path().trim_start_matches('/').strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
    let is_on_server = own_server(location).is_some_and(|own| own.origin() == url.origin());
    !path.is_empty() && is_below && is_on_server
}

/// Where GitHub's API has what its page at this address has, and what to ask for there.
fn github_api(url: &Url) -> Option<(Url, &'static str)> {
    if url.scheme() != "https" || url.host_str() != Some(GITHUB) || url.port().is_some() {
        return None;
    }
    let mut parts = url.path().trim_start_matches('/').splitn(4, '/');
    let (owner, name, kind, rest) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let kind = match kind {
        "pull" => "pulls",
        "commit" => "commits",
        "compare" => "compare",
        _ => return None,
    };
    let (what, accept) = match rest.strip_suffix(".diff") {
        Some(what) => (what, "application/vnd.github.diff"),
        None => (rest.strip_suffix(".patch")?, "application/vnd.github.patch"),
    };
    let url = Url::parse(&format!("https://{GITHUB_API}/repos/{owner}/{name}/{kind}/{what}")).ok()?;
    Some((url, accept))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(location: &str) -> Option<String> {
        own_server(&location.parse().expect("a location")).map(|url| url.origin().ascii_serialization())
    }

    #[test]
    fn a_repository_reached_by_ssh_has_its_pages_on_the_same_host() {
        assert_eq!(server("ssh://git@git.example:2222/a/b"), Some("https://git.example".to_owned()));
        assert_eq!(server("git@git.example:a/b.git"), Some("https://git.example".to_owned()));
        assert_eq!(server("http://127.0.0.1:81/a/b.git"), Some("http://127.0.0.1:81".to_owned()));
        assert_eq!(server("/srv/a"), None);
    }

    #[test]
    fn an_address_is_the_repositorys_own_only_below_its_path() {
        let is = |location: &str, url: &str| {
            is_of_repository(&location.parse().expect("a location"), &url.parse().expect("a URL"))
        };

        for location in
            ["https://git.example/acme/api.git", "git@git.example:acme/api.git", "ssh://git@git.example/acme/api"]
        {
            assert!(is(location, "https://git.example/acme/api/pull/1.diff"), "{location}");
            for other in [
                "https://git.example/acme/secret/pull/1.diff",
                "https://git.example/acme/api2/pull/1.diff",
                "https://git.example/acme/api/../secret/pull/1.diff",
                "https://git.example/acme/api/%2e%2e/secret/pull/1.diff",
                "https://other.example/acme/api/pull/1.diff",
                "http://git.example/acme/api/pull/1.diff",
            ] {
                assert!(!is(location, other), "{location} {other}");
            }
        }
        assert!(!is("/srv/api", "https://git.example/srv/api/pull/1.diff"));
    }

    #[test]
    fn with_a_login_github_is_asked_by_its_api() {
        for (page, api, accept) in [
            ("pull/12.diff", "pulls/12", "application/vnd.github.diff"),
            ("commit/0123abc.patch", "commits/0123abc", "application/vnd.github.patch"),
            ("compare/v1...fix/x.diff", "compare/v1...fix/x", "application/vnd.github.diff"),
        ] {
            let page = Url::parse(&format!("https://github.com/acme/api/{page}")).expect("a URL");
            let expected = Url::parse(&format!("https://api.github.com/repos/acme/api/{api}")).expect("a URL");

            assert_eq!(github_api(&page), Some((expected, accept)));
        }
        let other = Url::parse("https://git.example/acme/api/pull/12.diff").expect("a URL");
        assert_eq!(github_api(&other), None);
    }
}
