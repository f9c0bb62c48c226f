//! The wall clock and the secrets of knocks with time-based sequences.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tracing::warn;

use crate::matcher::{Timed, Whose};
use crate::model::{Bucket, KnockName, KnockPort, Time};
use crate::sys::clock;
use crate::totp::{self, Secrets, Used};

use super::daemon::{Daemon, now};

/// The topic of secrets that are of no use.
const SECRETS: &str = "time-based sequences";

/// What counts now, and when that changes.
#[derive(Debug)]
pub(super) struct Clockwork {
    pub(super) timed: Timed,
    /// When to look at the wall clock again.
    due: Option<Time>,
    /// What was used of knocks that are not in the policy, or not yet.
    used: BTreeMap<KnockName, Used>,
    /// Who has a sequence that counted for another can send it again and again.
    lines: Bucket,
}

impl Clockwork {
    /// Nothing is read yet; this was used before.
    pub(super) fn new(used: BTreeMap<KnockName, Used>) -> Self {
        Self {
            timed: Timed::default(),
            due: None,
            used,
            lines: Bucket::new(1, 10),
        }
    }

    /// When the next step begins.
    pub(super) fn due(&self) -> Option<Time> {
        self.due
    }

    /// Follows the wall clock; whether other sequences count than before.
    fn turn(&mut self) -> bool {
        if self.timed.is_empty() {
            self.due = None;
            return false;
        }
        let wall = Duration::from_nanos(clock::realtime());
        // A clock that is steered may be a moment behind when the timer rings.
        let rest = totp::left(wall) + Duration::from_millis(1);
        self.due = Some(now().after(rest));
        self.timed.turn(totp::step(wall))
    }
}

impl Daemon {
    /// Reads the secrets of the policy in force. What was used stays used, also where a knock was
    /// gone for a while.
    pub(super) fn read_secrets(&mut self) {
        let mut problems = Vec::new();
        let mut secrets = Secrets::default();
        let Clockwork { timed, used, .. } = &mut self.clockwork;
        used.extend(std::mem::take(timed).into_used());
        *timed = Timed::new(self.engine.policy(), |knock, what| {
            let used = used.remove(&knock.name).unwrap_or_default();
            let secret = match secrets.read(&what.file) {
                Ok(secret) => {
                    problems.extend(readable(&what.file));
                    Some(secret)
                }
                Err(error) => {
                    problems.push(format!("{}: {error}: the door stays shut", knock.name));
                    None
                }
            };
            (secret, used)
        });
        self.clockwork.turn();
        self.problems.set_all(SECRETS, problems);
    }

    /// A step may have begun, or somebody has set the clock.
    pub(super) fn mind_clockwork(&mut self) {
        if self.clockwork.due.is_none_or(|due| due > now()) {
            return;
        }
        if self.clockwork.turn() {
            self.follow_sequences();
            self.follow_interfaces();
        }
    }

    /// A sequence of these ports is complete: whether that counts, if it is a time-based one.
    pub(super) fn counts(
        &mut self,
        source: IpAddr,
        knock: &KnockName,
        ports: &[KnockPort],
    ) -> bool {
        match self.clockwork.timed.complete(knock, ports, source) {
            Whose::Anybodys => true,
            Whose::Theirs(used) => {
                self.memory.used(knock, &used);
                true
            }
            Whose::Anothers(owner) => {
                if self.clockwork.lines.take(now()) {
                    warn!(
                        "{source}: {knock}: this sequence counts for {owner} alone, which knocked it \
                         first: it was repeated, or two share a secret within half a minute"
                    );
                }
                false
            }
            Whose::Nobodys => false,
        }
    }
}

/// A problem where others than the owner and the group can read or write the secret.
fn readable(file: &Path) -> Option<String> {
    let mode = std::fs::metadata(file).ok()?.permissions().mode();
    let file = file.display();
    let told =
        format!("{file} is not its owner's alone, and whoever has it can knock: chmod 600 {file}");
    (mode & 0o007 != 0).then_some(told)
}
