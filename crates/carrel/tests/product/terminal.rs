//! Shells in running attempts: on a real terminal, in a pipe, and what ends them.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use carrel_testkit::Repository;
use carrel_testkit::model::{Reply, Script};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::tcgetattr;
use nix::unistd::Pid;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::process::Child;

use crate::{CARREL, FILES, World, attempt, of_type, says};

/// How long anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A model that waits for a file before it is done.
fn waits() -> Script {
    says([Reply::command("until [ -e go ]; do sleep 0.05; done"), Reply::message("Done.")])
}

/// A task whose attempt waits.
async fn waiting(world: &World, repository: &Repository) -> String {
    let id = world.create(repository, "Wait").await;
    world.events_until(&id, |events| !of_type(events, "command.started").is_empty()).await;
    id
}

/// What people are told of terminals.
async fn told(world: &World, id: &str) -> Vec<String> {
    let events = world.events(id).await;
    let messages =
        of_type(&events, "attempt.progress").into_iter().filter_map(|event| event["data"]["message"].as_str());
    messages.filter(|message| message.contains("terminal")).map(str::to_owned).collect()
}

/// A terminal, with somebody who types and reads.
struct Terminal {
    keyboard: File,
    slave: OwnedFd,
    screen: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    fn open() -> Self {
        let size = Winsize { ws_col: 101, ws_row: 33, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(Some(&size), None).expect("a terminal");
        let keyboard = File::from(pair.master);
        let mut master = keyboard.try_clone().expect("a descriptor");
        let (shows, screen) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = master.read(&mut bytes) {
                if shows.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { keyboard, slave: pair.slave, screen, seen: String::new() }
    }

    fn carrel(&self, world: &World, arguments: &[&str]) -> Child {
        world.carrel_on(self.slave.try_clone().expect("a descriptor"), arguments)
    }

    fn types(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).expect("the terminal is open");
    }

    fn becomes(&self, columns: u16, rows: u16) {
        let size = rustix::termios::Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(self.keyboard.as_fd(), size).expect("the terminal is open");
    }

    /// Whether it echoes and edits lines, as it does for programs that want nothing special.
    fn is_as_usual(&self) -> bool {
        let flags = tcgetattr(&self.slave).expect("the terminal is open").local_flags;
        use nix::sys::termios::LocalFlags;
        flags.contains(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG)
    }

    /// Waits until this was shown after what was waited for before.
    fn shows(&mut self, wanted: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.seen.contains(wanted) {
            let left = deadline.saturating_duration_since(Instant::now());
            let bytes = self.screen.recv_timeout(left).unwrap_or_else(|_| panic!("no {wanted:?} in {:?}", self.seen));
            self.seen.push_str(&String::from_utf8_lossy(&bytes));
        }
        let end = self.seen.find(wanted).expect("it was just found") + wanted.len();
        self.seen.drain(..end);
    }
}

async fn code(mut child: Child) -> i32 {
    let ended = tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends").expect("our own process");
    ended.code().expect("it was not killed")
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id().expect("it runs")).expect("a process id"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_works_beside_the_agent_on_a_terminal_of_their_own() {
    let world = World::new(CARREL, waits()).await;
    let repository = world.repository("api", FILES);
    let id = waiting(&world, &repository).await;
    let mut terminal = Terminal::open();

    let shell = terminal.carrel(&world, &["task", "shell", &id]);

    terminal.types("echo is $((6*7)); stty size; pwd\r");
    terminal.shows("is 42\r\n33 101\r\n/workspace/api\r\n");
    assert!(!terminal.is_as_usual(), "every key goes to the shell");
    terminal.becomes(64, 7);
    terminal.types("until [ \"$(stty size)\" = '7 64' ]; do sleep 0.02; done; echo re''sized\r");
    terminal.shows("resized\r\n");
    // One program, which has the terminal before it says so: the key must not come while the shell still has it.
    terminal.types("sh -c \"echo sl''eeping; exec sleep 1000\"\r");
    terminal.shows("sleeping\r\n");
    terminal.types("\u{3}");
    terminal.shows("$ ");
    terminal.types("echo inter''rupted $?\r");
    terminal.shows("interrupted 130\r\n");
    terminal.types("touch go; exit 3\r");
    assert_eq!(code(shell).await, 3);
    assert!(terminal.is_as_usual());
    assert_eq!(attempt(&world.ended(&id).await)["state"], "ready");
    let told = told(&world, &id).await;
    assert_eq!(told, ["Owner opened a terminal", "the terminal of Owner has ended with exit code 3"]);
}

#[tokio::test]
async fn commands_in_a_pipe_are_run_and_only_their_output_comes_back() {
    let world = World::new(CARREL, waits()).await;
    let repository = world.repository("api", FILES);
    let id = waiting(&world, &repository).await;

    let ran = world
        .carrel_given(
            "cat answer\necho wrong >&2\nhead -c 300000 /dev/zero | tr '\\0' x\nfalse\n",
            &["task", "shell", &id],
        )
        .await;
    let done = world.carrel_given("touch go; exit 7\n", &["task", "shell", &id, "--attempt", "1"]).await;

    assert_eq!((ran.code, ran.stderr.as_str()), (1, ""), "the last command's code");
    assert_eq!(ran.stdout, format!("41\nwrong\n{}", "x".repeat(300_000)));
    assert_eq!((done.code, done.stdout.as_str()), (7, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_terminal_is_put_back_whatever_ends_the_program() {
    let mut world = World::new(CARREL, waits()).await;
    let repository = world.repository("api", FILES);
    let id = waiting(&world, &repository).await;
    let mut terminal = Terminal::open();
    let open = |terminal: &mut Terminal, world: &World| {
        let shell = terminal.carrel(world, &["task", "shell", &id]);
        terminal.types("echo u''p\r");
        terminal.shows("up\r\n");
        assert!(!terminal.is_as_usual());
        shell
    };

    for (signal, expected) in [(Signal::SIGTERM, 143), (Signal::SIGHUP, 129), (Signal::SIGINT, 130)] {
        let shell = open(&mut terminal, &world);
        kill(pid(&shell), signal).expect("our own process");
        assert_eq!(code(shell).await, expected);
        assert!(terminal.is_as_usual(), "{signal}");
    }
    let told = told(&world, &id).await;
    assert!(told.iter().filter(|message| *message == "Owner opened a terminal").count() == 3, "{told:?}");
    let shell = open(&mut terminal, &world);
    world.kill().await;
    assert_eq!(code(shell).await, 4);
    assert!(terminal.is_as_usual());
    terminal.shows("the connection to the service is lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_ends_with_its_attempt_and_none_opens_after() {
    let world = World::new(CARREL, waits()).await;
    let repository = world.repository("api", FILES);
    let id = waiting(&world, &repository).await;
    let mut terminal = Terminal::open();

    let shell = terminal.carrel(&world, &["task", "shell", &id]);
    terminal.types("touch go; exec sleep 1000\r");

    assert_eq!(code(shell).await, 137, "what runs when the files are collected is ended first");
    world.ended(&id).await;
    let late = world.carrel_given("echo late\n", &["task", "shell", &id]).await;
    assert_eq!((late.code, late.stdout.as_str()), (3, ""), "{late:?}");
    assert!(late.stderr.contains("is ready; its sandbox has ended"), "{late:?}");
    let none = world.carrel_given("", &["task", "shell", &id, "--attempt", "4"]).await;
    assert_eq!(none.code, 2, "{none:?}");
}

#[tokio::test]
async fn no_foreign_page_opens_a_terminal_with_a_visitors_cookie() {
    let world = World::new(CARREL, says([Reply::message("Done.")])).await;
    let repository = world.repository("api", FILES);
    let task = world.run(&repository, "Nothing").await;
    let id = attempt(&task)["id"].as_str().expect("an id").to_owned();
    let http = Client::new();
    let link = world.carrel(&["owner-link"]).await.stdout;
    let secret = link.trim().rsplit('#').next().expect("a secret");
    let signed = http.post(format!("{}/api/v1/sessions", world.url())).header("origin", world.url());
    let signed = signed.json(&json!({"owner_link": secret})).send().await.expect("an answer");
    let cookie = signed.headers()["set-cookie"].to_str().expect("text").split(';').next().expect("a pair").to_owned();
    let open = |path: &str| {
        let request = http.get(format!("{}/api/v1/attempts/{id}/terminal{path}", world.url()));
        let request = request.header("connection", "Upgrade").header("upgrade", "websocket");
        request.header("sec-websocket-version", "13").header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
    };
    let status = async |request: reqwest::RequestBuilder| request.send().await.expect("an answer").status();

    // The attempt has ended: who is let in is told so.
    assert_eq!(status(open("").header("cookie", &cookie).header("origin", world.url())).await, StatusCode::CONFLICT);
    assert_eq!(status(open("").bearer_auth(world.token())).await, StatusCode::CONFLICT);
    for origin in [Some("https://evil.example"), Some("null"), Some("http://127.0.0.1:1"), None] {
        let request = open("").header("cookie", &cookie);
        let request = origin.into_iter().fold(request, |request, origin| request.header("origin", origin));
        assert_eq!(status(request).await, StatusCode::FORBIDDEN, "{origin:?}");
    }
    assert_eq!(
        status(open("").bearer_auth(world.token()).header("origin", "https://evil.example")).await,
        StatusCode::FORBIDDEN
    );
    for wrong in ["?columns=80", "?columns=0&rows=24", "?columns=80&rows=99999", "?size=80"] {
        assert_eq!(status(open(wrong).bearer_auth(world.token())).await, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");
    }
    let plain = http.get(format!("{}/api/v1/attempts/{id}/terminal", world.url())).bearer_auth(world.token());
    let plain = plain.send().await.expect("an answer");
    assert_eq!(plain.status(), StatusCode::BAD_REQUEST);
    let problem: Value = plain.json().await.expect("JSON");
    assert_eq!(problem["type"], "urn:carrel:problem:not-a-websocket");
}

/// The sandboxes there are.
fn sandboxes(world: &World) -> Vec<String> {
    let entries = std::fs::read_dir(world.data().join("sandboxes")).expect("a folder").flatten();
    entries.filter(|entry| entry.path().join("runner.json").exists()).map(|entry| format!("{entry:?}")).collect()
}

/// Waits until there are none.
async fn no_sandbox_is_left(world: &World) {
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    let gone = async {
        while !sandboxes(world).is_empty() {
            looks.tick().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, gone).await.is_ok(), "{:?}", sandboxes(world));
}

/// An environment with this setup script, for this repository.
async fn environment(world: &World, name: &str, setup: &str, repository: &Repository) {
    let file = world.folder().join(format!("{name}.sh"));
    std::fs::write(&file, setup).expect("the folder is writable");
    let (file, path) = (file.to_string_lossy(), repository.path().to_string_lossy());
    let arguments = ["environment", "create", name, "--repository", &path, "--setup-script", &file];
    let made = world.carrel(&[arguments.as_slice(), &["--variable", "COLOUR=green"]].concat()).await;
    assert_eq!(made.code, 0, "{made:?}");
}

#[tokio::test]
async fn an_environment_is_tried_in_a_sandbox_that_ends_with_the_shell() {
    let world = World::new(CARREL, says([Reply::message("unused")])).await;
    let repository = world.repository("api", FILES);
    environment(&world, "tried", "echo working on it; echo prepared > ~/mark; exit 0", &repository).await;
    let commands = "echo $COLOUR; cat ~/mark; pwd; cat answer; echo mine > answer; exit 4\n";

    let first = world.carrel_given(commands, &["environment", "try", "tried"]).await;
    let second = world.carrel_given(commands, &["environment", "try", "tried"]).await;

    for ran in [&first, &second] {
        assert_eq!((ran.code, ran.stdout.as_str()), (4, "green\nprepared\n/workspace/api\n41\n"), "{ran:?}");
    }
    assert!(first.stderr.contains("$ setup script\nworking on it\nexit code 0"), "{first:?}");
    assert!(second.stderr.contains("reusing the environment"), "{second:?}");
    assert!(!second.stderr.contains("working on it"), "{second:?}");
    no_sandbox_is_left(&world).await;
    assert_eq!(world.json(&["task", "list"]).await["items"], json!([]), "a try is no task");
}

#[tokio::test]
async fn what_cannot_be_tried_says_why() {
    let world = World::new(CARREL, says([Reply::message("unused")])).await;
    let repository = world.repository("api", FILES);
    let other = world.repository("other", FILES);
    environment(&world, "broken", "echo the disk is on fire; exit 9", &repository).await;
    let other = other.path().to_string_lossy().into_owned();

    let broken = world.carrel_given("echo never\n", &["environment", "try", "broken"]).await;
    let foreign = world.carrel_given("echo never\n", &["environment", "try", "broken", "--repository", &other]).await;
    let nowhere = world.carrel_given("echo never\n", &["environment", "try", "default"]).await;
    let unknown = world.carrel_given("echo never\n", &["environment", "try", "nothing"]).await;

    for (ran, code, words) in [
        (&broken, 1, "the disk is on fire"),
        (&broken, 1, "ended with exit code 9"),
        (&foreign, 3, "is not for"),
        (&nowhere, 3, "--repository"),
        (&unknown, 3, "no environment"),
    ] {
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{ran:?}");
        assert!(ran.stderr.contains(words), "{ran:?} does not say {words:?}");
    }
    no_sandbox_is_left(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preparation_that_takes_long_is_interrupted_from_the_keyboard() {
    let world = World::new(CARREL, says([Reply::message("unused")])).await;
    let repository = world.repository("api", FILES);
    environment(&world, "slow", "echo go''ing; sleep 1000", &repository).await;
    let mut terminal = Terminal::open();

    let trial = terminal.carrel(&world, &["environment", "try", "slow"]);
    terminal.shows("going");
    assert!(terminal.is_as_usual(), "there is no shell yet that wants the keys");
    terminal.types("\u{3}");

    assert_eq!(code(trial).await, 130);
    no_sandbox_is_left(&world).await;
}
