//! Packets as they come in from the link, before any firewall has seen them, and no more of them
//! than may matter: packet sockets with a kernel filter, one for IPv4 and one for IPv6.
//!
//! A packet is seen once, on the interface that finally receives it, without its link header.
//! The sockets belong to no interface, so none that vanishes can end them.
#![forbid(unsafe_code)]

mod bpf;
mod clocks;
mod filter;
mod ranges;
mod watch;

#[cfg(test)]
mod tests;

use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};

use clocks::Clocks;
use filter::{BUDGETS, Family};

use crate::model::{KnockPort, Time};
use crate::sys::clock;
use crate::sys::packet::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, Geometry, Instruction, PacketSocket, Ring,
};

pub use watch::Watch;

/// Which packets are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Destination ports.
    pub ports: Vec<KnockPort>,
    /// A TCP packet to one of them must fit one of these; with none, no TCP packet is wanted there.
    pub flags: Vec<FlagMask>,
    /// TCP ports at which connection attempts (SYN without ACK) are wanted, and nothing else.
    pub openings: Vec<u16>,
    /// Where they come in.
    pub interfaces: Interfaces,
}

/// TCP flags that must and must not be set; bits 0 to 5 as in the header (FIN 1 … URG 32), the
/// others are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlagMask {
    /// Bits that must be set.
    pub set: u8,
    /// Bits that must not be set.
    pub clear: u8,
}

impl FlagMask {
    const OPENING: FlagMask = FlagMask {
        set: 0x02,
        clear: 0x10,
    };

    fn fit(self, flags: u8) -> bool {
        let (set, clear) = (self.set & 0x3f, self.clear & 0x3f);
        flags & set == set && flags & clear == 0
    }
}

/// Where packets come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interfaces {
    /// On any interface but the loopback.
    Any,
    /// On those with these indexes; with none, nowhere.
    Only(Vec<u32>),
}

impl Interfaces {
    fn only(&self) -> Option<&[u32]> {
        match self {
            Interfaces::Any => None,
            Interfaces::Only(indexes) => Some(indexes),
        }
    }

    fn contains(&self, index: u32) -> bool {
        match self {
            Interfaces::Any => index != filter::LOOPBACK,
            Interfaces::Only(indexes) => indexes.contains(&index),
        }
    }
}

/// Why packets cannot be captured.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// EPERM or EACCES.
    #[error("cannot {operation} {object}: needs CAP_NET_ADMIN and CAP_NET_RAW: run as root")]
    Privileges {
        /// What was tried.
        operation: &'static str,
        /// On what.
        object: &'static str,
    },
    /// Any other errno.
    #[error("cannot {operation} {object}: {source}{hint}")]
    Kernel {
        /// What was tried.
        operation: &'static str,
        /// On what.
        object: &'static str,
        /// The errno.
        source: io::Error,
        /// What to do about it in brackets, or nothing.
        hint: &'static str,
    },
}

impl CaptureError {
    fn new(operation: &'static str, object: &'static str, source: io::Error) -> Self {
        let hint = match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => return Self::Privileges { operation, object },
            Some(libc::EAFNOSUPPORT) => " (the kernel lacks CONFIG_PACKET: modprobe af_packet)",
            Some(libc::ENOMEM | libc::ENOBUFS) => {
                " (memory is short, or net.core.optmem_max is below 20480)"
            }
            _ => "",
        };
        Self::Kernel {
            operation,
            object,
            source,
            hint,
        }
    }
}

/// A packet that passed the filter.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// From its IP header on; cut short if it is long, but its transport header is there.
    pub bytes: &'a [u8],
    /// The interface that received it.
    pub ifindex: u32,
    /// When the kernel received it.
    pub at: Time,
    /// The bytes of one that is handed over soon, [`AHEAD`] places behind this one, if it waits there.
    pub coming: Option<&'a [u8]>,
}

/// Far enough for what is known of a source to be read from memory before its packet's turn, and near
/// enough that it is still at hand then.
pub const AHEAD: usize = 8;

/// Whether everything has been looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "packets that are left do not wake anybody again"]
pub enum Drained {
    /// Nothing is left; wait for more.
    All,
    /// There may be more: call again before waiting.
    More,
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Packets that passed the kernel's filter, those dropped included.
    pub seen: u64,
    /// Packets that were lost because they came in faster than they were looked at.
    pub dropped: u64,
}

/// The two sockets.
#[derive(Debug)]
pub struct Capture {
    v4: Source,
    v6: Source,
    interfaces: Interfaces,
    /// Whose turn it is to be first.
    v6_first: bool,
}

#[derive(Debug)]
struct Source {
    ring: Ring,
    family: Family,
    /// When it was last seen empty, or a packet of it came: what is in it now came later. A ring
    /// that a flood keeps from being empty for minutes is not to date packets that far back when the
    /// wall clock jumps.
    earliest: Time,
    statistics: Statistics,
    taken: u64,
}

/// Packets of one family looked at in one call, so that a flood leaves time for other things.
const AT_ONCE: usize = 256;

impl Capture {
    /// Starts capturing. Needs `CAP_NET_RAW` in the network namespace.
    pub fn open(spec: &Spec) -> Result<Self, CaptureError> {
        Ok(Self {
            v4: Source::open(spec, Family::V4)?,
            v6: Source::open(spec, Family::V6)?,
            interfaces: spec.interfaces.clone(),
            v6_first: false,
        })
    }

    /// Wants other packets from now on; none that both filters pass is missed meanwhile. Packets
    /// that are already waiting are still delivered, unless their interface is no longer wanted.
    /// After an error one family may have the new filter and the other the old.
    pub fn set_filter(&mut self, spec: &Spec) -> Result<(), CaptureError> {
        for source in [&self.v4, &self.v6] {
            attach_fitting(spec, source.family, |program| {
                source.ring.set_filter(program)
            })
            .map_err(|e| CaptureError::new("replace", source.family.filter_name(), e))?;
        }
        self.interfaces = spec.interfaces.clone();
        Ok(())
    }

    /// Hands over what has come in, up to a limit, or until it is told to stop: what a packet
    /// brings about need not wait for those behind it. No family keeps the other waiting.
    pub fn drain(&mut self, mut f: impl FnMut(Frame<'_>) -> ControlFlow<()>) -> Drained {
        let mut drained = Drained::All;
        let mut sources = [&mut self.v4, &mut self.v6];
        if self.v6_first {
            sources.reverse();
        }
        self.v6_first = !self.v6_first;
        for source in sources {
            match source.drain(&self.interfaces, &mut f) {
                ControlFlow::Break(()) => return Drained::More,
                ControlFlow::Continue(Drained::More) => drained = Drained::More,
                ControlFlow::Continue(Drained::All) => {}
            }
        }
        drained
    }

    /// The counters as they are now.
    pub fn statistics(&mut self) -> Result<Statistics, CaptureError> {
        let mut sum = Statistics::default();
        for source in [&mut self.v4, &mut self.v6] {
            // Reading them sets the kernel's counters to zero.
            let new = source
                .ring
                .statistics()
                .map_err(|e| CaptureError::new("read", "the capture counters", e))?;
            source.statistics.seen += u64::from(new.packets);
            source.statistics.dropped += u64::from(new.drops);
            sum.seen += source.statistics.seen;
            sum.dropped += source.statistics.dropped;
        }
        Ok(sum)
    }

    /// Packets that were looked at since the start, unwanted ones included: all that passed the
    /// kernel's filter and were neither dropped nor are still waiting.
    pub fn taken(&self) -> u64 {
        self.v4.taken + self.v6.taken
    }

    /// Both sockets, readable while packets wait.
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.v4.ring.as_fd(), self.v6.ring.as_fd()]
    }

    /// What an async loop waits on. Must be called within a tokio runtime.
    pub fn watch(&self) -> Result<Watch, CaptureError> {
        Watch::new(self.fds()).map_err(|e| CaptureError::new("watch", "the packet sockets", e))
    }
}

impl Source {
    fn open(spec: &Spec, family: Family) -> Result<Self, CaptureError> {
        let socket =
            PacketSocket::new().map_err(|e| CaptureError::new("open", family.socket_name(), e))?;
        attach_fitting(spec, family, |program| socket.set_filter(program))
            .map_err(|e| CaptureError::new("set", family.filter_name(), e))?;
        let ring = Ring::new(socket, family.geometry())
            .map_err(|e| CaptureError::new("make the ring of", family.socket_name(), e))?;
        let earliest = Time(clock::boottime());
        ring.bind(family.ethertype())
            .map_err(|e| CaptureError::new("bind", family.socket_name(), e))?;
        Ok(Self {
            ring,
            family,
            earliest,
            statistics: Statistics::default(),
            taken: 0,
        })
    }

    fn drain(
        &mut self,
        interfaces: &Interfaces,
        f: &mut impl FnMut(Frame<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<(), Drained> {
        let now = both_clocks();
        for _ in 0..AT_ONCE {
            let Some(packet) = self.ring.next_packet() else {
                self.earliest = Time(now.boot);
                return ControlFlow::Continue(Drained::All);
            };
            self.taken += 1;
            let ifindex = packet.interface();
            let at = now.received(packet.received(), self.earliest);
            self.earliest = at;
            // The filter may be coarser, or an older one.
            if interfaces.contains(ifindex) {
                f(Frame {
                    bytes: packet.bytes(),
                    ifindex,
                    at,
                    coming: packet.bytes_behind(AHEAD),
                })?;
            }
        }
        ControlFlow::Continue(Drained::More)
    }
}

impl Family {
    fn ethertype(self) -> u16 {
        match self {
            Family::V4 => ETHERTYPE_IPV4,
            Family::V6 => ETHERTYPE_IPV6,
        }
    }

    /// 1 MiB each. 176 bytes hold the longest IPv4 and TCP headers (60 each); IPv6 extension
    /// headers may be longer, and are rare.
    fn geometry(self) -> Geometry {
        let frame_size = match self {
            Family::V4 => 256,
            Family::V6 => 512,
        };
        Geometry {
            frame_size,
            blocks: 16,
        }
    }

    fn socket_name(self) -> &'static str {
        match self {
            Family::V4 => "the packet socket for IPv4",
            Family::V6 => "the packet socket for IPv6",
        }
    }

    fn filter_name(self) -> &'static str {
        match self {
            Family::V4 => "the packet filter for IPv4",
            Family::V6 => "the packet filter for IPv6",
        }
    }
}

/// Reads the clocks as one, again if something came between the readings.
fn both_clocks() -> Clocks {
    let mut attempts = 3;
    loop {
        let boot = clock::boottime();
        let real = clock::realtime();
        attempts -= 1;
        if attempts == 0 || clock::boottime() - boot < 50_000 {
            return Clocks { boot, real };
        }
    }
}

/// Attaches the most precise filter that the kernel has room for.
fn attach_fitting(
    spec: &Spec,
    family: Family,
    mut attach: impl FnMut(&[Instruction]) -> io::Result<()>,
) -> io::Result<()> {
    let mut answer = Ok(());
    for budget in BUDGETS {
        answer = attach(&filter::program(spec, family, budget));
        match &answer {
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => {}
            _ => break,
        }
    }
    answer
}
