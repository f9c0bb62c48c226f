use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::error::WhitelistError;
use super::parse::{Parsed, parse};

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
    match fs::canonicalize(path) {
        Ok(target) => Ok(Some(target)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::symlink_metadata(path) {
            Ok(_) => Err(WhitelistError::DanglingLink(path.to_owned())),
            Err(_) => Ok(None),
        },
        Err(error) => Err(WhitelistError::reading(path, error)),
    }
}

/// A file as it was found.
pub(super) struct Found {
    pub(super) bytes: Vec<u8>,
    metadata: Metadata,
}

/// Reads a regular file of bounded size, and waits for nobody.
pub(super) fn read(target: &Path) -> Result<Found, WhitelistError> {
    let failed = |error| WhitelistError::reading(target, error);
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(target)
        .map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(WhitelistError::Directory(target.to_owned()));
    }
    if !metadata.is_file() {
        return Err(WhitelistError::NotAFile(target.to_owned()));
    }
    let mut bytes = Vec::new();
    let limit = MOST_BYTES as u64 + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > MOST_BYTES {
        return Err(WhitelistError::TooBig(target.to_owned()));
    }
    Ok(Found { bytes, metadata })
}

/// Puts `bytes` in the place of what was found, with its mode and owner, at one stroke.
pub(super) fn replace(target: &Path, found: &Found, bytes: &[u8]) -> Result<(), WhitelistError> {
    too_big(target, bytes)?;
    let directory = directory_of(target);
    let temporary = Temporary::create(directory, target)?;
    let meta = &found.metadata;
    temporary.give_to(target, meta)?;
    temporary.fill(directory, bytes, meta.mode() & 0o7777)?;
    unchanged(target, meta)?;
    let Temporary { path, .. } = &temporary;
    fs::rename(path, target)
        .map_err(|e| WhitelistError::writing(directory, "replace", target, e))?;
    temporary.gone();
    sync_directory(directory)
}

/// Makes a file that must not exist yet, at one stroke.
pub(super) fn create(target: &Path, bytes: &[u8]) -> Result<(), WhitelistError> {
    too_big(target, bytes)?;
    let directory = directory_of(target);
    let temporary = Temporary::create(directory, target)?;
    temporary.fill(directory, bytes, NEW_MODE)?;
    // Unlike a rename, a link does not replace what somebody else has made meanwhile.
    fs::hard_link(&temporary.path, target).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => WhitelistError::Changed(target.to_owned()),
        _ => WhitelistError::writing(directory, "create", target, error),
    })?;
    drop(temporary);
    sync_directory(directory)
}

fn too_big(target: &Path, bytes: &[u8]) -> Result<(), WhitelistError> {
    if bytes.len() > MOST_BYTES {
        return Err(WhitelistError::TooBig(target.to_owned()));
    }
    Ok(())
}

fn directory_of(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Whether the file is still the one that was read.
fn unchanged(target: &Path, before: &Metadata) -> Result<(), WhitelistError> {
    let now = fs::symlink_metadata(target).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => WhitelistError::Vanished(target.to_owned()),
        _ => WhitelistError::reading(target, error),
    })?;
    let traits = |meta: &Metadata| {
        (
            (meta.dev(), meta.ino(), meta.size()),
            (
                meta.mtime(),
                meta.mtime_nsec(),
                meta.ctime(),
                meta.ctime_nsec(),
            ),
        )
    };
    if traits(&now) == traits(before) {
        Ok(())
    } else {
        Err(WhitelistError::Changed(target.to_owned()))
    }
}

/// So that the new name survives a power failure.
fn sync_directory(directory: &Path) -> Result<(), WhitelistError> {
    let synced = File::open(directory).and_then(|opened| opened.sync_all());
    synced.map_err(|error| WhitelistError::writing(directory, "sync", directory, error))
}

/// A file beside the target, removed again unless it took the target's place.
struct Temporary {
    path: PathBuf,
    file: File,
}

impl Temporary {
    fn create(directory: &Path, target: &Path) -> Result<Self, WhitelistError> {
        let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
        for attempt in 0..100 {
            let mut name = OsString::from(".");
            name.push(target.file_name().unwrap_or_default());
            name.push(format!(".{}.{attempt}.tmp", std::process::id()));
            let path = directory.join(name);
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(0o600);
            match options.open(&path) {
                Ok(file) => return Ok(Self { path, file }),
                // Left over from a process of the same number that was killed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(WhitelistError::NoDirectory(target.to_owned()));
                }
                Err(error) => {
                    return Err(WhitelistError::writing(directory, "create", &path, error));
                }
            }
        }
        Err(WhitelistError::writing(
            directory,
            "create a file beside",
            target,
            last,
        ))
    }

    /// Gives the file the owner and group of the old one.
    fn give_to(&self, target: &Path, old: &Metadata) -> Result<(), WhitelistError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::PermissionDenied => WhitelistError::NotOwner(target.to_owned()),
            _ => WhitelistError::Io {
                operation: "keep the owner of",
                object: target.to_owned(),
                source: error,
            },
        };
        let new = self.file.metadata().map_err(failed)?;
        let uid = (new.uid() != old.uid()).then_some(old.uid());
        let gid = (new.gid() != old.gid()).then_some(old.gid());
        if uid.is_some() || gid.is_some() {
            fchown(&self.file, uid, gid).map_err(failed)?;
        }
        Ok(())
    }

    /// Writes it all, and down to the disk. The mode comes last, since giving a file away resets
    /// some of its bits.
    fn fill(&self, directory: &Path, bytes: &[u8], mode: u32) -> Result<(), WhitelistError> {
        let failed = |error| WhitelistError::writing(directory, "write", &self.path, error);
        (&self.file).write_all(bytes).map_err(failed)?;
        let permissions = fs::Permissions::from_mode(mode);
        self.file.set_permissions(permissions).map_err(failed)?;
        self.file.sync_all().map_err(failed)
    }

    /// It has another name now.
    fn gone(mut self) {
        self.path = PathBuf::new();
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            // There is nothing to be done about a temporary file that stays.
            let _ = fs::remove_file(&self.path);
        }
    }
}
