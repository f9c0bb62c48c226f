//! What the kernel says of chains, rules and elements of other tables
//! (`linux/netfilter/nf_tables.h`). Every answer is taken as bytes that may be anything.

use crate::netlink::attr::{Attr, attrs, find};
use crate::netlink::{DUMP, REQUEST};

/// `NFNL_SUBSYS_NFTABLES`.
const SUBSYSTEM: u16 = 10;
const NEWTABLE: u16 = 0;
const GETTABLE: u16 = 1;
const NEWCHAIN: u16 = 3;
const GETCHAIN: u16 = 4;
const NEWRULE: u16 = 6;
const GETRULE: u16 = 7;
const NEWSETELEM: u16 = 12;
const GETSETELEM: u16 = 13;
const NEWGEN: u16 = 15;
const GETGEN: u16 = 16;
const TABLE_DORMANT: u32 = 1;
const ELEMENT_INTERVAL_END: u32 = 1;
const ELEMENT_CATCHALL: u32 = 2;

/// A table's family and name.
pub(super) type TableKey = (u8, String);

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) table: TableKey,
    pub(super) name: String,
    /// Of a base chain: the hook's number.
    pub(super) hook: Option<u32>,
    /// What the policy of a base chain says.
    pub(super) drops: bool,
}

/// A rule: its list of expressions, as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) table: TableKey,
    pub(super) chain: String,
    pub(super) handle: u64,
    pub(super) expressions: Vec<u8>,
}

/// A verdict's code and the chain it names.
pub(super) type Verdict = (i32, Option<String>);

/// An element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Element {
    pub(super) key: Vec<u8>,
    /// Of an interval that is one element.
    pub(super) last: Option<Vec<u8>>,
    /// The first key after an interval.
    pub(super) is_end: bool,
    /// Stands for every key that has no element.
    pub(super) is_any: bool,
    pub(super) verdict: Option<Verdict>,
}

fn request(kind: u16, flags: u16, family: u8, names: &[(u16, &str)]) -> Vec<u8> {
    let mut bytes = vec![0; 20];
    bytes[16] = family;
    for (attribute, name) in names {
        let length = name.len() + 5;
        bytes.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_ne_bytes());
        bytes.extend_from_slice(&attribute.to_ne_bytes());
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes[4..6].copy_from_slice(&(SUBSYSTEM << 8 | kind).to_ne_bytes());
    bytes[6..8].copy_from_slice(&(REQUEST | flags).to_ne_bytes());
    bytes
}

pub(super) fn get_generation() -> Vec<u8> {
    request(GETGEN, 0, 0, &[])
}

pub(super) fn dump_tables() -> Vec<u8> {
    request(GETTABLE, DUMP, 0, &[])
}

pub(super) fn dump_chains() -> Vec<u8> {
    request(GETCHAIN, DUMP, 0, &[])
}

pub(super) fn dump_rules(table: &TableKey) -> Vec<u8> {
    request(GETRULE, DUMP, table.0, &[(1, &table.1)])
}

/// Those of one chain: where others have written ten thousand, all of a table's take their time.
pub(super) fn dump_rules_of(chain: &Chain) -> Vec<u8> {
    let (family, table) = &chain.table;
    request(GETRULE, DUMP, *family, &[(1, table), (2, &chain.name)])
}

pub(super) fn dump_elements(table: &TableKey, set: &str) -> Vec<u8> {
    request(GETSETELEM, DUMP, table.0, &[(1, &table.1), (2, set)])
}

/// Family and attributes, if this is such an answer.
fn body(kind: u16, wanted: u16, payload: &[u8]) -> Option<(u8, &[u8])> {
    let is_it = kind == SUBSYSTEM << 8 | wanted;
    let family = *payload.first()?;
    is_it.then(|| Some((family, payload.get(4..)?))).flatten()
}

fn text(bytes: &[u8], kind: u16) -> Option<String> {
    find(bytes, kind)?.text().map(str::to_owned)
}

/// A number of four bytes in network order.
pub(super) fn number(bytes: &[u8], kind: u16) -> Option<u32> {
    find(bytes, kind)?.u32_be()
}

pub(super) fn generation(kind: u16, payload: &[u8]) -> Option<u32> {
    number(body(kind, NEWGEN, payload)?.1, 1)
}

/// A table that sleeps: its chains are not asked.
pub(super) fn dormant_table(kind: u16, payload: &[u8]) -> Option<TableKey> {
    let (family, body) = body(kind, NEWTABLE, payload)?;
    let sleeps = number(body, 2)? & TABLE_DORMANT != 0;
    sleeps.then(|| Some((family, text(body, 1)?))).flatten()
}

pub(super) fn chain(kind: u16, payload: &[u8]) -> Option<Chain> {
    let (family, body) = body(kind, NEWCHAIN, payload)?;
    Some(Chain {
        table: (family, text(body, 1)?),
        name: text(body, 3)?,
        hook: find(body, 4).and_then(|hook| number(hook.value, 1)),
        drops: number(body, 5) == Some(0),
    })
}

/// A base chain that rewrites addresses.
pub(super) fn nat_chain(kind: u16, payload: &[u8]) -> Option<Chain> {
    let (_, attributes) = body(kind, NEWCHAIN, payload)?;
    let is_nat = text(attributes, 7)? == "nat";
    chain(kind, payload).filter(|chain| is_nat && chain.hook.is_some())
}

pub(super) fn rule(kind: u16, payload: &[u8]) -> Option<Rule> {
    let (family, body) = body(kind, NEWRULE, payload)?;
    Some(Rule {
        table: (family, text(body, 1)?),
        chain: text(body, 2)?,
        handle: find(body, 3)?.u64_be()?,
        expressions: find(body, 4).map_or_else(Vec::new, |list| list.value.to_vec()),
    })
}

/// Of more elements than that only this many are looked at.
pub(super) const MOST_ELEMENTS: usize = 65_536;

pub(super) fn elements(kind: u16, payload: &[u8], found: &mut Vec<Element>) {
    let list = body(kind, NEWSETELEM, payload).and_then(|(_, body)| find(body, 3));
    let room = (MOST_ELEMENTS + 1).saturating_sub(found.len());
    found.extend(
        list.into_iter()
            .flat_map(Attr::nested)
            .map(element)
            .take(room),
    );
}

fn element(item: Attr<'_>) -> Element {
    let mut read = Element::default();
    for attr in item.nested() {
        match attr.kind {
            1 => read.key = data(attr.value),
            2 => read.verdict = find(attr.value, 2).and_then(|v| verdict(v.value)),
            3 => {
                let flags = attr.u32_be().unwrap_or(0);
                read.is_end = flags & ELEMENT_INTERVAL_END != 0;
                read.is_any = flags & ELEMENT_CATCHALL != 0;
            }
            10 => read.last = Some(data(attr.value)),
            _ => {}
        }
    }
    read
}

/// `NFTA_DATA_VALUE`.
pub(super) fn data(bytes: &[u8]) -> Vec<u8> {
    find(bytes, 1).map_or_else(Vec::new, |value| value.value.to_vec())
}

/// `NFTA_VERDICT_CODE` and `NFTA_VERDICT_CHAIN`.
pub(super) fn verdict(bytes: &[u8]) -> Option<Verdict> {
    Some((number(bytes, 1)?.cast_signed(), text(bytes, 2)))
}

/// The expressions of a rule: name and attributes.
pub(super) fn expressions(list: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    attrs(list).filter_map(|item| {
        let name = find(item.value, 1)?.text()?;
        Some((name, find(item.value, 2).map_or(&[][..], |data| data.value)))
    })
}
