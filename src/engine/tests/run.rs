//! Knocks that start commands, and policies without gates.

use super::*;
use crate::engine::jobs::{
    MOST_OWED, MOST_WAITING, MOST_WAITING_EACH, STARTS_AT_A_TIME, STOPS_AT_A_TIME,
};
use crate::fixtures::{gate, knock, policy};
use crate::policy::{CommandLine, LogStyle, PerFamily, Run};
use proptest::prelude::*;

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

/// With a stop command after 10 s.
fn stopped(name: &str, ports: &str) -> crate::policy::Knock {
    let mut door = door(name, ports);
    let KnockAction::Run(run) = &mut door.action else {
        unreachable!("a door runs something")
    };
    run.stop = PerFamily {
        v4: Some(CommandLine::Shell("stop %IP%; true".into())),
        v6: None,
    };
    door.lifetime = Some(Lifetime::For(Duration::from_secs(10)));
    door.gates.clear();
    door
}

fn with_stop() -> Bench {
    Bench::new(policy(
        Vec::new(),
        vec![stopped("a", "1 2"), stopped("b", "3 4")],
    ))
}

impl Bench {
    fn taken(&mut self) -> Vec<Job> {
        self.engine.take_jobs()
    }

    /// The commands that are to run now.
    fn run(&mut self) -> Vec<String> {
        let jobs = self.taken().into_iter();
        jobs.map(|job| job.command.to_string()).collect()
    }

    fn ended(&mut self, job: &Job) {
        self.handle(Event::Ended {
            job: job.id,
            again: false,
        });
    }

    /// What is owed, by the store's account.
    fn memos(&mut self) -> Vec<Memo> {
        let memos = self.engine.take_news().memos.into_iter();
        memos
            .filter(|memo| matches!(memo, Memo::Owe(_) | Memo::Settled(_)))
            .collect()
    }
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
    drop(bench.taken());
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
    for (source, command) in [
        ("198.51.100.7", "/bin/four 198.51.100.7"),
        ("2001:db8::7", "/bin/six 2001:db8::7"),
    ] {
        bench.knocked(source, "a");
        assert!(bench.logged(&format!("{source}: a: OPEN SESAME")));
        assert!(bench.logged(&format!("a: running command: {command}")));
        assert_eq!(bench.run(), [command]);
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
    assert_eq!(bench.run(), [] as [&str; 0]);
    bench.knocked("192.0.2.7", "a");
    assert_eq!(bench.run(), ["/bin/four 192.0.2.7"]);
}

#[test]
fn a_start_owes_its_stop_from_the_moment_it_is_decided_until_that_has_run() {
    let mut bench = with_stop();
    bench.knocked(A, "a");
    let start = bench.taken().remove(0);
    let memos = bench.memos();
    let [Memo::Owe(owed)] = memos.as_slice() else {
        panic!("{memos:?}")
    };
    assert_eq!(start.owes, Some(owed.id));
    let in_ten = |bench: &Bench| bench.now.after(Duration::from_secs(10));
    assert_eq!(owed.due, Deadline::At(in_ten(&bench)));
    assert_eq!(bench.engine.next_deadline(), None);
    bench.ended(&start);
    assert_eq!(bench.engine.next_deadline(), Some(in_ten(&bench)));
    assert_eq!(bench.memos(), [Memo::Owe(owed.clone())]);
    bench.tick_after(9);
    assert!(bench.taken().is_empty());
    bench.tick_after(1);
    assert!(bench.logged(&format!("{A}: a: command timeout")));
    assert!(bench.logged(&format!("a: running command: stop {A}; true")));
    let stop = bench.taken().remove(0);
    assert_eq!((stop.id, stop.owes), (owed.id, None));
    assert!(stop.command.is_shell());
    assert_eq!(bench.memos(), [], "it has not run yet");
    assert_eq!(bench.engine.everything().owed.len(), 1);
    bench.ended(&stop);
    assert_eq!(bench.memos(), [Memo::Settled(owed.id)]);
    assert!(bench.engine.everything().owed.is_empty());
    assert_eq!(bench.engine.next_deadline(), None);
}

/// knockd(1): "when Cmd_Timeout seconds have passed since Start_Command has been executed".
#[test]
fn the_time_until_the_stop_begins_when_the_start_has_run() {
    let mut bench = with_stop();
    bench.knocked(A, "a");
    bench.knocked(A, "a");
    let first = bench.taken().remove(0);
    drop(bench.memos());
    bench.tick_after(30);
    assert!(!bench.logged("command timeout") && bench.taken().is_empty());
    bench.ended(&first);
    let memos = bench.memos();
    let [Memo::Owe(owed)] = memos.as_slice() else {
        panic!("{memos:?}")
    };
    let due = bench.now.after(Duration::from_secs(10));
    assert_eq!((Some(owed.id), owed.due), (first.owes, Deadline::At(due)));
    let second = bench.taken().remove(0);
    bench.tick_after(4);
    bench.ended(&second);
    bench.tick_after(6);
    let stop = bench.taken().remove(0);
    assert_eq!(Some(stop.id), first.owes);
    bench.ended(&stop);
    bench.tick_after(3);
    assert!(bench.taken().is_empty(), "the second began to count later");
    bench.tick_after(1);
    assert_eq!(Some(bench.taken().remove(0).id), second.owes);
}

#[test]
fn a_start_that_outlives_the_daemon_is_stopped_when_it_was_written_that_it_would() {
    let mut before = with_stop();
    before.knocked(A, "a");
    let mut bench = Bench::new(doors());
    bench.now = before.now;
    bench.handle(Event::Owed(before.engine.everything().owed));
    bench.tick_after(9);
    assert!(bench.taken().is_empty());
    bench.tick_after(1);
    assert_eq!(bench.run(), [format!("stop {A}; true")]);
}

#[test]
fn where_nothing_stops_or_nothing_starts_nothing_is_owed() {
    let mut bench = with_stop();
    bench.knocked(SIX, "a");
    assert_eq!(bench.run(), [format!("/bin/six {SIX}")]);
    let mut policy = with_stop().engine.policy().clone();
    let KnockAction::Run(run) = &mut policy.knocks[0].action else {
        unreachable!("a door runs something")
    };
    run.start.v4 = None;
    let mut idle = Bench::new(policy);
    idle.knocked(A, "a");
    assert_eq!(idle.run(), [] as [&str; 0]);
    assert_eq!([bench.memos(), idle.memos()], [vec![], vec![]]);
}

#[test]
fn a_second_knock_starts_again_when_the_first_has_ended_and_owes_its_own_stop() {
    let mut bench = with_stop();
    bench.knocked(A, "a");
    let first = bench.taken().remove(0);
    bench.wait(1);
    bench.knocked(A, "a");
    assert!(bench.taken().is_empty(), "they must not overlap");
    bench.knocked(B, "a");
    bench.knocked(A, "b");
    assert_eq!(bench.taken().len(), 2, "nobody else waits");
    bench.ended(&first);
    let second = bench.taken().remove(0);
    assert_ne!(first.owes, second.owes);
    bench.tick_after(10);
    assert!(bench.taken().is_empty(), "a stop waits, too");
    bench.ended(&second);
    let stop = bench.taken().remove(0);
    assert_eq!(Some(stop.id), first.owes);
    bench.ended(&stop);
    bench.tick_after(10);
    let stops: Vec<_> = bench.taken().iter().map(|job| job.id).collect();
    assert!(stops.contains(&second.owes.unwrap()), "{stops:?}");
}

#[test]
fn after_a_restart_what_is_owed_is_due_when_it_was_and_at_once_if_that_is_past() {
    let mut before = with_stop();
    before.knocked(A, "a");
    before.wait(5);
    before.knocked(B, "a");
    let owed = before.engine.everything().owed;
    let mut bench = Bench::new(doors());
    bench.now = before.now;
    bench.wait(6);
    bench.handle(Event::Owed(owed.clone()));
    assert_eq!(
        bench.engine.next_deadline(),
        Some(Time::default()),
        "something is to run"
    );
    let stop = bench.taken().remove(0);
    assert_eq!(stop.command.to_string(), format!("stop {A}; true"));
    bench.ended(&stop);
    bench.tick_after(4);
    assert_eq!(bench.run(), [format!("stop {B}; true")]);
    bench.knocked(A, "a");
    let new = bench.taken().remove(0);
    assert!(
        owed.iter().all(|owed| owed.id < new.id),
        "numbers are not used twice"
    );
}

#[test]
fn a_stop_that_found_no_process_is_tried_again_and_a_start_is_not() {
    let mut bench = with_stop();
    bench.knocked(A, "a");
    let start = bench.taken().remove(0);
    bench.handle(Event::Ended {
        job: start.id,
        again: true,
    });
    bench.tick_after(10);
    let stop = bench.taken().remove(0);
    bench.handle(Event::Ended {
        job: stop.id,
        again: true,
    });
    bench.tick_after(4);
    assert!(bench.taken().is_empty());
    bench.tick_after(1);
    assert_eq!(bench.taken()[0].id, stop.id);
}

#[test]
fn when_the_daemon_ends_nothing_starts_and_what_never_started_owes_nothing() {
    let mut bench = with_stop();
    bench.knocked(A, "a");
    let first = bench.taken().remove(0);
    bench.knocked(B, "a");
    let other = bench.taken().remove(0);
    bench.ended(&other);
    bench.knocked(A, "a");
    drop(bench.engine.take_news());
    bench.handle(Event::Ending);
    assert!(bench.logged("a: not run: knockd stops"));
    bench.ended(&first);
    bench.tick_after(20);
    assert!(bench.taken().is_empty());
    assert!(!bench.logged("running command"));
    let owed: Vec<_> = bench.engine.everything().owed;
    let owed: Vec<_> = owed.iter().map(|owed| Some(owed.id)).collect();
    assert_eq!(owed, [first.owes, other.owes], "these have run");
    let settled = bench.memos();
    assert!(
        settled.iter().any(|memo| matches!(memo, Memo::Settled(_))),
        "{settled:?}"
    );
}

#[test]
fn what_was_part_of_a_sweep_is_stopped_at_once_or_not_even_started() {
    let mut bench = with_stop();
    bench.knocked(A, "a");
    bench.knocked(A, "a");
    let undone = || Event::Undone {
        source: address(A),
        knock: KnockName::new("a").unwrap(),
    };
    let start = bench.taken().remove(0);
    bench.handle(undone());
    assert_eq!(bench.engine.everything().owed.len(), 1, "the second waited");
    bench.handle(undone());
    assert!(bench.logged("undone: it was part of a sweep"));
    bench.ended(&start);
    assert_eq!(bench.run(), [format!("stop {A}; true")]);
    bench.handle(undone());
    assert!(!bench.logged("undone"));
}

#[test]
fn what_runs_waits_and_is_owed_has_an_end() {
    let mut bench = with_stop();
    let person = |n: usize| format!("10.0.{}.{}", n / 250, n % 250 + 1);
    let mut running = Vec::new();
    for n in 0..STARTS_AT_A_TIME + MOST_WAITING {
        bench.knocked(&person(n), "a");
        running.extend(bench.taken());
    }
    assert_eq!(running.len(), STARTS_AT_A_TIME);
    // The log takes so many lines at a time.
    bench.wait(60);
    bench.knocked("10.9.9.9", "a");
    assert!(bench.logged("10.9.9.9: a: not run: 256 commands wait already"));
    assert_eq!(bench.engine.refused().commands, 1);
    let owed = bench.engine.everything().owed;
    assert_eq!(
        owed.len(),
        STARTS_AT_A_TIME + MOST_WAITING,
        "who is refused owes nothing"
    );

    let mut bench = with_stop();
    for _ in 0..=MOST_WAITING_EACH {
        bench.knocked(A, "a");
    }
    bench.knocked(A, "a");
    assert!(bench.logged("commands of this knock and address wait already"));

    let mut bench = with_stop();
    for n in 0..MOST_OWED {
        bench.knocked(&person(n), "a");
        for job in bench.taken() {
            bench.ended(&job);
        }
    }
    bench.knocked(A, "a");
    assert_eq!(bench.run(), [] as [&str; 0]);
    assert_eq!(bench.engine.everything().owed.len(), MOST_OWED);
}

#[test]
fn neither_do_starts_that_hang_keep_stops_from_running_nor_stops_starts() {
    let mut bench = with_stop();
    let person = |n: usize| format!("10.0.{}.{}", n / 250, n % 250 + 1);
    let wants_stop = STOPS_AT_A_TIME + 3;
    for n in 0..wants_stop {
        bench.knocked(&person(n), "a");
        let start = bench.taken().remove(0);
        bench.ended(&start);
    }
    for n in 0..STARTS_AT_A_TIME {
        bench.knocked(&person(wants_stop + n), "a");
        assert_eq!(bench.taken().len(), 1);
    }
    bench.tick_after(10);
    let stops = bench.taken();
    assert_eq!(stops.len(), STOPS_AT_A_TIME);
    assert!(stops.iter().all(|job| job.command.is_shell()), "{stops:?}");
    bench.ended(&stops[0]);
    assert_eq!(bench.taken().len(), 1, "the next stop");

    let mut bench = with_stop();
    for n in 0..wants_stop {
        bench.knocked(&person(n), "a");
        let start = bench.taken().remove(0);
        bench.ended(&start);
    }
    bench.tick_after(10);
    assert_eq!(bench.taken().len(), STOPS_AT_A_TIME);
    bench.knocked("10.9.9.9", "a");
    assert_eq!(bench.run(), ["/bin/four 10.9.9.9"]);
}

#[test]
fn a_reload_that_drops_the_knock_keeps_what_it_owes() {
    let mut bench = with_stop();
    bench.knocked(A, "a");
    let start = bench.taken().remove(0);
    bench.handle(Event::Policy(Box::new(appliance())));
    bench.ended(&start);
    bench.tick_after(10);
    assert_eq!(bench.run(), [format!("stop {A}; true")]);
}

proptest! {
    /// However knocks and endings fall: of a knock and address one command at a time, and each
    /// start that ran is followed by its own stop, once.
    #[test]
    fn commands_never_overlap_and_every_start_has_one_stop(
        steps in prop::collection::vec((0..3u8, 0..6usize, any::<usize>()), 1..200)
    ) {
        let mut bench = with_stop();
        let (mut running, mut done): (Vec<Job>, Vec<Job>) = (Vec::new(), Vec::new());
        let people = [A, B, "192.0.2.1"];
        let mut follow = |bench: &mut Bench, running: &mut Vec<Job>, end: Option<usize>| {
            if let Some(index) = end && !running.is_empty() {
                let job = running.remove(index % running.len());
                bench.ended(&job);
                done.push(job);
            }
            for job in bench.taken() {
                let same = |other: &Job| (&other.knock, other.source) == (&job.knock, job.source);
                assert!(!running.iter().any(same), "{job:?} overlaps");
                running.push(job);
            }
        };
        for (kind, who, index) in steps {
            match kind {
                0 => bench.knocked(people[who % 3], if who < 3 { "a" } else { "b" }),
                1 => bench.tick_after(who as u64),
                _ => {}
            }
            follow(&mut bench, &mut running, (kind == 2).then_some(index));
        }
        for _ in 0..1000 {
            bench.tick_after(10);
            follow(&mut bench, &mut running, Some(0));
        }
        prop_assert!(running.is_empty());
        prop_assert!(bench.engine.everything().owed.is_empty());
        let stops: Vec<u64> = done.iter().filter(|job| job.owes.is_none()).map(|job| job.id).collect();
        for (place, start) in done.iter().enumerate() {
            if let Some(stop) = start.owes {
                let at = done.iter().position(|job| job.id == stop);
                prop_assert!(at.is_some_and(|at| at > place));
                prop_assert_eq!(stops.iter().filter(|id| **id == stop).count(), 1);
            }
        }
    }
}
