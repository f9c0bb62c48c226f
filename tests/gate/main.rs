//! The gate from outside: the real programs, real connections, in network namespaces. Needs
//! nothing but the kernel, and root only where ordinary users may not make namespaces.
#![cfg(target_os = "linux")]

mod applying;
mod asking;
mod awake;
mod banning;
mod classic;
mod commands;
mod cutting;
mod direct;
mod flood;
mod forwarding;
mod gates;
mod guarding;
mod hostile;
mod interfaces;
mod knocking;
mod reload;
mod replaying;
mod restart;
mod restarts;
mod running;
mod setup;
mod sharing;
mod sheets;
mod tap;
mod timed;
mod trying;
mod whitelist;
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
    arguments.test_threads.get_or_insert(4);
    let topics = [
        ("knocking", knocking::SCENARIOS),
        ("asking", asking::SCENARIOS),
        ("awake", awake::SCENARIOS),
        ("banning", banning::SCENARIOS),
        ("classic", classic::SCENARIOS),
        ("commands", commands::SCENARIOS),
        ("cutting", cutting::SCENARIOS),
        ("direct", direct::SCENARIOS),
        ("whitelist", whitelist::SCENARIOS),
        ("gates", gates::SCENARIOS),
        ("forwarding", forwarding::SCENARIOS),
        ("reload", reload::SCENARIOS),
        ("applying", applying::SCENARIOS),
        ("trying", trying::SCENARIOS),
        ("guarding", guarding::SCENARIOS),
        ("restart", restart::SCENARIOS),
        ("restarts", restarts::SCENARIOS),
        ("interfaces", interfaces::SCENARIOS),
        ("running", running::SCENARIOS),
        ("setup", setup::SCENARIOS),
        ("sharing", sharing::SCENARIOS),
        ("sheets", sheets::SCENARIOS),
        ("timed", timed::SCENARIOS),
        ("hostile", hostile::SCENARIOS),
        ("replaying", replaying::SCENARIOS),
        ("flood", flood::SCENARIOS),
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

/// What the backends do each in their own way, beyond what `tests/conformance` looks at.
#[cfg(feature = "system-tests")]
fn on_iptables() -> Vec<Trial> {
    let topics = [
        ("asking", asking::SCENARIOS),
        ("cutting", cutting::SCENARIOS),
        ("direct", direct::SCENARIOS),
        ("forwarding", forwarding::SCENARIOS),
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
