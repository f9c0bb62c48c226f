//! How long what somebody else damages stays so, and how many of a stranger's SYNs get in
//! meanwhile: `cargo bench --bench repair [-- ROUNDS] [--write FILE]`, 50 of each kind unless given.
//! Exits with 1 where the worst of them took longer than is promised, or let somebody in for longer.
//! With the real `nft`, iptables (both) and `ipset`, as root, in network namespaces of its own; a few
//! minutes.
#![forbid(unsafe_code)]
#![cfg(target_os = "linux")]

mod damage;
#[path = "../shared/write.rs"]
mod write;

use std::error::Error;
use std::fs;
use std::os::fd::AsFd;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use damage::{DAMAGE, Damage, LOOKED_FOR, OTHERS, is_of_v6};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use portcullis::lab::{
    Client, Daemon, Entered, Host, Lab, Program, Programs, Service, Wire, enter,
};

const POLICY: &str = include_str!("../../policy/knockd.yaml");
const SERVER: [&str; 2] = ["192.0.2.1:22", "[2001:db8::1]:22"];
const STRANGER: [&str; 2] = ["192.0.2.20", "2001:db8::20"];
/// Between two SYNs of the stranger's.
const EVERY: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(10);
/// After so many repairs the daemon is started anew: the third within a minute is a fight.
const BEFORE_A_FIGHT: usize = 2;
/// What is looked for takes most of a second, which is waited for: so many kinds at once.
const AT_ONCE: usize = 3;

struct World {
    daemon: Daemon,
    server: Host,
    stranger: Client,
    to: &'static str,
    _service: Service,
    _wire: Wire,
    lab: Lab,
    repairs: usize,
}

impl World {
    fn new((holder, _, commands): Damage) -> Result<Self, Box<dyn Error>> {
        let lab = Lab::new()?;
        let wire = lab.wire("campus")?;
        let (server, stranger) = (lab.host("server")?, lab.host("stranger")?);
        wire.plug(&server, "eth0", &["192.0.2.1/24", "2001:db8::1/64"])?;
        let [v4, v6] = STRANGER;
        let own = [format!("{v4}/24"), format!("{v6}/64")];
        wire.plug(&stranger, "eth0", &[&own[0], &own[1]])?;
        let service = Service::start(&server, 22)?;
        let backend = format!("backend: {}", holder.backend());
        let policy = POLICY.replace("backend: nftables", &backend);
        let programs = Programs {
            knockd: Program::at(env!("CARGO_BIN_EXE_knockd")),
            knockctl: Some(Program::at(env!("CARGO_BIN_EXE_knockctl"))),
        };
        let mut daemon = Daemon::prepare(&lab, &server, &programs, &policy, "192.0.2.50\n")?;
        daemon.set_environment(&[("KNOCKD_IPTABLES", holder.variant())]);
        daemon.start()?;
        let banned: Vec<String> = (0..200).map(|n| format!("198.51.100.{n}")).collect();
        let banned: Vec<&str> = banned.iter().map(String::as_str).collect();
        daemon.ctl(&[&["drop"][..], &banned].concat())?;
        daemon.ctl(&["accept", "192.0.2.10", "--for", "2h"])?;
        for (name, text) in ["nft", "restore"].iter().zip(OTHERS) {
            fs::write(lab.dir().join(name), text)?;
        }
        let family = usize::from(is_of_v6(commands));
        Ok(Self {
            daemon,
            stranger: stranger.client(STRANGER[family])?,
            to: SERVER[family],
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

    fn round(&mut self, (_, within, commands): Damage) -> Result<Round, Box<dyn Error>> {
        if self.repairs > 0 && self.repairs.is_multiple_of(BEFORE_A_FIGHT) {
            self.daemon.terminate()?;
            self.daemon.start()?;
        }
        // Not always at the same moment between two glances, where there are any.
        let phase = match within {
            LOOKED_FOR => u64::try_from(self.repairs * 137 % 1_000)?,
            _ => 0,
        };
        thread::sleep(Duration::from_millis(50 + phase));
        let over = AtomicBool::new(false);
        let before = self.put_back();
        let (took, seen) = thread::scope(|scope| {
            let stranger = scope.spawn(|| self.try_to_enter(&over));
            let took = self.damage(commands, before);
            over.store(true, Ordering::Relaxed);
            (took, stranger.join())
        });
        self.repairs += 1;
        let (sent, entered) = seen.map_err(|_| "the stranger's thread panicked")?;
        Ok(Round {
            took: took?,
            open: match (entered.first(), entered.last()) {
                (Some(&first), Some(&last)) => last - first,
                _ => Duration::ZERO,
            },
            sent,
            entered: u32::try_from(entered.len())?,
        })
    }

    /// A stranger's SYNs: how many there were, and when those were sent that got in.
    fn try_to_enter(&self, over: &AtomicBool) -> (u32, Vec<Instant>) {
        let (mut sent, mut entered) = (0, Vec::new());
        while !over.load(Ordering::Relaxed) {
            let started = Instant::now();
            let found = self.stranger.connect(self.to, EVERY);
            sent += 1;
            if found.is_ok_and(|outcome| outcome.is_open()) {
                entered.push(started);
            }
            thread::sleep(EVERY.saturating_sub(started.elapsed()));
        }
        (sent, entered)
    }

    /// Until all of it is put back, from the end of the last command.
    fn damage(&self, commands: &[&str], before: usize) -> Result<Duration, Box<dyn Error>> {
        let mut done = Instant::now();
        for command in commands {
            let words: Vec<&str> = command.split(' ').collect();
            let mut command = self.server.command(format!("/usr/sbin/{}", words[0]))?;
            let others = if words[0] == "nft" { "nft" } else { "restore" };
            for word in &words[1..] {
                match *word {
                    "OTHERS" => command.arg(self.lab.dir().join(others)),
                    word => command.arg(word),
                };
            }
            done = run_to_its_end(&mut command)?;
        }
        while self.put_back() == before {
            if done.elapsed() > PATIENCE {
                return Err(format!("nothing is put back\n{}", self.daemon.log_tail(20)).into());
            }
            thread::sleep(Duration::from_micros(200));
        }
        Ok(done.elapsed())
    }
}

/// Runs it, with nothing to read; when it ended. It is not asked now and then whether it has, since
/// what is put back in between would seem to take no time.
fn run_to_its_end(command: &mut Command) -> Result<Instant, Box<dyn Error>> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let stdout = child.stdout.take().ok_or("it has no output")?;
    // That it hangs up is always told: the kernel closes its files when it ends.
    let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    if poll(&mut fds, PollTimeout::try_from(PATIENCE)?)? == 0 {
        child.kill()?;
        child.wait()?;
        return Err(format!("{command:?} does not end").into());
    }
    child.wait()?;
    Ok(Instant::now())
}

struct Round {
    /// Until it was put back, from the end of the last command.
    took: Duration,
    /// From the first SYN that got in to the last.
    open: Duration,
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
        "| backend | damage | put back after, median | worst | promised | verdict \
         | SYNs in, median | worst | of all | from the first of these to the last, median | worst |",
    );
    tell("|---|---|---:|---:|---:|---|---:|---:|---:|---:|---:|");
    let (looked_for, at_once): (Vec<_>, Vec<_>) = DAMAGE
        .iter()
        .partition(|(_, within, _)| *within == LOOKED_FOR);
    let mut all_met = true;
    for some in at_once.chunks(1).chain(looked_for.chunks(AT_ONCE)) {
        let measured = thread::scope(|scope| {
            let begun: Vec<_> = some
                .iter()
                .map(|&damage| {
                    scope.spawn(move || measure(damage, rounds).map_err(|e| e.to_string()))
                })
                .collect();
            let ended = begun.into_iter().map(thread::ScopedJoinHandle::join);
            ended.collect::<Vec<_>>()
        });
        for (damage, measured) in some.iter().zip(measured) {
            match measured {
                Ok(Ok((line, met))) => {
                    tell(&line);
                    all_met &= met;
                }
                Ok(Err(error)) => {
                    eprintln!("{damage:?}: {error}");
                    all_met = false;
                }
                // Its message is printed already.
                Err(_) => all_met = false,
            }
        }
    }
    if write::write_if_asked("repairs", &told) && all_met {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// A line of the table, and whether the worst of it was within what is promised.
fn measure(damage: Damage, rounds: usize) -> Result<(String, bool), Box<dyn Error>> {
    let (holder, within, commands) = damage;
    let mut world = World::new(damage)?;
    let all: Result<Vec<Round>, _> = (0..rounds).map(|_| world.round(damage)).collect();
    let all = all?;
    let (took, longest) = median(all.iter().map(|round| round.took));
    let (open, widest) = median(all.iter().map(|round| round.open));
    let (entered, most) = median(all.iter().map(|round| round.entered));
    let entries: u32 = all.iter().map(|round| round.entered).sum();
    let sent: u32 = all.iter().map(|round| round.sent).sum();
    let met = longest.max(widest) <= within;
    let ms = |span: Duration| format!("{:.1} ms", span.as_secs_f64() * 1_000.0);
    let line = format!(
        "| {} | `{}` | {} | {} | {} s | {} | {entered} | {most} | {entries} of {sent} | {} | {} |",
        holder.name(),
        commands.join("; ").replace("OTHERS", "another firewall's"),
        ms(took),
        ms(longest),
        within.as_secs(),
        if met { "met" } else { "MISSED" },
        ms(open),
        ms(widest),
    );
    Ok((line, met))
}
