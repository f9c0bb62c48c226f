//! Which TCP sockets there are, and resetting some of them, through the kernel's socket diagnosis
//! (`sock_diag(7)`, `linux/inet_diag.h`).
#![forbid(unsafe_code)]

mod destroy;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use crate::model::{KnockPort, PortRange, Proto};
use crate::netlink::{DUMP, Netlink, NetlinkError, REQUEST};

/// Why the sockets could not be listed.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot list {what} sockets: {source} (the kernel needs CONFIG_INET_DIAG, module inet_diag)"
)]
pub struct SessionError {
    /// `TCP`, `UDP`.
    pub what: Proto,
    /// What went wrong.
    #[source]
    pub source: NetlinkError,
}

/// Why sessions could not be reset.
#[derive(Debug, thiserror::Error)]
pub enum DestroyError {
    /// They could not be found.
    #[error(transparent)]
    Unlisted(#[from] SessionError),
    /// This kernel resets no sockets.
    #[error(
        "this kernel cannot reset open sessions (it is built without CONFIG_INET_DIAG_DESTROY)"
    )]
    Unknown,
    /// One of them could not be reset.
    #[error("cannot reset an open session: {0} (needs CAP_NET_ADMIN: run as root)")]
    Refused(#[source] NetlinkError),
}

pub use destroy::destroy;

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// Bits of `TCP_ESTABLISHED`, `TCP_CLOSE` (which is what an unconnected UDP socket is in) and
/// `TCP_LISTEN`.
const ESTABLISHED: u32 = 1 << 1;
const CLOSE: u32 = 1 << 7;
const LISTEN: u32 = 1 << 10;
/// Every state in which there is a peer to be told: besides `TCP_ESTABLISHED`, those of opening
/// (`TCP_SYN_RECV`, `TCP_NEW_SYN_RECV`) and of closing (`TCP_FIN_WAIT1`, `TCP_CLOSE_WAIT`,
/// `TCP_LAST_ACK`, `TCP_CLOSING`). Not `TCP_FIN_WAIT2`, which may be a mere memory of a socket.
const CONNECTED: u32 = ESTABLISHED | 1 << 3 | 1 << 12 | 1 << 4 | 1 << 8 | 1 << 9 | 1 << 11;
/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
const LENGTH: u32 = 16 + 56;

/// A socket as the kernel tells of it.
struct Found {
    family: u8,
    /// `struct inet_diag_sockid`, which names it among all.
    id: [u8; 48],
    local: SocketAddr,
    peer: SocketAddr,
    uid: u32,
}

/// An open TCP session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// Canonical.
    pub local: SocketAddr,
    /// Canonical.
    pub peer: SocketAddr,
    /// As whom it was accepted: 0 is root, as whom sshd does that.
    pub uid: u32,
}

/// All open TCP sessions.
pub fn open() -> Result<Vec<Open>, SessionError> {
    let found = socket_ids(Proto::Tcp, ESTABLISHED)?.into_iter();
    let open = |Found {
                    local, peer, uid, ..
                }| Open { local, peer, uid };
    Ok(found.map(open).collect())
}

/// Open TCP sessions with a local port in one of the ranges: local and peer address, both
/// canonical.
pub fn established(ports: &[PortRange]) -> Result<Vec<(SocketAddr, SocketAddr)>, SessionError> {
    let all = sockets(Proto::Tcp, ESTABLISHED)?;
    let wanted = |local: SocketAddr| {
        let port = KnockPort::tcp(local.port());
        ports.iter().any(|range| range.contains(port))
    };
    Ok(all
        .into_iter()
        .filter(|(local, _)| wanted(*local))
        .collect())
}

/// The ports that something listens on (TCP) or waits at (UDP), ascending, each once. What listens
/// on the loopback alone has nothing to say to other hosts.
pub fn listening_ports() -> Result<Vec<KnockPort>, SessionError> {
    let mut ports = Vec::new();
    for (proto, states) in [(Proto::Tcp, LISTEN), (Proto::Udp, CLOSE)] {
        let sockets = sockets(proto, states)?.into_iter();
        let reachable = sockets.filter(|(local, _)| !local.ip().is_loopback());
        ports.extend(reachable.map(|(local, _)| KnockPort {
            port: local.port(),
            proto,
        }));
    }
    ports.sort_unstable();
    ports.dedup();
    Ok(ports)
}

fn sockets(proto: Proto, states: u32) -> Result<Vec<(SocketAddr, SocketAddr)>, SessionError> {
    let found = socket_ids(proto, states)?.into_iter();
    Ok(found.map(|socket| (socket.local, socket.peer)).collect())
}

fn socket_ids(proto: Proto, states: u32) -> Result<Vec<Found>, SessionError> {
    let failed = |source| SessionError {
        what: proto,
        source,
    };
    let mut netlink = Netlink::open(NETLINK_SOCK_DIAG).map_err(failed)?;
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let request = request(family, proto, states);
        let dump = netlink.dump(request, |kind, payload, found| {
            if kind == BY_FAMILY {
                found.extend(socket(payload));
            }
        });
        match dump {
            Ok(sockets) => found.extend(sockets),
            // A kernel without IPv6.
            Err(error) if family == AF_INET6 && error.errno() == Some(libc::ENOENT) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(found)
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2` (56 bytes, of which the socket's identity,
/// the last 48, is left at zero: any).
fn request(family: u8, proto: Proto, states: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(LENGTH as usize);
    bytes.extend_from_slice(&LENGTH.to_ne_bytes());
    bytes.extend_from_slice(&BY_FAMILY.to_ne_bytes());
    bytes.extend_from_slice(&(REQUEST | DUMP).to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&[family, proto.number(), 0, 0]);
    bytes.extend_from_slice(&states.to_ne_bytes());
    bytes.resize(LENGTH as usize, 0);
    bytes
}

/// A `struct inet_diag_msg`: family, state, timer and retransmissions in a byte each, then the
/// identity, which begins with two ports and two addresses of 16 bytes each, and after three numbers
/// the owner.
fn socket(payload: &[u8]) -> Option<Found> {
    let family = *payload.first()?;
    let port = |at: usize| Some(u16::from_be_bytes(*payload.get(at..)?.first_chunk()?));
    let address = |at: usize| -> Option<IpAddr> {
        let bytes: &[u8; 16] = payload.get(at..)?.first_chunk()?;
        match family {
            AF_INET => Some(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into()),
            AF_INET6 => Some(Ipv6Addr::from(*bytes).to_canonical()),
            _ => None,
        }
    };
    Some(Found {
        family,
        id: *payload.get(4..)?.first_chunk()?,
        local: SocketAddr::new(address(8)?, port(4)?),
        peer: SocketAddr::new(address(24)?, port(6)?),
        uid: u32::from_ne_bytes(*payload.get(64..)?.first_chunk()?),
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use proptest::prelude::*;

    use super::*;

    fn only(port: u16) -> [PortRange; 1] {
        [PortRange {
            first: port,
            last: port,
            proto: Proto::Tcp,
        }]
    }

    #[test]
    fn a_session_is_found_by_its_local_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (_server, peer) = listener.accept().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        let found = established(&only(port)).unwrap();
        assert_eq!(found, [(listener.local_addr().unwrap(), peer)]);
    }

    #[test]
    fn it_is_known_as_whom_a_session_was_accepted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_server, peer) = listener.accept().unwrap();
        let found = open().unwrap();
        let found = found.iter().find(|it| it.peer == peer).unwrap();
        assert_eq!(found.local, client.peer_addr().unwrap());
        assert_eq!(found.uid, nix::unistd::geteuid().as_raw());
    }

    #[test]
    fn a_mapped_session_is_an_ipv4_session() {
        let listener = TcpListener::bind("[::]:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let _server = listener.accept().unwrap();
        let found = established(&only(port)).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].1, client.local_addr().unwrap());
    }

    #[test]
    fn listeners_are_found_while_they_listen() {
        let tcp = TcpListener::bind("0.0.0.0:0").unwrap();
        let udp = UdpSocket::bind("[::]:0").unwrap();
        let tcp_port = KnockPort::tcp(tcp.local_addr().unwrap().port());
        let udp_port = KnockPort::udp(udp.local_addr().unwrap().port());
        for port in [tcp_port, udp_port] {
            assert!(listening_ports().unwrap().contains(&port), "{port}");
        }
        drop(tcp);
        assert!(!listening_ports().unwrap().contains(&tcp_port));
    }

    #[test]
    fn whoever_listens_on_the_loopback_listens_to_nobody_else() {
        for address in [
            "127.0.0.1:0",
            "127.1.2.3:0",
            "[::1]:0",
            "[::ffff:127.0.0.1]:0",
        ] {
            let tcp = TcpListener::bind(address).unwrap();
            let udp = UdpSocket::bind(address).unwrap();
            let tcp_port = KnockPort::tcp(tcp.local_addr().unwrap().port());
            let udp_port = KnockPort::udp(udp.local_addr().unwrap().port());
            for port in [tcp_port, udp_port] {
                assert!(!listening_ports().unwrap().contains(&port), "{address}");
            }
        }
    }

    proptest! {
        #[test]
        fn garbage_is_a_socket_or_nothing(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = socket(&bytes);
        }
    }
}
