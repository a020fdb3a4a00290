//! The tables, and connections to them.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};

use super::OpenError;
use super::{reading, row};
use crate::domain::{DeploymentId, ServerId};
use crate::store::{BusLayout, Meta};

/// The layout that this program reads and writes.
pub(super) const VERSION: i64 = 1;
/// The epoch of a new installation; `restore` raises it.
const FIRST_EPOCH: i64 = 1;
/// Waiting for a lock of SQLite's own. The writer is alone, so only checkpoints are met.
const BUSY: Duration = Duration::from_secs(5);
/// Prepared statements kept by a connection; there are fewer.
const STATEMENTS: usize = 128;

/// `entries` is a rowid table: rows are too large for a clustered one to pay off.
/// `copy_of` names the message whose content an entry holds besides the message itself.
const TABLES: &str = "
CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    deployment BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    schema INTEGER NOT NULL
);
CREATE TABLE entries (
    s BLOB NOT NULL,
    n INTEGER NOT NULL,
    id BLOB NOT NULL,
    kind TEXT NOT NULL,
    actor BLOB,
    key BLOB NOT NULL,
    request BLOB,
    at INTEGER NOT NULL,
    data TEXT NOT NULL,
    gv INTEGER NOT NULL,
    ord INTEGER NOT NULL,
    pending INTEGER,
    copy_of INTEGER
);
CREATE UNIQUE INDEX entries_position ON entries (s, n);
CREATE UNIQUE INDEX entries_key ON entries (s, key);
CREATE INDEX entries_messages ON entries (s, n) WHERE kind = 'message.created';
CREATE INDEX entries_others ON entries (s, n) WHERE kind <> 'message.created';
CREATE INDEX entries_pending ON entries (s, n, pending) WHERE pending IS NOT NULL;
CREATE INDEX entries_copies ON entries (s, copy_of) WHERE copy_of IS NOT NULL;
CREATE TABLE floors (
    s BLOB PRIMARY KEY,
    n INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE users (
    id BLOB PRIMARY KEY,
    username TEXT NOT NULL UNIQUE,
    display_name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    password_hash TEXT NOT NULL,
    key BLOB NOT NULL,
    applied INTEGER NOT NULL
);
CREATE TABLE sessions (
    id BLOB PRIMARY KEY,
    user BLOB NOT NULL,
    device_name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    rotated_at INTEGER,
    rotation_key BLOB,
    revoked INTEGER NOT NULL,
    applied INTEGER NOT NULL
);
CREATE INDEX sessions_of ON sessions (user, id) WHERE revoked = 0;
CREATE TABLE groups (
    id BLOB PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT,
    created_at INTEGER NOT NULL,
    version INTEGER NOT NULL,
    member_count INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    settings_applied INTEGER NOT NULL,
    applied INTEGER NOT NULL
);
CREATE TABLE members (
    grp BLOB NOT NULL,
    user BLOB NOT NULL,
    role TEXT NOT NULL,
    joined INTEGER NOT NULL,
    joined_at INTEGER NOT NULL,
    removed INTEGER NOT NULL,
    applied INTEGER NOT NULL,
    PRIMARY KEY (grp, user)
) WITHOUT ROWID;
CREATE INDEX members_of ON members (user, grp) WHERE removed = 0;
CREATE TABLE channels (
    id BLOB PRIMARY KEY,
    grp BLOB NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    applied INTEGER NOT NULL
);
CREATE INDEX channels_of ON channels (grp, id);
CREATE TABLE reactions (
    channel BLOB NOT NULL,
    message INTEGER NOT NULL,
    emoji TEXT NOT NULL,
    user BLOB NOT NULL,
    present INTEGER NOT NULL,
    since INTEGER NOT NULL,
    applied INTEGER NOT NULL,
    PRIMARY KEY (channel, message, emoji, user)
) WITHOUT ROWID;
";

/// Came after the others; an older database gets them when it is opened. `pins` repeats, for
/// lists, what the messages say of themselves, and changes with them.
const LATER_TABLES: &str = "
CREATE TABLE IF NOT EXISTS bus_layout (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    prefix TEXT NOT NULL,
    partitions INTEGER NOT NULL,
    exchanges INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS members_banned ON members (grp, user) WHERE banned_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS invites (
    id BLOB PRIMARY KEY,
    grp BLOB NOT NULL,
    created_by BLOB,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    max_uses INTEGER,
    uses INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    applied INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS invites_of ON invites (grp, id) WHERE deleted = 0;
CREATE TABLE IF NOT EXISTS pins (
    s BLOB NOT NULL,
    pin INTEGER NOT NULL,
    PRIMARY KEY (s, pin)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS leases (
    name TEXT PRIMARY KEY,
    holder BLOB NOT NULL,
    until INTEGER NOT NULL
) WITHOUT ROWID;
";

/// Likewise columns: table, name, and what they hold. A release that does not know them leaves
/// them as they are.
const LATER_COLUMNS: &[(&str, &str, &str)] = &[
    ("members", "muted_until", "INTEGER"),
    ("members", "banned_at", "INTEGER"),
    ("members", "banned_by", "BLOB"),
    ("channels", "slow_mode_secs", "INTEGER NOT NULL DEFAULT 0"),
    ("groups", "lease_token", "INTEGER"),
    ("groups", "lease_session", "BLOB"),
    ("groups", "lease_user", "BLOB"),
    ("groups", "lease_since", "INTEGER"),
    ("groups", "large", "INTEGER NOT NULL DEFAULT 0"),
    ("groups", "turned", "INTEGER NOT NULL DEFAULT 0"),
];

/// The writing connection, with the tables in place.
pub(super) fn connect_writer(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    prepare(&connection)?;
    // Every commit is synced before it is acknowledged; 4,000 pages are 16 MB of log, and the
    // file gives back what a long read made it grow by. What is deleted is overwritten, so that
    // a deleted message is nowhere in the file.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = OFF;
         PRAGMA wal_autocheckpoint = 4000; PRAGMA journal_size_limit = 67108864;
         PRAGMA cache_size = -16000; PRAGMA secure_delete = ON;",
    )?;
    create(&connection)?;
    Ok(connection)
}

pub(super) fn connect_reader(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    prepare(&connection)?;
    connection.execute_batch("PRAGMA cache_size = -8000;")?;
    Ok(connection)
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(())
}

fn create(connection: &Connection) -> Result<(), OpenError> {
    let transaction = connection.unchecked_transaction()?;
    let found: bool = transaction.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'meta')",
        [],
        |row| row.get(0),
    )?;
    if !found {
        transaction.execute_batch(TABLES)?;
        transaction.execute(
            "INSERT INTO meta (one, deployment, epoch, schema) VALUES (1, ?1, ?2, ?3)",
            params![DeploymentId::generate().as_bytes(), FIRST_EPOCH, VERSION],
        )?;
    }
    let schema: Option<i64> = transaction
        .query_row("SELECT schema FROM meta", [], |row| row.get(0))
        .optional()?;
    match schema {
        Some(VERSION) => {
            for (table, column, holds) in LATER_COLUMNS {
                add_column(&transaction, table, column, holds)?;
            }
            transaction.execute_batch(LATER_TABLES)?;
            transaction.execute_batch(reading::TABLES)?;
            Ok(transaction.commit()?)
        }
        found => Err(OpenError::Schema { found }),
    }
}

/// Costs nothing however many rows there are.
fn add_column(
    connection: &Connection,
    table: &str,
    column: &str,
    holds: &str,
) -> rusqlite::Result<()> {
    let there: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM pragma_table_info(?1) WHERE name = ?2)",
        [table, column],
        |row| row.get(0),
    )?;
    if !there {
        connection.execute_batch(&format!("ALTER TABLE {table} ADD COLUMN {column} {holds}"))?;
    }
    Ok(())
}

/// Records `layout` unless one is recorded; returns what is.
pub(super) fn agree(
    connection: &Connection,
    layout: &BusLayout,
) -> Result<BusLayout, super::Failure> {
    connection.execute(
        "INSERT INTO bus_layout (one, prefix, partitions, exchanges) VALUES (1, ?1, ?2, ?3)
         ON CONFLICT (one) DO NOTHING",
        params![layout.prefix, layout.partitions, layout.exchanges],
    )?;
    let sql = "SELECT prefix, partitions, exchanges FROM bus_layout";
    let recorded = connection.query_row(sql, [], |row| {
        Ok(BusLayout {
            prefix: row.get(0)?,
            partitions: row.get(1)?,
            exchanges: row.get(2)?,
        })
    });
    Ok(recorded?)
}

/// See [`StateStore::lease`](crate::store::StateStore::lease). Times are in milliseconds.
pub(super) fn lease(
    connection: &Connection,
    name: &str,
    holder: ServerId,
    lifetime: Duration,
) -> Result<bool, super::Failure> {
    const NOW: &str = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)";
    let sql = format!(
        "INSERT INTO leases (name, holder, until) VALUES (?1, ?2, {NOW} + ?3)
         ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
         WHERE holder = excluded.holder OR until <= {NOW}"
    );
    let lifetime = i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX / 2);
    let changed = connection.execute(&sql, params![name, holder.as_bytes(), lifetime])?;
    Ok(changed == 1)
}

pub(super) fn begin_epoch(connection: &Connection) -> Result<u64, super::Failure> {
    let sql = "UPDATE meta SET epoch = epoch + 1 RETURNING epoch";
    row::unsigned(connection.query_row(sql, [], |row| row.get(0))?)
}

pub(super) fn meta(connection: &Connection) -> Result<Meta, super::Failure> {
    let mut statement = connection.prepare_cached("SELECT deployment, epoch FROM meta")?;
    statement
        .query_one([], |row| {
            Ok((DeploymentId::from_bytes(row.get(0)?), row.get(1)?))
        })
        .map_err(super::Failure::from)
        .and_then(|(deployment, epoch)| {
            Ok(Meta {
                deployment,
                epoch: row::unsigned(epoch)?,
            })
        })
}
