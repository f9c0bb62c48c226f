//! What outlives the daemon: restarts, reboots, and disks that are of no use. In network namespaces,
//! with a boot id of our own mounted over the kernel's, each scenario in a mount namespace of its own.
//! With `system-tests` on iptables, too.
#![cfg(target_os = "linux")]

mod boot;
#[cfg(feature = "system-tests")]
mod clock;
mod disk;
mod early;
mod held;
mod history;
mod restart;
#[allow(dead_code, reason = "what `gate` needs besides")]
#[path = "../gate/world.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use nix::sched::{CloneFlags, unshare};
use portcullis::lab::{Entered, enter};

use world::{Tried, last_log};

/// A scenario with its name, which is the sentence that it checks.
type Scenario = (&'static str, fn() -> Tried);

/// Makes a list of scenarios from functions.
macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        pub(crate) const SCENARIOS: &[crate::Scenario] = &[$((stringify!($name), $name)),*];
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
    arguments.test_threads.get_or_insert(4);
    let topics = [
        ("restart", restart::SCENARIOS),
        ("boot", boot::SCENARIOS),
        ("disk", disk::SCENARIOS),
        ("history", history::SCENARIOS),
        ("early", early::SCENARIOS),
        #[cfg(feature = "system-tests")]
        ("clock", clock::SCENARIOS),
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
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list {
        let ran = conclusion.num_passed + conclusion.num_failed;
        println!("{ran} scenarios ran, {} held", conclusion.num_passed);
    }
    conclusion.exit_code()
}

/// Where an ipset counts whole seconds, and rules and members are written one after another.
#[cfg(feature = "system-tests")]
fn on_iptables() -> Vec<Trial> {
    let topics = [
        ("restart", restart::SCENARIOS),
        ("boot", boot::SCENARIOS),
        ("disk", disk::SCENARIOS),
        ("early", early::SCENARIOS),
        ("clock", clock::SCENARIOS),
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
        // What one mounts the others do not see; threads and processes that it starts do.
        unshare(CloneFlags::CLONE_NEWNS)?;
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
