//! The parts of a final message: the sections that a code answer has, and the follow-ups that end an answer. Only their
//! headings are fixed; what stands in them is in whatever language the person speaks.

use crate::output::clean::visible;

/// The sections a message about changed files has.
const REQUIRED: [&str; 2] = ["Summary", "Testing"];

/// The heading of what the person could ask next.
const FOLLOW_UPS: &str = "Follow-ups";

/// How many of these count.
const MAX_FOLLOW_UPS: usize = 3;

/// The longest of them, in characters.
const MAX_FOLLOW_UP_CHARS: usize = 300;

/// What is said of each section that is missing.
pub(super) fn missing(answer: &str) -> impl Iterator<Item = String> {
    let missing = REQUIRED.into_iter().filter(|name| section(answer, name).is_none());
    missing.map(|name| format!("it has no section **{name}**")).collect::<Vec<_>>().into_iter()
}

/// The lines of the section of this name.
pub(super) fn section<'t>(answer: &'t str, name: &str) -> Option<Vec<&'t str>> {
    let mut lines = Lines::of(answer);
    let first = lines.by_ref().find_map(|line| rest_of_heading(line, name))?;
    let known = |line: &&str| {
        let is_other = |other: &str| rest_of_heading(line, other).is_some();
        !(line.starts_with('#') || REQUIRED.into_iter().chain([FOLLOW_UPS]).any(is_other))
    };
    Some(std::iter::once(first).chain(lines.take_while(known)).filter(|line| !line.trim().is_empty()).collect())
}

/// An answer without its follow-ups, and these.
pub(super) fn without_follow_ups(answer: &str) -> (String, Vec<String>) {
    let whole = || (answer.trim().to_owned(), Vec::new());
    let mut at = answer.len();
    let mut found = Vec::new();
    for line in answer.split_inclusive('\n').rev() {
        at -= line.len();
        if rest_of_heading(line, FOLLOW_UPS).is_some_and(|rest| rest.trim().is_empty()) {
            found.reverse();
            found.truncate(MAX_FOLLOW_UPS);
            let is_inside_code = answer[..at].lines().filter(|line| is_fence(line)).count() % 2 == 1;
            return if found.is_empty() || is_inside_code { whole() } else { (answer[..at].trim().to_owned(), found) };
        }
        match listed(line) {
            Some(text) => found.push(text),
            None if line.trim().is_empty() => {}
            None => return whole(),
        }
    }
    whole()
}

/// What stands in an item of a list, if it is one: on one line, with nothing hidden in it, cut to what a button holds.
fn listed(line: &str) -> Option<String> {
    let line = line.trim();
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    let text = match line.strip_prefix(['-', '*', '•']) {
        Some(text) => text,
        None if (1..=2).contains(&digits) => line[digits..].strip_prefix(['.', ')'])?,
        None => return None,
    };
    let text = visible(text.strip_prefix([' ', '\t'])?.trim()).replace('\t', " ");
    (!text.is_empty()).then(|| text.chars().take(MAX_FOLLOW_UP_CHARS).collect())
}

/// What follows on the line of a heading of this name: `## Name`, `**Name**`, `**Name**:`, `Name:`. Nothing when the line
/// is no such heading.
fn rest_of_heading<'t>(line: &'t str, name: &str) -> Option<&'t str> {
    let line = line.trim_end();
    let bare = line.trim_start_matches([' ', '#', '*', '_']);
    let is_marked = bare.len() < line.trim_start().len();
    let head = bare.get(..name.len()).filter(|head| head.eq_ignore_ascii_case(name))?;
    let rest = &bare[head.len()..];
    let unmarked = rest.trim_start_matches([':', '*', '_', ' ']);
    let mark = &rest[..rest.len() - unmarked.len()];
    let is_heading = if is_marked { mark.contains(['*', '_', ':']) || rest.is_empty() } else { mark.starts_with(':') };
    is_heading.then_some(unmarked)
}

fn is_fence(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("```") || line.starts_with("~~~")
}

/// The lines of a text that are not in a block of code.
struct Lines<'t> {
    lines: std::str::Lines<'t>,
    is_code: bool,
}

impl<'t> Lines<'t> {
    fn of(text: &'t str) -> Self {
        Self { lines: text.lines(), is_code: false }
    }
}

impl<'t> Iterator for Lines<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        loop {
            let line = self.lines.next()?;
            if is_fence(line) {
                self.is_code = !self.is_code;
            } else if !self.is_code {
                return Some(line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heading_is_known_in_the_forms_that_models_use() {
        for line in
            ["**Testing**", "## Testing", "**Testing:**", "**Testing**:", "Testing:", "### **Testing**", "__Testing__"]
        {
            assert!(rest_of_heading(line, "Testing").is_some(), "{line}");
        }
        for line in ["Testing is hard", "**Testing tools** are there", "Tests:", "# Testing it all", "- x", "é"] {
            assert!(rest_of_heading(line, "Testing").is_none(), "{line}");
        }
        assert_eq!(rest_of_heading("**Summary**: done", "Summary"), Some("done"));
    }

    #[test]
    fn a_section_ends_where_the_next_begins() {
        let answer =
            "**Summary**\n\n- one\n\n**Testing**\n- ✅ `a`\n\n```\n**Testing**\n```\n- ❌ `b`\n\n## Notes\n- c\n";

        assert_eq!(section(answer, "Summary"), Some(vec!["", "- one"].into_iter().filter(|l| !l.is_empty()).collect()));
        assert_eq!(section(answer, "Testing"), Some(vec!["- ✅ `a`", "- ❌ `b`"]));
        assert_eq!(missing(answer).count(), 0);
    }

    #[test]
    fn a_section_that_is_missing_is_named() {
        let told: Vec<String> = missing("Summary: it works.").collect();

        assert_eq!(told, ["it has no section **Testing**"]);
        assert_eq!(missing("```\n**Summary**\n**Testing**\n```").count(), 2);
    }

    #[test]
    fn follow_ups_are_taken_off_the_end() {
        let (answer, follow_ups) =
            without_follow_ups("It is 7.\n\n**Follow-ups**\n\n- Why is it 7?\n* Make it 8\n1. Test it\n- too many\n");

        assert_eq!(answer, "It is 7.");
        assert_eq!(follow_ups, ["Why is it 7?", "Make it 8", "Test it"]);
    }

    #[test]
    fn what_is_no_list_at_the_end_stays_where_it_is() {
        for answer in [
            "It is 7.",
            "**Follow-ups**",
            "**Follow-ups**\n- one\n\nBut see above.",
            "- one\n- two",
            "```\n**Follow-ups**\n- one",
            "",
        ] {
            assert_eq!(without_follow_ups(answer), (answer.trim().to_owned(), Vec::new()), "{answer}");
        }
    }

    #[test]
    fn a_follow_up_is_one_short_line_in_which_nothing_hides() {
        let (_, follow_ups) =
            without_follow_ups(&format!("x\n## Follow-ups:\n- a\u{202e}b\u{1b}[31m\n- {}\n", "é".repeat(1000)));

        assert_eq!(follow_ups[0], "a\\u{202e}b\\u{1b}[31m");
        assert_eq!(follow_ups[1].chars().count(), MAX_FOLLOW_UP_CHARS);
    }
}
