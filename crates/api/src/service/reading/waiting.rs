//! The positions to which requests of this process wait to move marks, so that one entry can
//! stand for all that wait for the same mark.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidings_common::domain::{ChannelId, Seq, UserId};

/// Whose mark, and where.
type Of = (UserId, ChannelId);

/// Requests that may wait for one mark, and for all together; one more is refused.
const FOR_ONE: usize = 32;
const FOR_ALL: usize = 10_000;

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Waiting(Mutex<Wishes>);

#[derive(Default)]
struct Wishes {
    of: HashMap<Of, Vec<Seq>>,
    all: usize,
}

/// Too many wait already.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// A position that is waited for until this is dropped.
pub(super) struct Wish {
    waiting: Arc<Waiting>,
    of: Of,
    seq: Seq,
}

impl Waiting {
    pub(super) fn enter(self: &Arc<Self>, of: Of, seq: Seq) -> Result<Wish, Full> {
        let mut wishes = self.lock();
        let for_one = wishes.of.get(&of).map_or(0, Vec::len);
        if for_one >= FOR_ONE || wishes.all >= FOR_ALL {
            return Err(Full);
        }
        wishes.of.entry(of).or_default().push(seq);
        wishes.all += 1;
        let waiting = self.clone();
        Ok(Wish { waiting, of, seq })
    }

    /// The furthest position that somebody waits for.
    pub(super) fn highest(&self, of: Of) -> Option<Seq> {
        self.lock().of.get(&of)?.iter().copied().max()
    }

    fn lock(&self) -> MutexGuard<'_, Wishes> {
        // A panic elsewhere leaves a map that is still a map.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Wish {
    fn drop(&mut self) {
        let mut wishes = self.waiting.lock();
        let Some(seqs) = wishes.of.get_mut(&self.of) else {
            return;
        };
        if let Some(index) = seqs.iter().position(|seq| *seq == self.seq) {
            seqs.swap_remove(index);
        }
        if seqs.is_empty() {
            wishes.of.remove(&self.of);
        }
        wishes.all -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn somebody() -> Of {
        (UserId::generate(), ChannelId::generate())
    }

    #[test]
    fn the_highest_wish_for_a_mark_is_known_while_it_lasts() {
        let waiting = Arc::new(Waiting::default());
        let (one, other) = (somebody(), somebody());
        let low = waiting.enter(one, 3).unwrap();
        let high = waiting.enter(one, 7).unwrap();
        let _elsewhere = waiting.enter(other, 9).unwrap();
        assert_eq!(waiting.highest(one), Some(7));
        drop(high);
        assert_eq!(waiting.highest(one), Some(3));
        drop(low);
        assert_eq!(waiting.highest(one), None);
        assert_eq!(waiting.highest(other), Some(9));
    }

    #[test]
    fn so_many_may_wait_for_one_mark_and_so_many_in_all() {
        let waiting = Arc::new(Waiting::default());
        let one = somebody();
        let mut wishes: Vec<Wish> = (0..FOR_ONE as u64)
            .map(|seq| waiting.enter(one, seq).unwrap())
            .collect();
        assert_eq!(waiting.enter(one, 99).err(), Some(Full));
        wishes.extend((FOR_ONE..FOR_ALL).map(|_| waiting.enter(somebody(), 1).unwrap()));
        assert_eq!(waiting.enter(somebody(), 1).err(), Some(Full));
        wishes.pop();
        wishes.remove(0);
        drop(waiting.enter(one, 99).unwrap());
        drop(waiting.enter(somebody(), 1).unwrap());
    }
}
