//! The daemon in the background as an administrator has it: the init script under each shell that
//! it is for, the cron line, and the supervisor. Real programs, in namespaces with a /run of their
//! own; needs dash and bash, and with the feature `system-tests` shellcheck and make.
#![cfg(target_os = "linux")]

mod dead;
#[cfg(feature = "system-tests")]
mod install;
mod places;
mod script;
mod systemd;
mod watchdog;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use portcullis::lab::{Entered, enter};

use world::{SHELLS, Shell, Tried, last_log};

/// Makes a list of scenarios from functions.
macro_rules! scenarios {
    ($kind:ty: $($name:ident),* $(,)?) => {
        pub(crate) const SCENARIOS: &[(&str, $kind)] = &[$((stringify!($name), $name)),*];
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
    arguments.test_threads.get_or_insert(6);
    let mut trials = Vec::new();
    // What takes longest, first.
    for (topic, scenarios) in [
        ("watchdog", watchdog::SCENARIOS),
        ("systemd", systemd::SCENARIOS),
    ] {
        for &(name, scenario) in scenarios {
            trials.push(trial(format!("{topic}::{name}"), scenario));
        }
    }
    for shell in SHELLS {
        for (topic, scenarios) in [
            ("script", script::SCENARIOS),
            ("dead", dead::SCENARIOS),
            ("places", places::SCENARIOS),
        ] {
            for &(name, scenario) in scenarios {
                let name = format!("{topic}::{name}::{}", shell.0);
                trials.push(trial(name, move || scenario(shell)));
            }
        }
    }
    #[cfg(feature = "system-tests")]
    {
        trials.push(trial("shellcheck".to_owned(), places::shellcheck));
        for &(name, scenario) in install::SCENARIOS {
            trials.push(trial(format!("install::{name}"), scenario));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list {
        let ran = conclusion.num_passed + conclusion.num_failed;
        println!("{ran} scenarios ran, {} held", conclusion.num_passed);
    }
    conclusion.exit_code()
}

fn trial(name: String, scenario: impl Fn() -> Tried + Send + 'static) -> Trial {
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

/// A scenario that is played with each shell.
type Played = fn(Shell) -> Tried;
/// One that needs none.
type Plain = fn() -> Tried;
