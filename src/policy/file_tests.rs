//! The file as such: encodings, classic files, what cannot be read.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{LoadError, LogStyle, MOST_BYTES, Policy, load, parse};
use crate::model::parse_duration;

const SHIPPED: &str = include_str!("../../policy/knockd.yaml");

fn policy(text: &str) -> Policy {
    match parse(text, Path::new("/etc/knockd/knockd.yaml")) {
        Ok(checked) => checked.policy,
        Err(errors) => panic!("{errors}"),
    }
}

fn refused(text: &str) -> String {
    match parse(text, Path::new("p.yaml")) {
        Ok(_) => panic!("not refused: {text}"),
        Err(errors) => errors.to_string(),
    }
}

#[test]
fn anchors_and_aliases_are_plain_yaml() {
    let text = "gates: { ssh: { ports: [22], accept_timeout: &t 1m, ban_timeout: *t } }";
    assert_eq!(
        policy(text).gates[0].ban_timeout,
        parse_duration("1m").unwrap()
    );
}

#[test]
fn a_byte_order_mark_and_dos_line_endings_do_no_harm() {
    let dos = format!("\u{feff}{}", SHIPPED.replace('\n', "\r\n"));
    assert_eq!(policy(&dos), policy(SHIPPED));
}

#[test]
fn a_classic_file_is_told_apart_by_its_content() {
    let classic = "\n# c\n  [openSSH]\n\tsequence = 1,2\n\tcommand = x\n";
    assert_eq!(policy(classic).log.style, LogStyle::Classic);
    assert!(refused("[options]\nUseSyslog\n").contains("no door"));
    assert!(refused("[a, b]").contains("found a list"));
    assert_eq!(policy(SHIPPED).log.style, LogStyle::Plain);
}

#[test]
fn a_policy_that_cannot_be_read_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("knockd.yaml");
    let told = |path: &Path| load(path).unwrap_err();
    assert!(matches!(told(&path), LoadError::Missing(_)));
    assert!(matches!(told(dir.path()), LoadError::Directory(_)));
    std::fs::write(&path, "a: 1\né\u{e9}: ".as_bytes()).unwrap();
    assert!(matches!(told(&path), LoadError::Policy(_)));
    std::fs::write(&path, b"a: 1\n\xc3\xa9b: \xff\n").unwrap();
    assert!(
        told(&path)
            .to_string()
            .ends_with("knockd.yaml:2:5: found a byte that is not UTF-8, expected text")
    );
    std::fs::write(&path, "#".repeat(MOST_BYTES + 1)).unwrap();
    assert!(matches!(told(&path), LoadError::TooBig(_)));
    std::fs::write(&path, "gates:\n\tssh:\n").unwrap();
    assert!(told(&path).to_string().ends_with("knockd.yaml:2:1: found a tab, expected spaces for indentation (YAML does not take tabs there)"));
    std::fs::write(&path, SHIPPED).unwrap();
    let shut = std::fs::Permissions::from_mode(0o000);
    std::fs::set_permissions(&path, shut).unwrap();
    // Root's privileges over files are given up by this thread alone.
    let told_to_nobody = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65_534));
            load(&path).unwrap_err()
        });
        thread.join().unwrap()
    });
    assert!(matches!(told_to_nobody, LoadError::Permission(_)));
    let open = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&path, open).unwrap();
    assert_eq!(
        load(&path).unwrap().policy.trusted,
        Some(dir.path().join("knockd.trusted"))
    );
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    proptest! {
        /// Whatever the text, the answer is a policy or an explanation.
        #[test]
        fn no_text_makes_it_panic(text in "(gates|knocks|ssh|ports|sequence|action|[\\[\\]{}:,&*!|> \n\t\"'#-]|[0-9]{1,6}|\\PC){0,60}") {
            if let Err(errors) = super::parse(&text, std::path::Path::new("p")) {
                prop_assert!(!errors.problems.is_empty());
            }
        }
    }
}
