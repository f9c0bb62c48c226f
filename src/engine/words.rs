//! What the log says. Of an acceptance the words are made only when they are said: whoever has
//! knocked waits for the kernel, and that need not wait for words.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::{GateName, KnockName, Lifetime};

use super::shown;

/// A line for the log, whole and printable once it is displayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Words {
    /// As it stands.
    Whole(String),
    /// A knock has let somebody in.
    Accepted {
        /// Who knocked.
        source: IpAddr,
        /// What.
        knock: KnockName,
        /// Whom that lets in.
        net: IpNet,
        /// Where.
        gate: GateName,
        /// For how long.
        lifetime: Lifetime,
    },
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Words::Whole(text) => f.write_str(text),
            Words::Accepted {
                source,
                knock,
                net,
                gate,
                lifetime,
            } => {
                let net = shown(*net);
                write!(
                    f,
                    "{source}: {knock}: {net} accepted at {gate} for {lifetime}"
                )
            }
        }
    }
}

impl From<String> for Words {
    fn from(text: String) -> Self {
        Words::Whole(text)
    }
}
