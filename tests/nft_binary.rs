//! What an administrator sees: Debian's `nft` on what the backend wrote. A missing `nft` is a
//! failure.

#[path = "nftables/common.rs"]
mod common;

use std::io::Write;
use std::process::{Command, Stdio};

use libtest_mimic::{Arguments, Trial};
use serde_json::Value;

use common::{desired, enter_namespace, found, gate, lines, member, secs};
use portcullis::firewall::nftables::Nftables;
use portcullis::firewall::{Backend, Desired};
use portcullis::model::{Chain, Lifetime};
use portcullis::policy::Hook;

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    enter_namespace();
    let trials = TESTS.iter().map(|(name, test)| {
        Trial::test(*name, move || {
            let mut backend = Nftables::open().unwrap();
            backend.teardown().unwrap();
            backend.install(&everything()).unwrap();
            test(&mut backend);
            Ok(())
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

type Test = fn(&mut Nftables);

const TESTS: &[(&str, Test)] = &[
    ("the_policy_chain_is_in_order", the_policy_chain_is_in_order),
    ("rules_read_like_nft", rules_read_like_nft),
    ("every_rule_says_whose_it_is", every_rule_says_whose_it_is),
    (
        "elements_show_time_and_reason",
        elements_show_time_and_reason,
    ),
    ("nft_reads_its_own_listing", nft_reads_its_own_listing),
    ("what_nft_does_is_seen", what_nft_does_is_seen),
];

/// One of each.
fn everything() -> Desired {
    let mut wanted = desired(vec![
        member(Chain::Banned, "192.0.2.1", Lifetime::Never, "banned1"),
        member(Chain::Banned, "198.51.100.0/24", secs(600), "operator"),
        member(Chain::Banned, "2001:db8:bad::/48", Lifetime::Never, "é"),
        member(Chain::Trusted, "203.0.113.7", Lifetime::Never, "file"),
        member(Chain::Trusted, "203.0.113.128/25", Lifetime::Never, "net"),
        member(Chain::Filter, "192.0.2.9", secs(300), "opencloseSSH"),
        member(
            Chain::Filter,
            "2001:db8:0:9::/64",
            secs(300),
            "opencloseSSH",
        ),
        member(Chain::Filter, "0.0.0.0/0", secs(60), "operator"),
        member(
            Chain::Banned,
            "192.0.2.2",
            Lifetime::Never,
            "x\" }; }\n# \\ * $y @z {\x1b\u{85}",
        ),
        member(Chain::Trusted, "203.0.113.8", Lifetime::Never, "\"\n"),
        member(Chain::Trusted, "203.0.113.9", Lifetime::Never, "\\"),
    ]);
    let rules = &mut wanted.gates[0];
    rules.hook = Hook::Both;
    rules.once = true;
    rules.cut_sessions = true;
    rules.ipv6_prefix = 64;
    rules.ports.push("60000-61000/udp".parse().unwrap());
    rules.input_addresses = vec![
        "192.0.2.22/32".parse().unwrap(),
        "2001:db8:22::/48".parse().unwrap(),
    ];
    rules.forward_addresses = vec!["198.51.100.0/24".parse().unwrap()];
    wanted.sessions = vec![
        (gate("ssh"), "192.0.2.50:40000".parse().unwrap()),
        (gate("ssh"), "[2001:db8::50]:40001".parse().unwrap()),
    ];
    wanted
}

fn nft(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("cannot run nft (install the package nftables)");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "nft {arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn listing() -> String {
    nft(&["list", "table", "inet", "knockd"], "")
}

/// The rules of a chain, as listed, without comments.
fn chain(name: &str) -> Vec<String> {
    let listing = listing();
    let start = listing.find(&format!("chain {name} {{")).expect("no chain");
    let body = &listing[start..];
    body[..body.find("\n\t}").unwrap()]
        .lines()
        .skip(1)
        .map(|line| {
            let line = line.trim();
            line.strip_suffix(" comment \"portcullis\"")
                .unwrap_or(line)
                .to_owned()
        })
        .collect()
}

fn the_policy_chain_is_in_order(_: &mut Nftables) {
    assert_eq!(
        chain("ssh_policy"),
        [
            "jump ssh_banned",
            "jump ssh_trusted",
            "jump ssh_filter",
            "limit rate 10/minute log prefix \"[knockd,drop] \" level info",
            "counter packets 0 bytes 0 drop",
        ]
    );
    // And in JSON, by which programs read it.
    let json: Value = serde_json::from_str(&nft(&["-j", "list", "table", "inet", "knockd"], ""))
        .expect("nft's JSON");
    let keys: Vec<String> = json["nftables"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|item| item["rule"]["chain"] == "ssh_policy")
        .map(|item| {
            let steps = item["rule"]["expr"].as_array().unwrap().iter();
            let names = steps.map(|step| match &step["jump"]["target"] {
                Value::String(target) => target.clone(),
                _ => step.as_object().unwrap().keys().next().unwrap().clone(),
            });
            names.collect::<Vec<_>>().join(" ")
        })
        .collect();
    assert_eq!(
        keys,
        [
            "ssh_banned",
            "ssh_trusted",
            "ssh_filter",
            "limit log",
            "counter drop"
        ]
    );
}

fn rules_read_like_nft(_: &mut Nftables) {
    let input = chain("input");
    assert_eq!(
        input[..5],
        [
            "type filter hook input priority filter - 10; policy accept;",
            "iifname \"lo\" accept",
            "ip daddr 192.0.2.22 tcp dport 22 jump ssh_banned",
            "ip daddr 192.0.2.22 tcp dport 22 ct state established,related accept",
            "ip daddr 192.0.2.22 tcp dport 22 tcp flags ! syn ip saddr . tcp sport @ssh_session4 accept",
        ]
    );
    assert!(
        input.contains(
            &"ip6 daddr 2001:db8:22::/48 udp dport 60000-61000 jump ssh_policy".to_owned()
        )
    );
    let forward = chain("forward");
    assert!(forward[0].contains("hook forward priority filter - 10; policy accept;"));
    assert!(
        forward
            .iter()
            .any(|rule| rule
                .ends_with("tcp dport 22 tcp flags ! syn meta nfproto @ssh_grace accept"))
    );
    assert!(
        forward[1..]
            .iter()
            .all(|rule| rule.starts_with("ip daddr 198.51.100.0/24 "))
    );
    assert_eq!(
        chain("ssh_banned"),
        [
            "ip saddr @ssh_banned4 drop",
            "ip saddr @ssh_banned4net drop",
            "ip6 saddr @ssh_banned6 drop",
            "ip6 saddr @ssh_banned6net drop",
        ]
    );
    assert_eq!(
        chain("ssh_filter"),
        [
            "ip saddr @ssh_filter4 delete @ssh_filter4 { ip saddr } accept",
            "ip6 saddr & ffff:ffff:ffff:ffff:: == @ssh_filter6 delete @ssh_filter6 \
             { ip6 saddr & ffff:ffff:ffff:ffff:: } accept",
            "meta nfproto @ssh_open accept",
        ]
    );
}

fn every_rule_says_whose_it_is(_: &mut Nftables) {
    let json: Value =
        serde_json::from_str(&nft(&["-j", "list", "table", "inet", "knockd"], "")).unwrap();
    let rules: Vec<&Value> = json["nftables"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|item| item.get("rule"))
        .collect();
    assert!(rules.len() > 20);
    for rule in rules {
        assert_eq!(rule["comment"], "portcullis", "{rule}");
    }
}

fn elements_show_time_and_reason(_: &mut Nftables) {
    let listing = listing();
    for (start, end) in [
        ("192.0.2.9 timeout 5m expires ", "comment \"opencloseSSH\""),
        (
            "198.51.100.0/24 timeout 10m expires ",
            "comment \"operator\"",
        ),
        ("ipv4 timeout 1m expires ", "comment \"operator\""),
        ("192.0.2.1 ", "comment \"banned1\""),
        ("2001:db8:bad::/48 ", "comment \"é\""),
        ("192.0.2.2 ", "comment \"x' }; } # \\ * $y @z {  \""),
        (
            "2001:db8:0:9:: timeout 5m expires ",
            "comment \"opencloseSSH\"",
        ),
        ("203.0.113.128/25 ", "comment \"net\""),
        ("192.0.2.50 . 40000 timeout 2h5m expires ", ""),
        ("comment \"an element is a /64\"", ""),
    ] {
        let line = listing
            .lines()
            .find(|line| line.contains(start))
            .unwrap_or_else(|| panic!("no {start} in\n{listing}"));
        assert!(line[line.find(start).unwrap()..].contains(end), "{line}");
    }
}

fn nft_reads_its_own_listing(backend: &mut Nftables) {
    let before = lines(&found());
    let listing = listing();
    backend.teardown().unwrap();
    nft(&["-f", "-"], &listing);
    assert_eq!(lines(&found()), before);
    // A backend takes over what nft loaded.
    let mut other = Nftables::open().unwrap();
    let members = other.observe().unwrap().unwrap().members;
    let mut wanted = everything();
    wanted.members = members;
    other.install(&wanted).unwrap();
    assert!(other.verify().unwrap().is_empty());
    assert_eq!(lines(&found()), before);
}

fn what_nft_does_is_seen(backend: &mut Nftables) {
    nft(
        &[
            "add",
            "element",
            "inet",
            "knockd",
            "ssh_banned4",
            "{ 192.0.2.77 }",
        ],
        "",
    );
    nft(
        &[
            "add",
            "element",
            "inet",
            "knockd",
            "ssh_banned4net",
            "{ 100.64.0.0/10 }",
        ],
        "",
    );
    let seen = lines(&found());
    for line in ["ssh_banned 192.0.2.77/32 ", "ssh_banned 100.64.0.0/10 "] {
        assert!(seen.contains(&line.to_owned()), "{seen:?}");
    }
    assert!(backend.verify().unwrap().is_empty());
    nft(&["flush", "chain", "inet", "knockd", "ssh_filter"], "");
    assert_eq!(
        backend.verify().unwrap(),
        ["rule 1 of chain ssh_filter is missing"]
    );
    nft(&["flush", "ruleset"], "");
    assert_eq!(backend.verify().unwrap(), ["table inet knockd is missing"]);
}
