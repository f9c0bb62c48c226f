//! Beside the firewalls of others, with the real programs: whoever knocks gets in, or `knockctl
//! status` says that they do not and what is in the way. Needs Debian's packages ufw, fail2ban,
//! iptables and nftables, and root, since ufw insists on it; all of it happens in namespaces.
#![cfg(target_os = "linux")]

mod fail2ban;
mod gateway;
mod tables;
mod tools;
mod ufw;
#[allow(
    dead_code,
    reason = "shared with the gate's scenarios, which use all of it"
)]
#[path = "../gate/world.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use portcullis::lab::{Entered, enter};

use world::{Tried, last_log};

/// Which of our backends holds the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ours {
    Nftables,
    Iptables,
}

impl Ours {
    const ALL: [Ours; 2] = [Ours::Nftables, Ours::Iptables];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Ours::Nftables => "nftables",
            Ours::Iptables => "iptables",
        }
    }

    /// The policy with this backend.
    pub(crate) fn policy(self, policy: &str) -> String {
        format!("firewall: {{ backend: {} }}\n{policy}", self.name())
    }
}

/// A scenario with its name, which is the sentence that it checks.
type Scenario = (&'static str, fn(Ours) -> Tried);

/// Makes a list of scenarios from functions.
macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        pub(crate) const SCENARIOS: &[crate::Scenario] = &[$((stringify!($name), $name)),*];
    };
}
pub(crate) use scenarios;

/// Program and package.
const NEEDED: [(&str, &str); 6] = [
    ("/usr/sbin/ufw", "ufw"),
    ("/usr/bin/fail2ban-server", "fail2ban"),
    ("/usr/bin/fail2ban-client", "fail2ban"),
    ("/usr/sbin/iptables-restore", "iptables"),
    ("/usr/sbin/ip6tables-restore", "iptables"),
    ("/usr/sbin/nft", "nftables"),
];

fn main() -> ExitCode {
    match enter() {
        Ok(Entered::Inside) => {}
        Ok(Entered::Done(code)) => return code.into(),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    let mut complete = true;
    for (program, package) in NEEDED {
        if !Path::new(program).exists() {
            eprintln!("{program} is missing: apt-get install {package}");
            complete = false;
        }
    }
    if !complete {
        return ExitCode::FAILURE;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(4);
    let topics = [
        ("ufw", ufw::SCENARIOS),
        ("tables", tables::SCENARIOS),
        ("fail2ban", fail2ban::SCENARIOS),
        ("gateway", gateway::SCENARIOS),
    ];
    let mut trials = Vec::new();
    for ours in Ours::ALL {
        for (topic, scenarios) in topics {
            let trial = |&it: &Scenario| trial(topic, ours, it);
            trials.extend(scenarios.iter().map(trial));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list {
        let ran = conclusion.num_passed + conclusion.num_failed;
        println!("{ran} scenarios ran, {} held", conclusion.num_passed);
    }
    conclusion.exit_code()
}

fn trial(topic: &str, ours: Ours, (name, scenario): Scenario) -> Trial {
    Trial::test(format!("{}::{topic}::{name}", ours.name()), move || {
        let why = match catch_unwind(AssertUnwindSafe(|| scenario(ours))) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic
                .downcast_ref::<String>()
                .map_or_else(|| "it panicked".to_owned(), Clone::clone),
        };
        let log = last_log();
        Err(Failed::from(format!("{why}\n--- the daemon's log:\n{log}")))
    })
}
