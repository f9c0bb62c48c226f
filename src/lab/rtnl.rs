//! Interfaces, addresses and routes of the network namespace that the calling thread is in:
//! `rtnetlink(7)`.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::net::if_::if_nametoindex;

const MAKE: u16 = NLM_F_CREATE | NLM_F_EXCL;

/// A pair of joined interfaces, the second in another namespace.
pub(super) fn add_veth(name: &str, peer: &str, peer_netns: BorrowedFd<'_>) -> io::Result<()> {
    let mut far = LinkMessage::default();
    far.attributes = vec![
        LinkAttribute::IfName(peer.to_owned()),
        LinkAttribute::NetNsFd(peer_netns.as_raw_fd()),
    ];
    let info = vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far))),
    ];
    add_link(name, info)
}

/// A bridge that forwards at once and floods multicast, as a plain wire would.
pub(super) fn add_bridge(name: &str) -> io::Result<()> {
    let info = vec![
        LinkInfo::Kind(InfoKind::Bridge),
        LinkInfo::Data(InfoData::Bridge(vec![
            InfoBridge::ForwardDelay(0),
            InfoBridge::MulticastSnooping(false),
        ])),
    ];
    add_link(name, info)
}

fn add_link(name: &str, info: Vec<LinkInfo>) -> io::Result<()> {
    let mut link = LinkMessage::default();
    link.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::LinkInfo(info),
    ];
    request(RouteNetlinkMessage::NewLink(link), MAKE).map(drop)
}

pub(super) fn delete_link(name: &str) -> io::Result<()> {
    let link = link(name)?;
    request(RouteNetlinkMessage::DelLink(link), 0).map(drop)
}

pub(super) fn set_up(name: &str, up: bool) -> io::Result<()> {
    let mut link = link(name)?;
    link.header.change_mask = LinkFlags::Up;
    if up {
        link.header.flags = LinkFlags::Up;
    }
    request(RouteNetlinkMessage::SetLink(link), 0).map(drop)
}

pub(super) fn set_bridge(name: &str, bridge: &str) -> io::Result<()> {
    let mut link = link(name)?;
    let bridge = if_nametoindex(bridge)?;
    link.attributes = vec![LinkAttribute::Controller(bridge)];
    request(RouteNetlinkMessage::SetLink(link), 0).map(drop)
}

/// Whether packets get through: up, with a carrier, and noticed by the stack.
pub(super) fn is_running(name: &str) -> io::Result<bool> {
    let answer = request(RouteNetlinkMessage::GetLink(link(name)?), 0)?;
    let wanted = LinkFlags::Up | LinkFlags::LowerUp | LinkFlags::Running;
    Ok(matches!(
        answer,
        Some(RouteNetlinkMessage::NewLink(link)) if link.header.flags.contains(wanted)
    ))
}

fn link(name: &str) -> io::Result<LinkMessage> {
    let mut link = LinkMessage::default();
    link.header.index = if_nametoindex(name)?;
    Ok(link)
}

pub(super) fn add_address(interface: &str, net: IpNet) -> io::Result<()> {
    let message = address(interface, net)?;
    request(RouteNetlinkMessage::NewAddress(message), MAKE).map(drop)
}

pub(super) fn delete_address(interface: &str, net: IpNet) -> io::Result<()> {
    let message = address(interface, net)?;
    request(RouteNetlinkMessage::DelAddress(message), 0).map(drop)
}

fn address(interface: &str, net: IpNet) -> io::Result<AddressMessage> {
    let mut message = AddressMessage::default();
    message.header.family = family(net.addr());
    message.header.prefix_len = net.prefix_len();
    message.header.scope = AddressScope::Universe;
    message.header.index = if_nametoindex(interface)?;
    message.attributes = vec![
        AddressAttribute::Local(net.addr()),
        AddressAttribute::Address(net.addr()),
    ];
    if net.addr().is_ipv6() {
        // Nobody else is there to have it; without this it is unusable for a second.
        message
            .attributes
            .push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    Ok(message)
}

pub(super) fn add_route(to: IpNet, via: IpAddr) -> io::Result<()> {
    let mut route = RouteMessage::default();
    route.header.address_family = family(via);
    route.header.destination_prefix_length = to.prefix_len();
    route.header.table = RouteHeader::RT_TABLE_MAIN;
    route.header.protocol = RouteProtocol::Static;
    route.header.scope = RouteScope::Universe;
    route.header.kind = RouteType::Unicast;
    route.attributes = vec![RouteAttribute::Gateway(via.into())];
    if to.prefix_len() > 0 {
        let to = to.trunc().addr();
        route
            .attributes
            .push(RouteAttribute::Destination(to.into()));
    }
    request(RouteNetlinkMessage::NewRoute(route), MAKE).map(drop)
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}

/// Sends one request and waits for its acknowledgement, or for the object asked for.
fn request(message: RouteNetlinkMessage, flags: u16) -> io::Result<Option<RouteNetlinkMessage>> {
    let mut packet = NetlinkMessage::from(message);
    packet.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    packet.header.sequence_number = 1;
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);

    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&bytes, 0)?;
    let mut object = None;
    loop {
        let (answer, _) = socket.recv_from_full()?;
        let mut rest = answer.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            let length = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(length..).unwrap_or_default();
            match message.payload {
                NetlinkPayload::Error(error) if error.code.is_some() => {
                    return Err(error.to_io());
                }
                NetlinkPayload::Error(_) => return Ok(object),
                NetlinkPayload::InnerMessage(inner) => object = Some(inner),
                _ => {}
            }
        }
    }
}
