//! The state a client shows: groups with members and channels, the messages of each channel, and
//! how far they are read. It is read over HTTP and changed by deltas; doing both must give the same.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::client::{Client, items, number, text};
use crate::failure::Refused;
use crate::marks::Reaction;
use crate::quotes::{quote, requote};
use crate::replica::Delta;

/// By id, so that two views can be compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    pub groups: BTreeMap<String, Group>,
    /// Those whose stream the client follows.
    pub channels: BTreeMap<String, Messages>,
    pub read_marks: ReadMarks,
}

/// Channel → through where the user has read it; those of which nothing is read are absent. A
/// mark only rises, whatever it is told by and in whatever order.
pub type ReadMarks = BTreeMap<String, u64>;

/// By `seq`.
pub type Messages = BTreeMap<u64, Message>;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    /// Null in direct conversations.
    pub name: Value,
    pub version: u64,
    /// User → role.
    pub members: BTreeMap<String, String>,
    /// Until when somebody may not write: user → `muted_until`.
    pub muted: BTreeMap<String, String>,
    /// Channel → name and version.
    pub channels: BTreeMap<String, (String, u64)>,
    /// Channel → `slow_mode_secs`, where it is not 0.
    pub slow_modes: BTreeMap<String, u64>,
    /// What admins see; None for others.
    pub moderation: Option<Moderation>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moderation {
    /// User → who banned them, and when.
    pub bans: BTreeMap<String, (String, String)>,
    /// Invite → what is said of it, without its code.
    pub invites: BTreeMap<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub id: String,
    pub author: String,
    pub content: String,
    pub reply_to: Value,
    pub quoted: Value,
    /// Users, and whether everyone.
    pub mentions: (Value, Value),
    pub created_at: String,
    pub edited_at: Value,
    pub deleted: bool,
    pub reactions: Vec<Reaction>,
    pub pinned: bool,
}

/// One stream's state, as read over HTTP.
#[derive(Debug, Clone)]
pub enum Part {
    Group(Group),
    /// Of a channel, and through where it is read.
    Messages(Messages, u64),
    /// Of the user's own stream.
    ReadMarks(ReadMarks),
}

impl View {
    /// Reads the state of everything the user has.
    ///
    /// # Errors
    /// The server refuses a read.
    pub async fn fetch(client: &Client) -> Result<Self> {
        let heads = client.heads().await?;
        let mut view = Self::default();
        for stream in heads.as_object().context("heads")?.keys() {
            if let Some(part) = Part::fetch(client, stream).await? {
                view.set(stream, part);
            }
        }
        Ok(view)
    }

    /// Replaces one stream's state.
    pub fn set(&mut self, stream: &str, part: Part) {
        match part {
            Part::Group(group) => drop(self.groups.insert(id_of(stream), group)),
            Part::Messages(messages, read) => {
                self.channels.insert(id_of(stream), messages);
                self.raise(&id_of(stream), read);
            }
            Part::ReadMarks(marks) => {
                for (channel, read) in marks {
                    self.raise(&channel, read);
                }
            }
        }
    }

    fn raise(&mut self, channel: &str, read: u64) {
        if read > 0 {
            let mark = self.read_marks.entry(channel.to_owned()).or_default();
            *mark = read.max(*mark);
        }
    }

    /// Who writes has read what stands before.
    pub fn note_own(&mut self, user: &str, delta: &Delta) {
        if delta.kind == "message.created" && delta.actor.as_deref() == Some(user) {
            self.raise(&id_of(&delta.stream), delta.seq);
        }
    }

    /// What of it can be seen: marks are kept, too, of channels that are not the user's any more.
    #[must_use]
    pub fn shown(mut self) -> Self {
        let channels = &self.channels;
        self.read_marks
            .retain(|channel, _| channels.contains_key(channel));
        self
    }

    /// Forgets one stream's state.
    pub fn forget(&mut self, stream: &str) {
        match stream.split_once(':') {
            Some(("g", id)) => drop(self.groups.remove(id)),
            Some(("c", id)) => {
                self.channels.remove(id);
                self.read_marks.remove(id);
            }
            _ => {}
        }
    }

    /// Applies a delta. Applying it again, or to newer state, does no harm once those after it
    /// have been applied.
    ///
    /// # Errors
    /// The delta lacks what its kind promises.
    pub fn apply(&mut self, delta: &Delta) -> Result<()> {
        let id = id_of(&delta.stream);
        match delta.stream.as_bytes().first() {
            Some(b'g') => match self.groups.get_mut(&id) {
                Some(group) => group.apply(delta),
                None => Ok(()),
            },
            Some(b'c') => apply_message(self.channels.entry(id).or_default(), delta),
            _ if delta.kind == "read.moved" => {
                let channel = text(&delta.data, "channel")?;
                self.raise(channel, number(&delta.data, "seq")?);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Group {
    /// See [`View::apply`].
    ///
    /// # Errors
    /// As there.
    pub fn apply(&mut self, delta: &Delta) -> Result<()> {
        let data = &delta.data;
        match &*delta.kind {
            "group.updated" => {
                if let Some(name) = data.get("name") {
                    self.name = name.clone();
                }
                self.version = number(data, "version")?;
            }
            "member.added" | "member.updated" => {
                let (user, role) = (text(data, "user")?, text(data, "role")?);
                self.members.insert(user.to_owned(), role.to_owned());
                if delta.kind == "member.added" {
                    self.mute(user, &data["muted_until"]);
                }
            }
            "owner.changed" => {
                let (user, previous) = (text(data, "user")?, text(data, "previous")?);
                self.members.insert(user.to_owned(), "owner".to_owned());
                self.members.insert(previous.to_owned(), "admin".to_owned());
                self.muted.remove(user);
            }
            "member.muted" => self.mute(text(data, "user")?, &data["muted_until"]),
            "member.removed" | "member.banned" => {
                self.members.remove(text(data, "user")?);
                self.muted.remove(text(data, "user")?);
            }
            "channel.created" | "channel.updated" => {
                let channel = text(data, "id")?.to_owned();
                let shown = (text(data, "name")?.to_owned(), delta.seq);
                match data["slow_mode_secs"].as_u64() {
                    Some(0) => drop(self.slow_modes.remove(&channel)),
                    Some(secs) => drop(self.slow_modes.insert(channel.clone(), secs)),
                    None => {}
                }
                self.channels.insert(channel, shown);
            }
            "channel.deleted" => {
                self.channels.remove(text(data, "id")?);
                self.slow_modes.remove(text(data, "id")?);
            }
            _ => {}
        }
        match &mut self.moderation {
            Some(moderation) => moderation.apply(delta),
            None => Ok(()),
        }
    }

    fn mute(&mut self, user: &str, until: &Value) {
        match until.as_str() {
            Some(until) => drop(self.muted.insert(user.to_owned(), until.to_owned())),
            None => drop(self.muted.remove(user)),
        }
    }
}

impl Moderation {
    fn apply(&mut self, delta: &Delta) -> Result<()> {
        let data = &delta.data;
        let actor = delta.actor.clone().unwrap_or_default();
        match &*delta.kind {
            "member.banned" => {
                let ban = (actor, delta.at.clone());
                self.bans.insert(text(data, "user")?.to_owned(), ban);
            }
            "member.unbanned" => drop(self.bans.remove(text(data, "user")?)),
            "invite.created" => {
                let invite = json!({
                    "created_by": delta.actor, "created_at": delta.at, "uses": 0,
                    "expires_at": data["expires_at"], "max_uses": data["max_uses"],
                });
                self.invites.insert(text(data, "id")?.to_owned(), invite);
            }
            "member.added" if data["invite"].is_object() => {
                let used = &data["invite"];
                if let Some(invite) = self.invites.get_mut(text(used, "id")?) {
                    invite["uses"] = used["uses"].clone();
                }
            }
            "invite.deleted" => drop(self.invites.remove(text(data, "id")?)),
            _ => {}
        }
        Ok(())
    }
}

fn apply_message(messages: &mut Messages, delta: &Delta) -> Result<()> {
    let data = &delta.data;
    match &*delta.kind {
        "message.created" => {
            let message = Message {
                id: text(data, "id")?.to_owned(),
                author: delta.actor.clone().unwrap_or_default(),
                // Null if the message was deleted before the delta was encoded.
                content: data["content"].as_str().unwrap_or_default().to_owned(),
                reply_to: data["reply_to"].clone(),
                quoted: data["reply_to"]
                    .as_u64()
                    .map_or(Value::Null, |seq| quote(messages, seq)),
                mentions: mentions_of(data),
                created_at: delta.at.clone(),
                edited_at: Value::Null,
                deleted: false,
                reactions: Vec::new(),
                pinned: false,
            };
            messages.insert(delta.seq, message);
        }
        "message.edited" => {
            if let Some(message) = messages.get_mut(&number(data, "message")?) {
                message.content = data["content"].as_str().unwrap_or_default().to_owned();
                message.edited_at = data["edited_at"].clone();
                message.mentions = mentions_of(data);
            }
            requote(messages, number(data, "message")?);
        }
        "message.deleted" => {
            if let Some(message) = messages.get_mut(&number(data, "message")?) {
                message.content.clear();
                message.deleted = true;
                message.mentions = (json!([]), json!(false));
                message.reactions.clear();
                message.pinned = false;
            }
            requote(messages, number(data, "message")?);
        }
        "message.pinned" | "message.unpinned" => {
            if let Some(message) = messages.get_mut(&number(data, "message")?) {
                message.pinned = delta.kind == "message.pinned";
            }
        }
        "reaction.added" | "reaction.removed" => {
            if let Some(message) = messages.get_mut(&number(data, "message")?) {
                Reaction::parse(data)?.put(&mut message.reactions);
            }
        }
        _ => {}
    }
    Ok(())
}

impl Part {
    /// Reads the state of one stream; `None` if it is gone.
    ///
    /// # Errors
    /// The server refuses a read for another reason.
    pub async fn fetch(client: &Client, stream: &str) -> Result<Option<Self>> {
        let id = id_of(stream);
        match stream.as_bytes().first() {
            Some(b'g') => fetch_group(client, &id).await,
            Some(b'c') => fetch_messages(client, &id).await,
            _ => Ok(Some(Self::ReadMarks(fetch_read_marks(client).await?))),
        }
    }
}

async fn fetch_group(client: &Client, id: &str) -> Result<Option<Part>> {
    let answer = client.get(&format!("/v1/groups/{id}")).await?;
    if answer.status == 404 {
        return Ok(None);
    }
    let group = answer.ok()?;
    let mut channels = BTreeMap::new();
    let mut slow_modes = BTreeMap::new();
    for channel in items(&group, "channels")? {
        let channel = text(channel, "id")?;
        let answer = client.get(&format!("/v1/channels/{channel}")).await?;
        if answer.status == 404 {
            continue; // Deleted since; a delta will say so.
        }
        let body = answer.ok()?;
        let shown = (text(&body, "name")?.to_owned(), number(&body, "version")?);
        channels.insert(channel.to_owned(), shown);
        let secs = number(&body, "slow_mode_secs")?;
        if secs > 0 {
            slow_modes.insert(channel.to_owned(), secs);
        }
    }
    let mut shown = Group {
        name: group["name"].clone(),
        version: number(&group, "version")?,
        channels,
        slow_modes,
        ..Group::default()
    };
    let path = format!("/v1/groups/{id}/members");
    let Some(members) = fetch_list(client, &path, "user").await? else {
        return Ok(None);
    };
    for (user, member) in members {
        shown.mute(&user, &member["muted_until"]);
        shown
            .members
            .insert(user, text(&member, "role")?.to_owned());
    }
    if group["kind"] == "group" && group["role"] != "member" {
        shown.moderation = fetch_moderation(client, id).await?;
    }
    Ok(Some(Part::Group(shown)))
}

/// None if the user is no admin any more: a delta will say so.
async fn fetch_moderation(client: &Client, group: &str) -> Result<Option<Moderation>> {
    let bans = fetch_list(client, &format!("/v1/groups/{group}/bans"), "user").await?;
    let invites = fetch_list(client, &format!("/v1/groups/{group}/invites"), "id").await?;
    let (Some(bans), Some(invites)) = (bans, invites) else {
        return Ok(None);
    };
    let mut moderation = Moderation::default();
    for (user, ban) in bans {
        let by = ban["banned_by"].as_str().unwrap_or_default().to_owned();
        let ban = (by, text(&ban, "banned_at")?.to_owned());
        moderation.bans.insert(user, ban);
    }
    for (id, mut invite) in invites {
        for field in ["id", "group", "code"] {
            invite.as_object_mut().and_then(|all| all.remove(field));
        }
        moderation.invites.insert(id, invite);
    }
    Ok(Some(moderation))
}

/// All of a list, with each element's id; None if it is not there for the user.
async fn fetch_list(client: &Client, path: &str, id: &str) -> Result<Option<Vec<(String, Value)>>> {
    let mut found = Vec::new();
    let mut after = String::new();
    loop {
        let answer = client.get(&format!("{path}?limit=100{after}")).await?;
        if matches!(answer.status, 403 | 404) {
            return Ok(None);
        }
        let page = answer.ok()?;
        for item in items(&page, "items")? {
            let id = text(item, id)?.to_owned();
            after = format!("&after={id}");
            found.push((id, item.clone()));
        }
        if page["more"] != true {
            return Ok(Some(found));
        }
    }
}

async fn fetch_messages(client: &Client, channel: &str) -> Result<Option<Part>> {
    let answer = client.get(&format!("/v1/channels/{channel}")).await?;
    if answer.status == 404 {
        return Ok(None);
    }
    let read = number(&answer.ok()?, "read")?;
    let found = match client.messages(channel).await {
        Ok(found) => found,
        // The user has been removed since, or the channel.
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut messages = Messages::new();
    for message in found {
        let shown = Message {
            id: text(&message, "id")?.to_owned(),
            author: text(&message, "author")?.to_owned(),
            content: text(&message, "content")?.to_owned(),
            reply_to: message["reply_to"].clone(),
            quoted: message["quoted"].clone(),
            mentions: mentions_of(&message),
            created_at: text(&message, "created_at")?.to_owned(),
            edited_at: message["edited_at"].clone(),
            deleted: message["deleted"] == json!(true),
            reactions: Reaction::all_of(&message)?,
            pinned: message["pinned"] == json!(true),
        };
        messages.insert(number(&message, "seq")?, shown);
    }
    Ok(Some(Part::Messages(messages, read)))
}

/// The marks of all channels; 0 where nothing is read.
///
/// # Errors
/// The server refuses a read.
pub async fn fetch_read_marks(client: &Client) -> Result<ReadMarks> {
    let mut marks = ReadMarks::new();
    let mut after = String::new();
    loop {
        let page = client.get(&format!("/v1/groups?limit=100{after}")).await?;
        let page = page.ok()?;
        for group in items(&page, "items")? {
            after = format!("&after={}", text(group, "id")?);
            for channel in items(group, "channels")? {
                let read = number(channel, "read")?;
                marks.insert(text(channel, "id")?.to_owned(), read);
            }
        }
        if page["more"] != true {
            return Ok(marks);
        }
    }
}

/// Of a message or a delta.
fn mentions_of(value: &Value) -> (Value, Value) {
    (
        value["mentions"].clone(),
        value["mentions_everyone"].clone(),
    )
}

fn is_gone(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref::<Refused>();
    refused.is_some_and(|refused| refused.status == 404)
}

/// `c:0197…` is about `0197…`.
fn id_of(stream: &str) -> String {
    let id = stream.split_once(':').map_or(stream, |(_, id)| id);
    id.to_owned()
}
