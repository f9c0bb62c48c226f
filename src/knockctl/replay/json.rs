//! `replay -o json`.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::{end, shown, wall, warn};
use crate::model::Lifetime;
use crate::replay::{self, Cause, Decision, Effect, Ending, Order, ReplayError, Summary};

/// One object, written as it comes about, so that a flood of decisions takes no memory.
pub(super) fn write(order: &Order, out: &mut impl Write) -> Result<u8, ReplayError> {
    let mut separator = "{\"decisions\":[";
    let mut tell = |decision: &Decision| {
        out.write_all(separator.as_bytes())?;
        separator = ",";
        serde_json::to_writer(&mut *out, &decision_json(decision))?;
        Ok(())
    };
    let summary = replay::run(order, &mut tell)?;
    let write = || -> io::Result<()> {
        if separator != "," {
            out.write_all(separator.as_bytes())?;
        }
        out.write_all(b"],\"summary\":")?;
        serde_json::to_writer(&mut *out, &summary_json(&summary))?;
        out.write_all(b"}\n")?;
        out.flush()
    };
    let mut write = write;
    write().map_err(ReplayError::Tell)?;
    Ok(warn(&summary))
}

fn decision_json(decision: &Decision) -> Value {
    let (kind, knock) = match &decision.cause {
        Cause::Knock(name) => ("knock", Some(name.as_str())),
        Cause::Sweep => ("sweep", None),
        Cause::Undone(name) => ("undone", Some(name.as_str())),
        Cause::Time => ("time", None),
    };
    let effect = |effect: &Effect| {
        json!({
            "action": effect.deed.word(),
            "gate": effect.gate.as_str(),
            "address": shown(effect.net),
            "for_s": effect.lifetime.and_then(Lifetime::as_secs),
            "until": end(decision, effect).map(wall),
        })
    };
    json!({
        "time": wall(decision.at),
        "after_s": decision.after.as_secs_f64(),
        "source": decision.source,
        "cause": kind,
        "knock": knock,
        "effects": decision.effects.iter().map(effect).collect::<Vec<_>>(),
        "commands": decision.commands,
        "words": decision.words,
    })
}

fn summary_json(summary: &Summary) -> Value {
    let counts = &summary.counts;
    let named = |(name, count): &(crate::model::KnockName, u64)| json!({ "name": name.as_str(), "completed": count });
    let held = |held: &replay::Holding| {
        json!({
            "name": held.gate.as_str(),
            "accepted": held.accepted,
            "banned": held.banned,
            "open": held.open,
        })
    };
    let refused = counts.refused.iter();
    json!({
        "policy": summary.policy.to_string_lossy(),
        "addresses": summary.addresses,
        "listening": summary.listening,
        "first": summary.span.map(|(first, _)| wall(first)),
        "last": summary.span.map(|(_, last)| wall(last)),
        "length_s": summary.length.as_secs_f64(),
        "packets": {
            "read": counts.read,
            "knocks": counts.knocks,
            "foreign": counts.others,
            "not_for_us": counts.not_for_us,
            "copies": counts.copies,
            "not_ip": counts.not_ip,
            "unknown_link": counts.unknown_link,
            "out_of_order": counts.out_of_order,
            "set_back": counts.set_back,
            "untimed": counts.untimed,
            "unplaced": counts.unplaced,
            "refused": refused.map(|(why, n)| (why.name().to_owned(), (*n).into()))
                .collect::<serde_json::Map<_, Value>>(),
        },
        "accepted": counts.accepted,
        "banned": counts.banned,
        "sweeps": counts.sweeps,
        "refused_bans": summary.refused_bans,
        "knocks": summary.completed.iter().map(named).collect::<Vec<_>>(),
        "gates": summary.holds.iter().map(held).collect::<Vec<_>>(),
        "complete": summary.ending == Ending::Whole,
        "warnings": summary.warnings,
    })
}
