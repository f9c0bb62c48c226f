//! Keeps CPUs from sleeping while somebody is one packet short of the end of a knock: to wake one
//! takes tens of microseconds on a virtual machine, and more from the deep states of a real one,
//! which is longer than all that the packet brings about.
//!
//! It is asked of the kernel (PM QoS, `Documentation/power/pm_qos_interface.rst` there), for all CPUs
//! since any of them may take the packet in, and costs power. So it ends with the knock or a second
//! after the packet, and goes on for little of the time however many knocks are begun.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::time::Duration;

use tracing::debug;

use crate::control::protocol::AwakeStatus;
use crate::model::{Bucket, Time};

/// Mode 0600; absent where the kernel has no power management.
const DEVICE: &str = "/dev/cpu_dma_latency";
/// Microseconds that a CPU may take to wake up: none, so that it waits for work in a loop.
const AWAKE: i32 = 0;
/// `PM_QOS_DEFAULT_VALUE` of the kernel's `linux/pm_qos.h`: no request.
const ANY: i32 = -1;

/// Whoever takes longer from one packet to the next does not mind.
const LONGEST: Duration = Duration::from_secs(1);
/// So much at once is free.
const FREE: Duration = Duration::from_secs(2);
/// In the long run it is one part of the time in so many.
const SHARE: u32 = 20;
/// So often a second at most: the kernel wakes every CPU that sleeps for each.
const TURNS: u64 = 50;
/// It is put off by no less, to set no timer for each packet.
const SLACK: Duration = Duration::from_millis(100);

/// The request; the kernel forgets it when this process ends, however it does.
#[derive(Debug)]
pub(super) struct Awake<D = File> {
    /// Or why it is not to be had.
    device: Result<D, String>,
    /// Until when it asks for something.
    until: Option<Time>,
    /// How much of the time that it did is not made up for yet.
    debt: Duration,
    turns: Bucket,
    /// When that was so.
    at: Time,
    times: u64,
    total: Duration,
}

impl Awake {
    /// Asks for nothing yet.
    pub(super) fn new() -> Self {
        let device = OpenOptions::new().write(true).open(DEVICE);
        let device = device.map_err(|error| format!("open {DEVICE}: {error}"));
        if let Err(why) = &device {
            debug!("CPUs are not kept awake: {why}");
        }
        Self::with(device)
    }
}

impl<D: Write> Awake<D> {
    fn with(device: Result<D, String>) -> Self {
        Self {
            device,
            until: None,
            debt: Duration::ZERO,
            turns: Bucket::new(TURNS, TURNS),
            at: Time(0),
            times: 0,
            total: Duration::ZERO,
        }
    }

    /// Somebody may complete a knock in a moment.
    pub(super) fn hold(&mut self, now: Time) {
        self.account(now);
        if self.debt >= FREE {
            return;
        }
        let until = now.after(LONGEST);
        if let Some(held) = self.until {
            if until.since(held) > SLACK {
                self.until = Some(until);
            }
        } else if self.turns.take(now) && self.ask(AWAKE) {
            self.times += 1;
            self.until = Some(until);
        }
    }

    /// Nobody is waited for any more.
    pub(super) fn release(&mut self, now: Time) {
        self.account(now);
        if self.until.take().is_some() {
            self.ask(ANY);
        }
    }

    /// When that is at the latest.
    pub(super) fn due(&self) -> Option<Time> {
        self.until
    }

    /// Releases if it is time to.
    pub(super) fn tick(&mut self, now: Time) {
        if self.until.is_some_and(|until| until <= now) {
            self.release(now);
        }
    }

    /// Counts the time that has passed.
    fn account(&mut self, now: Time) {
        let passed = now.since(self.at);
        self.at = self.at.max(now);
        if self.until.is_some() {
            // The machine may have been suspended meanwhile.
            let passed = passed.min(FREE + LONGEST);
            self.total += passed;
            self.debt += passed;
        }
        self.debt = self.debt.saturating_sub(passed / SHARE);
    }

    /// Whether the kernel has taken it. Without the device nothing is asked for.
    fn ask(&mut self, micros: i32) -> bool {
        let Ok(device) = &mut self.device else {
            return false;
        };
        // In the machine's byte order, at one stroke.
        let written = device.write_all(&micros.to_ne_bytes());
        if let Err(error) = &written {
            self.device = Err(format!("write to {DEVICE}: {error}"));
        }
        written.is_ok()
    }

    pub(super) fn status(&mut self, now: Time) -> AwakeStatus {
        self.account(now);
        AwakeStatus {
            times: self.times,
            total_ms: u64::try_from(self.total.as_millis()).unwrap_or(u64::MAX),
            why_never: self.device.as_ref().err().cloned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn awake() -> Awake<Vec<u8>> {
        Awake::with(Ok(Vec::new()))
    }

    fn at(millis: u64) -> Time {
        Time::from_secs(100).after(Duration::from_millis(millis))
    }

    /// What the kernel was asked for.
    fn asked(awake: &Awake<Vec<u8>>) -> Vec<i32> {
        let bytes = awake.device.as_deref().unwrap();
        let values = bytes.chunks(4).map(|value| value.try_into().unwrap());
        values.map(i32::from_ne_bytes).collect()
    }

    #[test]
    fn it_ends_with_the_knock() {
        let mut awake = awake();
        awake.hold(at(0));
        assert_eq!(asked(&awake), [AWAKE]);
        awake.hold(at(100));
        assert_eq!(asked(&awake), [AWAKE], "asked for already");
        assert_eq!(
            awake.due(),
            Some(at(1_000)),
            "for so little no timer is set"
        );
        awake.release(at(200));
        awake.release(at(300));
        assert_eq!(asked(&awake), [AWAKE, ANY]);
        assert_eq!(awake.due(), None);
        let status = awake.status(at(400));
        assert_eq!((status.times, status.total_ms), (1, 200));
    }

    #[test]
    fn it_ends_a_second_after_the_last_packet_of_a_knock_that_does_not() {
        let mut awake = awake();
        awake.hold(at(0));
        awake.hold(at(300));
        assert_eq!(awake.due(), Some(at(1_300)));
        awake.tick(at(1_299));
        assert_eq!(asked(&awake), [AWAKE]);
        awake.tick(at(1_300));
        assert_eq!(asked(&awake), [AWAKE, ANY]);
    }

    #[test]
    fn knocks_that_are_begun_without_end_take_a_twentieth_of_the_time() {
        for every in [1, 10, 250, 900, 2_000] {
            let mut awake = awake();
            let end = 1_000_000;
            for millis in (0..end).step_by(every) {
                if let Some(due) = awake.due().filter(|due| *due <= at(millis)) {
                    awake.tick(due);
                }
                awake.hold(at(millis));
            }
            let total = Duration::from_millis(awake.status(at(end)).total_ms);
            let most = Duration::from_millis(end) / SHARE + FREE + LONGEST;
            assert!(total <= most, "every {every} ms: {total:?}");
            assert!(total >= most / 2, "every {every} ms: {total:?}");
        }
    }

    #[test]
    fn the_kernel_is_not_asked_for_each_packet() {
        let mut awake = awake();
        for millis in 0..10_000 {
            awake.hold(at(millis));
            awake.release(at(millis));
        }
        let times = awake.status(at(10_000)).times;
        assert!((500..=550).contains(&times), "{times} in ten seconds");
    }

    #[test]
    fn a_suspended_machine_is_not_made_up_for() {
        let mut awake = awake();
        awake.hold(at(0));
        awake.tick(at(100_000_000));
        awake.hold(at(100_200_000));
        assert_eq!(asked(&awake), [AWAKE, ANY, AWAKE]);
        assert_eq!(awake.status(at(100_200_000)).total_ms, 3_000);
    }

    #[test]
    fn without_the_device_nothing_is_asked_for_and_status_says_why() {
        let mut awake: Awake<Vec<u8>> = Awake::with(Err("gone".to_owned()));
        awake.hold(at(0));
        assert_eq!(awake.due(), None);
        let status = awake.status(at(10));
        assert_eq!((status.times, status.total_ms), (0, 0));
        assert_eq!(status.why_never.as_deref(), Some("gone"));
        // No byte fits there.
        let mut full: Awake<&mut [u8]> = Awake::with(Ok(&mut []));
        full.hold(at(0));
        assert_eq!(full.due(), None);
        let why = full.status(at(10)).why_never.unwrap();
        assert!(why.starts_with("write to /dev/cpu_dma_latency: "), "{why}");
    }
}
