//! The login of the credentials file for an address that is asked without git.

use std::fs;

use carrel_domain::Secret;
use url::Url;

use crate::fetch::Forge;
use crate::remote::{MAX_CREDENTIALS_BYTES, percent_decoded};

impl Forge {
    /// The user and the password that the credentials file has for this server: of the first line with its scheme, host and
    /// port, and with no path but one the address begins with.
    #[must_use]
    pub fn login(&self, url: &Url) -> Option<(String, Secret)> {
        let file = self.shared.options.credentials.as_ref()?;
        if fs::metadata(file).ok()?.len() > MAX_CREDENTIALS_BYTES {
            return None;
        }
        let text = Secret::new(fs::read_to_string(file).ok()?);
        text.expose().lines().find_map(|line| login_of(line.trim(), url))
    }
}

fn login_of(line: &str, url: &Url) -> Option<(String, Secret)> {
    let known = Url::parse(line).ok()?;
    let (path, wanted) = (known.path().trim_end_matches('/').trim_end_matches(".git"), url.path());
    let is_below = wanted.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if known.origin() != url.origin() || !matches!(known.scheme(), "https" | "http") || !is_below {
        return None;
    }
    let user = percent_decoded(known.username());
    (!user.is_empty()).then(|| (user, Secret::new(percent_decoded(known.password().unwrap_or_default()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str, url: &str) -> Option<(String, String)> {
        let found = login_of(line, &url.parse().expect("a URL"));
        found.map(|(user, password)| (user, password.expose().to_owned()))
    }

    #[test]
    fn a_login_is_for_its_scheme_host_port_and_path_only() {
        let line = "https://me:a%2Fb@git.example";
        let login = Some(("me".to_owned(), "a/b".to_owned()));

        assert_eq!(found(line, "https://git.example/a/b/pulls/1.diff"), login);
        assert_eq!(found("https://me:a%2Fb@git.example/a/b.git", "https://git.example/a/b/pulls/1.diff"), login);
        for other in
            ["http://git.example/a", "https://git.example:8443/a", "https://git.example.org/a", "https://example/a"]
        {
            assert_eq!(found(line, other), None, "{other}");
        }
        assert_eq!(found("https://me:x@git.example/a/b", "https://git.example/a/bc/pulls/1.diff"), None);
        assert_eq!(found("# https://me:x@git.example", "https://git.example/a"), None);
        assert_eq!(found("https://git.example", "https://git.example/a"), None);
    }
}
