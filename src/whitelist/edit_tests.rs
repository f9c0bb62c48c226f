use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::whitelist::load;

struct Scene {
    dir: TempDir,
    path: PathBuf,
}

impl Scene {
    fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("knockd.trusted");
        Self { dir, path }
    }

    fn with(text: &[u8]) -> Self {
        let scene = Self::empty();
        fs::write(&scene.path, text).unwrap();
        scene
    }

    fn add(&self, entry: &str, comment: &str) -> Result<Edit, WhitelistError> {
        add(&self.path, &host(entry), comment)
    }

    fn remove(&self, entry: &str) -> Result<Edit, WhitelistError> {
        remove(&self.path, &host(entry))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.path).unwrap()).into_owned()
    }

    /// The names in the directory: no temporary file may be left.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn host(text: &str) -> Host {
    text.parse().unwrap()
}

fn added(line: usize) -> Edit {
    Edit::Added {
        line,
        created: false,
    }
}

#[test]
fn adding_appends_a_line_and_keeps_the_rest() {
    let scene = Scene::with(b"# ours\n\n192.0.2.1   the lab\n");
    assert_eq!(scene.add("192.0.2.7", "printer").unwrap(), added(4));
    assert_eq!(scene.add("gw.example.org", "").unwrap(), added(5));
    assert_eq!(
        scene.text(),
        "# ours\n\n192.0.2.1   the lab\n192.0.2.7 # printer\ngw.example.org\n"
    );
    assert_eq!(scene.names(), ["knockd.trusted"]);
    assert_eq!(load(&scene.path).unwrap().entries[1].comment, "printer");
}

#[test]
fn adding_follows_the_files_line_endings() {
    for (before, after) in [
        ("", "192.0.2.7\n"),
        ("# a", "# a\n192.0.2.7"),
        ("# a\n", "# a\n192.0.2.7\n"),
        ("# a\r\n", "# a\r\n192.0.2.7\r\n"),
        ("# a\r\nb", "# a\r\nb\r\n192.0.2.7"),
    ] {
        let scene = Scene::with(before.as_bytes());
        scene.add("192.0.2.7", "").unwrap();
        assert_eq!(scene.text(), after, "{before:?}");
    }
}

#[test]
fn adding_what_is_there_already_changes_nothing() {
    let text = "# x\n192.0.2.0/24\nGW.example.org # gateway\n192.0.2.7\n";
    let scene = Scene::with(text.as_bytes());
    let inode = fs::metadata(&scene.path).unwrap().ino();
    for (entry, line) in [
        ("192.0.2.9/24", 2),
        ("gw.EXAMPLE.org.", 3),
        ("::ffff:192.0.2.7", 4),
    ] {
        assert_eq!(
            scene.add(entry, "again").unwrap(),
            Edit::AlreadyThere { line }
        );
    }
    assert_eq!(scene.text(), text);
    assert_eq!(fs::metadata(&scene.path).unwrap().ino(), inode);
    // Covered by a network is not the same: it stays when the network goes.
    assert_eq!(scene.add("192.0.2.8", "").unwrap(), added(5));
}

#[test]
fn adding_to_a_missing_file_creates_it_with_mode_0640() {
    let scene = Scene::empty();
    let edit = scene.add("192.0.2.7", "first").unwrap();
    assert_eq!(
        edit,
        Edit::Added {
            line: 1,
            created: true
        }
    );
    assert_eq!(scene.text(), "192.0.2.7 # first\n");
    assert_eq!(fs::metadata(&scene.path).unwrap().mode() & 0o7777, 0o640);
    assert_eq!(scene.names(), ["knockd.trusted"]);
}

#[test]
fn removing_takes_every_line_that_equals_it() {
    let scene = Scene::with(
        b"a.org\n192.0.2.7 # x\n# 192.0.2.7\n192.0.2.7/32\n192.0.2.70\n::ffff:192.0.2.7\n",
    );
    let edit = scene.remove("192.0.2.7").unwrap();
    assert_eq!(
        edit,
        Edit::Removed {
            lines: vec![2, 4, 6],
            covered: None
        }
    );
    assert_eq!(scene.text(), "a.org\n# 192.0.2.7\n192.0.2.70\n");
    assert_eq!(
        scene.remove("A.ORG").unwrap(),
        Edit::Removed {
            lines: vec![1],
            covered: None
        }
    );
    assert_eq!(
        scene.remove("b.org").unwrap(),
        Edit::NotThere { covered: None }
    );
    assert_eq!(scene.names(), ["knockd.trusted"]);
}

#[test]
fn removing_what_a_network_still_covers_says_so() {
    let scene = Scene::with(b"# a\n192.0.2.7\nb.org\n192.0.2.0/24\n");
    let by: IpNet = "192.0.2.0/24".parse().unwrap();
    assert_eq!(
        scene.remove("192.0.2.7").unwrap(),
        Edit::Removed {
            lines: vec![2],
            covered: Some(Covered { by, line: 3 })
        }
    );
    assert_eq!(
        scene.remove("192.0.2.8").unwrap(),
        Edit::NotThere {
            covered: Some(Covered { by, line: 3 })
        }
    );
    assert_eq!(
        scene.remove("192.0.3.8").unwrap(),
        Edit::NotThere { covered: None }
    );
}

#[test]
fn mode_and_owner_are_kept() {
    let scene = Scene::with(b"# x\n");
    for mode in [0o600, 0o664, 0o2750] {
        fs::set_permissions(&scene.path, fs::Permissions::from_mode(mode)).unwrap();
        let before = fs::metadata(&scene.path).unwrap();
        scene.add("192.0.2.7", "").unwrap();
        scene.remove("192.0.2.7").unwrap();
        let after = fs::metadata(&scene.path).unwrap();
        assert_eq!(after.mode() & 0o7777, mode);
        assert_eq!((after.uid(), after.gid()), (before.uid(), before.gid()));
    }
}

#[test]
fn a_symbolic_link_stays_one_and_its_target_is_edited() {
    let scene = Scene::with(b"# x\n");
    let link = scene.dir.path().join("link");
    symlink("knockd.trusted", &link).unwrap();
    add(&link, &host("192.0.2.7"), "").unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(scene.text(), "# x\n192.0.2.7\n");
    assert_eq!(load(&link).unwrap().entries.len(), 1);
}

#[test]
fn what_cannot_be_edited_is_told_apart() {
    let scene = Scene::empty();
    let dangling = scene.dir.path().join("dangling");
    symlink("nowhere", &dangling).unwrap();
    let seven = host("192.0.2.7");
    let path = dangling.as_path();
    assert!(matches!(
        add(path, &seven, ""),
        Err(WhitelistError::DanglingLink(_))
    ));
    assert!(matches!(
        remove(path, &seven),
        Err(WhitelistError::DanglingLink(_))
    ));
    assert!(matches!(load(path), Err(WhitelistError::DanglingLink(_))));
    assert!(matches!(
        scene.remove("192.0.2.7"),
        Err(WhitelistError::Missing(_))
    ));
    assert!(matches!(load(&scene.path), Err(WhitelistError::Missing(_))));
    let directory = scene.dir.path();
    assert!(matches!(
        add(directory, &seven, ""),
        Err(WhitelistError::Directory(_))
    ));
    assert!(matches!(load(directory), Err(WhitelistError::Directory(_))));
    let nowhere = directory.join("no/where");
    assert!(matches!(
        add(&nowhere, &seven, ""),
        Err(WhitelistError::NoDirectory(_))
    ));
    let device = std::path::Path::new("/dev/null");
    assert!(matches!(
        add(device, &seven, ""),
        Err(WhitelistError::NotAFile(_))
    ));
    let socket = directory.join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert!(load(&socket).is_err());
    nix::unistd::mkfifo(&directory.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(
        load(&directory.join("pipe")),
        Err(WhitelistError::NotAFile(_))
    ));
    fs::write(&scene.path, vec![b'#'; super::file::MOST_BYTES + 1]).unwrap();
    assert!(matches!(
        scene.add("192.0.2.7", ""),
        Err(WhitelistError::TooBig(_))
    ));
    fs::write(&scene.path, vec![b'#'; super::file::MOST_BYTES]).unwrap();
    assert!(matches!(
        scene.add("192.0.2.7", ""),
        Err(WhitelistError::TooBig(_))
    ));
    assert_eq!(
        scene.names(),
        ["dangling", "knockd.trusted", "pipe", "socket"]
    );
}

/// Runs `what` without root's privileges over files: `setfsuid(2)` is of this thread alone. An
/// ordinary user has none to begin with.
fn as_nobody<T: Send>(what: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65_534));
            what()
        });
        thread.join().unwrap()
    })
}

#[test]
fn missing_permissions_are_told_apart() {
    let scene = Scene::with(b"# x\n");
    let mode = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(scene.dir.path(), 0o555);
    mode(&scene.path, 0o444);
    let told = as_nobody(|| scene.add("192.0.2.7", "").unwrap_err());
    assert!(
        matches!(told, WhitelistError::UnwritableDirectory(_)),
        "{told}"
    );
    mode(&scene.path, 0o000);
    let told = as_nobody(|| load(&scene.path).unwrap_err());
    assert!(matches!(told, WhitelistError::Unreadable(_)), "{told}");
    mode(scene.dir.path(), 0o755);
    assert_eq!(scene.names(), ["knockd.trusted"]);
}

#[test]
fn a_file_that_vanished_or_changed_meanwhile_is_left_alone() {
    let scene = Scene::with(b"# x\n");
    let found = super::file::read(&scene.path).unwrap();
    fs::write(&scene.path, "192.0.2.1 # by hand\n").unwrap();
    let told = super::file::replace(&scene.path, &found, b"ours\n");
    assert!(matches!(told, Err(WhitelistError::Changed(_))));
    assert_eq!(scene.text(), "192.0.2.1 # by hand\n");
    fs::remove_file(&scene.path).unwrap();
    let told = super::file::replace(&scene.path, &found, b"ours\n");
    assert!(matches!(told, Err(WhitelistError::Vanished(_))));
    assert_eq!(scene.names(), Vec::<String>::new());
    fs::write(&scene.path, "# made meanwhile\n").unwrap();
    let told = super::file::create(&scene.path, b"ours\n");
    assert!(matches!(told, Err(WhitelistError::Changed(_))));
    assert_eq!(scene.text(), "# made meanwhile\n");
}

#[test]
fn a_leftover_of_a_killed_process_is_no_obstacle() {
    let scene = Scene::with(b"# x\n");
    let name = format!(".knockd.trusted.{}.0.tmp", std::process::id());
    let leftover = scene.dir.path().join(name);
    fs::write(&leftover, "half").unwrap();
    scene.add("192.0.2.7", "").unwrap();
    assert_eq!(scene.text(), "# x\n192.0.2.7\n");
    assert_eq!(fs::read(&leftover).unwrap(), b"half");
}

#[test]
fn everybody_is_trusted_only_by_force() {
    let scene = Scene::with(b"# x\n");
    for (entry, comment) in [("0.0.0.0/0", ""), ("::/0", "no --force")] {
        let told = scene.add(entry, comment).unwrap_err();
        assert!(matches!(told, WhitelistError::Everything(_)));
    }
    scene.add("0.0.0.0/0", "--force for the exam").unwrap();
    let parsed = load(&scene.path).unwrap();
    assert_eq!((parsed.entries.len(), parsed.bad.len()), (1, 0));
    // A line that does not count does not stand in the way of one that does, and goes too.
    let scene = Scene::with(b"0.0.0.0/0\n");
    assert_eq!(scene.add("0.0.0.0/0", "--force").unwrap(), added(2));
    let edit = scene.remove("0.0.0.0/0").unwrap();
    assert_eq!(
        edit,
        Edit::Removed {
            lines: vec![1, 2],
            covered: None
        }
    );
}

#[test]
fn a_comment_is_one_line_of_text() {
    let scene = Scene::with(b"");
    for bad in ["a\nb", "a\0b", "\u{1b}[31m", &"x".repeat(201)] {
        assert!(
            matches!(scene.add("192.0.2.7", bad), Err(WhitelistError::Comment)),
            "{bad:?}"
        );
    }
    let name = Host::Name("a\nb".into());
    assert!(matches!(
        add(&scene.path, &name, ""),
        Err(WhitelistError::Name(_))
    ));
    assert_eq!(scene.text(), "");
}

#[test]
fn readers_never_see_half_a_file() {
    let whole = "192.0.2.1\n".repeat(2_000);
    let scene = Scene::with(whole.as_bytes());
    let path = scene.path.clone();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..50 {
                scene.add("192.0.2.7", "").unwrap();
                scene.remove("192.0.2.7").unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::Release);
        });
        while !done.load(std::sync::atomic::Ordering::Acquire) {
            let seen = load(&path).unwrap().entries.len();
            assert!((2_000..=2_001).contains(&seen), "{seen}");
        }
    });
    assert_eq!(scene.text(), whole);
}

proptest! {
    /// Whatever is in the file, taking out what was put in gives the same bytes.
    #[test]
    fn adding_and_removing_gives_the_same_bytes(
        lines in proptest::collection::vec(
            "(# ?)?(198\\.51\\.100\\.[1-9](/24)?|[a-z]{1,5}\\.org|2001:db8::[1-9])?[ \\PC]{0,9}", 0..8),
        ending in "\n|\r\n",
        closed in any::<bool>(),
        entry in "192\\.0\\.2\\.[1-9](/29)?|new\\.example\\.org|2001:db8:1::[1-9]",
    ) {
        let mut text = lines.join(&ending);
        if closed && !text.is_empty() {
            text += &ending;
        }
        let text = text.into_bytes();
        let entry = host(&entry);
        let line = format!("{entry} # comment");
        let more = with_line(&text, &line);
        let (less, removed) = without_host(&more, &entry);
        prop_assert_eq!(removed.len(), 1);
        prop_assert_eq!(less, text);
    }
}

#[test]
fn removing_a_line_never_makes_another_mean_somebody() {
    // Once the second line was bad, and good as the first one.
    let before = "192.0.2.1\n\u{feff}192.0.2.0/24\n";
    let (after, _) = text_without(before.as_bytes(), &[host("192.0.2.1")]);
    let meant = |text: &[u8]| parse(text).entries.into_iter().map(|entry| entry.host);
    let others: Vec<Host> = meant(before.as_bytes()).skip(1).collect();
    assert_eq!(meant(&after).collect::<Vec<_>>(), others);
}
