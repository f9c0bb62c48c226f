//! Where log lines go: standard error, a file, or the system log.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigSet, SigmaskHow};
use nix::syslog::{self, Facility, LogFlags, Severity};
use tracing::Level;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};

use super::cli::Options;

/// Lines that may wait to be written.
const QUEUE: usize = 4096;

/// A log that can be opened anew, for those who rotate it. Dropping it writes what is left, for a
/// second at most.
pub(super) struct Log {
    reopen: Arc<AtomicBool>,
    _guard: WorkerGuard,
}

enum Target {
    Stderr,
    File { path: PathBuf, file: File },
    System,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the log file {}: {source}", path.display())]
pub(super) struct LogError {
    path: PathBuf,
    source: io::Error,
}

impl Log {
    /// Opens the log that the options ask for and makes it the program's.
    pub(super) fn set_up(options: &Options) -> Result<Self, LogError> {
        let target = match (&options.logfile, options.role) {
            (Some(path), _) => Target::File {
                path: path.clone(),
                file: open(path)?,
            },
            (None, Some(_)) => {
                // A lost log is no reason not to start.
                let _ = syslog::openlog(Some(c"knockd"), LogFlags::LOG_PID, Facility::LOG_DAEMON);
                Target::System
            }
            (None, None) => Target::Stderr,
        };
        let timed = matches!(target, Target::File { .. })
            || (matches!(target, Target::Stderr) && std::env::var_os("JOURNAL_STREAM").is_none());
        let level = match (options.debug, options.verbose) {
            (true, _) => Level::TRACE,
            (false, true) => Level::DEBUG,
            (false, false) => Level::INFO,
        };
        let reopen = Arc::new(AtomicBool::new(false));
        // A thread of its own writes: a log that stands still must not hold up a packet. When it
        // lags too far behind lines are lost rather than memory.
        let (queue, guard) = deaf_to_signals(|| {
            NonBlockingBuilder::default()
                .buffered_lines_limit(QUEUE)
                .thread_name("log")
                .finish(Output {
                    target,
                    reopen: Arc::clone(&reopen),
                })
        });
        let lines = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_target(false)
            .with_ansi(false)
            .with_writer(queue);
        // Fails only if there is a subscriber already, as in a test.
        let _ = if timed {
            tracing::subscriber::set_global_default(lines.finish())
        } else {
            tracing::subscriber::set_global_default(lines.without_time().finish())
        };
        Ok(Self {
            reopen,
            _guard: guard,
        })
    }

    /// Has the file opened anew before the next line, if it is one: somebody may have moved it
    /// away. Never waits: the thread that writes may itself be waiting.
    pub(super) fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }
}

/// Starts threads that no signal is delivered to: the supervisor takes signals as they come to a
/// process of one thread.
fn deaf_to_signals<T>(start: impl FnOnce() -> T) -> T {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
    let started = start();
    if let Ok(before) = before {
        // What could be set can be set back.
        let _ = before.thread_set_mask();
    }
    started
}

/// Where the thread writes to, a line at a time.
struct Output {
    target: Target,
    reopen: Arc<AtomicBool>,
}

impl Output {
    /// Where the file cannot be opened anew the old one goes on, and says so.
    fn open_anew(&mut self) {
        let Target::File { path, file } = &mut self.target else {
            return;
        };
        match open(path) {
            Ok(new) => *file = new,
            // There is nobody else to tell.
            Err(error) => drop(writeln!(file, "{error}")),
        }
    }
}

impl Write for Output {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.reopen.swap(false, Ordering::Relaxed) {
            self.open_anew();
        }
        match &mut self.target {
            Target::Stderr => io::stderr().write(line),
            Target::File { file, .. } => file.write(line),
            Target::System => {
                let text = OsStr::from_bytes(line.trim_ascii());
                syslog::syslog(severity(line), text).map_err(io::Error::from)?;
                Ok(line.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.target {
            Target::File { file, .. } => file.flush(),
            _ => Ok(()),
        }
    }
}

/// The first word of a line without a time is its level.
fn severity(line: &[u8]) -> Severity {
    let line = line.trim_ascii_start();
    let levels = [
        ("ERROR", Severity::LOG_ERR),
        ("WARN", Severity::LOG_WARNING),
        ("INFO", Severity::LOG_INFO),
    ];
    let known = levels
        .into_iter()
        .find(|(word, _)| line.starts_with(word.as_bytes()));
    known.map_or(Severity::LOG_DEBUG, |(_, severity)| severity)
}

fn open(path: &Path) -> Result<File, LogError> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(path)
        .map_err(|source| LogError {
            path: path.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_line_after_reopen_goes_into_a_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let reopen = Arc::new(AtomicBool::new(false));
        let file = open(&path).unwrap();
        let target = Target::File {
            path: path.clone(),
            file,
        };
        let mut output = Output {
            target,
            reopen: Arc::clone(&reopen),
        };
        output.write_all(b"one\n").unwrap();
        fs::rename(&path, dir.path().join("log.1")).unwrap();
        output.write_all(b"two\n").unwrap();
        assert!(!path.exists(), "nobody has said that it was moved");
        reopen.store(true, Ordering::Relaxed);
        output.write_all(b"three\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");

        // Where it cannot be opened the old file goes on, and says so.
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        reopen.store(true, Ordering::Relaxed);
        output.write_all(b"four\n").unwrap();
        assert!(fs::metadata(&path).unwrap().is_dir());
    }

    #[test]
    fn the_first_word_of_a_line_is_its_level() {
        assert_eq!(severity(b" WARN x"), Severity::LOG_WARNING);
        assert_eq!(severity(b"ERROR x"), Severity::LOG_ERR);
        assert_eq!(severity(b" INFO WARN"), Severity::LOG_INFO);
        assert_eq!(severity(b"TRACE x"), Severity::LOG_DEBUG);
    }
}
