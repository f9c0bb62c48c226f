//! A sweep never opens a gate, and honest traffic is not punished: a hundred of each kind, against
//! the real daemon in network namespaces and, where they take hours, in replayed time. Needs
//! nothing but the kernel; with `system-tests` also nmap.
#![cfg(target_os = "linux")]

mod honest;
mod kinds;
mod live;
#[cfg(feature = "system-tests")]
mod nmap;
mod replayed;
mod sender;
mod timed;
mod world;

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use portcullis::lab::{Entered, enter};

type Tried = Result<(), Box<dyn Error>>;

/// A scenario with its name, which is the sentence that it checks.
type Scenario = (&'static str, fn() -> Tried);

/// How many of each kind.
const EACH: usize = 100;

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
    let mut trials = Vec::new();
    for (topic, scenarios) in [
        ("live", live::SCENARIOS),
        ("honest", honest::SCENARIOS),
        ("replayed", replayed::SCENARIOS),
        ("timed", timed::SCENARIOS),
        #[cfg(feature = "system-tests")]
        ("nmap", nmap::SCENARIOS),
    ] {
        for &(name, scenario) in scenarios {
            trials.push(trial(&format!("{topic}::{name}"), scenario));
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(name: &str, scenario: fn() -> Tried) -> Trial {
    Trial::test(name, move || {
        match catch_unwind(AssertUnwindSafe(scenario)) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failed::from(error.to_string())),
            // The panic's message and place are printed already.
            Err(_) => Err(Failed::from("it panicked")),
        }
    })
}

/// A line of the table that the suite prints.
fn row(what: &str, figures: &str) {
    println!("  {what:<44} {figures}");
}
