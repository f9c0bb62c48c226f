//! One daemon to a runtime directory and to a state directory: locks that the kernel releases
//! however the holder ends, and the pid file.

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
/// about to start has it until it is started, and `knockctl --direct` and the like while they work.
const MOMENT: Duration = Duration::from_secs(5);

/// The lock's file in the state directory.
const STATE_LOCK: &str = "lock";

/// What one daemon has to itself.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    /// Where its socket and its first pid file are.
    pub(super) runtime_dir: PathBuf,
    /// Names who has the runtime directory.
    pub(super) pid_path: PathBuf,
    /// What outlives it, and whose rules the kernel holds; `None`: nothing there is touched.
    pub(super) state_dir: Option<PathBuf>,
}

/// Why the directories are not ours.
#[derive(Debug, thiserror::Error)]
pub(super) enum LockError {
    /// A daemon has the runtime directory.
    #[error("knockd is already running (process {pid}) with the runtime directory {}", .dir.display())]
    Taken {
        /// Which process, by its pid file.
        pid: String,
        /// The runtime directory.
        dir: PathBuf,
    },
    /// A daemon has the state directory, with another runtime directory. Each would take back what the
    /// other does to the kernel.
    #[error(
        "knockd is already running (process {pid}) with the state directory {}, but with another runtime \
         directory than {}",
        .dir.display(), .runtime_dir.display()
    )]
    StateTaken {
        /// Which process, by the lock's file.
        pid: String,
        /// The state directory.
        dir: PathBuf,
        /// Our runtime directory.
        runtime_dir: PathBuf,
    },
    /// Somebody has one of them who is not known to be a daemon.
    #[error(
        "something is at work with the {what} {}: a `knockctl --direct`, a `knockd setup` or \
         `teardown`, or a knockd that has only begun to start; try again when it is done",
        .dir.display()
    )]
    Busy {
        /// Which directory that is.
        what: &'static str,
        /// Its path.
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

impl LockError {
    /// Whether a daemon runs.
    pub(super) fn is_running(&self) -> bool {
        matches!(self, LockError::Taken { .. } | LockError::StateTaken { .. })
    }

    /// What whoever wants to start can do, to be appended.
    pub(super) fn what_to_do(&self) -> &'static str {
        match self {
            LockError::StateTaken { .. } => ": stop that one, or name its --runtime-dir",
            _ => "",
        }
    }
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LockError {
    let path = path.to_owned();
    move |source| LockError::Io {
        operation,
        path,
        source,
    }
}

/// The locks, and the pid files, which go with them.
#[derive(Debug)]
pub(super) struct Lock {
    /// Released before the runtime directory: whoever has got that finds this free.
    state: Option<Flock<File>>,
    unguarded: Option<LockError>,
    _runtime: Flock<File>,
    pid_paths: Vec<PathBuf>,
}

impl Lock {
    /// Takes the directories, making them where they are missing. Unless a file names a process
    /// that lives, it waits a moment for whoever still has one. A state directory that cannot be
    /// locked, as on a disk that is read-only or full, is gone without: nobody is to be shut out,
    /// or left without a daemon, for that.
    pub(super) fn take(claim: &Claim) -> Result<Self, LockError> {
        let runtime = take_runtime(claim)?;
        let state = claim.state_dir.as_deref();
        let state = state.map(|dir| take_state(dir, &claim.runtime_dir));
        let (state, unguarded) = match state.transpose() {
            Ok(state) => (state, None),
            Err(error @ LockError::Io { .. }) => (None, Some(error)),
            Err(taken) => return Err(taken),
        };
        Ok(Self {
            state,
            unguarded,
            _runtime: runtime,
            pid_paths: Vec::new(),
        })
    }

    /// Why the state directory is not locked, in words.
    pub(super) fn unguarded(&self) -> Option<String> {
        let error = self.unguarded.as_ref()?;
        Some(format!(
            "{error}; a second knockd with this state directory would not be noticed"
        ))
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
        if let Some(mut state) = self.state.as_deref() {
            // Without it, whoever is refused is not told which process runs.
            let _ = writeln!(state, "{}", std::process::id());
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

fn take_runtime(claim: &Claim) -> Result<Flock<File>, LockError> {
    let dir = &claim.runtime_dir;
    make("create the runtime directory", dir, 0o755)?;
    let path = dir.join("knockd.lock");
    let file = open(&path).map_err(failed("open", &path))?;
    lock_soon(file, &path, &claim.pid_path, |pid| {
        let dir = dir.clone();
        match pid {
            Some(pid) => LockError::Taken { pid, dir },
            None => LockError::Busy {
                what: "runtime directory",
                dir,
            },
        }
    })
}

fn take_state(dir: &Path, runtime_dir: &Path) -> Result<Flock<File>, LockError> {
    // As the store makes it.
    make("create the state directory", dir, 0o750)?;
    let path = dir.join(STATE_LOCK);
    let file = open(&path)
        // What is on a disk that has become read-only can still be locked.
        .or_else(|error| File::open(&path).map_err(|_| error))
        .map_err(failed("open", &path))?;
    // Where the other's pid file is, nobody here knows.
    let lock = lock_soon(file, &path, &path, |pid| {
        let dir = dir.to_owned();
        match pid {
            Some(pid) => LockError::StateTaken {
                pid,
                dir,
                runtime_dir: runtime_dir.to_owned(),
            },
            None => LockError::Busy {
                what: "state directory",
                dir,
            },
        }
    })?;
    // Whoever was killed has left its number. Where that cannot be written over, it is a dead one's.
    let _ = lock.set_len(0);
    Ok(lock)
}

/// A lock's file, made where it is missing.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.create(true).truncate(false).write(true);
    options.mode(0o600).open(path)
}

fn make(operation: &'static str, dir: &Path, mode: u32) -> Result<(), LockError> {
    let mut builder = fs::DirBuilder::new();
    let builder = builder.recursive(true).mode(mode);
    builder.create(dir).map_err(failed(operation, dir))
}

fn lock_soon(
    mut file: File,
    path: &Path,
    pid_path: &Path,
    taken: impl FnOnce(Option<String>) -> LockError,
) -> Result<Flock<File>, LockError> {
    let until = Instant::now() + MOMENT;
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((file, Errno::EWOULDBLOCK)) => file,
            Err((_, errno)) => return Err(failed("lock", path)(errno.into())),
        };
        let pid = recorded(pid_path).filter(|pid| is_alive(pid));
        if pid.is_some() || Instant::now() >= until {
            return Err(taken(pid));
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
    kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH) && !has_ended(pid)
}

/// Whether it has ended, with all its threads, and only waits for its parent to learn that: a signal
/// can still be sent to such a one.
fn has_ended(pid: i32) -> bool {
    let Ok(mut threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    threads.all(|thread| {
        let stat = thread.and_then(|thread| fs::read_to_string(thread.path().join("stat")));
        let stat = stat.unwrap_or_default();
        // The state follows the name, which is in parentheses (proc_pid_stat(5)).
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
        state.is_some_and(|state| state.starts_with(['Z', 'X']))
    })
}

impl Drop for Lock {
    fn drop(&mut self) {
        for path in &self.pid_paths {
            // What is left behind is harmless: the lock tells who runs, not the file.
            let _ = fs::remove_file(path);
        }
        if let Some(state) = &self.state {
            let _ = state.set_len(0);
        }
    }
}

#[cfg(test)]
#[path = "lock_tests.rs"]
mod tests;
