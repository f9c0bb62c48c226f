//! The section `[options]`.

use std::path::{Path, PathBuf};

use super::doors;
use super::lines::{KeyNames, Keys, Section};
use crate::policy::Interfaces;
use crate::policy::node::At;
use crate::policy::problem::quote;
use crate::policy::reader::Reader;

pub(super) const KEYS: [KeyNames; 4] = [
    ("UseSyslog", &[]),
    ("LogFile", &[]),
    ("PidFile", &[]),
    ("Interface", &[]),
];

/// Where the classic daemon listens unless it is told otherwise.
const INTERFACE: &str = "eth0";

/// What the section says.
pub(super) struct Options {
    pub(super) syslog: bool,
    pub(super) log_file: Option<PathBuf>,
    pub(super) pid_file: Option<PathBuf>,
    pub(super) interfaces: Interfaces,
}

pub(super) fn read<'s, 't: 's>(
    reader: &mut Reader,
    sections: impl Iterator<Item = &'s Section<'t>>,
) -> Options {
    let entries = sections.flat_map(|section| &section.entries);
    let keys = Keys::read(
        reader,
        entries,
        &KEYS,
        (&doors::KEYS, "the section of a door"),
    );
    let syslog = keys.get("UseSyslog");
    if let Some(entry) = syslog
        && entry.value.is_some()
    {
        let help = Some("leave the line out to say no".to_owned());
        reader.error_with(
            entry.value_at,
            "a value for `UseSyslog`",
            "the word alone",
            help,
        );
    }
    Options {
        syslog: syslog.is_some(),
        log_file: path(reader, &keys, "LogFile"),
        pid_file: path(reader, &keys, "PidFile"),
        interfaces: interfaces(reader, &keys),
    }
}

fn path(reader: &mut Reader, keys: &Keys<'_, '_>, name: &str) -> Option<PathBuf> {
    let (value, at) = keys.value(reader, name)?;
    absolute(
        reader,
        value,
        at,
        "an absolute path, such as `/var/log/knockd.log`",
    )
}

/// A path; a relative one begins at the root, which is where the classic daemon works in the
/// background and under systemd.
pub(super) fn absolute(
    reader: &mut Reader,
    value: &str,
    at: At,
    expected: &str,
) -> Option<PathBuf> {
    let is_name = |c: char| c.is_alphanumeric() || "/._-".contains(c);
    if !value.starts_with(is_name) || value.contains('\0') {
        let found = if value.is_empty() {
            "nothing".to_owned()
        } else {
            quote(value)
        };
        reader.error(at, found, expected);
        return None;
    }
    if value.starts_with('/') {
        return Some(value.into());
    }
    let path = Path::new("/").join(value);
    let help = format!("{} is taken", quote(&path.to_string_lossy()));
    reader.warn(at, quote(value), expected, help);
    Some(path)
}

fn interfaces(reader: &mut Reader, keys: &Keys<'_, '_>) -> Interfaces {
    let Some((value, at)) = keys.value(reader, "Interface") else {
        return Interfaces::Named(vec![INTERFACE.to_owned()]);
    };
    if value == "any" {
        return Interfaces::Any;
    }
    let (name, label) = match value.split_once(':') {
        Some((name, label)) => (name, Some(label)),
        None => (value, None),
    };
    if label.is_some_and(str::is_empty) || !is_interface(name) || name == "lo" {
        wrong(reader, value, at);
    } else if label.is_some() {
        reader.warn(
            at,
            quote(value),
            format!("`{name}`, with `Target` in doors that are for one address"),
            "knocks to every address of this host count, not to that label's alone",
        );
    }
    Interfaces::Named(vec![name.to_owned()])
}

fn wrong(reader: &mut Reader, value: &str, at: At) {
    let help = match value.strip_prefix("/dev/") {
        Some(name) => Some(format!("did you mean `{name}`?")),
        None if value.contains(',') => {
            Some("a policy in YAML may have several; `any` is all of them".to_owned())
        }
        None if value == "lo" => Some("loopback is never listened to".to_owned()),
        None => None,
    };
    let found = if value.is_empty() {
        "nothing".to_owned()
    } else {
        quote(value)
    };
    reader.error_with(at, found, "the name of one interface, such as `eth0`", help);
}

/// What the kernel takes for a name (`dev_valid_name` in net/core/dev.c), and no list.
fn is_interface(name: &str) -> bool {
    let refused = |c: char| matches!(c, '/' | ':' | ',') || c.is_whitespace() || c.is_control();
    (1..=15).contains(&name.len()) && name != "." && name != ".." && !name.contains(refused)
}
