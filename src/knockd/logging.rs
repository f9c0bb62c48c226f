//! Where log lines go: standard error, a file, or the system log.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::sys::signal::{SigSet, SigmaskHow};
use nix::syslog::{self, Facility, LogFlags, Severity};
use tracing::{Level, warn};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

use crate::policy::LogStyle;
use crate::sys::clock::{self, WallTime};

use super::cli::Options;

/// Who reads what we write to standard error under systemd says so here (systemd.exec(5)).
const JOURNAL: &str = "JOURNAL_STREAM";

/// Lines that may wait to be written.
const QUEUE: usize = 4096;

/// A log that can be opened anew, for those who rotate it. Dropping it writes what is left, for a
/// second at most.
pub(super) struct Log {
    reopen: Arc<AtomicBool>,
    problem: Option<String>,
    lost: Lost,
    _guard: WorkerGuard,
}

/// Counts the lines that were to be written and are not.
#[derive(Debug, Clone, Default)]
pub(super) struct Lost {
    /// Those that found the queue full.
    queue: Option<ErrorCounter>,
    /// Those that could not be written, such as to a full disk.
    failed: Arc<AtomicU64>,
}

impl Lost {
    /// Since the start.
    pub(super) fn count(&self) -> u64 {
        let queue = self.queue.as_ref().map_or(0, ErrorCounter::dropped_lines);
        let failed = self.failed.load(Ordering::Relaxed);
        failed.saturating_add(u64::try_from(queue).unwrap_or(u64::MAX))
    }
}

enum Target {
    Stderr,
    /// Standard error, to which the journal adds the time.
    Journal,
    File {
        path: PathBuf,
        file: File,
    },
    System,
}

/// Why there is no log file.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the log file {}: {source}", path.display())]
struct LogError {
    path: PathBuf,
    source: io::Error,
}

impl Log {
    /// Opens the log that the options ask for and makes it the program's. A file that cannot be
    /// opened is no reason not to start: the classic daemon does as well.
    pub(super) fn set_up(options: &Options) -> Self {
        let style = options.log.style;
        let file = options
            .logfile
            .as_deref()
            .map(|path| Ok((path, open(path)?)));
        let file: Result<_, LogError> = file.transpose();
        let problem = file.as_ref().err().map(ToString::to_string);
        let in_journal = std::env::var_os(JOURNAL).is_some();
        let targets = targets(options, file.ok().flatten(), in_journal);
        if targets
            .iter()
            .any(|target| matches!(target, Target::System))
        {
            open_system_log(style);
        }
        // The classic style has a time of its own.
        let timed = style == LogStyle::Plain
            && targets.iter().any(|target| match target {
                Target::File { .. } | Target::Stderr => true,
                Target::Journal | Target::System => false,
            });
        let level = match (options.debug, options.verbose) {
            (true, _) => Level::TRACE,
            (false, true) => Level::DEBUG,
            (false, false) => Level::INFO,
        };
        let reopen = Arc::new(AtomicBool::new(false));
        // A thread of its own writes: a log that stands still must not hold up a packet. When it
        // lags too far behind lines are lost rather than memory.
        let failed = Arc::default();
        let output = Output {
            targets,
            style,
            timed,
            reopen: Arc::clone(&reopen),
            failed: Arc::clone(&failed),
        };
        let (queue, guard) = deaf_to_signals(|| queue_before(output, QUEUE));
        let lost = Lost {
            queue: Some(queue.error_counter()),
            failed,
        };
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
        if let Some(problem) = &problem {
            warn!("{problem}; the log is here instead");
        }
        Self {
            reopen,
            problem,
            lost,
            _guard: guard,
        }
    }

    /// Why the log is not where it should be, which it has said itself.
    pub(super) fn problem(&self) -> Option<String> {
        self.problem.clone()
    }

    /// What counts the lines that are lost.
    pub(super) fn lost(&self) -> Lost {
        self.lost.clone()
    }

    /// Has the file opened anew before the next line, if it is one: somebody may have moved it
    /// away. Never waits: the thread that writes may itself be waiting.
    pub(super) fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }
}

/// A queue of so many lines, and the thread that writes them.
fn queue_before(output: impl Write + Send + 'static, lines: usize) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default()
        .buffered_lines_limit(lines)
        .thread_name("log")
        .finish(output)
}

/// Where the options, and what the policy says in their place, want the log; `file` is the log's
/// file, if it could be opened.
fn targets(options: &Options, file: Option<(&Path, File)>, in_journal: bool) -> Vec<Target> {
    let is_classic = options.log.style == LogStyle::Classic;
    let mut targets = Vec::new();
    let mut system = options.log.syslog;
    if let Some((path, file)) = file {
        let path = path.to_owned();
        targets.push(Target::File { path, file });
    } else if options.role.is_some() {
        system = true;
    } else if !in_journal {
        targets.push(Target::Stderr);
    } else if !(system && is_classic) {
        // In the journal it would stand twice; what filters the classic daemon's lines looks for
        // those of the system log.
        targets.push(Target::Journal);
        system = false;
    }
    if system {
        targets.push(Target::System);
    }
    targets
}

/// The classic daemon does not give its number.
fn open_system_log(style: LogStyle) {
    let flags = match style {
        LogStyle::Plain => LogFlags::LOG_PID,
        LogStyle::Classic => LogFlags::empty(),
    };
    // A lost log is no reason not to start.
    let _ = syslog::openlog(Some(c"knockd"), flags, Facility::LOG_DAEMON);
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
    targets: Vec<Target>,
    style: LogStyle,
    /// Whether lines begin with their time.
    timed: bool,
    reopen: Arc<AtomicBool>,
    failed: Arc<AtomicU64>,
}

impl Output {
    /// Where the file cannot be opened anew the old one goes on, and says so.
    fn open_anew(&mut self) {
        for target in &mut self.targets {
            let Target::File { path, file } = target else {
                continue;
            };
            match open(path) {
                Ok(new) => *file = new,
                // There is nobody else to tell.
                Err(error) => drop(writeln!(file, "{error}")),
            }
        }
    }
}

impl Write for Output {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.reopen.swap(false, Ordering::Relaxed) {
            self.open_anew();
        }
        let (style, timed) = (self.style, self.timed);
        let mut result = Ok(line.len());
        for target in &mut self.targets {
            // One that fails must not keep the line from the others.
            if let Err(error) = target.write(line, style, timed) {
                result = Err(error);
            }
        }
        if result.is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    fn flush(&mut self) -> io::Result<()> {
        for target in &mut self.targets {
            if let Target::File { file, .. } = target {
                file.flush()?;
            }
        }
        Ok(())
    }
}

impl Target {
    fn write(&mut self, line: &[u8], style: LogStyle, timed: bool) -> io::Result<()> {
        if let Target::System = self {
            let line = if timed { after_word(line) } else { line };
            let (severity, line) = match (style, severity(line)) {
                (LogStyle::Plain, severity) => (severity, line),
                // What the classic daemon has to say is all of this severity.
                (LogStyle::Classic, Severity::LOG_INFO) => (Severity::LOG_NOTICE, after_word(line)),
                (LogStyle::Classic, severity) => (severity, after_word(line)),
            };
            let text = OsStr::from_bytes(line.trim_ascii());
            return syslog::syslog(severity, text).map_err(io::Error::from);
        }
        let classic;
        let line = match style {
            LogStyle::Plain => line,
            LogStyle::Classic => {
                let is_timed = !matches!(self, Target::Journal);
                classic = in_classic_style(line, is_timed.then(clock::wall_time).flatten());
                &classic
            }
        };
        match self {
            Target::File { file, .. } => file.write_all(line),
            Target::Stderr | Target::Journal | Target::System => io::stderr().write_all(line),
        }
    }
}

/// The line without its first word.
fn after_word(line: &[u8]) -> &[u8] {
    let line = line.trim_ascii_start();
    let end = line.iter().position(u8::is_ascii_whitespace);
    end.map_or(&[], |end| &line[end..])
}

/// `[2016-03-18 12:55] 192.0.2.1: SSH: Stage 1`, made of a line that begins with its level.
fn in_classic_style(line: &[u8], time: Option<WallTime>) -> Vec<u8> {
    let text = after_word(line).trim_ascii();
    let mut styled = match time {
        Some(WallTime {
            year,
            month,
            day,
            hour,
            minute,
        }) => format!("[{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}] ").into_bytes(),
        None => Vec::new(),
    };
    styled.extend_from_slice(text);
    styled.push(b'\n');
    styled
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
            targets: vec![target],
            style: LogStyle::Plain,
            timed: false,
            reopen: Arc::clone(&reopen),
            failed: Arc::default(),
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
    fn lines_that_are_not_written_are_counted() {
        /// Stands still for as long as nobody sends, as a log on a dead disk does.
        struct Still(std::sync::mpsc::Receiver<()>);
        impl Write for Still {
            fn write(&mut self, line: &[u8]) -> io::Result<usize> {
                let _ = self.0.recv();
                Ok(line.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (go_on, still) = std::sync::mpsc::channel();
        let (mut queue, guard) = queue_before(Still(still), 2);
        let lost = Lost {
            queue: Some(queue.error_counter()),
            ..Lost::default()
        };
        // One is being written at most, and two wait.
        for _ in 0..10 {
            queue.write_all(b"line\n").unwrap();
        }
        assert!((7..=8).contains(&lost.count()), "{lost:?}");
        drop(go_on);
        drop(guard);

        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut output = Output {
            targets: vec![Target::File {
                path: "/dev/full".into(),
                file: full,
            }],
            style: LogStyle::Plain,
            timed: false,
            reopen: Arc::default(),
            failed: Arc::clone(&lost.failed),
        };
        let before = lost.count();
        output.write_all(b"line\n").unwrap_err();
        assert_eq!(lost.count(), before + 1);
    }

    #[test]
    fn a_line_of_the_classic_style_has_its_minute_and_no_level() {
        let time = WallTime {
            year: 2016,
            month: 3,
            day: 8,
            hour: 12,
            minute: 5,
        };
        assert_eq!(
            in_classic_style(b" INFO 192.0.2.1: SSH: Stage 1\n", Some(time)),
            b"[2016-03-08 12:05] 192.0.2.1: SSH: Stage 1\n"
        );
        assert_eq!(in_classic_style(b" WARN x  y\n", None), b"x  y\n");
        assert_eq!(in_classic_style(b"\n", None), b"\n");
    }

    #[test]
    fn no_line_stands_twice_in_the_journal_and_classic_ones_are_there_as_filters_look_for_them() {
        use crate::knockd::cli::Cli;
        use clap::Parser;
        let (plain, classic) = (LogStyle::Plain, LogStyle::Classic);
        let words = |command: &str, syslog: bool, style: LogStyle, in_journal: bool| {
            let mut options = Cli::parse_from(command.split(' ')).options;
            (options.log.syslog, options.log.style) = (syslog, style);
            let file = options.logfile.as_deref();
            let file = file.map(|path| (path, tempfile::tempfile().unwrap()));
            let targets = targets(&options, file, in_journal);
            let word = |target: &Target| match target {
                Target::Stderr => "stderr",
                Target::Journal => "journal",
                Target::File { .. } => "file",
                Target::System => "system",
            };
            targets.iter().map(word).collect::<Vec<_>>().join(" ")
        };
        for (command, syslog, style, in_journal, expected) in [
            ("knockd", false, plain, false, "stderr"),
            ("knockd", true, classic, false, "stderr system"),
            ("knockd", false, classic, true, "journal"),
            ("knockd", true, plain, true, "journal"),
            ("knockd", true, classic, true, "system"),
            ("knockd -g /x", true, classic, true, "file system"),
            ("knockd -g /x", false, plain, true, "file"),
            ("knockd --role worker", false, classic, false, "system"),
            (
                "knockd --role worker -g /x",
                true,
                plain,
                true,
                "file system",
            ),
        ] {
            let found = words(command, syslog, style, in_journal);
            assert_eq!(found, expected, "{command} {syslog} {style:?} {in_journal}");
        }
    }

    #[test]
    fn the_first_word_of_a_line_is_its_level() {
        assert_eq!(severity(b" WARN x"), Severity::LOG_WARNING);
        assert_eq!(severity(b"ERROR x"), Severity::LOG_ERR);
        assert_eq!(severity(b" INFO WARN"), Severity::LOG_INFO);
        assert_eq!(severity(b"TRACE x"), Severity::LOG_DEBUG);
    }
}
