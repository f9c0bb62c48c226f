//! What is decided about rules, built by hand as the kernel would send them. Whole rulesets of
//! real programs are tried in `tests/coexistence`.

use proptest::prelude::*;

use super::elements::find;
use super::packet::{Byte, Hook, Packet, Value};
use super::read::{self, Element};
use super::rule::{Effect, Fits, judge};
use super::walk::{Ours, Place, Walk};
use super::*;
use crate::model::Proto;

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 4).unwrap();
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

fn expression(name: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
    let name = attribute(1, format!("{name}\0").as_bytes());
    let data = attribute(2, &attributes.concat());
    attribute(1, &[name, data].concat())
}

fn value(kind: u16, bytes: &[u8]) -> Vec<u8> {
    attribute(kind, &attribute(1, bytes))
}

fn payload(base: u32, offset: u32, length: u32) -> Vec<u8> {
    let a = [
        number(1, 1),
        number(2, base),
        number(3, offset),
        number(4, length),
    ];
    expression("payload", &a)
}

fn compare(operator: u32, bytes: &[u8]) -> Vec<u8> {
    expression("cmp", &[number(1, 1), number(2, operator), value(3, bytes)])
}

fn verdict(code: i32, chain: Option<&str>) -> Vec<u8> {
    let mut inner = number(1, code.cast_unsigned());
    if let Some(chain) = chain {
        inner.extend(attribute(2, format!("{chain}\0").as_bytes()));
    }
    let data = attribute(2, &attribute(2, &inner));
    expression("immediate", &[number(1, 0), data])
}

fn port_is(port: u16) -> Vec<u8> {
    [payload(2, 2, 2), compare(0, &port.to_be_bytes())].concat()
}

fn source_is(address: [u8; 4]) -> Vec<u8> {
    [payload(1, 12, 4), compare(0, &address)].concat()
}

const ACCEPT: i32 = 1;
const DROP: i32 = 0;
const JUMP: i32 = -3;
const RETURN: i32 = -5;

fn syn() -> Packet {
    Packet {
        hook: Hook::Input,
        is_v6: false,
        proto: Proto::Tcp,
        port: 22,
        to: None,
        interface: ("eth0".to_owned(), 2),
    }
}

fn nothing(_: &str) -> Option<Rc<Vec<Element>>> {
    None
}

fn judged(parts: &[Vec<u8>]) -> Vec<(Fits, Effect)> {
    judge(&parts.concat(), &syn(), &mut nothing)
}

/// Where the packet ends in a base chain with these chains of rules.
fn ends(chains: &[(&str, &[Vec<u8>])], drops: bool, ours: &Ours) -> Option<Place> {
    let mut rules: HashMap<String, Vec<Rule>> = HashMap::new();
    for (chain, list) in chains {
        for (index, expressions) in list.iter().enumerate() {
            rules.entry((*chain).to_owned()).or_default().push(Rule {
                table: (INET, "filter".to_owned()),
                chain: (*chain).to_owned(),
                handle: index as u64 + 10,
                expressions: expressions.clone(),
            });
        }
    }
    let mut walk = Walk {
        rules: &rules,
        packet: &syn(),
        ours,
        sets: &mut nothing,
        known: HashMap::new(),
    };
    walk.base("input", drops)
}

#[test]
fn a_port_is_known_and_a_knocker_is_nobody_that_a_rule_names() {
    assert_eq!(
        judged(&[port_is(22), verdict(ACCEPT, None)]),
        [(Fits::Yes, Effect::Accepts)]
    );
    assert_eq!(judged(&[port_is(23), verdict(DROP, None)]), []);
    assert_eq!(
        judged(&[source_is([192, 0, 2, 9]), verdict(ACCEPT, None)]),
        []
    );
    let others = [
        payload(1, 12, 4),
        compare(1, &[192, 0, 2, 9]),
        verdict(DROP, None),
    ];
    assert_eq!(judged(&others), [(Fits::Yes, Effect::Drops)]);
}

#[test]
fn what_is_not_understood_may_hold() {
    let unknown = expression("from the future", &[]);
    assert_eq!(
        judged(&[unknown, verdict(ACCEPT, None)]),
        [(Fits::Maybe, Effect::Accepts)]
    );
    let marked = expression("meta", &[number(1, 1), number(2, 3)]);
    assert_eq!(
        judged(&[marked, compare(0, &[0, 0, 0, 7]), verdict(DROP, None)]),
        [(Fits::Maybe, Effect::Drops)]
    );
}

#[test]
fn a_new_connection_is_not_established() {
    let state = expression("ct", &[number(1, 1), number(2, 0)]);
    let any_of = |bits: u32| {
        let mask = [
            number(1, 1),
            number(2, 1),
            number(3, 4),
            value(4, &bits.to_ne_bytes()),
            value(5, &[0; 4]),
        ];
        let mask = expression("bitwise", &mask);
        judged(&[
            state.clone(),
            mask,
            compare(1, &[0; 4]),
            verdict(ACCEPT, None),
        ])
    };
    assert_eq!(any_of(2 | 4), [], "established, related");
    assert_eq!(any_of(1), [], "invalid");
    assert_eq!(any_of(8), [(Fits::Yes, Effect::Accepts)], "new");
}

#[test]
fn a_chain_that_drops_is_named_unless_a_rule_accepts() {
    let accept = [port_is(22), verdict(ACCEPT, None)].concat();
    let drop = [port_is(22), verdict(DROP, None)].concat();
    let none = Ours::new();
    assert_eq!(ends(&[], false, &none), None);
    assert_eq!(ends(&[], true, &none), Some(Place::Policy));
    assert_eq!(
        ends(&[("input", std::slice::from_ref(&accept))], true, &none),
        None
    );
    let first = Some(Place::Rule("input".to_owned(), 1, 10));
    assert_eq!(
        ends(&[("input", &[drop.clone(), accept.clone()])], false, &none),
        first
    );
    assert_eq!(ends(&[("input", &[accept, drop])], false, &none), None);
}

#[test]
fn jumps_come_back_and_loops_end() {
    let none = Ours::new();
    let jump = verdict(JUMP, Some("ssh"));
    let back = [port_is(22), verdict(RETURN, None)].concat();
    let drop = verdict(DROP, None);
    let chains: [(&str, &[Vec<u8>]); 2] = [
        ("input", std::slice::from_ref(&jump)),
        ("ssh", &[back, drop.clone()]),
    ];
    assert_eq!(ends(&chains, false, &none), None);
    let chains: [(&str, &[Vec<u8>]); 2] = [
        ("input", std::slice::from_ref(&jump)),
        ("ssh", std::slice::from_ref(&drop)),
    ];
    let inside = Some(Place::Rule("ssh".to_owned(), 1, 10));
    assert_eq!(ends(&chains, false, &none), inside);
    let chains: [(&str, &[Vec<u8>]); 2] = [
        ("input", std::slice::from_ref(&jump)),
        ("ssh", std::slice::from_ref(&jump)),
    ];
    assert!(ends(&chains, true, &none).is_some());
}

#[test]
fn our_own_chain_in_their_table_lets_in_unless_it_hands_on() {
    let jump = [port_is(22), verdict(JUMP, Some("ssh_policy"))].concat();
    let drop = verdict(DROP, None);
    let rules = [jump.clone(), drop.clone()];
    let ours = |accepts| Ours::from([("ssh_policy".to_owned(), accepts)]);
    assert_eq!(ends(&[("input", &rules)], true, &ours(true)), None);
    let second = Some(Place::Rule("input".to_owned(), 2, 11));
    assert_eq!(ends(&[("input", &rules)], true, &ours(false)), second);
    // Somebody has put a rule before ours.
    let first = Some(Place::Rule("input".to_owned(), 1, 10));
    assert_eq!(ends(&[("input", &[drop, jump])], false, &ours(true)), first);
}

#[test]
fn intervals_hold_what_is_between() {
    let element = |key: u16, is_end| Element {
        key: key.to_be_bytes().to_vec(),
        is_end,
        ..Element::default()
    };
    let list = [
        element(20, false),
        element(25, true),
        element(80, false),
        element(81, true),
    ];
    for (port, fits) in [
        (19u16, Fits::No),
        (20, Fits::Yes),
        (24, Fits::Yes),
        (25, Fits::No),
    ] {
        assert_eq!(find(&list, &port.to_be_bytes()).fits(), fits, "{port}");
    }
    assert_eq!(find(&[element(22, false)], &[0, 23]).fits(), Fits::No);
}

#[test]
fn the_packet_is_as_its_headers_say() {
    let packet = syn();
    assert_eq!(Value::of(&packet.network(9, 1)), Value::Known(vec![6]));
    assert_eq!(Value::of(&packet.network(12, 4)), Value::Stranger);
    assert_eq!(Value::of(&packet.network(12, 8)), Value::Stranger);
    assert_eq!(Value::of(&packet.network(16, 4)), Value::Own);
    assert_eq!(
        Value::of(&packet.transport(2, 2)),
        Value::Known(vec![0, 22])
    );
    assert_eq!(Value::of(&[Byte::Unknown]), Value::Unknown);
    let through = Packet {
        hook: Hook::Prerouting,
        to: Some("198.51.100.2".parse().unwrap()),
        ..syn()
    };
    assert_eq!(
        Value::of(&through.transport(2, 2)),
        Value::Unknown,
        "before DNAT"
    );
}

proptest! {
    #[test]
    fn garbage_is_judged_somehow(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = judge(&bytes, &syn(), &mut nothing);
        for kind in 0x0a00..0x0a20 {
            let _ = (read::chain(kind, &bytes), read::rule(kind, &bytes));
            let _ = (read::dormant_table(kind, &bytes), read::generation(kind, &bytes));
            let mut found = Vec::new();
            read::elements(kind, &bytes, &mut found);
            prop_assert!(found.len() <= bytes.len());
        }
    }

    #[test]
    fn garbage_in_known_expressions_is_judged_somehow(
        name in prop::sample::select(vec![
            "meta", "payload", "ct", "fib", "cmp", "range", "bitwise", "lookup", "immediate",
            "limit", "match", "target",
        ]),
        kind in 1u16..8,
        register in 0u32..30,
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let a = [number(1, register), attribute(kind, &bytes), number(3, register), bytes.clone()];
        let _ = judge(&expression(name, &a), &syn(), &mut nothing);
        for name in ["conntrack", "addrtype", "multiport", "tcp", "udp", "state", "set"] {
            for revision in 0..4 {
                let _ = super::xt::fits(name, revision, &bytes, &syn());
            }
        }
    }
}
