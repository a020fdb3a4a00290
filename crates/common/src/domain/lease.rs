//! Edit leases: one session at a time changes what a group's settings are.
//!
//! Whether a lease still runs is known outside the log; what makes it safe stands in it. The
//! position of a `lease.acquired` is the fencing token: a change that carries it is good only
//! while that entry is the group's last word on leases. It no longer is once another session has
//! taken the lease, it was given back, or somebody changed the settings without one (which is
//! possible only when nobody holds it any more).

use super::{Group, Refusal, Seq, SessionId, Timestamp, UserId};

/// A lease that was taken, and since when nothing in the log speaks against it. It may have run
/// out all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Position of its `lease.acquired`.
    pub token: Seq,
    pub session: SessionId,
    /// Whose session it is.
    pub user: UserId,
    pub since: Timestamp,
}

/// Who holds a lease that runs, as others are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseHolder {
    pub user: UserId,
    pub display_name: String,
    pub session: SessionId,
    pub since: Timestamp,
    pub expires_at: Timestamp,
}

impl Group {
    /// Whether a change may be made by `session` under the lease with this token.
    ///
    /// # Errors
    ///
    /// `LeaseLost` if the log has said something else since, or the lease is another session's.
    pub fn fence(&self, session: SessionId, token: Seq) -> Result<(), Refusal> {
        let valid = |lease: &Lease| lease.token == token && lease.session == session;
        if self.lease.as_ref().is_some_and(valid) {
            Ok(())
        } else {
            Err(Refusal::LeaseLost)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::{GroupId, GroupKind, Size};

    #[test]
    fn only_the_last_token_in_the_hands_of_its_session_passes() {
        let [own, other] = std::array::from_fn(|_| SessionId::generate());
        let mut group = Group {
            id: GroupId::generate(),
            kind: GroupKind::Group,
            name: None,
            created_at: Timestamp::default(),
            version: 1,
            applied: 9,
            deleted: false,
            lease: None,
            size: Size::default(),
            members: BTreeMap::new(),
            channels: BTreeMap::new(),
        };
        assert_eq!(group.fence(own, 7), Err(Refusal::LeaseLost));
        group.lease = Some(Lease {
            token: 7,
            session: own,
            user: UserId::generate(),
            since: Timestamp::default(),
        });
        assert_eq!(group.fence(own, 7), Ok(()));
        for (session, token) in [(other, 7), (own, 6), (own, 8)] {
            assert_eq!(group.fence(session, token), Err(Refusal::LeaseLost));
        }
    }
}
