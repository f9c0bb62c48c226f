//! `knockd demo`: the whole story in half a minute, with real connections, in network namespaces
//! of its own. Needs nothing but the kernel, and touches nothing of the machine.
#![forbid(unsafe_code)]

mod kernel;
mod paint;
mod service;
mod stage;
mod steps;

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::time::Instant;

use crate::control::client::ClientError;
use crate::lab::{Entered, LabError, enter};
use paint::Paint;
use stage::{ACCEPT_TIME, CAST, Stage};
use steps::STEPS;

/// How the story is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Show the daemon's log at the end, also when all went well.
    pub verbose: bool,
}

/// Why a step does not hold.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    /// The stage itself failed.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The daemon does not answer.
    #[error(transparent)]
    Control(#[from] ClientError),
    /// Something is not as the story has it.
    #[error("{0}")]
    NotSo(String),
    /// A session that should have gone on did not.
    #[error("the session did not answer: {0}")]
    Session(#[from] std::io::Error),
}

/// The shipped policy could not be shortened: it has changed, and the demo must follow.
const UNKNOWN_POLICY: &str = "the shipped policy has no `accept_timeout: 300s` to shorten";

/// Tells the story. Call it before the process has threads: it starts itself anew in namespaces.
/// 0 if every step held, 1 otherwise.
pub fn run(options: Options) -> ExitCode {
    match enter() {
        Ok(Entered::Inside) => {}
        Ok(Entered::Done(code)) => return code.into(),
        Err(error) => {
            eprintln!("knockd demo: {error}");
            return ExitCode::FAILURE;
        }
    }
    let paint = Paint::for_stdout();
    match Stage::set() {
        Ok(mut stage) => ended(tell_all(&mut stage, paint, options, &mut io::stdout())),
        Err(error) => {
            eprintln!(
                "knockd demo: {}: {error}",
                paint.bad("cannot set the stage")
            );
            ExitCode::FAILURE
        }
    }
}

/// Whether every step held, or why it could not be told. Whoever closed the pipe has seen enough.
fn ended(told: io::Result<bool>) -> ExitCode {
    match told {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("knockd demo: cannot write to standard output: {error}");
            ExitCode::FAILURE
        }
    }
}

fn tell_all(
    stage: &mut Stage,
    paint: Paint,
    options: Options,
    out: &mut impl Write,
) -> io::Result<bool> {
    let held = tell(stage, paint, out)?;
    if options.verbose && held {
        writeln!(out, "\nThe daemon's log:\n{}", stage.daemon.log())?;
    }
    out.flush()?;
    Ok(held)
}

fn tell(stage: &mut Stage, paint: Paint, out: &mut impl Write) -> io::Result<bool> {
    let started = Instant::now();
    writeln!(
        out,
        "{}\n\nA server and its clients, in network namespaces of their own.\n",
        paint.strong("portcullis, from a packet on the wire to knockctl")
    )?;
    for (name, addresses, what) in CAST {
        writeln!(out, "  {name:<10}{addresses:<27}{what}")?;
    }
    writeln!(
        out,
        "\nBehind the gate: {}. The shipped policy, with acceptances of {} instead of 5m.\n",
        stage.service.what(),
        humanly(ACCEPT_TIME)
    )?;
    for (number, step) in (1..).zip(STEPS) {
        let at = format!("{:7.3} s", started.elapsed().as_secs_f64());
        writeln!(
            out,
            "{} {}",
            paint.faint(&at),
            paint.strong(&format!("{number}. {}", step.title))
        )?;
        let told = (step.check)(stage).and_then(|lines| {
            let silent = stage.silent_so_far()?;
            Ok((lines, silent))
        });
        match told {
            Ok((lines, silent)) => {
                for line in lines {
                    writeln!(out, "            {} {line}", paint.good("✓"))?;
                }
                writeln!(out, "            {} {silent}", paint.good("✓"))?;
                show_kernel(stage, paint, out)?;
            }
            Err(error) => {
                writeln!(out, "            {} {error}", paint.bad("✗"))?;
                show_kernel(stage, paint, out)?;
                writeln!(
                    out,
                    "\nThis step does not hold: {}\n{error}",
                    paint.bad(step.title)
                )?;
                writeln!(
                    out,
                    "\nThe end of the daemon's log:\n{}",
                    stage.daemon.log_tail(30)
                )?;
                return Ok(false);
            }
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let all = format!("All {} steps hold", STEPS.len());
    writeln!(out, "{}, in {seconds:.1} s.", paint.good(&all))?;
    Ok(true)
}

fn show_kernel(stage: &Stage, paint: Paint, out: &mut impl Write) -> io::Result<()> {
    match kernel::chains(stage) {
        Ok(lines) => {
            for line in lines {
                writeln!(out, "            {}", paint.faint(&line))?;
            }
        }
        Err(error) => writeln!(out, "            {}", paint.bad(&error.to_string()))?,
    }
    writeln!(out)
}

fn humanly(span: std::time::Duration) -> String {
    crate::model::Lifetime::For(span).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_has_seen_enough_is_no_failure_and_a_full_disk_is_one() {
        // `ExitCode` cannot be compared.
        let code = |told| format!("{:?}", ended(told));
        let (success, failure) = (ExitCode::SUCCESS, ExitCode::FAILURE);
        for (told, wanted) in [
            (Ok(true), success),
            (Ok(false), failure),
            (Err(ErrorKind::BrokenPipe.into()), success),
            (Err(ErrorKind::StorageFull.into()), failure),
        ] {
            assert_eq!(code(told), format!("{wanted:?}"));
        }
    }
}
