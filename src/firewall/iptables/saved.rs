//! What `iptables-save` says: which rules are ours, which are the original script's, which are
//! somebody else's.

use std::net::IpAddr;

use ipnet::IpNet;

use super::above::Guarded;
use super::names::{COMMENT, chains, member_chain, parse_chain, policy_chain};
use crate::model::{Chain, GateName};

/// The filter table of one family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Saved {
    /// Names, with the policies of built-in chains.
    pub(super) chains: Vec<(String, Option<String>)>,
    pub(super) rules: Vec<Rule>,
}

/// A rule as it was printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) chain: String,
    /// Without `-A` and the chain.
    pub(super) text: String,
}

/// Whose chains of a gate's names are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// There are none.
    Absent,
    /// Ours.
    Ours,
    /// The original script's, with a rule for each of these members.
    Original(Vec<(Chain, IpNet)>),
    /// Somebody else's, and what is strange about them.
    Foreign(String),
}

/// Words, of which quoted ones may contain spaces.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut word: Option<String> = None;
    let (mut quoted, mut escaped) = (false, false);
    for c in text.chars() {
        match c {
            _ if escaped => {
                word.get_or_insert_default().push(c);
                escaped = false;
            }
            '\\' if quoted => escaped = true,
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => all.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    all.extend(word);
    all
}

impl Rule {
    fn value(words: &[String], keys: &[&str]) -> Option<String> {
        let mut pairs = words.windows(2);
        pairs
            .find(|pair| keys.contains(&pair[0].as_str()))
            .map(|pair| pair[1].clone())
    }

    /// Whether it has our comment.
    pub(super) fn is_ours(&self) -> bool {
        Self::value(&words(&self.text), &["--comment"]).as_deref() == Some(COMMENT)
    }

    /// Whether it is for what has been let in before, or for loopback, which we let be as well.
    fn is_for_known_sessions(&self) -> bool {
        let words = words(&self.text);
        let states = Self::value(&words, &["--ctstate", "--state"]);
        let negated = words.iter().any(|word| word == "!");
        let old = |state: &str| matches!(state, "ESTABLISHED" | "RELATED");
        let known = states.is_some_and(|states| states.split(',').all(old));
        !negated && (known || Self::value(&words, &["-i"]).as_deref() == Some("lo"))
    }

    /// Where it sends a packet.
    pub(super) fn target(&self) -> Option<String> {
        Self::value(&words(&self.text), &["-j", "-g", "--jump", "--goto"])
    }

    /// What has to be the same in a rule as written and as read back, in whatever order and
    /// wording a release of iptables prints the rest: where it goes, and each condition that says
    /// which packets it is for, with its negation.
    pub(super) fn essence(&self) -> (Option<String>, Vec<String>) {
        let words = words(&self.text);
        let word = |index: usize| words.get(index).map_or("", String::as_str);
        let mut conditions: Vec<String> = Vec::new();
        for (index, key) in words.iter().enumerate() {
            let value = word(index + 1);
            let value = match key.as_str() {
                "--match-set" | "--del-set" => format!("{value} {}", word(index + 2)),
                "-s" | "-d" => {
                    let alone = || value.parse::<IpAddr>().ok().map(IpNet::from);
                    let net = value.parse::<IpNet>().ok().or_else(alone);
                    net.map_or(value.to_owned(), |net| net.trunc().to_string())
                }
                "--ctstate" => {
                    let mut states: Vec<&str> = value.split(',').collect();
                    states.sort_unstable();
                    states.join(",")
                }
                "-i" | "-o" | "--dport" => value.to_owned(),
                _ => continue,
            };
            let is_not = index > 0 && word(index - 1) == "!";
            let not = if is_not { "! " } else { "" };
            conditions.push(format!("{not}{key} {value}"));
        }
        conditions.sort_unstable();
        (self.target(), conditions)
    }

    /// The source it is limited to, if it is nothing but that: no other condition but
    /// interface, protocol and port.
    fn source(words: &[String]) -> Option<IpNet> {
        let text = Self::value(words, &["-s"])?;
        let negated = words
            .windows(2)
            .any(|pair| pair[0] == "!" && pair[1] == "-s");
        let alone = || text.parse::<IpAddr>().ok().map(IpNet::from);
        let net = text.parse::<IpNet>().ok().or_else(alone)?;
        (!negated).then_some(net)
    }
}

impl Saved {
    /// Whether a rule of somebody else, before ours, lets nobody in who would not get in anyway: it
    /// accepts nothing new of what we guard, nor does a chain that it leads to. fail2ban's are such.
    pub(super) fn only_takes_away(&self, rule: &Rule, guarded: &Guarded) -> bool {
        !rule.is_ours() && !self.may_accept(rule, guarded, &mut Vec::new())
    }

    fn may_accept(&self, rule: &Rule, guarded: &Guarded, seen: &mut Vec<String>) -> bool {
        let Some(target) = rule.target() else {
            return false;
        };
        let is_harmless = rule.is_for_known_sessions() || !guarded.may_meet(rule);
        if is_harmless || seen.contains(&target) {
            return false;
        }
        match target.as_str() {
            "DROP" | "REJECT" | "LOG" | "NFLOG" | "RETURN" | "MARK" | "CONNMARK" | "SET"
            | "TRACE" => false,
            chain if self.has_chain(chain) => {
                seen.push(target.clone());
                self.rules_of(&target)
                    .any(|rule| self.may_accept(rule, guarded, seen))
            }
            // ACCEPT, NFQUEUE, and whatever is not known here.
            _ => true,
        }
    }

    /// Reads the section of the filter table.
    pub(super) fn parse(text: &str) -> Self {
        Self::parse_table(text, "filter")
    }

    /// Reads the section of that table.
    pub(super) fn parse_table(text: &str, name: &str) -> Self {
        let mut saved = Self::default();
        let mut inside = false;
        for line in text.lines() {
            match line.split_at_checked(1) {
                Some(("*", table)) => inside = table == name,
                Some((":", rest)) if inside => {
                    let mut words = rest.split(' ');
                    if let (Some(name), Some(policy)) = (words.next(), words.next()) {
                        let policy = (policy != "-").then(|| policy.to_owned());
                        saved.chains.push((name.to_owned(), policy));
                    }
                }
                _ if inside => saved.rules.extend(rule(line)),
                _ => {}
            }
        }
        saved
    }

    pub(super) fn has_chain(&self, name: &str) -> bool {
        self.chains.iter().any(|(chain, _)| chain == name)
    }

    pub(super) fn rules_of<'a>(&'a self, chain: &'a str) -> impl Iterator<Item = &'a Rule> {
        self.rules.iter().filter(move |rule| rule.chain == chain)
    }

    /// Gates of which there are chains, whoever made them.
    pub(super) fn gates(&self) -> Vec<GateName> {
        let mut gates: Vec<GateName> = self
            .chains
            .iter()
            .filter_map(|(chain, _)| parse_chain(chain))
            .collect();
        gates.sort_unstable();
        gates.dedup();
        gates
    }

    /// Whether nothing is in the table but built-in chains that let everything through.
    pub(super) fn is_bare(&self) -> bool {
        let accepts = |policy: &Option<String>| policy.as_deref() == Some("ACCEPT");
        self.rules.is_empty() && self.chains.iter().all(|(_, policy)| accepts(policy))
    }

    /// Whose chains the gate's are. `has_sets`: whether its sets are there.
    pub(super) fn standing(&self, gate: &GateName, has_sets: bool) -> Standing {
        let names = chains(gate);
        let there = names.iter().filter(|name| self.has_chain(name)).count();
        if there == 0 {
            return Standing::Absent;
        }
        let policy = policy_chain(gate);
        let ours = |rule: &Rule| {
            let concerns =
                names.contains(&rule.chain) || rule.target().is_some_and(|t| t == policy);
            concerns && rule.is_ours()
        };
        let are_empty = !self.rules.iter().any(|rule| names.contains(&rule.chain));
        // After somebody's `iptables -F` all that is left of us is empty.
        let left_over = are_empty && (has_sets || there == names.len());
        if left_over || self.rules.iter().any(ours) {
            return Standing::Ours;
        }
        match self.original(gate) {
            Ok(members) => Standing::Original(members),
            Err(strange) => Standing::Foreign(strange),
        }
    }

    /// The members of the original script's chains: banned → trusted → filter, with a rule for
    /// each address.
    fn original(&self, gate: &GateName) -> Result<Vec<(Chain, IpNet)>, String> {
        let policy = policy_chain(gate);
        let order = Chain::ALL.map(|chain| member_chain(gate, chain));
        let targets: Vec<String> = self.rules_of(&policy).filter_map(Rule::target).collect();
        let jumps: Vec<&String> = targets.iter().filter(|t| order.contains(t)).collect();
        if !jumps.iter().copied().eq(&order) {
            return Err(format!("{policy} does not go {}", order.join(", ")));
        }
        let ends = ["LOG", "DROP", "REJECT", "RETURN", "ULOG", "NFLOG"];
        if let Some(strange) = targets
            .iter()
            .find(|t| !order.contains(t) && !ends.contains(&t.as_str()))
        {
            return Err(format!("{policy} has a rule that goes to {strange}"));
        }
        let mut members = Vec::new();
        for chain in Chain::ALL {
            let name = member_chain(gate, chain);
            let verdicts: &[&str] = match chain {
                Chain::Banned => &["DROP", "REJECT"],
                Chain::Trusted | Chain::Filter => &["ACCEPT"],
            };
            for rule in self.rules_of(&name) {
                let words = words(&rule.text);
                let target = rule.target().unwrap_or_default();
                match Rule::source(&words) {
                    Some(net) if verdicts.contains(&target.as_str()) => {
                        members.push((chain, net.trunc()));
                    }
                    _ if ["LOG", "RETURN"].contains(&target.as_str()) => {}
                    _ => return Err(format!("{name} has the rule `{}`", rule.text)),
                }
            }
        }
        Ok(members)
    }
}

fn rule(line: &str) -> Option<Rule> {
    let rest = line.strip_prefix("-A ")?;
    let (chain, text) = rest.split_once(' ').unwrap_or((rest, ""));
    Some(Rule {
        chain: chain.to_owned(),
        text: text.to_owned(),
    })
}

#[cfg(test)]
#[path = "saved_tests.rs"]
mod tests;
