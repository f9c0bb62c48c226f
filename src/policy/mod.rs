//! The policy: what the file says, checked. Knows no sockets and no clocks.
//!
//! The file is read as a tree whose nodes know their places ([`parse`]), so that everything that
//! is wrong with it is reported at once. `load` is the only IO.
#![forbid(unsafe_code)]

mod bans;
mod border;
mod changing;
mod classic;
mod command;
mod conflicts;
mod diff;
mod emit;
mod file;
mod flags;
mod gates;
mod history;
mod knocks;
mod load;
mod neutral;
mod node;
mod problem;
mod reader;
mod risks;
mod run;
mod sequences;
mod settings;
mod syntax;
mod types;
mod words;
mod words_run;

pub use classic::is_classic;
pub use command::{ADDRESS_TOKEN, CommandLine, PerFamily, Run, SplitError};
pub use conflicts::browsers_block;
pub use diff::{Difference, diff};
pub use emit::{Notes, emit};
pub use file::{Checked, MOST_BYTES, parse, parse_to_import};
pub use load::{LoadError, load, read, text_of, usual_path, usual_path_after};
pub use problem::{PolicyErrors, Problem, printable};
pub use types::{
    BackendChoice, BanRule, Changing, Firewall, Gate, GateAddress, History, Hook, Interfaces,
    Knock, KnockAction, LogSettings, LogStyle, OnStop, Policy, ScanAction, ScanGuard, TcpFlags,
    TimeBased, Verdict, unlabelled,
};
pub use words::{WhitelistSummary, check_report, describe};

#[cfg(test)]
mod bans_tests;
#[cfg(test)]
mod changing_tests;
#[cfg(test)]
mod conflicts_tests;
#[cfg(test)]
mod emit_tests;
#[cfg(test)]
mod file_tests;
#[cfg(test)]
mod limits_tests;
#[cfg(test)]
mod malformed_tests;
#[cfg(test)]
mod run_tests;
#[cfg(test)]
mod tests;
