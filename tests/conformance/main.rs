//! One suite for all backends: the same scenarios through the same trait, against fresh kernels
//! (network namespaces), where real connections decide. nftables and the one in memory need
//! nothing but Linux; with the feature `system-tests` iptables is there too, in both variants,
//! and its absence is a failure.
#![cfg(target_os = "linux")]
// Scenarios have one signature, whether anything in them can fail without a panic or not.
#![allow(clippy::unnecessary_wraps)]

mod drift;
mod gates;
#[cfg(feature = "system-tests")]
mod iptables;
mod large;
mod look_up;
mod members;
mod sessions;
mod untracked;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use portcullis::lab::{Entered, enter};

use world::{Column, Tried, World};

/// A scenario: its name, whether it is about packets of sessions, which a backend without a
/// kernel has none of, and what happens.
type Scenario = (&'static str, Needs, fn(&mut World) -> Tried);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    Kernel,
}

const SCENARIOS: &[Scenario] = &[
    ("accept", Needs::Nothing, members::accept),
    ("refresh", Needs::Nothing, members::refresh),
    ("rehearse", Needs::Nothing, members::rehearse),
    ("expire", Needs::Nothing, members::expire),
    ("ban", Needs::Nothing, members::ban),
    ("trust", Needs::Nothing, members::trust),
    ("a hole", Needs::Nothing, members::hole),
    ("flush ip", Needs::Nothing, members::flush_ip),
    ("flush filter", Needs::Nothing, members::flush_filter),
    ("flush banned", Needs::Nothing, members::flush_banned),
    ("flush all", Needs::Nothing, members::flush_all),
    ("several gates", Needs::Nothing, gates::several_gates),
    ("no gates", Needs::Nothing, gates::no_gates),
    ("ipv6", Needs::Nothing, members::ipv6),
    ("ipv6 prefixes", Needs::Nothing, members::ipv6_prefixes),
    ("overlapping networks", Needs::Nothing, members::overlapping),
    ("10,000 members", Needs::Nothing, large::ten_thousand),
    ("reload", Needs::Nothing, gates::reload),
    ("adoption", Needs::Nothing, members::adoption),
    ("somebody else's", Needs::Nothing, members::unseen),
    ("theirs is renewed", Needs::Nothing, members::renewed),
    ("once", Needs::Nothing, members::once),
    ("once and open", Needs::Nothing, members::once_and_open),
    ("open", Needs::Nothing, members::open),
    ("all or none", Needs::Nothing, members::all_or_none),
    ("teardown", Needs::Nothing, gates::teardown),
    ("port ranges", Needs::Kernel, gates::port_ranges),
    ("one address", Needs::Kernel, gates::one_address),
    ("loopback", Needs::Kernel, gates::loopback),
    ("forward", Needs::Kernel, gates::forward),
    ("untracked", Needs::Kernel, untracked::untracked),
    (
        "untracked teardown",
        Needs::Kernel,
        untracked::untracked_teardown,
    ),
    ("session stays", Needs::Kernel, sessions::stays),
    ("session from before", Needs::Kernel, sessions::from_before),
    ("cut sessions", Needs::Kernel, sessions::cut),
    ("look up", Needs::Nothing, look_up::look_up),
    (
        "look up everybody",
        Needs::Nothing,
        look_up::look_up_everybody,
    ),
    (
        "look up of many",
        Needs::Nothing,
        look_up::look_up_among_many,
    ),
    ("lacking", Needs::Kernel, drift::lacking),
    ("glances", Needs::Kernel, drift::glances),
    ("long lifetimes", Needs::Nothing, members::long_lifetimes),
];

/// What became of each scenario with each backend, and how long it took.
type Results = Mutex<BTreeMap<(Column, &'static str), (bool, Duration)>>;
static RESULTS: Results = Mutex::new(BTreeMap::new());

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
    for &column in Column::all() {
        let able = SCENARIOS
            .iter()
            .filter(|(_, needs, _)| *needs == Needs::Nothing || column != Column::Memory);
        trials.extend(able.map(|&scenario| trial(column, scenario)));
    }
    #[cfg(feature = "system-tests")]
    trials.extend(iptables::trials());
    let conclusion = libtest_mimic::run(&arguments, trials);
    if arguments.list {
        return conclusion.exit_code();
    }
    let ran = table();
    let is_whole = arguments.filter.is_none() && arguments.skip.is_empty();
    if is_whole && ran.contains(&0) {
        eprintln!("a backend ran no scenario: this proves nothing about it");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

fn trial(column: Column, (name, _, scenario): Scenario) -> Trial {
    Trial::test(format!("{}::{name}", column.name()), move || {
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| scenario(&mut World::new(column)?)));
        let why = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            // The panic's message and place are printed already.
            Err(_) => Some("it panicked".to_owned()),
        };
        let mut results = RESULTS.lock().unwrap_or_else(PoisonError::into_inner);
        results.insert((column, name), (why.is_none(), started.elapsed()));
        why.map_or(Ok(()), |why| Err(Failed::from(why)))
    })
}

/// Prints backend × scenario, and returns how many scenarios each backend ran.
fn table() -> Vec<usize> {
    let results = RESULTS.lock().unwrap_or_else(PoisonError::into_inner);
    print!("\n{:<22}", "scenario");
    for column in Column::all() {
        print!("{:>16}", column.name());
    }
    println!();
    for (name, ..) in SCENARIOS {
        print!("{name:<22}");
        for column in Column::all() {
            let cell = match results.get(&(*column, *name)) {
                Some((true, took)) => format!("ok {} ms", took.as_millis()),
                Some((false, _)) => "FAILED".to_owned(),
                None => "–".to_owned(),
            };
            print!("{cell:>16}");
        }
        println!();
    }
    let count = |column: &&Column| results.keys().filter(|(c, _)| c == *column).count();
    let ran: Vec<usize> = Column::all().iter().map(|column| count(&column)).collect();
    print!("{:<22}", "scenarios run");
    for count in &ran {
        print!("{count:>16}");
    }
    println!("\n");
    ran
}
