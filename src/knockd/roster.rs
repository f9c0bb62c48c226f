//! The whitelist as it stands: what the file says, with the addresses that its names have now.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use crate::model::host_net;
use crate::whitelist::{self, Entry, Host, Parsed, WhitelistError};

/// The whitelist file's entries, and the addresses of names.
#[derive(Debug, Default)]
pub(super) struct Roster {
    file: Option<PathBuf>,
    entries: Vec<Entry>,
    addresses: HashMap<String, Vec<IpAddr>>,
    /// There was no file when it was read.
    missing: bool,
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
    /// Reads the file at start: what is bad is skipped and returned as complaints.
    pub(super) fn at_start(file: Option<&Path>) -> (Self, Vec<String>) {
        let mut roster = Self {
            file: file.map(Path::to_owned),
            ..Self::default()
        };
        let Some(file) = file else {
            return (roster, Vec::new());
        };
        match whitelist::load(file) {
            Ok(parsed) => {
                let complaints = complaints(&parsed);
                let named = |line| format!("{}: {line}; skipped", file.display());
                roster.entries = parsed.entries;
                (roster, complaints.into_iter().map(named).collect())
            }
            Err(error) => {
                roster.missing = matches!(error, WhitelistError::Missing(_));
                (roster, vec![error.to_string()])
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
        match whitelist::load(file) {
            Ok(parsed) => {
                if !parsed.bad.is_empty() {
                    let bad = complaints(&parsed);
                    return Err(RosterError::BadLines {
                        file: file.to_owned(),
                        bad,
                    });
                }
                if parsed.blank && !self.entries.is_empty() {
                    return Err(RosterError::Empty(file.to_owned()));
                }
                roster.entries = parsed.entries;
            }
            // Where there never was one, none has been lost.
            Err(WhitelistError::Missing(_))
                if self.missing && self.file.as_deref() == Some(file) =>
            {
                roster.missing = true;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(roster)
    }

    /// Whether the file could not be read for another reason than that there is none.
    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Adds an entry that has been written to the file.
    pub(super) fn add(&mut self, host: Host, comment: &str) {
        self.missing = false;
        if !self.entries.iter().any(|entry| entry.host.same(&host)) {
            self.entries.push(Entry {
                line: 0,
                host,
                comment: comment.to_owned(),
            });
        }
    }

    /// Removes an entry that has been taken out of the file.
    pub(super) fn remove(&mut self, host: &Host) {
        self.entries.retain(|entry| !entry.host.same(host));
    }

    /// The names that need addresses.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().filter_map(|entry| match &entry.host {
            Host::Name(name) => Some(name.as_str()),
            Host::Net(_) => None,
        })
    }

    /// Sets the addresses of a name; whether they are others than before.
    pub(super) fn resolved(&mut self, name: &str, addresses: Vec<IpAddr>) -> bool {
        let old = self.addresses.insert(name.to_lowercase(), addresses);
        old.as_ref() != self.addresses.get(&name.to_lowercase())
    }

    /// The addresses of a name, none if it is unknown.
    pub(super) fn addresses(&self, name: &str) -> &[IpAddr] {
        self.addresses
            .get(&name.to_lowercase())
            .map_or(&[], Vec::as_slice)
    }

    /// Everybody who is trusted, each with the reason.
    pub(super) fn trusted(&self) -> Vec<(IpNet, String)> {
        let file = self
            .file
            .as_deref()
            .and_then(Path::file_name)
            .unwrap_or_default();
        let file = file.to_string_lossy();
        let mut trusted = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            let note = if entry.comment.is_empty() {
                String::new()
            } else {
                format!(": {}", entry.comment)
            };
            match &entry.host {
                Host::Net(net) => trusted.push((*net, format!("{file}{note}"))),
                Host::Name(name) => trusted.extend(
                    self.addresses(name)
                        .iter()
                        .map(|address| (host_net(*address), format!("{file}: {name}{note}"))),
                ),
            }
        }
        trusted
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
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("knockd.trusted");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    fn nets(roster: &Roster) -> Vec<String> {
        roster
            .trusted()
            .iter()
            .map(|(net, _)| net.to_string())
            .collect()
    }

    #[test]
    fn at_start_a_bad_line_is_reported_with_its_number_and_skipped() {
        let (_dir, path) = file("192.0.2.1\n999.0.0.1 oops\n192.0.2.2\n");
        let (roster, complaints) = Roster::at_start(Some(&path));
        assert_eq!(nets(&roster), ["192.0.2.1/32", "192.0.2.2/32"]);
        assert!(
            complaints.len() == 1 && complaints[0].contains("line 2"),
            "{complaints:?}"
        );
    }

    #[test]
    fn at_reload_a_bad_line_a_missing_or_an_empty_file_changes_nothing() {
        let (_dir, path) = file("192.0.2.1\n");
        let (roster, _) = Roster::at_start(Some(&path));
        std::fs::write(&path, "192.0.2.1\n999.0.0.1\n").unwrap();
        assert!(matches!(
            roster.reloaded(Some(&path)),
            Err(RosterError::BadLines { .. })
        ));
        std::fs::write(&path, " \n").unwrap();
        assert!(matches!(
            roster.reloaded(Some(&path)),
            Err(RosterError::Empty(_))
        ));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(
            roster.reloaded(Some(&path)),
            Err(RosterError::File(_))
        ));
    }

    #[test]
    fn a_file_of_comments_only_empties_the_whitelist() {
        let (_dir, path) = file("192.0.2.1\n");
        let (roster, _) = Roster::at_start(Some(&path));
        std::fs::write(&path, "# nobody\n").unwrap();
        assert_eq!(nets(&roster.reloaded(Some(&path)).unwrap()), [""; 0]);
    }

    #[test]
    fn where_there_never_was_a_file_a_reload_goes_on_without() {
        let (dir, _) = file("");
        let none = dir.path().join("none");
        let (roster, complaints) = Roster::at_start(Some(&none));
        assert_eq!(complaints.len(), 1);
        assert!(roster.reloaded(Some(&none)).is_ok());
    }

    #[test]
    fn names_stand_for_their_addresses_and_keep_them_over_a_reload() {
        let (_dir, path) = file("Gate.Example.org the gateway\n");
        let (mut roster, _) = Roster::at_start(Some(&path));
        assert_eq!(roster.names().count(), 1);
        assert!(nets(&roster).is_empty());
        let address: IpAddr = "2001:db8::1".parse().unwrap();
        assert!(roster.resolved("gate.example.org", vec![address]));
        assert!(
            !roster.resolved("gate.example.org", vec![address]),
            "nothing new"
        );
        let roster = roster.reloaded(Some(&path)).unwrap();
        assert_eq!(nets(&roster), ["2001:db8::1/128"]);
        assert!(roster.trusted()[0].1.contains("the gateway"));
    }
}
