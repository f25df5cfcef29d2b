//! The attempts of a turn compared, by what their rows say: which to look at first, and so which a follow-up goes on from.

use carrel_domain::comparison::{Contender, Suggestion, suggest};
use carrel_domain::{Attempt, AttemptId, AttemptState};

/// What comes of comparing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// The attempt to look at first; `None` when none has a result.
    pub suggested: Option<AttemptId>,
    /// Why, in one sentence.
    pub reason: String,
}

/// Which attempt of a turn to look at first, once all have ended. One that was made again counts no more.
#[must_use]
pub fn compare(attempts: &[Attempt]) -> Option<Compared> {
    let is_made_again =
        |one: &Attempt| attempts.iter().any(|other| other.retry.is_some_and(|retry| retry.of == one.id));
    let compared: Vec<&Attempt> = attempts.iter().filter(|one| !is_made_again(one)).collect();
    if compared.len() < 2 || compared.iter().any(|one| !one.state.has_ended()) {
        return None;
    }
    let contenders: Vec<Contender> = compared.iter().map(|one| contender(one)).collect();
    let Suggestion { winner, reason } = suggest(&contenders);
    Some(Compared { suggested: winner.map(|at| compared[at].id), reason })
}

fn contender(attempt: &Attempt) -> Contender {
    let tokens = attempt.usage.input_tokens.saturating_add(attempt.usage.output_tokens);
    let AttemptState::Ready(outcome) = &attempt.state else {
        return Contender { number: attempt.number, tokens, ..Contender::default() };
    };
    let failing = outcome.notes.citations.failing.len();
    Contender {
        number: attempt.number,
        is_ready: true,
        patch: outcome.patch.clone(),
        tally: outcome.tally.clone(),
        failing_citations: u32::try_from(failing).unwrap_or(u32::MAX),
        tokens,
    }
}
