//! `ban`: what it means, and every way to write it wrong.

use std::path::Path;
use std::time::Duration;

use super::{BanRule, parse};

/// `<G>` is a gate with bans of ten minutes, `<N>` one with bans for good.
fn text(short: &str) -> String {
    short
        .replace("<G>", "gates: { ssh: { ports: [22], ban_timeout: 10m } }\n")
        .replace("<N>", "gates: { ssh: { ports: [22] } }\n")
        .replace("<D>", "sequence: [1, 2], action: drop")
}

fn rules(short: &str) -> (BanRule, Option<BanRule>) {
    let policy = parse(&text(short), Path::new("p.yaml")).unwrap().policy;
    (
        policy.ban,
        policy.knocks.first().and_then(|knock| knock.ban),
    )
}

fn problems(short: &str) -> Vec<String> {
    let errors = parse(&text(short), Path::new("p.yaml")).unwrap_err();
    let lines = errors.to_string();
    let lines = lines.lines().map(|line| line.trim_start_matches("p.yaml:"));
    lines.map(str::to_owned).collect()
}

#[test]
fn without_it_a_decoy_bans_at_once_and_for_the_same_time() {
    let default = BanRule {
        after: 1,
        within: Duration::ZERO,
        longest: None,
    };
    assert_eq!(rules("<N>knocks: { a: { <D> } }"), (default, None));
    for empty in ["{}", "{ after: 1 }", "{ escalate: false }"] {
        let (general, own) = rules(&format!(
            "<N>ban: {empty}\nknocks: {{ a: {{ <D>, ban: {empty} }} }}"
        ));
        assert_eq!((general, own), (default, Some(default)));
    }
}

#[test]
fn a_knocks_own_rule_takes_the_place_of_the_general_one() {
    let (general, own) = rules(
        "<G>ban: { after: 3, within: 1h, escalate: true, max: 30d }\nknocks: { a: { <D>, ban: { after: 2, within: 5m } } }",
    );
    let expected = BanRule {
        after: 3,
        within: Duration::from_secs(3600),
        longest: Some(Duration::from_secs(30 * 86_400)),
    };
    assert_eq!(general, expected);
    let expected = BanRule {
        after: 2,
        within: Duration::from_secs(300),
        longest: None,
    };
    assert_eq!(
        own,
        Some(expected),
        "whole: nothing of the general rule is left"
    );
}

#[test]
fn a_first_ban_may_be_as_long_as_the_longest() {
    rules("<G>ban: { escalate: true, max: 10m }\nknocks: { a: { <D> } }");
    // What no rule with an end concerns may be without one.
    rules("<N>ban: { escalate: true, max: 10m }\nknocks: { a: { <D>, for: 10m } }");
    rules("<N>ban: { escalate: true, max: 10m }\nknocks: { a: { <D>, ban: {} } }");
}

#[test]
#[rustfmt::skip]
fn each_mistake_has_its_message() {
    let cases: &[(&str, &[&str])] = &[
        ("<G>ban: 3\n", &[
            "2:6: found `3`, expected a mapping with `after`, `within`, `escalate` and `max`",
        ]),
        ("<G>ban: { after: 0, within: 5m }\n", &[
            "2:15: found `0`, expected a whole number from 1 to 32",
        ]),
        ("<G>ban: { after: 33, within: 5m }\n", &[
            "2:15: found `33`, expected a whole number from 1 to 32",
        ]),
        ("<G>ban: { after: 2, within: never }\n", &[
            "2:26: found `never`, expected a duration such as `300s`, `5m` or `1h30m`",
        ]),
        ("<G>ban: { after: 2 }\n", &[
            "2:8: found `after: 2` without `within`, expected `within` with it, such as `within: 10m`",
        ]),
        ("<G>ban: { within: 5m }\n", &[
            "2:8: found `within` without `after` greater than 1, expected `after` with it, such as `after: 3` (a decoy bans at the first time without it)",
        ]),
        ("<G>ban: { after: 1, within: 5m }\n", &[
            "2:18: found `within` without `after` greater than 1, expected `after` with it, such as `after: 3` (a decoy bans at the first time without it)",
        ]),
        ("<G>ban: { escalate: true }\n", &[
            "2:8: found `escalate: true` without `max`, expected `max` with it, the longest that a ban may get, such as `max: 30d`",
        ]),
        ("<G>ban: { max: 1d }\n", &[
            "2:8: found `max` without `escalate: true`, expected both, or neither",
        ]),
        ("<G>ban: { escalate: true, max: never }\n", &[
            "2:29: found `never`, expected a duration such as `300s`, `5m` or `1h30m`",
        ]),
        ("<G>ban: { escalate: yes, max: 1d, often: 3 }\n", &[
            "2:32: found the unknown key `often`, expected `after`, `within`, `escalate` or `max`",
            "2:18: found `yes`, expected `true` or `false` (did you mean `true`?)",
        ]),
        ("<N>ban: { escalate: true, max: 1d }\nknocks: { a: { <D> }, b: { sequence: [3, 4], action: drop } }\n", &[
            "2:24: found `escalate: true` where the gate `ssh` bans for good, expected a duration that ends, such as `ban_timeout: 10m`",
        ]),
        ("<N>ban: { escalate: true, max: 1d }\nscan_guard: { action: drop }\n", &[
            "2:24: found `escalate: true` where the gate `ssh` bans for good, expected a duration that ends, such as `ban_timeout: 10m`",
        ]),
        ("<G>ban: { escalate: true, max: 9m }\nknocks: { a: { <D> } }\n", &[
            "2:24: found `max: 9m` where the gate `ssh` bans for 10m, expected at least `max: 10m`",
        ]),
        ("<G>knocks: { a: { <D>, for: 1d, ban: { escalate: true, max: 9m } } }\n", &[
            "2:80: found `max: 9m` where the knock `a` bans for 1d, expected at least `max: 1d`",
        ]),
        ("<G>knocks: { a: { <D>, for: never, ban: { escalate: true, max: 9m } } }\n", &[
            "2:83: found `escalate: true` where the knock `a` bans for good, expected a duration that ends, such as `for: 10m`",
        ]),
        ("<G>knocks: { a: { sequence: [1, 2], action: accept, ban: {} } }\n", &[
            "2:50: found `ban`, expected it only with `action: drop`",
        ]),
    ];
    for (short, expected) in cases {
        let mut found = problems(short);
        let mut expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{short}");
    }
}
