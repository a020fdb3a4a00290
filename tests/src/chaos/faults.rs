//! The kinds of faults that a run causes.

/// Which of the three servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Api,
    WsPush,
    Worker,
}

/// What happens to one of the three servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blow {
    Kill,
    Pause,
    /// SIGTERM, as in a rolling restart.
    Restart,
    /// Its connections to the broker break, and new ones are refused.
    CutBroker,
    /// Nothing passes to the broker and back.
    SilenceBroker,
    SlowBroker,
    /// The worker asks it for nothing.
    CutRedis,
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Server(Role, Blow),
    KillPrimary,
    StepDown,
    PausePrimary,
    /// From its peers, not from its clients.
    IsolatePrimary,
    KillSecondary,
    KillBroker,
    PauseBroker,
    CloseConnections,
    MemoryAlarm,
    KillRedis,
    PauseRedis,
    FlushRedis,
    ReloadNginx,
}

pub(super) const KINDS: [Kind; 30] = [
    Kind::Server(Role::Api, Blow::Kill),
    Kind::Server(Role::Api, Blow::Pause),
    Kind::Server(Role::Api, Blow::Restart),
    Kind::Server(Role::Api, Blow::CutBroker),
    Kind::Server(Role::Api, Blow::SilenceBroker),
    Kind::Server(Role::Api, Blow::SlowBroker),
    Kind::Server(Role::Api, Blow::CutRedis),
    Kind::Server(Role::WsPush, Blow::Kill),
    Kind::Server(Role::WsPush, Blow::Pause),
    Kind::Server(Role::WsPush, Blow::Restart),
    Kind::Server(Role::WsPush, Blow::CutBroker),
    Kind::Server(Role::WsPush, Blow::SilenceBroker),
    Kind::Server(Role::WsPush, Blow::SlowBroker),
    Kind::Server(Role::WsPush, Blow::CutRedis),
    Kind::Server(Role::Worker, Blow::Kill),
    Kind::Server(Role::Worker, Blow::Pause),
    Kind::Server(Role::Worker, Blow::CutBroker),
    Kind::KillPrimary,
    Kind::StepDown,
    Kind::PausePrimary,
    Kind::IsolatePrimary,
    Kind::KillSecondary,
    Kind::KillBroker,
    Kind::PauseBroker,
    Kind::CloseConnections,
    Kind::MemoryAlarm,
    Kind::KillRedis,
    Kind::PauseRedis,
    Kind::FlushRedis,
    Kind::ReloadNginx,
];

/// What two faults at once must not share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    Server(Role),
    MongoDb,
    Broker,
    Redis,
    Nginx,
}

impl Kind {
    pub(super) fn subject(self) -> Subject {
        match self {
            Self::Server(role, _) => Subject::Server(role),
            Self::KillPrimary
            | Self::StepDown
            | Self::PausePrimary
            | Self::IsolatePrimary
            | Self::KillSecondary => Subject::MongoDb,
            Self::KillBroker | Self::PauseBroker | Self::CloseConnections | Self::MemoryAlarm => {
                Subject::Broker
            }
            Self::KillRedis | Self::PauseRedis | Self::FlushRedis => Subject::Redis,
            Self::ReloadNginx => Subject::Nginx,
        }
    }

    /// Whether it is over as soon as it has been caused.
    pub(super) fn is_instant(self) -> bool {
        matches!(
            self,
            Self::CloseConnections | Self::FlushRedis | Self::ReloadNginx
        )
    }

    /// As reports name it.
    pub(super) fn name(self) -> String {
        let Self::Server(role, blow) = self else {
            return spaced(&format!("{self:?}"));
        };
        format!("{} {}", spaced(&format!("{blow:?}")), role.program())
    }
}

/// `KillPrimary` is called `kill primary`.
fn spaced(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push(' ');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

impl Role {
    pub(super) fn program(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::WsPush => "ws-push",
            Self::Worker => "worker",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<String> = KINDS.into_iter().map(Kind::name).collect();
        assert_eq!(names.len(), KINDS.len());
        assert!(names.contains("kill primary") && names.contains("cut broker ws-push"));
    }
}
