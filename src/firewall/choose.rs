//! Which backend is used, why, and what becomes of what another one has left.

use std::env;

use super::iptables::{self, Iptables, Variant};
use super::nftables::Nftables;
use super::{Backend, BackendKind, FirewallError, Member, Observed};
use crate::model::{Chain, GateName};
use crate::policy::BackendChoice;

/// Names the iptables that is meant, `nft` or `legacy`, where `iptables` is not the right one.
pub const VARIANT_VARIABLE: &str = "KNOCKD_IPTABLES";

/// The backend to use.
pub struct Chosen {
    /// It.
    pub backend: Box<dyn Backend>,
    /// Why it, in words for `status`.
    pub reason: String,
    /// What other backends have left; to be removed when this one is installed.
    pub former: Vec<Former>,
}

/// Rules of ours that another backend than the chosen one has left.
#[derive(Debug)]
pub struct Former(Left);

#[derive(Debug)]
enum Left {
    Nftables(Nftables),
    Iptables(Iptables),
    /// The rules of the other iptables, whose sets are the same.
    Rules(Iptables),
    /// The original script's chains, with rules as members.
    Originals(Iptables),
}

impl Former {
    /// Which one.
    pub fn kind(&self) -> BackendKind {
        match &self.0 {
            Left::Nftables(_) => BackendKind::Nftables,
            Left::Iptables(_) | Left::Rules(_) | Left::Originals(_) => BackendKind::Iptables,
        }
    }

    /// What it holds: bans and acceptances, to be adopted, and whom the original script's chains
    /// trust, to be trusted until reboot. Else who is trusted is not for it to say.
    pub fn observe(&mut self) -> Result<Observed, FirewallError> {
        let chains = [Chain::Filter, Chain::Banned];
        let observed = match &mut self.0 {
            Left::Nftables(backend) => backend.observe_chains(&chains),
            Left::Iptables(backend) => backend.observe_chains(&chains),
            Left::Rules(_) => Ok(None),
            Left::Originals(backend) => {
                let mut observed = backend.observe_chains(&[])?.unwrap_or_default();
                let originals = &observed.originals;
                let members = &mut observed.members;
                members.retain(|member| originals.contains(&member.gate));
                observed.gates.clone_from(originals);
                return Ok(observed);
            }
        }?;
        let mut observed = observed.unwrap_or_default();
        // What the original's chains hold is told of apart.
        let originals = std::mem::take(&mut observed.originals);
        observed.gates.retain(|gate| !originals.contains(gate));
        observed
            .members
            .retain(|m| m.chain != Chain::Trusted && !originals.contains(&m.gate));
        Ok(observed)
    }

    /// Its bans and acceptances alone.
    pub fn members(&mut self) -> Result<Vec<Member>, FirewallError> {
        let mut members = self.observe()?.members;
        members.retain(|member| member.chain != Chain::Trusted);
        Ok(members)
    }

    /// Removes it, when the new backend is installed. Chains of the original script stay where
    /// nothing of ours guards what they guard.
    pub fn remove(self) -> Result<(), FirewallError> {
        match self.0 {
            Left::Nftables(mut backend) => backend.teardown(),
            Left::Iptables(mut backend) => backend.teardown(),
            Left::Rules(mut backend) => backend.remove_rules(),
            Left::Originals(mut backend) => {
                let guarded = guarded()?;
                let mut gates = backend.originals()?;
                gates.retain(|gate| guarded.contains(gate));
                backend.remove_originals(&gates)
            }
        }
    }
}

/// The gates that chains of ours guard, whichever backend made them.
fn guarded() -> Result<Vec<GateName>, FirewallError> {
    let mut gates = Vec::new();
    if let Ok(mut nftables) = Nftables::open() {
        gates.extend(nftables.observe_chains(&[])?.unwrap_or_default().gates);
    }
    for variant in variants() {
        if let Ok(iptables) = Iptables::open(variant) {
            gates.extend(iptables.guarded()?);
        }
    }
    Ok(gates)
}

/// The variant that the environment names.
pub fn variant() -> Variant {
    env::var(VARIANT_VARIABLE)
        .ok()
        .and_then(|text| Variant::parse(&text))
        .unwrap_or_default()
}

/// As written in the store.
pub fn parse_kind(text: &str) -> Option<BackendKind> {
    [BackendKind::Iptables, BackendKind::Nftables]
        .into_iter()
        .find(|kind| kind.to_string() == text)
}

/// Opens the backend that the policy asks for. With `auto` that is the one used before, as long
/// as it works; otherwise iptables where its programs are installed and the kernel has ip_set;
/// otherwise nftables.
pub fn choose(
    wanted: BackendChoice,
    remembered: Option<BackendKind>,
) -> Result<Chosen, FirewallError> {
    choose_with(wanted, remembered, variant())
}

/// As `choose`, with that iptables.
pub fn choose_with(
    wanted: BackendChoice,
    remembered: Option<BackendKind>,
    variant: Variant,
) -> Result<Chosen, FirewallError> {
    let said = "the policy says so";
    let (opened, reason) = match (wanted, remembered) {
        (BackendChoice::Nftables, _) => (Opened::nftables()?, said.to_owned()),
        (BackendChoice::Iptables, _) => (Opened::iptables(variant)?, said.to_owned()),
        (BackendChoice::Auto, Some(BackendKind::Nftables)) => match Opened::nftables() {
            Ok(opened) => (opened, "it was chosen at an earlier start".to_owned()),
            Err(why) => {
                let opened = Opened::iptables(variant).map_err(|other| neither(&other, &why))?;
                (opened, format!("nftables was chosen before, but: {why}"))
            }
        },
        (BackendChoice::Auto, before) => match Opened::iptables(variant) {
            Ok(opened) if before == Some(BackendKind::Iptables) => {
                (opened, "it was chosen at an earlier start".to_owned())
            }
            Ok(opened) => (
                opened,
                "iptables is installed and the kernel has ip_set".to_owned(),
            ),
            Err(why) => {
                let opened = Opened::nftables().map_err(|other| neither(&why, &other))?;
                let reason = match before {
                    Some(_) => format!("iptables was chosen before, but: {why}"),
                    None => why.to_string(),
                };
                (opened, reason)
            }
        },
    };
    let former = formers(&opened);
    let details = opened.details();
    let reason = [vec![reason], details].concat().join("; ");
    Ok(Chosen {
        backend: opened.boxed(),
        reason,
        former,
    })
}

fn neither(iptables: &FirewallError, nftables: &FirewallError) -> FirewallError {
    FirewallError::Neither {
        iptables: iptables.to_string(),
        nftables: nftables.to_string(),
    }
}

/// A backend that works.
enum Opened {
    Nftables(Nftables),
    Iptables(Iptables),
}

impl Opened {
    fn nftables() -> Result<Self, FirewallError> {
        Nftables::open().map(Opened::Nftables)
    }

    fn iptables(variant: Variant) -> Result<Self, FirewallError> {
        Iptables::open(variant).map(Opened::Iptables)
    }

    fn details(&self) -> Vec<String> {
        match self {
            Opened::Nftables(_) => Vec::new(),
            Opened::Iptables(backend) => {
                let version = backend.version().into_iter();
                version.chain(backend.notes().iter().cloned()).collect()
            }
        }
    }

    fn boxed(self) -> Box<dyn Backend> {
        match self {
            Opened::Nftables(backend) => Box::new(backend),
            Opened::Iptables(backend) => Box::new(backend),
        }
    }
}

/// Each iptables of this machine, once.
fn variants() -> Vec<Variant> {
    let mut found = vec![Variant::Nft, Variant::Legacy];
    found.retain(|variant| iptables::is_installed(*variant));
    if found.is_empty() && iptables::is_installed(Variant::Installed) {
        found.push(Variant::Installed);
    }
    found
}

/// What others have left. Those that cannot be used have left nothing that could be removed.
fn formers(chosen: &Opened) -> Vec<Former> {
    let mut formers = Vec::new();
    if let Opened::Iptables(_) = chosen
        && let Ok(mut nftables) = Nftables::open()
        && matches!(nftables.observe_chains(&[]), Ok(Some(_)))
    {
        formers.push(Former(Left::Nftables(nftables)));
    }
    for variant in variants() {
        let Ok(other) = Iptables::open(variant) else {
            continue;
        };
        // That one takes over what its table has.
        if matches!(chosen, Opened::Iptables(own) if own.is_same_table(&other)) {
            continue;
        }
        if let Ok(again) = Iptables::open(variant)
            && again.originals().is_ok_and(|gates| !gates.is_empty())
        {
            formers.push(Former(Left::Originals(again)));
        }
        if !other.holds_rules().unwrap_or(false) {
            continue;
        }
        formers.push(Former(match chosen {
            Opened::Nftables(_) => Left::Iptables(other),
            Opened::Iptables(_) => Left::Rules(other),
        }));
    }
    formers
}

/// What the kernel holds of ours, whichever backend made it.
pub fn observe() -> Result<Option<(BackendKind, Observed)>, FirewallError> {
    if let Ok(mut nftables) = Nftables::open()
        && let Some(observed) = nftables.observe()?
    {
        return Ok(Some((BackendKind::Nftables, observed)));
    }
    for variant in variants() {
        if let Ok(mut iptables) = Iptables::open(variant)
            && iptables.holds_rules()?
            && let Some(observed) = iptables.observe()?
        {
            return Ok(Some((BackendKind::Iptables, observed)));
        }
    }
    Ok(None)
}

/// Removes everything of ours, whichever backend made it. What cannot be used here cannot have
/// left anything.
pub fn teardown() -> Result<(), FirewallError> {
    if let Ok(mut nftables) = Nftables::open() {
        nftables.teardown()?;
    }
    let mut found: Vec<Iptables> = variants()
        .into_iter()
        .filter_map(|variant| Iptables::open(variant).ok())
        .collect();
    // First all rules: both kinds of them may refer to the same sets.
    let mut gates = Vec::new();
    for iptables in &mut found {
        gates.extend(iptables.own()?);
    }
    for iptables in &mut found {
        iptables.remove_rules()?;
    }
    if let Some(iptables) = found.first_mut() {
        iptables.destroy_sets(&gates)?;
    }
    Ok(())
}
