//! Rules of others above ours: which of them could meet the packets that ours are for.

use super::rules::Wanted;
use super::saved::{Rule, words};

/// What a rule is limited to; `None` is no limit, or one that is not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Limits {
    proto: Option<String>,
    ports: Option<Ranges>,
}

/// First and last ports.
type Ranges = Vec<(u16, u16)>;

impl Limits {
    fn of(rule: &Rule) -> Self {
        let words = words(&rule.text);
        let value = |keys: &[&str]| {
            let at = words
                .iter()
                .position(|word| keys.contains(&word.as_str()))?;
            let is_not = at > 0 && words[at - 1] == "!";
            words.get(at + 1).filter(|_| !is_not)
        };
        let proto = value(&["-p", "--protocol"]).map(|proto| match proto.as_str() {
            "6" => "tcp".to_owned(),
            "17" => "udp".to_owned(),
            other => other.to_owned(),
        });
        Self {
            proto: proto.filter(|proto| proto != "all" && proto != "0"),
            ports: value(&["--dport", "--dports"]).and_then(|text| ports(text)),
        }
    }

    fn may_meet(&self, other: &Self) -> bool {
        let same = |(a, b): (&String, &String)| a == b;
        let touch = |(a, b): (&Ranges, &Ranges)| {
            a.iter().any(|a| b.iter().any(|b| a.0 <= b.1 && b.0 <= a.1))
        };
        self.proto
            .as_ref()
            .zip(other.proto.as_ref())
            .is_none_or(same)
            && self
                .ports
                .as_ref()
                .zip(other.ports.as_ref())
                .is_none_or(touch)
    }
}

/// `22`, `60000:61000`, `22,80:90`.
fn ports(text: &str) -> Option<Ranges> {
    let range = |part: &str| {
        let (first, last) = part.split_once(':').unwrap_or((part, part));
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    text.split(',').map(range).collect()
}

/// What packets our rules are for.
#[derive(Debug, Default)]
pub(super) struct Guarded(Vec<Limits>);

impl Guarded {
    /// By the rules at the head of the built-in chains.
    pub(super) fn by(wanted: &Wanted) -> Self {
        let mut all: Vec<Limits> = wanted.base.iter().map(Limits::of).collect();
        all.dedup();
        Self(all)
    }

    /// Whether the rule could be for one of them.
    pub(super) fn may_meet(&self, rule: &Rule) -> bool {
        let limits = Limits::of(rule);
        self.0.iter().any(|ours| ours.may_meet(&limits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Rule {
        Rule {
            chain: "INPUT".to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn only_rules_for_our_ports_or_for_any_could_meet_our_packets() {
        let wanted = Wanted {
            base: vec![
                rule("-p tcp -m tcp --dport 22 -j ssh_policy"),
                rule("-p udp -m udp --dport 60000:61000 -j ssh_policy"),
            ],
            ..Wanted::default()
        };
        let guarded = Guarded::by(&wanted);
        let cases = [
            ("-j ACCEPT", true),
            ("-s 192.0.2.0/24 -j ACCEPT", true),
            ("-p tcp -m tcp --dport 22 -j ACCEPT", true),
            ("-p 6 -m tcp --dport 22 -j ACCEPT", true),
            ("-p tcp -m tcp --dport 80 -j ACCEPT", false),
            ("-p tcp -m multiport --dports 80,443 -j ACCEPT", false),
            ("-p tcp -m multiport --dports 80,20:25 -j ACCEPT", true),
            ("-p udp -m udp --dport 22 -j ACCEPT", false),
            ("-p udp -m udp --dport 60500 -j ACCEPT", true),
            ("-p icmp -j ACCEPT", false),
            ("! -p tcp -j ACCEPT", true),
            ("-p all -j ACCEPT", true),
            ("-p tcp -m tcp ! --dport 80 -j ACCEPT", true),
            ("-p tcp -m tcp --dport nonsense -j ACCEPT", true),
            ("-p tcp -m tcp --sport 80 -j ACCEPT", true),
        ];
        for (text, expected) in cases {
            assert_eq!(guarded.may_meet(&rule(text)), expected, "{text}");
        }
    }
}
