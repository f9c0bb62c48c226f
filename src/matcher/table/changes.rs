//! What becomes of the records when sequences or the memory for them change.

use super::{FOREIGN, LEFT, NEAR, NIL, Record, SequenceId, Table, WITNESS, index, places_in};

/// One record of so many may be of use where the others are worth forgetting, so that it takes no
/// longer than to walk through all.
const MANY_TIMES: usize = 16;

impl Table {
    /// Gives sequences their new numbers; attempts at those without one are void.
    pub(in crate::matcher) fn renumber(&mut self, renumbered: &[Option<SequenceId>]) {
        self.forget();
        for record in self
            .records
            .iter_mut()
            .filter(|record| ![FOREIGN, NEAR, LEFT].contains(&record.sequence))
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

    /// Lets go of what is of no use for anything any more, if that is nearly all: whoever walks through
    /// the records again and again has little more to do than was added in the meantime.
    fn forget(&mut self) {
        let is_of_use = |record: &&Record| {
            record.sequence != LEFT && self.now.since(record.started) <= self.useful
        };
        let all = self.records.len();
        let is_little = all <= self.young as usize;
        if is_little || self.records.iter().filter(is_of_use).count() > all / MANY_TIMES {
            return;
        }
        let (newer, older) = self.records.split_at(self.oldest() as usize);
        let kept = older.iter().chain(newer).filter(is_of_use);
        let kept: Vec<Record> = kept.copied().collect();
        self.records.clear();
        self.index.clear();
        self.newest = NIL;
        for record in kept {
            let mut sender = self.sender(record.source);
            self.put(&mut sender, record);
        }
    }

    /// Moves into another amount of memory; the newest records are kept.
    pub(in crate::matcher) fn resize(&mut self, memory: usize) {
        if index(places_in(memory)) == self.places {
            return;
        }
        let mut new = Self::new(memory);
        (new.evicted, new.now) = (self.evicted, self.now);
        (new.longest, new.useful) = (self.longest, self.useful);
        // The fingerprints were made with the old key.
        new.multiplier = self.multiplier;
        let (newer, older) = self.records.split_at(self.oldest() as usize);
        for record in older.iter().chain(newer) {
            if record.sequence != LEFT {
                let mut sender = new.sender(record.source);
                new.put(&mut sender, *record);
            }
        }
        *self = new;
    }
}
