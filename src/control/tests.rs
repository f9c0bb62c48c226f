use proptest::prelude::*;
use serde_json::json;

use super::protocol::{GateStatus, ListEntry, MAX_REQUEST, Status, VERSION};
use super::*;
use crate::engine::{Command, Flush};
use crate::model::{Chain, GateName, Lifetime};

fn request(verb: Verb, args: &[&str]) -> Request {
    Request::new(verb, args.iter().copied())
}

fn refusal(verb: Verb, args: &[&str]) -> (u8, String) {
    let refusal = request(verb, args).asked().unwrap_err();
    (refusal.code(), refusal.to_string())
}

#[test]
fn bad_addresses_are_named_and_explained() {
    let cases: [(Verb, &str, &str); 16] = [
        (
            Verb::Accept,
            "999.1.1.1",
            "`999.1.1.1` is not an address: expected one such as",
        ),
        (
            Verb::Accept,
            "example.org",
            "`example.org` is a name: names are for `trust`; `accept` takes addresses",
        ),
        (
            Verb::Accept,
            "10.0.0.0/24",
            "`10.0.0.0/24` is a network: `accept` takes single addresses; use `trust`",
        ),
        (Verb::Accept, "", "`` is not an address"),
        (Verb::Accept, "1.2.3.4\n", "`1.2.3.4\\n` is not an address"),
        (Verb::Accept, "127.0.0.1", "loopback is never gated"),
        (Verb::Accept, "0.0.0.0", "no address that a packet"),
        (Verb::Drop, "224.0.0.1", "multicast"),
        (Verb::Drop, "10.0.0.0/33", "is not an address or network"),
        (
            Verb::Drop,
            "example.org",
            "`drop` takes addresses and networks",
        ),
        (
            Verb::Trust,
            "host..org",
            "not an address, network or host name",
        ),
        (Verb::Trust, "127.0.0.1", "loopback is never gated"),
        (Verb::Trust, "::1", "loopback is never gated"),
        (Verb::Trust, "LocalHost.", "loopback is never gated"),
        (Verb::Trust, "x.localhost", "loopback is never gated"),
        (Verb::Flush, "trusted", "the trusted are never flushed"),
    ];
    for (verb, text, expected) in cases {
        let (code, message) = refusal(verb, &["192.0.2.1", text]);
        assert_eq!(code, 2, "{message}");
        assert!(message.contains(expected), "{message}");
    }
    assert_eq!(
        refusal(Verb::List, &["everything"]).1,
        "`everything` cannot be listed: expected `accepted`, `banned` or `trusted`"
    );
    assert_eq!(refusal(Verb::Accept, &[]).1, "`accept` needs an address");
    assert_eq!(
        refusal(Verb::Ping, &["x"]).1,
        "`ping` takes no arguments, but there is `x`"
    );
}

#[test]
fn a_bare_number_is_no_duration() {
    let mut accept = request(Verb::Accept, &["192.0.2.1"]);
    accept.lifetime = Some("300".to_owned());
    let refusal = accept.asked().unwrap_err();
    assert_eq!(
        (refusal.code(), refusal.to_string().as_str()),
        (2, "`300` has no unit: write `300s` for seconds")
    );
}

#[test]
fn everybody_needs_force() {
    for (verb, text) in [
        (Verb::Trust, "0.0.0.0/0"),
        (Verb::Trust, "::/0"),
        (Verb::Drop, "0.0.0.0/0"),
        (Verb::Drop, "::ffff:0.0.0.0/96"),
    ] {
        let mut asked = request(verb, &[text]);
        let refusal = asked.asked().unwrap_err();
        assert_eq!(refusal.code(), 4, "{refusal}");
        assert!(refusal.to_string().contains("--force"), "{refusal}");
        asked.force = true;
        assert!(asked.asked().is_ok());
    }
    assert!(request(Verb::Untrust, &["0.0.0.0/0"]).asked().is_ok());
    assert!(request(Verb::Unban, &["0.0.0.0/0"]).asked().is_ok());
}

#[test]
fn trust_takes_no_network_that_is_written_as_an_address_in_it() {
    for (text, net) in [
        ("203.0.113.5/16", "203.0.0.0/16"),
        ("2001:db8::1/32", "2001:db8::/32"),
        ("::ffff:203.0.113.5/112", "203.0.0.0/16"),
    ] {
        for runtime in [false, true] {
            let mut asked = request(Verb::Trust, &[text]);
            asked.runtime = runtime;
            let refusal = asked.asked().unwrap_err();
            assert_eq!(refusal.code(), 2, "{refusal}");
            let told = refusal.to_string();
            assert!(told.contains(&format!("`trust {net}`")), "{told}");
        }
        // What the file has may go by the same words.
        assert!(request(Verb::Untrust, &[text]).asked().is_ok());
        assert!(request(Verb::Trust, &[net]).asked().is_ok());
    }
    assert!(request(Verb::Trust, &["203.0.113.5/32"]).asked().is_ok());
}

#[test]
fn options_without_effect_are_refused() {
    let base = |verb, args: &[&str]| request(verb, args);
    let cases = [
        (
            Request {
                lifetime: Some("5m".to_owned()),
                ..base(Verb::Flush, &["all"])
            },
            "`flush` takes no --for",
        ),
        (
            Request {
                gates: vec!["ssh".to_owned()],
                ..base(Verb::Status, &[])
            },
            "`status` takes no --gate",
        ),
        (
            Request {
                comment: Some("x".to_owned()),
                ..base(Verb::Untrust, &["192.0.2.1"])
            },
            "`untrust` takes no --comment",
        ),
        (
            Request {
                runtime: true,
                ..base(Verb::Accept, &["192.0.2.1"])
            },
            "`accept` takes no --runtime",
        ),
        (
            Request {
                force: true,
                ..base(Verb::Unban, &["192.0.2.1"])
            },
            "`unban` takes no --force",
        ),
        (
            Request {
                gates: vec!["ssh".to_owned()],
                ..base(Verb::Trust, &["192.0.2.1"])
            },
            "--gate needs --runtime here",
        ),
        (
            Request {
                runtime: true,
                ..base(Verb::Trust, &["example.org"])
            },
            "--runtime takes addresses and networks",
        ),
        (
            Request {
                comment: Some("two\nlines".to_owned()),
                ..base(Verb::Trust, &["192.0.2.1"])
            },
            "control characters",
        ),
        (
            Request {
                gates: vec!["SSH".to_owned()],
                ..base(Verb::Close, &[])
            },
            "`SSH` is not a gate name",
        ),
    ];
    for (asked, expected) in cases {
        let refusal = asked.asked().unwrap_err();
        assert_eq!(refusal.code(), 2);
        assert!(refusal.to_string().contains(expected), "{refusal}");
    }
}

#[test]
fn requests_become_commands_of_the_engine() {
    let ssh = || vec![GateName::new("ssh").unwrap()];
    let accept = Request {
        gates: vec!["ssh".to_owned()],
        lifetime: Some("never".to_owned()),
        force: true,
        ..request(
            Verb::Accept,
            &["::ffff:192.0.2.1", "2001:db8::1", "192.0.2.2/32"],
        )
    };
    assert_eq!(
        accept.asked(),
        Ok(Asked::Engine(Command::Accept {
            addresses: ["192.0.2.1", "2001:db8::1", "192.0.2.2"]
                .map(|text| text.parse().unwrap())
                .to_vec(),
            gates: ssh(),
            lifetime: Some(Lifetime::Never),
            force: true
        }))
    );
    assert_eq!(
        request(Verb::Drop, &["192.0.2.9/24", "2001:db8::1"]).asked(),
        Ok(Asked::Engine(Command::Drop {
            nets: vec![
                "192.0.2.0/24".parse().unwrap(),
                "2001:db8::1/128".parse().unwrap()
            ],
            gates: vec![],
            lifetime: None,
            force: false
        }))
    );
    assert_eq!(
        request(Verb::Flush, &["192.0.2.1", "filter", "banned", "all"]).asked(),
        Ok(Asked::Engine(Command::Flush {
            what: vec![
                Flush::Address("192.0.2.1".parse().unwrap()),
                Flush::Filter,
                Flush::Banned,
                Flush::All
            ],
            gates: vec![]
        }))
    );
    let open = Request {
        lifetime: Some("60s".to_owned()),
        ..request(Verb::Open, &[])
    };
    assert!(matches!(
        open.asked(),
        Ok(Asked::Engine(Command::Open {
            lifetime: Some(Lifetime::For(_)),
            ..
        }))
    ));
    assert_eq!(
        request(Verb::List, &["banned", "accepted"]).asked(),
        Ok(Asked::List {
            chains: vec![Chain::Banned, Chain::Filter],
            gates: vec![]
        })
    );
}

#[test]
fn verbs_alone_are_requests_too() {
    for (verb, expected) in [
        (Verb::Status, Asked::Status),
        (
            Verb::History,
            Asked::History {
                nets: vec![],
                gates: vec![],
                limit: None,
            },
        ),
        (Verb::Ping, Asked::Ping),
        (Verb::Reload, Asked::Reload { force: false }),
        (Verb::Confirm, Asked::Confirm),
        (Verb::Rollback, Asked::Rollback { force: false }),
        (Verb::Teardown, Asked::Teardown),
        (Verb::Close, Asked::Engine(Command::Close { gates: vec![] })),
    ] {
        assert_eq!(request(verb, &[]).asked(), Ok(expected));
    }
}

#[test]
fn trust_takes_addresses_networks_and_names() {
    let trust = Request {
        comment: Some(" the lab ".to_owned()),
        ..request(
            Verb::Trust,
            &[
                "192.0.2.1",
                "192.0.2.0/24",
                "GW.Example.org",
                "gateway",
                "3com.example.",
            ],
        )
    };
    let Ok(Asked::Trust {
        entries, comment, ..
    }) = trust.asked()
    else {
        panic!("{:?}", trust.asked());
    };
    let shown: Vec<String> = entries.iter().map(Entry::to_string).collect();
    assert_eq!(
        shown,
        [
            "192.0.2.1",
            "192.0.2.0/24",
            "gw.example.org",
            "gateway",
            "3com.example."
        ]
    );
    assert_eq!(comment.as_deref(), Some("the lab"));
    // A file may have it, and must be rid of it.
    let untrust = request(Verb::Untrust, &["localhost"]).asked();
    assert!(matches!(untrust, Ok(Asked::Untrust { .. })), "{untrust:?}");
}

#[test]
fn why_takes_a_few_single_addresses_of_any_kind() {
    let asked = request(
        Verb::Why,
        &["::ffff:192.0.2.1", "127.0.0.1", "2001:DB8::1/128"],
    )
    .asked();
    let addresses = ["192.0.2.1", "127.0.0.1", "2001:db8::1"].map(|it| it.parse().unwrap());
    let expected = Asked::Why {
        addresses: addresses.to_vec(),
        gates: vec![],
    };
    assert_eq!(asked, Ok(expected));
    for (wrong, words) in [
        ("192.0.2.0/24", "takes single addresses"),
        ("host.example.org", "is a name"),
        ("x y", "is not an address"),
    ] {
        let (code, message) = refusal(Verb::Why, &[wrong]);
        assert_eq!(code, 2);
        assert!(
            message.contains(words) && !message.contains("to let"),
            "{message}"
        );
    }
    assert_eq!(refusal(Verb::Why, &[]).0, 2);
    assert!(request(Verb::Why, &["192.0.2.1"; 16]).asked().is_ok());
    assert_eq!(
        refusal(Verb::Why, &["192.0.2.1"; 17]),
        (2, "`why` takes at most 16 addresses at a time".to_owned())
    );
}

#[test]
fn every_verb_reads_back_as_typed() {
    for verb in Verb::ALL {
        assert_eq!(serde_json::to_value(verb).unwrap(), json!(verb.name()));
        let line = request(verb, &["a"]).encode().unwrap();
        assert_eq!(
            line.iter().position(|&byte| byte == b'\n'),
            Some(line.len() - 1)
        );
        assert_eq!(Request::decode(&line), Ok(request(verb, &["a"])));
    }
    let readers: Vec<_> = Verb::ALL.iter().filter(|verb| verb.only_reads()).collect();
    let expected = [
        Verb::Status,
        Verb::List,
        Verb::Why,
        Verb::History,
        Verb::Ping,
    ];
    assert_eq!(readers, expected.each_ref());
}

#[test]
fn other_versions_are_refused_before_anything_else() {
    let newer = br#"{"version":2,"verb":"why","unknown":[]}"#;
    assert_eq!(Request::decode(newer), Err(Refusal::Version(2)));
    for garbage in [
        &b""[..],
        b"{",
        b"[]",
        b"null",
        b"{}",
        b"{\"version\":1}",
        b"{\"version\":\"1\",\"verb\":\"ping\"}",
        b"{\"version\":1,\"verb\":\"explode\"}",
        b"{\"version\":1,\"verb\":\"ping\",\"surplus\":1}",
        b"\xff\xfe",
    ] {
        let refusal = Request::decode(garbage).unwrap_err();
        assert!(matches!(refusal, Refusal::Garbage(_)), "{refusal}");
        assert_eq!(refusal.code(), 2);
    }
    let deep = "[".repeat(60_000);
    assert!(Request::decode(deep.as_bytes()).is_err());
}

#[test]
fn what_is_no_request_is_not_repeated_at_length_nor_with_control_characters() {
    let long = "x".repeat(60_000);
    for name in ["a\u{7f}rgs", "\\u001b[31m", "\\n", &long] {
        let line = format!("{{\"version\":1,\"verb\":\"ping\",\"{name}\":1}}");
        let said = Request::decode(line.as_bytes()).unwrap_err().to_string();
        assert!(!said.chars().any(char::is_control), "{said:?}");
        assert!(said.chars().count() < 400, "{said:?}");
    }
}

#[test]
fn durations_and_gates_are_not_repeated_at_length_nor_with_control_characters() {
    let long = "7s".repeat(10_000);
    for text in ["30\u{8c}", "ssh\n", "\u{1b}[31m", &long] {
        let by_time = Request {
            lifetime: Some(text.to_owned()),
            ..request(Verb::Open, &[])
        };
        let by_gate = Request {
            gates: vec![text.to_owned()],
            ..request(Verb::Open, &[])
        };
        for request in [by_time, by_gate] {
            let said = request.asked().unwrap_err().to_string();
            assert!(!said.chars().any(char::is_control), "{said:?}");
            assert!(said.chars().count() < 400, "{said:?}");
        }
    }
}

#[test]
fn a_request_that_is_too_long_is_not_sent() {
    let many = vec!["192.0.2.1"; MAX_REQUEST / 8];
    assert_eq!(request(Verb::Accept, &many).encode(), Err(Refusal::TooLong));
}

fn policy(text: &str) -> PolicyText {
    PolicyText {
        file: "/tmp/new\n.yaml".to_owned(),
        text: text.to_owned(),
    }
}

#[test]
fn a_policy_comes_with_diff_and_apply_alone() {
    let with = |verb, confirm: Option<&str>| Request {
        policy: Some(policy("gates: {}")),
        confirm: confirm.map(str::to_owned),
        ..request(verb, &[])
    };
    let Ok(Asked::Diff(read)) = with(Verb::Diff, None).asked() else {
        panic!("diff takes a policy");
    };
    assert_eq!(read.text, "gates: {}");
    assert!(!read.file.contains('\n'), "{read:?}");
    for (text, time) in [
        (None, None),
        (Some("120s"), Some(120)),
        (Some("1d"), Some(86_400)),
    ] {
        let Ok(Asked::Apply { confirm, .. }) = with(Verb::Apply, text).asked() else {
            panic!("apply --confirm {text:?}");
        };
        assert_eq!(confirm, time.map(std::time::Duration::from_secs));
    }
    for bad in ["never", "2d", "120", "0s"] {
        let refusal = with(Verb::Apply, Some(bad)).asked().unwrap_err();
        assert_eq!(refusal.code(), 2, "{refusal}");
    }
    for refused in [
        request(Verb::Diff, &[]),
        request(Verb::Apply, &[]),
        with(Verb::Reload, None),
        with(Verb::Ping, None),
        with(Verb::Diff, Some("5s")),
        Request {
            confirm: Some("5s".to_owned()),
            ..request(Verb::Rollback, &[])
        },
    ] {
        assert!(refused.asked().is_err(), "{refused:?}");
    }
    for text in ["0s", "2d", "40000d", "never"] {
        let refused = with(Verb::Apply, Some(text)).asked();
        let Err(refusal @ Refusal::Confirm) = refused else {
            panic!("apply --confirm {text}: {refused:?}");
        };
        assert!(refusal.to_string().contains("at most a day"), "{refusal}");
    }
    let long = Request {
        policy: Some(policy(&"#".repeat(MAX_REQUEST))),
        ..request(Verb::Apply, &[])
    };
    assert!(matches!(long.encode(), Err(Refusal::LongPolicy(_))));
}

#[test]
fn what_could_shut_an_operator_out_is_known_unless_it_is_forced() {
    let asked = |verb, args: &[&str], force| {
        let policy = matches!(verb, Verb::Apply).then(|| policy(""));
        let request = Request {
            force,
            policy,
            ..request(verb, args)
        };
        request.asked().unwrap()
    };
    for (verb, args) in [
        (Verb::Drop, &["192.0.2.1"][..]),
        (Verb::Untrust, &["192.0.2.1"]),
        (Verb::Reload, &[]),
        (Verb::Apply, &[]),
        (Verb::Rollback, &[]),
    ] {
        assert!(asked(verb, args, false).endangers(), "{verb}");
        assert!(!asked(verb, args, true).endangers(), "{verb} --force");
    }
    for verb in [Verb::Status, Verb::Confirm, Verb::Close] {
        assert!(!asked(verb, &[], false).endangers(), "{verb}");
    }
    let trial = Request {
        policy: Some(policy("")),
        confirm: Some("5s".to_owned()),
        ..request(Verb::Apply, &[])
    };
    assert!(
        !trial.asked().unwrap().endangers(),
        "it is taken back by itself"
    );
}

#[test]
fn a_session_that_sshd_would_not_write_is_refused() {
    let from = |text: &str| Request {
        session: Some(text.to_owned()),
        ..request(Verb::Ping, &[])
    };
    assert!(from("198.51.100.7 51022 203.0.113.1 22").asked().is_ok());
    assert_eq!(from("somewhere").asked().unwrap_err().code(), 2);
}

#[test]
fn list_and_status_are_what_is_documented() {
    let entry = |net: &str, expires_in_s| ListEntry {
        gate: GateName::new("ssh").unwrap(),
        chain: Chain::Filter,
        net: net.parse().unwrap(),
        expires_in_s,
        reason: "knock opencloseSSH".to_owned(),
    };
    let list = Response::with_data(
        0,
        Data::List {
            entries: vec![
                entry("192.0.2.1/32", Some(299)),
                entry("2001:db8::/64", None),
            ],
        },
    );
    assert_eq!(
        serde_json::to_value(&list).unwrap(),
        json!({"version": VERSION, "code": 0, "done": [], "refused": [], "data": {"entries": [
            {"gate": "ssh", "chain": "ssh_filter", "address": "192.0.2.1", "expires_in_s": 299,
             "reason": "knock opencloseSSH"},
            {"gate": "ssh", "chain": "ssh_filter", "address": "2001:db8::/64",
             "expires_in_s": null, "reason": "knock opencloseSSH"}]}})
    );
    let status = Status {
        backend: "nftables".to_owned(),
        state: "running".to_owned(),
        uptime_s: 7,
        gates: vec![GateStatus::default()],
        ..Status::default()
    };
    let response = Response::with_data(0, Data::Status(Box::new(status.clone())));
    let text = serde_json::to_string(&response).unwrap();
    let read: Response = serde_json::from_str(&text).unwrap();
    let Data::Json(value) = read.data else {
        panic!("{read:?}");
    };
    assert_eq!(value["backend"], "nftables");
    assert_eq!(value["uptime_s"], 7);
    assert!(value["state"].is_string() && value["gates"].is_array());
    assert_eq!(serde_json::from_value::<Status>(value).unwrap(), status);
    let empty: Response = serde_json::from_str(r#"{"version":1,"code":0}"#).unwrap();
    assert_eq!(empty, Response::new(0, vec![], vec![]));
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = Request::decode(&bytes);
    }

    #[test]
    fn whatever_is_typed_is_judged_without_panic(
        verb in prop::sample::select(&Verb::ALL[..]),
        args in prop::collection::vec("\\PC{0,20}|[0-9a-f:.]{1,20}(/[0-9]{1,3})?", 0..4),
        gates in prop::collection::vec("\\PC{0,20}|[a-z]{1,4}", 0..2),
        lifetime in prop::option::of("\\PC{0,9}|[0-9]{1,12}[smhd]"),
        comment in prop::option::of("\\PC{0,20}"),
        runtime: bool,
        force: bool,
    ) {
        let request = Request { gates, lifetime, comment, runtime, force, ..Request::new(verb, args) };
        let judged = request.asked();
        if let Err(refusal) = &judged {
            prop_assert!(matches!(refusal.code(), 2 | 4));
            prop_assert!(!refusal.to_string().contains('\n'));
        }
        // Both ends come to the same judgement.
        let line = request.encode().unwrap();
        prop_assert_eq!(Request::decode(&line).unwrap().asked(), judged);
    }

    #[test]
    fn an_accepted_address_is_canonical(bytes: [u8; 16]) {
        let address = std::net::Ipv6Addr::from(bytes).to_string();
        if let Ok(Asked::Engine(Command::Accept { addresses, .. })) =
            Request::new(Verb::Accept, [address]).asked()
        {
            prop_assert_eq!(addresses[0], addresses[0].to_canonical());
        }
    }
}
