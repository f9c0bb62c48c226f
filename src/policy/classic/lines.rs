//! Lines into sections: `[name]`, `key = value`, a bare word, `#` at the start of a line.

use crate::policy::node::At;
use crate::policy::problem::quote;
use crate::policy::reader::Reader;

/// More lines in a section are surely a mistake.
const MOST_ENTRIES: usize = 64;

/// A section of the file.
pub(super) struct Section<'t> {
    pub(super) name: &'t str,
    /// As it stands there, with its brackets.
    pub(super) head: &'t str,
    pub(super) at: At,
    pub(super) entries: Vec<Entry<'t>>,
}

/// A line of a section.
pub(super) struct Entry<'t> {
    /// As it is written, without white space around.
    pub(super) key: &'t str,
    pub(super) key_at: At,
    /// What follows the first `=`, without white space around; `None` without `=`.
    pub(super) value: Option<&'t str>,
    pub(super) value_at: At,
}

/// The place of `part`, which is a part of `line`.
fn place(number: usize, line: &str, part: &str) -> At {
    let offset = part.as_ptr().addr().saturating_sub(line.as_ptr().addr());
    let before = line.get(..offset).unwrap_or_default();
    At {
        line: number as u64 + 1,
        column: before.chars().count() as u64 + 1,
    }
}

pub(super) fn sections<'t>(reader: &mut Reader, text: &'t str) -> Vec<Section<'t>> {
    let mut sections: Vec<Section<'t>> = Vec::new();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let body = line.trim();
        let at = place(number, line, body);
        if body.is_empty() || body.starts_with('#') {
            continue;
        }
        if body.starts_with(';') {
            let help = Some("comments begin with `#`".to_owned());
            reader.error_with(at, quote(body), "a section, a key or a comment", help);
        } else if let Some(rest) = body.strip_prefix('[') {
            sections.extend(head(reader, body, rest, at));
        } else {
            let entry = entry(number, line, body);
            match sections.last_mut() {
                Some(section) if section.entries.len() < MOST_ENTRIES => {
                    section.entries.push(entry);
                }
                Some(section) => {
                    if section.entries.len() == MOST_ENTRIES {
                        let found = format!("more than {MOST_ENTRIES} lines in a section");
                        reader.error(at, found, "each key once");
                        section.entries.push(entry);
                    }
                }
                None => reader.error(at, quote(body), "a section such as `[options]` before it"),
            }
        }
    }
    sections
}

fn head<'t>(reader: &mut Reader, body: &'t str, rest: &'t str, at: At) -> Option<Section<'t>> {
    let Some(name) = rest.strip_suffix(']') else {
        let help = match rest.split_once(']') {
            Some((_, tail)) if tail.trim_start().starts_with('#') => {
                "comments stand on lines of their own"
            }
            Some(_) => "nothing may follow the `]`",
            None => "the `]` is missing",
        };
        reader.error_with(
            at,
            quote(body),
            "a section such as `[openSSH]`",
            Some(help.into()),
        );
        return None;
    };
    if name.trim().is_empty() {
        reader.error(at, quote(body), "a name between the brackets");
        return None;
    }
    Some(Section {
        name,
        head: body,
        at,
        entries: Vec::new(),
    })
}

fn entry<'t>(number: usize, line: &'t str, body: &'t str) -> Entry<'t> {
    let (key, value) = match body.split_once('=') {
        Some((key, value)) => (key.trim_end(), Some(value.trim_start())),
        None => (body, None),
    };
    Entry {
        key,
        key_at: place(number, line, key),
        value,
        value_at: place(number, line, value.unwrap_or(key)),
    }
}

/// The entries of sections, key by key.
pub(super) struct Keys<'s, 't> {
    /// The key's name and its line; each at most once.
    found: Vec<(&'static str, &'s Entry<'t>)>,
}

/// A key's name, and the other names that it goes by.
pub(super) type KeyNames = (&'static str, &'static [&'static str]);

impl<'s, 't> Keys<'s, 't> {
    /// Sorts the entries by key. Unknown keys and those that stand twice are errors; `elsewhere`
    /// are keys that belong into another section, and how to say so.
    pub(super) fn read(
        reader: &mut Reader,
        entries: impl Iterator<Item = &'s Entry<'t>>,
        known: &[KeyNames],
        elsewhere: (&[KeyNames], &str),
    ) -> Self {
        let mut found: Vec<(&'static str, &'s Entry<'t>)> = Vec::new();
        for entry in entries {
            let Some(name) = find(known, entry.key) else {
                unknown(reader, entry, known, elsewhere);
                continue;
            };
            match found.iter().find(|(earlier, _)| *earlier == name) {
                Some((_, earlier)) => {
                    let shown = quote(entry.key);
                    let found = if earlier.key.eq_ignore_ascii_case(entry.key) {
                        format!(
                            "the key {shown} a second time (line {})",
                            earlier.key_at.line
                        )
                    } else {
                        format!(
                            "{shown} beside {}, which is the same (line {})",
                            quote(earlier.key),
                            earlier.key_at.line
                        )
                    };
                    reader.error(entry.key_at, found, "each key once");
                }
                None => found.push((name, entry)),
            }
        }
        Self { found }
    }

    pub(super) fn get(&self, name: &str) -> Option<&'s Entry<'t>> {
        let found = self.found.iter().find(|(known, _)| *known == name);
        found.map(|(_, entry)| *entry)
    }

    /// The value of a key that demands one; may be empty.
    pub(super) fn value(&self, reader: &mut Reader, name: &str) -> Option<(&'t str, At)> {
        let entry = self.get(name)?;
        if entry.value.is_none() {
            let found = format!("{} without `=`", quote(entry.key));
            reader.error(entry.key_at, found, format!("`{} = …`", entry.key));
        }
        Some((entry.value?, entry.value_at))
    }
}

fn find(known: &[KeyNames], key: &str) -> Option<&'static str> {
    let same = |name: &str| name.eq_ignore_ascii_case(key);
    let found = known
        .iter()
        .find(|(name, others)| same(name) || others.iter().any(|other| same(other)));
    found.map(|(name, _)| *name)
}

fn unknown(
    reader: &mut Reader,
    entry: &Entry<'_>,
    known: &[KeyNames],
    (others, where_to): (&[KeyNames], &str),
) {
    use crate::policy::problem::{did_you_mean, one_of};
    let names = || {
        known
            .iter()
            .flat_map(|(name, more)| [*name].into_iter().chain(more.iter().copied()))
    };
    let help = if find(others, entry.key).is_some() {
        Some(format!("it belongs into {where_to}"))
    } else if entry.value.is_none() && entry.key.contains(char::is_whitespace) {
        Some("write `key = value`".to_owned())
    } else {
        did_you_mean(entry.key, names())
    };
    let found = format!("the unknown key {}", quote(entry.key));
    let expected = one_of(known.iter().map(|(name, _)| *name));
    reader.error_with(entry.key_at, found, expected, help);
}
