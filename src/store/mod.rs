//! What outlives the daemon: acceptances and bans, what happened, stop commands
//! that are to run, the last good addresses of host
//! names, trust that lasts until reboot, and which backend was chosen. An `SQLite` database; every
//! call blocks for a moment and belongs off the packet path. The daemon does without it where it
//! fails.
//!
//! It is written with `journal_mode = WAL` and `synchronous = NORMAL`: what was written survives
//! the daemon, however it dies; a power cut may take the last moments before it, never the rest.
#![forbid(unsafe_code)]

mod clock;
mod damaged;
mod history;
mod members;
mod open;
mod owed;
#[cfg(test)]
mod owed_tests;
mod settings;
#[cfg(test)]
mod state_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipnet::IpNet;
use rusqlite::{Connection, params};

use crate::engine::{Everything, Kept, Memo, Owed, TrustEdit};
use crate::model::{GateName, canonical, canonical_net};

pub use clock::Clocks;
pub use damaged::{damaged, forget_damaged};
pub use history::{Entry, Happened, MOST_ENTRIES, Query, Retention, read as read_history};
pub use open::boot_id;

/// The database's name in the state directory.
pub const FILE_NAME: &str = "knockd.db";

/// How long the last good addresses of a name count.
pub const NAMES_KEPT: Duration = Duration::from_secs(7 * 86_400);

/// Why the store is of no use. The daemon can go on without.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The state directory or the file itself.
    #[error("cannot {operation} {}: {source}{hint}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The errno.
        source: io::Error,
        /// ` (what to do)`, or nothing.
        hint: &'static str,
    },
    /// `SQLite` refused.
    #[error("cannot {operation} in {}: {source}{}", path.display(), hint(source))]
    Database {
        /// What was tried.
        operation: &'static str,
        /// Which database.
        path: PathBuf,
        /// Its reason.
        source: rusqlite::Error,
    },
    /// A later release has written it.
    #[error(
        "{} is of version {found}, this knockd knows {known}: it was written by a later release; \
         move it away to start with an empty one",
        path.display()
    )]
    Newer {
        /// Which database.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
}

fn hint(error: &rusqlite::Error) -> &'static str {
    use rusqlite::ErrorCode;
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => " (make room on the disk)",
        Some(ErrorCode::ReadOnly) => " (make the state directory writable)",
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            " (another program holds it open)"
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            " (it is moved aside at the next start)"
        }
        _ => "",
    }
}

/// The last good addresses of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownName {
    /// As it was remembered.
    pub name: String,
    /// In no particular order, with how long ago each was good.
    pub addresses: Vec<(IpAddr, Duration)>,
}

impl KnownName {
    /// Its addresses alone.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.addresses.iter().map(|(address, _)| *address).collect()
    }
}

/// Trust that lasts until reboot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeTrust {
    /// Where; `None` is everywhere.
    pub gate: Option<GateName>,
    /// Whom.
    pub net: IpNet,
    /// Who gave it.
    pub reason: String,
}

/// Who besides the owner may read the state directory and the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Nobody.
    Nobody,
    /// Members of this group.
    Group(u32),
    /// The group that could before; nobody, where the database is new.
    AsBefore,
}

/// What is to be written in one transaction.
#[derive(Debug, Default)]
pub struct Batch {
    /// All members, all trust until reboot and all stop commands, in place of what is there.
    pub everything: Option<Everything>,
    /// What has changed about members and stop commands since, in order.
    pub memos: Vec<Memo>,
    /// What has changed about trust until reboot.
    pub trust: Vec<TrustEdit>,
    /// Names with exactly their addresses, and how long ago each was good; those that are good now
    /// with no time.
    pub names: Vec<(String, Vec<(IpAddr, Duration)>)>,
    /// Settings by name.
    pub settings: Vec<(String, String)>,
    /// What happened.
    pub happened: Vec<Happened>,
    /// Take out what is older or more than this.
    pub prune: Option<Retention>,
}

/// The open database.
#[derive(Debug)]
pub struct Store {
    database: Connection,
    path: PathBuf,
    boot_id: String,
    moved_aside: Option<PathBuf>,
    /// Device and inode of the file.
    identity: Option<(u64, u64)>,
}

impl Store {
    /// Opens `knockd.db` in `dir`, making both where they are missing (0600 in 0750). A file that
    /// is no database, or a damaged one, is moved aside and an empty one takes its place:
    /// [`Store::moved_aside`] says so. With a group, it may read: 0640 in 0750.
    pub fn open(dir: &Path, readers: Readers) -> Result<Self, StoreError> {
        Self::open_for(dir, &open::boot_id()?, readers)
    }

    /// Like [`Store::open`], as if this boot were `boot_id`.
    pub fn open_as(dir: &Path, boot_id: &str) -> Result<Self, StoreError> {
        Self::open_for(dir, boot_id, Readers::Nobody)
    }

    fn open_for(dir: &Path, boot_id: &str, readers: Readers) -> Result<Self, StoreError> {
        let (database, path, moved_aside) = open::open(dir, readers)?;
        let identity = open::identity(&path);
        let store = Self {
            database,
            path,
            boot_id: boot_id.to_owned(),
            moved_aside,
            identity,
        };
        store.forget_other_boots()?;
        Ok(store)
    }

    /// Opens it where nothing can be written: on a disk that is full, or mounted read-only. Only
    /// what reads makes sense of it.
    pub fn open_to_read(dir: &Path) -> Result<Self, StoreError> {
        let (database, path) = open::open_to_read(dir)?;
        Ok(Self {
            database,
            path,
            boot_id: open::boot_id()?,
            moved_aside: None,
            identity: None,
        })
    }

    /// Where a damaged database was moved when this one was opened.
    pub fn moved_aside(&self) -> Option<&Path> {
        self.moved_aside.as_deref()
    }

    /// Whether the file that is written is still the one that has its name.
    pub fn is_in_place(&self) -> bool {
        self.identity.is_some() && open::identity(&self.path) == self.identity
    }

    /// Where the database is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Remembers that `name` has exactly these addresses at the moment `now`.
    pub fn remember_name(
        &mut self,
        name: &str,
        addresses: &[IpAddr],
        now: SystemTime,
    ) -> Result<(), StoreError> {
        let failed = self.failed("remember a name");
        let mut remember = || {
            let change = self.database.transaction()?;
            let good = addresses.iter().map(|address| (*address, Duration::ZERO));
            replace_name(&change, name, &good.collect::<Vec<_>>(), unix_seconds(now))?;
            change.commit()
        };
        remember().map_err(failed)
    }

    /// Writes all of it, or nothing.
    pub fn write(&mut self, batch: &Batch, now: &Clocks) -> Result<(), StoreError> {
        let failed = self.failed("remember what was decided");
        self.write_batch(batch, now).map_err(failed)
    }

    fn write_batch(&mut self, batch: &Batch, now: &Clocks) -> rusqlite::Result<()> {
        let change = self
            .database
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        if let Some(everything) = &batch.everything {
            members::replace(&change, everything, now)?;
            owed::replace(&change, &everything.owed, now)?;
            change.execute("DELETE FROM runtime_trust", [])?;
            for (gate, net, reason) in &everything.trust {
                add_trust(&change, gate.as_ref(), *net, reason, &self.boot_id)?;
            }
        }
        members::apply(&change, &batch.memos, now)?;
        for edit in &batch.trust {
            match edit {
                TrustEdit::Add(gate, net, reason) => {
                    add_trust(&change, gate.as_ref(), *net, reason, &self.boot_id)?;
                }
                TrustEdit::Remove(gate, net) => remove_trust(&change, gate.as_ref(), *net)?,
            }
        }
        for (name, addresses) in &batch.names {
            replace_name(&change, name, addresses, now.wall_ms / 1000)?;
        }
        for (name, value) in &batch.settings {
            settings::set(&change, name, value)?;
        }
        history::add(&change, &batch.happened)?;
        if let Some(retention) = batch.prune {
            history::prune(&change, retention, now.wall_ms)?;
        }
        members::note(&change, now)?;
        change.commit()
    }

    /// The acceptances and bans that still hold, with their deadlines in this boot.
    pub fn members(&self, now: &Clocks) -> Result<Vec<Kept>, StoreError> {
        members::read(&self.database, now).map_err(self.failed("read acceptances and bans"))
    }

    /// The stop commands that are to run, with their deadlines in this boot: those whose time has
    /// come too.
    pub fn owed(&self, now: &Clocks) -> Result<Vec<Owed>, StoreError> {
        owed::read(&self.database, now).map_err(self.failed("read what is to be stopped"))
    }

    /// Both clocks as they were when something was last written.
    pub fn noted(&self) -> Result<Option<Clocks>, StoreError> {
        members::noted(&self.database).map_err(self.failed("read the clocks"))
    }

    /// Which boot this is.
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// The names that were good within the last seven days before `now`, by name. Where the wall
    /// clock was set back since, they count as fresh.
    pub fn names(&self, now: SystemTime) -> Result<Vec<KnownName>, StoreError> {
        self.read_names(unix_seconds(now))
            .map_err(self.failed("read the names"))
    }

    fn read_names(&self, now: i64) -> rusqlite::Result<Vec<KnownName>> {
        let mut select = self
            .database
            .prepare_cached("SELECT name, address, seen_at FROM names WHERE seen_at >= ?1")?;
        let oldest = now.saturating_sub_unsigned(NAMES_KEPT.as_secs());
        let mut rows = select.query([oldest])?;
        let mut names: BTreeMap<String, KnownName> = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let name: String = row.get(0)?;
            let address: String = row.get(1)?;
            let seen_at: i64 = row.get(2)?;
            let Ok(address) = address.parse::<IpAddr>() else {
                continue;
            };
            let age = Duration::from_secs(u64::try_from(now.saturating_sub(seen_at)).unwrap_or(0));
            let known = names.entry(name).or_insert_with_key(|name| KnownName {
                name: name.clone(),
                addresses: Vec::new(),
            });
            known.addresses.push((canonical(address), age));
        }
        Ok(names.into_values().collect())
    }

    /// Remembers trust until reboot; the reason of the last call counts.
    pub fn add_trust(
        &mut self,
        gate: Option<&GateName>,
        net: IpNet,
        reason: &str,
    ) -> Result<(), StoreError> {
        add_trust(&self.database, gate, net, reason, &self.boot_id)
            .map_err(self.failed("remember trust until reboot"))
    }

    /// Forgets it; what is not there is no error.
    pub fn remove_trust(&mut self, gate: Option<&GateName>, net: IpNet) -> Result<(), StoreError> {
        remove_trust(&self.database, gate, net).map_err(self.failed("forget trust until reboot"))
    }

    /// All trust given since the machine was booted.
    pub fn trust(&self) -> Result<Vec<RuntimeTrust>, StoreError> {
        self.read_trust()
            .map_err(self.failed("read the trust until reboot"))
    }

    fn read_trust(&self) -> rusqlite::Result<Vec<RuntimeTrust>> {
        let mut select = self.database.prepare_cached(
            "SELECT gate, net, reason FROM runtime_trust WHERE boot_id = ?1 ORDER BY gate, net",
        )?;
        let mut rows = select.query([&self.boot_id])?;
        let mut trust = Vec::new();
        while let Some(row) = rows.next()? {
            let gate: Option<String> = row.get(0)?;
            let net: String = row.get(1)?;
            // A row that somebody edited into nonsense trusts nobody.
            let Ok(net) = net.parse::<IpNet>() else {
                continue;
            };
            let gate = match gate.as_deref().map(GateName::new) {
                None => None,
                Some(Ok(gate)) => Some(gate),
                Some(Err(_)) => continue,
            };
            trust.push(RuntimeTrust {
                gate,
                net: canonical_net(net),
                reason: row.get(2)?,
            });
        }
        Ok(trust)
    }

    fn forget_other_boots(&self) -> Result<(), StoreError> {
        self.database
            .execute(
                "DELETE FROM runtime_trust WHERE boot_id <> ?1",
                [&self.boot_id],
            )
            .map(drop)
            .map_err(self.failed("forget the trust of earlier boots"))
    }

    fn failed(
        &self,
        operation: &'static str,
    ) -> impl FnOnce(rusqlite::Error) -> StoreError + use<> {
        let path = self.path.clone();
        move |source| StoreError::Database {
            operation,
            path,
            source,
        }
    }
}

/// What is only kept stays as it is there: it must not count for longer with every writing.
fn replace_name(
    change: &Connection,
    name: &str,
    addresses: &[(IpAddr, Duration)],
    now: i64,
) -> rusqlite::Result<()> {
    let mut remembered = change
        .prepare_cached("SELECT address, seen_at FROM names WHERE name = ?1")?
        .query_map([name], |row| Ok((row.get(0)?, row.get(1)?)))?
        // What cannot be read is replaced as well.
        .filter_map(Result::ok)
        .collect::<BTreeMap<String, i64>>();
    change.execute("DELETE FROM names WHERE name = ?1", [name])?;
    let mut insert = change.prepare_cached(
        "INSERT OR REPLACE INTO names (name, address, seen_at) VALUES (?1, ?2, ?3)",
    )?;
    for (address, age) in addresses {
        let text = canonical(*address).to_string();
        let seen_at = match remembered.remove(&text) {
            Some(then) if !age.is_zero() => then,
            _ => now.saturating_sub_unsigned(age.as_secs()),
        };
        insert.execute(params![name, text, seen_at])?;
    }
    Ok(())
}

fn add_trust(
    change: &Connection,
    gate: Option<&GateName>,
    net: IpNet,
    reason: &str,
    boot_id: &str,
) -> rusqlite::Result<()> {
    let added = change.execute(
        "INSERT INTO runtime_trust (gate, net, reason, boot_id) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (coalesce(gate, ''), net)
         DO UPDATE SET reason = excluded.reason, boot_id = excluded.boot_id",
        params![
            gate.map(GateName::as_str),
            canonical_net(net).to_string(),
            reason,
            boot_id
        ],
    );
    added.map(drop)
}

fn remove_trust(change: &Connection, gate: Option<&GateName>, net: IpNet) -> rusqlite::Result<()> {
    let removed = change.execute(
        "DELETE FROM runtime_trust WHERE gate IS ?1 AND net = ?2",
        params![gate.map(GateName::as_str), canonical_net(net).to_string()],
    );
    removed.map(drop)
}

fn unix_seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
