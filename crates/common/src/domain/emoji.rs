//! What can be reacted with: the form of one emoji, and of a short name that stands for one.
//!
//! The form is that of Unicode's emoji sequences (UTS #51, ED-17). Which of them have a picture
//! differs from year to year and from device to device, so symbols are told by their blocks.

/// Longest emoji, in bytes: the longest sequences that are in use have some 35.
const LONGEST_EMOJI: usize = 64;
/// Longest name, in bytes.
const LONGEST_NAME: usize = 32;

/// Where emoji stand among the characters. Joiners, selectors, tags, digits and flags' letters
/// have rules of their own.
const SYMBOLS: &[(char, char)] = &[
    ('\u{a9}', '\u{a9}'),
    ('\u{ae}', '\u{ae}'),
    ('\u{203c}', '\u{203c}'),
    ('\u{2049}', '\u{2049}'),
    ('\u{2122}', '\u{2122}'),
    ('\u{2139}', '\u{2139}'),
    ('\u{2194}', '\u{21aa}'),
    ('\u{231a}', '\u{23ff}'),
    ('\u{24c2}', '\u{24c2}'),
    ('\u{25aa}', '\u{25fe}'),
    ('\u{2600}', '\u{27bf}'),
    ('\u{2934}', '\u{2935}'),
    ('\u{2b05}', '\u{2b55}'),
    ('\u{3030}', '\u{3030}'),
    ('\u{303d}', '\u{303d}'),
    ('\u{3297}', '\u{3297}'),
    ('\u{3299}', '\u{3299}'),
    ('\u{1f000}', '\u{1f1e5}'),
    ('\u{1f200}', '\u{1faff}'),
];

const JOINER: char = '\u{200d}';
const PICTURE: char = '\u{fe0f}';
const KEYCAP: char = '\u{20e3}';
const TAG_END: char = '\u{e007f}';

/// Whether `text` is a name such as `thumbsup` or `+1`, for apps with pictures of their own.
pub(super) fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'+');
    (1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(allowed)
}

/// Whether `text` is one emoji: a flag, a keycap, or symbols joined to one.
pub(super) fn is_emoji(text: &str) -> bool {
    if text.len() > LONGEST_EMOJI {
        return false;
    }
    let characters: Vec<char> = text.chars().collect();
    is_keycap(&characters) || is_flag(&characters) || is_joined(&characters)
}

fn is_keycap(characters: &[char]) -> bool {
    match characters {
        [key, PICTURE, KEYCAP] | [key, KEYCAP] => matches!(key, '0'..='9' | '#' | '*'),
        _ => false,
    }
}

/// Two letters of a region.
fn is_flag(characters: &[char]) -> bool {
    let letter = |character: &char| ('\u{1f1e6}'..='\u{1f1ff}').contains(character);
    characters.len() == 2 && characters.iter().all(letter)
}

fn is_joined(characters: &[char]) -> bool {
    let mut parts = characters.split(|character| *character == JOINER);
    parts.all(is_symbol)
}

/// A symbol, perhaps as a picture, in a colour of skin, or with tags (flags of parts of a
/// country).
fn is_symbol(characters: &[char]) -> bool {
    let Some((symbol, mut rest)) = characters.split_first() else {
        return false;
    };
    if let [PICTURE, behind @ ..] = rest {
        rest = behind;
    }
    if let ['\u{1f3fb}'..='\u{1f3ff}', behind @ ..] = rest {
        rest = behind;
    }
    if let [tags @ .., TAG_END] = rest
        && tags
            .iter()
            .all(|tag| ('\u{e0020}'..='\u{e007e}').contains(tag))
    {
        rest = &[];
    }
    let known = |(first, last): &(char, char)| (first..=last).contains(&symbol);
    rest.is_empty() && SYMBOLS.iter().any(known)
}

#[cfg(test)]
mod tests {
    use crate::domain::Emoji;

    #[test]
    fn one_emoji_or_a_name() {
        for good in [
            "👍",
            "👍🏽",
            "❤",
            "❤️",
            "☕",
            "©️",
            "🇫🇷",
            "1️⃣",
            "#️⃣",
            "👩‍💻",
            "👨‍👩‍👧‍👦",
            "🏳️‍🌈",
            "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
            "👩🏻‍❤️‍💋‍👩🏿",
            "🫠",
            "🀄",
            "thumbsup",
            "+1",
            "-1",
            "100",
            "party_parrot",
        ] {
            assert!(Emoji::parse(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let family = ["👨"; 10].join("\u{200d}");
        for bad in [
            "",
            " ",
            "a b",
            "Thumbsup",
            "é",
            "你好",
            "👍👍",
            "👍 ",
            "👍a",
            "a👍",
            "\u{200d}",
            "👩\u{200d}",
            "\u{200d}💻",
            "\u{fe0f}",
            "🇫",
            "🇫🇷🇩🇪",
            "11️⃣",
            "\u{20e3}",
            "\u{e0067}\u{e007f}",
            "a/b",
            "%F0",
            "\u{0}",
            "\u{fffd}",
            "<b>",
            &"a".repeat(33),
            &family,
        ] {
            assert!(Emoji::parse(bad).is_err(), "{bad:?}");
        }
    }
}
