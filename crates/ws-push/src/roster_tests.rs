//! What there is to tell, and when.

use super::*;

const ACTIVE: Option<Activity> = Some(Activity::Active);
const AWAY: Option<Activity> = Some(Activity::Away);
const SECOND: Duration = Duration::from_secs(1);

fn due(roster: &Roster) -> Vec<Option<Activity>> {
    let now = Instant::now();
    roster.advance(now);
    let holds = roster.take(now, 100);
    holds.iter().map(|hold| hold.activity).collect()
}

/// What there is to tell now, which is told and heard.
fn told(roster: &Roster) -> Vec<Option<Activity>> {
    let now = Instant::now();
    roster.advance(now);
    let holds = roster.take(now, 100);
    for hold in &holds {
        roster.told(hold);
    }
    holds.iter().map(|hold| hold.activity).collect()
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

#[tokio::test(start_paused = true)]
async fn the_first_connection_and_ten_seconds_after_the_last_are_told() {
    let (roster, user) = (Roster::default(), UserId::generate());
    roster.arrive(user);
    assert_eq!(told(&roster), [ACTIVE]);
    roster.arrive(user);
    assert_eq!(told(&roster), []);
    roster.leave(user, true);
    pass(LINGER + SECOND).await;
    assert_eq!(told(&roster), [], "there is another");
    roster.leave(user, true);
    pass(LINGER - SECOND).await;
    assert_eq!(told(&roster), []);
    pass(2 * SECOND).await;
    let now = Instant::now();
    roster.advance(now);
    let holds = roster.take(now, 1);
    assert_eq!((holds[0].user, holds[0].activity), (user, None));
    assert_eq!(holds[0].left_ago, LINGER + SECOND);
    roster.told(&holds[0]);
    assert_eq!(roster.lock().users.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_in_time_was_never_gone() {
    let (roster, user) = (Roster::default(), UserId::generate());
    roster.arrive(user);
    assert_eq!(told(&roster), [ACTIVE]);
    for _ in 0..5 {
        roster.leave(user, true);
        pass(LINGER - SECOND).await;
        roster.arrive(user);
        pass(2 * SECOND).await;
        assert_eq!(told(&roster), []);
    }
}

#[tokio::test(start_paused = true)]
async fn one_app_in_front_is_enough_and_who_turns_is_told_of_once() {
    let (roster, user) = (Roster::default(), UserId::generate());
    roster.arrive(user);
    roster.arrive(user);
    assert_eq!(told(&roster), [ACTIVE]);
    roster.turn(user, false);
    pass(SETTLE).await;
    assert_eq!(told(&roster), [], "the other is in front");
    roster.turn(user, false);
    assert_eq!(told(&roster), []);
    pass(SETTLE).await;
    assert_eq!(told(&roster), [AWAY]);
    for active in [true, false, true, false, true] {
        roster.turn(user, active);
        assert_eq!(told(&roster), []);
    }
    pass(SETTLE).await;
    assert_eq!(told(&roster), [ACTIVE]);
    roster.leave(user, true);
    pass(LINGER).await;
    assert_eq!(told(&roster), [AWAY], "the one in front is gone");
    assert_eq!(roster.lock().turning.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_may_not_have_been_heard_is_told_again() {
    let (roster, user) = (Roster::default(), UserId::generate());
    roster.arrive(user);
    let holds = roster.take(Instant::now(), 10);
    assert_eq!(due(&roster), [], "it is under way");
    roster.not_told(&holds);
    let holds = roster.take(Instant::now(), 10);
    assert_eq!(holds.len(), 1);
    assert!(roster.told(&holds[0]), "it may have changed then");
    assert_eq!(due(&roster), []);
    roster.leave(user, true);
    pass(LINGER).await;
    roster.advance(Instant::now());
    let holds = roster.take(Instant::now(), 10);
    roster.not_told(&holds);
    // Back before it could be told: that is told in its place.
    roster.arrive(user);
    assert_eq!(due(&roster), [ACTIVE]);
}

#[tokio::test(start_paused = true)]
async fn what_changes_while_it_is_told_is_told_next() {
    let (roster, user) = (Roster::default(), UserId::generate());
    roster.arrive(user);
    let holds = roster.take(Instant::now(), 10);
    roster.leave(user, true);
    pass(LINGER).await;
    roster.advance(Instant::now());
    assert!(!roster.told(&holds[0]));
    assert_eq!(told(&roster), [None]);
}

#[tokio::test(start_paused = true)]
async fn a_new_life_begins_with_those_who_are_here() {
    let roster = Roster::default();
    let [stays, gone] = [UserId::generate(), UserId::generate()];
    roster.arrive(stays);
    roster.arrive(gone);
    assert_eq!(told(&roster).len(), 2);
    roster.leave(gone, true);
    pass(LINGER).await;
    roster.advance(Instant::now());
    roster.forget();
    let holds = roster.take(Instant::now(), 10);
    assert_eq!((holds.len(), holds[0].user), (1, stays));
    assert_eq!(roster.lock().users.len(), 1);
}

/// As when presence is away for long: nothing can be told, and people come and go.
#[tokio::test(start_paused = true)]
async fn people_who_came_and_went_untold_leave_nothing() {
    let roster = Roster::default();
    for _ in 0..1_000 {
        let user = UserId::generate();
        roster.arrive(user);
        roster.turn(user, false);
        roster.leave(user, false);
    }
    pass(LINGER).await;
    roster.advance(Instant::now());
    let state = roster.lock();
    let left = (
        state.users.len(),
        state.due.len(),
        state.leaving.len(),
        state.turning.len(),
    );
    assert_eq!(left, (0, 0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn no_more_is_taken_than_was_asked_for() {
    let roster = Roster::default();
    for _ in 0..10 {
        roster.arrive(UserId::generate());
    }
    assert_eq!(roster.take(Instant::now(), 7).len(), 7);
    assert_eq!(roster.take(Instant::now(), 7).len(), 3);
}
