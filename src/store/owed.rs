//! Stop commands that are to run, each with its deadline in three ways (see `clock`). One that was
//! due while nothing ran is still owed: rows leave when the command has run, not when its time has
//! come.

use std::net::IpAddr;
use std::time::Duration;

use rusqlite::{Connection, Row, Transaction, params};

use super::clock::{Clocks, Written};
use super::members::{noted, stored, time};
use crate::engine::Owed;
use crate::model::{GateName, KnockName, canonical};
use crate::policy::CommandLine;

pub(super) const SCHEMA: &str = "
    CREATE TABLE owed (
        id INTEGER PRIMARY KEY,
        knock TEXT NOT NULL,
        address TEXT NOT NULL,
        -- Separated by spaces.
        gates TEXT NOT NULL,
        -- For a shell, or as it would be written for one in words without meaning to it.
        command TEXT NOT NULL,
        shell INTEGER NOT NULL,
        timeout_ms INTEGER NOT NULL,
        boot_id TEXT NOT NULL,
        -- Nanoseconds of that boot's CLOCK_BOOTTIME; NULL is never.
        ends_boot INTEGER,
        -- Milliseconds since 1970, and what was left when this was written.
        ends_wall INTEGER NOT NULL,
        left_ms INTEGER NOT NULL
    );
";

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn put(change: &Transaction<'_>, owed: &Owed, now: &Clocks) -> rusqlite::Result<()> {
    let written = Written::new(owed.due, now);
    let gates: Vec<&str> = owed.gates.iter().map(GateName::as_str).collect();
    let mut put = change.prepare_cached(
        "INSERT OR REPLACE INTO owed (id, knock, address, gates, command, shell, timeout_ms,
            boot_id, ends_boot, ends_wall, left_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    put.execute(params![
        i64::try_from(owed.id).unwrap_or(i64::MAX),
        owed.knock.as_str(),
        owed.source.to_string(),
        gates.join(" "),
        owed.command.to_string(),
        owed.command.is_shell(),
        millis(owed.timeout),
        written.boot_id,
        written.ends_boot.map(stored),
        written.ends_wall_ms,
        written.left_ms
    ])
    .map(drop)
}

pub(super) fn settle(change: &Transaction<'_>, id: u64) -> rusqlite::Result<()> {
    let mut delete = change.prepare_cached("DELETE FROM owed WHERE id = ?1")?;
    delete
        .execute([i64::try_from(id).unwrap_or(i64::MAX)])
        .map(drop)
}

/// Makes the table hold exactly these.
pub(super) fn replace(
    change: &Transaction<'_>,
    all: &[Owed],
    now: &Clocks,
) -> rusqlite::Result<()> {
    change.execute("DELETE FROM owed", [])?;
    all.iter().try_for_each(|owed| put(change, owed, now))
}

/// All of them, with their deadlines in this boot. What is no command is left out.
pub(super) fn read(database: &Connection, now: &Clocks) -> rusqlite::Result<Vec<Owed>> {
    let noted = noted(database)?;
    let mut select = database.prepare(
        "SELECT id, knock, address, gates, command, shell, timeout_ms, boot_id, ends_boot,
            ends_wall, left_ms
         FROM owed ORDER BY id",
    )?;
    let mut rows = select.query([])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.extend(owed(row, noted.as_ref(), now)?);
    }
    Ok(all)
}

fn owed(row: &Row<'_>, noted: Option<&Clocks>, now: &Clocks) -> rusqlite::Result<Option<Owed>> {
    let knock = KnockName::new(row.get_ref(1)?.as_str()?);
    let source = row.get_ref(2)?.as_str()?.parse::<IpAddr>();
    let gates = row.get_ref(3)?.as_str()?.split_whitespace();
    let gates = gates.map(GateName::new).collect::<Result<Vec<_>, _>>();
    let line: String = row.get(4)?;
    let command = if row.get(5)? {
        Ok(CommandLine::Shell(line))
    } else {
        CommandLine::words(&line)
    };
    let (Ok(knock), Ok(source), Ok(gates), Ok(command)) = (knock, source, gates, command) else {
        return Ok(None);
    };
    let timeout: i64 = row.get(6)?;
    let written = Written {
        boot_id: row.get(7)?,
        ends_boot: row.get::<_, Option<i64>>(8)?.map(time),
        ends_wall_ms: row.get(9)?,
        left_ms: row.get(10)?,
    };
    Ok(Some(Owed {
        id: u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0),
        knock,
        source: canonical(source),
        gates,
        command,
        timeout: Duration::from_millis(timeout.max(0).unsigned_abs()),
        due: written.deadline(noted, now),
    }))
}
