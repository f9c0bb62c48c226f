use std::path::Path;

use ipnet::IpNet;

use super::host::{Host, HostError, taken_as};

/// A million machines; more would only cost memory.
pub const MOST_ENTRIES: usize = 1_000_000;
/// Bad lines beyond this many are only counted, and so are widened ones.
pub const MOST_BAD_LINES: usize = 1_000;

/// The word that a comment must begin with for a network of length 0 to count.
pub(super) const FORCE: &str = "--force";

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    /// In the order of the file, repetitions included.
    pub entries: Vec<Entry>,
    /// Lines that are skipped, at most `MOST_BAD_LINES`.
    pub bad: Vec<BadLine>,
    /// How many more bad lines there are.
    pub more_bad: usize,
    /// Networks that are not written as such, at most `MOST_BAD_LINES`; they are among the entries.
    pub widened: Vec<Widened>,
    /// How many more of those there are.
    pub more_widened: usize,
    /// There is nothing in the file but white space, not even a comment: rather an accident than
    /// somebody's wish.
    pub blank: bool,
}

/// A line that means somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// From 1.
    pub line: usize,
    /// Whom.
    pub host: Host,
    /// The rest of the line without `#`; printable, perhaps empty.
    pub comment: String,
}

impl Entry {
    /// Why somebody is trusted whom the entry stands for: the file's name, the host name and the
    /// comment.
    pub fn reason(&self, file: &Path) -> String {
        let mut reason = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let name = match &self.host {
            Host::Name(name) => name.as_str(),
            Host::Net(_) => "",
        };
        for part in [name, self.comment.as_str()] {
            if !part.is_empty() {
                reason.push_str(": ");
                reason.push_str(part);
            }
        }
        reason
    }
}

/// A line that is not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// From 1.
    pub line: usize,
    /// How it begins; printable.
    pub text: String,
    /// What is wrong with it.
    pub why: Why,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// The first field means nobody.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Everybody would be trusted.
    #[error("this would trust everybody: if that is meant, begin the comment with --force")]
    Everything,
    /// Not text.
    #[error("binary data")]
    Binary,
    /// One too many.
    #[error("more than {MOST_ENTRIES} entries")]
    TooMany,
}

impl std::fmt::Display for BadLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: `{}`: {}", self.line, self.text, self.why)
    }
}

/// A network that is written as one of the addresses in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Widened {
    /// From 1.
    pub line: usize,
    /// As written; printable.
    pub text: String,
    /// What it is taken as.
    pub net: IpNet,
}

impl std::fmt::Display for Widened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Widened { line, text, net } = self;
        write!(
            f,
            "{line}: found `{text}`, expected `{net}` (it is taken as that network)"
        )
    }
}

/// How many entries there are of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Single addresses.
    pub addresses: usize,
    /// Networks.
    pub networks: usize,
    /// Host names.
    pub names: usize,
}

impl Parsed {
    /// What is doubtful and counts all the same, a line each, with the file's name in front as
    /// compilers write it.
    pub fn doubts(&self, file: &Path) -> Vec<String> {
        let file = file.display();
        let widened = self.widened.iter();
        let mut doubts: Vec<String> = widened.map(|line| format!("{file}:{line}")).collect();
        if self.more_widened > 0 {
            let more = self.more_widened;
            doubts.push(format!("{file}: and {more} more lines of this kind"));
        }
        doubts
    }

    fn widened(&mut self, line: usize, text: String, net: IpNet) {
        if self.widened.len() < MOST_BAD_LINES {
            self.widened.push(Widened { line, text, net });
        } else {
            self.more_widened += 1;
        }
    }

    /// How many entries there are of each kind.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for entry in &self.entries {
            match &entry.host {
                Host::Net(net) if net.prefix_len() == net.max_prefix_len() => {
                    counts.addresses += 1;
                }
                Host::Net(_) => counts.networks += 1,
                Host::Name(_) => counts.names += 1,
            }
        }
        counts
    }
}

/// Reads the whole file. Comments may be in any encoding.
pub fn parse(text: &[u8]) -> Parsed {
    let text = text.strip_prefix(MARK).unwrap_or(text);
    let mut parsed = Parsed {
        blank: text.iter().all(u8::is_ascii_whitespace),
        ..Parsed::default()
    };
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let number = index + 1;
        let outcome = match read_line(line) {
            Line::Nothing => continue,
            Line::Entry { .. } if parsed.entries.len() >= MOST_ENTRIES => Err(Why::TooMany),
            Line::Entry { host, comment, .. } if host.is_everything() && !forced(&comment) => {
                Err(Why::Everything)
            }
            Line::Entry {
                host,
                comment,
                widened,
            } => {
                if let Some((text, net)) = widened {
                    parsed.widened(number, text, net);
                }
                Ok((host, comment))
            }
            Line::Bad(why) => Err(why),
        };
        match outcome {
            Ok((host, comment)) => parsed.entries.push(Entry {
                line: number,
                host,
                comment,
            }),
            Err(_) if parsed.bad.len() >= MOST_BAD_LINES => parsed.more_bad += 1,
            Err(why) => parsed.bad.push(BadLine {
                line: number,
                text: printable(line, 60),
                why,
            }),
        }
    }
    parsed
}

/// UTF-8's byte order mark, which some editors write.
pub(super) const MARK: &[u8] = b"\xef\xbb\xbf";

/// Whether a comment says that a network of length 0 is meant.
pub(super) fn forced(comment: &str) -> bool {
    comment.split_whitespace().next() == Some(FORCE)
}

/// A line by itself.
pub(super) enum Line {
    /// Blank, or a comment.
    Nothing,
    /// Somebody, even everybody.
    Entry {
        host: Host,
        comment: String,
        /// A network that is not written as such, and what it is taken as.
        widened: Option<(String, IpNet)>,
    },
    /// Not understood.
    Bad(Why),
}

/// Reads a line without its newline.
pub(super) fn read_line(line: &[u8]) -> Line {
    let mut line = line.trim_ascii();
    // Files that were joined to one have marks in the middle. They mean nothing anywhere, so that
    // no line means something else when the one before it is removed.
    while let Some(rest) = line.strip_prefix(MARK) {
        line = rest.trim_ascii_start();
    }
    if line.is_empty() || line[0] == b'#' {
        return Line::Nothing;
    }
    if line.contains(&0) {
        return Line::Bad(Why::Binary);
    }
    let end = line
        .iter()
        .position(|byte| byte.is_ascii_whitespace() || *byte == b'#')
        .unwrap_or(line.len());
    let (field, rest) = line.split_at(end);
    let Ok(field) = std::str::from_utf8(field) else {
        return Line::Bad(Why::Binary);
    };
    match field.parse() {
        Ok(host) => {
            let rest = rest.trim_ascii();
            let rest = rest.strip_prefix(b"#").unwrap_or(rest);
            Line::Entry {
                host,
                comment: printable(rest, 200),
                widened: taken_as(field).map(|net| (printable(field.as_bytes(), 60), net)),
            }
        }
        Err(error) => Line::Bad(Why::Host(error)),
    }
}

/// At most that many characters, for logs and terminals.
fn printable(bytes: &[u8], most: usize) -> String {
    // A character has at most four bytes.
    let head = &bytes[..bytes.len().min(most * 4)];
    let text = String::from_utf8_lossy(head.trim_ascii());
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .take(most)
        .collect()
}
