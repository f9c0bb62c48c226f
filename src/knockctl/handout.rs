//! `knockctl handout`: the page that tells people how to knock.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::output::{print, say};
use crate::handout::{self, Handout, Language, NoButton};
use crate::import::{self, ImportError};
use crate::model::{KnockName, Proto, is_host_name};
use crate::policy::{self, Changing, Gate, Knock, KnockAction, LoadError, Policy, TcpFlags};

/// Print a web page, in HTML, that tells people how to knock and can knock from their browser.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The host as people reach it, a name or an address
    #[arg(long, value_name = "HOST")]
    host: String,
    /// The page's language
    #[arg(long, value_enum, default_value_t = Lang::En)]
    lang: Lang,
    /// The policy [default: /etc/knockd/knockd.yaml, else /etc/knockd.conf]
    #[arg(short = 'c', long = "config", value_name = "POLICY")]
    policy: Option<PathBuf>,
    /// The knock to tell of, where several let the sender in
    #[arg(long, value_name = "NAME")]
    knock: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Lang {
    En,
    Fr,
    Es,
    It,
}

impl From<Lang> for Language {
    fn from(lang: Lang) -> Self {
        match lang {
            Lang::En => Language::En,
            Lang::Fr => Language::Fr,
            Lang::Es => Language::Es,
            Lang::It => Language::It,
        }
    }
}

/// Where ssh goes if it is not told.
const SSH: u16 = 22;

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error("`{0}` is no host: name it as people reach it, such as ssh.example.org")]
    Host(String),
    #[error("the policy has no knock `{name}` that lets the sender in; it has {known}")]
    NoSuchKnock { name: String, known: String },
    #[error("several knocks let the sender in: choose one with --knock: {0}")]
    Several(String),
    #[error("no knock of the policy lets the sender in (action: accept): there is nothing to tell")]
    NoKnock,
    #[error(
        "no door of {} opens a port with the usual rule of iptables: make a policy of it with \
         `knockctl import`, and name that with -c", .0.display()
    )]
    NoDoor(PathBuf),
    #[error(
        "the sequence of `{knock}` is another one each time, which no page can tell: give whoever \
         may knock a copy of {}", sheet.display()
    )]
    OneTime { knock: KnockName, sheet: PathBuf },
    #[error("the knock `{0}` opens no TCP port that a page could be about")]
    NoPort(KnockName),
    #[error("cannot write to standard output: {0}")]
    Write(io::Error),
}

/// Prints the page; returns the exit code.
pub(super) fn run(arguments: &Arguments) -> u8 {
    let failure = match try_run(arguments) {
        Ok(()) => return 0,
        Err(failure) => failure,
    };
    for line in failure.to_string().lines() {
        say(line);
    }
    match failure {
        Failure::Write(_) => 1,
        _ => 2,
    }
}

fn try_run(arguments: &Arguments) -> Result<(), Failure> {
    let host = arguments.host.trim_end_matches('.');
    if host.parse::<IpAddr>().is_err() && !is_host_name(host) {
        return Err(Failure::Host(arguments.host.clone()));
    }
    let path = arguments.policy.clone();
    let path = path.unwrap_or_else(policy::usual_path);
    let (policy, is_classic) = read(&path)?;
    let knock = choose(&policy, arguments.knock.as_deref()).map_err(|failure| match failure {
        Failure::NoKnock if is_classic => Failure::NoDoor(path),
        failure => failure,
    })?;
    let (gate, service) = service(&policy, knock)?;
    let handout = Handout {
        host: host.to_owned(),
        ports: knock.sequence.clone(),
        service,
        accept: knock.lifetime.unwrap_or(gate.accept_timeout),
        once: gate.once,
        seq_timeout: knock.seq_timeout,
        quiet: policy.scan_guard.within,
        language: arguments.lang.into(),
    };
    print(&handout::page(&handout)).map_err(Failure::Write)?;
    if is_classic {
        say(&format!(
            "the commands of {} are told of as what `knockctl import` makes of them; where the \
             host has IPv6 addresses, they have to open over these too",
            knock.name
        ));
    }
    remark(&handout, knock);
    Ok(())
}

/// The policy, or what `knockctl import` would make of a knockd.conf: what its doors' commands open
/// is known by that alone. Whether it is one.
fn read(path: &Path) -> Result<(Policy, bool), Failure> {
    let text = policy::read(path)?;
    let is_classic = policy::is_classic(&text);
    let text = if is_classic {
        import::knockd_conf(&text, path)?.yaml
    } else {
        text
    };
    let checked = policy::parse(&text, path).map_err(LoadError::from)?;
    Ok((checked.policy, is_classic))
}

fn choose<'p>(policy: &'p Policy, name: Option<&str>) -> Result<&'p Knock, Failure> {
    let accept = |knock: &&Knock| knock.action == KnockAction::Accept;
    let accepting = || policy.knocks.iter().filter(accept);
    let known = |knocks: &[&Knock]| {
        let names: Vec<&str> = knocks.iter().map(|knock| knock.name.as_str()).collect();
        names.join(", ")
    };
    let found: Vec<&Knock> = if let Some(name) = name {
        let named = |knock: &&Knock| knock.name.as_str() == name;
        accepting().filter(named).collect()
    } else {
        // What cannot be told of is no choice where there is another.
        let (changing, fixed): (Vec<_>, Vec<_>) = accepting().partition(|k| sheet(k).is_some());
        if fixed.is_empty() { changing } else { fixed }
    };
    match (found.as_slice(), name) {
        ([only], _) => match sheet(only) {
            None => Ok(only),
            Some(sheet) => Err(Failure::OneTime {
                knock: only.name.clone(),
                sheet: sheet.to_owned(),
            }),
        },
        ([], Some(name)) if accepting().next().is_some() => Err(Failure::NoSuchKnock {
            name: name.to_owned(),
            known: known(&accepting().collect::<Vec<_>>()),
        }),
        ([], _) => Err(Failure::NoKnock),
        (several, _) => Err(Failure::Several(known(several))),
    }
}

/// The file that has the knock's sequences, if it is not always the same.
fn sheet(knock: &Knock) -> Option<&Path> {
    match &knock.changing {
        None => None,
        Some(Changing::OneTime(sheet)) => Some(sheet),
        Some(Changing::TimeBased(time_based)) => Some(&time_based.file),
    }
}

/// The gate that the knock opens, and the port to connect to: 22 where it is among several.
fn service<'p>(policy: &'p Policy, knock: &Knock) -> Result<(&'p Gate, u16), Failure> {
    let gates = knock.gates.iter().filter_map(|name| policy.gate(name));
    let tcp = gates.flat_map(|gate| {
        let ranges = gate.ports.iter().filter(|range| range.proto == Proto::Tcp);
        ranges.map(move |range| match range.first..=range.last {
            range if range.contains(&SSH) => (gate, SSH),
            range => (gate, *range.start()),
        })
    });
    let found = tcp.min_by_key(|(_, port)| *port != SSH);
    found.ok_or_else(|| Failure::NoPort(knock.name.clone()))
}

/// What an administrator should know before the page is published.
fn remark(handout: &Handout, knock: &Knock) {
    match handout.no_button() {
        Some(NoButton::Udp) => {
            say("the page has no button: browsers send no UDP packets, and the sequence has some");
        }
        Some(NoButton::Blocked(ports)) => {
            let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
            say(&format!(
                "the page has no button: browsers refuse to contact {}",
                ports.join(", ")
            ));
        }
        None => {
            if knock.sequence.windows(2).any(|pair| pair[0] == pair[1]) {
                say(
                    "the sequence has a port twice in a row: a browser that opens two connections \
                     at once may complete it early, or spoil it",
                );
            }
        }
    }
    if !knock.flags.fit(TcpFlags::SYN) {
        say(
            "the knock asks for other flags than SYN: neither the button nor most of the commands \
             send these",
        );
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const POLICY: &str = "
interface: any
gates:
  web: { ports: [443], accept_timeout: 60s }
  ssh: { ports: [60000/udp, 20-30] }
  many: { ports: [8000-8010, 2222] }
  dns: { ports: [53/udp] }
knocks:
  both: { sequence: [1228, 1227], action: accept, gate: [web, ssh] }
  range: { sequence: [1328, 1327], action: accept, gate: many }
  names: { sequence: [1428, 1427], action: accept, gate: dns }
  decoy: { sequence: [1220, 1221], action: drop }
";

    fn policy(text: &str) -> Policy {
        policy::parse(text, Path::new("p.yaml")).unwrap().policy
    }

    #[test]
    fn a_decoy_is_never_told_of() {
        let policy = policy(POLICY);
        for name in ["decoy", "nobody"] {
            let refused = choose(&policy, Some(name)).unwrap_err().to_string();
            let said =
                format!("no knock `{name}` that lets the sender in; it has both, range, names");
            assert!(refused.contains(&said), "{refused}");
        }
        let several = choose(&policy, None).unwrap_err().to_string();
        assert!(
            several.ends_with("--knock: both, range, names"),
            "{several}"
        );
        assert_eq!(
            choose(&policy, Some("range")).unwrap().name.as_str(),
            "range"
        );
    }

    #[test]
    fn a_sequence_that_changes_is_refused_with_its_sheet() {
        let changing =
            "  travel: { sequence: { one_time: /etc/travel.sheet }, action: accept, gate: web }
  again: { sequence: { totp: /etc/again.secret, ports: \"10000-30000\" }, action: accept, gate: web }\n";
        let beside = policy(&format!("{POLICY}{changing}"));
        let refused = choose(&beside, Some("travel")).unwrap_err().to_string();
        assert!(
            refused.contains("`travel` is another one each time")
                && refused.ends_with("a copy of /etc/travel.sheet"),
            "{refused}"
        );
        let several = choose(&beside, None).unwrap_err().to_string();
        assert!(several.ends_with(": both, range, names"), "{several}");
        let (head, _) = POLICY.split_once("  both:").unwrap();
        let (first, _) = changing.split_once("  again").unwrap();
        let only = policy(&format!("{head}{first}"));
        let refused = choose(&only, None).unwrap_err();
        assert!(matches!(refused, Failure::OneTime { .. }), "{refused}");
        let one = "  one: { sequence: [1228, 1227], action: accept, gate: web }\n";
        let one = policy(&format!("{head}{one}{changing}"));
        assert_eq!(choose(&one, None).unwrap().name.as_str(), "one");
    }

    #[test]
    fn ssh_is_what_the_page_is_about_where_the_knock_opens_it() {
        let policy = policy(POLICY);
        let service = |name| service(&policy, choose(&policy, Some(name)).unwrap());
        let (gate, port) = service("both").unwrap();
        assert_eq!(
            (gate.name.as_str(), port),
            ("ssh", 22),
            "in a range of the second gate"
        );
        assert_eq!(service("range").unwrap().1, 8000, "the first there is");
        let refused = service("names").unwrap_err().to_string();
        assert!(refused.contains("opens no TCP port"), "{refused}");
    }
}
