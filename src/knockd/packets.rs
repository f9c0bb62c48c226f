//! What packets bring about: the kernel's sets first, before anything is logged.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::ControlFlow;

use tracing::info;

use crate::capture::Drained;
use crate::engine::Event;
use crate::matcher::{SequenceId, Step};
use crate::packet::{self, NotAKnock};
use crate::resolver;

use super::daemon::{Daemon, now};

/// What a packet brought about.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fired {
    /// An attempt has come further, or is too old.
    Step(Step),
    /// A sequence is complete.
    Knock(SequenceId),
    /// Its source turned out to sweep ports.
    Sweep,
    /// A sequence that was complete a moment ago turned out to be part of a sweep.
    Undone(SequenceId),
}

/// Counters of what came in.
#[derive(Debug, Default)]
pub(super) struct Packets {
    pub(super) knocks: u64,
    pub(super) others: u64,
    pub(super) not_for_us: u64,
    pub(super) refused: BTreeMap<NotAKnock, u64>,
    /// Lines about them that were left out.
    pub(super) unlogged: u64,
}

impl Packets {
    /// Of so many that were taken in, those that came in where knocks do not count: all the others
    /// were looked at.
    pub(super) fn other_interfaces(&self, taken: u64) -> u64 {
        let refused: u64 = self.refused.values().sum();
        taken.saturating_sub(self.knocks + self.others + self.not_for_us + refused)
    }
}

/// So many packets are taken in at a time, so that a flood leaves time for other things.
const AT_ONCE: u64 = 512;

impl Daemon {
    /// Takes in what has arrived; whether there may be more. The kernel's sets are written as soon
    /// as the packet that completes a sequence is looked at, before those behind it and before
    /// anything is logged.
    pub(super) fn take_packets(&mut self) -> Drained {
        let enough = self.capture.taken() + AT_ONCE;
        loop {
            let drained = self.look_at_packets();
            if self.fired.is_empty() {
                if drained == Drained::All && std::mem::take(&mut self.expects) {
                    self.awake.hold(now());
                    self.rehearse();
                }
                return drained;
            }
            self.bring_about();
            self.log_steps();
            if self.capture.taken() >= enough {
                return Drained::More;
            }
        }
    }

    /// Does what a packet has brought about.
    fn bring_about(&mut self) {
        let fired = std::mem::take(&mut self.fired);
        // Before anything is done: a one-time sequence that is used up makes the numbers others.
        let sequence = |what: &Fired| match what {
            Fired::Knock(id) | Fired::Undone(id) => Some((
                self.matcher.name(*id).clone(),
                self.matcher.ports(*id).to_vec(),
                self.matcher.is_decoy(*id),
            )),
            Fired::Step(_) | Fired::Sweep => None,
        };
        let sequences: Vec<_> = fired.iter().map(|(_, what)| sequence(what)).collect();
        for ((source, what), sequence) in fired.into_iter().zip(sequences) {
            match (what, sequence) {
                (Fired::Knock(_), Some((knock, ports, is_decoy))) => {
                    if self.counts(source, &knock, &ports) && self.knocked(source, knock, &ports) {
                        self.look_up(source);
                    }
                    // Somebody's decoy says nothing of who is waited for.
                    if !is_decoy {
                        self.awake.release(now());
                    }
                }
                (Fired::Undone(_), Some((knock, ..))) => {
                    self.sheets.undone(source, &knock);
                    self.handle(Event::Undone { source, knock });
                }
                (Fired::Step(step), _) => self.note_step(source, step),
                (Fired::Sweep, _) => drop(self.handle(Event::Swept { source })),
                (Fired::Knock(_) | Fired::Undone(_), None) => {}
            }
        }
    }

    /// Looks at packets, up to the first that brings something about.
    fn look_at_packets(&mut self) -> Drained {
        let Self {
            capture,
            matcher,
            scope,
            packets,
            fired,
            only_ipv4,
            expects,
            ..
        } = self;
        capture.drain(|frame| {
            if let Some(source) = frame.coming.and_then(packet::source) {
                matcher.expect(source);
            }
            let knock = match packet::parse(frame.bytes) {
                Ok(knock) => knock,
                Err(why) => {
                    *packets.refused.entry(why).or_default() += 1;
                    return ControlFlow::Continue(());
                }
            };
            if !scope.admits(&knock) || (*only_ipv4 && knock.source.is_ipv6()) {
                packets.not_for_us += 1;
                return ControlFlow::Continue(());
            }
            // What is behind us may well listen on ports that nobody listens on here.
            let ours = scope.is_own(knock.destination);
            let heard = matcher.handle(&knock, ours, frame.at);
            if heard.knock {
                packets.knocks += 1;
                let granted = heard.completed.iter().any(|&id| !matcher.is_decoy(id));
                *expects = (*expects || heard.nearly) && !granted;
            } else {
                packets.others += 1;
            }
            let steps = heard.steps.into_iter();
            fired.extend(steps.map(|step| (knock.source, Fired::Step(step))));
            let completed = heard.completed.into_iter();
            fired.extend(completed.map(|id| (knock.source, Fired::Knock(id))));
            let undone = heard.undone.into_iter();
            fired.extend(undone.map(|id| (knock.source, Fired::Undone(id))));
            if heard.swept {
                fired.push((knock.source, Fired::Sweep));
            }
            if fired.is_empty() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })
    }

    /// Says a step in the classic words. Any packet can be one, so not too many.
    fn note_step(&mut self, source: IpAddr, step: Step) {
        if !self.step_lines.take(now()) {
            self.packets.unlogged += 1;
            return;
        }
        self.steps.push(match step {
            Step::Stage(id, stage) => {
                format!("{source}: {}: Stage {stage}", self.matcher.name(id))
            }
            Step::TooLate(id, stage) => {
                let door = self.matcher.name(id);
                format!("{source}: {door}: sequence timeout (stage {stage})")
            }
        });
    }

    pub(super) fn log_steps(&mut self) {
        for line in self.steps.drain(..) {
            info!("{line}");
        }
    }

    /// Logs the name of an address, when it is known; whoever knocked need not wait for that.
    fn look_up(&mut self, source: IpAddr) {
        let Some(lookups) = &self.lookups else { return };
        if !self.lookup_lines.take(now()) {
            self.packets.unlogged += 1;
            return;
        }
        // When too many knock at once, some stay nameless.
        let Ok(permit) = lookups.clone().try_acquire_owned() else {
            self.packets.unlogged += 1;
            return;
        };
        tokio::spawn(async move {
            if let Some(name) = resolver::name_of(&resolver::Config::default(), source).await {
                info!("{source} is {name}");
            }
            drop(permit);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_in_and_not_looked_at_came_in_elsewhere() {
        let packets = Packets {
            knocks: 1,
            others: 2,
            not_for_us: 3,
            refused: [(NotAKnock::Fragment, 4), (NotAKnock::BadSource, 5)].into(),
            unlogged: 6,
        };
        assert_eq!(packets.other_interfaces(15), 0);
        assert_eq!(packets.other_interfaces(22), 7);
    }
}
