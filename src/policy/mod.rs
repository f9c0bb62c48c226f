//! The policy: what the file says, checked. Knows no sockets and no clocks.
#![forbid(unsafe_code)]

mod types;

pub use types::{
    BackendChoice, Firewall, Gate, GateAddress, Hook, Interfaces, Knock, KnockAction, OnStop,
    Policy, ScanAction, ScanGuard, TcpFlags, Verdict,
};
