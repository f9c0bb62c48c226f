//! `knockctl sequences`: sheets of one-time sequences, and secrets of time-based ones.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::ops::RangeInclusive;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::output::{print, say};
use crate::policy::browsers_block;
use crate::sheets::{Make, MakeError, make};
use crate::totp::Secret;

/// Sheets of one-time sequences, secrets of time-based ones.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, clap::Subcommand)]
enum Task {
    /// Make a sheet of random sequences; give a copy to whoever is to knock
    New {
        /// How many sequences, 1 to 10000
        #[arg(value_name = "N")]
        count: usize,
        /// How many ports in each, 3 to 32
        #[arg(long, value_name = "L", default_value_t = 4)]
        length: usize,
        /// Which TCP ports; those that browsers block are left out
        #[arg(long, value_name = "A-B", default_value = "10000-32767", value_parser = ports)]
        ports: RangeInclusive<u16>,
        /// Write the sheet here, where nothing may be yet (default: standard output)
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Make a secret for time-based sequences; server and clients have a copy each
    Secret {
        /// Write it here, where nothing may be yet (default: standard output)
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

fn ports(text: &str) -> Result<RangeInclusive<u16>, &'static str> {
    let number = |text: &str| text.trim().parse().ok().filter(|port| *port > 0);
    let range = text.split_once('-').and_then(|(first, last)| {
        let range = number(first)?..=number(last)?;
        (!range.is_empty()).then_some(range)
    });
    range.ok_or("expected a range of ports, such as 20000-30000")
}

/// Why there is no sheet.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Make(#[from] MakeError),
    #[error("{} is there already: remove it, or name another file with --out", .0.display())]
    Exists(PathBuf),
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// Makes a sheet; returns the exit code.
pub(super) fn run(arguments: &Arguments) -> u8 {
    let Err(failure) = try_run(arguments) else {
        return 0;
    };
    say(&failure.to_string());
    match failure {
        Failure::Write { .. } | Failure::Make(MakeError::Random(_)) => 1,
        _ => 2,
    }
}

fn try_run(arguments: &Arguments) -> Result<(), Failure> {
    let (text, out) = match &arguments.task {
        Task::New {
            count,
            length,
            ports,
            out,
        } => {
            let sheet = make(&Make {
                count: *count,
                length: *length,
                ports: ports.clone(),
                without: browsers_block,
            })?;
            (sheet, out)
        }
        Task::Secret { out } => (new_secret()?, out),
    };
    match out {
        Some(path) => write_new(path, &text),
        None => print(&text).map_err(|source| Failure::Write {
            path: "standard output".into(),
            source,
        }),
    }
}

/// As many bits as the HMAC has (RFC 2104, section 3).
fn new_secret() -> Result<String, MakeError> {
    let mut bytes = vec![0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let secret = Secret::new(bytes).map_err(io::Error::other)?;
    Ok(format!(
        "# A secret of time-based knocks: whoever has it can knock.\n{}\n",
        secret.written()
    ))
}

/// Never over a file that is there: its lines may be in use. Nobody else may read it.
fn write_new(path: &Path, sheet: &str) -> Result<(), Failure> {
    let failed = |source: io::Error| match source.kind() {
        ErrorKind::AlreadyExists => Failure::Exists(path.to_owned()),
        _ => Failure::Write {
            path: path.to_owned(),
            source,
        },
    };
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(path).map_err(failed)?;
    let written = file
        .write_all(sheet.as_bytes())
        .and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a sheet is worse than none.
        let _ = std::fs::remove_file(path);
    }
    written.map_err(failed)
}
