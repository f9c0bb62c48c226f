//! portcullis keeps an SSH host's port shut to everyone but whitelisted machines and addresses
//! that have just knocked, and shuts out whoever steps on a decoy.
//!
//! Data flows one way: capture → packet → matcher → event → engine → action → firewall, log,
//! reply. The core (`model`, `policy`, `packet`, `matcher`, `engine`) does no IO and takes the time
//! as an argument; the only `unsafe` code is in `sys`.

#[cfg(target_os = "linux")]
pub mod capture;
#[cfg(target_os = "linux")]
pub mod control;
#[cfg(target_os = "linux")]
pub mod demo;
#[cfg(target_os = "linux")]
pub mod engine;
#[cfg(target_os = "linux")]
pub mod files;
#[cfg(target_os = "linux")]
pub mod firewall;
#[cfg(all(test, target_os = "linux"))]
mod fixtures;
#[cfg(target_os = "linux")]
pub mod handout;
#[cfg(target_os = "linux")]
pub mod import;
pub mod knock;
#[cfg(target_os = "linux")]
pub mod knockctl;
#[cfg(target_os = "linux")]
pub mod knockd;
#[cfg(target_os = "linux")]
pub mod lab;
#[cfg(target_os = "linux")]
pub mod links;
#[cfg(target_os = "linux")]
pub mod matcher;
pub mod model;
#[cfg(target_os = "linux")]
pub mod netlink;
#[cfg(target_os = "linux")]
pub mod operators;
#[cfg(target_os = "linux")]
pub mod packet;
#[cfg(target_os = "linux")]
pub mod policy;
#[cfg(target_os = "linux")]
pub mod replay;
#[cfg(target_os = "linux")]
pub mod resolver;
#[cfg(target_os = "linux")]
pub mod sessions;
#[cfg(target_os = "linux")]
pub mod sheets;
#[cfg(target_os = "linux")]
pub mod store;
#[cfg(target_os = "linux")]
pub mod sys;
pub mod totp;
#[cfg(target_os = "linux")]
pub mod watchdog;
#[cfg(target_os = "linux")]
pub mod whitelist;
