//! The answer to `why`, for people.

use std::io::{self, Write};

use serde::Deserialize;
use serde_json::Value;

use super::show::{clean, time_left};
use crate::control::WhyEntry;

/// A paragraph for each address and gate.
pub(super) fn why(out: &mut impl Write, data: &Value) -> io::Result<()> {
    let Some(Ok(entries)) = data.get("entries").map(Vec::<WhyEntry>::deserialize) else {
        // From a daemon that says it in another way.
        return writeln!(out, "{data:#}");
    };
    for entry in entries {
        writeln!(out, "{}", clean(&sentence(&entry)))?;
        for line in details(&entry) {
            writeln!(out, "  {}", clean(&line))?;
        }
    }
    Ok(())
}

/// "192.0.2.10 at ssh: accepted by `ssh_filter` for 4m59s, as 192.0.2.10: opencloseSSH".
fn sentence(entry: &WhyEntry) -> String {
    let mut text = format!("{} at {}: {}", entry.address, entry.gate, entry.verdict);
    if let Some(chain) = &entry.chain {
        text = format!("{text} by {chain}");
    }
    if let Some(member) = &entry.member {
        let time = match entry.expires_in_s {
            Some(left) => format!("for {}", time_left(Some(left))),
            None => "for good".to_owned(),
        };
        let whom = match member.as_str() {
            everybody @ ("0.0.0.0/0" | "::/0") => format!("like everybody ({everybody})"),
            member if *member == entry.address => String::new(),
            net => format!("as part of {net}"),
        };
        let comma = if whom.is_empty() { "" } else { ", " };
        text = format!("{text} {time}{comma}{whom}");
    }
    format!("{text}: {}", entry.reason)
}

fn details(entry: &WhyEntry) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(entry.doubts.iter().map(|doubt| format!("but {doubt}")));
    if entry.sweeps {
        lines.push("it sweeps ports: its knocks open nothing until it has been quiet".into());
    }
    lines.extend(entry.attempts.iter().map(|it| {
        let left = time_left(Some(it.left_s));
        format!(
            "under way: {} of {} ports of {}, {left} left",
            it.matched, it.of, it.knock
        )
    }));
    lines.extend(entry.kept_from.iter().map(|it| {
        let left = time_left(Some(it.left_s));
        format!(
            "it touched a port near {}, or a decoy: that knock does not count for another {left}",
            it.knock
        )
    }));
    if !entry.knocks.is_empty() {
        lines.push(format!("would let it in: {}", entry.knocks.join(", ")));
    }
    lines.extend(
        entry
            .protected
            .iter()
            .map(|why| format!("decoys do not ban it: {why}")),
    );
    lines
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn told(value: &Value) -> String {
        let mut out = Vec::new();
        why(&mut out, value).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_answer_in_words() {
        let answer = serde_json::json!({"entries": [
            {"address": "192.0.2.10", "gate": "ssh", "verdict": "accepted", "chain": "ssh_filter",
             "member": "192.0.2.10", "expires_in_s": 299, "reason": "opencloseSSH"},
            {"address": "192.0.2.11", "gate": "ssh", "verdict": "dropped", "chain": "ssh_banned",
             "member": "192.0.2.0/24", "expires_in_s": null, "reason": "knockctl by root (pid 1)",
             "doubts": ["knockd has put it there"]},
            {"address": "192.0.2.12", "gate": "ssh", "verdict": "dropped", "chain": "ssh_policy",
             "reason": "neither trusted nor accepted", "knocks": ["in", "all"],
             "attempts": [{"knock": "in", "matched": 1, "of": 2, "left_s": 12}],
             "protected": "192.0.2.12/32 is in never_ban"},
            {"address": "192.0.2.13", "gate": "ssh", "verdict": "accepted", "chain": "ssh_filter",
             "member": "0.0.0.0/0", "expires_in_s": 9, "reason": "open", "sweeps": true},
            {"address": "192.0.2.14", "gate": "ssh", "verdict": "dropped", "chain": "ssh_policy",
             "reason": "neither trusted nor accepted", "knocks": ["all"],
             "kept_from": [{"knock": "in", "left_s": 13}]},
            {"address": "192.0.2.1", "gate": "ssh", "verdict": "accepted", "reason": "it is us\u{1b}"},
        ]});
        assert_snapshot!(told(&answer), @"
        192.0.2.10 at ssh: accepted by ssh_filter for 4m59s: opencloseSSH
        192.0.2.11 at ssh: dropped by ssh_banned for good, as part of 192.0.2.0/24: knockctl by root (pid 1)
          but knockd has put it there
        192.0.2.12 at ssh: dropped by ssh_policy: neither trusted nor accepted
          under way: 1 of 2 ports of in, 12s left
          would let it in: in, all
          decoys do not ban it: 192.0.2.12/32 is in never_ban
        192.0.2.13 at ssh: accepted by ssh_filter for 9s, like everybody (0.0.0.0/0): open
          it sweeps ports: its knocks open nothing until it has been quiet
        192.0.2.14 at ssh: dropped by ssh_policy: neither trusted nor accepted
          it touched a port near in, or a decoy: that knock does not count for another 13s
          would let it in: all
        192.0.2.1 at ssh: accepted: it is us�
        ");
        let strange = serde_json::json!({"entries": 1});
        assert_eq!(told(&strange), format!("{strange:#}\n"));
    }
}
