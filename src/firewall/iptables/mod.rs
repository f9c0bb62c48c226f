//! The backend for machines that are administered with iptables: four chains a gate in the filter
//! tables of `iptables` and `ip6tables`, members in ipsets.
//!
//! The skeleton goes in with one `iptables-restore` a family, and only when it changes; members
//! are written to the kernel's sets over netlink, without a process, and end on time without us.
//! ip_set has no transactions: sets are filled first, then the rules change in one commit a
//! family, with the jumps last, and what is not wanted any more is taken out of the sets last.

mod above;
mod changes;
mod glance;
mod install;
mod ipset;
mod look_up;
mod machine;
mod members;
mod message;
mod names;
mod rules;
mod saved;
mod table;
mod told;
mod tool;
mod untracked;
mod verify;
mod write;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::Path;
use std::time::Instant;

use ipnet::IpNet;

use self::changes::Long;
use self::glance::Legacy;
use self::install::Image;
use self::ipset::Ipset;
use self::machine::{is_over_nft, knows_ipv6, speaks_ipv6};
use self::members::Shape;
use self::message::{Header, Key};
use self::names::{Family, Role, chains, parse_set, policy_chain, set_name, spare_name};
use self::saved::{Saved, Standing};
use self::table::Tables;
use self::told::Told;
use self::tool::{PATIENCE, Tool};
use self::untracked::Untracked;
use super::{Backend, BackendKind, Change, Desired, FirewallError, Hit, Look, Member, Observed};
use crate::model::{Chain, GateName, KnockPort, Lifetime, PortRange, Time};
use crate::sys::clock;

/// Which iptables is meant: there are two that do not see each other's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Variant {
    /// Whatever `iptables` is on this machine.
    #[default]
    Installed,
    /// `iptables-nft`, over nf_tables.
    Nft,
    /// `iptables-legacy`, over ip_tables.
    Legacy,
}

impl Variant {
    /// `nft` or `legacy`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "nft" => Some(Variant::Nft),
            "legacy" => Some(Variant::Legacy),
            _ => None,
        }
    }
}

/// Restrains a backend; for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restraints {
    /// The most members a set takes.
    pub maxelem: u32,
}

impl Default for Restraints {
    fn default() -> Self {
        Self { maxelem: 1 << 20 }
    }
}

/// Whether iptables and ip_set can be used here.
pub fn probe(variant: Variant) -> Result<(), FirewallError> {
    Iptables::open(variant).map(drop)
}

/// Whether the `iptables` programs are there at all.
pub fn is_installed(variant: Variant) -> bool {
    Tool::find(Family::V4, variant, None).is_ok()
}

/// The backend. Its calls are for one thread.
#[derive(Debug)]
pub struct Iptables {
    ipset: Ipset,
    tools: Vec<(Family, Tool)>,
    /// Present where iptables works over nf_tables.
    tables: Option<Tables>,
    /// Present where it does not.
    legacy: Option<Legacy>,
    /// Whether somebody wants the rules for us alone.
    alone: bool,
    notes: Vec<String>,
    /// What was installed last.
    image: Option<Image>,
    /// Whether an installation was begun and not taken down since.
    has_installed: bool,
    /// Sets that are not wanted any more and that somebody else's rule refers to.
    leftovers: Vec<String>,
    /// What the caller knows the sets to hold.
    told: Told,
    /// What has to be known to change members; `None`: to be read.
    shapes: Option<HashMap<GateName, Shape>>,
    /// Members that last longer than the kernel can count, with their end in seconds of
    /// `CLOCK_BOOTTIME`.
    long: BTreeMap<(String, IpNet), Long>,
    /// Ports that are not tracked.
    untracked: Untracked,
}

fn now() -> Time {
    Time(clock::boottime())
}

impl Iptables {
    /// Finds the programs and opens a socket.
    pub fn open(variant: Variant) -> Result<Self, FirewallError> {
        Self::open_restrained(variant, Restraints::default())
    }

    /// As `open`, with less than there is.
    pub fn open_restrained(
        variant: Variant,
        restraints: Restraints,
    ) -> Result<Self, FirewallError> {
        Self::open_with(variant, restraints, None)
    }

    /// As `open_restrained`; programs in that directory are used instead of the system's.
    pub fn open_with(
        variant: Variant,
        restraints: Restraints,
        programs: Option<&Path>,
    ) -> Result<Self, FirewallError> {
        let mut tools = Vec::new();
        let mut notes = Vec::new();
        for family in Family::ALL {
            match Tool::find(family, variant, programs) {
                Ok(_) if family == Family::V6 && !knows_ipv6() => {
                    notes.push("this kernel has no IPv6, which is not gated".to_owned());
                }
                Ok(tool) => tools.push((family, tool)),
                Err(name) if family == Family::V6 && !speaks_ipv6() => {
                    notes.push(format!("no {name}: IPv6 is off and is not gated"));
                }
                Err(name) => {
                    return Err(FirewallError::Kernel {
                        operation: "find",
                        object: name,
                        source: std::io::Error::from_raw_os_error(libc::ENOENT),
                        hint: match family {
                            Family::V4 => " (install the package iptables)",
                            // A gate that stands open in one family is none.
                            Family::V6 => {
                                " (install the package iptables, or turn IPv6 off: \
                                 it could not be gated)"
                            }
                        },
                    });
                }
            }
        }
        let over_nft = tools.first().is_some_and(|(_, tool)| is_over_nft(tool));
        Ok(Self {
            ipset: Ipset::open(restraints.maxelem)?,
            tables: over_nft.then(Tables::open).transpose()?,
            legacy: (!over_nft)
                .then(|| Legacy::open(tools.iter().map(|(family, _)| *family)))
                .transpose()?,
            tools,
            notes,
            alone: false,
            image: None,
            has_installed: false,
            leftovers: Vec::new(),
            told: Told::default(),
            shapes: None,
            long: BTreeMap::new(),
            untracked: Untracked::default(),
        })
    }

    /// What an administrator should know about how it works here.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// `iptables v1.8.9 (nf_tables)`.
    pub fn version(&self) -> Option<String> {
        self.tools.first()?.1.version()
    }

    /// Whether the two write to the same tables.
    pub fn is_same_table(&self, other: &Self) -> bool {
        self.tables.is_some() == other.tables.is_some()
    }

    /// Whether there are chains of ours, whatever there is in sets.
    pub fn holds_rules(&self) -> Result<bool, FirewallError> {
        Ok(!self.guarded()?.is_empty())
    }

    /// Gates that chains of ours guard.
    pub fn guarded(&self) -> Result<Vec<GateName>, FirewallError> {
        let saved = self.saved(Instant::now() + PATIENCE)?;
        Ok(self.own_gates(&saved, &[]))
    }

    /// Gates that the original script's chains guard.
    pub fn originals(&self) -> Result<Vec<GateName>, FirewallError> {
        let saved = self.saved(Instant::now() + PATIENCE)?;
        let mut found = Vec::new();
        for (_, saved) in &saved {
            let is_original =
                |gate: &GateName| matches!(saved.standing(gate, false), Standing::Original(_));
            found.extend(saved.gates().into_iter().filter(is_original));
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Removes the original script's chains of these gates, and the jumps to them.
    pub fn remove_originals(&mut self, gates: &[GateName]) -> Result<(), FirewallError> {
        let mut found = self.originals()?;
        found.retain(|gate| gates.contains(gate));
        if found.is_empty() {
            return Ok(());
        }
        write::remove_chains(self, &found, Instant::now() + PATIENCE)
    }

    /// Gates of ours, by their chains or their sets.
    pub fn own(&mut self) -> Result<Vec<GateName>, FirewallError> {
        let headers = self.ipset.headers()?;
        let saved = self.saved(Instant::now() + PATIENCE)?;
        Ok(self.own_gates(&saved, &headers))
    }

    /// Removes the rules and leaves the sets.
    pub fn remove_rules(&mut self) -> Result<(), FirewallError> {
        let own = self.own()?;
        write::remove_rules(self, &own, Instant::now() + PATIENCE)?;
        untracked::remove(self, Instant::now() + PATIENCE)?;
        self.image = None;
        self.has_installed = false;
        Ok(())
    }

    /// Removes the sets of these gates, to which no rule may refer any more.
    pub fn destroy_sets(&mut self, gates: &[GateName]) -> Result<(), FirewallError> {
        self.shapes = None;
        self.long.clear();
        let headers = self.ipset.headers()?;
        let mut sets: Vec<String> = gates.iter().flat_map(all_sets).collect();
        sets.retain(|set| headers.iter().any(|header| header.name == *set));
        let mut left = self.ipset.destroy_all(&sets).into_iter();
        left.next().map_or(Ok(()), |(_, error)| Err(error))
    }

    fn saved(&self, until: Instant) -> Result<Vec<(Family, Saved)>, FirewallError> {
        let texts = self.texts(until)?.into_iter();
        let parsed = texts.map(|(family, text)| (family, Saved::parse(&text)));
        Ok(parsed.collect())
    }

    /// All tables, as `iptables-save` prints them.
    fn texts(&self, until: Instant) -> Result<Vec<(Family, String)>, FirewallError> {
        self.tools
            .iter()
            .map(|(family, tool)| Ok((*family, tool.read(until)?)))
            .collect()
    }

    /// Whether the sets with a gate's members are all there, as we make them.
    fn has_sets(&self, gate: &GateName, headers: &[Header]) -> bool {
        let mut all = Family::ALL.into_iter().flat_map(|family| {
            Chain::ALL.map(|chain| install::spec(gate, Role::Members(chain, family)))
        });
        all.all(|spec| {
            headers
                .iter()
                .any(|header| header.name == spec.name && self.ipset.fits(&spec, header))
        })
    }

    /// Gates of ours, by their chains or their sets.
    fn own_gates(&self, saved: &[(Family, Saved)], headers: &[Header]) -> Vec<GateName> {
        let by_set = headers
            .iter()
            .filter_map(|header| parse_set(&header.name).map(|(gate, _)| gate))
            .filter(|gate| self.has_sets(gate, headers));
        let mut gates: Vec<GateName> = by_set.collect();
        for (_, saved) in saved {
            let ours = saved.gates().into_iter().filter(|gate| {
                saved.standing(gate, self.has_sets(gate, headers)) == Standing::Ours
            });
            gates.extend(ours);
        }
        gates.sort_unstable();
        gates.dedup();
        gates
    }
}

impl Backend for Iptables {
    fn kind(&self) -> BackendKind {
        BackendKind::Iptables
    }

    fn observe_chains(&mut self, chains: &[Chain]) -> Result<Option<Observed>, FirewallError> {
        let now = now();
        let headers = self.ipset.headers()?;
        // What we have installed need not be looked for.
        let mut saved = Vec::new();
        let gates = if let Some(image) = &self.image {
            image.gates.clone()
        } else {
            saved = self.saved(Instant::now() + PATIENCE)?;
            self.own_gates(&saved, &headers)
        };
        let mut observed = Observed {
            gates,
            ..Observed::default()
        };
        for header in &headers {
            let Some((gate, role)) = parse_set(&header.name) else {
                continue;
            };
            let chain = match role {
                Role::Members(chain, _) => chain,
                Role::Open(_) => Chain::Filter,
                Role::Session(_) | Role::Grace(_) => continue,
            };
            if !chains.contains(&chain) || !observed.gates.contains(&gate) {
                continue;
            }
            if !install::spec(&gate, role).is_kin(header) {
                continue;
            }
            let held = self.ipset.elements(&header.name)?;
            if !self.has_installed {
                self.told.found(&header.name, &held, now);
            }
            let found = members::members(&gate, chain, role.family(), &held, now);
            observed.members.extend(found);
        }
        for (_, saved) in &saved {
            for gate in saved.gates() {
                let Standing::Original(members) =
                    saved.standing(&gate, self.has_sets(&gate, &headers))
                else {
                    continue;
                };
                observed
                    .members
                    .extend(members.into_iter().map(|(chain, net)| Member {
                        gate: gate.clone(),
                        chain,
                        net,
                        remaining: Lifetime::Never,
                        reason: String::new(),
                    }));
                if !observed.gates.contains(&gate) {
                    observed.gates.push(gate.clone());
                }
                if !observed.originals.contains(&gate) {
                    observed.originals.push(gate);
                }
            }
        }
        Ok((!observed.gates.is_empty()).then_some(observed))
    }

    fn look_up(&mut self, gate: &GateName, address: IpAddr) -> Result<Vec<Hit>, FirewallError> {
        self.hits(gate, address)
    }

    /// In each family for itself: the original script's chains guard IPv4 alone.
    fn missing(&mut self, desired: &Desired) -> Result<Vec<(GateName, PortRange)>, FirewallError> {
        let saved = self.saved(Instant::now() + PATIENCE)?;
        let is_new = |gate: &GateName| {
            let policy = policy_chain(gate);
            saved.iter().any(|(_, saved)| !saved.has_chain(&policy))
        };
        let new = desired.gates.iter().filter(|gate| is_new(&gate.name));
        let ports = new.flat_map(|gate| gate.ports.iter().map(|port| (gate.name.clone(), *port)));
        Ok(ports.collect())
    }

    fn install(&mut self, desired: &Desired) -> Result<(), FirewallError> {
        if desired.gates.is_empty() {
            return self.teardown();
        }
        install::install(self, desired)?;
        untracked::put_back(self, Instant::now() + PATIENCE);
        Ok(())
    }

    fn apply(&mut self, changes: &[Change]) -> Result<(), FirewallError> {
        let shapes = self.know()?;
        let writes = changes::writes(changes, &shapes)?;
        // What would fail half way is found out before anything is changed.
        if writes.len() > 1 {
            self.check_room(&writes)?;
        }
        for write in &writes {
            match &write.value {
                Some((left, reason)) => self.put(&write.set, write.net, *left, reason, now())?,
                None => self.remove(&write.set, write.net)?,
            }
        }
        self.rearm()
    }

    fn rehearse(&mut self, member: &Member) {
        let Ok(shapes) = self.know() else { return };
        let change = Change::Put(member.clone());
        for write in changes::writes(&[change], &shapes).unwrap_or_default() {
            let _ = self.ipset.has(&write.set, Key::Net(write.net));
        }
    }

    fn verify(&mut self) -> Result<Vec<String>, FirewallError> {
        self.rearm()?;
        verify::verify(self)
    }

    fn untrack(&mut self, ports: &[KnockPort]) -> Result<(), FirewallError> {
        untracked::untrack(self, ports, Instant::now() + PATIENCE)
    }

    fn look(&mut self) -> Result<Look, FirewallError> {
        self.rearm()?;
        verify::look(self)
    }

    fn own(&mut self, alone: bool) {
        self.alone = alone;
    }

    fn complaints(&mut self) -> Vec<String> {
        let mut complaints = verify::complaints(self);
        let alone = "`firewall: { owner: true }` is without effect: only `backend: nftables` can \
                     have a table that others cannot change";
        complaints.extend(self.alone.then(|| alone.to_owned()));
        complaints
    }

    fn must_glance(&self) -> bool {
        true
    }

    fn glance(&mut self) -> Result<bool, FirewallError> {
        self.has_drifted()
    }

    fn teardown(&mut self) -> Result<(), FirewallError> {
        let own = self.own()?;
        write::remove_rules(self, &own, Instant::now() + PATIENCE)?;
        untracked::remove(self, Instant::now() + PATIENCE)?;
        self.destroy_sets(&own)?;
        self.image = None;
        self.has_installed = false;
        self.leftovers.clear();
        self.told = Told::default();
        Ok(())
    }
}

/// Every set and spare set that a gate may have.
fn all_sets(gate: &GateName) -> impl Iterator<Item = String> + '_ {
    Role::all().flat_map(move |role| {
        let name = set_name(gate, role);
        [spare_name(&name), name]
    })
}

/// Every chain of these gates.
fn all_chains<'a>(gates: impl IntoIterator<Item = &'a GateName>) -> Vec<String> {
    gates.into_iter().flat_map(chains).collect()
}
