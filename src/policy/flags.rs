//! `tcpflags`: what a knock's TCP flags must be.

use super::TcpFlags;
use super::node::Node;
use super::problem::{did_you_mean, quote};
use super::reader::Reader;

/// In the order of their bits (RFC 9293, section 3.1).
pub(super) const NAMES: [(&str, u8); 6] = [
    ("fin", TcpFlags::FIN),
    ("syn", TcpFlags::SYN),
    ("rst", TcpFlags::RST),
    ("psh", TcpFlags::PSH),
    ("ack", TcpFlags::ACK),
    ("urg", TcpFlags::URG),
];

const EXPECTED: &str =
    "`fin`, `syn`, `rst`, `psh`, `ack` or `urg`, separated by commas, each alone or after `!`";

/// Reads `syn`, `"syn,!ack"` and so on; `syn` by itself means SYN without ACK.
pub(super) fn read(reader: &mut Reader, node: &Node) -> Option<TcpFlags> {
    let text = reader.text(node, EXPECTED)?;
    let mut flags = TcpFlags { set: 0, clear: 0 };
    for part in text.split(',').map(str::trim) {
        let (name, negated) = match part.strip_prefix('!') {
            Some(name) => (name, true),
            None => (part, false),
        };
        let Some((_, bit)) = NAMES.iter().find(|(known, _)| *known == name) else {
            let found = if part.is_empty() {
                format!("an empty flag in {}", node.shown())
            } else {
                format!("the unknown flag {}", quote(part))
            };
            let help = did_you_mean(name, NAMES.iter().map(|(name, _)| *name));
            reader.error_with(node.at, found, EXPECTED, help);
            return None;
        };
        if negated {
            flags.clear |= bit;
        } else {
            flags.set |= bit;
        }
    }
    if let Some((name, _)) = NAMES
        .iter()
        .find(|(_, bit)| flags.set & flags.clear & bit != 0)
    {
        reader.error(
            node.at,
            format!("both `{name}` and `!{name}`"),
            "one of the two, since no packet has both",
        );
        return None;
    }
    let syn_alone = TcpFlags {
        set: TcpFlags::SYN,
        clear: 0,
    };
    Some(if flags == syn_alone {
        TcpFlags::OPENING
    } else {
        flags
    })
}
