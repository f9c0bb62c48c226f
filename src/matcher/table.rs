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
    /// Keyed at random, so that nobody can aim at a bucket or a fingerprint.
    hasher: RandomState,
}

/// An attempt of one source at one sequence, or (stage 0) what is left of one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt {
    pub(super) started: Time,
    pub(super) sequence: SequenceId,
    /// How many ports are matched; 0 is no attempt.
    pub(super) stage: u8,
}

impl Attempt {
    pub(super) fn void(&mut self) {
        self.stage = 0;
    }
}

/// 56 bytes, so that 32 MiB hold more than half a million.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) source: Source,
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
pub(super) struct Source([u64; 2]);

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
        // The greatest power of two of buckets that is no more than the records they serve.
        let buckets = (memory / size_of::<Record>()).max(2).next_power_of_two() / 2;
        let left = memory.saturating_sub(buckets * size_of::<u32>());
        let capacity = (left / size_of::<Record>()).clamp(1, NIL as usize - 1);
        Self {
            records: Vec::with_capacity(capacity),
            buckets: vec![0; buckets],
            capacity,
            newest: NIL,
            oldest: NIL,
            evicted: 0,
            hasher: RandomState::new(),
        }
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
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u32(knock.seq);
        hasher.write_u16(knock.source_port);
        hasher.write_u16(knock.port.port);
        Some(low_half(hasher.finish()))
    }

    pub(super) fn has_seen(&self, source: IpAddr, print: u32) -> bool {
        let source = source.into();
        let mut at = self.first(source);
        while let Some(record) = self.records.get(at as usize) {
            if record.source == source
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
    pub(super) fn remember(&mut self, source: IpAddr, print: u32, now: Time) {
        let source = source.into();
        let (mut witnesses, mut oldest) = (0, None::<(Time, u32)>);
        let mut at = self.first(source);
        while let Some(record) = self.records.get_mut(at as usize) {
            if record.source == source && record.sequence != FOREIGN {
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
            _ => self.add(source),
        };
        let record = &mut self.records[at as usize];
        record.sequence = WITNESS;
        record.started = now;
        record.print_count = 0;
        record.push_print(print);
    }

    pub(super) fn for_each_attempt(&mut self, source: IpAddr, mut f: impl FnMut(&mut Attempt)) {
        let source = source.into();
        let mut at = self.first(source);
        while let Some(record) = self.records.get_mut(at as usize) {
            if record.source == source && record.stage > 0 && record.sequence != FOREIGN {
                let sequence = SequenceId(record.sequence);
                let mut attempt = Attempt {
                    started: record.started,
                    sequence,
                    stage: record.stage,
                };
                f(&mut attempt);
                record.stage = attempt.stage;
            }
            at = record.next_in_bucket;
        }
    }

    /// Begins an attempt, in the place of the one at the same sequence if there is one.
    pub(super) fn start(&mut self, source: IpAddr, sequence: SequenceId, now: Time) {
        let source = source.into();
        let mut at = self.first(source);
        while let Some(record) = self.records.get(at as usize) {
            if record.source == source && record.sequence == sequence.0 {
                break;
            }
            at = record.next_in_bucket;
        }
        if at == NIL {
            at = self.add(source);
        } else {
            self.make_newest(at);
        }
        let record = &mut self.records[at as usize];
        record.sequence = sequence.0;
        record.started = now;
        record.stage = 1;
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
        new.hasher = self.hasher.clone();
        let mut at = self.oldest;
        while let Some(record) = self.records.get(at as usize) {
            let place = new.add(record.source);
            let copy = &mut new.records[place as usize];
            (copy.started, copy.sequence, copy.stage) =
                (record.started, record.sequence, record.stage);
            (copy.prints, copy.print_count) = (record.prints, record.print_count);
            at = record.newer;
        }
        *self = new;
    }

    /// A new record, in place of the oldest if there is no room.
    pub(super) fn add(&mut self, source: Source) -> u32 {
        let record = Record {
            source,
            started: Time::default(),
            prints: [0; PRINTS],
            next_in_bucket: self.first(source),
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
            let next_in_bucket = self.first(source);
            self.records[at as usize] = Record {
                next_in_bucket,
                ..record
            };
            at
        };
        let bucket = self.bucket(source);
        self.buckets[bucket] = at + 1;
        self.link_newest(at);
        at
    }

    fn bucket(&self, source: Source) -> usize {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u64(source.0[0]);
        hasher.write_u64(source.0[1]);
        low_half(hasher.finish()) as usize & (self.buckets.len() - 1)
    }

    /// The first record of the source's bucket, or `NIL`.
    pub(super) fn first(&self, source: Source) -> u32 {
        self.buckets[self.bucket(source)].wrapping_sub(1)
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
        let bucket = self.bucket(source);
        let mut walk = self.buckets[bucket].wrapping_sub(1);
        if walk == at {
            self.buckets[bucket] = next.wrapping_add(1);
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
