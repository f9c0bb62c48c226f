//! `setup`, `teardown` and `check`: what is done once.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tracing::warn;

use crate::control::client::{self, ClientError};
use crate::control::{Request, Verb};
use crate::engine::{Record, What, Who};
use crate::firewall::choose;
use crate::model::KnockPort;
use crate::policy::{self, WhitelistSummary, check_report};
use crate::sessions;
use crate::sheets;
use crate::store::{FILE_NAME, Readers, Store, StoreError};
use crate::totp::Secrets;
use crate::whitelist;

use super::cli::Options;
use super::direct::who;
use super::install::install;
use super::lock::LockError;
use super::memory::{clocks, happened};
use super::start::{self, StartError};

/// The longest that a supervisor lets pass between two workers, and a little more.
const PATIENCE: Duration = Duration::from_secs(40);

/// Installs the rules with all members that are known, and ends.
pub(super) fn setup(options: &Options) -> Result<ExitCode, StartError> {
    let _lock = match options.lock() {
        Err(running) if running.is_running() => {
            return Ok(say(&format!("{running}: there is nothing to set up\n")));
        }
        lock => lock?,
    };
    let (policies, policy) = start::load_policy(options)?;
    if let Some(problem) = &policies.problem {
        warn!("{problem}");
    }
    let basis = install(
        policy,
        &options.state_dir,
        Readers::AsBefore,
        "knockd setup",
    )?;
    drop(start::record_reverted(&basis.memory, &policies));
    if let Err(error) = policies.keep() {
        warn!("{error}");
    }
    let gates = basis
        .engine
        .policy()
        .gates
        .iter()
        .map(|gate| gate.name.as_str());
    let gates = gates.collect::<Vec<_>>().join(", ");
    // Waits until all of it is written.
    drop(basis.memory);
    policies.trial_is_recorded();
    if gates.is_empty() {
        let removed = basis.removed.map(|removed| format!("; {removed}"));
        return Ok(say(&format!(
            "nothing to install: the policy has no gates{}\n",
            removed.unwrap_or_default()
        )));
    }
    Ok(say(&format!(
        "installed with {}: {gates}\n",
        basis.firewall.kind()
    )))
}

/// Writes to standard output. Whoever closed it has seen enough.
fn say(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("knockd: cannot write to standard output: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Removes every rule of ours. A running daemon does it, and has ended when this returns.
pub(super) fn teardown(options: &Options) -> Result<ExitCode, StartError> {
    let socket = options.runtime_dir.join(crate::control::SOCKET_NAME);
    let request = Request::new(Verb::Teardown, [""; 0]);
    let until = Instant::now() + PATIENCE;
    let mut asked = false;
    loop {
        match options.lock_what_is_there() {
            Err(LockError::Taken { .. } | LockError::Busy { .. }) if Instant::now() < until => {}
            lock => {
                // Also where a daemon has done it: it may have died before it was through.
                let _lock = lock?;
                choose::teardown()?;
                let done = "every rule of ours is removed";
                if !asked && let Err(error) = record_teardown(&options.state_dir, done) {
                    warn!("{error}; the history lacks that {done}");
                }
                return Ok(say(&format!("{done}\n")));
            }
        }
        if !asked {
            match client::ask(&socket, &request) {
                Ok(response) if response.code == 0 => asked = true,
                Ok(response) => {
                    for line in &response.refused {
                        eprintln!("knockd: {line}");
                    }
                    return Ok(ExitCode::from(response.code));
                }
                // Between the death of a worker and the start of the next one nobody answers.
                Err(ClientError::NotRunning(_) | ClientError::Gone(_)) => {}
                Err(error) => {
                    eprintln!("knockd: {error}");
                    return Ok(ExitCode::FAILURE);
                }
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Takes down in the history that the rules are removed. Where there is no store, none is made.
fn record_teardown(state_dir: &Path, done: &str) -> Result<(), StoreError> {
    if !state_dir.join(FILE_NAME).exists() {
        return Ok(());
    }
    let Who(who) = who("knockd teardown");
    let record = Record::new(What::Removed, &who).saying(done).by_hand();
    let mut store = Store::open(state_dir, Readers::AsBefore)?;
    store.record(&[happened(record, &clocks(""))])
}

/// Says in words what a policy does.
pub(super) fn check(file: &Path) -> Result<ExitCode, StartError> {
    let checked = policy::load(file)?;
    let summary = checked.policy.trusted.as_deref().and_then(summary);
    changing(&checked.policy);
    let listening = listening(&checked.policy);
    let report = check_report(
        &checked.policy,
        &checked.warnings,
        summary.as_ref(),
        &listening,
    );
    Ok(say(&report))
}

/// Says which secrets and sheets would keep their doors shut.
fn changing(policy: &policy::Policy) {
    let mut secrets = Secrets::default();
    for knock in &policy.knocks {
        let name = &knock.name;
        if let Some(Err(error)) = knock.time_based().map(|it| secrets.read(&it.file)) {
            eprintln!("knockd: warning: {name}: {error}: the door stays shut");
        }
        let Some(file) = knock.one_time() else {
            continue;
        };
        match sheets::open(file) {
            Err(error) => eprintln!("knockd: warning: {name}: {error}: the door stays shut"),
            Ok(sheet) => {
                for bad in &sheet.bad {
                    eprintln!("knockd: {}:{bad}", file.display());
                }
                if sheet.lines.is_empty() {
                    let file = file.display();
                    eprintln!("knockd: warning: {name}: no sequence is left in {file}");
                }
            }
        }
    }
}

fn summary(file: &Path) -> Option<WhitelistSummary> {
    let parsed = match whitelist::load(file) {
        Ok(parsed) => parsed,
        Err(error) => {
            eprintln!("knockd: warning: {error}");
            return None;
        }
    };
    for line in &parsed.bad {
        eprintln!("knockd: {}: {line}", file.display());
    }
    for doubt in parsed.doubts(file) {
        eprintln!("knockd: warning: {doubt}");
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
