//! The client: knocks on ports, over every address that a host has.
//!
//! Knows nothing of the rest but how a port is written; it also builds where the daemon does not.
#![forbid(unsafe_code)]

mod send;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::model::{KnockPort, PortError, Proto};

/// The longest pause, in milliseconds: longer than any sequence can last.
const MAX_DELAY: u64 = 3_600_000;

/// Knock on ports of a host, in the order given.
///
/// A TCP knock is the first packet of a connection, which is dropped at once; a UDP knock is a
/// datagram of one zero byte. Nothing answers a knock, so `knock` cannot tell whether a door opened:
/// connect and see.
#[derive(Debug, Parser)]
#[command(
    name = "knock",
    version,
    override_usage = "knock [OPTIONS] HOST PORT[:tcp|:udp]...",
    after_help = "Every port is knocked on over all addresses of HOST, IPv4 and IPv6, before the \
next one:\nwhichever the connection that follows takes has been knocked over. -4 or -6 limits \
that.\n\nExamples:\n  knock ssh.example.org 1228 1227              two TCP knocks\n  knock -u \
ssh.example.org 7000 8000 9000:tcp  UDP, but for the last\n  knock -d 200 ssh.example.org 1228 \
1227       200 ms apart, where the way reorders packets\n\nExit status: 0 sent; 1 HOST is unknown \
or cannot be reached; 2 bad arguments."
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
struct Arguments {
    /// Ports without a protocol are UDP instead of TCP
    #[arg(short = 'u', long = "udp")]
    udp: bool,
    /// Pause between knocks, in milliseconds
    #[arg(short, long, value_name = "MS", default_value_t = 0,
          value_parser = clap::value_parser!(u64).range(0..=MAX_DELAY))]
    delay: u64,
    /// Knock over IPv4 only
    #[arg(short = '4', long = "ipv4", conflicts_with = "ipv6")]
    ipv4: bool,
    /// Knock over IPv6 only
    #[arg(short = '6', long = "ipv6")]
    ipv6: bool,
    /// Say what is sent
    #[arg(short, long)]
    verbose: bool,
    /// A name or an address
    #[arg(value_name = "HOST")]
    host: String,
    /// From 1 to 65535, with :tcp or :udp if need be
    #[arg(value_name = "PORT", required = true)]
    ports: Vec<String>,
}

/// Why not everything was sent.
#[derive(Debug, thiserror::Error)]
enum KnockError {
    #[error(transparent)]
    Port(#[from] PortError),
    #[error("cannot resolve `{host}`: {source}")]
    Resolve { host: String, source: io::Error },
    #[error("`{host}` has no {family} address")]
    Family { host: String, family: &'static str },
    #[error("cannot knock on {target}: {source}{}", hint(source))]
    Send {
        target: SocketAddr,
        source: io::Error,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            " (is there a way to that network from here?)"
        }
        io::ErrorKind::PermissionDenied => " (a firewall on this machine forbids it)",
        _ => "",
    }
}

impl KnockError {
    /// Whether this is how a machine without that family looks: no reason to alarm anybody as long
    /// as another address can be reached.
    fn is_expected(&self) -> bool {
        use io::ErrorKind::{AddrNotAvailable, HostUnreachable, NetworkUnreachable};
        matches!(self, KnockError::Send { source, .. }
            if matches!(source.kind(), AddrNotAvailable | HostUnreachable | NetworkUnreachable))
    }

    fn code(&self) -> u8 {
        match self {
            KnockError::Port(_) => 2,
            _ => 1,
        }
    }
}

/// The program `knock`.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to be told if that fails.
            let _ = writeln!(io::stderr(), "knock: {error}");
            ExitCode::from(error.code())
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), KnockError> {
    let ports = ports(arguments)?;
    let addresses = addresses(arguments)?;
    knock_all(
        &addresses,
        &ports,
        Duration::from_millis(arguments.delay),
        arguments.verbose,
    )
}

fn ports(arguments: &Arguments) -> Result<Vec<KnockPort>, PortError> {
    arguments
        .ports
        .iter()
        .map(|text| {
            let mut port: KnockPort = text.parse()?;
            if arguments.udp && !text.contains([':', '/']) {
                port.proto = Proto::Udp;
            }
            Ok(port)
        })
        .collect()
}

/// All addresses of the host in the families wanted, each once, in the system's order. Their ports
/// are 0; IPv6 scopes are kept.
fn addresses(arguments: &Arguments) -> Result<Vec<SocketAddr>, KnockError> {
    let host = arguments.host.as_str();
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    let found = (bare, 0)
        .to_socket_addrs()
        .map_err(|source| KnockError::Resolve {
            host: host.to_owned(),
            source,
        })?;
    let mut seen = HashSet::new();
    let wanted: Vec<SocketAddr> = found
        .filter(|address| match address.ip() {
            IpAddr::V4(_) => !arguments.ipv6,
            IpAddr::V6(_) => !arguments.ipv4,
        })
        .filter(|address| seen.insert(*address))
        .collect();
    if wanted.is_empty() {
        return Err(KnockError::Family {
            host: host.to_owned(),
            family: match (arguments.ipv4, arguments.ipv6) {
                (true, _) => "IPv4",
                (_, true) => "IPv6",
                _ => "usable",
            },
        });
    }
    Ok(wanted)
}

/// Port by port over every address, so that the order holds for each. An address that cannot be
/// reached (a machine without IPv6 has no way to the host's IPv6 address) is left out; it is an
/// error when none is left.
fn knock_all(
    addresses: &[SocketAddr],
    ports: &[KnockPort],
    delay: Duration,
    verbose: bool,
) -> Result<(), KnockError> {
    let mut addresses = addresses.to_vec();
    for (nth, port) in ports.iter().enumerate() {
        if nth > 0 && !delay.is_zero() {
            std::thread::sleep(delay);
        }
        let mut failure = None;
        addresses.retain(|address| {
            let mut target = *address;
            target.set_port(port.port);
            match send::knock(target, port.proto) {
                Ok(()) => {
                    say(verbose, format_args!("hitting {} {target}", port.proto));
                    true
                }
                Err(source) => {
                    let error = KnockError::Send { target, source };
                    if verbose || !error.is_expected() {
                        let _ = writeln!(io::stderr(), "knock: {error}; it is left out");
                    }
                    failure.get_or_insert(error);
                    false
                }
            }
        });
        if let (true, Some(failure)) = (addresses.is_empty(), failure) {
            return Err(failure);
        }
    }
    Ok(())
}

fn say(verbose: bool, line: std::fmt::Arguments<'_>) {
    if verbose {
        // A reader that went away must not keep the next knock from being sent.
        let _ = writeln!(io::stdout(), "{line}");
    }
}
