use super::input::Order as ByteOrder;
use super::made_tests::{datagram, framed, pcap, syn, tcp};
use super::*;

const POLICY: &str = "
gates:
  ssh: { ports: [22] }
knocks:
  open: { sequence: [1228, 1227], seq_timeout: 5s, action: accept }
  udp: { sequence: [5001/udp, 5002/udp], seq_timeout: 5s, action: accept }
";
const RANGE: &str = "
gates:
  ssh: { ports: [22] }
knocks:
  open: { sequence: [1228, 1227], seq_timeout: 5s, action: accept }
  travel: { sequence: { totp: s, ports: \"20000-40000/udp\", length: 4 }, action: accept }
";

const HOST: &str = "10.0.0.1";
const ALIAS: &str = "10.0.0.5";
const NEIGHBOUR: &str = "10.0.0.2";
const STRANGER: &str = "198.51.100.7";
/// The last bytes of their cards.
const CARD: u8 = 1;
const ROUTER: u8 = 2;
const OTHER: u8 = 3;

const ETHERNET: u32 = 1;
const RAW: u32 = 101;

/// Whom the host's addresses are taken to be, who was accepted, and the warnings.
fn replayed(
    policy: &str,
    link: u32,
    packets: &[Vec<u8>],
    order: &Order,
) -> (String, String, Vec<String>) {
    let policy = policy::parse(policy, Path::new("p.yaml"));
    let policy = policy.expect("the policy is good").policy;
    let packets: Vec<_> = (0..).step_by(1_000_000).zip(packets.to_vec()).collect();
    let capture = pcap(ByteOrder::Little, true, link, &packets);
    let mut accepted = Vec::new();
    let summary = run_on(&capture, policy, order, &mut |decision| {
        let effects = decision.effects.iter();
        let let_in = effects.filter(|effect| effect.deed == Deed::Accepted);
        accepted.extend(let_in.map(|effect| effect.net.addr()));
        Ok(())
    });
    let summary = summary.expect("it is replayed");
    let listed = |addresses: &[IpAddr]| {
        let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        addresses.join(" ")
    };
    (
        listed(&summary.addresses),
        listed(&accepted),
        summary.warnings,
    )
}

fn guessed(policy: &str, link: u32, packets: &[Vec<u8>]) -> (String, String) {
    let (addresses, accepted, _) = replayed(policy, link, packets, &Order::default());
    (addresses, accepted)
}

fn warnings(link: u32, packets: &[Vec<u8>]) -> String {
    let (_, _, warnings) = replayed(POLICY, link, packets, &Order::default());
    warnings.join("\n")
}

fn own(addresses: &str, accepted: &str) -> (String, String) {
    (addresses.to_owned(), accepted.to_owned())
}

/// Both knocks of `open`.
fn knocks(from: &str, to: &str) -> [Vec<u8>; 2] {
    [1228, 1227].map(|port| syn(from, to, port))
}

fn to_host(packets: impl IntoIterator<Item = Vec<u8>>, from: u8) -> Vec<Vec<u8>> {
    let packets = packets.into_iter();
    packets.map(|it| framed(&it, from, CARD)).collect()
}

fn from_host(packets: impl IntoIterator<Item = Vec<u8>>, to: u8) -> Vec<Vec<u8>> {
    let packets = packets.into_iter();
    packets.map(|it| framed(&it, CARD, to)).collect()
}

/// Somebody who reads the web server's pages.
fn visitor(number: usize) -> [Vec<u8>; 2] {
    let from = format!("203.0.113.{number}");
    [
        syn(&from, HOST, 443),
        tcp(HOST, &from, (443, 40_000), "SA", 5),
    ]
}

#[test]
fn of_hosts_that_knock_on_each_other_the_one_that_takes_part_in_everything_is_this() {
    let frames = [
        to_host(knocks(NEIGHBOUR, HOST), OTHER),
        from_host(knocks(HOST, NEIGHBOUR), OTHER),
        to_host([syn(STRANGER, HOST, 443)], ROUTER),
    ];
    let frames = frames.concat();
    assert_eq!(guessed(POLICY, ETHERNET, &frames), own(HOST, NEIGHBOUR));
    let warned = warnings(ETHERNET, &frames);
    let said = "taken for this host's, since they are knocked on: 10.0.0.1 (its network card is \
                02:00:00:00:00:01); name all that it has with --address";
    assert_eq!(warned, said);
}

#[test]
fn of_hosts_that_knock_on_each_other_alone_none_is_taken_and_it_is_said() {
    let packets = [knocks(NEIGHBOUR, HOST), knocks(HOST, NEIGHBOUR)].concat();
    let frames = [
        to_host(packets[..2].to_vec(), OTHER),
        from_host(packets[2..].to_vec(), OTHER),
    ];
    for (link, packets) in [(RAW, packets), (ETHERNET, frames.concat())] {
        assert_eq!(guessed(POLICY, link, &packets), own("", ""));
        let warned = warnings(link, &packets);
        assert!(
            warned.starts_with("10.0.0.1, 10.0.0.2 knock on each other, and which"),
            "{warned}"
        );
        let order = Order {
            addresses: vec![HOST.parse().unwrap()],
            ..Order::default()
        };
        let (addresses, accepted, warnings) = replayed(POLICY, link, &packets, &order);
        assert_eq!((addresses, accepted), own(HOST, NEIGHBOUR));
        assert!(warnings.is_empty(), "{warnings:?}");
    }
}

#[test]
fn on_whom_only_the_host_knocks_is_another() {
    let packets = [
        knocks(STRANGER, ALIAS),
        knocks(STRANGER, HOST),
        knocks(HOST, NEIGHBOUR),
    ];
    let (addresses, _) = guessed(POLICY, RAW, &packets.concat());
    assert_eq!(addresses, format!("{HOST} {ALIAS}"));
}

#[test]
fn a_host_that_only_knocks_on_others_lets_nobody_in() {
    // Behind a router, to which all goes: there are many more addresses.
    let mut packets: Vec<_> = (1..=8).flat_map(visitor).collect();
    packets.extend(knocks(HOST, NEIGHBOUR));
    assert_eq!(guessed(POLICY, RAW, &packets), own("", ""));
    let frames: Vec<_> = packets
        .iter()
        .map(|it| {
            let (from, to) = if it[12..16] == [10, 0, 0, 1] {
                (CARD, ROUTER)
            } else {
                (ROUTER, CARD)
            };
            framed(it, from, to)
        })
        .collect();
    assert_eq!(guessed(POLICY, ETHERNET, &frames), own("", ""));
    let warned = warnings(ETHERNET, &frames);
    assert!(
        warned.starts_with("nobody knocks on this host (its network card is 02:00:00:00:00:01)"),
        "{warned}"
    );
    // On a wire with others: that takes fewer packets.
    let frames = [
        to_host(visitor(1), ROUTER),
        from_host(knocks(HOST, NEIGHBOUR), OTHER),
    ];
    assert_eq!(guessed(POLICY, ETHERNET, &frames.concat()), own("", ""));
}

#[test]
fn a_reply_to_a_knock_port_is_no_knock() {
    // It resolves a name, from a port that is one to knock on.
    let packets = [
        datagram(STRANGER, HOST, (5001, 53)),
        datagram(HOST, STRANGER, (53, 5001)),
        datagram(STRANGER, HOST, (40_000, 5001)),
        datagram(STRANGER, HOST, (40_000, 5002)),
    ];
    assert_eq!(guessed(POLICY, RAW, &packets), own(HOST, STRANGER));
}

#[test]
fn the_replies_of_a_name_server_make_nobody_this_host() {
    let asked = (0..=MOST_ADDRESSES).flat_map(|n| {
        let from = format!("203.0.{}.{}", n / 256, n % 256);
        let port = 21_000 + u16::try_from(n).unwrap();
        [
            datagram(&from, HOST, (port, 53)),
            datagram(HOST, &from, (53, port)),
        ]
    });
    let packets: Vec<_> = asked.chain(knocks(STRANGER, HOST)).collect();
    assert_eq!(guessed(RANGE, RAW, &packets), own(HOST, STRANGER));
}

#[test]
fn what_goes_to_another_card_is_not_to_this_host() {
    let frames = [
        to_host(knocks(NEIGHBOUR, HOST), OTHER),
        to_host(visitor(1), ROUTER),
        from_host(knocks("192.0.2.9", ALIAS), ROUTER),
    ];
    assert_eq!(guessed(POLICY, ETHERNET, &frames.concat()).1, NEIGHBOUR);
}

#[test]
fn a_router_in_front_of_several_hosts_is_not_this_one() {
    let to = |packets: [Vec<u8>; 2], card| packets.map(|it| framed(&it, ROUTER, card));
    let mut frames = Vec::from(to(knocks(STRANGER, HOST), CARD));
    for number in 1..=8 {
        let from = format!("203.0.113.{number}");
        frames.extend(to(knocks(&from, ALIAS), OTHER));
    }
    let (addresses, _) = guessed(POLICY, ETHERNET, &frames);
    assert_eq!(addresses, format!("{HOST} {ALIAS}"));
}

/// A host with many addresses, each of which answers a scanner.
fn scanned() -> (String, Vec<[Vec<u8>; 2]>) {
    let addresses: Vec<_> = (1..=20).map(|n| format!("10.0.0.{n}")).collect();
    let scan = addresses.iter().flat_map(|to| {
        let answer = |port| tcp(to, STRANGER, (port, 40_000), "A", 5);
        [1228, 1227].map(|port| [syn(STRANGER, to, port), answer(port)])
    });
    (addresses.join(" "), scan.collect())
}

#[test]
fn a_scanner_of_whom_alone_the_capture_is_is_not_this_host() {
    let (addresses, scan) = scanned();
    let (found, accepted, warnings) = replayed(POLICY, RAW, &scan.concat(), &Order::default());
    assert_eq!((found, accepted.as_str()), (addresses, STRANGER));
    let warned = warnings.join("\n");
    assert!(
        warned.starts_with("taken for this host's, since they are knocked on: 10.0.0.1, "),
        "{warned}"
    );
}

#[test]
fn a_router_through_which_a_scanner_comes_is_not_this_host() {
    let (addresses, scan) = scanned();
    let frames = scan
        .iter()
        .flat_map(|[knock, answer]| [framed(knock, ROUTER, CARD), framed(answer, CARD, ROUTER)]);
    let frames: Vec<_> = frames.collect();
    assert_eq!(
        guessed(POLICY, ETHERNET, &frames),
        own(&addresses, STRANGER)
    );
}

#[test]
fn the_target_of_a_knock_may_be_behind_the_host() {
    let policy = "
gates:
  ssh: { ports: [22] }
knocks:
  inner: { sequence: [1701, 1702], target: 192.0.2.200, seq_timeout: 5s, action: accept }
";
    let packets = [1701, 1702].map(|port| syn(STRANGER, "192.0.2.200", port));
    assert_eq!(guessed(policy, RAW, &packets), own("", STRANGER));
}
