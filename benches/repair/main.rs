//! How long what somebody else damages stays so, and how many of a stranger's SYNs get in
//! meanwhile: `cargo bench --bench repair [-- ROUNDS] [--write FILE]`. With the real `nft`, iptables (both) and
//! `ipset`, as root, in network namespaces of its own.
#![forbid(unsafe_code)]
#![cfg(target_os = "linux")]

#[path = "../shared/write.rs"]
mod write;

use std::error::Error;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use portcullis::lab::{
    Client, Daemon, Entered, Host, Lab, Program, Programs, Service, Wire, enter, run_bounded,
};

const POLICY: &str = include_str!("../../policy/knockd.yaml");
const SERVER: &str = "192.0.2.1:22";
const STRANGER: &str = "192.0.2.20";
/// Between two SYNs of the stranger's.
const EVERY: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(10);
/// After so many repairs the daemon is started anew: the third within a minute is a fight.
const BEFORE_A_FIGHT: usize = 2;

/// Policy's backend, variant of iptables, what is done.
type Damage = (&'static str, &'static str, &'static [&'static str]);

const DAMAGE: &[Damage] = &[
    ("nftables", "nft", &["nft flush ruleset"]),
    ("nftables", "nft", &["nft delete table inet knockd"]),
    ("nftables", "nft", &["nft flush chain inet knockd input"]),
    (
        "nftables",
        "nft",
        &["nft flush chain inet knockd ssh_banned"],
    ),
    (
        "nftables",
        "nft",
        &["nft insert rule inet knockd input accept"],
    ),
    (
        "nftables",
        "nft",
        &["nft flush set inet knockd ssh_trusted4"],
    ),
    (
        "nftables",
        "nft",
        &["nft flush set inet knockd ssh_banned4"],
    ),
    ("iptables", "nft", &["iptables-nft -F"]),
    ("iptables", "nft", &["iptables-nft -F", "iptables-nft -X"]),
    (
        "iptables",
        "nft",
        &["iptables-nft -D INPUT 1", "iptables-nft -D INPUT 1"],
    ),
    ("iptables", "nft", &["iptables-nft -I INPUT -j ACCEPT"]),
    ("iptables", "nft", &["ipset flush"]),
    (
        "iptables",
        "nft",
        &[
            "iptables-nft -F",
            "iptables-nft -X",
            "ip6tables-nft -F",
            "ip6tables-nft -X",
            "ipset destroy",
        ],
    ),
    ("iptables", "legacy", &["iptables-legacy -F"]),
    (
        "iptables",
        "legacy",
        &["iptables-legacy -D INPUT 1", "iptables-legacy -D INPUT 1"],
    ),
    (
        "iptables",
        "legacy",
        &["iptables-legacy -I INPUT -j ACCEPT"],
    ),
    ("iptables", "legacy", &["ipset flush"]),
];

struct World {
    daemon: Daemon,
    server: Host,
    stranger: Client,
    _service: Service,
    _wire: Wire,
    lab: Lab,
    repairs: usize,
}

impl World {
    fn new((backend, variant, _): Damage) -> Result<Self, Box<dyn Error>> {
        let lab = Lab::new()?;
        let wire = lab.wire("campus")?;
        let (server, stranger) = (lab.host("server")?, lab.host("stranger")?);
        wire.plug(&server, "eth0", &["192.0.2.1/24"])?;
        wire.plug(&stranger, "eth0", &[&format!("{STRANGER}/24")])?;
        let service = Service::start(&server, 22)?;
        let policy = POLICY.replace("backend: nftables", &format!("backend: {backend}"));
        let programs = Programs {
            knockd: Program::at(env!("CARGO_BIN_EXE_knockd")),
            knockctl: Some(Program::at(env!("CARGO_BIN_EXE_knockctl"))),
        };
        let mut daemon = Daemon::prepare(&lab, &server, &programs, &policy, "192.0.2.50\n")?;
        daemon.set_environment(&[("KNOCKD_IPTABLES", variant)]);
        daemon.start()?;
        let banned: Vec<String> = (0..200).map(|n| format!("198.51.100.{n}")).collect();
        let banned: Vec<&str> = banned.iter().map(String::as_str).collect();
        daemon.ctl(&[&["drop"][..], &banned].concat())?;
        daemon.ctl(&["accept", "192.0.2.10", "--for", "2h"])?;
        Ok(Self {
            daemon,
            stranger: stranger.client(STRANGER)?,
            server,
            _service: service,
            _wire: wire,
            lab,
            repairs: 0,
        })
    }

    fn put_back(&self) -> usize {
        self.daemon.log().matches("put back, in").count()
    }

    fn round(&mut self, commands: &[&str]) -> Result<Round, Box<dyn Error>> {
        if self.repairs > 0 && self.repairs.is_multiple_of(BEFORE_A_FIGHT) {
            self.daemon.terminate()?;
            self.daemon.start()?;
        }
        // Not always at the same moment between two glances.
        let phase = u64::try_from(self.repairs * 137 % 1_000)?;
        std::thread::sleep(Duration::from_millis(50 + phase));
        let over = AtomicBool::new(false);
        let (sent, entered) = (AtomicU32::new(0), AtomicU32::new(0));
        let before = self.put_back();
        let took = std::thread::scope(|scope| -> Result<Duration, Box<dyn Error>> {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let started = Instant::now();
                    let found = self.stranger.connect(SERVER, EVERY);
                    sent.fetch_add(1, Ordering::Relaxed);
                    if found.is_ok_and(|outcome| outcome.is_open()) {
                        entered.fetch_add(1, Ordering::Relaxed);
                    }
                    std::thread::sleep(EVERY.saturating_sub(started.elapsed()));
                }
            });
            let took = self.damage(commands, before);
            over.store(true, Ordering::Relaxed);
            took
        })?;
        self.repairs += 1;
        Ok(Round {
            took,
            sent: sent.into_inner(),
            entered: entered.into_inner(),
        })
    }

    /// Until all of it is put back, from the end of the last command.
    fn damage(&self, commands: &[&str], before: usize) -> Result<Duration, Box<dyn Error>> {
        for command in commands {
            let words: Vec<&str> = command.split(' ').collect();
            let mut command = self.server.command(format!("/usr/sbin/{}", words[0]))?;
            run_bounded(command.args(&words[1..]), self.lab.dir(), PATIENCE)?;
        }
        let done = Instant::now();
        while self.put_back() == before {
            if done.elapsed() > PATIENCE {
                return Err(format!("nothing is put back\n{}", self.daemon.log_tail(20)).into());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(done.elapsed())
    }
}

struct Round {
    took: Duration,
    sent: u32,
    entered: u32,
}

fn median<T: Copy + Ord>(values: impl Iterator<Item = T>) -> (T, T) {
    let mut all: Vec<T> = values.collect();
    all.sort_unstable();
    (all[all.len() / 2], all[all.len() - 1])
}

fn main() -> ExitCode {
    match enter() {
        Ok(Entered::Inside) => {}
        Ok(Entered::Done(code)) => return code.into(),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    let given = std::env::args().skip(1).find_map(|word| word.parse().ok());
    let rounds: usize = given.filter(|&rounds| rounds > 0).unwrap_or(50);
    let mut told = String::new();
    let mut tell = |line: &str| {
        println!("{line}");
        told.push_str(line);
        told.push('\n');
    };
    tell(&format!(
        "{rounds} rounds each; a stranger sends a SYN every millisecond.\n"
    ));
    tell(
        "| backend | damage | put back after, median | worst | SYNs in, median | worst | of all |",
    );
    tell("|---|---|---:|---:|---:|---:|---:|");
    for &damage in DAMAGE {
        match measure(damage, rounds) {
            Ok(line) => tell(&line),
            Err(error) => {
                eprintln!("{damage:?}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    if write::write_if_asked("repairs", &told) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn measure(damage: Damage, rounds: usize) -> Result<String, Box<dyn Error>> {
    let (backend, variant, commands) = damage;
    let mut world = World::new(damage)?;
    let all: Result<Vec<Round>, _> = (0..rounds).map(|_| world.round(commands)).collect();
    let all = all?;
    let (took, longest) = median(all.iter().map(|round| round.took));
    let (entered, most) = median(all.iter().map(|round| round.entered));
    let entries: u32 = all.iter().map(|round| round.entered).sum();
    let sent: u32 = all.iter().map(|round| round.sent).sum();
    let name = match backend {
        "iptables" => format!("{backend}-{variant}"),
        _ => backend.to_owned(),
    };
    let ms = |span: Duration| format!("{:.1} ms", span.as_secs_f64() * 1_000.0);
    Ok(format!(
        "| {name} | `{}` | {} | {} | {entered} | {most} | {entries} of {sent} |",
        commands.join("; "),
        ms(took),
        ms(longest)
    ))
}
