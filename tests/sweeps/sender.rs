//! SYNs by hand, from any address that the host has, without a connection behind them.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

/// Sends SYNs. Must be made on the host that sends.
pub(crate) struct Sender {
    v4: Socket,
    v6: Socket,
    sent: u32,
}

/// What tells a SYN from another: sent again it is a retransmission.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Syn {
    source_port: u16,
    seq: u32,
    port: u16,
}

impl Sender {
    pub(crate) fn new() -> io::Result<Self> {
        let v4 = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP))?;
        v4.set_header_included_v4(true)?;
        let v6 = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::TCP))?;
        v6.set_header_included_v6(true)?;
        // Nobody reads the answers; the kernel resets what answers by itself.
        for socket in [&v4, &v6] {
            socket.set_recv_buffer_size(1)?;
        }
        Ok(Self { v4, v6, sent: 0 })
    }

    /// A SYN that was never sent before, to this port.
    pub(crate) fn fresh(&mut self, port: u16) -> Syn {
        self.sent += 1;
        let source_port = u16::try_from(1024 + self.sent % 60_000).expect("a port");
        let seq = self.sent;
        Syn {
            source_port,
            seq,
            port,
        }
    }

    pub(crate) fn send(&self, from: IpAddr, to: IpAddr, syn: Syn) -> io::Result<()> {
        let bytes = packet(from, to, syn);
        let socket = if from.is_ipv4() { &self.v4 } else { &self.v6 };
        socket.send_to(&bytes, &SocketAddr::new(to, 0).into())?;
        Ok(())
    }

    /// Fresh SYNs to these ports, one after the other.
    pub(crate) fn knock(&mut self, from: IpAddr, to: IpAddr, ports: &[u16]) -> io::Result<()> {
        for &port in ports {
            let syn = self.fresh(port);
            self.send(from, to, syn)?;
        }
        Ok(())
    }
}

/// A SYN of its own in replayed time.
pub(crate) fn numbered(from: IpAddr, to: IpAddr, port: u16, seq: u32) -> Vec<u8> {
    let source_port = 40_000;
    packet(
        from,
        to,
        Syn {
            source_port,
            seq,
            port,
        },
    )
}

/// RFC 791 or 8200, and RFC 9293, without options.
fn packet(from: IpAddr, to: IpAddr, syn: Syn) -> Vec<u8> {
    let mut tcp = vec![0; 20];
    tcp[0..2].copy_from_slice(&syn.source_port.to_be_bytes());
    tcp[2..4].copy_from_slice(&syn.port.to_be_bytes());
    tcp[4..8].copy_from_slice(&syn.seq.to_be_bytes());
    tcp[12] = 5 << 4; // header length in words
    tcp[13] = 2; // SYN
    tcp[14..16].copy_from_slice(&64_240_u16.to_be_bytes()); // window
    let (mut header, addresses) = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0];
            let addresses = [from.octets(), to.octets()].concat();
            header.extend(&addresses);
            (header, addresses)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut header = vec![0x60, 0, 0, 0, 0, 20, 6, 64];
            let addresses = [from.octets(), to.octets()].concat();
            header.extend(&addresses);
            (header, addresses)
        }
        _ => panic!("{from} and {to} are of different families"),
    };
    // The pseudo-header: both addresses, the protocol, the length.
    let checksum = !sum(&[&addresses, &tcp[..]].concat(), 6 + 20);
    tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
    header.extend(tcp);
    header
}

/// The sum of RFC 1071.
fn sum(bytes: &[u8], initial: u32) -> u16 {
    let words = bytes.chunks_exact(2);
    let total = words.fold(initial, |total, word| {
        total + u32::from(u16::from_be_bytes([word[0], word[1]]))
    });
    let folded = (total & 0xffff) + (total >> 16);
    u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(u16::MAX)
}
