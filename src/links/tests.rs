use netlink_packet_core::{NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage, Prop};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use proptest::prelude::*;

use super::message::Message;
use super::*;

/// As the kernel would send it, encoded by somebody else's code.
fn encode(message: RouteNetlinkMessage, flags: u16) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.sequence_number = 7;
    header.flags = flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn link(index: u32, name: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.header.flags = LinkFlags::Up;
    link.attributes = vec![
        LinkAttribute::Mtu(1500),
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::PropList(vec![Prop::AltIfName(format!("alternative-{name}"))]),
    ];
    link
}

fn address(index: u32, prefix: u8, attributes: Vec<AddressAttribute>) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = prefix;
    message.header.family = match attributes.first() {
        Some(AddressAttribute::Address(IpAddr::V6(_))) => AddressFamily::Inet6,
        _ => AddressFamily::Inet,
    };
    message.attributes = attributes;
    message
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn interface(index: u32, name: &str) -> Interface {
    Interface {
        index,
        name: name.to_owned(),
        alternatives: vec![format!("alternative-{name}")],
        up: true,
        loopback: false,
    }
}

fn state_after(news: impl IntoIterator<Item = RouteNetlinkMessage>) -> State {
    let mut state = State::default();
    let bytes: Vec<u8> = news.into_iter().flat_map(|m| encode(m, 0)).collect();
    messages(&bytes).for_each(|message| state.take(message.news));
    state.settle();
    state
}

#[test]
fn a_datagram_holds_several_messages() {
    let mut bytes = encode(RouteNetlinkMessage::NewLink(link(3, "eth0")), 0);
    bytes.extend(encode(RouteNetlinkMessage::DelLink(link(4, "eth1")), 16));
    let got: Vec<Message> = messages(&bytes).collect();
    let message = |news, interrupted| Message {
        news,
        sequence: 7,
        interrupted,
    };
    assert_eq!(
        got,
        [
            message(News::Link(interface(3, "eth0")), false),
            message(News::NoLink(4), true)
        ]
    );
    // Cut off, the second is not there.
    assert_eq!(messages(&bytes[..bytes.len() - 1]).count(), 1);
}

#[test]
fn errors_and_ends_of_dumps() {
    let raw = |kind: u16, body: &[u8]| {
        let mut bytes = u32::try_from(16 + body.len())
            .unwrap()
            .to_ne_bytes()
            .to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        messages(&bytes).next().unwrap().news
    };
    assert_eq!(raw(3, &[0; 4]), News::Done);
    assert_eq!(
        raw(2, &(-libc::EPERM).to_ne_bytes()),
        News::Error(libc::EPERM)
    );
    assert_eq!(raw(2, &i32::MIN.to_ne_bytes()), News::Error(i32::MAX));
    assert_eq!(raw(2, &[]), News::Other);
    assert_eq!(raw(999, &[0; 40]), News::Other);
}

#[test]
fn a_port_that_leaves_its_bridge_is_still_an_interface() {
    let mut port = link(3, "eth0");
    port.header.interface_family = AddressFamily::Bridge;
    let state = state_after([
        RouteNetlinkMessage::NewLink(link(3, "eth0")),
        RouteNetlinkMessage::DelLink(port),
    ]);
    assert_eq!(state.interfaces().count(), 1);
}

#[test]
fn own_is_the_local_end_of_a_point_to_point_link() {
    let state = state_after([RouteNetlinkMessage::NewAddress(address(
        3,
        32,
        vec![
            AddressAttribute::Address(ip("192.0.2.2")),
            AddressAttribute::Local(ip("192.0.2.1")),
        ],
    ))]);
    assert_eq!(
        state.own().iter().copied().collect::<Vec<_>>(),
        [ip("192.0.2.1")]
    );
}

#[test]
fn an_address_is_own_as_long_as_one_interface_has_it() {
    let on = |index, prefix| {
        address(
            index,
            prefix,
            vec![AddressAttribute::Address(ip("2001:db8::1"))],
        )
    };
    let mut news = vec![
        RouteNetlinkMessage::NewAddress(on(3, 64)),
        RouteNetlinkMessage::NewAddress(on(3, 128)),
        RouteNetlinkMessage::NewAddress(on(4, 64)),
        RouteNetlinkMessage::DelAddress(on(3, 64)),
        RouteNetlinkMessage::DelAddress(on(3, 128)),
    ];
    assert!(state_after(news.clone()).own().contains(&ip("2001:db8::1")));
    news.push(RouteNetlinkMessage::DelLink(link(4, "eth1")));
    assert!(state_after(news).own().is_empty());
}

#[test]
fn broadcast_addresses_are_known() {
    let state = state_after([RouteNetlinkMessage::NewAddress(address(
        3,
        24,
        vec![
            AddressAttribute::Address(ip("192.0.2.1")),
            AddressAttribute::Local(ip("192.0.2.1")),
            AddressAttribute::Broadcast("192.0.2.255".parse().unwrap()),
        ],
    ))]);
    assert!(state.broadcast().contains(&ip("192.0.2.255")));
}

#[test]
fn names_lead_to_interfaces() {
    let mut news = vec![
        RouteNetlinkMessage::NewLink(link(3, "eth0")),
        RouteNetlinkMessage::NewLink(link(9, "eth1")),
    ];
    let names = ["eth1", "eth0:1", "alternative-eth0", "eth7", "eth7"].map(str::to_owned);
    let state = state_after(news.clone());
    assert_eq!(
        state.find(&names),
        Found {
            indexes: vec![3, 9],
            missing: vec!["eth7".to_owned()]
        }
    );
    news.push(RouteNetlinkMessage::NewLink(link(9, "eth7")));
    let renamed = state_after(news);
    assert_eq!(
        renamed.find(&names),
        Found {
            indexes: vec![3, 9],
            missing: vec!["eth1".to_owned()]
        }
    );
    assert_eq!(
        renamed.change_since(&state),
        Change {
            interfaces: true,
            addresses: false
        }
    );
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut state = State::default();
        messages(&bytes).for_each(|m| state.take(m.news));
    }

    #[test]
    fn damaged_messages_never_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encode(RouteNetlinkMessage::NewLink(link(3, "eth0")), 0);
        let address = address(3, 24, vec![AddressAttribute::Address(ip("192.0.2.1"))]);
        bytes.extend(encode(RouteNetlinkMessage::NewAddress(address), 0));
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        let mut state = State::default();
        messages(&bytes).for_each(|m| state.take(m.news));
    }
}
