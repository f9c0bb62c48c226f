use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ChildStdout, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tracing::{error, info, warn};

use super::signals::Signals;
use super::{READY, again, failed, tell_ready};
use crate::knockd::daemon::now;
use crate::knockd::logging::Log;
use crate::knockd::start::StartError;
use crate::watchdog::{PATIENCE, START_PATIENCE, Verdict, Vigil};

/// A worker that runs.
pub(super) struct Worker {
    pid: Pid,
    /// What it says; `None` once it has closed its end.
    pipe: Option<ChildStdout>,
    /// What it has said before it was ready.
    said: Vec<u8>,
    ready: bool,
    /// `None` once there is nothing more to do than to wait for its end.
    vigil: Option<Vigil>,
    stopping: bool,
}

/// How a worker ended.
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    /// Whether it ever was ready.
    pub(super) ready: bool,
    /// Whether it had been told to stop.
    pub(super) stopping: bool,
}

impl Ended {
    /// What to say of a worker that was told to stop.
    pub(super) fn stopped(&self) -> ExitCode {
        // Before it listens for signals it dies of them.
        if self.status.signal() == Some(Signal::SIGTERM as i32) {
            ExitCode::SUCCESS
        } else {
            super::code(self.status)
        }
    }
}

impl Worker {
    pub(super) fn start() -> Result<Self, StartError> {
        let mut child = again("worker")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed("start the worker"))?;
        Ok(Self {
            pid: Pid::from_raw(child.id().cast_signed()),
            pipe: child.stdout.take(),
            said: Vec::new(),
            ready: false,
            vigil: Some(Vigil::new(START_PATIENCE, now())),
            stopping: false,
        })
    }

    /// Listens to it and passes signals on to it until it ends, and ends it if it hangs. `told` is
    /// whether our own starter knows that all is well; it is told as soon as it is.
    pub(super) fn attend(
        mut self,
        signals: &Signals,
        log: &Log,
        told: &mut bool,
    ) -> Result<Ended, StartError> {
        loop {
            if let Some(status) = self.ended() {
                return Ok(Ended {
                    status,
                    ready: self.ready,
                    stopping: self.stopping,
                });
            }
            let patience = self.look();
            let pipe = self.pipe.as_ref().map(AsFd::as_fd);
            let woken = signals.wait(pipe, patience)?;
            if woken.readable {
                self.listen();
                if self.ready && !*told {
                    // Nothing more is said to it.
                    drop(tell_ready());
                    *told = true;
                }
            }
            match woken.signal {
                None | Some(Signal::SIGCHLD) => {}
                Some(Signal::SIGHUP) => {
                    log.reopen();
                    self.pass_on(Signal::SIGHUP);
                }
                Some(_) => {
                    info!("stopping");
                    if !self.stopping {
                        self.stopping = true;
                        self.vigil = Some(Vigil::new(PATIENCE, now()));
                    }
                    self.pass_on(Signal::SIGTERM);
                }
            }
        }
    }

    /// Reads what it has said.
    fn listen(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        let mut heard = [0; 64];
        let length = match pipe.read(&mut heard) {
            Ok(0) | Err(_) => {
                self.pipe = None;
                return;
            }
            Ok(length) => length,
        };
        if self.ready {
            // It gives no beats any more when it stops; the time for that is what is left.
            if let Some(vigil) = &mut self.vigil
                && !self.stopping
            {
                vigil.heard(now());
            }
            return;
        }
        self.said.extend_from_slice(&heard[..length]);
        if self.said.starts_with(READY.as_bytes()) && self.said.contains(&b'\n') {
            self.ready = true;
            self.vigil = Some(Vigil::new(PATIENCE, now()));
        }
        // It says nothing else; if it does, that is not kept.
        self.said.truncate(heard.len());
    }

    /// Ends it if it has been silent for too long; otherwise how long it may be.
    fn look(&mut self) -> Option<Duration> {
        match self.vigil.as_mut()?.look(now()) {
            Verdict::Wait(time) => Some(time),
            Verdict::Hung => {
                let what = match (self.stopping, self.ready) {
                    (true, _) => "does not stop",
                    (false, true) => "shows no life any more",
                    (false, false) => "does not become ready",
                };
                error!("the worker {what}: killing it");
                self.pass_on(Signal::SIGKILL);
                // The kernel ends it when it can.
                self.vigil = None;
                None
            }
        }
    }

    fn ended(&self) -> Option<ExitStatus> {
        match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => Some(ExitStatus::from_raw(code << 8)),
            Ok(WaitStatus::Signaled(_, signal, _)) => Some(ExitStatus::from_raw(signal as i32)),
            Ok(_) => None,
            Err(errno) => {
                error!("cannot wait for the worker: {errno}");
                Some(ExitStatus::from_raw(1 << 8))
            }
        }
    }

    fn pass_on(&self, signal: Signal) {
        if let Err(errno) = kill(self.pid, signal) {
            warn!("cannot pass {signal} on to the worker: {errno}");
        }
    }
}
