//! Knocks that start commands, and policies without gates.

use super::*;
use crate::fixtures::{gate, knock, policy};
use crate::policy::{CommandLine, LogStyle, PerFamily, Run};

fn door(name: &str, ports: &str) -> crate::policy::Knock {
    let command = |line: &str| Some(CommandLine::words(line).unwrap());
    let start = PerFamily {
        v4: command("/bin/four %IP%"),
        v6: command("/bin/six %IP%"),
    };
    let run = Run {
        start,
        ..Run::default()
    };
    knock(name, ports, KnockAction::Run(Box::new(run)))
}

/// A policy of doors alone.
fn doors() -> crate::policy::Policy {
    let mut door = door("a", "1 2");
    door.gates.clear();
    let mut policy = policy(Vec::new(), vec![door]);
    policy.log.style = LogStyle::Classic;
    policy
}

#[test]
fn a_policy_without_gates_changes_nothing_in_the_kernel() {
    let mut bench = Bench::new(doors());
    let desired = bench.engine.desired(bench.now);
    assert!(desired.gates.is_empty() && desired.members.is_empty());
    bench.knocked("198.51.100.7", "a");
    assert!(bench.changes().is_empty());
    bench.handle(Event::Swept {
        source: address("198.51.100.7"),
    });
    assert!(bench.changes().is_empty());
    assert_eq!(bench.engine.next_deadline(), None);
}

#[test]
fn a_command_for_the_gates_of_a_policy_without_any_is_refused() {
    let mut bench = Bench::new(doors());
    for outcome in [
        bench.accept("198.51.100.7", false),
        bench.drop("198.51.100.7", true),
    ] {
        assert_eq!(outcome.code, 2);
        assert_eq!(outcome.refused, ["this policy has no gates"]);
    }
}

#[test]
fn a_completed_door_says_so_in_the_classic_words_and_has_the_command_of_its_family() {
    let mut bench = Bench::new(doors());
    for (source, command) in [("198.51.100.7", "/bin/four"), ("2001:db8::7", "/bin/six")] {
        bench.knocked(source, "a");
        assert!(bench.logged(&format!("{source}: a: OPEN SESAME")));
        assert!(bench.logged(command));
    }
    let mut plain = doors();
    plain.log.style = LogStyle::Plain;
    let mut bench = Bench::new(plain);
    bench.knocked("198.51.100.7", "a");
    assert!(!bench.logged("OPEN SESAME"));
}

#[test]
fn the_banned_start_nothing() {
    let policy = policy(vec![gate("ssh")], vec![door("a", "1 2")]);
    let mut bench = Bench::new(policy);
    bench.drop("198.51.100.0/24", false);
    bench.knocked("198.51.100.7", "a");
    assert!(bench.logged("nothing is run: 198.51.100.0/24 is banned at ssh"));
    assert!(!bench.logged("/bin/four"));
    bench.knocked("192.0.2.7", "a");
    assert!(bench.logged("/bin/four"));
}
