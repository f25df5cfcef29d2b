//! The text of a `.env` file, taken whole: what people paste, and what the tools that write such files write.
//!
//! `NAME=value`, one a line; `export` before it, blank lines and comments say nothing. A value without quotes ends at the
//! line's end or at ` #`; in single quotes everything is itself; in double quotes `\n`, `\r`, `\t`, `\"`, `\\`, `\$` and
//! `` \` `` are what they are elsewhere. Quoted values may go over several lines. `$NAME` is not replaced. Of two values
//! of one name the last counts. Errors name the line, and never repeat it: it may be a secret.

use carrel_domain::VariableName;

/// A line that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InvalidText {
    line: usize,
    problem: &'static str,
}

impl std::fmt::Display for InvalidText {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "line {} {}", self.line, self.problem)
    }
}

/// The variables of a text, in its order.
pub(super) fn parse(text: &str) -> Result<Vec<Variable>, InvalidText> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let mut rest = text.as_str();
    let mut line = 1;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (taken, variable) = statement(rest).map_err(|problem| InvalidText { line, problem })?;
        found.extend(variable);
        line += rest[..taken].matches('\n').count();
        rest = &rest[taken..];
    }
    Ok(found)
}

/// A variable and its value.
type Variable = (VariableName, String);

/// The first statement of the text: how long it is with its line end, and the variable it sets, if it sets one.
fn statement(text: &str) -> Result<(usize, Option<Variable>), &'static str> {
    let end = text.find('\n').unwrap_or(text.len());
    let past = (end + 1).min(text.len());
    let line = text[..end].trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok((past, None));
    }
    let assignment = match line.strip_prefix("export") {
        Some(after) if after.starts_with([' ', '\t']) => after.trim_start(),
        _ => line,
    };
    let (name, _) = assignment.split_once('=').ok_or("has no `=`; write NAME=value")?;
    let name: VariableName = name.trim_end().parse().map_err(
        |_| "does not begin with a name and `=`; a name has letters, digits and `_`, and begins with a letter or `_`",
    )?;
    // From here on in the whole text: a quoted value may go on behind the line's end.
    let begins = text.find('=').expect("the line has one") + 1;
    let value = text[begins..end].trim_start_matches([' ', '\t']);
    let begins = end - value.len();
    let Some(quote) = value.chars().next().filter(|first| matches!(first, '"' | '\'')) else {
        return Ok((past, Some((name, plain(value).to_owned()))));
    };
    let inside = &text[begins + 1..];
    let (value, length) = quoted(inside, quote).ok_or("begins a value in quotes that are not closed")?;
    let behind = &inside[length + 1..];
    let line_end = behind.find('\n').unwrap_or(behind.len());
    let left = behind[..line_end].trim();
    if !(left.is_empty() || left.starts_with('#')) {
        return Err("has text behind the closing quote; escape a quote that belongs to the value as \\\"");
    }
    let taken = begins + 1 + length + 1 + line_end;
    Ok(((taken + 1).min(text.len()), Some((name, value))))
}

/// A value without quotes: up to a comment.
fn plain(value: &str) -> &str {
    let begins = |before: &str| before.is_empty() || before.ends_with([' ', '\t']);
    let comment = value.match_indices('#').map(|(index, _)| index).find(|index| begins(&value[..*index]));
    value[..comment.unwrap_or(value.len())].trim_end()
}

/// A value up to its closing quote, and how long it is in the text.
fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            _ if character == quote => return Some((value, index)),
            '\\' if quote == '"' => match characters.next()?.1 {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                itself @ ('"' | '\\' | '$' | '`') => value.push(itself),
                other => value.extend(['\\', other]),
            },
            _ => value.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(String, String)> {
        let found = parse(text).expect("a text that makes sense");
        found.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
    }

    fn one(text: &str) -> String {
        let found = parsed(text);
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].1.clone()
    }

    #[test]
    fn a_pasted_file_is_taken_whole() {
        let text = "\u{feff}# settings\r\nexport A=1\r\n\r\nB = two words  \r\nC=\"x # y\" # why\r\nD='$HOME \"q\"'\r\nE=\r\n\
                    URL=postgres://u:p@host/db?a=b#c\r\nA=3";

        let found = parsed(text);

        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "x # y"),
            ("D", "$HOME \"q\""),
            ("E", ""),
            ("URL", "postgres://u:p@host/db?a=b#c"),
            ("A", "3"),
        ];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_quoted_value_goes_over_several_lines() {
        let text = "KEY=\"-----BEGIN-----\r\nabc==\r\n# no comment\r\n-----END-----\"\nNEXT='a\nb'\nLAST=1\n";

        assert_eq!(
            parsed(text),
            [
                ("KEY".to_owned(), "-----BEGIN-----\nabc==\n# no comment\n-----END-----".to_owned()),
                ("NEXT".to_owned(), "a\nb".to_owned()),
                ("LAST".to_owned(), "1".to_owned()),
            ]
        );
    }

    #[test]
    fn escapes_count_in_double_quotes_alone() {
        assert_eq!(one(r#"A="a\nb\t\"c\" \\ \$x \d""#), "a\nb\t\"c\" \\ $x \\d");
        assert_eq!(one(r"A='a\nb'"), r"a\nb");
        assert_eq!(one(r"A=a\nb"), r"a\nb");
        assert_eq!(one("A=it's"), "it's");
        assert_eq!(one("A=a#b"), "a#b");
        assert_eq!(one("A= # nothing"), "");
    }

    #[test]
    fn no_text_makes_it_stumble_and_every_value_can_be_written() {
        let pieces = ["A", "=", "\"", "'", "\\", "#", " ", "\n", "\r\n", "\t", "export ", "é", "$", "n"];
        let mut state: u64 = 42;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).expect("31 bits")
        };
        for _ in 0..100_000 {
            let text: String = (0..next() % 24).map(|_| pieces[next() % pieces.len()]).collect();
            let _whatever_it_is = parse(&text);
            let value = text.replace("\r\n", "\n");
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            assert_eq!(one(&format!("A=\"{quoted}\" # end")), value, "{text:?}");
        }
    }

    #[test]
    fn a_line_that_makes_no_sense_is_named_and_not_repeated() {
        for (text, line) in [
            ("A=1\nhunter2", 2),
            ("export hunter2", 1),
            ("# a\n\nmy-hunter2=x", 3),
            ("A=\"a\nb\"\n=hunter2", 3),
            ("A=1\nB=\"hunter2\nC=2", 2),
            ("A='it's hunter2'", 1),
            ("A=\"a\"hunter2", 1),
            ("A=\"hunter2\\", 1),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!(error.line, line, "{text}: {error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
