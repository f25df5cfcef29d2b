//! What the program prints: JSON for programs, text for people. Everything that came from a task is untrusted, so it is
//! stripped of what a terminal would obey before a person sees it.

use std::fmt::Write as _;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use carrel_domain::shown::standing;
use carrel_wire::{
    AgentList, Attempt, AttemptLimits, AttemptResult, AttemptState, Citations, ModelList, Priority, Publication,
    PublicationState, Task, TaskPage, TaskState, Turn, Usage,
};
use serde::Serialize;

use crate::exit::Failure;

/// Prints a value as JSON.
pub(crate) fn document(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::service(error.to_string()))?;
    line(&text)
}

/// Prints a value as JSON on one line.
pub(crate) fn json_line(value: &impl Serialize) -> Result<(), Failure> {
    line(&serde_json::to_string(value).map_err(|error| Failure::service(error.to_string()))?)
}

/// Prints a line.
pub(crate) fn line(line: &str) -> Result<(), Failure> {
    text(&format!("{line}\n"))
}

/// Prints a patch: to a program byte for byte, to a terminal with nothing in it that the terminal would obey.
pub(crate) fn patch(patch: &[u8]) -> Result<(), Failure> {
    let out = io::stdout();
    if io::IsTerminal::is_terminal(&out) {
        return line(safe(&String::from_utf8_lossy(patch)).trim_end_matches('\n'));
    }
    written(out.lock(), patch)
}

/// Prints bytes of our own making as they are.
pub(crate) fn raw(bytes: &[u8]) -> Result<(), Failure> {
    written(io::stdout().lock(), bytes)
}

/// Prints text that was made safe, in colours where the terminal has some.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    written(anstream::stdout().lock(), text.as_bytes())
}

/// A reader that has gone away ends the program quietly, as it does with every tool of a pipe.
fn written(mut out: impl Write, bytes: &[u8]) -> Result<(), Failure> {
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other.map_err(|error| Failure::service(format!("cannot write to standard output: {error}"))),
    }
}

/// Text from a task, made safe for a terminal: no escapes but plain colours, no control or invisible characters.
pub(crate) fn safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let (mut rest, mut before) = (text, ' ');
    while let Some(character) = rest.chars().next() {
        let colour = colour(rest);
        let stays = match (colour, character) {
            (Some(length), _) => length,
            (None, '\r') => 0,
            (None, _) => standing(before, rest),
        };
        if stays == 0 {
            write!(safe, "\\u{{{:x}}}", u32::from(character)).expect("a string takes everything");
        }
        let (taken, behind) = rest.split_at(stays.max(character.len_utf8()));
        if stays > 0 {
            safe.push_str(taken);
        }
        before = if stays == 0 || colour.is_some() { ' ' } else { taken.chars().next_back().unwrap_or(' ') };
        rest = behind;
    }
    safe
}

/// The length of a colour escape at the beginning of the text.
fn colour(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    let end = parameters.find(|character: char| !character.is_ascii_digit() && character != ';')?;
    (parameters[end..].starts_with('m') && end < 32).then_some(2 + end + 1)
}

/// How much of a prompt is printed: more than that is no message to read on a terminal, but a file.
const PROMPT_CHARS: usize = 16_000;
const PROMPT_LINES: usize = 400;

const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();

fn colour_of(state: &str) -> Style {
    let colour = match state {
        "ready" | "pushed" => AnsiColor::Green,
        "failed" => AnsiColor::Red,
        "cancelled" => AnsiColor::Yellow,
        _ => AnsiColor::Cyan,
    };
    Style::new().fg_color(Some(colour.into()))
}

/// A word of a state, in its colour.
pub(crate) fn painted(state: &str) -> String {
    let style = colour_of(state);
    format!("{style}{state}{style:#}")
}

/// A task for people.
pub(crate) fn task(task: &Task) -> String {
    let mut text = String::new();
    let start = match (&task.branch, &task.commit) {
        (Some(branch), _) => format!(", branch {}", safe(branch)),
        (_, Some(commit)) => format!(", commit {}", safe(commit)),
        (None, None) => String::new(),
    };
    push(&mut text, format_args!("{BOLD}{}{BOLD:#}  {}", safe(&task.title), painted(task_word(task.state))));
    let place = match task.environment.name.as_str() {
        "default" => String::new(),
        name => format!(", environment {}", safe(name)),
    };
    push(&mut text, format_args!("{DIM}{}  {}{start}{place}{DIM:#}", task.id, safe(&task.repository.location)));
    if let Some(changes) = &task.local_changes {
        let count = usize::try_from(changes.files).unwrap_or(usize::MAX);
        let (added, removed) = (changes.additions, changes.deletions);
        push(&mut text, format_args!("starts from local changes: {}, +{added} -{removed}", files(count)));
    }
    if task.priority != Priority::Normal {
        let word = carrel_domain::Priority::from(task.priority).word();
        push(&mut text, format_args!("priority {word} among the tasks of the same person"));
    }
    if let Some(wait) = &task.waits_for {
        push(&mut text, format_args!("{}", safe(wait)));
    }
    for turn in &task.turns {
        let mode = serde_json::to_value(turn.mode).unwrap_or_default();
        push(&mut text, format_args!("\nturn {} ({}):", turn.number, mode.as_str().unwrap_or("?")));
        prompt(&mut text, &turn.prompt);
        if let Some(from) = goes_on_from(task, turn) {
            push(&mut text, format_args!("  {DIM}{from}{DIM:#}"));
        }
        for one in &turn.attempts {
            let before = turn.attempts.iter().find(|other| one.retry_of == Some(other.id));
            attempt(&mut text, one, before.map(|before| before.number));
        }
    }
    text.trim_end().to_owned()
}

/// What was asked, whole as far as a person reads it, its lines behind a rule that none of them can look like.
fn prompt(text: &mut String, prompt: &str) {
    let prompt = prompt.trim_matches(['\n', '\r']).trim_end();
    let shown = match prompt.char_indices().nth(PROMPT_CHARS) {
        Some((end, _)) => &prompt[..end],
        None => prompt,
    };
    let lines: Vec<String> = shown.lines().take(PROMPT_LINES).map(safe).collect();
    for line in &lines {
        push(text, format_args!("  {DIM}│{DIM:#} {line}"));
    }
    if shown.len() < prompt.len() || shown.lines().nth(PROMPT_LINES).is_some() {
        push(text, format_args!("  {DIM}│ … it goes on; `carrel --json task show` has all of it{DIM:#}"));
    }
}

/// Which attempt a turn goes on from, where that is not plain: the turn of that attempt had others.
fn goes_on_from(task: &Task, turn: &Turn) -> Option<String> {
    let from = turn.from_attempt_id?;
    let before = task.turns.iter().find(|other| other.attempts.iter().any(|attempt| attempt.id == from))?;
    let number = before.attempts.iter().find(|attempt| attempt.id == from)?.number;
    let suggested = before.comparison.as_ref().and_then(|comparison| comparison.suggested_attempt_id) == Some(from);
    let which = if suggested { ", the suggested one" } else { "" };
    let of_turn = if before.number + 1 == turn.number { String::new() } else { format!(" of turn {}", before.number) };
    (before.attempts.len() > 1).then(|| format!("goes on from attempt {number}{of_turn}{which}"))
}

fn attempt(text: &mut String, attempt: &Attempt, retry_of: Option<u32>) {
    let base = attempt.base_commit.as_deref().map(|commit| format!(" from {}", &commit[..10.min(commit.len())]));
    push(
        text,
        format_args!(
            "  attempt {}: {}{DIM}{}, {}{}, {}{DIM:#}",
            attempt.number,
            painted(attempt_word(attempt.state)),
            base.unwrap_or_default(),
            safe(&attempt.model),
            attempt.effort.as_deref().map(|effort| format!(" ({})", safe(effort))).unwrap_or_default()
                + &by_another_agent(attempt),
            spent(&attempt.usage),
        ),
    );
    if let Some(number) = retry_of {
        let how = if attempt.resumes { "goes on from" } else { "makes again" };
        push(text, format_args!("    {DIM}{how} attempt {number}{DIM:#}"));
    }
    if let Some(limits) = limits(attempt.limits) {
        push(text, format_args!("    {DIM}may use {limits}{DIM:#}"));
    }
    if let Some(failure) = &attempt.failure {
        push(text, format_args!("    {}", safe(&failure.reason)));
    }
    if let Some(result) = &attempt.result {
        if let Some(patch) = &result.patch {
            push(
                text,
                format_args!("    {} changed, +{} -{}", files(patch.files.len()), patch.additions, patch.deletions),
            );
        }
        for line in safe(result.answer.trim()).lines() {
            push(text, format_args!("    {line}"));
        }
        remarks(text, result);
    }
    for publication in &attempt.publications {
        push(text, format_args!("    {}", publication_line(publication)));
    }
}

/// What was found out about an answer: whether its citations hold, and what to ask next.
fn remarks(text: &mut String, result: &AttemptResult) {
    if let Some(line) = checked(&result.citations) {
        push(text, format_args!("    {line}"));
    }
    for failing in &result.citations.failing {
        push(text, format_args!("      {}: {}", safe(&failing.citation), safe(&failing.reason)));
    }
    for fault in &result.faults {
        push(text, format_args!("    not borne out by the record: {}", safe(fault)));
    }
    for suggestion in &result.suggestions {
        push(text, format_args!("    ask next: {}", safe(suggestion)));
    }
}

/// How many citations hold; nothing when there is none.
pub(crate) fn checked(citations: &Citations) -> Option<String> {
    let Citations { holding, failing, unchecked } = citations;
    let counts =
        [(*holding as usize, "hold"), (failing.len(), "do not hold"), (*unchecked as usize, "were not checked")];
    let told: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    (!told.is_empty()).then(|| format!("citations: {}", told.join(", ")))
}

/// What an attempt has used, and what that cost as far as prices are known.
fn spent(usage: &Usage) -> String {
    let about = if usage.estimated_requests > 0 { "about " } else { "" };
    let cost = match usage.cost_usd_micros {
        0 => String::new(),
        micros => format!(", ${}.{:04}", micros / 1_000_000, micros % 1_000_000 / 100),
    };
    format!("{about}{} tokens in, {} out{cost}", usage.input_tokens, usage.output_tokens)
}

/// What an attempt may use, as whoever asked for it said; nothing when they did not.
fn limits(limits: AttemptLimits) -> Option<String> {
    let steps = limits.steps.map(|steps| format!("{steps} steps"));
    let tokens = limits.tokens.map(|tokens| format!("{tokens} tokens"));
    let cost = limits.cost_usd_micros.map(|micros| format!("{} USD", carrel_domain::budget::usd(micros)));
    let time = limits.wall_clock_s.map(|seconds| format!("{seconds} s"));
    let said: Vec<String> = [steps, tokens, cost, time].into_iter().flatten().collect();
    (!said.is_empty()).then(|| said.join(", "))
}

/// Whose work it is, where that is not Carrel's own agent.
fn by_another_agent(attempt: &Attempt) -> String {
    let name = &attempt.agent;
    if name == carrel_control::OWN_AGENT { String::new() } else { format!(" by {}", safe(name)) }
}

/// The agents for people.
pub(crate) fn agents(list: &AgentList) -> String {
    let width = list.items.iter().map(|agent| agent.name.chars().count()).max().unwrap_or_default();
    let line = |agent: &carrel_wire::Agent| {
        let how = match (&agent.protocol, &agent.speaks) {
            (Some(protocol), Some(speaks)) => {
                format!("in the sandbox, by {}; models served by {}", safe(protocol), safe(speaks))
            }
            _ => "Carrel's own; any model".to_owned(),
        };
        format!("{:width$}  {how}", safe(&agent.name))
    };
    list.items.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The models for people.
pub(crate) fn models(list: &ModelList) -> String {
    if list.items.is_empty() {
        return "no model is configured; see `carrel serve --help`".to_owned();
    }
    let width = list.items.iter().map(|model| model.name.chars().count()).max().unwrap_or_default();
    let mut text = String::new();
    for model in &list.items {
        let mut facts = vec![format!("from {}", safe(&model.provider))];
        facts.extend(model.context_window.map(|tokens| format!("{tokens} tokens")));
        if !model.efforts.is_empty() {
            let own = model.default_effort.as_deref().map(|effort| format!(" (default {effort})")).unwrap_or_default();
            facts.push(safe(&format!("efforts {}{own}", model.efforts.join(", "))));
        }
        facts.extend(model.abilities.images.then(|| "takes images".to_owned()));
        let mark = if model.is_default { "*" } else { " " };
        push(&mut text, format_args!("{mark} {:<width$}  {DIM}{}{DIM:#}", safe(&model.name), facts.join("; ")));
    }
    text.push_str("* is what tasks get that name none");
    text
}

/// `1 file`, `2 files`.
pub(crate) fn files(count: usize) -> String {
    if count == 1 { "1 file".to_owned() } else { format!("{count} files") }
}

/// A publication for people.
pub(crate) fn publication_line(publication: &Publication) -> String {
    let word = publication_word(publication.state);
    let commit = publication.commit.as_deref().map(|commit| format!(" at {}", &commit[..10.min(commit.len())]));
    let why = publication.failure.as_ref().map(|failure| format!(": {}", safe(&failure.reason)));
    let (commit, why) = (commit.unwrap_or_default(), why.unwrap_or_default());
    format!("branch {} {}{commit}{why}", safe(&publication.branch), painted(word))
}

/// A page of tasks for people.
pub(crate) fn tasks(page: &TaskPage) -> String {
    if page.items.is_empty() {
        return "no tasks yet; create one with `carrel task create --repository PATH PROMPT`".to_owned();
    }
    let mut text = String::new();
    for item in &page.items {
        let change = match (item.additions, item.deletions) {
            (Some(additions), Some(deletions)) => format!("  +{additions} -{deletions}"),
            _ => String::new(),
        };
        let word = task_word(item.state);
        let waits = item.waits_for.as_deref().map(|wait| format!("  {}", safe(wait))).unwrap_or_default();
        let style = colour_of(word);
        push(
            &mut text,
            format_args!(
                "{}  {style}{word:<9}{style:#}  {}  {DIM}{}{change}{waits}{DIM:#}",
                item.id,
                safe(&item.title),
                safe(&item.repository.name),
            ),
        );
    }
    text.trim_end().to_owned()
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a string takes everything");
}

pub(crate) fn first_line(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    let cut: String = line.chars().take(100).collect();
    if cut.len() < text.trim().len() { format!("{}…", safe(&cut)) } else { safe(&cut) }
}

pub(crate) const fn task_word(state: TaskState) -> &'static str {
    match state {
        TaskState::Queued => "queued",
        TaskState::Running => "running",
        TaskState::Ready => "ready",
        TaskState::Failed => "failed",
        TaskState::Cancelled => "cancelled",
    }
}

pub(crate) const fn attempt_word(state: AttemptState) -> &'static str {
    match state {
        AttemptState::Queued => "queued",
        AttemptState::Preparing => "preparing",
        AttemptState::SettingUp => "setting_up",
        AttemptState::Running => "running",
        AttemptState::Collecting => "collecting",
        AttemptState::Ready => "ready",
        AttemptState::Failed => "failed",
        AttemptState::Cancelled => "cancelled",
    }
}

const fn publication_word(state: PublicationState) -> &'static str {
    match state {
        PublicationState::Requested => "requested",
        PublicationState::Committed => "committed",
        PublicationState::Pushed => "pushed",
        PublicationState::Failed => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::{PROMPT_LINES, prompt, safe};

    fn plain(write: impl FnOnce(&mut String)) -> String {
        let mut text = String::new();
        write(&mut text);
        anstream::adapter::strip_str(&text).to_string()
    }

    #[test]
    fn a_prompt_is_printed_whole_and_indented_with_nothing_hidden() {
        let long = "word ".repeat(100);

        let shown = plain(|text| prompt(text, &format!("\n{long}\n\n  attempt 1: ready\u{1b}[2J\r\n")));

        assert_eq!(shown, format!("  │ {long}\n  │ \n  │   attempt 1: ready\\u{{1b}}[2J\n"));
    }

    #[test]
    fn a_prompt_that_is_a_file_is_cut_with_a_word_on_the_rest() {
        for text in ["x".repeat(20_000), "x\n".repeat(PROMPT_LINES + 1)] {
            let shown = plain(|out| prompt(out, &text));

            assert!(shown.len() < 17_000 && shown.ends_with("`carrel --json task show` has all of it\n"), "{shown}");
        }
        assert!(!plain(|out| prompt(out, &"x\n".repeat(PROMPT_LINES))).contains('…'));
    }

    #[test]
    fn a_terminal_obeys_nothing_that_came_from_a_task_but_colours() {
        assert_eq!(
            safe("a\u{1b}[31mred\u{1b}[0m\u{1b}]0;title\u{7}\u{1b}[2J\r\u{202e}b\n"),
            "a\u{1b}[31mred\u{1b}[0m\\u{1b}]0;title\\u{7}\\u{1b}[2J\\u{d}\\u{202e}b\n"
        );
    }

    #[test]
    fn the_parts_of_a_picture_are_printed_and_a_selector_that_belongs_to_nothing_is_shown() {
        let pictures = "⚠\u{fe0f} 👩\u{200d}💻 🏳\u{fe0f}\u{200d}🌈 1\u{fe0f}\u{20e3}";

        assert_eq!(safe(pictures), pictures);
        assert_eq!(safe("a\u{fe0f}b\u{200d}c\u{1b}[0m\u{fe0f}"), "a\\u{fe0f}b\\u{200d}c\u{1b}[0m\\u{fe0f}");
    }
}
