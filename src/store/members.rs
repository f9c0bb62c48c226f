//! Acceptances and bans, each with its deadline in three ways (see `clock`).

use std::collections::HashMap;

use ipnet::IpNet;
use rusqlite::{Connection, Row, Transaction, params};

use super::clock::{Clocks, Written};
use super::owed;
use crate::engine::{Everything, Kept, Memo};
use crate::model::{Chain, GateName, Time, canonical_net};

pub(super) const SCHEMA: &str = "
    CREATE TABLE members (
        gate TEXT NOT NULL,
        chain TEXT NOT NULL,
        net TEXT NOT NULL,
        reason TEXT NOT NULL,
        -- Its place among those that knocks brought about; NULL is by hand.
        by_knock INTEGER,
        boot_id TEXT NOT NULL,
        -- Nanoseconds of that boot's CLOCK_BOOTTIME; NULL is never.
        ends_boot INTEGER,
        -- Milliseconds since 1970, and what was left when this was written.
        ends_wall INTEGER NOT NULL,
        left_ms INTEGER NOT NULL,
        PRIMARY KEY (gate, chain, net)
    ) WITHOUT ROWID;
    -- Both clocks when something was last written: one row.
    CREATE TABLE clocks (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        boot_id TEXT NOT NULL,
        boot INTEGER NOT NULL,
        wall INTEGER NOT NULL
    );
";

const PUT: &str = "
    INSERT INTO members (gate, chain, net, reason, by_knock, boot_id, ends_boot, ends_wall, left_ms)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
    ON CONFLICT (gate, chain, net) DO UPDATE SET
        reason = excluded.reason, by_knock = excluded.by_knock, boot_id = excluded.boot_id,
        ends_boot = excluded.ends_boot, ends_wall = excluded.ends_wall, left_ms = excluded.left_ms
    WHERE (reason, by_knock, boot_id, ends_boot)
        IS NOT (excluded.reason, excluded.by_knock, excluded.boot_id, excluded.ends_boot)";

const DELETE: &str = "DELETE FROM members WHERE gate = ?1 AND chain = ?2 AND net = ?3";

/// Nanoseconds as `SQLite` keeps them: 292 years, and then no more.
pub(super) fn stored(time: Time) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

fn put(change: &Transaction<'_>, kept: &Kept, now: &Clocks) -> rusqlite::Result<()> {
    let written = Written::new(kept.deadline, now);
    let order = kept.by_knock.map(|n| i64::try_from(n).unwrap_or(i64::MAX));
    change
        .prepare_cached(PUT)?
        .execute(params![
            kept.gate.as_str(),
            kept.chain.suffix(),
            kept.net.to_string(),
            kept.reason,
            order,
            written.boot_id,
            written.ends_boot.map(stored),
            written.ends_wall_ms,
            written.left_ms
        ])
        .map(drop)
}

pub(super) fn apply(
    change: &Transaction<'_>,
    memos: &[Memo],
    now: &Clocks,
) -> rusqlite::Result<()> {
    for memo in memos {
        match memo {
            Memo::Keep(kept) => put(change, kept, now)?,
            Memo::Forget(gate, chain, net) => {
                let net = net.to_string();
                let key = params![gate.as_str(), chain.suffix(), net];
                change.prepare_cached(DELETE)?.execute(key)?;
            }
            Memo::ForgetGate(gate) => {
                change.execute("DELETE FROM members WHERE gate = ?1", [gate.as_str()])?;
            }
            Memo::Owe(owed) => owed::put(change, owed, now)?,
            Memo::Settled(id) => owed::settle(change, *id)?,
        }
    }
    Ok(())
}

/// Makes the table hold exactly these. Rows that say the same already are left alone: after a
/// reboot a hundred thousand bans for good are read, and not written.
pub(super) fn replace(
    change: &Transaction<'_>,
    everything: &Everything,
    now: &Clocks,
) -> rusqlite::Result<()> {
    let mut wanted: HashMap<&str, HashMap<(Chain, IpNet), &Kept>> = HashMap::new();
    for kept in &everything.members {
        let of_gate = wanted.entry(kept.gate.as_str()).or_default();
        of_gate.insert((kept.chain, kept.net), kept);
    }
    let mut gone: Vec<(String, String, String)> = Vec::new();
    let mut select = change
        .prepare("SELECT gate, chain, net, reason, by_knock, boot_id, ends_boot FROM members")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let (gate, chain) = (row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?);
        let text = row.get_ref(2)?.as_str()?;
        let key = chain_of(chain).zip(text.parse::<IpNet>().ok());
        match (key, wanted.get_mut(gate)) {
            (Some(key), Some(of_gate)) if of_gate.contains_key(&key) => {
                if says(row, of_gate[&key], now)? {
                    of_gate.remove(&key);
                }
            }
            _ => gone.push((gate.to_owned(), chain.to_owned(), text.to_owned())),
        }
    }
    drop(rows);
    for (gate, chain, net) in gone {
        let key = params![gate, chain, net];
        change.prepare_cached(DELETE)?.execute(key)?;
    }
    // In their order, which is about that of the table.
    for kept in &everything.members {
        let of_gate = wanted.get(kept.gate.as_str());
        if of_gate.is_some_and(|rest| rest.contains_key(&(kept.chain, kept.net))) {
            put(change, kept, now)?;
        }
    }
    Ok(())
}

/// Whether the row, from its reason on, is what `put` would write. What never ends does so in
/// every boot.
fn says(row: &Row<'_>, kept: &Kept, now: &Clocks) -> rusqlite::Result<bool> {
    let order = kept.by_knock.map(|n| i64::try_from(n).unwrap_or(i64::MAX));
    let ends = Written::new(kept.deadline, now).ends_boot.map(stored);
    Ok(row.get_ref(3)?.as_str()? == kept.reason
        && row.get::<_, Option<i64>>(4)? == order
        && row.get::<_, Option<i64>>(6)? == ends
        && (ends.is_none() || row.get_ref(5)?.as_str()? == now.boot_id))
}

fn chain_of(suffix: &str) -> Option<Chain> {
    let members = [Chain::Banned, Chain::Filter];
    members.into_iter().find(|chain| chain.suffix() == suffix)
}

/// Notes both clocks.
pub(super) fn note(change: &Transaction<'_>, now: &Clocks) -> rusqlite::Result<()> {
    let mut note = change.prepare_cached(
        "INSERT OR REPLACE INTO clocks (id, boot_id, boot, wall) VALUES (1, ?1, ?2, ?3)",
    )?;
    let boot = stored(now.boot);
    note.execute(params![now.boot_id, boot, now.wall_ms])
        .map(drop)
}

/// Both clocks as they were last noted.
pub(super) fn noted(database: &Connection) -> rusqlite::Result<Option<Clocks>> {
    let mut select = database.prepare("SELECT boot_id, boot, wall FROM clocks")?;
    let mut rows = select.query([])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    Ok(Some(Clocks {
        boot_id: row.get(0)?,
        boot: time(row.get(1)?),
        wall_ms: row.get(2)?,
    }))
}

pub(super) fn time(stored: i64) -> Time {
    Time(u64::try_from(stored).unwrap_or(0))
}

/// All that still hold, with their deadlines in this boot. What is no member is left out.
pub(super) fn read(database: &Connection, now: &Clocks) -> rusqlite::Result<Vec<Kept>> {
    let noted = noted(database)?;
    let mut select = database.prepare(
        "SELECT gate, chain, net, reason, by_knock, boot_id, ends_boot, ends_wall, left_ms
         FROM members",
    )?;
    let mut rows = select.query([])?;
    let mut members = Vec::new();
    while let Some(row) = rows.next()? {
        let gate = GateName::new(row.get_ref(0)?.as_str()?);
        let chain = chain_of(row.get_ref(1)?.as_str()?);
        let net = row.get_ref(2)?.as_str()?.parse::<IpNet>();
        let (Ok(gate), Some(chain), Ok(net)) = (gate, chain, net) else {
            continue;
        };
        let order: Option<i64> = row.get(4)?;
        let written = Written {
            boot_id: row.get(5)?,
            ends_boot: row.get::<_, Option<i64>>(6)?.map(time),
            ends_wall_ms: row.get(7)?,
            left_ms: row.get(8)?,
        };
        let deadline = written.deadline(noted.as_ref(), now);
        if deadline.is_over(now.boot) {
            continue;
        }
        members.push(Kept {
            gate,
            chain,
            net: canonical_net(net),
            deadline,
            reason: row.get(3)?,
            by_knock: order.map(|order| u64::try_from(order).unwrap_or(0)),
        });
    }
    Ok(members)
}
