//! A daemon in the background: a supervisor that starts the worker, and starts it again when it
//! dies or hangs. The kernel goes on enforcing meanwhile; nothing opens.
//!
//! Each is this program started anew with a hidden role, so that no process is ever forked with
//! threads in it.

mod signals;
mod worker;

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use tracing::warn;

use signals::Signals;
use worker::Worker;

use crate::operators;

use super::cli::Options;
use super::logging::Log;
use super::start::StartError;

/// What the worker says when everything is in place. What it says after that are signs of life.
const READY: &str = "ready";

/// A worker that lasted this long may be started again at once.
const STEADY: Duration = Duration::from_secs(60);

/// Pauses in seconds before a start, after so many deaths in a row.
const PAUSES: [u64; 6] = [0, 1, 2, 5, 10, 30];

fn failed(operation: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::Io { operation, source }
}

/// This program again, with the same options in another role.
fn again(role: &str) -> Command {
    // Not by its path: that may have been replaced by another version, or removed.
    let mut command = Command::new("/proc/self/exe");
    let mut arguments = std::env::args_os();
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    let mut skip = false;
    for argument in arguments {
        // The role that this process was given is not the other's.
        if std::mem::take(&mut skip) {
            continue;
        }
        if argument == "--role" {
            skip = true;
            continue;
        }
        command.arg(argument);
    }
    command.args(["--role", role]);
    command
}

/// The name by which init scripts recognise the process; started as above it would be `exe`.
fn take_name() {
    // It fails for no name of this length.
    let _ = prctl::set_name(c"knockd");
}

/// Starts the supervisor and waits until the worker is ready, or has failed.
pub(super) fn launch() -> Result<ExitCode, StartError> {
    let mut supervisor = again("supervisor");
    if let Some(session) = operators::own() {
        // Whoever installs is known to their login shell, and that is not above the supervisor.
        supervisor.env("SSH_CONNECTION", session.to_words());
    }
    let mut supervisor = supervisor
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed("start the supervisor"))?;
    let said = first_line(&mut supervisor);
    if said.as_deref() == Some(READY) {
        return Ok(ExitCode::SUCCESS);
    }
    let status = supervisor
        .wait()
        .map_err(failed("wait for the supervisor"))?;
    Ok(code(status))
}

fn first_line(child: &mut Child) -> Option<String> {
    let mut line = String::new();
    BufReader::new(child.stdout.take()?)
        .read_line(&mut line)
        .ok()?;
    Some(line.trim_end().to_owned())
}

fn code(status: ExitStatus) -> ExitCode {
    status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from)
}

/// The worker's word to the supervisor, and the supervisor's to whoever started it; then both
/// let go of the terminal. What can be said further to the same listener is written to the
/// answer, which does not block.
pub(super) fn tell_ready() -> Option<File> {
    let mut out = io::stdout();
    // Nobody listening is no fault: whoever started us may have gone.
    let _ = writeln!(out, "{READY}").and_then(|()| out.flush());
    let listener = out.as_fd().try_clone_to_owned().ok();
    let null = OpenOptions::new().read(true).write(true).open("/dev/null");
    if let Ok(null) = null {
        let _ = nix::unistd::dup2_stdout(null.as_fd());
        let _ = nix::unistd::dup2_stderr(null.as_fd());
    }
    let listener = listener?;
    fcntl(&listener, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).ok()?;
    Some(File::from(listener))
}

/// Prepares the worker: it hears signals again, which the supervisor blocks and a child inherits,
/// and it ends when its supervisor does, even if it hangs. That is a crash and not a stop, so that
/// nothing is withdrawn: a new supervisor takes over what the kernel holds.
pub(super) fn follow_supervisor() -> Result<(), StartError> {
    take_name();
    SigSet::empty()
        .thread_set_mask()
        .map_err(|errno| failed("unblock signals")(errno.into()))?;
    prctl::set_pdeathsig(Signal::SIGKILL)
        .map_err(|errno| failed("follow the supervisor")(errno.into()))?;
    // It may have died before that. Then nobody has the other end of the pipe.
    let out = io::stdout();
    let mut pipe = [PollFd::new(out.as_fd(), PollFlags::empty())];
    let polled = poll(&mut pipe, PollTimeout::ZERO);
    polled.map_err(|errno| failed("look for the supervisor")(errno.into()))?;
    if pipe[0].any() == Some(true) {
        return Err(StartError::Io {
            operation: "follow the supervisor",
            source: io::Error::from(io::ErrorKind::BrokenPipe),
        });
    }
    Ok(())
}

/// How a supervisor's life ends.
enum End {
    /// The first worker never was ready; it has said why.
    NotStarted(ExitStatus),
    /// The worker was told to stop, or ended well by itself.
    Stopped(ExitCode),
}

/// Keeps a worker running until told to stop, or until it ends of its own will.
pub(super) fn supervise(options: &Options, log: &Log) -> Result<ExitCode, StartError> {
    take_name();
    // A session of its own: no terminal ends it.
    nix::unistd::setsid().map_err(|errno| failed("leave the terminal")(errno.into()))?;
    if options.paths_are_absolute() {
        // So that no file system stays mounted for its sake.
        let _ = std::env::set_current_dir("/");
    }
    let mut lock = options.lock()?;
    // The one before died without being stopped. It still did if we fail to take its place.
    let died = options.pid_path().exists();
    lock.write_pids(&options.pid_paths())?;
    let mut told = false;
    let end = Signals::take().and_then(|signals| keep_running(&signals, log, &mut told));
    let leave = match &end {
        Ok(End::NotStarted(_)) => died,
        Ok(End::Stopped(_)) => false,
        // If it was running, nobody stopped it.
        Err(_) => died || told,
    };
    if leave {
        // `restartifdead` is to find it.
        lock.leave_pid_files();
    }
    end.map(|end| match end {
        End::NotStarted(status) => code(status),
        End::Stopped(code) => code,
    })
}

fn keep_running(signals: &Signals, log: &Log, told: &mut bool) -> Result<End, StartError> {
    let mut deaths = 0;
    loop {
        let since = Instant::now();
        let why = match Worker::start() {
            Ok(worker) => {
                let ended = worker.attend(signals, log, told)?;
                if ended.stopping {
                    return Ok(End::Stopped(ended.stopped()));
                }
                if !*told {
                    return Ok(End::NotStarted(ended.status));
                }
                if ended.status.success() {
                    return Ok(End::Stopped(ExitCode::SUCCESS));
                }
                if ended.ready && since.elapsed() >= STEADY {
                    deaths = 0;
                }
                format!("the worker died ({})", how(ended.status))
            }
            Err(error) if *told => error.to_string(),
            Err(error) => return Err(error),
        };
        let pause = PAUSES[deaths.min(PAUSES.len() - 1)];
        deaths += 1;
        warn!("{why}; starting it again in {pause} s");
        if signals.stop_within(Duration::from_secs(pause), log)? {
            return Ok(End::Stopped(ExitCode::SUCCESS));
        }
    }
}

fn how(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("signal {signal}"),
        (None, Some(code)) => format!("exit code {code}"),
        (None, None) => "unknown".to_owned(),
    }
}
