//! Where a source's newest record is: a hash table whose buckets are cache lines, so that whoever is
//! looked up is found, or found to be unknown, in one of them nearly always.

use std::mem::size_of;

use crate::sys::cache::prefetch;

/// What a bucket is made of. The layout is that of F14 (Bronson and Shi, "Open-sourcing F14", 2019):
/// first a byte of each entry's hash, which are compared at once, and how many entries have passed the
/// bucket because it was full, so that nothing moves when one is taken out; then the entries.
type Bucket = [u64; WORDS];

/// 64 bytes, the cache line of nearly every processor.
const WORDS: usize = 8;
/// Entries in a bucket.
const WAYS: usize = 12;
/// Their first word. Before it are eight tags, and four with the count of those that have passed.
const ENTRIES: usize = 2;
/// The lower bits of an entry are its place, the others more of its hash.
const PLACE_BITS: u32 = 25;

/// Untouched memory is an empty index.
#[derive(Debug)]
pub(super) struct Index {
    words: Vec<u64>,
    /// Words before the first bucket, so that each is a cache line.
    skipped: usize,
    buckets: usize,
}

/// What an entry is told by, before its source is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tag {
    /// Not 0, which means that there is no entry.
    byte: u8,
    /// Bits above those of a place.
    bits: u32,
}

impl Tag {
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // the lowest byte is wanted
    fn of(hash: u32) -> Self {
        Self {
            byte: (hash as u8).max(1),
            bits: (hash >> 8) << PLACE_BITS,
        }
    }

    #[inline]
    fn entry(self, place: u32) -> u32 {
        self.bits | place
    }
}

impl Index {
    /// How many places there may be.
    pub(super) const MOST_PLACES: usize = 1 << PLACE_BITS;
    /// In bytes, for so many places: a third of the entries stay empty.
    pub(super) const BYTES_PER_PLACE: usize = WORDS * size_of::<u64>() / (WAYS * 2 / 3);
    /// And that much however few there are.
    pub(super) const MORE_BYTES: usize = 2 * WORDS * size_of::<u64>();

    /// For as many places, each with a hash of its own at worst.
    pub(super) fn new(places: usize) -> Self {
        let buckets = places / (WAYS * 2 / 3) + 1;
        let words = vec![0_u64; (buckets + 1) * WORDS];
        let skipped = words.as_ptr().align_offset(size_of::<Bucket>());
        Self {
            // It may be refused where there are no addresses, and then costs a little time.
            skipped: skipped.min(WORDS),
            words,
            buckets,
        }
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.words.len() * size_of::<u64>()
    }

    /// The place with this hash of which that is true, if there is one.
    #[inline]
    pub(super) fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let tag = Tag::of(hash);
        let mut at = self.home(hash);
        for _ in 0..self.buckets {
            let bucket = self.bucket(at);
            let mut ways = Ways::with(bucket, tag.byte);
            if let Some(found) = ways.find_map(|way| {
                let entry = entry(bucket, way);
                let place = place_of(entry);
                (entry == tag.entry(place) && is_it(place)).then_some(place)
            }) {
                return Some(found);
            }
            if passed(bucket) == 0 {
                break;
            }
            at = self.next(at);
        }
        None
    }

    /// What has this hash is going to be looked up or taken out.
    #[inline]
    pub(super) fn expect(&self, hash: u32) {
        prefetch(self.bucket(self.home(hash)));
    }

    /// Takes all out.
    pub(super) fn clear(&mut self) {
        self.words.fill(0);
    }

    /// Enters a place with a hash.
    pub(super) fn insert(&mut self, hash: u32, place: u32) {
        let tag = Tag::of(hash);
        let mut at = self.home(hash);
        loop {
            let bucket = self.bucket_mut(at);
            if let Some(way) = Ways::with(bucket, 0).next() {
                set_tag(bucket, way, tag.byte);
                set_entry(bucket, way, tag.entry(place));
                return;
            }
            bucket[1] += ONE_PASSED;
            at = self.next(at);
        }
    }

    /// Puts another place where the one with this hash is; nothing if there is none such.
    pub(super) fn replace(&mut self, hash: u32, place: u32, by: u32) {
        if let Some((at, way)) = self.position(hash, place) {
            set_entry(self.bucket_mut(at), way, Tag::of(hash).entry(by));
        }
    }

    /// Takes a place with this hash out, if it is there.
    pub(super) fn remove(&mut self, hash: u32, place: u32) {
        let Some((found, way)) = self.position(hash, place) else {
            return;
        };
        let mut at = self.home(hash);
        while at != found {
            self.bucket_mut(at)[1] -= ONE_PASSED;
            at = self.next(at);
        }
        set_tag(self.bucket_mut(found), way, 0);
    }

    /// Its bucket, and where it is in that.
    fn position(&self, hash: u32, place: u32) -> Option<(usize, u32)> {
        let tag = Tag::of(hash);
        let mut at = self.home(hash);
        for _ in 0..self.buckets {
            let bucket = self.bucket(at);
            let mut ways = Ways::with(bucket, tag.byte);
            if let Some(way) = ways.find(|way| entry(bucket, *way) == tag.entry(place)) {
                return Some((at, way));
            }
            if passed(bucket) == 0 {
                break;
            }
            at = self.next(at);
        }
        None
    }

    /// Spreads hashes over any number of buckets without a division (Lemire, "Fast random integer
    /// generation in an interval", 2019).
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // it is less than the number of buckets
    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.buckets as u64) >> 32) as usize
    }

    #[inline]
    fn next(&self, at: usize) -> usize {
        if at + 1 < self.buckets { at + 1 } else { 0 }
    }

    #[inline]
    fn bucket(&self, at: usize) -> &Bucket {
        &self.words[self.skipped..].as_chunks().0[at]
    }

    #[inline]
    fn bucket_mut(&mut self, at: usize) -> &mut Bucket {
        &mut self.words[self.skipped..].as_chunks_mut().0[at]
    }
}

/// Some of a bucket's entries: a bit for each, in the order of the tags' bytes in their two words.
#[derive(Debug)]
struct Ways(u64);

impl Ways {
    /// Those with that tag, or with 0 those that are empty. All are compared at once.
    #[inline]
    fn with(bucket: &Bucket, byte: u8) -> Self {
        let wanted = u64::from(byte) * LOWEST_BITS;
        let first = zero_bytes(bucket[0] ^ wanted);
        let second = zero_bytes(bucket[1] ^ wanted) & u64::from(u32::MAX);
        Self(first >> 7 | second >> 6)
    }
}

impl Iterator for Ways {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0.trailing_zeros();
        self.0 &= self.0 - 1;
        // Of each byte the lowest bit is of the first word, the one above it of the second.
        Some(bit / 8 + bit % 8 * 8)
    }
}

const LOWEST_BITS: u64 = 0x0101_0101_0101_0101;
const ONE_PASSED: u64 = 1 << 32;

/// The highest bit of each byte that is 0 (Warren, "Hacker's Delight", section 6-1): no carry goes from
/// one byte to the next.
#[inline]
fn zero_bytes(word: u64) -> u64 {
    const LOWER: u64 = 0x7f * LOWEST_BITS;
    !(((word & LOWER) + LOWER) | word | LOWER)
}

/// How many entries would be in the bucket, and are in one behind it.
#[inline]
fn passed(bucket: &Bucket) -> u64 {
    bucket[1] >> 32
}

#[inline]
fn set_tag(bucket: &mut Bucket, way: u32, byte: u8) {
    let (word, shift) = (&mut bucket[way as usize / 8], way % 8 * 8);
    *word = *word & !(0xff << shift) | u64::from(byte) << shift;
}

#[inline]
#[allow(clippy::cast_possible_truncation)] // half of a word
fn entry(bucket: &Bucket, way: u32) -> u32 {
    (bucket[ENTRIES + way as usize / 2] >> (way % 2 * 32)) as u32
}

#[inline]
fn set_entry(bucket: &mut Bucket, way: u32, entry: u32) {
    let (word, shift) = (&mut bucket[ENTRIES + way as usize / 2], way % 2 * 32);
    *word = *word & !(u64::from(u32::MAX) << shift) | u64::from(entry) << shift;
}

#[inline]
fn place_of(entry: u32) -> u32 {
    entry & ((1 << PLACE_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_there_is_not_found_however_full_it_is() {
        for places in [1, 2, 7, 8, 9, 100] {
            let mut index = Index::new(places);
            for place in 0..u32::try_from(places).unwrap() {
                index.insert(u32::MAX, place);
            }
            assert_eq!(index.find(u32::MAX, |_| false), None);
            assert_eq!(index.find(0, |_| true), None);
            assert!(index.bytes() <= places * Index::BYTES_PER_PLACE + Index::MORE_BYTES);
        }
    }

    #[test]
    fn a_bucket_is_a_cache_line() {
        let index = Index::new(100);
        let addresses = (0..index.buckets).map(|at| index.bucket(at).as_ptr().addr());
        assert!(addresses.into_iter().all(|address| address % 64 == 0));
    }

    #[test]
    fn nobody_is_looked_for_twice_where_every_bucket_was_passed() {
        let mut index = Index::new(8);
        let [first, second] = [0, u32::MAX];
        // One of the first bucket is in the second, and then the other way round.
        (0..13).for_each(|place| index.insert(first, place));
        (0..11).for_each(|place| index.remove(first, place));
        (13..25).for_each(|place| index.insert(second, place));
        assert!((0..2).all(|at| passed(index.bucket(at)) > 0));
        assert_eq!(index.find(first, |_| false), None);
        index.remove(first, 99);
        for (hash, places) in [(first, 11..13), (second, 13..25)] {
            let is_there = |place| index.find(hash, |found| found == place).is_some();
            assert!((0..25).all(|place| is_there(place) == places.contains(&place)));
        }
    }

    proptest! {
        /// Few hashes, of which some are alike in their lower bits, so that they crowd, wrap around and
        /// are taken for each other if that is possible.
        #[test]
        fn it_holds_what_a_set_would_hold(
            steps in prop::collection::vec((0_usize..6, 0_u32..40, 0_u8..4), 0..400),
        ) {
            let hashes = [0, 1, 0x0000_0101, 0x7fff_ff01, 0xffff_ff01, 0xffff_ffff];
            let mut index = Index::new(40);
            let mut plain = BTreeMap::new();
            for (hash, place, what) in steps {
                // A place is known by the hash that it was entered with.
                let hash = *plain.get(&place).unwrap_or(&hashes[hash]);
                let other = place + 40;
                match what {
                    0 => {
                        index.remove(hash, place);
                        plain.remove(&place);
                    }
                    1 if !plain.contains_key(&other) => {
                        index.replace(hash, place, other);
                        plain.remove(&place).and_then(|hash| plain.insert(other, hash));
                    }
                    _ if plain.len() < 40 && !plain.contains_key(&place) => {
                        index.insert(hash, place);
                        plain.insert(place, hash);
                    }
                    _ => {}
                }
                for place in 0..80 {
                    let known = plain.get(&place);
                    let is_it = |found| found == place && known.is_some();
                    let found = index.find(*known.unwrap_or(&hash), is_it);
                    prop_assert_eq!(found.is_some(), known.is_some());
                }
            }
            for (place, hash) in plain {
                index.remove(hash, place);
            }
            prop_assert!((0..index.buckets).all(|at| index.bucket(at)[..2] == [0, 0]));
        }
    }
}
