//! The sections besides gates and knocks.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use crate::model::{Lifetime, canonical_net, host_net};

use super::node::{At, Node, Value};
use super::reader::{Fields, Reader};
use super::{
    BackendChoice, Firewall, Interfaces, LogSettings, LogStyle, OnStop, ScanAction, ScanGuard,
};

const KIB: u64 = 1024;
pub(super) const MEMORY: u64 = 32 * KIB * KIB;
const LEAST_MEMORY: u64 = 64 * KIB;
/// A flood fills all of it; what the machine does not have would end the daemon.
const MOST_MEMORY: u64 = KIB * KIB * KIB;
const MOST_INTERFACES: usize = 64;
pub(super) const SCAN_PORTS: u16 = 5;
pub(super) const SCAN_NEARBY: u16 = 5;
const MOST_NEARBY: u16 = 1000;

pub(super) fn interfaces(reader: &mut Reader, node: &Node) -> Interfaces {
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        _ if node.word() == Some("any") => return Interfaces::Any,
        _ => std::slice::from_ref(node),
    };
    if items.is_empty() || items.len() > MOST_INTERFACES {
        let expected = format!("`any`, a name or a list of 1 to {MOST_INTERFACES} names");
        reader.error(node.at, format!("{} interfaces", items.len()), expected);
        return Interfaces::Any;
    }
    let mut names: Vec<String> = Vec::new();
    for item in items {
        if let Some(name) = interface(reader, item) {
            if names.iter().any(|earlier| earlier == name) {
                let found = format!("the interface {} a second time", item.shown());
                reader.error(item.at, found, "each interface once");
            } else {
                names.push(name.to_owned());
            }
        }
    }
    Interfaces::Named(names)
}

/// What the kernel takes for a name (`dev_valid_name` in net/core/dev.c), and not loopback.
fn interface<'n>(reader: &mut Reader, item: &'n Node) -> Option<&'n str> {
    let expected = "an interface name: 1 to 15 bytes without `/`, `:` or white space";
    let name = reader.text(item, expected)?;
    match name {
        "lo" => reader.error(
            item.at,
            "`lo`",
            "an interface that others reach; loopback is never gated",
        ),
        "any" => reader.error(item.at, "`any` inside a list", "`any` by itself, or names"),
        _ => {
            let refused = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
            if name.len() <= 15 && name != "." && name != ".." && !name.contains(refused) {
                return Some(name);
            }
            reader.wrong(item, expected);
        }
    }
    None
}

pub(super) fn firewall(reader: &mut Reader, node: Option<&Node>) -> Firewall {
    let mut firewall = Firewall {
        backend: BackendChoice::Auto,
        on_stop: OnStop::Keep,
        owner: false,
    };
    let what = "a mapping with `backend`, `on_stop` and `owner`";
    let keys = ["backend", "on_stop", "owner"];
    let Some(fields) = node.and_then(|node| reader.fields(node, what, &keys)) else {
        return firewall;
    };
    if let Some(node) = fields.get("backend") {
        let words = [
            ("auto", BackendChoice::Auto),
            ("iptables", BackendChoice::Iptables),
            ("nftables", BackendChoice::Nftables),
        ];
        if let Some(backend) = reader.choice(node, &words) {
            firewall.backend = backend;
        }
    }
    if let Some(node) = fields.get("on_stop") {
        let words = [("keep", OnStop::Keep), ("closed", OnStop::Closed)];
        firewall.on_stop = reader.choice(node, &words).unwrap_or(OnStop::Keep);
    }
    if let Some(node) = fields.get("owner") {
        firewall.owner = reader.boolean(node).unwrap_or(false);
        if firewall.owner && firewall.backend == BackendChoice::Iptables {
            let help = "iptables has nothing of the kind: it is without effect";
            reader.warn(
                node.at,
                "`owner: true` with `backend: iptables`",
                "`backend: nftables`",
                help,
            );
        }
    }
    firewall
}

/// The whitelist's path, relative to the policy's directory.
pub(super) fn trusted(reader: &mut Reader, node: Option<&Node>, file: &Path) -> PathBuf {
    let written = match node {
        None => "knockd.trusted",
        Some(node) => match reader.text(node, "the path of the whitelist file") {
            Some(text) if text.contains('\0') => {
                reader.wrong(node, "a path without NUL");
                ""
            }
            Some(text) => text,
            None => "",
        },
    };
    file.parent().unwrap_or(Path::new("")).join(written)
}

/// Where the log goes and how its lines look.
pub(super) fn log(reader: &mut Reader, node: &Node) -> LogSettings {
    let mut log = LogSettings::default();
    let what = "a mapping with `file`, `syslog` and `style`";
    let Some(fields) = reader.fields(node, what, &["file", "syslog", "style"]) else {
        return log;
    };
    if let Some(node) = fields.get("file") {
        let expected = "the absolute path of a log file";
        match reader.text(node, expected) {
            Some(text) if text.starts_with('/') && !text.contains('\0') => {
                log.file = Some(text.into());
            }
            Some(_) => reader.wrong(node, expected),
            None => {}
        }
    }
    if let Some(node) = fields.get("syslog") {
        log.syslog = reader.boolean(node).unwrap_or(false);
    }
    if let Some(node) = fields.get("style") {
        let words = [("plain", LogStyle::Plain), ("classic", LogStyle::Classic)];
        log.style = reader.choice(node, &words).unwrap_or_default();
    }
    log
}

pub(super) fn never_ban(reader: &mut Reader, node: &Node) -> Vec<IpNet> {
    let expected = "a list of addresses and networks such as `[192.0.2.0/24, 2001:db8::1]`";
    let Some(items) = reader.items(node, expected) else {
        return Vec::new();
    };
    let mut nets = Vec::with_capacity(items.len());
    for item in items {
        let word = item.word().unwrap_or_default();
        let address = word.parse::<IpAddr>().ok().map(host_net);
        let Some(net) = address.or_else(|| word.parse::<IpNet>().ok()) else {
            reader.wrong(item, "an address or a network such as `192.0.2.0/24`");
            continue;
        };
        if net != net.trunc() {
            reader.warn(
                item.at,
                item.shown(),
                format!("`{}`", net.trunc()),
                "it is taken as that network",
            );
        }
        if net.prefix_len() == 0 {
            let help = "nobody of this family can be banned";
            reader.warn(item.at, item.shown(), "a smaller network", help);
        }
        nets.push(canonical_net(net));
    }
    nets
}

/// `longest` is the longest `seq_timeout`.
pub(super) fn scan_guard(reader: &mut Reader, node: Option<&Node>, longest: Duration) -> ScanGuard {
    let what = "a mapping with `ports`, `within`, `nearby` and `action`";
    let keys = ["ports", "within", "nearby", "action"];
    let fields = node.and_then(|node| reader.fields(node, what, &keys));
    let get = |key| {
        fields
            .as_ref()
            .and_then(|fields: &Fields<'_>| fields.get(key))
    };
    let ports = get("ports").and_then(|node| reader.integer(node, 1..=u16::MAX));
    let ports = ports.unwrap_or(SCAN_PORTS);
    let within = get("within").and_then(|node| reader.duration(node));
    if let (Some(node), Some(window)) = (get("within"), within)
        && window < longest
    {
        let expected = "a time window as long as the longest `seq_timeout`";
        let help = format!(
            "a sweep that takes the {} of a sequence would be forgotten on the way",
            Lifetime::For(longest)
        );
        reader.warn(node.at, node.shown(), expected, &help);
    }
    if let (Some(node), 1) = (get("ports"), ports) {
        let help = "one mistyped port, or a neighbour's behind the same address, voids a knock";
        reader.warn(node.at, node.shown(), "two or more foreign ports", help);
    }
    let nearby = get("nearby").and_then(|node| reader.integer(node, 0..=MOST_NEARBY));
    let words = [("none", ScanAction::None), ("drop", ScanAction::Drop)];
    let action = get("action").and_then(|node| reader.choice(node, &words));
    ScanGuard {
        ports,
        within: within.unwrap_or_else(|| longest.saturating_mul(u32::from(ports))),
        nearby: nearby.unwrap_or(SCAN_NEARBY),
        action: action.unwrap_or(ScanAction::None),
    }
}

/// Bytes, given in KiB, MiB or GiB.
pub(super) fn memory(reader: &mut Reader, node: Option<&Node>) -> usize {
    let bytes = node.and_then(|node| memory_of(reader, node));
    usize::try_from(bytes.unwrap_or(MEMORY)).unwrap_or(usize::MAX)
}

fn memory_of(reader: &mut Reader, node: &Node) -> Option<u64> {
    let expected = "a size from `64KiB` to `1GiB`";
    let word = reader.text(node, expected)?;
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = word.split_at(digits);
    let unit = match unit.trim_start() {
        "KiB" => Some(KIB),
        "MiB" => Some(KIB * KIB),
        "GiB" => Some(KIB * KIB * KIB),
        _ => None,
    };
    let bytes = unit.and_then(|unit| number.parse::<u64>().ok()?.checked_mul(unit));
    let allowed = bytes.filter(|bytes| (LEAST_MEMORY..=MOST_MEMORY).contains(bytes));
    if allowed.is_none() {
        let help = if bytes.is_some_and(|bytes| bytes > MOST_MEMORY) {
            Some("a whole GiB has room for 19 million records".to_owned())
        } else {
            unit_help(word, number)
        };
        reader.error_with(node.at, node.shown(), expected, help);
    }
    allowed
}

fn unit_help(word: &str, number: &str) -> Option<String> {
    if number.is_empty() || number.len() > 9 {
        return None;
    }
    let unit = match word[number.len()..].trim() {
        "" | "M" | "m" | "MB" | "Mb" | "mb" | "mib" | "MIB" => "MiB",
        "K" | "k" | "KB" | "kB" | "Kb" | "kb" | "kib" | "KIB" => "KiB",
        "G" | "g" | "GB" | "Gb" | "gb" | "gib" | "GIB" => "GiB",
        _ => return None,
    };
    Some(format!("did you mean `{number}{unit}`?"))
}

/// For a section that is missing altogether.
pub(super) fn required(reader: &mut Reader, root: At, section: &str, expected: &str) {
    reader.error(root, format!("a policy without `{section}`"), expected);
}
