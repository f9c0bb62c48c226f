//! What is said about a chain that is in the way, and what to do about it.

use std::collections::BTreeMap;

use super::packet::Packet;
use super::read::Chain;
use super::walk::Place;
use super::{BackendKind, GateRules, INET, IPV4, IPV6, Question, Verdict};

/// What ends where.
#[derive(Default)]
pub(super) struct Blocked(BTreeMap<(u8, String, String, Place), Means>);

#[derive(Default)]
struct Means {
    hint: String,
    /// For each port of each gate, by which family and interface.
    ports: BTreeMap<(String, String), (bool, bool)>,
    interfaces: Vec<String>,
}

impl Blocked {
    pub(super) fn add(
        &mut self,
        question: &Question,
        base: &Chain,
        names: &[String],
        gate: &GateRules,
        packet: &Packet,
        place: Place,
    ) {
        let (family, table) = base.table.clone();
        let key = (family, table, base.name.clone(), place);
        let means = self.0.entry(key).or_default();
        let port = format!("{}/{}", packet.port, packet.proto);
        if means.hint.is_empty() {
            means.hint = hint(base, names, packet);
            let is_iptables = base.table.0 != INET && base.table.1 == "filter";
            let other_way = match (question.backend, gate.verdict) {
                _ if !is_iptables => "",
                (BackendKind::Nftables, _) => ", or use `backend: iptables`",
                (BackendKind::Iptables, Verdict::Return) => ", or use `verdict: accept`",
                _ => "",
            };
            means.hint.push_str(other_way);
        }
        let by = means
            .ports
            .entry((gate.name.to_string(), port))
            .or_default();
        if packet.is_v6 {
            by.1 = true;
        } else {
            by.0 = true;
        }
        if !means.interfaces.contains(&packet.interface.0) {
            means.interfaces.push(packet.interface.0.clone());
        }
    }

    pub(super) fn sentences(self) -> Vec<String> {
        let sentence = |((family, table, base, place), means): (_, Means)| {
            let family = family_name(family);
            let place = match place {
                Place::Policy => format!("chain {base} (its policy is drop)"),
                Place::Rule(chain, number, handle) if chain == base => {
                    format!("rule {number} of chain {base} (handle {handle})")
                }
                Place::Rule(chain, number, handle) => {
                    format!("rule {number} of chain {chain} (handle {handle}, from chain {base})")
                }
            };
            let ports: Vec<String> = means
                .ports
                .into_iter()
                .map(|((gate, port), by)| {
                    let by = match by {
                        (true, true) => "",
                        (true, false) => " over IPv4",
                        _ => " over IPv6",
                    };
                    format!("{port}{by} (gate {gate})")
                })
                .collect();
            format!(
                "whoever knocks stays outside: {} of table {family} {table} drops new connections \
                 to {} from {}, whatever is accepted here; {}",
                place,
                ports.join(", "),
                means.interfaces.join(", "),
                means.hint
            )
        };
        self.0.into_iter().map(sentence).collect()
    }
}

fn family_name(family: u8) -> &'static str {
    match family {
        IPV4 => "ip",
        IPV6 => "ip6",
        _ => "inet",
    }
}

/// What to do, in the words of whoever made the table.
fn hint(base: &Chain, names: &[String], packet: &Packet) -> String {
    let (family, table) = &base.table;
    let Packet { port, proto, .. } = packet;
    let is_iptables = (*family == IPV4 || *family == IPV6) && table == "filter";
    let is_forward = base.hook == Some(2);
    let tool = if *family == IPV6 {
        "ip6tables"
    } else {
        "iptables"
    };
    if names.iter().any(|name| name.starts_with("ufw")) {
        let route = if is_forward { "route " } else { "" };
        return format!(
            "open the port there (`ufw {route}allow {port}/{proto}`), since this gate guards it"
        );
    }
    if table == "firewalld" {
        return format!(
            "open the port there (`firewall-cmd --permanent --add-port={port}/{proto}`, then \
             `firewall-cmd --reload`), since this gate guards it"
        );
    }
    if is_iptables && is_forward && names.iter().any(|name| name == "DOCKER-USER") {
        return format!(
            "open the port there (`{tool} -I DOCKER-USER -p {proto} --dport {port} -j ACCEPT`), \
             since this gate guards it"
        );
    }
    if is_iptables {
        return format!(
            "open the port there (`{tool} -I {} -p {proto} --dport {port} -j ACCEPT`), since \
             this gate guards it",
            base.name
        );
    }
    let family = family_name(*family);
    format!(
        "open the port there (`nft insert rule {family} {table} {} {proto} dport {port} accept`), \
         since this gate guards it",
        base.name
    )
}
