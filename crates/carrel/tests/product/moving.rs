//! An installation as one file: moved from SQLite to PostgreSQL, kept as a backup, and never half there.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use carrel_testkit::model::{Reply, Script};
use carrel_testkit::{Postgres, wait_for};
use serde_json::Value;

use super::{CARREL, FILES, World, attempt, mends, reason, says};

const PATIENCE: Duration = Duration::from_secs(60);

/// What values of secrets are sealed under.
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// Another place for an installation: a folder, and maybe a PostgreSQL server.
struct Elsewhere {
    folder: tempfile::TempDir,
    postgres: Option<Postgres>,
}

impl Elsewhere {
    fn on_postgres() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), postgres: Some(Postgres::start()) }
    }

    fn on_sqlite() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), postgres: None }
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        let artifacts = format!("file://{}", self.folder.path().join("artifacts").display());
        let mut variables = vec![("CARREL_SECRETS_KEY", KEY.to_owned()), ("CARREL_ARTIFACTS", artifacts)];
        if let Some(server) = &self.postgres {
            variables.push(("DATABASE_URL", server.url()));
            // The worker it came from was seen a moment ago, and has the files of its attempts. With SQLite there is no other.
            variables.push(("CARREL_WORKER_GONE_SECONDS", "2".to_owned()));
        }
        variables
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(CARREL);
        command.args(arguments).env_clear().env("CARREL_DATA", self.data()).envs(self.variables());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program can be started")
    }

    /// A service on what is here.
    async fn world(&self, script: Script) -> World {
        let variables = self.variables();
        let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        World::with(CARREL, script, &variables).await
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn path(file: &Path) -> &str {
    file.to_str().expect("a path in UTF-8")
}

async fn exported(world: &World) -> PathBuf {
    let file = world.folder().join("carrel.tar");
    let ran = world.carrel(&["export", "--force", path(&file)]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_moves_to_postgresql_from_under_a_running_service_and_goes_on_there() {
    let mut before = World::with(CARREL, mends(), &[("CARREL_SECRETS_KEY", KEY)]).await;
    let repository = before.repository("answers", FILES);
    before.json(&["environment", "create", "api", "--no-setup", "--setup-secret", "TOKEN=hunter2hunter2"]).await;
    let id = before.create(&repository, "Make the check pass").await;
    let done = before.ended(&id).await;
    let diff = before.carrel(&["task", "diff", &id]).await.stdout;
    let file = exported(&before).await;
    let events = before.events(&id).await;
    before.kill().await;
    let elsewhere = Elsewhere::on_postgres();

    let imported = elsewhere.run(&["import", path(&file)]);

    assert!(imported.status.success(), "{}", text(&imported.stderr));
    let said = text(&imported.stdout);
    assert!(said.starts_with("took over 1 task with 1 attempt"), "{said}");
    let after = elsewhere.world(says([Reply::command("cat answer"), Reply::message("It is 42.")])).await;
    assert_eq!(after.json(&["task", "show", &id]).await, done);
    assert_eq!(after.carrel(&["task", "diff", &id]).await.stdout, diff);
    assert_eq!(after.events(&id).await, events);
    after.json(&["task", "follow-up", &id, "What is the answer?"]).await;
    let task = after.ended(&id).await;
    assert_eq!(task["turns"][1]["attempts"][0]["state"], "ready", "{task:#}");
    let log = after.events(&id).await;
    let numbers: Vec<u64> = log.iter().filter_map(|event| event["seq"].as_u64()).collect();
    assert!(numbers.len() > events.len() && numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    let printed = log.iter().any(|event| event["type"] == "command.output" && event["data"]["text"] == "42\n");
    assert!(printed, "it goes on from the files as they were: {log:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_was_under_way_ends_with_the_reason_and_is_made_again_elsewhere() {
    let variables = [("CARREL_SECRETS_KEY", KEY), ("CARREL_WORKER_NAME", "the old machine")];
    let mut before = World::with(CARREL, says([Reply::command("sleep 1000; echo never")]), &variables).await;
    let repository = before.repository("answers", FILES);
    let id = before.create(&repository, "Make the check pass").await;
    before.events_until(&id, |events| events.iter().any(|event| event["type"] == "command.started")).await;
    let file = exported(&before).await;
    before.kill().await;
    let elsewhere = Elsewhere::on_postgres();

    let imported = elsewhere.run(&["import", path(&file)]);
    assert!(imported.status.success(), "{}", text(&imported.stderr));
    let after = elsewhere.world(mends()).await;

    after.events_until(&id, |events| events.iter().any(|event| event["type"] == "attempt.retried")).await;
    let task = after.ended(&id).await;
    assert_eq!(task["state"], "ready", "{task:#}");
    assert!(reason(&task).contains("`the old machine` was not heard of since"), "{}", reason(&task));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_was_under_way_goes_on_where_its_sandbox_is() {
    let script = Script::new([Reply::command("sleep 3; echo once >> count"), Reply::message("Done.")]);
    let mut world = World::with(CARREL, script, &[]).await;
    let repository = world.repository("answers", FILES);
    let id = world.create(&repository, "Count").await;
    world.events_until(&id, |events| events.iter().any(|event| event["type"] == "command.started")).await;
    world.kill().await;
    let file = exported(&world).await;
    for name in ["carrel.sqlite", "carrel.sqlite-wal", "carrel.sqlite-shm"] {
        let _there_or_not = std::fs::remove_file(world.data().join(name));
    }

    let imported = world.carrel(&["import", path(&file)]).await;
    assert_eq!(imported.code, 0, "{imported:?}");
    world.start().await;

    let task = world.ended(&id).await;
    assert_eq!(task["state"], "ready", "{task:#}");
    assert_eq!(task["turns"][0]["attempts"].as_array().map(Vec::len), Some(1), "{task:#}");
    let diff = world.carrel(&["task", "diff", &id]).await.stdout;
    assert_eq!(diff.matches("+once").count(), 1, "{diff}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_brings_an_empty_folder_back_to_what_it_was_keys_and_token_too() {
    let mut world = World::new(CARREL, says([Reply::message("Done."), Reply::message("Again.")])).await;
    let repository = world.repository("answers", FILES);
    world.json(&["environment", "create", "api", "--no-setup", "--setup-secret", "TOKEN=hunter2hunter2"]).await;
    let id = world.create_with(&repository, &["--environment", "api", "Do it"]).await;
    let (done, token) = (world.ended(&id).await, world.token());
    let file = world.folder().join("backup.tar");

    let made = world.carrel(&["backup", path(&file)]).await;
    let again = world.carrel(&["backup", path(&file)]).await;
    let busy = world.carrel(&["restore", path(&file)]).await;
    world.kill().await;
    let full = world.carrel(&["restore", path(&file)]).await;
    std::fs::rename(world.data(), world.folder().join("lost")).expect("our own folder");
    let restored = world.carrel(&["restore", path(&file)]).await;
    world.start().await;

    assert_eq!(made.code, 0, "{made:?}");
    assert!(made.stdout.contains("secrets.key, token"), "{made:?}");
    assert_eq!(std::fs::metadata(&file).expect("the backup").permissions().mode() & 0o777, 0o600);
    assert!(again.code == 2 && again.stderr.contains("--force"), "{again:?}");
    assert!(busy.code == 2 && busy.stderr.contains("another `carrel serve` uses"), "{busy:?}");
    assert!(full.code == 3 && full.stderr.contains("is not empty"), "{full:?}");
    assert_eq!(restored.code, 0, "{restored:?}");
    assert_eq!((world.token(), world.json(&["task", "show", &id]).await), (token, done));
    let next = world.create_with(&repository, &["--environment", "api", "Do it again"]).await;
    assert_eq!(attempt(&world.ended(&next).await)["state"], "ready", "its secret opens");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_has_no_keys_unless_asked_and_an_import_says_which_one_is_missing() {
    let world = World::new(CARREL, says([Reply::message("Done.")])).await;
    world.json(&["environment", "create", "api", "--no-setup", "--setup-secret", "TOKEN=hunter2hunter2"]).await;
    let (file, keys) = (exported(&world).await, world.data().join("secrets.key"));
    let key = std::fs::read_to_string(&keys).expect("a key");
    let key = key.lines().last().expect("a key");
    let fresh = tempfile::tempdir().expect("a folder");
    let run = |arguments: &[&str], data: &str| {
        let mut command = Command::new(CARREL);
        command.args(arguments).env_clear().env("CARREL_DATA", fresh.path().join(data));
        command.output().expect("the program can be started")
    };

    let imported = run(&["import", path(&file)], "one");
    let backup = world.folder().join("backup.tar");
    world.carrel(&["backup", path(&backup)]).await;
    std::fs::create_dir(fresh.path().join("two")).expect("our own folder");
    std::fs::write(fresh.path().join("two/secrets.key"), "5f".repeat(32)).expect("our own file");
    let other = run(&["restore", path(&backup)], "two");

    let bytes = std::fs::read(&file).expect("the archive");
    assert!(!text(&bytes).contains(key) && !text(&bytes).contains("hunter2"), "nothing is open in it");
    assert!(imported.status.success(), "{}", text(&imported.stderr));
    assert!(text(&imported.stdout).contains("the key of the secrets is not here: put it into"));
    assert!(other.status.code() == Some(3) && text(&other.stderr).contains("other keys of secrets"), "{other:?}");
    assert_eq!(std::fs::read_to_string(fresh.path().join("two/secrets.key")).expect("kept"), "5f".repeat(32));
    assert!(!fresh.path().join("two/token").exists(), "nothing of it was kept");
}

/// Imports on this place and kills the program with this much of the archive read.
fn killed(place: &Elsewhere, archive: &[u8], begun: impl Fn() -> bool) {
    let mut command = place.command(&["import", "-"]);
    let mut running = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it can be started");
    let mut input = running.stdin.take().expect("a pipe");
    input.write_all(archive).expect("it reads");
    wait_for(PATIENCE, "the import to begin", begun);
    running.kill().expect("our own process");
    running.wait().expect("our own process");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_killed_leaves_an_installation_that_is_empty_or_whole() {
    let world = World::with(CARREL, mends(), &[("CARREL_SECRETS_KEY", KEY)]).await;
    let repository = world.repository("answers", FILES);
    world.run(&repository, "Make the check pass").await;
    let archive = std::fs::read(exported(&world).await).expect("the archive");

    for place in [Elsewhere::on_sqlite(), Elsewhere::on_postgres()] {
        let begun = || match &place.postgres {
            None => std::fs::metadata(place.data().join("carrel.sqlite-wal")).is_ok(),
            Some(server) => {
                let locks = "select count(*) > 1 from pg_locks where locktype = 'advisory'";
                server.query(locks).as_deref() == Some("t")
            }
        };
        for part in 1..6 {
            killed(&place, &archive[..archive.len() * part / 6], begun);
        }
        // All of it was sent: the end may have come before the kill.
        killed(&place, &archive, || true);

        let file = place.folder.path().join("carrel.tar");
        std::fs::write(&file, &archive).expect("our own file");
        let after = place.run(&["import", path(&file)]);
        let is_whole = after.status.code() == Some(3) && text(&after.stderr).contains("is not empty");
        assert!(after.status.success() || is_whole, "{}", text(&after.stderr));
        let written = place.run(&["export", "-"]);
        assert!(written.status.success() && written.stdout == archive, "{}", text(&written.stderr));
    }
}

#[tokio::test]
async fn migrate_says_what_is_to_be_done_and_does_it_once() {
    for place in [Elsewhere::on_sqlite(), Elsewhere::on_postgres()] {
        let before = place.run(&["migrate", "--check"]);
        let made = place.run(&["--json", "migrate"]);
        let after = place.run(&["migrate", "--check"]);
        let again = place.run(&["migrate"]);

        assert!(before.status.code() == Some(1) && text(&before.stderr).contains("no schema yet"), "{before:?}");
        let made: Value = serde_json::from_slice(&made.stdout).expect("JSON");
        assert_eq!(made["made"][0], "0001_first");
        assert!(after.status.success() && again.status.success(), "{after:?} {again:?}");
        assert_eq!(text(&again.stdout), "the schema is up to date\n");
    }
}

#[test]
fn a_database_of_a_newer_version_is_refused_by_the_service_and_every_command() {
    for place in [Elsewhere::on_sqlite(), Elsewhere::on_postgres()] {
        place.run(&["migrate"]);
        let sql = "insert into seaql_migrations (version, applied_at) values ('9999_future', 0)";
        match &place.postgres {
            Some(server) => assert!(server.query(sql).is_some()),
            None => {
                let mut sqlite = Command::new("sqlite3");
                sqlite.args(["-cmd", ".timeout 30000"]).arg(place.data().join("carrel.sqlite")).arg(sql);
                assert!(sqlite.status().expect("sqlite3 is installed").success());
            }
        }

        for arguments in [&["serve"][..], &["migrate"], &["migrate", "--check"], &["export", "-"]] {
            let ran = place.command(arguments).env("CARREL_LISTEN", "127.0.0.1:0").output().expect("it can be started");

            let said = text(&ran.stderr);
            assert!(!ran.status.success() && said.contains("from a newer version of Carrel"), "{arguments:?}: {said}");
            assert!(said.contains("start that version again, or a newer one"), "{arguments:?}: {said}");
        }
    }
}

#[test]
fn what_cannot_be_exported_or_imported_is_said_with_the_way_out() {
    let place = Elsewhere::on_sqlite();
    let file = place.folder.path().join("carrel.tar");
    std::fs::write(&file, "no archive").expect("our own file");

    for (arguments, code, words) in [
        (&["export", "there/is/no/folder.tar"][..], 2, "cannot write into there/is/no"),
        (&["export", "-"], 3, "there is no installation in"),
        (&["export", path(&file)], 2, "is there already; take another name, or --force"),
        (&["import", "there-is-no-file.tar"], 2, "cannot read there-is-no-file.tar"),
        (&["import", path(&file)], 3, "the archive cannot be used: byte 0"),
    ] {
        let ran = place.run(arguments);

        let said = text(&ran.stderr);
        assert!(ran.status.code() == Some(code) && said.contains(words), "{arguments:?}: {said}");
        assert!(ran.stdout.is_empty(), "{arguments:?}");
    }
    assert_eq!(std::fs::read(&file).expect("our own file"), b"no archive");
}
