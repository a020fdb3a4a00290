//! A way into a group for whoever has its code.

use super::{GroupId, InviteId, Timestamp, UserId};

/// An invite, as those see it who manage it. Its code follows from its id (see
/// [`crate::auth::Keys::invite_code`]) and is stored nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invite {
    pub id: InviteId,
    pub group: GroupId,
    /// None: the system.
    pub created_by: Option<UserId>,
    pub created_at: Timestamp,
    /// None: never.
    pub expires_at: Option<Timestamp>,
    /// None: any number.
    pub max_uses: Option<u32>,
    /// How many have become members by it.
    pub uses: u32,
    /// Withdrawn.
    pub deleted: bool,
}

/// That somebody has become a member by an invite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InviteUse {
    pub invite: InviteId,
    /// How often it has been used, this time included.
    pub uses: u32,
}

impl Invite {
    /// Whether one more may join at the time `now`.
    #[must_use]
    pub fn is_open(&self, now: Timestamp) -> bool {
        !self.deleted
            && self.expires_at.is_none_or(|end| end > now)
            && self.max_uses.is_none_or(|most| self.uses < most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invite_is_open_until_its_time_or_its_last_use() {
        let at = Timestamp::from_millis;
        let check = |expires_at, max_uses, uses, now, expected| {
            let invite = Invite {
                id: InviteId::generate(),
                group: GroupId::generate(),
                created_by: None,
                created_at: at(0),
                expires_at,
                max_uses,
                uses,
                deleted: false,
            };
            assert_eq!(invite.is_open(now), expected, "{invite:?}");
            let deleted = true;
            assert!(!Invite { deleted, ..invite }.is_open(now));
        };
        check(None, None, 1_000_000, at(9), true);
        check(Some(at(10)), None, 0, at(9), true);
        check(Some(at(10)), None, 0, at(10), false);
        check(None, Some(2), 1, at(9), true);
        check(None, Some(2), 2, at(9), false);
        check(Some(at(9)), Some(2), 2, at(9), false);
    }
}
