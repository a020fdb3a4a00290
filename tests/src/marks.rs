//! What people put on messages, as clients show it.

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::client::{items, number, text};

/// The reactions to a message with one emoji.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reaction {
    pub emoji: String,
    pub count: u64,
    /// The first few.
    pub users: Vec<String>,
}

impl Reaction {
    /// Reads it from a message or from a delta.
    ///
    /// # Errors
    /// It lacks a field.
    pub fn parse(value: &Value) -> Result<Self> {
        let users = items(value, "users")?.iter();
        let users = users.map(|user| Ok(user.as_str().context("a user's id")?.to_owned()));
        Ok(Self {
            emoji: text(value, "emoji")?.to_owned(),
            count: number(value, "count")?,
            users: users.collect::<Result<_>>()?,
        })
    }

    /// Reads those of a message.
    ///
    /// # Errors
    /// One lacks a field.
    pub fn all_of(message: &Value) -> Result<Vec<Self>> {
        items(message, "reactions")?
            .iter()
            .map(Self::parse)
            .collect()
    }

    /// Takes the place of those with the same emoji, or comes last; goes once it counts nobody.
    pub fn put(self, among: &mut Vec<Self>) {
        match among.iter().position(|known| known.emoji == self.emoji) {
            Some(place) if self.count == 0 => drop(among.remove(place)),
            Some(place) => among[place] = self,
            None if self.count == 0 => {}
            None => among.push(self),
        }
    }
}
