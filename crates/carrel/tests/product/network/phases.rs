//! The network from one phase to the next, and over the death of the service.

use carrel_testkit::model::Reply;
use serde_json::json;

use super::origin::Origin;
use super::{decided, events, runs, said, world};
use crate::{FILES, attempt, of_type, says};

#[tokio::test]
async fn a_connection_of_setup_ends_with_setup() {
    let origin = Origin::start();
    let forever = origin.url("forever");
    let script =
        format!("setsid curl -sS {forever} >/dev/null 2>&1 &\nuntil grep -q . /tmp/begun; do sleep 0.05; done");
    // The script goes on once the server has answered: curl writes down what it got.
    let script = script.replace("curl -sS", "curl -sSN -o /tmp/begun");
    let look = format!("pgrep -a curl; curl -sS -w '%{{http_code}}' http://localhost:{}/", origin.port);
    let file = origin.path("setup.sh");
    std::fs::write(&file, script).expect("a file");
    let words = ["--setup-script", &file.to_string_lossy(), "--setup-allow-domain", "localhost"];
    let world = world(&origin, runs([look]), &words).await;

    let events = events(&world).await;

    origin.wait_for_request("ended /forever");
    let said = said(&events);
    let of_agent = said.last().expect("the agent's command");
    assert!(!of_agent.contains("forever") && of_agent.ends_with("403[0]"), "{said:?}");
    assert!(of_agent.contains("localhost is not allowed"), "what setup may reach, the agent may not: {said:?}");
    let allowed: Vec<bool> = decided(&events).into_iter().map(|(_, allowed, _)| allowed).collect();
    assert_eq!(allowed, [true, false], "{events:#?}");
}

#[tokio::test]
async fn the_network_works_again_when_the_service_was_killed() {
    let origin = Origin::start();
    let ask = format!("curl -sS --retry 50 --retry-all-errors --retry-delay 1 {}", origin.url("files/hello"));
    let first = format!("{ask}; touch /tmp/asked; until [ -e /tmp/go ]; do sleep 0.05; done; {ask}");
    let script = says([
        Reply::call("exec_command", json!({"cmd": first, "yield_time_ms": 30000})),
        Reply::command(ask),
        Reply::message("Done."),
    ]);
    let mut world = world(&origin, script, &["--no-setup", "--allow-domain", "localhost"]).await;
    let repository = world.repository("project", FILES);
    let id = world.create_with(&repository, &["--environment", "api", "Do it"]).await;
    world.events_until(&id, |events| !of_type(events, "network.decided").is_empty()).await;

    world.kill().await;
    crate::recovery::touch_inside(&world);
    world.start().await;
    let task = world.ended(&id).await;

    assert_eq!(attempt(&task)["state"], "ready", "{task:#}\n{}", world.logged());
    let events = world.events(&id).await;
    let said = said(&events);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].matches("hello from outside").count() == 2 && said[0].ends_with("[0]"), "{said:?}");
    assert_eq!(said[1], "hello from outside\n[0]");
}
