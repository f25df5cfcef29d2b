//! `update_plan`: the model says what it is going to do, for people to read.

use carrel_domain::EventBody;
use carrel_domain::event::PlanStep;
use serde::Deserialize;

use super::Outcome;

/// More steps than a plan should have.
const MAX_STEPS: usize = 100;

#[derive(Debug, Deserialize)]
struct Arguments {
    #[serde(default)]
    explanation: Option<String>,
    plan: Vec<PlanStep>,
}

/// Takes a new plan.
pub(super) fn update(json: &str) -> Outcome {
    match serde_json::from_str::<Arguments>(json) {
        Ok(Arguments { plan, .. }) if plan.len() > MAX_STEPS => {
            Outcome::refused(super::PLAN, format!("a plan has at most {MAX_STEPS} steps, not {}", plan.len()))
        }
        Ok(Arguments { explanation, plan }) => {
            Outcome::plain("The plan is shown.").with(EventBody::PlanUpdated { explanation, steps: plan })
        }
        Err(error) => Outcome::refused(super::PLAN, format!("the arguments are not understood: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_becomes_an_event() {
        let outcome = update(r#"{"explanation":"so","plan":[{"step":"a","status":"in_progress"}]}"#);

        assert!(matches!(&outcome.events[..], [EventBody::PlanUpdated { steps, .. }] if steps[0].step == "a"));
    }

    #[test]
    fn a_status_that_is_none_is_refused_with_those_there_are() {
        let outcome = update(r#"{"plan":[{"step":"a","status":"doing"}]}"#);

        assert!(outcome.text.contains("in_progress"), "{}", outcome.text);
        assert!(matches!(&outcome.events[..], [EventBody::ToolRefused { .. }]));
    }
}
