use std::path::Path;

use portcullis::import::{ImportError, knockd_conf};
use portcullis::policy::{Notes, Policy, TcpFlags, emit, is_classic, parse};

use super::is_one_line;

/// Any text is a knockd.conf, something else, or a list of what is wrong with it. Whatever can be
/// read can be written down as a policy of our own that means the same, if such a policy may be
/// like that, and be imported.
pub fn classic(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let file = Path::new("knockd.conf");
    let imported = knockd_conf(text, file);
    if !is_classic(text) {
        assert!(matches!(imported, Err(ImportError::NotClassic(_))));
        return;
    }
    match parse(text, file) {
        Ok(checked) => {
            for warning in &checked.warnings {
                assert!(warning.line >= 1 && warning.column >= 1, "{warning:?}");
                assert!(is_one_line(&warning.to_string()), "{warning:?}");
            }
            written_down(checked.policy);
        }
        Err(errors) => {
            let report = errors.to_string();
            assert!(report.starts_with("knockd.conf"), "{report:?}");
            assert!(report.lines().all(is_one_line), "{report:?}");
            assert!(matches!(imported, Err(ImportError::File(_))));
        }
    }
    match imported {
        Ok(imported) => {
            let again = parse(&imported.yaml, Path::new("knockd.yaml"));
            let policy = again.expect("what is imported is a policy").policy;
            let yaml = emit(&policy, &Notes::default());
            let again = parse(&yaml, Path::new("knockd.yaml")).expect("and stays one");
            assert_eq!(again.policy, policy, "{yaml}");
            for remark in &imported.remarks {
                assert!(is_one_line(&remark.text), "{remark:?}");
            }
        }
        Err(error) => {
            let said = error.to_string();
            assert!(said.lines().all(is_one_line), "{said:?}");
        }
    }
}

/// As YAML and back.
fn written_down(policy: Policy) {
    let policy = in_words_of_yaml(policy);
    let yaml = emit(&policy, &Notes::default());
    match parse(&yaml, Path::new("knockd.yaml")) {
        Ok(checked) => assert_eq!(checked.policy, policy, "{yaml}"),
        Err(errors) => {
            let report = errors.to_string();
            assert!(report.lines().all(is_one_line), "{report:?}");
        }
    }
}

/// Without that for which YAML has no words.
fn in_words_of_yaml(mut policy: Policy) -> Policy {
    policy.pid_file = None;
    for knock in &mut policy.knocks {
        knock.changing = None;
        if let TcpFlags {
            set: 0 | TcpFlags::SYN,
            clear: 0,
        } = knock.flags
        {
            knock.flags = TcpFlags::OPENING;
        }
    }
    policy
}
