//! `If-Match`: change it only if it is still at the version that I saw.

use tidings_common::domain::{Refusal, Seq};

/// What a caller demands of a resource's version before it is changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Precondition {
    /// It must be there, at whatever version.
    #[default]
    Any,
    /// It must be at one of these. Empty (every tag was of no version of ours): refused.
    Versions(Vec<Seq>),
}

impl Precondition {
    pub(super) fn check(&self, version: Seq) -> Result<(), Refusal> {
        match self {
            Self::Any => Ok(()),
            Self::Versions(versions) if versions.contains(&version) => Ok(()),
            Self::Versions(_) => Err(Refusal::PreconditionFailed { version }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Precondition;

    #[test]
    fn only_the_version_that_was_named_passes() {
        assert!(Precondition::Any.check(3).is_ok());
        assert!(Precondition::Versions(vec![2, 3]).check(3).is_ok());
        assert!(Precondition::Versions(vec![2]).check(3).is_err());
        assert!(Precondition::Versions(vec![]).check(3).is_err());
    }
}
