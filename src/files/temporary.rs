use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use super::FileError;

/// A file beside the target, removed again unless it took the target's place.
pub(super) struct Temporary {
    directory: PathBuf,
    path: PathBuf,
    file: File,
}

impl Temporary {
    pub(super) fn create(target: &Path) -> Result<Self, FileError> {
        let directory = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
        for attempt in 0..100 {
            let mut name = OsString::from(".");
            name.push(target.file_name().unwrap_or_default());
            name.push(format!(".{}.{attempt}.tmp", std::process::id()));
            let path = directory.join(name);
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(0o600);
            match options.open(&path) {
                Ok(file) => {
                    return Ok(Self {
                        directory: directory.to_owned(),
                        path,
                        file,
                    });
                }
                // Left over from a process of the same number that was killed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(FileError::NoDirectory(target.to_owned()));
                }
                Err(error) => {
                    return Err(FileError::writing(directory, "create", &path, error));
                }
            }
        }
        Err(FileError::writing(
            directory,
            "create a file beside",
            target,
            last,
        ))
    }

    /// Gives the file the owner and group of the old one.
    pub(super) fn give_to(&self, target: &Path, old: &Metadata) -> Result<(), FileError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::PermissionDenied => FileError::NotOwner(target.to_owned()),
            _ => FileError::Io {
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
    pub(super) fn fill(&self, bytes: &[u8], mode: u32) -> Result<(), FileError> {
        let failed = |error| FileError::writing(&self.directory, "write", &self.path, error);
        (&self.file).write_all(bytes).map_err(failed)?;
        let permissions = fs::Permissions::from_mode(mode);
        self.file.set_permissions(permissions).map_err(failed)?;
        self.file.sync_all().map_err(failed)
    }

    /// Takes the target's name, whatever had it.
    pub(super) fn take_the_place_of(mut self, target: &Path) -> Result<(), FileError> {
        fs::rename(&self.path, target)
            .map_err(|e| FileError::writing(&self.directory, "replace", target, e))?;
        self.path = PathBuf::new();
        self.sync_directory()
    }

    /// Takes the target's name if nobody has it.
    pub(super) fn become_new(self, target: &Path) -> Result<(), FileError> {
        // Unlike a rename, a link does not replace what somebody else has made meanwhile.
        fs::hard_link(&self.path, target).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => FileError::Changed(target.to_owned()),
            _ => FileError::writing(&self.directory, "create", target, error),
        })?;
        self.sync_directory()
    }

    /// So that the new name survives a power failure.
    fn sync_directory(&self) -> Result<(), FileError> {
        let directory = &self.directory;
        let synced = File::open(directory).and_then(|opened| opened.sync_all());
        synced.map_err(|error| FileError::writing(directory, "sync", directory, error))
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
