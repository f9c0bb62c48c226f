use std::fs;

use super::*;
use crate::fixtures::{address, gate, knock, policy};
use crate::policy::{Changing, KnockAction};

const A: &str = "192.0.2.10";

/// Two doors, each with a file of its own in a directory, and the policy that has them.
struct Bench {
    dir: tempfile::TempDir,
    sheets: Sheets,
    policy: Policy,
}

impl Bench {
    /// Doors and their sheets.
    fn new(doors: &[(&str, &str)]) -> Self {
        let mut bench = Self {
            dir: tempfile::tempdir().unwrap(),
            sheets: Sheets::default(),
            policy: policy(vec![gate("ssh")], Vec::new()),
        };
        for (file, text) in [("a", " 1,2,3\n 4,5,6\n"), ("b", " 7,8,9\n 10,11,12\n")] {
            fs::write(bench.path(file), text).unwrap();
        }
        bench.reload(doors);
        bench
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    fn reload(&mut self, doors: &[(&str, &str)]) {
        let doors = doors.iter().map(|(name, file)| Knock {
            changing: Some(Changing::OneTime(self.path(file))),
            ..knock(name, "", KnockAction::Accept)
        });
        self.policy.knocks = doors.collect();
        self.sheets.read(&self.policy);
    }

    /// Whether it counts.
    fn knocks(&mut self, door: &str, sequence: &str) -> bool {
        let used = self.sheets.use_up(
            address(A),
            &KnockName::new(door).unwrap(),
            &ports(sequence),
            Time::from_secs(100),
        );
        used.is_some()
    }

    /// Marks, as the thread does; whether it was a sweep.
    fn marks(&mut self, file: &str, sequence: &str) -> bool {
        let path = self.path(file);
        let sheet = sheets::use_up(&path, &ports(sequence));
        let marking = self.sheets.marked_in(&path).unwrap();
        self.sheets.goes_on(&path, sheet, &self.policy);
        marking.is_sweep
    }

    /// The sequences that are matched: door and ports.
    fn heard(&self) -> Vec<String> {
        let heard = self.sheets.filled_in(&self.policy).knocks.into_iter();
        let shown = heard
            .filter(|knock| !knock.sequence.is_empty())
            .map(|knock| {
                let ports: Vec<String> =
                    knock.sequence.iter().map(|p| p.port.to_string()).collect();
                format!("{} {}", knock.name, ports.join(","))
            });
        shown.collect()
    }
}

fn ports(sequence: &str) -> Vec<KnockPort> {
    knock("k", sequence, KnockAction::Accept).sequence
}

#[test]
fn what_is_used_is_heard_for_a_while_and_counts_no_more() {
    let mut bench = Bench::new(&[("a", "a")]);
    assert_eq!(bench.heard(), ["a 1,2,3"]);
    assert!(!bench.knocks("a", "4 5 6"), "not yet");
    assert!(bench.knocks("a", "1 2 3"));
    assert!(!bench.knocks("a", "1 2 3"), "it is being marked");
    assert_eq!(bench.heard(), ["a 1,2,3"]);
    assert!(!bench.marks("a", "1 2 3"));
    assert_eq!(bench.heard(), ["a 4,5,6", "a 1,2,3"]);
    assert!(!bench.knocks("a", "1 2 3"), "it is used");
    assert!(bench.knocks("a", "4 5 6"));
    assert_eq!(bench.sheets.due(), Some(Time::from_secs(100)));
    assert!(!bench.sheets.forget(Time::from_secs(99)));
    assert!(bench.sheets.forget(Time::from_secs(100)));
    assert_eq!(bench.sheets.due(), None);
    assert!(bench.heard().is_empty());
}

#[test]
fn no_more_than_a_few_used_ones_are_heard() {
    let mut bench = Bench::new(&[("a", "a")]);
    let lines: Vec<String> = (1..=20).map(|n| format!(" {n},100,200\n")).collect();
    fs::write(bench.path("a"), lines.concat()).unwrap();
    bench.reload(&[("a", "a")]);
    for n in 1..20 {
        let sequence = format!("{n} 100 200");
        assert!(bench.knocks("a", &sequence));
        bench.marks("a", &sequence);
    }
    let heard: Vec<String> = [20, 16, 17, 18, 19]
        .map(|n| format!("a {n},100,200"))
        .to_vec();
    assert_eq!(bench.heard(), heard);
}

#[test]
fn a_sweep_that_shows_meanwhile_is_the_knockers_alone() {
    for (source, is_sweep) in [(A, true), ("192.0.2.11", false)] {
        let mut bench = Bench::new(&[("a", "a")]);
        assert!(bench.knocks("a", "1 2 3"));
        let name = KnockName::new("a").unwrap();
        bench.sheets.undone(address(source), &name);
        assert_eq!(bench.marks("a", "1 2 3"), is_sweep);
    }
}

#[test]
fn what_is_being_marked_in_a_file_counts_for_no_door_until_it_is() {
    let mut bench = Bench::new(&[("a", "a")]);
    assert!(bench.knocks("a", "1 2 3"));
    // Another file: its first line counts now, and stays when the old file is marked.
    bench.reload(&[("a", "b")]);
    assert_eq!(bench.heard(), ["a 7,8,9"]);
    assert!(bench.knocks("a", "7 8 9"), "while the other is marked");
    bench.marks("a", "1 2 3");
    assert_eq!(bench.heard(), ["a 7,8,9"], "used, and still being marked");
    bench.marks("b", "7 8 9");
    assert_eq!(bench.heard(), ["a 10,11,12", "a 7,8,9"]);
    // And back, with another name, while it is marked.
    let mut bench = Bench::new(&[("a", "a")]);
    assert!(bench.knocks("a", "1 2 3"));
    bench.reload(&[("a", "b")]);
    bench.reload(&[("c", "a")]);
    assert!(bench.heard().is_empty());
    assert!(!bench.knocks("c", "1 2 3"));
    bench.marks("a", "1 2 3");
    assert_eq!(bench.heard(), ["c 4,5,6"]);
}
