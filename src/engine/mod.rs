//! What is decided: events in, actions out, with the time as an argument. Knows neither
//! nftables nor iptables, neither files nor sockets nor clocks.
#![forbid(unsafe_code)]

mod event;

pub use event::{Action, Command, Event, Flush, Log, LogLevel, Outcome, TrustEdit, Who};
