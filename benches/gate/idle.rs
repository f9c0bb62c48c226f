//! What the daemon costs while nothing happens.

use std::fs;
use std::time::{Duration, Instant};

use portcullis::lab::Lab;

use crate::report::{Line, Measured};
use crate::world::{Server, TRUSTED, over_threads, resident_kib};

const WATCHED: Duration = Duration::from_secs(15);
/// What a start leaves to be done afterwards is over by then.
const SETTLED: Duration = Duration::from_secs(2);

pub(crate) fn measure() -> Measured {
    let lab = Lab::new()?;
    let clients = lab.host("clients")?;
    let server = Server::new(&lab, &clients, 18, 1)?;
    let mut daemon = server.daemon(&lab, TRUSTED)?;
    daemon.start()?;
    let pid = daemon.pid().ok_or("the daemon is not running")?;

    std::thread::sleep(SETTLED);
    let before = over_threads(pid, "voluntary_ctxt_switches")?;
    let started = Instant::now();
    std::thread::sleep(WATCHED);
    let wakes = over_threads(pid, "voluntary_ctxt_switches")? - before;
    let seconds = started.elapsed().as_secs_f64();
    #[allow(clippy::cast_precision_loss)]
    let rate = wakes as f64 / seconds;
    let resident = resident_kib(pid)?;
    if let Some(status) = daemon.ended()? {
        return Err(format!("the daemon ended meanwhile: {status}").into());
    }
    let mut lines = vec![
        Line::new(
            "wake-ups, all threads",
            format!("{rate:.2}/s ({wakes} in {seconds:.0} s)"),
            "≤ 2/s",
            rate <= 2.0,
        ),
        Line::new(
            "resident memory",
            format!("{:.1} MB", mega(resident * 1024)),
            "< 12 MB",
            mega(resident * 1024) < 12.0,
        ),
    ];
    for (name, path) in [
        ("knockd", env!("CARGO_BIN_EXE_knockd")),
        ("knockctl", env!("CARGO_BIN_EXE_knockctl")),
        ("knock", env!("CARGO_BIN_EXE_knock")),
    ] {
        let size = fs::metadata(path)?.len();
        lines.push(Line::new(
            format!("size of the {name} binary"),
            format!("{:.1} MB", mega(size)),
            "< 10 MB",
            mega(size) < 10.0,
        ));
    }
    Ok(lines)
}

/// In units of 10^6 bytes.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
