//! One daemon to a runtime directory: a lock that the kernel releases however the holder ends,
//! and the pid file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Why the runtime directory is not ours.
#[derive(Debug, thiserror::Error)]
pub(super) enum LockError {
    /// Somebody else has it.
    #[error("knockd is already running{} with the runtime directory {}", of(.pid.as_ref()), .dir.display())]
    Taken {
        /// Which process, if its pid file says so.
        pid: Option<String>,
        /// The runtime directory.
        dir: PathBuf,
    },
    /// A system call failed.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The errno.
        source: io::Error,
    },
}

fn of(pid: Option<&String>) -> String {
    pid.map(|pid| format!(" (process {pid})"))
        .unwrap_or_default()
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LockError {
    let path = path.to_owned();
    move |source| LockError::Io {
        operation,
        path,
        source,
    }
}

/// The lock, and the pid file, which goes with it.
#[derive(Debug)]
pub(super) struct Lock {
    _lock: Flock<File>,
    pid_path: Option<PathBuf>,
}

impl Lock {
    /// Takes the runtime directory, making it where it is missing.
    pub(super) fn take(runtime_dir: &Path, pid_path: &Path) -> Result<Self, LockError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(runtime_dir)
            .map_err(failed("create the runtime directory", runtime_dir))?;
        let path = runtime_dir.join("knockd.lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed("open", &path))?;
        let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => {
                let pid = fs::read_to_string(pid_path).ok();
                let pid = pid.map(|text| text.trim().to_owned());
                let pid =
                    pid.filter(|pid| !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit()));
                return Err(LockError::Taken {
                    pid,
                    dir: runtime_dir.to_owned(),
                });
            }
            Err((_, errno)) => return Err(failed("lock", &path)(errno.into())),
        };
        Ok(Self {
            _lock: lock,
            pid_path: None,
        })
    }

    /// Writes this process's number into the pid file.
    pub(super) fn write_pid(&mut self, pid_path: &Path) -> Result<(), LockError> {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o644)
            .open(pid_path)
            .map_err(failed("write", pid_path))?;
        writeln!(file, "{}", std::process::id()).map_err(failed("write", pid_path))?;
        self.pid_path = Some(pid_path.to_owned());
        Ok(())
    }

    /// Leaves the pid file where it is, as a sign that this did not end as it should.
    pub(super) fn leave_pid_file(&mut self) {
        self.pid_path = None;
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(path) = &self.pid_path {
            // What is left behind is harmless: the lock tells who runs, not the file.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_refused_and_the_first_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (run, pid) = (dir.path().join("run"), dir.path().join("pid"));
        let mut first = Lock::take(&run, &pid).unwrap();
        first.write_pid(&pid).unwrap();
        let refused = Lock::take(&run, &pid).unwrap_err().to_string();
        assert!(
            refused.contains(&format!("process {}", std::process::id())),
            "{refused}"
        );
        drop(first);
        assert!(!pid.exists());
        Lock::take(&run, &pid).unwrap();
    }

    #[test]
    fn a_daemon_that_fails_can_leave_its_pid_file() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let mut lock = Lock::take(dir.path(), &pid).unwrap();
        lock.write_pid(&pid).unwrap();
        lock.leave_pid_file();
        drop(lock);
        assert!(pid.exists());
        Lock::take(dir.path(), &pid).unwrap();
    }

    #[test]
    fn a_stale_pid_file_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        fs::write(&pid, "garbage\n").unwrap();
        Lock::take(dir.path(), &pid)
            .unwrap()
            .write_pid(&pid)
            .unwrap();
    }
}
