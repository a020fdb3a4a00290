//! Whom a text mentions, by name: `@ada`, or everyone.

use std::collections::BTreeSet;

/// Names of at most so many people are looked for in a text; those behind are plain text.
const MOST: usize = 50;
const SHORTEST: usize = 2;
const LONGEST: usize = 32;
/// The name that stands for all members. It is never a user's.
const EVERYONE: &str = "everyone";

/// The names in a text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    pub everyone: bool,
    /// Each person's possible names, the likeliest first: `@ada.` is of `ada.`, or of `ada` at
    /// the end of a sentence. Lower-case, in the order of the text, each once.
    pub people: Vec<Vec<String>>,
}

impl Names {
    /// A name follows an `@` that stands at the beginning or behind anything but a letter, a
    /// digit or one of `_.-@/`, so that addresses mention nobody.
    #[must_use]
    pub fn in_text(text: &str) -> Self {
        let mut names = Self::default();
        let mut known = BTreeSet::new();
        for (at, _) in text.match_indices('@') {
            let (before, behind) = (&text[..at], &text[at + 1..]);
            if before.chars().next_back().is_some_and(joins) {
                continue;
            }
            let candidates = candidates(behind);
            if candidates.iter().any(|name| name == EVERYONE) {
                names.everyone = true;
            } else if !candidates.is_empty()
                && names.people.len() < MOST
                && known.insert(candidates.clone())
            {
                names.people.push(candidates);
            }
        }
        names
    }
}

/// Whether an `@` behind this character belongs to a word or an address.
fn joins(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '.' | '-' | '@' | '/')
}

/// What of the text may be a name: all of it that could, and the same without the punctuation
/// at its end.
fn candidates(text: &str) -> Vec<String> {
    let part_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let end = text.find(|c: char| !part_of_name(c)).unwrap_or(text.len());
    let whole = text[..end].to_ascii_lowercase();
    let short = whole.trim_end_matches(['_', '.', '-']).to_owned();
    let mut found = vec![whole];
    if short != found[0] {
        found.push(short);
    }
    found.retain(|name| (SHORTEST..=LONGEST).contains(&name.len()));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, everyone: bool, people: &[&[&str]]) {
        let people = people
            .iter()
            .map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        let expected = Names {
            everyone,
            people: people.collect(),
        };
        assert_eq!(Names::in_text(text), expected, "{text}");
    }

    #[test]
    fn names_stand_behind_an_at_sign() {
        check("@ada", false, &[&["ada"]]);
        check("Hi @Ada, and (@bob)!", false, &[&["ada"], &["bob"]]);
        check("ask @ada.", false, &[&["ada.", "ada"]]);
        check("@a.b-c_d...", false, &[&["a.b-c_d...", "a.b-c_d"]]);
        check("é@ada,@bob", false, &[&["bob"]]);
        check("@ada @bob @ADA", false, &[&["ada"], &["bob"]]);
        check("**@ada**", false, &[&["ada"]]);
        check("@...", false, &[&["..."]]);
        check("@ada\n@bob", false, &[&["ada"], &["bob"]]);
    }

    #[test]
    fn what_is_no_name_mentions_nobody() {
        let long = format!("@{}", "a".repeat(33));
        for text in [
            "",
            "@",
            "@ ada",
            "@a",
            "@@ada",
            "ada@bob.example",
            "https://example.org/@ada",
            "@é",
            &long,
        ] {
            check(text, false, &[]);
        }
    }

    #[test]
    fn everyone_is_nobody_in_particular() {
        check("@everyone", true, &[]);
        check("Hello @Everyone.", true, &[]);
        check("@everyone @ada", true, &[&["ada"]]);
        check("@everyones", false, &[&["everyones"]]);
    }

    #[test]
    fn so_many_people_are_looked_for() {
        let text: Vec<String> = (0..60).map(|n| format!("@user{n}")).collect();
        let names = Names::in_text(&text.join(" "));
        assert_eq!(names.people.len(), MOST);
        assert_eq!(names.people[49], ["user49"]);
    }
}
