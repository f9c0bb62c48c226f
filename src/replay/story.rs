//! Matcher and engine, run through in the time of a capture.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::clock::Clock;
use super::copies::{Copies, Device};
use super::file::Record;
use super::host::Host;
use super::interface::{Came, Listening};
use super::link::{Below, Ip, Mac, Way};
use super::{Cause, Counts, Decision, Deed, Effect};
use crate::engine::{Action, Engine, Event};
use crate::firewall::Change;
use crate::matcher::{Matcher, Scope, Timed, Whose};
use crate::model::{Chain, GateName, Lifetime, Time};
use crate::packet::{self, Knock};
use crate::policy::Policy;
use crate::totp;

/// Who hears what was decided.
pub(super) type Tell<'a> = &'a mut dyn FnMut(&Decision) -> io::Result<()>;

/// A daemon without a kernel.
#[derive(Debug)]
pub(super) struct Story {
    engine: Engine,
    matcher: Matcher,
    timed: Timed,
    scope: Scope,
    cards: BTreeMap<Option<u32>, Mac>,
    listens: Listening,
    only_ipv4: bool,
    clock: Clock,
    copies: Copies,
    ends: Ends,
    pub(super) counts: Counts,
}

impl Story {
    pub(super) fn new(policy: Policy, host: Host, clock: Clock) -> Self {
        let mut scope = Scope::default();
        scope.set_own(host.addresses.iter().copied());
        scope.set_broadcast(host.broadcast);
        scope.set_gates(&policy);
        let mut matcher = Matcher::new(&policy);
        let neutral = [host.listening, host.sheets].concat();
        matcher.set_neutral(policy.neutral(&neutral));
        let mut engine = Engine::new(policy);
        for event in [
            Event::OwnAddresses(host.addresses),
            Event::Whitelist(host.trusted),
        ] {
            // Nothing has been decided yet that this could change.
            drop(engine.handle(event, Time(0)));
        }
        Self {
            engine,
            matcher,
            timed: host.timed,
            scope,
            cards: host.cards,
            listens: host.listens,
            only_ipv4: host.only_ipv4,
            clock,
            copies: Copies::default(),
            ends: Ends::default(),
            counts: Counts::default(),
        }
    }

    /// Takes a packet into account.
    pub(super) fn packet(&mut self, record: Record, bytes: &[u8], tell: Tell) -> io::Result<()> {
        self.counts.read += 1;
        let now = self.clock.follow(record.at, &mut self.counts);
        self.expire(now, tell)?;
        let Some(link) = record.link else {
            self.counts.unknown_link += 1;
            return Ok(());
        };
        let ip = match link.strip(bytes) {
            Below::Ip(ip) => ip,
            Below::Other => {
                self.counts.not_ip += 1;
                return Ok(());
            }
            Below::CutShort => {
                self.refused(packet::NotAKnock::Truncated);
                return Ok(());
            }
        };
        match packet::parse(ip.bytes) {
            Ok(knock) => {
                let device = (record.interface, ip.device, ip.vlan);
                let stamp = record.at.unwrap_or_else(|| self.clock.shown(now));
                let came = self.listens.came(record.name.as_ref(), &ip);
                if came == Came::Elsewhere {
                    self.counts.not_for_us += 1;
                    return Ok(());
                }
                let is_placed = came == Came::Here;
                self.heard(&knock, (ip, is_placed), (device, Time(stamp)), now, tell)
            }
            Err(why) => {
                self.refused(why);
                Ok(())
            }
        }
    }

    fn refused(&mut self, why: packet::NotAKnock) {
        *self.counts.refused.entry(why).or_default() += 1;
    }

    fn heard(
        &mut self,
        knock: &Knock,
        (ip, is_placed): (Ip<'_>, bool),
        (device, stamp): (Device, Time),
        now: Time,
        tell: Tell,
    ) -> io::Result<()> {
        let counts_here = self.is_to_us(ip, device.0)
            && self.scope.admits(knock)
            && !(self.only_ipv4 && knock.source.is_ipv6());
        if !counts_here {
            self.counts.not_for_us += 1;
            return Ok(());
        }
        if self.copies.is_one(knock, device, stamp) {
            self.counts.copies += 1;
            return Ok(());
        }
        if !is_placed {
            self.counts.unplaced += 1;
        }
        self.turn(now);
        let ours = self.scope.is_own(knock.destination);
        let heard = self.matcher.handle(knock, ours, now);
        if heard.knock {
            self.counts.knocks += 1;
        } else {
            self.counts.others += 1;
        }
        let source = knock.source;
        for id in heard.completed {
            let knock = self.matcher.name(id).clone();
            match self.timed.complete(&knock, self.matcher.ports(id), source) {
                Whose::Anybodys | Whose::Theirs(_) => {}
                Whose::Anothers(_) | Whose::Nobodys => continue,
            }
            let event = Event::Knocked {
                source,
                knock: knock.clone(),
            };
            self.decide(event, Some(source), Cause::Knock(knock), now, tell)?;
        }
        for id in heard.undone {
            let knock = self.matcher.name(id).clone();
            let event = Event::Undone {
                source,
                knock: knock.clone(),
            };
            self.decide(event, Some(source), Cause::Undone(knock), now, tell)?;
        }
        if heard.swept {
            self.counts.sweeps += 1;
            self.decide(
                Event::Swept { source },
                Some(source),
                Cause::Sweep,
                now,
                tell,
            )?;
        }
        Ok(())
    }

    /// Has those time-based sequences that count; before a packet that counts is soon enough.
    fn turn(&mut self, now: Time) {
        // As the daemon goes by the clock that people see.
        let wall = Duration::from_nanos(self.clock.shown(now));
        if self.timed.turn(totp::step(wall)) {
            self.matcher
                .reload(&self.timed.filled_in(self.engine.policy()));
        }
    }

    /// Whether it was sent to this host, and not by it, as far as the link shows.
    fn is_to_us(&self, ip: Ip<'_>, interface: Option<u32>) -> bool {
        let card = self.cards.get(&interface);
        ip.to_us
            && match ip.way {
                Way::Cards { to, .. } => card.is_none_or(|card| *card == to),
                Way::Said | Way::Unsaid => true,
            }
    }

    fn decide(
        &mut self,
        event: Event,
        source: Option<IpAddr>,
        cause: Cause,
        now: Time,
        tell: Tell,
    ) -> io::Result<()> {
        let mut decision = Decision {
            at: self.clock.shown(now),
            after: now.since(self.clock.first),
            source,
            cause,
            effects: Vec::new(),
            commands: Vec::new(),
            words: Vec::new(),
        };
        if decision.cause == Cause::Time {
            decision.effects = self.ends.reached(now);
        }
        for action in self.engine.handle(event, now) {
            match action {
                Action::Firewall(change) => {
                    self.ends.follow(&change, now);
                    decision.effects.extend(effect(change));
                }
                Action::Log(log) => decision.words.push(log.words.to_string()),
                // Nobody asked, nothing is stored, and there is no kernel to install into.
                _ => {}
            }
        }
        // Nothing is run; what would have been has ended at once.
        let mut jobs = VecDeque::from(self.engine.take_jobs());
        while let Some(job) = jobs.pop_front() {
            decision.commands.push(job.command.to_string());
            let (job, again) = (job.id, false);
            for action in self.engine.handle(Event::Ended { job, again }, now) {
                if let Action::Log(log) = action {
                    decision.words.push(log.words.to_string());
                }
            }
            jobs.extend(self.engine.take_jobs());
        }
        // There is no store.
        drop(self.engine.take_news());
        for effect in &decision.effects {
            match effect.deed {
                Deed::Accepted => self.counts.accepted += 1,
                Deed::Banned => self.counts.banned += 1,
                _ => {}
            }
        }
        let is_nothing = decision.cause == Cause::Time
            && decision.effects.is_empty()
            && decision.commands.is_empty()
            && decision.words.is_empty();
        if is_nothing {
            return Ok(());
        }
        tell(&decision)
    }

    /// Lets end what ends until now.
    fn expire(&mut self, now: Time, tell: Tell) -> io::Result<()> {
        while let Some(due) = self.engine.next_deadline().filter(|due| *due <= now) {
            self.decide(Event::Tick, None, Cause::Time, due, tell)?;
        }
        Ok(())
    }

    /// Where it listens.
    pub(super) fn listens(&self) -> &Listening {
        &self.listens
    }

    /// The engine, what was counted, and how time went by.
    pub(super) fn end(self) -> (Engine, Counts, Clock) {
        let (set_back, most_set_back) = self.clock.set_back();
        let counts = Counts {
            set_back,
            most_set_back,
            ..self.counts
        };
        (self.engine, counts, self.clock)
    }
}

/// What a change to the kernel's members is to people. An open gate is a member for each family.
fn effect(change: Change) -> Option<Effect> {
    let (deed, gate, net, lifetime) = match change {
        Change::Put(member) => {
            let deed = match member.chain {
                Chain::Filter if member.net.prefix_len() == 0 => Deed::Opened,
                Chain::Filter => Deed::Accepted,
                Chain::Banned => Deed::Banned,
                Chain::Trusted => Deed::Trusted,
            };
            (deed, member.gate, member.net, Some(member.remaining))
        }
        Change::Remove { gate, chain, net } => {
            let deed = match chain {
                Chain::Filter if net.prefix_len() == 0 => Deed::Closed,
                Chain::Filter => Deed::Withdrawn,
                Chain::Banned => Deed::Unbanned,
                Chain::Trusted => Deed::Untrusted,
            };
            (deed, gate, net, None)
        }
    };
    is_told(net).then_some(Effect {
        deed,
        gate,
        net,
        lifetime,
    })
}

/// Whether it is no second half of "everybody".
fn is_told(net: IpNet) -> bool {
    !matches!(net, IpNet::V6(net) if net.prefix_len() == 0)
}

type Of = (GateName, Chain, IpNet);

/// What ends when, as it was told to the kernel.
#[derive(Debug, Default)]
struct Ends {
    at: HashMap<Of, Time>,
    next: BTreeSet<(Time, Of)>,
}

impl Ends {
    fn follow(&mut self, change: &Change, now: Time) {
        let (of, end) = match change {
            Change::Put(member) => {
                let of = (member.gate.clone(), member.chain, member.net);
                let end = match member.remaining {
                    Lifetime::For(span) => Some(now.after(span)),
                    Lifetime::Never => None,
                };
                (of, end)
            }
            Change::Remove { gate, chain, net } => ((gate.clone(), *chain, *net), None),
        };
        if let Some(before) = self.at.remove(&of) {
            self.next.remove(&(before, of.clone()));
        }
        if let Some(end) = end {
            self.at.insert(of.clone(), end);
            self.next.insert((end, of));
        }
    }

    /// What has ended by now.
    fn reached(&mut self, now: Time) -> Vec<Effect> {
        let mut ended = Vec::new();
        while let Some((end, of)) = self.next.pop_first() {
            if end > now {
                self.next.insert((end, of));
                break;
            }
            self.at.remove(&of);
            let (gate, chain, net) = of;
            let deed = match chain {
                Chain::Filter if net.prefix_len() == 0 => Deed::OpeningOver,
                Chain::Filter => Deed::AcceptanceOver,
                Chain::Banned => Deed::BanOver,
                Chain::Trusted => Deed::Untrusted,
            };
            if is_told(net) {
                ended.push(Effect {
                    deed,
                    gate,
                    net,
                    lifetime: None,
                });
            }
        }
        ended
    }
}
