//! What is kept of a source.

use std::net::IpAddr;

use super::sequences::SequenceId;
use crate::model::Time;

/// How many fingerprints and touched ports a record holds.
pub(super) const PRINTS: usize = 2;

/// An attempt of one source at one sequence, or (stages 0 and `DONE`) what is left of one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt {
    /// When the first port was knocked on; for one that is complete, the last.
    pub(super) started: Time,
    pub(super) sequence: SequenceId,
    /// How many ports are matched; 0 is no attempt.
    pub(super) stage: u8,
}

/// The stage of an attempt that was completed; no sequence is that long.
pub(super) const DONE: u8 = u8::MAX;
/// The stage of an attempt whose first port was knocked on when it might not begin; its `started` is
/// when that was last.
pub(super) const BARRED: u8 = u8::MAX - 1;

impl Attempt {
    pub(super) fn is_done(&self) -> bool {
        self.stage == DONE
    }

    pub(super) fn is_barred(&self) -> bool {
        self.stage == BARRED
    }

    pub(super) fn void(&mut self) {
        self.stage = 0;
    }
}

/// 40 bytes, so that 32 MiB hold 670,000: two seconds of the fastest flood that we have seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record {
    pub(super) source: Source,
    pub(super) started: Time,
    /// Fingerprints from the front, touched ports with their times from the back.
    pub(super) prints: [u32; PRINTS],
    /// The place of the source's next older record, if it is still there.
    pub(super) older: u32,
    pub(super) sequence: u16,
    pub(super) stage: u8,
    /// How many of either: fingerprints in the lower four bits, ports in the upper.
    pub(super) counts: u8,
}

/// The sequence number of a record that only witnesses what was seen.
pub(super) const WITNESS: u16 = u16::MAX;
/// The sequence number of a record of foreign ports. Its `started` is the last time one was
/// touched, its `stage` 1 if the source is a scanner. The port that a record of another kind was
/// begun with may stand in that one.
pub(super) const FOREIGN: u16 = u16::MAX - 1;
/// The sequence number of a record of one foreign port near a sequence, with the fingerprint of the
/// packet that it was touched with. Its `started` is when that was.
pub(super) const NEAR: u16 = u16::MAX - 2;
/// The sequence number of a place that a record has left.
pub(super) const LEFT: u16 = u16::MAX - 3;

/// An address, as two halves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Source(pub(super) [u64; 2]);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        let bytes = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let bits = u128::from(bytes);
        #[allow(clippy::cast_possible_truncation)] // the halves of 128 bits
        Self([(bits >> 64) as u64, bits as u64])
    }
}

impl Record {
    /// Whether it is an attempt no more, or never was one.
    pub(super) fn is_void(&self) -> bool {
        self.stage == 0 && ![FOREIGN, NEAR].contains(&self.sequence)
    }

    pub(super) fn prints(&self) -> &[u32] {
        &self.prints[..self.print_count()]
    }

    pub(super) fn touches(&self) -> &[u32] {
        &self.prints[PRINTS - self.touch_count()..]
    }

    fn print_count(&self) -> usize {
        usize::from(self.counts & 0xf)
    }

    fn touch_count(&self) -> usize {
        usize::from(self.counts >> 4)
    }

    pub(super) fn has_room(&self) -> bool {
        self.room() > 0
    }

    /// For so many fingerprints or touches.
    pub(super) fn room(&self) -> usize {
        PRINTS - self.print_count() - self.touch_count()
    }

    /// From an attempt to a witness of what was seen.
    pub(super) fn retire(&mut self) {
        (self.sequence, self.stage) = (WITNESS, 0);
        self.clear_touches();
    }

    /// Whether there was room.
    pub(super) fn push_print(&mut self, print: u32) -> bool {
        let room = self.has_room();
        if room {
            self.prints[self.print_count()] = print;
            self.counts += 1;
        }
        room
    }

    /// Without room nothing happens.
    pub(super) fn push_touch(&mut self, touch: u32) {
        if self.has_room() {
            self.prints[PRINTS - 1 - self.touch_count()] = touch;
            self.counts += 1 << 4;
        }
    }

    pub(super) fn clear_prints(&mut self) {
        self.counts &= 0xf0;
    }

    pub(super) fn clear_touches(&mut self) {
        self.counts &= 0xf;
    }

    pub(super) fn retain_touches(&mut self, keep: impl Fn(u32) -> bool) {
        let all = self.prints;
        let first = PRINTS - self.touch_count();
        self.clear_touches();
        for &touch in all[first..].iter().filter(|&&touch| keep(touch)) {
            self.push_touch(touch);
        }
    }
}
