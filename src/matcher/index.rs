//! Where a source's newest record is: open addressing, so that whoever is looked up is found, or
//! found to be unknown, in a cache line or two.

use std::mem::size_of;

/// The upper half of a slot is its hash, the lower one a place plus one, so that untouched memory
/// means empty. A slot lies at or behind where its hash points to, with no empty one between
/// (linear probing, Knuth, "The Art of Computer Programming", volume 3, section 6.4).
#[derive(Debug)]
pub(super) struct Index {
    slots: Vec<u64>,
}

impl Index {
    /// In bytes, for so many places: three slots in seven stay empty.
    pub(super) const BYTES_PER_PLACE: usize = 14;
    /// And that much however few there are, so that one slot is always empty.
    pub(super) const MORE_BYTES: usize = size_of::<u64>();

    /// For as many places, each with a hash of its own at worst.
    pub(super) fn new(places: usize) -> Self {
        Self {
            slots: vec![0; places + places / 4 * 3 + 1],
        }
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.slots.len() * size_of::<u64>()
    }

    /// The place with this hash of which that is true, if there is one.
    #[inline]
    pub(super) fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut at = self.home(hash);
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                return None;
            }
            if hash_of(slot) == hash && is_it(place_of(slot)) {
                return Some(place_of(slot));
            }
            at = self.next(at);
        }
    }

    /// Takes all out.
    pub(super) fn clear(&mut self) {
        self.slots.fill(0);
    }

    /// Enters a place with a hash.
    pub(super) fn insert(&mut self, hash: u32, place: u32) {
        let mut at = self.home(hash);
        while self.slots[at] != 0 {
            at = self.next(at);
        }
        self.slots[at] = slot(hash, place);
    }

    /// Puts another place where the one with this hash is; nothing if there is none such.
    pub(super) fn replace(&mut self, hash: u32, place: u32, by: u32) {
        if let Some(at) = self.position(hash, place) {
            self.slots[at] = slot(hash, by);
        }
    }

    /// Takes a place with this hash out, if it is there.
    pub(super) fn remove(&mut self, hash: u32, place: u32) {
        let Some(mut gap) = self.position(hash, place) else {
            return;
        };
        let mut at = gap;
        loop {
            at = self.next(at);
            let slot = self.slots[at];
            if slot == 0 {
                break;
            }
            // It may not move before where its hash points to.
            let home = self.home(hash_of(slot));
            if self.distance(home, at) >= self.distance(gap, at) {
                self.slots[gap] = slot;
                gap = at;
            }
        }
        self.slots[gap] = 0;
    }

    fn position(&self, hash: u32, place: u32) -> Option<usize> {
        let wanted = slot(hash, place);
        let mut at = self.home(hash);
        loop {
            match self.slots[at] {
                0 => return None,
                found if found == wanted => return Some(at),
                _ => at = self.next(at),
            }
        }
    }

    /// Spreads hashes over any number of slots without a division (Lemire, "Fast random integer
    /// generation in an interval", 2019).
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // it is less than the number of slots
    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.slots.len() as u64) >> 32) as usize
    }

    #[inline]
    fn next(&self, at: usize) -> usize {
        if at + 1 < self.slots.len() { at + 1 } else { 0 }
    }

    /// How many steps forward from one slot to another.
    fn distance(&self, from: usize, to: usize) -> usize {
        if from <= to {
            to - from
        } else {
            to + self.slots.len() - from
        }
    }
}

#[inline]
fn slot(hash: u32, place: u32) -> u64 {
    (u64::from(hash) << 32) | (u64::from(place) + 1)
}

#[inline]
#[allow(clippy::cast_possible_truncation)] // the upper half
fn hash_of(slot: u64) -> u32 {
    (slot >> 32) as u32
}

#[inline]
#[allow(clippy::cast_possible_truncation)] // the lower half
fn place_of(slot: u64) -> u32 {
    (slot as u32).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_index_has_an_empty_slot() {
        for places in [1, 2, 3, 4, 5, 100] {
            let mut index = Index::new(places);
            for place in 0..u32::try_from(places).unwrap() {
                index.insert(u32::MAX, place);
            }
            assert_eq!(index.find(u32::MAX, |_| false), None);
            assert!(index.bytes() <= places * Index::BYTES_PER_PLACE + Index::MORE_BYTES);
        }
    }

    proptest! {
        /// Few slots and fewer hashes, so that they crowd and wrap around.
        #[test]
        fn it_holds_what_a_set_would_hold(
            steps in prop::collection::vec((0_u32..7, 0_u32..20, any::<bool>()), 0..200),
        ) {
            let mut index = Index::new(20);
            let mut plain = BTreeSet::new();
            for (hash, place, insert) in steps {
                let hash = hash.wrapping_mul(0x2492_4924).wrapping_add(0x2000_0000);
                if !insert {
                    index.remove(hash, place);
                    plain.remove(&(hash, place));
                } else if plain.len() < 20 && plain.insert((hash, place)) {
                    index.insert(hash, place);
                }
                for hash in (0..7_u32).map(|hash| hash.wrapping_mul(0x2492_4924).wrapping_add(0x2000_0000)) {
                    for place in 0..20 {
                        let found = index.find(hash, |found| found == place);
                        prop_assert_eq!(found.is_some(), plain.contains(&(hash, place)));
                    }
                }
            }
        }
    }
}
