//! The client is to build on macOS and Windows. Where their standard library is at hand
//! `cargo check --target x86_64-pc-windows-gnu --bin knock` proves it; here is what can be seen from
//! the sources: nothing that is only on Linux is named in the client and in what it uses.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The client's modules, as `tests/layers.rs` has them.
const MODULES: [&str; 3] = ["knock", "model", "totp"];

/// What is not on every system, unless it is said for which: `#[cfg(unix)]`.
const NOT_EVERYWHERE: [&str; 5] = [
    "std::os::unix",
    "std::os::linux",
    "std::os::fd",
    "target_os = \"linux\")]",
    "/proc/",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut dirs: Vec<PathBuf> = MODULES.map(|it| root().join("src").join(it)).into();
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("src can be read") {
            let path = entry.expect("src can be read").path();
            if path.is_dir() {
                dirs.push(path);
            } else if !path.to_string_lossy().ends_with("tests.rs") {
                let text = fs::read_to_string(&path).expect("a source file can be read");
                found.push((path, text));
            }
        }
    }
    assert!(found.len() > 10, "only {} files", found.len());
    found
}

/// The crates of a section of Cargo.toml, as they are named in the source.
fn dependencies(section: &str) -> BTreeSet<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("it is there");
    let lines = manifest.lines().skip_while(|line| *line != section).skip(1);
    let names = lines
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| Some(line.split_once(" = ")?.0.replace('-', "_")));
    names.collect()
}

fn only_on_linux() -> BTreeSet<String> {
    let mut everywhere = dependencies("[dependencies]");
    // In code for Unix only, see below.
    everywhere.extend(dependencies("[target.'cfg(unix)'.dependencies]"));
    let linux = dependencies("[target.'cfg(target_os = \"linux\")'.dependencies]");
    assert!(linux.contains("rusqlite") && everywhere.contains("socket2"));
    linux.difference(&everywhere).cloned().collect()
}

#[test]
fn the_client_names_nothing_that_is_only_on_linux() {
    let mut found = Vec::new();
    for (path, text) in sources() {
        for name in only_on_linux() {
            let named = format!("{name}::");
            let is_named = |line: &&str| {
                line.match_indices(&named).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
                })
            };
            found.extend(
                text.lines()
                    .find(is_named)
                    .map(|_| (path.clone(), named.clone())),
            );
        }
        for word in NOT_EVERYWHERE {
            if text.contains(word) {
                found.push((path.clone(), word.to_owned()));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn what_is_for_unix_is_said_to_be() {
    let unix = dependencies("[target.'cfg(unix)'.dependencies]");
    for (path, text) in sources() {
        for name in &unix {
            let at = text.find(&format!("{name}::"));
            // In an item behind `#[cfg(unix)]`, of which there is another for the rest.
            let said = at.is_none_or(|at| {
                let item = text[..at].rfind("\n}\n").unwrap_or(0);
                text[item..at].contains("#[cfg(unix)]") && text.contains("#[cfg(not(unix))]")
            });
            assert!(said, "{}: {name}", path.display());
        }
    }
}

#[test]
fn the_library_has_the_clients_modules_on_every_system() {
    let library = fs::read_to_string(root().join("src/lib.rs")).expect("it is there");
    for module in MODULES {
        let line = format!("pub mod {module};\n");
        let at = library.find(&line).expect("the module is public");
        assert!(
            !library[..at].ends_with("\")]\n"),
            "{module} is conditional"
        );
    }
}
