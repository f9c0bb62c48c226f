//! Whoever is one packet short of the end of a knock may send it in a moment, and the machine may
//! have been idle: then code and data that opens a gate are in no cache, and what takes microseconds
//! takes ten times as many. So what a knock brings about is gone through for nobody then: decided by
//! an understudy that is asked nothing else, and prepared by the firewall without being written.

use std::net::{IpAddr, Ipv4Addr};

use crate::engine::{Action, Engine, Event};
use crate::firewall::{Change, Member};
use crate::model::{Bucket, Time};
use crate::policy::KnockAction;

use super::daemon::{Daemon, now};

/// No packet comes from there (RFC 1122, 3.2.1.3).
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// What it takes.
#[derive(Debug)]
pub(super) struct Rehearsal {
    understudy: Engine,
    /// Beginnings can be forged: that many a second cost a few thousandths of a processor.
    turns: Bucket,
}

impl Rehearsal {
    pub(super) fn new(engine: &Engine) -> Self {
        Self {
            understudy: engine.understudy(),
            turns: Bucket::new(20, 20),
        }
    }

    /// Whom the firewall would be told to let in if nobody had knocked at this moment.
    fn decide(&mut self, now: Time) -> Option<Member> {
        let mut knocks = self.understudy.policy().knocks.iter();
        let knock = knocks.find(|knock| knock.action == KnockAction::Accept)?;
        let (source, knock) = (NOBODY, knock.name.clone());
        let actions = self
            .understudy
            .handle(Event::Knocked { source, knock }, now);
        drop(self.understudy.take_news());
        // Before it there may be the end of the last time.
        actions.into_iter().find_map(|action| match action {
            Action::Firewall(Change::Put(member)) => Some(member),
            _ => None,
        })
    }
}

impl Daemon {
    /// Makes ready for a knock that may be complete in a moment, unless that was just done.
    pub(super) fn rehearse(&mut self) {
        if !self.rehearsal.turns.take(now()) {
            return;
        }
        if !self.rehearsal.understudy.has_policy_of(&self.engine) {
            self.rehearsal.understudy = self.engine.understudy();
        }
        if let Some(member) = self.rehearsal.decide(now()) {
            self.firewall.rehearse(&member);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fixtures::appliance;
    use crate::model::Chain;

    #[test]
    fn it_is_decided_about_nobody_again_and_again() {
        let engine = Engine::new(appliance());
        let mut rehearsal = Rehearsal::new(&engine);
        // Renewed each time, and then long over.
        for second in (0..1_000).chain([5_000, 50_000]) {
            let Some(member) = rehearsal.decide(Time::from_secs(second)) else {
                panic!("nothing is decided after {second} s");
            };
            assert_eq!((member.chain, member.net.addr()), (Chain::Filter, NOBODY));
        }
        let held = rehearsal.understudy.desired(Time::from_secs(50_000));
        assert_eq!(held.members.len(), 1);
    }

    #[test]
    fn it_is_with_the_policy_in_force() {
        let engine = Engine::new(appliance());
        let rehearsal = Rehearsal::new(&engine);
        assert!(rehearsal.understudy.has_policy_of(&engine));
        let reloaded = Engine::new(appliance());
        assert!(!rehearsal.understudy.has_policy_of(&reloaded));
    }

    #[test]
    fn forged_beginnings_bring_about_few() {
        let mut rehearsal = Rehearsal::new(&Engine::new(appliance()));
        let mut held = 0;
        for millis in 0..2_000 {
            let now = Time::from_secs(1).after(Duration::from_millis(millis));
            held += u32::from(rehearsal.turns.take(now));
        }
        assert!((40..=60).contains(&held), "{held} in two seconds");
    }
}
