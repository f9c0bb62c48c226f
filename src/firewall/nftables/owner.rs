//! A table that is ours alone (`NFT_TABLE_F_OWNER`, `NFT_TABLE_F_PERSIST`, Linux 6.9): nobody else's
//! flush or delete reaches it, not even another socket of ours. When we die it stays, without an
//! owner, and whoever comes back with both flags takes it up.

use super::encode;
use super::kernel::{Failure, Kernel};
use super::plan::State;
use crate::firewall::FirewallError;

/// `NFT_TABLE_F_DORMANT`: lets everything through.
pub(super) const DORMANT: u32 = 1;
/// Both must be given when the table is made; later they are refused.
const OWNED: u32 = 2 | 4;
/// What is left of them when the owner has died.
const ORPHANED: u32 = 4;

/// Whether the table is to be ours alone, and can be.
#[derive(Debug, Default)]
pub(super) struct Owner {
    pub(super) wanted: bool,
    /// Once it was tried.
    pub(super) can: Option<bool>,
    /// For tests.
    pub(super) forbidden: bool,
}

impl Owner {
    /// The flags that the table is to have.
    pub(super) fn flags(&mut self, kernel: &mut Kernel) -> Result<u32, Failure> {
        if !self.wanted {
            return Ok(0);
        }
        let can = match self.can {
            Some(can) => can,
            None => !self.forbidden && kernel.knows_owners(OWNED)?,
        };
        self.can = Some(can);
        Ok(if can { OWNED } else { 0 })
    }

    /// What is wanted and cannot be had.
    pub(super) fn complaint(&self) -> Option<String> {
        let cannot = self.wanted && self.can == Some(false);
        cannot.then(|| {
            "`firewall: { owner: true }` is without effect: this kernel does not know tables that \
             stay when their owner dies (Linux 6.9 does); others can change table inet knockd, and \
             what they change is put back"
                .to_owned()
        })
    }
}

/// Wakes a table that sleeps, and takes up one that its owner left behind: the kernel takes no
/// chains in the transaction that does so. Whether anything was done.
pub(super) fn take_up(kernel: &mut Kernel, state: &State, wanted: u32) -> Result<bool, Failure> {
    let Some(found) = state.table else {
        return Ok(false);
    };
    let is_orphan = found & OWNED == ORPHANED && wanted == OWNED;
    let awake = if is_orphan { wanted } else { found & !DORMANT };
    if awake == found {
        return Ok(false);
    }
    kernel.commit(&[&encode::new_table(awake)], None)?;
    Ok(true)
}

/// Whether the table has to be made anew, since its flags cannot be changed.
pub(super) fn must_replace(state: &State, wanted: u32) -> bool {
    state.table.is_some_and(|found| {
        found & OWNED != wanted && !(found & OWNED == ORPHANED && wanted == OWNED)
    })
}

impl Kernel {
    /// Whether a table can have these flags: one is made in a transaction that fails.
    fn knows_owners(&mut self, flags: u32) -> Result<bool, Failure> {
        let [make, fail] = encode::owner_probe(flags);
        match self.commit(&[&make, &fail], None) {
            Err(failure) if failure.errno() == Some(libc::ENOENT) => Ok(true),
            Err(failure) if is_unknown(failure.errno()) => Ok(false),
            Err(failure) => Err(failure),
            Ok(()) => Err(FirewallError::Answer {
                object: "a table that does not exist".to_owned(),
                problem: "it was deleted".to_owned(),
            }
            .into()),
        }
    }
}

fn is_unknown(errno: Option<i32>) -> bool {
    matches!(errno, Some(libc::EOPNOTSUPP | libc::EINVAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_cannot_be_changed_mean_a_new_table() {
        let cases = [
            (None, 0, false),
            (None, OWNED, false),
            (Some(0), 0, false),
            (Some(DORMANT), 0, false),
            (Some(OWNED), OWNED, false),
            (Some(ORPHANED), OWNED, false),
            (Some(0), OWNED, true),
            (Some(OWNED), 0, true),
            (Some(ORPHANED), 0, true),
        ];
        for (table, wanted, expected) in cases {
            let state = State {
                table,
                ..State::default()
            };
            assert_eq!(must_replace(&state, wanted), expected, "{table:?} {wanted}");
        }
    }
}
