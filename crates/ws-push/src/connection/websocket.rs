//! How a WebSocket carries what a mailbox yields.

use actix_http::ws::{Codec, Message, OpCode, Parser};
use bytes::{Bytes, BytesMut};
use tokio_util::codec::Encoder as _;

use super::mailbox::Outgoing;
use super::outlet::gathered;

/// None ends the connection.
pub(super) fn encode(codec: &mut Codec, outgoing: Outgoing) -> Option<Bytes> {
    let mut frame = BytesMut::new();
    let message = match outgoing {
        Outgoing::Deltas(deltas) => {
            write_text(&mut frame, &gathered(&deltas));
            return Some(frame.freeze());
        }
        Outgoing::Frame(instruction) => {
            write_text(&mut frame, instruction.to_json().as_bytes());
            return Some(frame.freeze());
        }
        Outgoing::Ping => Message::Ping(Bytes::new()),
        Outgoing::Pong(payload) => Message::Pong(payload),
        Outgoing::Close(close) => Message::Close(Some(close.frame())),
        Outgoing::End => return None,
    };
    // Only continuations, of which there are none, can be refused.
    codec.encode(message, &mut frame).ok()?;
    Some(frame.freeze())
}

/// A text frame of what is known to be UTF-8; the codec's own message would check it again.
fn write_text(frame: &mut BytesMut, text: &[u8]) {
    Parser::write_message(frame, text, OpCode::Text, true, false);
}
