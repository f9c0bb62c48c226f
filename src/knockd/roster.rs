//! The whitelist as it stands: what the file says, with the addresses that its names have now.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use crate::model::host_net;
use crate::whitelist::{self, BadLine, Entry, Host, Parsed, WhitelistError};

/// Names beyond this many are only counted where they do not resolve.
const MOST_SHOWN: usize = 5;

/// The whitelist file's entries, and the addresses of names.
#[derive(Debug, Clone, Default)]
pub(super) struct Roster {
    file: Option<PathBuf>,
    entries: Vec<Entry>,
    addresses: HashMap<String, Vec<IpAddr>>,
    /// What is doubtful about the file as it was read, and counts all the same.
    doubts: Vec<String>,
}

/// What has changed about whom the whitelist trusts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// New, each with its reason.
    pub(super) add: Vec<(IpNet, String)>,
    /// Trusted no more.
    pub(super) remove: Vec<IpNet>,
}

/// Why a reload leaves the whitelist as it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum RosterError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] WhitelistError),
    /// Lines that are not understood.
    #[error("{} has bad lines, so nothing was changed:{}", file.display(), listed(.bad))]
    BadLines {
        /// The file.
        file: PathBuf,
        /// What is wrong, a line each.
        bad: Vec<String>,
    },
    /// Not even a comment: rather an accident than somebody's wish.
    #[error(
        "{} is empty, so nothing was changed; a whitelist that is meant to be empty has a comment",
        .0.display()
    )]
    Empty(PathBuf),
}

fn listed(bad: &[String]) -> String {
    format!("\n  {}", bad.join("\n  "))
}

impl Roster {
    /// Exactly these entries, as if that file had them.
    pub(super) fn of(file: PathBuf, entries: Vec<Entry>) -> Self {
        Self {
            file: Some(file),
            entries,
            ..Self::default()
        }
    }

    /// The entries as a file would have them.
    pub(super) fn text(&self) -> String {
        let entries = self.entries.iter();
        let lines = entries.map(|entry| format!("{} #{}\n", entry.host, entry.comment));
        lines.collect()
    }

    /// Reads the file at start: what is bad is skipped and returned as complaints, beside what is
    /// doubtful.
    /// A file that cannot be read, or says nothing at all, is returned as a problem.
    pub(super) fn at_start(file: Option<&Path>) -> (Self, Vec<String>, Option<String>) {
        let mut roster = Self {
            file: file.map(Path::to_owned),
            ..Self::default()
        };
        let Some(file) = file else {
            return (roster, Vec::new(), None);
        };
        match whitelist::load(file) {
            Ok(parsed) => {
                let problem = parsed.blank.then(|| blank(file));
                let complaints = complaints(&parsed);
                let named = |line| format!("{}: {line}; skipped", file.display());
                let mut complaints: Vec<String> = complaints.into_iter().map(named).collect();
                complaints.extend(parsed.doubts(file));
                roster.entries = parsed.entries;
                let problem = problem.or_else(|| skipped(file, &parsed.bad, parsed.more_bad));
                (roster, complaints, problem)
            }
            Err(error) => {
                let problem = format!(
                    "{error}; nobody is trusted until it can be read: `knockctl reload` then"
                );
                (roster, Vec::new(), Some(problem))
            }
        }
    }

    /// Reads the file for a reload, all of it or nothing. The addresses of names are kept.
    pub(super) fn reloaded(&self, file: Option<&Path>) -> Result<Self, RosterError> {
        let mut roster = Self {
            file: file.map(Path::to_owned),
            addresses: self.addresses.clone(),
            ..Self::default()
        };
        let Some(file) = file else { return Ok(roster) };
        let parsed = whitelist::load(file)?;
        if !parsed.bad.is_empty() {
            return Err(RosterError::BadLines {
                file: file.to_owned(),
                bad: complaints(&parsed),
            });
        }
        if parsed.blank {
            return Err(RosterError::Empty(file.to_owned()));
        }
        roster.doubts = parsed.doubts(file);
        roster.entries = parsed.entries;
        Ok(roster)
    }

    /// What is doubtful about the file that a reload has read, a line each; told once.
    pub(super) fn take_doubts(&mut self) -> Vec<String> {
        std::mem::take(&mut self.doubts)
    }

    /// The list from before one that was `applied` and is `now` taken back: as it was, with what
    /// commands have changed meanwhile in the file of both, and with the latest addresses.
    pub(super) fn taken_back(mut self, applied: &Self, now: &Self) -> Self {
        self.addresses.clone_from(&now.addresses);
        if self.file == now.file {
            let [old, read, known] = [&self, applied, now].map(Self::keys);
            self.entries
                .retain(|entry| known.contains(&key(entry)) || !read.contains(&key(entry)));
            let new = now.entries.iter().filter(|entry| {
                let key = key(entry);
                !read.contains(&key) && !old.contains(&key)
            });
            self.entries.extend(new.cloned());
        }
        self
    }

    /// Whoever asked for these to be trusted or not is to have it so: they are no part any more of
    /// the edit that led from here to `tried`.
    pub(super) fn settle(&mut self, tried: &Self, hosts: &[Host]) {
        if self.file != tried.file {
            return;
        }
        let is_asked_for = |entry: &Entry| hosts.iter().any(|host| entry.host.same(host));
        self.entries.retain(|entry| !is_asked_for(entry));
        let tried = tried.entries.iter().filter(|entry| is_asked_for(entry));
        self.entries.extend(tried.cloned());
    }

    /// Whether there is an entry for it.
    pub(super) fn lists(&self, host: &Host) -> bool {
        self.entries.iter().any(|entry| entry.host.same(host))
    }

    /// Whether both trust the same, by the same names.
    pub(super) fn lists_the_same(&self, other: &Self) -> bool {
        self.keys() == other.keys()
    }

    /// Whether the file says just that.
    pub(super) fn is_what_its_file_says(&self) -> bool {
        let read = self.reloaded(self.file());
        read.is_ok_and(|read| read.lists_the_same(self))
    }

    fn keys(&self) -> HashSet<String> {
        self.entries.iter().map(key).collect()
    }

    /// Whether somebody is on the list.
    pub(super) fn has_entries(&self) -> bool {
        !self.entries.is_empty()
    }

    /// The file, if the policy names one.
    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Adds entries that have been written to the file.
    pub(super) fn add(&mut self, hosts: Vec<(Host, String)>) -> Change {
        let before = self.entries.len();
        for (host, comment) in hosts {
            if !self.lists(&host) {
                self.entries.push(Entry {
                    line: 0,
                    host,
                    comment,
                });
            }
        }
        let mut add = Vec::new();
        for entry in &self.entries[before..] {
            self.trusted_by(entry, &mut add);
        }
        Change {
            add,
            remove: Vec::new(),
        }
    }

    /// Removes entries that have been taken out of the file.
    pub(super) fn remove(&mut self, hosts: &[Host]) -> Change {
        let (gone, kept): (Vec<Entry>, Vec<Entry>) = std::mem::take(&mut self.entries)
            .into_iter()
            .partition(|entry| hosts.iter().any(|host| entry.host.same(host)));
        self.entries = kept;
        let mut nets = Vec::new();
        for entry in &gone {
            self.trusted_by(entry, &mut nets);
        }
        let remove = nets
            .into_iter()
            .map(|(net, _)| net)
            .filter(|net| !self.provides(*net));
        Change {
            add: Vec::new(),
            remove: remove.collect(),
        }
    }

    /// The names that need addresses.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().filter_map(|entry| match &entry.host {
            Host::Name(name) => Some(name.as_str()),
            Host::Net(_) => None,
        })
    }

    /// Which of the names that did not resolve stand for nobody, as a problem: whoever they mean is
    /// shut out. One whose last good addresses are kept still serves.
    pub(super) fn not_resolved(&self, failed: &HashSet<String>) -> Option<String> {
        if failed.is_empty() {
            return None;
        }
        let listed = self.names().map(str::to_lowercase);
        let nobody = |name: &String| failed.contains(name) && self.addresses(name).is_empty();
        let names: BTreeSet<String> = listed.filter(nobody).collect();
        let number = names.len();
        let shown: Vec<&str> = names.iter().take(MOST_SHOWN).map(String::as_str).collect();
        let shown = shown.join(", ");
        let what = match number {
            0 => return None,
            1 => {
                return Some(format!(
                    "not resolved: {shown}: whoever it stands for is not trusted until it is; the \
                     log says why; correct it in the whitelist if it is wrong"
                ));
            }
            _ if number > MOST_SHOWN => {
                format!("{number} names: {shown} and {} more", number - MOST_SHOWN)
            }
            _ => format!("{number} names: {shown}"),
        };
        Some(format!(
            "not resolved: {what}: whoever they stand for is not trusted until they are; the log \
             says why; correct them in the whitelist if they are wrong"
        ))
    }

    /// Sets the addresses of a name; what that changes, if they are others than before.
    pub(super) fn resolved(&mut self, name: &str, addresses: Vec<IpAddr>) -> Option<Change> {
        let name = name.to_lowercase();
        let old = self
            .addresses
            .insert(name.clone(), addresses)
            .unwrap_or_default();
        if old == self.addresses(&name) {
            return None;
        }
        let mut add = Vec::new();
        for entry in &self.entries {
            if matches!(&entry.host, Host::Name(known) if known.eq_ignore_ascii_case(&name)) {
                self.trusted_by(entry, &mut add);
            }
        }
        let remove = old
            .into_iter()
            .map(host_net)
            .filter(|net| !self.provides(*net));
        Some(Change {
            remove: remove.collect(),
            add,
        })
    }

    /// Whether an entry stands for exactly this network.
    fn provides(&self, net: IpNet) -> bool {
        self.entries.iter().any(|entry| match &entry.host {
            Host::Net(known) => *known == net,
            Host::Name(name) => self.addresses(name).iter().any(|a| host_net(*a) == net),
        })
    }

    /// The addresses of a name, none if it is unknown.
    pub(super) fn addresses(&self, name: &str) -> &[IpAddr] {
        self.addresses
            .get(&name.to_lowercase())
            .map_or(&[], Vec::as_slice)
    }

    /// Everybody who is trusted, each with the reason.
    pub(super) fn trusted(&self) -> Vec<(IpNet, String)> {
        let mut trusted = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            self.trusted_by(entry, &mut trusted);
        }
        trusted
    }

    /// Whom an entry trusts, each with the reason.
    fn trusted_by(&self, entry: &Entry, trusted: &mut Vec<(IpNet, String)>) {
        let reason = entry.reason(self.file.as_deref().unwrap_or(Path::new("")));
        match &entry.host {
            Host::Net(net) => trusted.push((*net, reason)),
            Host::Name(name) => trusted.extend(
                self.addresses(name)
                    .iter()
                    .map(|address| (host_net(*address), reason.clone())),
            ),
        }
    }
}

/// What is left of a file after a power failure, more often than not.
fn blank(file: &Path) -> String {
    format!(
        "{} is empty, so nobody is trusted: put its entries back and `knockctl reload`; a whitelist \
         that is meant to be empty has a comment",
        file.display()
    )
}

/// A file that was read, but not as it was meant.
fn skipped(file: &Path, bad: &[BadLine], more: usize) -> Option<String> {
    let first = bad.first()?;
    let (file, number, line) = (file.display(), bad.len() + more, first.line);
    let what = match number {
        1 => format!("line {line} of {file} is not understood and skipped"),
        _ => {
            format!("{number} lines of {file} are not understood and skipped, the first is {line}")
        }
    };
    Some(format!(
        "{what}: whoever they name is not trusted; mend them and `knockctl reload`"
    ))
}

/// The same for entries that mean the same.
fn key(entry: &Entry) -> String {
    match &entry.host {
        Host::Net(net) => net.to_string(),
        Host::Name(name) => name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase(),
    }
}

fn complaints(parsed: &Parsed) -> Vec<String> {
    let mut lines: Vec<String> = parsed.bad.iter().map(ToString::to_string).collect();
    if parsed.more_bad > 0 {
        lines.push(format!("and {} more bad lines", parsed.more_bad));
    }
    lines
}

#[cfg(test)]
#[path = "roster_tests.rs"]
mod tests;
