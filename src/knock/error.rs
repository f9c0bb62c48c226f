use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::PortError;

/// Why not everything was done.
#[derive(Debug, thiserror::Error)]
pub(super) enum KnockError {
    #[error(transparent)]
    Port(#[from] PortError),
    #[error(
        "no ports: name those to knock on after `{0}`, or make `{0}` a profile in {file}",
        file = .1.as_deref().map_or("knock.yaml".into(), |file| file.to_string_lossy())
    )]
    NoPorts(String, Option<PathBuf>),
    #[error("ports to knock on beside --totp, which says them: one of the two")]
    Both,
    #[error(transparent)]
    Secret(#[from] crate::totp::ReadError),
    #[error(transparent)]
    Shape(#[from] crate::totp::ShapeError),
    #[error("no port to connect to: name it after `{0}`, or give its profile a `port`")]
    NoTarget(String),
    #[error(transparent)]
    Profiles(#[from] super::profiles::ProfilesError),
    #[error("cannot resolve `{host}`: {source}")]
    Resolve { host: String, source: io::Error },
    #[error("`{host}` has no {family} address")]
    Family { host: String, family: &'static str },
    #[error("cannot knock on {target}: {source}{}", hint(source))]
    Send {
        target: SocketAddr,
        source: io::Error,
    },
    #[error("cannot connect to {target}: {source}{}", hint(source))]
    Connect {
        target: SocketAddr,
        source: io::Error,
    },
    #[error(
        "port {port} of `{host}` does not answer after knocking {}, waiting {wait:?} each time: the \
         knock is another, or packets are lost or dropped on the way",
        times(*tries)
    )]
    Silent {
        host: String,
        port: u16,
        tries: u32,
        wait: Duration,
    },
    #[error("port {port} of `{host}` refuses connections: nothing listens there")]
    Refused { host: String, port: u16 },
    #[error("the connection is broken: {0}")]
    Broken(io::Error),
    #[error("cannot {operation}: {source}")]
    Local {
        operation: &'static str,
        source: io::Error,
    },
}

pub(super) fn times(count: u32) -> String {
    match count {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        many => format!("{many} times"),
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            " (is there a way to that network from here?)"
        }
        io::ErrorKind::PermissionDenied => " (a firewall on this machine forbids it)",
        _ => "",
    }
}

impl KnockError {
    /// Whether this is how a machine without that family looks: no reason to alarm anybody as long
    /// as another address can be reached.
    pub(super) fn is_expected(&self) -> bool {
        use io::ErrorKind::{AddrNotAvailable, HostUnreachable, NetworkUnreachable};
        matches!(self, KnockError::Send { source, .. }
            if matches!(source.kind(), AddrNotAvailable | HostUnreachable | NetworkUnreachable))
    }

    pub(super) fn code(&self) -> u8 {
        match self {
            KnockError::Port(_)
            | KnockError::NoPorts(..)
            | KnockError::NoTarget(_)
            | KnockError::Both
            | KnockError::Secret(_)
            | KnockError::Shape(_)
            | KnockError::Profiles(_) => 2,
            _ => 1,
        }
    }
}
