//! What the client sends, as whole messages. Holds one message at most, and what the server's
//! socket handed over in one piece.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_http::ws::{Codec, Frame, Item};
use actix_web::dev::Payload;
use bytes::{Bytes, BytesMut};
use futures_util::Stream as _;
use tokio_util::codec::Decoder as _;

use super::Close;
use crate::guard::FrameGuard;

/// Most bytes of one client message, its fragments together. More closes with 1009. The largest
/// there is, a `watch` of 200 users, takes 7,828.
const MAX_MESSAGE_BYTES: usize = 8 * 1024;

pub(super) struct Reader {
    payload: Payload,
    guard: FrameGuard,
    codec: Codec,
    buffer: BytesMut,
    /// The fragments of the message under way.
    message: BytesMut,
}

/// One thing the client did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    Text(String),
    Ping(Bytes),
    Pong,
    /// The client closes, or did what closes the connection.
    Close(Close),
    /// The stream has ended without a close frame.
    Gone,
}

impl Reader {
    pub(super) fn new(payload: Payload) -> Self {
        Self {
            payload,
            guard: FrameGuard::new(MAX_MESSAGE_BYTES as u64),
            codec: Codec::new().max_size(MAX_MESSAGE_BYTES),
            buffer: BytesMut::new(),
            message: BytesMut::new(),
        }
    }

    /// The next message. Cancel-safe. Not to be called again after `Close` and `Gone`.
    pub(super) async fn next(&mut self) -> Incoming {
        poll_fn(|ctx| self.poll_next(ctx)).await
    }

    fn poll_next(&mut self, ctx: &mut Context<'_>) -> Poll<Incoming> {
        loop {
            match self.codec.decode(&mut self.buffer) {
                Ok(Some(frame)) => match self.take(frame) {
                    Some(incoming) => return Poll::Ready(incoming),
                    None => continue,
                },
                Ok(None) => {}
                Err(_) => return Poll::Ready(Incoming::Close(Close::Protocol)),
            }
            match ready!(Pin::new(&mut self.payload).poll_next(ctx)) {
                Some(Ok(bytes)) => {
                    if let Err(violation) = self.guard.check(&bytes) {
                        tracing::debug!(%violation, "a client broke the framing rules");
                        return Poll::Ready(Incoming::Close(violation.into()));
                    }
                    self.buffer.extend_from_slice(&bytes);
                }
                Some(Err(_)) | None => return Poll::Ready(Incoming::Gone),
            }
        }
    }

    fn take(&mut self, frame: Frame) -> Option<Incoming> {
        let incoming = match frame {
            Frame::Text(text) => text_of(&text),
            Frame::Binary(_) | Frame::Continuation(Item::FirstBinary(_)) => {
                Incoming::Close(Close::BinaryFrame)
            }
            // The guard bounds what the fragments of a message add up to.
            Frame::Continuation(Item::FirstText(part) | Item::Continue(part)) => {
                self.message.extend_from_slice(&part);
                return None;
            }
            Frame::Continuation(Item::Last(part)) => {
                self.message.extend_from_slice(&part);
                text_of(&std::mem::take(&mut self.message))
            }
            Frame::Ping(payload) => Incoming::Ping(payload),
            Frame::Pong(_) => Incoming::Pong,
            Frame::Close(_) => Incoming::Close(Close::Normal),
        };
        Some(incoming)
    }
}

fn text_of(bytes: &[u8]) -> Incoming {
    match std::str::from_utf8(bytes) {
        Ok(text) => Incoming::Text(text.to_owned()),
        Err(_) => Incoming::Close(Close::BadText),
    }
}
