//! What every presence store must do: the sentences of the traits' documentation, each with
//! its test. An implementation says `presence_contract!(fresh_presence);`, with
//! `async fn fresh_presence() -> Arc<dyn Presence>`.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::{Buried, Claim, Grant, Hold, Holding, MAX_STREAMS, Presence, Recorded};
use crate::domain::{
    Activity, ChannelId, Cursor, GroupId, PresenceState, ServerId, SessionId, StreamId, Timestamp,
    UserId, UserPresence,
};

macro_rules! presence_contract {
    ($fresh:path) => {
        $crate::presence::contract::presence_contract! {
            @each $fresh:
            a_ticket_is_redeemed_once,
            tickets_are_told_apart,
            of_concurrent_callers_one_redeems,
            an_unknown_session_has_acknowledged_nothing,
            positions_rise_and_never_fall,
            large_positions_are_told_apart,
            positions_rise_though_calls_overlap,
            a_session_cannot_make_it_remember_any_number_of_streams,
            sessions_are_told_apart,
            a_lease_has_one_holder_who_renews_it,
            of_concurrent_claimants_one_gets_a_lease,
            a_lease_is_given_back_by_its_holder_alone,
            a_lease_can_be_taken_from_its_holder,
            a_lease_ends_unless_it_is_renewed,
            who_is_held_by_no_server_is_offline,
            one_connection_in_front_is_enough,
            who_leaves_is_offline_since_then,
            recording_again_changes_nothing,
            a_server_that_moves_users_over_changes_nothing,
            what_a_dead_server_held_counts_no_more,
            a_dead_server_stays_dead,
            the_dead_are_buried_once,
            the_dead_are_buried_in_steps,
            nobody_is_buried_alive,
        }
    };
    (@each $fresh:path: $($name:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $name() {
                if let Some(presence) = $fresh().await {
                    $crate::presence::contract::$name(presence).await;
                }
            }
        )*
    };
}
pub(super) use presence_contract;

const LIFETIME: Duration = Duration::from_secs(30);

pub(super) async fn a_ticket_is_redeemed_once(presence: Arc<dyn Presence>) {
    let ticket = Uuid::now_v7();
    assert!(presence.redeem(ticket, LIFETIME).await.unwrap());
    assert!(!presence.redeem(ticket, LIFETIME).await.unwrap());
    assert!(!presence.redeem(ticket, LIFETIME).await.unwrap());
}

pub(super) async fn tickets_are_told_apart(presence: Arc<dyn Presence>) {
    assert!(presence.redeem(Uuid::now_v7(), LIFETIME).await.unwrap());
    assert!(presence.redeem(Uuid::now_v7(), LIFETIME).await.unwrap());
}

pub(super) async fn of_concurrent_callers_one_redeems(presence: Arc<dyn Presence>) {
    let ticket = Uuid::now_v7();
    let calls = (0..16).map(|_| presence.redeem(ticket, LIFETIME));
    let answers = futures_util::future::join_all(calls).await;
    let redeemed = answers
        .into_iter()
        .filter(|answer| *answer.as_ref().unwrap());
    assert_eq!(redeemed.count(), 1);
}

pub(super) async fn an_unknown_session_has_acknowledged_nothing(presence: Arc<dyn Presence>) {
    let nothing = presence.acknowledged(SessionId::generate()).await.unwrap();
    assert_eq!(nothing, Cursor::new());
}

pub(super) async fn positions_rise_and_never_fall(presence: Arc<dyn Presence>) {
    let session = SessionId::generate();
    let first = StreamId::User(UserId::generate());
    let second = StreamId::Channel(ChannelId::generate());
    for cursor in [
        Cursor::from([(first, 4)]),
        Cursor::from([(first, 2), (second, 9)]),
        Cursor::from([(first, 5)]),
        Cursor::new(),
    ] {
        presence.record(session, &cursor).await.unwrap();
    }
    assert_eq!(
        presence.acknowledged(session).await.unwrap(),
        Cursor::from([(first, 5), (second, 9)])
    );
}

/// A client may claim any position.
pub(super) async fn large_positions_are_told_apart(presence: Arc<dyn Presence>) {
    let session = SessionId::generate();
    let stream = StreamId::User(UserId::generate());
    for seq in [u64::MAX - 2, u64::MAX - 1, 9, u64::MAX - 3] {
        let cursor = Cursor::from([(stream, seq)]);
        presence.record(session, &cursor).await.unwrap();
    }
    let known = presence.acknowledged(session).await.unwrap();
    assert_eq!(known[&stream], u64::MAX - 1);
}

pub(super) async fn positions_rise_though_calls_overlap(presence: Arc<dyn Presence>) {
    let session = SessionId::generate();
    let stream = StreamId::User(UserId::generate());
    let cursors: Vec<Cursor> = (1..=64).map(|seq| Cursor::from([(stream, seq)])).collect();
    let calls = cursors
        .iter()
        .map(|cursor| presence.record(session, cursor));
    for outcome in futures_util::future::join_all(calls).await {
        outcome.unwrap();
    }
    assert_eq!(presence.acknowledged(session).await.unwrap()[&stream], 64);
}

pub(super) async fn a_session_cannot_make_it_remember_any_number_of_streams(
    presence: Arc<dyn Presence>,
) {
    let session = SessionId::generate();
    let streams = std::iter::repeat_with(|| (StreamId::User(UserId::generate()), 1));
    let many: Cursor = streams.take(MAX_STREAMS + 10).collect();
    presence.record(session, &many).await.unwrap();
    let kept = presence.acknowledged(session).await.unwrap();
    assert_eq!(kept.len(), MAX_STREAMS);
    // Those that are known still rise.
    let (known, _) = kept.first_key_value().unwrap();
    let higher = Cursor::from([(*known, 2)]);
    presence.record(session, &higher).await.unwrap();
    assert_eq!(presence.acknowledged(session).await.unwrap()[known], 2);
}

pub(super) async fn sessions_are_told_apart(presence: Arc<dyn Presence>) {
    let (one, other) = (SessionId::generate(), SessionId::generate());
    let stream = StreamId::User(UserId::generate());
    presence
        .record(one, &Cursor::from([(stream, 4)]))
        .await
        .unwrap();
    presence
        .record(other, &Cursor::from([(stream, 2)]))
        .await
        .unwrap();
    assert_eq!(presence.acknowledged(one).await.unwrap()[&stream], 4);
    assert_eq!(presence.acknowledged(other).await.unwrap()[&stream], 2);
}

fn claim(millis: i64) -> Claim {
    Claim {
        session: SessionId::generate(),
        user: UserId::generate(),
        now: Timestamp::from_millis(millis),
    }
}

fn a_group() -> StreamId {
    StreamId::Group(GroupId::generate())
}

/// What is held, without the time that is left, which must be a lease's.
fn held(holding: Option<Holding>) -> Option<Claim> {
    let holding = holding?;
    assert!(holding.rest <= LIFETIME && holding.rest > LIFETIME / 2);
    Some(Claim {
        session: holding.session,
        user: holding.user,
        now: holding.since,
    })
}

fn refused(grant: Grant) -> Option<Claim> {
    match grant {
        Grant::Refused(holding) => held(Some(holding)),
        Grant::New | Grant::Renewed => None,
    }
}

pub(super) async fn a_lease_has_one_holder_who_renews_it(presence: Arc<dyn Presence>) {
    let (group, other_group) = (a_group(), a_group());
    let (ada, bob) = (claim(1_000), claim(2_000));
    let take = async |stream, claim| presence.take(stream, claim, LIFETIME, false).await.unwrap();
    assert_eq!(presence.holding(group).await.unwrap(), None);
    assert_eq!(take(group, ada).await, Grant::New);
    assert_eq!(held(presence.holding(group).await.unwrap()), Some(ada));
    assert_eq!(refused(take(group, bob).await), Some(ada));
    // A renewal keeps when it began.
    let later = Claim {
        now: Timestamp::from_millis(9_000),
        ..ada
    };
    assert_eq!(take(group, later).await, Grant::Renewed);
    assert_eq!(held(presence.holding(group).await.unwrap()), Some(ada));
    // Another session of the same user is somebody else.
    let elsewhere = Claim {
        session: SessionId::generate(),
        ..ada
    };
    assert_eq!(refused(take(group, elsewhere).await), Some(ada));
    assert_eq!(take(other_group, bob).await, Grant::New);
    assert_eq!(held(presence.holding(group).await.unwrap()), Some(ada));
}

pub(super) async fn of_concurrent_claimants_one_gets_a_lease(presence: Arc<dyn Presence>) {
    let group = a_group();
    let calls = (0..16).map(|_| presence.take(group, claim(1), LIFETIME, false));
    let grants = futures_util::future::join_all(calls).await;
    let new = grants
        .into_iter()
        .filter(|grant| *grant.as_ref().unwrap() == Grant::New);
    assert_eq!(new.count(), 1);
}

pub(super) async fn a_lease_is_given_back_by_its_holder_alone(presence: Arc<dyn Presence>) {
    let group = a_group();
    let (ada, bob) = (claim(1), claim(2));
    presence.give_back(group, ada.session).await.unwrap();
    presence.take(group, ada, LIFETIME, false).await.unwrap();
    presence.give_back(group, bob.session).await.unwrap();
    assert_eq!(held(presence.holding(group).await.unwrap()), Some(ada));
    presence.give_back(group, ada.session).await.unwrap();
    assert_eq!(presence.holding(group).await.unwrap(), None);
    let taken = presence.take(group, bob, LIFETIME, false).await.unwrap();
    assert_eq!(taken, Grant::New);
}

pub(super) async fn a_lease_can_be_taken_from_its_holder(presence: Arc<dyn Presence>) {
    let group = a_group();
    let (ada, bob) = (claim(1), claim(2));
    let steal = async |claim| presence.take(group, claim, LIFETIME, true).await.unwrap();
    assert_eq!(steal(ada).await, Grant::New);
    assert_eq!(steal(ada).await, Grant::Renewed);
    assert_eq!(steal(bob).await, Grant::New);
    assert_eq!(held(presence.holding(group).await.unwrap()), Some(bob));
    let renewed = presence.take(group, ada, LIFETIME, false).await.unwrap();
    assert_eq!(refused(renewed), Some(bob));
}

pub(super) async fn a_lease_ends_unless_it_is_renewed(presence: Arc<dyn Presence>) {
    const SHORT: Duration = Duration::from_millis(50);
    let (group, other) = (a_group(), a_group());
    let (ada, bob) = (claim(1), claim(2));
    for stream in [group, other] {
        presence.take(stream, ada, SHORT, false).await.unwrap();
    }
    presence.take(other, ada, LIFETIME, false).await.unwrap();
    let began = std::time::Instant::now();
    while presence.holding(group).await.unwrap().is_some() {
        assert!(began.elapsed() < LIFETIME, "it does not end");
        tokio::time::sleep(SHORT).await;
    }
    let taken = presence.take(group, bob, LIFETIME, false).await.unwrap();
    assert_eq!(taken, Grant::New);
    assert_eq!(held(presence.holding(other).await.unwrap()), Some(ada));
}

const LONG: Duration = Duration::from_secs(3600);
const ACTIVE: Option<Activity> = Some(Activity::Active);
const AWAY: Option<Activity> = Some(Activity::Away);

async fn begun(presence: &dyn Presence) -> ServerId {
    let server = ServerId::generate();
    presence.begin(server, LONG).await.unwrap();
    server
}

/// What a server of which it is known that it is alive records of one user.
async fn record(
    presence: &dyn Presence,
    server: ServerId,
    user: UserId,
    activity: Option<Activity>,
) -> Recorded {
    let hold = Hold {
        user,
        activity,
        left_ago: Duration::from_secs(5),
    };
    let recorded = presence.hold(server, &[hold]).await.unwrap();
    recorded.expect("the server is alive")[0]
}

async fn state(presence: &dyn Presence, user: UserId) -> UserPresence {
    presence.states(&[user]).await.unwrap()[0]
}

/// The server's life ends, by whatever clock counts it.
async fn kill(presence: &dyn Presence, server: ServerId) {
    let soon = Duration::from_millis(20);
    assert!(presence.renew(server, soon).await.unwrap());
    let ended = async {
        // A call to a dead server records nothing.
        while presence.hold(server, &[]).await.unwrap().is_some() {
            tokio::time::sleep(soon).await;
        }
    };
    tokio::time::timeout(LIFETIME, ended).await.unwrap();
}

/// All that there is to bury, in steps of `limit`.
async fn bury(presence: &dyn Presence, limit: usize) -> Vec<UserPresence> {
    let mut changed = Vec::new();
    loop {
        let Buried {
            changed: some,
            more,
        } = presence.bury(limit).await.unwrap();
        changed.extend(some);
        if !more {
            return changed;
        }
    }
}

pub(super) async fn who_is_held_by_no_server_is_offline(presence: Arc<dyn Presence>) {
    let users = [UserId::generate(), UserId::generate()];
    let states = presence.states(&users).await.unwrap();
    for (now, user) in states.iter().zip(users) {
        assert_eq!(
            (now.user, now.state, now.last_seen),
            (user, PresenceState::Offline, None)
        );
        assert!(now.at > Timestamp::default());
    }
    assert_eq!(presence.states(&[]).await.unwrap(), []);
}

pub(super) async fn one_connection_in_front_is_enough(presence: Arc<dyn Presence>) {
    let [one, other] = [begun(&*presence).await, begun(&*presence).await];
    let user = UserId::generate();
    let steps = [
        (one, AWAY, PresenceState::Away),
        (other, ACTIVE, PresenceState::Online),
        (one, ACTIVE, PresenceState::Online),
        (other, AWAY, PresenceState::Online),
        (one, AWAY, PresenceState::Away),
        (one, None, PresenceState::Away),
        (other, ACTIVE, PresenceState::Online),
        (other, None, PresenceState::Offline),
    ];
    let mut before = PresenceState::Offline;
    for (server, activity, expected) in steps {
        let recorded = record(&*presence, server, user, activity).await;
        assert_eq!(recorded.now.state, expected);
        assert_eq!(recorded.changed, expected != before, "{before:?}");
        assert_eq!(state(&*presence, user).await.state, expected);
        before = expected;
    }
    let other = state(&*presence, UserId::generate()).await;
    assert_eq!(other.state, PresenceState::Offline);
}

pub(super) async fn who_leaves_is_offline_since_then(presence: Arc<dyn Presence>) {
    let server = begun(&*presence).await;
    let user = UserId::generate();
    let there = record(&*presence, server, user, ACTIVE).await.now;
    assert_eq!(there.last_seen, None);
    let gone = record(&*presence, server, user, None).await.now;
    // Five seconds before, as it was said.
    assert_eq!(gone.last_seen, Some(gone.at.plus_millis(-5_000)));
    let later = state(&*presence, user).await;
    assert_eq!(later.last_seen, gone.last_seen);
    assert!(later.at >= gone.at && gone.at >= there.at);
    let back = record(&*presence, server, user, AWAY).await;
    assert_eq!((back.changed, back.now.last_seen), (true, None));
}

pub(super) async fn recording_again_changes_nothing(presence: Arc<dyn Presence>) {
    let server = begun(&*presence).await;
    let users: Vec<UserId> = (0..50).map(|_| UserId::generate()).collect();
    let hold = |activity| {
        move |user: &UserId| Hold {
            user: *user,
            activity,
            left_ago: Duration::ZERO,
        }
    };
    for activity in [ACTIVE, AWAY, None] {
        let holds: Vec<Hold> = users.iter().map(hold(activity)).collect();
        for changed in [true, false] {
            let recorded = presence.hold(server, &holds).await.unwrap().unwrap();
            let named: Vec<UserId> = recorded.iter().map(|one| one.now.user).collect();
            assert_eq!(named, users);
            assert!(recorded.iter().all(|one| one.changed == changed));
        }
    }
    assert_eq!(bury(&*presence, 100).await, []);
}

pub(super) async fn a_server_that_moves_users_over_changes_nothing(presence: Arc<dyn Presence>) {
    let [from, to] = [begun(&*presence).await, begun(&*presence).await];
    let user = UserId::generate();
    assert!(record(&*presence, from, user, ACTIVE).await.changed);
    assert!(!record(&*presence, to, user, ACTIVE).await.changed);
    assert!(!record(&*presence, from, user, None).await.changed);
    kill(&*presence, from).await;
    assert_eq!(bury(&*presence, 100).await, []);
    assert_eq!(state(&*presence, user).await.state, PresenceState::Online);
}

pub(super) async fn what_a_dead_server_held_counts_no_more(presence: Arc<dyn Presence>) {
    let [dead, alive] = [begun(&*presence).await, begun(&*presence).await];
    let [one, both] = [UserId::generate(), UserId::generate()];
    let there = record(&*presence, dead, one, ACTIVE).await.now;
    record(&*presence, dead, both, ACTIVE).await;
    record(&*presence, alive, both, AWAY).await;
    kill(&*presence, dead).await;
    let gone = state(&*presence, one).await;
    assert_eq!(gone.state, PresenceState::Offline);
    // The server was heard of after that.
    assert!(gone.last_seen >= Some(there.at), "{gone:?}");
    assert!(gone.last_seen <= Some(gone.at), "{gone:?}");
    assert_eq!(state(&*presence, both).await.state, PresenceState::Away);
    // Coming back elsewhere is a change, whether or not the dead has been buried.
    assert!(record(&*presence, alive, one, ACTIVE).await.changed);
}

pub(super) async fn a_dead_server_stays_dead(presence: Arc<dyn Presence>) {
    let server = begun(&*presence).await;
    let user = UserId::generate();
    assert!(presence.renew(server, LONG).await.unwrap());
    kill(&*presence, server).await;
    assert!(!presence.renew(server, LONG).await.unwrap());
    let hold = Hold {
        user,
        activity: ACTIVE,
        left_ago: Duration::ZERO,
    };
    assert_eq!(presence.hold(server, &[hold]).await.unwrap(), None);
    assert_eq!(state(&*presence, user).await.state, PresenceState::Offline);
    let never_begun = ServerId::generate();
    assert!(!presence.renew(never_begun, LONG).await.unwrap());
    assert_eq!(presence.hold(never_begun, &[hold]).await.unwrap(), None);
}

pub(super) async fn the_dead_are_buried_once(presence: Arc<dyn Presence>) {
    let [dead, alive] = [begun(&*presence).await, begun(&*presence).await];
    let users: Vec<UserId> = (0..40).map(|_| UserId::generate()).collect();
    for user in &users {
        record(&*presence, dead, *user, ACTIVE).await;
    }
    let [away, moved] = [users[0], users[1]];
    record(&*presence, alive, away, AWAY).await;
    record(&*presence, alive, moved, ACTIVE).await;
    kill(&*presence, dead).await;
    let buriers = (0..4).map(|_| bury(&*presence, 7));
    let changed = futures_util::future::join_all(buriers).await.concat();
    let mut told: Vec<UserId> = changed.iter().map(|one| one.user).collect();
    told.sort_unstable();
    let mut expected: Vec<UserId> = users
        .iter()
        .copied()
        .filter(|user| *user != moved)
        .collect();
    expected.sort_unstable();
    assert_eq!(told, expected, "each once, but who is as before");
    for now in changed {
        let state = if now.user == away {
            PresenceState::Away
        } else {
            PresenceState::Offline
        };
        assert_eq!(now.state, state);
        assert_eq!(now.last_seen.is_some(), state == PresenceState::Offline);
        let later = UserPresence {
            at: now.at,
            ..self::state(&*presence, now.user).await
        };
        assert_eq!(later, now);
    }
}

pub(super) async fn the_dead_are_buried_in_steps(presence: Arc<dyn Presence>) {
    let mut users = 0;
    for _ in 0..2 {
        let dead = begun(&*presence).await;
        for _ in 0..10 {
            record(&*presence, dead, UserId::generate(), ACTIVE).await;
            users += 1;
        }
        kill(&*presence, dead).await;
    }
    while users > 0 {
        let step = presence.bury(3).await.unwrap();
        assert_eq!(step.changed.len(), users.min(3));
        assert_eq!(step.more, users >= 3);
        users -= step.changed.len();
    }
    assert!(!presence.bury(3).await.unwrap().more);
}

pub(super) async fn nobody_is_buried_alive(presence: Arc<dyn Presence>) {
    let server = begun(&*presence).await;
    let user = UserId::generate();
    record(&*presence, server, user, ACTIVE).await;
    assert_eq!(bury(&*presence, 10).await, []);
    assert_eq!(state(&*presence, user).await.state, PresenceState::Online);
    assert!(presence.renew(server, LONG).await.unwrap());
}
