//! Channels of a group.

use tidings_common::domain::{
    Action, Change, Channel, ChannelId, Entry, Group, GroupId, IdempotencyKey, Name, Reading,
    Refusal, RequestHash, UserId,
};
use tidings_common::log::Committed;
use tidings_common::store::Store;

use super::{Context, Done, Editor, Precondition, ServiceError};

pub(crate) struct Channels {
    context: Context,
}

/// What is to become of a channel's settings; None: stays as it is.
pub(crate) struct ChannelSettings {
    pub(crate) name: Option<Name>,
    pub(crate) slow_mode_secs: Option<u32>,
}

/// A channel, and how it stands to the caller.
#[derive(Debug)]
pub(crate) struct SeenChannel {
    pub(crate) channel: Channel,
    pub(crate) reading: Reading,
}

impl Channels {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }

    pub(crate) async fn create(
        &self,
        who: UserId,
        group: GroupId,
        name: Name,
        key: Option<&IdempotencyKey>,
    ) -> Result<Done<SeenChannel>, ServiceError> {
        let route = "POST /v1/groups/{group}/channels";
        let name = name.into_string();
        let request = RequestHash::of(route, &[group.as_bytes(), name.as_bytes()]);
        let seed = Context::seed(key);
        let channel = ChannelId::derived(&[
            self.context.deployment.as_bytes(),
            who.as_bytes(),
            route.as_bytes(),
            group.as_bytes(),
            &seed,
        ]);
        let most = usize::try_from(self.context.limits.channels_per_group).unwrap_or(usize::MAX);
        let rule = move |state: &Group| {
            state.permit(who, Action::CreateChannel)?;
            if state.channels.len() >= most {
                return Err(Refusal::Conflict(
                    "the group has as many channels as it can",
                ));
            }
            Ok(Change::ChannelCreated {
                channel,
                name: name.clone(),
            })
        };
        let committed = self
            .context
            .change_group(who, group, key, request, rule)
            .await?;
        self.done(group, channel, committed).await
    }

    pub(crate) async fn get(
        &self,
        who: UserId,
        channel: ChannelId,
    ) -> Result<SeenChannel, ServiceError> {
        let channel = readable(self.context.store.as_ref(), who, channel).await?;
        self.seen_by(who, channel).await
    }

    pub(crate) async fn update(
        &self,
        editor: Editor,
        channel: ChannelId,
        settings: ChannelSettings,
        precondition: Precondition,
        key: Option<&IdempotencyKey>,
    ) -> Result<Done<SeenChannel>, ServiceError> {
        let group = self.group_of(channel).await?;
        let ChannelSettings {
            name,
            slow_mode_secs,
        } = settings;
        let name = name.map(Name::into_string);
        let mut parts = vec![
            channel.as_bytes().as_slice(),
            name.as_deref().unwrap_or_default().as_bytes(),
        ];
        let secs = slow_mode_secs.map(u32::to_be_bytes);
        parts.extend(secs.as_ref().map(<[u8; 4]>::as_slice));
        let request = RequestHash::of("PATCH /v1/channels/{channel}", &parts);
        let who = editor.who.user;
        let rule = move |state: &Group| {
            let found = permitted_channel(state, who, channel, Action::UpdateChannel)?;
            precondition.check(found.version)?;
            Ok(Change::ChannelUpdated {
                channel,
                name: name.clone().unwrap_or_else(|| found.name.clone()),
                slow_mode_secs,
                lease: editor.token,
            })
        };
        let committed = self
            .context
            .change_settings(editor, group, key, request, rule)
            .await?;
        self.done(group, channel, committed).await
    }

    pub(crate) async fn delete(
        &self,
        who: UserId,
        channel: ChannelId,
        precondition: Precondition,
        key: Option<&IdempotencyKey>,
    ) -> Result<Done<()>, ServiceError> {
        let group = self.group_of(channel).await?;
        let request = RequestHash::of("DELETE /v1/channels/{channel}", &[channel.as_bytes()]);
        let rule = move |state: &Group| {
            let found = permitted_channel(state, who, channel, Action::DeleteChannel)?;
            precondition.check(found.version)?;
            Ok(Change::ChannelDeleted { channel })
        };
        let committed = self
            .context
            .change_group(who, group, key, request, rule)
            .await?;
        Ok(committed.into())
    }

    /// A channel stays in its group for ever, also once it is deleted, so this does not decide
    /// anything: whether the caller may know of it is decided in the proposal.
    async fn group_of(&self, channel: ChannelId) -> Result<GroupId, ServiceError> {
        let group = self.context.store.group_of(channel).await?;
        group.ok_or(ServiceError::NotFound)
    }

    /// The channel as it is now; if it (or, of a replay, the caller) is gone, as it was.
    async fn done(
        &self,
        group: GroupId,
        channel: ChannelId,
        committed: Committed,
    ) -> Result<Done<SeenChannel>, ServiceError> {
        let Committed { entry, replayed } = committed;
        let who = entry.actor;
        let state = self.context.store.group_for(group, who.as_slice()).await?;
        let visible = state.zip(who).and_then(|(state, who)| {
            let channel = state.channel_for(who, channel).ok()?.clone();
            Some((who, channel))
        });
        let value = match visible {
            Some((who, channel)) => self.seen_by(who, channel).await?,
            None => SeenChannel {
                channel: as_of(&entry, group, channel),
                reading: Reading::default(),
            },
        };
        Ok(Done { value, replayed })
    }

    async fn seen_by(&self, who: UserId, channel: Channel) -> Result<SeenChannel, ServiceError> {
        let (group, id) = ([channel.group], [channel.id]);
        let readings = self.context.readings(who, &group, &id).await?;
        let reading = readings.get(&channel.id).copied();
        Ok(SeenChannel {
            channel,
            reading: reading.unwrap_or_default(),
        })
    }
}

/// A channel that the caller may read now, by the store and not by a cache.
pub(super) async fn readable(
    store: &dyn Store,
    who: UserId,
    channel: ChannelId,
) -> Result<Channel, ServiceError> {
    let group = store.group_of(channel).await?;
    let group = group.ok_or(ServiceError::NotFound)?;
    let membership = store.membership(who, group).await?;
    let membership = membership.ok_or(ServiceError::NotFound)?;
    let mut channels = membership.channels.into_iter();
    let found = channels.find(|one| one.id == channel);
    found.ok_or(ServiceError::NotFound)
}

fn permitted_channel(
    state: &Group,
    who: UserId,
    channel: ChannelId,
    action: Action,
) -> Result<&Channel, Refusal> {
    let found = state.channel_for(who, channel)?;
    state.permit(who, action)?;
    Ok(found)
}

fn as_of(entry: &Entry, group: GroupId, channel: ChannelId) -> Channel {
    let name = match &entry.change {
        Change::ChannelCreated { name, .. } | Change::ChannelUpdated { name, .. } => name.clone(),
        _ => String::new(),
    };
    let slow_mode_secs = match &entry.change {
        Change::ChannelUpdated { slow_mode_secs, .. } => slow_mode_secs.unwrap_or_default(),
        _ => 0,
    };
    Channel {
        id: channel,
        group,
        name,
        version: entry.seq,
        slow_mode_secs,
        created_at: entry.at,
    }
}
