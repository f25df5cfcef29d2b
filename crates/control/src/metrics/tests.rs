//! What is counted, and under which words.

use carrel_domain::{AttemptState, EventBody, NewEvent, Stage, Usage};
use std::time::Duration;

use super::{Metrics, Tally};

fn text(metrics: &Metrics) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &metrics.registry).expect("a string takes everything");
    text
}

fn event(body: EventBody) -> NewEvent {
    NewEvent { attempt: None, body }
}

#[test]
fn an_answer_of_a_model_is_counted_once_by_kinds_that_do_not_overlap() {
    let metrics = Metrics::new();
    let usage = Usage {
        input_tokens: 100,
        cached_input_tokens: 60,
        cache_write_tokens: 10,
        output_tokens: 50,
        reasoning_tokens: 20,
        requests: 1,
        cost_usd_micros: 1234,
        ..Usage::default()
    };
    let answer = EventBody::ModelResponded {
        model: "what the server says".to_owned(),
        response_id: "r".to_owned(),
        usage: Some(usage),
        duration_ms: 1500,
    };

    metrics.add("fast", Tally::of(&[event(answer)]));

    let text = text(&metrics);
    for line in [
        r#"carrel_model_requests_total{model="fast"} 1"#,
        r#"carrel_model_tokens_total{model="fast",kind="input"} 30"#,
        r#"carrel_model_tokens_total{model="fast",kind="input_cached"} 60"#,
        r#"carrel_model_tokens_total{model="fast",kind="output"} 30"#,
        r#"carrel_model_tokens_total{model="fast",kind="reasoning"} 20"#,
        r#"carrel_model_cost_usd_micros_total{model="fast"} 1234"#,
        "carrel_events_appended_total 1",
    ] {
        assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("what the server says"));
}

#[test]
fn words_of_events_never_become_labels() {
    let metrics = Metrics::new();
    let hit = |limit: &str| event(EventBody::LimitHit { limit: limit.to_owned(), message: "acme/secret".to_owned() });
    let before = text(&metrics).lines().count();

    metrics.add("fast", Tally::of(&[hit("wall clock"), hit("whatever\"} 1\n")]));

    let text = text(&metrics);
    assert_eq!(text.lines().count(), before);
    assert!(text.contains("carrel_limits_hit_total{limit=\"wall_clock\"} 1\n"), "{text}");
    assert!(text.contains("carrel_limits_hit_total{limit=\"other\"} 1\n"), "{text}");
    assert!(!text.contains("acme"));
}

#[test]
fn a_failed_stage_is_timed_and_counted_by_its_class() {
    let metrics = Metrics::new();
    let failed = AttemptState::Failed { stage: Stage::Running, reason: "acme/secret".to_owned(), retryable: true };
    let driving = metrics.driving(&AttemptState::Running);
    assert!(text(&metrics).contains("carrel_attempts_under_way{state=\"running\"} 1\n"));

    drop(driving);
    metrics.advanced(Some(Stage::Running), Duration::from_secs(4), &failed, Some("passing"));

    let text = text(&metrics);
    assert!(text.contains("carrel_attempts_under_way{state=\"running\"} 0\n"), "{text}");
    assert!(text.contains("carrel_attempts_ended_total{state=\"failed\"} 1\n"));
    assert!(text.contains("carrel_attempt_failures_total{stage=\"running\",class=\"passing\"} 1\n"));
    assert!(text.contains("carrel_stage_duration_seconds_sum{stage=\"running\"} 4.0\n"));
    assert!(text.contains("carrel_stage_duration_seconds_bucket{le=\"5.0\",stage=\"running\"} 1\n"), "{text}");
    assert!(!text.contains("acme") && text.ends_with("# EOF\n"));
}
