//! Which attempt a follow-up goes on from when nobody says it.

use carrel_domain::patch::ChangeKind;
use carrel_domain::{
    AnswerNotes, AttemptId, EnvironmentId, FileChange, Mode, OrganizationId, Outcome, PatchSummary, Stage, TaskId,
    Turn, TurnId, Usage, UserId,
};
use jiff::Timestamp;
use uuid::Uuid;

use super::*;

fn id(number: u128) -> AttemptId {
    AttemptId::from_uuid(Uuid::from_u128(number))
}

/// A result that changes this many lines of one file, or nothing.
fn result(additions: u64) -> AttemptState {
    let change = FileChange {
        path: "a".to_owned(),
        old_path: None,
        kind: ChangeKind::Modified,
        additions,
        deletions: 0,
        binary: false,
    };
    let patch = PatchSummary { files: vec![change], additions, deletions: 0, size_bytes: 9 };
    let patch = (additions > 0).then_some(patch);
    let (notes, tally) = (AnswerNotes::default(), carrel_domain::comparison::Tally::default());
    AttemptState::Ready(Outcome { answer: "Done.".to_owned(), patch, notes, tally })
}

fn failed() -> AttemptState {
    AttemptState::Failed { stage: Stage::Running, reason: "no".to_owned(), retryable: false }
}

/// A turn whose attempts are numbered from `first` on.
fn turn(first: u128, states: impl IntoIterator<Item = AttemptState>) -> TurnThread {
    let (organization, task) = (OrganizationId::from_uuid(Uuid::nil()), TaskId::from_uuid(Uuid::nil()));
    let turn = Turn {
        id: TurnId::from_uuid(Uuid::from_u128(first)),
        organization,
        task,
        number: 1,
        prompt: "Go".to_owned(),
        mode: Mode::Code,
        from_attempt: None,
        created_by: UserId::from_uuid(Uuid::nil()),
        created_at: Timestamp::UNIX_EPOCH,
    };
    let attempt = |(number, state): (u32, AttemptState)| Attempt {
        id: id(first + u128::from(number)),
        organization,
        task,
        turn: turn.id,
        number: number + 1,
        retry: None,
        state,
        version: 1,
        environment: EnvironmentId::from_uuid(Uuid::nil()),
        environment_version: 1,
        model: "m".to_owned(),
        effort: None,
        agent: None,
        base: None,
        limits: carrel_domain::AttemptLimits::NONE,
        usage: Usage::default(),
        cancel_requested_by: None,
        created_at: Timestamp::UNIX_EPOCH,
        started_at: None,
        ended_at: None,
    };
    let attempts = (0..).zip(states).map(attempt).collect();
    TurnThread { turn, attempts, attachments: Vec::new() }
}

#[test]
fn a_follow_up_goes_on_from_the_attempt_that_is_suggested() {
    let better_second = turn(10, [result(0), result(3)]);
    let no_winner = turn(20, [result(0), result(3), result(3)]);
    let one_ready = turn(30, [failed(), result(3)]);

    assert_eq!(best_of_latest(&[better_second]), Some(id(11)));
    assert_eq!(best_of_latest(&[no_winner]), Some(id(21)));
    assert_eq!(best_of_latest(&[one_ready]), Some(id(31)));
}

#[test]
fn a_turn_without_a_result_is_passed_over() {
    let first = turn(10, [result(0), result(3)]);

    assert_eq!(best_of_latest(&[first, turn(20, [failed(), failed()])]), Some(id(11)));
    assert_eq!(best_of_latest(&[turn(20, [failed()])]), None);
}
