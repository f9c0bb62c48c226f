//! A server with a backend, clients who want in, and words for what happens.

use std::error::Error;
#[cfg(feature = "system-tests")]
use std::sync::RwLockWriteGuard;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

#[cfg(feature = "system-tests")]
use portcullis::firewall::iptables::{Iptables, Variant};
use portcullis::firewall::memory::{Fate, ManualClock, Memory};
use portcullis::firewall::nftables::Nftables;
use portcullis::firewall::{Backend, Change, Desired, FirewallError, GateRules, Member, Observed};
use portcullis::lab::{Host, Lab, ONE_SYN, Service};
use portcullis::model::{Chain, GateName, Lifetime, Time};
use portcullis::policy::{Hook, Verdict};

pub(crate) type Tried = Result<(), Box<dyn Error>>;

const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) const SERVER: &str = "192.0.2.1";
pub(crate) const SERVER6: &str = "2001:db8::1";
pub(crate) const A: &str = "192.0.2.10";
pub(crate) const B: &str = "192.0.2.11";
pub(crate) const C: &str = "192.0.2.12";
pub(crate) const A6: &str = "2001:db8::10";
pub(crate) const B6: &str = "2001:db8::11";
/// In another /64 than the others.
pub(crate) const C6: &str = "2001:db8:0:1::12";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Column {
    Memory,
    Nftables,
    #[cfg(feature = "system-tests")]
    IptablesNft,
    #[cfg(feature = "system-tests")]
    IptablesLegacy,
}

impl Column {
    pub(crate) fn all() -> &'static [Column] {
        &[
            Column::Memory,
            Column::Nftables,
            #[cfg(feature = "system-tests")]
            Column::IptablesNft,
            #[cfg(feature = "system-tests")]
            Column::IptablesLegacy,
        ]
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Column::Memory => "memory",
            Column::Nftables => "nftables",
            #[cfg(feature = "system-tests")]
            Column::IptablesNft => "iptables-nft",
            #[cfg(feature = "system-tests")]
            Column::IptablesLegacy => "iptables-legacy",
        }
    }

    #[cfg(feature = "system-tests")]
    pub(crate) fn variant(self) -> Option<Variant> {
        match self {
            Column::Memory | Column::Nftables => None,
            Column::IptablesNft => Some(Variant::Nft),
            Column::IptablesLegacy => Some(Variant::Legacy),
        }
    }

    fn open(self, clock: &ManualClock) -> Result<Firewall, FirewallError> {
        Ok(match self {
            Column::Memory => {
                let shown = clock.clone();
                Firewall::Memory(Box::new(Memory::new(Box::new(move || shown.now()))))
            }
            Column::Nftables => Firewall::Kernel(Box::new(Nftables::open()?)),
            #[cfg(feature = "system-tests")]
            Column::IptablesNft | Column::IptablesLegacy => {
                let variant = self.variant().unwrap_or_default();
                Firewall::Kernel(Box::new(Iptables::open(variant)?))
            }
        })
    }
}

type Clock = Box<dyn Fn() -> Time + Send>;

enum Firewall {
    Kernel(Box<dyn Backend + Send>),
    Memory(Box<Memory<Clock>>),
}

impl Firewall {
    fn backend(&mut self) -> &mut (dyn Backend + Send) {
        match self {
            Firewall::Kernel(backend) => &mut **backend,
            Firewall::Memory(memory) => &mut **memory,
        }
    }
}

/// Fields are dropped in this order.
static XTABLES: RwLock<()> = RwLock::new(());

pub(crate) struct World {
    pub(crate) column: Column,
    /// Legacy iptables has one lock for all hosts of this process: whoever uses it shares this.
    #[cfg_attr(
        not(feature = "system-tests"),
        expect(dead_code, reason = "held, not read")
    )]
    sharing: Option<RwLockReadGuard<'static, ()>>,
    firewall: Firewall,
    clock: ManualClock,
    _services: Vec<Service>,
    pub(crate) clients: Host,
    pub(crate) server: Host,
    pub(crate) lab: Lab,
}

impl World {
    #[cfg(feature = "system-tests")]
    /// Waits until nobody else uses legacy iptables, and keeps everybody from it.
    pub(crate) fn alone(&mut self) -> RwLockWriteGuard<'static, ()> {
        self.sharing = None;
        XTABLES.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn new(column: Column) -> Result<Self, Box<dyn Error>> {
        let share = || XTABLES.read().unwrap_or_else(PoisonError::into_inner);
        let sharing = column.name().ends_with("legacy").then(share);
        let lab = Lab::new()?;
        let (server, clients) = (lab.host("server")?, lab.host("clients")?);
        let own = [A, B, C].map(|a| format!("{a}/24")).to_vec();
        let own6 = [A6, B6].map(|a| format!("{a}/64"));
        let all: Vec<String> = own
            .into_iter()
            .chain(own6)
            .chain([format!("{C6}/64")])
            .collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        lab.link(
            &server,
            "eth0",
            &[
                "192.0.2.1/24",
                "192.0.2.2/24",
                "2001:db8::1/64",
                "2001:db8:0:1::1/64",
            ],
            &clients,
            "eth0",
            &all,
        )?;
        let services = [22, 80, 60_005].map(|port| Service::start(&server, port));
        let services = services.into_iter().collect::<Result<_, _>>()?;
        let clock = ManualClock::default();
        let firewall = server.run(|| column.open(&clock))??;
        Ok(Self {
            column,
            sharing,
            firewall,
            clock,
            _services: services,
            clients,
            server,
            lab,
        })
    }

    /// Does something with the backend, on the server.
    pub(crate) fn with<T: Send>(&mut self, work: impl FnOnce(&mut dyn Backend) -> T + Send) -> T {
        let firewall = &mut self.firewall;
        self.server
            .run(move || work(firewall.backend()))
            .expect("the server's namespace can be entered")
    }

    /// A new process: nothing is known but what the kernel holds. The one in memory is its own
    /// kernel.
    pub(crate) fn restart(&mut self) -> Tried {
        if self.column != Column::Memory {
            let (column, clock) = (self.column, self.clock.clone());
            self.firewall = self.server.run(move || column.open(&clock))??;
        }
        Ok(())
    }

    /// Somebody else puts a member into a set.
    pub(crate) fn meddle(&mut self, member: &Member) -> Tried {
        if let Firewall::Memory(memory) = &mut self.firewall {
            return Ok(memory.meddle(member)?);
        }
        let (column, clock) = (self.column, self.clock.clone());
        let put = [Change::Put(member.clone())];
        self.server
            .run(move || column.open(&clock)?.backend().apply(&put))??;
        Ok(())
    }

    /// Somebody else takes a member out of a real set.
    pub(crate) fn meddle_out(&mut self, member: &Member) -> Tried {
        let (column, clock) = (self.column, self.clock.clone());
        let out = [remove(member)];
        self.server
            .run(move || column.open(&clock)?.backend().apply(&out))??;
        Ok(())
    }

    /// Whether a glance says that something may have changed.
    pub(crate) fn glance(&mut self) -> bool {
        self.with(|backend| backend.glance()).expect("a glance")
    }

    /// Glances until nothing is new.
    pub(crate) fn glances_until_calm(&mut self) -> Tried {
        for _ in 0..3 {
            if !self.glance() {
                return Ok(());
            }
        }
        Err("each glance finds something new".into())
    }

    #[track_caller]
    pub(crate) fn install(&mut self, gates: Vec<GateRules>, members: Vec<Member>) {
        let desired = Desired {
            gates,
            members,
            sessions: Vec::new(),
        };
        self.install_all(&desired);
    }

    #[track_caller]
    pub(crate) fn install_all(&mut self, desired: &Desired) {
        let installed = self.with(|backend| backend.install(desired));
        installed.unwrap_or_else(|error| panic!("install: {error}"));
        let problems = self.with(|backend| backend.verify());
        assert_eq!(problems.expect("it verifies"), Vec::<String>::new());
    }

    #[track_caller]
    pub(crate) fn apply(&mut self, changes: &[Change]) {
        let applied = self.with(|backend| backend.apply(changes));
        applied.unwrap_or_else(|error| panic!("apply: {error}"));
    }

    /// The members of some chains, read without the others.
    #[track_caller]
    pub(crate) fn observed_in(&mut self, chains: &[Chain]) -> Observed {
        let observed = self.with(|backend| backend.observe_chains(chains));
        let observed = observed.unwrap_or_else(|error| panic!("observe: {error}"));
        observed.expect("something of ours is there")
    }

    #[track_caller]
    pub(crate) fn observed(&mut self) -> Option<Observed> {
        let observed = self.with(|backend| backend.observe());
        observed.unwrap_or_else(|error| panic!("observe: {error}"))
    }

    /// The members as `ssh_filter 192.0.2.10/32 300 reason`, sorted; seconds rounded to tens.
    #[track_caller]
    pub(crate) fn members(&mut self) -> Vec<String> {
        let observed = self.observed().unwrap_or_default();
        let mut lines: Vec<String> = observed.members.iter().map(shown).collect();
        lines.sort_unstable();
        lines
    }

    /// Lets that much time pass.
    pub(crate) fn pass(&self, span: Duration) {
        if self.column == Column::Memory {
            self.clock.set(self.clock.now().after(span));
        } else {
            std::thread::sleep(span);
        }
    }

    /// Whether somebody gets in: by one real SYN, except without a kernel.
    pub(crate) fn gets_in_at(&mut self, source: &str, gate: &str, port: u16) -> bool {
        if let Firewall::Memory(memory) = &mut self.firewall {
            let source = source.parse().expect("an address");
            let fate = memory.connect(&self::gate(gate), source);
            return !matches!(fate, Some(Fate::Dropped(_)));
        }
        let client = self.clients.client(source).expect("an address");
        let server = match (source == C6, source.contains(':')) {
            (true, _) => "[2001:db8:0:1::1]".to_owned(),
            (_, true) => format!("[{SERVER6}]"),
            (_, false) => SERVER.to_owned(),
        };
        let outcome = client.connect(&format!("{server}:{port}"), ONE_SYN);
        outcome.expect("a SYN can be sent").is_open()
    }

    /// Whether somebody gets in at port 22, gate ssh.
    pub(crate) fn gets_in(&mut self, source: &str) -> bool {
        self.gets_in_at(source, "ssh", 22)
    }

    /// Who of these gets in.
    pub(crate) fn who<'a>(&mut self, sources: &[&'a str]) -> Vec<&'a str> {
        let mut inside = sources.to_vec();
        inside.retain(|source| self.gets_in(source));
        inside
    }

    /// Waits until somebody is shut out, for at most that long.
    #[track_caller]
    pub(crate) fn is_shut_out_after(&mut self, source: &str, span: Duration) {
        if self.column == Column::Memory {
            self.pass(span);
            assert!(!self.gets_in(source), "{source} still gets in");
            return;
        }
        let started = std::time::Instant::now();
        while self.gets_in(source) {
            let late = started.elapsed() > span + PATIENCE;
            assert!(!late, "{source} still gets in");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn shown(member: &Member) -> String {
    let left = match member.remaining {
        Lifetime::Never => "never".to_owned(),
        Lifetime::For(span) => format!("{}", (span.as_secs() + 5) / 10 * 10),
    };
    let (chain, net) = (member.chain.suffix(), member.net);
    format!("{}_{chain} {net} {left} {}", member.gate, member.reason)
}

pub(crate) fn gate(name: &str) -> GateName {
    GateName::new(name).expect("a gate's name")
}

/// A gate for these ports, as policies have it by default.
pub(crate) fn rules(name: &str, ports: &[&str]) -> GateRules {
    GateRules {
        name: gate(name),
        ports: ports.iter().map(|p| p.parse().expect("ports")).collect(),
        input_addresses: Vec::new(),
        forward_addresses: Vec::new(),
        hook: Hook::Input,
        verdict: Verdict::Accept,
        once: false,
        log_drops: true,
        cut_sessions: false,
        ipv6_prefix: 128,
    }
}

/// The gate in front of port 22.
pub(crate) fn ssh() -> GateRules {
    rules("ssh", &["22"])
}

pub(crate) fn secs(seconds: u64) -> Lifetime {
    Lifetime::For(Duration::from_secs(seconds))
}

pub(crate) fn member_at(gate: &str, chain: Chain, net: &str, remaining: Lifetime) -> Member {
    let net = if net.contains('/') {
        net.parse().expect("a network")
    } else {
        portcullis::model::host_net(net.parse().expect("an address"))
    };
    Member {
        gate: self::gate(gate),
        chain,
        net,
        remaining,
        reason: "test".to_owned(),
    }
}

pub(crate) fn filter(net: &str, seconds: u64) -> Member {
    member_at("ssh", Chain::Filter, net, secs(seconds))
}

pub(crate) fn banned(net: &str) -> Member {
    member_at("ssh", Chain::Banned, net, Lifetime::Never)
}

pub(crate) fn trusted(net: &str) -> Member {
    member_at("ssh", Chain::Trusted, net, Lifetime::Never)
}

pub(crate) fn remove(member: &Member) -> Change {
    Change::Remove {
        gate: member.gate.clone(),
        chain: member.chain,
        net: member.net,
    }
}
