//! Traces, as a collector gets them that speaks OTLP over HTTP.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use carrel_testkit::World;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use reqwest::Client;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::{CARREL, FILES, mends};

/// The trace of somebody who calls the API.
const CALLER: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// What a collector was sent so far.
#[derive(Clone, Default)]
struct Collected(Arc<Mutex<Vec<ExportTraceServiceRequest>>>, Arc<Notify>);

impl Collected {
    /// A collector on a port of its own, and its address.
    async fn begin() -> (Self, String) {
        let collected = Self::default();
        let routes = Router::new().route("/v1/traces", post(take)).with_state(collected.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (collected, address)
    }

    /// Waits until the spans are as they are to be, and gives them.
    async fn until(&self, satisfied: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        let waiting = async {
            loop {
                let more = self.1.notified();
                let spans = self.spans();
                if satisfied(&spans) {
                    return spans;
                }
                more.await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await;
        waited.unwrap_or_else(|_| panic!("waited in vain: {:#?}", self.spans()))
    }

    fn spans(&self) -> Vec<Span> {
        let requests = self.0.lock().expect("nobody has panicked");
        let scopes = requests.iter().flat_map(|request| &request.resource_spans).flat_map(|one| &one.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }
}

async fn take(State(collected): State<Collected>, body: Bytes) {
    let request = ExportTraceServiceRequest::decode(body).expect("protobuf");
    collected.0.lock().expect("nobody has panicked").push(request);
    collected.1.notify_one();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn the_work_on_a_task_is_one_trace_and_holds_nothing_of_what_was_said() {
    let (collected, collector) = Collected::begin().await;
    let world = World::with(CARREL, mends(), &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector)]).await;
    let repository = world.repository("unspeakable", FILES);
    let task = world.run(&repository, "Mend the ineffable check").await;
    assert_eq!(task["state"], "ready", "{task:#}");
    world.json(&["task", "push", task["id"].as_str().expect("an id"), "--branch", "hushed"]).await;
    let asked = Client::new().get(format!("{}/api/v1/me", world.url())).bearer_auth(world.token());
    let asked = asked.header("traceparent", format!("00-{CALLER}-00f067aa0ba902b7-01"));
    assert_eq!(asked.send().await.expect("an answer").status(), 200);

    // What is left is sent when the service ends.
    let pid = nix::unistd::Pid::from_raw(i32::try_from(world.service_pid()).expect("a process"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("our own process");
    let spans = collected.until(|spans| spans.iter().any(|span| hex(&span.trace_id) == CALLER)).await;

    let trace = task["id"].as_str().expect("an id").replace('-', "");
    let of_task: Vec<&Span> = spans.iter().filter(|span| hex(&span.trace_id) == trace).collect();
    let named = |name: &str| of_task.iter().filter(|span| span.name == name).count();
    assert_eq!((named("stage"), named("publication")), (5, 2), "{of_task:#?}");
    assert!(named("model request") >= 2 && named("tool call") >= 1 && named("sandbox command") >= 1, "{of_task:#?}");
    let running = of_task.iter().find(|span| span.name == "stage" && format!("{span:?}").contains("running"));
    let running = running.expect("the agent's stage");
    let asked = of_task.iter().find(|span| span.name == "model request").expect("a request");
    assert_eq!(asked.parent_span_id, running.span_id);
    let created = spans.iter().find(|span| span.links.iter().any(|link| hex(&link.trace_id) == trace));
    assert!(format!("{:?}", created.expect("the request that made the task")).contains("/api/v1/tasks"));
    let ours = spans.iter().find(|span| hex(&span.trace_id) == CALLER);
    assert_eq!(hex(&ours.expect("the caller's trace").parent_span_id), "00f067aa0ba902b7");
    let all = format!("{spans:?}");
    for word in ["unspeakable", "hushed", "ineffable", "check.sh", "answer is wrong", &world.token(), "sk-canary"] {
        assert!(!all.contains(word), "{word} is in a trace");
    }
}

#[tokio::test]
async fn a_collector_that_is_not_there_holds_nothing_up() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address");
    let collector = format!("http://{closed}");
    let world = World::with(CARREL, mends(), &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector)]).await;
    let repository = world.repository("api", FILES);

    let task = world.run(&repository, "Mend the check").await;

    assert_eq!(task["state"], "ready", "{task:#}");
}
