//! Knock ports that nothing serves are kept from connection tracking: a flood of forged knocks
//! would fill its table, and nobody could connect any more.
//!
//! A chain of ours in the raw tables, for packets to an address of our own that no connection of
//! this host can be waiting for: a SYN alone, or a datagram.

use std::time::Instant;

use super::Iptables;
use super::names::{COMMENT, Family};
use super::saved::{Rule, Saved};
use super::tool::Tool;
use crate::firewall::FirewallError;
use crate::model::{KnockPort, Proto};

const TABLE: &str = "raw";
const BASE: &str = "PREROUTING";
const CHAIN: &str = "knockd_untracked";
/// `XT_MULTI_PORTS`: more do not fit into a rule.
const AT_ONCE: usize = 15;

/// What is not tracked.
#[derive(Debug, Clone, Default)]
pub(super) struct Untracked {
    /// `None` until somebody says which.
    ports: Option<Vec<KnockPort>>,
    /// The rules as they were read back: the chain's, and those that lead to it.
    read: Vec<(Family, [Vec<Rule>; 2])>,
}

impl Untracked {
    /// What is not as it was written.
    pub(super) fn verify(&self, family: Family, text: &str) -> Option<String> {
        let (_, written) = self.read.iter().find(|(of, _)| *of == family)?;
        let is_there = own(&Saved::parse_table(text, TABLE)) == *written;
        let program = match family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        (!is_there).then(|| format!("{program}: chain {CHAIN} of the raw table is altered"))
    }
}

/// Our rules in the raw table: the chain's, and those that lead to it.
fn own(raw: &Saved) -> [Vec<Rule>; 2] {
    let in_chain = raw.rules_of(CHAIN).cloned().collect();
    let leads = |rule: &&Rule| rule.target().as_deref() == Some(CHAIN);
    [
        in_chain,
        raw.rules_of(BASE).filter(leads).cloned().collect(),
    ]
}

/// The chain's rules and the conditions to get there.
fn rules(ports: &[KnockPort]) -> (Vec<String>, Vec<String>) {
    let (mut inner, mut jumps) = (Vec::new(), Vec::new());
    for proto in [Proto::Tcp, Proto::Udp] {
        let of_proto = ports.iter().filter(|port| port.proto == proto);
        let of_proto: Vec<String> = of_proto.map(|port| port.port.to_string()).collect();
        if of_proto.is_empty() {
            continue;
        }
        let opening = match proto {
            Proto::Tcp => "-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN",
            Proto::Udp => "-p udp",
        };
        jumps.push(format!(
            "{opening} -m addrtype --dst-type LOCAL -m comment --comment {COMMENT} -j {CHAIN}"
        ));
        inner.extend(of_proto.chunks(AT_ONCE).map(|some| {
            let ports = some.join(",");
            format!(
                "-p {proto} -m multiport --dports {ports} -m comment --comment {COMMENT} \
                 -j CT --notrack"
            )
        }));
    }
    (inner, jumps)
}

/// What makes a raw table as found one that keeps these ports from being tracked; with no ports
/// nothing of ours is left.
fn input(raw: &Saved, ports: &[KnockPort]) -> String {
    let (inner, jumps) = rules(ports);
    let mut lines = vec![format!("*{TABLE}")];
    // Makes the chain, or empties it.
    lines.push(format!(":{CHAIN} - [0:0]"));
    lines.extend(inner.iter().map(|rule| format!("-A {CHAIN} {rule}")));
    let [_, old] = own(raw);
    lines.extend(old.iter().map(|rule| format!("-D {BASE} {}", rule.text)));
    let places = (1..).zip(&jumps);
    lines.extend(places.map(|(place, rule)| format!("-I {BASE} {place} {rule}")));
    if ports.is_empty() {
        lines.push(format!("-X {CHAIN}"));
    }
    lines.push("COMMIT\n".to_owned());
    lines.join("\n")
}

pub(super) fn untrack(
    backend: &mut Iptables,
    ports: &[KnockPort],
    until: Instant,
) -> Result<(), FirewallError> {
    if backend.untracked.ports.as_deref() == Some(ports) {
        return Ok(());
    }
    if ports.is_empty() {
        remove(backend, until)?;
    } else {
        write(backend, ports, until)?;
    }
    backend.untracked.ports = Some(ports.to_vec());
    Ok(())
}

fn write(backend: &mut Iptables, ports: &[KnockPort], until: Instant) -> Result<(), FirewallError> {
    backend.untracked = Untracked::default();
    for (family, tool) in &backend.tools {
        let raw = Saved::parse_table(&tool.read(until)?, TABLE);
        if let Some(tables) = &mut backend.tables {
            tables.make((*family, TABLE))?;
        }
        carry_out(tool, &input(&raw, ports), until)?;
        let read = own(&Saved::parse_table(&tool.read(until)?, TABLE));
        let (inner, jumps) = rules(ports);
        if (read[0].len(), read[1].len()) != (inner.len(), jumps.len()) {
            let object = format!("chain {CHAIN} is not as it was written");
            return Err(FirewallError::Unverified(object));
        }
        backend.untracked.read.push((*family, read));
    }
    Ok(())
}

/// Removes what is there of ours in the raw tables, whoever wrote it.
pub(super) fn remove(backend: &mut Iptables, until: Instant) -> Result<(), FirewallError> {
    backend.untracked = Untracked::default();
    for (family, tool) in &backend.tools {
        let raw = Saved::parse_table(&tool.read(until)?, TABLE);
        if !raw.has_chain(CHAIN) {
            continue;
        }
        carry_out(tool, &input(&raw, &[]), until)?;
        if let Some(tables) = &mut backend.tables {
            let generation = tables.generation()?;
            if Saved::parse_table(&tool.read(until)?, TABLE).is_bare() {
                tables.delete((*family, TABLE), generation)?;
            }
        }
    }
    Ok(())
}

/// Writes it again where somebody has taken it out; where that fails it is gone, and may be asked
/// for anew.
pub(super) fn put_back(backend: &mut Iptables, until: Instant) {
    let Some(ports) = backend.untracked.ports.clone() else {
        return;
    };
    let Ok(texts) = backend.texts(until) else {
        return;
    };
    let mut altered = texts
        .iter()
        .map(|(f, text)| backend.untracked.verify(*f, text));
    if altered.any(|problem| problem.is_some()) && write(backend, &ports, until).is_ok() {
        backend.untracked.ports = Some(ports);
    }
}

fn carry_out(tool: &Tool, input: &str, until: Instant) -> Result<(), FirewallError> {
    let ended = tool.write(input, until)?;
    if ended.code == Some(0) {
        return Ok(());
    }
    Err(ended.into_error("write the raw table with", &tool.restore))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_ports_are_two_rules_and_old_jumps_go() {
        let ports: Vec<KnockPort> = (1..=20).map(KnockPort::tcp).collect();
        let raw = Saved::parse_table(
            "*raw\n:PREROUTING ACCEPT [0:0]\n:knockd_untracked - [0:0]\n\
             -A PREROUTING -p udp -j knockd_untracked\n-A PREROUTING -j other\nCOMMIT\n\
             *filter\n:x - [0:0]\nCOMMIT\n",
            TABLE,
        );
        assert!(!raw.has_chain("x"));
        let text = input(&raw, &ports);
        assert_eq!(text.matches("-j CT --notrack").count(), 2, "{text}");
        assert!(text.contains("--dports 16,17,18,19,20 "), "{text}");
        assert!(
            text.contains("\n-D PREROUTING -p udp -j knockd_untracked\n"),
            "{text}"
        );
        assert_eq!(text.matches("\n-I PREROUTING").count(), 1, "{text}");
        assert_eq!(
            input(&raw, &[]),
            "*raw\n:knockd_untracked - [0:0]\n-D PREROUTING -p udp -j knockd_untracked\n\
             -X knockd_untracked\nCOMMIT\n"
        );
    }
}
