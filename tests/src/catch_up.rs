//! One sync, page by page: what to ask, what to make of the answers, and which streams' state
//! is to be read afterwards. Without a connection.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};

use crate::client::{items, number, text};
use crate::replica::Cursor;

/// Most deltas of a page.
const LIMIT: u64 = 500;

/// A sync under way.
#[derive(Debug, Clone)]
pub struct CatchUp {
    cursor: Cursor,
    only: bool,
    /// The heads of the first answer: what came since arrives live, or shows as a gap.
    goal: Option<Cursor>,
    to_take_up: BTreeMap<String, (u64, bool)>,
}

/// What an answer brought.
#[derive(Debug)]
pub struct Page {
    /// Streams that are the user's no longer.
    pub gone: Vec<String>,
    pub deltas: Vec<Value>,
    /// There is nothing more to ask.
    pub last: bool,
}

/// A stream whose state is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeUp {
    pub stream: String,
    /// Known before the state is read.
    pub head: u64,
    /// Go back to `head` if need be: what is held cannot be continued.
    pub reset: bool,
}

impl CatchUp {
    /// A sync of everything, or (`only`) of the streams of `cursor` alone.
    #[must_use]
    pub fn new(cursor: Cursor, only: bool) -> Self {
        Self {
            cursor,
            only,
            goal: None,
            to_take_up: BTreeMap::new(),
        }
    }

    /// The body of the next `POST /v1/sync`.
    #[must_use]
    pub fn request(&self) -> Value {
        json!({"cursor": self.cursor, "limit": LIMIT, "only": self.only})
    }

    /// Takes its answer.
    ///
    /// # Errors
    /// The answer lacks what every answer has.
    pub fn answered(&mut self, answer: &Value) -> Result<Page> {
        let heads: Cursor = serde_json::from_value(answer["heads"].clone())?;
        let mut gone = Vec::new();
        for reset in items(answer, "resets")? {
            let stream = text(reset, "stream")?.to_owned();
            if reset["reason"] == "gone" {
                gone.push(stream);
            } else {
                self.to_take_up
                    .insert(stream, (number(reset, "head")?, true));
            }
        }
        let (cursor, to_take_up) = (&self.cursor, &mut self.to_take_up);
        let goal = self.goal.get_or_insert_with(|| {
            for (stream, head) in &heads {
                if !cursor.contains_key(stream) {
                    to_take_up.insert(stream.clone(), (*head, false));
                }
            }
            heads
        });
        self.cursor = serde_json::from_value(answer["cursor"].clone())?;
        let reached =
            |(stream, seq): (&String, &u64)| goal.get(stream).is_none_or(|head| seq >= head);
        Ok(Page {
            gone,
            deltas: items(answer, "deltas")?.clone(),
            last: answer["more"] != true || self.cursor.iter().all(reached),
        })
    }

    /// After the last page: the streams that the cursor lacked, or that were reset.
    pub fn to_take_up(self) -> impl Iterator<Item = TakeUp> {
        let found = self.to_take_up.into_iter();
        found.map(|(stream, (head, reset))| TakeUp {
            stream,
            head,
            reset,
        })
    }
}
