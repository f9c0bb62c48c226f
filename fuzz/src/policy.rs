use std::path::Path;

use portcullis::engine::Engine;
use portcullis::matcher::Matcher;
use portcullis::policy::{describe, parse};

use super::is_one_line;

/// More than a test machine should be asked for in every run; a policy may ask for 4 GiB.
const MEMORY: usize = 1 << 20;

/// Any text is a policy or a list of what is wrong with it, each with its place. A policy can be
/// described and be put in force.
pub fn policy(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let file = Path::new("fuzz.yaml");
    match parse(text, file) {
        Ok(checked) => {
            for warning in &checked.warnings {
                assert!(warning.line >= 1 && warning.column >= 1, "{warning:?}");
                assert!(is_one_line(&warning.to_string()), "{warning:?}");
            }
            let mut policy = checked.policy;
            let words = describe(&policy, &checked.warnings, None);
            assert!(words.starts_with("Gates\n"));
            assert!(words.lines().all(is_one_line), "{words:?}");
            assert!(policy.knocks.iter().all(|knock| !knock.sequence.is_empty()));
            policy.memory = policy.memory.min(MEMORY);
            let matcher = Matcher::new(&policy);
            assert_eq!(matcher.occupancy().0, 0);
            drop(Engine::new(policy));
        }
        Err(errors) => {
            let report = errors.to_string();
            assert!(report.starts_with("fuzz.yaml"), "{report:?}");
            assert!(report.lines().all(is_one_line), "{report:?}");
        }
    }
}
