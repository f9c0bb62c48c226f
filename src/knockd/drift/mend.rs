//! What is done about damage, and about what sleep does to the kernel's timers.

use std::time::Duration;

use tracing::info;

use super::{MANY, RULES};
use crate::engine::{Action, Record, What};
use crate::knockd::daemon::{Daemon, now};
use crate::knockd::problems::FIGHT;
use crate::model::Time;
use crate::sys::clock;
use crate::watchdog::Leave;

impl Daemon {
    /// After the machine has slept the kernel's timers are late by as long: members get the time
    /// that is left of them.
    pub(super) fn mind_sleep(&mut self) {
        let boot = Duration::from_nanos(clock::boottime());
        let awake = Duration::from_nanos(clock::monotonic());
        if self.drift.sleep.look(boot, awake) {
            info!("the machine has slept: every member gets the time that is left of it");
        }
        if self.drift.sleep.is_unsettled() && self.held_back().is_none() {
            // If that fails it is tried again as what fails is.
            self.drift.sleep.settle();
            self.owe_what_stands();
            self.perform(vec![Action::Install]);
        }
    }

    /// What puts everything back is a repair of what was left alone.
    pub(in crate::knockd) fn owe_what_stands(&mut self) {
        if let Some(stands) = self.drift.stands.take() {
            self.drift.owed.get_or_insert(stands);
        }
    }

    /// Puts back what somebody else has removed or altered, unless that has become a fight; whether
    /// that is done.
    pub(super) fn mend(&mut self, faults: &[String]) -> bool {
        let began = now();
        let what = faults.join(", ");
        let problem = format!("somebody else has changed what is ours: {what}");
        self.problems.set(RULES, Some(problem));
        if let Leave::NotBefore(_) = self.drift.repairs.damaged(began) {
            let since = self.drift.stands.take().map_or(began, |(since, _)| since);
            self.drift.stands = Some((since, what));
            return false;
        }
        self.owe_what_stands();
        let since = self.drift.owed.take().map_or(began, |(since, _)| since);
        self.drift.owed = Some((since, what));
        let deaf = self.members() > MANY && self.drift.stop_listening();
        self.perform(vec![Action::Install]);
        if deaf {
            self.drift.listen_again();
        }
        self.drift.owed.is_none()
    }

    pub(super) fn members(&self) -> usize {
        let gates = self.engine.gates(now()).into_iter();
        gates.map(|g| g.accepted + g.banned + g.trusted).sum()
    }

    /// All that holds was written: if that was a repair, at whatever attempt, it is one now.
    pub(in crate::knockd) fn mended(&mut self) {
        if let Some((began, what)) = self.drift.owed.take() {
            info!("put back, in {} ms", now().since(began).as_millis());
            self.repaired(what);
        }
    }

    /// Counts a repair.
    pub(in crate::knockd) fn repaired(&mut self, what: String) {
        self.memory
            .record(Record::new(What::Repaired, "rules").saying(what.clone()));
        self.drift.repairs.done(what, now());
        self.say_fight();
    }

    pub(super) fn say_fight(&mut self) {
        let fight = self.drift.repairs.is_fight().then(|| {
            let total = self.drift.repairs.total();
            let last = self.drift.repairs.last().map_or("", |(_, what)| what);
            format!(
                "somebody undoes our rules again and again ({total} repairs, the last: {last}): \
                 they are put back every ten seconds at most, until a minute has passed without that; \
                 find out who it is (`nft monitor` names the process)"
            )
        });
        // The text changes with each repair, and each was said.
        if fight.is_none() && self.problems.get(FIGHT).is_some() {
            info!("nobody has undone our rules for a minute");
        }
        self.problems.set(FIGHT, fight);
    }

    /// Until when nothing is to be put back.
    pub(in crate::knockd) fn held_back(&self) -> Option<Time> {
        self.drift.repairs.held_back(now())
    }
}
