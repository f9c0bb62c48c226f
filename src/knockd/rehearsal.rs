//! Whoever has begun to knock may be done in a moment, and the machine may have been idle: then
//! code and data that opens a gate are in no cache, and what takes microseconds takes ten times as
//! many. So what a knock brings about is gone through for nobody when one has begun: decided by an
//! understudy that is asked nothing else, and prepared by the firewall without being written.

use std::net::{IpAddr, Ipv4Addr};

use crate::engine::{Action, Engine, Event};
use crate::firewall::Change;
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
    /// Somebody has begun to knock.
    pub(super) due: bool,
}

impl Rehearsal {
    pub(super) fn new(engine: &Engine) -> Self {
        Self {
            understudy: engine.understudy(),
            turns: Bucket::new(20, 20),
            due: false,
        }
    }

    /// What the firewall would be told if nobody had knocked at this moment.
    fn decide(&mut self, now: Time) -> Option<Change> {
        let mut knocks = self.understudy.policy().knocks.iter();
        let knock = knocks.find(|knock| knock.action == KnockAction::Accept)?;
        let (source, knock) = (NOBODY, knock.name.clone());
        let actions = self
            .understudy
            .handle(Event::Knocked { source, knock }, now);
        drop(self.understudy.take_news());
        actions.into_iter().find_map(|action| match action {
            Action::Firewall(change) => Some(change),
            _ => None,
        })
    }
}

impl Daemon {
    /// Makes ready for a knock that has begun.
    pub(super) fn rehearse(&mut self) {
        if !std::mem::take(&mut self.rehearsal.due) || !self.rehearsal.turns.take(now()) {
            return;
        }
        if !self.rehearsal.understudy.has_policy_of(&self.engine) {
            self.rehearsal.understudy = self.engine.understudy();
        }
        if let Some(Change::Put(member)) = self.rehearsal.decide(now()) {
            self.firewall.rehearse(&member);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::appliance;
    use crate::model::Chain;

    #[test]
    fn nobody_is_decided_about_again_and_again_and_the_engine_knows_nothing_of_it() {
        let engine = Engine::new(appliance());
        let mut rehearsal = Rehearsal::new(&engine);
        for second in 0..1_000 {
            let Some(Change::Put(member)) = rehearsal.decide(Time::from_secs(second)) else {
                panic!("nothing is decided after {second} s");
            };
            assert_eq!((member.chain, member.net.addr()), (Chain::Filter, NOBODY));
        }
        let held = |engine: &Engine| engine.desired(Time::from_secs(1_000)).members.len();
        assert_eq!(held(&rehearsal.understudy), 1);
        assert_eq!(held(&engine), 0);
        assert!(rehearsal.understudy.has_policy_of(&engine));
        assert!(
            !rehearsal
                .understudy
                .has_policy_of(&Engine::new(appliance()))
        );
    }
}
