use std::collections::BTreeMap;

use crate::domain::{ChannelId, Cursor, GroupId, Seq, StreamId, UserId};

use super::*;

fn channel(number: u8) -> StreamId {
    StreamId::Channel(ChannelId::from_bytes([number; 16]))
}

fn group(number: u8) -> StreamId {
    StreamId::Group(GroupId::from_bytes([number; 16]))
}

fn user() -> StreamId {
    StreamId::User(UserId::from_bytes([1; 16]))
}

type Page = Filled<(StreamId, Seq)>;

/// Fills a page from streams without holes, every delta of `bytes`.
fn page(heads: &BTreeMap<StreamId, Seq>, cursor: &Cursor, limit: usize, bytes: usize) -> Page {
    let gap = Gap::between(cursor, heads, false);
    let mut pager = Pager::new(gap.lanes, limit);
    loop {
        let reads = pager.upcoming();
        if reads.is_empty() {
            return pager.finish();
        }
        for read in reads {
            let items = (read.after + 1..=read.through).map(|seq| Item {
                first: seq,
                seq,
                delta: Some((read.stream, seq)),
                bytes,
            });
            pager.accept(read, items.collect());
        }
    }
}

#[test]
fn a_position_that_cannot_be_continued_is_reset_with_the_reason() {
    let heads = BTreeMap::from([
        (user(), 0),
        (group(1), 4),
        (channel(1), 20_000),
        (channel(2), 7),
        (channel(3), 7),
    ]);
    let cursor = Cursor::from([
        (group(1), 4),
        (group(2), 4),
        (channel(1), 9_999),
        (channel(2), 8),
        (StreamId::Sessions, 1),
    ]);
    let gap = Gap::between(&cursor, &heads, false);
    let expected = BTreeMap::from([
        (group(2), (0, ResetReason::Gone)),
        (channel(1), (20_000, ResetReason::Behind)),
        (channel(2), (7, ResetReason::Ahead)),
        (StreamId::Sessions, (0, ResetReason::Gone)),
    ]);
    assert_eq!(gap.resets, expected);
    assert!(gap.lanes.is_empty());
    let expected = [
        (user(), 0),
        (channel(1), 20_000),
        (channel(2), 7),
        (channel(3), 7),
    ];
    assert_eq!(gap.heads, BTreeMap::from(expected));

    let at_the_limit = Cursor::from([(channel(1), 10_000)]);
    assert_eq!(Gap::between(&at_the_limit, &heads, false).lanes.len(), 1);
}

#[test]
fn after_a_restore_every_position_is_reset() {
    let heads = BTreeMap::from([(group(1), 4), (channel(1), 9)]);
    let cursor = Cursor::from([(group(1), 4), (channel(1), 2), (channel(2), 1)]);
    let reasons: Vec<_> = Gap::between(&cursor, &heads, true)
        .resets
        .into_values()
        .collect();
    let restored = |head| (head, ResetReason::Restored);
    assert_eq!(reasons, [restored(4), restored(9), (0, ResetReason::Gone)]);
}

#[test]
fn own_and_group_streams_come_first_and_channels_in_turn() {
    let heads = BTreeMap::from([
        (user(), 150),
        (group(1), 120),
        (channel(1), 250),
        (channel(2), 50),
    ]);
    let cursor: Cursor = heads.keys().map(|stream| (*stream, 0)).collect();
    let page = page(&heads, &cursor, 500, 1);
    let mut turns: Vec<(StreamId, usize)> = Vec::new();
    for (stream, _) in &page.deltas {
        match turns.last_mut() {
            Some((last, count)) if last == stream => *count += 1,
            _ => turns.push((*stream, 1)),
        }
    }
    let expected = [
        (user(), 150),
        (group(1), 120),
        (channel(1), 100),
        (channel(2), 50),
        (channel(1), 80),
    ];
    assert_eq!(turns, expected);
    assert!(page.more);
    assert_eq!(page.advanced[&channel(1)], 180);
}

#[test]
fn a_page_is_bounded_in_bytes_but_never_empty() {
    let heads = BTreeMap::from([(channel(1), 3)]);
    let cursor = Cursor::from([(channel(1), 0)]);
    let check = |bytes, deltas, more| {
        let page = page(&heads, &cursor, 500, bytes);
        assert_eq!((page.deltas.len(), page.more), (deltas, more), "{bytes}");
    };
    check(PAGE_BYTES / 3, 3, false);
    check(PAGE_BYTES / 2, 2, true);
    check(PAGE_BYTES, 1, true);
    check(PAGE_BYTES + 1, 1, true);
}

#[test]
fn a_hole_expires_the_stream_and_takes_back_what_was_given_of_it() {
    let lane = |stream, head| Lane {
        stream,
        at: 0,
        head,
    };
    let mut pager = Pager::new(vec![lane(channel(1), 101), lane(channel(2), 1)], 500);
    let given = |seqs: std::ops::RangeInclusive<Seq>| {
        seqs.map(|seq| Item {
            first: seq,
            seq,
            delta: Some(seq),
            bytes: 10,
        })
        .collect()
    };
    let [first, second] = pager.upcoming()[..] else {
        panic!("two streams are read at once");
    };
    assert_eq!((first.after, first.through), (0, 100));
    pager.accept(first, given(1..=100));
    assert_eq!(second.stream, channel(2));
    pager.accept(second, given(1..=1));
    let rest = pager.upcoming();
    assert_eq!(rest.len(), 1);
    assert_eq!((rest[0].after, rest[0].through), (100, 101));
    pager.accept(rest[0], Vec::new());
    assert_eq!(pager.bytes, 10);
    let page = pager.finish();
    assert_eq!(page.deltas, [1]);
    assert!(!page.more);
    assert_eq!(page.expired, BTreeSet::from([channel(1)]));
    assert_eq!(page.advanced, Cursor::from([(channel(2), 1)]));
}

#[test]
fn paging_gives_everything_once_and_in_order_whatever_the_sizes() {
    // A fixed series of pseudo-random cases, so that a failure repeats.
    let mut random = 7_u64;
    let mut below = |bound: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 33) % bound
    };
    for _ in 0..200 {
        let mut heads = BTreeMap::from([(user(), below(50)), (group(1), below(50))]);
        for number in 0..6 {
            heads.insert(channel(number), below(400));
        }
        let start: Cursor = heads
            .iter()
            .map(|(stream, head)| (*stream, below(head + 1)))
            .collect();
        let limit = usize::try_from(below(499)).unwrap() + 1;
        let bytes = usize::try_from(below(50_000)).unwrap();
        let mut cursor = start.clone();
        loop {
            let page = page(&heads, &cursor, limit, bytes);
            assert!(page.deltas.len() <= limit);
            for (stream, seq) in &page.deltas {
                let at = cursor.get_mut(stream).unwrap();
                assert_eq!(*seq, *at + 1);
                *at = *seq;
            }
            for (stream, at) in page.advanced {
                assert_eq!(cursor[&stream], at);
            }
            if !page.more {
                break;
            }
            assert!(!page.deltas.is_empty(), "a page that gets nobody further");
        }
        assert_eq!(cursor, heads);
    }
}

#[test]
fn a_run_is_given_whole_or_not_at_all() {
    let lane = Lane {
        stream: channel(1),
        at: 3,
        head: 9,
    };
    let item = |first, seq, bytes| Item {
        first,
        seq,
        delta: Some(seq),
        bytes,
    };
    let fill = |items| {
        let mut pager = Pager::new(vec![lane], 500);
        let read = pager.upcoming()[0];
        pager.accept(read, items);
        pager.finish()
    };
    let page = fill(vec![item(4, 4, 10), item(5, 8, 10), item(9, 9, 10)]);
    assert_eq!((page.deltas, page.more), (vec![4, 8, 9], false));
    let page = fill(vec![item(4, 4, 10), item(5, 8, PAGE_BYTES), item(9, 9, 10)]);
    assert_eq!(page.advanced[&channel(1)], 4);
    assert_eq!((page.deltas, page.more), (vec![4], true));
    let hole = fill(vec![item(4, 4, 10), item(6, 8, 10), item(9, 9, 10)]);
    assert!(hole.expired.contains(&channel(1)) && hole.deltas.is_empty());
}
