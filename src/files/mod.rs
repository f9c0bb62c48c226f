//! Files that are replaced at one stroke: whoever reads meanwhile, or starts after a power failure,
//! finds the old one or the new one, never half of it.
#![forbid(unsafe_code)]

mod error;
mod temporary;

pub use error::FileError;

use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use temporary::Temporary;

/// The file that `path` leads to; `None` if there is none, nor a link that leads nowhere.
pub fn target(path: &Path) -> Result<Option<PathBuf>, FileError> {
    match fs::canonicalize(path) {
        Ok(target) => Ok(Some(target)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::symlink_metadata(path) {
            Ok(_) => Err(FileError::DanglingLink(path.to_owned())),
            Err(_) => Ok(None),
        },
        Err(error) => Err(FileError::reading(path, error)),
    }
}

/// A file as it was found.
#[derive(Debug)]
pub struct Found {
    /// All of it.
    pub bytes: Vec<u8>,
    metadata: Metadata,
}

/// Reads a regular file of at most so many bytes, and waits for nobody.
pub fn read(target: &Path, most: usize) -> Result<Found, FileError> {
    let failed = |error| FileError::reading(target, error);
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(target)
        .map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(FileError::Directory(target.to_owned()));
    }
    if !metadata.is_file() {
        return Err(FileError::NotAFile(target.to_owned()));
    }
    let mut bytes = Vec::new();
    let limit = most as u64 + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > most {
        return Err(FileError::TooBig(target.to_owned()));
    }
    Ok(Found { bytes, metadata })
}

/// Puts `bytes` in the place of what was found, with its mode and owner. Refused if somebody else
/// has changed the file since.
pub fn replace(target: &Path, found: &Found, bytes: &[u8]) -> Result<(), FileError> {
    let temporary = Temporary::create(target)?;
    let meta = &found.metadata;
    temporary.give_to(target, meta)?;
    temporary.fill(bytes, meta.mode() & 0o7777)?;
    unchanged(target, meta)?;
    temporary.take_the_place_of(target)
}

/// Makes a file of this mode that must not exist yet.
pub fn create(target: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let temporary = Temporary::create(target)?;
    temporary.fill(bytes, mode)?;
    temporary.become_new(target)
}

/// Makes a file of this mode, in the place of whatever has the name.
pub fn put(target: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let temporary = Temporary::create(target)?;
    temporary.fill(bytes, mode)?;
    temporary.take_the_place_of(target)
}

/// Whether a file could be put in the place of `path`, as far as that can be known before: makes one
/// beside it, and removes it again.
pub fn can_replace(path: &Path) -> Result<(), FileError> {
    let found = target(path)?;
    let target = found.as_deref().unwrap_or(path);
    let temporary = Temporary::create(target)?;
    if found.is_none() {
        return Ok(());
    }
    let meta = fs::metadata(target).map_err(|error| FileError::reading(target, error))?;
    temporary.give_to(target, &meta)
}

/// Whether the file is still the one that was read.
fn unchanged(target: &Path, before: &Metadata) -> Result<(), FileError> {
    let now = fs::symlink_metadata(target).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => FileError::Vanished(target.to_owned()),
        _ => FileError::reading(target, error),
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
        Err(FileError::Changed(target.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[test]
    fn what_is_put_has_its_mode_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kept");
        for text in [&b"one"[..], b"two"] {
            put(&path, text, 0o600).unwrap();
            assert_eq!(fs::read(&path).unwrap(), text);
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o600);
        }
        assert_eq!(names(dir.path()), ["kept"]);
    }

    #[test]
    fn what_cannot_be_put_leaves_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("directory");
        fs::create_dir(&path).unwrap();
        assert!(put(&path, b"text", 0o600).is_err());
        let missing = dir.path().join("none/kept");
        let told = put(&missing, b"text", 0o600);
        assert!(matches!(told, Err(FileError::NoDirectory(_))), "{told:?}");
        assert_eq!(names(dir.path()), ["directory"]);
    }

    #[test]
    fn whether_a_file_can_be_replaced_is_known_before_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kept");
        can_replace(&path).unwrap();
        assert!(names(dir.path()).is_empty());
        fs::write(&path, "text").unwrap();
        can_replace(&path).unwrap();
        assert_eq!(names(dir.path()), ["kept"]);
        assert_eq!(fs::read(&path).unwrap(), b"text");
        let told = can_replace(&dir.path().join("none/kept"));
        assert!(matches!(told, Err(FileError::NoDirectory(_))), "{told:?}");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("nowhere"), &link).unwrap();
        let told = can_replace(&link);
        assert!(matches!(told, Err(FileError::DanglingLink(_))), "{told:?}");
    }

    #[test]
    fn a_replaced_file_keeps_its_mode_and_the_link_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let [real, link] = ["real", "link"].map(|name| dir.path().join(name));
        fs::write(&real, "one").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o604)).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let target = target(&link).unwrap().unwrap();
        let found = read(&target, 10).unwrap();
        replace(&target, &found, b"two").unwrap();
        assert_eq!(fs::read(&link).unwrap(), b"two");
        let mode = fs::metadata(&real).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o604);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let told = replace(&target, &found, b"three");
        assert!(matches!(told, Err(FileError::Changed(_))), "{told:?}");
        assert_eq!(fs::read(&link).unwrap(), b"two");
    }
}
