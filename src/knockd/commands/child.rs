//! One command, from its start to its end.

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};
use tracing::warn;

use super::Shared;
use super::output::Output;
use crate::engine::Job;
use crate::model::GateName;
use crate::policy::CommandLine;
use crate::sys::descriptors;

/// Where programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// By itself, with this status code.
    Code(i32),
    /// By a signal that somebody else has sent.
    Signal(i32),
    /// Its time was over.
    Killed,
    /// It had not ended when the daemon did.
    Left,
}

/// Why a command did not start.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {program}: {source}{}", hint(source))]
pub(super) struct CommandError {
    operation: &'static str,
    program: String,
    source: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound => " (is its path right, and that of its interpreter?)",
        ErrorKind::PermissionDenied => " (is it executable?)",
        _ => "",
    }
}

impl CommandError {
    /// Whether it may well start a moment later.
    pub(super) fn passes(&self) -> bool {
        let errno = self.source.raw_os_error().map(Errno::from_raw);
        matches!(
            errno,
            Some(Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE | Errno::ETXTBSY)
        )
    }
}

/// Kills the group of a command that is given up, unless it is let go.
struct Group {
    child: Child,
    let_go: bool,
}

impl Group {
    /// The child has not been waited for, so that the number is nobody else's yet.
    fn kill(&self) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = pid {
            // Fails only where everybody in it has ended.
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.let_go {
            self.kill();
        }
    }
}

/// Runs it until it ends by itself, its time is over, or the daemon ends.
pub(super) async fn run(job: &Job, shared: &Shared) -> Result<Ending, CommandError> {
    let (program, _) = words(&job.command);
    let failed = |operation| {
        move |source| CommandError {
            operation,
            program: program.to_owned(),
            source,
        }
    };
    let (printed, theirs) = io::pipe().map_err(failed("make a pipe for"))?;
    let also = theirs.try_clone().map_err(failed("make a pipe for"))?;
    let pipe = Receiver::from_owned_fd(OwnedFd::from(printed));
    let mut pipe = pipe.map_err(failed("listen to"))?;
    descriptors::close_on_exec().map_err(failed("hide our files from"))?;
    // The command holds the other ends of the pipe, and goes when it has been started.
    let child = command(job, theirs.into(), also.into())
        .spawn()
        .map_err(failed("run"))?;
    let let_go = false;
    let mut group = Group { child, let_go };
    let mut output = Output::new(&job.knock);
    let ends = async {
        let mut open = true;
        loop {
            tokio::select! {
                status = group.child.wait() => return status,
                more = output.read(&mut pipe, shared), if open => open = more,
            }
        }
    };
    let ended = tokio::select! {
        ended = tokio::time::timeout(job.timeout, ends) => ended,
        () = shared.over() => {
            // What it has opened is for it to shut; a stop command runs again.
            group.let_go = !job.is_stop;
            if group.let_go {
                read_on(pipe);
            }
            return Ok(Ending::Left);
        }
    };
    let ending = if let Ok(status) = ended {
        ending(status.map_err(failed("wait for"))?)
    } else {
        group.kill();
        group.child.wait().await.map_err(failed("wait for"))?;
        Ending::Killed
    };
    output.end(pipe, shared);
    Ok(ending)
}

/// Has somebody else read what a command prints when we are gone: a pipe that nobody reads would
/// end it at the next word.
fn read_on(pipe: Receiver) {
    let Ok(pipe) = pipe.into_blocking_fd() else {
        return;
    };
    let reader = Command::new("/bin/cat")
        .env_clear()
        .current_dir("/")
        .stdin(pipe)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    if let Err(error) = reader {
        warn!("cannot run /bin/cat, which was to read what a command prints: {error}");
    }
}

fn ending(status: ExitStatus) -> Ending {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ending::Code(code),
        (None, signal) => Ending::Signal(signal.unwrap_or(0)),
    }
}

/// The program, and its arguments.
fn words(command: &CommandLine) -> (&str, Vec<&str>) {
    match command {
        CommandLine::Shell(line) => ("/bin/sh", vec!["-c", line]),
        CommandLine::Words(words) => {
            let mut words = words.iter().map(String::as_str);
            let program = words.next().unwrap_or_default();
            (program, words.collect())
        }
    }
}

/// With nothing of ours: no input, no file, no variable; in a group of its own.
fn command(job: &Job, stdout: Stdio, stderr: Stdio) -> Command {
    let (program, arguments) = words(&job.command);
    let gates: Vec<&str> = job.gates.iter().map(GateName::as_str).collect();
    let family = match job.source {
        IpAddr::V4(_) => "4",
        IpAddr::V6(_) => "6",
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("KNOCK_IP", job.source.to_string())
        .env("KNOCK_NAME", job.knock.as_str())
        .env("KNOCK_GATE", gates.join(" "))
        .env("KNOCK_FAMILY", family)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .process_group(0);
    command
}
