//! Tasks that start from changes nobody has pushed.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use carrel_testkit::model::Reply;
use reqwest::Client;
use serde_json::{Value, json};

use crate::{CARREL, FILES, MENDING, Repository, World, attempt, of_type, patch, reason, says};

fn path(repository: &Repository) -> String {
    repository.path().to_str().expect("UTF-8").to_owned()
}

fn write(repository: &Repository, name: &str, bytes: &[u8]) -> PathBuf {
    let file = repository.path().join(name);
    std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
    std::fs::write(&file, bytes).expect("a file");
    file
}

/// Has a file be as old as all others that are dated.
fn dated(repository: &Repository, name: &str) {
    let file = std::fs::File::options().write(true).open(repository.path().join(name)).expect("a file");
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000);
    file.set_modified(time).expect("a time");
}

/// Creates a task with these arguments in the repository's folder, and gives its id and what was said beside it.
async fn create(world: &World, repository: &Repository, arguments: &[&str]) -> (String, String) {
    let ran = world.carrel_in(repository.path(), &[&["--json", "task", "create"], arguments].concat()).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let task: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    (task["id"].as_str().expect("an id").to_owned(), ran.stderr)
}

#[tokio::test]
async fn a_task_starts_from_what_the_checkout_has_and_its_patch_is_the_agents_own_work() {
    let look = "cat docs/note.txt moved new/file; od -An -c dos.txt; od -An -tx1 blob; ls -l check.sh; readlink link; \
                tail -c1 end | od -An -c; git status --short; git log --format=%s";
    let script = says([Reply::command(look), patch(MENDING), Reply::message("Done.")]);
    let world = World::new(CARREL, script).await;
    let repository = world.repository("api", FILES);
    repository.commit(
        "more",
        &[
            ("old", "a\nb\nc\nd\n"),
            ("dos.txt", "a\r\nb\r\n"),
            ("gone", "x\n"),
            (".gitignore", "ignored\n"),
            ("end", "x\n"),
        ],
    );
    write(&repository, "docs/note.txt", b"one\nTWO\nthree\n");
    write(&repository, "new/file", b"new\n");
    write(&repository, "ignored", b"secret\n");
    write(&repository, "blob", &[0, 1, 2, 255, 254]);
    write(&repository, "dos.txt", b"a\r\nB\r\n");
    write(&repository, "end", b"y");
    std::fs::rename(repository.path().join("old"), repository.path().join("moved")).expect("a rename");
    std::fs::remove_file(repository.path().join("gone")).expect("a file");
    std::fs::set_permissions(repository.path().join("check.sh"), PermissionsExt::from_mode(0o644)).expect("a mode");
    symlink("docs/note.txt", repository.path().join("link")).expect("a link");
    let before = (repository.git(&["status", "--porcelain"]), repository.git(&["count-objects"]));

    let (id, said) = create(&world, &repository, &["--with-local-changes", "Mend it"]).await;
    let task = world.ended(&id).await;

    assert_eq!(
        (repository.git(&["status", "--porcelain"]), repository.git(&["count-objects"])),
        before,
        "nothing is written"
    );
    assert!(said.contains("left out: what git ignores, `ignored`"), "{said}");
    let seen = world.model().requests()[1].output(0).expect("a result");
    for expected in ["TWO", "new\n", "B  \\r", "00 01 02 ff fe", "-rw-r--r--", "docs/note.txt\n", "   y"] {
        assert!(seen.contains(expected), "{expected:?} in {seen}");
    }
    assert!(!seen.contains(" M ") && !seen.contains("??"), "the work tree is clean: {seen}");
    assert!(seen.contains("Local changes\nmore\nfirst"), "{seen}");
    let files = attempt(&task)["result"]["patch"]["files"].as_array().expect("files").clone();
    assert_eq!(files.iter().map(|file| &file["path"]).collect::<Vec<_>>(), ["answer"], "{task:#}");
    assert_eq!(task["local_changes"]["files"], 9, "{task:#}");
    let events = world.events(&id).await;
    let applied = of_type(&events, "local_changes.applied");
    assert_eq!(applied.len(), 1);
    assert_eq!(applied[0]["data"]["base"], repository.git(&["rev-parse", "HEAD"]));
    assert_eq!(applied[0]["data"]["commit"], attempt(&task)["base_commit"]);
    let shown = world.carrel(&["task", "show", &id]).await;
    assert!(shown.stdout.contains("starts from local changes: 9 files"), "{shown:?}");

    let fits = world.carrel_in(repository.path(), &["task", "apply", &id]).await;

    assert_eq!(fits.code, 0, "{fits:?}");
    assert_eq!(std::fs::read_to_string(repository.path().join("answer")).expect("a file"), "42\n");
    assert_eq!(std::fs::read(repository.path().join("new/file")).expect("a file"), b"new\n");
}

#[tokio::test]
async fn attempts_and_follow_ups_share_the_commit_and_a_publication_has_both() {
    let script = says([patch(MENDING), Reply::message("Done.")])
        .when("And more", [Reply::command("echo more >> answer"), Reply::message("More.")]);
    let world = World::new(CARREL, script).await;
    let repository = world.repository("api", FILES);
    let head = repository.git(&["rev-parse", "HEAD"]);
    write(&repository, "mine", b"mine\n");

    let (id, _) = create(&world, &repository, &["--with-local-changes", "--attempts", "2", "Mend it"]).await;
    let task = world.ended(&id).await;
    world.json(&["task", "follow-up", &id, "And more"]).await;
    let after = world.ended(&id).await;
    world.json(&["task", "push", &id, "--branch", "fix"]).await;

    let bases: Vec<&Value> =
        task["turns"][0]["attempts"].as_array().expect("two").iter().map(|one| &one["base_commit"]).collect();
    assert!(bases[0] == bases[1] && *bases[0] != json!(head), "{bases:?}");
    assert_eq!(&attempt(&after)["base_commit"], bases[0]);
    assert_eq!(repository.git(&["rev-parse", "fix~2"]), head);
    assert_eq!(json!(repository.git(&["rev-parse", "fix~1"])), *bases[0]);
    assert_eq!(repository.git(&["show", "fix:mine"]), "mine");
    assert_eq!(repository.git(&["show", "fix:answer"]), "42\nmore");
    let events = world.events(&id).await;
    let told = of_type(&events, "attempt.progress");
    assert!(told.iter().any(|event| event["data"]["message"].to_string().contains("gets two commits")), "{told:#?}");
}

#[tokio::test]
async fn commits_that_are_not_pushed_go_along_on_the_commit_that_the_remote_has() {
    let script = says([Reply::command("cat answer extra; git status --short"), Reply::message("Seen.")]);
    let world = World::new(CARREL, script).await;
    let repository = world.repository("api", FILES);
    let pushed = repository.git(&["rev-parse", "HEAD"]);
    let place = world.folder().join("clone");
    repository.git(&["clone", "--quiet", &path(&repository), place.to_str().expect("UTF-8")]);
    let checkout = Repository::at(&place);
    checkout.commit("not pushed", &[("extra", "extra\n")]);
    // All in the same second: only what is in the file says that it is another one.
    checkout.git(&["config", "core.trustctime", "false"]);
    dated(&checkout, "answer");
    checkout.git(&["update-index", "--refresh"]);
    dated(&checkout, ".git/index");
    write(&checkout, "answer", b"40\n");
    dated(&checkout, "answer");

    let arguments = ["--repository", &path(&repository), "--with-local-changes", "Look"];
    let (id, said) = create(&world, &checkout, &arguments).await;
    let task = world.ended(&id).await;

    assert!(said.contains("1 commit that is not pushed goes along"), "{said}");
    assert_eq!(task["commit"], pushed);
    let seen = world.model().requests()[1].output(0).expect("a result");
    assert!(seen.contains("40\nextra\n") && !seen.contains(" M "), "{seen}");
}

#[tokio::test]
async fn a_patch_that_does_not_fit_fails_in_gits_words_with_the_way_out() {
    let world = World::new(CARREL, says([Reply::message("unused")])).await;
    let repository = world.repository("api", FILES);
    let diff = "diff --git a/answer b/answer\n--- a/answer\n+++ b/answer\n@@ -1 +1 @@\n-7\n+8\n";
    let file = write(&repository, "../p.diff", diff.as_bytes());

    let (id, _) = create(&world, &repository, &["--local-changes", file.to_str().expect("UTF-8"), "Go"]).await;
    let task = world.ended(&id).await;

    let reason = reason(&task);
    assert!(reason.contains("answer") && reason.contains("--with-local-changes"), "{reason}");
    assert!(world.model().requests().is_empty());
}

#[tokio::test]
async fn hostile_and_useless_patches_are_refused_at_once() {
    let world = World::new(CARREL, says([Reply::message("unused")])).await;
    let repository = world.repository("api", FILES);
    let upload = async |bytes: Vec<u8>| {
        let url = format!("{}/api/v1/attachments?name=p.diff", world.url());
        let answer = Client::new().post(url).bearer_auth(world.token()).body(bytes).send().await.expect("an answer");
        answer.json::<Value>().await.expect("JSON")["id"].clone()
    };
    let refused = async |id: Value| {
        let body = json!({"repository": repository.path(), "mode": "code", "prompt": "x", "local_changes": id});
        let url = format!("{}/api/v1/tasks", world.url());
        let answer = Client::new().post(url).bearer_auth(world.token()).json(&body).send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    };
    let adds = |name: &str, mode: &str| {
        format!(
            "diff --git a/{name} b/{name}\nnew file mode {mode}\nindex 0000000..1111111\n--- /dev/null\n+++ b/{name}\n@@ -0,0 +1 @@\n+x\n"
        )
    };

    let mut answers = Vec::new();
    for text in [
        adds("../outside", "100644"),
        adds(".git/hooks/post-checkout", "100755"),
        adds("a/.GIT/config", "100644"),
        adds("sub", "160000"),
        "no diff at all\n".to_owned(),
        "diff --git a/x b/x\nindex 1111111..2222222\nBinary files a/x and b/x differ\n".to_owned(),
        format!("{}+{}", adds("big", "100644"), "x".repeat(5_000_000)),
    ] {
        answers.push((text.chars().take(60).collect::<String>(), refused(upload(text.into_bytes()).await).await));
    }
    answers.push(("unknown".to_owned(), refused(json!("0198c1de-7a3b-7c4e-9d5f-0123456789ab")).await));

    for (text, (status, answer)) in answers {
        assert_eq!(status, 422, "{text}: {answer}");
        assert!(answer.contains("local_changes"), "{text}: {answer}");
    }
    let list = world.json(&["task", "list"]).await;
    assert_eq!(list["items"], json!([]));
}

#[tokio::test]
async fn a_checkout_with_too_much_in_it_is_told_so_before_anything_is_sent() {
    let world = World::new(CARREL, says([Reply::message("unused")])).await;
    let repository = world.repository("api", FILES);
    write(&repository, "huge.bin", &vec![7; 21_000_000]);

    let ran = world.carrel_in(repository.path(), &["task", "create", "--with-local-changes", "Go"]).await;

    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("`huge.bin`") && ran.stderr.contains("5000000"), "{ran:?}");
}
