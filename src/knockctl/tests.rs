use clap::CommandFactory;

use super::*;

#[test]
fn the_options_may_follow_the_verb() {
    Arguments::command().debug_assert();
    for words in [
        &["knockctl", "--socket", "/s", "-o", "json", "list"][..],
        &["knockctl", "list", "--socket", "/s", "-o", "json"],
        &["knockctl", "-o", "json", "list", "--socket", "/s"],
    ] {
        let arguments = Arguments::try_parse_from(words).unwrap();
        assert_eq!(arguments.socket.to_str(), Some("/s"));
        assert_eq!(arguments.output, Output::Json);
    }
    let plain = Arguments::try_parse_from(["knockctl", "ping"]).unwrap();
    assert_eq!(plain.socket.to_str(), Some("/run/knockd/control.sock"));
    assert_eq!(plain.output, Output::Table);
}

#[test]
fn whoever_looks_for_check_here_is_told_where_it_is() {
    let told = |verb: &str| {
        let error = Arguments::try_parse_from(["knockctl", verb, "p.yaml"]).unwrap_err();
        told_where(error).to_string()
    };
    let check = told("check");
    assert!(check.contains("unrecognized subcommand 'check'"), "{check}");
    assert!(check.contains("`knockd check FILE`"), "{check}");
    assert!(!told("doctor").contains("knockd check"));
}

#[test]
fn paths_are_for_direct_alone() {
    let places = |words: &[&str]| {
        let words = [&["knockctl"], words].concat();
        Arguments::try_parse_from(words).unwrap().direct.places()
    };
    assert!(places(&["list"]).unwrap().is_none());
    let usual = places(&["list", "--direct"]).unwrap().unwrap();
    assert_eq!(usual.policy, None);
    assert_eq!(usual.state_dir.to_str(), Some("/var/lib/knockd"));
    assert_eq!(usual.runtime_dir.to_str(), Some("/run/knockd"));
    let words = [
        "--direct",
        "-c",
        "p.yaml",
        "list",
        "--state-dir",
        "s",
        "--runtime-dir",
        "r",
    ];
    let given = places(&words).unwrap().unwrap();
    assert_eq!(given.policy.unwrap().to_str(), Some("p.yaml"));
    assert_eq!(
        (given.state_dir.to_str(), given.runtime_dir.to_str()),
        (Some("s"), Some("r"))
    );
    for option in ["-c", "--state-dir", "--runtime-dir"] {
        let refused = places(&["list", option, "x"]).unwrap_err().to_string();
        assert!(
            refused.starts_with(&format!("{option} is for --direct")),
            "{refused}"
        );
    }
    let both = ["knockctl", "--direct", "--socket", "/s", "list"];
    assert!(Arguments::try_parse_from(both).is_err());
}

#[test]
fn what_cannot_be_shown_as_a_table_is_shown_as_it_is() {
    for (verb, data) in [
        (Verb::List, serde_json::json!({"entries": 5})),
        (Verb::List, serde_json::json!([1])),
        (Verb::Status, serde_json::json!("fine")),
    ] {
        let answer = Answer::of(verb, Response::with_data(0, Data::Json(data.clone())));
        let mut out = Vec::new();
        answer.write_table(&mut out, true).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), data);
    }
}

#[test]
fn a_table_on_a_terminal_has_lines() {
    let data = serde_json::json!({"entries": [{"gate": "ssh", "address": "192.0.2.1"}]});
    let answer = Answer::of(Verb::List, Response::with_data(0, Data::Json(data)));
    let mut out = Vec::new();
    answer.write_table(&mut out, true).unwrap();
    assert!(String::from_utf8(out).unwrap().contains('─'));
}

#[test]
fn status_tells_what_was_refused_and_only_that() {
    let shown = |packets: serde_json::Value| {
        let status = serde_json::json!({
            "knocks": [{ "name": "in", "completed": 1 }],
            "packets": packets,
        });
        let mut out = Vec::new();
        show::status(&mut out, &status, false).unwrap();
        String::from_utf8(out).unwrap()
    };
    let all = shown(serde_json::json!({
        "refused_acceptances": 1,
        "refused_trust": 2,
        "refused_commands": 3,
        "other_interfaces": 4,
    }));
    let line = "left out  acceptances by knock: 1, trust by knock: 2, commands: 3\n";
    assert!(all.contains(line), "{all}");
    assert!(all.contains(", 4 on other interfaces, "), "{all}");
    let none = shown(serde_json::json!({}));
    assert!(!none.contains("left out"), "{none}");
}

#[test]
fn status_has_a_column_and_counts_in_english() {
    let shown = |times: u64| {
        let status = serde_json::json!({
            "state": "running",
            "change": { "file": "p", "by": "root", "expires_in_s": 60 },
            "knocks": [{ "name": "in", "completed": 1 }],
            "awake": { "times": times, "total_ms": 5 },
            "untracked": { "ports": ["1228/tcp"] },
        });
        let mut out = Vec::new();
        show::status(&mut out, &status, false).unwrap();
        String::from_utf8(out).unwrap()
    };
    let once = shown(1);
    for line in [
        "state     running",
        "change    p, applied by root, is taken back in 1m unless it is confirmed",
        "attempts  0 of 0, 0 gave way to newer ones",
        "awake     1 time, 5 ms in all",
        "untracked 1228/tcp",
    ] {
        assert!(once.lines().any(|shown| shown == line), "{line}\n{once}");
    }
    assert!(shown(2).contains("2 times, "));
}

#[test]
fn what_has_no_end_in_the_history_ends_never() {
    let entry = |what: &str, until: Option<&str>| serde_json::json!({ "time": "t", "what": what, "address": "192.0.2.1", "until": until });
    let entries = [
        entry("banned", None),
        entry("accepted", Some("2026-11-20T09:08:45Z")),
        entry("refused", None),
    ];
    let mut out = Vec::new();
    history::table(&mut out, &serde_json::json!({ "entries": entries }), false).unwrap();
    let out = String::from_utf8(out).unwrap();
    let untils: Vec<&str> = out
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(4))
        .collect();
    assert_eq!(untils, ["never", "2026-11-20T09:08:45Z", "-"], "{out}");
}
