//! The client: knocks on ports, over every address that a host has, and connects if asked to.
//!
//! Knows nothing of the rest but how a port is written; it also builds where the daemon does not.
#![forbid(unsafe_code)]

mod args;
mod connect;
mod error;
mod join;
mod knocking;
mod profiles;
mod send;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Arguments, Plan, Task};
use connect::Reached;
use error::{KnockError, times};
use profiles::Profiles;

/// The command line, for manual pages and completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// The program `knock`.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to be told if that fails.
            let _ = writeln!(io::stderr(), "knock: {error}");
            ExitCode::from(error.code())
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), KnockError> {
    let plan = arguments.plan(&Profiles::load()?)?;
    let addresses = knocking::addresses(&plan.host, plan.families)?;
    match plan.task {
        Task::Knock => knock(&plan, &addresses).map(drop),
        Task::Check(port) => {
            let (_, to, tries) = open(&plan, &addresses, port)?;
            let times = times(tries);
            // As above.
            let _ = writeln!(io::stdout(), "{to} is open, after knocking {times}");
            Ok(())
        }
        Task::Proxy(port) => {
            let (stream, ..) = open(&plan, &addresses, port)?;
            join::join(&stream, io::stdin(), io::stdout(), close_stdout)
        }
    }
}

/// Knocks; the addresses that could be knocked on.
fn knock(plan: &Plan, addresses: &[SocketAddr]) -> Result<Vec<SocketAddr>, KnockError> {
    // What a proxy writes to standard output is the other side's.
    let mut out: Box<dyn Write> = match plan.task {
        Task::Proxy(_) => Box::new(io::stderr()),
        _ => Box::new(io::stdout()),
    };
    let say: Option<&mut dyn Write> = if plan.verbose { Some(&mut out) } else { None };
    knocking::knock_all(addresses, &plan.knocks, plan.delay, say)
}

/// Knocks and connects, again and again; the connection, where to, and how often it was knocked.
fn open(
    plan: &Plan,
    addresses: &[SocketAddr],
    port: u16,
) -> Result<(TcpStream, SocketAddr, u32), KnockError> {
    let mut refused = false;
    for tries in 1..=plan.tries {
        let reachable = knock(plan, addresses)?;
        match connect::reach(&reachable, port, plan.wait) {
            Reached::Open(stream, to) => return Ok((stream, to, tries)),
            Reached::Unreachable(target, source) => {
                return Err(KnockError::Connect { target, source });
            }
            Reached::Refused => refused = true,
            Reached::Silent => refused = false,
        }
    }
    let host = plan.host.clone();
    Err(if refused {
        KnockError::Refused { host, port }
    } else {
        KnockError::Silent {
            host,
            port,
            tries: plan.tries,
            wait: plan.wait,
        }
    })
}

/// Lets whoever reads standard output know that nothing more comes; false where that cannot be
/// done, and ending says it.
#[cfg(unix)]
fn close_stdout() -> bool {
    let nothing = std::fs::OpenOptions::new().write(true).open("/dev/null");
    nothing.is_ok_and(|nothing| nix::unistd::dup2_stdout(nothing).is_ok())
}

#[cfg(not(unix))]
fn close_stdout() -> bool {
    false
}
