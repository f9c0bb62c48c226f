use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use super::args::{Families, Knocks};
use super::knocking::{addresses, knock_all};
use super::*;
use crate::model::KnockPort;
use crate::totp::Family;

fn parse(words: &[&str]) -> Arguments {
    Arguments::try_parse_from([&["knock"], words].concat()).unwrap()
}

fn plan(words: &[&str]) -> Result<Plan, KnockError> {
    parse(words).plan(&Profiles::default())
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

fn shown(plan: &Plan) -> Vec<String> {
    let ports = plan.knocks.ports(Family::V4, Duration::ZERO);
    ports.iter().map(KnockPort::to_string).collect()
}

#[test]
fn ports_are_tcp_unless_told_otherwise() {
    let mixed = ["h", "7000", "8000:udp", "9000:tcp", "1/udp"];
    let plain = plan(&mixed).unwrap();
    assert_eq!(shown(&plain), ["7000/tcp", "8000/udp", "9000/tcp", "1/udp"]);
    let mixed = ["-u", "h", "7000", "8000:udp", "9000:tcp"];
    let udp = plan(&mixed).unwrap();
    assert_eq!(shown(&udp), ["7000/udp", "8000/udp", "9000/tcp"]);
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
        let error = plan(&["127.0.0.1", "1228", bad]).unwrap_err();
        assert_eq!(error.code(), 2);
        assert!(error.to_string().contains(told), "{error}");
    }
}

#[test]
fn what_follows_the_knocks() {
    let task = |words: &[&str]| {
        let plan = plan(words).unwrap();
        (plan.task, shown(&plan))
    };
    let two = || vec!["1228/tcp".to_owned(), "1227/tcp".to_owned()];
    assert_eq!(task(&["h", "1228", "1227"]), (Task::Knock, two()));
    let check = task(&["--open-and-check", "22", "h", "1228", "1227"]);
    assert_eq!(check, (Task::Check(22), two()));
    let proxy = task(&["--proxy", "h", "22", "1228", "1227"]);
    assert_eq!(proxy, (Task::Proxy(22), two()));
    for (words, told) in [
        (&["h"][..], "no ports"),
        (&["--proxy", "h"], "no port to connect to"),
        (&["--proxy", "h", "22"], "no ports"),
        (
            &["--proxy", "h", "22:udp", "1228"],
            "`22:udp` is not a port",
        ),
        (&["--open-and-check", "22", "h"], "no ports"),
    ] {
        let error = plan(words).unwrap_err();
        assert_eq!(error.code(), 2, "{words:?}");
        assert!(error.to_string().contains(told), "{error}");
    }
    for bad in [
        &["--proxy", "--open-and-check", "22", "h", "1"][..],
        &["--tries", "3", "h", "1"],
        &["--wait", "3", "h", "1"],
        &["--proxy", "--tries", "0", "h", "22", "1"],
        &["--open-and-check", "0", "h", "1"],
        &["--open-and-check", "ssh", "h", "1"],
    ] {
        let words = [&["knock"], bad].concat();
        assert!(Arguments::try_parse_from(words).is_err(), "{bad:?}");
    }
}

#[test]
fn both_families_are_knocked_on() {
    let (four, six, port) = both_families();
    let hosts = [target(Ipv4Addr::LOCALHOST), target(Ipv6Addr::LOCALHOST)];
    let left = knock_all(
        &hosts,
        &Knocks::Ports(vec![KnockPort::udp(port)]),
        Duration::ZERO,
        None,
    )
    .unwrap();
    assert_eq!(left, hosts);
    for socket in [four, six] {
        let mut buffer = [9; 16];
        assert_eq!(socket.recv(&mut buffer).unwrap(), 1);
        assert_eq!(buffer[0], 0);
    }
}

#[test]
fn families_can_be_left_out() {
    let all = |host, families| addresses(host, families).map(|found| found.len()).ok();
    assert_eq!(all("127.0.0.1", Families::Both), Some(1));
    assert_eq!(all("[::1]", Families::Both), Some(1));
    assert_eq!(all("::1", Families::V6), Some(1));
    let error = addresses("::1", Families::V4).unwrap_err();
    assert_eq!(error.to_string(), "`::1` has no IPv4 address");
    assert_eq!(error.code(), 1);
    assert_eq!(plan(&["-6", "h", "1"]).unwrap().families, Families::V6);
    assert!(Arguments::try_parse_from(["knock", "-4", "-6", "h", "1"]).is_err());
}

#[test]
fn an_address_that_cannot_be_reached_is_left_out() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = KnockPort::tcp(listener.local_addr().unwrap().port());
    // TCP has no broadcast: the kernel refuses before anything is sent.
    let nowhere = target(Ipv4Addr::BROADCAST);
    let here = target(Ipv4Addr::LOCALHOST);
    let ports = Knocks::Ports(vec![port, port]);
    let left = knock_all(&[nowhere, here], &ports, Duration::ZERO, None).unwrap();
    assert_eq!(left, [here]);
    listener.accept().unwrap();
    listener.accept().unwrap();
    let error = knock_all(&[nowhere], &ports, Duration::ZERO, None).unwrap_err();
    assert_eq!(error.code(), 1);
    assert!(error.to_string().contains("is there a way"), "{error}");
}

#[test]
fn the_help_is_complete() {
    use clap::CommandFactory;
    Arguments::command().debug_assert();
}

#[test]
fn a_time_based_sequence_takes_the_place_of_ports() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    let path = file.to_string_lossy().into_owned();
    let told = |words: &[&str]| {
        let error = plan(words).unwrap_err();
        assert_eq!(error.code(), 2, "{error}");
        error.to_string()
    };
    let option = |more: &[&'static str]| -> Vec<String> {
        let option = ["h", "--totp", &path, "--totp-ports", "20000-40000"];
        let all = option.iter().chain(more);
        all.map(ToString::to_string).collect()
    };
    let words = option(&[]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    assert!(told(&words).contains("`knockctl sequences secret` makes one"));
    std::fs::write(
        &file,
        "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZA",
    )
    .unwrap();
    let found = plan(&words).unwrap();
    assert_eq!(
        shown(&found),
        ["30887/tcp", "34027/tcp", "32190/tcp", "30891/tcp"]
    );
    let six = found.knocks.ports(Family::V6, Duration::from_secs(29));
    assert_eq!(six[0], KnockPort::tcp(38281));
    assert!(told(&[&words[..], &["1228"]].concat()).contains("one of the two"));
    assert!(told(&[&words[..], &["--totp-length", "2"]].concat()).contains("expected 3 to 32"));
    std::fs::write(&file, "secret!").unwrap();
    assert!(told(&words).contains("is not base32"));
}
