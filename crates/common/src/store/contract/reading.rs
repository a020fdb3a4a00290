//! Marks, and the positions that unread messages are counted from.

use std::sync::Arc;

use super::fixture::{after, apply, at, channel, channel_id, commit, fence, fill, text};
use crate::domain::{
    Change, ChannelId, Entry, GroupId, Mentions, MessageState, Place, ReadMark, StreamId, UserId,
};
use crate::store::Store;

fn place(seq: u64, ord: u64) -> Place {
    Place { seq, ord }
}

fn mentioning(users: &[UserId]) -> Change {
    Change::MessageCreated(Box::new(MessageState {
        content: "you".to_owned(),
        mentions: users.to_vec().into(),
        ..MessageState::default()
    }))
}

async fn moved(store: &dyn Store, user: UserId, channel: ChannelId, to: Place) -> Entry {
    let Place { seq, ord } = to;
    let change = Change::ReadMoved { channel, seq, ord };
    commit(store, StreamId::User(user), user, change).await
}

/// Of one user in one channel: position and when.
async fn mark(store: &dyn Store, user: UserId, channel: ChannelId) -> Option<ReadMark> {
    let marks = store.read_marks(&[user], &[channel]).await.unwrap();
    assert!(marks.len() <= 1, "{marks:?}");
    marks.first().map(|(found_user, found_channel, mark)| {
        assert_eq!((*found_user, *found_channel), (user, channel));
        *mark
    })
}

pub(in crate::store) async fn a_mark_rises_and_never_falls(store: Arc<dyn Store>) {
    let (user, channel) = (UserId::generate(), ChannelId::generate());
    assert_eq!(mark(&*store, user, channel).await, None);
    let first = moved(&*store, user, channel, place(4, 2)).await;
    let expected = ReadMark {
        place: place(4, 2),
        at: first.at,
    };
    assert_eq!(mark(&*store, user, channel).await, Some(expected));
    let second = moved(&*store, user, channel, place(9, 5)).await;
    let expected = ReadMark {
        place: place(9, 5),
        at: second.at,
    };
    // What comes late or again, and what is lower, changes nothing.
    moved(&*store, user, channel, place(3, 1)).await;
    for late in [&first, &second, &first] {
        assert_eq!(mark(&*store, user, channel).await, Some(expected));
        apply(&*store, late).await;
    }
    assert_eq!(mark(&*store, user, channel).await, Some(expected));
}

pub(in crate::store) async fn marks_are_found_by_users_and_channels(store: Arc<dyn Store>) {
    let users: Vec<UserId> = (0..3).map(|_| UserId::generate()).collect();
    let channels: Vec<ChannelId> = (0..3).map(|_| ChannelId::generate()).collect();
    let mut all = Vec::new();
    for (n, (user, channel)) in [(0, 0), (0, 1), (1, 1), (2, 2)].into_iter().enumerate() {
        let to = place(n as u64 + 1, 1);
        moved(&*store, users[user], channels[channel], to).await;
        all.push((users[user], channels[channel], to));
    }
    all.sort_unstable();
    let found = async |users: &[UserId], channels: &[ChannelId]| {
        let marks = store.read_marks(users, channels).await.unwrap();
        let mut marks: Vec<_> = marks
            .into_iter()
            .map(|(user, channel, mark)| (user, channel, mark.place))
            .collect();
        marks.sort_unstable();
        marks
    };
    assert_eq!(found(&users, &channels).await, all);
    let of = |wanted: &dyn Fn(&(UserId, ChannelId, Place)) -> bool| -> Vec<_> {
        all.iter().copied().filter(|one| wanted(one)).collect()
    };
    let first = found(&users[..1], &channels).await;
    assert_eq!(first, of(&|one| one.0 == users[0]));
    let second = found(&users, &channels[1..2]).await;
    assert_eq!(second, of(&|one| one.1 == channels[1]));
    assert_eq!(found(&[], &channels).await, []);
    assert_eq!(found(&users, &[]).await, []);
    assert_eq!(found(&[UserId::generate()], &channels).await, []);
}

/// Two processes apply what each of them knows, at the same time.
pub(in crate::store) async fn of_marks_at_once_the_highest_stands(store: Arc<dyn Store>) {
    let (user, channel) = (UserId::generate(), ChannelId::generate());
    let stream = StreamId::User(user);
    let changes = (1..=20).map(|seq| Change::ReadMoved {
        channel,
        seq,
        ord: seq,
    });
    let run = fill(&*store, stream, changes).await;
    let applying = run.iter().rev().chain(&run).map(|entry| {
        let (store, entry) = (Arc::clone(&store), entry.clone());
        tokio::spawn(async move { apply(&*store, &entry).await })
    });
    for applied in futures_util::future::join_all(applying).await {
        applied.unwrap();
    }
    let mark = mark(&*store, user, channel).await.unwrap();
    assert_eq!((mark.place, mark.at), (place(20, 20), run[19].at));
}

pub(in crate::store) async fn where_a_member_begins_is_set_once_for_each_coming(
    store: Arc<dyn Store>,
) {
    let (user, group) = (UserId::generate(), GroupId::generate());
    let channels: Vec<ChannelId> = (0..2).map(|_| ChannelId::generate()).collect();
    let begun = async |groups: &[GroupId]| {
        let mut begun = store.begun_reading(user, groups).await.unwrap();
        begun.sort_unstable();
        begun
    };
    let begin = async |joined, seq: u64| {
        let places: Vec<_> = channels.iter().map(|id| (*id, place(seq, 3))).collect();
        store
            .begin_reading(user, group, joined, &places)
            .await
            .unwrap();
        places
    };
    assert_eq!(begun(&[group]).await, []);
    let mut expected = begin(7, 10).await;
    expected.sort_unstable();
    // Somebody else completes the same entry.
    begin(7, 12).await;
    assert_eq!(begun(&[group]).await, expected);
    // Removed, and added again; then comes what was late.
    let mut expected = begin(9, 20).await;
    expected.sort_unstable();
    begin(7, 30).await;
    assert_eq!(begun(&[GroupId::generate(), group]).await, expected);
    let elsewhere = GroupId::generate();
    assert_eq!(begun(&[elsewhere]).await, []);
    store.begin_reading(user, elsewhere, 2, &[]).await.unwrap();
    assert_eq!(begun(&[elsewhere, group]).await, expected);
    let other = UserId::generate();
    assert_eq!(store.begun_reading(other, &[group]).await.unwrap(), []);
}

pub(in crate::store) async fn ends_come_with_the_number_of_messages(store: Arc<dyn Store>) {
    let (long, fenced, empty) = (channel(), channel(), channel());
    fill(&*store, long, [text("a"), fence(), text("b"), fence()]).await;
    fill(&*store, fenced, [fence()]).await;
    let channels = [fenced, empty, long, fenced].map(channel_id);
    let ends = store.ends(&channels).await.unwrap();
    assert_eq!(ends, [place(1, 0), place(0, 0), place(4, 2), place(1, 0)]);
    assert_eq!(store.ends(&[]).await.unwrap(), []);
}

pub(in crate::store) async fn a_place_counts_the_messages_up_to_it(store: Arc<dyn Store>) {
    let stream = channel();
    let changes = [text("a"), fence(), text("b"), fence(), fence(), text("c")];
    let run = fill(&*store, stream, changes).await;
    let check = async |through, expected| {
        let found = store.place_at(channel_id(stream), through).await.unwrap();
        assert_eq!(found, expected, "{through}");
    };
    check(0, place(0, 0)).await;
    check(1, place(1, 1)).await;
    check(2, place(2, 1)).await;
    check(5, place(5, 2)).await;
    check(6, place(6, 3)).await;
    check(u64::MAX, place(6, 3)).await;
    let settled: Vec<_> = run.iter().map(|entry| (stream, entry.seq)).collect();
    store.settle(&settled).await.unwrap();
    store.trim(stream, 5).await.unwrap();
    // Only messages remain under the floor, which say the same.
    check(2, place(1, 1)).await;
    check(5, place(3, 2)).await;
}

pub(in crate::store) async fn the_last_messages_sent_are_found(store: Arc<dyn Store>) {
    let streams = [channel(), channel(), channel()];
    let channels = streams.map(channel_id);
    let (one, other) = (UserId::generate(), UserId::generate());
    let say = async |stream, user, change| commit(&*store, stream, user, change).await;
    say(streams[0], one, text("a")).await;
    say(streams[0], one, fence()).await;
    say(streams[0], one, text("b")).await;
    say(streams[0], other, text("c")).await;
    // Neither an own deletion nor a fence is a message.
    say(streams[0], one, Change::MessageDeleted { message: 3 }).await;
    say(streams[1], other, text("d")).await;
    say(streams[1], one, fence()).await;
    let by = async |user| {
        let mut sent = store.last_sent_by(user, &channels).await.unwrap();
        sent.sort_unstable();
        sent
    };
    assert_eq!(by(one).await, [(channels[0], place(3, 2))]);
    let mut expected = [(channels[0], place(4, 3)), (channels[1], place(1, 1))];
    expected.sort_unstable();
    assert_eq!(by(other).await, expected);
    assert_eq!(by(UserId::generate()).await, []);
    assert_eq!(store.last_sent_by(one, &[]).await.unwrap(), []);

    let users = [one, other, UserId::generate()];
    let mut sent = store.last_sent_in(channels[0], &users).await.unwrap();
    sent.sort_unstable();
    let mut expected = [(one, place(3, 2)), (other, place(4, 3))];
    expected.sort_unstable();
    assert_eq!(sent, expected);
    let sent = store.last_sent_in(channels[1], &users[..1]).await.unwrap();
    assert_eq!(sent, []);
    assert_eq!(store.last_sent_in(channels[2], &users).await.unwrap(), []);
    assert_eq!(store.last_sent_in(channels[0], &[]).await.unwrap(), []);
}

pub(in crate::store) async fn mentions_are_counted_behind_a_position(store: Arc<dyn Store>) {
    let (user, other) = (UserId::generate(), UserId::generate());
    let stream = channel();
    let changes = [
        mentioning(&[user]),
        text("nobody"),
        mentioning(&[other, user]),
        mentioning(&[other]),
        mentioning(&[user, user]),
        text("this has \"mentions\" in its text"),
    ];
    fill(&*store, stream, changes).await;
    let count = async |user, seq| {
        let behind = [(channel_id(stream), seq)];
        store.mentions(user, &behind, 100).await.unwrap()[0]
    };
    let counts = async |user| {
        let mut counts = Vec::new();
        for seq in [0, 1, 2, 3, 4, 5, u64::MAX] {
            counts.push(count(user, seq).await);
        }
        counts
    };
    assert_eq!(counts(user).await, [3, 2, 2, 1, 1, 0, 0]);
    assert_eq!(counts(other).await, [2, 2, 2, 1, 0, 0, 0]);
    assert_eq!(counts(UserId::generate()).await, [0; 7]);
    // What is deleted mentions nobody any more, what is edited whom it mentions now.
    commit(
        &*store,
        stream,
        other,
        Change::MessageDeleted { message: 3 },
    )
    .await;
    let edit = |message, mentions| Change::MessageEdited {
        message,
        content: Some("new".to_owned()),
        mentions,
        edited_at: at(9),
    };
    commit(&*store, stream, other, edit(5, vec![other].into())).await;
    assert_eq!(counts(user).await, [1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(counts(other).await, [2, 2, 2, 2, 1, 0, 0]);
    let everyone = Mentions {
        users: vec![user],
        everyone: true,
    };
    commit(&*store, stream, other, edit(2, everyone)).await;
    assert_eq!(counts(user).await, [2, 1, 0, 0, 0, 0, 0]);
    assert_eq!(counts(other).await, [3, 3, 2, 2, 1, 0, 0]);
    assert_eq!(counts(UserId::generate()).await, [1, 1, 0, 0, 0, 0, 0]);
}

/// Many of one channel do not keep those of another from being counted.
pub(in crate::store) async fn mentions_are_counted_so_far_for_each_channel(store: Arc<dyn Store>) {
    let user = UserId::generate();
    let counts = [0, 40, 1, 0, 3, 2, 0, 7, 4];
    let mut behind = Vec::new();
    for count in counts {
        let stream = channel();
        let older = std::iter::once(mentioning(&[user]));
        let newer = (0..count).map(|_| mentioning(&[user]));
        fill(&*store, stream, older.chain(newer)).await;
        behind.push((channel_id(stream), 1));
    }
    for most in [0, 1, 3, 5, 39, 40, 41, 100] {
        let found = store.mentions(user, &behind, most).await.unwrap();
        assert_eq!(found, counts.map(|count| count.min(most)), "{most}");
    }
    assert_eq!(store.mentions(user, &[], 9).await.unwrap(), [0; 0]);
    // More channels than one query takes.
    let many: Vec<_> = (0..250)
        .map(|n| behind[n % behind.len()])
        .enumerate()
        .map(|(n, one)| {
            if n < 9 {
                one
            } else {
                (ChannelId::generate(), 0)
            }
        })
        .collect();
    let found = store.mentions(user, &many, 100).await.unwrap();
    assert_eq!((found.len(), &found[..9]), (250, &counts[..]));
    assert!(found[9..].iter().all(|count| *count == 0));
}

/// An entry that was validated but did not land leaves no trace.
pub(in crate::store) async fn what_is_refused_is_not_counted(store: Arc<dyn Store>) {
    let user = UserId::generate();
    let stream = channel();
    fill(&*store, stream, [text("a")]).await;
    let refused = Entry {
        actor: Some(user),
        at: at(1),
        ..after(stream, Default::default(), mentioning(&[user]))
    };
    assert_eq!(store.append(vec![refused]).await.unwrap().landed, 0);
    let behind = [(channel_id(stream), 0)];
    assert_eq!(store.mentions(user, &behind, 9).await.unwrap(), [0]);
    let sent = store.last_sent_by(user, &[channel_id(stream)]).await;
    assert_eq!(sent.unwrap(), []);
}
