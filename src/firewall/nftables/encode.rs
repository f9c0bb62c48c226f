//! Messages to the kernel (`linux/netfilter/nf_tables.h`).

use std::borrow::Cow;
use std::time::Duration;

use netlink_packet_core::{NetlinkHeader, NetlinkMessage};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DataAttribute, GenMessage, Hook, HookNumber, InetHookNumber,
    ListAttribute, NfTablesMessage, RuleAttribute, RuleMessage, SetAttribute, SetElementAttribute,
    SetElementFlags, SetElementList, SetElementMessage, SetFlags, SetMessage, TableAttribute,
    TableFlags, TableMessage,
};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};

use super::names::{Family, Role, SetSpec, TABLE, key_bytes};
use super::rules::Rule;
use super::segments::Segment;
use crate::netlink::attr::{NESTED, nest, put};
use crate::netlink::{APPEND, CREATE, DUMP, EXCL, REQUEST};

/// `NFNL_SUBSYS_NFTABLES`.
pub(super) const SUBSYSTEM: u8 = 10;
const NEW_SET_ELEMENT: u16 = 12;
const DESTROY_SET_ELEMENT: u16 = 30;
const NFPROTO_INET: u8 = 1;
/// An attribute's length is a u16, and a list of elements is one attribute.
const MAX_LIST: usize = 60_000;
const MAX_ELEMENTS: usize = 1_500;
/// `NFTNL_UDATA_COMMENT_MAXLEN`, with the NUL.
const MAX_COMMENT: usize = 128;

/// A message and what to say of it if the kernel refuses it.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) bytes: Vec<u8>,
    pub(super) operation: &'static str,
    pub(super) object: String,
}

fn message(inner: NfTablesMessage, flags: u16) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = REQUEST | flags;
    let inner = NetfilterMessage::new(
        NetfilterHeader::new(NetfilterProtoFamily::Inet, 0, 0),
        inner,
    );
    let mut message = NetlinkMessage::new(header, inner.into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn step(operation: &'static str, object: &str, inner: NfTablesMessage, flags: u16) -> Step {
    Step {
        bytes: message(inner, flags),
        operation,
        object: object.to_owned(),
    }
}

fn named_table(name: &str) -> TableMessage {
    TableMessage {
        attributes: vec![TableAttribute::Name(name.to_owned())],
    }
}

pub(super) fn get_generation() -> Vec<u8> {
    message(
        NfTablesMessage::GetGen(GenMessage { attributes: vec![] }),
        0,
    )
}

pub(super) fn get_table() -> Vec<u8> {
    message(NfTablesMessage::GetTable(named_table(TABLE)), 0)
}

pub(super) fn dump_chains() -> Vec<u8> {
    message(
        NfTablesMessage::GetChain(ChainMessage { attributes: vec![] }),
        DUMP,
    )
}

pub(super) fn dump_sets() -> Vec<u8> {
    let attributes = vec![SetAttribute::Table(TABLE.to_owned())];
    message(NfTablesMessage::GetSet(SetMessage { attributes }), DUMP)
}

pub(super) fn dump_rules() -> Vec<u8> {
    let attributes = vec![RuleAttribute::Table(TABLE.to_owned())];
    message(NfTablesMessage::GetRule(RuleMessage { attributes }), DUMP)
}

fn elements_of(set: &str, list: Option<Vec<Element>>) -> SetElementMessage {
    let mut attributes = vec![
        SetElementList::Table(TABLE.to_owned()),
        SetElementList::Set(set.to_owned()),
    ];
    attributes.extend(list.map(SetElementList::Elements));
    SetElementMessage { attributes }
}

pub(super) fn dump_elements(set: &str) -> Vec<u8> {
    message(NfTablesMessage::GetSetElement(elements_of(set, None)), DUMP)
}

/// Asks for the element with this key; in a set of intervals, for the start of the one in which
/// the key lies, or for its `end`, which is also that of the key just behind it.
pub(super) fn get_element(set: &str, key: Vec<u8>, end: bool) -> Vec<u8> {
    let list = vec![bare(key, end)];
    message(
        NfTablesMessage::GetSetElement(elements_of(set, Some(list))),
        0,
    )
}

/// Creates our table, or wakes it if it sleeps.
pub(super) fn new_table(flags: u32) -> Step {
    make_table(TABLE, flags)
}

fn make_table(name: &str, flags: u32) -> Step {
    let mut table = named_table(name);
    let flags = TableFlags::from_bits_retain(flags);
    table.attributes.push(TableAttribute::Flags(flags));
    step(
        "create table",
        &format!("inet {name}"),
        NfTablesMessage::NewTable(table),
        CREATE,
    )
}

/// Makes a table with these flags, and fails.
pub(super) fn owner_probe(flags: u32) -> [Step; 2] {
    [make_table("-probe", flags), delete_table("-nothing")]
}

pub(super) fn delete_table(name: &str) -> Step {
    let table = NfTablesMessage::DeleteTable(named_table(name));
    step("delete table", &format!("inet {name}"), table, 0)
}

fn named_chain(name: &str) -> Vec<ChainAttribute> {
    vec![
        ChainAttribute::Table(TABLE.to_owned()),
        ChainAttribute::Name(name.to_owned()),
    ]
}

/// `NF_ACCEPT`.
pub(super) const POLICY_ACCEPT: u32 = 1;
/// Of a base chain at that hook (`NF_INET_*`). Before routing: `NF_IP_PRI_RAW`, ahead of connection
/// tracking. Elsewhere filter (0) − 10: ahead of the host's own filter chains, after DNAT.
pub(super) fn priority(hook: u32) -> i32 {
    if hook == PRE_ROUTING { -300 } else { -10 }
}

/// `NF_INET_PRE_ROUTING`.
pub(super) const PRE_ROUTING: u32 = 0;

/// Creates a chain; with a hook, a base chain.
pub(super) fn new_chain(name: &str, hook: Option<u32>) -> Step {
    let mut attributes = named_chain(name);
    if let Some(number) = hook {
        attributes.extend([
            ChainAttribute::Hook(vec![
                Hook::Number(HookNumber::Inet(InetHookNumber::from(number))),
                Hook::Priority(priority(number).cast_unsigned()),
            ]),
            ChainAttribute::Policy(POLICY_ACCEPT),
            ChainAttribute::Type("filter".to_owned()),
        ]);
    }
    let chain = NfTablesMessage::NewChain(ChainMessage { attributes });
    step("create chain", name, chain, CREATE)
}

pub(super) fn delete_chain(name: &str) -> Step {
    let attributes = named_chain(name);
    let chain = NfTablesMessage::DeleteChain(ChainMessage { attributes });
    step("delete chain", name, chain, 0)
}

pub(super) fn flush_chain(name: &str) -> Step {
    let attributes = vec![
        RuleAttribute::Table(TABLE.to_owned()),
        RuleAttribute::Chain(name.to_owned()),
    ];
    let rules = NfTablesMessage::DeleteRule(RuleMessage { attributes });
    step("flush chain", name, rules, 0)
}

pub(super) fn new_rule(rule: &Rule) -> Step {
    let attributes = vec![
        RuleAttribute::Table(TABLE.to_owned()),
        RuleAttribute::Chain(rule.chain.clone()),
        RuleAttribute::Expressions(rule.expressions.clone()),
        RuleAttribute::UserData(user_data(RULE_COMMENT, "portcullis")),
    ];
    let message = NfTablesMessage::NewRule(RuleMessage { attributes });
    step("add rule to", &rule.chain, message, CREATE | APPEND)
}

pub(super) fn new_set(spec: &SetSpec, id: u32) -> Step {
    let mut attributes = vec![
        SetAttribute::Table(TABLE.to_owned()),
        SetAttribute::Name(spec.name.clone()),
        SetAttribute::Flags(SetFlags::from_bits_retain(spec.flags)),
        SetAttribute::KeyType(spec.key_type),
        SetAttribute::KeyLen(spec.key_len),
        // The kernel insists on one, though we refer to sets by name.
        SetAttribute::Id(id),
    ];
    if !spec.comment.is_empty() {
        attributes.push(SetAttribute::UserData(user_data(SET_COMMENT, spec.comment)));
    }
    let set = NfTablesMessage::NewSet(SetMessage { attributes });
    step("create set", &spec.name, set, CREATE)
}

pub(super) fn delete_set(name: &str) -> Step {
    let attributes = vec![
        SetAttribute::Table(TABLE.to_owned()),
        SetAttribute::Name(name.to_owned()),
    ];
    let set = NfTablesMessage::DeleteSet(SetMessage { attributes });
    step("delete set", name, set, 0)
}

/// Comments as nft writes them (libnftnl's udata): a type, a length, a text with its NUL.
pub(super) const RULE_COMMENT: u8 = 0;
pub(super) const ELEMENT_COMMENT: u8 = 0;
pub(super) const SET_COMMENT: u8 = 7;

fn user_data(kind: u8, text: &str) -> Vec<u8> {
    let text = fitting_comment(text);
    let length = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
    let mut bytes = Vec::with_capacity(text.len() + 3);
    bytes.extend([kind, length]);
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
    bytes
}

/// As much of a text as a comment holds, without what `nft -f` could not read back from a
/// listing: there is no way to write a quotation mark or a line break in its strings.
pub(super) fn fitting_comment(text: &str) -> Cow<'_, str> {
    let is_bad = |c: char| c == '"' || c.is_control();
    let mut text = if text.contains(is_bad) {
        let good = |c| match c {
            '"' => '\'',
            c if c.is_control() => ' ',
            c => c,
        };
        Cow::Owned(text.chars().map(good).collect())
    } else {
        Cow::Borrowed(text)
    };
    let mut end = text.len().min(MAX_COMMENT - 1);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    match &mut text {
        Cow::Owned(text) => text.truncate(end),
        Cow::Borrowed(text) => *text = &text[..end],
    }
    text
}

/// The bytes of a key in a set with that role: an address, or a family in one byte.
pub(super) fn key_bytes_of(role: Role, family: Family, key: u128) -> Vec<u8> {
    match role {
        Role::Open | Role::Grace => vec![family as u8],
        _ => key_bytes(family, key),
    }
}

/// An element as the message takes it.
pub(super) type Element = ListAttribute<SetElementAttribute>;

fn bare(key: Vec<u8>, end: bool) -> Element {
    let mut attributes = vec![SetElementAttribute::Key(DataAttribute::Value(key))];
    if end {
        attributes.push(SetElementAttribute::Flags(SetElementFlags::IntervalEnd));
    }
    ListAttribute::Element(attributes)
}

/// An element with the time that is left of it (`None` is for ever) and its comment.
pub(super) fn element(key: Vec<u8>, left: Option<Duration>, comment: &str) -> Element {
    let mut attributes = vec![SetElementAttribute::Key(DataAttribute::Value(key))];
    if let Some(left) = left {
        attributes.push(SetElementAttribute::Timeout(millis(left)));
    }
    if !comment.is_empty() {
        attributes.push(SetElementAttribute::UserData(user_data(
            ELEMENT_COMMENT,
            comment,
        )));
    }
    ListAttribute::Element(attributes)
}

/// The key of an element, to delete it by.
pub(super) fn key_element(key: Vec<u8>) -> Element {
    bare(key, false)
}

/// The two elements of an interval: its start, and the address after its end. An interval that
/// ends with the last address has no second one.
pub(super) fn interval(
    family: Family,
    segment: &Segment,
    left: Option<Duration>,
) -> impl Iterator<Item = Element> + use<> {
    let start = element(
        key_bytes(family, segment.first),
        left,
        &segment.entry.reason,
    );
    let last_of_all = u128::MAX >> (128 - u32::from(family.bits()));
    let end = (segment.last < last_of_all).then(|| bare(key_bytes(family, segment.last + 1), true));
    std::iter::once(start).chain(end)
}

/// Adds one element that is not there yet (EEXIST if it is). By hand: whoever has knocked waits for
/// this message, and the library's way to it is several times as long.
pub(super) fn add_new(set: &str, key: &[u8], left: Option<Duration>, comment: &str) -> Step {
    // `struct nlmsghdr`, `struct nfgenmsg`, then `enum nft_set_elem_list_attributes`.
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(&[0; 4]);
    let kind = u16::from(SUBSYSTEM) << 8 | NEW_SET_ELEMENT;
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&(REQUEST | CREATE | EXCL).to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&[NFPROTO_INET, 0, 0, 0]);
    let text = |bytes: &mut Vec<u8>, kind, text: &str| {
        nest(bytes, kind, |bytes| {
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(0);
        });
    };
    text(&mut bytes, 1, TABLE);
    text(&mut bytes, 2, set);
    nest(&mut bytes, 3 | NESTED, |bytes| {
        // One of a list; `enum nft_set_elem_attributes` in it.
        nest(bytes, 1 | NESTED, |bytes| {
            nest(bytes, 1 | NESTED, |bytes| put(bytes, 1, key));
            if let Some(left) = left {
                put(bytes, 4, &millis(left).to_be_bytes());
            }
            if !comment.is_empty() {
                put(bytes, 6, &user_data(ELEMENT_COMMENT, comment));
            }
        });
    });
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    Step {
        bytes,
        operation: "add to",
        object: set.to_owned(),
    }
}

/// As the kernel takes a time: 0 would be for ever.
fn millis(left: Duration) -> u64 {
    u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// What is done to elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ElementVerb {
    Add,
    Delete,
    /// As `Delete`, but their absence is no error (Linux 6.3).
    Destroy,
}

/// As many messages as the elements need; an interval's two elements stay together.
pub(super) fn elements(verb: ElementVerb, set: &str, list: Vec<Element>) -> Vec<Step> {
    use netlink_packet_core::Emitable;
    let mut steps = Vec::new();
    let mut chunk: Vec<Element> = Vec::new();
    let mut length = 0;
    for element in list {
        let size = std::slice::from_ref(&element).buffer_len();
        // An end belongs to the start before it; it is short, and there is room for it.
        if !is_end(&element) && (chunk.len() >= MAX_ELEMENTS - 1 || length + size > MAX_LIST) {
            steps.push(elements_step(verb, set, std::mem::take(&mut chunk)));
            length = 0;
        }
        length += size;
        chunk.push(element);
    }
    if !chunk.is_empty() {
        steps.push(elements_step(verb, set, chunk));
    }
    steps
}

fn is_end(element: &Element) -> bool {
    matches!(element, ListAttribute::Element(attributes)
        if attributes.iter().any(|a| matches!(a, SetElementAttribute::Flags(_))))
}

fn elements_step(verb: ElementVerb, set: &str, list: Vec<Element>) -> Step {
    let list = elements_of(set, Some(list));
    match verb {
        ElementVerb::Add => step("add to", set, NfTablesMessage::NewSetElement(list), CREATE),
        ElementVerb::Delete | ElementVerb::Destroy => {
            let mut step = step(
                "delete from",
                set,
                NfTablesMessage::DeleteSetElement(list),
                0,
            );
            if verb == ElementVerb::Destroy {
                // Laid out like a deletion, under another number (the type in `struct nlmsghdr`).
                let kind = u16::from(SUBSYSTEM) << 8 | DESTROY_SET_ELEMENT;
                step.bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
            }
            step
        }
    }
}

/// Empties a set.
pub(super) fn flush_set(set: &str) -> Step {
    let list = elements_of(set, None);
    step("flush set", set, NfTablesMessage::DeleteSetElement(list), 0)
}

/// Destroys an element of a table that does not exist: ENOENT where the kernel knows how to,
/// EINVAL where it does not.
pub(super) fn destroy_probe() -> Step {
    let mut probe = elements_step(ElementVerb::Destroy, "probe", vec![bare(vec![0; 4], false)]);
    let name = b"knockd\0";
    if let Some(at) = probe.bytes.windows(name.len()).position(|w| w == name) {
        probe.bytes[at] = b'-';
    }
    probe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_by_hand_is_what_the_library_makes() {
        let second = Duration::from_secs(1);
        let cases: [(&[u8], Option<Duration>, &str); 4] = [
            (&[192, 0, 2, 1], Some(300 * second), "opencloseSSH"),
            (
                &[32; 16],
                Some(second / 10_000),
                "a \"reason\"\nof two lines",
            ),
            (&[192, 0, 2, 1], None, ""),
            (&[2], Some(second), &"long ".repeat(50)),
        ];
        for (key, left, comment) in cases {
            let set = "ssh_filter4";
            let element = element(key.to_vec(), left, comment);
            let [library] = &elements(ElementVerb::Add, set, vec![element])[..] else {
                panic!("more than one message");
            };
            let mut expected = library.bytes.clone();
            let flags = REQUEST | CREATE | EXCL;
            expected[6..8].copy_from_slice(&flags.to_ne_bytes());
            let made = add_new(set, key, left, comment);
            assert_eq!(made.bytes, expected, "{key:?} {left:?} {comment}");
        }
    }
}
