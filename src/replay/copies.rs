//! Packets that a capture on several interfaces holds more than once.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::link::Tags;
use crate::model::Time;
use crate::packet::Knock;

/// An interface of the capture, one that the link header names, and the VLANs that are tagged.
pub(super) type Device = (Option<u32>, Option<u32>, Tags);

/// More than are written of one interface before it is another's turn. So many are remembered.
const MOST: usize = 4096;
/// The time from a packet's first interface to its last; the kernel stamps a packet but once.
const COPIED_WITHIN: Duration = Duration::from_millis(1);

/// A capture on several interfaces holds a packet once for each that it came through: a VLAN and
/// the interface below it, a bridge and its port. The daemon hears it once.
#[derive(Debug, Default)]
pub(super) struct Copies {
    known: HashMap<Knock, VecDeque<(Device, Time)>>,
    /// As they were written.
    order: VecDeque<Knock>,
}

impl Copies {
    /// Whether the packet, stamped so, was there before on another interface. The stamps are those
    /// of the capture: interfaces may be written in turns, one late behind the other.
    pub(super) fn is_one(&mut self, knock: &Knock, device: Device, stamp: Time) -> bool {
        let apart = |at: Time| at.since(stamp).max(stamp.since(at));
        let known = self.known.entry(*knock).or_default();
        if known
            .iter()
            .any(|(on, at)| *on != device && apart(*at) <= COPIED_WITHIN)
        {
            return true;
        }
        known.push_back((device, stamp));
        self.order.push_back(*knock);
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.forget(&oldest);
        }
        false
    }

    fn forget(&mut self, knock: &Knock) {
        let Some(known) = self.known.get_mut(knock) else {
            return;
        };
        known.pop_front();
        if known.is_empty() {
            self.known.remove(knock);
        }
    }
}
