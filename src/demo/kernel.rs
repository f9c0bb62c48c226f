//! What the kernel holds, as the daemon reports it or, with the daemon dead, as it is found.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::stage::Stage;
use super::{DemoError, humanly};
use crate::control::{Data, Request, Verb};
use crate::firewall::choose;
use crate::model::Chain;

/// A member of a chain, as `knockctl -o json list` has it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Entry {
    pub(super) chain: String,
    pub(super) address: String,
    pub(super) expires_in_s: Option<u64>,
    pub(super) reason: String,
}

#[derive(Deserialize)]
struct List {
    entries: Vec<Entry>,
}

/// The members: from the daemon, as `knockctl list` has them, or with the daemon dead from the
/// kernel itself.
pub(super) fn members(stage: &Stage) -> Result<Vec<Entry>, DemoError> {
    if stage.daemon.pid().is_none() {
        return observed(stage);
    }
    let everything: [String; 0] = [];
    let request = Request::new(Verb::List, everything);
    let answer = stage.daemon.ask(&request)?;
    let strange = |what: &dyn std::fmt::Display| {
        DemoError::NotSo(format!("the daemon's list is not understood: {what}"))
    };
    match answer.data {
        Data::Json(value) => serde_json::from_value::<List>(value)
            .map(|list| list.entries)
            .map_err(|error| strange(&error)),
        _ => Err(strange(&answer.refused.join(", "))),
    }
}

fn observed(stage: &Stage) -> Result<Vec<Entry>, DemoError> {
    let observed = stage
        .server
        .run(choose::observe)?
        .map_err(|error| DemoError::NotSo(error.to_string()))?;
    let members = observed.map_or_else(Vec::new, |(_, observed)| observed.members);
    let entries = members.into_iter().map(|member| Entry {
        chain: format!("{}_{}", member.gate, member.chain.suffix()),
        address: without_host_length(&member.net.to_string()),
        // Rounded as the daemon rounds it, or the time would go up when the daemon is back.
        expires_in_s: member.remaining.as_secs(),
        reason: member.reason,
    });
    Ok(entries.collect())
}

fn without_host_length(net: &str) -> String {
    let suffix = if net.contains(':') { "/128" } else { "/32" };
    net.strip_suffix(suffix).unwrap_or(net).to_owned()
}

/// The chains in the order in which a packet meets them, a member a line.
pub(super) fn chains(stage: &Stage) -> Result<Vec<String>, DemoError> {
    let mut chains: BTreeMap<(usize, String), Vec<Entry>> = BTreeMap::new();
    for (order, chain) in Chain::ALL.into_iter().enumerate() {
        chains.insert((order, format!("ssh_{}", chain.suffix())), Vec::new());
    }
    for entry in members(stage)? {
        let order = Chain::ALL
            .into_iter()
            .position(|chain| entry.chain.ends_with(chain.suffix()));
        let key = (order.unwrap_or(Chain::ALL.len()), entry.chain.clone());
        chains.entry(key).or_default().push(entry);
    }
    let mut lines = Vec::new();
    for ((_, chain), entries) in chains {
        let mut name = chain.as_str();
        if entries.is_empty() {
            lines.push(format!("{name:<13} –"));
        }
        for entry in entries {
            lines.push(format!("{name:<13} {}", shown(&entry)));
            name = "";
        }
    }
    Ok(lines)
}

fn shown(entry: &Entry) -> String {
    let left = match entry.expires_in_s {
        Some(seconds) => format!("{} left", humanly(Duration::from_secs(seconds))),
        None => "for good".to_owned(),
    };
    format!("{:<16} {left:<9} {}", entry.address, entry.reason)
}
