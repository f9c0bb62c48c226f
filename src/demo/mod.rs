//! `knockd demo`: the whole story in half a minute, with real connections, in network namespaces
//! of its own. Needs nothing but the kernel, and touches nothing of the machine.
#![forbid(unsafe_code)]

mod kernel;
mod paint;
mod service;
mod stage;
mod steps;

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
        Ok(mut stage) => {
            let held = tell(&mut stage, paint);
            if options.verbose && held {
                println!("\nThe daemon's log:\n{}", stage.daemon.log());
            }
            if held {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!(
                "knockd demo: {}: {error}",
                paint.bad("cannot set the stage")
            );
            ExitCode::FAILURE
        }
    }
}

fn tell(stage: &mut Stage, paint: Paint) -> bool {
    let started = Instant::now();
    println!(
        "{}\n\nA server and its clients, in network namespaces of their own.\n",
        paint.strong("portcullis, from a packet on the wire to knockctl")
    );
    for (name, addresses, what) in CAST {
        println!("  {name:<10}{addresses:<27}{what}");
    }
    println!(
        "\nBehind the gate: {}. The shipped policy, with acceptances of {} instead of 5m.\n",
        stage.service.what(),
        humanly(ACCEPT_TIME)
    );
    for (number, step) in (1..).zip(STEPS) {
        let at = format!("{:7.3} s", started.elapsed().as_secs_f64());
        println!(
            "{} {}",
            paint.faint(&at),
            paint.strong(&format!("{number}. {}", step.title))
        );
        let told = (step.check)(stage).and_then(|lines| {
            let silent = stage.silent_so_far()?;
            Ok((lines, silent))
        });
        match told {
            Ok((lines, silent)) => {
                for line in lines {
                    println!("            {} {line}", paint.good("✓"));
                }
                println!("            {} {silent}", paint.good("✓"));
                show_kernel(stage, paint);
            }
            Err(error) => {
                println!("            {} {error}", paint.bad("✗"));
                show_kernel(stage, paint);
                println!(
                    "\nThis step does not hold: {}\n{error}",
                    paint.bad(step.title)
                );
                println!(
                    "\nThe end of the daemon's log:\n{}",
                    stage.daemon.log_tail(30)
                );
                return false;
            }
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let all = format!("All {} steps hold", STEPS.len());
    println!("{}, in {seconds:.1} s.", paint.good(&all));
    true
}

fn show_kernel(stage: &Stage, paint: Paint) {
    match kernel::chains(stage) {
        Ok(lines) => {
            for line in lines {
                println!("            {}", paint.faint(&line));
            }
        }
        Err(error) => println!("            {}", paint.bad(&error.to_string())),
    }
    println!();
}

fn humanly(span: std::time::Duration) -> String {
    crate::model::Lifetime::For(span).to_string()
}
