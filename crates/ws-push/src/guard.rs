//! What a client may send, checked before any of it is buffered for decoding.
//!
//! The codec behind this looks at a frame's length only once the whole frame has arrived, and
//! until then its buffer grows: one client that declares a frame of 2^62 bytes and sends on
//! would take all memory. The guard reads the headers as they pass, and fails the stream at the
//! first that breaks a rule.

use crate::connection::Close;

/// Most frames of one fragmented message, so that empty continuations end.
const MAX_FRAGMENTS: usize = 64;
/// Most payload of a ping, pong or close (RFC 6455 §5.5).
const MAX_CONTROL_BYTES: u64 = 125;
/// Two bytes, eight of extended length, four of mask.
const MAX_HEADER_BYTES: usize = 14;

/// Why the stream was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error("a message is too large")]
    TooLarge,
    #[error("a message has too many fragments")]
    TooManyFragments,
    #[error("a client's frame is not masked")]
    Unmasked,
    #[error("reserved bits are set")]
    ReservedBits,
    #[error("a control frame is fragmented or too long")]
    BadControlFrame,
}

impl From<Violation> for Close {
    fn from(violation: Violation) -> Self {
        match violation {
            Violation::TooLarge | Violation::TooManyFragments => Self::TooLarge,
            Violation::Unmasked | Violation::ReservedBits | Violation::BadControlFrame => {
                Self::Protocol
            }
        }
    }
}

/// Follows frame boundaries through a client's byte stream. Holds 14 bytes of it at most.
#[derive(Debug)]
pub(crate) struct FrameGuard {
    max_message_bytes: u64,
    header: [u8; MAX_HEADER_BYTES],
    header_bytes: usize,
    /// Of the current frame's payload, still to come.
    payload_left: u64,
    /// Of the message under way: what its frames so far add up to.
    message_bytes: u64,
    message_frames: usize,
}

impl FrameGuard {
    pub(crate) fn new(max_message_bytes: u64) -> Self {
        Self {
            max_message_bytes,
            header: [0; MAX_HEADER_BYTES],
            header_bytes: 0,
            payload_left: 0,
            message_bytes: 0,
            message_frames: 0,
        }
    }

    /// Checks the next piece of the stream, cut anywhere.
    ///
    /// # Errors
    ///
    /// The first rule broken. The stream must not be read any further.
    pub(crate) fn check(&mut self, mut bytes: &[u8]) -> Result<(), Violation> {
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let here = usize::try_from(self.payload_left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                self.payload_left -= here as u64;
                bytes = &bytes[here..];
                continue;
            }
            self.header[self.header_bytes] = bytes[0];
            self.header_bytes += 1;
            bytes = &bytes[1..];
            if self.header_bytes >= 2 && self.header_bytes == self.header_length() {
                self.payload_left = self.admit()?;
                self.header_bytes = 0;
            } else if self.header_bytes == 2 {
                self.check_start()?;
            }
        }
        Ok(())
    }

    /// How long the header is that starts with the two bytes at hand.
    fn header_length(&self) -> usize {
        let extended = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if self.header[1] & 0x80 == 0 { 0 } else { 4 };
        2 + extended + mask
    }

    /// What the first two bytes give away already.
    fn check_start(&self) -> Result<(), Violation> {
        let (first, second) = (self.header[0], self.header[1]);
        if first & 0x70 != 0 {
            return Err(Violation::ReservedBits);
        }
        if second & 0x80 == 0 {
            return Err(Violation::Unmasked);
        }
        let (last, control) = (first & 0x80 != 0, first & 0x08 != 0);
        if control && (!last || u64::from(second & 0x7f) > MAX_CONTROL_BYTES) {
            return Err(Violation::BadControlFrame);
        }
        Ok(())
    }

    /// Takes a complete header in and returns the length of its payload.
    fn admit(&mut self) -> Result<u64, Violation> {
        self.check_start()?;
        let length = match self.header[1] & 0x7f {
            126 => u64::from(u16::from_be_bytes([self.header[2], self.header[3]])),
            127 => {
                let mut extended = [0; 8];
                extended.copy_from_slice(&self.header[2..10]);
                u64::from_be_bytes(extended)
            }
            short => u64::from(short),
        };
        let (last, control) = (self.header[0] & 0x80 != 0, self.header[0] & 0x08 != 0);
        if control {
            return Ok(length);
        }
        self.message_bytes = self.message_bytes.saturating_add(length);
        self.message_frames += 1;
        if self.message_bytes > self.max_message_bytes {
            return Err(Violation::TooLarge);
        }
        if self.message_frames > MAX_FRAGMENTS {
            return Err(Violation::TooManyFragments);
        }
        if last {
            self.message_bytes = 0;
            self.message_frames = 0;
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: u8 = 0x1;
    const CONTINUATION: u8 = 0x0;
    const PING: u8 = 0x9;
    const LAST: u8 = 0x80;

    /// A masked frame's header and as many payload bytes as are given.
    fn frame(first: u8, declared: u64, payload: usize) -> Vec<u8> {
        let mut bytes = vec![first];
        match (u8::try_from(declared), u16::try_from(declared)) {
            (Ok(short @ 0..126), _) => bytes.push(0x80 | short),
            (_, Ok(medium)) => {
                bytes.push(0x80 | 126);
                bytes.extend(medium.to_be_bytes());
            }
            _ => {
                bytes.push(0x80 | 127);
                bytes.extend(declared.to_be_bytes());
            }
        }
        bytes.extend([1, 2, 3, 4]);
        bytes.resize(bytes.len() + payload, b'x');
        bytes
    }

    fn check(frames: &[Vec<u8>]) -> Result<(), Violation> {
        let bytes = frames.concat();
        let whole = FrameGuard::new(4096).check(&bytes);
        let mut guard = FrameGuard::new(4096);
        let in_pieces = bytes.chunks(1).try_for_each(|piece| guard.check(piece));
        assert_eq!(whole, in_pieces, "where the stream is cut must not matter");
        whole
    }

    #[test]
    fn frames_within_the_limit_pass() {
        let frames = [
            frame(LAST | TEXT, 0, 0),
            frame(LAST | TEXT, 125, 125),
            frame(LAST | PING, 125, 125),
            frame(LAST | TEXT, 4096, 4096),
            frame(TEXT, 4000, 4000),
            frame(LAST | PING, 4, 4),
            frame(LAST | CONTINUATION, 96, 96),
            frame(LAST | TEXT, 4096, 4096),
        ];
        assert_eq!(check(&frames), Ok(()));
    }

    #[test]
    fn a_declared_length_over_the_limit_fails_before_its_payload() {
        for declared in [4097, 65_535, 65_536, 1 << 62, u64::MAX] {
            let header = frame(LAST | TEXT, declared, 0);
            assert_eq!(check(&[header]), Err(Violation::TooLarge), "{declared}");
        }
    }

    #[test]
    fn fragments_count_together() {
        let frames = [frame(TEXT, 4000, 4000), frame(CONTINUATION, 97, 0)];
        assert_eq!(check(&frames), Err(Violation::TooLarge));
    }

    #[test]
    fn empty_continuations_end() {
        let mut frames = vec![frame(TEXT, 0, 0)];
        frames.resize(MAX_FRAGMENTS, frame(CONTINUATION, 0, 0));
        assert_eq!(check(&frames), Ok(()));
        frames.push(frame(CONTINUATION, 0, 0));
        assert_eq!(check(&frames), Err(Violation::TooManyFragments));
    }

    #[test]
    fn broken_frames_fail() {
        let unmasked = vec![LAST | TEXT, 2, b'h', b'i'];
        assert_eq!(check(&[unmasked]), Err(Violation::Unmasked));
        for reserved in [0x10, 0x20, 0x40] {
            let frames = [frame(LAST | reserved | TEXT, 1, 1)];
            assert_eq!(check(&frames), Err(Violation::ReservedBits));
        }
        for broken in [frame(PING, 1, 1), frame(LAST | PING, 126, 126)] {
            assert_eq!(check(&[broken]), Err(Violation::BadControlFrame));
        }
    }

    #[test]
    fn no_bytes_at_all_make_it_panic() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..40)
                .map(|_| {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    random.to_le_bytes()[0]
                })
                .collect();
            let _outcome = check(&[bytes]);
        }
    }
}
