//! What a gate guards for the first time: its sessions are unknown to connection tracking.

use netlink_packet_netfilter::nftables::NfTablesMessage as Msg;
use portcullis::firewall::nftables::Nftables;
use portcullis::firewall::{Backend, Desired};
use portcullis::netlink::CREATE;
use portcullis::policy::Hook;

use crate::common::{desired, gate, rules};
use crate::meddle::{chain, elements_of, meddle, rules_of, set, table};
use crate::skeleton::has_set;

fn missing(backend: &mut Nftables, wanted: &Desired) -> Vec<String> {
    let missing = backend.missing(wanted).unwrap();
    missing
        .iter()
        .map(|(gate, port)| format!("{gate} {port}"))
        .collect()
}

pub(crate) fn a_port_is_missing_until_it_is_guarded(backend: &mut Nftables) {
    let mut wanted = desired(vec![]);
    assert_eq!(missing(backend, &wanted), ["ssh 22/tcp"]);
    backend.install(&wanted).unwrap();
    assert!(missing(backend, &wanted).is_empty());
    // Another process sees the same.
    assert!(missing(&mut Nftables::open().unwrap(), &wanted).is_empty());

    wanted.gates[0].ports.push("2222-2223".parse().unwrap());
    let mut web = rules("web");
    web.ports = vec!["80".parse().unwrap(), "443/udp".parse().unwrap()];
    web.hook = Hook::Both;
    web.forward_addresses = vec!["192.0.2.0/24".parse().unwrap()];
    wanted.gates.push(web);
    let expected = ["ssh 2222-2223/tcp", "web 80/tcp", "web 443/udp"];
    assert_eq!(missing(backend, &wanted), expected);
    backend.install(&wanted).unwrap();
    assert!(missing(backend, &wanted).is_empty());

    // Another address, other settings.
    wanted.gates[1].forward_addresses = vec!["198.51.100.0/24".parse().unwrap()];
    wanted.gates[0].cut_sessions = true;
    assert_eq!(missing(backend, &wanted), ["web 80/tcp", "web 443/udp"]);
    wanted.gates[1].hook = Hook::Input;
    assert!(missing(backend, &wanted).is_empty());
    meddle(vec![(Msg::DeleteRule(rules_of("input")), 0)]);
    assert_eq!(missing(backend, &wanted).len(), 4);
}

pub(crate) fn sessions_at_a_new_port_stay(backend: &mut Nftables) {
    let mut wanted = desired(vec![]);
    backend.install(&wanted).unwrap();
    wanted.sessions = vec![(gate("ssh"), "192.0.2.1:40000".parse().unwrap())];
    backend.install(&wanted).unwrap();
    assert!(!has_set("ssh_session4"), "nothing is new");
    wanted.gates[0].ports.push("2222".parse().unwrap());
    wanted.gates.push(rules("alt"));
    wanted.gates[1].ports = vec!["8022".parse().unwrap()];
    wanted
        .sessions
        .push((gate("alt"), "[2001:db8::1]:40001".parse().unwrap()));
    backend.install(&wanted).unwrap();
    assert!(has_set("ssh_session4"), "a port of the gate is new");
    assert!(has_set("alt_session6"), "the gate is new");
    assert!(backend.verify().unwrap().is_empty());
    // Forwarded sessions cannot be known.
    wanted.gates[0].hook = Hook::Both;
    backend.install(&wanted).unwrap();
    assert!(has_set("ssh_grace"));
    // A port more while the sets of the one before are in use.
    wanted.gates[0].ports.push("2223".parse().unwrap());
    wanted.sessions[0].1.set_port(40_002);
    backend.install(&wanted).unwrap();
    assert!(backend.verify().unwrap().is_empty());
    for name in ["ssh_session4", "ssh_grace", "alt_session6"] {
        meddle(vec![(Msg::DeleteSetElement(elements_of(name)), 0)]);
    }
    backend.install(&wanted).unwrap();
    for name in ["ssh_session4", "ssh_grace", "alt_session6"] {
        assert!(!has_set(name), "{name}");
    }
}

pub(crate) fn a_table_half_made_is_no_gate(backend: &mut Nftables) {
    let mut wanted = desired(vec![]);
    wanted.sessions = vec![(gate("ssh"), "192.0.2.1:40000".parse().unwrap())];
    let halves: [Vec<(Msg, u16)>; 3] = [
        vec![],
        vec![(Msg::NewChain(chain("ssh_policy")), CREATE)],
        vec![
            (Msg::NewChain(chain("ssh_policy")), CREATE),
            (Msg::NewSet(set("ssh_banned4", 7, 4)), CREATE),
            (Msg::NewChain(chain("input")), CREATE),
        ],
    ];
    for half in halves {
        backend.teardown().unwrap();
        let mut deeds = vec![(Msg::NewTable(table(None)), CREATE)];
        deeds.extend(half);
        meddle(deeds);
        assert_eq!(missing(backend, &wanted), ["ssh 22/tcp"]);
        backend.install(&wanted).unwrap();
        assert!(has_set("ssh_session4"));
        assert!(missing(backend, &wanted).is_empty());
    }
}
