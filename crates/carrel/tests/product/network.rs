//! The network of sandboxes as the agent's programs meet it: real clients, inside, and servers on loopback, outside.

mod clients;
mod origin;
mod phases;

use carrel_testkit::model::{Reply, Script};
use serde_json::{Value, json};

use crate::{CARREL, FILES, World, attempt, of_type, says};
use origin::Origin;

/// Programs do not ask a proxy for names of this machine. Here those are the world outside.
const THROUGH: [&str; 4] = ["--variable", "NO_PROXY=", "--variable", "no_proxy="];

/// A model that runs these commands, one after the other.
fn runs<C: Into<String>>(commands: impl IntoIterator<Item = C>) -> Script {
    let call = |cmd: C| Reply::call("exec_command", json!({"cmd": cmd.into(), "yield_time_ms": 30000}));
    let mut replies: Vec<Reply> = commands.into_iter().map(call).collect();
    replies.push(Reply::message("Done."));
    says(replies)
}

/// A service that knows the origin, and its environment `api` with these further words.
async fn world(origin: &Origin, script: Script, environment: &[&str]) -> World {
    let variables = origin.variables();
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let world = World::with(CARREL, script, &variables).await;
    let create = [&["environment", "create", "api"], &THROUGH[..], environment].concat();
    world.json(&create).await;
    world
}

/// Runs the task in the environment `api`; its events, once it has ended well.
async fn events(world: &World) -> Vec<Value> {
    let repository = world.repository("project", FILES);
    let id = world.create_with(&repository, &["--environment", "api", "Do it"]).await;
    let task = world.ended(&id).await;
    let events = world.events(&id).await;
    assert_eq!(attempt(&task)["state"], "ready", "{task:#}\n{events:#?}\n{}", world.logged());
    events
}

/// What each command printed, and then how it ended, in the order of their beginning.
fn said(events: &[Value]) -> Vec<String> {
    let of = |kind: &'static str, id: &Value| {
        of_type(events, kind).into_iter().filter(move |event| event["data"]["command_id"] == *id).collect::<Vec<_>>()
    };
    let said = of_type(events, "command.started").into_iter().map(|started| {
        let id = &started["data"]["command_id"];
        let output = of("command.output", id).into_iter().filter_map(|event| event["data"]["text"].as_str());
        let output: String = output.collect();
        let code = of("command.ended", id).first().map_or(Value::Null, |event| event["data"]["end"]["code"].clone());
        format!("{output}[{code}]")
    });
    said.collect()
}

/// What was decided: host, whether it was let through, and the reason.
fn decided(events: &[Value]) -> Vec<(String, bool, String)> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let decisions = of_type(events, "network.decided").into_iter().map(|event| {
        let data = &event["data"];
        (text(&data["host"]), data["allowed"] == true, text(&data["reason"]))
    });
    decisions.collect()
}

#[tokio::test]
async fn an_agent_is_offline_until_its_environment_allows_a_host() {
    let origin = Origin::start();
    let (plain, secure) = (format!("http://localhost:{}/", origin.port), origin.url("files/hello"));
    let script = runs([
        format!("curl -sS -w '%{{http_code}}' {plain}"),
        format!("curl -sSv {secure}"),
        format!("curl -sS -w '%{{http_code}}' {secure}"),
    ]);
    let world = world(&origin, script, &["--no-setup"]).await;

    let offline = events(&world).await;
    world.json(&["environment", "edit", "api", "--allow-domain", "localhost"]).await;
    let online = events(&world).await;

    let said_offline = said(&offline);
    let way_out = "carrel environment edit api --allow-domain localhost";
    assert!(said_offline[0].contains("403") && said_offline[0].contains(way_out), "{said_offline:?}");
    assert!(said_offline[1].contains("HTTP/1.1 403") && said_offline[1].contains("[56]"), "{said_offline:?}");
    let refused = decided(&offline);
    assert!(!refused.is_empty(), "{offline:#?}");
    for (host, allowed, reason) in refused {
        assert_eq!((host.as_str(), allowed), ("localhost", false));
        assert!(reason.contains("localhost is not allowed"), "{reason}");
    }
    let said_online = said(&online);
    assert!(said_online[2].contains("hello from outside\n200[0]"), "{said_online:?}");
    assert!(decided(&online).iter().any(|(host, allowed, _)| host == "localhost" && *allowed), "{online:#?}");
    assert_eq!(origin.requests().iter().filter(|line| line.contains("/files/hello")).count(), 2);
}

#[tokio::test]
async fn with_everything_allowed_private_and_metadata_addresses_are_refused_all_the_same() {
    let origin = Origin::start();
    let hosts =
        ["169.254.169.254", "10.0.0.1", "192.168.1.1", "127.0.0.1:22", "[::1]", "[::ffff:127.0.0.1]", "localhost"];
    let ask = |host: &&str| format!("curl -sS --max-time 20 -w '%{{http_code}}' http://{host}/latest/meta-data/");
    let world = world(&origin, runs(hosts.iter().map(ask)), &["--no-setup", "--internet", "all"]).await;

    let events = events(&world).await;

    for (host, said) in hosts.iter().zip(said(&events)) {
        assert!(said.contains("carrel: ") && said.ends_with("403[0]"), "{host}: {said}");
    }
    assert!(decided(&events).iter().all(|(_, allowed, _)| !allowed), "{events:#?}");
    assert_eq!(origin.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn there_is_no_way_out_but_the_proxy() {
    let origin = Origin::start();
    let connect = "python3 -c 'import socket; socket.create_connection((\"1.1.1.1\", 443), 5)' 2>&1 | tail -1";
    let ask = "python3 -c 'import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5); \
         s.sendto(b\"x\", (\"1.1.1.1\", 53)); print(s.recv(9))' 2>&1 | tail -1";
    let resolve = "getent hosts example.com; echo \"resolved: $?\"";
    let here = format!("curl -sS --noproxy '*' --max-time 5 https://127.0.0.1:{}/echo", origin.port);
    let interfaces = "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '; tail -n +2 /proc/net/route";
    let commands = [connect, ask, resolve, &here, interfaces];
    let world = world(&origin, runs(commands), &["--no-setup", "--internet", "all"]).await;

    let events = events(&world).await;

    let said = said(&events);
    assert!(said[0].contains("Network is unreachable"), "{said:?}");
    assert!(said[1].contains("Network is unreachable"), "{said:?}");
    assert!(said[2].contains("resolved: 2"), "{said:?}");
    assert!(said[3].contains("curl: (7)"), "{said:?}");
    assert_eq!(said[4], "lo\n[0]");
    assert_eq!(decided(&events), []);
    assert_eq!(origin.requests(), Vec::<String>::new());
}
