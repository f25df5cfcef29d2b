//! Which variables an environment may set beside the plain grammar of their names: some are the sandbox's own, some break
//! every command when their value is wrong, and some are fine but worth a word.

use super::VariableName;

/// The variables by which tools are told of a bundle of certificates: OpenSSL, curl, git, Python's requests and pip, cargo,
/// npm, yarn, the AWS tools, Ruby's bundler, Composer, Deno, Nix. Sandboxes have them from the start.
pub const BUNDLE_VARIABLES: &[&str] = &[
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "npm_config_cafile",
    "YARN_HTTPS_CA_FILE_PATH",
    "AWS_CA_BUNDLE",
    "BUNDLE_SSL_CA_CERT",
    "COMPOSER_CAFILE",
    "DENO_CERT",
    "NIX_SSL_CERT_FILE",
];

/// What sandboxes reach without the proxy.
pub const NO_PROXY: &str = "localhost,127.0.0.1,::1";

/// Where programs are told of a proxy, in any case of letters.
const PROXIES: &[&str] = &[
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "FTP_PROXY",
    "YARN_HTTP_PROXY",
    "YARN_HTTPS_PROXY",
    "NPM_CONFIG_PROXY",
    "NPM_CONFIG_HTTP_PROXY",
    "NPM_CONFIG_HTTPS_PROXY",
];

/// What leads git to another repository than the one it is called in (some of `git rev-parse --local-env-vars`).
const GIT_PLACES: &[&str] =
    &["GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE"];

/// What every command needs to have a value that everybody may see.
const PLAIN: &[&str] = &["PATH", "HOME", "JAVA_TOOL_OPTIONS", "NODE_EXTRA_CA_CERTS"];

/// Why a variable may not have this name, or not this value; a sentence that names it and the way out.
#[must_use]
pub fn refusal(name: &VariableName, value: &str) -> Option<String> {
    if let Some(problem) = reserved(name) {
        return Some(problem);
    }
    match name.as_str() {
        "PATH" if value.contains('$') => Some(
            "`PATH` is taken as it is, and `$` is not replaced in it; write all folders out, such as \
             /opt/tool/bin:/usr/local/bin:/usr/bin:/bin"
                .to_owned(),
        ),
        "PATH" => value.split(':').find(|folder| !folder.starts_with('/')).map(|folder| {
            format!(
                "`PATH` has the part `{}`, which is no absolute path; write folders such as /opt/tool/bin, with `:` \
                 between them",
                folder.escape_default()
            )
        }),
        "HOME" if !value.starts_with('/') => Some(
            "`HOME` is no absolute path; give a folder that is there and may be written to, such as /root".to_owned(),
        ),
        _ => None,
    }
}

/// Why a secret may not have this name.
#[must_use]
pub fn refusal_of_secret(name: &VariableName) -> Option<String> {
    let is_plain = PLAIN.contains(&name.as_str()) || BUNDLE_VARIABLES.contains(&name.as_str()) || is_no_proxy(name);
    let plain =
        || format!("`{name}` cannot be a secret, because programs need to see what it says; make it a variable");
    reserved(name).or_else(|| is_plain.then(plain))
}

/// What is worth knowing about a variable that may be set.
#[must_use]
pub fn hint(name: &VariableName, value: &str) -> Option<String> {
    if is_no_proxy(name) {
        return no_proxy(name, value);
    }
    if BUNDLE_VARIABLES.contains(&name.as_str()) || name.as_str() == "NODE_EXTRA_CA_CERTS" {
        return Some(format!(
            "`{name}` takes the place of the list that has the sandbox's own certificate authority in it: where TLS is opened \
             (`--methods read`, network secrets) programs that read it trust no server; an authority of yours belongs into \
             CARREL_CA_FILE of the service"
        ));
    }
    let has = |folder: &str| value.split(':').any(|part| part.trim_end_matches('/') == folder);
    (name.as_str() == "PATH" && !(has("/usr/bin") && has("/bin"))).then(|| {
        "`PATH` takes the place of the image's own, and lacks /usr/bin or /bin: where programs such as bash and git are there, \
         nothing runs"
            .to_owned()
    })
}

/// Why a name is the sandbox's own.
fn reserved(name: &VariableName) -> Option<String> {
    let upper = name.as_str().to_ascii_uppercase();
    if PROXIES.contains(&upper.as_str()) {
        return Some(format!(
            "`{name}` is set by the sandbox to the one way out it has, so another proxy is never reached; leave it out, and \
             say what may be reached with --internet and --allow-domain"
        ));
    }
    if upper.starts_with("CARREL_") {
        return Some(format!("`{name}` begins as the sandbox's own variables do; choose a name without CARREL_"));
    }
    GIT_PLACES.contains(&name.as_str()).then(|| {
        format!(
            "`{name}` would lead git away from the repository wherever it is called, so that nothing could be checked out or \
             collected; set it in the script that needs it"
        )
    })
}

fn is_no_proxy(name: &VariableName) -> bool {
    name.as_str().eq_ignore_ascii_case("NO_PROXY")
}

fn no_proxy(name: &VariableName, value: &str) -> Option<String> {
    let own: Vec<&str> = NO_PROXY.split(',').collect();
    let named: Vec<&str> = value.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    if let Some(other) = named.iter().find(|part| !own.contains(part)) {
        return Some(format!(
            "`{name}` names {}, which programs then ask for directly and do not reach: the proxy is the only way out",
            other.escape_default()
        ));
    }
    own.iter().any(|part| !named.contains(part)).then(|| {
        format!(
            "`{name}` does not name all of {NO_PROXY}: programs ask the proxy for servers of the sandbox itself, and it \
             refuses them"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> VariableName {
        text.parse().expect("a name")
    }

    #[test]
    fn what_is_the_sandboxes_own_or_would_break_it_is_refused_by_name() {
        for (variable, value, words) in [
            ("HTTP_PROXY", "http://proxy.corp:3128", "--allow-domain"),
            ("https_proxy", "", "--allow-domain"),
            ("All_Proxy", "x", "--allow-domain"),
            ("npm_config_proxy", "x", "--allow-domain"),
            ("CARREL_PATH", "/bin", "without CARREL_"),
            ("GIT_DIR", "/x", "in the script"),
            ("PATH", "$PATH:/opt/bin", "is not replaced"),
            ("PATH", "/usr/bin::/bin", "the part ``"),
            ("PATH", "", "no absolute path"),
            ("PATH", "node_modules/.bin:/usr/bin", "the part `node_modules/.bin`"),
            ("HOME", "~", "no absolute path"),
        ] {
            let said = refusal(&name(variable), value).unwrap_or_else(|| panic!("{variable}={value} is taken"));
            assert!(said.contains(variable) && said.contains(words), "{said}");
        }
    }

    #[test]
    fn what_a_person_may_have_a_reason_for_is_taken() {
        for (variable, value) in [
            ("PATH", "/opt/bin:/usr/bin:/bin"),
            ("HOME", "/root"),
            ("LD_PRELOAD", "/usr/lib/libjemalloc.so"),
            ("NO_PROXY", ""),
            ("SSL_CERT_FILE", "/etc/ssl/own.pem"),
            ("JAVA_TOOL_OPTIONS", "-Xmx2g"),
            ("GIT_AUTHOR_NAME", "Ada"),
            ("MY_HTTP_PROXY", "x"),
        ] {
            assert_eq!(refusal(&name(variable), value), None, "{variable}");
        }
    }

    #[test]
    fn a_secret_is_nothing_that_every_command_has_to_read() {
        for variable in ["PATH", "HOME", "no_proxy", "SSL_CERT_FILE", "HTTPS_PROXY", "CARREL_X", "GIT_INDEX_FILE"] {
            assert!(refusal_of_secret(&name(variable)).is_some_and(|said| said.contains(variable)), "{variable}");
        }
        assert_eq!(refusal_of_secret(&name("NPM_TOKEN")), None);
    }

    #[test]
    fn what_is_taken_and_has_a_price_comes_with_a_hint() {
        for (variable, value, words) in [
            ("NO_PROXY", "localhost,127.0.0.1,::1,git.corp", Some("names git.corp")),
            ("no_proxy", "", Some("servers of the sandbox itself")),
            ("NO_PROXY", "::1, localhost,127.0.0.1", None),
            ("SSL_CERT_FILE", "/x", Some("CARREL_CA_FILE")),
            ("NODE_EXTRA_CA_CERTS", "/x", Some("CARREL_CA_FILE")),
            ("PATH", "/opt/bin", Some("lacks /usr/bin or /bin")),
            ("PATH", "/opt/bin:/usr/bin/:/bin", None),
            ("LANG", "C.UTF-8", None),
        ] {
            let said = hint(&name(variable), value);
            assert_eq!(said.is_some(), words.is_some(), "{variable}={value}: {said:?}");
            assert!(said.unwrap_or_default().contains(words.unwrap_or_default()), "{variable}");
        }
    }
}
