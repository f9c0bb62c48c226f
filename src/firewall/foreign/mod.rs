//! Firewalls of others that stand in the way.
//!
//! A packet must be let through by every base chain of its hook, in whatever table: what our
//! table accepts another one may drop. For each gate a first packet from a stranger who has
//! knocked is led, on paper, through the chains of all other tables. If none of their rules can
//! accept it, the gate does not open to anyone, and `status` says where it ends.
//!
//! What is not understood (marks, times, foreign matches) is taken as something that may hold, so
//! that a rule which perhaps accepts is believed to. Source addresses are not: a knocker comes
//! from anywhere. Tables of legacy iptables are not nf_tables' and are not seen here.
#![forbid(unsafe_code)]

mod elements;
mod nat;
mod packet;
mod read;
mod report;
mod rule;
#[cfg(test)]
mod tests;
mod walk;
mod xt;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::rc::Rc;

use ipnet::IpNet;
use netlink_sys::protocols::NETLINK_NETFILTER;

use self::packet::{Hook, Packet};
use self::read::{Chain, Element, Rule, TableKey};
use self::report::Blocked;
use self::walk::{Ours, Place, Walk};
use super::{BackendKind, FirewallError, GateRules};
use crate::netlink::{Netlink, NetlinkError};
use crate::policy::Verdict;

/// `NFPROTO_INET`, `NFPROTO_IPV4` and `NFPROTO_IPV6`.
const INET: u8 = 1;
const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// Of a table with more rules than that nothing is said.
const MOST_RULES: usize = 100_000;

/// What is asked: which gates, held by whom, and where strangers come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The gates.
    pub gates: Vec<GateRules>,
    /// The backend that holds them.
    pub backend: BackendKind,
    /// Name and index of the interfaces by which strangers come in.
    pub interfaces: Vec<(String, u32)>,
    /// Whether all of those must be blocked before it is said; else one will do.
    pub any_will_do: bool,
}

/// Looks at the tables of others.
#[derive(Debug)]
pub struct Foreign {
    netlink: Netlink,
    /// The last answer, and of which generation of the ruleset it is.
    last: Option<(u32, Question, Vec<String>)>,
}

/// A table that has a base chain where gates are.
#[derive(Default)]
struct Table {
    bases: Vec<Chain>,
    names: Vec<String>,
}

impl Foreign {
    /// Opens a socket.
    pub fn open() -> Result<Self, FirewallError> {
        let netlink = Netlink::open(NETLINK_NETFILTER).map_err(failed("use"))?;
        Ok(Self {
            netlink,
            last: None,
        })
    }

    /// The last answer, if it is still that. Takes microseconds.
    pub fn known(&mut self, question: &Question) -> Option<Vec<String>> {
        let generation = self.generation().ok()?;
        let (seen, asked, answer) = self.last.as_ref()?;
        (*seen == generation && asked == question).then(|| answer.clone())
    }

    fn generation(&mut self) -> Result<u32, FirewallError> {
        self.netlink
            .ask(read::get_generation(), read::generation)
            .and_then(|generation| generation.ok_or(NetlinkError::Lost))
            .map_err(failed("read the generation of"))
    }

    /// What stands in the way, one sentence each. Cheap while the ruleset stays as it is; else it
    /// takes as long as reading the rules of others does.
    pub fn in_the_way(&mut self, question: &Question) -> Result<Vec<String>, FirewallError> {
        if let Some(known) = self.known(question) {
            return Ok(known);
        }
        let generation = self.generation()?;
        let answer = self.look(question)?;
        self.last = Some((generation, question.clone(), answer.clone()));
        Ok(answer)
    }

    fn look(&mut self, question: &Question) -> Result<Vec<String>, FirewallError> {
        let mut blocked = Blocked::default();
        for (key, table) in self.tables()? {
            let rules = self
                .netlink
                .dump(read::dump_rules(&key), |kind, payload, found| {
                    found.extend(read::rule(kind, payload));
                })
                .map_err(failed("list the rules of"))?;
            if rules.len() > MOST_RULES {
                continue;
            }
            let mut by_chain: HashMap<String, Vec<Rule>> = HashMap::new();
            for rule in rules {
                by_chain.entry(rule.chain.clone()).or_default().push(rule);
            }
            let ours = our_chains(&key, &question.gates, question.backend);
            let netlink = &mut self.netlink;
            let mut held: HashMap<String, Option<Rc<Vec<Element>>>> = HashMap::new();
            let mut sets = |name: &str| {
                let read = || elements(netlink, &key, name).map(Rc::new);
                held.entry(name.to_owned()).or_insert_with(read).clone()
            };
            for base in &table.bases {
                let mut ends = |packet: &Packet| {
                    Walk {
                        rules: &by_chain,
                        packet,
                        ours: &ours,
                        sets: &mut sets,
                        known: HashMap::new(),
                    }
                    .base(&base.name, base.drops)
                };
                for gate in &question.gates {
                    for (packet, place) in led(question, gate, base, &mut ends) {
                        blocked.add(question, base, &table.names, gate, &packet, place);
                    }
                }
            }
        }
        Ok(blocked.sentences())
    }

    /// The tables of others that are asked about packets to or through us.
    fn tables(&mut self) -> Result<BTreeMap<TableKey, Table>, FirewallError> {
        let asleep: HashSet<TableKey> = self
            .netlink
            .dump(read::dump_tables(), |kind, payload, found| {
                found.extend(read::dormant_table(kind, payload));
            })
            .map_err(failed("list the tables of"))?
            .into_iter()
            .collect();
        let chains = self
            .netlink
            .dump(read::dump_chains(), |kind, payload, found| {
                found.extend(read::chain(kind, payload));
            })
            .map_err(failed("list the chains of"))?;
        let mut tables: BTreeMap<TableKey, Table> = BTreeMap::new();
        for chain in chains {
            let (family, name) = &chain.table;
            let is_ours = *family == INET && name == super::nftables::TABLE;
            if is_ours || ![INET, IPV4, IPV6].contains(family) || asleep.contains(&chain.table) {
                continue;
            }
            let table = tables.entry(chain.table.clone()).or_default();
            table.names.push(chain.name.clone());
            if chain.hook.is_some_and(|hook| hook <= Hook::Forward as u32) {
                table.bases.push(chain);
            }
        }
        tables.retain(|_, table| !table.bases.is_empty());
        Ok(tables)
    }
}

fn failed(operation: &'static str) -> impl Fn(NetlinkError) -> FirewallError {
    move |error| FirewallError::Kernel {
        operation,
        object: "the ruleset (nf_tables)".to_owned(),
        hint: "",
        source: error.into_io(),
    }
}

fn elements(netlink: &mut Netlink, table: &TableKey, set: &str) -> Option<Vec<Element>> {
    let list = netlink.dump(read::dump_elements(table, set), read::elements);
    list.ok().filter(|list| list.len() <= read::MOST_ELEMENTS)
}

/// The policy chains that the iptables backend has in that table.
fn our_chains(table: &TableKey, gates: &[GateRules], backend: BackendKind) -> Ours {
    let is_theirs = (table.0 == IPV4 || table.0 == IPV6) && table.1 == "filter";
    if !is_theirs || backend != BackendKind::Iptables {
        return Ours::new();
    }
    let chain = |gate: &GateRules| {
        let name = format!("{}_policy", gate.name);
        (name, gate.verdict == Verdict::Accept)
    };
    gates.iter().map(chain).collect()
}

/// Leads packets to the gate through a base chain; those that end there, and where.
fn led(
    question: &Question,
    gate: &GateRules,
    base: &Chain,
    ends: &mut dyn FnMut(&Packet) -> Option<Place>,
) -> Vec<(Packet, Place)> {
    let mut found = Vec::new();
    for (hook, is_v6, to) in ways(gate, base) {
        for range in &gate.ports {
            let mut stopped = Vec::new();
            for interface in &question.interfaces {
                let packet = Packet {
                    hook,
                    is_v6,
                    proto: range.proto,
                    port: range.first,
                    to,
                    interface: interface.clone(),
                };
                let place = ends(&packet);
                stopped.extend(place.map(|place| (packet, place)));
            }
            if !question.any_will_do || stopped.len() == question.interfaces.len() {
                found.extend(stopped);
            }
        }
    }
    found
}

/// How packets to the gate come through the chain: at which hook, of which family, and where to
/// if not to any address of ours.
fn ways(gate: &GateRules, base: &Chain) -> Vec<(Hook, bool, Option<IpAddr>)> {
    let mut hooks = Vec::new();
    match base.hook {
        Some(0) => hooks.extend([
            gate.hook.input().then_some((Hook::Prerouting, false)),
            gate.hook.forward().then_some((Hook::Prerouting, true)),
        ]),
        Some(1) => hooks.push(gate.hook.input().then_some((Hook::Input, false))),
        Some(2) => hooks.push(gate.hook.forward().then_some((Hook::Forward, true))),
        _ => {}
    }
    let families = match base.table.0 {
        IPV4 => &[false][..],
        IPV6 => &[true],
        _ => &[false, true],
    };
    let mut ways = Vec::new();
    for (hook, is_through) in hooks.into_iter().flatten() {
        let addresses = if is_through {
            &gate.forward_addresses
        } else {
            &gate.input_addresses
        };
        for &is_v6 in families {
            let of_family = |net: &&IpNet| matches!(net, IpNet::V6(_)) == is_v6;
            let to = addresses.iter().find(of_family);
            if !addresses.is_empty() && to.is_none() {
                // The gate does not guard that family.
                continue;
            }
            // To a network behind us: any host of it will do.
            let host = |net: &IpNet| net.hosts().next().unwrap_or(net.addr());
            let is_final = hook != Hook::Prerouting;
            let to = to.map(host).filter(|_| is_through || is_final);
            ways.push((hook, is_v6, to));
        }
    }
    ways
}
