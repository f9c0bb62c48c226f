//! What the rows have in common. Addresses are those set aside for measurements (RFC 2544).

use std::error::Error;
use std::fs;
use std::io;
use std::net::Ipv4Addr;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use portcullis::control::{Request, Verb};
use portcullis::firewall::iptables::{self, Iptables};
use portcullis::firewall::nftables::Nftables;
use portcullis::firewall::{Backend, BackendKind, FirewallError, choose};
use portcullis::lab::{Daemon, Host, Lab, LabError, Program, Programs, Service};
use portcullis::model::Chain;

use crate::report::Line;

/// The policy that is shipped.
const POLICY: &str = include_str!("../../policy/knockd.yaml");
/// The whitelist that is shipped.
pub(crate) const TRUSTED: &str = include_str!("../../policy/knockd.trusted");

/// The guarded port of that policy.
pub(crate) const GATE: u16 = 22;
/// The knock of that policy.
pub(crate) const KNOCK: [u16; 2] = [1228, 1227];
/// The first is what the others are compared with.
pub(crate) const BACKENDS: [BackendKind; 2] = [BackendKind::Nftables, BackendKind::Iptables];

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

/// The shipped policy with this backend.
pub(crate) fn policy(backend: BackendKind) -> String {
    let shipped = "\n  backend: nftables";
    assert!(
        POLICY.contains(shipped),
        "the shipped policy names a backend"
    );
    POLICY.replacen(shipped, &format!("\n  backend: {backend}"), 1)
}

/// The backends that work here, and a line of the report for each that does not: what is missing
/// must not pass for measured.
pub(crate) fn backends() -> (Vec<BackendKind>, Vec<Line>) {
    let (mut usable, mut missing) = (Vec::new(), Vec::new());
    for backend in BACKENDS {
        match open_backend(backend) {
            Ok(_) => usable.push(backend),
            Err(error) => {
                eprintln!("{backend} is not measured: {error}");
                missing.push(Line::failed(backend.to_string(), &error));
            }
        }
    }
    (usable, missing)
}

/// The backend in this thread's network namespace.
pub(crate) fn open_backend(backend: BackendKind) -> Result<Box<dyn Backend>, FirewallError> {
    if backend == BackendKind::Nftables {
        return Ok(Box::new(Nftables::open()?));
    }
    let variant = choose::variant();
    iptables::probe(variant)?;
    Ok(Box::new(Iptables::open(variant)?))
}

/// A server with a service behind a gate.
pub(crate) struct Server {
    pub(crate) backend: BackendKind,
    pub(crate) host: Host,
    pub(crate) address: Ipv4Addr,
    pub(crate) clients: Vec<Ipv4Addr>,
    _service: Service,
}

/// Servers are told apart by numbers below this.
const SERVERS: u8 = 8;
/// And their clients by numbers below this: the last of its addresses is the network's broadcast.
const ROOM: u16 = (63 << 8) - 1;

impl Server {
    /// Joins it to the clients' host, which has so many addresses on that wire: the `number`th of
    /// eight networks that together are 198.18.0.0/15.
    pub(crate) fn new(
        lab: &Lab,
        on: &Host,
        (number, backend): (u8, BackendKind),
        clients: u16,
    ) -> Result<Self, LabError> {
        assert!(number < SERVERS && clients < ROOM, "they have no room");
        let host = lab.host(&format!("server{number}"))?;
        let (second, third) = (18 + number / 4, number % 4 * 64);
        let address = Ipv4Addr::new(198, second, third, 1);
        let clients: Vec<Ipv4Addr> = (0..clients)
            .map(|client| Self::client(address, client))
            .collect();
        let long = |address: &Ipv4Addr| format!("{address}/18");
        let there: Vec<String> = clients.iter().map(long).collect();
        let there: Vec<&str> = there.iter().map(String::as_str).collect();
        let interface = format!("eth{number}");
        lab.link(&host, "eth0", &[&long(&address)], on, &interface, &there)?;
        let service = Service::start(&host, GATE)?;
        Ok(Self {
            backend,
            host,
            address,
            clients,
            _service: service,
        })
    }

    /// An address of its network that nobody has, another for each number up to some thousands. An
    /// answer goes nowhere.
    pub(crate) fn nobody(&self, number: u16) -> Ipv4Addr {
        let taken = u16::try_from(self.clients.len()).unwrap_or(0);
        Self::client(self.address, taken + number % (ROOM - taken))
    }

    fn client(server: Ipv4Addr, number: u16) -> Ipv4Addr {
        let [first, second, third, _] = server.octets();
        let [high, low] = number.to_be_bytes();
        Ipv4Addr::new(first, second, third + 1 + high, low)
    }

    /// The daemon on it, not yet started.
    pub(crate) fn daemon(&self, lab: &Lab, trusted: &str) -> Result<Daemon, LabError> {
        Daemon::prepare(lab, &self.host, &programs(), &policy(self.backend), trusted)
    }

    /// Works on the kernel's rules there.
    pub(crate) fn with_backend<T: Send>(
        &self,
        work: impl FnOnce(&mut dyn Backend) -> Result<T, FirewallError> + Send,
    ) -> Result<T, Box<dyn Error>> {
        let outcome = self
            .host
            .run(|| work(open_backend(self.backend)?.as_mut()))?;
        Ok(outcome?)
    }

    /// Fails unless the kernel holds so many members of this chain.
    pub(crate) fn must_hold(&self, chain: Chain, expected: usize) -> Result<(), Box<dyn Error>> {
        self.must_hold_all(&[(chain, expected)])
    }

    /// The same of several chains, which are read once: to read a million takes the kernel long.
    pub(crate) fn must_hold_all(&self, expected: &[(Chain, usize)]) -> Result<(), Box<dyn Error>> {
        let observed = self.with_backend(|backend| backend.observe())?;
        let members = observed.unwrap_or_default().members;
        for &(chain, expected) in expected {
            let held = members.iter().filter(|it| it.chain == chain).count();
            if held != expected {
                let backend = self.backend;
                let what =
                    format!("{backend}: the kernel holds {held} in {chain:?}, not {expected}");
                return Err(what.into());
            }
        }
        Ok(())
    }
}

/// Addresses in a request; all of it must fit into 64 KiB.
const AT_A_TIME: usize = 2_000;

/// Bans many by hand.
pub(crate) fn ban_many(daemon: &Daemon) -> Result<(), Box<dyn Error>> {
    let all: Vec<String> = some_banned(MANY).map(|it| it.to_string()).collect();
    for some in all.chunks(AT_A_TIME) {
        let response = daemon.ask(&Request::new(Verb::Drop, some))?;
        if response.code != 0 {
            return Err(format!("drop: {:?}", response.refused.first()).into());
        }
    }
    Ok(())
}

/// So many different addresses, in no order, out of 10.0.0.0/8.
pub(crate) fn some_trusted(count: u32) -> impl Iterator<Item = Ipv4Addr> {
    scattered(count, Ipv4Addr::new(10, 0, 0, 0), 24)
}

/// So many others, out of 100.64.0.0/10.
pub(crate) fn some_banned(count: u32) -> impl Iterator<Item = Ipv4Addr> {
    scattered(count, Ipv4Addr::new(100, 64, 0, 0), 22)
}

/// So many more, out of 12.0.0.0/8.
pub(crate) fn some_accepted(count: u32) -> impl Iterator<Item = Ipv4Addr> {
    scattered(count, Ipv4Addr::new(12, 0, 0, 0), 24)
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

/// That part of it in KiB that is no file's, so that no other process shares it.
pub(crate) fn own_kib(pid: u32) -> io::Result<u64> {
    status_field(format!("/proc/{pid}/status").as_ref(), "RssAnon")
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
