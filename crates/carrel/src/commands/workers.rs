//! `carrel workers`: the processes of the installation.

use carrel_wire::{Worker, WorkerList, WorkerRole, WorkerState};

use crate::client::Client;
use crate::exit::Failure;
use crate::output::{self, safe};
use crate::settings::Settings;

pub(crate) async fn workers(settings: &Settings, json: bool) -> Result<(), Failure> {
    let list: WorkerList = Client::find(settings)?.get("workers").await?;
    if json {
        return output::document(&list);
    }
    let width = list.items.iter().map(|worker| safe(&worker.name).chars().count()).max().unwrap_or_default();
    let shown: Vec<String> = list.items.iter().map(|worker| shown(worker, width)).collect();
    output::line(&shown.join("\n"))
}

/// A worker for people: one line.
fn shown(worker: &Worker, width: usize) -> String {
    let role = match worker.role {
        WorkerRole::All => "all",
        WorkerRole::Api => "api",
        WorkerRole::Worker => "worker",
    };
    let seen = worker.seen_at.strftime("%Y-%m-%d %H:%M:%S");
    let stands = match (worker.state, worker.returns_by) {
        (WorkerState::Away, Some(by)) => format!("stopped, expected back by {}", by.strftime("%Y-%m-%d %H:%M:%S")),
        (WorkerState::Here | WorkerState::Away, _) => format!("seen {seen}"),
        (WorkerState::Gone, _) => format!("gone: not heard of since {seen}"),
    };
    let version = if worker.version.is_empty() { "unknown" } else { &worker.version };
    format!(
        "{:<width$}  {role:<6}  {} of {} attempts  {stands}  version {}",
        safe(&worker.name),
        worker.running,
        worker.capacity,
        safe(version)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_one_line_that_says_how_it_stands() {
        let at = |second| jiff::Timestamp::from_second(second).expect("a time");
        let worker = Worker {
            id: uuid::Uuid::from_u128(1),
            name: "one\u{1b}[2J".to_owned(),
            role: WorkerRole::Worker,
            state: WorkerState::Away,
            capacity: 4,
            running: 2,
            version: "0.1.0".to_owned(),
            started_at: at(0),
            seen_at: at(60),
            returns_by: Some(at(120)),
        };

        let away = shown(&worker, 3);
        let gone = shown(&Worker { state: WorkerState::Gone, ..worker }, 3);

        assert!(!away.contains('\u{1b}'), "{away:?}");
        assert!(away.contains("2 of 4 attempts  stopped, expected back by 1970-01-01 00:02:00"), "{away}");
        assert!(gone.contains("gone: not heard of since 1970-01-01 00:01:00"), "{gone}");
    }
}
