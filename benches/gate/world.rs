//! What the rows have in common. Addresses are those set aside for measurements (RFC 2544).

use std::fs;
use std::io;
use std::net::Ipv4Addr;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use portcullis::firewall::nftables::Nftables;
use portcullis::firewall::{Backend, FirewallError};
use portcullis::lab::{Daemon, Host, Lab, LabError, Program, Programs, Service};
use portcullis::model::Chain;

/// The policy that is shipped.
pub(crate) const POLICY: &str = include_str!("../../policy/knockd.yaml");
/// The whitelist that is shipped.
pub(crate) const TRUSTED: &str = include_str!("../../policy/knockd.trusted");

/// The guarded port of that policy.
pub(crate) const GATE: u16 = 22;
/// The knock of that policy.
pub(crate) const KNOCK: [u16; 2] = [1228, 1227];
/// Nothing listens here, and nothing guards it.
pub(crate) const FREE: u16 = 9;

/// How many members count as many.
pub(crate) const MANY: u32 = 100_000;

pub(crate) fn programs() -> Programs {
    Programs {
        knockd: Program::at(env!("CARGO_BIN_EXE_knockd")),
        knockctl: None,
    }
}

/// A server with a service behind a gate. `network` tells several apart: 198.18.0.0/16 and
/// 198.19.0.0/16.
pub(crate) struct Server {
    pub(crate) host: Host,
    pub(crate) address: Ipv4Addr,
    pub(crate) clients: Vec<Ipv4Addr>,
    _service: Service,
}

impl Server {
    /// Joins it to the clients' host, which has so many addresses on that wire.
    pub(crate) fn new(lab: &Lab, on: &Host, network: u8, clients: u16) -> Result<Self, LabError> {
        let host = lab.host(&format!("server{network}"))?;
        let address = Ipv4Addr::new(198, network, 0, 1);
        let clients: Vec<Ipv4Addr> = (0..clients)
            .map(|number| {
                let [high, low] = number.to_be_bytes();
                Ipv4Addr::new(198, network, 1 + high, low)
            })
            .collect();
        let long = |address: &Ipv4Addr| format!("{address}/16");
        let there: Vec<String> = clients.iter().map(long).collect();
        let there: Vec<&str> = there.iter().map(String::as_str).collect();
        let interface = format!("eth{network}");
        lab.link(&host, "eth0", &[&long(&address)], on, &interface, &there)?;
        let service = Service::start(&host, GATE)?;
        Ok(Self {
            host,
            address,
            clients,
            _service: service,
        })
    }

    /// The daemon on it, not yet started.
    pub(crate) fn daemon(&self, lab: &Lab, trusted: &str) -> Result<Daemon, LabError> {
        Daemon::prepare(lab, &self.host, &programs(), POLICY, trusted)
    }

    /// How many members of this chain the kernel holds.
    pub(crate) fn held(&self, chain: Chain) -> Result<usize, Box<dyn std::error::Error>> {
        let count = || -> Result<usize, FirewallError> {
            let observed = Nftables::open()?.observe()?.unwrap_or_default();
            let members = observed.members.iter();
            Ok(members.filter(|member| member.chain == chain).count())
        };
        Ok(self.host.run(count)??)
    }
}

/// So many different addresses, in no order, out of 10.0.0.0/8.
pub(crate) fn some_trusted(count: u32) -> impl Iterator<Item = Ipv4Addr> {
    scattered(count, Ipv4Addr::new(10, 0, 0, 0), 24)
}

/// So many others, out of 100.64.0.0/10.
pub(crate) fn some_banned(count: u32) -> impl Iterator<Item = Ipv4Addr> {
    scattered(count, Ipv4Addr::new(100, 64, 0, 0), 22)
}

/// Multiplication by an odd number is a permutation of the numbers of so many bits.
fn scattered(count: u32, net: Ipv4Addr, bits: u32) -> impl Iterator<Item = Ipv4Addr> {
    let mask = (1 << bits) - 1;
    (1..=count).map(move |number| {
        let host = number.wrapping_mul(0x9E37_79B1) & mask;
        Ipv4Addr::from_bits(net.to_bits() | host)
    })
}

/// A whitelist file with a line for each.
pub(crate) fn lines(addresses: impl IntoIterator<Item = Ipv4Addr>) -> String {
    let lines = addresses.into_iter().map(|address| format!("{address}\n"));
    lines.collect()
}

/// Keeps this thread on the last CPU, so that it is never moved in the middle of a sample. The
/// daemon stays free to run where it wants.
pub(crate) fn stay_on_one_cpu() -> io::Result<()> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let mut one = CpuSet::new();
    let last = (0..CpuSet::count()).rfind(|&cpu| allowed.is_set(cpu).unwrap_or(false));
    one.set(last.unwrap_or(0))?;
    Ok(sched_setaffinity(Pid::from_raw(0), &one)?)
}

/// A field of /proc/PID/task/*/status, added up over the threads (`proc_pid_status(5)`).
pub(crate) fn over_threads(pid: u32, field: &str) -> io::Result<u64> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        total += status_field(&task?.path().join("status"), field)?;
    }
    Ok(total)
}

/// Resident memory in KiB.
pub(crate) fn resident_kib(pid: u32) -> io::Result<u64> {
    status_field(format!("/proc/{pid}/status").as_ref(), "VmRSS")
}

fn status_field(path: &std::path::Path, field: &str) -> io::Result<u64> {
    let status = fs::read_to_string(path)?;
    status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .ok_or_else(|| io::Error::other(format!("no {field} in {}", path.display())))
}

/// CPU time of all threads in nanoseconds (`schedstat`: the first number is the time spent on a
/// CPU); nothing where the kernel does not count it.
pub(crate) fn cpu_time(pid: u32) -> Option<u64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    tasks
        .map(|task| {
            let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        })
        .sum()
}
