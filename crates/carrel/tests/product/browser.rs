//! The web app in a real browser: the story of `web/story` against the real service. `cargo xtask test` builds the web app
//! and installs the browser; without them this test says so.

use std::path::Path;

use carrel_testkit::model::Reply;

use crate::{CARREL, FILES, MENDING, World, patch, says};

#[tokio::test]
async fn the_main_job_is_done_in_a_browser() {
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web");
    assert!(
        web.join("dist/index.html").exists() && web.join("node_modules/playwright-core").exists(),
        "the web app is not built; run `cargo xtask test`, or `npm ci && npm run build` in web/"
    );
    let script = says([
        Reply::command("git ls-remote https://blocked.example/api"),
        Reply::command("./check.sh"),
        patch(MENDING),
        Reply::command("./check.sh"),
        Reply::message(
            "**Summary**\n\n- The answer was off by one. 【F:answer†L1】\n\n**Testing**\n\n- `./check.sh` passes\n",
        ),
    ])
    .when("Why", [Reply::command("cat answer"), Reply::message("Because 6 times 7 is 42.")]);
    let wait = serde_json::json!({"cmd": "sleep 1000051", "yield_time_ms": 60000});
    let script = script
        .when("Wait for me", [Reply::call("exec_command", wait)])
        .when("Stop waiting", [Reply::message("As you say.")])
        .when("was cut off", [Reply::message("Gone on.")]);
    let world = World::new(CARREL, script).await;
    let repository = world.repository("api", FILES);
    let link = world.carrel(&["owner-link"]).await.stdout;
    let pictures = world.folder().join("pictures");

    let mut story = tokio::process::Command::new("node");
    story.arg(web.join("story/main-job.mjs"));
    story.args(["--url", &world.url(), "--owner-link", link.trim()]);
    let expect = serde_json::json!({
        "answer": "The answer was off by one", "file": "answer", "diff": "42", "followUpAnswer": "6 times 7",
        "blocked": "blocked.example", "wait": "Wait for me.", "toldAnswer": "As you say", "resumedAnswer": "Gone on",
    });
    story.args(["--expect", &expect.to_string()]);
    story.arg("--repository").arg(repository.path()).arg("--out").arg(&pictures);
    let told = story.kill_on_drop(true).output().await.expect("node is installed");

    let words = format!("{}{}", String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    assert!(told.status.success(), "{words}\n{}", world.logged());
    assert!(!repository.git(&["branch", "--list", "carrel/*"]).is_empty(), "the story has pushed a branch");
}
