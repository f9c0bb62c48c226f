//! A policy's file, on its way to the daemon. What is in it is for the daemon to judge.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::control::PolicyText;
use crate::control::protocol::MAX_REQUEST;
use crate::policy::{self, LoadError};

/// Why a policy cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileProblem {
    /// No file, no permission, a directory.
    #[error("cannot read the policy {}: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The errno.
        source: io::Error,
    },
    /// Longer than what the daemon takes.
    #[error(
        "the policy {} is too long for the control socket, which takes 256 KiB: put it in the \
         place of the daemon's policy and `reload`",
        .0.display()
    )]
    TooLong(PathBuf),
    /// Not text.
    #[error(transparent)]
    NotText(#[from] LoadError),
}

/// Reads the file, as much of it as the daemon takes.
pub(super) fn read(file: &Path) -> Result<PolicyText, FileProblem> {
    let unreadable = |source| FileProblem::Unreadable {
        file: file.to_owned(),
        source,
    };
    let absolute = std::path::absolute(file).map_err(unreadable)?;
    let mut bytes = Vec::new();
    // A limit on what is read, not on the size that is told: /dev/zero has none.
    let opened = File::open(file).map_err(unreadable)?;
    let limit = MAX_REQUEST as u64 + 1;
    opened
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() > MAX_REQUEST {
        return Err(FileProblem::TooLong(file.to_owned()));
    }
    Ok(PolicyText {
        file: absolute.to_string_lossy().into_owned(),
        text: policy::text_of(file, bytes)?,
    })
}
