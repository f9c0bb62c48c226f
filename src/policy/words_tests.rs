use std::path::Path;

use insta::assert_snapshot;

use super::*;
use crate::policy::parse;

const SHIPPED: &str = include_str!("../../policy/knockd.yaml");

fn told(text: &str) -> String {
    let checked = parse(text, Path::new("/etc/knockd/knockd.yaml")).unwrap();
    describe(&checked.policy, &checked.warnings, None)
}

#[test]
fn the_shipped_policy_in_words() {
    assert_snapshot!(told(SHIPPED), @"");
}

#[test]
fn show() {
    println!("{}", told(SHIPPED));
    println!(
        "{}",
        told(
            r#"
interface: [eth0, eth1]
firewall: { backend: nftables, on_stop: closed }
never_ban: [192.0.2.0/24, "2001:db8::1"]
scan_guard: { ports: 8, within: 1m, action: drop }
gates:
  ssh: { ports: [22, 2222], address: ssh.example.org, once: true, ipv6_prefix: 64, ban_timeout: 1h, cut_sessions: true }
  mosh: { ports: ["60000-61000/udp"], hook: forward, address: 198.51.100.7, accept_timeout: 1m, log_drops: false }
knocks:
  in: { sequence: [1228, "1229:udp", 1230/udp, 1231], action: accept, gate: all }
  out: { sequence: [1300], action: flush, gate: [ssh] }
  bad: { sequence: [1400, 1401], action: drop, for: 1d }
  everyone: { sequence: [1500, 1501], action: open, gate: mosh, for: 10s, tcpflags: "syn,ack,!fin" }
  shut: { sequence: [1502, 1501], action: close, gate: mosh }
  friend: { sequence: [40000, 1501], action: trust, gate: mosh }
"#
        )
    );
}
