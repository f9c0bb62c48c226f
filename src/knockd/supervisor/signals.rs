use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::failed;
use crate::knockd::logging::Log;
use crate::knockd::start::StartError;

/// The signals that a supervisor lives by, one after another.
pub(super) struct Signals(SignalFd);

/// What there is.
#[derive(Debug, Default)]
pub(super) struct Woken {
    /// A signal that came.
    pub(super) signal: Option<Signal>,
    /// Whether there is something to read, or the other end is closed.
    pub(super) readable: bool,
}

impl Signals {
    /// Blocks them for this process, so that they come here.
    pub(super) fn take() -> Result<Self, StartError> {
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

    /// Waits for a signal or for something to read, that long at most.
    pub(super) fn wait(
        &self,
        pipe: Option<BorrowedFd<'_>>,
        within: Option<Duration>,
    ) -> Result<Woken, StartError> {
        let failed = |errno: Errno| failed("wait for signals")(errno.into());
        let timeout = within.map_or(PollTimeout::NONE, |time| {
            // Rounded up: waking up too early would be waking up twice.
            PollTimeout::try_from(time.as_millis() + 1).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = vec![PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        fds.extend(pipe.map(|pipe| PollFd::new(pipe, PollFlags::POLLIN)));
        match poll(&mut fds, timeout) {
            Ok(0) | Err(Errno::EINTR) => return Ok(Woken::default()),
            Ok(_) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let readable = fds.get(1).and_then(PollFd::any) == Some(true);
        let info = self.0.read_signal().map_err(failed)?;
        let number = info.and_then(|info| i32::try_from(info.ssi_signo).ok());
        Ok(Woken {
            signal: number.and_then(|number| Signal::try_from(number).ok()),
            readable,
        })
    }

    /// Waits while there is no worker; whether it was told to stop meanwhile.
    pub(super) fn stop_within(&self, pause: Duration, log: &Log) -> Result<bool, StartError> {
        let until = Instant::now() + pause;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            match self.wait(None, Some(left))?.signal {
                Some(Signal::SIGTERM | Signal::SIGINT) => return Ok(true),
                // A new worker reads everything anew.
                Some(Signal::SIGHUP) => log.reopen(),
                _ => {}
            }
        }
    }
}
