use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::file::Ending;
use super::steps::LEAST_STEP;
use super::story::Story;
use crate::model::{GateName, KnockName};
use crate::packet::NotAKnock;

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets of the capture, all of them.
    pub read: u64,
    /// To knock ports, with flags that some sequence asks for.
    pub knocks: u64,
    /// To other ports.
    pub others: u64,
    /// From or to addresses that do not count, not sent to this host on the link, or on an interface
    /// that the policy does not name.
    pub not_for_us: u64,
    /// Seen before on another interface.
    pub copies: u64,
    /// Of protocols other than IP.
    pub not_ip: u64,
    /// On interfaces with a link header that is not known here.
    pub unknown_link: u64,
    /// IP packets that are no knocks, by what is wrong with them.
    pub refused: BTreeMap<NotAKnock, u64>,
    /// Packets that are stamped earlier than one before them.
    pub out_of_order: u64,
    /// By how much at most.
    pub most_out_of_order: Duration,
    /// How often the clock was set back.
    pub set_back: u64,
    /// By how much at most.
    pub most_set_back: Duration,
    /// Packets that were taken into account although the policy names interfaces and nothing tells
    /// theirs.
    pub unplaced: u64,
    /// Packets without a time.
    pub untimed: u64,
    /// Acceptances given.
    pub accepted: u64,
    /// Bans written.
    pub banned: u64,
    /// Sources that were found to sweep ports, each time that they were.
    pub sweeps: u64,
}

/// What holds at a gate when the capture ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// Which gate.
    pub gate: GateName,
    /// How many acceptances.
    pub accepted: usize,
    /// How many bans.
    pub banned: usize,
    /// Whether it is open to everybody.
    pub open: bool,
}

/// A capture, run through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The policy.
    pub policy: PathBuf,
    /// What was taken for the host's addresses.
    pub addresses: Vec<IpAddr>,
    /// What was taken for TCP ports that something listens on.
    pub listening: Vec<u16>,
    /// The times of the first packet and the last, in nanoseconds since 1970, UTC.
    pub span: Option<(u64, u64)>,
    /// How long it took from one to the other. The clock may have been set back meanwhile.
    pub length: Duration,
    /// What was counted.
    pub counts: Counts,
    /// How often each knock was completed, in the policy's order.
    pub completed: Vec<(KnockName, u64)>,
    /// Bans that were not written because there were too many at once.
    pub refused_bans: u64,
    /// What holds at the end, for each gate.
    pub holds: Vec<Holding>,
    /// How the capture ended.
    pub ending: Ending,
    /// What makes all this less certain, for people.
    pub warnings: Vec<String>,
}

/// CPUs that take packets in side by side stamp them in a slightly different order than they hand
/// them on: that says nothing about a capture.
const USUAL_DISORDER: Duration = Duration::from_millis(1);

/// What is said of packets that are out of order.
fn disorder(counts: &Counts) -> String {
    let or = if counts.most_out_of_order > Duration::from_nanos(LEAST_STEP) {
        ", or the clock was set back before them, and time went on that does not count here"
    } else {
        ""
    };
    format!(
        "{} packets are out of order, by up to {:?}: they count as of the moment before; \
         reordercap puts them in order{or}",
        counts.out_of_order, counts.most_out_of_order
    )
}

impl Summary {
    pub(super) fn new(story: Story, ending: Ending, mut warnings: Vec<String>) -> Self {
        let named = story.listens().named().join(", ");
        if story.listens().is_elsewhere() {
            warnings.push(format!(
                "knocks count on {named} only, and --on names none of these: what came in elsewhere \
                 is left out"
            ));
        }
        let (engine, counts, clock) = story.end();
        if counts.unplaced > 0 {
            warnings.push(format!(
                "knocks count on {named} only, and the capture does not tell where {} packets came \
                 in: they count here; say it with --on (NAME, or NAME=NUMBER as in `ip link`)",
                counts.unplaced
            ));
        }
        if counts.most_out_of_order > USUAL_DISORDER {
            warnings.push(disorder(&counts));
        }
        if counts.set_back > 0 {
            warnings.push(format!(
                "the clock was set back in this capture (times: {}, by up to {:?}), or it is several in \
                 a row, which reordercap would put in order: time goes on from the moment before, and \
                 how much had passed nobody knows",
                counts.set_back, counts.most_set_back
            ));
        }
        if counts.untimed > 0 {
            warnings.push(format!(
                "{} packets have no time: they count as of the packet before, at the start as of the \
                 first that has one",
                counts.untimed
            ));
        }
        match ending {
            Ending::Whole => {}
            Ending::CutShort => warnings.push(
                "the capture ends in the middle of a packet; what comes before is replayed"
                    .to_owned(),
            ),
            Ending::Damaged { offset, why } => warnings.push(format!(
                "the capture is damaged at byte {offset}: {why}; what comes before is replayed"
            )),
        }
        let cut = counts.refused.get(&NotAKnock::Truncated);
        if let Some(cut) = cut.filter(|_| counts.knocks == 0) {
            warnings.push(format!(
                "{cut} packets are cut short, so that it is not seen whether they knock: capture more \
                 of each (`tcpdump -s 256`)"
            ));
        }
        let now = clock.now.unwrap_or_default();
        let holding = |gate: crate::engine::GateView| Holding {
            gate: gate.name,
            accepted: gate.accepted,
            banned: gate.banned,
            open: gate.open.is_some(),
        };
        let completed = engine.knocks().into_iter();
        Self {
            policy: PathBuf::new(),
            addresses: Vec::new(),
            listening: Vec::new(),
            span: clock.span(),
            length: now.since(clock.first),
            completed: completed.map(|it| (it.name, it.completed)).collect(),
            refused_bans: engine.refused_bans(),
            holds: engine.gates(now).into_iter().map(holding).collect(),
            counts,
            ending,
            warnings,
        }
    }

    /// The exit code: a capture that is damaged was not replayed to its end.
    pub fn code(&self) -> u8 {
        u8::from(matches!(self.ending, Ending::Damaged { .. }))
    }
}
