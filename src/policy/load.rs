use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::classic::is_classic;
use super::file::{Checked, MOST_BYTES, parse};
use super::problem::PolicyErrors;

/// Where the policy is, unless somebody says otherwise: the first of these that exists.
const USUAL: [&str; 2] = ["/etc/knockd/knockd.yaml", "/etc/knockd.conf"];

/// Why there is no policy.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No such file.
    #[error("there is no policy at {0}: create it, or name another with -c")]
    Missing(PathBuf),
    /// The file or a directory on the way may not be read.
    #[error("cannot read the policy {0}: permission denied (run as root)")]
    Permission(PathBuf),
    /// A directory.
    #[error("cannot read the policy {0}: it is a directory; name the file in it")]
    Directory(PathBuf),
    /// Larger than any policy.
    #[error("cannot read the policy {0}: it is larger than 1 MiB, which no policy is")]
    TooBig(PathBuf),
    /// Not text.
    #[error("{file}:{line}:{column}: found a byte that is not UTF-8, expected text")]
    NotUtf8 {
        /// The file.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
    },
    /// Anything else that the system says.
    #[error("cannot read the policy {file}: {source}")]
    Io {
        /// The file.
        file: PathBuf,
        /// The errno.
        source: io::Error,
    },
    /// It was read, and asks for more memory than there is.
    #[error(
        "{file}: memory: the machine does not give {} MiB for records of knocks: ask for less",
        memory >> 20
    )]
    Memory {
        /// The file.
        file: PathBuf,
        /// In bytes.
        memory: usize,
    },
    /// It was read, and is wrong.
    #[error(transparent)]
    Policy(#[from] PolicyErrors),
}

/// The path of the policy that the daemon takes where none is named.
pub fn usual_path() -> PathBuf {
    usual_path_after(|| None)
}

/// The same where it can be asked which file was in force last: that this is missing does not make
/// room for another, which may have no gates.
pub fn usual_path_after(last: impl Fn() -> Option<PathBuf>) -> PathBuf {
    first_of(USUAL, last)
}

fn first_of(known: [&str; 2], last: impl Fn() -> Option<PathBuf>) -> PathBuf {
    let mut paths = known.iter().map(PathBuf::from);
    paths
        .find(|path| path.exists() || last().as_ref() == Some(path))
        .unwrap_or_else(|| known[0].into())
}

/// Reads and checks the policy in `file`.
pub fn load(file: &Path) -> Result<Checked, LoadError> {
    Ok(parse(&read(file)?, file)?)
}

/// The text of a policy file, at most 1 MiB of it.
pub fn read(file: &Path) -> Result<String, LoadError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => LoadError::Missing(file.to_owned()),
        io::ErrorKind::PermissionDenied => LoadError::Permission(file.to_owned()),
        io::ErrorKind::IsADirectory => LoadError::Directory(file.to_owned()),
        _ => LoadError::Io {
            file: file.to_owned(),
            source,
        },
    };
    let mut bytes = Vec::new();
    // A limit on what is read, not on the size that is told: /dev/zero has none.
    let limit = MOST_BYTES as u64 + 1;
    let opened = fs::File::open(file).map_err(failed)?;
    opened.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > MOST_BYTES {
        return Err(LoadError::TooBig(file.to_owned()));
    }
    text_of(file, bytes)
}

/// The bytes of a policy file as its text. In the comments of a classic file an older encoding is
/// taken, too, in which each of its bytes that is not ASCII becomes U+FFFD.
pub fn text_of(file: &Path, bytes: Vec<u8>) -> Result<String, LoadError> {
    let text = String::from_utf8(bytes);
    text.or_else(|error| with_old_comments(error.as_bytes()).ok_or(error))
        .map_err(|error| {
            let good = error.utf8_error().valid_up_to();
            let before = String::from_utf8_lossy(&error.as_bytes()[..good]);
            let last = before.rsplit('\n').next().unwrap_or_default();
            LoadError::NotUtf8 {
                file: file.to_owned(),
                line: before.matches('\n').count() + 1,
                column: last.chars().count() + 1,
            }
        })
}

/// The text of a classic file of which only comments are not UTF-8: `# accès`, written when that was
/// a byte.
fn with_old_comments(bytes: &[u8]) -> Option<String> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let fits = |line: &[u8]| {
        line.trim_ascii_start().starts_with(b"#") || std::str::from_utf8(line).is_ok()
    };
    let text = String::from_utf8_lossy(bytes);
    (lines.all(fits) && is_classic(&text)).then(|| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_is_there_or_was_in_force_last_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["new", "old"].map(|name| dir.path().join(name));
        let [new, old] = paths.each_ref();
        let known = paths.each_ref().map(|path| path.to_str().unwrap());
        assert_eq!(first_of(known, || None), *new);
        fs::write(old, "").unwrap();
        assert_eq!(first_of(known, || None), *old);
        assert_eq!(first_of(known, || Some(old.clone())), *old);
        assert_eq!(
            first_of(known, || Some(new.clone())),
            *new,
            "though it is missing"
        );
        assert_eq!(first_of(known, || Some("/elsewhere".into())), *old);
        fs::write(new, "").unwrap();
        assert_eq!(first_of(known, || Some(old.clone())), *new);
    }

    #[test]
    fn comments_of_a_classic_file_may_be_in_an_older_encoding_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("knockd.conf");
        let read = |bytes: &[u8]| {
            fs::write(&file, bytes).unwrap();
            super::read(&file).map_err(|error| error.to_string())
        };
        let text = read(b"# acc\xe8s\n[a]\n \t#\xff\nsequence=1\n").unwrap();
        assert_eq!(text, "# acc\u{fffd}s\n[a]\n \t#\u{fffd}\nsequence=1\n");
        for (bytes, place) in [
            (&b"# x\n[a]\ncommand=\xe8\n"[..], ":3:9: "),
            (b"# \xe8\ngates: {}\n", ":1:3: "),
        ] {
            let told = read(bytes).unwrap_err();
            assert!(told.contains(place), "{told}");
        }
    }
}
