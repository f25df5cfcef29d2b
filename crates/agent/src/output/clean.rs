//! Makes the output of a program safe to look at: text and plain colours, nothing that a terminal, a browser or an eye
//! could take for something else. Works on a stream, wherever it is cut.

use carrel_domain::git::is_invisible;

/// Characters of one line that are shown.
const MAX_LINE_CHARS: usize = 4096;

/// The longest escape sequence that is waited for; what is longer is none, and its rest is text again.
const MAX_ESCAPE_CHARS: usize = 4096;

/// The longest colour sequence that is passed on.
const MAX_COLOUR_CHARS: usize = 64;

/// Cleans one stream.
#[derive(Debug, Default)]
pub(crate) struct Cleaner {
    /// Bytes of a character that is not whole yet.
    partial: Vec<u8>,
    state: State,
    /// Characters of the line so far.
    line_chars: usize,
    last: char,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Text,
    /// After a carriage return that may belong to a line feed.
    Return,
    /// After ESC.
    Escape,
    /// In an escape sequence with intermediate characters, such as `ESC ( B`.
    Intermediate,
    /// In a control sequence, which may be a colour.
    Control(String),
    /// In a string for the terminal (title, clipboard, …): its length so far, and whether ESC came last.
    TerminalString { chars: usize, escape: bool },
}

impl Cleaner {
    /// Adds the clean form of the next bytes.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut String) {
        let joined;
        let mut rest = if self.partial.is_empty() {
            bytes
        } else {
            joined = [std::mem::take(&mut self.partial).as_slice(), bytes].concat();
            joined.as_slice()
        };
        while !rest.is_empty() {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.text(text, out);
                    return;
                }
                Err(error) => {
                    let (valid, broken) = rest.split_at(error.valid_up_to());
                    self.text(&String::from_utf8_lossy(valid), out);
                    let Some(length) = error.error_len() else {
                        self.partial = broken.to_vec();
                        return;
                    };
                    self.character(char::REPLACEMENT_CHARACTER, out);
                    rest = &broken[length..];
                }
            }
        }
    }

    /// Adds what is left at the end of the stream.
    pub(crate) fn finish(&mut self, out: &mut String) {
        if !std::mem::take(&mut self.partial).is_empty() {
            self.character(char::REPLACEMENT_CHARACTER, out);
        }
        self.end_line_note(out);
        *self = Self::default();
    }

    fn text(&mut self, text: &str, out: &mut String) {
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            // Most output is plain, and there is a lot of it.
            let plain = match self.state {
                State::Text => rest.bytes().position(|byte| !(b' '..=b'~').contains(&byte)).unwrap_or(rest.len()),
                _ => 0,
            };
            if plain > 0 {
                self.plain_run(&rest[..plain], out);
                rest = &rest[plain..];
            } else {
                self.character(character, out);
                rest = &rest[character.len_utf8()..];
            }
        }
    }

    /// Printable ASCII characters.
    fn plain_run(&mut self, run: &str, out: &mut String) {
        let room = MAX_LINE_CHARS.saturating_sub(self.line_chars).min(run.len());
        out.push_str(&run[..room]);
        self.line_chars += run.len();
        self.last = run.chars().next_back().unwrap_or_default();
    }

    fn character(&mut self, character: char, out: &mut String) {
        match &mut self.state {
            State::Text => self.plain(character, out),
            State::Return => {
                self.state = State::Text;
                // A lone return begins its line anew on a terminal; here nothing is ever overwritten.
                self.line_feed(out);
                if character != '\n' {
                    self.plain(character, out);
                }
            }
            State::Escape => {
                self.state = match character {
                    '[' => State::Control(String::new()),
                    ']' | 'P' | 'X' | '^' | '_' => State::TerminalString { chars: 0, escape: false },
                    ' '..='/' => State::Intermediate,
                    '\u{1b}' => State::Escape,
                    _ => State::Text,
                }
            }
            State::Intermediate => {
                if !(' '..='/').contains(&character) {
                    self.state = State::Text;
                }
            }
            State::Control(parameters) => {
                if (' '..='?').contains(&character) && parameters.len() < MAX_ESCAPE_CHARS {
                    parameters.push(character);
                    return;
                }
                let parameters = std::mem::take(parameters);
                self.state = if character == '\u{1b}' { State::Escape } else { State::Text };
                if character == 'm' && is_colour(&parameters) {
                    out.push_str(&format!("\u{1b}[{parameters}m"));
                }
            }
            State::TerminalString { chars, escape } => {
                *chars += 1;
                let ended = matches!(character, '\u{7}' | '\u{9c}') || (*escape && character == '\\');
                // A new line ends it too: no title has one, and a stray `ESC ]` must not swallow a log.
                if ended || *chars > MAX_ESCAPE_CHARS || character == '\n' {
                    self.state = State::Text;
                    if character == '\n' {
                        self.line_feed(out);
                    }
                } else {
                    *escape = character == '\u{1b}';
                }
            }
        }
    }

    fn plain(&mut self, character: char, out: &mut String) {
        let before = std::mem::replace(&mut self.last, character);
        match character {
            '\n' => self.line_feed(out),
            '\r' => self.state = State::Return,
            '\u{1b}' => self.state = State::Escape,
            '\u{9b}' => self.state = State::Control(String::new()),
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => self.state = State::TerminalString { chars: 0, escape: false },
            '\t' => self.visible("\t", out),
            _ if character.is_control() => {}
            // The mark that makes an emoji of a symbol is no disguise.
            '\u{fe0e}' | '\u{fe0f}' if !before.is_ascii() && !is_invisible(before) => {
                out.push(character);
            }
            _ if is_invisible(character) => self.visible(&format!("\\u{{{:x}}}", u32::from(character)), out),
            _ => self.visible(character.encode_utf8(&mut [0; 4]), out),
        }
    }

    fn visible(&mut self, text: &str, out: &mut String) {
        self.line_chars += 1;
        if self.line_chars <= MAX_LINE_CHARS {
            out.push_str(text);
        }
    }

    fn line_feed(&mut self, out: &mut String) {
        self.end_line_note(out);
        self.line_chars = 0;
        out.push('\n');
    }

    fn end_line_note(&mut self, out: &mut String) {
        if self.line_chars > MAX_LINE_CHARS {
            out.push_str(&format!("… [{} more characters]", self.line_chars - MAX_LINE_CHARS));
        }
    }
}

/// A text of a model, of which nothing is hidden: every control character but line feed and tab, and everything that
/// does not show, as its code point.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut before = ' ';
    for (at, character) in text.char_indices() {
        let makes_emoji = matches!(character, '\u{fe0e}' | '\u{fe0f}') && !before.is_ascii() && !is_invisible(before);
        let ends_line = character == '\r' && text[at..].starts_with("\r\n");
        let hidden = is_invisible(character) || (character.is_control() && !matches!(character, '\n' | '\t'));
        match character {
            _ if ends_line => {}
            _ if hidden && !makes_emoji => shown.push_str(&format!("\\u{{{:x}}}", u32::from(character))),
            _ => shown.push(character),
        }
        before = character;
    }
    shown
}

fn is_colour(parameters: &str) -> bool {
    parameters.len() <= MAX_COLOUR_CHARS
        && parameters.bytes().all(|byte| byte.is_ascii_digit() || b";:".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(bytes: &[u8]) -> String {
        let mut out = String::new();
        let mut cleaner = Cleaner::default();
        cleaner.push(bytes, &mut out);
        cleaner.finish(&mut out);
        out
    }

    #[test]
    fn colours_stay_and_every_other_sequence_goes() {
        for (dirty, expected) in [
            ("\u{1b}[1;31mred\u{1b}[0m", "\u{1b}[1;31mred\u{1b}[0m"),
            ("a\u{1b}[2Jb\u{1b}[10;10Hc\u{1b}[?25ld\u{1b}[6n", "abcd"),
            ("\u{1b}]0;title\u{7}x\u{1b}]52;c;cm0gLXJm\u{1b}\\y", "xy"),
            ("\u{1b}Pq#0\u{1b}\\x\u{1b}_apc\u{1b}\\y\u{9d}0;t\u{9c}z", "xyz"),
            ("\u{1b}(Ba\u{1b}7b\u{1b}=c\u{9b}31md", "abcd"),
            ("\u{1b}[>4;1mx\u{1b}[38:2::1:2:3my", "x\u{1b}[38:2::1:2:3my"),
            ("a\u{8}b\u{0}c\u{7}d\u{85}e\u{7f}f", "abcdef"),
        ] {
            assert_eq!(clean(dirty.as_bytes()).replace("\u{1b}[31m", ""), expected, "{dirty:?}");
        }
    }

    #[test]
    fn what_does_not_show_is_shown() {
        assert_eq!(clean("a\u{202e}b\u{200b}c\u{feff}d".as_bytes()), "a\\u{202e}b\\u{200b}c\\u{feff}d");
        assert_eq!(clean("✔\u{fe0f} a\u{fe0f}".as_bytes()), "✔\u{fe0f} a\\u{fe0f}");
    }

    #[test]
    fn a_models_text_hides_nothing() {
        assert_eq!(visible("a\u{1b}[2Jb\r\nc\rd\u{202e}e\tf"), "a\\u{1b}[2Jb\nc\\u{d}d\\u{202e}e\tf");
        assert_eq!(visible("⚠\u{fe0f} grün"), "⚠\u{fe0f} grün");
    }

    #[test]
    fn a_lone_return_hides_nothing() {
        assert_eq!(clean(b"rm -rf /\rls\r\nx\r"), "rm -rf /\nls\nx");
    }

    #[test]
    fn the_cut_between_two_chunks_makes_no_difference() {
        let dirty = "grün \u{1b}[31mred\u{1b}[0m\r\n\u{1b}]0;t\u{7}€ \u{202e}\r\nend".as_bytes();
        let whole = clean(dirty);
        for cut in 0..=dirty.len() {
            let mut out = String::new();
            let mut cleaner = Cleaner::default();
            cleaner.push(&dirty[..cut], &mut out);
            cleaner.push(&dirty[cut..], &mut out);
            cleaner.finish(&mut out);
            assert_eq!(out, whole, "cut at {cut}");
        }
    }

    #[test]
    fn a_long_line_that_comes_in_runs_is_cut_at_the_same_place() {
        let line = format!("{}é{}", "x".repeat(4090), "y".repeat(100));

        assert_eq!(clean(line.as_bytes()), format!("{}é{}… [95 more characters]", "x".repeat(4090), "y".repeat(5)));
    }

    #[test]
    fn broken_characters_are_replaced_one_by_one() {
        assert_eq!(clean(b"a\xff\xfeb\xe2\x82"), "a\u{fffd}\u{fffd}b\u{fffd}");
    }

    #[test]
    fn a_long_line_is_cut_with_its_rest_counted() {
        let shown = clean(format!("{}\nb", "x".repeat(10_000)).as_bytes());

        assert_eq!(shown, format!("{}… [5904 more characters]\nb", "x".repeat(4096)));
    }

    #[test]
    fn a_sequence_without_an_end_swallows_no_log() {
        assert_eq!(clean(b"\x1b]0;never ends\nnext"), "\nnext");
        assert!(clean(format!("\u{1b}[{}m after", "1;".repeat(3000)).as_bytes()).ends_with("after"));
    }
}
