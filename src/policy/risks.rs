//! What is unwise about a knock by itself.

use crate::model::Proto;

use super::knocks::PlacedKnock;
use super::reader::Reader;
use super::{Knock, KnockAction, TcpFlags};

/// Warns of what is unwise.
pub(super) fn risks(reader: &mut Reader, knocks: &[PlacedKnock]) {
    for placed in knocks {
        let knock = &placed.knock;
        if knock.action == KnockAction::Trust {
            reader.warn(
                placed.action_at,
                format!("`action: trust` for the knock `{}`", knock.name),
                "`accept`",
                "whoever has seen the knock can send it again and is trusted until the daemon restarts",
            );
        }
        let lets_in = matches!(
            knock.action,
            KnockAction::Accept | KnockAction::Trust | KnockAction::Open | KnockAction::Run(_)
        );
        if lets_in && !knock.sequence.is_empty() {
            scans(reader, placed, knocks);
        }
        let udp_only = match knock.time_based() {
            Some(time_based) => time_based.shape.ports().proto == Proto::Udp,
            None => is_udp_only(knock),
        };
        if let Some(at) = placed.flags_at
            && udp_only
        {
            reader.warn(
                at,
                "`tcpflags` for a sequence of UDP ports only",
                "a TCP port or no `tcpflags`",
                "a UDP datagram has no flags",
            );
        }
    }
}

fn is_udp_only(knock: &Knock) -> bool {
    let mut ports = knock.sequence.iter();
    !knock.sequence.is_empty() && ports.all(|port| port.proto == Proto::Udp)
}

/// What somebody who scans this host may get.
fn scans(reader: &mut Reader, placed: &PlacedKnock, knocks: &[PlacedKnock]) {
    let knock = &placed.knock;
    let gets = match knock.action {
        KnockAction::Run(_) => "starts the command",
        _ => "lets the scanner in",
    };
    if knock.sequence.iter().all(|port| *port == knock.sequence[0]) {
        // Scanners and browsers try a port again that does not answer.
        let (found, scan) = if knock.sequence.len() == 1 {
            ("a sequence of one port", "a single scan")
        } else {
            ("a sequence of the same port again", "a scan and its retry")
        };
        let help = format!("{scan} of this port {gets}");
        reader.warn(placed.sequence_at, found, "two or more", help);
        return;
    }
    let Some(order) = order(knock) else {
        return;
    };
    let udp_only = is_udp_only(knock);
    if (!udp_only && needs_syn(knock.flags)) || has_others_between(knock, knocks) {
        return;
    }
    let (found, without, expected, scan) = if udp_only {
        ("UDP ports", "", "TCP ports", "A scan of UDP ports")
    } else {
        (
            "ports",
            " without the flags `syn,!ack`",
            "these flags",
            "A scan with other flags",
        )
    };
    reader.warn(
        placed.sequence_at,
        format!("a sequence of {found} in {order} order{without}"),
        format!("{expected}, or ports that neither ascend nor descend"),
        format!("the scan guard counts SYNs only. {scan}, one port after the other, {gets}"),
    );
}

/// The order in which a scan of all ports, one after the other, meets the sequence.
fn order(knock: &Knock) -> Option<&'static str> {
    let numbers = || knock.sequence.iter().map(|port| port.port);
    if numbers().is_sorted() {
        Some("ascending")
    } else if numbers().rev().is_sorted() {
        Some("descending")
    } else {
        None
    }
}

/// Whether only the first packet of a connection fits, which is what the scan guard counts.
fn needs_syn(flags: TcpFlags) -> bool {
    flags.set & TcpFlags::SYN != 0 && flags.clear & TcpFlags::ACK != 0
}

/// Whether such a scan steps on a port of another knock on its way, which voids the attempt.
fn has_others_between(knock: &Knock, knocks: &[PlacedKnock]) -> bool {
    let numbers = || knock.sequence.iter().map(|port| port.port);
    let (Some(first), Some(last)) = (numbers().min(), numbers().max()) else {
        return false;
    };
    knocks.iter().any(|other| {
        let other = &other.knock;
        other.sequence.iter().any(|port| {
            let is_met = knock.sequence.iter().any(|own| own.proto == port.proto)
                && (port.proto == Proto::Udp || other.flags.fit(knock.flags.set));
            let is_between = first < port.port && port.port < last;
            is_met && is_between && !knock.sequence.contains(port)
        })
    })
}
