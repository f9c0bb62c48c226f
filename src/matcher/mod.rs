//! Which source has completed which sequence. Pure: knocks and times in, completions out.
//!
//! The rules are those of "What a knock is" in the design: for each source and sequence, without
//! backtracking, the expected port advances; a repeat of the port just matched is ignored unless
//! the sequence asks for it; any other knock port voids the attempt and may then start it anew;
//! a retransmission is nothing at all; and a source that sweeps has no valid attempt until it has
//! been quiet.
//!
//! What is a sweep: some ports are strange to whoever was told a knock, since nothing is there for
//! anybody: those that nobody knocks on or listens on (foreign), and decoys. A source that touches
//! several of them is a scanner; one that touches a foreign one near a sequence, or any decoy, has no
//! valid attempt at that for a while. What it knocks on first in that time is held against it: a repeat
//! of that begins nothing, or a scan that comes back to each port would begin when the while is over.
//! A sweep that happens to begin with the right ports shows what it is only afterwards: then what
//! its sequences brought about is to be undone.
#![forbid(unsafe_code)]

#[cfg(test)]
mod flood_tests;
#[cfg(test)]
mod guard_tests;
mod index;
#[cfg(test)]
mod near_tests;
mod ports;
mod progress;
#[cfg(test)]
mod property_tests;
mod record;
mod scope;
mod sequences;
#[cfg(test)]
mod step_tests;
#[cfg(test)]
mod sweep_tests;
mod sweeps;
mod table;
#[cfg(test)]
mod tests;
mod timed;
#[cfg(test)]
mod undo_tests;

use std::net::IpAddr;
use std::time::Duration;

use crate::model::{KnockName, KnockPort, Proto, Time};
use crate::packet::Knock;
use crate::policy::{LogStyle, Policy, TcpFlags};

use ports::Ports;
pub use progress::{Kept, Progress};
use record::{Attempt, BARRED};
pub use scope::Scope;
pub use sequences::SequenceId;
use sequences::{Arrival, PortId, Sequences};
use sweeps::{Guard, Touch, Touched};
use table::{Sender, Table};
pub use timed::{Timed, Whose};

/// The attempts of all sources.
#[derive(Debug)]
pub struct Matcher {
    sequences: Sequences,
    table: Table,
    guard: Guard,
    neutral: Ports,
    /// Ports one of which may void an attempt at a sequence that is no decoy.
    near: Ports,
    /// Sequences that the packet at hand has already moved; kept to spare an allocation.
    moved: Vec<SequenceId>,
    /// Whether steps are told.
    tells: bool,
}

/// What a packet brought about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct Heard {
    /// It went to a knock port, with flags that some sequence asks for.
    pub knock: bool,
    /// The sequences that it completed, drops first.
    pub completed: Vec<SequenceId>,
    /// Its source is a scanner since now.
    pub swept: bool,
    /// Sequences that its source completed a moment ago, as a part of a sweep as it turns out.
    pub undone: Vec<SequenceId>,
    /// The next packet may complete a sequence that is no decoy.
    pub nearly: bool,
    /// How far it took its source, where the policy wants such things logged.
    pub steps: Vec<Step>,
}

/// A step of an attempt, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// That many ports of the sequence are matched.
    Stage(SequenceId, u8),
    /// An attempt that had come so far was too old for this packet.
    TooLate(SequenceId, u8),
}

/// Where a knock belongs.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// What a retransmission of it is known by.
    print: Option<u32>,
    port: PortId,
    /// It went to an address that is only for sequences that name it.
    reserved: bool,
}

impl Matcher {
    /// No attempts yet.
    pub fn new(policy: &Policy) -> Self {
        let (sequences, guard) = (Sequences::new(&policy.knocks), guard(policy));
        let mut table = Table::new(policy.memory);
        table.set_times(sequences.longest(), guard.sweep());
        Self {
            near: sequences.near(guard.nearby),
            sequences,
            table,
            guard,
            neutral: Ports::default(),
            moved: Vec::new(),
            tells: tells(policy),
        }
    }

    /// Whether there are so many bytes for records. Without them the program would end.
    pub fn has_memory(bytes: usize) -> bool {
        Vec::<u8>::new().try_reserve_exact(bytes).is_ok()
    }

    /// Says which TCP ports are not foreign although nobody knocks there: those of gates, and
    /// those that something listens on.
    pub fn set_neutral(&mut self, ports: impl IntoIterator<Item = u16>) {
        self.neutral = ports.into_iter().collect();
    }

    /// A packet of this source is soon to be handled, if it comes to that: what is known of the source
    /// need not be waited for then. Where packets come one by one this is not worth while.
    pub fn expect(&self, source: IpAddr) {
        self.table.expect(source);
    }

    /// Takes a packet into account. `at` is the kernel's time of it. Nothing is allocated unless a
    /// sequence is completed.
    ///
    /// Whether the packet counts at all is asked of [`Scope`] before; `ours` is whether it was sent
    /// to an address of this very host, where a foreign port can be told from one that is
    /// served.
    pub fn handle(&mut self, knock: &Knock, ours: bool, at: Time) -> Heard {
        let mut heard = Heard::default();
        self.table.next_packet(at);
        let (port, is_strange) = match self.sequences.arrival(knock) {
            Arrival::Knock(port) => {
                let is_decoy = self.sequences.is_only_decoy(port);
                (Some(port), is_decoy && self.counts_as_sweep(knock, ours))
            }
            Arrival::Foreign if self.counts_as_sweep(knock, ours) => (None, true),
            Arrival::Foreign | Arrival::OtherFlags => return heard,
        };
        heard.knock = port.is_some();
        let mut sender = self.table.look_up(knock.source);
        let print = self.table.fingerprint(knock);
        // Where one is enough to shut somebody out for a while.
        let print = print.filter(|_| heard.knock || self.near.contains(knock.port.port));
        // Of a source that is new there is nothing to ask, and in a flood nearly all are.
        let is_new = self.table.is_new(&sender);
        let seen = (!is_new)
            .then(|| self.table.seen(&sender, print, at))
            .flatten();
        let mut touch = Touch {
            port: knock.port.port,
            print: None,
            begun: None,
        };
        match (port, seen) {
            (None, _) => touch.print = print,
            (Some(port), None) => {
                // What is behind us is not ours to hear unless a sequence names it.
                let reserved = !ours && self.sequences.is_target(knock.destination);
                let place = Place {
                    print,
                    port,
                    reserved,
                };
                touch.begun = self.knocked(knock, &mut sender, place, at, &mut heard);
            }
            (Some(_), Some(seen)) => {
                // Whoever sends the same packets round and round does not knock anew each time.
                if let (false, false, Some(print)) = (is_strange, seen.is_fresh, print) {
                    self.table.renew(&mut sender, print, at);
                }
            }
        }
        // Whoever mistyped one port is not to be shut out anew each time that it is sent again.
        let is_sent_again = seen.is_some_and(|seen| seen.is_sent_again)
            && !self.table.is_scanner(&sender, &self.guard, at);
        if is_strange && !is_sent_again {
            self.touched(touch, &mut sender, at, &mut heard);
        }
        heard
    }

    /// SYN without ACK to a port that nobody has a reason to connect to. What is served behind us is
    /// not known, and may be anything: there only what is close to a sequence counts.
    fn counts_as_sweep(&self, knock: &Knock, ours: bool) -> bool {
        let port = knock.port;
        port.proto == Proto::Tcp
            && TcpFlags::OPENING.fit(knock.flags)
            && !self.neutral.contains(port.port)
            && (ours || self.near.contains(port.port))
    }

    /// Takes a strange port into account.
    fn touched(&mut self, touch: Touch, sender: &mut Sender, at: Time, heard: &mut Heard) {
        let port = touch.port;
        let touched = self.table.touch(sender, touch, &self.guard, at);
        heard.swept = touched == Touched::Swept;
        // Who was a scanner before has no attempts either, or one that began a moment later than
        // this packet was sent: several CPUs write them.
        let is_scanner = touched != Touched::Few;
        if !is_scanner && !self.near.contains(port) {
            return;
        }
        let Self {
            sequences, guard, ..
        } = self;
        self.table.for_each_attempt(sender, |attempt| {
            let sequence = &sequences[attempt.sequence];
            let is_near = sequences.is_spoilt_by(attempt.sequence, port, guard.nearby);
            if sequence.is_drop || !(is_scanner || is_near) {
                return;
            }
            if attempt.is_done() {
                let since = at.since(attempt.started);
                if (is_scanner && since <= guard.sweep()) || (is_near && since <= sequence.timeout)
                {
                    // It may have been completed twice.
                    if !heard.undone.contains(&attempt.sequence) {
                        heard.undone.push(attempt.sequence);
                    }
                } else {
                    return;
                }
            }
            attempt.void();
        });
    }

    /// Whether the source may begin the sequence: what sweeps may not, but for decoys, which are
    /// there for that.
    fn may_begin(&self, id: SequenceId, sender: &Sender, is_scanner: bool, at: Time) -> bool {
        self.sequences[id].is_drop || !(is_scanner || self.kept_for(id, sender, at).is_some())
    }

    /// How long the source may not begin the sequence because of strange ports that are near it.
    fn kept_for(&self, id: SequenceId, sender: &Sender, at: Time) -> Option<Duration> {
        let Self {
            sequences,
            table,
            guard,
            ..
        } = self;
        let is_beside = |port| sequences.is_beside(id, port, guard.nearby);
        let within = if table.touched_several(sender, guard, at, is_beside) {
            guard.within
        } else {
            sequences[id].timeout
        };
        let spoils = |port| sequences.is_spoilt_by(id, port, guard.nearby);
        table.touch_counts_for(sender, guard, at, within, spoils)
    }

    /// The place of what it began, if it did.
    fn knocked(
        &mut self,
        knock: &Knock,
        sender: &mut Sender,
        place: Place,
        at: Time,
        heard: &mut Heard,
    ) -> Option<u32> {
        let Place {
            print,
            port,
            reserved,
        } = place;
        let is_new = self.table.is_new(sender);
        let mut begun = None;
        self.moved.clear();
        if !is_new {
            self.continue_attempts(knock, sender, reserved, at, heard);
        }
        let is_scanner = !is_new && self.table.is_scanner(sender, &self.guard, at);
        for &id in self.sequences.starting_with(port) {
            let sequence = &self.sequences[id];
            if self.moved.contains(&id) || !sequence.fits(knock, reserved) {
                continue;
            }
            if !(is_new || self.may_begin(id, sender, is_scanner, at)) {
                // Where there is no other port every knock is a repeat of the first.
                if sequence.has_another_port() {
                    self.table.start(sender, id, BARRED, at);
                }
                continue;
            }
            let stage = if sequence.ports.len() == 1 {
                heard.completed.push(id);
                sequence.end()
            } else {
                heard.nearly |= sequence.lacks_one(1);
                1
            };
            if self.tells {
                heard.steps.push(Step::Stage(id, 1));
            }
            begun = Some(self.table.start(sender, id, stage, at));
        }
        if let Some(print) = print {
            let is_noted = is_new && begun.is_some_and(|at| self.table.note(at, print));
            if !is_noted {
                begun = self.table.remember(sender, print, at).or(begun);
            }
        }
        let completed = &mut heard.completed;
        completed.sort_unstable_by_key(|&id| (!self.sequences[id].is_drop, id));
        begun
    }

    /// Moves, restarts or voids the attempts that the source has.
    fn continue_attempts(
        &mut self,
        knock: &Knock,
        sender: &Sender,
        reserved: bool,
        at: Time,
        heard: &mut Heard,
    ) {
        let Self {
            sequences,
            table,
            moved,
            tells,
            ..
        } = self;
        let useful = table.useful();
        table.for_each_attempt(sender, |attempt| {
            let sequence = &sequences[attempt.sequence];
            if attempt.is_done() || !sequence.fits(knock, reserved) {
                return;
            }
            if attempt.is_barred() {
                // A scan that goes on to the next port some time after the last has knocked on the first
                // all along; whoever tries anew has been at another port since.
                if knock.port == sequence.ports[0] && at.since(attempt.started) <= useful {
                    attempt.started = at;
                    moved.push(attempt.sequence);
                } else {
                    attempt.void();
                }
                return;
            }
            let stage = usize::from(attempt.stage);
            if at.since(attempt.started) > sequence.timeout {
                if *tells {
                    heard
                        .steps
                        .push(Step::TooLate(attempt.sequence, attempt.stage));
                }
                attempt.void();
            } else if sequence.ports[stage] == knock.port {
                moved.push(attempt.sequence);
                attempt.stage += 1;
                heard.nearly |= sequence.lacks_one(stage + 1);
                if *tells {
                    heard
                        .steps
                        .push(Step::Stage(attempt.sequence, attempt.stage));
                }
                if stage + 1 == sequence.ports.len() {
                    heard.completed.push(attempt.sequence);
                    *attempt = Attempt {
                        started: at,
                        stage: sequence.end(),
                        ..*attempt
                    };
                }
            } else if sequence.ports[stage - 1] == knock.port {
                // A browser opens several connections at once. While the first port alone is
                // matched the attempt is not counted as moved, so that it starts again.
                if stage > 1 {
                    moved.push(attempt.sequence);
                }
            } else {
                attempt.void();
            }
        });
    }

    /// The name of a sequence that [`Matcher::handle`] returned.
    pub fn name(&self, id: SequenceId) -> &KnockName {
        &self.sequences[id].name
    }

    /// Whether a sequence that [`Matcher::handle`] returned is there to ban whoever knocks it.
    pub fn is_decoy(&self, id: SequenceId) -> bool {
        self.sequences[id].is_drop
    }

    /// The ports of a sequence that [`Matcher::handle`] returned.
    pub fn ports(&self, id: SequenceId) -> &[KnockPort] {
        &self.sequences[id].ports
    }

    /// Follows a changed policy. Sequences that are the same as before keep their attempts.
    pub fn reload(&mut self, policy: &Policy) {
        let new = Sequences::new(&policy.knocks);
        let old = std::mem::replace(&mut self.sequences, new);
        let renumbered = self.sequences.renumbering(&old);
        self.table.renumber(&renumbered);
        self.table.resize(policy.memory);
        let old = std::mem::replace(&mut self.guard, guard(policy));
        let (longest, sweep) = (self.sequences.longest(), self.guard.sweep());
        self.table.set_times(longest, sweep);
        if self.guard.tick_length() != old.tick_length() {
            // Their times would be read with another measure.
            self.table.forget_touches();
        }
        self.tells = tells(policy);
        self.near = self.sequences.near(self.guard.nearby);
    }

    /// What has arrived at each knock port, retransmissions included, in ascending order.
    pub fn arrivals(&self) -> impl Iterator<Item = (KnockPort, u64)> {
        self.sequences.arrivals()
    }

    /// How many records had to go before their time since the start.
    pub fn evicted(&self) -> u64 {
        self.table.evicted()
    }

    /// How many records are in use and how many there may be.
    pub fn occupancy(&self) -> (usize, usize) {
        (self.table.len(), self.table.capacity())
    }
}

/// The classic daemon's log has a line for each step.
fn tells(policy: &Policy) -> bool {
    policy.log.style == LogStyle::Classic
}

fn guard(policy: &Policy) -> Guard {
    Guard {
        ports: policy.scan_guard.ports,
        within: policy.scan_guard.within,
        nearby: policy.scan_guard.nearby,
    }
}
