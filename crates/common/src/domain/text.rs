//! Text that came from outside, checked once and then carried as a type.

use std::fmt;

use super::emoji;

/// What is wrong with a text; the message is for the person who sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TextError(pub &'static str);

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// # Errors
            ///
            /// [`TextError`] says which limit the text breaks.
            pub fn parse(text: impl Into<String>) -> Result<Self, TextError> {
                let check: fn(String) -> Result<String, TextError> = $check;
                check(text.into()).map(Self)
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            #[must_use]
            pub fn into_string(self) -> String {
                self.0
            }
        }
    };
}

macro_rules! show {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:?})", stringify!($name), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

/// What must not be printed by accident.
macro_rules! hide {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}(…)", stringify!($name))
            }
        }
    )*};
}

text!(
    /// `[a-z0-9_.-]{2,32}`, lower-cased.
    Username,
    |text| {
        let text = text.to_ascii_lowercase();
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-');
        if !(2..=32).contains(&text.len()) || !text.bytes().all(allowed) {
            return Err(TextError("must be 2 to 32 of a-z, 0-9, '_', '.', '-'"));
        }
        Ok(text)
    }
);

text!(
    /// 8–256 characters.
    Password,
    |text| within(text, 8, 256, "must have 8 to 256 characters")
);

text!(
    /// 1–64 characters, not only white space, no control characters.
    DisplayName,
    |text| label(text, 64, "must have 1 to 64 characters, not all of them white space, and no control characters")
);

text!(
    /// The name of a group or channel: 1–100 characters, not only white space, no control
    /// characters.
    Name,
    |text| label(text, 100, "must have 1 to 100 characters, not all of them white space, and no control characters")
);

text!(
    /// What a person calls the device of a session: 1–64 characters like a display name.
    DeviceName,
    |text| label(text, 64, "must have 1 to 64 characters, not all of them white space, and no control characters")
);

text!(
    /// A message's text: 1–4,000 Unicode scalar values, not only white space.
    Content,
    |text| {
        if text.trim().is_empty() {
            return Err(TextError("must not be empty or only white space"));
        }
        within(text, 1, 4000, "must have at most 4000 characters")
    }
);

text!(
    /// A reaction: one emoji of at most 64 bytes, or a short name of 1–32 of `a-z`, `0-9`, `_`,
    /// `-`, `+`. Compared byte by byte: an emoji with its variation selector is another one.
    Emoji,
    |text| {
        if emoji::is_name(&text) || emoji::is_emoji(&text) {
            return Ok(text);
        }
        Err(TextError("must be one emoji, or a name of 1 to 32 of a-z, 0-9, '_', '-', '+'"))
    }
);

text!(
    /// A client's `Idempotency-Key` or `nonce`: 1–64 visible ASCII characters.
    IdempotencyKey,
    |text| {
        if !(1..=64).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TextError("must be 1 to 64 visible ASCII characters"));
        }
        Ok(text)
    }
);

show!(Username, DisplayName, Name, DeviceName, Emoji);
hide!(Password, Content, IdempotencyKey);

fn within(
    text: String,
    least: usize,
    most: usize,
    error: &'static str,
) -> Result<String, TextError> {
    if (least..=most).contains(&text.chars().count()) {
        Ok(text)
    } else {
        Err(TextError(error))
    }
}

fn label(text: String, most: usize, error: &'static str) -> Result<String, TextError> {
    if text.trim().is_empty() || text.chars().any(char::is_control) {
        return Err(TextError(error));
    }
    within(text, 1, most, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usernames_are_lower_cased_and_bounded() {
        assert_eq!(Username::parse("Ada.L").unwrap().as_str(), "ada.l");
        for bad in ["", "a", "a b", "ädä", &"a".repeat(33)] {
            assert!(Username::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn content_is_counted_in_characters_and_must_say_something() {
        assert!(Content::parse("é".repeat(4000)).is_ok());
        assert!(Content::parse("é".repeat(4001)).is_err());
        for bad in ["", "  \n\t"] {
            assert!(Content::parse(bad).is_err());
        }
    }

    #[test]
    fn keys_are_visible_ascii() {
        assert!(IdempotencyKey::parse("7f3a").is_ok());
        for bad in ["", "a b", "é", "a\n", &"k".repeat(65)] {
            assert!(IdempotencyKey::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_hold_no_control_characters() {
        assert!(Name::parse("Engine room").is_ok());
        for bad in ["", " ", "a\u{0}b", &"n".repeat(101)] {
            assert!(Name::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_private_does_not_print() {
        let shown = format!("{:?}", Password::parse("correct horse").unwrap());
        assert_eq!(shown, "Password(…)");
    }
}
