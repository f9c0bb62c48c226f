//! What `list` shows: the kernel's members, with the reasons that only the engine knows.

use std::collections::HashMap;

use ipnet::IpNet;

use crate::control::Response;
use crate::control::protocol::{Data, ListEntry};
use crate::engine::{Engine, FOUND_IN_KERNEL};
use crate::firewall::{Backend, Member};
use crate::model::{Chain, GateName, NetMap, Time};

/// Answers `list`: these chains of these gates, or all of them where none is named.
pub(super) fn list(
    engine: &Engine,
    firewall: &mut dyn Backend,
    chains: &[Chain],
    gates: &[GateName],
    now: Time,
) -> Response {
    if let Some(unknown) = gates
        .iter()
        .find(|name| engine.policy().gate(name).is_none())
    {
        return Response::refused(2, format!("there is no gate `{unknown}`"));
    }
    let chains = if chains.is_empty() {
        &Chain::ALL
    } else {
        chains
    };
    let held = match firewall.observe_chains(chains) {
        Ok(held) => held.unwrap_or_default().members,
        Err(error) => return Response::refused(1, error.to_string()),
    };
    let wanted = |gate: &GateName, chain| {
        chains.contains(&chain) && (gates.is_empty() || gates.contains(gate))
    };
    let entries = entries(engine, held, wanted, now);
    Response::with_data(0, Data::List { entries })
}

/// The entries for what the kernel holds.
///
/// Networks may come back from the kernel in other pieces than they were decided in, since
/// overlapping ones are written as one. They are shown as decided where the kernel covers them,
/// and as found where nobody decided them.
fn entries(
    engine: &Engine,
    held: Vec<Member>,
    wanted: impl Fn(&GateName, Chain) -> bool,
    now: Time,
) -> Vec<ListEntry> {
    let mut entries = Vec::new();
    let mut pieces = Vec::new();
    let mut networks: Networks = HashMap::new();
    for member in held {
        if !wanted(&member.gate, member.chain) {
            continue;
        }
        if !is_host(member.net) {
            let of = (member.gate.clone(), member.chain);
            networks.entry(of).or_default().insert(member.net, ());
        }
        match engine.reason(&member.gate, member.chain, member.net) {
            Some(reason) => entries.push(entry(member, reason)),
            None if is_host(member.net) => {
                let reason = found(&member.reason);
                entries.push(entry(member, reason));
            }
            None => pieces.push(member),
        }
    }
    if !pieces.is_empty() {
        entries.extend(put_together(engine, pieces, &networks, &wanted, now));
    }
    entries.sort_unstable_by(|a, b| (&a.gate, a.chain, a.net).cmp(&(&b.gate, b.chain, b.net)));
    entries.dedup_by(|a, b| (&a.gate, a.chain, a.net) == (&b.gate, b.chain, b.net));
    entries
}

type Networks = HashMap<(GateName, Chain), NetMap<()>>;

/// `held`: all networks that the kernel holds, whether or not they are pieces.
fn put_together(
    engine: &Engine,
    pieces: Vec<Member>,
    held: &Networks,
    wanted: &impl Fn(&GateName, Chain) -> bool,
    now: Time,
) -> Vec<ListEntry> {
    let mut entries = Vec::new();
    let mut decided: Networks = HashMap::new();
    for member in engine.desired(now).members {
        if !wanted(&member.gate, member.chain) || is_host(member.net) {
            continue;
        }
        let of = (member.gate.clone(), member.chain);
        let complete = held
            .get(&of)
            .is_some_and(|parts| parts.get(member.net).is_none() && covered(parts, member.net));
        decided.entry(of).or_default().insert(member.net, ());
        if complete {
            let reason = member.reason.clone();
            entries.push(entry(member, reason));
        }
    }
    for piece in pieces {
        let known = decided.get(&(piece.gate.clone(), piece.chain));
        if known.is_none_or(|known| known.overlapping(piece.net).is_none()) {
            let reason = found(&piece.reason);
            entries.push(entry(piece, reason));
        }
    }
    entries
}

/// Whether the parts make up the whole network.
pub(super) fn covered(parts: &NetMap<()>, net: IpNet) -> bool {
    if parts.lookup(net).is_some() {
        return true;
    }
    let bits = |net: IpNet| u32::from(net.max_prefix_len() - net.prefix_len());
    let size = |net: IpNet| 1u128.checked_shl(bits(net)).unwrap_or(u128::MAX);
    // One that lies in another adds nothing.
    let widest = |part: IpNet| parts.covering(part).last().map(|(widest, ())| widest);
    let held = parts
        .within(net)
        .filter(|(part, ())| widest(*part) == Some(*part))
        .fold(0u128, |sum, (part, ())| sum.saturating_add(size(part)));
    held >= size(net)
}

/// Whether it is one address.
pub(super) fn is_host(net: IpNet) -> bool {
    net.prefix_len() == net.max_prefix_len()
}

/// The reason of a member that was found.
pub(super) fn found(reason: &str) -> String {
    if reason.is_empty() {
        FOUND_IN_KERNEL.to_owned()
    } else {
        reason.to_owned()
    }
}

/// An address without a prefix length, or a network.
pub(super) fn shown(net: IpNet) -> String {
    if is_host(net) {
        net.addr().to_string()
    } else {
        net.to_string()
    }
}

fn entry(member: Member, reason: String) -> ListEntry {
    ListEntry {
        gate: member.gate,
        chain: member.chain,
        net: member.net,
        expires_in_s: member.remaining.as_secs(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Command, Event, Who};
    use crate::fixtures::appliance;
    use crate::model::Lifetime;

    fn member(chain: Chain, net: &str, reason: &str) -> Member {
        Member {
            gate: GateName::new("ssh").unwrap(),
            chain,
            net: net.parse().unwrap(),
            remaining: Lifetime::Never,
            reason: reason.to_owned(),
        }
    }

    fn shown(engine: &Engine, held: Vec<Member>) -> Vec<(String, String)> {
        let entries = entries(engine, held, |_, _| true, Time(0));
        entries
            .into_iter()
            .map(|e| (e.net.to_string(), e.reason))
            .collect()
    }

    #[test]
    fn networks_are_shown_as_decided_where_the_kernel_covers_them() {
        let mut engine = Engine::new(appliance());
        for net in ["10.0.0.0/24", "10.0.0.0/16"] {
            let nets = vec![net.parse().unwrap()];
            let command = Command::Drop {
                nets,
                gates: vec![],
                lifetime: None,
                force: false,
            };
            engine.handle(
                Event::Command {
                    who: Who("root".into()),
                    command,
                },
                Time(0),
            );
        }
        let both = [
            ("10.0.0.0/16".into(), "root".into()),
            ("10.0.0.0/24".into(), "root".into()),
        ];
        assert_eq!(
            shown(&engine, vec![member(Chain::Banned, "10.0.0.0/16", "root")])[..1],
            both[..1]
        );
        let halves = vec![
            member(Chain::Banned, "10.0.0.0/17", "root"),
            member(Chain::Banned, "10.0.128.0/17", "root"),
        ];
        assert_eq!(shown(&engine, halves), both);
        // The narrower one lasts longer, so that the wider one is cut in two.
        let around = ["10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/23", "10.0.4.0/22"];
        let wider = ["10.0.8.0/21", "10.0.16.0/20", "10.0.32.0/19"];
        let widest = ["10.0.64.0/18", "10.0.128.0/17"];
        let around = around.iter().chain(&wider).chain(&widest);
        let around = around.map(|net| member(Chain::Banned, net, "root"));
        assert_eq!(shown(&engine, around.collect()), both);
        let half = vec![member(Chain::Banned, "10.0.0.0/17", "root")];
        assert_eq!(
            shown(&engine, half),
            both[1..],
            "the whole of it is not there"
        );
    }

    #[test]
    fn what_lies_in_another_part_covers_nothing_more() {
        let mut parts = NetMap::new();
        for part in ["10.0.0.0/25", "10.0.0.0/26", "10.0.0.64/26"] {
            parts.insert(part.parse().unwrap(), ());
        }
        let whole = "10.0.0.0/24".parse().unwrap();
        assert!(!covered(&parts, whole));
        parts.insert("10.0.0.128/25".parse().unwrap(), ());
        assert!(covered(&parts, whole));
    }

    #[test]
    fn what_nobody_decided_is_shown_as_found() {
        let engine = Engine::new(appliance());
        let held = vec![
            member(Chain::Banned, "10.0.0.0/8", ""),
            member(Chain::Filter, "192.0.2.1/32", ""),
        ];
        let found: Vec<_> = shown(&engine, held)
            .into_iter()
            .map(|(_, reason)| reason)
            .collect();
        assert_eq!(found, [FOUND_IN_KERNEL, FOUND_IN_KERNEL]);
    }
}
