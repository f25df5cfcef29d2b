//! Which characters of an untrusted text may stand as they are: those that show, and of those that do not, the ones that
//! belong to a script or to a picture: joiners between letters that need them, and the parts of an emoji.

use crate::git::is_invisible;

/// The flags that are written with tag characters: England, Scotland, Wales.
const FLAGS: &[&str] = &["gbeng", "gbsct", "gbwls"];

/// How many bytes at the beginning of this text may stand as they are; 0 where its first character does not show, or tells a
/// terminal something. `before` is the character that comes before it, a blank where there is none.
#[must_use]
pub fn standing(before: char, text: &str) -> usize {
    let mut characters = text.chars();
    let Some(character) = characters.next() else { return 0 };
    let next = characters.next().unwrap_or(' ');
    let length = character.len_utf8();
    let is_fine = match character {
        '\n' | '\t' | '\r' => true,
        // The mark that makes an emoji of a symbol, also of a digit on a key.
        '\u{fe0e}' | '\u{fe0f}' => is_symbol(before) || (before.is_ascii() && next == '\u{20e3}'),
        '\u{200d}' => {
            (is_symbol(before) || before == '\u{fe0f}') && is_symbol(next) || is_joined(before) && is_joined(next)
        }
        '\u{200c}' => is_joined(before) && is_joined(next),
        '\u{1f3f4}' => return length + flag(&text[length..]),
        '\u{2028}' | '\u{2029}' => false,
        _ => !is_invisible(character) && !character.is_control(),
    };
    if is_fine { length } else { 0 }
}

/// How many bytes of tag characters make a flag of the one before them.
fn flag(text: &str) -> usize {
    let tags: String =
        text.chars().take(6).filter_map(|tag| char::from_u32(u32::from(tag).checked_sub(0xe0000)?)).collect();
    let is_flag = tags.strip_suffix('\u{7f}').is_some_and(|tags| FLAGS.contains(&tags));
    if is_flag { text.chars().take(6).map(char::len_utf8).sum() } else { 0 }
}

/// Arrows, signs and pictures.
fn is_symbol(character: char) -> bool {
    matches!(u32::from(character), 0xa9 | 0xae | 0x203c..=0x205f | 0x2100..=0x27ff | 0x2900..=0x2bff | 0x3030..=0x303d | 0x3297..=0x3299 | 0x1f000..=0x1faff)
        && !is_invisible(character)
}

/// Letters of scripts whose words need joiners: Arabic, Syriac and the like, those of India and around, Khmer, Mongolian.
fn is_joined(character: char) -> bool {
    matches!(u32::from(character), 0x0600..=0x08ff | 0x0900..=0x0dff | 0x0f00..=0x109f | 0x1780..=0x18af)
        && !is_invisible(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether all of a text stands.
    fn stands(text: &str) -> bool {
        let (mut rest, mut before) = (text, ' ');
        while !rest.is_empty() {
            let length = standing(before, rest);
            if length == 0 {
                return false;
            }
            before = rest[..length].chars().next_back().expect("it has a length");
            rest = &rest[length..];
        }
        true
    }

    #[test]
    fn the_parts_of_scripts_and_pictures_stand() {
        for text in ["", "⚠\u{fe0f} 1\u{fe0f}\u{20e3}", "👨\u{200d}👩\u{200d}👧 🏳\u{fe0f}\u{200d}🌈", "می\u{200c}خواهم"]
        {
            assert!(stands(text), "{text}");
        }
    }

    #[test]
    fn what_does_not_show_stands_nowhere_else() {
        for text in [
            "\u{fe0f}",
            "a\u{fe0f}",
            "⚠\u{fe0f}\u{fe0f}",
            "x\u{200d}y",
            "⚠\u{200d}x",
            "a\u{200b}",
            "\u{2028}",
            "\u{1b}",
        ] {
            assert!(!stands(text), "{text:?}");
        }
    }
}
