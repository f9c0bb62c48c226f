//! `setup`, `teardown` and `check`: what is done once.

use std::path::Path;
use std::process::ExitCode;

use crate::control::{Request, Verb, client};
use crate::firewall::choose;
use crate::model::KnockPort;
use crate::policy::{self, WhitelistSummary, check_report};
use crate::sessions;
use crate::whitelist;

use super::cli::Options;
use super::lock::{Lock, LockError};
use super::start::{self, StartError};

/// Installs the rules with all members that are known, and ends.
pub(super) fn setup(options: &Options) -> Result<ExitCode, StartError> {
    let _lock = match Lock::take(&options.runtime_dir, &options.pid_path()) {
        Err(taken @ LockError::Taken { .. }) => {
            println!("{taken}: there is nothing to set up");
            return Ok(ExitCode::SUCCESS);
        }
        lock => lock?,
    };
    let policy = start::load_policy(&options.policy_path())?;
    let basis = start::install(policy, &options.state_dir)?;
    let gates = basis
        .engine
        .policy()
        .gates
        .iter()
        .map(|gate| gate.name.as_str());
    println!(
        "installed with {}: {}",
        basis.firewall.kind(),
        gates.collect::<Vec<_>>().join(", ")
    );
    Ok(ExitCode::SUCCESS)
}

/// Removes every rule of ours. A running daemon does it, and ends.
pub(super) fn teardown(options: &Options) -> Result<ExitCode, StartError> {
    match Lock::take(&options.runtime_dir, &options.pid_path()) {
        Err(LockError::Taken { .. }) => {
            let socket = options.runtime_dir.join(crate::control::SOCKET_NAME);
            let request = Request::new(Verb::Teardown, [""; 0]);
            match client::ask(&socket, &request) {
                Ok(response) => {
                    response.done.iter().for_each(|line| println!("{line}"));
                    response
                        .refused
                        .iter()
                        .for_each(|line| eprintln!("knockd: {line}"));
                    Ok(ExitCode::from(response.code))
                }
                Err(error) => {
                    eprintln!("knockd: {error}");
                    Ok(ExitCode::FAILURE)
                }
            }
        }
        lock => {
            let _lock = lock?;
            choose::teardown()?;
            println!("every rule of ours is removed");
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Says in words what a policy does.
pub(super) fn check(file: &Path) -> Result<ExitCode, StartError> {
    let checked = policy::load(file)?;
    let summary = checked.policy.trusted.as_deref().and_then(summary);
    let listening = listening(&checked.policy);
    let report = check_report(
        &checked.policy,
        &checked.warnings,
        summary.as_ref(),
        &listening,
    );
    print!("{report}");
    Ok(ExitCode::SUCCESS)
}

fn summary(file: &Path) -> Option<WhitelistSummary> {
    let parsed = match whitelist::load(file) {
        Ok(parsed) => parsed,
        Err(error) => {
            eprintln!("knockd: {error}");
            return None;
        }
    };
    for line in &parsed.bad {
        eprintln!("knockd: {}: {line}", file.display());
    }
    let counts = parsed.counts();
    Some(WhitelistSummary {
        file: file.to_owned(),
        addresses: counts.addresses,
        networks: counts.networks,
        names: counts.names,
        bad_lines: parsed.bad.len() + parsed.more_bad,
    })
}

/// The knock ports that something listens on here.
fn listening(policy: &policy::Policy) -> Vec<KnockPort> {
    let open = sessions::listening_ports().unwrap_or_default();
    let mut knocked: Vec<KnockPort> = policy
        .knocks
        .iter()
        .flat_map(|knock| knock.sequence.iter().copied())
        .collect();
    knocked.sort_unstable();
    knocked.dedup();
    knocked.retain(|port| open.contains(port));
    knocked
}
