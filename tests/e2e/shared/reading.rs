//! Marks of what is read reach all of a user's devices, and what is unread follows from positions.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tidings_tests::check;
use tidings_tests::client::{Client, items, number, text};
use tidings_tests::device::Device;
use tidings_tests::socket::Socket;
use tidings_tests::started;

use super::System;

async fn mark(client: &Client, channel: &str, seq: u64) -> Result<Value> {
    let path = format!("/v1/channels/{channel}/read");
    client.put(&path, &json!({"seq": seq})).await?.ok()
}

#[tokio::test]
async fn a_mark_on_one_device_reaches_the_others_of_its_user_alone() -> Result<()> {
    let server = started!(System::start().await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let bob_again = server.api.login("bob").await?;
    let channel = ada.group("Engine room", &[&bob]).await?.channel;
    let (mut adas, _) = Socket::connect(&ada).await?;
    let devices = [Device::start(&bob).await?, Device::start(&bob_again).await?];
    let mut away = Device::start(&bob_again).await?;
    away.go_away().await?;
    for content in ["one", "two", "three"] {
        ada.send(&channel, content).await?;
    }
    let marked = mark(&bob, &channel, 2).await?;
    let expected = json!({"channel": channel, "head": 3, "read": 2, "unread": 1, "mentions": 0});
    ensure!(marked == expected, "{marked}");
    let read_through = |seq: u64| {
        let channel = channel.clone();
        move |record: &tidings_tests::device::Record| {
            record.replica.view.read_marks.get(&channel) == Some(&seq)
        }
    };
    for device in &devices {
        device.until("read through 2", read_through(2)).await?;
    }
    // A message of one's own says as much on every device, without a mark.
    bob_again.send(&channel, "four").await?;
    away.come_back();
    for device in devices.iter().chain([&away]) {
        device.until("read through 4", read_through(4)).await?;
        let replica = device.catches_up().await?;
        check::dense(&replica)?;
        check::same_as_fresh(&replica, &bob).await?;
    }
    let stream = format!("u:{}", bob.user);
    let moved = devices[1].look(|record| {
        let moved = record.replica.applied(&stream);
        let moved = moved.filter(|delta| delta.kind == "read.moved");
        moved.map(|delta| delta.data.clone()).collect::<Vec<_>>()
    });
    ensure!(
        moved == [json!({"channel": channel, "seq": 2})],
        "{moved:?}"
    );
    let frames = adas.flush().await?;
    let told = frames.iter().any(|frame| frame["kind"] == "read.moved");
    ensure!(!told, "others are told: {frames:?}");
    Ok(())
}

#[tokio::test]
async fn marks_set_at_once_end_at_the_highest_and_none_is_lost() -> Result<()> {
    let server = started!(System::start().await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let bob_again = server.api.login("bob").await?;
    let channel = ada.group("Engine room", &[&bob]).await?.channel;
    for number in 0..30 {
        ada.send(&channel, &number.to_string()).await?;
    }
    let device = Device::start(&bob).await?;
    for round in [[1, 7, 4, 9], [20, 3, 15, 30]] {
        let clients = [&bob, &bob_again, &bob_again, &bob];
        let marking = clients.iter().zip(round).map(|(client, seq)| {
            let channel = channel.clone();
            async move {
                let marked = mark(client, &channel, seq).await?;
                ensure!(number(&marked, "read")? >= seq, "{seq}: {marked}");
                // It is there for everybody by then.
                let path = format!("/v1/channels/{channel}");
                let now = client.get(&path).await?.ok()?;
                ensure!(number(&now, "read")? >= seq, "{seq}: {now}");
                Ok(())
            }
        });
        try_join_all(marking).await?;
    }
    let replica = device.catches_up().await?;
    check::same_as_fresh(&replica, &bob).await?;
    ensure!(replica.view.read_marks[&channel] == 30);
    let stream = format!("u:{}", bob.user);
    let moved: Vec<u64> = replica
        .applied(&stream)
        .filter(|delta| delta.kind == "read.moved")
        .map(|delta| number(&delta.data, "seq"))
        .collect::<Result<_>>()?;
    ensure!(moved.is_sorted_by(|a, b| a < b), "{moved:?}");
    ensure!(moved.len() < 8, "an entry for each request: {moved:?}");
    Ok(())
}

#[tokio::test]
async fn what_is_unread_is_what_the_positions_say() -> Result<()> {
    const ROUNDS: usize = 3;
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let server = started!(System::start().await);
    let users = server.users("user", 3).await?;
    let mut model = Model::new(seed, &users).await?;
    for round in 0..ROUNDS {
        for _ in 0..40 {
            model.write().await?;
        }
        model.mark().await?;
        for user in &users {
            let compared = model.compare(user).await;
            compared.with_context(|| format!("seed {seed}, round {round}, {}", user.username))?;
        }
    }
    Ok(())
}

/// Channels that all users write in, and what each of them has read there.
struct Model<'a> {
    random: Rng,
    users: &'a [Client],
    channels: BTreeMap<String, Channel>,
}

#[derive(Default)]
struct Channel {
    /// Position of each message, and its author.
    messages: BTreeMap<u64, String>,
    /// Those that are not deleted.
    standing: Vec<u64>,
    marks: BTreeMap<String, u64>,
}

impl Channel {
    fn read_by(&self, user: &str) -> u64 {
        let mut own = self.messages.iter().rev();
        let own = own.find(|(_, author)| *author == user).map(|(seq, _)| *seq);
        let mark = self.marks.get(user).copied();
        mark.max(own).unwrap_or_default()
    }
}

impl<'a> Model<'a> {
    async fn new(seed: u64, users: &'a [Client]) -> Result<Self> {
        let everybody: Vec<&Client> = users.iter().skip(1).collect();
        let mut channels = BTreeMap::new();
        for name in ["one", "two", "three"] {
            let group = users[0].group(name, &everybody).await?;
            channels.insert(group.channel, Channel::default());
        }
        Ok(Self {
            random: Rng::with_seed(seed),
            users,
            channels,
        })
    }

    /// Mostly a message, sometimes a deletion.
    async fn write(&mut self) -> Result<()> {
        let author = &self.users[self.random.usize(..self.users.len())];
        let channels = self.channels.iter_mut();
        let (id, channel) = self.random.choice(channels).context("a channel")?;
        if !channel.standing.is_empty() && self.random.u8(..5) == 0 {
            let index = self.random.usize(..channel.standing.len());
            let seq = channel.standing.swap_remove(index);
            // The first is the owner, who may.
            let path = format!("/v1/channels/{id}/messages/{seq}");
            self.users[0].delete(&path).await?.ok()?;
            return Ok(());
        }
        let sent = author.send(id, "hello").await?;
        let seq = number(&sent, "seq")?;
        channel.messages.insert(seq, author.user.clone());
        channel.standing.push(seq);
        Ok(())
    }

    /// Everybody marks something in every channel, at the same time.
    async fn mark(&mut self) -> Result<()> {
        let mut wishes = Vec::new();
        for (id, channel) in &self.channels {
            let Some(last) = channel.messages.keys().next_back() else {
                continue;
            };
            for user in self.users {
                wishes.push((user, id.clone(), self.random.u64(..=*last)));
            }
        }
        let marking = wishes.iter().map(|(user, id, seq)| mark(user, id, *seq));
        try_join_all(marking).await?;
        for (user, id, seq) in wishes {
            let channel = self.channels.entry(id).or_default();
            let mark = channel.marks.entry(user.user.clone()).or_default();
            *mark = seq.max(*mark);
        }
        Ok(())
    }

    async fn compare(&self, user: &Client) -> Result<()> {
        let page = user.get("/v1/groups").await?.ok()?;
        let mut seen = 0;
        for group in items(&page, "items")? {
            for shown in items(group, "channels")? {
                let channel = &self.channels[text(shown, "id")?];
                let read = channel.read_by(&user.user);
                let unread = channel.messages.range(read + 1..).count() as u64;
                let found = (number(shown, "read")?, number(shown, "unread")?);
                ensure!(found == (read, unread), "({read}, {unread}): {shown}");
                seen += 1;
            }
        }
        ensure!(seen == self.channels.len(), "{seen} channels");
        Ok(())
    }
}
