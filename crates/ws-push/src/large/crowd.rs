//! What this server knows of one large group: who of its members is connected here, up to which
//! position of the group's stream that is known, and which comings and goings they have not been
//! told of. Pure: it is given what was read.

use std::collections::HashMap;

use tidings_common::domain::{Change, Entry, GroupId, Member, Role, Seq, UserId};
use tokio::time::Instant;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Crowd {
    pub(super) group: GroupId,
    /// Those who are connected here, and some who no longer are.
    members: HashMap<UserId, Here>,
    /// The members are those as of this position; it is no less than what is in `untold`.
    pub(super) known: Seq,
    /// Since this position the entries have been followed: what came and went behind it is in
    /// `untold`, or has been told.
    pub(super) followed: Seq,
    /// What came and went up to `known` and has not been told, ascending.
    untold: Vec<Run>,
    /// Up to here there is something beyond `known`, as far as was heard.
    pub(super) heard: Seq,
    /// When comings and goings were last told.
    pub(super) told: Option<Instant>,
    /// When everybody was last told to sync: what had come by then needs no telling.
    pub(super) resumed: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Here {
    role: Role,
    joined: Seq,
}

/// Entries that follow each other, with each of which somebody came or went.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Run {
    pub(super) first: Seq,
    pub(super) last: Box<Entry>,
}

/// Some entries are not there any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hole;

impl Crowd {
    pub(super) fn new(group: GroupId, known: Seq, members: Vec<(UserId, Member)>) -> Self {
        let mut crowd = Self {
            group,
            members: HashMap::new(),
            known,
            followed: known,
            untold: Vec::new(),
            heard: known,
            told: None,
            resumed: None,
        };
        crowd.admit(members);
        crowd
    }

    /// Members who are connected here, as of `known` or later.
    pub(super) fn admit(&mut self, members: Vec<(UserId, Member)>) {
        let here = members.into_iter().map(|(user, member)| {
            let Member { role, joined, .. } = member;
            (user, Here { role, joined })
        });
        self.members.extend(here);
    }

    /// Takes entries of the group's stream that follow `known`. Returns who of those that
    /// `is_here` is a member and was not known to be one: they may have missed something.
    pub(super) fn follow(
        &mut self,
        entries: Vec<Entry>,
        is_here: impl Fn(UserId) -> bool,
    ) -> Result<Vec<UserId>, Hole> {
        let mut late = Vec::new();
        for entry in entries {
            if entry.seq != self.known + 1 {
                return Err(Hole);
            }
            self.known = entry.seq;
            self.heard = self.heard.max(self.known);
            late.extend(self.change(&entry, &is_here));
            if entry.change.coming_or_going().is_some() {
                self.note(entry);
            }
        }
        Ok(late)
    }

    fn change(&mut self, entry: &Entry, is_here: impl Fn(UserId) -> bool) -> Option<UserId> {
        match &entry.change {
            Change::MemberAdded { user, role, .. } if is_here(*user) => {
                let (role, joined) = (*role, entry.seq);
                let before = self.members.insert(*user, Here { role, joined });
                return before.is_none_or(|it| it.joined != joined).then_some(*user);
            }
            Change::MemberUpdated { user, role } => self.set_role(*user, *role),
            Change::OwnerChanged { user, previous } => {
                self.set_role(*user, Role::Owner);
                self.set_role(*previous, Role::Admin);
            }
            change => {
                if let Some(user) = change.removes() {
                    self.members.remove(&user);
                }
            }
        }
        None
    }

    fn set_role(&mut self, user: UserId, role: Role) {
        if let Some(here) = self.members.get_mut(&user) {
            here.role = role;
        }
    }

    fn note(&mut self, entry: Entry) {
        if let Some(run) = self.untold.last_mut()
            && run.last.seq + 1 == entry.seq
        {
            *run.last = entry;
        } else {
            self.untold.push(Run {
                first: entry.seq,
                last: Box::new(entry),
            });
        }
    }

    /// Takes what has not been told of what came before a position.
    pub(super) fn take_untold(&mut self, before: Seq) -> Vec<Run> {
        let count = self.untold.partition_point(|run| run.first < before);
        self.untold.drain(..count).collect()
    }

    /// Whether there is something to be told, or may be beyond what is known.
    pub(super) fn has_untold(&self) -> bool {
        !self.untold.is_empty() || self.heard > self.known
    }

    /// Who is known, whether or not still connected, with role and position of joining.
    pub(super) fn members(&self) -> impl Iterator<Item = (UserId, Role, Seq)> {
        let members = self.members.iter();
        members.map(|(user, here)| (*user, here.role, here.joined))
    }

    /// They are not connected any more.
    pub(super) fn forget(&mut self, users: &[UserId]) {
        for user in users {
            self.members.remove(user);
        }
    }
}

#[cfg(test)]
mod tests {
    use tidings_common::domain::{EntryId, Key, StreamId, Timestamp};

    use super::*;

    fn user(number: u8) -> UserId {
        UserId::from_bytes([number; 16])
    }

    fn entry(seq: Seq, change: Change) -> Entry {
        Entry {
            id: EntryId::generate(),
            stream: StreamId::Group(GroupId::from_bytes([9; 16])),
            seq,
            at: Timestamp::default(),
            actor: None,
            key: Key::unique(),
            request: None,
            gv: 0,
            ord: 0,
            change,
        }
    }

    fn comes(seq: Seq, number: u8) -> Entry {
        entry(seq, Change::member_added(user(number), Role::Member))
    }

    fn goes(seq: Seq, number: u8) -> Entry {
        entry(seq, Change::MemberRemoved { user: user(number) })
    }

    fn renamed(seq: Seq) -> Entry {
        let (name, lease) = (None, None);
        entry(seq, Change::GroupUpdated { name, lease })
    }

    fn crowd(known: Seq) -> Crowd {
        Crowd::new(GroupId::from_bytes([9; 16]), known, Vec::new())
    }

    fn known(crowd: &Crowd) -> Vec<u8> {
        let mut known: Vec<u8> = crowd.members().map(|it| it.0.as_bytes()[0]).collect();
        known.sort_unstable();
        known
    }

    #[test]
    fn members_who_are_here_are_followed_and_those_who_were_not_known_are_told_apart() {
        let mut crowd = crowd(5);
        let here = |it: UserId| it != user(3);
        let late = crowd.follow(vec![comes(6, 1), comes(7, 2), comes(8, 3)], here);
        assert_eq!(late, Ok(vec![user(1), user(2)]));
        assert_eq!(known(&crowd), [1, 2]);
        // One who was read when he connected, later than what is followed.
        let read = Member {
            role: Role::Member,
            joined: 10,
            joined_at: Timestamp::default(),
            muted_until: None,
        };
        crowd.admit(vec![(user(4), read)]);
        let late = crowd.follow(vec![goes(9, 1), comes(10, 4)], here);
        assert_eq!(late, Ok(Vec::new()));
        assert_eq!(known(&crowd), [2, 4]);
        let role = entry(
            11,
            Change::MemberUpdated {
                user: user(2),
                role: Role::Admin,
            },
        );
        crowd.follow(vec![role], here).unwrap();
        let admin = |it: &(UserId, Role, Seq)| it.1 == Role::Admin;
        assert_eq!(crowd.members().find(admin).unwrap().0, user(2));
    }

    #[test]
    fn comings_and_goings_that_follow_each_other_are_one_run() {
        let mut crowd = crowd(0);
        let entries = vec![comes(1, 1), goes(2, 1), renamed(3), comes(4, 2), renamed(5)];
        crowd.follow(entries, |_| true).unwrap();
        crowd
            .follow(vec![comes(6, 3), comes(7, 4)], |_| true)
            .unwrap();
        let run = |run: &Run| (run.first, run.last.seq);
        let before = |crowd: &mut Crowd, before| -> Vec<_> {
            crowd.take_untold(before).iter().map(run).collect()
        };
        assert_eq!(before(&mut crowd, 3), [(1, 2)]);
        assert_eq!(before(&mut crowd, 5), [(4, 4)]);
        assert!(crowd.has_untold());
        assert_eq!(before(&mut crowd, Seq::MAX), [(6, 7)]);
        assert!(!crowd.has_untold());
        crowd.heard = 8;
        assert!(crowd.has_untold());
    }

    #[test]
    fn what_does_not_follow_is_a_hole() {
        let mut crowd = crowd(5);
        assert_eq!(crowd.follow(vec![comes(7, 1)], |_| true), Err(Hole));
        assert_eq!(crowd.known, 5);
    }
}
