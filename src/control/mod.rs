//! The control socket: the protocol that `knockctl` and the daemon speak, and both halves of it.
//!
//! A Unix stream socket; a request is a line of JSON, so is its response, and a connection may
//! carry several, one after another. What a request asks is judged in one place,
//! [`Request::asked`], by the client before it connects and again by the server, which trusts no
//! client.
#![forbid(unsafe_code)]

mod asked;
mod change;
pub mod client;
mod counted;
mod peer;
pub mod protocol;
mod refusal;
pub mod server;
mod source;
mod why;

#[cfg(test)]
mod server_tests;
#[cfg(test)]
mod tests;

pub use asked::{Asked, Entry};
pub use protocol::{Data, PolicyText, Request, Response, Verb};
pub use refusal::Refusal;
pub use server::{Call, ControlError, Server};
pub use why::{WhyAttempt, WhyEntry, WhyKept};

/// The socket's name in the runtime directory.
pub const SOCKET_NAME: &str = "control.sock";

/// Where the socket is unless a flag says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/knockd/control.sock";

/// Whose members may read.
pub const GROUP: &str = "knockd";
