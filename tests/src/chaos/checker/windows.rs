//! The positions that operations can have, and how operations and entries are paired within them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::chaos::history::{Moment, Operation};

/// An operation and the positions that it can have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) index: usize,
    pub(super) from: u64,
    pub(super) to: u64,
}

/// As many pairs as there can be: each entry, in order, to the operation that can wait least.
pub(super) fn assign(entries: &[u64], asked: &[Asked]) -> Vec<(usize, u64)> {
    let mut asked = asked.to_vec();
    asked.sort_by_key(|one| Reverse(one.from));
    let mut waiting = BinaryHeap::new();
    let mut pairs = Vec::new();
    for &seq in entries {
        while asked.last().is_some_and(|one| one.from <= seq)
            && let Some(one) = asked.pop()
        {
            waiting.push(Reverse((one.to, one.index)));
        }
        while let Some(Reverse((to, index))) = waiting.pop() {
            if to >= seq {
                pairs.push((index, seq));
                break;
            }
        }
    }
    pairs
}

/// Where operations of a stream can be, seen from those whose places are known.
pub(super) struct Windows {
    /// When one was answered, and the highest place of those answered by then.
    answered: Vec<(Moment, u64)>,
    /// When one was asked for, and the lowest place of those asked for since.
    invoked: Vec<(Moment, u64)>,
}

impl Windows {
    pub(super) fn of<'a>(known: impl Iterator<Item = (&'a Operation, u64)>) -> Self {
        let (mut answered, mut invoked): (Vec<_>, Vec<_>) = known
            .map(|(operation, seq)| ((operation.answered, seq), (operation.invoked, seq)))
            .unzip();
        answered.sort_unstable();
        invoked.sort_unstable();
        let mut highest = 0;
        for (_, seq) in &mut answered {
            highest = highest.max(*seq);
            *seq = highest;
        }
        let mut lowest = u64::MAX;
        for (_, seq) in invoked.iter_mut().rev() {
            lowest = lowest.min(*seq);
            *seq = lowest;
        }
        Self { answered, invoked }
    }

    /// The first and the last place.
    pub(super) fn of_operation(&self, operation: &Operation) -> (u64, u64) {
        let before = self
            .answered
            .partition_point(|(at, _)| *at < operation.invoked);
        let from = before.checked_sub(1).map_or(0, |at| self.answered[at].1);
        let after = self
            .invoked
            .partition_point(|(at, _)| *at <= operation.answered);
        let to = self.invoked.get(after).map_or(u64::MAX, |(_, seq)| seq - 1);
        (from + 1, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(entries: &[u64], windows: &[(u64, u64)]) -> Vec<(usize, u64)> {
        let asked = windows.iter().enumerate();
        let asked: Vec<Asked> = asked
            .map(|(index, &(from, to))| Asked { index, from, to })
            .collect();
        assign(entries, &asked)
    }

    #[test]
    fn as_many_as_possible_find_a_place_of_their_own() {
        // The first could take either; the second can only take 3.
        assert_eq!(pairs(&[3, 5], &[(1, 9), (1, 3)]), [(1, 3), (0, 5)]);
        assert_eq!(pairs(&[3, 5], &[(4, 9), (1, 9)]), [(1, 3), (0, 5)]);
        assert_eq!(pairs(&[3], &[(1, 9), (1, 9)]).len(), 1);
        assert_eq!(pairs(&[3, 5], &[(6, 9), (1, 2)]), []);
    }
}
