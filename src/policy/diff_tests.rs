use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::policy::{TcpFlags, parse};

const POLICY: &str = "
trusted: knockd.trusted
gates:
  ssh: { ports: [22] }
  web: { ports: [443], hook: forward, address: 192.0.2.1 }
knocks:
  open: { sequence: [1228, 1227], action: accept, gate: ssh }
  decoy: { sequence: [1220, 1221], action: drop }
";

fn policy() -> Policy {
    parse(POLICY, Path::new("/etc/knockd/knockd.yaml"))
        .unwrap()
        .policy
}

fn lines(old: &Policy, new: &Policy) -> Vec<String> {
    diff(old, new).iter().map(ToString::to_string).collect()
}

/// An edit of one key, and the line about it.
type Edit = (fn(&mut Policy), &'static str);

const EDITS: &[Edit] = &[
    (
        |p| p.interfaces = Interfaces::Named(vec!["eth0".into(), "eth1".into()]),
        "interface: any → [eth0, eth1]",
    ),
    (
        |p| p.firewall.backend = BackendChoice::Nftables,
        "firewall.backend: auto → nftables",
    ),
    (
        |p| p.firewall.on_stop = OnStop::Closed,
        "firewall.on_stop: keep → closed",
    ),
    (
        |p| p.trusted = Some(PathBuf::from("/srv/list")),
        "trusted: /etc/knockd/knockd.trusted → /srv/list",
    ),
    (
        |p| p.never_ban = vec!["192.0.2.0/24".parse().unwrap()],
        "never_ban: [] → [192.0.2.0/24]",
    ),
    (|p| p.scan_guard.ports = 9, "scan_guard.ports: 5 → 9"),
    (
        |p| p.scan_guard.within = Duration::from_secs(60),
        "scan_guard.within: 1m15s → 1m",
    ),
    (
        |p| p.scan_guard.action = ScanAction::Drop,
        "scan_guard.action: none → drop",
    ),
    (|p| p.memory = 1, "memory: 33554432 bytes → 1 bytes"),
    (
        |p| p.gates[0].ports = vec!["22".parse().unwrap(), "60000-61000/udp".parse().unwrap()],
        "gate ssh: ports [22/tcp] → [22/tcp, 60000-61000/udp]",
    ),
    (
        |p| p.gates[1].address = Some(GateAddress::Name("web.example.org".into())),
        "gate web: address 192.0.2.1/32 → web.example.org",
    ),
    (
        |p| p.gates[1].hook = Hook::Both,
        "gate web: hook forward → both",
    ),
    (
        |p| p.gates[0].accept_timeout = Lifetime::For(Duration::from_secs(120)),
        "gate ssh: accept_timeout 5m → 2m",
    ),
    (
        |p| p.gates[0].ban_timeout = Lifetime::For(Duration::from_secs(120)),
        "gate ssh: ban_timeout never → 2m",
    ),
    (
        |p| p.gates[0].verdict = Verdict::Return,
        "gate ssh: verdict accept → return",
    ),
    (|p| p.gates[0].once = true, "gate ssh: once false → true"),
    (
        |p| p.gates[0].log_drops = false,
        "gate ssh: log_drops true → false",
    ),
    (
        |p| p.gates[0].cut_sessions = true,
        "gate ssh: cut_sessions false → true",
    ),
    (
        |p| p.gates[0].ipv6_prefix = 64,
        "gate ssh: ipv6_prefix 128 → 64",
    ),
    (
        |p| drop(p.gates.remove(1)),
        "gate web: gone, was ports [443/tcp]",
    ),
    (|p| p.gates.swap(0, 1), "gates: order ssh, web → web, ssh"),
    (
        |p| p.knocks[0].sequence.truncate(1),
        "knock open: sequence [1228/tcp, 1227/tcp] → [1228/tcp]",
    ),
    (
        |p| p.knocks[0].seq_timeout = Duration::from_secs(5),
        "knock open: seq_timeout 15s → 5s",
    ),
    (
        |p| {
            p.knocks[0].flags = TcpFlags {
                set: TcpFlags::FIN | TcpFlags::URG,
                clear: 0,
            }
        },
        "knock open: tcpflags syn,!ack → fin,urg",
    ),
    (
        |p| p.knocks[0].action = KnockAction::Open,
        "knock open: action accept → open",
    ),
    (
        |p| drop(p.knocks[1].gates.pop()),
        "knock decoy: gate [ssh, web] → [ssh]",
    ),
    (
        |p| p.knocks[0].lifetime = Some(Lifetime::Never),
        "knock open: for the gate's time → never",
    ),
    (
        |p| drop(p.knocks.remove(0)),
        "knock open: gone, was sequence [1228/tcp, 1227/tcp]",
    ),
    (
        |p| p.knocks.swap(0, 1),
        "knocks: order open, decoy → decoy, open",
    ),
];

#[test]
fn every_key_that_differs_has_a_line() {
    for (edit, expected) in EDITS {
        let (old, mut new) = (policy(), policy());
        edit(&mut new);
        assert_eq!(lines(&old, &new), [*expected]);
    }
}

#[test]
fn the_other_way_round_what_is_gone_is_new() {
    let mut less = policy();
    less.gates.remove(1);
    less.knocks.remove(0);
    assert_eq!(
        lines(&less, &policy()),
        [
            "gate web: new, ports [443/tcp]",
            "knock open: new, sequence [1228/tcp, 1227/tcp]"
        ]
    );
}

#[test]
fn what_is_only_written_otherwise_does_not_differ() {
    let other = POLICY.replace("[22]", "[\"22/tcp\"]").replace(
        "trusted: knockd.trusted",
        "trusted: /etc/knockd/knockd.trusted\ninterface: any # as ever",
    );
    let other = parse(&other, Path::new("/root/new.yaml")).unwrap().policy;
    assert_eq!(diff(&policy(), &other), []);
}

proptest! {
    #[test]
    fn nothing_differs_exactly_where_policies_are_equal(
        one in prop::collection::btree_set(0..EDITS.len(), 0..4),
        two in prop::collection::btree_set(0..EDITS.len(), 0..4),
    ) {
        // Edits that remove come last, so that those of a key find what they edit.
        let edited = |which: &std::collections::BTreeSet<usize>| {
            let removes = |at: &usize| EDITS[*at].1.contains("gone") || EDITS[*at].1.contains("order");
            let (last, first): (Vec<usize>, Vec<usize>) = which.iter().partition(|at| removes(at));
            let mut policy = policy();
            for at in first {
                EDITS[at].0(&mut policy);
            }
            // Of these one, since they move what the next would edit.
            if let Some(at) = last.first() {
                EDITS[*at].0(&mut policy);
            }
            policy
        };
        let (one, two) = (edited(&one), edited(&two));
        prop_assert_eq!(diff(&one, &two).is_empty(), one == two);
    }
}
