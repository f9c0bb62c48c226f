//! A change of the policy that is neither in the policy's file nor confirmed: until it is, the store
//! keeps what gates held that the change has removed. Whatever ends the daemon meanwhile, the next
//! start is one with the policy from before.

use std::sync::Arc;

use crate::engine::{Engine, Everything, Memo, News, TrustEdit};
use crate::model::{Chain, GateName};

/// What was decided before such a change, while there is one.
#[derive(Debug, Default)]
pub(super) struct Uncommitted(Option<Arc<Engine>>);

impl Uncommitted {
    /// A change begins. Comes before anything that follows from it is remembered.
    pub(super) fn begin(&mut self, before: Arc<Engine>) {
        self.0 = Some(before);
    }

    /// It is committed, or taken back; all that holds is to be remembered next.
    pub(super) fn end(&mut self) {
        self.0 = None;
    }

    /// What was decided before it, without what was lost since.
    pub(super) fn before(&self) -> Option<Arc<Engine>> {
        self.0.clone()
    }

    /// What is not to be remembered yet: that gates are gone, or that their acceptances gave way to
    /// those of another part of an IPv6 address. Once they are for good, all that holds is
    /// remembered, which leaves them out. Whoever is taken out `now` is taken out of before, too;
    /// what is to be forgotten of their trust is returned.
    pub(super) fn withhold(&mut self, news: &mut News, now: &Engine) -> Vec<TrustEdit> {
        let Some(before) = &mut self.0 else {
            return Vec::new();
        };
        news.memos.retain(|memo| match memo {
            Memo::ForgetGate(_) => false,
            Memo::Forget(gate, Chain::Filter, net) if net.addr().is_ipv6() => {
                let [old, new] = [&**before, now].map(|engine| engine.policy().gate(gate));
                let Some((old, new)) = old.zip(new) else {
                    return true;
                };
                old.ipv6_prefix == new.ipv6_prefix || net.prefix_len() != old.ipv6_prefix
            }
            _ => true,
        });
        let lost = std::mem::take(&mut news.lost);
        if lost.is_empty() {
            return Vec::new();
        }
        let (memos, edits) = Arc::make_mut(before).lose(&lost, now);
        // What is accepted again after that is remembered.
        news.memos.splice(0..0, memos);
        edits
    }

    /// Adds what the gates held that are gone from `now`, and what they accepted otherwise.
    pub(super) fn add(&self, everything: &mut Everything, now: &Engine) {
        let Some(before) = &self.0 else { return };
        let gone = |gate: &GateName| now.policy().gate(gate).is_none();
        let Everything { members, trust, .. } = before.everything();
        let members = members.into_iter().filter(|kept| gone(&kept.gate));
        everything.members.extend(members);
        everything.members.extend(now.accepted_otherwise(before));
        let trust = trust
            .into_iter()
            .filter(|(gate, ..)| gate.as_ref().is_some_and(gone));
        everything.trust.extend(trust);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Command, Event, Flush, Who};
    use crate::fixtures;
    use crate::model::Time;
    use crate::policy::Policy;

    const NOW: Time = Time::from_secs(1_000);

    fn policy(gates: &[&str]) -> Policy {
        let gates = gates.iter().map(|name| fixtures::gate(name));
        fixtures::policy(gates.collect(), Vec::new())
    }

    /// An engine with a ban and trust at both gates, to which nothing is new.
    fn engine() -> Engine {
        let mut engine = Engine::new(policy(&["ssh", "web"]));
        let nets = |text: &str| vec![text.parse().unwrap()];
        let web = vec![GateName::new("web").unwrap()];
        for command in [
            Command::Drop {
                nets: nets("192.0.2.9/32"),
                gates: Vec::new(),
                lifetime: None,
                force: false,
            },
            Command::Trust {
                nets: nets("192.0.2.10/32"),
                gates: web,
            },
        ] {
            let who = Who("somebody".into());
            drop(engine.handle(Event::Command { who, command }, NOW));
        }
        drop(engine.take_news());
        engine
    }

    fn at_web(everything: &Everything) -> (usize, usize) {
        let members = everything.members.iter();
        let trust = everything.trust.iter();
        (
            members.filter(|kept| kept.gate.as_str() == "web").count(),
            trust
                .filter(|(gate, ..)| gate.as_ref().is_some_and(|it| it.as_str() == "web"))
                .count(),
        )
    }

    #[test]
    fn until_a_change_is_committed_what_removed_gates_held_is_remembered() {
        let mut engine = engine();
        let mut uncommitted = Uncommitted::default();
        uncommitted.begin(Arc::new(engine.clone()));
        drop(engine.handle(Event::Policy(Box::new(policy(&["ssh"]))), NOW));
        // What happens at the gates that stay is remembered at once.
        let who = Who("somebody".into());
        let command = Command::Unban {
            nets: vec!["192.0.2.9/32".parse().unwrap()],
            gates: Vec::new(),
        };
        drop(engine.handle(Event::Command { who, command }, NOW));
        let mut news = engine.take_news();
        assert_eq!(news.memos.len(), 2, "{news:?}");
        drop(uncommitted.withhold(&mut news, &engine));
        assert!(matches!(news.memos[..], [Memo::Forget(..)]), "{news:?}");
        let mut everything = engine.everything();
        uncommitted.add(&mut everything, &engine);
        assert_eq!(at_web(&everything), (1, 1));
        assert_eq!(everything.members.len(), 1);

        uncommitted.end();
        let mut everything = engine.everything();
        uncommitted.add(&mut everything, &engine);
        assert_eq!(at_web(&everything), (0, 0));
    }

    #[test]
    fn until_a_change_is_committed_what_was_accepted_otherwise_is_remembered() {
        let accept = |engine: &mut Engine, addresses: &[&str]| {
            let command = Command::Accept {
                addresses: addresses.iter().map(|it| it.parse().unwrap()).collect(),
                gates: Vec::new(),
                lifetime: None,
                force: false,
            };
            let who = Who("somebody".into());
            drop(engine.handle(Event::Command { who, command }, NOW));
        };
        let mut engine = Engine::new(policy(&["ssh"]));
        accept(&mut engine, &["2001:db8::1", "2001:db8:1::1", "192.0.2.1"]);
        drop(engine.take_news());
        let mut uncommitted = Uncommitted::default();
        uncommitted.begin(Arc::new(engine.clone()));
        let mut wide = policy(&["ssh"]);
        wide.gates[0].ipv6_prefix = 64;
        drop(engine.handle(Event::Policy(Box::new(wide)), NOW));
        let mut news = engine.take_news();
        drop(uncommitted.withhold(&mut news, &engine));
        let forgets = |news: &News| -> Vec<String> {
            let gone = news.memos.iter().filter_map(|memo| match memo {
                Memo::Forget(_, _, net) => Some(net.to_string()),
                _ => None,
            });
            gone.collect()
        };
        assert!(forgets(&news).is_empty(), "{news:?}");
        let remembered = |uncommitted: &Uncommitted, engine: &Engine| {
            let mut everything = engine.everything();
            uncommitted.add(&mut everything, engine);
            let members = everything.members.iter().map(|it| it.net.to_string());
            let mut kept: Vec<String> = members.filter(|it| it.ends_with("/128")).collect();
            kept.sort();
            kept
        };
        let both = ["2001:db8:1::1/128", "2001:db8::1/128"];
        assert_eq!(remembered(&uncommitted, &engine), both);
        // Whoever is withdrawn is so whatever becomes of the change.
        let who = Who("somebody".into());
        let command = Command::Flush {
            what: vec![Flush::Address("2001:db8::1".parse().unwrap())],
            gates: Vec::new(),
        };
        drop(engine.handle(Event::Command { who, command }, NOW));
        let mut news = engine.take_news();
        drop(uncommitted.withhold(&mut news, &engine));
        assert_eq!(forgets(&news), ["2001:db8::1/128", "2001:db8::/64"]);
        assert_eq!(remembered(&uncommitted, &engine), both[..1]);
    }

    #[test]
    fn whoever_is_withdrawn_before_a_change_is_committed_is_forgotten() {
        let who = || Who("somebody".into());
        let accept = Command::Accept {
            addresses: vec!["192.0.2.1".parse().unwrap()],
            gates: Vec::new(),
            lifetime: None,
            force: false,
        };
        let flush = Command::Flush {
            what: vec![Flush::All],
            gates: Vec::new(),
        };
        let untrust = Command::Untrust {
            nets: vec!["192.0.2.10/32".parse().unwrap()],
            gates: Vec::new(),
        };
        let mut engine = engine();
        let command = |command| Event::Command {
            who: who(),
            command,
        };
        drop(engine.handle(command(accept), NOW));
        drop(engine.take_news());
        let mut uncommitted = Uncommitted::default();
        uncommitted.begin(Arc::new(engine.clone()));
        drop(engine.handle(Event::Policy(Box::new(policy(&["ssh"]))), NOW));
        let mut forgotten = 0;
        let mut untrusted = Vec::new();
        for command in [flush, untrust].map(command) {
            drop(engine.handle(command, NOW));
            let mut news = engine.take_news();
            untrusted.extend(uncommitted.withhold(&mut news, &engine));
            let of_web =
                |memo: &&Memo| matches!(memo, Memo::Forget(gate, ..) if gate.as_str() == "web");
            forgotten += news.memos.iter().filter(of_web).count();
        }
        assert_eq!((forgotten, untrusted.len()), (2, 1), "{untrusted:?}");
        let mut everything = engine.everything();
        uncommitted.add(&mut everything, &engine);
        assert_eq!(at_web(&everything), (0, 0));
    }

    #[test]
    fn gates_that_are_back_are_remembered_once() {
        let mut engine = engine();
        let before = Arc::new(engine.clone());
        let mut uncommitted = Uncommitted::default();
        uncommitted.begin(Arc::clone(&before));
        drop(engine.handle(Event::Policy(Box::new(policy(&["ssh"]))), NOW));
        drop(engine.back_to(policy(&["ssh", "web"]), &before, NOW));
        let mut everything = engine.everything();
        uncommitted.add(&mut everything, &engine);
        assert_eq!(at_web(&everything), (1, 1));
    }
}
