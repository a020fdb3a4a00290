//! Between fields of stored documents and the domain's types.

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, RawBsonRef, RawDocument};

use super::Failure;
use crate::domain::{Seq, StreamId, Timestamp};

/// An id, as MongoDB stores UUIDs.
pub(super) fn uuid(bytes: &[u8; 16]) -> Binary {
    Binary {
        subtype: BinarySubtype::Uuid,
        bytes: bytes.to_vec(),
    }
}

/// Bytes that are no UUID.
pub(super) fn binary(bytes: &[u8]) -> Binary {
    Binary {
        subtype: BinarySubtype::Generic,
        bytes: bytes.to_vec(),
    }
}

/// The name of a stream. All have one length, so they are ordered by their bytes.
pub(super) fn stream_name(stream: StreamId) -> Binary {
    binary(&stream.to_bytes())
}

/// A position as MongoDB knows it. No stream gets as far as where this stops counting.
pub(super) fn signed(seq: Seq) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// A limit as MongoDB knows it, to which 0 means "none": callers look out for that.
pub(super) fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// A number that is never negative.
pub(super) fn unsigned(document: &RawDocument, name: &str) -> Result<u64, Failure> {
    let value = document.get_i64(name).map_err(Failure::corrupt)?;
    u64::try_from(value).map_err(Failure::corrupt)
}

pub(super) fn timestamp(document: &RawDocument, name: &str) -> Result<Timestamp, Failure> {
    let millis = document.get_i64(name).map_err(Failure::corrupt)?;
    Ok(Timestamp::from_millis(millis))
}

pub(super) fn text<'a>(document: &'a RawDocument, name: &str) -> Result<&'a str, Failure> {
    document.get_str(name).map_err(Failure::corrupt)
}

pub(super) fn bytes<const N: usize>(
    document: &RawDocument,
    name: &str,
) -> Result<[u8; N], Failure> {
    let found = document.get_binary(name).map_err(Failure::corrupt)?;
    found.bytes.try_into().map_err(Failure::corrupt)
}

/// None where the field is absent or null.
pub(super) fn optional_bytes<const N: usize>(
    document: &RawDocument,
    name: &str,
) -> Result<Option<[u8; N]>, Failure> {
    match document.get(name).map_err(Failure::corrupt)? {
        None | Some(RawBsonRef::Null) => Ok(None),
        Some(_) => bytes(document, name).map(Some),
    }
}

pub(super) fn stream(document: &RawDocument, name: &str) -> Result<StreamId, Failure> {
    let bytes: [u8; 17] = bytes(document, name)?;
    StreamId::from_bytes(&bytes).map_err(Failure::corrupt)
}
