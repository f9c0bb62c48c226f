use std::path::Path;

use insta::assert_snapshot;

use super::*;
use crate::policy::{Checked, parse};

const SHIPPED: &str = include_str!("../../policy/knockd.yaml");

const EVERYTHING: &str = r#"
interface: [eth0, eth1]
firewall: { backend: nftables, on_stop: closed, owner: true }
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
"#;

fn checked(text: &str) -> Checked {
    parse(text, Path::new("/etc/knockd/knockd.yaml")).unwrap()
}

fn told(text: &str) -> String {
    let checked = checked(text);
    describe(&checked.policy, &checked.warnings, None)
}

#[test]
fn one_foreign_port_is_one() {
    let one = told(&EVERYTHING.replace("ports: 8, within", "ports: 1, within"));
    let sentence = "touches 1 foreign port or decoy within 1m is a scanner";
    assert!(one.contains(sentence), "{one}");
}

#[test]
fn the_shipped_policy_in_words() {
    assert_snapshot!(told(SHIPPED), @r#"
    Gates
      ssh: guards 22/tcp on every address of this host.
        Who is accepted may connect for 5m; sessions opened meanwhile live on.
        A ban holds until lifted and leaves open sessions alone.
        Refused packets are logged as "[knockd,drop] ", at a limited rate.
        Chains: ssh_policy = ssh_banned → ssh_trusted → ssh_filter → LOG → DROP.

    Knocks
      opencloseSSH: TCP SYN to 1228 then 1227 within 15s lets the sender in to ssh for 5m.
      banned1: TCP SYN to 1220 then 1221 within 15s bans the sender from ssh until lifted.
      banned2: TCP SYN to 1224 then 1225 within 15s bans the sender from ssh until lifted.
      banned3: TCP SYN to 1226 then 1226 within 15s bans the sender from ssh until lifted.
      banned4: TCP SYN to 1223 then 1224 within 15s bans the sender from ssh until lifted.
      banned5: TCP SYN to 1222 then 1222 within 15s bans the sender from ssh until lifted.

    Besides
      Knocks count on every interface but loopback.
      Whitelist: /etc/knockd/knockd.trusted.
      A sender that touches 5 foreign ports or decoys within 1m15s is a scanner: its knocks open nothing.
      A foreign port at most 5 away from a sequence's ports voids a knock of that sequence.
      What happened is remembered for 90d (at most 100000 entries, and as many by hand).
      Firewall: nftables; it goes on enforcing when the daemon stops.

    To be let through at the site's border
      tcp, gates: 22
      tcp, knocks: 1220-1228
    "#);
}

#[test]
fn everything_a_policy_can_say_in_words() {
    assert_snapshot!(told(EVERYTHING), @r#"
    Gates
      ssh: guards 22/tcp and 2222/tcp on this host's address ssh.example.org.
        Who is accepted may connect for 5m; its first new connection uses the acceptance up.
        A ban holds for 1h and ends open sessions.
        With IPv6, both cover the sender's whole /64.
        Refused packets are logged as "[knockd,drop] ", at a limited rate.
        Chains: ssh_policy = ssh_banned → ssh_trusted → ssh_filter → LOG → DROP.
      mosh: guards 60000-61000/udp on 198.51.100.7, behind this host.
        Who is accepted may connect for 1m; sessions opened meanwhile live on.
        A ban holds until lifted and leaves open sessions alone.
        Refused packets are not logged.
        Chains: mosh_policy = mosh_banned → mosh_trusted → mosh_filter → DROP.

    Knocks
      in: TCP SYN to 1228 then UDP to 1229 then 1230 then TCP SYN to 1231 within 15s lets the sender in to every gate for 5m (ssh) and for 1m (mosh).
      out: TCP SYN to 1300 ends the sender's own acceptance at ssh.
      bad: TCP SYN to 1400 then 1401 within 15s bans the sender from every gate for 1d.
      everyone: TCP with SYN and ACK without FIN to 1500 then 1501 within 15s opens mosh to everybody but the banned for 10s.
      shut: TCP SYN to 1502 then 1501 within 15s closes mosh to everybody again.
      friend: TCP SYN to 40000 then 1501 within 15s lets the sender in to mosh until the daemon restarts.

    Besides
      Knocks count on eth0 and eth1.
      Whitelist: /etc/knockd/knockd.trusted.
      Never banned: 192.0.2.0/24 and 2001:db8::1/128.
      A sender that touches 8 foreign ports or decoys within 1m is a scanner: its knocks open nothing, and it is banned from every gate.
      A foreign port at most 5 away from a sequence's ports voids a knock of that sequence.
      What happened is remembered for 90d (at most 100000 entries, and as many by hand).
      Firewall: nftables; nobody else can change its table; acceptances are withdrawn when the daemon stops.

    To be let through at the site's border
      tcp, gates: 22, 2222
      tcp, knocks: 1228, 1231, 1300, 1400-1401, 1500-1502, 40000
      udp, gates: 60000-61000
      udp, knocks: 1229-1230

    Warnings
      13:25: found a sequence of ports in ascending order without the flags `syn,!ack`, expected these flags, or ports that neither ascend nor descend (the scan guard counts SYNs only. A scan with other flags, one port after the other, lets the scanner in)
      15:24: found the ephemeral port 40000/tcp, expected a port up to 32767 (kernels give the ports above to clients, so that replies to this host may knock)
      15:46: found `action: trust` for the knock `friend`, expected `accept` (whoever has seen the knock can send it again and is trusted until the daemon restarts)
    "#);
}

#[test]
fn the_whitelist_is_summed_up() {
    let summary = WhitelistSummary {
        file: "/etc/knockd/knockd.trusted".into(),
        addresses: 1,
        networks: 2,
        names: 0,
        bad_lines: 1,
    };
    let told = describe(&checked(SHIPPED).policy, &[], Some(&summary));
    let expected = "  Whitelist: /etc/knockd/knockd.trusted, with 1 address, 2 networks and 0 host \
                    names; 1 line not understood.\n";
    assert!(told.contains(expected), "{told}");
}

#[test]
fn a_knock_port_that_something_listens_on_is_a_warning() {
    let policy = checked(SHIPPED).policy;
    let told = check_report(
        &policy,
        &[],
        None,
        &[KnockPort::tcp(1224), KnockPort::tcp(80)],
    );
    let expected = "\nWarnings\n  a program listens on 1224/tcp, a port of banned2 and banned4: \
                    its clients knock without knowing\n";
    assert!(told.ends_with(expected), "{told}");
}

#[test]
fn sequences_that_change_in_words() {
    let told = told(
        "gates: { ssh: { ports: [22] } }\n\
         knocks:\n  \
           timed: { sequence: { totp: /etc/s, ports: \"20000-40000\" }, action: accept }\n  \
           once: { sequence: { one_time: /etc/o }, action: accept, seq_timeout: 5s }\n",
    );
    for sentence in [
        "timed: The sequence of 4 ports of 20000-40000/tcp that follows from the secret in /etc/s \
         and the time, knocked within 15s, lets the sender in to ssh for 5m.",
        "once: The next sequence of /etc/o lets the sender in to ssh for 5m.",
    ] {
        assert!(told.contains(sentence), "{told}");
    }
}

#[test]
fn when_a_decoy_bans_in_words() {
    let policy = "ban: { after: 3, within: 1h, escalate: true, max: 30d }\n\
                  scan_guard: { action: drop }\n\
                  gates: { ssh: { ports: [22], ban_timeout: 10m } }\n\
                  knocks:\n  \
                    a: { sequence: [1, 2], action: drop }\n  \
                    b: { sequence: [3, 4], action: drop, ban: { after: 22, within: 1d } }\n";
    let told = told(policy);
    for sentence in [
        "bans the sender from ssh for 10m, at its 3rd decoy within 1h; each further ban lasts \
         twice as long, up to 30d.",
        "bans the sender from ssh for 10m, at its 22nd time within 1d.",
        "it is banned from every gate, at its 3rd decoy within 1h; each further ban lasts twice \
         as long, up to 30d.",
    ] {
        assert!(told.contains(sentence), "{told}");
    }
}
