//! Members who may not write for a time.

use std::time::Duration;

use tidings_common::domain::{
    Action, Change, Group, GroupId, IdempotencyKey, Member, Refusal, RequestHash, Timestamp, UserId,
};

use super::members::after;
use super::{Context, Done, ServiceError};

/// The longest time, a year. Who is to be silent for longer is better removed.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

pub(crate) struct Mutes {
    context: Context,
}

impl Mutes {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }

    pub(crate) async fn put(
        &self,
        who: UserId,
        group: GroupId,
        user: UserId,
        until: Timestamp,
        key: Option<&IdempotencyKey>,
    ) -> Result<Done<(UserId, Member)>, ServiceError> {
        let route = "PUT /v1/groups/{group}/members/{user}/mute";
        let time = until.as_millis().to_be_bytes();
        let parts: [&[u8]; 3] = [group.as_bytes(), user.as_bytes(), &time];
        let clock = self.context.clock.clone();
        let rule = move |state: &Group| {
            state.permit_on(who, Action::Mute, user)?;
            check_time(until, clock.now())?;
            let until = Some(until);
            Ok(Change::MemberMuted { user, until })
        };
        let request = RequestHash::of(route, &parts);
        let committed = self
            .context
            .change_member((who, user), group, key, request, rule)
            .await?;
        Ok(Done {
            replayed: committed.replayed,
            value: after(self.context.store.as_ref(), group, user, &committed).await?,
        })
    }

    pub(crate) async fn delete(
        &self,
        who: UserId,
        group: GroupId,
        user: UserId,
        key: Option<&IdempotencyKey>,
    ) -> Result<Done<()>, ServiceError> {
        let route = "DELETE /v1/groups/{group}/members/{user}/mute";
        let parts: [&[u8]; 2] = [group.as_bytes(), user.as_bytes()];
        let keyed = key.is_some();
        let rule = move |state: &Group| {
            let member = state.permit_on(who, Action::Unmute, user)?;
            if member.muted_until.is_none() && !keyed {
                return Err(Refusal::Unchanged);
            }
            Ok(Change::MemberMuted { user, until: None })
        };
        let request = RequestHash::of(route, &parts);
        let both = (who, user);
        let changing = self.context.change_member(both, group, key, request, rule);
        let replayed = match changing.await {
            Ok(committed) => committed.replayed,
            Err(ServiceError::Unchanged) => false,
            Err(error) => return Err(error),
        };
        Ok(Done {
            value: (),
            replayed,
        })
    }
}

fn check_time(until: Timestamp, now: Timestamp) -> Result<(), Refusal> {
    if until <= now {
        return Err(Refusal::invalid("/until", "must be in the future"));
    }
    if u128::from(until.millis_since(now)) > LONGEST.as_millis() {
        return Err(Refusal::invalid("/until", "must be within 366 days"));
    }
    Ok(())
}
