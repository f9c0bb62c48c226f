//! `why`: what happens now to a new connection from an address. The kernel says what, the engine
//! why.

use std::net::IpAddr;
use std::time::Duration;

use crate::control::protocol::Data;
use crate::control::{Response, WhyAttempt, WhyEntry, WhyKept};
use crate::engine::{Decided, Engine, Standing};
use crate::firewall::{Backend, FirewallError, Hit};
use crate::matcher::{Kept, Matcher, Progress};
use crate::model::{Chain, GateName, KnockName, Lifetime, Time, canonical};
use crate::policy::Gate;

use super::answers::{is_host, shown};
use super::daemon::{Daemon, now};
use super::problems::RULES;

/// Whom to ask.
pub(super) struct Sources<'a> {
    pub(super) engine: &'a Engine,
    pub(super) firewall: &'a mut dyn Backend,
    /// There is none without a daemon.
    pub(super) matcher: Option<&'a Matcher>,
    /// What is wrong with the rules, so that it may go otherwise.
    pub(super) fault: Option<String>,
    pub(super) now: Time,
}

impl Daemon {
    pub(super) fn why(&mut self, addresses: &[IpAddr], gates: &[GateName]) -> Response {
        let of = Sources {
            engine: &self.engine,
            firewall: &mut *self.firewall,
            matcher: Some(&self.matcher),
            fault: self.problems.get(RULES).map(ToString::to_string),
            now: now(),
        };
        why(of, addresses, gates)
    }
}

/// Answers for each address at each of the gates, or at all if none is named.
pub(super) fn why(mut of: Sources<'_>, addresses: &[IpAddr], gates: &[GateName]) -> Response {
    let policy = of.engine.policy();
    if let Some(unknown) = gates.iter().find(|name| policy.gate(name).is_none()) {
        return Response::refused(2, format!("there is no gate `{unknown}`"));
    }
    let asked = |gate: &&Gate| gates.is_empty() || gates.contains(&gate.name);
    let gates: Vec<Gate> = policy.gates.iter().filter(asked).cloned().collect();
    let mut entries = Vec::with_capacity(gates.len() * addresses.len());
    for &address in addresses {
        for gate in &gates {
            match entry(&mut of, canonical(address), gate) {
                Ok(entry) => entries.push(entry),
                Err(error) => return Response::refused(1, error.to_string()),
            }
        }
    }
    Response::with_data(0, Data::Why { entries })
}

fn entry(of: &mut Sources<'_>, address: IpAddr, gate: &Gate) -> Result<WhyEntry, FirewallError> {
    let Some(standing) = of.engine.standing(&gate.name, address, of.now) else {
        return Ok(WhyEntry::default());
    };
    let hits = of.firewall.look_up(&gate.name, address)?;
    let mut entry = WhyEntry {
        address: address.to_string(),
        gate: gate.name.to_string(),
        protected: standing.protection.clone(),
        ..WhyEntry::default()
    };
    let is_here = (standing.is_own && gate.hook.input()) || address.is_loopback();
    if is_here {
        entry.verdict = "accepted".into();
        entry.reason = "it is this host itself: loopback is never gated".into();
        return Ok(entry);
    }
    let deciding = deciding(of, gate, &hits, &standing)?;
    let is_decided = deciding.is_some();
    decide(&mut entry, gate, deciding);
    if let (false, Some((reason, until))) = (is_decided, standing.withheld.as_ref()) {
        entry.reason = format!(
            "not accepted, and trust in it ({reason}) was withdrawn by a forced ban, {until}"
        );
    }
    let progress = of.matcher.map(|m| m.progress(address, of.now));
    entry.sweeps = of.matcher.is_some_and(|m| m.is_sweeping(address, of.now));
    entry.attempts = at_gate(of.engine, gate, progress.unwrap_or_default());
    if !is_decided && !entry.sweeps {
        let kept = of.matcher.map(|m| m.kept_from(address, of.now));
        let (kept, free) = apart(&standing.knocks, &kept.unwrap_or_default());
        (entry.kept_from, entry.knocks) = (kept, free);
    }
    entry.doubts = doubts(gate, &hits, &standing);
    entry.doubts.extend(of.fault.clone());
    Ok(entry)
}

/// What decides: of the members of the first chain that covers the address, the one that lasts
/// longest. What the kernel does not say of it the engine does, or else the whole of the set.
fn deciding(
    of: &mut Sources<'_>,
    gate: &Gate,
    hits: &[Hit],
    standing: &Standing,
) -> Result<Option<Decided>, FirewallError> {
    let first = hits.first().map(|hit| hit.chain);
    let mut all = Vec::new();
    for hit in hits.iter().filter(|hit| Some(hit.chain) == first) {
        let known: Vec<&Decided> = standing
            .decided
            .iter()
            .filter(|decided| decided.chain == hit.chain)
            .collect();
        // The kernel may keep several networks as one, and one in parts.
        let same = known.iter().find(|decided| decided.net == hit.net);
        let decided = match (same.or_else(|| known.first()), hit.remaining) {
            (Some(&decided), None) => {
                // Asked for an address, such a kernel does not tell one from a network around it.
                all.extend(
                    known
                        .iter()
                        .filter(|it| is_host(it.net))
                        .map(|&it| it.clone()),
                );
                decided.clone()
            }
            (Some(&decided), Some(remaining)) => Decided {
                remaining,
                ..decided.clone()
            },
            (None, Some(remaining)) => found(hit, remaining, &hit.reason),
            (None, None) => {
                let held = of.firewall.observe_chains(&[hit.chain])?;
                let mut members = held.unwrap_or_default().members.into_iter();
                let member = members.find(|m| m.gate == gate.name && m.net == hit.net);
                // It may have ended just now.
                let over = (Lifetime::For(Duration::ZERO), String::new());
                let (remaining, reason) = member.map_or(over, |m| (m.remaining, m.reason));
                found(hit, remaining, &reason)
            }
        };
        all.push(decided);
    }
    let ends = |decided: &Decided| decided.remaining.deadline(Time::default());
    Ok(all.into_iter().max_by_key(ends))
}

fn found(hit: &Hit, remaining: Lifetime, reason: &str) -> Decided {
    Decided {
        chain: hit.chain,
        net: hit.net,
        remaining,
        reason: super::answers::found(reason),
    }
}

fn decide(entry: &mut WhyEntry, gate: &Gate, deciding: Option<Decided>) {
    let name = &gate.name;
    let Some(decided) = deciding else {
        entry.verdict = "dropped".into();
        entry.chain = Some(format!("{name}_policy"));
        entry.reason = "neither trusted nor accepted".into();
        return;
    };
    let is_ban = decided.chain == Chain::Banned;
    entry.verdict = if is_ban { "dropped" } else { "accepted" }.into();
    entry.chain = Some(format!("{name}_{}", decided.chain.suffix()));
    entry.member = Some(shown(decided.net));
    entry.expires_in_s = decided.remaining.as_secs();
    entry.reason = decided.reason;
}

/// The attempts at knocks for this gate.
fn at_gate(engine: &Engine, gate: &Gate, progress: Vec<Progress>) -> Vec<WhyAttempt> {
    let is_for = |name| {
        let mut knocks = engine.policy().knocks.iter();
        knocks.any(|knock| knock.name == name && knock.gates.contains(&gate.name))
    };
    let mut attempts: Vec<WhyAttempt> = progress
        .into_iter()
        .filter(|it| is_for(it.knock.clone()))
        .map(|it| WhyAttempt {
            knock: it.knock.to_string(),
            matched: it.matched as u64,
            of: it.of as u64,
            left_s: Lifetime::For(it.left).as_secs().unwrap_or_default(),
        })
        .collect();
    attempts.sort_unstable_by(|a, b| a.knock.cmp(&b.knock));
    attempts
}

/// Of the knocks that would let it in, those that it may not begin now, and the others.
fn apart(knocks: &[KnockName], kept: &[Kept]) -> (Vec<WhyKept>, Vec<String>) {
    let (mut not_now, mut free) = (Vec::new(), Vec::new());
    for knock in knocks {
        match kept.iter().find(|it| it.knock == *knock) {
            Some(Kept { left, .. }) => not_now.push(WhyKept {
                knock: knock.to_string(),
                left_s: Lifetime::For(*left).as_secs().unwrap_or_default(),
            }),
            None => free.push(knock.to_string()),
        }
    }
    (not_now, free)
}

/// Where kernel and engine disagree about the address.
fn doubts(gate: &Gate, hits: &[Hit], standing: &Standing) -> Vec<String> {
    let mut doubts = Vec::new();
    for chain in Chain::ALL {
        let place = format!("{}_{}", gate.name, chain.suffix());
        let held = hits.iter().find(|hit| hit.chain == chain);
        let known = standing.decided.iter().find(|known| known.chain == chain);
        match (held, known) {
            (Some(hit), None) => doubts.push(format!(
                "the kernel has {} in {place}, and knockd does not know of it: somebody else has \
                 put it there",
                shown(hit.net)
            )),
            (None, Some(_)) if gate.once && chain == Chain::Filter => doubts.push(format!(
                "the acceptance in {place} is used up: its first connection was made"
            )),
            (None, Some(known)) => doubts.push(format!(
                "knockd has put {} into {place}, and the kernel does not have it: somebody else \
                 has removed it",
                shown(known.net)
            )),
            _ => {}
        }
    }
    doubts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Command, Event, Who};
    use crate::firewall::memory::Memory;
    use crate::firewall::{Change, Member};
    use crate::fixtures::{address, appliance};
    use crate::model::host_net;

    const NOW: Time = Time(0);

    fn banned(who: &str) -> Member {
        Member {
            gate: GateName::new("ssh").unwrap(),
            chain: Chain::Banned,
            net: host_net(address(who)),
            remaining: Lifetime::For(Duration::from_secs(60)),
            reason: "by somebody".to_owned(),
        }
    }

    /// The entry for an address, where the engine has banned the first and the kernel the second.
    fn asked(engine: &Engine, of: &str, fault: Option<&str>) -> WhyEntry {
        let mut firewall = Memory::new(|| NOW);
        firewall.install(&engine.desired(NOW)).unwrap();
        let theirs = banned("192.0.2.2");
        let ours = banned("192.0.2.1");
        let remove = Change::Remove {
            gate: ours.gate,
            chain: ours.chain,
            net: ours.net,
        };
        firewall.apply(&[remove, Change::Put(theirs)]).unwrap();
        let sources = Sources {
            engine,
            firewall: &mut firewall,
            matcher: None,
            fault: fault.map(str::to_owned),
            now: NOW,
        };
        let response = why(sources, &[address(of)], &[]);
        let Data::Why { mut entries } = response.data else {
            panic!("{response:?}");
        };
        entries.remove(0)
    }

    #[test]
    fn the_kernel_decides_and_whatever_the_engine_knows_otherwise_is_said() {
        let mut engine = Engine::new(appliance());
        let command = Command::Drop {
            nets: vec![host_net(address("192.0.2.1"))],
            gates: vec![],
            lifetime: None,
            force: false,
        };
        let who = Who("root".into());
        engine.handle(Event::Command { who, command }, NOW);

        let ours = asked(&engine, "192.0.2.1", None);
        assert_eq!(ours.chain.as_deref(), Some("ssh_policy"));
        assert!(
            ours.doubts[0].contains("the kernel does not have it"),
            "{ours:?}"
        );
        let theirs = asked(&engine, "192.0.2.2", None);
        assert_eq!(theirs.chain.as_deref(), Some("ssh_banned"));
        assert_eq!(theirs.expires_in_s, Some(60));
        assert_eq!(theirs.reason, "by somebody");
        assert!(
            theirs.doubts[0].contains("does not know of it"),
            "{theirs:?}"
        );
        assert_eq!(asked(&engine, "192.0.2.3", None).doubts, [""; 0]);
        let fault = asked(&engine, "192.0.2.3", Some("rules are missing"));
        assert_eq!(fault.doubts, ["rules are missing"]);
    }
}
