//! A machine that was booted: nothing in the kernel, and 100,000 bans in the state directory, all of
//! which are in the kernel when the daemon gives its first answer. That is the restoration that is to
//! take less than a second, each time: the slowest round counts. (A start over a kernel that still
//! holds them, and one with a whitelist, are rows of `cargo bench --bench gate -- start`.)

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

use comfy_table::{Table, presets};
use portcullis::engine::{Everything, Kept};
use portcullis::lab::{Daemon, Lab, Programs};
use portcullis::model::{Chain, Deadline, GateName, Time, host_net};
use portcullis::store::{Batch, Clocks, Store};

use super::site::POLICY;

const BANS: u32 = 100_000;
const ROUNDS: usize = 10;
/// How long half of them last.
const LASTS: Duration = Duration::from_secs(7 * 86_400);
/// From the start of the program to its first answer, every time.
const PROMISED: Duration = Duration::from_secs(1);

/// How long it took, and what it cost the processor.
type Round = (Duration, f64);

/// A row for each backend; whether the promise was kept.
pub(crate) fn table(
    programs: &Programs,
    backends: &[&str],
) -> Result<(Table, bool), Box<dyn Error>> {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "backend",
        "bans in the store",
        "reboots",
        "until all are back and it answers (median, max)",
        "promised",
        "processor, user and system (median)",
        "verdict",
    ]);
    let mut all_met = true;
    for backend in backends {
        let rounds = (0..ROUNDS).map(|_| round(programs, backend));
        let mut rounds = rounds.collect::<Result<Vec<Round>, _>>()?;
        rounds.sort_by_key(|round| round.0);
        let median = rounds[ROUNDS / 2].0;
        let longest = rounds[ROUNDS - 1].0;
        let met = longest < PROMISED;
        all_met &= met;
        rounds.sort_by(|a, b| a.1.total_cmp(&b.1));
        table.add_row([
            (*backend).to_owned(),
            BANS.to_string(),
            ROUNDS.to_string(),
            format!("{median:.0?}, {longest:.0?}"),
            format!("max < {PROMISED:?}"),
            format!("{:.2} s", rounds[ROUNDS / 2].1),
            if met { "met" } else { "MISSED" }.to_owned(),
        ]);
    }
    Ok((table, all_met))
}

fn round(programs: &Programs, backend: &str) -> Result<Round, Box<dyn Error>> {
    let lab = Lab::new()?;
    let server = lab.host("server")?;
    let policy = format!("firewall: {{ backend: {backend} }}\n{POLICY}");
    let mut daemon = Daemon::prepare(&lab, &server, programs, &policy, "192.0.2.50\n")?;
    fill(&daemon.state_dir())?;
    let started = Instant::now();
    daemon.start()?;
    let took = started.elapsed();
    let spent = processor_time(daemon.pid().ok_or("no process")?)?;
    let status = daemon.log();
    if !status.contains(&format!("{} members hold", BANS + 1)) {
        return Err(format!("they are not back:\n{}", daemon.log_tail(20)).into());
    }
    Ok((took, spent))
}

/// As another boot has left it. Every other ban is one by knock, and half of either kind ends: it gets
/// an end in this boot's time, and is written anew with that.
fn fill(state: &Path) -> Result<(), Box<dyn Error>> {
    let ssh = GateName::new("ssh")?;
    let boot = Time(1);
    let members = (0..BANS).map(|n| Kept {
        gate: ssh.clone(),
        chain: Chain::Banned,
        net: host_net((0x0a00_0000 + n).to_be_bytes().into()),
        deadline: if n % 4 < 2 {
            Deadline::Never
        } else {
            Deadline::At(boot.after(LASTS))
        },
        reason: "decoy".into(),
        by_knock: n.is_multiple_of(2).then_some(u64::from(n) + 1),
    });
    let batch = Batch {
        everything: Some(Everything {
            members: members.collect(),
            trust: vec![],
            owed: vec![],
        }),
        ..Batch::default()
    };
    let clocks = Clocks {
        boot_id: "another".into(),
        boot,
        wall_ms: i64::try_from(UNIX_EPOCH.elapsed()?.as_millis())?,
    };
    Store::open_as(state, "another")?.write(&batch, &clocks)?;
    Ok(())
}

/// Seconds of all its threads together so far (proc(5), `stat`: utime and stime, in hundredths on
/// every platform that we build for).
fn processor_time(pid: u32) -> Result<f64, Box<dyn Error>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit_once(") ").ok_or("no name")?.1;
    let fields: Vec<&str> = after_name.split(' ').collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<u32>().ok());
    let (user, system) = ticks(11).zip(ticks(12)).ok_or("no times")?;
    Ok(f64::from(user + system) / 100.0)
}
