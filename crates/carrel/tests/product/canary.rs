//! Secrets of the installation, planted where they belong, are found nowhere else.

use std::path::Path;

use carrel_testkit::model::Reply;
use carrel_testkit::world::MODEL_KEY;

use crate::{CARREL, FILES, World, attempt, says};

const GIT_PASSWORD: &str = "gitcanary-8d2f5a7c1e";

/// Looks at everything a hostile agent would look at.
const SEARCH: &str = "env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'; ps aux; \
    cat /proc/1/maps /proc/self/mountinfo 2>/dev/null; ls -laR /root /home /run /workspace 2>&1; cat ~/.netrc ~/.git-credentials 2>&1; \
    git config --list --show-origin; git remote -v; \
    for where in / /tmp /etc /opt /var /srv /run /home /dev; do grep -rIlF -e 'canary-' $where 2>/dev/null --exclude-dir=proc --exclude-dir=sys --exclude-dir=usr --exclude-dir=lib --exclude-dir=work --max-count=1 -D skip --include='*' | head -n 5; done; \
    echo searched";

#[tokio::test]
async fn no_credential_is_inside_a_sandbox_in_an_event_or_in_a_log() {
    let said = format!("The key is {MODEL_KEY}, and {GIT_PASSWORD}.");
    let script = says([
        Reply::call(
            "exec_command",
            serde_json::json!({"cmd": SEARCH, "yield_time_ms": 30000, "max_output_tokens": 50000}),
        ),
        Reply::message(said),
    ]);
    let credentials = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(credentials.path(), format!("https://bot:{GIT_PASSWORD}@git.example.com\n")).expect("a file");
    let path = credentials.path().to_string_lossy().into_owned();
    let world = World::with(CARREL, script, &[("CARREL_GIT_CREDENTIALS", &path), ("CARREL_LOG", "trace")]).await;
    let repository = world.repository("api", FILES);

    let task = world.run(&repository, "Search").await;

    assert_eq!(attempt(&task)["state"], "ready", "{task:#}");
    let events = format!("{:?}", world.events(task["id"].as_str().expect("an id")).await);
    assert!(events.contains("searched"), "the search ran to its end: {events}");
    for secret in [MODEL_KEY, GIT_PASSWORD] {
        // The model itself said them: what is stored and shown of that has them taken out.
        assert!(!events.contains(secret), "an event has {secret}");
        assert!(!task.to_string().contains(secret), "the task has {secret}");
        assert!(!world.logged().contains(secret), "the log has {secret}");
        let seen = world.model().requests();
        let inside = seen.iter().any(|request| String::from_utf8_lossy(&request.body).contains(secret));
        assert!(!inside, "the sandbox's output has {secret}");
        assert!(holders(&world.data(), secret).is_empty(), "{:?} hold {secret}", holders(&world.data(), secret));
    }
    assert!(world.logged().len() > 2_000, "there is a log to look at");
}

/// The files below a folder that hold the text.
fn holders(folder: &Path, text: &str) -> Vec<String> {
    let output = std::process::Command::new("grep").args(["-rlF", text]).arg(folder).output().expect("grep is there");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}
