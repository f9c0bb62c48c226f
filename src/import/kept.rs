//! Commands that stay as they are, and what a gate leaves of them.

use crate::policy::{Gate, Knock, KnockAction};

use super::Remark;
use super::rule::port_range;

/// What is said where a command that is kept opens a port that a gate shuts from now on.
pub(super) fn remarks<'a>(knocks: &'a [Knock], gates: &'a [Gate]) -> impl Iterator<Item = Remark> {
    knocks.iter().filter_map(|knock| {
        let KnockAction::Run(run) = &knock.action else {
            return None;
        };
        let mut shut: Vec<String> = Vec::new();
        for command in run.start.each() {
            let line = command.to_string();
            let ranges = gates.iter().flat_map(|gate| &gate.ports);
            let ranges = ranges.filter(|range| opens(&line, range.first, range.last));
            shut.extend(ranges.map(ToString::to_string));
        }
        shut.sort_unstable();
        shut.dedup();
        let text = format!(
            "its command is kept as it is, and cannot let anybody in to {}, which knockd itself \
             keeps shut now: make it `action: accept`, or take the port out of the gates",
            shut.join(", ")
        );
        (!shut.is_empty()).then(|| Remark {
            knock: Some(knock.name.clone()),
            text,
        })
    })
}

/// What changes a firewall; the last is of the classic knockd's package.
const TOOLS: [&str; 5] = ["iptables", "ip6tables", "nft", "ufw", "knock_add"];

/// Words of lines that let nobody in.
const SHUTS: [&str; 8] = [
    "-D", "--delete", "delete", "DROP", "REJECT", "drop", "reject", "deny",
];

/// Whether a line looks as if it let somebody in to one of the ports. Only for a remark: a script
/// may do so and not say it.
fn opens(line: &str, first: u16, last: u16) -> bool {
    let blank = |c: char| c.is_whitespace() || "'\"=,;{}".contains(c);
    let words: Vec<&str> = line.split(blank).filter(|word| !word.is_empty()).collect();
    let has = |known: &[&str]| words.iter().any(|word| known.contains(word));
    let names = words.iter().map(|word| word.rsplit('/').next());
    let told = names.flatten().any(|name| TOOLS.contains(&name));
    let elsewhere = has(&["nat", "mangle", "raw"]) || (has(&["FORWARD"]) && !has(&["INPUT"]));
    if !told || elsewhere || has(&SHUTS) {
        return false;
    }
    let mut ranges = words.iter().filter_map(|word| port_range(word));
    let every_port = has(&["ACCEPT"]) && !line.contains("port");
    every_port || ranges.any(|(from, to)| from <= last && first <= to)
}
