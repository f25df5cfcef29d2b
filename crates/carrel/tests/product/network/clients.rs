//! The clients people use, allowed and refused: git, pip, npm. And what passes between them and the servers: methods,
//! secrets.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::origin::{Origin, read};
use super::{decided, events, runs, said, world};
use crate::of_type;

const ALLOW: [&str; 3] = ["--no-setup", "--allow-domain", "localhost"];

/// What a network secret is worth.
const VALUE: &str = "network-value-7d20c1e9";

/// Runs the command offline, allows the host, and runs it again: what was said each time.
async fn refused_and_allowed(origin: &Origin, command: String) -> [String; 2] {
    let world = world(origin, runs([command]), &["--no-setup"]).await;
    let refused = events(&world).await;
    assert_eq!(decisions(&refused), BTreeSet::from([false]), "{refused:#?}");
    assert_eq!(origin.requests(), Vec::<String>::new());
    world.json(&["environment", "edit", "api", "--allow-domain", "localhost"]).await;
    let allowed = events(&world).await;
    assert_eq!(decisions(&allowed), BTreeSet::from([true]), "{allowed:#?}");
    [refused, allowed].map(|events| said(&events)[0].clone())
}

/// How it was decided about the origin, each way once. Some clients ask for news of themselves elsewhere, too.
fn decisions(events: &[Value]) -> BTreeSet<bool> {
    decided(events).into_iter().filter(|(host, ..)| host == "localhost").map(|(_, allowed, _)| allowed).collect()
}

#[tokio::test]
async fn git_clones_from_a_host_that_is_allowed_and_is_told_when_it_is_not() {
    let origin = Origin::start();
    origin.repository("other", &[("word", "from the clone\n")]);

    let clone = format!("git clone --quiet {} /tmp/other && cat /tmp/other/word", origin.url("git/other/.git"));
    let [refused, allowed] = refused_and_allowed(&origin, clone).await;

    assert!(refused.contains("403") && refused.ends_with("[128]"), "{refused}");
    assert_eq!(allowed, "from the clone\n[0]");
    assert!(origin.requests().iter().any(|line| line.starts_with("POST /git/other/.git/git-upload-pack")));
}

#[tokio::test]
async fn pip_installs_from_an_index_that_is_allowed_and_is_told_when_it_is_not() {
    let origin = Origin::start();

    let install = format!(
        "python3 -m pip install --retries 1 --no-cache-dir --target /tmp/packages --index-url {} loopy && \
         PYTHONPATH=/tmp/packages python3 -c 'import loopy; print(loopy.WORD)'",
        origin.url("simple/")
    );
    let [refused, allowed] = refused_and_allowed(&origin, install).await;

    assert!(refused.contains("403") && refused.ends_with("[1]"), "{refused}");
    assert!(allowed.contains("from the wheel\n") && allowed.ends_with("[0]"), "{allowed}");
}

#[tokio::test]
async fn npm_ci_installs_from_a_registry_that_is_allowed_and_is_told_when_it_is_not() {
    let origin = Origin::start();

    let lock = read(&origin.path("package-lock.json"));
    let install = format!(
        "mkdir /tmp/it && cd /tmp/it && echo '{{\"name\":\"it\",\"version\":\"1.0.0\",\"dependencies\":{{\"loopy\":\"1.0.0\"}}}}' \
         > package.json && echo '{lock}' > package-lock.json && npm ci --no-audit --fetch-retries 0 && \
         node -p 'require(\"loopy\")'"
    );
    let [refused, allowed] = refused_and_allowed(&origin, install).await;

    assert!(refused.contains("403") && !refused.ends_with("[0]"), "{refused}");
    assert!(allowed.contains("from the tarball\n") && allowed.ends_with("[0]"), "{allowed}");
}

#[tokio::test]
async fn the_preset_of_package_managers_finds_a_mirror_that_nobody_listed() {
    let origin = Origin::start();
    let index = format!("PIP_INDEX_URL={}", origin.url("simple/"));
    let registry = format!("npm_config_registry={}", origin.url("npm/"));
    let pip = "python3 -m pip install --quiet --no-cache-dir --target /tmp/packages loopy && ls /tmp/packages";
    let npm = "mkdir /tmp/it && cd /tmp/it && npm install --no-audit loopy && node -p 'require(\"loopy\")'";
    let other = "curl -sS -w '%{http_code}' http://example.com/";
    let words = ["--no-setup", "--internet", "packages", "--variable", &index, "--variable", &registry];
    let world = world(&origin, runs([pip, npm, other]), &words).await;

    let events = events(&world).await;

    let said = said(&events);
    assert!(said[0].contains("loopy.py") && said[0].ends_with("[0]"), "{said:?}\n{events:#?}");
    assert!(said[1].contains("from the tarball") && said[1].ends_with("[0]"), "{said:?}\n{events:#?}");
    assert!(said[2].contains("example.com is not allowed") && said[2].ends_with("403[0]"), "{said:?}");
    let told = of_type(&events, "attempt.progress").into_iter().filter_map(|event| event["data"]["message"].as_str());
    let told: Vec<&str> = told.filter(|message| message.starts_with("package managers of the image use ")).collect();
    assert!(told.len() == 1 && told[0].contains("localhost"), "{told:?}");
}

#[tokio::test]
async fn the_server_gets_a_network_secret_that_the_sandbox_never_sees() {
    let origin = Origin::start();
    let secret = format!("TOKEN={VALUE}@localhost");
    let look = "grep -rl network-[v]alue /proc/*/environ /proc/*/cmdline /tmp /run /etc/environment 2>/dev/null; echo \"$TOKEN\"";
    let ask = format!("curl -sSi -H \"Authorization: Bearer $TOKEN\" {}", origin.url("echo"));
    let words = [&ALLOW[..], &["--network-secret", &secret]].concat();
    let world = world(&origin, runs([look, &ask]), &words).await;

    let events = events(&world).await;

    let said = said(&events);
    let placeholder = said[0].trim_end_matches("[0]").trim_end();
    assert!(placeholder.starts_with("carrel_secret_") && !placeholder.contains('\n'), "{said:?}");
    assert_eq!(origin.requests(), [format!("GET /echo Bearer {VALUE}")]);
    assert_eq!(
        said[1].matches(&format!("Bearer {placeholder}")).count(),
        2,
        "echoed in a header and the body: {said:?}"
    );
    assert!(!json!(events).to_string().contains(VALUE) && !world.logged().contains(VALUE));
}

#[tokio::test]
async fn a_network_secret_is_for_its_host_alone() {
    let origin = Origin::start();
    let secret = format!("TOKEN={VALUE}@api.example");
    let ask = format!("curl -sSi -H \"Authorization: Bearer $TOKEN\" {}", origin.url("echo"));
    let words = [&ALLOW[..], &["--network-secret", &secret]].concat();
    let world = world(&origin, runs([ask]), &words).await;

    events(&world).await;

    let requests = origin.requests();
    assert!(requests.len() == 1 && requests[0].starts_with("GET /echo Bearer carrel_secret_"), "{requests:?}");
}

#[tokio::test]
async fn where_only_reading_is_allowed_nothing_is_posted_inside_tls() {
    let origin = Origin::start();
    let (echo, hello) = (origin.url("echo"), origin.url("files/hello"));
    let posts = format!("curl -sS -w '%{{http_code}}' -d secret {echo}");
    let disguised = format!("curl -sS -w '%{{http_code}}' -H 'X-HTTP-Method-Override: PUT' {echo}");
    let reads = format!("curl -sS -w '%{{http_code}}' {hello}");
    let words = [&ALLOW[..], &["--methods", "read"]].concat();
    let world = world(&origin, runs([posts, disguised, reads]), &words).await;

    let events = events(&world).await;

    let said = said(&events);
    assert!(said[0].contains("carrel environment edit api --methods all") && said[0].ends_with("403[0]"), "{said:?}");
    assert!(said[1].contains("carrel: ") && said[1].ends_with("403[0]"), "{said:?}");
    assert_eq!(said[2], "hello from outside\n200[0]");
    assert_eq!(origin.requests(), ["GET /files/hello -"]);
    let methods = of_type(&events, "network.decided").into_iter().filter(|event| event["data"]["allowed"] == false);
    assert!(methods.map(|event| &event["data"]["method"]).any(|method| method == "POST"), "{events:#?}");
}
