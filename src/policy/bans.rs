//! `ban`, at the top level for every decoy and in a knock for that one: when a decoy bans, and how
//! long the next time.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use crate::model::{GateName, Lifetime};

use super::gates::PlacedGate;
use super::knocks::PlacedKnock;
use super::node::{At, Node};
use super::reader::{Fields, Reader};
use super::{BanRule, KnockAction, ScanAction};

const KEYS: [&str; 4] = ["after", "within", "escalate", "max"];

/// More would be remembered of each source than is worth it.
const MOST_AFTER: u16 = 32;

impl fmt::Display for BanRule {
    /// As in a policy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{ after: {}", self.after)?;
        if self.after > 1 {
            write!(f, ", within: {}", Lifetime::For(self.within))?;
        }
        if let Some(longest) = self.longest {
            write!(f, ", escalate: true, max: {}", Lifetime::For(longest))?;
        }
        f.write_str(" }")
    }
}

/// A rule with the place that later checks point at.
pub(super) struct PlacedBan {
    pub(super) rule: BanRule,
    at: At,
}

/// Reads the mapping. What could not be read is as if it were not there; the policy is refused
/// then anyway.
pub(super) fn read(reader: &mut Reader, node: &Node) -> PlacedBan {
    let mut rule = BanRule::default();
    let mut at = node.at;
    let what = "a mapping with `after`, `within`, `escalate` and `max`";
    if let Some(fields) = reader.fields(node, what, &KEYS) {
        count(reader, &fields, node.at, &mut rule);
        at = fields.key_at("max").unwrap_or(at);
        rule.longest = longest(reader, &fields, node.at);
    }
    PlacedBan { rule, at }
}

fn count(reader: &mut Reader, fields: &Fields<'_>, at: At, rule: &mut BanRule) {
    let after = match fields.get("after") {
        Some(node) => match reader.integer(node, 1..=MOST_AFTER) {
            Some(after) => after,
            None => return,
        },
        None => 1,
    };
    let within = fields.get("within");
    match (after, within) {
        (1, Some(_)) => {
            let at = fields.key_at("within").unwrap_or(at);
            let help = Some(String::from("a decoy bans at the first time without it"));
            reader.error_with(
                at,
                "`within` without `after` greater than 1",
                "`after` with it, such as `after: 3`",
                help,
            );
        }
        (1, None) => {}
        (_, None) => {
            let at = fields.key_at("after").unwrap_or(at);
            let found = format!("`after: {after}` without `within`");
            reader.error(at, found, "`within` with it, such as `within: 10m`");
        }
        (after, Some(node)) => {
            if let Some(within) = reader.duration(node) {
                (rule.after, rule.within) = (after, within);
            }
        }
    }
}

/// The longest ban, if bans grow.
fn longest(reader: &mut Reader, fields: &Fields<'_>, at: At) -> Option<Duration> {
    let escalate = match fields.get("escalate") {
        Some(node) => reader.boolean(node)?,
        None => false,
    };
    match (escalate, fields.get("max")) {
        (true, Some(node)) => reader.duration(node),
        (true, None) => {
            let at = fields.key_at("escalate").unwrap_or(at);
            let expected = "`max` with it, the longest that a ban may get, such as `max: 30d`";
            reader.error(at, "`escalate: true` without `max`", expected);
            None
        }
        (false, Some(_)) => {
            let at = fields.key_at("max").unwrap_or(at);
            reader.error(at, "`max` without `escalate: true`", "both, or neither");
            None
        }
        (false, None) => None,
    }
}

/// Checks that bans which are to grow have an end, and one that lies beneath `max`.
pub(super) fn check(
    reader: &mut Reader,
    general: Option<&PlacedBan>,
    gates: &[PlacedGate],
    knocks: &[PlacedKnock],
    scan: ScanAction,
) {
    let at_gate = |name: &GateName| {
        let gate = gates.iter().find(|placed| placed.gate.name == *name)?;
        Some(First {
            whose: format!("the gate `{name}`"),
            lasts: gate.gate.ban_timeout,
            key: "ban_timeout",
        })
    };
    let mut said = HashSet::new();
    for placed in knocks {
        let knock = &placed.knock;
        let Some(ban) = placed.ban.as_ref().or(general) else {
            continue;
        };
        if knock.action != KnockAction::Drop || ban.rule.longest.is_none() {
            continue;
        }
        let firsts = match knock.lifetime {
            Some(lasts) => vec![First {
                whose: format!("the knock `{}`", knock.name),
                lasts,
                key: "for",
            }],
            None => knock.gates.iter().filter_map(at_gate).collect(),
        };
        for first in firsts {
            check_first(reader, ban, first, &mut said);
        }
    }
    if let (Some(ban), ScanAction::Drop) = (general, scan) {
        for first in gates.iter().filter_map(|placed| at_gate(&placed.gate.name)) {
            check_first(reader, ban, first, &mut said);
        }
    }
}

/// How long a first ban lasts, and who says so.
struct First {
    whose: String,
    lasts: Lifetime,
    key: &'static str,
}

/// Complains, once for each rule and each place that says how long a first ban lasts.
fn check_first(
    reader: &mut Reader,
    ban: &PlacedBan,
    first: First,
    said: &mut HashSet<(u64, u64, String)>,
) {
    let Some(longest) = ban.rule.longest else {
        return;
    };
    let First { whose, lasts, key } = first;
    let (found, expected) = match lasts {
        Lifetime::Never => (
            format!("`escalate: true` where {whose} bans for good"),
            format!("a duration that ends, such as `{key}: 10m`"),
        ),
        Lifetime::For(span) if span > longest => {
            let longest = Lifetime::For(longest);
            (
                format!("`max: {longest}` where {whose} bans for {lasts}"),
                format!("at least `max: {lasts}`"),
            )
        }
        Lifetime::For(_) => return,
    };
    if said.insert((ban.at.line, ban.at.column, whose)) {
        reader.error(ban.at, found, expected);
    }
}
