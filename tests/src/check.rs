//! What must hold of a device's history, whatever happened: each stream dense, in order, once.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use crate::client::{Client, number, text};
use crate::replica::{Replica, Step};
use crate::view::View;

/// Checks that every stream continued without a hole, a repetition or a step back from where
/// its state was taken up.
///
/// # Errors
/// Says which stream did not, and where.
pub fn dense(replica: &Replica) -> Result<()> {
    let mut positions: BTreeMap<&str, u64> = BTreeMap::new();
    for step in &replica.history {
        match step {
            Step::TakenUp { stream, head } => drop(positions.insert(stream, *head)),
            Step::Gone { stream } => drop(positions.remove(&**stream)),
            Step::Applied(delta) => {
                let position = positions.get(&*delta.stream).copied();
                ensure!(
                    // A run may begin with what is held.
                    position.is_some_and(|it| delta.first <= it + 1 && it < delta.seq),
                    "{}: {} to {} applied after {position:?}",
                    delta.stream,
                    delta.first,
                    delta.seq
                );
                positions.insert(&delta.stream, delta.seq);
            }
        }
    }
    Ok(())
}

/// Checks that the device holds, of all streams, what a new device would read now.
///
/// # Errors
/// Says what differs.
pub async fn same_as_fresh(replica: &Replica, client: &Client) -> Result<()> {
    same(replica, &View::fetch(client).await?)
}

/// Checks that the device holds what `fresh` does, which was read just now.
///
/// # Errors
/// Says what differs.
pub fn same(replica: &Replica, fresh: &View) -> Result<()> {
    for (id, group) in &fresh.groups {
        let held = replica.view.groups.get(id);
        ensure!(held == Some(group), "group {id}: {held:#?} not {group:#?}");
    }
    for (id, messages) in &fresh.channels {
        let held = replica.view.channels.get(id);
        ensure!(held.is_some(), "channel {id} is not held");
        for (seq, message) in messages {
            let held = held.and_then(|held| held.get(seq));
            ensure!(
                held == Some(message),
                "message {seq}: {held:#?} not {message:#?}"
            );
        }
    }
    let held = replica.view.clone().shown();
    let (marks, fresh_marks) = (&held.read_marks, &fresh.read_marks);
    ensure!(
        marks == fresh_marks,
        "read through {marks:?}, not {fresh_marks:?}"
    );
    ensure!(held == *fresh, "the device holds what is gone");
    Ok(())
}

/// Checks a channel's history as the server tells it: messages ascending, each id once. Returns
/// content by `seq`.
///
/// # Errors
/// Says what is wrong.
pub async fn history(client: &Client, channel: &str) -> Result<BTreeMap<u64, String>> {
    let mut contents = BTreeMap::new();
    let mut ids = std::collections::BTreeSet::new();
    for message in client.messages(channel).await? {
        let (seq, id) = (number(&message, "seq")?, text(&message, "id")?);
        ensure!(ids.insert(id.to_owned()), "{id} is there twice");
        contents.insert(seq, text(&message, "content")?.to_owned());
    }
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::Delta;

    fn history(seqs: &[u64]) -> Replica {
        let mut replica = Replica::new("u");
        replica.history.push(Step::TakenUp {
            stream: "c:1".to_owned(),
            head: 4,
        });
        for &seq in seqs {
            replica.history.push(Step::Applied(Delta {
                stream: "c:1".to_owned(),
                first: seq,
                seq,
                kind: "message.created".to_owned(),
                at: String::new(),
                actor: None,
                data: serde_json::Value::Null,
            }));
        }
        replica
    }

    #[test]
    fn holes_repetitions_and_steps_back_are_found() {
        assert!(dense(&history(&[5, 6, 7])).is_ok());
        for bad in [&[6][..], &[5, 7], &[5, 5], &[5, 6, 5], &[4]] {
            assert!(dense(&history(bad)).is_err(), "{bad:?}");
        }
    }
}
