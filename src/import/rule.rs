//! The usual rule of an iptables command: new connections from %IP% to a port are accepted.

use crate::model::{PortRange, Proto};
use crate::policy::ADDRESS_TOKEN;

/// A rule that lets whoever knocked in to some ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    /// Whether the rule goes in (`-I`, `-A`) or comes out (`-D`).
    pub(super) adds: bool,
    /// By the program's name.
    pub(super) is_ipv6: bool,
    /// Sorted, at least one.
    pub(super) ports: Vec<PortRange>,
}

impl Rule {
    /// Whether the one takes out what the other puts in.
    pub(super) fn undoes(&self, other: &Self) -> bool {
        !self.adds && other.adds && self.ports == other.ports && self.is_ipv6 == other.is_ipv6
    }

    /// Reads a command; `None` if it is anything else, or limits what it accepts in another way
    /// too, so that a gate would let in more.
    pub(super) fn parse(words: &[String]) -> Option<Self> {
        let (program, options) = words.split_first()?;
        let is_ipv6 = match program.rsplit('/').next()? {
            "iptables" => false,
            "ip6tables" => true,
            _ => return None,
        };
        let mut reading = Reading::default();
        let mut options = options.iter().map(String::as_str).peekable();
        while let Some(option) = options.next() {
            reading.take(option, &mut options)?;
        }
        let adds = reading.adds?;
        if !(reading.has_source && reading.accepts) || reading.ports.is_empty() {
            return None;
        }
        // The manual page of knockd leaves the protocol out; iptables would refuse that.
        let proto = reading.proto.unwrap_or(Proto::Tcp);
        if reading.syn && proto == Proto::Udp {
            return None;
        }
        let mut ports: Vec<PortRange> = reading
            .ports
            .iter()
            .map(|&(first, last)| PortRange { first, last, proto })
            .collect();
        ports.sort_unstable();
        ports.dedup();
        Some(Self {
            adds,
            is_ipv6,
            ports,
        })
    }
}

#[derive(Default)]
struct Reading {
    adds: Option<bool>,
    has_source: bool,
    accepts: bool,
    syn: bool,
    proto: Option<Proto>,
    ports: Vec<(u16, u16)>,
}

impl Reading {
    /// Takes an option with its values; `None` where the rule is not a usual one.
    fn take<'w>(
        &mut self,
        option: &str,
        rest: &mut std::iter::Peekable<impl Iterator<Item = &'w str>>,
    ) -> Option<()> {
        match option {
            "-I" | "--insert" | "-A" | "--append" | "-D" | "--delete" => {
                (rest.next()? == "INPUT").then_some(())?;
                let adds = !matches!(option, "-D" | "--delete");
                // A place in the chain; for `-D` it would be another rule's.
                if adds {
                    rest.next_if(|word| number(word).is_some());
                }
                set(&mut self.adds, adds)
            }
            "-s" | "--source" | "--src" => {
                let source = rest.next()?;
                let address = source.strip_suffix("/32").or(source.strip_suffix("/128"));
                self.has_source = address.unwrap_or(source) == ADDRESS_TOKEN;
                self.has_source.then_some(())
            }
            "-p" | "--protocol" | "--proto" => {
                let proto = match rest.next()? {
                    "tcp" | "TCP" | "6" => Proto::Tcp,
                    "udp" | "UDP" | "17" => Proto::Udp,
                    _ => return None,
                };
                set(&mut self.proto, proto)
            }
            "--dport" | "--destination-port" | "--dports" | "--destination-ports" => {
                if !self.ports.is_empty() {
                    return None;
                }
                for part in rest.next()?.split(',') {
                    self.ports.push(port_range(part)?);
                }
                Some(())
            }
            "-j" | "--jump" => {
                self.accepts = rest.next()? == "ACCEPT";
                self.accepts.then_some(())
            }
            "-m" | "--match" => {
                let known = ["tcp", "udp", "state", "conntrack", "multiport", "comment"];
                known.contains(&rest.next()?).then_some(())
            }
            // New connections are what a gate is about.
            "--state" | "--ctstate" => {
                let mut states = rest.next()?.split(',');
                states.any(|state| state == "NEW").then_some(())
            }
            "--syn" => {
                self.syn = true;
                Some(())
            }
            "--comment" => rest.next().map(drop),
            "-t" | "--table" => (rest.next()? == "filter").then_some(()),
            "-w" | "--wait" => {
                rest.next_if(|word| number(word).is_some());
                Some(())
            }
            _ => None,
        }
    }
}

/// What stands twice is not usual.
fn set<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

fn number(word: &str) -> Option<u16> {
    let digits = !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| word.parse().ok()).flatten()
}

/// `22`, `ssh`, `6000:6007`.
pub(super) fn port_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = match text.split_once(':') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(text)?, port(text)?),
    };
    (first <= last).then_some((first, last))
}

fn port(word: &str) -> Option<u16> {
    if let Some(number) = number(word) {
        return (number > 0).then_some(number);
    }
    let known = super::gates::SERVICES.iter();
    let mut known = known.filter(|(name, ..)| *name == word);
    known.next().map(|(_, port, _)| *port)
}
