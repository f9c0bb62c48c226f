//! Changes to the file. Comments, order, line endings, mode, owner and a symbolic link are kept;
//! whoever reads the file meanwhile sees the old one or the new one, never half of it.

use std::path::Path;

use ipnet::IpNet;

use super::error::WhitelistError;
use super::file;
use super::host::Host;
use super::parse::{Line, MARK, forced, parse, read_line};
use crate::model::is_host_name;

/// What became of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// It has a line more.
    Added {
        /// From 1.
        line: usize,
        /// There was no file before.
        created: bool,
    },
    /// It is as it was, since it says so already.
    AlreadyThere {
        /// From 1.
        line: usize,
    },
    /// It has these lines less.
    Removed {
        /// As they were numbered.
        lines: Vec<usize>,
        /// A network that still covers the address.
        covered: Option<Covered>,
    },
    /// It is as it was, since it never said so.
    NotThere {
        /// A network that covers the address.
        covered: Option<Covered>,
    },
}

/// A network on the list that holds what was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Covered {
    /// The network.
    pub by: IpNet,
    /// Where it is in the file as it is now.
    pub line: usize,
}

/// Adds a line for `host`. A network of length 0 needs a comment that begins with `--force`.
pub fn add(path: &Path, host: &Host, comment: &str) -> Result<Edit, WhitelistError> {
    let mut edits = add_all(path, &[(host.clone(), comment.to_owned())])?;
    Ok(edits.remove(0))
}

/// Adds a line for each host that has none, all of them or nothing; what became of each.
pub fn add_all(path: &Path, hosts: &[(Host, String)]) -> Result<Vec<Edit>, WhitelistError> {
    for (host, comment) in hosts {
        check(host, comment.trim())?;
    }
    let target = file::target(path)?;
    let found = target.as_deref().map(file::read).transpose()?;
    let before = found.as_ref().map(|found| found.bytes.as_slice());
    let (bytes, edits) = text_with(before, hosts)?;
    if bytes.len() > before.map_or(0, <[u8]>::len) {
        match (&target, &found) {
            (Some(target), Some(found)) => file::replace(target, found, &bytes)?,
            _ => file::create(path, &bytes)?,
        }
    }
    Ok(edits)
}

/// What [`add_all`] makes of a file's bytes, or of no file.
pub fn text_with(
    text: Option<&[u8]>,
    hosts: &[(Host, String)],
) -> Result<(Vec<u8>, Vec<Edit>), WhitelistError> {
    let created = text.is_none();
    let mut bytes = text.unwrap_or_default().to_vec();
    let mut known: Vec<(Host, usize)> = parse(&bytes)
        .entries
        .into_iter()
        .map(|entry| (entry.host, entry.line))
        .collect();
    let mut edits = Vec::with_capacity(hosts.len());
    let mut count = lines(&bytes).count();
    for (host, comment) in hosts {
        let comment = comment.trim();
        check(host, comment)?;
        if let Some((_, line)) = known.iter().find(|(known, _)| known.same(host)) {
            edits.push(Edit::AlreadyThere { line: *line });
            continue;
        }
        let text = if comment.is_empty() {
            host.to_string()
        } else {
            format!("{host} # {comment}")
        };
        bytes = with_line(&bytes, &text);
        count += 1;
        known.push((host.clone(), count));
        edits.push(Edit::Added {
            line: count,
            created,
        });
    }
    Ok((bytes, edits))
}

/// Removes every line that means `host`.
pub fn remove(path: &Path, host: &Host) -> Result<Edit, WhitelistError> {
    let mut edits = remove_all(path, std::slice::from_ref(host))?;
    Ok(edits.remove(0))
}

/// Removes every line that means one of the hosts, all of them or nothing; what became of each.
pub fn remove_all(path: &Path, hosts: &[Host]) -> Result<Vec<Edit>, WhitelistError> {
    let missing = || WhitelistError::Missing(path.to_owned());
    let target = file::target(path)?.ok_or_else(missing)?;
    let found = file::read(&target)?;
    let (bytes, edits) = text_without(&found.bytes, hosts);
    if bytes.len() < found.bytes.len() {
        file::replace(&target, &found, &bytes)?;
    }
    Ok(edits)
}

/// What [`remove_all`] makes of a file's bytes.
pub fn text_without(text: &[u8], hosts: &[Host]) -> (Vec<u8>, Vec<Edit>) {
    let mut bytes = text.to_vec();
    let mut removed = Vec::with_capacity(hosts.len());
    for host in hosts {
        let (rest, lines) = without_host(&bytes, host);
        bytes = rest;
        removed.push(lines);
    }
    let edits = hosts.iter().zip(removed).map(|(host, lines)| {
        let covered = covered(&bytes, host);
        if lines.is_empty() {
            Edit::NotThere { covered }
        } else {
            Edit::Removed { lines, covered }
        }
    });
    let edits = edits.collect();
    (bytes, edits)
}

fn check(host: &Host, comment: &str) -> Result<(), WhitelistError> {
    if host.is_everything() && !forced(comment) {
        return Err(WhitelistError::Everything(host.to_string()));
    }
    if let Host::Name(name) = host
        && !is_host_name(name)
    {
        return Err(WhitelistError::Name(name.clone()));
    }
    if comment.chars().count() > 200 || comment.chars().any(char::is_control) {
        return Err(WhitelistError::Comment);
    }
    Ok(())
}

/// The lines, each with its ending; the last may have none.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n')
}

/// The bytes with a line more, in the style of the file: its line ending, and its newline at the
/// end or none.
fn with_line(bytes: &[u8], line: &str) -> Vec<u8> {
    let crlf = lines(bytes)
        .next()
        .is_some_and(|first| first.ends_with(b"\r\n"));
    let ending: &[u8] = if crlf { b"\r\n" } else { b"\n" };
    let mut all = Vec::with_capacity(bytes.len() + line.len() + 2);
    all.extend_from_slice(bytes);
    if bytes.is_empty() || bytes.ends_with(b"\n") {
        all.extend_from_slice(line.as_bytes());
        all.extend_from_slice(ending);
    } else {
        all.extend_from_slice(ending);
        all.extend_from_slice(line.as_bytes());
    }
    all
}

/// The bytes without the lines that mean `host`, and those lines' numbers.
fn without_host(bytes: &[u8], host: &Host) -> (Vec<u8>, Vec<usize>) {
    let mut kept = Vec::with_capacity(bytes.len());
    let mut removed = Vec::new();
    let mut last_went = false;
    for (index, line) in lines(bytes).enumerate() {
        // A mark of byte order belongs to the file, not to its first line.
        let mark: &[u8] = if index == 0 && line.starts_with(MARK) {
            MARK
        } else {
            b""
        };
        last_went = means(line, host);
        if last_went {
            removed.push(index + 1);
            kept.extend_from_slice(mark);
        } else {
            kept.extend_from_slice(line);
        }
    }
    // A file without a newline at its end stays one.
    if last_went && !bytes.ends_with(b"\n") && kept.ends_with(b"\n") {
        kept.pop();
        if kept.ends_with(b"\r") {
            kept.pop();
        }
    }
    (kept, removed)
}

fn means(line: &[u8], host: &Host) -> bool {
    match read_line(line) {
        Line::Entry { host: other, .. } => other.same(host),
        Line::Nothing | Line::Bad(_) => false,
    }
}

fn covered(bytes: &[u8], host: &Host) -> Option<Covered> {
    let Host::Net(net) = host else {
        return None;
    };
    parse(bytes)
        .entries
        .iter()
        .find_map(|entry| match &entry.host {
            Host::Net(by) if by.contains(net) => Some(Covered {
                by: *by,
                line: entry.line,
            }),
            _ => None,
        })
}

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;
