//! From one policy to another: put into force whole, or not at all, and taken back whole.

use std::path::Path;
use std::sync::Arc;

use tracing::{error, info};

use crate::engine::{Action, Engine, Event};
use crate::firewall::{BackendKind, FirewallError, choose};
use crate::policy::Policy;
use crate::whitelist::Host;

use super::daemon::{Daemon, log, members_of, now};
use super::force::put_in_force;
use super::install::remove_all;
use super::problems::{FIREWALL, FORMER, WHITELIST};
use super::recall::retention;
use super::roster::Roster;
use super::shelved::not_in_force;
use super::wants::gate_addresses;

/// What there was before a change.
#[derive(Debug)]
pub(super) struct Before {
    /// What was decided then is with what is not committed.
    policy: Policy,
    roster: Roster,
    /// Which backend was in force: `auto` is that one again.
    backend: BackendKind,
    /// The whitelist that came with the change.
    applied: Roster,
}

impl Before {
    /// The whitelist's file.
    pub(super) fn whitelist(&self) -> Option<&Path> {
        self.roster.file()
    }

    /// Whom a command trusts or not stays so, whether the rest is taken back or not; but in a file
    /// that is only tried as long as that is.
    pub(super) fn settle(&mut self, hosts: &[Host]) {
        self.roster.settle(&self.applied, hosts);
    }
}

impl Daemon {
    /// Puts a policy and a whitelist into force, or leaves everything as it was. Until it is settled
    /// the store goes on having what gates held that are gone.
    pub(super) fn switch(
        &mut self,
        policy: Policy,
        roster: Roster,
    ) -> Result<Before, FirewallError> {
        // While the kernel still says so: it is not to come back.
        self.notice_used_up()?;
        let engine = Arc::new(self.engine.clone());
        self.uncommitted.begin(Arc::clone(&engine));
        let before = Before {
            policy: engine.policy().clone(),
            backend: self.firewall.kind(),
            applied: roster.clone(),
            roster: std::mem::replace(&mut self.roster, roster),
        };
        let kind = self.firewall.kind();
        if let Err(error) = self.put_into_force(policy, None, kind) {
            self.uncommitted.end();
            self.engine = Arc::unwrap_or_clone(engine);
            self.roster = before.roster;
            // What was half done is undone, and if the kernel does not take that, tried again.
            self.perform(vec![Action::Install]);
            return Err(error);
        }
        self.problems.set(WHITELIST, None);
        self.problems.set(FIREWALL, None);
        self.follow_policy();
        Ok(before)
    }

    /// Goes back to the policy from before, and to the whitelist: a change that is taken back is
    /// taken back whole. What was decided since about gates that stayed, stays. If the kernel does
    /// not take it, it is tried again and again.
    pub(super) fn go_back(&mut self, before: Before) {
        let Before {
            policy,
            roster,
            backend,
            applied,
        } = before;
        let engine = self.uncommitted.before();
        let engine = engine.as_deref();
        let same_file = applied.file() == roster.file();
        let edited = same_file && !applied.lists_the_same(&roster);
        self.roster = roster.taken_back(&applied, &self.roster);
        let file = self.roster.file().filter(|_| edited);
        let problem = not_in_force(file);
        self.problems.set(WHITELIST, problem);
        let noticed = self.notice_used_up();
        match noticed.and_then(|()| self.put_into_force(policy.clone(), engine, backend)) {
            Ok(()) => self.problems.set(FIREWALL, None),
            Err(error) => {
                error!("{error}");
                if *self.engine.policy() != policy {
                    self.decide(policy, engine);
                }
                self.perform(vec![Action::Install]);
            }
        }
        self.follow_policy();
        self.settled();
    }

    /// What is in force is so for good: nothing else is to be remembered, and of the history no more
    /// than it says.
    pub(super) fn settled(&mut self) {
        self.uncommitted.end();
        self.memory.keep(retention(self.engine.policy()));
        self.memory.backend(self.firewall.kind());
        self.remember_everything();
    }

    /// What else depends on the policy.
    fn follow_policy(&mut self) {
        self.read_secrets();
        self.read_sheets();
        self.look_for_listeners();
        self.follow_interfaces();
        self.follow_names();
    }

    /// Gives the engine a policy, or gives it back, and the roster, with what names of gates stand
    /// for in it: that a gate of the same name had before is another's.
    fn decide(&mut self, policy: Policy, before: Option<&Engine>) {
        let trusted = || Event::Whitelist(self.roster.trusted());
        let mut said = Vec::new();
        if let Some(before) = before {
            // Whom the list that is taken back trusted is to lose no ban at a gate that comes back.
            said.extend(self.engine.handle(trusted(), now()));
            said.extend(self.engine.back_to(policy, before, now()));
        } else {
            said.extend(self.engine.handle(Event::Policy(Box::new(policy)), now()));
        }
        let gates = gate_addresses(self.engine.policy(), &self.roster);
        said.extend(self.engine.handle(Event::GateAddresses(gates), now()));
        said.extend(self.engine.handle(trusted(), now()));
        // One installation follows, so that of all actions only what is said matters.
        said.iter().for_each(log);
    }

    /// Gives the engine a policy and the roster, and the kernel what follows from both, at once.
    /// Where the policy leaves the backend to us, it is `last` again.
    fn put_into_force(
        &mut self,
        policy: Policy,
        before: Option<&Engine>,
        last: BackendKind,
    ) -> Result<(), FirewallError> {
        let wanted = policy.firewall.backend;
        let change = wanted != self.engine.policy().firewall.backend;
        let kind = self.firewall.kind();
        let chosen = change.then(|| choose::choose(wanted, Some(last)));
        let mut chosen = chosen.transpose()?;
        let same = chosen.take_if(|chosen| chosen.backend.kind() == kind);
        let reason = same.map(|chosen| chosen.reason);
        self.decide(policy, before);
        let Some(mut chosen) = chosen else {
            self.install()?;
            self.backend_reason = reason.unwrap_or_else(|| self.backend_reason.clone());
            return Ok(());
        };
        // The new one before the old one goes; what cannot be whole does not stay.
        if let Err(error) = put_in_force(&mut *chosen.backend, &mut self.engine) {
            if let Err(left) = chosen.backend.teardown() {
                error!("{left}");
            }
            return Err(error);
        }
        self.firewall = chosen.backend;
        self.drift.follow(&*self.firewall);
        self.cutter.installed(&self.engine);
        self.told = members_of(self.engine.policy());
        self.backend_reason = chosen.reason;
        self.problems.set_all(FORMER, remove_all(chosen.former));
        info!("{} instead of {kind}", self.firewall.kind());
        Ok(())
    }
}
