//! The `gates` section.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::{GateName, Lifetime, PortError, PortRange, canonical_net, host_net};

use super::node::{At, Node, Value};
use super::problem::quote;
use super::reader::{Fields, Reader};
use super::{BackendChoice, Gate, GateAddress, Hook, Verdict, settings};
use crate::model::is_host_name;

/// More are surely a mistake; each gate costs rules that every packet may meet.
pub(super) const MOST_GATES: usize = 64;
const MOST_PORTS: usize = 128;

const KEYS: [&str; 10] = [
    "ports",
    "address",
    "hook",
    "accept_timeout",
    "ban_timeout",
    "verdict",
    "once",
    "log_drops",
    "cut_sessions",
    "ipv6_prefix",
];

pub(super) const A_GATE_NAME: &str =
    "a gate name: a small letter, then up to 15 small letters or digits";
const PORTS: &str = "a list of ports such as `[22]` or `[\"60000-61000/udp\"]`";

/// A gate with the places that later checks point at. Fields that could not be read have their
/// defaults; the policy is refused then anyway.
pub(super) struct PlacedGate {
    pub(super) gate: Gate,
    pub(super) at: At,
    /// Beside `gate.ports`.
    pub(super) ports_at: Vec<At>,
}

/// Reads all gates; `None` if there are none to speak of.
pub(super) fn read(
    reader: &mut Reader,
    node: &Node,
    backend: BackendChoice,
) -> Option<Vec<PlacedGate>> {
    let entries = reader.entries(node, "a mapping of gate names to gates")?;
    if let Some((name, at, _)) = entries.get(MOST_GATES) {
        let found = format!("{} as the {}th gate", quote(name), MOST_GATES + 1);
        reader.error(*at, found, format!("at most {MOST_GATES} gates"));
        return None;
    }
    let mut gates = Vec::with_capacity(entries.len());
    for (name, at, body) in entries {
        if name == "all" {
            reader.error(
                at,
                "`all` as a gate's name",
                "another name, since `gate: all` means every gate",
            );
            continue;
        }
        let Ok(name) = GateName::new(name) else {
            reader.error(at, quote(name), A_GATE_NAME);
            continue;
        };
        if let Some(gate) = gate(reader, name, at, body, backend) {
            gates.push(gate);
        }
    }
    Some(gates)
}

fn gate(
    reader: &mut Reader,
    name: GateName,
    at: At,
    body: &Node,
    backend: BackendChoice,
) -> Option<PlacedGate> {
    let fields = reader.fields(body, "a mapping with at least `ports`", &KEYS)?;
    let (ports, ports_at) = ports(reader, &fields, &name, at);
    let hook = fields.get("hook").and_then(|node| {
        let words = [
            ("input", Hook::Input),
            ("forward", Hook::Forward),
            ("both", Hook::Both),
        ];
        reader.choice(node, &words)
    });
    let hook = hook.unwrap_or(Hook::Input);
    let address = fields.get("address").and_then(|node| address(reader, node));
    if hook.forward() {
        behind_us(reader, &fields, at, address.as_ref());
    }
    let minutes = Lifetime::For(std::time::Duration::from_secs(300));
    let gate = Gate {
        ports,
        address,
        hook,
        accept_timeout: accept_timeout(reader, &fields).unwrap_or(minutes),
        ban_timeout: fields
            .get("ban_timeout")
            .and_then(|node| reader.lifetime(node))
            .unwrap_or(Lifetime::Never),
        verdict: verdict(reader, &fields, backend).unwrap_or(Verdict::Accept),
        once: flag(reader, &fields, "once", false),
        log_drops: flag(reader, &fields, "log_drops", true),
        cut_sessions: flag(reader, &fields, "cut_sessions", false),
        ipv6_prefix: fields
            .get("ipv6_prefix")
            .and_then(|node| reader.choice(node, &[("128", 128), ("64", 64)]))
            .unwrap_or(128),
        name,
    };
    Some(PlacedGate { gate, at, ports_at })
}

fn flag(reader: &mut Reader, fields: &Fields<'_>, key: &str, default: bool) -> bool {
    let value = fields.get(key).and_then(|node| reader.boolean(node));
    value.unwrap_or(default)
}

fn accept_timeout(reader: &mut Reader, fields: &Fields<'_>) -> Option<Lifetime> {
    let node = fields.get("accept_timeout")?;
    let lifetime = reader.lifetime(node)?;
    if lifetime == Lifetime::Never {
        reader.warn(
            node.at,
            "`accept_timeout: never`",
            "a time such as `300s`",
            "whoever knocks once stays accepted until somebody flushes it",
        );
    }
    Some(lifetime)
}

fn verdict(reader: &mut Reader, fields: &Fields<'_>, backend: BackendChoice) -> Option<Verdict> {
    let node = fields.get("verdict")?;
    let words = [("accept", Verdict::Accept), ("return", Verdict::Return)];
    let verdict = reader.choice(node, &words)?;
    if verdict == Verdict::Return && backend == BackendChoice::Nftables {
        reader.warn(
            node.at,
            "`verdict: return`",
            "`accept`",
            "it has no effect with nftables, whose other tables see an accepted packet anyway",
        );
    }
    Some(verdict)
}

fn ports(
    reader: &mut Reader,
    fields: &Fields<'_>,
    name: &GateName,
    at: At,
) -> (Vec<PortRange>, Vec<At>) {
    let (mut ports, mut places) = (Vec::new(), Vec::new());
    let Some(node) = fields.get("ports") else {
        reader.error(at, format!("the gate `{name}` without `ports`"), PORTS);
        return (ports, places);
    };
    let Some(items) = reader.items(node, PORTS) else {
        return (ports, places);
    };
    if items.is_empty() || items.len() > MOST_PORTS {
        let found = if items.is_empty() {
            String::from("an empty list")
        } else {
            format!("{} ports", items.len())
        };
        reader.error(node.at, found, format!("1 to {MOST_PORTS} ports or ranges"));
        return (ports, places);
    }
    for item in items {
        let Some(range) = port_range(reader, item) else {
            continue;
        };
        if let Some(earlier) = ports.iter().find(|earlier| range.overlaps(**earlier)) {
            let found = format!("{range}, which `{earlier}` already covers in part or whole");
            reader.error(item.at, found, "each port once");
            continue;
        }
        ports.push(range);
        places.push(item.at);
    }
    (ports, places)
}

fn port_range(reader: &mut Reader, item: &Node) -> Option<PortRange> {
    let expected = "a port from 1 to 65535 or a range, such as `22`, `22/tcp` or `60000-61000/udp`";
    let word = reader.text(item, expected)?;
    let problem = match word.parse() {
        Ok(range) => return Some(range),
        Err(problem) => problem,
    };
    match problem {
        PortError::Empty(first, last) => {
            let help = Some(format!("did you mean `{last}-{first}`?"));
            reader.error_with(item.at, item.shown(), "the smaller port first", help);
        }
        PortError::Proto(_) => {
            reader.error(item.at, item.shown(), "`/tcp` or `/udp` after the port");
        }
        PortError::Number(_) => {
            let help = word
                .split_once(':')
                .map(|(port, proto)| format!("{port}/{proto}"))
                .filter(|text| text.parse::<PortRange>().is_ok())
                .map(|text| format!("did you mean `{text}`?"));
            reader.error_with(item.at, item.shown(), expected, help);
        }
    }
    None
}

fn address(reader: &mut Reader, node: &Node) -> Option<GateAddress> {
    let expected = "an address, a network or a host name";
    let word = reader.text(node, expected)?;
    let net = match word.parse::<IpAddr>() {
        Ok(address) => Some(host_net(address)),
        Err(_) => word.parse::<IpNet>().ok(),
    };
    match net {
        Some(net) if net.prefix_len() == 0 => {
            let help = Some("leave `address` out to guard every address of this host".into());
            reader.error_with(
                node.at,
                node.shown(),
                "a network smaller than everything",
                help,
            );
            None
        }
        Some(net) => Some(GateAddress::Net(canonical_net(net))),
        None if is_host_name(word) => Some(GateAddress::Name(word.to_owned())),
        None => {
            reader.wrong(node, expected);
            None
        }
    }
}

/// Forwarded traffic is only ours to guard on the way to a place that is named: without it, or
/// while a name does not resolve, everything that passes through would be gated.
fn behind_us(reader: &mut Reader, fields: &Fields<'_>, at: At, address: Option<&GateAddress>) {
    let hook_at = fields.get("hook").map_or(at, |node| node.at);
    match (fields.get("address"), address) {
        (None, _) => reader.error(
            hook_at,
            "a gate for forwarded traffic without `address`",
            "`address` with the address or network behind this host",
        ),
        (Some(node), Some(GateAddress::Name(name))) => reader.error(
            node.at,
            format!("the host name `{name}` on a gate for forwarded traffic"),
            "an address or a network behind this host",
        ),
        _ => {}
    }
}

/// Says that there is no gate where there has to be one.
pub(super) fn required(reader: &mut Reader, node: Option<&Node>, start: At, example: &str) {
    match node {
        None => settings::required(reader, start, "gates", example),
        Some(node) if matches!(&node.value, Value::Map(pairs) if pairs.is_empty()) => {
            reader.error(node.at, "no gate", "at least one under `gates`");
        }
        // What is wrong with it is said already.
        Some(_) => {}
    }
}

/// The names under `gates`, sound or not, for knocks to refer to.
pub(super) fn names(node: &Node) -> Vec<GateName> {
    let Value::Map(pairs) = &node.value else {
        return Vec::new();
    };
    let names = pairs.iter().filter_map(|(key, _)| key.word());
    let names = names.filter_map(|name| GateName::new(name).ok());
    names.take(MOST_GATES).collect()
}
