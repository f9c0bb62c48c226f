//! What `make install` does, into a directory of its own and with programs that are none.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use crate::world::{Tried, exists};

crate::scenarios!(crate::Plain:
    only_what_was_built_from_the_source_as_it_is_gets_installed,
    openrcs_job_goes_where_there_is_a_place_for_it,
    a_classic_file_stays_what_runs,
);

/// A source tree with our Makefile.
struct Tree(TempDir);

impl Tree {
    fn new() -> Result<Self, std::io::Error> {
        let tree = Self(tempfile::tempdir()?);
        for name in ["Makefile", "policy", "init", "cron", "docs"] {
            symlink(
                Path::new(env!("CARGO_MANIFEST_DIR")).join(name),
                tree.path(name),
            )?;
        }
        for dir in ["src", "target/release"] {
            fs::create_dir_all(tree.path(dir))?;
        }
        for file in ["Cargo.toml", "Cargo.lock", "src/lib.rs"] {
            fs::write(tree.path(file), "")?;
        }
        Ok(tree)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The programs, as old as `age`.
    fn build(&self, age: Duration) -> Tried {
        for name in ["knockd", "knockctl", "knock"] {
            let program = self.path(&format!("target/release/{name}"));
            fs::write(&program, "")?;
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
            fs::File::open(&program)?.set_modified(SystemTime::now() - age)?;
        }
        Ok(())
    }

    /// Whether make could do that, and what it said.
    fn make(&self, target: &str) -> Result<(bool, String), std::io::Error> {
        let mut destination = std::ffi::OsString::from("DESTDIR=");
        destination.push(self.path("root"));
        let done = Command::new("make")
            .current_dir(self.0.path())
            .args([target, "CARGO=true"])
            // Where whoever runs the tests builds is nothing to this copy.
            .env_remove("CARGO_TARGET_DIR")
            .arg(destination)
            .env_remove("MAKEFLAGS")
            .output()?;
        let said = [done.stdout, done.stderr].concat();
        Ok((done.status.success(), String::from_utf8_lossy(&said).into()))
    }
}

fn only_what_was_built_from_the_source_as_it_is_gets_installed() -> Tried {
    let tree = Tree::new()?;
    let installed = tree.path("root/usr/local/sbin/knockd");
    let (done, said) = tree.make("install")?;
    assert!(
        !done && said.contains("knockd is not there: run make build first"),
        "{said}"
    );
    tree.build(Duration::from_secs(60))?;
    let (done, said) = tree.make("install")?;
    assert!(!done && said.contains("run make build first"), "{said}");
    assert!(!exists(&installed));
    // Though there is nothing to do for Cargo.
    let (done, said) = tree.make("build")?;
    assert!(done, "{said}");
    let (done, said) = tree.make("install")?;
    assert!(done && exists(&installed), "{said}");
    for unit in ["knockd", "knockd-early"] {
        let unit = tree.path(&format!("root/usr/local/lib/systemd/system/{unit}.service"));
        let text = fs::read_to_string(&unit)?;
        assert!(
            text.contains("\nExecStart=/usr/local/sbin/knockd"),
            "{text}"
        );
        assert!(!text.contains("/usr/sbin/"), "{text}");
    }
    let page = tree.path("root/usr/local/share/man/man8/knockctl.8");
    let completion = tree.path("root/usr/local/share/zsh/site-functions/_knockctl");
    assert!(exists(&page) && exists(&completion), "{said}");
    let (done, said) = tree.make("uninstall")?;
    assert!(!exists(&page) && !exists(&completion), "{said}");
    let left = fs::read_dir(tree.path("root/usr/local/lib/systemd/system"))?;
    assert!(done && left.count() == 0, "{said}");
    Ok(())
}

fn openrcs_job_goes_where_there_is_a_place_for_it() -> Tried {
    let tree = Tree::new()?;
    tree.build(Duration::ZERO)?;
    let (done, said) = tree.make("install-openrc")?;
    assert!(done && said.contains("\n* * * * * "), "{said}");
    let place = tree.path("root/etc/periodic/1min");
    assert!(!exists(&place));
    fs::create_dir_all(&place)?;
    let (done, said) = tree.make("install-openrc")?;
    assert!(done && !said.contains("\n* * * * * "), "{said}");
    let mode = fs::metadata(place.join("knockd"))?.permissions().mode();
    assert_eq!(mode & 0o777, 0o755, "run-parts runs only programs");
    Ok(())
}

/// The policy would come before it.
fn a_classic_file_stays_what_runs() -> Tried {
    let tree = Tree::new()?;
    tree.build(Duration::ZERO)?;
    fs::create_dir_all(tree.path("root/etc"))?;
    fs::write(tree.path("root/etc/knockd.conf"), "[options]\n")?;
    let (done, said) = tree.make("install")?;
    // Make prints the commands, too.
    let says_so = |said: &str| said.contains("\n/etc/knockd.conf is there");
    assert!(done && says_so(&said), "{said}");
    assert!(!exists(&tree.path("root/etc/knockd/knockd.yaml")));
    assert!(exists(&tree.path("root/etc/knockd/knockd.trusted")));
    fs::remove_file(tree.path("root/etc/knockd.conf"))?;
    let (done, said) = tree.make("install")?;
    assert!(done && !says_so(&said), "{said}");
    assert!(exists(&tree.path("root/etc/knockd/knockd.yaml")));
    Ok(())
}
