//! How much of the history is kept.

use std::time::Duration;

use super::node::{Node, Value};
use super::reader::{Fields, Reader};
use super::types::History;

const DAY: Duration = Duration::from_secs(86_400);
pub(super) const KEEP: Duration = Duration::from_secs(90 * 86_400);
pub(super) const ROWS: u32 = 100_000;
const MOST_ROWS: u32 = 1_000_000;

pub(super) fn read(reader: &mut Reader, node: Option<&Node>) -> History {
    let what = "a mapping with `keep` and `rows`";
    let fields = node.and_then(|node| reader.fields(node, what, &["keep", "rows"]));
    let get = |key| {
        fields
            .as_ref()
            .and_then(|fields: &Fields<'_>| fields.get(key))
    };
    let mut keep = KEEP;
    if let Some(node) = get("keep")
        && let Some(given) = reader.duration(node)
    {
        keep = given;
        if given > 366 * DAY {
            let help = "addresses are personal data; the log is for what must be kept";
            reader.warn(node.at, node.shown(), "a year at most", help);
        }
    }
    let rows = get("rows").and_then(|node| rows_of(reader, node));
    History {
        keep,
        rows: rows.unwrap_or(ROWS),
    }
}

fn rows_of(reader: &mut Reader, node: &Node) -> Option<u32> {
    let number = match &node.value {
        Value::Number(text) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    };
    let number = number.filter(|number| (1..=MOST_ROWS).contains(number));
    if number.is_none() {
        reader.wrong(node, format!("a whole number from 1 to {MOST_ROWS}"));
    }
    number
}
