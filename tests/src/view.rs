//! The state a client shows: groups with members and channels, and the messages of each
//! channel. It is read over HTTP and changed by deltas; doing both must give the same.

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
}

/// By `seq`.
pub type Messages = BTreeMap<u64, Message>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Null in direct conversations.
    pub name: Value,
    pub version: u64,
    /// User → role.
    pub members: BTreeMap<String, String>,
    /// Channel → name and version.
    pub channels: BTreeMap<String, (String, u64)>,
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
    Messages(Messages),
    /// Nothing of it is shown.
    Other,
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
            Part::Messages(messages) => drop(self.channels.insert(id_of(stream), messages)),
            Part::Other => {}
        }
    }

    /// Forgets one stream's state.
    pub fn forget(&mut self, stream: &str) {
        match stream.split_once(':') {
            Some(("g", id)) => drop(self.groups.remove(id)),
            Some(("c", id)) => drop(self.channels.remove(id)),
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
            _ => Ok(()),
        }
    }
}

impl Group {
    fn apply(&mut self, delta: &Delta) -> Result<()> {
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
            }
            "member.removed" => drop(self.members.remove(text(data, "user")?)),
            "channel.created" | "channel.updated" => {
                let channel = (text(data, "name")?.to_owned(), delta.seq);
                self.channels.insert(text(data, "id")?.to_owned(), channel);
            }
            "channel.deleted" => drop(self.channels.remove(text(data, "id")?)),
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
            _ => Ok(Some(Self::Other)),
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
    for channel in items(&group, "channels")? {
        let channel = text(channel, "id")?;
        let answer = client.get(&format!("/v1/channels/{channel}")).await?;
        if answer.status == 404 {
            continue; // Deleted since; a delta will say so.
        }
        let body = answer.ok()?;
        let shown = (text(&body, "name")?.to_owned(), number(&body, "version")?);
        channels.insert(channel.to_owned(), shown);
    }
    let Some(members) = fetch_members(client, id).await? else {
        return Ok(None);
    };
    Ok(Some(Part::Group(Group {
        name: group["name"].clone(),
        version: number(&group, "version")?,
        members,
        channels,
    })))
}

async fn fetch_members(client: &Client, group: &str) -> Result<Option<BTreeMap<String, String>>> {
    let mut members = BTreeMap::new();
    let mut after = String::new();
    loop {
        let path = format!("/v1/groups/{group}/members?limit=100{after}");
        let answer = client.get(&path).await?;
        if answer.status == 404 {
            return Ok(None);
        }
        let page = answer.ok()?;
        for member in items(&page, "items")? {
            let user = text(member, "user")?;
            after = format!("&after={user}");
            members.insert(user.to_owned(), text(member, "role")?.to_owned());
        }
        if page["more"] != true {
            return Ok(Some(members));
        }
    }
}

async fn fetch_messages(client: &Client, channel: &str) -> Result<Option<Part>> {
    if client.get(&format!("/v1/channels/{channel}")).await?.status == 404 {
        return Ok(None);
    }
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
    Ok(Some(Part::Messages(messages)))
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
