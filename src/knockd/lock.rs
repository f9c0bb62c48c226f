//! One daemon to a runtime directory: a lock that the kernel releases however the holder ends,
//! and the pid file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::kill;
use nix::unistd::{Pid, getppid};
use tracing::warn;

/// How long the lock may still be held although no daemon runs: a program that a killed daemon was
/// about to start has it until it is started, and `knockctl --direct` while it works.
const MOMENT: Duration = Duration::from_secs(1);

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

/// The lock, and the pid files, which go with it.
#[derive(Debug)]
pub(super) struct Lock {
    _lock: Flock<File>,
    pid_paths: Vec<PathBuf>,
}

impl Lock {
    /// Takes the runtime directory, making it where it is missing. Unless the pid file names a
    /// process that lives, it waits a moment for whoever still has it.
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
        let lock = lock_soon(file, runtime_dir, &path, pid_path)?;
        Ok(Self {
            _lock: lock,
            pid_paths: Vec::new(),
        })
    }

    /// Writes this process's number into the pid files. The first, in the runtime directory, is
    /// needed; of the others it is said if they cannot be written.
    pub(super) fn write_pids(&mut self, pid_paths: &[PathBuf]) -> Result<(), LockError> {
        for (index, path) in pid_paths.iter().enumerate() {
            match self.write_pid(path) {
                Err(error) if index > 0 => warn!("{error}"),
                result => result?,
            }
        }
        Ok(())
    }

    fn write_pid(&mut self, pid_path: &Path) -> Result<(), LockError> {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o644)
            .open(pid_path)
            .map_err(failed("write", pid_path))?;
        writeln!(file, "{}", std::process::id()).map_err(failed("write", pid_path))?;
        self.pid_paths.push(pid_path.to_owned());
        Ok(())
    }

    /// Leaves the pid files where they are, as a sign that this did not end as it should.
    pub(super) fn leave_pid_files(&mut self) {
        self.pid_paths.clear();
    }
}

fn lock_soon(
    mut file: File,
    dir: &Path,
    path: &Path,
    pid_path: &Path,
) -> Result<Flock<File>, LockError> {
    let until = Instant::now() + MOMENT;
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((file, Errno::EWOULDBLOCK)) => file,
            Err((_, errno)) => return Err(failed("lock", path)(errno.into())),
        };
        let pid = recorded(pid_path);
        if pid.as_deref().is_some_and(is_alive) || Instant::now() >= until {
            let dir = dir.to_owned();
            return Err(LockError::Taken { pid, dir });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The process that the pid file names.
fn recorded(pid_path: &Path) -> Option<String> {
    let pid = fs::read_to_string(pid_path).ok()?.trim().to_owned();
    (!pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit())).then_some(pid)
}

/// Which of the pid files names neither this process nor its supervisor, in words.
pub(super) fn unwritten(pid_paths: &[PathBuf]) -> Option<String> {
    let ours = [Pid::this(), getppid()].map(|pid| Some(pid.to_string()));
    let path = pid_paths
        .iter()
        .find(|path| !ours.contains(&recorded(path)))?;
    let path = path.display();
    Some(format!(
        "the pid file {path} is not written: see the log of the start"
    ))
}

/// Whether there is such a process; what cannot be told counts as alive.
fn is_alive(pid: &str) -> bool {
    let Ok(pid) = pid.parse() else { return true };
    kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH)
}

impl Drop for Lock {
    fn drop(&mut self) {
        for path in &self.pid_paths {
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

    /// More than any kernel numbers its processes (PID_MAX_LIMIT in linux/threads.h).
    const NOBODY: &str = "4194305\n";

    #[test]
    fn what_a_dead_daemon_leaves_running_for_a_moment_is_waited_for() {
        for text in [Some(NOBODY), None] {
            let dir = tempfile::tempdir().unwrap();
            let pid = dir.path().join("pid");
            if let Some(text) = text {
                fs::write(&pid, text).unwrap();
            }
            let left = Lock::take(dir.path(), &pid).unwrap();
            let ends = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(100));
                drop(left);
            });
            let taken = Lock::take(dir.path(), &pid);
            assert!(taken.is_ok(), "{text:?}: {taken:?}");
            ends.join().unwrap();
        }
    }

    #[test]
    fn what_does_not_end_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        fs::write(&pid, NOBODY).unwrap();
        let _held = Lock::take(dir.path(), &pid).unwrap();
        let refused = Lock::take(dir.path(), &pid);
        assert!(
            matches!(refused, Err(LockError::Taken { .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn a_pid_file_that_cannot_be_written_is_told_unless_it_is_our_own() {
        let dir = tempfile::tempdir().unwrap();
        let [own, other] = ["pid", "nowhere/pid"].map(|name| dir.path().join(name));
        let mut lock = Lock::take(dir.path(), &own).unwrap();
        lock.write_pids(&[own.clone(), other.clone()]).unwrap();
        assert_eq!(unwritten(std::slice::from_ref(&own)), None);
        let told = unwritten(&[own.clone(), other.clone()]).unwrap();
        assert!(told.contains("nowhere/pid is not written"), "{told}");
        assert!(lock.write_pids(&[other, own.clone()]).is_err());
        drop(lock);
        assert!(!own.exists());
    }

    #[test]
    fn a_daemon_that_fails_can_leave_its_pid_file() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let mut lock = Lock::take(dir.path(), &pid).unwrap();
        lock.write_pid(&pid).unwrap();
        lock.leave_pid_files();
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
