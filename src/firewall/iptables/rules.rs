//! The rules of the gates, as `iptables-restore` reads them.
//!
//! With `verdict: accept` a new connection meets, for each port of a gate: [banned] ·
//! established accept · [sessions from before] · `<gate>_policy`: banned → trusted → filter →
//! LOG → DROP, where the member chains accept.
//!
//! With `verdict: return` an accepted packet has to go back through two chains to the one that
//! sent it here, past LOG and DROP. A packet that a `-g` (goto) has sent on does not come back to
//! the chain with the goto when it reaches the end of the other one, but to that chain's caller.
//! So `<gate>_policy` itself asks the sets of trusted and filter, and those who are in one *go*
//! to its chain, which returns: to INPUT, after our rules. No marks are needed, which other
//! people's rules might use too. Established traffic is then not accepted, but only spared the
//! jump.

use super::names::{COMMENT, Family, Role, chains, member_chain, policy_chain, set_name};
use super::saved::Rule;
use crate::firewall::GateRules;
use crate::model::{Chain, PortRange, Proto};
use crate::policy::Verdict;

/// Which of the sets for sessions from before a gate has, in one family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Earlier {
    pub(super) session: bool,
    pub(super) grace: bool,
}

/// A built-in chain that we put rules at the head of.
pub(super) const BASES: [&str; 2] = ["INPUT", "FORWARD"];

/// A SYN opens a session; a packet without it belongs to one, or to nothing.
const NO_SYN: &str = "--tcp-flags SYN NONE";
const ESTABLISHED: &str = "--ctstate RELATED,ESTABLISHED";

/// What has to be in the filter table of one family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) chains: Vec<String>,
    /// In their chains, which hold nothing else.
    pub(super) rules: Vec<Rule>,
    /// At the head of INPUT and FORWARD.
    pub(super) base: Vec<Rule>,
}

impl Wanted {
    pub(super) fn new(family: Family, gates: &[(&GateRules, Earlier)]) -> Self {
        let mut wanted = Self::default();
        for (gate, earlier) in gates {
            wanted.chains.extend(chains(&gate.name));
            wanted.policy(family, gate, *earlier);
            for chain in Chain::ALL {
                wanted.members(family, gate, chain);
            }
        }
        for base in BASES {
            for (gate, earlier) in gates {
                let hooked = match base {
                    "INPUT" => gate.hook.input(),
                    _ => gate.hook.forward(),
                };
                if hooked {
                    wanted.base(family, gate, *earlier, base);
                }
            }
        }
        wanted
    }

    fn rule(&mut self, chain: &str, conditions: &str, target: &str) {
        self.rules.push(rule(chain, conditions, target));
    }

    fn policy(&mut self, family: Family, gate: &GateRules, earlier: Earlier) {
        let chain = policy_chain(&gate.name);
        let returns = gate.verdict == Verdict::Return;
        if returns {
            for conditions in earlier_sessions(family, gate, earlier, None) {
                self.rule(&chain, &format!("-p tcp -m tcp {conditions}"), "-j RETURN");
            }
        }
        let [banned, trusted, filter] = Chain::ALL.map(|c| member_chain(&gate.name, c));
        self.rule(&chain, "", &format!("-j {banned}"));
        if returns {
            let is_trusted = in_members(family, gate, Chain::Trusted);
            let is_accepted = in_members(family, gate, Chain::Filter);
            self.rule(&chain, &is_trusted, &format!("-g {trusted}"));
            self.rule(&chain, &is_accepted, &format!("-g {filter}"));
            if gate.once {
                let is_open = in_set(&set_name(&gate.name, Role::Open(family)));
                self.rule(&chain, &is_open, &format!("-g {filter}"));
            }
        } else {
            self.rule(&chain, "", &format!("-j {trusted}"));
            self.rule(&chain, "", &format!("-j {filter}"));
        }
        if gate.log_drops {
            self.rule(
                &chain,
                "-m limit --limit 10/min --limit-burst 5",
                "-j LOG --log-prefix \"[knockd,drop] \" --log-level 6",
            );
        }
        self.rule(&chain, "", "-j DROP");
    }

    fn members(&mut self, family: Family, gate: &GateRules, chain: Chain) {
        let name = member_chain(&gate.name, chain);
        let is_member = in_members(family, gate, chain);
        let verdict = match (chain, gate.verdict) {
            (Chain::Banned, _) => "-j DROP",
            (_, Verdict::Accept) => "-j ACCEPT",
            (_, Verdict::Return) => "-j RETURN",
        };
        if chain != Chain::Filter || !gate.once {
            self.rule(&name, &is_member, verdict);
            return;
        }
        let is_open = in_set(&set_name(&gate.name, Role::Open(family)));
        self.rule(&name, &is_open, verdict);
        if gate.verdict == Verdict::Accept {
            let is_none = format!("-m set ! {}", &is_member["-m set ".len()..]);
            self.rule(&name, &is_none, "-j RETURN");
        }
        let set = set_name(&gate.name, Role::Members(Chain::Filter, family));
        self.rule(&name, "", &format!("-j SET --del-set {set} src"));
        self.rule(&name, "", verdict);
    }

    fn base(&mut self, family: Family, gate: &GateRules, earlier: Earlier, base: &str) {
        let addresses = if base == "INPUT" {
            &gate.input_addresses
        } else {
            &gate.forward_addresses
        };
        let destinations: Vec<String> = if addresses.is_empty() {
            vec![String::new()]
        } else {
            let of_family = addresses.iter().filter(|n| Family::of(**n) == family);
            of_family.map(|net| format!("-d {net}")).collect()
        };
        // Loopback is never gated.
        let arriving = if base == "INPUT" { "! -i lo" } else { "" };
        for destination in &destinations {
            for range in &gate.ports {
                let to = joined(&[destination, arriving, &ports(*range)]);
                let mut rule = |conditions: &str, target: &str| {
                    let conditions = joined(&[&to, conditions]);
                    self.base.push(self::rule(base, &conditions, target));
                };
                if gate.cut_sessions {
                    let banned = member_chain(&gate.name, Chain::Banned);
                    rule("", &format!("-j {banned}"));
                }
                let policy = format!("-j {}", policy_chain(&gate.name));
                if gate.verdict == Verdict::Return {
                    rule(&format!("-m conntrack ! {ESTABLISHED}"), &policy);
                    continue;
                }
                rule(&format!("-m conntrack {ESTABLISHED}"), "-j ACCEPT");
                if range.proto == Proto::Tcp {
                    for conditions in earlier_sessions(family, gate, earlier, Some(base)) {
                        rule(&conditions, "-j ACCEPT");
                    }
                }
                rule("", &policy);
            }
        }
    }

    /// What makes a table as found this one, in one commit: chains emptied and filled, our old
    /// jumps taken out, the new ones put in last.
    pub(super) fn input(&self, remove: &[Rule], gone: &[String]) -> String {
        let mut lines = vec!["*filter".to_owned()];
        let chains = self.chains.iter().chain(gone);
        // Makes a chain, or empties it.
        lines.extend(chains.map(|chain| format!(":{chain} - [0:0]")));
        lines.extend(
            self.rules
                .iter()
                .map(|r| format!("-A {} {}", r.chain, r.text)),
        );
        lines.extend(remove.iter().map(|r| format!("-D {} {}", r.chain, r.text)));
        for base in BASES {
            let rules = self.base.iter().filter(|rule| rule.chain == base);
            let place =
                |(index, rule): (usize, &Rule)| format!("-I {base} {} {}", index + 1, rule.text);
            lines.extend(rules.enumerate().map(place));
        }
        lines.extend(gone.iter().map(|chain| format!("-X {chain}")));
        lines.push("COMMIT\n".to_owned());
        lines.join("\n")
    }
}

fn joined(parts: &[&str]) -> String {
    let parts: Vec<&str> = parts.iter().copied().filter(|p| !p.is_empty()).collect();
    parts.join(" ")
}

fn rule(chain: &str, conditions: &str, target: &str) -> Rule {
    let comment = format!("-m comment --comment {COMMENT}");
    Rule {
        chain: chain.to_owned(),
        text: joined(&[conditions, &comment, target]),
    }
}

fn in_set(set: &str) -> String {
    format!("-m set --match-set {set} src")
}

fn in_members(family: Family, gate: &GateRules, chain: Chain) -> String {
    in_set(&set_name(&gate.name, Role::Members(chain, family)))
}

fn ports(range: PortRange) -> String {
    let ports = if range.first == range.last {
        range.first.to_string()
    } else {
        format!("{}:{}", range.first, range.last)
    };
    format!("-p {0} -m {0} --dport {ports}", range.proto)
}

/// What packets of sessions that were open before the gate was look like.
fn earlier_sessions(
    family: Family,
    gate: &GateRules,
    earlier: Earlier,
    base: Option<&str>,
) -> Vec<String> {
    let mut conditions = Vec::new();
    if earlier.session && base != Some("FORWARD") {
        let set = set_name(&gate.name, Role::Session(family));
        conditions.push(format!("{NO_SYN} -m set --match-set {set} src,src"));
    }
    if earlier.grace && base != Some("INPUT") {
        let set = set_name(&gate.name, Role::Grace(family));
        conditions.push(format!("{NO_SYN} {}", in_set(&set)));
    }
    conditions
}
