//! What a session answers, and when.

use serde_json::json;
use tidings_common::domain::{ChannelId, SessionId, UserId};

use super::*;

const HEARTBEAT: Duration = Duration::from_secs(25);

struct Client {
    session: Session,
    now: Now,
}

impl Client {
    fn new() -> Self {
        let now = Now {
            instant: Instant::now(),
            time: Timestamp::from_millis(1_000_000),
        };
        let principal = Principal {
            user: UserId::generate(),
            session: SessionId::generate(),
            expires_at: now.time.plus_millis(900_000),
        };
        Self {
            session: Session::new(principal, HEARTBEAT, now),
            now,
        }
    }

    fn wait(&mut self, millis: u64) {
        self.now.instant += Duration::from_millis(millis);
        self.now.time = self.now.time.plus_millis(i64::try_from(millis).unwrap());
    }

    fn says(&mut self, text: &str) -> Option<Action> {
        self.session.heard(self.now);
        self.session.text(text, self.now)
    }

    fn tick(&mut self) -> Vec<Action> {
        self.session.tick(self.now)
    }

    fn acks(&mut self, stream: StreamId, seq: u64) -> Option<Action> {
        self.says(&json!({"type": "ack", "cursor": {stream.to_string(): seq}}).to_string())
    }
}

fn error(code: ErrorCode) -> Option<Action> {
    Some(Action::Send(ServerFrame::Error { code }))
}

#[test]
fn a_ping_frame_is_answered() {
    let answer = Client::new().says(r#"{"type":"ping"}"#);
    assert_eq!(answer, Some(Action::Send(ServerFrame::Pong)));
}

#[test]
fn frames_may_carry_fields_that_we_do_not_know() {
    let mut client = Client::new();
    let answer = client.says(r#"{"type":"ping","new":1}"#);
    assert_eq!(answer, Some(Action::Send(ServerFrame::Pong)));
    let turned = client.says(r#"{"type":"active","value":true,"new":1}"#);
    assert_eq!(turned, Some(Action::Turn(true)));
    let turned = client.says(r#"{"type":"active","value":false}"#);
    assert_eq!(turned, Some(Action::Turn(false)));
}

#[test]
fn up_to_200_users_are_watched_each_once() {
    let mut users: Vec<UserId> = (0..200).map(|_| UserId::generate()).collect();
    users.sort_unstable();
    let watch = |users: &[UserId]| json!({"type": "watch", "users": users}).to_string();
    let mut client = Client::new();
    let watched = client.says(&watch(&users));
    assert_eq!(watched, Some(Action::Watch(users.clone())));
    let twice = [users[0], users[1], users[0]];
    let watched = client.says(&watch(&twice));
    assert_eq!(watched, Some(Action::Watch(users[..2].to_vec())));
    assert_eq!(client.says(&watch(&[])), Some(Action::Watch(Vec::new())));
    users.push(UserId::generate());
    assert_eq!(client.says(&watch(&users)), error(ErrorCode::InvalidFrame));
}

#[test]
fn what_is_not_a_frame_is_an_error() {
    let channel = ChannelId::generate();
    for text in [
        "",
        "ping",
        "[]",
        "null",
        r#"{"type":"PING"}"#,
        r#"{"type":"send","content":"mutation"}"#,
        r#"{"type":"auth"}"#,
        r#"{"type":"active","value":1}"#,
        r#"{"type":"watch"}"#,
        r#"{"type":"watch","users":"everybody"}"#,
        r#"{"type":"watch","users":["everybody"]}"#,
        r#"{"type":"watch","users":[1]}"#,
        r#"{"type":"ack","cursor":{"nonsense":1}}"#,
        r#"{"type":"ack","cursor":{"x:sessions":1}}"#,
        &format!(r#"{{"type":"ack","cursor":{{"c:{channel}":-1}}}}"#),
        &format!(r#"{{"type":"ack","cursor":{{"c:{channel}":1.5}}}}"#),
        &"[".repeat(4096),
    ] {
        let answer = Client::new().says(text);
        assert_eq!(answer, error(ErrorCode::InvalidFrame), "{text}");
    }
}

#[test]
fn ten_frames_a_second_are_taken() {
    let mut client = Client::new();
    for _ in 0..10 {
        assert_ne!(
            client.says(r#"{"type":"ping"}"#),
            error(ErrorCode::RateLimited)
        );
    }
    assert_eq!(
        client.says(r#"{"type":"ping"}"#),
        error(ErrorCode::RateLimited)
    );
    for _ in 0..30 {
        client.wait(100);
        assert_ne!(
            client.says(r#"{"type":"ping"}"#),
            error(ErrorCode::RateLimited)
        );
    }
    assert_eq!(
        client.session.pinged(Bytes::new(), client.now),
        error(ErrorCode::RateLimited)
    );
}

#[test]
fn more_than_ten_errors_close_the_connection_once() {
    let mut client = Client::new();
    for _ in 0..10 {
        client.wait(100);
        assert_eq!(client.says("?"), error(ErrorCode::InvalidFrame));
    }
    assert_eq!(client.says("?"), Some(Action::Close(Close::Policy)));
    assert_eq!(client.says("?"), None);
    client.wait(1_000_000);
    assert_eq!(client.says(r#"{"type":"ping"}"#), None);
    assert_eq!(client.tick(), []);
}

#[test]
fn a_connection_ends_with_its_token() {
    let mut client = Client::new();
    assert_eq!(client.session.expires_in(client.now), 900);
    for _ in 0..36 {
        client.wait(24_999);
        client.session.heard(client.now);
        assert!(!client.tick().contains(&Action::Close(Close::TokenExpired)));
    }
    assert_eq!(
        client.session.next_tick(client.now),
        Duration::from_millis(36)
    );
    client.wait(36);
    assert_eq!(client.tick(), [Action::Close(Close::TokenExpired)]);
}

#[test]
fn a_new_token_of_the_same_session_renews_it() {
    let mut client = Client::new();
    let answer = client.says(r#"{"type":"auth","access_token":"abc"}"#);
    assert_eq!(answer, Some(Action::Verify("abc".to_owned())));
    let renewed = Principal {
        expires_at: client.now.time.plus_millis(1_800_000),
        ..*client.session.principal()
    };
    let renews = Some(Action::Send(ServerFrame::Auth {
        session_expires_in: 1800,
    }));
    assert_eq!(client.session.verified(Ok(renewed), client.now), renews);
    let older = Principal {
        expires_at: client.now.time.plus_millis(1),
        ..renewed
    };
    assert_eq!(client.session.verified(Ok(older), client.now), renews);
}

#[test]
fn tokens_of_others_renew_nothing() {
    let mut client = Client::new();
    let own = *client.session.principal();
    let later = own.expires_at.plus_millis(1_000);
    for other in [
        Principal {
            user: UserId::generate(),
            expires_at: later,
            ..own
        },
        Principal {
            session: SessionId::generate(),
            expires_at: later,
            ..own
        },
    ] {
        let answer = client.session.verified(Ok(other), client.now);
        assert_eq!(answer, error(ErrorCode::Forbidden));
    }
    for reason in [TokenError::Invalid, TokenError::Expired] {
        let answer = client.session.verified(Err(reason), client.now);
        assert_eq!(answer, error(ErrorCode::InvalidToken));
    }
    assert_eq!(client.session.principal(), &own);
}

#[test]
fn a_client_that_answers_is_pinged_every_heartbeat() {
    let mut client = Client::new();
    for _ in 0..5 {
        assert_eq!(client.session.next_tick(client.now), HEARTBEAT);
        client.wait(24_999);
        assert_eq!(client.tick(), []);
        client.wait(1);
        assert_eq!(client.tick(), [Action::Ping]);
        client.session.heard(client.now);
    }
}

#[test]
fn a_client_not_heard_for_two_heartbeats_is_given_up() {
    let mut client = Client::new();
    client.wait(25_000);
    assert_eq!(client.tick(), [Action::Ping]);
    client.wait(24_999);
    assert_eq!(client.tick(), []);
    assert_eq!(
        client.session.next_tick(client.now),
        Duration::from_millis(1)
    );
    client.wait(1);
    assert_eq!(client.tick(), [Action::Abandon]);
    assert_eq!(client.tick(), []);
}

#[test]
fn acknowledgements_are_merged_into_one_a_second() {
    let mut client = Client::new();
    let stream = StreamId::Channel(ChannelId::generate());
    let other = StreamId::User(UserId::generate());
    let first = Action::Acknowledge(Cursor::from([(stream, 4)]));
    assert_eq!(client.acks(stream, 4), Some(first));
    assert_eq!(client.acks(stream, 7), None);
    assert_eq!(client.acks(stream, 6), None);
    assert_eq!(client.acks(other, 1), None);
    assert_eq!(client.tick(), []);
    assert_eq!(client.session.next_tick(client.now), ACK_INTERVAL);
    client.wait(1000);
    let merged = Action::Acknowledge(Cursor::from([(other, 1), (stream, 7)]));
    assert_eq!(client.tick(), [merged]);
    client.wait(1000);
    assert_eq!(client.tick(), []);
}

#[test]
fn a_client_cannot_make_it_hold_any_number_of_streams() {
    let mut client = Client::new();
    client.acks(StreamId::User(UserId::generate()), 1);
    for _ in 0..MAX_ACKED_STREAMS + 5 {
        let stream = StreamId::User(UserId::generate());
        let now = client.now;
        client.session.acknowledge(vec![(stream, 1)], now);
    }
    assert_eq!(client.session.acks.len(), MAX_ACKED_STREAMS);
}

#[test]
fn a_listener_is_pinged_and_its_silence_means_nothing() {
    let mut client = Client::new();
    client.session = client.session.of_a_listener();
    for _ in 0..5 {
        let until = client.session.next_tick(client.now);
        assert_eq!(until, HEARTBEAT);
        client.wait(25_000);
        assert_eq!(client.tick(), [Action::Ping]);
    }
    client.wait(900_000);
    assert_eq!(client.tick(), [Action::Close(Close::TokenExpired)]);
}
