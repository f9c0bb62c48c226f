//! Resetting sessions: `SOCK_DESTROY` (`linux/sock_diag.h`, Linux 4.5, CONFIG_INET_DIAG_DESTROY).
//! The kernel aborts the socket as the program would with `SO_LINGER` and no time: the program
//! reads ECONNABORTED, the peer gets a reset.

use std::net::SocketAddr;

use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use super::{CONNECTED, DestroyError, LENGTH, socket_ids};
use crate::model::Proto;
use crate::netlink::{ACK, Netlink, REQUEST};

/// `SOCK_DESTROY`.
const DESTROY: u16 = 21;

/// Resets the TCP sessions of this host that `is_meant` (local address, peer's address, both
/// canonical) names, those still being opened or closed among them; how many there were.
pub fn destroy(is_meant: impl Fn(SocketAddr, SocketAddr) -> bool) -> Result<usize, DestroyError> {
    let found = socket_ids(Proto::Tcp, CONNECTED)?;
    let mut meant = found
        .into_iter()
        .filter(|socket| is_meant(socket.local, socket.peer))
        .peekable();
    if meant.peek().is_none() {
        return Ok(0);
    }
    let mut netlink = Netlink::open(NETLINK_SOCK_DIAG).map_err(DestroyError::Refused)?;
    let mut destroyed = 0;
    let (mut failed, mut is_unknown) = (None, false);
    for socket in meant {
        let mut request = Vec::with_capacity(LENGTH as usize);
        request.extend_from_slice(&LENGTH.to_ne_bytes());
        request.extend_from_slice(&DESTROY.to_ne_bytes());
        request.extend_from_slice(&(REQUEST | ACK).to_ne_bytes());
        request.extend_from_slice(&[0; 8]);
        request.extend_from_slice(&[socket.family, Proto::Tcp.number(), 0, 0]);
        request.extend_from_slice(&u32::MAX.to_ne_bytes());
        request.extend_from_slice(&socket.id);
        match netlink.ask(request, |_, _| None::<()>) {
            Ok(_) => destroyed += 1,
            // It ended by itself.
            Err(error) if error.errno() == Some(libc::ENOENT) => {}
            // So says a kernel that can do it, too, of a socket that has just become a memory.
            Err(error) if error.errno() == Some(libc::EOPNOTSUPP) => is_unknown = true,
            // The others all the same.
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        Some(error) => Err(DestroyError::Refused(error)),
        None if is_unknown && destroyed == 0 => Err(DestroyError::Unknown),
        None => Ok(destroyed),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_session_is_reset_at_both_ends_and_its_neighbour_and_the_listener_are_not() {
        // Also for IPv4 sessions of an IPv6 socket.
        for at in ["127.0.0.1:0", "[::]:0"] {
            let listener = TcpListener::bind(at).unwrap();
            let port = listener.local_addr().unwrap().port();
            let open = || {
                let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
                (client, listener.accept().unwrap().0)
            };
            let (mut client, mut server) = open();
            let (other_client, mut other_server) = open();
            let peer = client.local_addr().unwrap();
            let count = destroy(|local, from| local.port() == port && from == peer).unwrap();
            assert_eq!(count, 1);
            let mut buffer = [0];
            let error = server.read(&mut buffer).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
            let error = client.read(&mut buffer).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            let short = Some(Duration::from_millis(20));
            other_server.set_read_timeout(short).unwrap();
            let error = other_server.read(&mut buffer).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock, "its neighbour");
            drop(other_client);
            open();
        }
    }

    #[test]
    fn nobody_meant_is_nothing_done() {
        assert_eq!(destroy(|_, _| false).unwrap(), 0);
    }
}
