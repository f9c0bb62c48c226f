//! The answer to `history`.

use std::io::{self, Write};

use serde::Deserialize;
use serde_json::Value;

use super::show::{clean, new_table, print};
use crate::control::protocol::HistoryEntry;

/// A line each, the latest last; times are UTC.
pub(super) fn table(out: &mut impl Write, data: &Value, terminal: bool) -> io::Result<()> {
    let entries = data.get("entries").map(Vec::<HistoryEntry>::deserialize);
    let Some(Ok(entries)) = entries else {
        // From a daemon that says it in another way.
        return writeln!(out, "{data:#}");
    };
    let header = ["TIME", "WHAT", "GATE", "ADDRESS", "UNTIL", "BECAUSE OF"];
    let mut table = new_table(terminal, header);
    for entry in entries {
        let mut why = clean(&entry.reason);
        if !entry.note.is_empty() {
            why = format!("{why}: {}", clean(&entry.note));
        }
        // As `list` says it: these have no end where they have no time.
        let endless = ["accepted", "banned", "opened"].contains(&entry.what.as_str());
        let until = match &entry.until {
            None if endless => "never".to_owned(),
            until => clean(until.as_deref().unwrap_or("-")),
        };
        let shown = |text: &Option<String>| clean(text.as_deref().unwrap_or("-"));
        table.add_row([
            clean(&entry.time),
            clean(&entry.what),
            shown(&entry.gate),
            shown(&entry.address),
            until,
            why,
        ]);
    }
    print(out, &table)
}
