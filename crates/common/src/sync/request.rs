//! What a device asks for when it catches up, checked.

use std::collections::BTreeMap;

use crate::domain::{BadStream, Cursor, Seq, StreamId, Violation};
use crate::wire::SyncRequest;

/// Most deltas in an answer, and how many without `limit`.
const MOST_DELTAS: usize = 500;
/// How much of a name an error shows, in characters.
const SHOWN_OF_NAME: usize = 64;

/// What a device holds, and what it wants.
#[derive(Debug, Clone)]
pub struct SyncFrom {
    pub cursor: Cursor,
    /// Most deltas in the answer.
    pub limit: usize,
    /// Look at the cursor's streams alone.
    pub only: bool,
    /// The epoch that the cursor is from.
    pub epoch: Option<u64>,
}

impl SyncFrom {
    /// # Errors
    ///
    /// Everything that is wrong with the request.
    pub fn parse(request: SyncRequest) -> Result<Self, Vec<Violation>> {
        let mut violations = Vec::new();
        let limit = limit(request.limit).unwrap_or_else(|violation| {
            violations.push(violation);
            MOST_DELTAS
        });
        let cursor = cursor(request.cursor, &mut violations);
        if !violations.is_empty() {
            return Err(violations);
        }
        Ok(Self {
            cursor,
            limit,
            only: request.only,
            epoch: request.epoch,
        })
    }
}

fn limit(limit: Option<u64>) -> Result<usize, Violation> {
    match limit.map(usize::try_from) {
        None => Ok(MOST_DELTAS),
        Some(Ok(limit)) if (1..=MOST_DELTAS).contains(&limit) => Ok(limit),
        Some(_) => Err(Violation {
            pointer: "/limit".to_owned(),
            detail: format!("must be 1 to {MOST_DELTAS}"),
        }),
    }
}

fn cursor(named: BTreeMap<String, Seq>, violations: &mut Vec<Violation>) -> Cursor {
    let mut cursor = Cursor::new();
    for (name, at) in named {
        let stream: Result<StreamId, BadStream> = name.parse();
        match stream {
            Ok(stream) => drop(cursor.insert(stream, at)),
            Err(error) => violations.push(Violation {
                pointer: format!("/cursor/{}", escaped(&name)),
                detail: error.to_string(),
            }),
        }
    }
    cursor
}

/// As JSON Pointer has it, and not longer than an error should be.
fn escaped(name: &str) -> String {
    let short: String = name.chars().take(SHOWN_OF_NAME).collect();
    short.replace('~', "~0").replace('/', "~1")
}
