use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use data_encoding::{BASE32, BASE32_NOPAD};

/// Shorter ones can be guessed (RFC 4226, section 4, requirement 6).
const FEWEST_BYTES: usize = 16;

/// A larger file is no secret.
const MOST_BYTES: u64 = 64 * 1024;

/// A shared secret. Whoever has it can knock; it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why a text is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Nothing, or comments alone.
    #[error("there is no secret in it")]
    None,
    /// A second line that is no comment.
    #[error("line {0} is a second one: expected one secret")]
    Several(usize),
    /// Not RFC 4648, section 6.
    #[error("line {0} is not base32: expected letters and the digits 2 to 7")]
    NotBase32(usize),
    /// Too easy to guess.
    #[error("the secret has {0} bits: expected at least 128, 26 letters or digits")]
    Short(usize),
}

/// Why a file has no secret for us.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file itself.
    #[error("cannot read the secret in {}: {source}{}", path.display(), hint(source))]
    File {
        /// Which.
        path: PathBuf,
        /// The errno.
        source: io::Error,
    },
    /// A directory, a device, or a file that is too large.
    #[error("{} is no secret: a regular file of at most 64 KiB is", .0.display())]
    NoFile(PathBuf),
    /// What is in it.
    #[error("{}: {what}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: SecretError,
    },
    /// A good one, but not this knock's alone.
    #[error(
        "the secret in {} is another knock's (`knockctl sequences secret` makes one of its own)",
        .0.display()
    )]
    Anothers(PathBuf),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => " (`knockctl sequences secret` makes one)",
        io::ErrorKind::PermissionDenied => " (whose file is it?)",
        _ => "",
    }
}

/// The secrets of several knocks, each of which needs one of its own: of another range or length,
/// the ports of one would tell those of the other.
#[derive(Debug, Default)]
pub struct Secrets(Vec<Secret>);

impl Secrets {
    /// The secret in a file, if it is none that was read before.
    pub fn read(&mut self, path: &Path) -> Result<Secret, ReadError> {
        let secret = Secret::read(path)?;
        if self.0.contains(&secret) {
            return Err(ReadError::Anothers(path.to_owned()));
        }
        self.0.push(secret.clone());
        Ok(secret)
    }
}

impl Secret {
    /// Reads one line of base32 (RFC 4648, section 6), in capitals or not, with or without spaces,
    /// hyphens and padding; other lines are blank, or begin with `#`.
    pub fn parse(text: &[u8]) -> Result<Self, SecretError> {
        let lines = text.split(|byte| *byte == b'\n').zip(1..);
        let mut lines = lines
            .map(|(line, number)| (line.trim_ascii(), number))
            .filter(|(line, _)| !line.is_empty() && line[0] != b'#');
        let (line, number) = lines.next().ok_or(SecretError::None)?;
        if let Some((_, second)) = lines.next() {
            return Err(SecretError::Several(second));
        }
        let written = line.iter().filter(|byte| !b" -\t".contains(byte));
        let written: Vec<u8> = written.map(u8::to_ascii_uppercase).collect();
        let padded = written.ends_with(b"=");
        let bytes = if padded {
            BASE32.decode(&written)
        } else {
            BASE32_NOPAD.decode(&written)
        };
        let bytes = bytes.map_err(|_| SecretError::NotBase32(number))?;
        Self::new(bytes)
    }

    /// These bytes, if they are enough.
    pub fn new(bytes: Vec<u8>) -> Result<Self, SecretError> {
        if bytes.len() < FEWEST_BYTES {
            return Err(SecretError::Short(bytes.len() * 8));
        }
        Ok(Self(bytes))
    }

    /// The secret in a file.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        let failed = |source| ReadError::File {
            path: path.to_owned(),
            source,
        };
        // Opening a pipe would wait for whoever writes.
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            return Err(ReadError::NoFile(path.to_owned()));
        }
        let mut text = Vec::new();
        let file = File::open(path).map_err(failed)?;
        let read = file.take(MOST_BYTES + 1).read_to_end(&mut text);
        if read.map_err(failed)? as u64 > MOST_BYTES {
            return Err(ReadError::NoFile(path.to_owned()));
        }
        Self::parse(&text).map_err(|what| ReadError::Content {
            path: path.to_owned(),
            what,
        })
    }

    /// As [`Secret::parse`] reads it; to be shown to nobody but whoever asked for a new one.
    pub fn written(&self) -> String {
        BASE32_NOPAD.encode(&self.0)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}
