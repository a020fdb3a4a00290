//! Rust source reduced to what the checks look at: no comments, no contents of literals.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::str::Chars;

/// The tokens of a file, in order.
pub(super) struct Code {
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    PathSeparator,
    Other(char),
}

impl Code {
    pub(super) fn parse(source: &str) -> Self {
        let mut tokens = Vec::new();
        let mut chars = source.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '/' if chars.peek() == Some(&'/') => skip_line(&mut chars),
                '/' if chars.next_if_eq(&'*').is_some() => skip_block(&mut chars),
                '"' => skip_string(&mut chars),
                '\'' => skip_char(&mut chars),
                ':' if chars.next_if_eq(&':').is_some() => tokens.push(Token::PathSeparator),
                c if c.is_whitespace() => {}
                c if is_word(c) => {
                    let mut word = String::from(c);
                    while let Some(next) = chars.next_if(|c| is_word(*c)) {
                        word.push(next);
                    }
                    if matches!(word.as_str(), "r" | "br" | "cr") && skip_raw_string(&mut chars) {
                        continue;
                    }
                    tokens.push(Token::Word(word));
                }
                c => tokens.push(Token::Other(c)),
            }
        }
        Self { tokens }
    }

    /// The same without the items marked `#[cfg(test)]`.
    pub(super) fn without_tests(&self) -> Self {
        let marker = Self::parse("#[cfg(test)]").tokens;
        let mut tokens = Vec::new();
        let mut rest = self.tokens.as_slice();
        while let Some((first, tail)) = rest.split_first() {
            if rest.starts_with(&marker) {
                rest = after_item(&rest[marker.len()..]);
            } else {
                tokens.push(first.clone());
                rest = tail;
            }
        }
        Self { tokens }
    }

    pub(super) fn words(&self) -> BTreeSet<&str> {
        self.tokens.iter().filter_map(Token::word).collect()
    }

    /// The names that follow `root::`, also in a group: `crate::{a::b, c}` uses `a` and `c`.
    pub(super) fn used_from(&self, root: &str) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for (at, pair) in self.tokens.windows(2).enumerate() {
            if pair[0].word() == Some(root) && pair[1] == Token::PathSeparator {
                collect_heads(&self.tokens[at + 2..], &mut names);
            }
        }
        names
    }

    /// The names that follow a chain of `levels` or more `super::`, which is how a module at
    /// that depth reaches the root of its crate.
    pub(super) fn used_from_ancestor(&self, levels: usize) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        let mut chain = 0;
        let mut at = 0;
        while at + 1 < self.tokens.len() {
            if self.tokens[at].word() == Some("super")
                && self.tokens[at + 1] == Token::PathSeparator
            {
                chain += 1;
                at += 2;
                if chain >= levels {
                    collect_heads(&self.tokens[at..], &mut names);
                }
            } else {
                chain = 0;
                at += 1;
            }
        }
        names
    }
}

impl Token {
    fn word(&self) -> Option<&str> {
        match self {
            Self::Word(word) => Some(word),
            Self::PathSeparator | Self::Other(_) => None,
        }
    }
}

/// The first name of a path, or of each path of a group.
fn collect_heads(tokens: &[Token], names: &mut BTreeSet<String>) {
    match tokens.first() {
        Some(Token::Word(name)) => {
            names.insert(name.clone());
        }
        Some(Token::Other('{')) => {
            let mut depth = 0;
            for pair in tokens.windows(2) {
                match &pair[0] {
                    Token::Other('{') => depth += 1,
                    Token::Other('}') => depth -= 1,
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
                let opens = matches!(pair[0], Token::Other('{' | ','));
                if let (true, 1, Token::Word(name)) = (opens, depth, &pair[1]) {
                    names.insert(name.clone());
                }
            }
        }
        _ => {}
    }
}

/// What follows the item that `tokens` begin with: it ends at a `;` or with its first block.
fn after_item(tokens: &[Token]) -> &[Token] {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Other('{') => depth += 1,
            Token::Other('}') if depth <= 1 => return &tokens[at + 1..],
            Token::Other('}') => depth -= 1,
            Token::Other(';') if depth == 0 => return &tokens[at + 1..],
            _ => {}
        }
    }
    &[]
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn skip_line(chars: &mut Peekable<Chars<'_>>) {
    while chars.next_if(|c| *c != '\n').is_some() {}
}

/// Block comments nest.
fn skip_block(chars: &mut Peekable<Chars<'_>>) {
    let mut depth = 1;
    while let Some(c) = chars.next() {
        if c == '/' && chars.next_if_eq(&'*').is_some() {
            depth += 1;
        } else if c == '*' && chars.next_if_eq(&'/').is_some() {
            depth -= 1;
            if depth == 0 {
                return;
            }
        }
    }
}

fn skip_string(chars: &mut Peekable<Chars<'_>>) {
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                chars.next();
            }
            '"' => return,
            _ => {}
        }
    }
}

/// Skips `#"…"#` with any number of `#`; false, and nothing taken, if no raw string starts here.
fn skip_raw_string(chars: &mut Peekable<Chars<'_>>) -> bool {
    let mut ahead = chars.clone();
    let mut fence = String::from("\"");
    while ahead.next_if_eq(&'#').is_some() {
        fence.push('#');
    }
    if ahead.next() != Some('"') {
        return false;
    }
    while !ahead.clone().take(fence.len()).eq(fence.chars()) {
        if ahead.next().is_none() {
            break;
        }
    }
    for _ in 0..fence.len() {
        ahead.next();
    }
    *chars = ahead;
    true
}

/// Skips a character literal; a lifetime or label leaves its name as a word.
fn skip_char(chars: &mut Peekable<Chars<'_>>) {
    let mut ahead = chars.clone();
    match ahead.next() {
        Some('\\') => {
            ahead.next();
            while ahead.next_if(|c| *c != '\'').is_some() {}
        }
        Some(_) => {}
        None => return,
    }
    if ahead.next() == Some('\'') {
        *chars = ahead;
    }
}
