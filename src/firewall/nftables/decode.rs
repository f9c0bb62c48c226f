//! What the kernel says of tables, chains, rules, sets and elements
//! (`linux/netfilter/nf_tables.h`). Every answer is taken as bytes that may be anything.

use std::time::{Duration, Instant};

use super::encode::{ELEMENT_COMMENT, SET_COMMENT, SUBSYSTEM};
use super::names::{Family, TABLE, key_number};
use super::segments::{Entry, Segment};
use crate::netlink::attr::{Attr, attrs, find};

const MSG_NEWTABLE: u16 = 0;
const MSG_NEWCHAIN: u16 = 3;
const MSG_NEWRULE: u16 = 6;
const MSG_NEWSET: u16 = 9;
const MSG_NEWSETELEM: u16 = 12;
const MSG_NEWGEN: u16 = 15;
/// `NFTA_LIST_ELEM`.
const LIST_ELEMENT: u16 = 1;
const ELEMENT_INTERVAL_END: u32 = 1;

/// A chain as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChainInfo {
    pub(super) name: String,
    /// Of a base chain: hook number and priority.
    pub(super) hook: Option<(u32, i32)>,
    pub(super) kind: String,
    pub(super) policy: Option<u32>,
}

/// A set as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SetInfo {
    pub(super) name: String,
    pub(super) flags: u32,
    pub(super) key_type: u32,
    pub(super) key_len: u32,
    pub(super) comment: String,
    /// How many elements it has, those that are over and not yet collected included. Older kernels do
    /// not tell.
    pub(super) count: Option<u32>,
}

/// A rule as the kernel has it: its list of expressions, as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RuleInfo {
    pub(super) chain: String,
    pub(super) expressions: Vec<u8>,
}

/// An element as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) key: u128,
    pub(super) is_end: bool,
    pub(super) left: Option<Duration>,
    pub(super) comment: String,
}

/// The attributes after `struct nfgenmsg`, if this is such an answer.
fn body(kind: u16, wanted: u16, payload: &[u8]) -> Option<&[u8]> {
    (kind == u16::from(SUBSYSTEM) << 8 | wanted)
        .then(|| payload.get(4..))
        .flatten()
}

fn text(bytes: &[u8], kind: u16) -> Option<String> {
    find(bytes, kind)?.text().map(str::to_owned)
}

fn number(bytes: &[u8], kind: u16) -> Option<u32> {
    find(bytes, kind)?.u32_be()
}

/// The ruleset's generation.
pub(super) fn generation(kind: u16, payload: &[u8]) -> Option<u32> {
    number(body(kind, MSG_NEWGEN, payload)?, 1)
}

/// Our table's flags.
pub(super) fn table(kind: u16, payload: &[u8]) -> Option<u32> {
    let body = body(kind, MSG_NEWTABLE, payload)?;
    (text(body, 1)? == TABLE).then(|| number(body, 2).unwrap_or(0))
}

/// A chain of our table.
pub(super) fn chain(kind: u16, payload: &[u8]) -> Option<ChainInfo> {
    let body = body(kind, MSG_NEWCHAIN, payload)?;
    if text(body, 1)? != TABLE {
        return None;
    }
    let hook = find(body, 4)
        .and_then(|hook| Some((number(hook.value, 1)?, number(hook.value, 2)?.cast_signed())));
    Some(ChainInfo {
        name: text(body, 3)?,
        hook,
        kind: text(body, 7).unwrap_or_default(),
        policy: number(body, 5),
    })
}

/// A rule of our table.
pub(super) fn rule(kind: u16, payload: &[u8]) -> Option<RuleInfo> {
    let body = body(kind, MSG_NEWRULE, payload)?;
    if text(body, 1)? != TABLE {
        return None;
    }
    Some(RuleInfo {
        chain: text(body, 2)?,
        expressions: find(body, 4).map_or_else(Vec::new, |list| list.value.to_vec()),
    })
}

/// A set of our table.
pub(super) fn set(kind: u16, payload: &[u8]) -> Option<SetInfo> {
    let body = body(kind, MSG_NEWSET, payload)?;
    if text(body, 1)? != TABLE {
        return None;
    }
    Some(SetInfo {
        name: text(body, 2)?,
        flags: number(body, 3).unwrap_or(0),
        key_type: number(body, 4).unwrap_or(0),
        key_len: number(body, 5).unwrap_or(0),
        comment: find(body, 13)
            .and_then(|data| comment(data.value, SET_COMMENT))
            .unwrap_or_default(),
        // `NFTA_SET_COUNT`
        count: number(body, 20),
    })
}

/// The elements in one part of a dump. Keys longer than an address are left out.
pub(super) fn elements(kind: u16, payload: &[u8], found: &mut Vec<Held>) {
    let list = body(kind, MSG_NEWSETELEM, payload).and_then(|body| find(body, 3));
    found.extend(list.into_iter().flat_map(Attr::nested).filter_map(element));
}

/// How many elements there are in one part of a dump.
pub(super) fn count_elements(kind: u16, payload: &[u8]) -> usize {
    body(kind, MSG_NEWSETELEM, payload)
        .and_then(|body| find(body, 3))
        .map_or(0, |list| list.nested().count())
}

fn element(item: Attr<'_>) -> Option<Held> {
    if item.kind != LIST_ELEMENT {
        return None;
    }
    let mut held = Held {
        key: 0,
        is_end: false,
        left: None,
        comment: String::new(),
    };
    let mut has_key = false;
    for attr in item.nested() {
        match attr.kind {
            1 => {
                held.key = key_number(find(attr.value, 1)?.value)?;
                has_key = true;
            }
            3 => held.is_end = attr.u32_be()? & ELEMENT_INTERVAL_END != 0,
            5 => held.left = Some(Duration::from_millis(attr.u64_be()?)),
            6 => held.comment = comment(attr.value, ELEMENT_COMMENT).unwrap_or_default(),
            _ => {}
        }
    }
    has_key.then_some(held)
}

/// A comment in user data: type, length, text with NUL, again and again (libnftnl's udata).
fn comment(mut bytes: &[u8], wanted: u8) -> Option<String> {
    while let [kind, length, rest @ ..] = bytes {
        let value = rest.get(..usize::from(*length))?;
        if *kind == wanted {
            let text = value.split(|&b| b == 0).next()?;
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        bytes = &rest[usize::from(*length)..];
    }
    None
}

/// The intervals that starts and ends make, ascending. A start without an end goes on to the
/// next start or the last address.
pub(super) fn intervals(family: Family, mut held: Vec<Held>, now: Instant) -> Vec<Segment> {
    let last_of_all = u128::MAX >> (128 - u32::from(family.bits()));
    // At one address, the end of the interval before comes before the next one's start.
    held.sort_by_key(|element| (element.key, !element.is_end));
    let mut segments: Vec<Segment> = Vec::with_capacity(held.len() / 2);
    let mut is_open = false;
    for element in held {
        if let (true, Some(segment), Some(before)) =
            (is_open, segments.last_mut(), element.key.checked_sub(1))
        {
            segment.last = before;
        }
        is_open = !element.is_end;
        if is_open {
            segments.push(Segment {
                first: element.key,
                last: last_of_all,
                entry: Entry {
                    end: element.left.and_then(|left| now.checked_add(left)),
                    reason: element.comment,
                },
            });
        }
    }
    segments
}

/// Whether the kernel's expressions are those that were written: the same ones in the same
/// order, every attribute written there with the same value. The kernel adds some of its own.
pub(super) fn same_expressions(written: &[u8], read: &[u8]) -> bool {
    let (mut ours, mut theirs) = (attrs(written), attrs(read));
    loop {
        match (ours.next(), theirs.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if a.kind == b.kind && contains(a.value, b.value) => {}
            _ => return false,
        }
    }
}

fn contains(written: &[u8], read: &[u8]) -> bool {
    attrs(written).all(|ours| match find(read, ours.kind) {
        // An expression without attributes comes back without the place for them.
        None => ours.is_nested && ours.value.is_empty(),
        Some(theirs) if ours.is_nested => contains(ours.value, theirs.value),
        Some(theirs) => ours.value == theirs.value,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::encode::{self, ElementVerb};
    use super::super::names::key_bytes;
    use super::super::rules::Earlier;
    use super::*;

    /// What the kernel would send back for a message of ours.
    fn echo(step: &encode::Step) -> (u16, &[u8]) {
        let kind = u16::from_ne_bytes([step.bytes[4], step.bytes[5]]);
        (kind, &step.bytes[16..])
    }

    #[test]
    fn elements_are_read_as_written() {
        let list = vec![
            encode::element(
                key_bytes(Family::V4, 7),
                Some(Duration::from_secs(5)),
                "a reason",
            ),
            encode::element(key_bytes(Family::V6, 8), None, ""),
        ];
        let steps = encode::elements(ElementVerb::Add, "ssh_banned4", list);
        assert_eq!(steps.len(), 1);
        let (kind, payload) = echo(&steps[0]);
        let mut found = Vec::new();
        elements(kind, payload, &mut found);
        assert_eq!(count_elements(kind, payload), 2);
        assert_eq!(found[0].key, 7);
        assert_eq!(found[0].comment, "a reason");
        assert_eq!((found[1].key, found[1].left), (8, None));
    }

    #[test]
    fn no_message_outgrows_an_attribute() {
        let long = "x".repeat(500);
        let list: Vec<_> = (0..5000)
            .map(|key| encode::element(key_bytes(Family::V6, key), None, &long))
            .collect();
        let steps = encode::elements(ElementVerb::Add, "ssh_trusted6", list);
        let mut found = Vec::new();
        for step in &steps {
            assert!(step.bytes.len() < 65_000);
            let (kind, payload) = echo(step);
            elements(kind, payload, &mut found);
        }
        assert_eq!(found.len(), 5000);
        assert!(found.iter().all(|held| held.comment.len() == 127));
    }

    #[test]
    fn intervals_are_read_as_written() {
        let now = Instant::now();
        let segment = |first, last| Segment {
            first,
            last,
            entry: Entry {
                end: None,
                reason: "r".to_owned(),
            },
        };
        let segments = vec![
            segment(0, 9),
            segment(10, 19),
            segment(30, 39),
            segment(0xffff_ff00, 0xffff_ffff),
        ];
        let list: Vec<_> = segments
            .iter()
            .rev()
            .flat_map(|s| encode::interval(Family::V4, s, None))
            .collect();
        assert_eq!(list.len(), 7);
        let steps = encode::elements(ElementVerb::Add, "ssh_banned4net", list);
        let (kind, payload) = echo(&steps[0]);
        let mut found = Vec::new();
        elements(kind, payload, &mut found);
        assert_eq!(intervals(Family::V4, found, now), segments);
    }

    #[test]
    fn an_altered_rule_is_another_rule() {
        let gate = crate::firewall::GateRules {
            name: crate::model::GateName::new("ssh").unwrap(),
            ports: vec!["22".parse().unwrap()],
            hook: crate::policy::Hook::Both,
            input_addresses: vec![],
            forward_addresses: vec![],
            verdict: crate::policy::Verdict::Accept,
            once: true,
            log_drops: true,
            cut_sessions: true,
            ipv6_prefix: 64,
        };
        let rules = super::super::rules::rules(&[(&gate, Earlier::default())]);
        let bytes: Vec<_> = rules
            .iter()
            .map(|rule| crate::netlink::attr::emit(&rule.expressions))
            .collect();
        for (i, a) in bytes.iter().enumerate() {
            for (j, b) in bytes.iter().enumerate() {
                assert_eq!(same_expressions(a, b), a == b, "{i} {j}");
            }
        }
        let mut shorter = bytes[0].clone();
        shorter.truncate(40);
        assert!(!same_expressions(&bytes[0], &shorter));
    }

    proptest! {
        #[test]
        fn garbage_is_decoded_to_something_bounded(
            kind in 0x0a00u16..0x0a20,
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut found = Vec::new();
            elements(kind, &bytes, &mut found);
            prop_assert!(found.len() <= bytes.len());
            let now = Instant::now();
            let _ = (intervals(Family::V4, found, now), chain(kind, &bytes), set(kind, &bytes));
            let _ = (rule(kind, &bytes), table(kind, &bytes), generation(kind, &bytes));
        }

        #[test]
        fn truncated_answers_are_decoded_as_far_as_they_go(cut in 0usize..3000) {
            let list = (0..50).map(|key| {
                encode::element(key_bytes(Family::V4, key), Some(Duration::from_secs(9)), "why")
            });
            let steps = encode::elements(ElementVerb::Add, "ssh_banned4", list.collect());
            let (kind, payload) = echo(&steps[0]);
            let mut found = Vec::new();
            elements(kind, &payload[..cut.min(payload.len())], &mut found);
            prop_assert!(found.len() <= 50);
        }
    }
}
