//! What becomes of the records when sequences or the memory for them change.

use super::{FOREIGN, LEFT, NEAR, SequenceId, Table, WITNESS, index, places_in};

impl Table {
    /// Gives sequences their new numbers; attempts at those without one are void.
    pub(in crate::matcher) fn renumber(&mut self, renumbered: &[Option<SequenceId>]) {
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

    /// Moves into another amount of memory; the newest records are kept.
    pub(in crate::matcher) fn resize(&mut self, memory: usize) {
        if index(places_in(memory)) == self.places {
            return;
        }
        let mut new = Self::new(memory);
        (new.evicted, new.longest, new.useful) = (self.evicted, self.longest, self.useful);
        // The fingerprints were made with the old key.
        new.multiplier = self.multiplier;
        let (newer, older) = self.records.split_at(self.oldest() as usize);
        for record in older.iter().chain(newer) {
            if record.sequence != LEFT {
                new.put(new.key_of(record.source), *record);
            }
        }
        *self = new;
    }
}
