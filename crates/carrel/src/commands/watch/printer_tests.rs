//! Which attempt a line of the log is about.

use carrel_wire::Event;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Printer;

const FIRST: Uuid = Uuid::from_u128(1);
const SECOND: Uuid = Uuid::from_u128(2);

fn event(attempt: Uuid, kind: &str, data: Value) -> Event {
    let at = jiff::Timestamp::UNIX_EPOCH;
    Event { seq: 1, at, attempt_id: Some(attempt), kind: kind.to_owned(), data }
}

fn output(attempt: Uuid, text: &str) -> Event {
    event(attempt, "command.output", json!({ "text": text }))
}

/// What is printed of these, without colours.
fn printed(printer: &mut Printer, events: &[Event]) -> String {
    let text: String = events.iter().map(|event| printer.text(event)).collect();
    anstream::adapter::strip_str(&text).to_string()
}

fn of_two() -> Printer {
    let mut printer = Printer::default();
    printer.learn_turn(&[(FIRST, 1), (SECOND, 2)]);
    printer
}

#[test]
fn every_line_of_attempts_side_by_side_says_whose_it_is() {
    let events = [
        event(SECOND, "command.started", json!({"command": "make\\\n test"})),
        output(FIRST, "one\ntwo\n"),
        output(SECOND, "three\n"),
        event(SECOND, "command.ended", json!({"duration_ms": 100, "end": {"how": "exited", "code": 0}})),
    ];

    let text = printed(&mut of_two(), &events);

    assert_eq!(text, "[2] $ make\\\n[2]  test\n[1] one\n[1] two\n[2] three\n[2] exit code 0 after 0.1 s\n");
}

#[test]
fn a_line_that_comes_in_parts_is_marked_once_and_ended_for_another() {
    let events = [
        output(FIRST, "half "),
        output(FIRST, "and half\nbegun"),
        output(SECOND, "other\n"),
        output(FIRST, "ended\nlast"),
        event(FIRST, "agent.message", json!({"text": "Done."})),
    ];

    let text = printed(&mut of_two(), &events);

    assert_eq!(text, "[1] half and half\n[1] begun\n[2] other\n[1] ended\n[1] last\n[1] Done.\n");
}

#[test]
fn a_mark_is_the_number_of_the_attempt_whichever_is_heard_first() {
    let mut printer = Printer::default();
    printer.learn_turn(&[(FIRST, 3), (SECOND, 4)]);

    let text = printed(&mut printer, &[output(SECOND, "x\n"), output(FIRST, "y\n")]);

    assert_eq!(text, "[4] x\n[3] y\n");
}

#[test]
fn the_only_attempt_of_a_turn_needs_no_mark_until_it_is_made_again() {
    let mut printer = Printer::default();
    printer.learn_turn(&[(FIRST, 1)]);
    let again = event(SECOND, "attempt.retried", json!({"resumes": false}));

    let alone = printed(&mut printer, &[output(FIRST, "x\n")]);
    assert!(!printer.knows(&again));
    printer.learn_turn(&[(FIRST, 1), (SECOND, 2)]);
    let both = printed(&mut printer, &[again, output(SECOND, "y\n")]);

    assert_eq!((alone.as_str(), both.as_str()), ("x\n", "[2] tried again\n[2] y\n"));
}
