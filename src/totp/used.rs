use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::{Family, counting};

/// Which sequences are used up, and by whom: each counts for the first address that knocks it (RFC
/// 6238, section 5.2: a verifier must not accept the same value twice). The same address may knock
/// again, since it gains nothing but time by that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Used(BTreeMap<(u64, Family), IpAddr>);

impl Used {
    /// Takes the sequence of a step for this address, in the step `now`: who has it already, if it
    /// is another one. What counts no more is forgotten.
    pub fn take(&mut self, step: u64, source: IpAddr, now: u64) -> Result<(), IpAddr> {
        let counting = counting(now);
        self.0.retain(|(step, _), _| step >= counting.start());
        let owner = *self.0.entry((step, Family::of(source))).or_insert(source);
        if owner == source { Ok(()) } else { Err(owner) }
    }
}

/// `STEP=ADDRESS`, separated by spaces.
impl fmt::Display for Used {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut space = "";
        for ((step, _), address) in &self.0 {
            write!(f, "{space}{step}={address}")?;
            space = " ";
        }
        Ok(())
    }
}

/// What is not understood is left out.
impl FromStr for Used {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_whitespace().filter_map(|part| {
            let (step, address) = part.split_once('=')?;
            let address: IpAddr = address.parse().ok()?;
            Some(((step.parse().ok()?, Family::of(address)), address))
        });
        Ok(Self(parts.collect()))
    }
}
