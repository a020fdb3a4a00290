//! How Server-Sent Events carry what a mailbox yields: each event's data is what would be one
//! text frame of a WebSocket. Pings and the close code, for which a WebSocket has frames of its
//! own, are frames here. There are no ids: a client that comes back says where it is by a sync.

use bytes::{BufMut as _, Bytes, BytesMut};
use tidings_common::wire::ServerFrame;

use super::mailbox::Outgoing;
use super::outlet::gathered;

const BEFORE: &[u8] = b"data: ";
const AFTER: &[u8] = b"\n\n";

/// None ends the stream.
pub(super) fn encode(outgoing: Outgoing) -> Option<Bytes> {
    let frame = match outgoing {
        Outgoing::Deltas(deltas) => return Some(event(&gathered(&deltas))),
        Outgoing::Frame(frame) => frame,
        // An event and no comment, so that a page sees that the connection works.
        Outgoing::Ping => ServerFrame::Ping,
        // Answers a client's ping, and clients say nothing here.
        Outgoing::Pong(_) => ServerFrame::Pong,
        Outgoing::Close(close) => {
            let row = close.row();
            ServerFrame::Close {
                code: row.code,
                reason: row.reason,
            }
        }
        Outgoing::End => return None,
    };
    Some(event(frame.to_json().as_bytes()))
}

/// JSON as we write it has no line breaks, so it is one line of data.
fn event(data: &[u8]) -> Bytes {
    let mut event = BytesMut::with_capacity(BEFORE.len() + data.len() + AFTER.len());
    event.put_slice(BEFORE);
    event.put_slice(data);
    event.put_slice(AFTER);
    event.freeze()
}

#[cfg(test)]
mod tests {
    use tidings_common::domain::Timestamp;

    use super::*;
    use crate::connection::Close;

    fn text(outgoing: Outgoing) -> String {
        String::from_utf8(encode(outgoing).unwrap().to_vec()).unwrap()
    }

    fn deltas(frames: &[&'static str]) -> Outgoing {
        let frames = frames
            .iter()
            .map(|frame| Bytes::from_static(frame.as_bytes()));
        Outgoing::Deltas(frames.map(|frame| (frame, Timestamp::default())).collect())
    }

    #[test]
    fn an_event_holds_one_frame_or_an_array_of_them() {
        assert_eq!(text(deltas(&[r#"{"a":1}"#])), "data: {\"a\":1}\n\n");
        let two = text(deltas(&[r#"{"a":1}"#, r#"{"b":2}"#]));
        assert_eq!(two, "data: [{\"a\":1},{\"b\":2}]\n\n");
    }

    #[test]
    fn what_a_websocket_has_frames_for_is_an_event() {
        assert_eq!(text(Outgoing::Ping), "data: {\"type\":\"ping\"}\n\n");
        let close = text(Outgoing::Close(Close::SessionRevoked));
        let expected = r#"{"type":"close","code":4009,"reason":"the session has been revoked"}"#;
        assert_eq!(close, format!("data: {expected}\n\n"));
        assert_eq!(encode(Outgoing::End), None);
    }

    #[test]
    fn every_reason_fits_into_a_line() {
        for close in Close::ALL {
            let text = text(Outgoing::Close(close));
            assert_eq!(text.lines().count(), 2, "{text}");
        }
    }
}
