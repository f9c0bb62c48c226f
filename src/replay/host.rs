//! What is known about the host before the capture is looked at.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Order;
use super::interface::Listening;
use super::link::Mac;
use super::survey::Found;
use crate::matcher::Timed;
use crate::model::{Proto, canonical, host_net};
use crate::policy::{GateAddress, Interfaces, Policy, unlabelled};
use crate::sheets;
use crate::whitelist::{self, Host as Listed};

/// What is known about the host besides its policy.
#[derive(Debug, Default)]
pub(super) struct Host {
    pub(super) addresses: Vec<IpAddr>,
    /// The card of an interface, as far as the capture shows it.
    pub(super) cards: BTreeMap<Option<u32>, Mac>,
    pub(super) listening: Vec<u16>,
    /// TCP ports of one-time sequences.
    pub(super) sheets: Vec<u16>,
    pub(super) trusted: Vec<(IpNet, String)>,
    pub(super) broadcast: Vec<IpAddr>,
    pub(super) listens: Listening,
    pub(super) only_ipv4: bool,
    pub(super) timed: Timed,
}

/// What order and policy tell of the host.
pub(super) fn told(order: &Order, policy: &Policy) -> Host {
    let mut host = Host {
        addresses: order.addresses.iter().copied().map(canonical).collect(),
        listening: order.listening.clone().unwrap_or_default(),
        broadcast: order.broadcast.clone(),
        listens: Listening::on(interfaces(order, policy), order.known.clone()),
        only_ipv4: order.only_ipv4,
        ..Host::default()
    };
    let gates = policy.gates.iter().filter(|gate| gate.hook.input());
    let of_gates = gates.filter_map(|gate| match gate.address {
        Some(GateAddress::Net(net)) if net == host_net(net.addr()) => Some(net.addr()),
        _ => None,
    });
    if host.addresses.is_empty() {
        host.addresses.extend(of_gates);
    }
    host
}

/// Where the daemon would listen.
fn interfaces(order: &Order, policy: &Policy) -> Interfaces {
    match order.interface.as_deref() {
        Some("any") => Interfaces::Any,
        Some(name) => Interfaces::Named(vec![unlabelled(name).to_owned()]),
        None => policy.interfaces.clone(),
    }
}

/// What was guessed about the host's addresses beyond these: more depends on it than on anything else.
pub(super) fn guessed(known: &[IpAddr], found: &Found) -> Vec<String> {
    let cards: Vec<String> = found.cards.values().copied().map(card).collect();
    let cards = if cards.is_empty() {
        String::new()
    } else {
        format!(" (its network card is {})", cards.join(", "))
    };
    let mut warnings = Vec::new();
    let own = found.own.iter().filter(|address| !known.contains(address));
    if let Some(own) = listed(own) {
        warnings.push(format!(
            "taken for this host's, since they are knocked on: {own}{cards}; name all that it has \
             with --address"
        ));
    }
    if let Some(unclear) = listed(found.unclear.iter()) {
        warnings.push(format!(
            "{unclear} knock on each other, and which of them are this host's is not clear: none is \
             taken to be{cards}; name those that are with --address"
        ));
    }
    if warnings.is_empty() && known.is_empty() {
        warnings.push(format!(
            "nobody knocks on this host{cards} in this capture, so that it does not show which \
             addresses are its own: name them with --address"
        ));
    }
    warnings
}

/// The first of them, and how many more there are; `None` if there are none.
fn listed<'a>(addresses: impl Iterator<Item = &'a IpAddr>) -> Option<String> {
    const MOST: usize = 8;
    let addresses: Vec<String> = addresses.map(ToString::to_string).collect();
    let first = &addresses[..addresses.len().min(MOST)];
    match addresses.len() - first.len() {
        0 if first.is_empty() => None,
        0 => Some(first.join(", ")),
        more => Some(format!("{} and {more} more", first.join(", "))),
    }
}

fn card(mac: Mac) -> String {
    let bytes: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}

/// Knocks that the daemon takes and that are not taken here: which of its sequences counted at the
/// time nobody knows afterwards.
pub(super) fn untaken(policy: &Policy) -> impl Iterator<Item = String> {
    let knocks = policy.knocks.iter();
    let one_time = knocks.filter(|knock| knock.one_time().is_some());
    one_time.map(|knock| {
        format!(
            "{}: its sequences are used up live, each by one knock; not replayed",
            knock.name
        )
    })
}

/// The TCP ports of one-time sequences, used up or not. They are not to look foreign: whoever knocks
/// on them is no sweeper.
pub(super) fn sheets(policy: &Policy, warnings: &mut Vec<String>) -> Vec<u16> {
    let mut found = Vec::new();
    for knock in &policy.knocks {
        let Some(file) = knock.one_time() else {
            continue;
        };
        match sheets::every_port(file) {
            Ok(ports) => {
                let tcp = ports.iter().filter(|port| port.proto == Proto::Tcp);
                found.extend(tcp.map(|port| port.port));
            }
            Err(error) => warnings.push(format!(
                "{}: {error}; whoever knocks its sequences may seem to sweep ports: have it readable \
                 here",
                knock.name
            )),
        }
    }
    found
}

/// Whom the whitelist trusts, but for its names.
pub(super) fn trusted(policy: &Policy, warnings: &mut Vec<String>) -> Vec<(IpNet, String)> {
    let Some(file) = &policy.trusted else {
        return Vec::new();
    };
    let parsed = match whitelist::load(file) {
        Ok(parsed) => parsed,
        Err(error) => {
            warnings.push(format!("{error}; nobody is trusted"));
            return Vec::new();
        }
    };
    for bad in &parsed.bad {
        warnings.push(format!("{}: {bad}; skipped", file.display()));
    }
    if parsed.more_bad > 0 {
        warnings.push(format!("and {} more bad lines", parsed.more_bad));
    }
    warnings.extend(parsed.doubts(file));
    let names = parsed.counts().names;
    if names > 0 {
        warnings.push(format!(
            "{}: host names are not looked up ({names}): whoever they stand for is not trusted here",
            file.display()
        ));
    }
    let entries = parsed.entries.iter();
    let nets = entries.filter_map(|entry| match &entry.host {
        Listed::Net(net) => Some((*net, entry.reason(file))),
        Listed::Name(_) => None,
    });
    nets.collect()
}
