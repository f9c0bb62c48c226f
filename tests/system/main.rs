//! With programs that we did not write: Debian's `knock` and `nc`, `nft`, `nmap`, and a session
//! of a real `sshd`. Needs root, since sshd cannot log anybody in otherwise; everything happens
//! in network namespaces all the same. A program that is missing is a failure.
#![cfg(target_os = "linux")]

mod clients;
mod compliance;
mod damage;
mod handout;
mod input;
mod knocking;
mod length;
mod lockout;
mod migrating;
mod owner;
mod programs;
mod repair;
mod replaying;
mod scanning;
mod ssh;
#[allow(dead_code, reason = "what the benchmark needs besides")]
#[path = "../../benches/restarts/stream.rs"]
mod stream;
mod syslog;
mod through;
mod unit;
mod upgrade;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use portcullis::lab::{Entered, enter};

use world::{Tried, last_log};

/// A case with its name, which is the sentence that it checks.
type Case = (&'static str, fn() -> Tried);

/// Makes a list of cases from functions.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(crate) const CASES: &[crate::Case] = &[$((stringify!($name), $name)),*];
    };
}
pub(crate) use cases;

fn main() -> ExitCode {
    if let Err(why) = programs::ready() {
        eprintln!("{why}");
        return ExitCode::FAILURE;
    }
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
    let topics = [
        ("knocking", knocking::CASES),
        ("ssh", ssh::CASES),
        ("through", through::CASES),
        ("lockout", lockout::CASES),
        ("scanning", scanning::CASES),
        ("repair", repair::CASES),
        ("owner", owner::CASES),
        ("length", length::CASES),
        ("input", input::CASES),
        ("unit", unit::CASES),
        ("replaying", replaying::CASES),
        ("clients", clients::CASES),
        ("handout", handout::CASES),
        ("migrating", migrating::CASES),
        ("compliance::doors", compliance::doors::CASES),
        ("compliance::sheets", compliance::sheets::CASES),
        ("compliance::options", compliance::options::CASES),
        ("compliance::faults", compliance::faults::CASES),
        ("syslog", syslog::CASES),
    ];
    let mut trials: Vec<Trial> = topics
        .into_iter()
        .flat_map(|(topic, cases)| cases.iter().map(move |&it| trial(topic, it)))
        .collect();
    let damage = damage::cases().into_iter();
    trials.extend(damage.map(|(name, case)| run(format!("damage::{name}"), case)));
    let upgrade = upgrade::cases().into_iter();
    trials.extend(upgrade.map(|(name, case)| run(format!("upgrade::{name}"), case)));
    assert!(!trials.is_empty(), "no cases: this would prove nothing");
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list {
        let ran = conclusion.num_passed + conclusion.num_failed;
        println!(
            "{ran} cases ran with {}, {} held",
            programs::names(),
            conclusion.num_passed
        );
    }
    conclusion.exit_code()
}

fn trial(topic: &str, (name, case): Case) -> Trial {
    run(format!("{topic}::{name}"), case)
}

fn run(name: String, case: impl FnOnce() -> Tried + Send + 'static) -> Trial {
    Trial::test(name, move || {
        let why = match catch_unwind(AssertUnwindSafe(case)) {
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
