//! What a tool says, as it goes to the model: with nothing in it that does not show. A person who looks at the same output
//! sees no more than the model does, and neither is told something that the other is not.
//!
//! What belongs to a script or to a picture stays, as [`carrel_domain::shown`] has it.

use carrel_domain::shown::standing;

/// The longest colour sequence that is taken for one.
const MAX_COLOUR_CHARS: usize = 64;

/// How many in a row are shown one by one.
const MAX_RUN: usize = 64;

/// A text with nothing hidden.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bare {
    /// The text; what does not show stands in it as its code point.
    pub(crate) text: String,
    /// How many characters stand so.
    hidden: usize,
    /// How many colour sequences are left out.
    colours: usize,
}

impl Bare {
    /// Looks through a text. Doing it twice changes nothing.
    pub(crate) fn of(text: &str) -> Self {
        let mut bare = Self { text: String::with_capacity(text.len()), hidden: 0, colours: 0 };
        let (mut rest, mut before, mut run) = (text, ' ', 0);
        while let Some(character) = rest.chars().next() {
            // Nearly all of it is plain.
            let plain = rest.bytes().position(|byte| !(b' '..=b'~').contains(&byte) && byte != b'\n');
            let plain = plain.unwrap_or(rest.len());
            if plain > 0 {
                run = bare.end_run(run);
                bare.text.push_str(&rest[..plain]);
                before = rest[..plain].chars().next_back().unwrap_or(before);
                rest = &rest[plain..];
                continue;
            }
            let taken = match colour(rest) {
                Some(length) => {
                    bare.colours += 1;
                    length
                }
                None => {
                    let stays = standing(before, rest);
                    if stays > 0 {
                        run = bare.end_run(run);
                        bare.text.push_str(&rest[..stays]);
                    } else {
                        bare.hidden += 1;
                        run += 1;
                        if run <= MAX_RUN {
                            bare.text.push_str(&format!("\\u{{{:x}}}", u32::from(character)));
                        }
                    }
                    let taken = stays.max(character.len_utf8());
                    before = rest[..taken].chars().next_back().unwrap_or(before);
                    taken
                }
            };
            rest = &rest[taken..];
        }
        bare.end_run(run);
        bare
    }

    /// The text, and a word on what is not in it as it was.
    pub(crate) fn told(self) -> String {
        let Self { mut text, hidden, colours } = self;
        let mut notes = Vec::new();
        if hidden > 0 {
            notes.push(format!(
                "{hidden} characters above do not show and stand as \\u{{…}}; what printed them, such as a file, has the characters themselves"
            ));
        }
        if colours > 0 {
            notes.push(format!("{colours} colour sequences are left out; `cat -v` shows those of a file"));
        }
        if !notes.is_empty() {
            text.push_str(&format!("\n[Note of the service: {}.]", notes.join(". ")));
        }
        text
    }

    /// Ends a run of hidden characters of this length; the length of none.
    fn end_run(&mut self, run: usize) -> usize {
        if run > MAX_RUN {
            self.text.push_str(&format!("[{} more that do not show]", run - MAX_RUN));
        }
        0
    }
}

/// The length of a colour sequence at the beginning of a text.
fn colour(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    let length =
        parameters.bytes().take(MAX_COLOUR_CHARS).position(|byte| !(byte.is_ascii_digit() || b";:".contains(&byte)))?;
    (parameters.as_bytes()[length] == b'm').then_some(2 + length + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bare(text: &str) -> String {
        Bare::of(text).text
    }

    #[test]
    fn what_does_not_show_stands_as_its_code_point() {
        for (text, expected) in [
            ("a\u{200b}b", "a\\u{200b}b"),
            ("if user\u{202e} admin\u{2066}", "if user\\u{202e} admin\\u{2066}"),
            ("\u{feff}use std;", "\\u{feff}use std;"),
            ("x\u{e0049}\u{e0067}", "x\\u{e0049}\\u{e0067}"),
            ("a\u{fe0f}\u{fe01}", "a\\u{fe0f}\\u{fe01}"),
            ("x\u{200d}y", "x\\u{200d}y"),
            ("a\u{ad}b\u{2028}c", "a\\u{ad}b\\u{2028}c"),
            ("\u{1b}]0;title\u{7}\u{1b}[2J", "\\u{1b}]0;title\\u{7}\\u{1b}[2J"),
            ("a\u{8}\u{0}\u{9b}1m", "a\\u{8}\\u{0}\\u{9b}1m"),
        ] {
            assert_eq!(bare(text), expected);
            assert_eq!(bare(&bare(text)), expected, "twice is once");
        }
    }

    #[test]
    fn scripts_and_pictures_stay_as_they_are() {
        for text in [
            "plain\r\n\ttext\n",
            "grüße 你好 привет",
            "مرحبا بالعالم",
            "שלום עולם",
            "می\u{200c}خواهم",
            "क्\u{200d}ष",
            "👨\u{200d}👩\u{200d}👧 ❤\u{fe0f} 1\u{fe0f}\u{20e3} 🏳\u{fe0f}\u{200d}🌈 👍🏽",
            "🏴\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}",
            "✔\u{fe0f} ⚠\u{fe0f}",
        ] {
            assert_eq!(Bare::of(text).told(), text);
        }
    }

    #[test]
    fn a_flag_hides_no_message() {
        let hidden = "🏴\u{e0067}\u{e0062}\u{e006f}\u{e0062}\u{e0065}\u{e007f}";

        assert_eq!(bare(hidden), "🏴\\u{e0067}\\u{e0062}\\u{e006f}\\u{e0062}\\u{e0065}\\u{e007f}");
    }

    #[test]
    fn colours_are_left_out_and_told() {
        let told = Bare::of("\u{1b}[1;31mred\u{1b}[0m \u{1b}[38:2::1:2:3mx\u{1b}[m").told();

        assert_eq!(
            told,
            "red x\n[Note of the service: 4 colour sequences are left out; `cat -v` shows those of a file.]"
        );
        assert_eq!(bare("\u{1b}[1"), "\\u{1b}[1");
        assert!(bare(&format!("\u{1b}[{}m", "1;".repeat(99))).starts_with("\\u{1b}[1;"));
    }

    #[test]
    fn what_is_hidden_is_counted_for_the_model() {
        let told = Bare::of("a\u{200b}b\u{200b}").told();

        assert_eq!(
            told,
            "a\\u{200b}b\\u{200b}\n[Note of the service: 2 characters above do not show and stand as \\u{…}; what printed them, such as a file, has the characters themselves.]"
        );
    }

    #[test]
    fn a_long_run_takes_no_room() {
        let text = bare(&format!("a{}b{}", "\u{200b}".repeat(10_000), "\u{200c}".repeat(65)));

        assert!(text.contains("[9936 more that do not show]b"), "{text}");
        assert!(text.ends_with("[1 more that do not show]") && text.len() < 1200, "{}", text.len());
    }
}
