//! Named profiles: what to knock on, kept in a file.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::args::{Knocks, MAX_DELAY, read_port};
use super::error::KnockError;
use crate::model::{Lifetime, PortRange, parse_duration};
use crate::totp::{Secret, Shape};

/// More is no file of profiles.
const MOST_BYTES: u64 = 1024 * 1024;

/// The file.
const NAME: &str = "knock.yaml";

/// Why profiles cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProfilesError {
    #[error("cannot read the profiles in {}: {source}", file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error("the profiles in {} are larger than 1 MiB, which no profiles are", .0.display())]
    TooBig(PathBuf),
    #[error("{}:{line}:{column}: {what}", file.display())]
    Malformed {
        file: PathBuf,
        /// From 1.
        line: u64,
        /// In characters, from 1.
        column: u64,
        what: String,
    },
}

/// All profiles.
#[derive(Debug, Default)]
pub(super) struct Profiles {
    /// Where they are, or would be; `None` on a machine without a home directory.
    pub(super) file: Option<PathBuf>,
    all: BTreeMap<String, Profile>,
}

/// How to knock on a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Profile {
    /// The host, if it is not the profile's name.
    pub(super) host: Option<String>,
    #[serde(default)]
    knocks: Written,
    /// Between knocks.
    #[serde(default, deserialize_with = "delay")]
    pub(super) delay: Duration,
    /// Whether ports without a protocol are UDP.
    #[serde(default)]
    pub(super) udp: bool,
    /// What to connect to.
    #[serde(default, deserialize_with = "target")]
    pub(super) port: Option<u16>,
}

impl Profile {
    /// What to knock on; a file with a secret is beside that of the profiles.
    pub(super) fn knocks(&self, udp: bool, file: Option<&Path>) -> Result<Knocks, KnockError> {
        let timed = match &self.knocks {
            Written::Timed(timed) => timed,
            // Each was read before.
            Written::Ports(ports) => {
                let ports = ports
                    .iter()
                    .filter_map(|Knock(text)| read_port(text, udp).ok());
                return Ok(Knocks::Ports(ports.collect()));
            }
        };
        let shape = Shape::new(timed.ports, timed.length)?;
        let beside = file.and_then(Path::parent).unwrap_or(Path::new(""));
        let secret = Secret::read(&beside.join(&timed.totp))?;
        Ok(Knocks::Timed(secret, shape))
    }
}

/// The knocks as they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Written {
    Ports(Vec<Knock>),
    Timed(Timed),
}

/// A sequence that follows from a secret and the time.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Timed {
    totp: PathBuf,
    #[serde(deserialize_with = "range")]
    ports: PortRange,
    #[serde(default = "usual_length")]
    length: u8,
}

fn usual_length() -> u8 {
    4
}

fn range<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PortRange, D::Error> {
    let text = deserializer.deserialize_any(Word("a range of ports such as \"20000-40000\""))?;
    text.parse().map_err(Error::custom)
}

impl Default for Written {
    fn default() -> Self {
        Self::Ports(Vec::new())
    }
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Either)
    }
}

struct Either;

impl<'de> Visitor<'de> for Either {
    type Value = Written;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a list of ports such as [1228, 1227], or { totp: FILE, ports: \"20000-40000\" }",
        )
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Written, A::Error> {
        Deserialize::deserialize(SeqAccessDeserializer::new(seq)).map(Written::Ports)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Written, A::Error> {
        Deserialize::deserialize(MapAccessDeserializer::new(map)).map(Written::Timed)
    }
}

/// A port as written, since whether it says its protocol matters.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Knock(String);

impl<'de> Deserialize<'de> for Knock {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = deserializer.deserialize_any(Word("a port such as 1228 or 9663:udp"))?;
        match read_port(&text, false) {
            Ok(_) => Ok(Self(text)),
            Err(error) => Err(Error::custom(error)),
        }
    }
}

fn target<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    let text = deserializer.deserialize_any(Word("a port such as 22"))?;
    let port = read_port(&text, false).map_err(Error::custom)?;
    if text.contains([':', '/']) {
        return Err(Error::custom(format!(
            "`{text}` is not a port to connect to: expected a number"
        )));
    }
    Ok(Some(port.port))
}

fn delay<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = deserializer.deserialize_any(Word("a duration such as 200ms"))?;
    if text == "0s" || text == "0ms" {
        return Ok(Duration::ZERO);
    }
    match parse_duration(&text).map_err(Error::custom)? {
        Lifetime::For(span) if span <= Duration::from_millis(MAX_DELAY) => Ok(span),
        _ => Err(Error::custom(format!(
            "the delay `{text}` is out of range: expected at most 1h"
        ))),
    }
}

/// A scalar as it is written; what it is to be is in the message.
struct Word(&'static str);

impl Visitor<'_> for Word {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_u64<E>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_i64<E>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }
}

impl Profiles {
    /// Reads the user's profiles; without a file there are none.
    pub(super) fn load() -> Result<Self, ProfilesError> {
        match place(|name| env::var_os(name).map(PathBuf::from)) {
            None => Ok(Self::default()),
            Some(file) => Self::load_from(file),
        }
    }

    fn load_from(file: PathBuf) -> Result<Self, ProfilesError> {
        let mut text = Vec::new();
        let read =
            File::open(&file).and_then(|opened| opened.take(MOST_BYTES + 1).read_to_end(&mut text));
        match read {
            Ok(_) => {}
            Err(error) if is_absent(&error) => {
                let file = Some(file);
                let all = BTreeMap::new();
                return Ok(Self { file, all });
            }
            Err(source) => return Err(ProfilesError::Read { file, source }),
        }
        if text.len() as u64 > MOST_BYTES {
            return Err(ProfilesError::TooBig(file));
        }
        let all = parse(&text, &file)?;
        let file = Some(file);
        Ok(Self { file, all })
    }

    /// The profile of that name.
    pub(super) fn get(&self, name: &str) -> Option<&Profile> {
        self.all.get(name)
    }
}

/// `ENOTDIR` is no file either.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Where the profiles are: the XDG base directory specification, and on Windows where programs
/// keep what is the user's.
fn place(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    // A relative path is to be ignored, says the specification; so is an empty one.
    let absolute = |name: &str| variable(name).filter(|path| path.is_absolute());
    let windows = || absolute("APPDATA").filter(|_| cfg!(windows));
    let home = || absolute("HOME").map(|home| home.join(".config"));
    let directory = absolute("XDG_CONFIG_HOME").or_else(windows).or_else(home)?;
    Some(directory.join(NAME))
}

fn parse(text: &[u8], file: &Path) -> Result<BTreeMap<String, Profile>, ProfilesError> {
    let malformed = |line, column, what| ProfilesError::Malformed {
        file: file.to_owned(),
        line,
        column,
        what,
    };
    let text = std::str::from_utf8(text).map_err(|error| {
        let before = String::from_utf8_lossy(&text[..error.valid_up_to()]).into_owned();
        let last = before.rsplit('\n').next().unwrap_or_default();
        let line = before.matches('\n').count() as u64 + 1;
        let column = last.chars().count() as u64 + 1;
        malformed(
            line,
            column,
            "found a byte that is not UTF-8, expected text".into(),
        )
    })?;
    // A file of comments is a file without profiles.
    let is_comment = |line: &str| line.is_empty() || line.starts_with('#');
    if text.lines().map(str::trim).all(is_comment) {
        return Ok(BTreeMap::new());
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: 8, max_nodes: 50_000, max_documents: 1 },
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let at = error.location();
        let line = at.map_or(1, |at| at.line().max(1));
        let column = at.map_or(1, |at| at.column().max(1));
        malformed(line, column, words(&error))
    })
}

/// What is wrong, in words that do not speak of the library, and without the place, which stands
/// before it.
fn words(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error;
    let found = match error.without_snippet() {
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("found `{key}` a second time, expected each key once")
        }
        Error::Unexpected { expected, .. } if *expected == "mapping start" => {
            "expected a mapping, such as `work: { host: ssh.example.org, knocks: [1228, 1227] }`"
                .to_owned()
        }
        other => {
            let text = other.to_string();
            let text = text.lines().next().unwrap_or_default();
            let text = text.rfind(" at line ").map_or(text, |end| &text[..end]);
            text.to_owned()
        }
    };
    found
        .chars()
        .take(300)
        .filter(|c| !c.is_control())
        .collect()
}

#[cfg(test)]
#[path = "profiles_tests.rs"]
mod tests;
