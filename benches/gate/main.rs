//! The figures that the design promises, measured from outside with the programs as released:
//! `cargo bench --bench gate -- [--list] [--markdown] [--strict] [--brief]
//! [--write FILE] [ROW…]`.
//!
//! What of ours is compared is measured by turns: what drifts, drifts for both. The others' daemons
//! come right after. Everything happens in network namespaces of its own, as root or wherever ordinary
//! users may make them. Exit code 1 if a row could not be measured, with `--strict` also if a target
//! was missed or a program to compare with is not installed; 2 for a row that does not exist. `--brief`
//! is to see that it all works: few samples, and no figures to go by.
#![forbid(unsafe_code)]
#![cfg(target_os = "linux")]

mod decide;
mod flood;
mod idle;
mod matcher;
mod open;
mod peers;
mod race;
mod report;
mod sizes;
mod start;
mod startup;
mod syn;
mod world;
#[path = "../shared/write.rs"]
mod write;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use portcullis::lab::{Entered, enter};

use report::{Measured, Verdict, complaints, machine, table};

struct Row {
    name: &'static str,
    what: &'static str,
    measure: fn() -> Measured,
}

const ROWS: [Row; 8] = [
    Row {
        name: "open",
        what: "from the last knock to the first SYN that is answered",
        measure: open::measure,
    },
    Row {
        name: "busy",
        what: "the same while every CPU is wanted by another process",
        measure: open::measure_busy,
    },
    Row {
        name: "flood",
        what: "knocks under floods of forged ones, and what these cost",
        measure: flood::measure,
    },
    Row {
        name: "start",
        what: "start and restart, also with 100,000 addresses in a chain",
        measure: start::measure,
    },
    Row {
        name: "decide",
        what: "SYN to SYN-ACK of a whitelisted client among few and among 100,000",
        measure: decide::measure,
    },
    Row {
        name: "sizes",
        what: "decision and load time with 0 to 1,000,000 in each chain",
        measure: sizes::measure,
    },
    Row {
        name: "matcher",
        what: "what a packet of a source without an attempt costs, in the core alone",
        measure: matcher::measure,
    },
    Row {
        name: "idle",
        what: "wake-ups, memory and size with the shipped policy",
        measure: idle::measure,
    },
];

/// Whether a few samples are enough.
static BRIEF: AtomicBool = AtomicBool::new(false);

/// So many, or as few as show that it works.
pub(crate) fn so_many<T>(usual: T, brief: T) -> T {
    if BRIEF.load(Ordering::Relaxed) {
        brief
    } else {
        usual
    }
}

#[derive(Default)]
struct Options {
    list: bool,
    markdown: bool,
    strict: bool,
    rows: Vec<&'static Row>,
}

fn options() -> Result<Options, String> {
    let mut options = Options::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // Cargo's own way of saying that this is not a test.
            "--bench" => {}
            "--list" => options.list = true,
            "--markdown" => options.markdown = true,
            "--strict" => options.strict = true,
            "--brief" => BRIEF.store(true, Ordering::Relaxed),
            "--write" => drop(arguments.next().ok_or("--write needs a file")?),
            name => {
                let row = ROWS.iter().find(|row| row.name == name).ok_or_else(|| {
                    let names = ROWS.map(|row| row.name).join(", ");
                    format!("no row `{name}`; there are {names}")
                })?;
                options.rows.push(row);
            }
        }
    }
    if options.rows.is_empty() {
        options.rows = ROWS.iter().collect();
    }
    Ok(options)
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    if options.list {
        for row in &ROWS {
            println!("{:<8}{}", row.name, row.what);
        }
        return ExitCode::SUCCESS;
    }
    match enter() {
        Ok(Entered::Inside) => {}
        Ok(Entered::Done(code)) => return code.into(),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    run(&options)
}

fn run(options: &Options) -> ExitCode {
    let machine = machine();
    let measured: Vec<(&str, Measured)> = options
        .rows
        .iter()
        .map(|row| {
            eprintln!("{}: {} …", row.name, row.what);
            (row.name, (row.measure)())
        })
        .collect();
    let table = table(&measured);
    let brief = if BRIEF.load(Ordering::Relaxed) {
        "With --brief there are few samples: neither figures nor verdicts are to go by.\n\n"
    } else {
        ""
    };
    let version = env!("CARGO_PKG_VERSION");
    let markdown = format!("Measured with portcullis {version} on:\n{machine}.\n\n{brief}{table}");
    if options.markdown {
        print!("{markdown}");
    } else {
        print!("\n{machine}\n\n{brief}{table}");
    }
    if !write::write_if_asked("measured", &markdown) {
        return ExitCode::FAILURE;
    }
    let complaints = complaints(&measured);
    for complaint in &complaints {
        eprintln!("{complaint}");
    }
    if options.strict && !complaints.is_empty() {
        eprintln!("on this machine: {machine}; other work makes tails long, so that is part of it");
        return ExitCode::FAILURE;
    }
    let lines = measured.iter().filter_map(|(_, row)| row.as_ref().ok());
    let mut verdicts = lines.flatten().map(|line| line.verdict);
    if verdicts.any(|it| it == Verdict::Failed) || measured.iter().any(|(_, row)| row.is_err()) {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
