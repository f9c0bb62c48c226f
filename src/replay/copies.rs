//! Packets that a capture on several interfaces holds more than once.

use std::collections::{BTreeMap, HashMap, VecDeque};
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
#[derive(Debug)]
pub(super) struct Copies<D = Device> {
    /// On which device each was, and how often, by its stamps. On two devices it was never at stamps
    /// that lie as close as those of copies, since of these only the first is known.
    known: HashMap<Knock, BTreeMap<Time, (D, usize)>>,
    /// As they were written.
    order: VecDeque<(Knock, Time)>,
}

impl<D> Default for Copies<D> {
    fn default() -> Self {
        Self {
            known: HashMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<D: Copy + PartialEq> Copies<D> {
    /// Whether the packet, stamped so, was there before on another interface. The stamps are those
    /// of the capture: interfaces may be written in turns, one late behind the other.
    pub(super) fn is_one(&mut self, knock: &Knock, device: D, stamp: Time) -> bool {
        let apart = |at: Time| at.since(stamp).max(stamp.since(at));
        let known = self.known.entry(*knock).or_default();
        // All that lie close on one side are on the same device, so that the closest is enough.
        let (before, after) = (
            known.range(..=stamp).next_back(),
            known.range(stamp..).next(),
        );
        let mut closest = before.into_iter().chain(after);
        if closest.any(|(at, (on, _))| apart(*at) <= COPIED_WITHIN && *on != device) {
            return true;
        }
        known.entry(stamp).or_insert((device, 0)).1 += 1;
        self.order.push_back((*knock, stamp));
        if self.order.len() > MOST
            && let Some((oldest, stamp)) = self.order.pop_front()
        {
            self.forget(&oldest, stamp);
        }
        false
    }

    fn forget(&mut self, knock: &Knock, stamp: Time) {
        let Some(known) = self.known.get_mut(knock) else {
            return;
        };
        if let Some((_, times)) = known.get_mut(&stamp) {
            *times -= 1;
            if *times == 0 {
                known.remove(&stamp);
            }
        }
        if known.is_empty() {
            self.known.remove(knock);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::model::{KnockPort, Proto};

    fn knock(port: u16) -> Knock {
        let proto = Proto::Udp;
        Knock {
            source: [198, 51, 100, 7].into(),
            destination: [192, 0, 2, 1].into(),
            port: KnockPort { port, proto },
            source_port: 40_000,
            flags: 0,
            seq: 0,
        }
    }

    /// Counts how often it is compared.
    #[derive(Clone, Copy)]
    struct Counted<'a>(u32, &'a Cell<u64>);

    impl PartialEq for Counted<'_> {
        fn eq(&self, other: &Self) -> bool {
            self.1.set(self.1.get() + 1);
            self.0 == other.0
        }
    }

    #[test]
    fn packets_that_are_the_same_again_and_again_take_no_longer() {
        for apart in [0, 1_000, 10_000_000] {
            let compared = Cell::new(0);
            let mut copies = Copies::default();
            for n in 0..3 * MOST as u64 {
                let device = Counted(1, &compared);
                assert!(!copies.is_one(&knock(1), device, Time(n * apart)));
            }
            assert!(compared.get() <= 9 * MOST as u64, "{}", compared.get());
        }
    }

    #[test]
    fn each_of_all_that_are_remembered_may_have_a_copy() {
        let within = u64::try_from(COPIED_WITHIN.as_nanos()).unwrap();
        let mut copies = Copies::default();
        let mut kept: VecDeque<(u16, u32, u64)> = VecDeque::new();
        let (mut random, mut found) = (1_u64, 0);
        for n in 0..5 * MOST as u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005) + 1;
            let [a, b, c, d, ..] = random.to_be_bytes();
            let (port, device) = (u16::from(a % 3) + 1, u32::from(b % 4));
            // Mostly in order, some of them at the same moment, and some at the very bound.
            let stamp = (n + u64::from(c)) * within / 2 + u64::from(d % 2);
            let is_one = kept
                .iter()
                .any(|(of, on, at)| *of == port && *on != device && at.abs_diff(stamp) <= within);
            found += usize::from(is_one);
            let said = copies.is_one(&knock(port), device, Time(stamp));
            assert_eq!(said, is_one, "{n}");
            if !is_one {
                kept.push_back((port, device, stamp));
            }
            if kept.len() > MOST {
                kept.pop_front();
            }
        }
        assert!((MOST..4 * MOST).contains(&found), "{found}");
        assert_eq!(copies.order.len(), MOST);
        let known = copies.known.values().flatten().count();
        assert!(known <= MOST, "{known}");
    }
}
