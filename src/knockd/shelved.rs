//! A whitelist that was edited together with a policy that was only tried: what it said before, and
//! what it said then. Kept in the state directory until the file is read for good, so that a start
//! does not take up an edit that nobody has confirmed.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use tracing::warn;

use crate::files::{self, FileError};
use crate::whitelist::{self, Host, MOST_BYTES};

use super::roster::Roster;

/// What was in force before.
const BEFORE: &str = "trusted.before";
/// What was tried.
const TRIED: &str = "trusted.unconfirmed";

/// As the policies beside them.
const MODE: u32 = 0o600;
/// The first line says which file it was.
const FROM: &[u8] = b"# from ";

/// Keeps both, if they are of one file and differ.
pub(super) fn keep(state_dir: &Path, before: &Roster, tried: &Roster) -> Result<(), FileError> {
    let Some(file) = before.file().filter(|file| tried.file() == Some(file)) else {
        return Ok(());
    };
    if before.lists_the_same(tried) {
        forget(state_dir);
        return Ok(());
    }
    put(state_dir, TRIED, file, tried)?;
    put(state_dir, BEFORE, file, before)
}

fn put(state_dir: &Path, name: &str, file: &Path, roster: &Roster) -> Result<(), FileError> {
    let mut bytes = [FROM, file.as_os_str().as_bytes(), b"\n"].concat();
    bytes.extend_from_slice(roster.text().as_bytes());
    files::put(&state_dir.join(name), &bytes, MODE)
}

/// A command has trusted these hosts or not, and the file says so: what is kept is not to take it
/// back. Until this is written the next start has it as it was.
pub(super) fn settle(
    state_dir: &Path,
    file: Option<&Path>,
    hosts: &[Host],
) -> Result<(), FileError> {
    let Some(file) = file else { return Ok(()) };
    let Some((mut before, tried)) = both(state_dir, file) else {
        return Ok(());
    };
    before.settle(&tried, hosts);
    if before.lists_the_same(&tried) {
        forget(state_dir);
        return Ok(());
    }
    put(state_dir, BEFORE, file, &before)
}

/// Whether something is kept.
pub(super) fn is_kept(state_dir: &Path) -> bool {
    let kept = [BEFORE, TRIED].map(|name| state_dir.join(name));
    kept.iter().all(|path| path.exists())
}

/// What the file says is in force.
pub(super) fn forget(state_dir: &Path) {
    for path in [BEFORE, TRIED].map(|name| state_dir.join(name)) {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                warn!("cannot remove {}: {error}", path.display());
            }
            _ => {}
        }
    }
}

/// Reads the whitelist for a start: who is trusted, a complaint for each line that is skipped or
/// doubtful, and what is wrong with the file as a whole.
pub(super) fn at_start(
    file: Option<&Path>,
    state_dir: &Path,
) -> (Roster, Vec<String>, Vec<String>) {
    let (found, complaints, problem) = Roster::at_start(file);
    let mut problems: Vec<String> = problem.into_iter().collect();
    // Of a file that says nothing nobody knows what was done to it; a bad line is one line.
    let says_something = problems.is_empty() || !complaints.is_empty();
    let kept = file.filter(|_| says_something);
    let kept = kept.and_then(|file| both(state_dir, file));
    let Some((before, tried)) = kept else {
        return (found, complaints, problems);
    };
    let roster = before.taken_back(&tried, &found);
    if !roster.lists_the_same(&found) {
        problems.extend(not_in_force(file));
    }
    (roster, complaints, problems)
}

/// What is said of a file whose edit was taken back.
pub(super) fn not_in_force(file: Option<&Path>) -> Option<String> {
    let file = file?.display();
    Some(format!(
        "{file} is not in force as it was edited, since the change of the policy that came with it \
         was taken back; `knockctl reload` puts it into force"
    ))
}

/// What that file said before, and what it said when it was tried.
fn both(state_dir: &Path, file: &Path) -> Option<(Roster, Roster)> {
    let [before, tried] = [BEFORE, TRIED].map(|name| kept(&state_dir.join(name), file));
    before.zip(tried)
}

/// What is kept of that file; what cannot be understood is as if it were not there.
fn kept(path: &Path, file: &Path) -> Option<Roster> {
    let bytes = match files::read(path, 2 * MOST_BYTES) {
        Ok(found) => found.bytes,
        Err(FileError::Missing(_)) => return None,
        Err(error) => {
            warn!("{error}");
            return None;
        }
    };
    let mut of = [FROM, file.as_os_str().as_bytes()].concat();
    of.push(b'\n');
    let text = bytes.strip_prefix(of.as_slice())?;
    let entries = whitelist::parse(text).entries;
    Some(Roster::of(PathBuf::from(file), entries))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "192.0.2.1 me\n192.0.2.2\ngw.example.org # a name\n0.0.0.0/0 --force\n";
    const NEW: &str = "192.0.2.2\n192.0.2.3\n";

    fn nets(roster: &Roster) -> Vec<String> {
        let nets = roster.trusted().into_iter();
        nets.map(|(net, _)| net.to_string()).collect()
    }

    /// A whitelist with that text, in a state directory where another was tried.
    fn tried(old: &str, new: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("knockd.trusted");
        std::fs::write(&path, old).unwrap();
        let (before, ..) = Roster::at_start(Some(&path));
        std::fs::write(&path, new).unwrap();
        let applied = before.reloaded(Some(&path)).unwrap();
        keep(dir.path(), &before, &applied).unwrap();
        (dir, path)
    }

    #[test]
    fn a_start_takes_up_no_edit_that_was_only_tried_and_says_so() {
        let (dir, path) = tried(OLD, NEW);
        let (roster, complaints, problems) = at_start(Some(&path), dir.path());
        assert_eq!(nets(&roster), ["192.0.2.1/32", "192.0.2.2/32", "0.0.0.0/0"]);
        assert_eq!(roster.names().collect::<Vec<_>>(), ["gw.example.org"]);
        assert!(roster.trusted()[0].1.ends_with("me"));
        assert!(complaints.is_empty());
        assert_eq!(problems.len(), 1);
        assert!(problems[0].contains("knockctl reload"));
        // What was done to the file since counts.
        std::fs::write(&path, "192.0.2.3\n192.0.2.4\n").unwrap();
        let (roster, ..) = at_start(Some(&path), dir.path());
        assert_eq!(nets(&roster), ["192.0.2.1/32", "0.0.0.0/0", "192.0.2.4/32"]);
    }

    #[test]
    fn a_bad_line_lets_no_edit_in_that_was_only_tried() {
        let (dir, path) = tried(OLD, NEW);
        for lines in ["192.0.2.4\n192.0.2.300\n", "192.0.2.300\n"] {
            std::fs::write(&path, format!("{NEW}{lines}")).unwrap();
            let (roster, complaints, problems) = at_start(Some(&path), dir.path());
            let nets = nets(&roster);
            assert!(nets.contains(&"192.0.2.1/32".into()), "{nets:?}");
            assert!(!nets.contains(&"192.0.2.3/32".into()), "{nets:?}");
            assert_eq!(nets.contains(&"192.0.2.4/32".into()), lines.len() > 12);
            assert_eq!(complaints.len(), 1);
            let [skipped, shelved] = problems.as_slice() else {
                panic!("{problems:?}");
            };
            assert!(skipped.contains("is not understood"), "{skipped}");
            assert!(shelved.contains("as it was edited"), "{shelved}");
        }
    }

    #[test]
    fn an_edit_that_was_undone_or_is_in_force_is_nothing_to_speak_of() {
        let (dir, path) = tried(OLD, NEW);
        std::fs::write(&path, OLD).unwrap();
        assert_eq!(at_start(Some(&path), dir.path()).2, [""; 0]);
        std::fs::write(&path, NEW).unwrap();
        forget(dir.path());
        let (roster, _, problems) = at_start(Some(&path), dir.path());
        assert_eq!(nets(&roster), ["192.0.2.2/32", "192.0.2.3/32"]);
        assert_eq!(problems, [""; 0]);
    }

    #[test]
    fn another_file_and_one_that_cannot_be_read_are_as_they_are() {
        let (dir, path) = tried(OLD, NEW);
        let other = dir.path().join("another");
        std::fs::write(&other, "192.0.2.9\n").unwrap();
        let (roster, _, problems) = at_start(Some(&other), dir.path());
        assert_eq!(
            (nets(&roster), problems),
            (vec!["192.0.2.9/32".into()], vec![])
        );
        std::fs::write(&path, " \n").unwrap();
        let (roster, _, problems) = at_start(Some(&path), dir.path());
        assert_eq!((nets(&roster), problems.len()), (vec![], 1));
        std::fs::remove_file(&path).unwrap();
        let (roster, _, problems) = at_start(Some(&path), dir.path());
        assert_eq!((nets(&roster), problems.len()), (vec![], 1));
    }

    #[test]
    fn whom_a_command_trusts_or_not_is_so_at_a_start_and_nobody_else() {
        let host = |text: &str| text.parse::<Host>().unwrap();
        let (dir, path) = tried(OLD, NEW);
        // The command has found no line for the one, and one for the other.
        let asked = ["192.0.2.1", "192.0.2.3", "GW.example.org."].map(host);
        settle(dir.path(), Some(&path), &asked).unwrap();
        let (roster, _, problems) = at_start(Some(&path), dir.path());
        assert_eq!(nets(&roster), ["192.0.2.2/32", "0.0.0.0/0", "192.0.2.3/32"]);
        assert_eq!(roster.names().count(), 0);
        assert_eq!(problems.len(), 1);
        // With the last of them there is nothing left to be taken back.
        settle(dir.path(), Some(&path), &[host("0.0.0.0/0")]).unwrap();
        assert!(!is_kept(dir.path()));
        let (roster, _, problems) = at_start(Some(&path), dir.path());
        assert_eq!(nets(&roster), ["192.0.2.2/32", "192.0.2.3/32"]);
        assert_eq!(problems, [""; 0]);
    }

    #[test]
    fn commands_about_another_file_leave_what_is_kept_as_it_is() {
        let (dir, path) = tried(OLD, NEW);
        let other = dir.path().join("another");
        let asked = ["192.0.2.1".parse().unwrap()];
        for file in [Some(other.as_path()), None] {
            settle(dir.path(), file, &asked).unwrap();
        }
        let (roster, ..) = at_start(Some(&path), dir.path());
        assert_eq!(nets(&roster)[0], "192.0.2.1/32");
    }

    #[test]
    fn what_is_kept_is_nobody_elses_to_read() {
        use std::os::unix::fs::PermissionsExt;
        let (dir, _) = tried(OLD, NEW);
        for name in [BEFORE, TRIED] {
            let mode = std::fs::metadata(dir.path().join(name)).unwrap();
            assert_eq!(mode.permissions().mode() & 0o7777, 0o600);
        }
    }
}
