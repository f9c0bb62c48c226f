use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};

use super::*;

fn parse(words: &[&str]) -> Arguments {
    Arguments::try_parse_from([&["knock"], words].concat()).unwrap()
}

fn target(address: impl Into<IpAddr>) -> SocketAddr {
    SocketAddr::new(address.into(), 0)
}

/// A UDP socket on the same port in both families.
fn both_families() -> (UdpSocket, UdpSocket, u16) {
    loop {
        let four = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = four.local_addr().unwrap().port();
        if let Ok(six) = UdpSocket::bind((Ipv6Addr::LOCALHOST, port)) {
            for socket in [&four, &six] {
                socket
                    .set_read_timeout(Some(Duration::from_secs(10)))
                    .unwrap();
            }
            return (four, six, port);
        }
    }
}

#[test]
fn ports_are_tcp_unless_told_otherwise() {
    let shown = |words: &[&str]| {
        let ports = ports(&parse(words)).unwrap();
        ports.iter().map(KnockPort::to_string).collect::<Vec<_>>()
    };
    let mixed = ["h", "7000", "8000:udp", "9000:tcp", "1/udp"];
    assert_eq!(shown(&mixed), ["7000/tcp", "8000/udp", "9000/tcp", "1/udp"]);
    let mixed = ["-u", "h", "7000", "8000:udp", "9000:tcp"];
    assert_eq!(shown(&mixed), ["7000/udp", "8000/udp", "9000/tcp"]);
}

#[test]
fn bad_ports_are_named() {
    for (bad, told) in [
        ("0", "`0` is not a port"),
        ("65536", "`65536` is not a port"),
        ("ssh", "`ssh` is not a port"),
        ("22:icmp", "`icmp` is not a protocol"),
        ("", "`` is not a port"),
    ] {
        let error = run(&parse(&["127.0.0.1", "1228", bad])).unwrap_err();
        assert_eq!(error.code(), 2);
        assert!(error.to_string().contains(told), "{error}");
    }
}

#[test]
fn both_families_are_knocked_on() {
    let (four, six, port) = both_families();
    let hosts = [target(Ipv4Addr::LOCALHOST), target(Ipv6Addr::LOCALHOST)];
    knock_all(&hosts, &[KnockPort::udp(port)], Duration::ZERO, false).unwrap();
    for socket in [four, six] {
        let mut buffer = [9; 16];
        assert_eq!(socket.recv(&mut buffer).unwrap(), 1);
        assert_eq!(buffer[0], 0);
    }
}

#[test]
fn families_can_be_left_out() {
    let all = |words: &[&str]| addresses(&parse(words)).map(|found| found.len()).ok();
    assert_eq!(all(&["127.0.0.1", "1"]), Some(1));
    assert_eq!(all(&["[::1]", "1"]), Some(1));
    assert_eq!(all(&["-6", "::1", "1"]), Some(1));
    let error = addresses(&parse(&["-4", "::1", "1"])).unwrap_err();
    assert_eq!(error.to_string(), "`::1` has no IPv4 address");
    assert_eq!(error.code(), 1);
    assert!(Arguments::try_parse_from(["knock", "-4", "-6", "h", "1"]).is_err());
}

#[test]
fn an_address_that_cannot_be_reached_is_left_out() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = KnockPort::tcp(listener.local_addr().unwrap().port());
    // TCP has no broadcast: the kernel refuses before anything is sent.
    let nowhere = target(Ipv4Addr::BROADCAST);
    let here = target(Ipv4Addr::LOCALHOST);
    knock_all(&[nowhere, here], &[port, port], Duration::ZERO, false).unwrap();
    listener.accept().unwrap();
    listener.accept().unwrap();
    let error = knock_all(&[nowhere], &[port], Duration::ZERO, false).unwrap_err();
    assert_eq!(error.code(), 1);
    assert!(error.to_string().contains("is there a way"), "{error}");
}

#[test]
fn the_help_is_complete() {
    use clap::CommandFactory;
    Arguments::command().debug_assert();
}
