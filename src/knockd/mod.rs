//! `knockd`, the daemon: where everything else is put together.
#![forbid(unsafe_code)]

mod alarm;
mod answers;
mod awake;
mod change;
mod cli;
mod commands;
mod cut;
mod daemon;
mod diff;
pub mod direct;
mod drift;
mod follow;
mod force;
mod guard;
mod history;
mod install;
mod lock;
mod logging;
mod memory;
mod merge;
mod neighbours;
mod oneshot;
mod pace;
mod packets;
mod policies;
mod problems;
mod pulse;
#[cfg(test)]
mod random_tests;
mod recall;
mod rehearsal;
mod requests;
mod roster;
mod run;
mod sheets;
mod shelved;
mod start;
mod supervisor;
mod switch;
mod timed;
mod trial;
mod uncommitted;
mod untracked;
mod wants;
mod whitelisting;
mod why;

use std::panic::PanicHookInfo;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use cli::{Cli, Options, Role, Task};
use logging::Log;
use start::StartError;

/// The command line, for manual pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// The program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.task {
        Some(Task::Check { file }) => {
            oneshot::check(&file.unwrap_or_else(|| cli.options.policy_path()))
        }
        Some(Task::Demo) => return crate::demo::run(crate::demo::Options::default()),
        Some(Task::Setup) => privileged(&cli.options.completed(), |options, _| {
            oneshot::setup(options)
        }),
        Some(Task::Teardown) => privileged(&cli.options.completed(), |options, _| {
            oneshot::teardown(options)
        }),
        None => serve(&cli.options.completed()),
    };
    result.unwrap_or_else(|error| {
        // A policy has as many lines as mistakes.
        for line in error.to_string().lines() {
            eprintln!("knockd: {line}");
        }
        ExitCode::from(error.code())
    })
}

fn privileged(
    options: &Options,
    task: impl FnOnce(&Options, &Log) -> Result<ExitCode, StartError>,
) -> Result<ExitCode, StartError> {
    start::check_privileges()?;
    // Modes are given where files are made; what whoever starts us has set must not narrow them.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let log = Log::set_up(options);
    std::panic::set_hook(Box::new(log_panic));
    let result = task(options, &log);
    if let (Some(_), Err(error)) = (options.role, &result) {
        // Nobody sees standard error once the daemon is in the background.
        tracing::error!("{error}");
    }
    result
}

/// Says why in the log: nobody sees standard error once the daemon is in the background.
fn log_panic(panic: &PanicHookInfo<'_>) {
    // The system log takes a line at a time.
    let reason = panic.to_string().replace('\n', " ");
    tracing::error!("a fault in knockd, please report it: {reason}");
}

/// Runs as a daemon: in the foreground, or one of the processes of one in the background.
fn serve(options: &Options) -> Result<ExitCode, StartError> {
    match options.role {
        Some(Role::Supervisor) => privileged(options, supervisor::supervise),
        Some(Role::Worker) => {
            supervisor::follow_supervisor()?;
            privileged(options, run::run)
        }
        None if options.daemon => supervisor::launch(),
        None => privileged(options, |options, log| {
            let mut lock = options.lock()?;
            lock.write_pids(&options.pid_paths())?;
            run::run(options, log)
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};
    use std::panic;
    use std::sync::Mutex;

    #[test]
    fn a_panic_is_logged_on_one_line_with_its_place() {
        let mut file = tempfile::tempfile().unwrap();
        let log = tracing_subscriber::fmt()
            .with_writer(Mutex::new(file.try_clone().unwrap()))
            .finish();
        // Threads of other tests have no subscriber; if they panic meanwhile, that is lost.
        let before = panic::take_hook();
        panic::set_hook(Box::new(super::log_panic));
        let fault = || panic!("three is\nnot {}", 4);
        let thread = std::thread::spawn(move || tracing::subscriber::with_default(log, fault));
        let joined = thread.join();
        panic::set_hook(before);
        assert!(joined.is_err());
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        for part in ["ERROR", "src/knockd/mod.rs:", "three is not 4"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
