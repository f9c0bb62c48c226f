use std::net::Ipv6Addr;

use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;

const V4: ([u8; 4], [u8; 4]) = ([192, 0, 2, 7], [198, 51, 100, 1]);

fn v6() -> ([u8; 16], [u8; 16]) {
    let address = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
    (address("2001:db8::7"), address("2001:db8:1::1"))
}

fn tcp_segment(source: u16, port: u16, flags: u8, seq: u32) -> Vec<u8> {
    let mut tcp = vec![0; 20];
    tcp[0..2].copy_from_slice(&source.to_be_bytes());
    tcp[2..4].copy_from_slice(&port.to_be_bytes());
    tcp[4..8].copy_from_slice(&seq.to_be_bytes());
    tcp[12] = 5 << 4;
    tcp[13] = flags;
    tcp
}

fn udp_datagram(source: u16, port: u16, payload: usize) -> Vec<u8> {
    let mut udp = vec![0; 8 + payload];
    udp[0..2].copy_from_slice(&source.to_be_bytes());
    udp[2..4].copy_from_slice(&port.to_be_bytes());
    udp[4..6].copy_from_slice(&u16::try_from(8 + payload).unwrap().to_be_bytes());
    udp
}

fn ipv4(protocol: u8, options: usize, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 20 + options];
    packet[0] = 0x45 + u8::try_from(options / 4).unwrap();
    let total = u16::try_from(packet.len() + payload.len()).unwrap();
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    packet[8] = 64;
    packet[9] = protocol;
    packet[12..16].copy_from_slice(&V4.0);
    packet[16..20].copy_from_slice(&V4.1);
    packet.extend_from_slice(payload);
    packet
}

/// An extension header with its type.
type Header = (u8, Vec<u8>);

/// `chain` is the extension headers, each with its own type; they are linked here.
fn ipv6(chain: &[Header], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 40];
    packet[0] = 0x60;
    packet[8..24].copy_from_slice(&v6().0);
    packet[24..40].copy_from_slice(&v6().1);
    let types: Vec<u8> = chain.iter().map(|(t, _)| *t).chain([protocol]).collect();
    packet[6] = types[0];
    for ((_, header), next) in chain.iter().zip(&types[1..]) {
        packet.push(*next);
        packet.extend_from_slice(&header[1..]);
    }
    packet.extend_from_slice(payload);
    let len = u16::try_from(packet.len() - 40).unwrap();
    packet[4..6].copy_from_slice(&len.to_be_bytes());
    packet
}

/// An extension header of 8 × (1 + `more`) bytes.
fn extension(more: u8) -> Vec<u8> {
    let mut header = vec![0; 8 * (1 + usize::from(more))];
    header[1] = more;
    header
}

fn fragment_header(offset: u16, more: bool) -> Vec<u8> {
    let mut header = vec![0; 8];
    header[2..4].copy_from_slice(&(offset << 3 | u16::from(more)).to_be_bytes());
    header
}

fn authentication_header() -> Vec<u8> {
    let mut header = vec![0; 24];
    header[1] = 4;
    header
}

fn syn() -> Vec<u8> {
    tcp_segment(40_000, 1228, 2, 77)
}

#[test]
fn a_syn_over_ipv4() {
    let packet = ipv4(6, 0, &syn());
    let expected = Knock {
        source: V4.0.into(),
        destination: V4.1.into(),
        port: KnockPort::tcp(1228),
        source_port: 40_000,
        flags: 2,
        seq: 77,
    };
    assert_eq!(parse(&packet), Ok(expected));
    assert_eq!(parse(&ipv4(6, 40, &syn())), Ok(expected));
}

#[test]
fn a_packet_of_an_independent_builder() {
    let mut packet = Vec::new();
    PacketBuilder::ipv6(v6().0, v6().1, 64)
        .tcp(5, 1227, 99, 1000)
        .syn()
        .ack(1)
        .write(&mut packet, b"data")
        .unwrap();
    let knock = parse(&packet).unwrap();
    assert_eq!(
        (knock.port, knock.flags, knock.seq, knock.source),
        (KnockPort::tcp(1227), 2 | 16, 99, IpAddr::from(v6().0))
    );
}

#[test]
fn extension_headers_are_walked() {
    let chain = [
        (HOP_BY_HOP, extension(0)),
        (DESTINATION_OPTIONS, extension(2)),
        (ROUTING, extension(1)),
        (FRAGMENT, fragment_header(0, false)),
        (AUTHENTICATION, authentication_header()),
        (DESTINATION_OPTIONS, extension(0)),
    ];
    for n in 0..=chain.len() {
        let knock = parse(&ipv6(&chain[..n], 6, &syn()));
        assert_eq!(knock.map(|k| k.port), Ok(KnockPort::tcp(1228)), "{n}");
    }
}

#[test]
fn extension_headers_have_their_limits() {
    let cases: [(&[Header], NotAKnock); 5] = [
        (&[(FRAGMENT, fragment_header(0, true))], NotAKnock::Fragment),
        (
            &[(FRAGMENT, fragment_header(1, false))],
            NotAKnock::Fragment,
        ),
        (
            &[
                (DESTINATION_OPTIONS, extension(0)),
                (HOP_BY_HOP, extension(0)),
            ],
            NotAKnock::Extension,
        ),
        (
            &[(ROUTING, vec![0, 0, 0, 1, 0, 0, 0, 0])],
            NotAKnock::Extension,
        ),
        (&[(AUTHENTICATION, vec![0; 24])], NotAKnock::BadLength),
    ];
    for (chain, expected) in cases {
        assert_eq!(parse(&ipv6(chain, 6, &syn())), Err(expected), "{chain:?}");
    }
    let long = vec![(DESTINATION_OPTIONS, extension(0)); MOST_EXTENSIONS];
    assert!(parse(&ipv6(&long, 6, &syn())).is_ok());
    let longer = vec![(DESTINATION_OPTIONS, extension(0)); MOST_EXTENSIONS + 1];
    assert_eq!(parse(&ipv6(&longer, 6, &syn())), Err(NotAKnock::Extension));
}

#[test]
fn no_ipv4_fragment_is_a_knock_not_even_the_first() {
    for (bits, expected) in [
        ([0x20, 0], Err(NotAKnock::Fragment)),
        ([0, 1], Err(NotAKnock::Fragment)),
        ([0x40, 0], Ok(KnockPort::tcp(1228))),
    ] {
        let mut packet = ipv4(6, 0, &syn());
        packet[6..8].copy_from_slice(&bits);
        assert_eq!(parse(&packet).map(|k| k.port), expected, "{bits:?}");
    }
}

#[test]
fn lengths_must_agree() {
    let mut total_below_header = ipv4(6, 0, &syn());
    total_below_header[2..4].copy_from_slice(&19u16.to_be_bytes());
    let mut total_below_tcp = ipv4(6, 0, &syn());
    total_below_tcp[2..4].copy_from_slice(&39u16.to_be_bytes());
    let mut small_header = ipv4(6, 0, &syn());
    small_header[0] = 0x44;
    let mut small_offset = ipv4(6, 0, &syn());
    small_offset[32] = 4 << 4;
    let mut options_beyond = ipv4(6, 0, &syn());
    options_beyond[32] = 6 << 4;
    let mut udp_beyond = ipv4(17, 0, &udp_datagram(1, 2, 0));
    udp_beyond[25] = 9;
    let mut udp_without_length = ipv4(17, 0, &udp_datagram(1, 2, 0));
    udp_without_length[25] = 0;
    let mut jumbo = ipv6(&[], 6, &syn());
    jumbo[4..6].fill(0);
    for packet in [
        total_below_header,
        total_below_tcp,
        small_header,
        small_offset,
        options_beyond,
        udp_beyond,
        udp_without_length,
        jumbo,
    ] {
        assert_eq!(parse(&packet), Err(NotAKnock::BadLength), "{packet:02x?}");
    }
}

#[test]
fn impossible_sources_never_knock() {
    for source in [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "127.9.9.9",
        "224.0.0.1",
        "255.255.255.255",
    ] {
        let octets = source.parse::<Ipv4Addr>().unwrap().octets();
        let mut packet = ipv4(6, 0, &syn());
        packet[12..16].copy_from_slice(&octets);
        assert_eq!(parse(&packet), Err(NotAKnock::BadSource), "{source}");
        let mut mapped = ipv6(&[], 6, &syn());
        mapped[8..24].copy_from_slice(&Ipv4Addr::from(octets).to_ipv6_mapped().octets());
        assert_eq!(
            parse(&mapped),
            Err(NotAKnock::BadSource),
            "{source}, mapped"
        );
    }
    for source in ["::", "::1", "ff02::1"] {
        let mut packet = ipv6(&[], 6, &syn());
        packet[8..24].copy_from_slice(&source.parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(parse(&packet), Err(NotAKnock::BadSource), "{source}");
    }
}

#[test]
fn a_mapped_source_is_the_ipv4_address() {
    let mut packet = ipv6(&[], 6, &syn());
    packet[8..24].copy_from_slice(&Ipv4Addr::from(V4.0).to_ipv6_mapped().octets());
    assert_eq!(parse(&packet).unwrap().source, IpAddr::from(V4.0));
}

#[test]
fn other_things_are_not_knocks() {
    assert_eq!(parse(&[]), Err(NotAKnock::Truncated));
    assert_eq!(parse(&[0x55; 60]), Err(NotAKnock::Version));
    assert_eq!(parse(&ipv4(1, 0, &syn())), Err(NotAKnock::NotTcpUdp));
    // AH in IPv4 and IP in IP do not end here as TCP either.
    assert_eq!(parse(&ipv4(51, 0, &syn())), Err(NotAKnock::NotTcpUdp));
    assert_eq!(parse(&ipv6(&[], 59, &syn())), Err(NotAKnock::NotTcpUdp));
    let nowhere = tcp_segment(1, 0, 2, 0);
    assert_eq!(parse(&ipv4(6, 0, &nowhere)), Err(NotAKnock::PortZero));
}

fn any_packet() -> impl Strategy<Value = (Vec<u8>, Knock)> {
    let link = prop_oneof![
        Just((HOP_BY_HOP, extension(1))),
        Just((DESTINATION_OPTIONS, extension(0))),
        Just((ROUTING, extension(2))),
        Just((FRAGMENT, fragment_header(0, false))),
        Just((AUTHENTICATION, authentication_header())),
    ];
    let carrier = prop_oneof![
        (0usize..=10).prop_map(|words| (Some(words * 4), vec![])),
        prop::collection::vec(link, 0..=5).prop_map(|mut chain| {
            let first_only = chain.iter().position(|(t, _)| *t == HOP_BY_HOP);
            if let Some(at) = first_only {
                let header = chain.remove(at);
                chain.retain(|(t, _)| *t != HOP_BY_HOP);
                chain.insert(0, header);
            }
            (None, chain)
        }),
    ];
    (
        carrier,
        any::<bool>(),
        any::<u16>(),
        1u16..,
        any::<u8>(),
        any::<u32>(),
        0usize..64,
    )
        .prop_map(
            |((options, chain), tcp, source_port, port, flags, seq, data)| {
                let (protocol, payload) = if tcp {
                    let mut segment = tcp_segment(source_port, port, flags, seq);
                    segment.resize(20 + data, 0xaa);
                    (6, segment)
                } else {
                    (17, udp_datagram(source_port, port, data))
                };
                let packet = match options {
                    Some(len) => ipv4(protocol, len, &payload),
                    None => ipv6(&chain, protocol, &payload),
                };
                let (source, destination): (IpAddr, IpAddr) = match options {
                    Some(_) => (V4.0.into(), V4.1.into()),
                    None => (v6().0.into(), v6().1.into()),
                };
                let knock = Knock {
                    source,
                    destination,
                    port: if tcp {
                        KnockPort::tcp(port)
                    } else {
                        KnockPort::udp(port)
                    },
                    source_port,
                    flags: if tcp { flags } else { 0 },
                    seq: if tcp { seq } else { 0 },
                };
                (packet, knock)
            },
        )
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }

    /// Random bytes rarely get past the first header: damage good packets instead.
    #[test]
    fn damaged_packets_never_panic(
        (mut packet, _) in any_packet(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        for (at, byte) in damage {
            let at = at.index(packet.len());
            packet[at] = byte;
        }
        for len in 0..=packet.len() {
            let known = parse(&packet[..len]).map(|knock| Some(knock.source));
            prop_assert!(known.is_err() || known == Ok(source(&packet[..len])));
        }
    }

    #[test]
    fn what_was_built_is_read_back((packet, knock) in any_packet()) {
        prop_assert_eq!(parse(&packet), Ok(knock));
        prop_assert_eq!(source(&packet), Some(knock.source));
    }

    #[test]
    fn padding_changes_nothing((mut packet, knock) in any_packet(), padding in 1usize..50) {
        packet.resize(packet.len() + padding, 0x5a);
        prop_assert_eq!(parse(&packet), Ok(knock));
    }

    /// Cut anywhere, it is the same knock or none.
    #[test]
    fn truncation_never_yields_another_knock((packet, knock) in any_packet()) {
        for len in 0..packet.len() {
            let answer = parse(&packet[..len]);
            prop_assert!(matches!(answer, Err(NotAKnock::Truncated)) || answer == Ok(knock), "{}: {:?}", len, answer);
        }
    }
}
