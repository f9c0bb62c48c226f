use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use socket2::{Domain, Socket, Type};

use crate::model::Proto;

/// Sends one knock and does not wait for anything.
pub(super) fn knock(target: SocketAddr, proto: Proto) -> io::Result<()> {
    match proto {
        Proto::Tcp => tcp(target),
        Proto::Udp => udp(target),
    }
}

/// The SYN leaves while `connect` runs; closing the socket then forgets the connection without
/// another packet (tcp(7)), and without a retransmission that would be a second knock.
fn tcp(target: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&target.into()) {
        Err(error) if !is_sent(&error) => Err(error),
        _ => Ok(()),
    }
}

/// A non-blocking connection under way (connect(2)); the standard library has no stable word for it.
const EINPROGRESS: i32 = if cfg!(target_os = "linux") { 115 } else { 36 };

/// Windows says `WSAEWOULDBLOCK` instead of EINPROGRESS; a refusal, which the loopback interface
/// delivers at once, has seen the packet, too.
pub(super) fn is_sent(error: &io::Error) -> bool {
    error.raw_os_error() == Some(EINPROGRESS)
        || matches!(
            error.kind(),
            io::ErrorKind::WouldBlock
                | io::ErrorKind::ConnectionRefused
                | io::ErrorKind::ConnectionReset
        )
}

/// One zero byte, as the classic client sends it.
fn udp(target: SocketAddr) -> io::Result<()> {
    let any: SocketAddr = match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    UdpSocket::bind(any)?.send_to(&[0], target).map(drop)
}
