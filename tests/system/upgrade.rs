//! Chains of an older version, with members: the daemon makes its own of them in one transaction,
//! while people go in and out.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::damage::Backend::{self, IptablesLegacy, IptablesNft, Nftables};
use crate::damage::{fill, members, same};
use crate::stream::Stream;
use crate::world::{Family, Person, Tried, World};

/// As many attempts before the daemon is started, and after it is ready.
const ATTEMPTS: usize = 25;

/// Another order, no rule that logs, and a rule more: shuts out the same people.
const OLDER_NFT: &str = "flush chain inet knockd ssh_policy
add rule inet knockd ssh_policy jump ssh_banned
add rule inet knockd ssh_policy jump ssh_filter
add rule inet knockd ssh_policy jump ssh_trusted
add rule inet knockd ssh_policy drop
add rule inet knockd ssh_filter counter
add rule inet knockd ssh_trusted ip saddr 192.0.2.50 accept
";

const OLDER_IPTABLES: &str = "*filter
:ssh_policy - [0:0]
-A ssh_policy -m comment --comment portcullis -j ssh_banned
-A ssh_policy -m comment --comment portcullis -j ssh_filter
-A ssh_policy -m comment --comment portcullis -j ssh_trusted
-A ssh_policy -m comment --comment portcullis -j DROP
-A ssh_filter -m comment --comment portcullis -j RETURN
-I ssh_trusted -p icmp -m comment --comment portcullis -j ACCEPT
COMMIT
";

/// A case by name, for each backend.
pub(crate) fn cases() -> Vec<(String, Box<dyn FnOnce() -> Tried + Send>)> {
    let case = |backend: Backend| -> (String, Box<dyn FnOnce() -> Tried + Send>) {
        let name = format!(
            "{}::chains_of_an_older_version_become_ours_and_nobody_notices",
            backend.name()
        );
        (name, Box::new(move || upgrade(backend)))
    };
    [Nftables, IptablesNft, IptablesLegacy].map(case).into()
}

fn variant(backend: Backend) -> &'static str {
    match backend {
        IptablesLegacy => "legacy",
        _ => "nft",
    }
}

/// All that is ours, but for members, counters, and what the kernel numbers.
fn rules(world: &World, backend: Backend) -> String {
    if backend == Nftables {
        let terse = ["-s", "-t", "list", "table", "inet", "knockd"];
        return world.nft(&terse);
    }
    let mut all = String::new();
    for program in ["iptables", "ip6tables"] {
        let save = format!("{program}-{}-save", variant(backend));
        let text = world.succeeds(&world.server, &save, &["-t", "filter"]);
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        // `:ssh_policy - [0:0]`
        let lines = lines.map(|line| line.split_once(" [").map_or(line, |(chain, _)| chain));
        all.extend(lines.flat_map(|line| [line, "\n"]));
    }
    all
}

fn make_older(world: &World, backend: Backend) -> Tried {
    if backend == Nftables {
        let file = world.file("older", OLDER_NFT.as_bytes())?;
        world.nft(&["-f", &file.display().to_string()]);
        return Ok(());
    }
    for program in ["iptables", "ip6tables"] {
        let text = match program {
            "ip6tables" => OLDER_IPTABLES.replace("icmp", "ipv6-icmp"),
            _ => OLDER_IPTABLES.to_owned(),
        };
        let file = world.file(program, text.as_bytes())?;
        let restore = format!("{program}-{}-restore", variant(backend));
        let file = file.display().to_string();
        world.succeeds(&world.server, &restore, &["--noflush", &file]);
    }
    Ok(())
}

/// Somebody who tries to get in all the time, in both families.
fn streams(person: &Person) -> Result<Vec<Stream>, std::net::AddrParseError> {
    let stream = |family: Family| {
        let source: IpAddr = person.address(family).parse()?;
        let to: SocketAddr = family.port(22).parse()?;
        Ok(Stream::start(&person.host, source, to))
    };
    Family::BOTH.into_iter().map(stream).collect()
}

fn await_attempts(streams: &[Stream], more: usize) {
    let before: Vec<usize> = streams.iter().map(Stream::sent).collect();
    let started = Instant::now();
    while streams
        .iter()
        .zip(&before)
        .any(|(it, sent)| it.sent() < sent + more)
    {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "they have stopped"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn upgrade(backend: Backend) -> Tried {
    let mut world = backend.world()?;
    let before = fill(&world);
    let filled = Instant::now();
    let new = rules(&world, backend);
    world.daemon.kill_9();
    make_older(&world, backend)?;
    assert_ne!(rules(&world, backend), new, "nothing is older");
    let shut_out = [&world.stranger, &world.scanner];
    let let_in = [&world.colleague, &world.knocker];
    let mut all = Vec::new();
    for person in shut_out.into_iter().chain(let_in) {
        all.extend(streams(person)?);
    }
    await_attempts(&all, ATTEMPTS);
    world.daemon.start()?;
    await_attempts(&all, ATTEMPTS);
    for (number, stream) in all.into_iter().enumerate() {
        let count = stream.finish()?;
        println!("{}: {number}: {count:?}", backend.name());
        assert!(count.attempts() >= 2 * ATTEMPTS, "{count:?}");
        if number < 4 {
            assert_eq!(count.open, 0, "somebody was let in: {count:?}");
        } else {
            assert_eq!(count.open, count.attempts(), "one was refused: {count:?}");
        }
    }
    assert_eq!(rules(&world, backend), new);
    same(&before, &members(&world), filled.elapsed());
    world.expect(0, &["status"]);
    Ok(())
}
