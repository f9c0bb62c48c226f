//! The next deadline as something to wait for: a timer of the kernel that goes on in suspend
//! (`timerfd_create(2)` with `CLOCK_BOOTTIME`), so that what ended meanwhile ends at once after it.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::model::Time;
use crate::sys::ready::Ready;

use super::daemon::now;
use super::start::StartError;

/// The timer.
pub(super) struct Alarm {
    timer: TimerFd,
    ready: Ready,
    deadline: Option<Time>,
}

fn failed(source: impl Into<io::Error>) -> StartError {
    StartError::Io {
        operation: "set a timer",
        source: source.into(),
    }
}

impl Alarm {
    /// One that never rings. Must be called within a tokio runtime with IO.
    pub(super) fn new() -> Result<Self, StartError> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, flags).map_err(failed)?;
        let ready = Ready::new(timer.as_fd()).map_err(failed)?;
        Ok(Self {
            timer,
            ready,
            deadline: None,
        })
    }

    /// Rings at the deadline, or never; at once if it has passed.
    pub(super) fn set(&mut self, deadline: Option<Time>) -> Result<(), StartError> {
        if deadline == self.deadline {
            return Ok(());
        }
        self.deadline = deadline;
        match deadline {
            // Further off than the kernel can count is never.
            Some(Time(nanos)) if i64::try_from(nanos).is_ok() => {
                // Relative: libfaketime takes every absolute time for one of the wall clock. A
                // timer set to 0 is one that is switched off.
                let left = Time(nanos).since(now()).max(Duration::from_nanos(1));
                let once = Expiration::OneShot(TimeSpec::from_duration(left));
                let relative = TimerSetTimeFlags::empty();
                self.timer.set(once, relative).map_err(failed)
            }
            _ => self.timer.unset().map_err(failed),
        }
    }

    /// Returns at the deadline, which has to be set anew then. Safe to cancel.
    pub(super) async fn rings(&mut self) -> Result<(), StartError> {
        self.ready.readable().await.map_err(failed)?;
        // It does not block; whether it rang or was set anew meanwhile is all one.
        let _ = self.timer.wait();
        self.deadline = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async { tokio::time::timeout(limit, future).await.ok() })
    }

    #[test]
    fn it_rings_at_the_deadline_and_not_before() {
        let rung = within(Duration::from_secs(20), async {
            let mut alarm = Alarm::new().unwrap();
            let deadline = now().after(Duration::from_millis(30));
            alarm.set(Some(deadline)).unwrap();
            alarm.rings().await.unwrap();
            now() >= deadline
        });
        assert_eq!(rung, Some(true));
    }

    #[test]
    fn a_deadline_that_has_passed_rings_at_once_and_none_never() {
        let rung = within(Duration::from_secs(20), async {
            let mut alarm = Alarm::new().unwrap();
            alarm.set(Some(Time(0))).unwrap();
            alarm.rings().await.unwrap();
        });
        assert!(rung.is_some());
        let rung = within(Duration::from_millis(50), async {
            let mut alarm = Alarm::new().unwrap();
            alarm.set(Some(now())).unwrap();
            alarm.set(Some(Time(u64::MAX))).unwrap();
            alarm.set(None).unwrap();
            alarm.rings().await.unwrap();
        });
        assert!(rung.is_none());
    }

    #[test]
    fn a_deadline_rings_however_much_else_there_is_to_do() {
        let started = Instant::now();
        within(Duration::from_secs(20), async {
            let mut alarm = Alarm::new().unwrap();
            let deadline = now().after(Duration::from_millis(20));
            loop {
                alarm.set(Some(deadline)).unwrap();
                tokio::select! {
                    rung = alarm.rings() => break rung.unwrap(),
                    () = tokio::task::yield_now() => {}
                }
            }
        })
        .unwrap();
        assert!(started.elapsed() >= Duration::from_millis(20));
    }
}
