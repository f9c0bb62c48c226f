//! The native backend: table `inet knockd`, over netlink, without the `nft` program.
//!
//! Every change is one transaction of the kernel. Members live in sets with timeouts, so that a
//! decision costs the same with none and with a hundred thousand, and they end on time without
//! us. `nft list table inet knockd` shows all of it.

mod change;
mod decode;
mod encode;
mod fill;
mod fresh;
mod kernel;
mod known;
mod lacking;
mod look_up;
mod members;
mod names;
#[cfg(test)]
mod order_tests;
mod owner;
mod plan;
mod reading;
mod rules;
mod segments;
mod told;
mod untracked;
mod verify;

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

use self::decode::{Held, intervals};
use self::encode::Step;
use self::fresh::Fresh;
use self::kernel::{Failure, Kernel};
use self::known::Known;
use self::members::{Sorted, is_masked};
pub(super) use self::names::TABLE;
use self::names::{Family, Role, parse_chain, parse_set, set_name};
use self::owner::Owner;
use self::plan::{Image, Plan, Planner, State};
use self::reading::{Kept, Reading};
use self::rules::Earlier;
use self::segments::to_nets;
use self::told::Told;
use super::watch::Removed;
use super::{Backend, BackendKind, Change, Desired, FirewallError, Hit, Member, Observed};
use crate::model::{Chain, GateName, KnockPort, PortRange};

/// Whether `nf_tables` can be used here.
pub fn probe() -> Result<(), FirewallError> {
    Nftables::open().map(drop)
}

/// Restrains a backend to what older kernels or poorer users have; for tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restraints {
    /// The longest batch, instead of what the send buffer takes.
    pub batch: Option<usize>,
    /// Do without `NFT_MSG_DESTROYSETELEM` (Linux 6.3).
    pub no_destroy: bool,
    /// Do without tables that are ours alone (Linux 6.9).
    pub no_owner: bool,
}

/// The backend. Its calls are for one thread; two of it, even in different processes, do not
/// harm each other's transactions.
#[derive(Debug)]
pub struct Nftables {
    kernel: Kernel,
    owner: Owner,
    /// What was installed last.
    image: Option<Image>,
    known: Option<Known>,
    /// What the caller knows the kernel to hold.
    told: Told,
    /// Until then, whoever observes takes over what there is.
    has_installed: bool,
    /// From then until the first installation.
    kept: Kept,
    /// The generation of the ruleset that was last found in order.
    verified: Option<u32>,
    /// Ports that are not tracked; `None` until somebody says which.
    untracked: Option<Vec<KnockPort>>,
}

/// An installation is tried again this often if somebody else changes the ruleset meanwhile.
const TRIES: usize = 5;

impl Nftables {
    /// Opens a socket and finds out what the kernel can do.
    pub fn open() -> Result<Self, FirewallError> {
        Self::open_restrained(Restraints::default())
    }

    /// As `open`, with less than there is.
    pub fn open_restrained(restraints: Restraints) -> Result<Self, FirewallError> {
        Ok(Self {
            kernel: Kernel::open(restraints)?,
            owner: Owner {
                forbidden: restraints.no_owner,
                ..Owner::default()
            },
            image: None,
            known: None,
            told: Told::default(),
            has_installed: false,
            kept: Kept::default(),
            verified: None,
            untracked: None,
        })
    }

    fn install_once(&mut self, desired: &Desired, guarded: bool) -> Result<(), Failure> {
        let mut state = self.kernel.state()?;
        let flags = self.owner.flags(&mut self.kernel)?;
        if owner::take_up(&mut self.kernel, &state, flags)? {
            state = self.kernel.state()?;
        }
        let replaces = owner::must_replace(&state, flags);
        let now = Instant::now();
        let sorted = Sorted::new(desired, now)?;
        if replaces {
            // What nobody knows of is asked about all the same.
            self.held(desired, &state, &Image::default(), &sorted, now)?;
            state = State {
                generation: state.generation,
                ..State::default()
            };
        }
        let fresh: HashMap<&GateName, Fresh> = desired
            .gates
            .iter()
            .map(|gate| (&gate.name, Fresh::of(gate, &state)))
            .collect();
        let earlier = self.earlier(desired, &state, &fresh)?;
        let gates: Vec<_> = desired.gates.iter().zip(earlier).collect();
        let mut image = Image::new(&gates);
        image.untrack(self.untracked.as_deref().unwrap_or_default());
        let mut held = self.held(desired, &state, &image, &sorted, now)?;
        let plan = Planner {
            state: &state,
            image: &image,
            held: &mut held,
            sorted: &sorted,
            desired,
            fresh: &fresh,
            now,
            can_destroy: self.kernel.can_destroy,
            flags,
            replaces,
        }
        .plan();
        self.verified = None;
        self.known = None;
        let knew = !self.told.is_empty();
        // Even if it fails on the way.
        self.told.desired(desired, now);
        self.has_installed = true;
        self.carry_out(&plan, guarded.then_some(state.generation), replaces)?;

        self.image = Some(image);
        let problems = self.verify_skeleton()?;
        let problems = if problems.is_empty() {
            self.verify_members(desired, &sorted, now)?
        } else {
            problems
        };
        if !problems.is_empty() {
            return Err(FirewallError::Unverified(problems.join(", ")).into());
        }
        self.known = Some(Known {
            prefixes: desired
                .gates
                .iter()
                .map(|gate| (gate.name.clone(), gate.ipv6_prefix))
                .collect(),
            nets: sorted.nets,
        });
        if knew {
            // Nothing else is there.
            self.told = Told::default();
            self.told.desired(desired, now);
        }
        Ok(())
    }

    /// What the sets hold that are as they have to be. Fails if a set of a gate that stays holds
    /// a ban or an acceptance that would have to go and of which the caller does not know.
    fn held(
        &mut self,
        desired: &Desired,
        state: &State,
        image: &Image,
        sorted: &Sorted<'_>,
        now: Instant,
    ) -> Result<HashMap<String, Vec<Held>>, Failure> {
        let mut kept = std::mem::take(&mut self.kept);
        let mut held = HashMap::new();
        let mut unseen = Vec::new();
        for set in &state.sets {
            let own = parse_set(&set.name);
            let Some((gate, role)) = own.filter(|(gate, role)| {
                let stays = desired.gates.iter().any(|rules| rules.name == *gate);
                stays && !matches!(role, Role::Session(_) | Role::Grace)
            }) else {
                continue;
            };
            let reading = match kept.take(&set.name, state.generation) {
                Some(reading) => reading,
                None => self.kernel.read_listed(set, state.generation)?,
            };
            let elements = reading.counted_from(now);
            let wanted = image.sets.iter().find(|(.., spec)| spec.name == set.name);
            let fits = wanted.is_some_and(|(.., spec)| members::fits(spec, set));
            let masked = is_masked(&set.comment);
            unseen.extend(self.unseen(&gate, role, masked, &elements, sorted, now));
            if fits {
                held.insert(set.name.clone(), elements);
            }
        }
        if unseen.is_empty() {
            return Ok(held);
        }
        self.told.found(&unseen, now);
        Err(FirewallError::Unseen(unseen).into())
    }

    /// The bans and acceptances in a set that are not wanted, and of which the caller does not
    /// know.
    fn unseen(
        &self,
        gate: &GateName,
        role: Role,
        masked: bool,
        elements: &[Held],
        sorted: &Sorted<'_>,
        now: Instant,
    ) -> Vec<Member> {
        let set = (gate, role);
        let unknown = match role {
            Role::Net(chain @ Chain::Banned, family) => {
                let segments = intervals(family, elements.to_vec(), now);
                let rest = self.told.unknown(gate, chain, family, segments, now);
                let rest = match sorted.nets.get(&(gate.clone(), role)) {
                    Some(wanted) => told::outside(family, rest, wanted, |_, _| true),
                    None => rest,
                };
                return members::of_entries(gate, chain, to_nets(family, rest), now);
            }
            Role::Host(chain @ (Chain::Banned | Chain::Filter), _) => chain,
            Role::Open => Chain::Filter,
            _ => return Vec::new(),
        };
        let wanted = sorted.keys.get(&set);
        let is_unknown = |held: &&Held| {
            !wanted.is_some_and(|wanted| wanted.contains_key(&held.key))
                && members::net_of(role, masked, held.key)
                    .is_some_and(|net| !self.told.has(gate, unknown, net, now))
        };
        let held = elements.iter().filter(is_unknown).cloned().collect();
        members::members(gate, role, masked, Reading { held, at: now }, now)
    }

    /// Which sets for sessions from before each gate needs: where it guards something new, and
    /// those that still have elements.
    fn earlier(
        &mut self,
        desired: &Desired,
        state: &State,
        fresh: &HashMap<&GateName, Fresh>,
    ) -> Result<Vec<Earlier>, Failure> {
        let mut all = Vec::with_capacity(desired.gates.len());
        for gate in &desired.gates {
            let fresh = fresh.get(&gate.name).copied().unwrap_or_default();
            let mut is_used = |role: Role| -> Result<bool, Failure> {
                let name = set_name(&gate.name, role);
                Ok(state.set(&name).is_some() && self.kernel.count(&name)? > 0)
            };
            let mut peers = desired.sessions.iter().filter(|(g, _)| *g == gate.name);
            let has_v4 = fresh.input && peers.clone().any(|(_, p)| p.ip().to_canonical().is_ipv4());
            let has_v6 = fresh.input && peers.any(|(_, p)| p.ip().to_canonical().is_ipv6());
            let (input, forward) = (gate.hook.input(), gate.hook.forward());
            all.push(Earlier {
                v4: input && (has_v4 || is_used(Role::Session(Family::V4))?),
                v6: input && (has_v6 || is_used(Role::Session(Family::V6))?),
                grace: forward && (fresh.forward || is_used(Role::Grace)?),
            });
        }
        Ok(all)
    }

    /// In one batch, or, if that is too long and may be, in several.
    fn carry_out(
        &mut self,
        plan: &Plan,
        generation: Option<u32>,
        at_once: bool,
    ) -> Result<(), Failure> {
        let all: Vec<&Step> = plan.groups().flatten().collect();
        if at_once || self.kernel.fits(&all) {
            return self.kernel.commit(&all, generation);
        }
        let mut batch: Vec<&Step> = Vec::new();
        for group in plan.groups() {
            let before = batch.len();
            batch.extend(group);
            if before > 0 && !self.kernel.fits(&batch) {
                let rest = batch.split_off(before);
                self.kernel.commit(&batch, None)?;
                batch = rest;
            }
        }
        self.kernel.commit(&batch, None)
    }
}

impl Backend for Nftables {
    fn kind(&self) -> BackendKind {
        BackendKind::Nftables
    }

    fn observe_chains(&mut self, chains: &[Chain]) -> Result<Option<Observed>, FirewallError> {
        let state = self.kernel.state()?;
        if state.table.is_none() {
            return Ok(None);
        }
        let mut observed = Observed::default();
        for chain in &state.chains {
            if let Some((gate, None)) = parse_chain(&chain.name) {
                observed.gates.push(gate);
            }
        }
        let mut read = Vec::new();
        self.kept = Kept::at(state.generation);
        for set in &state.sets {
            let Some((gate, role)) = parse_set(&set.name) else {
                continue;
            };
            if role.chain().is_some_and(|chain| chains.contains(&chain)) {
                let reading = self.kernel.read_listed(set, state.generation)?;
                if !self.has_installed {
                    self.kept.keep(&set.name, role, &reading);
                }
                read.push((gate, role, is_masked(&set.comment), reading));
            }
        }
        // All at once: reading may have taken its time.
        let now = Instant::now();
        for (gate, role, masked, reading) in read {
            let members = members::members(&gate, role, masked, reading, now);
            observed.members.extend(members);
        }
        if !self.has_installed {
            self.told.found(&observed.members, now);
        }
        Ok(Some(observed))
    }

    fn look_up(&mut self, gate: &GateName, address: IpAddr) -> Result<Vec<Hit>, FirewallError> {
        self.hits(gate, address).map_err(FirewallError::from)
    }

    fn missing(&mut self, desired: &Desired) -> Result<Vec<(GateName, PortRange)>, FirewallError> {
        let mut state = self.kernel.state()?;
        let flags = self.owner.flags(&mut self.kernel)?;
        if owner::must_replace(&state, flags) {
            // With the table go the sets that know of earlier sessions.
            state = State::default();
        }
        let missing = desired.gates.iter().flat_map(|gate| {
            let ports = fresh::missing(gate, &state).into_iter();
            ports.map(|port| (gate.name.clone(), port))
        });
        Ok(missing.collect())
    }

    fn install(&mut self, desired: &Desired) -> Result<(), FirewallError> {
        if desired.gates.is_empty() {
            return self.teardown();
        }
        for attempt in 1..=TRIES {
            // A last time without the guard: a ruleset that changes all the time is no reason
            // to have no gate.
            match self.install_once(desired, attempt < TRIES) {
                Err(failure) if attempt < TRIES && failure.is_race() => {}
                result => return result.map_err(FirewallError::from),
            }
        }
        Ok(())
    }

    fn apply(&mut self, changes: &[Change]) -> Result<(), FirewallError> {
        self.write(changes)
    }

    fn rehearse(&mut self, member: &Member) {
        self.go_through(member);
    }

    fn verify(&mut self) -> Result<Vec<String>, FirewallError> {
        let generation = self.kernel.generation()?;
        if self.verified == Some(generation) {
            return Ok(Vec::new());
        }
        let problems = self.verify_skeleton()?;
        self.verified = problems.is_empty().then_some(generation);
        Ok(problems)
    }

    fn untrack(&mut self, ports: &[KnockPort]) -> Result<(), FirewallError> {
        self.renew_untracked(ports).map_err(FirewallError::from)
    }

    fn own(&mut self, alone: bool) {
        self.owner.wanted = alone;
    }

    fn complaints(&mut self) -> Vec<String> {
        self.owner.complaint().into_iter().collect()
    }

    fn port(&self) -> Option<u32> {
        Some(self.kernel.port())
    }

    fn lacking(
        &mut self,
        desired: &Desired,
        removed: &Removed,
    ) -> Result<Vec<String>, FirewallError> {
        Ok(self.lacking_members(desired, removed)?)
    }

    fn teardown(&mut self) -> Result<(), FirewallError> {
        self.known = None;
        self.verified = None;
        let step = encode::delete_table(TABLE);
        match self.kernel.commit(&[&step], None) {
            Err(failure) if failure.errno() == Some(libc::ENOENT) => {}
            result => result?,
        }
        self.image = None;
        self.told = Told::default();
        self.has_installed = false;
        self.untracked = None;
        Ok(())
    }
}
