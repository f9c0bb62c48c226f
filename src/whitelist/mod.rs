//! The whitelist file: an address, a network or a host name a line, the rest of the line comment.
//! Read as a whole, edited in place. Resolves no names and touches no firewall.
#![forbid(unsafe_code)]

pub mod edit;
mod error;
mod file;
mod host;
mod parse;

pub use error::WhitelistError;
pub use file::{MOST_BYTES, load};
pub use host::{Host, HostError};
pub use parse::{
    BadLine, Counts, Entry, MOST_BAD_LINES, MOST_ENTRIES, Parsed, Why, Widened, parse,
};

#[cfg(test)]
mod tests;
