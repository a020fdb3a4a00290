//! How far users have read: marks, what is unread, and who has read a message.
//!
//! A channel is read through the further of two places: the user's mark, and the last message that
//! they sent themselves. What stands before the fence of their coming into the group is not unread
//! either.

mod waiting;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tidings_common::domain::{
    Change, ChannelId, GroupId, Head, IdempotencyKey, Place, ReadMark, Reading, Refusal,
    RequestHash, Seq, Timestamp, UserId,
};
use tidings_common::log::{Draft, NotValid, Proposal};
use tidings_common::store::{Store, StoreError};
use tokio::try_join;

use super::channels::readable;
use super::proposal::decided;
use super::{Context, Done, IdPage, IdWindow, Listed, Mutation, ServiceError};
use waiting::{Full, Waiting};

/// A mark that was moved is not moved again for so long.
const INTERVAL: Duration = Duration::from_secs(3);
/// Most members of a group that tells who has read what.
const SMALL_GROUP: usize = 100;

/// How channels stand to one of their readers.
pub(crate) type Readings = BTreeMap<ChannelId, Reading>;

/// See the module's documentation.
pub(crate) struct Marks {
    context: Context,
    waiting: Arc<Waiting>,
}

impl Marks {
    pub(crate) fn new(context: Context) -> Self {
        Self {
            context,
            waiting: Arc::default(),
        }
    }

    /// Moves the caller's mark to `seq`, unless it is there or further; answers once it is.
    ///
    /// A mark that was moved less than [`INTERVAL`] ago stays for the rest of that, and then goes
    /// to the highest position that is waited for here. Another process may move it meanwhile;
    /// then the time begins anew. The clocks of two processes only decide how long that is.
    pub(crate) async fn set(
        &self,
        who: UserId,
        channel: ChannelId,
        seq: Seq,
        key: Option<&IdempotencyKey>,
    ) -> Result<Done<Reading>, ServiceError> {
        let store = &self.context.store;
        // What cannot be is refused, or known from before, by the log.
        let allowed = allowed(store.as_ref(), who, channel, seq).await;
        let wish = match allowed {
            Ok(()) => Some(self.waiting.enter((who, channel), seq)?),
            Err(NotValid::Refused(_)) => None,
            Err(NotValid::Store(error)) => return Err(error.into()),
        };
        loop {
            let mark = mark_of(store.as_ref(), who, channel).await?;
            let reached = mark.is_some_and(|mark| mark.place.seq >= seq);
            if wish.is_some() && reached && key.is_none() {
                return self.done(who, channel, mark, false).await;
            }
            if wish.is_some() && !reached {
                tokio::time::sleep(rest(mark, self.context.clock.now())).await;
            }
            let mutation = self.mutation(who, channel, seq, mark, key);
            let replayed = match self.context.append(mutation).await {
                Ok(committed) => committed.replayed,
                Err(ServiceError::Unchanged) => false,
                Err(error) => return Err(error),
            };
            let mark = mark_of(store.as_ref(), who, channel).await?;
            if mark.map_or(0, |mark| mark.place.seq) >= seq {
                return self.done(who, channel, mark, replayed).await;
            }
        }
    }

    /// How the channel stands now that the mark is there. To somebody who is a member no more,
    /// as far as they said themselves.
    async fn done(
        &self,
        who: UserId,
        channel: ChannelId,
        mark: Option<ReadMark>,
        replayed: bool,
    ) -> Result<Done<Reading>, ServiceError> {
        let value = match self.context.reading(who, channel).await? {
            Some(reading) => reading,
            None => {
                let said = mark.map(|mark| mark.place).unwrap_or_default();
                Reading::of(said, said, said)
            }
        };
        Ok(Done { value, replayed })
    }

    fn mutation<'a>(
        &self,
        who: UserId,
        channel: ChannelId,
        seq: Seq,
        mark: Option<ReadMark>,
        key: Option<&'a IdempotencyKey>,
    ) -> Mutation<'a, MoveMark> {
        let parts = [channel.as_bytes().as_slice(), &seq.to_be_bytes()];
        Mutation {
            actor: who,
            stream: who.into(),
            key,
            request: Some(RequestHash::of("PUT /v1/channels/{channel}/read", &parts)),
            proposal: MoveMark {
                store: self.context.store.clone(),
                waiting: self.waiting.clone(),
                who,
                channel,
                seq,
                from: mark.map_or(0, |mark| mark.place.seq),
            },
        }
    }

    /// Who of the members has read a message, its author left out, and through where they have
    /// read; ascending by user.
    pub(crate) async fn readers(
        &self,
        who: UserId,
        channel: ChannelId,
        message: Seq,
        page: IdPage<UserId>,
    ) -> Result<Listed<(UserId, Seq)>, ServiceError> {
        let store = self.context.store.as_ref();
        let group = readable(store, who, channel).await?.group;
        let found = store.messages_at(channel, &[message]).await?;
        let author = found.first().ok_or(ServiceError::NotFound)?.author;
        let members = store
            .members(group, IdWindow::First, SMALL_GROUP + 1)
            .await?;
        if members.len() > SMALL_GROUP {
            return Err(ServiceError::GroupTooLarge { most: SMALL_GROUP });
        }
        let others: Vec<UserId> = members
            .into_iter()
            .map(|(user, _)| user)
            .filter(|user| *user != author)
            .collect();
        let mut read = read_through(store, channel, &others).await?;
        // Who was removed in the meantime must not see what was read since.
        readable(store, who, channel).await?;
        read.retain(|user, seq| *seq >= message && in_window(&page.window, user));
        Ok(Listed::cut(read.into_iter().collect(), &page))
    }
}

/// How far each of `users` has read, where they have.
async fn read_through(
    store: &dyn Store,
    channel: ChannelId,
    users: &[UserId],
) -> Result<BTreeMap<UserId, Seq>, StoreError> {
    let alone = [channel];
    let (marks, sent) = try_join!(
        store.read_marks(users, &alone),
        store.last_sent_in(channel, users),
    )?;
    let marks = marks.into_iter().map(|(user, _, mark)| (user, mark.place));
    let mut read: BTreeMap<UserId, Seq> = BTreeMap::new();
    for (user, place) in marks.chain(sent) {
        let seq = read.entry(user).or_default();
        *seq = place.seq.max(*seq);
    }
    Ok(read)
}

fn in_window(window: &IdWindow<UserId>, user: &UserId) -> bool {
    match window {
        IdWindow::First => true,
        IdWindow::After(bound) => user > bound,
        IdWindow::Before(bound) => user < bound,
    }
}

/// How much of [`INTERVAL`] is left at `now`. The clock of whoever moved the mark may be ahead.
fn rest(mark: Option<ReadMark>, now: Timestamp) -> Duration {
    let Some(mark) = mark else {
        return Duration::ZERO;
    };
    let since = now.as_millis().saturating_sub(mark.at.as_millis());
    let since = Duration::from_millis(u64::try_from(since).unwrap_or_default());
    INTERVAL.saturating_sub(since)
}

async fn mark_of(
    store: &dyn Store,
    who: UserId,
    channel: ChannelId,
) -> Result<Option<ReadMark>, StoreError> {
    let found = store.read_marks(&[who], &[channel]).await?;
    Ok(found.first().map(|(_, _, mark)| *mark))
}

/// The group of a channel that the user may read.
async fn group_of(
    store: &dyn Store,
    who: UserId,
    channel: ChannelId,
) -> Result<Option<GroupId>, ServiceError> {
    match readable(store, who, channel).await {
        Ok(channel) => Ok(Some(channel.group)),
        Err(ServiceError::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the user may say to have read through `seq`.
async fn allowed(
    store: &dyn Store,
    who: UserId,
    channel: ChannelId,
    seq: Seq,
) -> Result<(), NotValid> {
    let group = store.group_of(channel).await?.ok_or(Refusal::NotFound)?;
    let membership = store.membership(who, group).await?;
    let membership = membership.ok_or(Refusal::NotFound)?;
    if membership.channels.iter().all(|one| one.id != channel) {
        return Err(Refusal::NotFound.into());
    }
    let ends = store.ends(&[channel]).await?;
    let end = ends.first().copied().unwrap_or_default().seq;
    if seq > end {
        let detail = format!("the channel ends at {end}");
        return Err(Refusal::invalid("/seq", detail).into());
    }
    Ok(())
}

struct MoveMark {
    store: Arc<dyn Store>,
    waiting: Arc<Waiting>,
    who: UserId,
    channel: ChannelId,
    seq: Seq,
    /// Where the mark was when its time was waited for; 0: there was none.
    from: Seq,
}

#[async_trait]
impl Proposal for MoveMark {
    fn reads_state(&self) -> bool {
        true
    }

    /// `Unchanged` also where somebody else has moved the mark, so that its time begins anew.
    async fn validate(&self, _: Head) -> Result<Draft, NotValid> {
        let store = self.store.as_ref();
        allowed(store, self.who, self.channel, self.seq).await?;
        let highest = self.waiting.highest((self.who, self.channel));
        let seq = self.seq.max(highest.unwrap_or_default());
        let mark = mark_of(store, self.who, self.channel).await?;
        let at = mark.map_or(0, |mark| mark.place.seq);
        if at != self.from || seq <= at {
            return Err(Refusal::Unchanged.into());
        }
        let place = store.place_at(self.channel, seq).await?;
        Ok(decided(Change::ReadMoved {
            channel: self.channel,
            seq,
            ord: place.ord,
        }))
    }
}

impl Context {
    /// How a channel stands to the user; None if they may not read it.
    async fn reading(
        &self,
        who: UserId,
        channel: ChannelId,
    ) -> Result<Option<Reading>, ServiceError> {
        let Some(group) = group_of(self.store.as_ref(), who, channel).await? else {
            return Ok(None);
        };
        let readings = self.readings(who, &[group], &[channel]).await?;
        Ok(readings.get(&channel).copied())
    }

    /// How `channels`, which are in `groups`, stand to a member of these. A channel whose
    /// mark is at its last message costs no more than its end and its mark.
    pub(super) async fn readings(
        &self,
        who: UserId,
        groups: &[GroupId],
        channels: &[ChannelId],
    ) -> Result<Readings, ServiceError> {
        if channels.is_empty() {
            return Ok(Readings::new());
        }
        let store = self.store.as_ref();
        let alone = [who];
        let (marks, begun, ends) = try_join!(
            store.read_marks(&alone, channels),
            store.begun_reading(who, groups),
            store.ends(channels),
        )?;
        let ends: Places = channels.iter().copied().zip(ends).collect();
        let (mut read, mut since) = (Places::new(), Places::new());
        raise(&mut since, begun);
        let marks = marks.into_iter();
        raise(
            &mut read,
            marks.map(|(_, channel, mark)| (channel, mark.place)),
        );
        // Also where nothing is unread since the user came back.
        let beyond: Vec<ChannelId> = with_unread(&ends, &read, &Places::new())
            .map(|(channel, _)| channel)
            .collect();
        raise(&mut read, store.last_sent_by(who, &beyond).await?);
        let unread: Vec<(ChannelId, Seq)> = with_unread(&ends, &read, &since).collect();
        let counts = store.mentions(who, &unread, Reading::MOST_MENTIONS).await?;
        let reading = |(channel, end): (&ChannelId, &Place)| {
            let reading = Reading::of(*end, at(&read, *channel), at(&since, *channel));
            (*channel, reading)
        };
        let mut readings: Readings = ends.iter().map(reading).collect();
        for ((channel, _), count) in unread.iter().zip(counts) {
            if let Some(reading) = readings.get_mut(channel) {
                // What came or was deleted in between is counted in neither.
                reading.mentions = (count as u64).min(reading.unread);
            }
        }
        Ok(readings)
    }
}

type Places = BTreeMap<ChannelId, Place>;

fn at(places: &Places, channel: ChannelId) -> Place {
    places.get(&channel).copied().unwrap_or_default()
}

fn raise(known: &mut Places, places: impl IntoIterator<Item = (ChannelId, Place)>) {
    for (channel, place) in places {
        let known = known.entry(channel).or_default();
        *known = place.max(*known);
    }
}

/// Channels with messages that are not read, and the position behind which these stand.
fn with_unread<'a>(
    ends: &'a Places,
    read: &'a Places,
    since: &'a Places,
) -> impl Iterator<Item = (ChannelId, Seq)> + 'a {
    ends.iter().filter_map(|(channel, end)| {
        let place = at(read, *channel).max(at(since, *channel));
        (end.ord > place.ord).then_some((*channel, place.seq))
    })
}

impl From<Full> for ServiceError {
    fn from(_: Full) -> Self {
        Self::RateLimited {
            why: "too many requests wait to move marks",
            retry_after: INTERVAL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_rests_for_what_is_left_of_its_time() {
        let check = |since_ms: i64, expected_ms: u64| {
            let now = Timestamp::from_millis(1_795_262_400_000);
            let mark = ReadMark {
                place: Place { seq: 1, ord: 1 },
                at: now.plus_millis(-since_ms),
            };
            let rest = rest(Some(mark), now);
            assert_eq!(rest, Duration::from_millis(expected_ms), "{since_ms}");
        };
        check(0, 3000);
        check(1000, 2000);
        check(3000, 0);
        check(86_400_000, 0);
        // By a clock that is ahead of ours.
        check(-60_000, 3000);
        assert_eq!(rest(None, Timestamp::from_millis(0)), Duration::ZERO);
    }
}
