//! Changes to the members of sets that are there, in one transaction.

use super::encode::Step;
use super::kernel::Failure;
use super::known::{Guess, Known, Undo};
use super::members::{self, Place};
use super::{Nftables, fill};
use crate::firewall::{Change, FirewallError, Member};

impl Nftables {
    /// Writes changes.
    pub(super) fn write(&mut self, changes: &[Change]) -> Result<(), FirewallError> {
        let mut guess = Guess::New;
        loop {
            match self.apply_once(changes, guess) {
                // The kernel does not hold what we thought.
                Err((failure, Some(other))) if failure.is_surprise() => guess = other,
                result => return result.map_err(|(failure, _)| failure.into()),
            }
        }
    }

    /// Does what adding a member takes, up to what would change something.
    pub(super) fn go_through(&mut self, member: &Member) {
        let Some(known) = &mut self.known else { return };
        let prefix = known.prefix(&member.gate);
        let place = Place::of(member.chain, member.net, prefix);
        let (Some(place), Some(key)) = (place, place.and_then(Place::key)) else {
            return;
        };
        if self.told.may_have(member, prefix) {
            return;
        }
        let change = Change::Put(member.clone());
        drop(known.steps(&change, Guess::New, true, &mut Undo::new()));
        let set = members::name_of(&member.gate, place);
        // Whatever is wrong with the kernel is said when it matters.
        if self.kernel.can_destroy {
            // It is asked to take out what is not there, which it can without an error: then nothing
            // was changed, and nobody is told of it.
            let gone = fill::delete_keys(&set, vec![key], true);
            let _ = self.kernel.commit(&gone.iter().collect::<Vec<_>>(), None);
        } else {
            // Before Linux 6.3 it can only be asked for it, which is less.
            let _ = self.kernel.has_key(&set, key);
        }
    }

    /// Writes changes; where that fails, with what other guess it may not.
    fn apply_once(
        &mut self,
        changes: &[Change],
        guess: Guess,
    ) -> Result<(), (Failure, Option<Guess>)> {
        let can_destroy = self.kernel.can_destroy;
        let known = match &mut self.known {
            Some(known) => known,
            none => none.insert(Known::read(&mut self.kernel).map_err(|f| (f, None))?),
        };
        if guess == Guess::Nothing {
            let read = known.read_foreign(&mut self.kernel);
            read.map_err(|failure| (failure, None))?;
        }
        let mut hoped = false;
        let mut undo = Undo::new();
        let mut steps = Vec::new();
        let mut result = Ok(());
        for change in changes {
            let guess = match change {
                Change::Put(member) if guess == Guess::New => {
                    let prefix = known.prefix(&member.gate);
                    if self.told.may_have(member, prefix) {
                        Guess::Known
                    } else {
                        hoped = true;
                        Guess::New
                    }
                }
                _ => guess,
            };
            match known.steps(change, guess, can_destroy, &mut undo) {
                Ok(more) => steps.extend(more),
                Err(error) => result = Err((Failure::from(error), None)),
            }
        }
        if result.is_ok() {
            for change in changes {
                // Whatever becomes of it.
                if let Change::Put(member) = change {
                    self.told.change(change, known.prefix(&member.gate));
                }
            }
            let steps: Vec<&Step> = steps.iter().collect();
            result = self.kernel.commit(&steps, None).map_err(|failure| {
                let other = match guess {
                    Guess::New if hoped => Some(Guess::Known),
                    Guess::New | Guess::Known if !undo.is_empty() => Some(Guess::Nothing),
                    _ => None,
                };
                (failure, other)
            });
        }
        match &result {
            // Nobody knows whether it was done: read it again next time.
            Err((failure, _)) if failure.is_uncertain() => self.known = None,
            Err(_) => known.put_back(undo),
            Ok(()) => {
                for change in changes {
                    let (Change::Put(Member { gate, .. }) | Change::Remove { gate, .. }) = change;
                    self.told.change(change, known.prefix(gate));
                }
            }
        }
        result
    }
}
