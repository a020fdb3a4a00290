//! A point in time, in milliseconds.

use std::fmt;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

/// Milliseconds since 1970-01-01T00:00:00Z. Printed as RFC 3339 in UTC with milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

/// The text is no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a time such as 2026-11-21T12:00:00Z")]
pub struct NotATime;

/// 9999-12-31T23:59:59.999Z, the last instant that RFC 3339 can name.
const LAST_MILLIS: i64 = 253_402_300_799_999;

impl Timestamp {
    /// Values that RFC 3339 cannot name (before 1970 or after 9999) are moved to the nearest
    /// one that it can.
    #[must_use]
    pub fn from_millis(millis: i64) -> Self {
        Self(millis.clamp(0, LAST_MILLIS))
    }

    #[must_use]
    pub fn as_millis(self) -> i64 {
        self.0
    }

    /// Reads RFC 3339, with any offset; what is below a millisecond is cut off.
    ///
    /// # Errors
    ///
    /// [`NotATime`] for anything else.
    pub fn parse(text: &str) -> Result<Self, NotATime> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| NotATime)?;
        let millis = moment.unix_timestamp_nanos().div_euclid(1_000_000);
        i64::try_from(millis)
            .map(Self::from_millis)
            .map_err(|_| NotATime)
    }

    /// Whole seconds since 1970, as JWT claims want them; rounded down.
    #[must_use]
    pub fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This time moved by `millis` (negative: back).
    #[must_use]
    pub fn plus_millis(self, millis: i64) -> Self {
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to this time; 0 if `earlier` is later.
    #[must_use]
    pub fn millis_since(self, earlier: Timestamp) -> u64 {
        u64::try_from(self.0 - earlier.0).unwrap_or(0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = format_description!(
            "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
        );
        let text = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000)
            .ok()
            .and_then(|moment| moment.format(format).ok())
            .ok_or(fmt::Error)?;
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::{NotATime, Timestamp};

    #[test]
    fn what_is_printed_can_be_read_and_so_can_other_offsets() {
        let moment = Timestamp::from_millis(1_763_726_400_123);
        for text in [
            moment.to_string().as_str(),
            "2025-11-21T13:00:00.1239+01:00",
        ] {
            assert_eq!(Timestamp::parse(text), Ok(moment), "{text}");
        }
        for bad in [
            "",
            "tomorrow",
            "2025-11-21",
            "2025-11-21T12:00:00",
            "1763726400",
        ] {
            assert_eq!(Timestamp::parse(bad), Err(NotATime), "{bad}");
        }
    }

    #[test]
    fn a_timestamp_prints_as_rfc_3339_with_milliseconds() {
        let moment = Timestamp::from_millis(1_763_726_400_123);
        assert_eq!(moment.to_string(), "2025-11-21T12:00:00.123Z");
        assert_eq!(
            Timestamp::from_millis(0).to_string(),
            "1970-01-01T00:00:00.000Z"
        );
        assert_eq!(
            Timestamp::from_millis(i64::MAX).to_string(),
            "9999-12-31T23:59:59.999Z"
        );
    }
}
