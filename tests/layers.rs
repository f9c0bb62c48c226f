//! Who may know whom: `use crate::` lines and paths in `src/` against the module table of
//! CONTRIBUTING.md, which is this one in words.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A module and what it may name: a module (`model`), or only a part of one (`sys::clock`,
/// `firewall::{Change, …}` one by one).
const LAYERS: &[(&str, &[&str])] = &[
    // The core: no IO, no clock.
    ("model", &[]),
    ("totp", &["model"]),
    ("policy", &["model", "totp"]),
    ("handout", &["model", "policy::browsers_block"]),
    ("import", &["model", "policy"]),
    ("packet", &["model"]),
    (
        "matcher",
        &[
            "model",
            "packet",
            "policy",
            "totp",
            // No IO: nothing that it could see.
            "sys::cache::prefetch",
        ],
    ),
    (
        "engine",
        &[
            "model",
            "policy",
            // Plain data; not how a kernel is told.
            "firewall::Change",
            "firewall::Desired",
            "firewall::GateRules",
            "firewall::Member",
        ],
    ),
    // The boundary, a module each.
    ("files", &[]),
    ("operators", &["model"]),
    ("sheets", &["model"]),
    ("whitelist", &["model", "files"]),
    (
        "firewall",
        &[
            "model",
            "netlink",
            "policy::BackendChoice",
            "policy::Hook",
            "policy::Verdict",
            "sys::clock",
            "sys::ns::die_with_parent",
            "sys::xtables",
        ],
    ),
    ("netlink", &["sys"]),
    ("sessions", &["model", "netlink"]),
    ("links", &["model", "netlink"]),
    (
        "capture",
        &["model", "sys::clock", "sys::packet", "sys::ready"],
    ),
    ("resolver", &["model"]),
    (
        "store",
        &[
            "model",
            "engine::Everything",
            "engine::Kept",
            "engine::Memo",
            "engine::Owed",
            "engine::Record",
            "engine::TrustEdit",
            "engine::What",
            // What is to be run.
            "policy::CommandLine",
        ],
    ),
    (
        "control",
        &["model", "engine::Command", "engine::Flush", "engine::Who"],
    ),
    ("watchdog", &["model"]),
    (
        "replay",
        &[
            "model",
            "packet",
            "policy",
            "matcher",
            "engine",
            "totp",
            // Plain data.
            "firewall::Change",
            "sheets",
            "whitelist",
        ],
    ),
    ("sys", &[]),
    // The programs.
    (
        "knockd",
        &[
            "capture",
            "control",
            "demo::Options",
            "demo::run",
            "engine",
            "files",
            "firewall",
            "links",
            "matcher",
            "model",
            "operators",
            "packet",
            "policy",
            "resolver",
            "sessions",
            "sheets",
            "store",
            "sys::clock",
            "sys::descriptors",
            "sys::ready",
            "sys::sched",
            "totp",
            "watchdog",
            "whitelist",
        ],
    ),
    // `--direct` does without a daemon what the daemon would do.
    (
        "knockctl",
        &[
            "control",
            "handout",
            "import",
            "knockd::direct",
            "model",
            "operators",
            "policy",
            "replay",
            "sheets",
            "totp",
        ],
    ),
    ("knock", &["model", "totp"]),
    // Shows and tests: from outside, but for what the kernel holds.
    ("lab", &["model", "control", "sys::ns"]),
    ("demo", &["model", "control", "lab", "firewall"]),
    ("fixtures", &["model", "packet", "policy"]),
];

/// What tests of a module may use besides.
const IN_TESTS: &[&str] = &["fixtures", "model", "firewall::memory", "packet", "policy"];

/// Tests that bring two modules together on purpose: a file, and what it may use besides.
const TOGETHER: &[(&str, &str)] = &[
    // That both are asleep together is one measurement of one process.
    ("control/server_tests.rs", "resolver::Resolver"),
];

/// Code that leads to IO or to the time, and has no business in the core.
const IMPURE: &[&str] = &[
    "std::net::Tcp",
    "std::net::Udp",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "Instant::now",
    "SystemTime::now",
    "nix::",
    "libc::",
    "socket2::",
    "tokio::",
    "tracing::",
    "rusqlite::",
    "netlink_",
];

/// The core, and the files of it that read files: loading a policy is IO, checking it is not.
const CORE: &[&str] = &[
    "model", "policy", "handout", "import", "packet", "matcher", "engine",
];
const LOADS: &[&str] = &["policy/load.rs", "policy/host.rs"];

struct Source {
    /// Below `src/`.
    path: PathBuf,
    module: String,
    /// Without comments, and without what strings hold.
    code: String,
    is_test: bool,
}

fn source_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every file of every module; not `lib.rs` and the mains.
fn sources() -> Vec<Source> {
    let root = source_dir();
    let mut found = Vec::new();
    let mut dirs = vec![root.clone()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("src can be read") {
            let path = entry.expect("src can be read").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                found.extend(source(&root, &path));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 50, "only {} files in src", found.len());
    found
}

fn source(root: &Path, path: &Path) -> Option<Source> {
    let below = path.strip_prefix(root).expect("it is below src");
    let first = below.iter().next()?.to_str()?;
    if first == "bin" || first == "lib.rs" {
        return None;
    }
    let text = fs::read_to_string(path).expect("a source file can be read");
    let name = below.file_stem()?.to_str()?;
    let in_test_dir = below.iter().any(|part| part == "tests");
    Some(Source {
        path: below.to_owned(),
        module: first.trim_end_matches(".rs").to_owned(),
        code: code_only(&text),
        is_test: in_test_dir || name == "tests" || name.ends_with("_tests"),
    })
}

/// The text without comments and the contents of strings: neither names a module.
fn code_only(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        at += match rest {
            ['/', '/', ..] => rest.iter().take_while(|c| **c != '\n').count(),
            ['/', '*', ..] => block_comment(rest),
            ['r', '"', ..] | ['r', '#', '"' | '#', ..] => {
                code.push_str("\"\"");
                raw_string(rest)
            }
            ['"', ..] => {
                code.push_str("\"\"");
                string(rest)
            }
            // Character literals; what is left are lifetimes.
            ['\'', '\\', _, ..] => {
                let end = rest.iter().skip(3).position(|c| *c == '\'');
                end.map_or(rest.len(), |end| end + 4)
            }
            ['\'', _, '\'', ..] => 3,
            [c, ..] => {
                code.push(*c);
                1
            }
            [] => unreachable!("at is within"),
        };
    }
    code
}

fn block_comment(text: &[char]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        match text[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string(text: &[char]) -> usize {
    let mut at = 1;
    while at < text.len() && text[at] != '"' {
        at += if text[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(text.len())
}

fn raw_string(text: &[char]) -> usize {
    let hashes = text.iter().skip(1).take_while(|c| **c == '#').count();
    if text.get(1 + hashes) != Some(&'"') {
        // A raw identifier.
        return 1 + hashes;
    }
    let body = 2 + hashes;
    let closes = |at: &usize| {
        text[*at] == '"' && text[at + 1..].iter().take_while(|c| **c == '#').count() >= hashes
    };
    let end = (body..text.len()).find(closes);
    end.map_or(text.len(), |end| end + 1 + hashes)
}

/// Splits off what is only compiled for tests: from `#[cfg(test)]` to the end of that item.
fn without_tests(code: &str) -> (String, String) {
    let (mut product, mut tests) = (String::new(), String::new());
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        product.push_str(&rest[..at]);
        let item = &rest[at..];
        let end = item_end(item);
        tests.push_str(&item[..end]);
        rest = &item[end..];
    }
    product.push_str(rest);
    (product, tests)
}

/// Where an item ends: at its `;`, or at the brace that closes its first one.
fn item_end(item: &str) -> usize {
    let mut depth = 0;
    for (at, c) in item.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    item.len()
}

/// Every path that begins with `crate::`, braces written out: `a::b`, `a::c`. What is behind the
/// second name does not matter, except in a module's own paths.
fn crate_paths(code: &str) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        spell_out("", &code[at + "crate::".len()..], &mut paths);
    }
    paths
}

/// Writes the paths at the start of `text` out; returns how much of it they took.
fn spell_out(prefix: &str, text: &str, paths: &mut BTreeSet<String>) -> usize {
    let name: &str = {
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
        &text[..end.unwrap_or(text.len())]
    };
    let after = &text[name.len()..];
    let joined = match (prefix, name) {
        (prefix, "" | "self") => prefix.to_owned(),
        ("", name) => name.to_owned(),
        (prefix, name) => format!("{prefix}::{name}"),
    };
    if let Some(next) = after.strip_prefix("::") {
        return name.len() + 2 + spell_out(&joined, next, paths);
    }
    if !(name.is_empty() && after.starts_with('{')) {
        paths.insert(if after.starts_with('*') && name.is_empty() {
            format!("{prefix}::*")
        } else {
            joined
        });
        return name.len();
    }
    let mut at = 1;
    loop {
        at += after[at..].len() - after[at..].trim_start().len();
        match after[at..].chars().next() {
            Some('}') => return at + 1,
            Some(',') => at += 1,
            Some(_) => {
                let taken = spell_out(prefix, &after[at..], paths);
                // `as` and its name.
                let rest = &after[at + taken..];
                let end = rest.find([',', '}']).unwrap_or(rest.len());
                at += taken + end;
            }
            None => return at,
        }
    }
}

fn allowed(path: &str, may: &[&str]) -> bool {
    may.iter().any(|allowed| {
        path == *allowed
            || path
                .strip_prefix(allowed)
                .is_some_and(|rest| rest.starts_with("::"))
    })
}

fn layers() -> BTreeMap<&'static str, &'static [&'static str]> {
    LAYERS.iter().copied().collect()
}

#[test]
fn no_module_knows_more_than_it_may() {
    let layers = layers();
    let mut violations = Vec::new();
    let mut seen = 0;
    for source in sources() {
        let Some(may) = layers.get(source.module.as_str()) else {
            violations.push(format!("{}: not in the table", source.path.display()));
            continue;
        };
        let (product, tests) = without_tests(&source.code);
        let (product, tests) = if source.is_test {
            (String::new(), source.code.clone())
        } else {
            (product, tests)
        };
        let own = [source.module.as_str()];
        for path in crate_paths(&product) {
            seen += 1;
            if !allowed(&path, may) && !allowed(&path, &own) {
                violations.push(format!("{}: crate::{path}", source.path.display()));
            }
        }
        for path in crate_paths(&tests) {
            let together = TOGETHER
                .iter()
                .any(|(file, it)| source.path.ends_with(file) && allowed(&path, &[it]));
            let in_tests = together || allowed(&path, IN_TESTS) || allowed(&path, may);
            if !in_tests && !allowed(&path, &own) {
                let file = source.path.display();
                violations.push(format!("{file}, in its tests: crate::{path}"));
            }
        }
    }
    assert!(
        seen > 100,
        "only {seen} paths: they are not recognised any more"
    );
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn the_table_has_every_module_and_no_other() {
    let lib = fs::read_to_string(source_dir().join("lib.rs")).expect("lib.rs can be read");
    let declared: BTreeSet<&str> = lib
        .lines()
        .filter_map(|line| {
            let name = line.strip_prefix("pub mod ").or(line.strip_prefix("mod "));
            name?.strip_suffix(';')
        })
        .collect();
    let table: BTreeSet<&str> = LAYERS.iter().map(|(module, _)| *module).collect();
    assert_eq!(table.len(), LAYERS.len(), "a module is there twice");
    assert_eq!(declared, table);
}

/// Whoever may know whom: never in a circle, so that each can be read before the next.
#[test]
fn the_table_has_no_circles() {
    let layers = layers();
    let mut order: Vec<&str> = Vec::new();
    loop {
        let ready: Vec<&str> = LAYERS
            .iter()
            .map(|(module, _)| *module)
            .filter(|module| !order.contains(module))
            .filter(|module| {
                layers[module].iter().all(|path| {
                    let known = path.split("::").next().unwrap_or(path);
                    order.contains(&known)
                })
            })
            .collect();
        if ready.is_empty() {
            break;
        }
        order.extend(ready);
    }
    let left: Vec<&&str> = layers.keys().filter(|m| !order.contains(m)).collect();
    assert!(left.is_empty(), "in a circle: {left:?}");
}

#[test]
fn the_core_does_no_io_and_asks_no_clock() {
    let mut violations = Vec::new();
    for source in sources() {
        let loads = LOADS.iter().any(|path| source.path.ends_with(path));
        if source.is_test || loads || !CORE.contains(&source.module.as_str()) {
            continue;
        }
        let (product, _) = without_tests(&source.code);
        for impure in IMPURE.iter().chain(&["std::fs", "fs::read", "File::open"]) {
            if product.contains(impure) {
                violations.push(format!("{}: {impure}", source.path.display()));
            }
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn only_sys_has_unsafe_code() {
    let mut in_sys = 0;
    for source in sources() {
        let words = source
            .code
            .split(|c: char| !c.is_alphanumeric() && c != '_');
        let count = words.filter(|word| *word == "unsafe").count();
        if source.module == "sys" {
            in_sys += count;
        } else {
            assert_eq!(count, 0, "unsafe in {}", source.path.display());
        }
    }
    assert!(in_sys > 0, "the word is not recognised any more");
}

#[test]
fn every_module_but_sys_forbids_unsafe_code_at_its_root() {
    let root = source_dir();
    for (module, _) in LAYERS.iter().filter(|(module, _)| *module != "sys") {
        let file = [
            root.join(module).join("mod.rs"),
            root.join(format!("{module}.rs")),
        ];
        let text = file.iter().find_map(|path| fs::read_to_string(path).ok());
        let code = code_only(&text.expect("a module has a root"));
        assert!(
            code.contains("#![forbid(unsafe_code)]"),
            "src/{module} does not forbid unsafe code"
        );
    }
}

/// The mains are three lines over the library; what is more belongs there.
#[test]
fn the_mains_know_the_mains_only() {
    for name in ["knockd", "knockctl", "knock"] {
        let path = source_dir().join("bin").join(format!("{name}.rs"));
        let code = code_only(&fs::read_to_string(path).expect("a main can be read"));
        let calls: Vec<&str> = code.matches("portcullis::").collect();
        assert_eq!(calls.len(), 1, "{name} calls more than its main");
        assert!(code.contains(&format!("portcullis::{name}::main()")));
    }
}

/// The rule of CONTRIBUTING.md is "about 400"; beyond this it is no longer about.
#[test]
fn no_file_is_too_long() {
    let root = source_dir();
    for source in sources().iter().filter(|source| !source.is_test) {
        let text = fs::read_to_string(root.join(&source.path)).expect("it was read before");
        let lines = text.lines().count();
        assert!(lines <= 500, "{} has {lines} lines", source.path.display());
    }
}

#[test]
fn this_test_sees_what_it_must() {
    let code = code_only(
        "use crate::a::{b, c::{self, D}, e as f};\n// crate::comment\n\
         let s = \"crate::string\"; x(crate::g::h(1)); let c = '\"'; use crate::i;\n\
         let r = r#\"crate::\"raw\"#; use crate::j::*; fn f<'a>(x: &'a str) {} /* crate::k */",
    );
    let paths: Vec<String> = crate_paths(&code).into_iter().collect();
    let expected = ["a::b", "a::c", "a::c::D", "a::e", "g::h", "i", "j::*"];
    assert_eq!(paths, expected);
    let (product, tests) = without_tests("a #[cfg(test)] mod t { x { } } b #[cfg(test)] mod u; c");
    assert_eq!(product, "a  b  c");
    assert!(tests.contains("mod t { x { } }") && tests.contains("mod u;"));
    assert!(allowed("sys::clock::now", &["sys::clock"]));
    assert!(!allowed("sys::clocks", &["sys::clock"]));
    assert!(!allowed("firewall::Backend", &["firewall::Member"]));
}
