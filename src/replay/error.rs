use std::borrow::Cow;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::MOST_ADDRESSES;
use crate::policy::LoadError;

/// Why a capture is not replayed, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The policy.
    #[error(transparent)]
    Policy(#[from] LoadError),
    /// The file.
    #[error("cannot open the capture {file}: {source}{}", hint(source))]
    Open {
        /// Which.
        file: PathBuf,
        /// The errno.
        source: io::Error,
    },
    /// The file, once it was open.
    #[error("cannot read the capture {file}: {source}")]
    Read {
        /// Which.
        file: PathBuf,
        /// The errno.
        source: io::Error,
    },
    /// What is in it.
    #[error("{file}: {source}")]
    Format {
        /// Which.
        file: PathBuf,
        /// What is wrong.
        source: FormatError,
    },
    /// Standard input can be read only once.
    #[error(
        "{} can be read only once, so name the host's addresses with --address",
        shown(.0)
    )]
    NoAddress(PathBuf),
    /// More addresses than a host has.
    #[error(
        "more than {MOST_ADDRESSES} addresses are knocked on in this capture: name those of this \
         host with --address"
    )]
    TooManyAddresses,
    /// Whoever is told does not listen.
    #[error("cannot write what was decided: {0}")]
    Tell(io::Error),
}

impl ReplayError {
    /// The exit code: 2 for what is wrong with the input, 1 for what went wrong or is not permitted.
    pub fn code(&self) -> u8 {
        let failed = match self {
            ReplayError::Open { source, .. } => !is_wrong_name(source.kind()),
            ReplayError::Policy(error) => {
                matches!(error, LoadError::Permission(_) | LoadError::Io { .. })
            }
            ReplayError::Read { .. } | ReplayError::Tell(_) => true,
            _ => false,
        };
        if failed { 1 } else { 2 }
    }
}

/// Whether there is no file of that name.
fn is_wrong_name(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::NotFound
            | ErrorKind::IsADirectory
            | ErrorKind::NotADirectory
            | ErrorKind::InvalidInput
            | ErrorKind::InvalidFilename
    )
}

/// A capture's name in a sentence.
fn shown(file: &Path) -> Cow<'_, str> {
    if file == Path::new("-") {
        "standard input".into()
    } else {
        file.to_string_lossy()
    }
}

/// What to do about it.
fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        ErrorKind::PermissionDenied => " (run as somebody who may read it)",
        _ => "",
    }
}

/// Why a file is no capture that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Nothing at all.
    #[error("the file is empty, not even a capture without packets")]
    Empty,
    /// Another kind of file.
    #[error("not a capture: expected pcap or pcapng, as tcpdump -w and Wireshark write them")]
    NotACapture,
    /// A capture inside another kind of file.
    #[error("compressed: decompress it first, into a file (`zcat FILE > capture.pcap`)")]
    Compressed,
    /// It ends before its first packet could.
    #[error("cut short: it ends within its header")]
    Header,
    /// A later major version.
    #[error("version {0} of {1}, which is not known here")]
    Version(u16, &'static str),
    /// Nothing is known about what its packets begin with.
    #[error(
        "its link type is {0} (tcpdump.org/linktypes.html): expected Ethernet, raw IP, Linux \
         cooked (SLL, SLL2) or BSD loopback"
    )]
    LinkType(u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_read_only_once_has_a_name_that_people_know() {
        let told = |file: &str| ReplayError::NoAddress(file.into()).to_string();
        let asks = "can be read only once, so name the host's addresses with --address";
        assert_eq!(told("-"), format!("standard input {asks}"));
        assert_eq!(told("/run/pipe"), format!("/run/pipe {asks}"));
    }
}
