//! The real program on a machine with iptables: what `auto` gives, what it takes over, and a
//! change of backend under way.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use portcullis::lab::{BEFORE_A_SECOND_SYN, Client, Daemon, Program, Programs};

use super::{ORIGINAL, ipset, iptables, restore, saved};
use crate::world::{A, B, C, Tried, World};

const POLICY: &str = "
trusted: knockd.trusted
gates:
  ssh: { ports: [22], accept_timeout: 300s }
knocks:
  open: { sequence: [1228, 1227], seq_timeout: 5s, action: accept }
";

fn daemon(
    world: &World,
    backend: &str,
    trusted: &str,
) -> Result<Daemon, Box<dyn std::error::Error>> {
    let programs = Programs {
        knockd: Program::at(env!("CARGO_BIN_EXE_knockd")),
        knockctl: Some(Program::at(env!("CARGO_BIN_EXE_knockctl"))),
    };
    let policy = format!("{POLICY}firewall: {{ backend: {backend} }}\n");
    let daemon = Daemon::prepare(&world.lab, &world.server, &programs, &policy, trusted)?;
    Ok(daemon)
}

/// From one attempt to the next: without a pause a service that gets no processor for a while has
/// its queue full, and then the kernel refuses, not the gate.
pub(super) const GAP: Duration = Duration::from_millis(4);

#[track_caller]
fn told(daemon: &Daemon, arguments: &[&str]) -> String {
    let reply = daemon.ctl(arguments).expect("knockctl runs");
    assert_eq!(reply.code, Some(0), "{reply:?}");
    reply.stdout
}

/// Tries to connect all the time, from A who may and from B who may not, while `work` is done.
fn while_connecting(world: &World, work: impl FnOnce()) -> (usize, usize, usize) {
    let stop = AtomicBool::new(false);
    let [may, may_not] = [A, B].map(|from| world.clients.client(from).expect("an address"));
    let attempts = |client: &Client, patience| {
        let (mut tried, mut open) = (0, 0);
        while !stop.load(Ordering::Relaxed) {
            let outcome = client.connect("192.0.2.1:22", patience);
            open += usize::from(outcome.expect("a SYN can be sent").is_open());
            tried += 1;
            std::thread::sleep(GAP);
        }
        (tried, open)
    };
    std::thread::scope(|scope| {
        let one = scope.spawn(|| attempts(&may, BEFORE_A_SECOND_SYN));
        let other = scope.spawn(|| attempts(&may_not, Duration::from_millis(50)));
        work();
        stop.store(true, Ordering::Relaxed);
        let ((tried, open), (strangers, strange)) = (
            one.join().expect("it counts"),
            other.join().expect("it counts"),
        );
        assert!(tried > 0 && strangers > 0);
        (tried - open, strange, tried + strangers)
    })
}

/// Nothing else is told than `auto`.
pub(super) fn auto_gives_iptables(world: &mut World) -> Tried {
    let before = saved(world);
    let mut daemon = daemon(world, "auto", "# nobody\n")?;
    daemon.start()?;
    let status = told(&daemon, &["status"]);
    assert!(
        status.contains("iptables (iptables is installed"),
        "{status}"
    );
    assert!(!world.gets_in(A));
    let client = world.clients.client(A)?;
    let opened =
        client.knock_until_open("192.0.2.1:22", &["1228", "1227"], Duration::from_secs(3))?;
    println!("iptables: open {:.0?} after the last knock", opened.after);
    assert!(ipset(world, &["list", "ssh_filter4"]).contains(A));
    daemon.kill_9();
    assert!(world.gets_in(A) && !world.gets_in(B), "the kernel goes on");
    daemon.start()?;
    let list = told(&daemon, &["list"]);
    assert!(list.contains(A) && list.contains("open"), "{list}");
    let status = told(&daemon, &["status"]);
    assert!(status.contains("chosen at an earlier start"), "{status}");
    let reply = daemon.run_knockd(&["teardown"])?;
    assert_eq!(reply.code, Some(0), "{reply:?}");
    assert_eq!(saved(world), before);
    Ok(())
}

pub(super) fn original_is_taken_over(world: &mut World) -> Tried {
    restore(world, "iptables", ORIGINAL);
    iptables(
        world,
        "iptables",
        &["-A", "ssh_trusted", "-s", A, "-j", "ACCEPT"],
    );
    iptables(
        world,
        "iptables",
        &["-D", "ssh_trusted", "-s", "192.0.2.8/30", "-j", "ACCEPT"],
    );
    let mut daemon = daemon(world, "auto", "# nobody\n")?;
    let (refused, strange, _) = while_connecting(world, || daemon.start().expect("it starts"));
    assert_eq!((refused, strange), (0, 0));
    let list = told(&daemon, &["list"]);
    for known in ["192.0.2.12", "192.0.2.20", A] {
        assert!(list.contains(known), "{known}: {list}");
    }
    assert_eq!(world.who(&[A, B, C]), [A]);
    Ok(())
}

/// With the policy as it is shipped, which asks for nftables.
pub(super) fn original_gives_way_to_nftables(world: &mut World) -> Tried {
    // Where INPUT drops the rest, nothing of another table lets anybody in.
    let original = ORIGINAL.replace("INPUT DROP", "INPUT ACCEPT");
    restore(world, "iptables", &original);
    let trusted = ["-s", A, "-j", "ACCEPT"];
    iptables(
        world,
        "iptables",
        &[&["-A", "ssh_trusted"][..], &trusted].concat(),
    );
    let other = ["-N", "web_policy"];
    iptables(world, "iptables", &other);
    let programs = Programs {
        knockd: Program::at(env!("CARGO_BIN_EXE_knockd")),
        knockctl: Some(Program::at(env!("CARGO_BIN_EXE_knockctl"))),
    };
    let policy =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/policy/knockd.yaml"))?;
    assert!(policy.contains("backend: nftables"));
    let mut daemon = Daemon::prepare(&world.lab, &world.server, &programs, &policy, "# nobody\n")?;
    let (refused, strange, _) = while_connecting(world, || daemon.start().expect("it starts"));
    assert_eq!(
        (refused, strange > 0),
        (0, true),
        "B is within 192.0.2.8/30"
    );
    let list = told(&daemon, &["list"]);
    for known in ["192.0.2.12", "192.0.2.20", "192.0.2.8/30", A] {
        assert!(list.contains(known), "{known}: {list}");
    }
    assert_eq!(world.who(&[A, C]), [A]);
    let rules = saved(world);
    assert!(!rules.contains("ssh_"), "{rules}");
    assert!(rules.contains("web_policy") && rules.contains("--dport 80"));
    let reply = daemon.run_knockd(&["teardown"])?;
    assert_eq!(reply.code, Some(0), "{reply:?}");
    assert_eq!(saved(world), rules, "what is not ours stays");
    assert_eq!(world.who(&[A, C]), [A, C]);
    Ok(())
}

/// The new backend before the old one goes.
pub(super) fn backend_is_changed(world: &mut World) -> Tried {
    let mut daemon = daemon(world, "nftables", &format!("{A}\n"))?;
    daemon.start()?;
    told(&daemon, &["accept", C]);
    for backend in ["iptables", "nftables", "iptables"] {
        let policy = format!("{POLICY}firewall: {{ backend: {backend} }}\n");
        daemon.write_policy(&policy)?;
        let (refused, strange, _) = while_connecting(world, || {
            told(&daemon, &["reload"]);
        });
        assert_eq!((refused, strange), (0, 0), "{backend}");
        let status = told(&daemon, &["status"]);
        assert!(
            status.contains(&format!("{backend} (the policy says so")),
            "{status}"
        );
        assert_eq!(world.who(&[A, B, C]), [A, C]);
        assert_eq!(saved(world).contains("ssh_policy"), backend == "iptables");
        let tables = super::run(world, "/usr/sbin/nft", &["list", "tables"]).1;
        assert_eq!(
            tables.contains("inet knockd"),
            backend == "nftables",
            "{tables}"
        );
    }
    Ok(())
}
