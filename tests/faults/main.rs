//! Everything that can go wrong, and that all goes on: random operations on real firewalls with real
//! connections, and what happens when files, disks and interfaces vanish. With `system-tests` also
//! a death, or a failure, at every system call that matters.
//!
//! What is tested elsewhere: full, read-only and damaged disks, a deleted state directory, reboots
//! and clocks that jump in `tests/state`; interfaces that vanish in `tests/gate/interfaces.rs`; a
//! policy that has become garbage, and trials that are cut short, in `tests/gate` (`applying.rs`, `trying.rs`);
//! firewalls that others flush, each way by itself, in `tests/system/damage.rs`; iptables programs
//! that fail in `tests/conformance`; and a thousand random operations against a kernel in memory,
//! with reboots and clock jumps, in `src/knockd/random_tests.rs`.
//!
//! `PORTCULLIS_SEED=N` repeats a random story. `FAULTS=all` leaves out no step and no message.
#![cfg(target_os = "linux")]

mod files;
#[cfg(feature = "system-tests")]
mod kill;
mod model;
#[cfg(feature = "system-tests")]
mod netlink;
#[allow(dead_code, reason = "what the kernel in memory needs besides")]
mod operations;
mod random;
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
    arguments.test_threads.get_or_insert(2);
    let topics = [
        ("random", random::SCENARIOS),
        ("files", files::SCENARIOS),
        #[cfg(feature = "system-tests")]
        ("kill", kill::SCENARIOS),
        #[cfg(feature = "system-tests")]
        ("netlink", netlink::SCENARIOS),
    ];
    let trials: Vec<Trial> = topics
        .into_iter()
        .flat_map(|(topic, scenarios)| scenarios.iter().map(move |&it| trial(topic, it)))
        .collect();
    assert!(!trials.is_empty(), "no scenarios: this would prove nothing");
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list {
        let ran = conclusion.num_passed + conclusion.num_failed;
        println!("{ran} scenarios ran, {} held", conclusion.num_passed);
    }
    conclusion.exit_code()
}

fn trial(topic: &str, (name, scenario): Scenario) -> Trial {
    Trial::test(format!("{topic}::{name}"), move || {
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
