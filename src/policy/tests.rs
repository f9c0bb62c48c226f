//! What a sound policy means, a sentence of the design each.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::model::{KnockPort, Lifetime, parse_duration};

const SHIPPED: &str = include_str!("../../policy/knockd.yaml");
const GATE: &str = "gates: { ssh: { ports: [22] } }\n";

fn checked(text: &str) -> Checked {
    match parse(text, Path::new("/etc/knockd/knockd.yaml")) {
        Ok(checked) => checked,
        Err(errors) => panic!("{errors}"),
    }
}

fn policy(text: &str) -> Policy {
    checked(text).policy
}

fn knock(body: &str) -> Knock {
    policy(&format!("{GATE}knocks: {{ k: {body} }}"))
        .knocks
        .remove(0)
}

fn gate(body: &str) -> Gate {
    policy(&format!("gates: {{ g: {body} }}")).gates.remove(0)
}

fn refused(text: &str) -> String {
    match parse(text, Path::new("p.yaml")) {
        Ok(_) => panic!("not refused: {text}"),
        Err(errors) => errors.to_string(),
    }
}

fn lifetime(text: &str) -> Lifetime {
    parse_duration(text).unwrap()
}

#[test]
fn the_shipped_policy_is_the_mathrice_appliance_without_warnings() {
    let checked = checked(SHIPPED);
    assert_eq!(checked.warnings, []);
    let policy = checked.policy;
    assert_eq!(policy.gates.len(), 1);
    assert_eq!(policy.gates[0].accept_timeout, lifetime("300s"));
    assert_eq!(policy.gates[0].ban_timeout, Lifetime::Never);
    let told: Vec<(&str, Vec<u16>, KnockAction)> = policy
        .knocks
        .iter()
        .map(|knock| {
            let ports = knock.sequence.iter().map(|port| port.port).collect();
            (knock.name.as_str(), ports, knock.action.clone())
        })
        .collect();
    assert_eq!(
        told,
        [
            ("opencloseSSH", vec![1228, 1227], KnockAction::Accept),
            ("banned1", vec![1220, 1221], KnockAction::Drop),
            ("banned2", vec![1224, 1225], KnockAction::Drop),
            ("banned3", vec![1226, 1226], KnockAction::Drop),
            ("banned4", vec![1223, 1224], KnockAction::Drop),
            ("banned5", vec![1222, 1222], KnockAction::Drop),
        ]
    );
    for knock in &policy.knocks {
        assert_eq!(knock.seq_timeout, Duration::from_secs(15));
        assert_eq!(knock.flags, TcpFlags::OPENING);
        assert_eq!(knock.gates, [policy.gates[0].name.clone()]);
    }
}

/// The sample of the design, with every key of it.
const SAMPLE: &str = r#"
interface: any                 # a name, a list of names, or `any` (without lo)
firewall:
  backend: auto
  on_stop: keep
trusted: knockd.trusted
never_ban: []                  # networks
scan_guard: { ports: 5, action: none }
memory: 32MiB
gates:
  ssh:
    ports: [22]                # 22 (tcp), "22/tcp", "60000-61000/udp"
    address: ssh.maths.univ.fr
    hook: input
    accept_timeout: 300s
    ban_timeout: never
    verdict: accept
    once: false
    log_drops: true
knocks:
  opencloseSSH:
    sequence: [1228, 1227]
    seq_timeout: 15s
    tcpflags: syn
    action: accept
    gate: ssh
    for: 300s
  banned1: { sequence: [1220, 1221], seq_timeout: 15s, action: drop }
"#;

#[test]
fn the_designs_sample_is_read_without_warnings() {
    let checked = checked(SAMPLE);
    assert_eq!(checked.warnings, []);
    assert_eq!(checked.policy.knocks[0].lifetime, Some(lifetime("300s")));
}

#[test]
fn what_is_left_out_has_the_designs_defaults() {
    let policy = policy(&format!(
        "{GATE}knocks: {{ a: {{ sequence: [1228, 1227], action: accept }} }}"
    ));
    assert_eq!(policy.interfaces, Interfaces::Any);
    assert_eq!(policy.firewall.backend, BackendChoice::Auto);
    assert_eq!(policy.firewall.on_stop, OnStop::Keep);
    assert_eq!(
        policy.trusted,
        Some(PathBuf::from("/etc/knockd/knockd.trusted"))
    );
    assert_eq!(policy.never_ban, []);
    assert_eq!(policy.scan_guard.ports, 5);
    assert_eq!(policy.scan_guard.within, Duration::from_secs(75));
    assert_eq!(policy.scan_guard.action, ScanAction::None);
    assert_eq!(policy.memory, 32 * 1024 * 1024);
    assert_eq!(policy.history.keep, Duration::from_secs(90 * 86_400));
    assert_eq!(policy.history.rows, 100_000);
    let gate = &policy.gates[0];
    assert_eq!(gate.address, None);
    assert_eq!(gate.hook, Hook::Input);
    assert_eq!(gate.accept_timeout, lifetime("300s"));
    assert_eq!(gate.ban_timeout, Lifetime::Never);
    assert_eq!(gate.verdict, Verdict::Accept);
    assert_eq!(
        (gate.once, gate.log_drops, gate.cut_sessions),
        (false, true, false)
    );
    assert_eq!(gate.ipv6_prefix, 128);
    assert_eq!(policy.knocks[0].seq_timeout, Duration::from_secs(15));
    assert_eq!(policy.knocks[0].flags, TcpFlags::OPENING);
    assert_eq!(policy.knocks[0].lifetime, None);
}

#[test]
fn every_key_of_a_gate_is_read() {
    let gate = gate(
        "{ ports: [22, 2222/tcp, \"60000-61000/udp\"], address: ssh.maths.univ.fr, hook: input, \
         accept_timeout: 1h30m, ban_timeout: 2d, verdict: accept, once: true, log_drops: false, \
         cut_sessions: true, ipv6_prefix: 64 }",
    );
    let ports: Vec<String> = gate.ports.iter().map(ToString::to_string).collect();
    assert_eq!(ports, ["22/tcp", "2222/tcp", "60000-61000/udp"]);
    assert_eq!(
        gate.address,
        Some(GateAddress::Name("ssh.maths.univ.fr".into()))
    );
    assert_eq!(gate.accept_timeout, lifetime("90m"));
    assert_eq!(gate.ban_timeout, lifetime("48h"));
    assert_eq!(
        (gate.once, gate.log_drops, gate.cut_sessions),
        (true, false, true)
    );
    assert_eq!(gate.ipv6_prefix, 64);
}

#[test]
fn a_gate_address_is_canonical() {
    let net = |text: &str| match gate(&format!("{{ ports: [22], address: \"{text}\" }}")).address {
        Some(GateAddress::Net(net)) => net.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(net("192.0.2.1"), "192.0.2.1/32");
    assert_eq!(net("::ffff:192.0.2.1"), "192.0.2.1/32");
    assert_eq!(net("2001:db8::1/64"), "2001:db8::/64");
}

#[test]
fn forward_demands_an_address_behind_us() {
    let gate = gate("{ ports: [22], hook: forward, address: 198.51.100.0/24 }");
    assert!(gate.hook.forward() && !gate.hook.input());
    for body in [
        "hook: forward",
        "hook: both",
        "hook: both, address: www.example.org",
    ] {
        refused(&format!("gates: {{ g: {{ ports: [22], {body} }} }}"));
    }
}

#[test]
fn the_other_sections_are_read() {
    let policy = policy(
        "interface: [eth0, wg0]\n\
         firewall: { backend: nftables, on_stop: closed, owner: true }\n\
         trusted: lists/friends\nnever_ban: [192.0.2.0/24, \"2001:db8::1\"]\n\
         scan_guard: { ports: 8, within: 2m, action: drop }\nmemory: 1GiB\n\
         history: { keep: 30d, rows: 500 }\n\
         gates: { ssh: { ports: [22] } }\n",
    );
    assert_eq!(
        policy.interfaces,
        Interfaces::Named(vec!["eth0".into(), "wg0".into()])
    );
    assert_eq!(policy.firewall.backend, BackendChoice::Nftables);
    assert_eq!(policy.firewall.on_stop, OnStop::Closed);
    assert!(policy.firewall.owner);
    assert_eq!(
        policy.trusted,
        Some(PathBuf::from("/etc/knockd/lists/friends"))
    );
    assert_eq!(policy.never_ban[1].to_string(), "2001:db8::1/128");
    assert_eq!(policy.scan_guard.ports, 8);
    assert_eq!(policy.scan_guard.within, Duration::from_secs(120));
    assert_eq!(policy.scan_guard.action, ScanAction::Drop);
    assert_eq!(policy.memory, 1 << 30);
    assert_eq!(policy.history.keep, Duration::from_secs(30 * 86_400));
    assert_eq!(policy.history.rows, 500);
}

#[test]
fn an_absolute_whitelist_path_stays_as_it_is() {
    let policy = policy(&format!("{GATE}trusted: /srv/trusted\n"));
    assert_eq!(policy.trusted, Some(PathBuf::from("/srv/trusted")));
}

#[test]
fn the_scan_window_is_ports_times_the_longest_seq_timeout() {
    let text = format!(
        "{GATE}scan_guard: {{ ports: 4 }}\nknocks:\n  a: {{ sequence: [1, 2], seq_timeout: 10s, action: drop }}\n  b: {{ sequence: [3, 4], seq_timeout: 1m, action: drop }}\n"
    );
    assert_eq!(policy(&text).scan_guard.within, Duration::from_secs(240));
}

#[test]
fn memory_is_given_in_binary_units_within_bounds() {
    for (text, bytes) in [
        ("64KiB", 65_536),
        ("1MiB", 1 << 20),
        ("1GiB", 1 << 30),
        ("32 MiB", 32 << 20),
    ] {
        assert_eq!(
            policy(&format!("{GATE}memory: {text}\n")).memory,
            bytes,
            "{text}"
        );
    }
    for text in [
        "63KiB",
        "1025MiB",
        "4GiB",
        "32",
        "32MB",
        "-1MiB",
        "1e3MiB",
        "99999999999999999999GiB",
        "[1]",
    ] {
        assert!(
            refused(&format!("{GATE}memory: {text}\n")).contains(":2:9:"),
            "{text}"
        );
    }
}

#[test]
fn a_sequence_takes_all_three_spellings() {
    let knock = knock("{ sequence: [1228, \"1229:udp\", 1230:tcp, 1231/udp], action: accept }");
    assert_eq!(
        knock.sequence,
        [
            KnockPort::tcp(1228),
            KnockPort::udp(1229),
            KnockPort::tcp(1230),
            KnockPort::udp(1231)
        ]
    );
}

#[test]
fn syn_alone_means_syn_without_ack() {
    let flags = |text: &str| {
        knock(&format!(
            "{{ sequence: [1, 2], action: drop, tcpflags: {text} }}"
        ))
        .flags
    };
    assert_eq!(flags("syn"), TcpFlags::OPENING);
    assert_eq!(flags("\"syn,!ack\""), TcpFlags::OPENING);
    assert_eq!(flags("\"syn , ack\""), TcpFlags { set: 18, clear: 0 });
    assert_eq!(
        flags("\"fin,psh,urg,!syn,!rst\""),
        TcpFlags { set: 41, clear: 6 }
    );
    assert_eq!(flags("\"!ack\""), TcpFlags { set: 0, clear: 16 });
    for bad in [
        "\"syn,!syn\"",
        "\"\"",
        "\"syn,\"",
        "\",\"",
        "\"!\"",
        "\"!!syn\"",
        "SYN",
        "all",
        "[syn]",
        "2",
        "~",
    ] {
        refused(&format!(
            "{GATE}knocks: {{ k: {{ sequence: [1, 2], action: drop, tcpflags: {bad} }} }}"
        ));
    }
}

#[test]
fn every_action_is_there() {
    for (word, action) in [
        ("accept", KnockAction::Accept),
        ("drop", KnockAction::Drop),
        ("trust", KnockAction::Trust),
        ("flush", KnockAction::Flush),
        ("open", KnockAction::Open),
        ("close", KnockAction::Close),
    ] {
        assert_eq!(
            knock(&format!("{{ sequence: [1, 2], action: {word} }}")).action,
            action
        );
    }
}

#[test]
fn a_knock_counts_for_its_own_time_instead_of_the_gates() {
    assert_eq!(
        knock("{ sequence: [1, 2], action: accept, for: 60s }").lifetime,
        Some(lifetime("1m"))
    );
    assert_eq!(
        knock("{ sequence: [1, 2], action: drop, for: never }").lifetime,
        Some(Lifetime::Never)
    );
}

#[test]
fn a_knock_finds_its_gates() {
    let text = |body: &str| {
        format!(
            "gates: {{ ssh: {{ ports: [22] }}, www: {{ ports: [80] }}, imap: {{ ports: [143] }} }}\nknocks: {{ k: {{ sequence: [1, 2], {body} }} }}"
        )
    };
    let gates = |body: &str| {
        let knock = policy(&text(body)).knocks.remove(0);
        knock
            .gates
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(gates("action: accept, gate: www"), ["www"]);
    assert_eq!(gates("action: accept, gate: [www, ssh]"), ["www", "ssh"]);
    assert_eq!(gates("action: accept, gate: all"), ["ssh", "www", "imap"]);
    assert_eq!(gates("action: drop"), ["ssh", "www", "imap"]);
    for action in ["accept", "trust", "flush", "open", "close"] {
        let told = refused(&text(&format!("action: {action}")));
        assert!(
            told.contains("without `gate` where there are several"),
            "{told}"
        );
    }
    // Where there is one gate, it is the one.
    assert_eq!(knock("{ sequence: [1, 2], action: open }").gates.len(), 1);
}

#[test]
fn a_sound_knock_is_not_blamed_for_an_unsound_gate() {
    let told = refused(
        "gates: { ssh: { ports: [0] } }\nknocks: { k: { sequence: [1, 2], action: accept, gate: ssh } }",
    );
    assert_eq!(told.lines().count(), 1, "{told}");
}

#[test]
fn a_scan_guard_that_contradicts_a_sequence_is_warned_about() {
    let text = "gates: { ssh: { ports: [22] } }\nscan_guard: { ports: 1, within: 10s }\nknocks:\n  a: { sequence: [1000, 2000], seq_timeout: 15s, action: accept }\n";
    let checked = parse(text, Path::new("p.yaml")).unwrap();
    let said: Vec<String> = checked.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "2:22: found `1`, expected two or more foreign ports (one mistyped port, or a neighbour's behind the same address, voids a knock)",
            "2:33: found `10s`, expected a time window as long as the longest `seq_timeout` (a sweep that takes the 15s of a sequence would be forgotten on the way)",
        ]
    );
}
