//! What clients do: mostly they write messages, and beside that change what else there is.
//! Everything is chosen at random, from the seed of the run.

use std::time::Duration;

use super::actor::Actor;
use super::history::{Change, Outcome, Question};
use crate::client::in_secs;

/// At most so many channels in a group, and at least so many.
const CHANNELS: std::ops::Range<usize> = 3..6;

/// Few, so that several users react alike.
const EMOJI: [&str; 3] = ["👍", "❤️", "+1"];

/// Does one thing after the other until the run stops; `pace` is the mean time between two.
pub async fn lane(mut actor: Actor, owner: bool, pace: Duration) {
    let stop = actor.world.stop.clone();
    loop {
        let pause = pace.mul_f64(2.0 * actor.random.f64());
        if stop
            .run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_none()
        {
            return;
        }
        if owner {
            govern(&mut actor).await;
        } else {
            take_part(&mut actor).await;
        }
    }
}

/// What anybody does.
async fn take_part(actor: &mut Actor) {
    let user = actor.client.user.clone();
    let Some((group, channel)) = place(actor, false) else {
        return;
    };
    match actor.random.u8(..100) {
        0..6 => actor.type_in(channel).await,
        6..42 => send(actor, channel).await,
        42..52 => edit(actor, channel).await,
        52..57 => delete(actor, channel).await,
        57..68 => react(actor, channel).await,
        68..71 => pin(actor, channel).await,
        71..83 => read(actor, group, channel).await,
        83..87 => mark_read(actor, channel).await,
        87 => rename_group(actor, group).await,
        88..90 => edit_group(actor, group, false).await,
        90..92 => {
            let change = Change::Remove { group, user };
            actor.perform(change).await;
        }
        92..94 => {
            let display_name = actor.unique();
            actor.perform(Change::Profile { display_name }).await;
        }
        94..97 => put_member(actor, group).await,
        97 => remove_member(actor, group).await,
        98 => moderate(actor, group).await,
        _ => rename_channel(actor, group, channel).await,
    }
}

/// What the owner of the groups does, so that there is always somebody to do something.
async fn govern(actor: &mut Actor) {
    let Some((group, channel)) = place(actor, true) else {
        return;
    };
    match actor.random.u8(..100) {
        0..35 => put_member(actor, group).await,
        35..48 => remove_member(actor, group).await,
        48..52 => rename_group(actor, group).await,
        52..58 => edit_group(actor, group, true).await,
        58..66 => create_channel(actor, group).await,
        66..76 => rename_channel(actor, group, channel).await,
        76..80 => delete_channel(actor, group, channel).await,
        80..84 => read(actor, group, channel).await,
        84..91 => moderate(actor, group).await,
        91..96 => pin(actor, channel).await,
        _ => send(actor, channel).await,
    }
}

fn place(actor: &mut Actor, owner: bool) -> Option<(String, String)> {
    let known = actor.world.known();
    let group = known.pick_group(&mut actor.random, &actor.client.user, owner)?;
    let channel = known.pick_channel(&mut actor.random, &group)?;
    Some((group, channel))
}

async fn send(actor: &mut Actor, channel: String) {
    let reply = actor.random.u8(..100) < 25;
    let reply_to = message(actor, &channel, false).filter(|_| reply);
    let content = text(actor);
    actor
        .perform(Change::Send {
            channel,
            content,
            reply_to,
        })
        .await;
}

/// A content that nobody else uses; some mention somebody.
fn text(actor: &mut Actor) -> String {
    let content = actor.unique();
    let name = actor.client.username.clone();
    match actor.random.u8(..10) {
        0 => format!("{content}, @everyone"),
        1 => format!("{content}, says @{name}."),
        _ => content,
    }
}

async fn edit(actor: &mut Actor, channel: String) {
    let Some(message) = message(actor, &channel, true) else {
        return send(actor, channel).await;
    };
    let mut edit = || Change::Edit {
        channel: channel.clone(),
        message,
        content: text(actor),
    };
    let (first, second) = (edit(), edit());
    match actor.random.u8(..100) {
        0..60 => drop(actor.perform(first).await),
        60..85 => at_once(actor, first, second).await,
        _ => at_once(actor, first, Change::Delete { channel, message }).await,
    }
}

/// Two changes of the same user at the same time, as from two devices.
async fn at_once(actor: &mut Actor, first: Change, second: Change) {
    let mut other = actor.other();
    tokio::join!(actor.perform(first), other.perform(second));
}

async fn delete(actor: &mut Actor, channel: String) {
    let own = actor.random.u8(..100) < 80;
    let Some(message) = message(actor, &channel, own) else {
        return send(actor, channel).await;
    };
    actor.perform(Change::Delete { channel, message }).await;
}

async fn react(actor: &mut Actor, channel: String) {
    let Some(message) = message(actor, &channel, false) else {
        return send(actor, channel).await;
    };
    let emoji = actor.random.choice(EMOJI).unwrap_or("👍").to_owned();
    let reacts = actor.random.u8(..100) < 65;
    actor
        .perform(Change::React {
            channel,
            message,
            emoji,
            reacts,
        })
        .await;
}

async fn pin(actor: &mut Actor, channel: String) {
    let Some(message) = message(actor, &channel, false) else {
        return send(actor, channel).await;
    };
    let pinned = actor.random.u8(..100) < 60;
    actor
        .perform(Change::Pin {
            channel,
            message,
            pinned,
        })
        .await;
}

fn message(actor: &mut Actor, channel: &str, own: bool) -> Option<u64> {
    let known = actor.world.known();
    let author = own.then_some(&*actor.client.user);
    known.pick_message(&mut actor.random, channel, author)
}

async fn read(actor: &mut Actor, group: String, channel: String) {
    let some = message(actor, &channel, false).unwrap_or(1);
    let stream = if actor.random.u8(..4) == 0 {
        format!("g:{group}")
    } else {
        format!("c:{channel}")
    };
    let question = match actor.random.u8(..5) {
        0 => Question::Message { channel, seq: some },
        1 => Question::Newest { channel },
        2 => Question::Channel { channel },
        3 => Question::Group { group },
        _ => Question::Sync {
            stream,
            after: some.saturating_sub(actor.random.u64(..60)),
        },
    };
    actor.read(question).await;
}

/// Mostly forward; what is known of the channel may be behind the mark all the same.
async fn mark_read(actor: &mut Actor, channel: String) {
    if let Some(seq) = message(actor, &channel, false) {
        actor.perform(Change::MarkRead { channel, seq }).await;
    }
}

async fn rename_group(actor: &mut Actor, group: String) {
    let question = Question::Group {
        group: group.clone(),
    };
    let if_match = version(actor, question).await;
    let name = actor.unique();
    actor
        .perform(Change::RenameGroup {
            group,
            name,
            if_match,
            token: None,
        })
        .await;
}

/// Takes the edit lease, changes something under it, and mostly gives it back. Some use the
/// token that they had before.
async fn edit_group(actor: &mut Actor, group: String, owner: bool) {
    let session = actor.client.session.clone();
    let place = (group.clone(), session.clone());
    let before = actor.world.known().tokens.get(&place).copied();
    if let Some(token) = before
        && actor.random.u8(..3) == 0
    {
        return rename_under(actor, group, token).await;
    }
    let steal = owner && actor.random.bool();
    let take = Change::TakeLease {
        group: group.clone(),
        session: session.clone(),
        steal,
    };
    let Outcome::Ok { body, .. } = actor.perform(take).await else {
        return;
    };
    let token = body["token"].as_u64().unwrap_or_default();
    for _ in 0..actor.random.u8(..3) {
        let pause = Duration::from_millis(actor.random.u64(..1500));
        tokio::time::sleep(pause).await;
        rename_under(actor, group.clone(), token).await;
    }
    if actor.random.u8(..100) < 85 {
        actor
            .perform(Change::GiveBackLease { group, session })
            .await;
    }
}

async fn rename_under(actor: &mut Actor, group: String, token: u64) {
    let change = Change::RenameGroup {
        group,
        name: actor.unique(),
        if_match: None,
        token: Some(token),
    };
    actor.perform(change).await;
}

async fn rename_channel(actor: &mut Actor, group: String, channel: String) {
    let question = Question::Channel {
        channel: channel.clone(),
    };
    let if_match = version(actor, question).await;
    let name = actor.unique();
    actor
        .perform(Change::RenameChannel {
            group,
            channel,
            name,
            if_match,
        })
        .await;
}

/// In two cases of three a version that was read before, for `If-Match`.
async fn version(actor: &mut Actor, question: Question) -> Option<u64> {
    if actor.random.u8(..3) == 0 {
        return None;
    }
    actor.read(question).await?["version"].as_u64()
}

async fn put_member(actor: &mut Actor, group: String) {
    let Some(user) = somebody(actor, &group, false) else {
        return;
    };
    let role = if actor.random.u8(..3) == 0 {
        "admin"
    } else {
        "member"
    };
    let role = role.to_owned();
    let there = actor
        .world
        .known()
        .groups
        .get(&group)
        .is_some_and(|it| it.members.contains_key(&user));
    let change = if there && actor.random.bool() {
        Change::SetRole { group, user, role }
    } else {
        Change::PutMember { group, user, role }
    };
    actor.perform(change).await;
}

async fn remove_member(actor: &mut Actor, group: String) {
    if let Some(user) = somebody(actor, &group, true) {
        actor.perform(Change::Remove { group, user }).await;
    }
}

/// Bans and mutes, and takes them back.
async fn moderate(actor: &mut Actor, group: String) {
    let banned = {
        let known = actor.world.known();
        let banned = known.groups.get(&group).map(|it| it.banned.iter());
        let banned = banned.into_iter().flatten();
        actor.random.choice(banned.collect::<Vec<_>>()).cloned()
    };
    if let Some(user) = banned
        && actor.random.bool()
    {
        actor.perform(Change::Unban { group, user }).await;
        return;
    }
    let Some(user) = somebody(actor, &group, true) else {
        return;
    };
    let change = match actor.random.u8(..10) {
        0..3 => Change::Ban { group, user },
        3..8 => {
            let until = in_secs(actor.random.u64(2..15));
            Change::Mute { group, user, until }
        }
        _ => Change::Unmute { group, user },
    };
    actor.perform(change).await;
}

/// One of the users but the owners and oneself: a member, or mostly one who is not.
fn somebody(actor: &mut Actor, group: &str, member: bool) -> Option<String> {
    let known = actor.world.known();
    let members = &known.groups.get(group)?.members;
    let others: Vec<&String> = known
        .users
        .iter()
        .filter(|user| **user != actor.client.user)
        .collect();
    let fitting: Vec<&&String> = others
        .iter()
        .filter(|user| members.contains_key(**user) == member)
        .collect();
    let anybody = actor.random.u8(..100) < 30;
    let found = match actor.random.choice(fitting) {
        Some(user) if !anybody => Some(*user),
        _ => actor.random.choice(others),
    };
    found.cloned()
}

async fn create_channel(actor: &mut Actor, group: String) {
    if channels(actor, &group) >= CHANNELS.end {
        return;
    }
    let name = actor.unique();
    actor.perform(Change::CreateChannel { group, name }).await;
}

async fn delete_channel(actor: &mut Actor, group: String, channel: String) {
    let first = {
        let known = actor.world.known();
        let first = known.groups.get(&group).and_then(|it| it.channels.first());
        first == Some(&channel)
    };
    if first || channels(actor, &group) <= CHANNELS.start {
        return;
    }
    actor
        .perform(Change::DeleteChannel { group, channel })
        .await;
}

fn channels(actor: &Actor, group: &str) -> usize {
    let known = actor.world.known();
    known
        .groups
        .get(group)
        .map_or(0, |group| group.channels.len())
}
