mod changes;
mod prints;
#[cfg(test)]
mod tests;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::mem::size_of;
use std::net::IpAddr;
use std::time::Duration;

use super::index::Index;
use super::record::{Attempt, DONE, FOREIGN, LEFT, NEAR, PRINTS, Record, Source, WITNESS};
use super::sequences::SequenceId;
use crate::model::Time;

/// How many records a source may have for fingerprints alone, void attempts among them.
pub(super) const WITNESSES: usize = 7;
/// No record.
const NIL: u32 = u32::MAX;
/// So many places before a record goes its entry in the index is fetched: what a read from memory takes
/// is a few packets' time.
const AHEAD: u32 = 16;
/// One place in that many is given for [`Table::young`].
const YOUNG: usize = 32;

/// Records of what sources have knocked, in a fixed amount of memory that is touched only as it
/// fills. They lie in a ring, in the order in which they were started; each source's are a list,
/// from the newest to the oldest. When there is no room the oldest record goes, which is the next
/// in the ring: what the index has of that, and of the source that is looked up, is all the memory
/// that a packet of a stranger may have to wait for. Both are fetched before, where they are foreseen.
///
/// Guarantee: a packet takes at most a place for each sequence that its port starts, or one if it
/// starts none: what it witnesses or counts stands in the same place. Only a source that turns out to
/// sweep takes another then. With R packets a second from whomever, each starting one sequence at
/// most, a record lives at least `capacity() / R` seconds.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) records: Vec<Record>,
    index: Index,
    /// The size of the ring.
    places: u32,
    /// A record that is started anew moves to the front of the ring, unless that many places at
    /// most were taken since: so a single source cannot fill the ring by starting over and over.
    young: u32,
    newest: u32,
    /// Whether the packet at hand has taken a place.
    spent: bool,
    /// Its time.
    now: Time,
    evicted: u64,
    /// The longest time that an attempt may take. A record takes fingerprints while it is no older,
    /// so that each is known for as long as it may be sent again.
    longest: Duration,
    /// For how long a record may be of use for anything.
    useful: Duration,
    /// Random, so that nobody can aim at a place in the index.
    keys: [u64; 4],
    /// Odd, and as random: multiplying by it keeps fingerprints apart (Dietzfelbinger et al., "A
    /// reliable randomized algorithm for the closest-pair problem", 1997), in a nanosecond.
    multiplier: u64,
}

/// A source that has been looked up, so that this happens once for each packet. It cannot be copied: the
/// table keeps the one that it is given in step with the source's records.
#[derive(Debug)]
pub(super) struct Sender {
    source: Source,
    hash: u32,
    /// Its newest record, or `NIL`.
    newest: u32,
}

impl Table {
    pub(super) fn new(memory: usize) -> Self {
        let places = places_in(memory);
        let random = RandomState::new();
        Self {
            records: Vec::with_capacity(places),
            index: Index::new(places),
            places: index(places),
            young: index(places / YOUNG),
            newest: NIL,
            spent: false,
            now: Time::default(),
            evicted: 0,
            longest: Duration::ZERO,
            useful: Duration::ZERO,
            multiplier: random.hash_one(0) | 1,
            keys: [1, 2, 3, 4].map(|number| random.hash_one(number)),
        }
    }

    /// A packet is looked at, which takes a place of its own at most.
    pub(super) fn next_packet(&mut self, now: Time) {
        (self.spent, self.now) = (false, now);
    }

    /// Follows the longest time that an attempt may take, and for how long a sweep counts.
    pub(super) fn set_times(&mut self, longest: Duration, sweep: Duration) {
        self.longest = longest;
        self.useful = self.known_for().max(sweep);
    }

    /// What the other functions know a source by, until the table is changed without it.
    pub(super) fn look_up(&self, source: IpAddr) -> Sender {
        self.sender(source.into())
    }

    #[inline]
    fn sender(&self, source: Source) -> Sender {
        let hash = self.hash(source);
        let newest = self.find(source, hash);
        Sender {
            source,
            hash,
            newest,
        }
    }

    /// The source's newest record, or `NIL`.
    #[inline]
    fn find(&self, source: Source, hash: u32) -> u32 {
        let is_it = |at| self.records[at as usize].source == source;
        self.index.find(hash, is_it).unwrap_or(NIL)
    }

    /// Products of 128 bits, folded: a nanosecond (Wang Yi, "wyhash"). Nobody sees what comes out, and
    /// without the keys nobody can tell.
    #[inline]
    fn hash(&self, source: Source) -> u32 {
        let [high, low] = source.0;
        let [a, b, c, d] = self.keys;
        low_half(folded(folded(high ^ a, low ^ b) ^ c, d))
    }

    /// The source is going to be looked up.
    pub(super) fn expect(&self, source: IpAddr) {
        self.index.expect(self.hash(source.into()));
    }

    /// Whether the source has no records.
    pub(super) fn is_new(&self, sender: &Sender) -> bool {
        self.first(sender) == NIL
    }

    /// For how long a record may be of use for anything.
    pub(super) fn useful(&self) -> Duration {
        self.useful
    }

    /// How many records are in use, those that a source has left included.
    pub(super) fn len(&self) -> usize {
        self.records.len().min(self.capacity())
    }

    /// How many records are in use before one has to go that is still of use.
    pub(super) fn capacity(&self) -> usize {
        (self.places - self.young) as usize
    }

    /// How many had to go that were still of use.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Shows the attempts of a source, those that are done included.
    pub(super) fn for_each_attempt(&mut self, sender: &Sender, mut f: impl FnMut(&mut Attempt)) {
        let mut at = self.first(sender);
        while let Some(record) = self.records.get_mut(at as usize) {
            if record.stage > 0 && record.sequence != FOREIGN {
                let sequence = SequenceId(record.sequence);
                let mut attempt = Attempt {
                    started: record.started,
                    sequence,
                    stage: record.stage,
                };
                f(&mut attempt);
                (record.started, record.stage) = (attempt.started, attempt.stage);
            }
            at = self.older(at);
        }
    }

    /// The source's attempts, those that are complete among them.
    pub(super) fn attempts(&self, sender: &Sender) -> Vec<Attempt> {
        let mut found = Vec::new();
        let mut at = self.first(sender);
        while let Some(record) = self.records.get(at as usize) {
            if record.stage > 0 && record.sequence != FOREIGN {
                found.push(Attempt {
                    started: record.started,
                    sequence: SequenceId(record.sequence),
                    stage: record.stage,
                });
            }
            at = self.older(at);
        }
        found
    }

    /// Begins an attempt, in the place of the one at the same sequence if there is one, else in that
    /// of one that is void; where. `stage` is 1, or what [`Sequence::end`] says if one port is all
    /// there is.
    ///
    /// [`Sequence::end`]: super::sequences::Sequence::end
    pub(super) fn start(
        &mut self,
        sender: &mut Sender,
        sequence: SequenceId,
        stage: u8,
        now: Time,
    ) -> u32 {
        let (mut same, mut void, mut oldest, mut witnesses) = (None, None, None, 0);
        let mut done: Option<(Time, u32)> = None;
        let mut at = self.first(sender);
        while let Some(record) = self.records.get(at as usize) {
            if record.sequence == sequence.0 && record.stage != DONE {
                same = Some(at);
            } else if record.sequence == sequence.0 {
                // What was completed last stays: it may have to be undone.
                let this = (record.started, at);
                if let Some(other) = done.replace(done.map_or(this, |other| other.max(this))) {
                    same = same.or(Some(this.min(other).1));
                }
            }
            if record.is_void() && record.touches().is_empty() {
                void = void.or(Some(at));
                oldest = Some(at);
                witnesses += 1;
            }
            at = self.older(at);
        }
        let at = match same.or(void) {
            Some(at) if self.is_young(at) => at,
            _ => {
                // What it knows of packets that were seen is still of use.
                if let Some(same) = same {
                    self.records[same as usize].retire();
                }
                if let Some(oldest) = oldest.filter(|_| witnesses >= WITNESSES) {
                    self.leave(sender, oldest);
                }
                self.add(sender)
            }
        };
        if self.is_past(&self.records[at as usize], now) {
            self.records[at as usize].clear_prints();
        }
        let record = &mut self.records[at as usize];
        // The port is touched once more, if it is one that counts.
        record.clear_touches();
        record.sequence = sequence.0;
        record.started = now;
        record.stage = stage;
        at
    }

    /// A new record, in place of the oldest if there is no room.
    pub(super) fn add(&mut self, sender: &mut Sender) -> u32 {
        let record = Record {
            source: sender.source,
            started: Time::default(),
            prints: [0; PRINTS],
            older: NIL,
            sequence: WITNESS,
            stage: 0,
            counts: 0,
        };
        self.put(sender, record)
    }

    /// Lets a record be the last to go from now on, or nearly, unless this packet has taken a place
    /// already; its place.
    pub(super) fn make_newest(&mut self, sender: &mut Sender, at: u32) -> u32 {
        if self.spent || self.is_young(at) {
            return at;
        }
        let record = self.records[at as usize];
        self.leave(sender, at);
        self.put(sender, record)
    }

    /// Takes a record out of its source's list; its place stays taken until its time comes.
    fn leave(&mut self, sender: &mut Sender, at: u32) {
        self.unlink(sender, at);
        self.records[at as usize].sequence = LEFT;
    }

    fn is_young(&self, at: u32) -> bool {
        self.age(at) < self.young
    }

    /// Makes a record the source's newest, in place of the oldest of all if there is no room.
    fn put(&mut self, sender: &mut Sender, record: Record) -> u32 {
        let at = self.oldest();
        let is_taken = (at as usize) < self.records.len();
        if is_taken {
            self.expect_to_evict(at);
            self.evict(at);
            if sender.newest == at {
                // The record that went was this very source's only one.
                sender.newest = NIL;
            }
        }
        let older = self.first(sender);
        let record = Record { older, ..record };
        if is_taken {
            self.records[at as usize] = record;
        } else {
            self.records.push(record);
        }
        (self.newest, self.spent) = (at, true);
        match older {
            NIL => self.index.insert(sender.hash, at),
            older => self.index.replace(sender.hash, older, at),
        }
        sender.newest = at;
        at
    }

    /// The place that is taken next: an unused one, or that of the oldest record.
    fn oldest(&self) -> u32 {
        let next = self.newest.wrapping_add(1);
        if next == self.places { 0 } else { next }
    }

    /// Of a record that goes soon after this one.
    fn expect_to_evict(&self, at: u32) {
        let next = at + AHEAD;
        let next = next.checked_sub(self.places).unwrap_or(next);
        if let Some(record) = self.records.get(next as usize) {
            self.index.expect(self.hash(record.source));
        }
    }

    /// Forgets the oldest record. If its source has newer ones, their list ends where the place
    /// is younger than it ought to be.
    fn evict(&mut self, at: u32) {
        let record = &self.records[at as usize];
        if record.sequence == LEFT {
            return;
        }
        self.evicted += u64::from(self.now.since(record.started) <= self.useful);
        let hash = self.hash(record.source);
        self.index.remove(hash, at);
    }

    /// Takes a record out of its source's list.
    fn unlink(&mut self, sender: &mut Sender, at: u32) {
        let older = self.older(at);
        let mut newer = self.first(sender);
        if newer == at {
            match older {
                NIL => self.index.remove(sender.hash, at),
                older => self.index.replace(sender.hash, at, older),
            }
            sender.newest = older;
            return;
        }
        while newer != NIL {
            let next = self.older(newer);
            if next == at {
                self.records[newer as usize].older = older;
            }
            newer = next;
        }
    }

    /// The source's newest record, or `NIL`.
    #[inline]
    pub(super) fn first(&self, sender: &Sender) -> u32 {
        debug_assert_eq!(sender.newest, self.find(sender.source, sender.hash));
        sender.newest
    }

    /// The next older record of the same source, or `NIL`.
    #[inline]
    pub(super) fn older(&self, at: u32) -> u32 {
        let older = self.records[at as usize].older;
        // A place that is younger has been taken by somebody else.
        if older != NIL && self.age(older) > self.age(at) {
            older
        } else {
            NIL
        }
    }

    /// How many places were taken after this one.
    #[inline]
    fn age(&self, at: u32) -> u32 {
        if at <= self.newest {
            self.newest - at
        } else {
            self.places - at + self.newest
        }
    }
}

/// How many records there is memory for.
fn places_in(memory: usize) -> usize {
    let left = memory.saturating_sub(Index::MORE_BYTES);
    let places = left / (size_of::<Record>() + Index::BYTES_PER_PLACE);
    places.clamp(1, Index::MOST_PLACES)
}

#[inline]
#[allow(clippy::cast_possible_truncation)] // both halves are wanted
fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

#[allow(clippy::cast_possible_truncation)] // half of a hash is a hash
fn low_half(hash: u64) -> u32 {
    hash as u32
}

#[allow(clippy::cast_possible_truncation)] // there are less places than NIL
fn index(place: usize) -> u32 {
    place as u32
}
