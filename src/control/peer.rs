use std::io;

use nix::unistd::{Uid, User, geteuid};
use tokio::net::UnixStream;

use super::Verb;
use crate::engine::Who;

/// Who is at the other end, as the kernel noted it when they connected (`SO_PEERCRED`, unix(7)).
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    uid: u32,
    pid: Option<i32>,
}

impl Peer {
    pub(super) fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        Ok(Self {
            uid: credentials.uid(),
            pid: credentials.pid(),
        })
    }

    /// Root, or whoever the daemon itself runs as.
    pub(super) fn may_change(self) -> bool {
        self.uid == 0 || self.uid == geteuid().as_raw()
    }

    pub(super) fn may(self, verb: Verb) -> bool {
        verb.only_reads() || self.may_change()
    }

    /// `knockctl by root (pid 4711)`, for the log and for reasons.
    pub(super) async fn who(self) -> Who {
        let name = if self.uid == 0 {
            "root".to_owned()
        } else {
            let uid = self.uid;
            // The user database may be on the network: not in the event loop's way.
            let user =
                tokio::task::spawn_blocking(move || User::from_uid(Uid::from_raw(uid))).await;
            match user {
                Ok(Ok(Some(user))) => user.name.escape_debug().to_string(),
                _ => format!("uid {uid}"),
            }
        };
        Who(match self.pid {
            Some(pid) => format!("knockctl by {name} (pid {pid})"),
            None => format!("knockctl by {name}"),
        })
    }

    #[cfg(test)]
    pub(super) fn with_uid(uid: u32) -> Self {
        Self {
            uid,
            pid: Some(4711),
        }
    }
}
