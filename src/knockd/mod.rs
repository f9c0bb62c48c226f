//! `knockd`, the daemon: where everything else is put together.
#![forbid(unsafe_code)]

mod alarm;
mod answers;
mod cli;
mod daemon;
mod force;
mod lock;
mod logging;
mod memory;
mod neighbours;
mod oneshot;
mod problems;
mod pulse;
mod requests;
mod roster;
mod run;
mod start;
mod supervisor;
mod wants;
mod whitelisting;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Options, Role, Task};
use lock::Lock;
use logging::Log;
use start::StartError;

/// The program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.task {
        Some(Task::Check { file }) => {
            oneshot::check(&file.unwrap_or_else(|| cli.options.policy_path()))
        }
        Some(Task::Demo) => return crate::demo::run(crate::demo::Options::default()),
        Some(Task::Setup) => privileged(&cli.options, |options, _| oneshot::setup(options)),
        Some(Task::Teardown) => privileged(&cli.options, |options, _| oneshot::teardown(options)),
        None => serve(&cli.options),
    };
    result.unwrap_or_else(|error| {
        eprintln!("knockd: {error}");
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
    let log = Log::set_up(options)?;
    let result = task(options, &log);
    if let (Some(_), Err(error)) = (options.role, &result) {
        // Nobody sees standard error once the daemon is in the background.
        tracing::error!("{error}");
    }
    result
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
            let mut lock = Lock::take(&options.runtime_dir, &options.pid_path())?;
            lock.write_pid(&options.pid_path())?;
            run::run(options, log)
        }),
    }
}
