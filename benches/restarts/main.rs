//! `cargo bench --bench restarts`: the daemon is restarted fifty times, half of them by `kill -9`,
//! while a stranger and a whitelisted machine keep trying to connect. The stranger must never get
//! in, the whitelisted machine must never be refused. And a machine that was booted has 100,000 bans
//! back within a second, each time; with `-- reboot` only that. Exits with 1 where one is missed.
#![cfg(target_os = "linux")]

mod reboot;
mod site;
mod stream;
#[path = "../shared/write.rs"]
mod write;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use comfy_table::{Table, presets};
use portcullis::lab::{Entered, Program, Programs, enter};

use site::{End, Site};
use stream::Count;

/// Of each kind.
const RESTARTS: usize = 25;
/// Of a stranger and of a whitelisted machine, over both families.
const LEAST: usize = 200;

/// The second where iptables is installed.
const BACKENDS: [&str; 2] = ["nftables", "iptables"];

fn main() -> ExitCode {
    match enter() {
        Ok(Entered::Inside) => {}
        Ok(Entered::Done(code)) => return code.into(),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    let programs = Programs {
        knockd: Program::at(env!("CARGO_BIN_EXE_knockd")),
        knockctl: None,
    };
    let only_reboots = std::env::args().skip(1).any(|word| word == "reboot");
    let mut all_met = only_reboots || restarts(&programs);
    match reboot::table(&programs, &BACKENDS) {
        Ok((table, met)) => {
            println!("{table}");
            all_met &= met;
            all_met &= write::write_if_asked("reboots", &table.to_string());
        }
        Err(error) => {
            eprintln!("reboot: {error}");
            all_met = false;
        }
    }
    if all_met {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Whether none of them let a stranger in or refused a whitelisted machine.
fn restarts(programs: &Programs) -> bool {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "backend",
        "end",
        "restarts",
        "until it answers (median, max)",
        "stranger: tries",
        "let in",
        "whitelisted: tries",
        "refused",
        "verdict",
    ]);
    let mut all_met = true;
    for backend in BACKENDS {
        for end in End::BOTH {
            match row(programs, backend, end) {
                Ok((cells, met)) => {
                    table.add_row(cells);
                    all_met &= met;
                }
                Err(error) => {
                    eprintln!("{backend}, {}: {error}", end.name());
                    all_met = false;
                }
            }
        }
    }
    println!("{table}");
    write::write_if_asked("restarts", &table.to_string()) && all_met
}

fn row(
    programs: &Programs,
    backend: &str,
    end: End,
) -> Result<(Vec<String>, bool), Box<dyn Error>> {
    let mut site = Site::new(programs, backend)?;
    site.begin()?;
    let mut took = (0..RESTARTS)
        .map(|_| site.restart(end))
        .collect::<Result<Vec<Duration>, _>>()?;
    let [stranger, trusted] = site.finish()?;
    took.sort();
    let refused = trusted.attempts() - trusted.open;
    let enough = |count: Count| count.attempts() >= LEAST;
    let met = stranger.open == 0 && refused == 0 && enough(stranger) && enough(trusted);
    let cells = vec![
        backend.to_owned(),
        end.name().to_owned(),
        RESTARTS.to_string(),
        format!("{:.1?}, {:.1?}", took[RESTARTS / 2], took[RESTARTS - 1]),
        stranger.attempts().to_string(),
        stranger.open.to_string(),
        trusted.attempts().to_string(),
        refused.to_string(),
        if met { "met" } else { "MISSED" }.to_owned(),
    ];
    Ok((cells, met))
}
