use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Parser};

use super::error::KnockError;
use super::profiles::{Profile, Profiles};
use crate::model::{KnockPort, PortError, PortRange, Proto};
use crate::totp::{self, Family, Secret, Shape};

/// The longest pause, in milliseconds: longer than any sequence can last.
pub(super) const MAX_DELAY: u64 = 3_600_000;

/// Knock on ports of a host, in the order given, and connect if asked to.
///
/// A TCP knock is the first packet of a connection, which is dropped at once; a UDP knock is a
/// datagram of one zero byte. Nothing answers a knock, so that it cannot be told whether a door
/// opened: connect and see, or have --open-and-check do so.
#[derive(Debug, Parser)]
#[command(
    name = "knock",
    version,
    override_usage = "knock [OPTIONS] HOST PORT[:tcp|:udp]...\n       \
                      knock [OPTIONS] PROFILE\n       \
                      knock [OPTIONS] --open-and-check PORT HOST|PROFILE [PORT[:tcp|:udp]...]\n       \
                      knock [OPTIONS] --proxy HOST|PROFILE [PORT [KNOCK[:tcp|:udp]...]]",
    after_help = "Every port is knocked on over all addresses of HOST, IPv4 and IPv6, before the \
next one:\nwhichever the connection that follows takes has been knocked over. -4 or -6 limits \
that.\n\nProfiles are in ~/.config/knock.yaml ($XDG_CONFIG_HOME/knock.yaml where that is set; on \
Windows\n%APPDATA%\\knock.yaml). What is named on the command line goes before what a profile \
says:\n  work:\n    host: ssh.example.org    # if it is not the profile's name\n    knocks: [1228, \
1227]     # also 9663:udp, or { totp: FILE, ports: \"20000-40000\", length: 4 }\n    delay: 200ms            # between knocks; udp: true makes ports \
without a protocol UDP\n    port: 22                # to connect to\n\nExamples:\n  knock \
ssh.example.org 1228 1227              two TCP knocks\n  knock -u ssh.example.org 7000 8000 \
9000:tcp  UDP, but for the last\n  knock -d 200 ssh.example.org 1228 1227       200 ms apart, where \
the way reorders packets\n  knock work                                   as its profile says\n  \
knock --open-and-check 22 work && rsync …    goes on when it is open\n  ssh -o \
ProxyCommand='knock --proxy %h %p 1228 1227' ssh.example.org\n\nExit status: 0 sent, open, or the \
connection is over; 1 HOST is unknown or cannot be reached,\nor does not open; 2 bad arguments or a \
bad profile.",
    group = ArgGroup::new("connects").args(["open_and_check", "proxy"])
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(super) struct Arguments {
    /// Ports without a protocol are UDP instead of TCP
    #[arg(short = 'u', long = "udp")]
    pub(super) udp: bool,
    /// Pause between knocks, in milliseconds [default: 0]
    #[arg(short, long, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(0..=MAX_DELAY))]
    pub(super) delay: Option<u64>,
    /// Knock (and connect) over IPv4 only
    #[arg(short = '4', long = "ipv4", conflicts_with = "ipv6")]
    pub(super) ipv4: bool,
    /// Knock (and connect) over IPv6 only
    #[arg(short = '6', long = "ipv6")]
    pub(super) ipv6: bool,
    /// Say what is sent
    #[arg(short, long)]
    pub(super) verbose: bool,
    /// Then connect to this port until it answers, knocking again if it does not
    #[arg(long, value_name = "PORT",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) open_and_check: Option<u16>,
    /// Then connect, and join the connection to standard input and output
    #[arg(long)]
    pub(super) proxy: bool,
    /// How often to knock at most before giving up
    #[arg(long, value_name = "N", default_value_t = 3, requires = "connects",
          value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(super) tries: u32,
    /// How long to wait for an answer each time, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 2, requires = "connects",
          value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(super) wait: u64,
    /// Knock on the ports that follow from the secret in this file and the time
    #[arg(long, value_name = "FILE", requires = "totp_ports")]
    pub(super) totp: Option<PathBuf>,
    /// Which ports these are among, as in the server's policy, such as 20000-40000
    #[arg(long, value_name = "A-B", requires = "totp")]
    pub(super) totp_ports: Option<PortRange>,
    /// How many they are, as in the server's policy
    #[arg(long, value_name = "N", requires = "totp", default_value_t = 4)]
    pub(super) totp_length: u8,
    /// A name, an address or a profile
    #[arg(value_name = "HOST")]
    pub(super) host: String,
    /// From 1 to 65535, with :tcp or :udp if need be
    #[arg(value_name = "PORT")]
    pub(super) ports: Vec<String>,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) host: String,
    pub(super) knocks: Knocks,
    pub(super) delay: Duration,
    pub(super) families: Families,
    pub(super) verbose: bool,
    pub(super) task: Task,
    pub(super) tries: u32,
    pub(super) wait: Duration,
}

/// What to knock on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Knocks {
    /// Always the same.
    Ports(Vec<KnockPort>),
    /// What follows from a secret and the time.
    Timed(Secret, Shape),
}

impl Knocks {
    /// The ports for whoever knocks over that family, at a moment since the Unix epoch.
    pub(super) fn ports(&self, family: Family, since_epoch: Duration) -> Vec<KnockPort> {
        match self {
            Knocks::Ports(ports) => ports.clone(),
            Knocks::Timed(secret, shape) => shape.sequence(secret, totp::step(since_epoch), family),
        }
    }
}

/// What comes after the knocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    Knock,
    /// See whether this port answers.
    Check(u16),
    /// Join a connection to this port to standard input and output.
    Proxy(u16),
}

/// Which addresses count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Families {
    Both,
    V4,
    V6,
}

impl Arguments {
    /// Puts together what the command line and a profile say.
    pub(super) fn plan(&self, profiles: &Profiles) -> Result<Plan, KnockError> {
        let none = Profile::default();
        let profile = profiles.get(&self.host);
        let said = profile.unwrap_or(&none);
        let (task, ports) = self.task(said)?;
        let udp = self.udp || said.udp;
        let knocks = ports
            .iter()
            .map(|text| read_port(text, udp))
            .collect::<Result<Vec<_>, _>>()?;
        let knocks = match self.timed()? {
            Some(_) if !knocks.is_empty() => return Err(KnockError::Both),
            Some(timed) => timed,
            None if knocks.is_empty() => said.knocks(udp, profiles.file.as_deref())?,
            None => Knocks::Ports(knocks),
        };
        if knocks == Knocks::Ports(Vec::new()) {
            let file = profiles.file.clone();
            return Err(KnockError::NoPorts(self.host.clone(), file));
        }
        Ok(Plan {
            host: said.host.clone().unwrap_or_else(|| self.host.clone()),
            knocks,
            delay: self.delay.map_or(said.delay, Duration::from_millis),
            families: match (self.ipv4, self.ipv6) {
                (true, _) => Families::V4,
                (_, true) => Families::V6,
                _ => Families::Both,
            },
            verbose: self.verbose,
            task,
            tries: self.tries,
            wait: Duration::from_secs(self.wait),
        })
    }

    /// What the command line says of a time-based sequence.
    fn timed(&self) -> Result<Option<Knocks>, KnockError> {
        let (Some(file), Some(ports)) = (&self.totp, self.totp_ports) else {
            return Ok(None);
        };
        let shape = Shape::new(ports, self.totp_length)?;
        Ok(Some(Knocks::Timed(Secret::read(file)?, shape)))
    }

    /// What to do, and which ports are left to knock on.
    fn task(&self, profile: &Profile) -> Result<(Task, &[String]), KnockError> {
        if let Some(port) = self.open_and_check {
            return Ok((Task::Check(port), &self.ports));
        }
        if !self.proxy {
            return Ok((Task::Knock, &self.ports));
        }
        match (self.ports.split_first(), profile.port) {
            (Some((first, knocks)), _) => {
                let port: KnockPort = first.parse()?;
                if port.proto == Proto::Udp || first.contains([':', '/']) {
                    return Err(PortError::Number(first.clone()).into());
                }
                Ok((Task::Proxy(port.port), knocks))
            }
            (None, Some(port)) => Ok((Task::Proxy(port), &[])),
            (None, None) => Err(KnockError::NoTarget(self.host.clone())),
        }
    }
}

/// A port; UDP if it does not say and `udp` does.
pub(super) fn read_port(text: &str, udp: bool) -> Result<KnockPort, PortError> {
    let mut port: KnockPort = text.parse()?;
    if udp && !text.contains([':', '/']) {
        port.proto = Proto::Udp;
    }
    Ok(port)
}
