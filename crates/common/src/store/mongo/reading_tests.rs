//! How much the reads of what is unread look at.

use super::bound_tests::looked_at;
use super::recording::Recording;
use super::testing::Scratch;
use crate::domain::{Change, ChannelId, Entry, MessageState, StreamId, UserId};
use crate::store::contract::fixture::{channel, channel_id, run, text};
use crate::store::{LogStore as _, ReadingStore as _};
use secrecy::ExposeSecret as _;

const CHANNELS: usize = 40;
const MESSAGES: usize = 50;

fn mentioning(user: UserId) -> Change {
    Change::MessageCreated(Box::new(MessageState {
        content: "you".to_owned(),
        mentions: vec![user].into(),
        ..MessageState::default()
    }))
}

/// Messages by these authors in turn.
fn by(stream: StreamId, authors: &[UserId], changes: Vec<Change>) -> Vec<Entry> {
    let mut run = run(stream, Default::default(), changes);
    for (entry, author) in run.iter_mut().zip(authors.iter().cycle()) {
        entry.actor = Some(*author);
    }
    run
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ends_and_last_messages_cost_a_seek_each() {
    let Some(scratch) = Scratch::new() else {
        return;
    };
    let recording = Recording::default();
    let store = recording.open(scratch.url().expose_secret()).await;
    let database = scratch.database().await;
    let users: Vec<UserId> = (0..10).map(|_| UserId::generate()).collect();
    let streams: Vec<StreamId> = (0..CHANNELS).map(|_| channel()).collect();
    let channels: Vec<ChannelId> = streams.iter().map(|stream| channel_id(*stream)).collect();
    for stream in &streams {
        let changes = (0..MESSAGES).map(|_| text("a")).collect();
        let run = by(*stream, &users, changes);
        assert_eq!(store.append(run).await.unwrap().landed, MESSAGES);
    }
    recording.take();
    let ends = store.ends(&channels).await.unwrap();
    assert!(ends.iter().all(|end| end.ord == MESSAGES as u64));
    let sent = store.last_sent_by(users[3], &channels).await.unwrap();
    assert_eq!(sent.len(), CHANNELS);
    assert!(sent.iter().all(|(_, place)| place.seq == 44));
    let sent = store.last_sent_in(channels[0], &users).await.unwrap();
    assert_eq!(sent.len(), users.len());
    let commands = recording.take();
    for (command, seeks) in commands.iter().zip([CHANNELS, CHANNELS, users.len()]) {
        let (keys, documents) = looked_at(&database, command).await;
        assert!(keys <= 3 * seeks, "{keys} keys: {command}");
        assert!(documents <= seeks, "{documents} documents: {command}");
    }
    assert_eq!(commands.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_mentions_so_many_are_looked_at() {
    const MOST: usize = 5;
    let Some(scratch) = Scratch::new() else {
        return;
    };
    let recording = Recording::default();
    let store = recording.open(scratch.url().expose_secret()).await;
    let database = scratch.database().await;
    let user = UserId::generate();
    let crowded = channel();
    let changes = (0..1000).map(|_| mentioning(user)).collect();
    store.append(by(crowded, &[user], changes)).await.unwrap();
    let few = channel();
    let changes = (0..3).map(|_| mentioning(user)).collect();
    store.append(by(few, &[user], changes)).await.unwrap();
    let mut behind: Vec<_> = (0..30).map(|_| (ChannelId::generate(), 0)).collect();
    behind[7] = (channel_id(crowded), 0);
    behind[20] = (channel_id(few), 1);
    recording.take();
    let counts = store.mentions(user, &behind, MOST).await.unwrap();
    let mut expected = [0; 30];
    (expected[7], expected[20]) = (MOST, 2);
    assert_eq!(counts, expected);
    let commands = recording.take();
    // All, then by halves down to the crowded one.
    assert!((2..=12).contains(&commands.len()), "{}", commands.len());
    for command in commands {
        let (keys, _) = looked_at(&database, &command).await;
        assert!(keys <= MOST * 30 + 2 * 30, "{keys} keys: {command}");
    }
}
