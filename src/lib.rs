//! portcullis keeps an SSH host's port shut to everyone but whitelisted machines and addresses
//! that have just knocked, and shuts out whoever steps on a decoy.
//!
//! Data flows one way: capture → packet → matcher → event → engine → action → firewall, log,
//! reply. The core (`model`, `policy`, `packet`, `matcher`, `engine`) does no IO and takes the time
//! as an argument; the only `unsafe` code is in `sys`.

#[cfg(target_os = "linux")]
pub mod engine;
#[cfg(target_os = "linux")]
pub mod firewall;
#[cfg(target_os = "linux")]
pub mod model;
#[cfg(target_os = "linux")]
pub mod netlink;
#[cfg(target_os = "linux")]
pub mod policy;
#[cfg(target_os = "linux")]
pub mod sessions;
