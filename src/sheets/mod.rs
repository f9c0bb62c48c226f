//! Sheets of one-time sequences: a file with a sequence a line, each of which opens once (knockd(1),
//! `One_Time_Sequences`). A line that was used up begins with `#`.
//!
//! The first line that is a sequence is the one that counts. What is used up is marked in the file,
//! and that is on the disk, before it opens anything; every line with the same sequence is marked
//! along with it. A line that is no sequence is skipped, and said to be bad with its number.
#![forbid(unsafe_code)]

mod make;
#[cfg(test)]
mod tests;

pub use make::{Make, MakeError, make};

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::fcntl::OFlag;

use crate::model::KnockPort;

/// Larger files are no sheet.
const MOST_BYTES: usize = 1024 * 1024;

/// As everywhere.
const LONGEST_SEQUENCE: usize = 32;

/// Bad lines beyond this many are only counted.
const MOST_BAD: usize = 20;

/// Why a sheet is of no use.
#[derive(Debug, thiserror::Error)]
pub enum SheetError {
    /// The file itself.
    #[error("cannot {operation} the one-time sequences {}: {source}{hint}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The errno.
        source: io::Error,
        /// ` (what to do)`, or nothing.
        hint: &'static str,
    },
    /// A directory, a device, or more than a megabyte.
    #[error("{} is no sheet of one-time sequences: a regular file of at most 1 MiB is", .0.display())]
    NoSheet(PathBuf),
    /// Somebody has edited the file meanwhile.
    #[error("the sequence that was knocked is on {} no more", .0.display())]
    Gone(PathBuf),
}

/// A line that is no sequence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{number}: found `{found}`, expected ports such as `20311,4102:udp`, or `#`; skipped")]
pub struct BadLine {
    /// From 1.
    pub number: usize,
    /// The beginning of it, on one line.
    pub found: String,
}

/// A sequence that has not been used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// From 1.
    pub number: usize,
    /// What to knock; 1 to 32 ports.
    pub ports: Vec<KnockPort>,
    /// Where the line begins, in bytes.
    start: u64,
}

/// What a sheet says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sheet {
    /// In the order of the file.
    pub lines: Vec<Line>,
    /// The first of them.
    pub bad: Vec<BadLine>,
    /// How many more there are.
    pub more_bad: usize,
}

/// Reads a sheet that can be written, too: one that cannot would let everybody in who has listened.
pub fn open(path: &Path) -> Result<Sheet, SheetError> {
    let file = open_file(path)?;
    Ok(parse(&read(&file, path)?))
}

/// The ports of every sequence that is on a sheet or was, for those who only read it. The mark may
/// stand where the first digit was: then any counts.
pub fn every_port(path: &Path) -> Result<BTreeSet<KnockPort>, SheetError> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
        .map_err(|source| SheetError::File {
            operation: "open",
            path: path.to_owned(),
            source,
            hint: "",
        })?;
    let mut found = BTreeSet::new();
    for line in read(&file, path)?.split(|byte| *byte == b'\n') {
        match line.strip_prefix(b"#") {
            Some(used) => {
                let lost = (b'1'..=b'9').map(|digit| [&[digit], used].concat());
                let whole = std::iter::once(used.to_vec());
                found.extend(whole.chain(lost).filter_map(|line| ports(&line)).flatten());
            }
            None => found.extend(ports(line).into_iter().flatten()),
        }
    }
    Ok(found)
}

/// Two at a time might both find a line that neither has marked yet, if a file has two names.
static MARKING: Mutex<()> = Mutex::new(());

/// Marks a sequence as used up, and returns when that is on the disk; what is left.
pub fn use_up(path: &Path, ports: &[KnockPort]) -> Result<Sheet, SheetError> {
    let _one = MARKING.lock().unwrap_or_else(PoisonError::into_inner);
    let file = open_file(path)?;
    let mut sheet = parse(&read(&file, path)?);
    let (used, left) = sheet
        .lines
        .into_iter()
        .partition(|line| line.ports == ports);
    let used: Vec<Line> = used;
    if used.is_empty() {
        return Err(SheetError::Gone(path.to_owned()));
    }
    let written = used
        .iter()
        .try_for_each(|line| file.write_all_at(b"#", line.start));
    written
        .and_then(|()| file.sync_all())
        .map_err(failed("mark a line of", path))?;
    sheet.lines = left;
    Ok(sheet)
}

fn open_file(path: &Path) -> Result<File, SheetError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path);
    match file {
        Err(error) if error.kind() == ErrorKind::IsADirectory => {
            Err(SheetError::NoSheet(path.to_owned()))
        }
        file => file.map_err(failed("open", path)),
    }
}

fn read(file: &File, path: &Path) -> Result<Vec<u8>, SheetError> {
    let reading = || failed("read", path);
    if !file.metadata().map_err(reading())?.is_file() {
        return Err(SheetError::NoSheet(path.to_owned()));
    }
    let mut bytes = Vec::new();
    let read = file.take(MOST_BYTES as u64 + 1).read_to_end(&mut bytes);
    read.map_err(reading())?;
    if bytes.len() > MOST_BYTES {
        return Err(SheetError::NoSheet(path.to_owned()));
    }
    Ok(bytes)
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SheetError + use<> {
    let path = path.to_owned();
    move |source| {
        let hint = match source.kind() {
            ErrorKind::NotFound => " (`knockctl sequences new` makes one)",
            ErrorKind::PermissionDenied => " (knockd has to write to it)",
            ErrorKind::ReadOnlyFilesystem => {
                " (knockd has to write to it; under systemd it may do so in /etc/knockd)"
            }
            _ => "",
        };
        SheetError::File {
            operation,
            path,
            source,
            hint,
        }
    }
}

fn parse(bytes: &[u8]) -> Sheet {
    let mut sheet = Sheet::default();
    let mut start = 0;
    for (line, number) in bytes.split_inclusive(|byte| *byte == b'\n').zip(1..) {
        let begins = start;
        start += line.len() as u64;
        let text = line.trim_ascii();
        if text.is_empty() || text[0] == b'#' {
            continue;
        }
        if let Some(ports) = ports(text) {
            sheet.lines.push(Line {
                number,
                ports,
                start: begins,
            });
        } else if sheet.bad.len() < MOST_BAD {
            let found = String::from_utf8_lossy(text);
            let shown = |c: char| if c.is_control() { '?' } else { c };
            let found = found.chars().take(40).map(shown).collect();
            sheet.bad.push(BadLine { number, found });
        } else {
            sheet.more_bad += 1;
        }
    }
    sheet
}

fn ports(text: &[u8]) -> Option<Vec<KnockPort>> {
    let text = std::str::from_utf8(text).ok()?;
    let ports = text.split(',').map(|port| {
        let port = port.trim().to_ascii_lowercase();
        port.parse().ok()
    });
    let ports = ports.collect::<Option<Vec<KnockPort>>>()?;
    (ports.len() <= LONGEST_SEQUENCE).then_some(ports)
}
