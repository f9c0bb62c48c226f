use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::unistd::Group;
use tracing::warn;

use super::ControlError;

/// The socket's file, removed when dropped unless somebody has put another in its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl SocketFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// Binds in a directory that only we can enter, sets owner and mode there and moves the finished
/// socket into place: at no moment can it be opened by more than those it is for, the process's
/// umask stays as it is, and a stale socket is replaced in one step.
pub(super) fn bind(
    dir: &Path,
    path: PathBuf,
    group: &str,
) -> Result<(UnixListener, SocketFile), ControlError> {
    match fs::symlink_metadata(&path) {
        Ok(found) if !found.file_type().is_socket() => return Err(ControlError::NotASocket(path)),
        _ => {}
    }
    let workshop = dir.join(".new");
    match fs::remove_dir_all(&workshop) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(failed("remove the directory", &workshop)(error));
        }
        _ => {}
    }
    DirBuilder::new()
        .mode(0o700)
        .create(&workshop)
        .map_err(failed("create the directory", &workshop))?;
    let bound = bind_in(&workshop, &path, group);
    let _ = fs::remove_dir_all(&workshop);
    bound
}

fn bind_in(
    workshop: &Path,
    path: &Path,
    group: &str,
) -> Result<(UnixListener, SocketFile), ControlError> {
    let draft = workshop.join("s");
    let listener = UnixListener::bind(&draft).map_err(failed("bind the control socket", &draft))?;
    listener
        .set_nonblocking(true)
        .map_err(failed("prepare the control socket", path))?;
    let mode = if give_to_group(&draft, group) {
        0o660
    } else {
        0o600
    };
    fs::set_permissions(&draft, fs::Permissions::from_mode(mode))
        .map_err(failed("set the mode of", &draft))?;
    fs::rename(&draft, path).map_err(failed("put the control socket at", path))?;
    let file = SocketFile {
        path: path.to_owned(),
        identity: identity(path),
    };
    Ok((listener, file))
}

fn give_to_group(draft: &Path, group: &str) -> bool {
    let gid = match Group::from_name(group) {
        Ok(Some(found)) => found.gid.as_raw(),
        Ok(None) => return false,
        Err(error) => {
            warn!("cannot look up the group {group}: {error}; the control socket is root's alone");
            return false;
        }
    };
    match std::os::unix::fs::chown(draft, None, Some(gid)) {
        Ok(()) => true,
        Err(error) => {
            warn!("cannot give the control socket to the group {group}: {error}; it is ours alone");
            false
        }
    }
}

fn failed(
    operation: &'static str,
    path: &Path,
) -> impl FnOnce(std::io::Error) -> ControlError + use<> {
    let path = path.to_owned();
    move |source| {
        let hint = match source.kind() {
            ErrorKind::NotFound => " (create the runtime directory, or name another)",
            ErrorKind::PermissionDenied => " (run as root, or name another runtime directory)",
            ErrorKind::InvalidInput => " (a socket's path has at most 107 bytes)",
            _ => "",
        };
        ControlError::Io {
            operation,
            path,
            source,
            hint,
        }
    }
}
