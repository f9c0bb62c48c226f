//! The commands of the original script, `/etc/init.d/knockd accept %IP%`, and ours.

use crate::policy::ADDRESS_TOKEN;

/// What the script is told to do with whoever knocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Accept,
    Drop,
    Trust,
    Flush,
}

/// Reads `…/knockd VERB %IP%`, `service knockd VERB %IP%` and the like.
pub(super) fn parse(words: &[String]) -> Option<Verb> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let name = |path: &'_ str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let (program, verb) = match words.as_slice() {
        [script, verb, address] if *address == ADDRESS_TOKEN => (name(script), *verb),
        [starter, script, verb, address] if *address == ADDRESS_TOKEN => {
            let starters = ["service", "invoke-rc.d", "rc-service", "sh", "bash", "sudo"];
            if !starters.contains(&name(starter).as_str()) {
                return None;
            }
            (name(script), *verb)
        }
        _ => return None,
    };
    if !matches!(program.as_str(), "knockd" | "knockd.sh" | "knockctl") {
        return None;
    }
    match verb {
        "accept" => Some(Verb::Accept),
        "drop" => Some(Verb::Drop),
        "trust" => Some(Verb::Trust),
        "flush" => Some(Verb::Flush),
        _ => None,
    }
}
