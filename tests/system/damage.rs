//! Somebody else damages what is ours, in every way that we know of, on every backend: it is put
//! back by itself, with all members and the time that they had left, and said.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use portcullis::lab::Host;

use crate::programs;
use crate::world::{Family, SHIPPED, TRUSTED, Tried, World};

/// Far more than the second, or the two, that are promised: the machine may be busy.
const LATE: Duration = Duration::from_secs(10);
/// As long as anybody could need to notice what is no damage.
const UNNOTICED: Duration = Duration::from_millis(2_500);

/// Who holds the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Nftables,
    IptablesNft,
    IptablesLegacy,
}

use Backend::{IptablesLegacy, IptablesNft, Nftables};

const BOTH: &[Backend] = &[IptablesNft, IptablesLegacy];
const NFT: &[Backend] = &[IptablesNft];
const LEGACY: &[Backend] = &[IptablesLegacy];
const NATIVE: &[Backend] = &[Nftables];

impl Backend {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Nftables => "nftables",
            IptablesNft => "iptables-nft",
            IptablesLegacy => "iptables-legacy",
        }
    }

    /// The shipped policy on it.
    pub(crate) fn world(self) -> Result<World, Box<dyn std::error::Error>> {
        let kind = match self {
            Nftables => "nftables",
            IptablesNft | IptablesLegacy => "iptables",
        };
        let policy = SHIPPED.replace("backend: nftables", &format!("backend: {kind}"));
        assert!(policy.contains(&format!("backend: {kind}")), "{policy}");
        let mut world = World::before(&policy, TRUSTED, Some(22))?;
        let variant = if self == IptablesLegacy {
            "legacy"
        } else {
            "nft"
        };
        world
            .daemon
            .set_environment(&[("KNOCKD_IPTABLES", variant)]);
        world.daemon.start()?;
        Ok(world)
    }
}

/// A way to damage what is ours: programs and their arguments, one after another; `iptables` and
/// `ip6tables` stand for those of the backend.
type Damage = (&'static str, &'static [Backend], &'static [&'static str]);

const FLUSH: &str = "iptables -F";
const FLUSH6: &str = "ip6tables -F";
const DELETE: &str = "iptables -X";
const DELETE6: &str = "ip6tables -X";

/// What is put back.
const DAMAGE: &[Damage] = &[
    ("flush_ruleset", NATIVE, &["nft flush ruleset"]),
    ("delete_table", NATIVE, &["nft delete table inet knockd"]),
    (
        "a_table_that_sleeps",
        NATIVE,
        &["nft add table inet knockd { flags dormant; }"],
    ),
    (
        "flush_chain",
        NATIVE,
        &["nft flush chain inet knockd ssh_banned"],
    ),
    (
        "flush_base_chain",
        NATIVE,
        &["nft flush chain inet knockd input"],
    ),
    (
        "an_accept_above_our_rules",
        NATIVE,
        &["nft insert rule inet knockd input accept"],
    ),
    (
        "a_base_chain_that_drops",
        NATIVE,
        &["nft chain inet knockd input { policy drop; }"],
    ),
    (
        "flush_the_accepted",
        NATIVE,
        &["nft flush set inet knockd ssh_filter4"],
    ),
    (
        "flush_the_trusted",
        NATIVE,
        &["nft flush set inet knockd ssh_trusted6"],
    ),
    (
        "flush_banned_networks",
        NATIVE,
        &["nft flush set inet knockd ssh_banned4net"],
    ),
    (
        "one_member",
        NATIVE,
        &["nft delete element inet knockd ssh_filter4 { 192.0.2.10 }"],
    ),
    ("flush_rules", BOTH, &[FLUSH, FLUSH6]),
    (
        "flush_and_delete_chains",
        NFT,
        &[FLUSH, FLUSH6, DELETE, DELETE6],
    ),
    (
        "our_first_rules",
        BOTH,
        &["iptables -D INPUT 1", "iptables -D INPUT 1"],
    ),
    ("flush_chain", LEGACY, &["ip6tables -F ssh_policy"]),
    (
        "an_accept_above_our_rules",
        NFT,
        &["iptables -I INPUT -j ACCEPT"],
    ),
    (
        "an_accept_of_our_port_above_our_rules",
        LEGACY,
        &["ip6tables -I INPUT -p tcp --dport 20:30 -j ACCEPT"],
    ),
    ("flush_sets", NFT, &["ipset flush"]),
    ("flush_the_accepted", LEGACY, &["ipset flush ssh_filter6"]),
    ("flush_the_trusted", NFT, &["ipset flush ssh_trusted4"]),
    (
        "one_member",
        BOTH,
        &["ipset del ssh_banned4 198.51.100.0/24"],
    ),
    (
        "destroy_sets",
        BOTH,
        &[FLUSH, FLUSH6, DELETE, DELETE6, "ipset destroy"],
    ),
    (
        "a_reload_of_another_firewall",
        BOTH,
        &["iptables restore", "ip6tables restore"],
    ),
];

/// What is let be.
const HARMLESS: &[Damage] = &[
    (
        "a_base_chain_of_others_and_a_member_added_by_hand",
        NATIVE,
        &[
            "nft add table inet other",
            "nft add chain inet other in { type filter hook input priority -300; policy accept; }",
            "nft add element inet knockd ssh_banned4 { 203.0.113.7 }",
        ],
    ),
    (
        "what_others_do_above_and_below_that_does_not_let_in",
        BOTH,
        &[
            "iptables -I INPUT -p tcp --dport 80 -j ACCEPT",
            "iptables -A INPUT -j ACCEPT",
            "iptables -I INPUT -s 203.0.113.9 -j DROP",
        ],
    ),
];

/// A firewall that knows nothing of us.
const OTHERS: &str = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
:theirs - [0:0]\n-A INPUT -j theirs\n-A theirs -p tcp --dport 80 -j ACCEPT\nCOMMIT\n";

/// A case by name, for each backend that it is about.
pub(crate) fn cases() -> Vec<(String, Box<dyn FnOnce() -> Tried + Send>)> {
    let mut all: Vec<(String, Box<dyn FnOnce() -> Tried + Send>)> = Vec::new();
    let lists = [
        ("is_put_back", DAMAGE, true),
        ("is_let_be", HARMLESS, false),
    ];
    for (outcome, list, is_damage) in lists {
        for &(what, backends, commands) in list {
            for &backend in backends {
                let name = format!("{}::{what}_{outcome}", backend.name());
                let case = move || {
                    if is_damage {
                        put_back(backend, commands)
                    } else {
                        let_be(backend, commands)
                    }
                };
                all.push((name, Box::new(case)));
            }
        }
    }
    for backend in [Nftables, IptablesNft, IptablesLegacy] {
        let name = format!("{}::three_repairs_in_a_minute_are_a_fight", backend.name());
        all.push((name, Box::new(move || fight(backend))));
    }
    for backend in [IptablesNft, IptablesLegacy] {
        let name = format!(
            "{}::what_is_put_back_since_a_change_failed_in_a_fight_is_a_repair",
            backend.name()
        );
        all.push((name, Box::new(move || retried(backend))));
    }
    let name = "nftables::a_long_reload_of_others_costs_few_looks".to_owned();
    all.push((name, Box::new(long_reload)));
    let name = "nftables::thousands_are_put_back_and_what_follows_is_noticed".to_owned();
    all.push((name, Box::new(thousands)));
    all
}

/// Runs the commands one after another, as an administrator would. What one of them did may be put
/// back before the next, which then fails as what it is about is in use again.
#[track_caller]
pub(crate) fn damage(world: &World, backend: Backend, commands: &[&str]) {
    let before = logged_repairs(world);
    for command in commands {
        let words: Vec<&str> = command.split(' ').collect();
        let (program, arguments) = (words[0], &words[1..]);
        let program = match (program, backend) {
            ("iptables" | "ip6tables", IptablesLegacy) => format!("{program}-legacy"),
            ("iptables" | "ip6tables", _) => format!("{program}-nft"),
            _ => program.to_owned(),
        };
        if arguments == ["restore"] {
            let rules = world.file("others", OTHERS.as_bytes()).expect("a file");
            let rules = rules.display().to_string();
            world.succeeds(&world.server, &format!("{program}-restore"), &[&rules]);
        } else {
            let mut command = world
                .server
                .command(programs::path(&program))
                .expect("a command");
            let ended = world
                .run(command.args(arguments))
                .expect("it runs and ends");
            let failed = Instant::now();
            while !ended.status.success() && logged_repairs(world) == before {
                let late = failed.elapsed() > LATE;
                assert!(!late, "{command:?}: {ended:?}, and nothing was put back");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

fn logged_repairs(world: &World) -> usize {
    world.daemon.log().matches("put back, in").count()
}

/// Who is in which chain, for how long.
pub(crate) type Members = BTreeMap<(String, String), Option<u64>>;

#[track_caller]
pub(crate) fn members(world: &World) -> Members {
    let reply = world.expect(0, &["list", "-o", "json"]);
    let list: serde_json::Value = serde_json::from_str(&reply.stdout).expect("JSON");
    let entries = list["entries"].as_array().expect("a list");
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let member = |entry: &serde_json::Value| {
        let who = (text(&entry["chain"]), text(&entry["address"]));
        (who, entry["expires_in_s"].as_u64())
    };
    entries.iter().map(member).collect()
}

/// Lets some in and bans others, in both families.
pub(crate) fn fill(world: &World) -> Members {
    for family in Family::BOTH {
        let knocker = world.knocker.address(family);
        world.expect(0, &["accept", &knocker, "--for", "20m"]);
        world.expect(0, &["drop", &world.scanner.address(family)]);
    }
    world.expect(0, &["drop", "198.51.100.0/24", "--for", "2h"]);
    let members = members(world);
    assert_eq!(members.len(), 7, "{members:?}");
    members
}

/// The same members, with the time that they had left but for what has passed.
#[track_caller]
pub(crate) fn same(before: &Members, after: &Members, passed: Duration) {
    let names = |members: &Members| members.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(before), names(after));
    for (who, left) in before {
        let now = after[who];
        let (Some(left), Some(now)) = (left, now) else {
            assert_eq!(*left, now, "{who:?}");
            continue;
        };
        let least = left.saturating_sub(passed.as_secs() + 2);
        assert!(
            (least..=*left + 1).contains(&now),
            "{who:?}: {left} s, then {now} s"
        );
    }
}

/// While something is done a stranger tries to get in; of how many attempts how many succeeded.
pub(crate) fn with_a_stranger<T>(world: &World, work: impl FnOnce() -> T) -> (T, u32, u32) {
    let over = AtomicBool::new(false);
    let (tries, entries) = (AtomicU32::new(0), AtomicU32::new(0));
    let done = std::thread::scope(|scope| {
        scope.spawn(|| {
            let stranger = &world.stranger;
            let client = stranger.host.client(&stranger.address(Family::V4));
            let client = client.expect("a client");
            while !over.load(Ordering::Relaxed) {
                let found = client.connect(&Family::V4.port(22), Duration::from_millis(5));
                tries.fetch_add(1, Ordering::Relaxed);
                if found.is_ok_and(|outcome| outcome.is_open()) {
                    entries.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        over.store(true, Ordering::Relaxed);
        done
    });
    let done = done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    (done, tries.into_inner(), entries.into_inner())
}

/// Waits for the log alone: a question would make the daemon look.
#[track_caller]
fn await_repairs(world: &World, count: usize) {
    let started = Instant::now();
    while logged_repairs(world) < count {
        let late = started.elapsed() > LATE;
        assert!(!late, "nothing is put back");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn repairs(world: &World, code: i32) -> (u64, String) {
    let reply = world.expect(code, &["status", "-o", "json"]);
    let status: serde_json::Value = serde_json::from_str(&reply.stdout).expect("JSON");
    let repairs = &status["repairs"];
    let last = repairs["last"].as_str().expect("a text").to_owned();
    (repairs["total"].as_u64().expect("a number"), last)
}

fn people_find_what_they_should(world: &World) {
    for family in Family::BOTH {
        assert_eq!(world.stranger.finds(family, 22), "silent");
        assert_eq!(world.scanner.finds(family, 22), "silent");
        assert_eq!(world.colleague.finds(family, 22), "open");
        assert_eq!(world.knocker.finds(family, 22), "open");
    }
}

fn put_back(backend: Backend, commands: &[&str]) -> Tried {
    let world = backend.world()?;
    let before = fill(&world);
    let started = Instant::now();
    let (took, tries, entries) = with_a_stranger(&world, || {
        damage(&world, backend, commands);
        let damaged = Instant::now();
        await_repairs(&world, 1);
        damaged.elapsed()
    });
    println!(
        "{}: {}: put back {took:?} after it was done; {entries} of a stranger's {tries} SYNs got in",
        backend.name(),
        commands.join("; ")
    );
    same(&before, &members(&world), started.elapsed());
    people_find_what_they_should(&world);
    let (total, last) = repairs(&world, 0);
    // Several commands may be several repairs.
    let most = commands.len() as u64;
    assert!((1..=most).contains(&total), "{total} repairs");
    assert!(
        last.contains("ssh")
            || last.contains("knockd")
            || last.contains("INPUT")
            || last.contains("input"),
        "{last}"
    );
    let status = world.expect(0, &["status"]);
    assert!(status.stdout.contains("repairs"), "{status:?}");
    Ok(())
}

fn let_be(backend: Backend, commands: &[&str]) -> Tried {
    let world = backend.world()?;
    fill(&world);
    damage(&world, backend, commands);
    std::thread::sleep(UNNOTICED);
    people_find_what_they_should(&world);
    assert_eq!(repairs(&world, 0).0, 0);
    Ok(())
}

/// Damages three times, and waits each time until it is put back: from then on it is a fight. When
/// that was.
fn begin_fight(world: &World, backend: Backend, commands: &[&str]) -> Instant {
    for count in 1..=3 {
        damage(world, backend, commands);
        await_repairs(world, count);
    }
    Instant::now()
}

/// The fourth repair comes by itself, ten seconds after the third, but for what clocks, looks and
/// a busy machine need.
#[track_caller]
fn await_fourth_repair(world: &World, third: Instant) {
    let (early, late) = (Duration::from_secs(8), Duration::from_secs(14));
    let damaged = third.elapsed();
    let late = late.max(damaged + LATE);
    while logged_repairs(world) < 4 {
        assert!(third.elapsed() < late, "it is left alone for too long");
        std::thread::sleep(Duration::from_millis(2));
    }
    let waited = third.elapsed();
    println!("damaged {damaged:?} after the third repair, put back after {waited:?}");
    assert!(
        waited > early,
        "it is put back after {waited:?}: that is fighting"
    );
}

/// Three times it is put back, the fourth time not yet, and it is said.
fn fight(backend: Backend) -> Tried {
    let world = backend.world()?;
    let before = fill(&world);
    let commands: &[&str] = match backend {
        Nftables => &["nft flush ruleset"],
        _ => &[FLUSH],
    };
    let started = Instant::now();
    let third = begin_fight(&world, backend, commands);
    same(&before, &members(&world), started.elapsed());
    let status = world.expect(5, &["status"]);
    assert!(status.stdout.contains("again and again"), "{status:?}");
    assert_eq!(repairs(&world, 5).0, 3);
    damage(&world, backend, commands);
    std::thread::sleep(UNNOTICED);
    let status = world.expect(5, &["status"]);
    assert!(
        status.stdout.contains("somebody else has changed"),
        "{status:?}"
    );
    assert_eq!(repairs(&world, 5).0, 3);
    // Whoever asks for it gets it at once.
    world.expect(0, &["reload"]);
    // Which is no repair of ours, and gives nobody the right to the next one.
    assert_eq!(repairs(&world, 5).0, 3);
    damage(&world, backend, commands);
    await_fourth_repair(&world, third);
    assert_eq!(repairs(&world, 5).0, 4);
    people_find_what_they_should(&world);
    Ok(())
}

/// What cannot be written while damage is left alone is tried again when that has an end, and puts
/// the damage back with it, before anybody looks at it.
fn retried(backend: Backend) -> Tried {
    let world = backend.world()?;
    fill(&world);
    let third = begin_fight(&world, backend, &[FLUSH]);
    damage(
        &world,
        backend,
        &[FLUSH, FLUSH6, DELETE, DELETE6, "ipset destroy"],
    );
    let reply = world.expect(1, &["accept", "192.0.2.77"]);
    assert!(reply.stderr.contains("tried again"), "{reply:?}");
    await_fourth_repair(&world, third);
    assert_eq!(repairs(&world, 5).0, 4);
    people_find_what_they_should(&world);
    assert_eq!(world.listed("192.0.2.77").len(), 1);
    Ok(())
}

/// Ten thousand rules in one transaction, and a thousand transactions: knocks are served
/// meanwhile, and it is no damage.
fn long_reload() -> Tried {
    let world = Nftables.world()?;
    fill(&world);
    let mut rules = String::from("add table inet other\nadd chain inet other c\n");
    for port in 1..=10_000 {
        writeln!(rules, "add rule inet other c tcp dport {port} accept")?;
    }
    let whole = world.file("whole", rules.as_bytes())?;
    let whole = whole.display().to_string();
    world.nft(&["-f", &whole]);
    let knock = ["-4", Family::V4.server(), "1228", "1227"];
    std::thread::scope(|scope| {
        let host: &Host = &world.server;
        scope.spawn(|| {
            for _ in 0..5 {
                world.succeeds(host, "nft", &["flush", "table", "inet", "other"]);
                world.succeeds(host, "nft", &["-f", &whole]);
            }
        });
        world.succeeds(&world.stranger.host, "knock", &knock);
        world.stranger.soon_finds(Family::V4, "open");
    });
    assert_eq!(repairs(&world, 0).0, 0);
    world.nft(&["flush", "ruleset"]);
    await_repairs(&world, 1);
    Ok(())
}

/// While so many are written the daemon does not listen; afterwards it does again.
fn thousands() -> Tried {
    const MANY: u32 = 12_000;
    let world = Nftables.world()?;
    let host = |n: u32| std::net::Ipv4Addr::from(0x0a00_0000 + n).to_string();
    let all: Vec<String> = (0..MANY).map(host).collect();
    let rules = format!(
        "add element inet knockd ssh_banned4 {{ {} }}\n",
        all.join(", ")
    );
    let rules = world.file("bans", rules.as_bytes())?;
    world.nft(&["-f", &rules.display().to_string()]);
    // They are taken over.
    world.expect(0, &["reload"]);
    let count = |world: &World| members(world).len();
    let before = count(&world);
    assert!(before >= MANY as usize, "{before}");
    world.nft(&["flush", "ruleset"]);
    await_repairs(&world, 1);
    assert_eq!(count(&world), before);
    world.nft(&["flush", "set", "inet", "knockd", "ssh_banned4"]);
    await_repairs(&world, 2);
    assert_eq!(count(&world), before);
    assert_eq!(repairs(&world, 0).0, 2);
    Ok(())
}
