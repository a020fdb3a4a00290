//! How far somebody has read, as clients see it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{ChannelId, Reading, Seq, UserId};

/// `PUT /v1/channels/{channel}/read`
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MarkRead {
    /// Through where the channel is read; not beyond its `head`.
    #[schema(example = 17)]
    pub seq: Seq,
}

/// How a channel stands to the caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ChannelReading {
    #[schema(value_type = Uuid)]
    pub channel: ChannelId,
    /// Position of the last entry of the channel's own stream; 0 if it has none.
    pub head: Seq,
    /// Through where the caller has read: the further of the mark and the own last message.
    pub read: Seq,
    /// Messages after `read` and after the caller became a member, deleted ones included.
    pub unread: u64,
    /// Those of them that mention the caller; 100 stands for 100 or more.
    pub mentions: u64,
}

/// A member who has read a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Reader {
    #[schema(value_type = Uuid)]
    pub user: UserId,
    /// Through where the member has read the channel.
    pub read: Seq,
}

impl ChannelReading {
    #[must_use]
    pub fn of(channel: ChannelId, reading: Reading) -> Self {
        let Reading {
            head,
            read,
            unread,
            mentions,
        } = reading;
        Self {
            channel,
            head,
            read,
            unread,
            mentions,
        }
    }
}

impl From<(UserId, Seq)> for Reader {
    fn from((user, read): (UserId, Seq)) -> Self {
        Self { user, read }
    }
}
