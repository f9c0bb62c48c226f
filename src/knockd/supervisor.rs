//! A daemon in the background: a supervisor that starts the worker, and starts it again when it
//! dies. The kernel goes on enforcing meanwhile; nothing opens.
//!
//! Each is this program started anew with a hidden role, so that no process is ever forked with
//! threads in it.

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tracing::{error, info, warn};

use super::cli::Options;
use super::lock::Lock;
use super::start::StartError;

/// What the worker says when everything is in place.
const READY: &str = "ready";

/// A worker that lasted this long may be started again at once.
const STEADY: Duration = Duration::from_secs(60);

/// Pauses before a start, after so many deaths in a row.
const PAUSES: [u64; 6] = [0, 1, 2, 5, 10, 30];

fn failed(operation: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::Io { operation, source }
}

/// This program again, with the same options in another role.
fn again(role: &str) -> Result<Command, StartError> {
    let program: PathBuf = std::env::current_exe().map_err(failed("find this program"))?;
    let mut command = Command::new(program);
    let mut skip = false;
    for argument in std::env::args_os().skip(1) {
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
    Ok(command)
}

/// Starts the supervisor and waits until the worker is ready, or has failed.
pub(super) fn launch() -> Result<ExitCode, StartError> {
    let mut supervisor = again("supervisor")?
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
/// let go of the terminal.
pub(super) fn tell_ready() {
    let mut out = io::stdout();
    // Nobody listening is no fault: whoever started us may have gone.
    let _ = writeln!(out, "{READY}").and_then(|()| out.flush());
    let null = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null");
    if let Ok(null) = null {
        let _ = nix::unistd::dup2_stdout(null.as_fd());
        let _ = nix::unistd::dup2_stderr(null.as_fd());
    }
}

/// Prepares the worker: it hears signals again, which the supervisor blocks and a child inherits,
/// and it ends when its supervisor does.
pub(super) fn follow_supervisor() -> Result<(), StartError> {
    SigSet::empty()
        .thread_set_mask()
        .map_err(|errno| failed("unblock signals")(errno.into()))?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)
        .map_err(|errno| failed("follow the supervisor")(errno.into()))?;
    // It may have died before that.
    if nix::unistd::getppid() == Pid::from_raw(1) {
        return Err(StartError::Io {
            operation: "follow the supervisor",
            source: io::Error::from(io::ErrorKind::NotFound),
        });
    }
    Ok(())
}

/// Keeps a worker running until told to stop, or until it ends of its own will.
pub(super) fn supervise(options: &Options) -> Result<ExitCode, StartError> {
    // A session of its own: no terminal ends it.
    nix::unistd::setsid().map_err(|errno| failed("leave the terminal")(errno.into()))?;
    let _ = std::env::set_current_dir("/");
    let mut lock = Lock::take(&options.runtime_dir, &options.pid_path())?;
    lock.write_pid(&options.pid_path())?;
    let signals = Signals::take()?;
    let mut deaths = 0;
    let mut told = false;
    loop {
        let since = Instant::now();
        let mut worker = again("worker")?
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed("start the worker"))?;
        let ready = first_line(&mut worker).as_deref() == Some(READY);
        if ready && !told {
            tell_ready();
            told = true;
        }
        let (status, stopping) = attend(&worker, &signals)?;
        // A worker that never was ready has said why; one that ended well was told to.
        if stopping || status.success() || !told {
            return Ok(code(status));
        }
        if ready && since.elapsed() >= STEADY {
            deaths = 0;
        }
        let pause = PAUSES[deaths.min(PAUSES.len() - 1)];
        deaths += 1;
        warn!(
            "the worker died ({}); starting it again in {pause} s",
            how(status)
        );
        if told_to_stop(&signals, Duration::from_secs(pause))? {
            return Ok(ExitCode::SUCCESS);
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

/// The signals that a supervisor lives by, one after another.
struct Signals(SignalFd);

impl Signals {
    /// Blocks them for this process, so that they come here.
    fn take() -> Result<Self, StartError> {
        let failed = |errno: Errno| failed("take signals")(errno.into());
        let signals = SigSet::from_iter([
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGCHLD,
        ]);
        signals.thread_block().map_err(failed)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self(SignalFd::with_flags(&signals, flags).map_err(failed)?))
    }

    /// The next one, or none within that time.
    fn next(&self, within: Option<Duration>) -> Result<Option<Signal>, StartError> {
        let failed = |errno: Errno| failed("wait for signals")(errno.into());
        let timeout = within.map_or(PollTimeout::NONE, |time| {
            PollTimeout::try_from(time.as_millis()).unwrap_or(PollTimeout::MAX)
        });
        match poll(
            &mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)],
            timeout,
        ) {
            Ok(0) | Err(Errno::EINTR) => return Ok(None),
            Ok(_) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let info = self.0.read_signal().map_err(failed)?;
        let number = info.and_then(|info| i32::try_from(info.ssi_signo).ok());
        Ok(number.and_then(|number| Signal::try_from(number).ok()))
    }
}

/// Passes signals on to the worker until it ends; whether it was told to stop.
fn attend(worker: &Child, signals: &Signals) -> Result<(ExitStatus, bool), StartError> {
    let pid = Pid::from_raw(worker.id().cast_signed());
    let mut stopping = false;
    loop {
        if let Some(status) = ended(pid) {
            return Ok((status, stopping));
        }
        match signals.next(None)? {
            None | Some(Signal::SIGCHLD) => {}
            Some(Signal::SIGHUP) => pass_on(pid, Signal::SIGHUP),
            Some(_) => {
                info!("stopping");
                stopping = true;
                pass_on(pid, Signal::SIGTERM);
            }
        }
    }
}

fn ended(pid: Pid) -> Option<ExitStatus> {
    match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(_, code)) => Some(ExitStatus::from_raw(code << 8)),
        Ok(WaitStatus::Signaled(_, signal, _)) => Some(ExitStatus::from_raw(signal as i32)),
        Ok(_) => None,
        Err(errno) => {
            error!("cannot wait for the worker: {errno}");
            Some(ExitStatus::from_raw(1 << 8))
        }
    }
}

fn pass_on(pid: Pid, signal: Signal) {
    if let Err(errno) = kill(pid, signal) {
        warn!("cannot pass {signal} on to the worker: {errno}");
    }
}

/// Waits; whether it was told to stop meanwhile.
fn told_to_stop(signals: &Signals, pause: Duration) -> Result<bool, StartError> {
    let until = Instant::now() + pause;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        if let Some(Signal::SIGTERM | Signal::SIGINT) = signals.next(Some(left))? {
            return Ok(true);
        }
    }
}
