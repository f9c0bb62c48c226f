use std::io;
use std::os::fd::BorrowedFd;

use crate::sys::ready::Ready;

/// Wakes an async loop when packets have come in.
#[derive(Debug)]
pub struct Watch {
    v4: Ready,
    v6: Ready,
}

impl Watch {
    pub(super) fn new([v4, v6]: [BorrowedFd<'_>; 2]) -> io::Result<Self> {
        Ok(Self {
            v4: Ready::new(v4)?,
            v6: Ready::new(v6)?,
        })
    }

    /// Returns when packets may have come in since it last returned. Drain the capture then,
    /// until it says that all is drained, before waiting again. Safe to cancel.
    pub async fn readable(&self) -> io::Result<()> {
        tokio::select! {
            ready = self.v4.readable() => ready,
            ready = self.v6.readable() => ready,
        }
    }
}
