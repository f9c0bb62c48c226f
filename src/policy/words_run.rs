//! What commands a knock runs, in words.

use crate::model::Lifetime;

use super::problem::quote;
use super::{CommandLine, PerFamily, Run};

/// "runs `door open %IP%`, and `door shut %IP%` 10s later".
pub(super) fn runs(run: &Run, lifetime: Option<Lifetime>) -> String {
    let start = commands(&run.start);
    match lifetime {
        Some(lifetime) if !run.stop.is_empty() => {
            format!("runs {start}, and {} {lifetime} later", commands(&run.stop))
        }
        _ => format!("runs {start}"),
    }
}

fn commands(commands: &PerFamily) -> String {
    let told = |command: &Option<CommandLine>| match command {
        Some(command) => quote(&command.to_string()),
        None => String::from("nothing"),
    };
    if commands.v4 == commands.v6 {
        told(&commands.v4)
    } else {
        format!("{} (IPv6: {})", told(&commands.v4), told(&commands.v6))
    }
}
