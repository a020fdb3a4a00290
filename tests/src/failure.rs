//! What may happen to any request on a network with servers that come and go, as opposed to
//! what breaks the protocol. A client repeats after the former; a test must never take the
//! latter for it.

use tokio_tungstenite::tungstenite::error::{Error as WebSocket, ProtocolError};

use crate::client::Answer;

/// An answer that is not a success.
#[derive(Debug, Clone)]
pub struct Refused {
    pub status: u16,
    /// The problem's code; empty if there is none.
    pub code: String,
    text: String,
}

/// A connection that broke, or on which nothing came in time.
#[derive(Debug, Clone)]
pub struct Broken(pub String);

impl Refused {
    #[must_use]
    pub fn of(answer: &Answer) -> Self {
        let body = answer.json().unwrap_or_default();
        Self {
            status: answer.status,
            code: body["code"].as_str().unwrap_or_default().to_owned(),
            text: answer.text(),
        }
    }

    /// Whether docs/protocol.md (9, changing things) has a client repeat the request.
    #[must_use]
    pub fn passes(&self) -> bool {
        let expired = self.status == 401 && self.code == "token_expired";
        expired || matches!(self.status, 408 | 429 | 500..)
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "refused: {} {}", self.status, self.text)
    }
}

impl std::error::Error for Refused {}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Broken {}

/// Whether a client that meets this error simply tries again.
#[must_use]
pub fn passes(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        if let Some(refused) = cause.downcast_ref::<Refused>() {
            return refused.passes();
        }
        if let Some(http) = cause.downcast_ref::<reqwest::Error>() {
            return !http.is_builder(); // A body that breaks off is an error of decoding.
        }
        if let Some(error) = cause.downcast_ref::<WebSocket>() {
            return is_broken(error);
        }
        cause.is::<Broken>()
            || cause.is::<std::io::Error>()
            || cause.is::<tokio::time::error::Elapsed>()
    })
}

/// Whether a WebSocket ended without anybody having broken its rules.
#[must_use]
pub fn is_broken(error: &WebSocket) -> bool {
    matches!(
        error,
        WebSocket::Io(_)
            | WebSocket::ConnectionClosed
            | WebSocket::AlreadyClosed
            | WebSocket::Protocol(
                ProtocolError::ResetWithoutClosingHandshake
                    | ProtocolError::HandshakeIncomplete
                    | ProtocolError::SendAfterClosing
            )
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context as _, anyhow};
    use reqwest::header::HeaderMap;

    fn refused(status: u16, code: &str) -> anyhow::Error {
        let answer = Answer {
            status,
            headers: HeaderMap::new(),
            body: format!(r#"{{"code":"{code}"}}"#).into_bytes(),
        };
        Refused::of(&answer).into()
    }

    #[test]
    fn what_a_client_repeats_passes_and_what_breaks_the_protocol_does_not() {
        for passing in [
            refused(503, "unavailable"),
            refused(429, "rate_limited"),
            refused(401, "token_expired"),
            Broken("closed".to_owned()).into(),
            std::io::Error::other("reset").into(),
            WebSocket::ConnectionClosed.into(),
        ] {
            assert!(passes(&passing), "{passing}");
        }
        let wrapped = Err::<(), _>(refused(503, "unavailable")).context("a sync");
        assert!(passes(&wrapped.unwrap_err()));
        for breaking in [
            refused(404, "not_found"),
            refused(401, "unauthenticated"),
            anyhow!("no seq in a delta"),
            serde_json::from_str::<u8>("{").unwrap_err().into(),
            WebSocket::Protocol(ProtocolError::UnmaskedFrameFromClient).into(),
        ] {
            assert!(!passes(&breaking), "{breaking}");
        }
    }
}
