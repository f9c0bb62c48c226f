//! What `iptables-save` says: which rules are ours, which are the original script's, which are
//! somebody else's.

use std::net::IpAddr;

use ipnet::IpNet;

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
    /// wording a release of iptables prints the rest.
    pub(super) fn essence(&self) -> (Option<String>, Vec<String>) {
        let words = words(&self.text);
        let mut sets: Vec<String> = words
            .windows(2)
            .filter(|pair| ["--match-set", "--del-set", "--dport"].contains(&pair[0].as_str()))
            .map(|pair| pair[1].clone())
            .collect();
        sets.sort_unstable();
        (self.target(), sets)
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
    /// accepts nothing new, nor does a chain that it leads to. fail2ban's are such.
    pub(super) fn only_takes_away(&self, rule: &Rule) -> bool {
        !rule.is_ours() && !self.may_accept(rule, &mut Vec::new())
    }

    fn may_accept(&self, rule: &Rule, seen: &mut Vec<String>) -> bool {
        let Some(target) = rule.target() else {
            return false;
        };
        if rule.is_for_known_sessions() || seen.contains(&target) {
            return false;
        }
        match target.as_str() {
            "DROP" | "REJECT" | "LOG" | "NFLOG" | "RETURN" | "MARK" | "CONNMARK" | "SET"
            | "TRACE" => false,
            chain if self.has_chain(chain) => {
                seen.push(target.clone());
                self.rules_of(&target)
                    .any(|rule| self.may_accept(rule, seen))
            }
            // ACCEPT, NFQUEUE, and whatever is not known here.
            _ => true,
        }
    }

    /// Reads the section of the filter table.
    pub(super) fn parse(text: &str) -> Self {
        let mut saved = Self::default();
        let mut inside = false;
        for line in text.lines() {
            match line.split_at_checked(1) {
                Some(("*", table)) => inside = table == "filter",
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
mod tests {
    use super::*;

    fn gate() -> GateName {
        GateName::new("ssh").unwrap()
    }

    const ORIGINAL: &str = "# Generated\n*nat\n:PREROUTING ACCEPT [0:0]\n-A ssh_policy -j X\nCOMMIT\n\
*filter\n:INPUT DROP [1:2]\n:ssh_policy - [0:0]\n:ssh_banned - [0:0]\n:ssh_trusted - [0:0]\n\
:ssh_filter - [0:0]\n-A INPUT -p tcp -m tcp --dport 22 -j ssh_policy\n\
-A ssh_policy -j ssh_banned\n-A ssh_policy -j ssh_trusted\n-A ssh_policy -j ssh_filter\n\
-A ssh_policy -m limit --limit 10/min -j LOG --log-prefix \"[knockd,drop] \"\n\
-A ssh_policy -j DROP\n-A ssh_banned -s 203.0.113.9/32 -j DROP\n\
-A ssh_trusted -s 192.0.2.0/24 -p tcp -m tcp --dport 22 -j ACCEPT\n\
-A ssh_filter -s 198.51.100.7/32 -i eth0 -j ACCEPT\nCOMMIT\n";

    #[test]
    fn the_original_scripts_chains_are_known_by_their_shape() {
        let saved = Saved::parse(ORIGINAL);
        assert_eq!(saved.gates(), [gate()]);
        let Standing::Original(members) = saved.standing(&gate(), false) else {
            panic!("{:?}", saved.standing(&gate(), false));
        };
        let shown: Vec<String> = members
            .iter()
            .map(|(chain, net)| format!("{} {net}", chain.suffix()))
            .collect();
        assert_eq!(
            shown,
            [
                "banned 203.0.113.9/32",
                "trusted 192.0.2.0/24",
                "filter 198.51.100.7/32"
            ]
        );
        assert!(!saved.is_bare());
    }

    #[test]
    fn somebody_elses_chains_are_nobody_elses() {
        for (from, to, strange) in [
            ("-A ssh_policy -j ssh_trusted\n", "", "does not go"),
            ("-A ssh_policy -j DROP", "-A ssh_policy -j DOCKER", "DOCKER"),
            (
                "-s 203.0.113.9/32 -j DROP",
                "-p udp -j DROP",
                "`-p udp -j DROP`",
            ),
            (
                "-s 203.0.113.9/32 -j DROP",
                "-s 203.0.113.9/32 -j ACCEPT",
                "ACCEPT",
            ),
            (
                "-s 203.0.113.9/32 -j DROP",
                "! -s 203.0.113.9/32 -j DROP",
                "! -s",
            ),
        ] {
            let saved = Saved::parse(&ORIGINAL.replace(from, to));
            match saved.standing(&gate(), true) {
                Standing::Foreign(why) => assert!(why.contains(strange), "{why}"),
                other => panic!("{to}: {other:?}"),
            }
        }
        let other = GateName::new("web").unwrap();
        assert_eq!(
            Saved::parse(ORIGINAL).standing(&other, true),
            Standing::Absent
        );
    }

    #[test]
    fn our_comment_makes_it_ours_and_so_does_what_a_flush_leaves() {
        let commented = ORIGINAL.replace(
            "-A ssh_policy -j DROP",
            "-A ssh_policy -m comment --comment portcullis -j DROP",
        );
        assert_eq!(
            Saved::parse(&commented).standing(&gate(), false),
            Standing::Ours
        );
        let flushed: String = ORIGINAL
            .lines()
            .filter(|line| !line.starts_with("-A"))
            .flat_map(|line| [line, "\n"])
            .collect();
        assert_eq!(
            Saved::parse(&flushed).standing(&gate(), false),
            Standing::Ours
        );
    }

    #[test]
    fn quoted_words_are_one_word() {
        assert_eq!(
            words(r#"-j LOG --log-prefix "[knockd,drop] " --x "a \"b\"""#),
            [
                "-j",
                "LOG",
                "--log-prefix",
                "[knockd,drop] ",
                "--x",
                "a \"b\""
            ]
        );
        assert_eq!(words(r#""" b"#), ["", "b"]);
    }

    #[test]
    fn rules_before_ours_that_only_take_away_are_told_from_those_that_let_in() {
        let table = "*filter\n:INPUT ACCEPT [0:0]\n:f2b - [0:0]\n:lets - [0:0]\n:loop - [0:0]\n\
-A f2b -s 203.0.113.9/32 -j REJECT --reject-with icmp-port-unreachable\n-A f2b -j RETURN\n\
-A lets -s 192.0.2.1/32 -j ACCEPT\n-A loop -j loop\nCOMMIT\n";
        let saved = Saved::parse(table);
        let only_takes_away = |text: &str| {
            let rule = Rule {
                chain: "INPUT".into(),
                text: text.into(),
            };
            saved.only_takes_away(&rule)
        };
        for harmless in [
            "-p tcp -m multiport --dports 22 -j f2b",
            "-s 203.0.113.0/24 -j DROP",
            "-m limit --limit 1/min -j LOG",
            "-i lo -j ACCEPT",
            "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            "-p tcp",
            "-j loop",
        ] {
            assert!(only_takes_away(harmless), "{harmless}");
        }
        for letting_in in [
            "-p tcp -m tcp --dport 22 -j ACCEPT",
            "-j lets",
            "-j NFQUEUE --queue-num 0",
            "-m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT",
            "-m conntrack ! --ctstate ESTABLISHED -j ACCEPT",
            "! -i lo -j ACCEPT",
            "-j UNKNOWN",
        ] {
            assert!(!only_takes_away(letting_in), "{letting_in}");
        }
        let ours = "-m comment --comment portcullis -j DROP";
        assert!(!only_takes_away(ours));
    }
}
