//! AMQP 0-9-1 as it passes a proxy: as much of it as is needed to find a publish.

const METHOD: u8 = 1;
const HEAD: usize = 7;
const PUBLISH: [u8; 4] = [0, 60, 0, 40];
const BIND_OK: [u8; 4] = [0, 50, 0, 21];

/// Where the publishes begin whose bodies contain `text`, as far as they lie in this piece. One
/// that began in an earlier piece counts from the beginning of this one.
pub(super) fn publishes(piece: &[u8], text: &str) -> Vec<usize> {
    let mut found = Vec::new();
    let mut begun = 0;
    for (offset, frame) in Frames(piece, 0) {
        if frame[0] == METHOD {
            if frame[HEAD..].starts_with(&PUBLISH) {
                begun = offset;
            }
        } else if contains(frame, text.as_bytes()) {
            found.push(begun);
        }
    }
    found
}

/// How many publishes begin in this piece.
pub(super) fn count_publishes(piece: &[u8]) -> usize {
    let begins = |(_, frame): &(usize, &[u8])| frame[HEAD..].starts_with(&PUBLISH);
    Frames(piece, 0).filter(begins).count()
}

/// Whether the broker says here that a queue is bound.
pub(super) fn has_bind_ok(piece: &[u8]) -> bool {
    Frames(piece, 0).any(|(_, frame)| frame[HEAD..].starts_with(&BIND_OK))
}

pub(super) fn contains(piece: &[u8], wanted: &[u8]) -> bool {
    piece.windows(wanted.len()).any(|window| window == wanted)
}

/// The frames of a piece that begins with one, each with its offset. The last may be cut off.
struct Frames<'a>(&'a [u8], usize);

impl<'a> Iterator for Frames<'a> {
    type Item = (usize, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.0[self.1..];
        let size = rest.get(3..HEAD)?;
        let size = u32::from_be_bytes([size[0], size[1], size[2], size[3]]);
        let length = HEAD + usize::try_from(size).ok()? + 1;
        let offset = self.1;
        self.1 += length.min(rest.len());
        Some((offset, &rest[..length.min(rest.len())]))
    }
}

#[test]
fn a_publish_is_found_by_its_body() {
    let frame = |kind: u8, payload: &[u8]| {
        let size = u32::try_from(payload.len()).expect("short").to_be_bytes();
        [&[kind, 0, 1][..], &size, payload, &[0xCE]].concat()
    };
    let one = [frame(1, &PUBLISH), frame(2, b"head"), frame(3, b"{one}")].concat();
    let two = [frame(1, &PUBLISH), frame(2, b"head"), frame(3, b"{two}")].concat();
    let piece = [&*one, &two, &one].concat();
    assert_eq!(publishes(&piece, "two"), [one.len()]);
    assert_eq!(publishes(&piece, "one"), [0, one.len() + two.len()]);
    assert_eq!(count_publishes(&piece), 3);
    assert!(publishes(&piece, "three").is_empty());
    assert!(!has_bind_ok(&piece) && has_bind_ok(&frame(1, &BIND_OK)));
}
