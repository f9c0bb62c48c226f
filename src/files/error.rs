use std::io;
use std::path::{Path, PathBuf};

/// Why a file could not be read or replaced. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// No such file.
    #[error("there is no file {}", .0.display())]
    Missing(PathBuf),
    /// No such directory.
    #[error("cannot create {}: its directory does not exist", .0.display())]
    NoDirectory(PathBuf),
    /// A symbolic link that leads nowhere.
    #[error(
        "{} is a symbolic link to a file that does not exist: create that file or remove the link",
        .0.display()
    )]
    DanglingLink(PathBuf),
    /// A directory.
    #[error("{} is a directory: name the file in it", .0.display())]
    Directory(PathBuf),
    /// A device, a pipe, a socket.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// May not be read.
    #[error("cannot read {}: permission denied (run as root)", .0.display())]
    Unreadable(PathBuf),
    /// The directory does not take the new file.
    #[error("no permission to write in the directory {} (run as root)", .0.display())]
    UnwritableDirectory(PathBuf),
    /// The file system does not take it.
    #[error("the file system of {} is read-only", .0.display())]
    ReadOnly(PathBuf),
    /// The new file cannot be given to the old one's owner.
    #[error(
        "cannot replace {}: it belongs to somebody else (run as root or as its owner)",
        .0.display()
    )]
    NotOwner(PathBuf),
    /// Gone between reading and writing.
    #[error("{} vanished while it was being changed: nothing was written", .0.display())]
    Vanished(PathBuf),
    /// Changed by somebody else between reading and writing.
    #[error(
        "{} was changed by somebody else at the same moment: nothing was written, try again",
        .0.display()
    )]
    Changed(PathBuf),
    /// Larger than it may be.
    #[error("{} is larger than such a file may be", .0.display())]
    TooBig(PathBuf),
    /// Anything else that the system says.
    #[error("cannot {operation} {}: {source}", object.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        object: PathBuf,
        /// The errno.
        source: io::Error,
    },
}

impl FileError {
    /// What a failed attempt to read means.
    pub(super) fn reading(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => FileError::Missing(path),
            io::ErrorKind::PermissionDenied => FileError::Unreadable(path),
            io::ErrorKind::IsADirectory => FileError::Directory(path),
            _ => FileError::Io {
                operation: "read",
                object: path,
                source,
            },
        }
    }

    /// What a failed attempt to make or rename a file in `directory` means.
    pub(super) fn writing(
        directory: &Path,
        operation: &'static str,
        object: &Path,
        source: io::Error,
    ) -> Self {
        match source.kind() {
            io::ErrorKind::PermissionDenied => FileError::UnwritableDirectory(directory.to_owned()),
            io::ErrorKind::ReadOnlyFilesystem => FileError::ReadOnly(directory.to_owned()),
            _ => FileError::Io {
                operation,
                object: object.to_owned(),
                source,
            },
        }
    }
}
