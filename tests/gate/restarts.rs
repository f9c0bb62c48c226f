//! Nobody gets in, and nobody is kept out, because the daemon is restarted; the figure of
//! `cargo bench --bench restarts` with fewer restarts.

#[path = "../../benches/restarts/site.rs"]
mod site;
#[path = "../../benches/restarts/stream.rs"]
mod stream;

use std::time::Duration;

use crate::scenarios;
use crate::world::{Tried, programs};
use site::{EACH, End, Site};

scenarios![
    no_stranger_gets_in_and_nobody_trusted_is_refused,
    a_gate_that_opens_meanwhile_is_noticed,
    a_whitelist_that_is_lost_meanwhile_is_noticed,
];

const ROUNDS: usize = 5;

fn no_stranger_gets_in_and_nobody_trusted_is_refused() -> Tried {
    let mut site = Site::new(&programs(), "nftables")?;
    site.begin()?;
    for _ in 0..ROUNDS {
        for end in End::BOTH {
            let took = site.restart(end)?;
            assert!(took < Duration::from_secs(10), "{}: {took:?}", end.name());
        }
    }
    let [strangers, trusted] = site.finish()?;
    assert_eq!(strangers.open, 0, "{strangers:?}");
    assert_eq!(trusted.open, trusted.attempts(), "{trusted:?}");
    let least = 2 * 2 * EACH * 2 * ROUNDS;
    assert!(strangers.attempts() >= least, "{strangers:?}");
    assert!(trusted.attempts() >= least, "{trusted:?}");
    Ok(())
}

fn a_gate_that_opens_meanwhile_is_noticed() -> Tried {
    let mut site = Site::new(&programs(), "nftables")?;
    site.begin()?;
    site.daemon.terminate()?;
    let reply = site.daemon.run_knockd(&["teardown"])?;
    assert_eq!(reply.code, Some(0), "{reply:?}");
    site.some_try()?;
    site.daemon.start()?;
    let [strangers, trusted] = site.finish()?;
    assert!(strangers.open > 0, "{strangers:?}");
    assert_eq!(trusted.open, trusted.attempts(), "{trusted:?}");
    Ok(())
}

fn a_whitelist_that_is_lost_meanwhile_is_noticed() -> Tried {
    let mut site = Site::new(&programs(), "nftables")?;
    site.begin()?;
    site.daemon.write_trusted("# nobody\n")?;
    site.restart(End::Killed)?;
    let [strangers, trusted] = site.finish()?;
    assert_eq!(strangers.open, 0, "{strangers:?}");
    assert!(trusted.silent > 0, "{trusted:?}");
    Ok(())
}
