//! Where log lines go: standard error, a file, or the system log.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::syslog::{self, Facility, LogFlags, Severity};
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

use super::cli::Options;

/// A log that can be opened anew, for those who rotate it.
#[derive(Clone)]
pub(super) struct Log(Arc<Mutex<Target>>);

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
        let log = Self(Arc::new(Mutex::new(target)));
        let lines = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_target(false)
            .with_ansi(false)
            .with_writer(log.clone());
        // Fails only if there is a subscriber already, as in a test.
        let _ = if timed {
            tracing::subscriber::set_global_default(lines.finish())
        } else {
            tracing::subscriber::set_global_default(lines.without_time().finish())
        };
        Ok(log)
    }

    /// Opens the file anew, if it is one: somebody may have moved it away.
    pub(super) fn reopen(&self) -> Result<(), LogError> {
        let mut target = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Target::File { path, file } = &mut *target {
            *file = open(path)?;
        }
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        self.make_writer_for_level(Level::INFO)
    }

    fn make_writer_for(&'a self, about: &tracing::Metadata<'_>) -> Line<'a> {
        self.make_writer_for_level(*about.level())
    }
}

impl Log {
    fn make_writer_for_level(&self, level: Level) -> Line<'_> {
        Line {
            target: self.0.lock().unwrap_or_else(PoisonError::into_inner),
            level,
        }
    }
}

/// Writes one line; the subscriber hands it over whole.
pub(super) struct Line<'a> {
    target: MutexGuard<'a, Target>,
    level: Level,
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &mut *self.target {
            Target::Stderr => io::stderr().write(line),
            Target::File { file, .. } => file.write(line),
            Target::System => {
                let severity = match self.level {
                    Level::ERROR => Severity::LOG_ERR,
                    Level::WARN => Severity::LOG_WARNING,
                    Level::INFO => Severity::LOG_INFO,
                    _ => Severity::LOG_DEBUG,
                };
                let text = OsStr::from_bytes(line.trim_ascii_end());
                syslog::syslog(severity, text).map_err(io::Error::from)?;
                Ok(line.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut *self.target {
            Target::File { file, .. } => file.flush(),
            _ => Ok(()),
        }
    }
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
