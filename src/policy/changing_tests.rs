use std::path::Path;

use super::{Checked, Notes, PolicyErrors, emit, parse};
use crate::totp::Shape;

fn read(text: &str) -> Result<Checked, PolicyErrors> {
    parse(text, Path::new("/etc/knockd/p"))
}

#[test]
fn a_file_of_one_time_sequences_stands_beside_the_policy_and_is_written_as_it_is_read() {
    let text = |sequence: &str| {
        format!("knocks: {{ k: {{ sequence: {sequence}, action: run, start: x }} }}")
    };
    let checked = read(&text("{ one_time: a sheet }")).unwrap();
    let knock = &checked.policy.knocks[0];
    let file = knock.one_time();
    assert_eq!(file, Some(Path::new("/etc/knockd/a sheet")));
    assert!(knock.sequence.is_empty() && checked.warnings.is_empty());
    let again = read(&emit(&checked.policy, &Notes::default())).unwrap();
    assert_eq!(again.policy, checked.policy);
    for (sequence, told) in [
        (
            "{}",
            "1:26: found a mapping without `one_time` or `totp`, expected",
        ),
        (
            "{ one_tim: x }",
            "1:28: found the unknown key `one_tim`, expected `one_time`, `totp`, `ports` or `length` (did",
        ),
        ("{ one_time: [x] }", "1:38: found a list, expected"),
        (
            "{ one_time: \"\" }",
            "1:38: found an empty string, expected",
        ),
    ] {
        let errors = read(&text(sequence)).unwrap_err().to_string();
        assert!(errors.contains(told), "{errors}");
    }
}

/// A gate, a decoy, and a knock with that sequence.
fn timed(sequence: &str) -> String {
    format!(
        "gates: {{ ssh: {{ ports: [22] }}, web: {{ ports: [\"30000-30010\"] }} }}\n\
         knocks:\n  decoy: {{ sequence: [10000, 10001], action: drop, gate: all }}\n  \
         k: {{ action: accept, gate: ssh, sequence: {sequence} }}\n"
    )
}

#[test]
fn a_time_based_sequence_has_a_secret_a_range_and_a_length() {
    for (sequence, ports, length) in [
        (
            "{ totp: s, ports: \"11000-29999\", length: 3 }",
            "11000-29999",
            3,
        ),
        ("{ totp: s, ports: 11000-29999/udp }", "11000-29999/udp", 4),
    ] {
        let checked = read(&timed(sequence)).unwrap();
        let knock = &checked.policy.knocks[1];
        let time_based = knock.time_based().unwrap();
        assert_eq!(time_based.file, Path::new("/etc/knockd/s"));
        let shape = Shape::new(ports.parse().unwrap(), length).unwrap();
        assert_eq!(time_based.shape, shape);
        assert!(knock.sequence.is_empty() && knock.one_time().is_none());
        assert_eq!(checked.warnings, []);
        let again = read(&emit(&checked.policy, &Notes::default())).unwrap();
        assert_eq!(again.policy, checked.policy);
    }
}

#[test]
fn what_is_wrong_about_a_time_based_sequence_is_told_at_its_place() {
    let s = "totp: s, ports: \"11000-29999\"";
    for (sequence, told) in [
        (
            "{ totp: s }",
            "4:45: found `totp` without `ports`, expected `ports` as well",
        ),
        (
            "{ totp: s, one_time: s, ports: 1-9 }",
            "4:47: found `totp` beside `one_time`",
        ),
        (
            "{ one_time: s, length: 4 }",
            "found `length` beside `one_time`",
        ),
        (
            "{ totp: s, ports: [1, 2] }",
            "found a list, expected a range of ports",
        ),
        (
            "{ totp: s, ports: 20000-11000 }",
            "found `20000-11000`, expected a range of ports",
        ),
        (
            &format!("{{ {s}, length: 2 }}"),
            "found `2`, expected a whole number from 3 to 32",
        ),
        (
            "{ totp: s, ports: 11000-11900, length: 3 }",
            "a wider range or a longer sequence",
        ),
        (
            "{ totp: \"\", ports: 11000-29999 }",
            "found an empty string, expected",
        ),
        (
            "{ totp: s, ports: 11000-30000 }",
            "with a port of the gate `web`",
        ),
        (
            "{ totp: s, ports: 9000-29999 }",
            "with 10000/tcp of `decoy`",
        ),
    ] {
        let errors = read(&timed(sequence)).unwrap_err().to_string();
        assert!(errors.contains(told), "{sequence}: {errors}");
    }
    let twice = timed(&format!("{{ {s} }}"))
        + &format!("  l: {{ action: trust, gate: ssh, sequence: {{ {s}, length: 5 }} }}\n");
    let errors = read(&twice).unwrap_err().to_string();
    assert!(
        errors.contains("5:44: found the secret of `k` a second time"),
        "{errors}"
    );
}

#[test]
fn a_clock_that_is_off_is_not_to_make_a_scanner_at_the_first_attempt() {
    let said = |guard: &str, sequence: &str| -> Vec<String> {
        let text = timed(sequence) + guard;
        let warnings = read(&text).unwrap().warnings;
        warnings.iter().map(ToString::to_string).collect()
    };
    let four = "{ totp: s, ports: 11000-29999 }";
    let five = "{ totp: s, ports: 11000-29999, length: 5 }";
    let by_udp = "{ totp: s, ports: 11000-29999/udp, length: 5 }";
    for (guard, sequence) in [("", four), ("scan_guard: { ports: 6 }", five), ("", by_udp)] {
        assert!(said(guard, sequence).is_empty(), "{guard} {sequence}");
    }
    assert_eq!(
        said("scan_guard: { ports: 4, action: drop }", four),
        [
            "4:45: found a sequence of 4 ports, where 4 foreign ones make a scanner, expected \
             `scan_guard.ports` to be 5 or more (one knock with a clock that is off bans the \
             sender as a scanner)"
        ]
    );
    assert_eq!(
        said("", five),
        [
            "4:45: found a sequence of 5 ports, where 5 foreign ones make a scanner, expected \
             `scan_guard.ports` to be 6 or more (one knock with a clock that is off makes the \
             sender a scanner)"
        ]
    );
}
