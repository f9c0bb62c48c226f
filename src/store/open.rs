use std::fmt::Write as _;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::damaged::move_aside;
use super::{FILE_NAME, Readers, StoreError, history, members, owed};

const VERSION: i64 = 4;

/// A name that nobody has asked for in this time is of no use; shorter would let a clock that
/// jumps ahead for a moment empty the table.
const ROWS_KEPT_SECS: i64 = 90 * 86_400;

const SCHEMA: &str = "
    CREATE TABLE names (
        name TEXT NOT NULL,
        address TEXT NOT NULL,
        seen_at INTEGER NOT NULL,
        PRIMARY KEY (name, address)
    ) WITHOUT ROWID;
    CREATE TABLE runtime_trust (
        gate TEXT,
        net TEXT NOT NULL,
        reason TEXT NOT NULL,
        boot_id TEXT NOT NULL
    );
    CREATE UNIQUE INDEX runtime_trust_key ON runtime_trust (coalesce(gate, ''), net);
";

/// What version 2 adds.
const SETTINGS: &str = "
    CREATE TABLE settings (
        name TEXT PRIMARY KEY NOT NULL,
        value TEXT NOT NULL
    ) WITHOUT ROWID;
";

/// The tables with the version that added them, but for the history: that is read elsewhere.
const TABLES: &[(i64, &str)] = &[
    (1, SCHEMA),
    (2, SETTINGS),
    (3, members::SCHEMA),
    (4, owed::SCHEMA),
];

/// Which boot this is (random(4)).
pub fn boot_id() -> Result<String, StoreError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    fs::read_to_string(path)
        .map(|id| id.trim().to_owned())
        .map_err(failed("read the boot id from", path))
}

pub(super) type Opened = (Connection, PathBuf, Option<PathBuf>);

pub(super) fn open(dir: &Path, readers: Readers) -> Result<Opened, StoreError> {
    let path = dir.join(FILE_NAME);
    DirBuilder::new()
        .mode(0o750)
        .recursive(true)
        .create(dir)
        .map_err(failed("create the state directory", dir))?;
    if let Readers::Group(gid) = readers {
        give_to_group(dir, gid, 0o750)?;
    }
    match open_file(&path, readers) {
        Err(StoreError::Database { source, .. }) if is_damage(&source) => {
            let aside = move_aside(&path)?;
            let database = open_file(&path, readers)?;
            Ok((database, path, Some(aside)))
        }
        opened => Ok((opened?, path, None)),
    }
}

/// Opens a database of our version, or of an earlier one, without writing to it. Where not even the
/// files beside it can be made, what is in the write-ahead log is left out.
pub(super) fn open_to_read(dir: &Path) -> Result<(Connection, PathBuf), StoreError> {
    let path = dir.join(FILE_NAME);
    let failed = |source| StoreError::Database {
        operation: "read the database",
        path: path.clone(),
        source,
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(&path, flags);
    let opened = opened.and_then(|database| version(&database).map(|found| (database, found)));
    let alone = || {
        let flags = flags | OpenFlags::SQLITE_OPEN_URI;
        let database = Connection::open_with_flags(immutable(&path), flags)?;
        version(&database).map(|found| (database, found))
    };
    let (database, found) = opened.or_else(|_| alone()).map_err(failed)?;
    if found > VERSION {
        return Err(StoreError::Newer {
            path,
            found,
            known: VERSION,
        });
    }
    check(&database).map_err(failed)?;
    stand_in(&database, found).map_err(failed)?;
    Ok((database, path))
}

/// Gives an earlier version the tables that it lacks, empty and for this connection alone.
fn stand_in(database: &Connection, found: i64) -> rusqlite::Result<()> {
    let lacking = TABLES.iter().filter(|(since, _)| found < *since);
    let tables: String = lacking.map(|(_, tables)| *tables).collect();
    if tables.is_empty() {
        return Ok(());
    }
    database.pragma_update(None, "temp_store", "MEMORY")?;
    database.execute_batch(&tables.replace("CREATE TABLE", "CREATE TEMP TABLE"))
}

/// The file as a URI that says that nobody changes it (sqlite.org/uri.html).
fn immutable(path: &Path) -> String {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri + "?immutable=1"
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

fn open_file(path: &Path, readers: Readers) -> Result<Connection, StoreError> {
    // `SQLite` gives its other files the mode of this one.
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(failed("open", path))?;
    drop(file);
    match readers {
        Readers::Nobody => set_mode(path, 0o600)?,
        Readers::Group(gid) => give_to_group(path, gid, 0o640)?,
        Readers::AsBefore => {
            let found = fs::metadata(path).map_err(failed("look at", path))?;
            set_mode(path, found.permissions().mode() & 0o640)?;
        }
    }
    let database = |operation| {
        move |source| StoreError::Database {
            operation,
            path: path.to_owned(),
            source,
        }
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection =
        Connection::open_with_flags(path, flags).map_err(database("open the database"))?;
    prepare(&connection).map_err(database("prepare the database"))?;
    let found = version(&connection).map_err(database("read the version"))?;
    if found > VERSION {
        return Err(StoreError::Newer {
            path: path.to_owned(),
            found,
            known: VERSION,
        });
    }
    check(&connection).map_err(database("check the database"))?;
    migrate(&mut connection, found).map_err(database("create the tables"))?;
    Ok(connection)
}

/// Device and inode.
pub(super) fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

fn set_mode(path: &Path, mode: u32) -> Result<(), StoreError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(failed("set the mode of", path))
}

/// First whose it is, then the mode: at no moment may another group read it.
fn give_to_group(path: &Path, gid: u32, mode: u32) -> Result<(), StoreError> {
    let found = fs::metadata(path).map_err(failed("look at", path))?;
    if found.gid() != gid {
        set_mode(path, mode & 0o700)?;
        std::os::unix::fs::chown(path, None, Some(gid))
            .map_err(failed("set the group of", path))?;
    }
    set_mode(path, mode)
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    // Nobody else writes; whoever looks in with another program must not hold us up.
    connection.busy_timeout(Duration::from_millis(200))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "cache_size", -256)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "trusted_schema", false)
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn check(connection: &Connection) -> rusqlite::Result<()> {
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" {
        Ok(())
    } else {
        Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
            Some(verdict),
        ))
    }
}

fn migrate(connection: &mut Connection, found: i64) -> rusqlite::Result<()> {
    let change = connection.transaction()?;
    if found == 0 {
        change.execute_batch(SCHEMA)?;
    }
    if found < 2 {
        change.execute_batch(SETTINGS)?;
    }
    if found < 3 {
        change.execute_batch(members::SCHEMA)?;
        change.execute_batch(history::SCHEMA)?;
    }
    if found < VERSION {
        change.execute_batch(owed::SCHEMA)?;
        change.pragma_update(None, "user_version", VERSION)?;
    }
    change.execute(
        "DELETE FROM names WHERE seen_at < CAST(strftime('%s', 'now') AS INTEGER) - ?1",
        [ROWS_KEPT_SECS],
    )?;
    change.commit()
}

pub(super) fn failed(
    operation: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| {
        let hint = match source.kind() {
            ErrorKind::PermissionDenied => " (run as root, or name another state directory)",
            ErrorKind::ReadOnlyFilesystem => " (name a state directory that can be written)",
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => " (make room on the disk)",
            ErrorKind::NotADirectory => " (something else is in the state directory's place)",
            _ => "",
        };
        StoreError::File {
            operation,
            path,
            source,
            hint,
        }
    }
}
