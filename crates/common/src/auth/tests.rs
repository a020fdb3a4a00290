use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::{Keys, Principal, TokenError};
use crate::domain::{SessionId, Timestamp, UserId};

const SECRET: &str = "a secret of more than thirty-two bytes";
const TTL: Duration = Duration::from_secs(900);

fn keys() -> Keys {
    Keys::new(&SecretString::from(SECRET))
}

fn now() -> Timestamp {
    Timestamp::from_millis(1_763_726_400_500)
}

/// Claims that are accepted; each forgery changes one thing.
fn good() -> Value {
    json!({
        "iss": "tidings", "typ": "access", "iat": now().as_secs(), "exp": now().as_secs() + 900,
        "sub": UserId::generate().to_string(), "sid": SessionId::generate().to_string(),
    })
}

fn with(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = good();
    claims[name] = value.into();
    claims
}

fn without(name: &str) -> Value {
    let mut claims = good();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn signed(header: &Header, claims: &Value, secret: &str) -> String {
    jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

fn hs256(claims: &Value) -> String {
    signed(&Header::new(Algorithm::HS256), claims, SECRET)
}

/// The good token's claims and signature under another header.
fn under_header(header: &Value) -> String {
    use base64::Engine as _;
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(header.to_string());
    let token = hs256(&good());
    let (_, rest) = token.split_once('.').unwrap();
    format!("{header}.{rest}")
}

#[test]
fn a_token_says_who_signed_in_until_its_end() {
    let (user, session) = (UserId::generate(), SessionId::generate());
    let (token, expires_at) = keys().access_token(user, session, now(), TTL);
    let principal = keys().verify_access(token.expose_secret(), now()).unwrap();
    assert_eq!(
        principal,
        Principal {
            user,
            session,
            expires_at
        }
    );
    assert_eq!(expires_at.as_secs(), now().as_secs() + 900);

    let last = expires_at.plus_millis(-1);
    assert!(keys().verify_access(token.expose_secret(), last).is_ok());
    let over = keys().verify_access(token.expose_secret(), expires_at);
    assert_eq!(over, Err(TokenError::Expired));
}

#[test]
fn forged_tokens_are_refused() {
    let secs = now().as_secs();
    let rs256 = json!({"alg": "RS256", "typ": "JWT"});
    let none = json!({"alg": "none", "typ": "JWT"});
    let unsigned = under_header(&none).rsplit_once('.').unwrap().0.to_owned() + ".";
    let good_token = hs256(&good());
    let (signed_part, signature) = good_token.rsplit_once('.').unwrap();
    let other_claims = hs256(&with("sub", UserId::generate().to_string()));
    let other_body = other_claims.split('.').nth(1).unwrap();
    let header = good_token.split('.').next().unwrap();
    let table = [
        ("empty", String::new()),
        ("not a token", "a.b.c".to_owned()),
        ("alg none", under_header(&none)),
        ("alg none, no signature", unsigned),
        ("RS256 header", under_header(&rs256)),
        (
            "HS384 header",
            signed(&Header::new(Algorithm::HS384), &good(), SECRET),
        ),
        (
            "another secret",
            signed(&Header::default(), &good(), &SECRET.to_uppercase()),
        ),
        (
            "claims swapped",
            format!("{header}.{other_body}.{signature}"),
        ),
        ("no signature", format!("{signed_part}.")),
        ("trailing garbage", format!("{good_token}x")),
        ("trailing part", format!("{good_token}.x")),
        ("leading space", format!(" {good_token}")),
        ("too long", hs256(&with("pad", "x".repeat(4096)))),
        ("a ticket's type", hs256(&with("typ", "ticket"))),
        ("an unknown type", hs256(&with("typ", "refresh"))),
        ("no type", hs256(&without("typ"))),
        ("another issuer", hs256(&with("iss", "someone"))),
        ("no issuer", hs256(&without("iss"))),
        ("an audience", hs256(&with("aud", "someone"))),
        ("no end", hs256(&without("exp"))),
        ("an end as text", hs256(&with("exp", "tomorrow"))),
        ("no start", hs256(&without("iat"))),
        ("issued an hour ahead", hs256(&with("iat", secs + 3600))),
        ("not valid before an hour", hs256(&with("nbf", secs + 3600))),
        ("no subject", hs256(&without("sub"))),
        ("a subject that is no id", hs256(&with("sub", "ada"))),
        ("no session", hs256(&without("sid"))),
    ];
    for (name, token) in table {
        let result = keys().verify_access(&token, now());
        assert_eq!(result, Err(TokenError::Invalid), "{name}");
    }
    assert!(keys().verify_access(&good_token, now()).is_ok());
    let over = hs256(&with("exp", secs - 1));
    assert_eq!(keys().verify_access(&over, now()), Err(TokenError::Expired));
}

#[test]
fn a_ticket_lives_thirty_seconds_and_never_longer_than_its_token() {
    let principal = Principal {
        user: UserId::generate(),
        session: SessionId::generate(),
        expires_at: Timestamp::from_millis((now().as_secs() + 900) * 1000),
    };
    let ticket = keys().ticket(&principal, now());
    let seen = keys().verify_ticket(ticket.expose_secret(), now()).unwrap();
    assert_eq!(seen.principal, principal);
    let again = keys().ticket(&principal, now());
    let again = keys().verify_ticket(again.expose_secret(), now()).unwrap();
    assert_ne!(seen.id, again.id);

    let late = now().plus_millis(31_000);
    let over = keys().verify_ticket(ticket.expose_secret(), late);
    assert_eq!(over, Err(TokenError::Expired));
    let as_access = keys().verify_access(ticket.expose_secret(), now());
    assert_eq!(as_access, Err(TokenError::Invalid));
    let as_ticket = keys().verify_ticket(&hs256(&good()), now());
    assert_eq!(as_ticket, Err(TokenError::Invalid));

    let ending = Principal {
        expires_at: now().plus_millis(5_000),
        ..principal
    };
    let ticket = keys().ticket(&ending, now());
    let over = keys().verify_ticket(ticket.expose_secret(), now().plus_millis(6_000));
    assert_eq!(over, Err(TokenError::Expired));
}

#[test]
fn a_refresh_token_is_derived_and_tells_its_family_and_generation() {
    let session = SessionId::generate();
    let token = keys().refresh_token(session, 7);
    let token = token.expose_secret();
    assert_eq!(token, keys().refresh_token(session, 7).expose_secret());
    let said = keys().parse_refresh(token).unwrap();
    assert_eq!((said.session, said.generation), (session, 7));

    let other = Keys::new(&SecretString::from("another secret of thirty-two bytes"));
    assert_eq!(other.parse_refresh(token), None);
    for position in 0..token.len() {
        let mut changed = token.as_bytes().to_vec();
        changed[position] = if changed[position] == b'A' {
            b'B'
        } else {
            b'A'
        };
        let changed = String::from_utf8(changed).unwrap();
        assert_eq!(keys().parse_refresh(&changed), None, "{position}");
    }
    for bad in [
        "",
        "x",
        &token[1..],
        &format!("{token}A"),
        &format!("{token}="),
    ] {
        assert_eq!(keys().parse_refresh(bad), None, "{bad}");
    }
}

#[test]
fn keys_and_tokens_do_not_show_in_debug_output() {
    let token = keys().refresh_token(SessionId::generate(), 0);
    let shown = format!("{:?} {token:?}", keys());
    assert!(!shown.contains(token.expose_secret()));
    assert!(!shown.contains(SECRET));
}
