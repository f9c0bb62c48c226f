//! How gates and knocks get along, and what is unwise.

use std::path::Path;

use super::{Checked, Policy, parse};

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

/// The warnings, without their places.
fn warnings(text: &str) -> Vec<String> {
    let problems = checked(text).warnings;
    problems
        .iter()
        .map(|problem| problem.found.clone())
        .collect()
}

fn knock_warnings(body: &str) -> Vec<String> {
    warnings(&format!("{GATE}knocks: {{ k: {body} }}"))
}

#[test]
fn sequences_that_a_scan_steps_on_unseen_are_warned_about() {
    const ASCENDING: &str = "a sequence of UDP ports in ascending order";
    const DESCENDING: &str = "a sequence of UDP ports in descending order";
    const OTHER_FLAGS: &str = "a sequence of ports in ascending order without the flags `syn,!ack`";
    for (body, expected) in [
        ("[2/udp, 4/udp, 6/udp], action: accept", ASCENDING),
        ("[2/udp, 4/udp, 4/udp], action: open", ASCENDING),
        ("[6/udp, 4/udp, 2/udp], action: accept", DESCENDING),
        ("[4/udp, 2/udp, 6/udp], action: accept", ""),
        ("[2/udp, 4/udp], action: flush", ""),
        ("[2/udp, 4/udp], action: drop", ""),
        ("[2002/udp, 2004], action: accept", ""),
        ("[2002, 2004], action: accept", ""),
        (
            "[2002, 2004], action: accept, tcpflags: \"syn,!ack,!fin\"",
            "",
        ),
        ("[2002, 2004], action: accept, tcpflags: ack", OTHER_FLAGS),
        (
            "[2002, 2004], action: accept, tcpflags: \"!ack\"",
            OTHER_FLAGS,
        ),
        ("[2002, 2001, 2004], action: accept, tcpflags: ack", ""),
    ] {
        let text = format!("{{ sequence: {body} }}");
        assert_eq!(knock_warnings(&text).join("; "), expected, "{body}");
    }
    let beside = |decoy: &str| {
        warnings(&format!(
            "{GATE}knocks:\n  k: {{ sequence: [2/udp, 6/udp], action: accept }}\n  d: {{ sequence: {decoy}, action: drop }}"
        ))
    };
    assert_eq!(beside("[4/udp, 5/udp]"), [""; 0]);
    assert_eq!(beside("[7/udp, 8/udp]"), [ASCENDING]);
    assert_eq!(beside("[2004, 4]"), [ASCENDING]);
}

fn refused(text: &str) -> String {
    match parse(text, Path::new("p.yaml")) {
        Ok(_) => panic!("not refused: {text}"),
        Err(errors) => errors.to_string(),
    }
}

#[test]
fn a_sheet_is_one_knocks_alone() {
    let two = |a: &str, b: &str| {
        format!(
            "{GATE}knocks:\n  a: {{ sequence: {{ one_time: {a} }}, action: drop }}\n  b: {{ sequence: {{ one_time: {b} }}, action: drop }}\n"
        )
    };
    let said = refused(&two("x.sheet", "x.sheet"));
    assert!(
        said.contains("p.yaml:4:18: found the sheet of `a` a second time"),
        "{said}"
    );
    policy(&two("x.sheet", "y.sheet"));
    let door = |name, file| format!("[{name}]\none_time_sequences=/{file}\ncommand=x\n");
    let said = refused(&[door("a", "x"), door("b", "x")].concat());
    assert!(said.contains("the sheet of `a` a second time"), "{said}");
    policy(&[door("a", "x"), door("b", "y")].concat());
}

#[test]
fn equal_sequences_and_prefixes_are_errors_whatever_their_flags() {
    let two = |a: &str, b: &str| {
        format!(
            "{GATE}knocks:\n  a: {{ sequence: [{a}], action: drop }}\n  b: {{ sequence: [{b}], action: drop, tcpflags: ack }}\n"
        )
    };
    for (a, b) in [
        ("1001, 1002", "1001, 1002"),
        ("1001, 1002", "1001, 1002, 1003"),
        ("1001, 1002, 1003", "1001"),
        ("1001/tcp", "\"1001:tcp\""),
    ] {
        assert_eq!(refused(&two(a, b)).lines().count(), 1, "{a} / {b}");
    }
    for (a, b) in [
        ("1001, 1002", "1001/udp, 1002"),
        ("1001, 1002", "1002, 1001"),
        ("1001, 1002, 1003", "1001, 1003, 1002"),
        ("1001, 1003", "1001, 1002, 1003"),
    ] {
        assert_eq!(warnings(&two(a, b)), Vec::<String>::new(), "{a} / {b}");
    }
}

#[test]
fn a_sequence_contained_in_another_is_a_warning() {
    let text = format!(
        "{GATE}knocks:\n  a: {{ sequence: [1002, 1003], action: drop }}\n  b: {{ sequence: [1001, 1002, 1003, 1004, 1002, 1003], action: drop }}\n"
    );
    assert_eq!(
        warnings(&text),
        ["a sequence that contains that of `a` (line 3)"]
    );
}

#[test]
fn a_sequence_with_a_gates_port_is_an_error() {
    let text = |port: &str| {
        format!(
            "gates: {{ a: {{ ports: [22] }}, b: {{ ports: [100-200] }} }}\nknocks: {{ k: {{ sequence: [{port}, 2], action: drop, gate: a }} }}"
        )
    };
    assert!(refused(&text("22")).contains("22/tcp, a port of the gate `a`"));
    assert!(refused(&text("150")).contains("150/tcp, a port of the gate `b`"));
    assert_eq!(policy(&text("22/udp")).knocks.len(), 1);
}

#[test]
fn gates_guard_the_same_port_only_in_different_places() {
    let two = |a: &str, b: &str| {
        format!("gates:\n  a: {{ ports: [20-25{a} }}\n  b: {{ ports: [22{b} }}\n")
    };
    let forward = "], hook: forward, address: 198.51.100.1";
    for (a, b) in [
        ("]", "]"),
        ("], address: 192.0.2.1", "], address: 192.0.2.1"),
        (forward, forward),
        ("], address: a.example.org", "], address: A.example.org."),
    ] {
        assert!(refused(&two(a, b)).contains("3:16:"), "{a} / {b}");
    }
    for (a, b) in [
        ("]", "/udp]"),
        ("]", forward),
        ("], address: 192.0.2.1", "], address: 192.0.2.2"),
    ] {
        assert_eq!(warnings(&two(a, b)), Vec::<String>::new(), "{a} / {b}");
    }
    assert_eq!(warnings(&two("]", "], address: 192.0.2.1")).len(), 1);
    assert_eq!(
        warnings(&two("], address: 192.0.2.0/24", "], address: 192.0.2.1")).len(),
        1
    );
}

#[test]
fn what_is_unwise_is_warned_about() {
    let told = |body: &str| knock_warnings(body).join("; ");
    for (body, expected) in [
        (
            "{ sequence: [40000, 2000], action: drop }",
            "the ephemeral port 40000/tcp",
        ),
        ("{ sequence: [32767, 2000], action: drop }", ""),
        (
            "{ sequence: [32768/udp, 2000], action: drop }",
            "the ephemeral port 32768/udp",
        ),
        (
            "{ sequence: [6667, 2000, 6667], action: accept }",
            "the port 6667/tcp",
        ),
        ("{ sequence: [6667/udp, 2000], action: accept }", ""),
        (
            "{ sequence: [10080, 2000], action: accept }",
            "the port 10080/tcp",
        ),
        (
            "{ sequence: [2000, 2001], action: accept, for: never }",
            "`for: never`",
        ),
        ("{ sequence: [2000, 2001], action: drop, for: never }", ""),
        (
            "{ sequence: [2000, 2001], action: trust }",
            "`action: trust` for the knock `k`",
        ),
        (
            "{ sequence: [2000], action: accept }",
            "a sequence of one port",
        ),
        (
            "{ sequence: [2000], action: open }",
            "a sequence of one port",
        ),
        ("{ sequence: [2000], action: drop }", ""),
        (
            "{ sequence: [2000, 2000, 2000], action: accept }",
            "a sequence of the same port again",
        ),
        ("{ sequence: [2000, 2000/udp], action: accept }", ""),
        ("{ sequence: [2000, 2000], action: drop }", ""),
        (
            "{ sequence: [2000/udp, 2001/udp], action: drop, tcpflags: syn }",
            "`tcpflags` for a sequence of UDP ports only",
        ),
    ] {
        assert_eq!(told(body), expected, "{body}");
    }
    let returning = |backend| {
        warnings(&format!(
            "firewall: {{ backend: {backend} }}\ngates: {{ g: {{ ports: [22], verdict: return }} }}"
        ))
    };
    assert_eq!(returning("nftables"), ["`verdict: return`"]);
    assert_eq!(returning("iptables"), [""; 0]);
    assert_eq!(returning("auto"), [""; 0]);
    assert_eq!(
        warnings("gates: { g: { ports: [22], accept_timeout: never } }"),
        ["`accept_timeout: never`"]
    );
    assert_eq!(
        warnings(&format!("{GATE}never_ban: [192.0.2.1/24]\n")),
        ["`192.0.2.1/24`"]
    );
    assert_eq!(
        warnings(&format!("{GATE}never_ban: [\"::/0\"]\n")),
        ["`::/0`"]
    );
}
