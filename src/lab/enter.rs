use std::env;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;

use nix::unistd::geteuid;

use super::LabError;
use crate::sys::ns;

/// Where this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Entered {
    /// In namespaces of its own: go on.
    Inside,
    /// This is the outer process: the inner one has run and ended with this exit code.
    Done(u8),
}

/// Names the network namespace that we came from, by its inode. The variable alone proves
/// nothing: somebody may have exported it.
const ORIGIN: &str = "PORTCULLIS_LAB_ORIGIN";

/// Starts the program again, with the same arguments, in namespaces of its own, and waits for it.
/// In there it returns at once. The inner process dies with the thread that calls this.
pub fn enter() -> Result<Entered, LabError> {
    if inside() {
        return Ok(Entered::Inside);
    }
    let origin = netns_inode()?;
    let start = |with_user_namespace| {
        let mut args = env::args_os();
        let mut command = Command::new("/proc/self/exe");
        if let Some(name) = args.next() {
            command.arg0(name);
        }
        command.args(args).env(ORIGIN, origin.to_string());
        ns::enter_namespaces(&mut command, with_user_namespace);
        command.status()
    };
    // Root needs no user namespace, and some things do not work in one; but root in a container
    // may be root without the capability.
    let is_root = geteuid().is_root();
    let status = match start(!is_root) {
        Err(error) if is_root && error.kind() == ErrorKind::PermissionDenied => start(true),
        outcome => outcome,
    };
    let status = status.map_err(|source| ns::explain("this program", source))?;
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(1);
    Ok(Entered::Done(code))
}

/// Whether this process is in namespaces made by [`enter`].
pub fn inside() -> bool {
    let origin: Option<u64> = env::var(ORIGIN).ok().and_then(|text| text.parse().ok());
    match (origin, netns_inode()) {
        (Some(origin), Ok(now)) => now != origin,
        (None, _) | (_, Err(_)) => false,
    }
}

fn netns_inode() -> Result<u64, LabError> {
    let path = "/proc/self/ns/net";
    fs::metadata(path)
        .map(|meta| meta.ino())
        .map_err(LabError::system("look at", path))
}
