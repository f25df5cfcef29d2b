//! The end of a turn: what the model says last is held against what is there and what was recorded, before it counts.
//!
//! ```text
//! an answer -> its citations checked, its sections and claims read -> nothing wrong: it counts
//!                                                                  -> told once -> the next answer counts
//! ```
//!
//! The model is told at most once; after that, what is still wrong is recorded for people, and the answer counts. A
//! correction that fails costs nothing: then the answer before it counts.

mod claims;
mod evidence;
pub(crate) mod own;
mod sections;
mod verify;

use carrel_domain::{AnswerNotes, CitationsCheck, CommitOid, EventBody, Mode};
use serde_json::Value;

use crate::frame::framed;
use crate::model::{is_by_model, is_note, message_text};
use crate::output::clean::visible;
use crate::tools::Tools;
use crate::{AgentContext, AgentError, preamble};
use evidence::Evidence;
pub(crate) use verify::Citations;

/// What the message is in which we tell the model what is wrong with its answer.
const CHECK: &str = "answer_check";

/// How many faults of one kind the model, or a person, is told.
const MAX_TOLD: usize = 20;

/// Holds answers against the record of their turn.
#[derive(Debug)]
pub(crate) struct Review {
    mode: Mode,
    base: Option<CommitOid>,
    evidence: Evidence,
    /// What the model has said since anybody else did.
    saying: Vec<String>,
    /// The answer that counts if a correction of it does not come.
    standing: Option<String>,
    /// Whether the model was told what is wrong.
    has_told: bool,
    /// What was found out about citations last: it is told once.
    checked: Option<CitationsCheck>,
}

/// An answer that counts.
#[derive(Debug)]
pub(crate) struct Settled {
    /// Markdown, without what is in the notes.
    pub(crate) answer: String,
    pub(crate) notes: AnswerNotes,
}

/// What is to be done about an answer.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It counts.
    Settled(Settled),
    /// The model is to be told this, as an item of the conversation.
    Tell(Value),
}

/// An answer, read and held against the record.
struct Held {
    settled: Settled,
    /// What is untrue in it beside its citations, in words for the model and for people.
    faults: Vec<String>,
    /// What it lacks, in words for the model. That alone is not worth another request.
    lacks: Vec<String>,
}

impl Review {
    /// Of a turn in which nothing has happened yet, with what is expected of an answer in this mode; with the commit that the
    /// turn stands on, if nothing that it changes is kept.
    pub(crate) fn new(mode: Mode, base: Option<CommitOid>) -> Self {
        Self {
            mode,
            base,
            evidence: Evidence::default(),
            saying: Vec::new(),
            standing: None,
            has_told: false,
            checked: None,
        }
    }

    /// Takes note of an item of this turn, in the order of the conversation.
    pub(crate) fn saw(&mut self, item: &Value) {
        self.evidence.saw(item);
        if is_by_model(item) {
            self.saying.extend(message_text(item));
            return;
        }
        let said = said(&std::mem::take(&mut self.saying));
        if is_note(item, CHECK) {
            self.has_told = true;
            self.standing = (!said.is_empty()).then_some(said);
        } else if item["role"] == "user" {
            // Whatever a person adds, no earlier answer is an answer to it.
            self.standing = None;
        }
    }

    /// Whether the model corrects an answer that would do as it is.
    pub(crate) const fn has_a_standing_answer(&self) -> bool {
        self.standing.is_some()
    }

    /// Decides about an answer: what the model said last, without a call of a tool. It is told what is wrong only while
    /// it `may_be_asked` again.
    pub(crate) async fn decide(
        &mut self,
        may_be_asked: bool,
        tools: &Tools,
        context: &AgentContext<'_>,
    ) -> Result<Verdict, AgentError> {
        let answer = said(&self.saying);
        // Whoever corrects an answer by saying nothing leaves it as it is.
        let answer = if answer.is_empty() { self.standing.clone().unwrap_or(answer) } else { answer };
        let held = self.hold(&answer, tools, context).await?;
        let note = note(&held);
        if let Some(note) = note.filter(|_| may_be_asked && !self.has_told) {
            return Ok(Verdict::Tell(note));
        }
        self.warn(&held.faults, context).await?;
        Ok(Verdict::Settled(held.settled))
    }

    /// The answer that counts although its correction failed for this reason; the reason itself where there is none.
    pub(crate) async fn fall_back(
        &mut self,
        error: AgentError,
        tools: &Tools,
        context: &AgentContext<'_>,
    ) -> Result<Settled, AgentError> {
        let may_stand = match &error {
            AgentError::Model { .. } | AgentError::ContextFull { .. } | AgentError::Limit(_) => true,
            AgentError::Cancelled | AgentError::Sandbox { .. } | AgentError::Journal(_) => false,
        };
        let Some(standing) = self.standing.take().filter(|_| may_stand) else { return Err(error) };
        let mut held = self.hold(&standing, tools, context).await?;
        let reason = context.redactor.redact(&error.to_string()).into_owned();
        let mut faults = vec![format!("its faults were not corrected: {reason}")];
        faults.extend(held.faults);
        self.warn(&faults, context).await?;
        held.settled.notes.last_word = Some(reason);
        Ok(held.settled)
    }

    /// Reads an answer and checks what can be checked.
    async fn hold(&mut self, answer: &str, tools: &Tools, context: &AgentContext<'_>) -> Result<Held, AgentError> {
        let (answer, suggestions) = sections::without_follow_ups(answer);
        let Citations { check, chunks } = verify::check(&answer, self.base.as_ref(), tools).await?;
        if !check.is_empty() && self.checked.as_ref() != Some(&check) {
            context.journal.record(vec![EventBody::CitationsChecked(check.clone())]).await?;
            self.checked = Some(check.clone());
        }
        let mut faults = match self.mode {
            Mode::Code => claims::faults(&answer, &self.evidence, &chunks),
            Mode::Ask => Vec::new(),
        };
        faults.truncate(MAX_TOLD);
        let lacks = match self.mode {
            Mode::Code if self.evidence.has_changed_files() => sections::missing(&answer).collect(),
            Mode::Code | Mode::Ask => Vec::new(),
        };
        let told = faults.iter().map(|fault| visible(&context.redactor.redact(fault))).collect();
        let notes = AnswerNotes { citations: check, faults: told, suggestions, last_word: None };
        Ok(Held { settled: Settled { answer, notes }, faults, lacks })
    }

    /// Records what is still wrong.
    async fn warn(&self, faults: &[String], context: &AgentContext<'_>) -> Result<(), AgentError> {
        let warnings = faults.iter().map(|fault| EventBody::Warning { message: format!("the answer: {fault}") });
        let warnings: Vec<EventBody> = warnings.map(|body| crate::for_people(body, context.redactor)).collect();
        if warnings.is_empty() { Ok(()) } else { Ok(context.journal.record(warnings).await?) }
    }
}

/// Messages, one after the other, with nothing hidden in them.
fn said(messages: &[String]) -> String {
    let messages: Vec<&str> = messages.iter().map(String::as_str).filter(|text| !text.trim().is_empty()).collect();
    visible(&messages.join("\n\n"))
}

/// What the model is told; nothing when nothing in the answer is wrong.
fn note(held: &Held) -> Option<Value> {
    let Held { settled, faults, lacks } = held;
    let citations = &settled.notes.citations;
    if citations.failing.is_empty() && faults.is_empty() {
        return None;
    }
    let mut text = format!(
        "<{CHECK}>\nYour final message was held against the files and the record of this turn. What is wrong:\n"
    );
    for failing in citations.failing.iter().take(MAX_TOLD) {
        let (citation, reason) = (framed(&shortened(&failing.citation)), framed(&failing.reason));
        text.push_str(&format!("- {citation} does not hold: {reason}\n"));
    }
    if citations.failing.len() > MAX_TOLD {
        text.push_str(&format!("- {} more citations do not hold\n", citations.failing.len() - MAX_TOLD));
    }
    for fault in faults.iter().chain(lacks) {
        text.push_str(&format!("- {}\n", framed(fault)));
    }
    text.push_str(
        "Look again where you must (line numbers of a file: `nl -ba`; of output: `read_output`), then write the whole final message again, corrected; leave out what you cannot support. Say nothing about this check: the person sees only the corrected message. You are told this once.\n</answer_check>",
    );
    Some(preamble::note(CHECK, &text))
}

/// A citation as it is repeated to the model.
fn shortened(citation: &str) -> String {
    match citation.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &citation[..end]),
        None => citation.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn held(citations: CitationsCheck, faults: &[&str], lacks: &[&str]) -> Held {
        let settled = Settled { answer: String::new(), notes: AnswerNotes { citations, ..AnswerNotes::default() } };
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Held { settled, faults: owned(faults), lacks: owned(lacks) }
    }

    fn says(text: &str) -> Value {
        json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]})
    }

    #[test]
    fn an_answer_that_was_to_be_corrected_stands_until_a_person_speaks() {
        let mut review = Review::new(Mode::Ask, None);
        let note = note(&held(CitationsCheck::default(), &["x"], &[])).expect("a note");

        for item in [says("first"), says("second"), note, says("half of a corr")] {
            review.saw(&item);
        }
        assert_eq!((review.standing.as_deref(), review.has_told), (Some("first\n\nsecond"), true));

        review.saw(&preamble::message("and another thing"));
        assert_eq!((review.standing, review.has_told), (None, true));
    }

    #[test]
    fn what_is_wrong_is_told_in_full_and_within_bounds() {
        let failing = |number: u32| carrel_domain::FailingCitation {
            citation: format!("【F:{}†L{number}】", "x".repeat(900)),
            reason: "there is no such file".to_owned(),
        };
        let citations = CitationsCheck { holding: 1, failing: (0..200).map(failing).collect(), unchecked: 0 };

        let item = note(&held(citations, &[], &["no **Testing** section"])).expect("a note");

        let text = item["content"][0]["text"].as_str().expect("a text");
        assert!(
            is_note(&item, CHECK) && text.starts_with("<answer_check>") && text.ends_with("</answer_check>"),
            "{text}"
        );
        assert!(text.len() < 10_000 && text.contains("- 180 more citations do not hold\n- no **Testing** section\n"));
        assert_eq!(
            note(&held(CitationsCheck { holding: 9, ..CitationsCheck::default() }, &[], &["no **Testing** section"])),
            None
        );
    }

    #[test]
    fn the_instructions_ask_for_what_is_checked_and_name_tools_that_are_there() {
        let instructions = include_str!("../prompt/instructions.md");
        let tools = crate::tools::definitions(crate::PatchTool::Function, true);
        let tools: Vec<&str> = tools.iter().filter_map(|tool| tool["name"].as_str()).collect();

        let cited = carrel_domain::citation::citations(instructions);
        assert!(cited.len() == 2 && cited.iter().all(|citation| citation.reference.is_some()), "{cited:?}");
        for heading in ["**Summary**", "**Testing**", "**Follow-ups**"] {
            assert!(instructions.contains(heading), "{heading}");
        }
        for mode in [Mode::Code, Mode::Ask] {
            assert!(instructions.contains(&format!("`{}`", mode.word())), "{mode:?}");
        }
        let named = instructions.split('`').filter(|word| word.contains('_') && !word.contains([' ', '\n', '/']));
        for tool in named {
            assert!(tools.contains(&tool), "{tool}");
        }
        assert!(instructions.len() < 6000, "{}", instructions.len());
    }
}
