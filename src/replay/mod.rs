//! A capture of traffic, taken through matcher and engine in its own time: what would have
//! happened to whom. Changes nothing anywhere; no command is run, no name resolved.
//!
//! Reads pcap and pcapng. Of the host that the capture was made on it needs to know what the
//! daemon asks the kernel for: its addresses, and the ports that something listens on.
#![forbid(unsafe_code)]

mod clock;
mod copies;
mod error;
mod file;
#[cfg(test)]
mod file_tests;
mod host;
mod hub;
mod input;
mod interface;
#[cfg(test)]
mod interface_tests;
mod link;
#[cfg(test)]
mod link_tests;
#[cfg(test)]
mod made_tests;
mod pcap;
mod pcapng;
mod reading;
#[cfg(test)]
mod run_tests;
mod steps;
mod story;
mod summary;
mod survey;
#[cfg(test)]
mod survey_tests;
#[cfg(test)]
mod time_tests;

use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use crate::matcher::{Matcher, Timed};
use crate::model::{GateName, KnockName, Lifetime};
use crate::policy::{self, LoadError, Policy};
use crate::totp::{Secrets, Used};

use clock::Clock;
pub use error::{FormatError, ReplayError};
pub use file::Ending;
use host::Host;
pub use interface::Known;
use reading::{Capture, format_error, open, read_before, read_error, reader_of};
use story::Story;
pub use summary::{Counts, Holding, Summary};

/// As many addresses as may be taken for a host's own.
pub const MOST_ADDRESSES: usize = 1024;

/// What is to be replayed, and how.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// The capture; `-` is standard input.
    pub capture: PathBuf,
    /// The policy; without one, that of the daemon.
    pub policy: Option<PathBuf>,
    /// The addresses of the host. Without any, those of the policy's gates and those that are
    /// knocked on in the capture.
    pub addresses: Vec<IpAddr>,
    /// The TCP ports that something listens on. If `None`, those that answer in the capture.
    pub listening: Option<Vec<u16>>,
    /// As a daemon does that was started with `-4`.
    pub only_ipv4: bool,
    /// The broadcast addresses of the host's networks: nobody knocks from there.
    pub broadcast: Vec<IpAddr>,
    /// As a daemon does that was started with `-i`: an interface, or `any`.
    pub interface: Option<String>,
    /// What the capture does not tell about interfaces.
    pub known: Vec<Known>,
}

/// Something that was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// When: nanoseconds since 1970, UTC, by the capture's clock, which may have been set back.
    pub at: u64,
    /// How long after the first packet. Never less than before.
    pub after: Duration,
    /// Who brought it about; nobody did where time did.
    pub source: Option<IpAddr>,
    /// By what.
    pub cause: Cause,
    /// What changes; nothing where it is refused, or was so already.
    pub effects: Vec<Effect>,
    /// Commands that would be run. Nothing is; each counts as ended at once.
    pub commands: Vec<String>,
    /// As the daemon's log has it.
    pub words: Vec<String>,
}

/// What brings a decision about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// A completed sequence.
    Knock(KnockName),
    /// A sweep of ports.
    Sweep,
    /// A sequence that was completed a moment ago, as a part of a sweep as it turns out.
    Undone(KnockName),
    /// Something is over.
    Time,
}

/// What a decision changes, at one gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// What.
    pub deed: Deed,
    /// Where.
    pub gate: GateName,
    /// For whom.
    pub net: IpNet,
    /// For how long, where it begins.
    pub lifetime: Option<Lifetime>,
}

/// What becomes of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Let in for a while.
    Accepted,
    /// Shut out.
    Banned,
    /// Trusted.
    Trusted,
    /// Everybody is let in.
    Opened,
    /// An acceptance is taken back.
    Withdrawn,
    /// A ban is lifted, or had to make room.
    Unbanned,
    /// Trust is taken back.
    Untrusted,
    /// Everybody is let in no more.
    Closed,
    /// An acceptance is over.
    AcceptanceOver,
    /// A ban is over.
    BanOver,
    /// A gate that was open to everybody is so no more.
    OpeningOver,
}

impl Deed {
    /// In a word or two, as it is shown.
    pub const fn word(self) -> &'static str {
        match self {
            Deed::Accepted => "accept",
            Deed::Banned => "ban",
            Deed::Trusted => "trust",
            Deed::Opened => "open",
            Deed::Withdrawn => "withdraw",
            Deed::Unbanned => "unban",
            Deed::Untrusted => "untrust",
            Deed::Closed => "close",
            Deed::AcceptanceOver => "accept-over",
            Deed::BanOver => "ban-over",
            Deed::OpeningOver => "open-over",
        }
    }
}

/// Runs through a capture; `tell` hears of every decision as it is made.
pub fn run(
    order: &Order,
    tell: &mut dyn FnMut(&Decision) -> io::Result<()>,
) -> Result<Summary, ReplayError> {
    let path = match &order.policy {
        Some(path) => path.clone(),
        None => policy::usual_path(),
    };
    let policy = policy::load(&path)?.policy;
    has_memory(&policy, &path)?;
    let mut warnings = Vec::new();
    let trusted = host::trusted(&policy, &mut warnings);
    let timed = timed(&policy, &mut warnings);
    let sheets = host::sheets(&policy, &mut warnings);
    let mut capture = open(order, &policy, &mut warnings)?;
    capture.host = Host {
        sheets,
        trusted,
        timed,
        ..capture.host
    };
    let summary = tell_of(order, policy, capture, warnings, tell)?;
    Ok(Summary {
        policy: path,
        ..summary
    })
}

/// Runs through a capture that is at hand, with a policy that is: no file is opened, and what the
/// order says of files is only for messages. Nobody is trusted.
pub fn run_on(
    capture: &[u8],
    policy: Policy,
    order: &Order,
    tell: &mut dyn FnMut(&Decision) -> io::Result<()>,
) -> Result<Summary, ReplayError> {
    has_memory(&policy, order.policy.as_deref().unwrap_or(Path::new("-")))?;
    let mut warnings = Vec::new();
    let mut host = host::told(order, &policy);
    let before = reader_of(order, capture)?;
    let course = read_before(order, &policy, before, &mut host, &mut warnings)?;
    let capture = Capture {
        reader: reader_of(order, capture)?,
        host,
        course: Some(course),
    };
    tell_of(order, policy, capture, warnings, tell)
}

/// Refuses what the daemon refuses: nothing can be any more when the matcher takes its memory.
fn has_memory(policy: &Policy, file: &Path) -> Result<(), LoadError> {
    let memory = policy.memory;
    if Matcher::has_memory(memory) {
        return Ok(());
    }
    let file = file.to_owned();
    Err(LoadError::Memory { file, memory })
}

/// Takes the host through the capture.
fn tell_of<R: Read>(
    order: &Order,
    policy: Policy,
    capture: Capture<R>,
    mut warnings: Vec<String>,
    tell: &mut dyn FnMut(&Decision) -> io::Result<()>,
) -> Result<Summary, ReplayError> {
    let Capture {
        mut reader,
        mut host,
        course,
    } = capture;
    warnings.extend(host::untaken(&policy));
    host.addresses.sort_unstable();
    host.addresses.dedup();
    let (addresses, listening) = (host.addresses.clone(), host.listening.clone());
    let mut story = Story::new(policy, host, Clock::new(course));
    let read = |source| read_error(order, source);
    let ending = loop {
        match reader.next().map_err(read)? {
            Ok((record, bytes)) => story
                .packet(record, bytes, tell)
                .map_err(ReplayError::Tell)?,
            Err(ending) => break ending,
        }
    };
    if let Some(link) = reader.unknown_link() {
        let (counts, error) = (&story.counts, FormatError::LinkType(link));
        if counts.read == counts.unknown_link {
            return Err(format_error(order, error));
        }
        // It may be described, and no packet have come through it.
        if counts.unknown_link > 0 {
            warnings.push(format!(
                "{} packets are left out: of their interface, {error}",
                counts.unknown_link
            ));
        }
    }
    let mut summary = Summary::new(story, ending, warnings);
    summary.addresses = addresses;
    summary.listening = listening;
    Ok(summary)
}

/// The knocks whose sequences follow from a secret and the time of the capture.
fn timed(policy: &Policy, warnings: &mut Vec<String>) -> Timed {
    let mut secrets = Secrets::default();
    Timed::new(policy, |knock, what| {
        let secret = secrets.read(&what.file);
        let secret = secret.map_err(|error| {
            let name = &knock.name;
            warnings.push(format!("{name}: {error}; it is never knocked here"));
        });
        (secret.ok(), Used::default())
    })
}
