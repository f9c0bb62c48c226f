//! Everything that can go wrong, and that all goes on: random operations on real firewalls with real
//! connections, and what happens when files, disks and interfaces vanish. With `system-tests` also
//! kill -9 at the steps of a start, of a setup, and of every change, with a daemon and without
//! (`kill`, `policies`, `dead`), and messages to the kernel that fail (`netlink`), both on nftables
//! and on iptables.
//!
//! A step is a system call that changes something outside of the process. `make test` takes every
//! step of accept, drop and trust on nftables, and of everything else steps that are up to so far
//! apart as it says there, others each time; `FAULTS=all`, in `make test-long`, takes every step and
//! every message of everything. `PORTCULLIS_SEED=N` takes the same ones again, and repeats a random
//! story.
//!
//! What is tested elsewhere: full, read-only and damaged disks, a deleted state directory, reboots
//! and clocks that jump in `tests/state`; interfaces that vanish in `tests/gate/interfaces.rs`; a
//! policy that has become garbage, and trials that are cut short, in `tests/gate` (`applying.rs`, `trying.rs`);
//! firewalls that others flush, each way by itself, in `tests/system/damage.rs`; iptables programs
//! that fail in `tests/conformance`; and a thousand random operations against a kernel in memory,
//! with reboots and clock jumps, in `src/knockd/random_tests.rs`.
#![cfg(target_os = "linux")]

#[cfg(feature = "system-tests")]
mod dead;
mod files;
#[cfg(feature = "system-tests")]
#[path = "../state/held.rs"]
mod held;
#[cfg(feature = "system-tests")]
mod kill;
mod model;
#[cfg(feature = "system-tests")]
mod netlink;
#[allow(dead_code, reason = "what the kernel in memory needs besides")]
mod operations;
#[cfg(feature = "system-tests")]
mod policies;
mod random;
#[cfg(feature = "system-tests")]
mod siege;
#[cfg(feature = "system-tests")]
#[allow(dead_code, reason = "what the benchmark needs besides")]
#[path = "../../benches/restarts/stream.rs"]
mod stream;
#[cfg(feature = "system-tests")]
mod tracer;
#[allow(dead_code, reason = "what `gate` needs besides")]
#[path = "../gate/world.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use portcullis::lab::{Entered, enter};

use world::{Tried, last_log};

/// A scenario with its name, which is the sentence that it checks.
type Scenario = (&'static str, fn() -> Tried);

/// Makes a list of scenarios from functions.
macro_rules! scenarios {
    ($($(#[$only:meta])* $name:ident),* $(,)?) => {
        pub(crate) const SCENARIOS: &[crate::Scenario] = &[$($(#[$only])* (stringify!($name), $name)),*];
    };
}
pub(crate) use scenarios;

fn main() -> ExitCode {
    match enter() {
        Ok(Entered::Inside) => {}
        Ok(Entered::Done(code)) => return code.into(),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(3);
    let topics = [
        ("random", random::SCENARIOS),
        ("files", files::SCENARIOS),
        #[cfg(feature = "system-tests")]
        ("kill", kill::SCENARIOS),
        #[cfg(feature = "system-tests")]
        ("policies", policies::SCENARIOS),
        #[cfg(feature = "system-tests")]
        ("dead", dead::SCENARIOS),
        #[cfg(feature = "system-tests")]
        ("netlink", netlink::SCENARIOS),
    ];
    #[cfg_attr(
        not(feature = "system-tests"),
        expect(unused_mut, reason = "there are more")
    )]
    let mut trials: Vec<Trial> = topics
        .into_iter()
        .flat_map(|(topic, scenarios)| scenarios.iter().map(move |&it| trial(topic, it)))
        .collect();
    #[cfg(feature = "system-tests")]
    trials.extend(on_iptables());
    assert!(!trials.is_empty(), "no scenarios: this would prove nothing");
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list {
        let ran = conclusion.num_passed + conclusion.num_failed;
        println!("{ran} scenarios ran, {} held", conclusion.num_passed);
    }
    conclusion.exit_code()
}

/// Where several programs and two kernel interfaces have a part in every change.
#[cfg(feature = "system-tests")]
fn on_iptables() -> Vec<Trial> {
    let topics = [
        ("files", files::SCENARIOS),
        ("kill", kill::SCENARIOS),
        ("policies", policies::SCENARIOS),
        ("dead", dead::SCENARIOS),
        ("netlink", netlink::SCENARIOS),
    ];
    let scenarios = topics
        .into_iter()
        .flat_map(|(topic, scenarios)| scenarios.iter().map(move |&it| (topic, it)));
    let run = |(topic, (name, scenario)): (&str, Scenario)| {
        run_as(format!("iptables::{topic}::{name}"), move || {
            let _chosen = world::OnBackend::new("iptables");
            scenario()
        })
    };
    scenarios.map(run).collect()
}

fn trial(topic: &str, (name, scenario): Scenario) -> Trial {
    run_as(format!("{topic}::{name}"), scenario)
}

fn run_as(name: String, scenario: impl FnOnce() -> Tried + Send + 'static) -> Trial {
    Trial::test(name, move || {
        let why = match catch_unwind(AssertUnwindSafe(scenario)) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            // The panic's message and place are printed already.
            Err(panic) => panic
                .downcast_ref::<String>()
                .map_or_else(|| "it panicked".to_owned(), Clone::clone),
        };
        let log = last_log();
        Err(Failed::from(format!("{why}\n--- the daemon's log:\n{log}")))
    })
}
