//! What clients ask to be changed, as data and as requests.

use reqwest::Method;
use serde_json::{Value, json};

/// A change that somebody asks for. Contents and names are never used twice in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Send {
        channel: String,
        content: String,
        reply_to: Option<u64>,
    },
    Edit {
        channel: String,
        message: u64,
        content: String,
    },
    Delete {
        channel: String,
        message: u64,
    },
    React {
        channel: String,
        message: u64,
        emoji: String,
        /// Otherwise the reaction is taken back.
        reacts: bool,
    },
    Pin {
        channel: String,
        message: u64,
        /// Otherwise it is unpinned.
        pinned: bool,
    },
    RenameGroup {
        group: String,
        name: String,
        if_match: Option<u64>,
    },
    PutMember {
        group: String,
        user: String,
        role: String,
    },
    SetRole {
        group: String,
        user: String,
        role: String,
    },
    Remove {
        group: String,
        user: String,
    },
    Ban {
        group: String,
        user: String,
    },
    Unban {
        group: String,
        user: String,
    },
    Mute {
        group: String,
        user: String,
        until: String,
    },
    Unmute {
        group: String,
        user: String,
    },
    CreateChannel {
        group: String,
        name: String,
    },
    RenameChannel {
        group: String,
        channel: String,
        name: String,
        if_match: Option<u64>,
    },
    DeleteChannel {
        group: String,
        channel: String,
    },
    Profile {
        display_name: String,
    },
    MarkRead {
        channel: String,
        seq: u64,
    },
}

impl Change {
    /// A word for reports.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Send { reply_to: None, .. } => "send",
            Self::Send { .. } => "reply",
            Self::Edit { .. } => "edit",
            Self::Delete { .. } => "delete",
            Self::React { reacts: true, .. } => "react",
            Self::React { .. } => "take back",
            Self::Pin { pinned: true, .. } => "pin",
            Self::Pin { .. } => "unpin",
            Self::RenameGroup { if_match: None, .. } => "rename group",
            Self::RenameGroup { .. } => "rename group if-match",
            Self::PutMember { .. } => "put member",
            Self::SetRole { .. } => "set role",
            Self::Remove { .. } => "remove member",
            Self::Ban { .. } => "ban",
            Self::Unban { .. } => "unban",
            Self::Mute { .. } => "mute",
            Self::Unmute { .. } => "unmute",
            Self::CreateChannel { .. } => "create channel",
            Self::RenameChannel { if_match: None, .. } => "rename channel",
            Self::RenameChannel { .. } => "rename channel if-match",
            Self::DeleteChannel { .. } => "delete channel",
            Self::Profile { .. } => "change profile",
            Self::MarkRead { .. } => "mark read",
        }
    }

    /// The stream in which it becomes an entry.
    #[must_use]
    pub fn stream(&self, actor: &str) -> String {
        match self {
            Self::Send { channel, .. }
            | Self::Edit { channel, .. }
            | Self::Delete { channel, .. }
            | Self::React { channel, .. }
            | Self::Pin { channel, .. } => {
                format!("c:{channel}")
            }
            Self::RenameGroup { group, .. }
            | Self::PutMember { group, .. }
            | Self::SetRole { group, .. }
            | Self::Remove { group, .. }
            | Self::Ban { group, .. }
            | Self::Unban { group, .. }
            | Self::Mute { group, .. }
            | Self::Unmute { group, .. }
            | Self::CreateChannel { group, .. }
            | Self::RenameChannel { group, .. }
            | Self::DeleteChannel { group, .. } => format!("g:{group}"),
            Self::Profile { .. } | Self::MarkRead { .. } => format!("u:{actor}"),
        }
    }

    /// The request: method, path, body, and the version for `If-Match`.
    #[must_use]
    pub fn request(&self) -> (Method, String, Option<Value>, Option<u64>) {
        let messages = |channel: &str| format!("/v1/channels/{channel}/messages");
        let member = |group: &str, user: &str| format!("/v1/groups/{group}/members/{user}");
        let (method, path, body) = match self {
            Self::Send {
                channel,
                content,
                reply_to,
            } => {
                let body = json!({"content": content, "reply_to": reply_to});
                (Method::POST, messages(channel), Some(body))
            }
            Self::Edit {
                channel,
                message,
                content,
            } => {
                let path = format!("{}/{message}", messages(channel));
                (Method::PATCH, path, Some(json!({"content": content})))
            }
            Self::Delete { channel, message } => {
                let path = format!("{}/{message}", messages(channel));
                (Method::DELETE, path, None)
            }
            Self::React {
                channel,
                message,
                emoji,
                reacts,
            } => {
                let path = format!("{}/{message}/reactions/{emoji}", messages(channel));
                let method = if *reacts { Method::PUT } else { Method::DELETE };
                (method, path, None)
            }
            Self::Pin {
                channel,
                message,
                pinned,
            } => {
                let path = format!("{}/{message}/pin", messages(channel));
                let method = if *pinned { Method::PUT } else { Method::DELETE };
                (method, path, None)
            }
            Self::RenameGroup { group, name, .. } => {
                let path = format!("/v1/groups/{group}");
                (Method::PATCH, path, Some(json!({"name": name})))
            }
            Self::PutMember { group, user, role } => (
                Method::PUT,
                member(group, user),
                Some(json!({"role": role})),
            ),
            Self::SetRole { group, user, role } => (
                Method::PATCH,
                member(group, user),
                Some(json!({"role": role})),
            ),
            Self::Remove { group, user } => (Method::DELETE, member(group, user), None),
            Self::Ban { group, user } => {
                let path = format!("/v1/groups/{group}/bans/{user}");
                (Method::PUT, path, Some(json!({})))
            }
            Self::Unban { group, user } => {
                let path = format!("/v1/groups/{group}/bans/{user}");
                (Method::DELETE, path, None)
            }
            Self::Mute { group, user, until } => {
                let path = format!("{}/mute", member(group, user));
                (Method::PUT, path, Some(json!({"until": until})))
            }
            Self::Unmute { group, user } => {
                let path = format!("{}/mute", member(group, user));
                (Method::DELETE, path, None)
            }
            Self::CreateChannel { group, name } => {
                let path = format!("/v1/groups/{group}/channels");
                (Method::POST, path, Some(json!({"name": name})))
            }
            Self::RenameChannel { channel, name, .. } => {
                let path = format!("/v1/channels/{channel}");
                (Method::PATCH, path, Some(json!({"name": name})))
            }
            Self::DeleteChannel { channel, .. } => {
                (Method::DELETE, format!("/v1/channels/{channel}"), None)
            }
            Self::Profile { display_name } => {
                let body = json!({"display_name": display_name});
                (Method::PATCH, "/v1/users/me".to_owned(), Some(body))
            }
            Self::MarkRead { channel, seq } => {
                let path = format!("/v1/channels/{channel}/read");
                (Method::PUT, path, Some(json!({"seq": seq})))
            }
        };
        (method, path, body, self.if_match())
    }

    /// The version that it must find.
    #[must_use]
    pub fn if_match(&self) -> Option<u64> {
        match self {
            Self::RenameGroup { if_match, .. } | Self::RenameChannel { if_match, .. } => *if_match,
            _ => None,
        }
    }
}
