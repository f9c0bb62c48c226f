//! A capture of live traffic gives exactly what the live daemon decided about it.

use std::error::Error;
use std::fs;
use std::net::{IpAddr, SocketAddr};

use nix::net::if_::if_nametoindex;
use portcullis::lab::Host;
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

use crate::scenarios;
use crate::tap::{Link, Tap};
use crate::world::{DECOY, Family, KNOCK, Person, Tried, World};

scenarios![
    a_capture_gives_what_the_daemon_decided,
    a_capture_gives_what_became_of_sweepers_and_what_came_elsewhere_does_not_count,
    what_is_no_capture_ends_with_2,
];

const POLICY: &str = "
interface: any
trusted: knockd.trusted
gates:
  ssh: { ports: [22], accept_timeout: 60s }
  web: { ports: [443], accept_timeout: 60s }
knocks:
  open: { sequence: [1228, 1227], seq_timeout: 5s, action: accept, gate: ssh }
  brief: { sequence: [1301/udp, 1302/udp, 1301/udp], seq_timeout: 5s, action: accept, gate: web, for: 1s }
  leave: { sequence: [1501, 1502], seq_timeout: 5s, action: flush, gate: ssh }
  all: { sequence: [1401, 1402], seq_timeout: 5s, action: open, gate: web, for: 1s }
  mine: { sequence: [1601, 1602], seq_timeout: 5s, action: trust, gate: web }
  decoy: { sequence: [1220, 1221], seq_timeout: 5s, action: drop }
  crossed: { sequence: [1602, 1402], seq_timeout: 5s, action: drop }
";
/// Heard on eth0 alone, where sweepers are banned; with packets that begin nothing as a knock.
const STRICT: &str = "
interface: eth0
trusted: knockd.trusted
scan_guard: { action: drop }
gates:
  ssh: { ports: [22], accept_timeout: 60s }
  admin: { ports: [8080], accept_timeout: 60s, once: true }
knocks:
  open: { sequence: [1228, 1227], seq_timeout: 5s, action: accept, gate: ssh }
  single: { sequence: [1701, 1702], seq_timeout: 5s, action: accept, gate: admin }
  odd: { sequence: [1801, 1802], seq_timeout: 5s, tcpflags: \"fin,!syn\", action: accept, gate: ssh }
  decoy: { sequence: [1220, 1221], seq_timeout: 5s, action: drop }
";
const TRUSTED: &str = "192.0.2.50 the office\n2001:db8::50\n";

/// Something listens there; the gates' ports are neutral anyway.
const SERVICES: [u16; 7] = [22, 8080, 8081, 8082, 8083, 8084, 8085];

struct Taps<'a> {
    world: &'a World,
    taps: [(&'static str, Tap); 2],
}

impl Taps<'_> {
    /// Waits until all that was sent has had its effect, so that what comes next comes next for
    /// both families, and takes it down.
    fn settle(&mut self) -> Tried {
        self.world.all_is_handled()?;
        for (_, tap) in &mut self.taps {
            tap.take()?;
        }
        Ok(())
    }
}

fn a_capture_gives_what_the_daemon_decided() -> Tried {
    let least = [
        "accepted at ssh",
        "accepted at web for 1s",
        "withdrawn",
        "open to everybody",
        "trusted at web",
        "banned at web, for good",
        "nothing granted at ssh",
        "not banned at ssh: 192.0.2.50 is trusted (knockd.trusted: the office)",
        "sweeps ports",
        "the acceptance of",
        "web: closed again",
    ];
    compare(POLICY, people_do_all_that_people_do, &least)?;
    Ok(())
}

fn a_capture_gives_what_became_of_sweepers_and_what_came_elsewhere_does_not_count() -> Tried {
    let least = [
        "192.0.2.16: open: undone at ssh",
        "192.0.2.17: single: 192.0.2.17 accepted at admin",
        "192.0.2.18: odd: 192.0.2.18 accepted at ssh",
        "192.0.2.12: sweeps ports",
        "192.0.2.12 banned at ssh",
    ];
    let decided = compare(STRICT, sweepers_and_others, &least)?;
    let elsewhere = decided.iter().any(|line| line.contains(ELSEWHERE));
    assert!(!elsewhere, "it heard of eth1: {decided:#?}");
    Ok(())
}

/// The daemon and the replayed captures decide the same about what people do, and at least that;
/// returns all that was decided.
fn compare(
    policy: &str,
    people: fn(&mut Taps<'_>) -> Tried,
    least: &[&str],
) -> Result<Vec<String>, Box<dyn Error>> {
    let mut world = World::before(policy, TRUSTED, &SERVICES)?;
    second_wire(&world)?;
    let index = |name: &str| world.server.run(|| if_nametoindex(name));
    let [first, second] = [index("eth0")??, index("eth1")??];
    let taps = [
        (
            "ethernet.pcap",
            Tap::on(&world.server, Link::Ethernet, Some(first))?,
        ),
        ("any.pcap", Tap::on(&world.server, Link::Sll2, None)?),
    ];
    let interfaces = ["eth0".to_owned(), format!("eth0={first},eth1={second}")];
    world.daemon.start()?;
    let mut taps = Taps {
        world: &world,
        taps,
    };
    people(&mut taps)?;
    let taps = taps.taps;
    let live = world.json(&["status"]);
    // So that the last line is in the log.
    world.daemon.terminate()?;

    let decided = decided(&world.daemon.log());
    for words in least {
        let said = decided.iter().any(|line| line.contains(words));
        assert!(said, "the daemon did not say `{words}`: {decided:#?}");
    }
    for ((name, tap), interfaces) in taps.iter().zip(&interfaces) {
        let path = world.lab.dir().join(name);
        fs::write(&path, tap.file())?;
        let path = path.to_string_lossy();
        let policy = world.daemon.policy_path();
        let policy = policy.to_string_lossy();
        let mut arguments = vec!["-o", "json", "replay", path.as_ref(), "-c", policy.as_ref()];
        arguments.extend(["--on", interfaces]);
        // What the capture shows by itself, and what it is told.
        for told in [
            &[][..],
            &["--address", "192.0.2.1,2001:db8::1"],
            &["--listening", "8080,8081,8082,8083,8084,8085"],
        ] {
            arguments.extend(told);
            let reply = world.expect(0, &arguments);
            let shown: Value = serde_json::from_str(&reply.stdout)?;
            let words = words(&shown);
            // The daemon hears each family on a socket of its own, so that what comes over both
            // at once may be decided in either order.
            for family in Family::BOTH {
                let [replayed, lived] = [&words, &decided].map(|all| of(family, all));
                assert_eq!(replayed, lived, "{name} {told:?} {family:?}");
            }
            assert_eq!(words.len(), decided.len());
            let summary = &shown["summary"];
            let warnings = summary["warnings"].as_array().expect("a list of warnings");
            let guesses = |it: &Value| it.as_str().is_some_and(|it| it.starts_with("taken for"));
            assert!(warnings.iter().all(guesses), "{warnings:?}");
            assert_eq!(warnings.len(), usize::from(told.is_empty()));
            assert_eq!(summary["knocks"], live["knocks"], "{name}");
            assert_eq!(summary["packets"]["knocks"], live["packets"]["knocks"]);
        }
    }
    Ok(decided)
}

fn people_do_all_that_people_do(taps: &mut Taps<'_>) -> Tried {
    let world = taps.world;
    let [ann, ann6] = world.people(10)?;
    for person in [&ann, &ann6] {
        person.knocks(KNOCK);
        taps.settle()?;
        person.gets_in();
        person.knocks(&["1228", "1228", "9999", "1227"]);
        taps.settle()?;
        person.knocks(&["1501", "1502"]);
        taps.settle()?;
        person.knocks(&["1301/udp", "1301/udp", "1302/udp", "1301/udp"]);
        taps.settle()?;
    }
    // Browsing is no sweep.
    for person in world.people(11)? {
        person.knocks(&["1228"]);
        for port in 8081..=8085 {
            person.gets_in_at(port);
        }
        person.knocks(&["1227"]);
        taps.settle()?;
    }
    for person in world.people(12)? {
        person.knocks(&["1228", "1500", "1229", "1230", "1231", "1232", "1227"]);
        taps.settle()?;
        person.knocks(KNOCK);
        person.knocks(DECOY);
        taps.settle()?;
        person.knocks(KNOCK);
        taps.settle()?;
    }
    for person in world.people(15)? {
        // Ports of knocks in an order of their own: after other decoys no knock would count.
        person.knocks(&["1602", "1402"]);
        person.knocks(KNOCK);
        taps.settle()?;
    }
    for person in world.people(50)? {
        person.knocks(DECOY);
        taps.settle()?;
    }
    for person in world.people(13)? {
        person.knocks(&["1601", "1602"]);
        taps.settle()?;
        person.knocks(&["1401", "1402"]);
        taps.settle()?;
    }
    raw(
        world,
        14,
        &[1228, 1228, 1227, 1228, 1227].map(|port| (port, SYN)),
    )?;
    taps.settle()?;
    let over = world.daemon.log().matches("accepted at web for 1s").count();
    world.daemon.await_log("web: the acceptance of", over)?;
    world.daemon.await_log("web: closed again", 1)?;
    // After everything that ended by itself.
    taps.settle()
}

/// A sweep that is undone, gates with `once`, other flags, and another interface.
fn sweepers_and_others(taps: &mut Taps<'_>) -> Tried {
    let world = taps.world;
    for number in [16, 17, 18] {
        let addresses = Family::BOTH.map(|it| it.with_length(&it.address(number)));
        let addresses = [addresses[0].as_str(), addresses[1].as_str()];
        world.clients.add_addresses("eth0", &addresses)?;
    }
    for person in world.people(16)? {
        // A sweep that begins with the knock.
        person.knocks(&["1228", "1227", "1226"]);
        taps.settle()?;
        person.knocks(&["1701", "1702"]);
        taps.settle()?;
    }
    for person in world.people(17)? {
        person.knocks(&["1701", "1702"]);
        taps.settle()?;
        person.gets_in_at(8080);
        person.is_refused_at(8080);
        // Above what a daemon looks at that also takes FINs.
        person.knocks(&["50001", "50002", "50003", "50004", "50005", "1701", "1702"]);
        taps.settle()?;
    }
    for person in world.people(12)? {
        person.knocks(&["1228", "1500", "1501", "1502", "1503", "1504", "1227"]);
        taps.settle()?;
    }
    there(&world.clients)?;
    taps.settle()?;
    raw(
        world,
        18,
        &[(1801, SYN), (1802, SYN), (1801, FIN), (1802, FIN)],
    )?;
    taps.settle()?;
    Ok(())
}

/// What a packet is: its flags.
const SYN: bool = true;
const FIN: bool = false;

/// Packets by hand, all of the same source port and sequence number: a port that comes twice is a
/// retransmission, or with other flags the end of it. 1228 twice as one packet sent again, then 1227
/// as one packet: accepted once. Then both packets again, byte for byte, which is nothing.
fn raw(world: &World, number: u8, packets: &[(u16, bool)]) -> Tried {
    let (from, to): (IpAddr, IpAddr) = (
        Family::V4.address(number).parse()?,
        Family::V4.server().parse()?,
    );
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (from, to) else {
        unreachable!("both are IPv4");
    };
    world.clients.run(|| -> std::io::Result<()> {
        // IPPROTO_RAW: with an IP header of our own (raw(7)).
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255)))?;
        for &(port, flags) in packets {
            let packet = etherparse::PacketBuilder::ipv4(source.octets(), destination.octets(), 64)
                .tcp(50_000, port, 12_345, 1024);
            let packet = if flags == SYN {
                packet.syn()
            } else {
                packet.fin()
            };
            let mut bytes = Vec::new();
            packet
                .write(&mut bytes, &[])
                .map_err(std::io::Error::other)?;
            socket.send_to(&bytes, &SocketAddr::new(to, 0).into())?;
        }
        Ok(())
    })??;
    Ok(())
}

/// Who is on the wire that the policy does not name.
const ELSEWHERE: &str = "198.51.100.10";

/// Another wire between the two, on eth1.
fn second_wire(world: &World) -> Tried {
    let (server, client) = (["198.51.100.1/24"], ["198.51.100.10/24"]);
    let (here, there) = (&world.server, &world.clients);
    world
        .lab
        .link(here, "eth1", &server, there, "eth1", &client)?;
    Ok(())
}

/// Knocks on that wire.
fn there(clients: &Host) -> Tried {
    let person = Person {
        client: clients.client(ELSEWHERE)?,
        server: "198.51.100.1".to_owned(),
        address: ELSEWHERE.to_owned(),
    };
    person.knocks(KNOCK);
    person.knocks(DECOY);
    Ok(())
}

/// What the log says about who did what: lines that begin with an address, and what is over.
fn decided(log: &str) -> Vec<String> {
    let text = |line: &str| {
        let at = line.find("INFO ").or_else(|| line.find("WARN "))?;
        Some(line[at + 5..].to_owned())
    };
    let tells = |text: &String| {
        let first = text.split(": ").next().unwrap_or_default();
        first.parse::<IpAddr>().is_ok()
            || text.contains(" is over")
            || text.contains(": closed again")
    };
    log.lines().filter_map(text).filter(tells).collect()
}

/// What is about addresses of a family.
fn of(family: Family, lines: &[String]) -> Vec<&str> {
    let lines = lines.iter().map(String::as_str);
    lines
        .filter(|line| line.contains("2001:db8:") == (family == Family::V6))
        .collect()
}

/// The same, as replayed.
fn words(shown: &Value) -> Vec<String> {
    let decisions = shown["decisions"].as_array().expect("a list of decisions");
    let words = decisions.iter().flat_map(|decision| {
        let words = decision["words"].as_array().expect("a list of words");
        words
            .iter()
            .map(|word| word.as_str().unwrap_or_default().to_owned())
    });
    words.collect()
}

fn what_is_no_capture_ends_with_2() -> Tried {
    let world = World::before(POLICY, TRUSTED, &[22])?;
    let policy = world.daemon.policy_path();
    let policy = policy.to_string_lossy();
    let trusted = world.daemon.trusted_path();
    let trusted = trusted.to_string_lossy();
    // No daemon runs, and none is needed.
    let reply = world.expect(2, &["replay", &trusted, "-c", &policy]);
    assert!(reply.stderr.contains("not a capture"), "{reply:?}");
    assert_eq!(reply.stdout, "");
    let reply = world.expect(2, &["replay", "-", "-c", &policy]);
    assert!(reply.stderr.contains("--address"), "{reply:?}");
    let empty = [
        "replay",
        "/dev/null",
        "-c",
        &policy,
        "--address",
        "192.0.2.1",
    ];
    let reply = world.expect(2, &empty);
    assert!(reply.stderr.contains("empty"), "{reply:?}");
    world.expect(2, &["replay", &trusted, "--listening", "80-90"]);
    world.expect(2, &["replay", &trusted, "--address", "localhost"]);
    world.expect(2, &["replay"]);
    Ok(())
}
