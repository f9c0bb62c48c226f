//! Packets and captures, made byte by byte.

use std::net::IpAddr;

use etherparse::PacketBuilder;

use super::input::Order;

pub(super) const HERE: &str = "192.0.2.1";
pub(super) const HERE_6: &str = "2001:db8::1";

/// A second after which all captures here begin.
pub(super) const START: u64 = 1_700_000_000;

/// An IP packet with a TCP header.
pub(super) fn tcp(from: &str, to: &str, ports: (u16, u16), flags: &str, seq: u32) -> Vec<u8> {
    let builder = match (from.parse().unwrap(), to.parse().unwrap()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), 60),
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), 60),
        _ => panic!("two families"),
    };
    let mut builder = builder.tcp(ports.0, ports.1, seq, 1024);
    if flags.contains('S') {
        builder = builder.syn();
    }
    if flags.contains('A') {
        builder = builder.ack(1);
    }
    let mut bytes = Vec::new();
    builder.write(&mut bytes, &[]).unwrap();
    bytes
}

/// A SYN with a sequence number that follows from its ports.
pub(super) fn syn(from: &str, to: &str, port: u16) -> Vec<u8> {
    tcp(from, to, (40_000, port), "S", u32::from(port) * 7919)
}

pub(super) fn udp(from: &str, to: &str, port: u16) -> Vec<u8> {
    datagram(from, to, (40_000, port))
}

pub(super) fn datagram(from: &str, to: &str, ports: (u16, u16)) -> Vec<u8> {
    let (IpAddr::V4(from), IpAddr::V4(to)) = (from.parse().unwrap(), to.parse().unwrap()) else {
        panic!("IPv4 only");
    };
    let builder = PacketBuilder::ipv4(from.octets(), to.octets(), 60).udp(ports.0, ports.1);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, &[0]).unwrap();
    bytes
}

/// From one card to another, of which only the last bytes differ.
pub(super) fn framed(ip: &[u8], from: u8, to: u8) -> Vec<u8> {
    let mut frame = ethernet(ip, [2, 0, 0, 0, 0, to], &[]);
    frame[11] = from;
    frame
}

/// Behind an Ethernet header and as many VLAN tags.
pub(super) fn ethernet(ip: &[u8], to: [u8; 6], tags: &[u16]) -> Vec<u8> {
    let mut frame = to.to_vec();
    frame.extend([2, 0, 0, 0, 0, 2]);
    for tag in tags {
        frame.extend(tag.to_be_bytes());
        frame.extend(7_u16.to_be_bytes());
    }
    frame.extend(ethertype(ip));
    frame.extend(ip);
    frame
}

pub(super) const UNICAST: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn ethertype(ip: &[u8]) -> [u8; 2] {
    if ip[0] >> 4 == 4 {
        [0x08, 0x00]
    } else {
        [0x86, 0xdd]
    }
}

pub(super) fn sll(ip: &[u8], packet_type: u16, device: u16) -> Vec<u8> {
    let mut frame = packet_type.to_be_bytes().to_vec();
    frame.extend(device.to_be_bytes());
    frame.extend([0, 6, 2, 0, 0, 0, 0, 2, 0, 0]);
    frame.extend(ethertype(ip));
    frame.extend(ip);
    frame
}

pub(super) fn sll2(ip: &[u8], packet_type: u8, device: u16, interface: u32) -> Vec<u8> {
    let mut frame = ethertype(ip).to_vec();
    frame.extend([0, 0]);
    frame.extend(interface.to_be_bytes());
    frame.extend(device.to_be_bytes());
    frame.extend([packet_type, 6, 2, 0, 0, 0, 0, 2, 0, 0]);
    frame.extend(ip);
    frame
}

/// Numbers in either order of bytes.
pub(super) struct Bytes {
    order: Order,
    pub(super) all: Vec<u8>,
}

impl Bytes {
    pub(super) fn new(order: Order) -> Self {
        let all = Vec::new();
        Self { order, all }
    }

    pub(super) fn u16(&mut self, number: u16) -> &mut Self {
        match self.order {
            Order::Big => self.all.extend(number.to_be_bytes()),
            Order::Little => self.all.extend(number.to_le_bytes()),
        }
        self
    }

    pub(super) fn u32(&mut self, number: u32) -> &mut Self {
        match self.order {
            Order::Big => self.all.extend(number.to_be_bytes()),
            Order::Little => self.all.extend(number.to_le_bytes()),
        }
        self
    }

    pub(super) fn u64(&mut self, number: u64) -> &mut Self {
        match self.order {
            Order::Big => self.all.extend(number.to_be_bytes()),
            Order::Little => self.all.extend(number.to_le_bytes()),
        }
        self
    }

    fn padded(&mut self, bytes: &[u8]) -> &mut Self {
        self.all.extend(bytes);
        while !self.all.len().is_multiple_of(4) {
            self.all.push(0);
        }
        self
    }

    fn block(&mut self, kind: u32, body: &[u8]) -> &mut Self {
        let length = u32::try_from(body.len()).unwrap().next_multiple_of(4) + 12;
        self.u32(kind).u32(length).padded(body).u32(length)
    }

    /// The header of a pcapng section.
    pub(super) fn section(&mut self) -> &mut Self {
        let mut body = Self::new(self.order);
        body.u32(0x1a2b_3c4d).u16(1).u16(0).u64(u64::MAX);
        self.block(0x0a0d_0d0a, &body.all)
    }

    /// An interface with options.
    pub(super) fn interface(&mut self, link: u16, options: &[(u16, &[u8])]) -> &mut Self {
        let mut body = Self::new(self.order);
        body.u16(link).u16(0).u32(0);
        for (code, value) in options {
            let length = u16::try_from(value.len()).unwrap();
            body.u16(*code).u16(length).padded(value);
        }
        if !options.is_empty() {
            body.u16(0).u16(0);
        }
        self.block(1, &body.all)
    }

    /// A packet, with the ticks of its interface's clock.
    pub(super) fn packet(&mut self, interface: u32, ticks: u64, bytes: &[u8]) -> &mut Self {
        let length = u32::try_from(bytes.len()).unwrap();
        let high = u32::try_from(ticks >> 32).unwrap();
        let low = u32::try_from(ticks & 0xffff_ffff).unwrap();
        let mut body = Self::new(self.order);
        body.u32(interface)
            .u32(high)
            .u32(low)
            .u32(length)
            .u32(length);
        body.padded(bytes);
        self.block(6, &body.all)
    }

    /// A packet without a time.
    pub(super) fn simple(&mut self, bytes: &[u8]) -> &mut Self {
        let mut body = Self::new(self.order);
        body.u32(u32::try_from(bytes.len()).unwrap()).padded(bytes);
        self.block(3, &body.all)
    }

    /// A block of another kind.
    pub(super) fn other(&mut self, kind: u32, bytes: &[u8]) -> &mut Self {
        self.block(kind, bytes)
    }
}

/// A capture in the classic format; times in nanoseconds after its start.
pub(super) fn pcap(order: Order, nanos: bool, link: u32, packets: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut file = Bytes::new(order);
    file.u32(if nanos { 0xa1b2_3c4d } else { 0xa1b2_c3d4 });
    file.u16(2).u16(4).u32(0).u32(0).u32(262_144).u32(link);
    for (at, bytes) in packets {
        let (seconds, fraction) = (START + at / 1_000_000_000, at % 1_000_000_000);
        let fraction = if nanos { fraction } else { fraction / 1000 };
        let length = u32::try_from(bytes.len()).unwrap();
        file.u32(u32::try_from(seconds).unwrap());
        file.u32(u32::try_from(fraction).unwrap());
        file.u32(length).u32(length);
        file.all.extend(bytes);
    }
    file.all
}
