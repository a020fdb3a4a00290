//! A client without sockets: the steps that `device` makes, with the same rules.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use crate::agenda::Agenda;
use crate::catch_up::{CatchUp, Page, TakeUp};
use crate::replica::{Cursor, Delta, Replica};
use crate::view::Part;

/// Since the beginning of the schedule.
pub(super) type Time = Duration;

pub(super) struct Client {
    pub(super) replica: Replica,
    connection: Option<Connection>,
}

struct Connection {
    agenda: Agenda<Time>,
    sync: Option<CatchUp>,
    /// What is still to be read for this sync.
    to_take_up: Vec<TakeUp>,
}

/// What the client waits for.
pub(super) enum Waits {
    /// Away.
    ForConnection,
    ForPage(Value),
    ForState(TakeUp),
    /// Nothing is under way until then.
    Until(Time),
}

impl Client {
    pub(super) fn new(user: &str) -> Self {
        Self {
            replica: Replica::new(user),
            connection: None,
        }
    }

    pub(super) fn connect(&mut self, now: Time, background: Duration) {
        self.connection = Some(Connection {
            agenda: Agenda::new(now, background),
            sync: Some(self.whole_sync()),
            to_take_up: Vec::new(),
        });
    }

    fn whole_sync(&mut self) -> CatchUp {
        self.replica.drop_unknown();
        CatchUp::new(self.replica.cursor.clone(), false)
    }

    pub(super) fn disconnect(&mut self) {
        self.connection = None;
    }

    pub(super) fn waits(&self) -> Waits {
        let Some(connection) = &self.connection else {
            return Waits::ForConnection;
        };
        if let Some(sync) = &connection.sync {
            return Waits::ForPage(sync.request());
        }
        if let Some(next) = connection.to_take_up.last() {
            return Waits::ForState(next.clone());
        }
        let agenda = &connection.agenda;
        Waits::Until(
            agenda
                .gap_at
                .map_or(agenda.whole_at, |at| at.min(agenda.whole_at)),
        )
    }

    fn connection(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("only while connected")
    }

    pub(super) fn frame(&mut self, now: Time, frame: &Value) -> Result<()> {
        if frame["type"] == "resume" {
            let after = Duration::from_millis(frame["after_ms"].as_u64().unwrap_or_default());
            self.connection().agenda.sync_after(now, after);
        } else {
            self.offer(frame)?;
        }
        self.note_missing(now);
        Ok(())
    }

    fn offer(&mut self, value: &Value) -> Result<()> {
        if let Some(delta) = Delta::parse(value)? {
            self.replica.offer(delta)?;
        }
        Ok(())
    }

    /// The answer to [`Waits::ForPage`].
    pub(super) fn page(&mut self, now: Time, answer: &Value) -> Result<()> {
        let sync = self.connection().sync.as_mut().expect("it was asked");
        let Page { gone, deltas, last } = sync.answered(answer)?;
        for stream in gone {
            self.replica.gone(&stream);
        }
        for delta in &deltas {
            self.offer(delta)?;
        }
        if last {
            let connection = self.connection();
            let sync = connection.sync.take().expect("it was asked");
            connection.to_take_up = sync.to_take_up().collect();
            connection.to_take_up.reverse();
        }
        self.note_missing(now);
        Ok(())
    }

    /// The answer to [`Waits::ForState`].
    pub(super) fn state(&mut self, now: Time, part: Option<Part>) -> Result<()> {
        let TakeUp {
            stream,
            head,
            reset,
        } = self.connection().to_take_up.pop().expect("it was asked");
        match part {
            Some(part) => self.replica.take_found(&stream, head, part, reset)?,
            None => self.replica.gone(&stream),
        }
        self.note_missing(now);
        Ok(())
    }

    /// The time of [`Waits::Until`] has come.
    pub(super) fn wake(&mut self, now: Time) {
        let gaps = self.gaps();
        let connection = self.connection();
        if connection.agenda.whole_at <= now {
            connection.agenda.begin_whole(now);
            self.connection().sync = Some(self.whole_sync());
        } else {
            connection.sync = Some(CatchUp::new(gaps, true));
        }
        self.note_missing(now);
    }

    /// Gaps in the streams that the cursor has, with the position before each.
    pub(super) fn gaps(&self) -> Cursor {
        let gaps = self.replica.gaps().into_iter();
        gaps.filter_map(|(stream, position)| Some((stream, position?)))
            .collect()
    }

    fn note_missing(&mut self, now: Time) {
        let (lacking, gaps) = (self.replica.lacks_streams(), !self.gaps().is_empty());
        let connection = self.connection();
        if lacking {
            connection.agenda.sync_after(now, Duration::ZERO);
        }
        let syncing = connection.sync.is_some() || !connection.to_take_up.is_empty();
        connection.agenda.note_gaps(now, syncing, gaps);
    }
}
