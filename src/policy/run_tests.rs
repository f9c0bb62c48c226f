use std::path::Path;

use crate::model::parse_duration;
use crate::policy::{CommandLine, Knock, KnockAction, PerFamily, Policy, Run, parse};

fn knock(keys: &str) -> Knock {
    policy(keys).knocks.remove(0)
}

fn policy(keys: &str) -> Policy {
    let text = format!("knocks: {{ k: {{ sequence: [2, 3], action: run, {keys} }} }}");
    let checked = parse(&text, Path::new("p")).unwrap_or_else(|errors| panic!("{errors}"));
    checked.policy
}

fn told(keys: &str) -> Vec<String> {
    let text = format!("knocks: {{ k: {{ sequence: [2, 3], action: run, {keys} }} }}");
    match parse(&text, Path::new("p")) {
        Ok(checked) => checked.warnings.iter().map(ToString::to_string).collect(),
        Err(errors) => errors.problems.iter().map(ToString::to_string).collect(),
    }
}

fn run(knock: &Knock) -> &Run {
    match &knock.action {
        KnockAction::Run(run) => run,
        other => panic!("{other:?}"),
    }
}

fn words(line: &str) -> CommandLine {
    CommandLine::words(line).unwrap()
}

#[test]
fn a_policy_whose_knocks_all_run_commands_needs_no_gate() {
    let policy = policy("start: /bin/door open %IP%");
    assert!(policy.gates.is_empty() && policy.knocks[0].gates.is_empty());
}

#[test]
fn a_run_knock_concerns_every_gate_unless_it_names_some() {
    let text = |gate: &str| {
        format!(
            "gates: {{ a: {{ ports: [22] }}, b: {{ ports: [23] }} }}\n\
             knocks: {{ k: {{ sequence: [2, 3], action: run, start: x{gate} }} }}"
        )
    };
    let gates = |text: &str| {
        let policy = parse(text, Path::new("p")).unwrap().policy;
        let names = policy.knocks[0].gates.iter().map(ToString::to_string);
        names.collect::<Vec<_>>()
    };
    assert_eq!(gates(&text("")), ["a", "b"]);
    assert_eq!(gates(&text(", gate: b")), ["b"]);
}

#[test]
fn ipv6_has_its_own_commands_ipv4s_or_none() {
    let same = knock("start: a b, stop: c, for: 5m");
    let both = |line| PerFamily {
        v4: Some(words(line)),
        v6: Some(words(line)),
    };
    assert_eq!(run(&same).start, both("a b"));
    assert_eq!(run(&same).stop, both("c"));
    assert_eq!(same.lifetime, Some(parse_duration("300s").unwrap()));
    let own = knock("start: a, start_6: b, stop: c, stop_6: \"\", for: 5m");
    assert_eq!(run(&own).start.v6, Some(words("b")));
    assert_eq!(run(&own).stop.v6, None);
    let only = knock("start_6: b");
    assert_eq!(
        (&run(&only).start.v4, &run(&only).start.v6),
        (&None, &Some(words("b")))
    );
}

#[test]
fn a_shell_reads_the_line_only_if_it_is_asked_for() {
    let shell = knock("start: \"a 'b; c\", shell: true");
    let line = CommandLine::Shell("a 'b; c".into());
    assert_eq!(run(&shell).start.v4, Some(line));
    assert_eq!(
        told("start: \"a 'b\""),
        [
            "1:54: found `a 'b`, expected a program and its arguments, with quotes in pairs (the \
             quote ' is not closed)"
        ]
    );
    for (line, word) in [
        ("a ; b", ";"),
        ("a; b", "a;"),
        ("a > /x", ">"),
        ("a $IP", "$IP"),
    ] {
        assert_eq!(
            told(&format!("start: \"{line}\"")),
            [format!(
                "1:54: found `{word}` in a command without a shell, expected `shell: true` beside \
                 it (it is an argument like any other)"
            )]
        );
    }
}

#[test]
fn what_run_lacks_or_has_too_much_is_an_error() {
    let cases: &[(&str, &str)] = &[
        (
            "stop: x, for: 5s",
            "1:11: found the knock `k` with `action: run` without `start`, expected `start` with \
             a command such as `/usr/local/sbin/door open %IP%`",
        ),
        (
            "start: x, stop: y",
            "1:57: found `stop` without `for`, expected `for` beside it, with a duration such as \
             `300s`, `5m` or `1h30m` until it runs",
        ),
        (
            "start: x, for: 5s",
            "1:57: found `for` without `stop`, expected `stop` beside it, with the command that \
             runs when that time is over",
        ),
        (
            "start: x, stop: y, for: never",
            "1:71: found `never`, expected a duration such as `300s`, `5m` or `1h30m`",
        ),
        (
            "start: [x, y]",
            "1:54: found a list, expected a command such as `/usr/local/sbin/door open %IP%`",
        ),
        (
            "start: \"x\\ny\"",
            "1:54: found `x\\u{a}y`, expected a command on one line (put it into a script, and \
             name that)",
        ),
        (
            "start: x, shell: yes",
            "1:64: found `yes`, expected `true` or `false` (did you mean `true`?)",
        ),
        (
            "start: x, timeout: 25h",
            "1:66: found `25h`, expected a time from `1ms` to `24h`",
        ),
        (
            "start: x, timeout: never",
            "1:66: found `never`, expected a duration such as `300s`, `5m` or `1h30m`",
        ),
        (
            "start: x %Ip%",
            "1:54: found `%Ip%`, expected `%IP%` (it is left as it is; only `%IP%` becomes the \
             address)",
        ),
    ];
    for (keys, expected) in cases {
        assert_eq!(told(keys), [expected.to_owned()], "{keys}");
    }
}
