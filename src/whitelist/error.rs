use std::io;
use std::path::PathBuf;

/// Why the whitelist file could not be read or changed. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum WhitelistError {
    /// No such file.
    #[error(
        "there is no whitelist at {0}: create it, empty but for a comment if nobody is trusted"
    )]
    Missing(PathBuf),
    /// No such directory.
    #[error("cannot create the whitelist {0}: its directory does not exist")]
    NoDirectory(PathBuf),
    /// A symbolic link that leads nowhere.
    #[error(
        "the whitelist {0} is a symbolic link to a file that does not exist: create that file or remove the link"
    )]
    DanglingLink(PathBuf),
    /// A directory.
    #[error("the whitelist {0} is a directory: name the file in it")]
    Directory(PathBuf),
    /// A device, a pipe, a socket.
    #[error("the whitelist {0} is not a regular file")]
    NotAFile(PathBuf),
    /// May not be read.
    #[error("cannot read the whitelist {0}: permission denied (run as root)")]
    Unreadable(PathBuf),
    /// The directory does not take the new file.
    #[error(
        "cannot change the whitelist: no permission to write in the directory {0} (run as root)"
    )]
    UnwritableDirectory(PathBuf),
    /// The file system does not take it.
    #[error("cannot change the whitelist: the file system of {0} is read-only")]
    ReadOnly(PathBuf),
    /// The new file cannot be given to the old one's owner.
    #[error(
        "cannot change the whitelist {0}: it belongs to somebody else (run as root or as its owner)"
    )]
    NotOwner(PathBuf),
    /// Gone between reading and writing.
    #[error("the whitelist {0} vanished while it was being changed: nothing was written")]
    Vanished(PathBuf),
    /// Changed by somebody else between reading and writing.
    #[error(
        "the whitelist {0} was changed by somebody else at the same moment: nothing was written, try again"
    )]
    Changed(PathBuf),
    /// Larger than a whitelist may be.
    #[error("the whitelist {0} is larger than 16 MiB")]
    TooBig(PathBuf),
    /// Everybody would be trusted.
    #[error("{0} would trust everybody: add --force if that is meant")]
    Everything(String),
    /// A comment that is not one line of text.
    #[error("a comment must be one line of at most 200 characters without control characters")]
    Comment,
    /// A name that was not checked.
    #[error("`{0}` is not a host name")]
    Name(String),
    /// Anything else that the system says.
    #[error("cannot {operation} {object}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        object: PathBuf,
        /// The errno.
        source: io::Error,
    },
}
