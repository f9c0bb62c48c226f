//! Waiting for a descriptor without owning it.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Wakes an async loop when a descriptor becomes readable. It has a descriptor of its own for the
/// same file, so its owner can be changed meanwhile.
#[derive(Debug)]
pub struct Ready(AsyncFd<OwnedFd>);

impl Ready {
    /// The file must be non-blocking. Panics outside a tokio runtime with IO.
    pub fn new(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let fd = fd.try_clone_to_owned()?;
        // SAFETY: an OwnedFd is open, always answers with the same descriptor, and stays in the
        // AsyncFd, which never hands it out, until both are dropped.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?;
        Ok(Self(fd))
    }

    /// Returns when something may have come in since it last returned. All of it must be read,
    /// until the file says that it would block, before waiting again. Safe to cancel.
    pub async fn readable(&self) -> io::Result<()> {
        // Cleared before the file is read, so what comes in between wakes again.
        self.0.readable().await?.clear_ready();
        Ok(())
    }
}
