//! The labels of the figures, and every value they take.

use carrel_domain::{Stage, Usage};
use prometheus_client::encoding::EncodeLabelSet;

pub(super) const QUEUES: [&str; 2] = ["attempts", "publications"];
pub(super) const STAGES: [&str; 5] = ["queued", "preparing", "setting_up", "running", "collecting"];
pub(super) const ENDS: [&str; 3] = ["ready", "failed", "cancelled"];
pub(super) const PUBLISHED: [&str; 2] = ["pushed", "failed"];
pub(super) const CLASSES: [&str; 4] = ["passing", "lasting", "disk_full", "surroundings"];
pub(super) const LIMITS: [&str; 12] = [
    "memory",
    "processes",
    "disk",
    "cpu",
    "output",
    "setup",
    "steps",
    "tokens",
    "cost",
    "wall_clock",
    "budget",
    "other",
];

/// Whose version it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Build {
    pub(super) version: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Queue {
    pub(super) queue: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct State {
    pub(super) state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Stages {
    pub(super) stage: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Failure {
    pub(super) stage: &'static str,
    pub(super) class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Lookup {
    pub(super) result: &'static str,
}

/// A model by the name it is configured under.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Model {
    pub(super) model: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Tokens {
    pub(super) model: String,
    pub(super) kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Decision {
    pub(super) decision: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Limit {
    pub(super) limit: &'static str,
}

/// A route as it is declared, never a path that somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Request {
    pub(super) method: &'static str,
    pub(super) route: String,
    pub(super) status: u16,
}

impl Queue {
    pub(super) const fn of(queue: carrel_store::Queue) -> Self {
        match queue {
            carrel_store::Queue::Attempts => Self { queue: "attempts" },
            carrel_store::Queue::Publications => Self { queue: "publications" },
        }
    }
}

pub(super) const fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Queued => "queued",
        Stage::Preparing => "preparing",
        Stage::SettingUp => "setting_up",
        Stage::Running => "running",
        Stage::Collecting => "collecting",
    }
}

/// One of the known words, whatever an event says.
pub(super) fn limit(word: &str) -> &'static str {
    let word = word.replace(' ', "_");
    LIMITS.into_iter().find(|known| *known == word).unwrap_or("other")
}

/// Kinds that do not overlap: their sum is what was sent and produced.
pub(super) const fn kinds(usage: &Usage) -> [(&'static str, u64); 5] {
    let seen = usage.cached_input_tokens.saturating_add(usage.cache_write_tokens);
    [
        ("input", usage.input_tokens.saturating_sub(seen)),
        ("input_cached", usage.cached_input_tokens),
        ("input_cache_write", usage.cache_write_tokens),
        ("output", usage.output_tokens.saturating_sub(usage.reasoning_tokens)),
        ("reasoning", usage.reasoning_tokens),
    ]
}
