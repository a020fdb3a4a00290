//! What is held against somebody in a group, whether or not they are a member.

use super::{Timestamp, UserId};

/// Somebody is shut out of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ban {
    pub user: UserId,
    /// Who did it. None: the system.
    pub by: Option<UserId>,
    pub at: Timestamp,
}

/// What there is of it. It outlasts membership, so that nobody gets rid of it by leaving.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restrictions {
    /// The group knows the user: as a member, as one who was, or as one who was ever banned.
    pub known: bool,
    pub ban: Option<Ban>,
    pub muted_until: Option<Timestamp>,
}
