//! Slow sweeps in replayed time: the bytes of packets, each with its time, through the core.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use portcullis::engine::{Action, Engine, Event};
use portcullis::firewall::Change;
use portcullis::matcher::{Matcher, Scope};
use portcullis::model::{Chain, Time};
use portcullis::packet;
use portcullis::policy;

use crate::kinds::{KINDS, KNOCK};
use crate::sender::numbered;
use crate::world::{SHIPPED, person, server_of};
use crate::{EACH, Scenario, Tried, row};

pub(crate) const SCENARIOS: &[Scenario] = &[("no_slow_sweep_opens", no_slow_sweep_opens)];

/// What the daemon does with a packet, without the daemon.
pub(crate) struct Core {
    matcher: Matcher,
    scope: Scope,
    engine: Engine,
    /// Whoever was accepted and not undone or banned since; that time passes does not count.
    pub(crate) accepted: HashSet<IpAddr>,
    /// Every source that ever was accepted.
    ever: HashSet<IpAddr>,
    packets: u32,
}

impl Core {
    pub(crate) fn new() -> Self {
        let checked = policy::parse(SHIPPED, Path::new("shipped.yaml"));
        let policy = checked.expect("the policy is good").policy;
        let mut scope = Scope::default();
        scope.set_own([0, 1].map(|number| server_of(person(number))));
        let mut matcher = Matcher::new(&policy);
        matcher.set_neutral([22, 80, 443]);
        Self {
            matcher,
            scope,
            engine: Engine::new(policy),
            accepted: HashSet::new(),
            ever: HashSet::new(),
            packets: 0,
        }
    }

    /// A SYN that was never sent before.
    fn hear(&mut self, from: IpAddr, port: u16, at: Time) {
        self.packets += 1;
        self.hear_again(from, port, self.packets, at);
    }

    /// A SYN of a connection; the next with the same number is a retransmission.
    pub(crate) fn hear_again(&mut self, from: IpAddr, port: u16, connection: u32, at: Time) {
        let bytes = numbered(from, server_of(from), port, connection);
        let knock = packet::parse(&bytes).expect("a SYN");
        assert!(self.scope.admits(&knock));
        let ours = self.scope.is_own(knock.destination);
        let heard = self.matcher.handle(&knock, ours, at);
        let source = knock.source;
        let mut events = Vec::new();
        for id in heard.completed {
            let knock = self.matcher.name(id).clone();
            events.push(Event::Knocked { source, knock });
        }
        for id in heard.undone {
            let knock = self.matcher.name(id).clone();
            events.push(Event::Undone { source, knock });
        }
        if heard.swept {
            events.push(Event::Swept { source });
        }
        for event in events {
            for action in self.engine.handle(event, at) {
                self.note(source, &action);
            }
        }
    }

    fn note(&mut self, source: IpAddr, action: &Action) {
        match action {
            Action::Firewall(Change::Put(member)) if member.chain == Chain::Filter => {
                self.accepted.insert(member.net.addr());
                self.ever.insert(member.net.addr());
            }
            Action::Firewall(Change::Remove { chain, net, .. })
                if *chain == Chain::Filter && net.addr() == source =>
            {
                self.accepted.remove(&net.addr());
            }
            _ => {}
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "a scenario may fail")]
fn no_slow_sweep_opens() -> Tried {
    for gap in [1, 5, 10, 14] {
        one_port_per(gap);
    }
    Ok(())
}

/// So many seconds.
fn one_port_per(gap: u64) {
    let mut core = Core::new();
    let mut packets = Vec::new();
    for (kind, (_, ports, _)) in KINDS.iter().enumerate() {
        for number in 0..EACH {
            let from = person(kind * EACH + number);
            packets.extend(
                ports(number)
                    .into_iter()
                    .zip(0..)
                    .map(|(port, place)| (Duration::from_secs(place * gap), from, port)),
            );
        }
    }
    let sweepers = KINDS.len() * EACH;
    for number in 0..EACH {
        // Each in the middle of the sweeps, as slowly as allowed.
        let start = Duration::from_millis(500 * number as u64);
        let from = person(sweepers + number);
        packets.push((start, from, KNOCK[0]));
        packets.push((start + Duration::from_secs(15), from, KNOCK[1]));
    }
    packets.sort_by_key(|(at, ..)| *at);
    for (at, from, port) in packets {
        core.hear(from, port, Time::from_secs(1000).after(at));
    }
    for (kind, (name, _, luck)) in KINDS.iter().enumerate() {
        let sources: Vec<IpAddr> = (kind * EACH..(kind + 1) * EACH).map(person).collect();
        let count = |set: &HashSet<IpAddr>| sources.iter().filter(|one| set.contains(one)).count();
        let (open, ever) = (count(&core.accepted), count(&core.ever));
        row(
            &format!("{name}, one port per {gap} s"),
            &format!(
                "{EACH} sweeps: {open} opened, {ever} knocked before it showed, and were undone"
            ),
        );
        assert_eq!(open, 0, "{name}, one port per {gap} s");
        assert!(ever <= *luck, "{name}, one port per {gap} s: {ever}");
    }
    let honest = (sweepers..sweepers + EACH).map(person);
    let open = honest
        .filter(|person| core.accepted.contains(person))
        .count();
    row(
        "honest knocks meanwhile",
        &format!("{open} of {EACH} opened"),
    );
    assert_eq!(open, EACH);
}
