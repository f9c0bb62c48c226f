//! `knockctl import`: a peer's configuration as a policy.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::output::{print, say};
use crate::import::{self, ImportError, Imported};
use crate::policy::{self, LoadError};

/// Turn a knockd.conf into a policy; says on standard error what is not as it was.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The file to read
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Write the policy here, where nothing may be yet (default: standard output)
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot import {}: there is no such file", .0.display())]
    Missing(PathBuf),
    #[error(transparent)]
    Load(LoadError),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error("{} is there already: remove it, or name another file with --out", .0.display())]
    Exists(PathBuf),
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        match error {
            // It need not be a policy that is to be put there.
            LoadError::Missing(file) => Failure::Missing(file),
            error => Failure::Load(error),
        }
    }
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Failure::Missing(_) | Failure::Load(_) | Failure::Import(_) | Failure::Exists(_) => 2,
            Failure::Write { .. } => 1,
        }
    }
}

/// Imports; returns the exit code.
pub(super) fn run(arguments: &Arguments) -> u8 {
    match try_run(arguments) {
        Ok(()) => 0,
        Err(failure) => {
            for line in failure.to_string().lines() {
                say(line);
            }
            failure.code()
        }
    }
}

fn try_run(arguments: &Arguments) -> Result<(), Failure> {
    let text = policy::read(&arguments.file)?;
    let Imported {
        yaml,
        remarks,
        warnings,
        unwise,
    } = import::knockd_conf(&text, &arguments.file)?;
    match &arguments.out {
        Some(path) => write_new(path, &yaml)?,
        None => print(&yaml).map_err(|source| Failure::Write {
            path: "standard output".into(),
            source,
        })?,
    }
    for warning in warnings {
        say(&warning.in_file(&arguments.file).to_string());
    }
    let made = arguments.out.as_deref().unwrap_or(Path::new(import::MADE));
    for warning in unwise {
        say(&warning.in_file(made).to_string());
    }
    for remark in remarks {
        match remark.knock {
            Some(knock) => say(&format!("{knock}: {}", remark.text)),
            None => say(&remark.text),
        }
    }
    Ok(())
}

/// Never over a file that is there; a policy names what opens the door, so it is not for everybody.
fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |source: io::Error| match source.kind() {
        ErrorKind::AlreadyExists => Failure::Exists(path.to_owned()),
        _ => Failure::Write {
            path: path.to_owned(),
            source,
        },
    };
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o640);
    let mut file = options.open(path).map_err(failed)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a policy is worse than none.
        let _ = std::fs::remove_file(path);
    }
    written.map_err(failed)
}
