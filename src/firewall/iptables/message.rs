//! The messages of ip_set, as bytes and back (linux/netfilter/ipset/ip_set.h,
//! kernel/net/netfilter/ipset/ip_set_core.c).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::names::{Family, Kind};
use crate::netlink::attr::{Attr, NESTED, attrs, find, put};
use crate::netlink::{ACK, DUMP, EXCL, REQUEST};

/// `NFNL_SUBSYS_IPSET`.
const SUBSYSTEM: u16 = 6;
/// `IPSET_PROTOCOL` since Linux 4.20.
const PROTOCOL: u8 = 7;
const HEADER: usize = 16;
const NET_BYTEORDER: u16 = 0x4000;

/// `enum ipset_cmd`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Create = 2,
    Destroy = 3,
    Swap = 6,
    List = 7,
    Add = 9,
    Del = 10,
    Test = 11,
    Type = 13,
}

// Attributes at command level.
const ATTR_PROTOCOL: u16 = 1;
const ATTR_SETNAME: u16 = 2;
const ATTR_TYPENAME: u16 = 3;
const ATTR_REVISION: u16 = 4;
const ATTR_FAMILY: u16 = 5;
const ATTR_FLAGS: u16 = 6;
const ATTR_DATA: u16 = 7;
const ATTR_ADT: u16 = 8;
const ATTR_LINENO: u16 = 9;
// Attributes of data.
const DATA_IP: u16 = 1;
const DATA_CIDR: u16 = 3;
const DATA_PORT: u16 = 4;
const DATA_TIMEOUT: u16 = 6;
const DATA_PROTO: u16 = 7;
const DATA_FLAGS: u16 = 8;
const DATA_LINENO: u16 = 9;
const DATA_MAXELEM: u16 = 19;
const DATA_ELEMENTS: u16 = 24;
const DATA_REFERENCES: u16 = 25;
const DATA_COMMENT: u16 = 26;
/// `IPSET_FLAG_LIST_HEADER`.
const LIST_HEADER: u32 = 1 << 2;
/// `IPSET_FLAG_WITH_COMMENT`.
const WITH_COMMENT: u32 = 1 << 4;
/// `IPPROTO_TCP`.
const TCP: u8 = 6;

/// Errors of ip_set's own (`enum ipset_errno`).
pub(super) mod errno {
    pub(in super::super) const FIND_TYPE: i32 = 4098;
    pub(in super::super) const MAX_SETS: i32 = 4099;
    pub(in super::super) const BUSY: i32 = 4100;
    pub(in super::super) const TYPE_MISMATCH: i32 = 4102;
    /// On TEST and DEL: it is not there.
    pub(in super::super) const EXIST: i32 = 4103;
    pub(in super::super) const REFERENCED: i32 = 4108;
    pub(in super::super) const HASH_FULL: i32 = 4352;
}

/// The longest list of elements in one message: its attribute's length is 16 bits.
const LIST_MAX: usize = 60_000;

fn put_text(bytes: &mut Vec<u8>, kind: u16, text: &str) {
    put(bytes, kind, &[text.as_bytes(), &[0]].concat());
}

fn put_number(bytes: &mut Vec<u8>, kind: u16, number: u32) {
    put(bytes, kind | NET_BYTEORDER, &number.to_be_bytes());
}

fn begin(command: Command, flags: u16) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    let kind = (SUBSYSTEM << 8) | command as u16;
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[6..8].copy_from_slice(&(REQUEST | ACK | flags).to_ne_bytes());
    // `struct nfgenmsg`: AF_INET, which says nothing about the set.
    bytes.extend_from_slice(&[2, 0, 0, 0]);
    put(&mut bytes, ATTR_PROTOCOL, &[PROTOCOL]);
    bytes
}

fn end(mut bytes: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes
}

/// Asks which revisions of a type there are.
pub(super) fn ask_type(kind: Kind, family: Family) -> Vec<u8> {
    let mut bytes = begin(Command::Type, 0);
    put_text(&mut bytes, ATTR_TYPENAME, kind.name());
    put(&mut bytes, ATTR_FAMILY, &[family as u8]);
    end(bytes)
}

/// The highest revision in the answer.
pub(super) fn revision(payload: &[u8]) -> Option<u8> {
    find(payload.get(4..)?, ATTR_REVISION)?
        .value
        .first()
        .copied()
}

/// Makes a set.
pub(super) fn create(
    name: &str,
    kind: Kind,
    family: Family,
    revision: u8,
    comments: bool,
    maxelem: u32,
) -> Vec<u8> {
    let mut data = Vec::new();
    put_number(&mut data, DATA_MAXELEM, maxelem);
    // 0: members without a time of their own stay.
    put_number(&mut data, DATA_TIMEOUT, 0);
    if comments {
        put_number(&mut data, DATA_FLAGS, WITH_COMMENT);
    }
    let mut bytes = begin(Command::Create, EXCL);
    put_text(&mut bytes, ATTR_SETNAME, name);
    put_text(&mut bytes, ATTR_TYPENAME, kind.name());
    put(&mut bytes, ATTR_REVISION, &[revision]);
    put(&mut bytes, ATTR_FAMILY, &[family as u8]);
    put(&mut bytes, ATTR_DATA | NESTED, &data);
    end(bytes)
}

/// Removes a set.
pub(super) fn destroy(name: &str) -> Vec<u8> {
    let mut bytes = begin(Command::Destroy, 0);
    put_text(&mut bytes, ATTR_SETNAME, name);
    end(bytes)
}

/// Lets two sets change their contents.
pub(super) fn swap(a: &str, b: &str) -> Vec<u8> {
    let mut bytes = begin(Command::Swap, 0);
    put_text(&mut bytes, ATTR_SETNAME, a);
    // IPSET_ATTR_SETNAME2 is IPSET_ATTR_TYPENAME.
    put_text(&mut bytes, ATTR_TYPENAME, b);
    end(bytes)
}

/// Lists a set, or all of them; only what they are made of, or with their members.
pub(super) fn list(name: Option<&str>, members: bool) -> Vec<u8> {
    let mut bytes = begin(Command::List, DUMP);
    if let Some(name) = name {
        put_text(&mut bytes, ATTR_SETNAME, name);
    }
    if !members {
        put_number(&mut bytes, ATTR_FLAGS, LIST_HEADER);
    }
    end(bytes)
}

/// A member as it is written and read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) key: Key,
    /// Seconds; 0 is for ever.
    pub(super) timeout: u32,
    pub(super) comment: String,
}

/// What a set holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Key {
    /// Of a `hash:net`.
    Net(IpNet),
    /// Of a `hash:ip,port`, always TCP.
    Peer(IpAddr, u16),
}

fn put_key(bytes: &mut Vec<u8>, key: Key) {
    let address = match key {
        Key::Net(net) => net.addr(),
        Key::Peer(address, _) => address,
    };
    let mut nested = Vec::new();
    match address {
        IpAddr::V4(v4) => put(&mut nested, 1 | NET_BYTEORDER, &v4.octets()),
        IpAddr::V6(v6) => put(&mut nested, 2 | NET_BYTEORDER, &v6.octets()),
    }
    put(bytes, DATA_IP | NESTED, &nested);
    match key {
        Key::Net(net) => put(bytes, DATA_CIDR, &[net.prefix_len()]),
        Key::Peer(_, port) => {
            put(bytes, DATA_PORT | NET_BYTEORDER, &port.to_be_bytes());
            put(bytes, DATA_PROTO, &[TCP]);
        }
    }
}

fn data(element: &Element, with_value: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(48);
    put_key(&mut bytes, element.key);
    if with_value {
        put_number(&mut bytes, DATA_TIMEOUT, element.timeout);
        if !element.comment.is_empty() {
            put_text(&mut bytes, DATA_COMMENT, &element.comment);
        }
    }
    bytes
}

/// Adds, takes out or looks for one member.
pub(super) fn one(command: Command, set: &str, element: &Element) -> Vec<u8> {
    let mut bytes = begin(command, 0);
    put_text(&mut bytes, ATTR_SETNAME, set);
    let data = data(element, command == Command::Add);
    put(&mut bytes, ATTR_DATA | NESTED, &data);
    end(bytes)
}

/// A message that adds or takes out as many as fit into one, and which these are; `None` if there
/// are none. They are asked for only now: what is left of a time is to be what is left when it is
/// sent.
pub(super) fn several(
    command: Command,
    set: &str,
    elements: &mut impl Iterator<Item = Element>,
) -> Option<(Vec<u8>, Vec<Element>)> {
    let mut list = Vec::new();
    let mut these = Vec::new();
    while list.len() < LIST_MAX {
        let Some(element) = elements.next() else {
            break;
        };
        let mut data = data(&element, command == Command::Add);
        these.push(element);
        let line = u32::try_from(these.len()).unwrap_or(u32::MAX);
        put_number(&mut data, DATA_LINENO, line);
        put(&mut list, ATTR_DATA | NESTED, &data);
    }
    if these.is_empty() {
        return None;
    }
    let mut bytes = begin(command, 0);
    put_text(&mut bytes, ATTR_SETNAME, set);
    // The kernel wants a place for the number of the line that failed.
    put(&mut bytes, ATTR_LINENO, &0u32.to_ne_bytes());
    put(&mut bytes, ATTR_ADT | NESTED, &list);
    Some((end(bytes), these))
}

/// What a set is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) family: u8,
    pub(super) maxelem: u32,
    pub(super) has_timeout: bool,
    pub(super) has_comment: bool,
    pub(super) elements: u32,
    pub(super) references: u32,
}

/// The header in a part of a dump, if it is the one that has it.
pub(super) fn header(payload: &[u8]) -> Option<Header> {
    let attributes = payload.get(4..)?;
    let data = find(attributes, ATTR_DATA)?.value;
    let number = |kind| find(data, kind).and_then(Attr::u32_be);
    Some(Header {
        name: find(attributes, ATTR_SETNAME)?.text()?.to_owned(),
        kind: find(attributes, ATTR_TYPENAME)?.text()?.to_owned(),
        family: *find(attributes, ATTR_FAMILY)?.value.first()?,
        maxelem: number(DATA_MAXELEM).unwrap_or(0),
        has_timeout: number(DATA_TIMEOUT).is_some(),
        has_comment: number(DATA_FLAGS).unwrap_or(0) & WITH_COMMENT != 0,
        elements: number(DATA_ELEMENTS).unwrap_or(0),
        references: number(DATA_REFERENCES).unwrap_or(0),
    })
}

/// The members in a part of a dump.
pub(super) fn elements(payload: &[u8], found: &mut Vec<Element>) {
    let list = payload.get(4..).and_then(|bytes| find(bytes, ATTR_ADT));
    if let Some(list) = list {
        found.extend(list.nested().filter_map(|data| element(data.value)));
    }
}

fn element(data: &[u8]) -> Option<Element> {
    let (mut address, mut cidr, mut port) = (None, None, None);
    let (mut timeout, mut comment) = (0, "");
    for attribute in attrs(data) {
        match attribute.kind {
            DATA_IP => {
                let inner = attribute.nested().next()?;
                address = Some(match inner.value.len() {
                    4 => IpAddr::from(Ipv4Addr::from(*inner.value.first_chunk::<4>()?)),
                    _ => IpAddr::from(Ipv6Addr::from(*inner.value.first_chunk::<16>()?)),
                });
            }
            DATA_CIDR => cidr = attribute.value.first().copied(),
            DATA_PORT => port = Some(u16::from_be_bytes(*attribute.value.first_chunk()?)),
            DATA_TIMEOUT => timeout = attribute.u32_be()?,
            DATA_COMMENT => comment = attribute.text().unwrap_or_default(),
            _ => {}
        }
    }
    let address = address?;
    let key = if let Some(port) = port {
        Key::Peer(address, port)
    } else {
        let full = if address.is_ipv4() { 32 } else { 128 };
        Key::Net(IpNet::new(address, cidr.unwrap_or(full)).ok()?.trunc())
    };
    Some(Element {
        key,
        timeout,
        comment: comment.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn some(count: u32) -> Vec<Element> {
        let element = |number: u32| Element {
            key: Key::Net(IpNet::from(IpAddr::from(number.to_be_bytes()))),
            timeout: number,
            comment: format!("the reason of number {number}"),
        };
        (0..count).map(element).collect()
    }

    #[test]
    fn what_was_written_is_read() {
        let elements_in = [
            Element {
                key: Key::Net("192.0.2.0/24".parse().unwrap()),
                timeout: 300,
                comment: "a knock".into(),
            },
            Element {
                key: Key::Peer("2001:db8::1".parse().unwrap(), 4711),
                timeout: 0,
                comment: String::new(),
            },
        ];
        let mut rest = elements_in.clone().into_iter();
        let (message, these) = several(Command::Add, "ssh_filter4", &mut rest).unwrap();
        assert_eq!(these, elements_in);
        let mut found = Vec::new();
        elements(&message[HEADER..], &mut found);
        assert_eq!(found, elements_in);
        assert_eq!(several(Command::Add, "ssh_filter4", &mut rest), None);
    }

    #[test]
    fn long_lists_are_split_and_lose_nothing() {
        let all = some(5_000);
        let (mut found, mut messages) = (Vec::new(), 0);
        let mut rest = all.iter().cloned();
        while let Some((message, these)) = several(Command::Add, "ssh_trusted4", &mut rest) {
            let before = found.len();
            elements(&message[HEADER..], &mut found);
            assert_eq!(found[before..], these);
            // The length of an attribute has 16 bits (linux/netlink.h).
            assert!(message.len() < LIST_MAX + 500);
            messages += 1;
        }
        assert!(messages > 1);
        assert_eq!(found, all);
    }

    #[test]
    fn a_set_is_made_as_asked_for() {
        let message = create("ssh_filter4", Kind::Net, Family::V4, 7, true, 1 << 20);
        let length = u32::from_ne_bytes(*message.first_chunk().unwrap());
        assert_eq!(u32::try_from(message.len()), Ok(length));
        let header = header(&message[HEADER..]).unwrap();
        assert_eq!(
            (header.name.as_str(), header.kind.as_str()),
            ("ssh_filter4", "hash:net")
        );
        assert!(header.has_timeout && header.has_comment);
        assert_eq!((header.family, header.maxelem), (2, 1 << 20));
    }

    proptest! {
        #[test]
        fn garbage_is_nothing_or_something_bounded(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut found = Vec::new();
            elements(&bytes, &mut found);
            prop_assert!(found.len() <= bytes.len());
            let _ = (header(&bytes), revision(&bytes), element(&bytes));
        }
    }
}
