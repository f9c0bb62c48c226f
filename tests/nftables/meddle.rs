//! A hand that meddles with the ruleset as somebody else would.

use netlink_packet_core::{NetlinkHeader, NetlinkMessage};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DataAttribute, ListAttribute, NfTablesMessage, RuleAttribute,
    RuleMessage, SetAttribute, SetElementAttribute, SetElementList, SetElementMessage, SetFlags,
    SetMessage, TableAttribute, TableFlags, TableMessage,
};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};
use netlink_sys::protocols::NETLINK_NETFILTER;
use portcullis::netlink::Netlink;

/// Somebody else's changes, in one batch.
pub(crate) fn meddle(messages: Vec<(NfTablesMessage, u16)>) {
    let messages: Vec<Vec<u8>> = messages
        .into_iter()
        .map(|(message, flags)| {
            let mut header = NetlinkHeader::default();
            header.flags = portcullis::netlink::REQUEST | flags;
            let inner = NetfilterMessage::new(
                NetfilterHeader::new(NetfilterProtoFamily::Inet, 0, 0),
                message,
            );
            let mut message = NetlinkMessage::new(header, inner.into());
            message.finalize();
            let mut bytes = vec![0; message.buffer_len()];
            message.serialize(&mut bytes);
            bytes
        })
        .collect();
    let mut netlink = Netlink::open(NETLINK_NETFILTER).unwrap();
    netlink
        .batch(10, None, messages.iter().map(Vec::as_slice))
        .unwrap();
}

pub(crate) fn table(flags: Option<TableFlags>) -> TableMessage {
    let mut attributes = vec![TableAttribute::Name("knockd".to_owned())];
    attributes.extend(flags.map(TableAttribute::Flags));
    TableMessage { attributes }
}

pub(crate) fn chain(name: &str) -> ChainMessage {
    ChainMessage {
        attributes: vec![
            ChainAttribute::Table("knockd".to_owned()),
            ChainAttribute::Name(name.to_owned()),
        ],
    }
}

pub(crate) fn rules_of(chain: &str) -> RuleMessage {
    RuleMessage {
        attributes: vec![
            RuleAttribute::Table("knockd".to_owned()),
            RuleAttribute::Chain(chain.to_owned()),
        ],
    }
}

pub(crate) fn set(name: &str, key_type: u32, key_len: u32) -> SetMessage {
    SetMessage {
        attributes: vec![
            SetAttribute::Table("knockd".to_owned()),
            SetAttribute::Name(name.to_owned()),
            SetAttribute::Flags(SetFlags::empty()),
            SetAttribute::KeyType(key_type),
            SetAttribute::KeyLen(key_len),
            SetAttribute::Id(1),
        ],
    }
}

pub(crate) fn elements_of(set: &str) -> SetElementMessage {
    SetElementMessage {
        attributes: vec![
            SetElementList::Table("knockd".to_owned()),
            SetElementList::Set(set.to_owned()),
        ],
    }
}

/// Takes hosts out of a set.
pub(crate) fn delete_elements(set: &str, hosts: &[[u8; 4]]) {
    let element = |host: &[u8; 4]| {
        let key = SetElementAttribute::Key(DataAttribute::Value(host.to_vec()));
        ListAttribute::Element(vec![key])
    };
    let mut message = elements_of(set);
    let list = hosts.iter().map(element).collect();
    message.attributes.push(SetElementList::Elements(list));
    meddle(vec![(NfTablesMessage::DeleteSetElement(message), 0)]);
}
