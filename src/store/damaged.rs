//! Databases that were damaged: moved aside, looked for, and removed when their time is over, since
//! they hold addresses as the history does.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::open::failed;
use super::{FILE_NAME, StoreError};

/// Between the database's name and a number.
const ASIDE: &str = ".corrupt-";

/// To the first free of `knockd.db.corrupt-1` and so on, with what belongs to it.
pub(super) fn move_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let aside = (1..1000)
        .map(|n| beside(&format!("{ASIDE}{n}")))
        .find(|candidate| matches!(fs::symlink_metadata(candidate), Err(e) if e.kind() == ErrorKind::NotFound))
        .unwrap_or_else(|| beside(&format!("{ASIDE}1000")));
    fs::rename(path, &aside).map_err(failed("move the damaged database aside to", &aside))?;
    // Left behind, they would be taken for the new database's.
    for suffix in ["-wal", "-shm"] {
        let mut to = aside.clone().into_os_string();
        to.push(suffix);
        match fs::rename(beside(suffix), to) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(failed("move aside", &beside(suffix))(error));
            }
            _ => {}
        }
    }
    Ok(aside)
}

/// The damaged databases that lie in the state directory, by name.
pub fn damaged(dir: &Path) -> Vec<PathBuf> {
    let whole = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    let mut found = aside(dir, whole);
    found.sort();
    found
}

/// Removes those that were moved aside longer ago than that. What cannot be removed is tried again
/// the next time.
pub fn forget_damaged(dir: &Path, keep: Duration, now: SystemTime) {
    for path in aside(dir, |_| true) {
        let Ok(found) = fs::symlink_metadata(&path) else {
            continue;
        };
        // When it was given its name.
        let seconds = u64::try_from(found.ctime()).unwrap_or(0);
        let age = now.duration_since(UNIX_EPOCH + Duration::from_secs(seconds));
        if age.is_ok_and(|age| age > keep) {
            let _ = fs::remove_file(path);
        }
    }
}

/// What was moved aside, where what follows the word is like that.
fn aside(dir: &Path, is_one: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
    let is_one = |name: &OsString| {
        let rest = name.to_str().and_then(|name| name.strip_prefix(FILE_NAME));
        rest.and_then(|rest| rest.strip_prefix(ASIDE))
            .is_some_and(&is_one)
    };
    names.filter(is_one).map(|name| dir.join(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_moved_aside_is_found_and_goes_when_its_time_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        let mut moved = Vec::new();
        for _ in 0..2 {
            fs::write(&path, "garbage").unwrap();
            fs::write(dir.path().join("knockd.db-wal"), "more").unwrap();
            moved.push(move_aside(&path).unwrap());
        }
        for other in ["knockd.db", "knockd.db.corrupt", "policy.good"] {
            fs::write(dir.path().join(other), "").unwrap();
        }
        assert_eq!(damaged(dir.path()), moved);
        let day = Duration::from_secs(86_400);
        forget_damaged(dir.path(), day, SystemTime::now() + day / 2);
        assert_eq!(damaged(dir.path()), moved);
        // A clock that was set back makes nothing old.
        forget_damaged(dir.path(), day, UNIX_EPOCH);
        assert_eq!(damaged(dir.path()), moved);
        forget_damaged(dir.path(), day, SystemTime::now() + day + day / 2);
        assert_eq!(
            names(dir.path()),
            ["knockd.db", "knockd.db.corrupt", "policy.good"]
        );
        assert!(damaged(Path::new("/nowhere")).is_empty());
    }
}
