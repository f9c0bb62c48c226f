use std::fmt::{self, Write as _};

use crate::model::Proto;

use super::{Knock, Policy};

/// The ports that the site's own firewall must let through.
pub(super) fn write(out: &mut String, policy: &Policy) -> fmt::Result {
    out.write_str("\nTo be let through at the site's border\n")?;
    for proto in [Proto::Tcp, Proto::Udp] {
        let knocks = policy.knocks.iter().flat_map(|knock| &knock.sequence);
        let knocks = knocks
            .filter(|port| port.proto == proto)
            .map(|port| (port.port, port.port));
        let ranges = policy.knocks.iter().filter_map(Knock::time_based);
        let ranges = ranges.map(|time_based| time_based.shape.ports());
        let ranges = ranges.filter(|range| range.proto == proto);
        let knocks = knocks
            .chain(ranges.map(|range| (range.first, range.last)))
            .collect();
        let gates = policy.gates.iter().flat_map(|gate| &gate.ports);
        let gates: Vec<(u16, u16)> = gates
            .filter(|range| range.proto == proto)
            .map(|range| (range.first, range.last))
            .collect();
        for (ports, what) in [(gates, "gates"), (knocks, "knocks")] {
            if !ports.is_empty() {
                writeln!(out, "  {proto}, {what}: {}", merged(ports).join(", "))?;
            }
        }
    }
    let sheets = policy.knocks.iter().filter_map(Knock::one_time);
    for sheet in sheets {
        writeln!(
            out,
            "  one-time sequences: whatever is in {}",
            sheet.display()
        )?;
    }
    Ok(())
}

/// Sorted, without repetition, neighbours joined: `1220-1228`.
fn merged(mut ports: Vec<(u16, u16)>) -> Vec<String> {
    ports.sort_unstable();
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for (first, last) in ports {
        match ranges.last_mut() {
            Some(range) if first <= range.1.saturating_add(1) => range.1 = range.1.max(last),
            _ => ranges.push((first, last)),
        }
    }
    let shown = ranges.into_iter().map(|(first, last)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    });
    shown.collect()
}
