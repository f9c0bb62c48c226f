//! What is known about the host before the capture is looked at.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Order;
use super::interface::Listening;
use crate::matcher::Timed;
use crate::model::{canonical, host_net};
use crate::policy::{GateAddress, Interfaces, Policy, unlabelled};
use crate::whitelist::{self, Host as Listed};

/// What is known about the host besides its policy.
#[derive(Debug, Default)]
pub(super) struct Host {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) listening: Vec<u16>,
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
