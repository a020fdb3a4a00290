//! How connections end: the table of close codes. It is part of the protocol; a change shows
//! in `close_codes.golden.txt`.

use actix_http::ws::{CloseCode, CloseReason};

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Close {
    Normal,
    Protocol,
    BinaryFrame,
    BadText,
    Policy,
    TooLarge,
    Restarting,
    TryLater,
    TokenExpired,
    AccountDisabled,
    Slow,
    SessionRevoked,
    Displaced,
}

/// What a client does after a close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reconnect {
    No,
    /// At once, and syncs.
    Yes,
    /// After taking a new token.
    WithNewToken,
    /// When the `reconnect` frame said.
    AsTold,
    /// With growing delays.
    BackingOff,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct CloseRow {
    pub code: u16,
    pub name: &'static str,
    pub reconnect: Reconnect,
    /// At most 123 bytes: it travels in a control frame.
    pub reason: &'static str,
}

impl Close {
    /// Every row's reason, in the order of the codes.
    pub const ALL: [Close; 13] = [
        Close::Normal,
        Close::Protocol,
        Close::BinaryFrame,
        Close::BadText,
        Close::Policy,
        Close::TooLarge,
        Close::Restarting,
        Close::TryLater,
        Close::TokenExpired,
        Close::AccountDisabled,
        Close::Slow,
        Close::SessionRevoked,
        Close::Displaced,
    ];

    /// The table.
    #[must_use]
    pub const fn row(self) -> CloseRow {
        let (code, name, reconnect, reason) = match self {
            Self::Normal => (1000, "normal", Reconnect::No, "goodbye"),
            Self::Protocol => (1002, "protocol_error", Reconnect::No, "not a valid frame"),
            Self::BinaryFrame => (1003, "binary_frame", Reconnect::No, "frames are JSON text"),
            Self::BadText => (1007, "bad_text", Reconnect::No, "the text is not UTF-8"),
            Self::Policy => (1008, "too_many_errors", Reconnect::No, "too many errors"),
            Self::TooLarge => (1009, "too_large", Reconnect::No, "the frame is too large"),
            Self::Restarting => (
                1012,
                "restarting",
                Reconnect::AsTold,
                "the server is restarting: connect again",
            ),
            Self::TryLater => (
                1013,
                "try_later",
                Reconnect::BackingOff,
                "the server cannot take this connection now: connect again later",
            ),
            Self::TokenExpired => (
                4001,
                "token_expired",
                Reconnect::WithNewToken,
                "the access token has expired: connect again with a new one",
            ),
            Self::AccountDisabled => (
                4003,
                "account_disabled",
                Reconnect::No,
                "the account is disabled",
            ),
            Self::Slow => (
                4008,
                "slow",
                Reconnect::Yes,
                "the client reads too slowly: connect again and sync",
            ),
            Self::SessionRevoked => (
                4009,
                "session_revoked",
                Reconnect::No,
                "the session has been revoked",
            ),
            Self::Displaced => (
                4010,
                "displaced",
                Reconnect::No,
                "another connection of this user took its place",
            ),
        };
        CloseRow {
            code,
            name,
            reconnect,
            reason,
        }
    }

    /// What the close frame carries.
    pub(crate) fn frame(self) -> CloseReason {
        let row = self.row();
        CloseReason {
            code: CloseCode::from(row.code),
            description: Some(row.reason.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_as_the_protocol_promises() {
        let table: String = Close::ALL
            .iter()
            .map(|close| {
                let row = close.row();
                format!(
                    "{} {} {:?}: {}\n",
                    row.code, row.name, row.reconnect, row.reason
                )
            })
            .collect();
        assert_eq!(table, include_str!("close_codes.golden.txt"));
    }

    #[test]
    fn reasons_fit_into_a_control_frame() {
        for close in Close::ALL {
            assert!(close.row().reason.len() <= 123, "{close:?}");
            assert_eq!(u16::from(close.frame().code), close.row().code);
        }
    }
}
