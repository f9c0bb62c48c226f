//! A network namespace, veth pairs in it, and frames sent from one end to the other.

use std::fs;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, unshare};
use nix::sys::socket::{
    AddressFamily as SocketFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket,
};
use nix::unistd::{Pid, getegid, geteuid};

/// Enters a new network namespace; an ordinary user becomes root of a user namespace for it.
pub(crate) fn enter_namespace() {
    let (user, group) = (geteuid(), getegid());
    if user.is_root() {
        unshare(CloneFlags::CLONE_NEWNET).expect("unshare the network");
        return;
    }
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)
        .expect("unshare user and network (are user namespaces allowed?)");
    fs::write("/proc/self/setgroups", "deny").expect("deny setgroups");
    fs::write("/proc/self/uid_map", format!("0 {user} 1")).expect("map the user");
    fs::write("/proc/self/gid_map", format!("0 {group} 1")).expect("map the group");
}

/// Keeps the calling thread, and those it starts, on the first or the last of the processors it
/// may run on, which may be the same: packets sent from one processor arrive in order.
pub(crate) fn pin(allowed: &[usize], last: bool) {
    let mut one = CpuSet::new();
    let cpu = if last {
        allowed.last()
    } else {
        allowed.first()
    };
    one.set(*cpu.unwrap()).unwrap();
    sched_setaffinity(Pid::from_raw(0), &one).unwrap();
}

/// The processors that this process may run on.
pub(crate) fn processors() -> Vec<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
    (0..CpuSet::count())
        .filter(|&n| allowed.is_set(n).unwrap())
        .collect()
}

fn request(message: RouteNetlinkMessage, flags: u16) {
    let mut socket = Socket::new(NETLINK_ROUTE).unwrap();
    socket.bind_auto().unwrap();
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send_to(&bytes, &SocketAddr::new(0, 0), 0).unwrap();
    let (answer, _) = socket.recv_from_full().unwrap();
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).unwrap();
    match answer.payload {
        NetlinkPayload::Error(error) if error.code.is_none() => {}
        other => panic!("{message:?}: {other:?}"),
    }
}

fn named(name: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    link
}

fn change(name: &str, changes: impl FnOnce(&mut LinkMessage)) {
    let mut link = LinkMessage::default();
    link.header.index = if_nametoindex(name).unwrap();
    changes(&mut link);
    request(RouteNetlinkMessage::SetLink(link), 0);
}

/// `ip link set NAME up`, or down.
pub(crate) fn set_up(name: &str, up: bool) {
    change(name, |link| {
        link.header.change_mask = LinkFlags::Up;
        if up {
            link.header.flags = LinkFlags::Up;
        }
    });
}

/// `ip link set NAME name NEW`
pub(crate) fn rename(name: &str, new: &str) {
    change(name, |link| link.attributes = named(new).attributes);
}

/// `ip link delete`
pub(crate) fn remove(index: u32) {
    let mut link = LinkMessage::default();
    link.header.index = index;
    request(RouteNetlinkMessage::DelLink(link), 0);
}

/// `ip address add ADDRESS/PREFIX dev NAME`, or del.
pub(crate) fn set_address(name: &str, address: IpAddr, prefix: u8, there: bool) {
    let mut message = AddressMessage::default();
    message.header.index = if_nametoindex(name).unwrap();
    message.header.prefix_len = prefix;
    message.header.family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
    ];
    if there {
        request(
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_CREATE | NLM_F_EXCL,
        );
    } else {
        request(RouteNetlinkMessage::DelAddress(message), 0);
    }
}

/// Two interfaces joined by a wire. Frames sent from `far` arrive at `near`.
pub(crate) struct Veth {
    near: String,
    far: LinkAddr,
    near_mac: [u8; 6],
    socket: OwnedFd,
}

impl Veth {
    /// A pair `name` and `name-far`, both up.
    pub(crate) fn new(name: &str) -> Self {
        let far = format!("{name}-far");
        let mut link = named(name);
        let peer = InfoData::Veth(InfoVeth::Peer(named(&far)));
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(peer),
        ]));
        request(
            RouteNetlinkMessage::NewLink(link),
            NLM_F_CREATE | NLM_F_EXCL,
        );
        set_up(name, true);
        set_up(&far, true);
        let link_address = |name: &str| {
            nix::ifaddrs::getifaddrs()
                .unwrap()
                .filter(|i| i.interface_name == name)
                .find_map(|i| i.address?.as_link_addr().copied())
                .unwrap()
        };
        Self {
            near: name.to_owned(),
            far: link_address(&far),
            near_mac: link_address(name).addr().unwrap(),
            socket: socket(
                SocketFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                None,
            )
            .unwrap(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.near
    }

    pub(crate) fn index(&self) -> u32 {
        if_nametoindex(self.near.as_str()).unwrap()
    }

    /// Sends an IP packet to `near`.
    pub(crate) fn send(&self, packet: &[u8]) {
        self.try_send(self.near_mac, packet).unwrap();
    }

    /// Sends an IP packet in a frame for somebody.
    pub(crate) fn try_send(&self, mac: [u8; 6], packet: &[u8]) -> nix::Result<()> {
        let ethertype: [u8; 2] = if packet[0] >> 4 == 6 {
            [0x86, 0xdd]
        } else {
            [0x08, 0x00]
        };
        let mut frame = Vec::with_capacity(14 + packet.len());
        frame.extend_from_slice(&mac);
        frame.extend_from_slice(&[2, 0, 0, 0, 0, 9]);
        frame.extend_from_slice(&ethertype);
        frame.extend_from_slice(packet);
        sendto(
            self.socket.as_raw_fd(),
            &frame,
            &self.far,
            MsgFlags::empty(),
        )?;
        Ok(())
    }

    pub(crate) fn mac(&self) -> [u8; 6] {
        self.near_mac
    }

    /// Both ends vanish.
    pub(crate) fn remove(self) {
        drop(self);
    }
}

impl Drop for Veth {
    fn drop(&mut self) {
        if let Ok(index) = if_nametoindex(self.near.as_str()) {
            remove(index);
        }
    }
}
