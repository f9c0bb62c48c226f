//! What the kernel itself holds, with what is left of each to the millisecond where it counts so:
//! nf_tables does, an ipset counts whole seconds, and `knockctl list` shows whole seconds.

use std::error::Error;

use portcullis::firewall::{Member, choose};
use portcullis::lab::Host;
use portcullis::policy::BackendChoice;

/// Nothing may end earlier or later by more.
const PROMISED: f64 = 1.0;

/// All members, as another process sees them.
pub(crate) fn held(host: &Host, backend: &str) -> Result<Vec<Member>, Box<dyn Error>> {
    let choice = match backend {
        "nftables" => BackendChoice::Nftables,
        _ => BackendChoice::Iptables,
    };
    let seen = host.run(|| choose::choose(choice, None)?.backend.observe())??;
    Ok(seen.unwrap_or_default().members)
}

/// Seconds by which a deadline may be off: what is promised, and what an ipset does not tell.
pub(crate) fn tolerance(backend: &str) -> f64 {
    let whole_seconds = backend != "nftables";
    PROMISED + f64::from(u8::from(whole_seconds))
}
