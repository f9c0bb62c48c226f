//! Reads nodes as typed values and collects what is wrong with them.

use std::collections::HashSet;
use std::time::Duration;

use crate::model::{DurationError, Lifetime, parse_duration};

use super::node::{At, Node, Value};
use super::problem::{MOST, Problem, did_you_mean, one_of, quote};

pub(super) const A_DURATION: &str = "a duration such as `300s`, `5m` or `1h30m`";
const A_LIFETIME: &str = "a duration such as `300s`, `5m`, `1h30m` or `never`";

/// More problems than this are not kept while reading; the report shows fewer still.
const MOST_KEPT: usize = 10_000;

/// Collects problems, so that all are reported at once.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) errors: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
    /// Errors that were only counted.
    pub(super) uncounted: usize,
}

fn problem(at: At, found: String, expected: String, help: Option<String>) -> Problem {
    Problem {
        line: at.line,
        column: at.column,
        found,
        expected,
        help,
    }
}

impl Reader {
    pub(super) fn error(&mut self, at: At, found: impl Into<String>, expected: impl Into<String>) {
        self.error_with(at, found, expected, None);
    }

    pub(super) fn error_with(
        &mut self,
        at: At,
        found: impl Into<String>,
        expected: impl Into<String>,
        help: Option<String>,
    ) {
        if self.errors.len() < MOST_KEPT {
            self.errors
                .push(problem(at, found.into(), expected.into(), help));
        } else {
            self.uncounted += 1;
        }
    }

    /// Nothing wrong, but unwise; `help` says why.
    pub(super) fn warn(
        &mut self,
        at: At,
        found: impl Into<String>,
        expected: impl Into<String>,
        help: impl Into<String>,
    ) {
        if self.warnings.len() < MOST_KEPT {
            let help = Some(help.into());
            self.warnings
                .push(problem(at, found.into(), expected.into(), help));
        }
    }

    /// A node that is not what it should be.
    pub(super) fn wrong(&mut self, node: &Node, expected: impl Into<String>) {
        self.error(node.at, node.shown(), expected);
    }

    /// The fields of a mapping with fixed keys; others are errors.
    pub(super) fn fields<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
        known: &[&'static str],
    ) -> Option<Fields<'n>> {
        let entries = self.entries(node, what)?;
        let mut fields = Fields(Vec::new());
        let mut unknown = 0;
        for (key, at, value) in entries {
            if known.contains(&key) {
                fields.0.push((key, at, value));
            } else if unknown >= MOST {
                // A megabyte of them is not worth a megabyte of advice.
                self.uncounted += 1;
            } else {
                unknown += 1;
                self.error_with(
                    at,
                    format!("the unknown key {}", quote(key)),
                    one_of(known.iter().copied()),
                    did_you_mean(key, known.iter().copied()),
                );
            }
        }
        Some(fields)
    }

    /// The entries of a mapping whose keys are names.
    pub(super) fn entries<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
    ) -> Option<Vec<(&'n str, At, &'n Node)>> {
        let Value::Map(pairs) = &node.value else {
            self.wrong(node, what);
            return None;
        };
        let mut seen = HashSet::new();
        let mut entries = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            match key.word() {
                None => self.error(key.at, format!("{} as a key", key.shown()), "a name"),
                Some(word) if seen.insert(word) => entries.push((word, key.at, value)),
                Some(word) => self.error(
                    key.at,
                    format!("the key {} a second time", quote(word)),
                    "each key once",
                ),
            }
        }
        Some(entries)
    }

    /// The items of a list.
    pub(super) fn items<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [Node]> {
        if let Value::List(items) = &node.value {
            return Some(items);
        }
        let help = node
            .word()
            // What `quote` has to alter nobody can write as it is shown.
            .filter(|word| !word.is_empty() && quote(word) == format!("`{word}`"))
            .map(|word| format!("write `[{word}]`"));
        self.error_with(node.at, node.shown(), what, help);
        None
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&mut self, node: &Node, words: &[(&str, T)]) -> Option<T> {
        let names = || words.iter().map(|(word, _)| *word);
        let Some(word) = node.word() else {
            self.wrong(node, one_of(names()));
            return None;
        };
        let known = words.iter().find(|(name, _)| *name == word);
        if known.is_none() {
            let help = did_you_mean(word, names());
            self.error_with(node.at, node.shown(), one_of(names()), help);
        }
        known.map(|(_, value)| *value)
    }

    pub(super) fn boolean(&mut self, node: &Node) -> Option<bool> {
        if let Value::Bool(value) = node.value {
            return Some(value);
        }
        let help = match node.word() {
            Some("yes" | "on" | "Yes" | "On" | "YES" | "ON") => Some("did you mean `true`?".into()),
            Some("no" | "off" | "No" | "Off" | "NO" | "OFF") => {
                Some("did you mean `false`?".into())
            }
            Some("true" | "false") => Some("without quotes".into()),
            _ => None,
        };
        self.error_with(node.at, node.shown(), "`true` or `false`", help);
        None
    }

    /// A whole number, without sign, base or separators.
    pub(super) fn integer(
        &mut self,
        node: &Node,
        range: std::ops::RangeInclusive<u16>,
    ) -> Option<u16> {
        let number = match &node.value {
            Value::Number(text) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
            _ => None,
        };
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let (first, last) = (range.start(), range.end());
            self.wrong(node, format!("a whole number from {first} to {last}"));
        }
        number
    }

    /// A duration or `never`.
    pub(super) fn lifetime(&mut self, node: &Node) -> Option<Lifetime> {
        self.parse_lifetime(node, A_LIFETIME)
    }

    /// A duration that ends.
    pub(super) fn duration(&mut self, node: &Node) -> Option<Duration> {
        match self.parse_lifetime(node, A_DURATION)? {
            Lifetime::For(span) => Some(span),
            Lifetime::Never => {
                self.wrong(node, A_DURATION);
                None
            }
        }
    }

    fn parse_lifetime(&mut self, node: &Node, expected: &str) -> Option<Lifetime> {
        let Some(word) = node.word() else {
            self.wrong(node, expected);
            return None;
        };
        match parse_duration(word) {
            Ok(lifetime) => Some(lifetime),
            Err(DurationError::NoUnit(number)) if number.len() < 12 => {
                let help = Some(format!("did you mean `{number}s`?"));
                self.error_with(
                    node.at,
                    format!("{} without a unit", node.shown()),
                    expected,
                    help,
                );
                None
            }
            Err(DurationError::Range(_)) => {
                self.wrong(node, "more than zero and at most `36500d`");
                None
            }
            Err(DurationError::NoUnit(_) | DurationError::Malformed(_)) => {
                let help = did_you_mean(word, ["never"]);
                self.error_with(node.at, node.shown(), expected, help);
                None
            }
        }
    }

    /// Text that is not empty.
    pub(super) fn text<'n>(&mut self, node: &'n Node, expected: &str) -> Option<&'n str> {
        let word = node.word().filter(|word| !word.is_empty());
        if word.is_none() {
            self.wrong(node, expected);
        }
        word
    }
}

/// The fields of a mapping: key, its place, value.
pub(super) struct Fields<'n>(Vec<(&'n str, At, &'n Node)>);

impl<'n> Fields<'n> {
    pub(super) fn get(&self, name: &str) -> Option<&'n Node> {
        let found = self.0.iter().find(|(key, _, _)| *key == name);
        found.map(|(_, _, node)| *node)
    }

    /// The place of the key.
    pub(super) fn key_at(&self, name: &str) -> Option<At> {
        let found = self.0.iter().find(|(key, _, _)| *key == name);
        found.map(|(_, at, _)| *at)
    }
}
