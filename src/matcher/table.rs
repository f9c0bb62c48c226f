use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::mem::size_of;
use std::net::IpAddr;

use super::sequences::SequenceId;
use crate::model::{Proto, Time};
use crate::packet::Knock;

/// How many fingerprints a record holds.
pub(super) const PRINTS: usize = 4;
/// How many records a source may have for fingerprints alone.
const WITNESSES: usize = 3;
/// No record.
const NIL: u32 = u32::MAX;

/// Records of what sources have knocked, in a fixed amount of memory that is touched only as it
/// fills. Each record is in two lists: the sources that share a bucket, and all records in the
/// order in which they were started. When there is no room the oldest record goes.
///
/// Guarantee: a packet makes at most a record for each sequence that its port starts, and one
/// that only witnesses or counts. With R packets a second, each starting one sequence, a record
/// lives at least `capacity() / R` seconds.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) records: Vec<Record>,
    /// Index of the bucket's first record plus one, so that untouched memory means empty.
    buckets: Vec<u32>,
    capacity: usize,
    newest: u32,
    oldest: u32,
    evicted: u64,
    /// Keyed at random, so that nobody can aim at a bucket.
    hasher: RandomState,
    /// Odd, and as random: multiplying by it keeps fingerprints apart (Dietzfelbinger et al., "A
    /// reliable randomized algorithm for the closest-pair problem", 1997), in a nanosecond.
    multiplier: u64,
}

/// A source with its bucket, so that it is hashed once for each packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    source: Source,
    bucket: u32,
}

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

impl Attempt {
    pub(super) fn is_done(&self) -> bool {
        self.stage == DONE
    }

    pub(super) fn void(&mut self) {
        self.stage = 0;
    }
}

/// 56 bytes, so that 32 MiB hold more than half a million.
#[derive(Debug)]
pub(super) struct Record {
    source: Source,
    pub(super) started: Time,
    pub(super) prints: [u32; PRINTS],
    pub(super) next_in_bucket: u32,
    older: u32,
    newer: u32,
    pub(super) sequence: u16,
    pub(super) stage: u8,
    pub(super) print_count: u8,
}

/// The sequence number of a record that only witnesses what was seen.
const WITNESS: u16 = u16::MAX;
/// The sequence number of a record of foreign ports. Its `started` is the last time one was
/// touched, its `stage` 1 if the source is a scanner, and each of its prints a port and a time.
pub(super) const FOREIGN: u16 = u16::MAX - 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Source([u64; 2]);

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

impl Table {
    pub(super) fn new(memory: usize) -> Self {
        // At least as many buckets as records, nearly: whoever has no record is found to have none
        // in a bucket that is empty more often than not.
        let buckets = (memory / size_of::<Record>()).max(2).next_power_of_two();
        let left = memory.saturating_sub(buckets * size_of::<u32>());
        let capacity = (left / size_of::<Record>()).clamp(1, NIL as usize - 1);
        Self {
            records: Vec::with_capacity(capacity),
            buckets: vec![0; buckets],
            capacity,
            newest: NIL,
            oldest: NIL,
            evicted: 0,
            multiplier: RandomState::new().hash_one(0) | 1,
            hasher: RandomState::new(),
        }
    }

    /// What the other functions know a source by.
    pub(super) fn key(&self, source: IpAddr) -> Key {
        self.key_of(source.into())
    }

    fn key_of(&self, source: Source) -> Key {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u64(source.0[0]);
        hasher.write_u64(source.0[1]);
        let bucket = low_half(hasher.finish()) & (index(self.buckets.len()) - 1);
        Key { source, bucket }
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// What tells a retransmission: ports and TCP sequence number. A datagram has none.
    pub(super) fn fingerprint(&self, knock: &Knock) -> Option<u32> {
        if knock.port.proto == Proto::Udp {
            return None;
        }
        let (from, to) = (knock.source_port, knock.port.port);
        let whole = (u64::from(knock.seq) << 32) | (u64::from(from) << 16) | u64::from(to);
        Some(low_half(whole.wrapping_mul(self.multiplier) >> 32))
    }

    pub(super) fn has_seen(&self, key: Key, print: u32) -> bool {
        let mut at = self.first(key);
        while let Some(record) = self.records.get(at as usize) {
            if record.source == key.source
                && record.sequence != FOREIGN
                && record.prints().contains(&print)
            {
                return true;
            }
            at = record.next_in_bucket;
        }
        false
    }

    /// Notes a fingerprint in one of the source's records, or in a new one.
    pub(super) fn remember(&mut self, key: Key, print: u32, now: Time) {
        let (mut witnesses, mut oldest) = (0, None::<(Time, u32)>);
        let mut at = self.first(key);
        while let Some(record) = self.records.get_mut(at as usize) {
            if record.source == key.source && record.sequence != FOREIGN {
                if record.push_print(print) {
                    return;
                }
                if record.sequence == WITNESS {
                    witnesses += 1;
                    if oldest.is_none_or(|(time, _)| record.started < time) {
                        oldest = Some((record.started, at));
                    }
                }
            }
            at = record.next_in_bucket;
        }
        let at = match oldest {
            Some((_, at)) if witnesses >= WITNESSES => {
                self.make_newest(at);
                at
            }
            _ => self.add(key),
        };
        let record = &mut self.records[at as usize];
        record.sequence = WITNESS;
        record.started = now;
        record.print_count = 0;
        record.push_print(print);
    }

    /// Shows the attempts of a source, those that are done included.
    pub(super) fn for_each_attempt(&mut self, key: Key, mut f: impl FnMut(&mut Attempt)) {
        let mut at = self.first(key);
        while let Some(record) = self.records.get_mut(at as usize) {
            if record.source == key.source && record.stage > 0 && record.sequence != FOREIGN {
                let sequence = SequenceId(record.sequence);
                let mut attempt = Attempt {
                    started: record.started,
                    sequence,
                    stage: record.stage,
                };
                f(&mut attempt);
                (record.started, record.stage) = (attempt.started, attempt.stage);
            }
            at = record.next_in_bucket;
        }
    }

    /// The source's attempts, those that are complete among them.
    pub(super) fn attempts(&self, key: Key) -> Vec<Attempt> {
        let mut found = Vec::new();
        let mut at = self.first(key);
        while let Some(record) = self.records.get(at as usize) {
            if record.source == key.source && record.stage > 0 && record.sequence != FOREIGN {
                found.push(Attempt {
                    started: record.started,
                    sequence: SequenceId(record.sequence),
                    stage: record.stage,
                });
            }
            at = record.next_in_bucket;
        }
        found
    }

    /// Begins an attempt, in the place of the one at the same sequence if there is one; `stage` is
    /// 1, or `DONE` if one port is all there is.
    pub(super) fn start(&mut self, key: Key, sequence: SequenceId, stage: u8, now: Time) {
        let mut at = self.first(key);
        while let Some(record) = self.records.get(at as usize) {
            if record.source == key.source && record.sequence == sequence.0 {
                break;
            }
            at = record.next_in_bucket;
        }
        if at == NIL {
            at = self.add(key);
        } else {
            self.make_newest(at);
        }
        let record = &mut self.records[at as usize];
        record.sequence = sequence.0;
        record.started = now;
        record.stage = stage;
    }

    /// Gives sequences their new numbers; attempts at those without one are void.
    pub(super) fn renumber(&mut self, renumbered: &[Option<SequenceId>]) {
        for record in self
            .records
            .iter_mut()
            .filter(|record| record.sequence != FOREIGN)
        {
            let id = renumbered
                .get(usize::from(record.sequence))
                .copied()
                .flatten();
            if id.is_none() {
                record.stage = 0;
            }
            record.sequence = id.map_or(WITNESS, |id| id.0);
        }
    }

    /// Moves into another amount of memory; the newest records are kept.
    pub(super) fn resize(&mut self, memory: usize) {
        let mut new = Self::new(memory);
        if new.capacity == self.capacity {
            return;
        }
        new.evicted = self.evicted;
        // The fingerprints were made with the old key.
        new.multiplier = self.multiplier;
        let mut at = self.oldest;
        while let Some(record) = self.records.get(at as usize) {
            let place = new.add(new.key_of(record.source));
            let copy = &mut new.records[place as usize];
            (copy.started, copy.sequence, copy.stage) =
                (record.started, record.sequence, record.stage);
            (copy.prints, copy.print_count) = (record.prints, record.print_count);
            at = record.newer;
        }
        *self = new;
    }

    /// A new record, in place of the oldest if there is no room.
    pub(super) fn add(&mut self, key: Key) -> u32 {
        let record = Record {
            source: key.source,
            started: Time::default(),
            prints: [0; PRINTS],
            next_in_bucket: self.first(key),
            older: NIL,
            newer: NIL,
            sequence: WITNESS,
            stage: 0,
            print_count: 0,
        };
        let at = if self.records.len() < self.capacity {
            self.records.push(record);
            index(self.records.len() - 1)
        } else {
            let at = self.oldest;
            self.evicted += 1;
            self.unlink_age(at);
            self.unlink_bucket(at);
            // The record that went may have been the first of this very bucket.
            let next_in_bucket = self.first(key);
            self.records[at as usize] = Record {
                next_in_bucket,
                ..record
            };
            at
        };
        self.buckets[key.bucket as usize] = at + 1;
        self.link_newest(at);
        at
    }

    /// The first record of the source's bucket, or `NIL`.
    pub(super) fn first(&self, key: Key) -> u32 {
        self.buckets[key.bucket as usize].wrapping_sub(1)
    }

    /// The last to go from now on.
    pub(super) fn make_newest(&mut self, at: u32) {
        self.unlink_age(at);
        self.link_newest(at);
    }

    fn unlink_bucket(&mut self, at: u32) {
        let (source, next) = {
            let record = &self.records[at as usize];
            (record.source, record.next_in_bucket)
        };
        let key = self.key_of(source);
        let mut walk = self.first(key);
        if walk == at {
            self.buckets[key.bucket as usize] = next.wrapping_add(1);
            return;
        }
        while let Some(record) = self.records.get_mut(walk as usize) {
            if record.next_in_bucket == at {
                record.next_in_bucket = next;
                return;
            }
            walk = record.next_in_bucket;
        }
    }

    fn unlink_age(&mut self, at: u32) {
        let (older, newer) = {
            let record = &self.records[at as usize];
            (record.older, record.newer)
        };
        match self.records.get_mut(older as usize) {
            Some(record) => record.newer = newer,
            None => self.oldest = newer,
        }
        match self.records.get_mut(newer as usize) {
            Some(record) => record.older = older,
            None => self.newest = older,
        }
    }

    fn link_newest(&mut self, at: u32) {
        let newest = std::mem::replace(&mut self.newest, at);
        match self.records.get_mut(newest as usize) {
            Some(record) => record.newer = at,
            None => self.oldest = at,
        }
        let record = &mut self.records[at as usize];
        (record.older, record.newer) = (newest, NIL);
    }
}

impl Key {
    pub(super) fn is_of(self, record: &Record) -> bool {
        record.source == self.source
    }
}

impl Record {
    pub(super) fn prints(&self) -> &[u32] {
        &self.prints[..usize::from(self.print_count)]
    }

    /// Whether there was room.
    pub(super) fn push_print(&mut self, print: u32) -> bool {
        let Some(place) = self.prints.get_mut(usize::from(self.print_count)) else {
            return false;
        };
        *place = print;
        self.print_count += 1;
        true
    }
}

#[allow(clippy::cast_possible_truncation)] // half of a hash is a hash
fn low_half(hash: u64) -> u32 {
    hash as u32
}

#[allow(clippy::cast_possible_truncation)] // the capacity is less than NIL
fn index(place: usize) -> u32 {
    place as u32
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
