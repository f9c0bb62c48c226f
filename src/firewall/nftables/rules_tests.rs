use super::*;
use crate::model::GateName;
use crate::policy::{Hook, Verdict};

#[test]
fn each_hook_guards_its_own_addresses() {
    let net = |text: &str| text.parse::<IpNet>().unwrap();
    let gate = GateRules {
        name: GateName::new("ssh").unwrap(),
        ports: vec!["22".parse().unwrap()],
        hook: Hook::Both,
        input_addresses: vec![],
        forward_addresses: vec![net("198.51.100.0/24"), net("2001:db8::/64")],
        verdict: Verdict::Accept,
        once: false,
        log_drops: true,
        cut_sessions: false,
        ipv6_prefix: 128,
    };
    let all = rules(&[(&gate, Earlier::default())]);
    let of = |chain: &str| -> Vec<String> {
        let found = all.iter().filter(|rule| rule.chain == chain);
        found
            .map(|rule| format!("{:?}", rule.expressions))
            .collect()
    };
    let reads = |rule: &String, net: IpNet| {
        destination(net)
            .iter()
            .all(|e| rule.contains(&format!("{e:?}")))
    };
    let (input, forward) = (of(INPUT), of(FORWARD));
    assert_eq!(input.len(), 3, "loopback, sessions, the gate");
    assert_eq!(forward.len(), 4, "sessions and the gate, for each address");
    for rule in &input {
        for net in &gate.forward_addresses {
            assert!(!reads(rule, *net), "{rule}");
        }
    }
    assert!(
        forward[..2]
            .iter()
            .all(|rule| reads(rule, net("198.51.100.0/24")))
    );
    assert!(
        forward[2..]
            .iter()
            .all(|rule| reads(rule, net("2001:db8::/64")))
    );
}
