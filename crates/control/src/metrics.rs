//! Figures of this process, for Prometheus: what it counts and how long things take. They never name a repository, a person
//! or a task, and every label takes few values.

mod labels;
mod sample;

use std::sync::Arc;
use std::time::{Duration, Instant};

use carrel_domain::{AttemptState, EventBody, NewEvent, PublicationState, Stage, Usage};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use self::labels::{Build, Decision, Failure, Limit, Lookup, Model, Queue, Request, Stages, State, Tokens};
use self::sample::Sampled;
use crate::Control;
use crate::attempt::Halt;

/// The media type of what [`Control::figures`] gives.
pub const FIGURES_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A family of histograms, made without anything captured.
type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

/// What one process counts.
pub(crate) struct Metrics {
    registry: Registry,
    sampled: Sampled,
    jobs: Family<Queue, Gauge>,
    under_way: Family<State, Gauge>,
    stages: Durations<Stages>,
    ended: Family<State, Counter>,
    failures: Family<Failure, Counter>,
    published: Family<State, Counter>,
    lookups: Family<Lookup, Counter>,
    model_requests: Family<Model, Counter>,
    model_retries: Family<Model, Counter>,
    model_tokens: Family<Tokens, Counter>,
    model_cost: Family<Model, Counter>,
    model_durations: Durations<Model>,
    network: Family<Decision, Counter>,
    limits: Family<Limit, Counter>,
    events: Counter,
    event_delays: Histogram,
    requests: Durations<Request>,
}

/// From a tenth of a second to two hours.
fn long() -> Histogram {
    Histogram::new([0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0, 1800.0, 3600.0, 7200.0])
}

/// From a millisecond to ten seconds.
fn short() -> Histogram {
    Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 10.0])
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            sampled: Sampled::default(),
            jobs: Family::default(),
            under_way: Family::default(),
            stages: Family::new_with_constructor(long),
            ended: Family::default(),
            failures: Family::default(),
            published: Family::default(),
            lookups: Family::default(),
            model_requests: Family::default(),
            model_retries: Family::default(),
            model_tokens: Family::default(),
            model_cost: Family::default(),
            model_durations: Family::new_with_constructor(long),
            network: Family::default(),
            limits: Family::default(),
            events: Counter::default(),
            event_delays: short(),
            requests: Family::new_with_constructor(short),
        };
        metrics.register();
        metrics.begin_at_nothing();
        metrics
    }

    fn register(&mut self) {
        let mut registry = Registry::default();
        self.sampled.register(&mut registry);
        let ours = registry.sub_registry_with_prefix("carrel");
        ours.register(
            "build",
            "Which version this process is",
            Info::new(Build { version: env!("CARGO_PKG_VERSION") }),
        );
        ours.register("jobs_running", "Jobs that this process works on", self.jobs.clone());
        ours.register("attempts_under_way", "Attempts that this process drives", self.under_way.clone());
        let help = "How long an attempt stayed in a stage, in the hands of one worker";
        ours.register_with_unit("stage_duration", help, Unit::Seconds, self.stages.clone());
        ours.register("attempts_ended", "Attempts that have ended", self.ended.clone());
        ours.register("attempt_failures", "Attempts that have failed, by where and by class", self.failures.clone());
        ours.register("publications_ended", "Publications that have ended", self.published.clone());
        ours.register("snapshot_lookups", "Prepared environments looked for", self.lookups.clone());
        ours.register("model_requests", "Answers that models gave", self.model_requests.clone());
        ours.register("model_retries", "Requests to models to be made again", self.model_retries.clone());
        ours.register("model_tokens", "Tokens sent to and produced by models", self.model_tokens.clone());
        let help = "What models cost, in millionths of a US dollar, as far as prices are configured";
        ours.register("model_cost_usd_micros", help, self.model_cost.clone());
        let help = "From a request to a model to the end of its answer";
        ours.register_with_unit("model_response_duration", help, Unit::Seconds, self.model_durations.clone());
        ours.register("network_decisions", "Requests of sandboxes that were let through or not", self.network.clone());
        ours.register("limits_hit", "Limits that attempts ran into", self.limits.clone());
        ours.register("events_appended", "Events that this process's work has appended", self.events.clone());
        let help = "From an event's being stored to its being handed to a live stream";
        ours.register_with_unit("event_delay", help, Unit::Seconds, self.event_delays.clone());
        let help = "From a request to the beginning of its answer";
        ours.register_with_unit("http_request_duration", help, Unit::Seconds, self.requests.clone());
        self.registry = registry;
    }

    /// Makes every series whose labels are known beforehand, so that the first of a kind is seen as a rise.
    fn begin_at_nothing(&self) {
        for queue in labels::QUEUES {
            drop(self.jobs.get_or_create(&Queue { queue }));
        }
        for stage in labels::STAGES {
            drop(self.under_way.get_or_create(&State { state: stage }));
            drop(self.stages.get_or_create(&Stages { stage }));
            for class in labels::CLASSES {
                drop(self.failures.get_or_create(&Failure { stage, class }));
            }
        }
        for state in labels::ENDS {
            drop(self.ended.get_or_create(&State { state }));
        }
        for state in labels::PUBLISHED {
            drop(self.published.get_or_create(&State { state }));
        }
        for result in ["hit", "miss"] {
            drop(self.lookups.get_or_create(&Lookup { result }));
        }
        for decision in ["allowed", "denied"] {
            drop(self.network.get_or_create(&Decision { decision }));
        }
        for limit in labels::LIMITS {
            drop(self.limits.get_or_create(&Limit { limit }));
        }
    }

    /// Counts a job as long as the guard lives.
    pub(crate) fn working(&self, queue: carrel_store::Queue) -> Present {
        Present::new(self.jobs.get_or_create_owned(&Queue::of(queue)))
    }

    /// Counts an attempt as long as the guard lives.
    pub(crate) fn driving(&self, state: &AttemptState) -> Present {
        Present::new(self.under_way.get_or_create_owned(&State { state: state.word() }))
    }

    /// A stage has led to another state.
    pub(crate) fn advanced(
        &self,
        from: Option<Stage>,
        took: Duration,
        next: &AttemptState,
        class: Option<&'static str>,
    ) {
        let Some(stage) = from.map(labels::stage) else { return };
        self.stages.get_or_create(&Stages { stage }).observe(took.as_secs_f64());
        if next.has_ended() {
            self.ended.get_or_create(&State { state: next.word() }).inc();
        }
        if let (AttemptState::Failed { .. }, Some(class)) = (next, class) {
            self.failures.get_or_create(&Failure { stage, class }).inc();
        }
    }

    /// A publication has come to another state.
    pub(crate) fn published(&self, state: &PublicationState) {
        if state.has_ended() {
            self.published.get_or_create(&State { state: state.word() }).inc();
        }
    }

    /// A sandbox's request was let through, or not.
    pub(crate) fn decided(&self, allowed: bool) {
        let decision = if allowed { "allowed" } else { "denied" };
        self.network.get_or_create(&Decision { decision }).inc();
    }

    /// What was seen in events has been stored.
    pub(crate) fn add(&self, model: &str, tally: Tally) {
        self.events.inc_by(tally.events);
        for seen in tally.seen {
            let labels = || Model { model: model.to_owned() };
            match seen {
                Seen::Lookup { hit } => {
                    self.lookups.get_or_create(&Lookup { result: if hit { "hit" } else { "miss" } }).inc();
                }
                Seen::Limit(limit) => {
                    self.limits.get_or_create(&Limit { limit }).inc();
                }
                Seen::Retry => {
                    self.model_retries.get_or_create(&labels()).inc();
                }
                Seen::Answer { usage, took } => {
                    drop(self.model_retries.get_or_create(&labels()));
                    self.model_requests.get_or_create(&labels()).inc();
                    self.model_durations.get_or_create(&labels()).observe(took.as_secs_f64());
                    self.model_cost.get_or_create(&labels()).inc_by(usage.cost_usd_micros);
                    for (kind, tokens) in labels::kinds(&usage) {
                        let labels = Tokens { model: model.to_owned(), kind };
                        self.model_tokens.get_or_create(&labels).inc_by(tokens);
                    }
                }
            }
        }
    }
}

/// One more of something, until it is dropped.
pub(crate) struct Present(Gauge);

impl Present {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What is to be counted of events, once they are stored.
#[derive(Default)]
pub(crate) struct Tally {
    events: u64,
    seen: Vec<Seen>,
}

enum Seen {
    Lookup { hit: bool },
    Limit(&'static str),
    Retry,
    Answer { usage: Usage, took: Duration },
}

impl Tally {
    pub(crate) fn of(events: &[NewEvent]) -> Self {
        let seen = events.iter().filter_map(|event| match &event.body {
            EventBody::SnapshotLookedUp { snapshot_id, .. } => Some(Seen::Lookup { hit: snapshot_id.is_some() }),
            EventBody::LimitHit { limit, .. } => Some(Seen::Limit(labels::limit(limit))),
            EventBody::ModelRetrying { .. } => Some(Seen::Retry),
            EventBody::ModelResponded { duration_ms, .. } => {
                let usage = event.body.cost().unwrap_or_default();
                Some(Seen::Answer { usage, took: Duration::from_millis(*duration_ms) })
            }
            _ => None,
        });
        Self { events: events.len() as u64, seen: seen.collect() }
    }
}

impl Halt {
    /// What kind of failure it is, in one of few words; `None` for what is none.
    pub(crate) const fn class(&self) -> Option<&'static str> {
        match self {
            Self::Failed { retryable: true, .. } | Self::Lost { .. } => Some("passing"),
            Self::Failed { retryable: false, .. } => Some("lasting"),
            Self::NoRoom { .. } => Some("disk_full"),
            Self::Around(_) => Some("surroundings"),
            Self::Cancelled | Self::PassedOn => None,
        }
    }
}

impl Control {
    /// All figures as OpenMetrics text, with what is looked up just now: the queue, sandboxes, the database, the process.
    pub async fn figures(&self) -> String {
        self.metrics.sampled.take(self).await;
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.metrics.registry)
            .expect("a string takes whatever is written");
        text
    }

    /// A live stream was handed an event that was stored so long before.
    pub fn event_was_delivered(&self, stored_at: jiff::Timestamp) {
        let delay = self.inner.clock.now().duration_since(stored_at).as_secs_f64();
        // Clocks of different machines differ.
        self.metrics.event_delays.observe(delay.max(0.0));
    }

    /// A request was answered: its method and its route as declared, and the status.
    pub fn request_was_answered(&self, method: &'static str, route: &str, status: u16, since: Instant) {
        let labels = Request { method, route: route.to_owned(), status };
        self.metrics.requests.get_or_create(&labels).observe(since.elapsed().as_secs_f64());
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }
}

#[cfg(test)]
mod tests;
