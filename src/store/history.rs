//! What happened: every decision and every command, for as long as the policy says.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use rusqlite::{Connection, OpenFlags, Transaction, params};

use super::{FILE_NAME, Store, StoreError};
use crate::engine::Record;
use crate::model::{GateName, canonical_net};

pub(super) const SCHEMA: &str = "
    CREATE TABLE history (
        id INTEGER PRIMARY KEY,
        -- Milliseconds since 1970.
        at INTEGER NOT NULL,
        what TEXT NOT NULL,
        gate TEXT,
        net TEXT,
        -- The first and the last address of the network, 16 bytes each.
        first BLOB,
        last BLOB,
        why TEXT NOT NULL,
        note TEXT NOT NULL,
        until INTEGER,
        -- Whether a person asked for it, rather than a packet.
        by_hand INTEGER NOT NULL
    );
    CREATE INDEX history_kind ON history (by_hand, id);
    CREATE INDEX history_at ON history (at);
";

/// The longest text that is kept of a reason or a note, in bytes.
const LONGEST: usize = 500;

/// The most entries that one question gets.
pub const MOST_ENTRIES: u32 = 10_000;

/// Something that happened, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// What.
    pub record: Record,
    /// Until when it holds, in milliseconds since 1970.
    pub until_ms: Option<i64>,
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// How long.
    pub keep: Duration,
    /// How many entries of what packets brought about, and as many of what people asked for.
    pub rows: u32,
}

/// What of the history is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// What has an address in common with one of these; empty is all.
    pub nets: Vec<IpNet>,
    /// What happened at one of these gates, or at none in particular; empty is all.
    pub gates: Vec<String>,
    /// The latest so many, at most [`MOST_ENTRIES`].
    pub limit: u32,
}

/// An entry as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When, in UTC: `2026-11-20T09:03:45Z`.
    pub time: String,
    /// What happened, a word.
    pub what: String,
    /// Where.
    pub gate: Option<String>,
    /// To whom: an address or a network.
    pub address: Option<String>,
    /// Because of what.
    pub reason: String,
    /// What else there is to say.
    pub note: String,
    /// Until when it holds, in UTC.
    pub until: Option<String>,
}

/// The first and the last address of a network. IPv4 comes as RFC 4291's mapped addresses, which
/// nothing else overlaps but a network that contains all of them.
fn bounds(net: IpNet) -> ([u8; 16], [u8; 16]) {
    let bytes = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let net = canonical_net(net);
    (bytes(net.network()), bytes(net.broadcast()))
}

/// What fits, cut between characters.
fn short(text: &str) -> &str {
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

pub(super) fn add(change: &Transaction<'_>, entries: &[Happened]) -> rusqlite::Result<()> {
    let mut insert = change.prepare_cached(
        "INSERT INTO history (at, what, gate, net, first, last, why, note, until, by_hand)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    for Happened {
        at_ms,
        record,
        until_ms,
    } in entries
    {
        let bounds = record.net.map(bounds);
        insert.execute(params![
            at_ms,
            record.what.word(),
            record.gate.as_ref().map(GateName::as_str),
            record.net.map(shown),
            bounds.map(|(first, _)| first),
            bounds.map(|(_, last)| last),
            short(&record.why),
            short(&record.note),
            until_ms,
            record.by_hand
        ])?;
    }
    Ok(())
}

impl Store {
    /// Takes down what happened, and nothing else: what the store says of members and clocks stays
    /// as it was, and is no more about this boot than before.
    pub fn record(&mut self, entries: &[Happened]) -> Result<(), StoreError> {
        let failed = self.failed("write the history");
        let mut record = || {
            let change = self.database.transaction()?;
            add(&change, entries)?;
            change.commit()
        };
        record().map_err(failed)
    }
}

/// A single address without its prefix length.
fn shown(net: IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() {
        net.addr().to_string()
    } else {
        net.to_string()
    }
}

/// Takes out what is too old and what is too much. Packets can be forged: what they bring about
/// never crowds out what people asked for.
pub(super) fn prune(
    change: &Transaction<'_>,
    retention: Retention,
    now_ms: i64,
) -> rusqlite::Result<()> {
    let keep = i64::try_from(retention.keep.as_millis()).unwrap_or(i64::MAX);
    change
        .prepare_cached("DELETE FROM history WHERE at < ?1")?
        .execute([now_ms.saturating_sub(keep)])?;
    let mut surplus = change.prepare_cached(
        "DELETE FROM history WHERE by_hand = ?1 AND id <= (SELECT id FROM history
         WHERE by_hand = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
    )?;
    for by_hand in [false, true] {
        surplus.execute(params![by_hand, retention.rows])?;
    }
    Ok(())
}

/// Reads the history from the store in this directory, the latest entries last. It opens the
/// database by itself and only reads, so that it may take its time in a thread of its own.
pub fn read(dir: &Path, query: &Query) -> Result<Vec<Entry>, StoreError> {
    let path = dir.join(FILE_NAME);
    let failed = |operation| {
        let path = path.clone();
        move |source| StoreError::Database {
            operation,
            path,
            source,
        }
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database =
        Connection::open_with_flags(&path, flags).map_err(failed("open the database"))?;
    database
        .busy_timeout(Duration::from_secs(2))
        .and_then(|()| select(&database, query))
        .map_err(failed("read the history"))
}

fn select(database: &Connection, query: &Query) -> rusqlite::Result<Vec<Entry>> {
    let mut sql = String::from(
        "SELECT strftime('%Y-%m-%dT%H:%M:%SZ', at / 1000, 'unixepoch'), what, gate, net, why, note,
            strftime('%Y-%m-%dT%H:%M:%SZ', until / 1000, 'unixepoch')
         FROM history WHERE 1",
    );
    let mut values: Vec<rusqlite::types::Value> = Vec::new();
    if !query.nets.is_empty() {
        // A list and not a chain of OR, which has an end (SQLITE_MAX_EXPR_DEPTH, sqlite.org/limits).
        let asked = vec!["(?, ?)"; query.nets.len()].join(", ");
        let _ = write!(
            sql,
            " AND EXISTS (WITH asked(last_asked, first_asked) AS (VALUES {asked})
               SELECT 1 FROM asked WHERE first <= last_asked AND last >= first_asked)"
        );
        for net in &query.nets {
            let (first, last) = bounds(*net);
            values.extend([last.to_vec().into(), first.to_vec().into()]);
        }
    }
    if !query.gates.is_empty() {
        let named = vec!["?"; query.gates.len()].join(", ");
        let _ = write!(sql, " AND (gate IS NULL OR gate IN ({named}))");
        values.extend(query.gates.iter().cloned().map(Into::into));
    }
    sql += " ORDER BY id DESC LIMIT ?";
    values.push(i64::from(query.limit.min(MOST_ENTRIES)).into());
    let mut select = database.prepare(&sql)?;
    let entries = select.query_map(rusqlite::params_from_iter(values), |row| {
        Ok(Entry {
            // Nobody's calendar goes beyond the year 9999.
            time: row.get::<_, Option<String>>(0)?.unwrap_or_default(),
            what: row.get(1)?,
            gate: row.get(2)?,
            address: row.get(3)?,
            reason: row.get(4)?,
            note: row.get(5)?,
            until: row.get(6)?,
        })
    })?;
    let mut entries = entries.collect::<Result<Vec<_>, _>>()?;
    entries.reverse();
    Ok(entries)
}
