use std::path::{Path, PathBuf};

use super::error::WhitelistError;
use super::parse::{Parsed, parse};
use crate::files::{self, FileError, Found};

/// Larger is no whitelist: it would hold more than a million addresses.
pub const MOST_BYTES: usize = 16 * 1024 * 1024;

/// The mode of a file that did not exist.
const NEW_MODE: u32 = 0o640;

/// Reads the whitelist at `path`.
pub fn load(path: &Path) -> Result<Parsed, WhitelistError> {
    let target = target(path)?.ok_or_else(|| WhitelistError::Missing(path.to_owned()))?;
    Ok(parse(&read(&target)?.bytes))
}

/// The file that `path` leads to; `None` if there is none, nor a link that leads nowhere.
pub(super) fn target(path: &Path) -> Result<Option<PathBuf>, WhitelistError> {
    Ok(files::target(path)?)
}

/// Reads a regular file of bounded size, and waits for nobody.
pub(super) fn read(target: &Path) -> Result<Found, WhitelistError> {
    Ok(files::read(target, MOST_BYTES)?)
}

/// Puts `bytes` in the place of what was found, with its mode and owner, at one stroke.
pub(super) fn replace(target: &Path, found: &Found, bytes: &[u8]) -> Result<(), WhitelistError> {
    too_big(target, bytes)?;
    Ok(files::replace(target, found, bytes)?)
}

/// Makes a file that must not exist yet, at one stroke.
pub(super) fn create(target: &Path, bytes: &[u8]) -> Result<(), WhitelistError> {
    too_big(target, bytes)?;
    Ok(files::create(target, bytes, NEW_MODE)?)
}

fn too_big(target: &Path, bytes: &[u8]) -> Result<(), WhitelistError> {
    if bytes.len() > MOST_BYTES {
        return Err(WhitelistError::TooBig(target.to_owned()));
    }
    Ok(())
}

/// In words about the whitelist.
impl From<FileError> for WhitelistError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Missing(path) => WhitelistError::Missing(path),
            FileError::NoDirectory(path) => WhitelistError::NoDirectory(path),
            FileError::DanglingLink(path) => WhitelistError::DanglingLink(path),
            FileError::Directory(path) => WhitelistError::Directory(path),
            FileError::NotAFile(path) => WhitelistError::NotAFile(path),
            FileError::Unreadable(path) => WhitelistError::Unreadable(path),
            FileError::UnwritableDirectory(path) => WhitelistError::UnwritableDirectory(path),
            FileError::ReadOnly(path) => WhitelistError::ReadOnly(path),
            FileError::NotOwner(path) => WhitelistError::NotOwner(path),
            FileError::Vanished(path) => WhitelistError::Vanished(path),
            FileError::Changed(path) => WhitelistError::Changed(path),
            FileError::TooBig(path) => WhitelistError::TooBig(path),
            FileError::Io {
                operation,
                object,
                source,
            } => WhitelistError::Io {
                operation,
                object,
                source,
            },
        }
    }
}
