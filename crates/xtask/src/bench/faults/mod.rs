//! A model server that misbehaves at every class of byte of its answers, on each of the three wires, against the whole
//! product: every attempt either recovers, with the same patch as if nothing had happened, or ends with a reason. None
//! hangs, and no command runs twice.
//!
//! Build `carrel` and `carrel-runner` into the same profile first.

mod damage;
mod server;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use carrel_testkit::World;
use carrel_testkit::model::{Reply, Script, ScriptedModel};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::damage::{Damage, all};
use self::server::Server;
use super::warm;

/// The wires, by the names of their models.
const WIRES: [&str; 3] = ["responses", "chat_completions", "messages"];
/// The answers that are spoilt: the one that asks for a command, and the last.
const TURNS: [(&str, usize); 2] = [("call", 0), ("answer", 1)];
/// How long a server may say nothing, in the settings of this benchmark.
const TIMEOUT_SECONDS: f64 = 1.0;
/// Attempts at once.
const AT_ONCE: usize = 8;

/// What one attempt came to.
enum Came {
    Recovered,
    Ended(String),
    Wrong(String),
}

/// Runs everything so often and prints a table; fails if anything went wrong.
#[expect(clippy::print_stdout, reason = "the table is what this command is for")]
pub(crate) fn run(rounds: u32) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut wrong = 0;
    for _ in 0..rounds {
        let (text, failures) = runtime.block_on(round())?;
        println!("{text}");
        wrong += failures;
    }
    if wrong > 0 {
        bail!("{wrong} attempts did not come to what they should");
    }
    Ok(())
}

async fn round() -> Result<(String, usize)> {
    let model = ScriptedModel::start(
        Script::default()
            .when("Write once", [Reply::command("echo once >> counter"), Reply::message("Grüße: it is written.")]),
    )
    .await?;
    let server = Server::start(model.url()).await?;
    let program = warm::program()?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), models(&server.url()))?;
    let path = file.path().to_string_lossy().into_owned();
    let variables = [("CARREL_MODELS_FILE", path.as_str()), ("CARREL_MAX_JOBS", "16")];
    let world = Arc::new(World::with(&program.to_string_lossy(), Script::default(), &variables).await);
    let repository =
        world.repository("project", &[("README.md", "A project.\n")]).path().to_string_lossy().into_owned();

    let places = Arc::new(Semaphore::new(AT_ONCE));
    let server = Arc::new(server);
    let mut running = JoinSet::new();
    for damage in all() {
        for (turn, number) in TURNS {
            for wire in WIRES {
                let (world, server, places) = (Arc::clone(&world), Arc::clone(&server), Arc::clone(&places));
                let (damage, repository) = (damage.clone(), repository.clone());
                running.spawn(async move {
                    let _place = places.acquire_owned().await;
                    let (began, spoilt) = (Instant::now(), damage.clone());
                    let watched = async move { attempt(&world, &server, &repository, wire, number, &spoilt).await };
                    // It gives up by a panic on what does not end.
                    let came = tokio::spawn(watched).await.unwrap_or_else(|_| Came::Wrong("it hangs".to_owned()));
                    (damage, turn, wire, came, began.elapsed())
                });
            }
        }
    }
    let mut table = Table::default();
    while let Some(ended) = running.join_next().await {
        let (damage, turn, wire, came, took) = ended.context("an attempt could not be watched")?;
        table.add(&damage, turn, wire, came, took);
    }
    Ok(table.finish())
}

/// One model for each wire, all behind the same server.
fn models(url: &str) -> String {
    let mut text = String::new();
    for wire in WIRES {
        // Writing to a string cannot fail.
        let _written = write!(
            text,
            "[providers.{wire}]\nprotocol = \"{wire}\"\nbase_url = \"{url}\"\nretries = 3\n\
             timeout_seconds = {TIMEOUT_SECONDS:?}\n[[models]]\nname = \"{wire}\"\nprovider = \"{wire}\"\nid = \"scripted\"\n"
        );
    }
    text
}

async fn attempt(world: &World, server: &Server, repository: &str, wire: &str, turn: usize, damage: &Damage) -> Came {
    let case = server.expect(damage.clone(), turn);
    let prompt = format!("Write once. [{case}]");
    let create = ["--json", "task", "create", "--repository", repository, "--model", wire, &prompt];
    let created = world.carrel(&create).await;
    let Ok(task) = serde_json::from_str::<Value>(&created.stdout) else {
        return Came::Wrong(format!("no task: {}", created.stderr));
    };
    let id = task["id"].as_str().unwrap_or_default();
    let task = world.ended(id).await;
    let attempt = &task["turns"][0]["attempts"][0];
    match attempt["state"].as_str().unwrap_or_default() {
        "ready" => {
            let diff = world.carrel(&["task", "diff", id]).await.stdout;
            let written = diff.lines().filter(|line| *line == "+once").count();
            // A call that came garbled is told to the model, which a script does not make again.
            match written {
                1 => Came::Recovered,
                0 if damage.may_garble() => Came::Ended("the model was told that its call was garbled".to_owned()),
                _ => Came::Wrong(format!("the command ran {written} times")),
            }
        }
        "failed" => {
            let reason = attempt["failure"]["reason"].as_str().unwrap_or_default();
            if reason.contains("model") {
                Came::Ended(reason.to_owned())
            } else {
                Came::Wrong(format!("it failed, and the reason does not speak of the model: {reason:?}"))
            }
        }
        other => Came::Wrong(format!("its state is {other}")),
    }
}

/// What all attempts came to, a line for each damage and turn.
#[derive(Default)]
struct Table {
    lines: BTreeMap<(String, &'static str), BTreeMap<&'static str, String>>,
    notes: Vec<String>,
    recovered: usize,
    ended: usize,
    wrong: usize,
    slowest: Duration,
}

impl Table {
    fn add(&mut self, damage: &Damage, turn: &'static str, wire: &'static str, came: Came, took: Duration) {
        let name = damage.to_string();
        let word = match came {
            Came::Recovered => {
                self.recovered += 1;
                "recovered"
            }
            Came::Ended(reason) if damage.must_recover() => {
                self.wrong += 1;
                self.notes.push(format!("{name}, {turn}, {wire}: ended, and should have recovered: {reason}"));
                "ENDED"
            }
            Came::Ended(reason) => {
                self.ended += 1;
                self.notes.push(format!("{name}, {turn}, {wire}: {reason}"));
                "reason"
            }
            Came::Wrong(what) => {
                self.wrong += 1;
                self.notes.push(format!("{name}, {turn}, {wire}: WRONG: {what}"));
                "WRONG"
            }
        };
        self.slowest = self.slowest.max(took);
        self.lines.entry((name, turn)).or_default().insert(wire, word.to_owned());
    }

    fn finish(mut self) -> (String, usize) {
        let mut text = format!("{:<44} {:<8} {:<12} {:<18} {:<12}\n", "damage", "turn", WIRES[0], WIRES[1], WIRES[2]);
        for ((damage, turn), words) in &self.lines {
            let word = |wire: &str| words.get(wire).map_or("-", String::as_str);
            let [one, two, three] = WIRES.map(word);
            // Writing to a string cannot fail.
            let _written = writeln!(text, "{damage:<44} {turn:<8} {one:<12} {two:<18} {three:<12}");
        }
        self.notes.sort();
        self.notes.dedup();
        let (recovered, ended, wrong) = (self.recovered, self.ended, self.wrong);
        let notes = self.notes.join("\n");
        let slowest = self.slowest.as_secs_f64();
        let _written = write!(
            text,
            "\n{notes}\n\n{recovered} recovered, {ended} ended with a reason, {wrong} wrong; the slowest took {slowest:.1} s"
        );
        (text, wrong)
    }
}
