//! Which packets were seen before: fingerprints in the records of their sources.

use std::time::Duration;

use super::{Sender, Table, WITNESSES, low_half};
use crate::matcher::record::{FOREIGN, NEAR, Record, WITNESS};
use crate::model::{Proto, Time};
use crate::packet::Knock;

/// For how long a SYN may be sent again: Linux gives up after 127 s (`tcp_syn_retries`, tcp(7)). Who
/// sends the same one after that means it, or has fixed numbers.
const SENT_AGAIN: Duration = Duration::from_secs(130);
/// The last of them comes 63 s after the first, or 67 s (`tcp_syn_linear_timeouts`). A strange port is
/// not touched again by those. It is shorter, so that a scanner with fixed numbers whose strange ports
/// are nothing has knock ports that are.
const SENT_LAST: Duration = Duration::from_secs(75);

/// A packet that was seen before.
#[derive(Debug, Clone, Copy)]
pub(in crate::matcher) struct Seen {
    /// It will be known for as long as it could be.
    pub(in crate::matcher) is_fresh: bool,
    /// That it is sent again says nothing of a port that is strange.
    pub(in crate::matcher) is_sent_again: bool,
}

impl Table {
    /// What tells a retransmission: ports and TCP sequence number. A datagram has none.
    pub(in crate::matcher) fn fingerprint(&self, knock: &Knock) -> Option<u32> {
        if knock.port.proto == Proto::Udp {
            return None;
        }
        let (from, to) = (knock.source_port, knock.port.port);
        let whole = (u64::from(knock.seq) << 32) | (u64::from(from) << 16) | u64::from(to);
        Some(low_half(whole.wrapping_mul(self.multiplier) >> 32))
    }

    /// Whether such a packet was seen before, and how long ago that may have been at most.
    pub(in crate::matcher) fn seen(
        &self,
        sender: &Sender,
        print: Option<u32>,
        now: Time,
    ) -> Option<Seen> {
        let print = print?;
        let mut youngest = None;
        let mut at = self.first(sender);
        while let Some(record) = self.records.get(at as usize) {
            if record.prints().contains(&print) && !self.is_past(record, now) {
                let age = now.since(record.started);
                youngest = Some(youngest.map_or(age, |other: Duration| other.min(age)));
            }
            at = self.older(at);
        }
        let age = youngest?;
        Some(Seen {
            is_fresh: age <= self.longest,
            is_sent_again: age <= self.longest.saturating_add(SENT_LAST),
        })
    }

    /// For how long a record knows its fingerprints. It has taken them while it was no older than
    /// [`Table::longest`], so each is known for longer than a strange port is.
    pub(super) fn known_for(&self) -> Duration {
        let twice = self.longest.saturating_mul(2);
        twice.saturating_add(SENT_AGAIN)
    }

    /// Whether its fingerprints are too old to count.
    pub(super) fn is_past(&self, record: &Record, now: Time) -> bool {
        let known_for = match record.sequence {
            NEAR => SENT_LAST,
            _ => self.known_for(),
        };
        now.since(record.started) > known_for
    }

    /// Has a fingerprint known for as long as if it were seen for the first time.
    pub(in crate::matcher) fn renew(&mut self, sender: &mut Sender, print: u32, now: Time) {
        let mut at = self.first(sender);
        while let Some(record) = self.records.get_mut(at as usize) {
            // The time of others is that of something else.
            let is_witness = record.is_void() && record.touches().is_empty();
            if is_witness && record.prints().contains(&print) {
                record.started = now;
                return;
            }
            at = self.older(at);
        }
        let _ = self.remember(sender, print, now);
    }

    /// Notes a fingerprint in that record, if it has room.
    pub(in crate::matcher) fn note(&mut self, at: u32, print: u32) -> bool {
        self.records[at as usize].push_print(print)
    }

    /// Notes a fingerprint in one of the source's records, or in a new one, whose place is returned.
    pub(in crate::matcher) fn remember(
        &mut self,
        sender: &mut Sender,
        print: u32,
        now: Time,
    ) -> Option<u32> {
        let (mut witnesses, mut oldest) = (0, None::<(Time, u32)>);
        let mut at = self.first(sender);
        while let Some(record) = self.records.get_mut(at as usize) {
            if ![FOREIGN, NEAR].contains(&record.sequence) {
                if now.since(record.started) <= self.longest && record.push_print(print) {
                    return None;
                }
                if record.is_void() && record.touches().is_empty() {
                    witnesses += 1;
                    if oldest.is_none_or(|(time, _)| record.started < time) {
                        oldest = Some((record.started, at));
                    }
                }
            }
            at = self.older(at);
        }
        let at = match oldest {
            Some((_, at)) if witnesses >= WITNESSES => self.make_newest(sender, at),
            _ => self.add(sender),
        };
        let record = &mut self.records[at as usize];
        record.sequence = WITNESS;
        record.started = now;
        record.clear_prints();
        record.push_print(print);
        Some(at)
    }
}
