//! What only iptables has: other people's rules in the same table, the original script's chains,
//! sets that are somebody else's, a lock.

mod failing;
mod program;

use std::fs::{File, OpenOptions, write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use nix::fcntl::{Flock, FlockArg};
use portcullis::firewall::iptables::{Iptables, Restraints, Variant};
use portcullis::firewall::nftables::Nftables;
use portcullis::firewall::{Backend, BackendKind, Change, Desired, FirewallError, choose};
use portcullis::lab::run_bounded;
use portcullis::model::Chain;
use portcullis::policy::{BackendChoice, Verdict};

use crate::world::{
    A, A6, B, B6, C, Column, Tried, World, banned, filter, member_at, rules, secs, ssh, trusted,
};

const PATIENCE: Duration = Duration::from_secs(10);

type Test = (&'static str, fn(&mut World) -> Tried);

const TESTS: &[Test] = &[
    ("the policy chain reads as the original", reads_as_original),
    ("teardown leaves the rules as they were", leaves_no_trace),
    ("the original is taken over", takes_over),
    ("somebody else's chain is refused", refuses_chains),
    ("somebody else's set is refused", refuses_sets),
    ("somebody else's set of our type is refused", refuses_kin),
    ("a set with other settings is replaced", replaces_sets),
    (
        "neither family if one cannot be written",
        failing::half_written,
    ),
    (
        "what is changed before it is read back is written again",
        failing::changed_meanwhile,
    ),
    ("a slow program", failing::slow),
    (
        "a set that somebody else uses is left over",
        failing::left_over,
    ),
    (
        "sessions outlive taking the original over",
        failing::takes_over_sessions,
    ),
    ("verdict return goes on through the host's chain", returns),
    ("verdict return with once and open", returns_once),
    ("a full set is said to be full", full),
    ("meddling is noticed and repaired", meddling),
    ("a chain in use is not forced", in_use),
    ("auto chooses iptables and remembers", chooses),
    ("a change of backend leaves nothing behind", changes),
    ("IPv6 is gated though it is switched off", without_ipv6),
    ("unchanged rules are not written again", unchanged),
];

const PROGRAM: &[Test] = &[
    ("auto gives iptables", program::auto_gives_iptables),
    (
        "the program takes the original over",
        program::original_is_taken_over,
    ),
    (
        "the original gives way to nftables",
        program::original_gives_way_to_nftables,
    ),
    (
        "the program changes its backend",
        program::backend_is_changed,
    ),
];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for column in [Column::IptablesNft, Column::IptablesLegacy] {
        trials.extend(TESTS.iter().map(|test| trial(column, *test)));
    }
    // The other does not use the lock.
    let held = (
        "a lock that is held is waited for, then reported",
        locked as fn(&mut World) -> _,
    );
    trials.push(trial(Column::IptablesLegacy, held));
    // The program uses whatever `iptables` is here.
    let installed = std::fs::canonicalize("/usr/sbin/iptables").unwrap_or_default();
    let column = if installed.to_string_lossy().contains("legacy") {
        Column::IptablesLegacy
    } else {
        Column::IptablesNft
    };
    trials.extend(PROGRAM.iter().map(|test| trial(column, *test)));
    trials
}

fn trial(column: Column, (name, test): Test) -> Trial {
    Trial::test(
        format!("{} only::{name}", column.name()),
        move || match catch_unwind(AssertUnwindSafe(|| test(&mut World::new(column)?))) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failed::from(error.to_string())),
            Err(_) => Err(Failed::from("it panicked")),
        },
    )
}

fn variant(world: &World) -> Variant {
    world.column.variant().expect("an iptables column")
}

fn run(world: &World, program: &str, arguments: &[&str]) -> (bool, String) {
    let mut command = world.server.command(program).expect("a command");
    command.args(arguments);
    let finished = run_bounded(&mut command, world.lab.dir(), PATIENCE).expect("it runs and ends");
    let said = format!("{}{}", finished.stdout, finished.stderr);
    (finished.status.success(), said)
}

/// `iptables` or `ip6tables` in this column's variant.
#[track_caller]
fn iptables(world: &World, stem: &str, arguments: &[&str]) -> String {
    let (program, rest) = match stem.split_once('-') {
        Some((stem, rest)) => (stem, format!("-{rest}")),
        None => (stem, String::new()),
    };
    let variant = match variant(world) {
        Variant::Legacy => "legacy",
        _ => "nft",
    };
    let program = format!("/usr/sbin/{program}-{variant}{rest}");
    let (well, said) = run(world, &program, arguments);
    assert!(well, "{program} {arguments:?}: {said}");
    said
}

#[track_caller]
fn ipset(world: &World, arguments: &[&str]) -> String {
    let (well, said) = run(world, "/usr/sbin/ipset", arguments);
    assert!(well, "ipset {arguments:?}: {said}");
    said
}

#[track_caller]
fn restore(world: &World, stem: &str, text: &str) {
    let file = world.lab.dir().join("rules");
    write(&file, text).expect("it can be written");
    iptables(
        world,
        &format!("{stem}-restore"),
        &[&file.to_string_lossy()],
    );
}

/// All rules of both families, without times and counters.
fn saved(world: &World) -> String {
    let families = ["iptables-save", "ip6tables-save"].map(|stem| iptables(world, stem, &[]));
    let lines = families.iter().flat_map(|text| text.lines());
    let lines = lines.filter(|line| !line.starts_with('#'));
    let lines = lines.map(|line| line.split(" [").next().unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

fn targets(rules: &str) -> Vec<String> {
    let target = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let place = words.iter().position(|word| ["-j", "-g"].contains(word))?;
        words.get(place + 1).map(|word| (*word).to_owned())
    };
    rules.lines().filter_map(target).collect()
}

fn reads_as_original(world: &mut World) -> Tried {
    iptables(
        world,
        "iptables",
        &["-A", "INPUT", "-p", "udp", "-j", "DROP"],
    );
    world.install(vec![ssh()], vec![filter(A, 300)]);
    for stem in ["iptables", "ip6tables"] {
        let policy = iptables(world, stem, &["-S", "ssh_policy"]);
        let order = ["ssh_banned", "ssh_trusted", "ssh_filter", "LOG", "DROP"];
        assert_eq!(targets(&policy), order, "{policy}");
        assert!(
            policy.contains("--log-prefix \"[knockd,drop] \""),
            "{policy}"
        );
        assert!(policy.contains("--limit 10/min"), "{policy}");
        let input = iptables(world, stem, &["-S", "INPUT"]);
        assert_eq!(targets(&input)[..2], ["ACCEPT", "ssh_policy"], "{input}");
        for line in policy.lines().filter(|line| line.starts_with("-A")) {
            assert!(line.contains("--comment portcullis"), "{line}");
        }
    }
    let listed = ipset(world, &["list", "ssh_filter4"]);
    assert!(
        listed.contains("Type: hash:net") && listed.contains("192.0.2.10"),
        "{listed}"
    );
    assert!(listed.contains("comment \"test\""), "{listed}");
    Ok(())
}

const FOREIGN: &str = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n\
:f2b-sshd - [0:0]\n:web_policy - [0:0]\n-A INPUT -p tcp -m comment --comment \"a \\\"b\\\" c\" -j f2b-sshd\n\
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A f2b-sshd -j RETURN\n\
-A web_policy -p tcp -j ACCEPT\nCOMMIT\n";

fn leaves_no_trace(world: &mut World) -> Tried {
    // A kernel without rules: what iptables-legacy makes there cannot be unmade.
    let before = saved(world);
    world.install(vec![ssh()], vec![filter(A, 300)]);
    world.with(|backend| backend.teardown())?;
    if variant(world) == Variant::Nft {
        assert_eq!(saved(world), before);
    }
    for stem in ["iptables", "ip6tables"] {
        restore(world, stem, FOREIGN);
    }
    ipset(world, &["create", "mine", "hash:ip"]);
    ipset(world, &["create", "web_banned4", "hash:net"]);
    let before = saved(world);
    let mut gate = rules("web2", &["80", "500-600/udp"]);
    gate.verdict = Verdict::Return;
    gate.once = true;
    world.install(vec![ssh(), gate], vec![filter(A, 300), banned(B)]);
    assert_ne!(saved(world), before);
    world.install(vec![ssh()], vec![]);
    world.restart()?;
    world.with(|backend| backend.teardown())?;
    assert_eq!(saved(world), before);
    let left = ipset(world, &["list", "-n"]);
    let mut left: Vec<&str> = left.lines().collect();
    left.sort_unstable();
    assert_eq!(left, ["mine", "web_banned4"]);
    Ok(())
}

const ORIGINAL: &str = "*filter\n:INPUT DROP [0:0]\n:ssh_policy - [0:0]\n:ssh_banned - [0:0]\n\
:ssh_trusted - [0:0]\n:ssh_filter - [0:0]\n\
-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT\n\
-A INPUT -p tcp -m tcp --dport 22 -j ssh_policy\n-A INPUT -p tcp -m tcp --dport 80 -j ACCEPT\n\
-A ssh_policy -j ssh_banned\n-A ssh_policy -j ssh_trusted\n-A ssh_policy -j ssh_filter\n\
-A ssh_policy -m limit --limit 10/min -j LOG --log-prefix \"[knockd,drop] \"\n\
-A ssh_policy -j DROP\n-A ssh_banned -s 192.0.2.12/32 -j DROP\n\
-A ssh_trusted -s 192.0.2.8/30 -j ACCEPT\n-A ssh_filter -s 192.0.2.20/32 -j ACCEPT\nCOMMIT\n";

fn takes_over(world: &mut World) -> Tried {
    restore(world, "iptables", ORIGINAL);
    assert_eq!(world.who(&[A, B, C]), [A, B]);
    let observed = world.observed().expect("the original's chains are there");
    assert_eq!(observed.gates, [ssh().name]);
    assert_eq!(
        world.members(),
        [
            "ssh_banned 192.0.2.12/32 never ",
            "ssh_filter 192.0.2.20/32 never ",
            "ssh_trusted 192.0.2.8/30 never ",
        ]
    );
    // Whitelisted machines connect all the time, while it is taken over.
    let stop = std::sync::atomic::AtomicBool::new(false);
    let client = world.clients.client(A)?;
    let (tried, refused) = std::thread::scope(|scope| {
        let stranger = scope.spawn(|| {
            let (mut tried, mut refused) = (0, 0);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let outcome = client.connect("192.0.2.1:22", portcullis::lab::BEFORE_A_SECOND_SYN);
                refused += usize::from(!outcome.expect("a SYN can be sent").is_open());
                tried += 1;
                std::thread::sleep(program::GAP);
            }
            (tried, refused)
        });
        for _ in 0..10 {
            world.install(vec![ssh()], observed.members.clone());
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        stranger.join().expect("it counts")
    });
    assert!(
        tried > 0 && refused == 0,
        "{refused} of {tried} were refused"
    );
    assert_eq!(world.who(&[A, B, C]), [A, B]);
    let rules = iptables(world, "iptables-save", &[]);
    assert!(!rules.contains("-s 192.0.2"), "{rules}");
    assert!(rules.contains("--dport 80 -j ACCEPT"), "{rules}");
    world.with(|backend| backend.teardown())?;
    let rules = iptables(world, "iptables-save", &[]);
    assert!(
        !rules.contains("ssh_") && rules.contains("--dport 80"),
        "{rules}"
    );
    Ok(())
}

#[track_caller]
fn refusal(world: &mut World, gates: Vec<portcullis::firewall::GateRules>) -> FirewallError {
    let desired = Desired {
        gates,
        ..Desired::default()
    };
    let refused = world.with(|backend| backend.install(&desired));
    refused.expect_err("it must be refused")
}

fn refuses_chains(world: &mut World) -> Tried {
    restore(world, "iptables", FOREIGN);
    let before = saved(world);
    let error = refusal(world, vec![ssh(), rules("web", &["80"])]);
    assert!(matches!(error, FirewallError::Foreign { .. }), "{error}");
    assert!(error.to_string().contains("gate web"), "{error}");
    assert_eq!(saved(world), before);
    assert_eq!(world.observed(), None);
    assert_eq!(ipset(world, &["list", "-n"]), "");
    Ok(())
}

fn refuses_sets(world: &mut World) -> Tried {
    ipset(world, &["create", "ssh_filter4", "hash:ip"]);
    let error = refusal(world, vec![ssh()]);
    assert!(matches!(error, FirewallError::Foreign { .. }), "{error}");
    assert!(error.to_string().contains("ssh_filter4"), "{error}");
    assert!(error.to_string().contains("hash:ip"), "{error}");
    assert_eq!(ipset(world, &["list", "-n"]), "ssh_filter4\n");
    assert_eq!(world.who(&[A]), [A]);
    Ok(())
}

/// A set with our name and type that other rules use for something else.
fn refuses_kin(world: &mut World) -> Tried {
    ipset(world, &["create", "ssh_filter4", "hash:net"]);
    ipset(world, &["add", "ssh_filter4", "192.0.2.11"]);
    let one = "-A INPUT -m set --match-set ssh_filter4 src -j DROP";
    iptables(world, "iptables", &one.split(' ').collect::<Vec<_>>());
    let error = refusal(world, vec![ssh()]);
    assert!(matches!(error, FirewallError::Foreign { .. }), "{error}");
    assert!(error.to_string().contains("set ssh_filter4"), "{error}");
    assert_eq!(ipset(world, &["list", "-n"]), "ssh_filter4\n");
    assert_eq!(world.who(&[A, B]), [A]);
    Ok(())
}

/// The rules of an earlier release refer to it.
fn replaces_sets(world: &mut World) -> Tried {
    let variant = variant(world);
    let desired = Desired {
        gates: vec![ssh()],
        members: vec![filter(A, 300)],
        sessions: vec![],
    };
    world.server.run(|| -> OnServer {
        let restraints = Restraints { maxelem: 16 };
        Iptables::open_restrained(variant, restraints)?.install(&desired)
    })??;
    world.restart()?;
    let held = world.observed().expect("they are there").members;
    world.install(vec![ssh()], held);
    assert!(ipset(world, &["list", "ssh_filter4"]).contains("maxelem 1048576"));
    assert_eq!(world.who(&[A, B]), [A]);
    assert_eq!(world.members(), ["ssh_filter 192.0.2.10/32 300 test"]);
    Ok(())
}

fn returning() -> portcullis::firewall::GateRules {
    let mut gate = ssh();
    gate.verdict = Verdict::Return;
    gate
}

fn returns(world: &mut World) -> Tried {
    // The host's own firewall does not want A.
    let own = [
        "-A", "INPUT", "-s", A, "-p", "tcp", "--dport", "22", "-j", "DROP",
    ];
    iptables(world, "iptables", &own);
    let members = vec![filter(A, 300), filter(B, 300), filter(A6, 300)];
    world.install(vec![ssh()], members.clone());
    assert_eq!(world.who(&[A, B, C, A6]), [A, B, A6], "accept ends it");
    world.install(vec![returning()], members);
    assert_eq!(world.who(&[A, B, C, A6]), [B, A6], "return does not");
    world.apply(&[Change::Put(trusted(C)), Change::Put(banned(B))]);
    assert_eq!(world.who(&[A, B, C, A6]), [C, A6]);
    world.apply(&[Change::Put(filter("0.0.0.0/0", 300))]);
    world.apply(&[Change::Put(banned(C))]);
    assert_eq!(world.who(&[A, B, C, A6]), [A6]);
    // A session passes the jump, and meets the host's chain too.
    let policy = iptables(world, "iptables", &["-S", "ssh_policy"]);
    let order = ["ssh_banned", "ssh_trusted", "ssh_filter", "LOG", "DROP"];
    assert_eq!(targets(&policy), order, "{policy}");
    Ok(())
}

fn returns_once(world: &mut World) -> Tried {
    let mut gate = returning();
    gate.once = true;
    world.install(vec![gate], vec![filter(A, 300), trusted(C)]);
    assert!(world.gets_in(A) && !world.gets_in(A) && !world.gets_in(B));
    assert!(world.gets_in(C) && world.gets_in(C));
    world.apply(&[Change::Put(filter("0.0.0.0/0", 300))]);
    assert_eq!(world.who(&[A, B, A, B]), [A, B, A, B]);
    Ok(())
}

fn full(world: &mut World) -> Tried {
    let variant = variant(world);
    let restraints = Restraints { maxelem: 16 };
    let numbered = |number: u32| filter(&format!("198.51.100.{number}"), 300);
    world.server.run(|| -> OnServer {
        let mut backend = Iptables::open_restrained(variant, restraints)?;
        let mut desired = Desired {
            gates: vec![ssh()],
            members: (0..15).map(numbered).collect(),
            sessions: vec![],
        };
        backend.install(&desired)?;
        // Two do not fit: neither goes in. Renewing takes no room.
        let two = [20, 21].map(|number| Change::Put(numbered(number)));
        let error = backend.apply(&two).expect_err("there is room for one");
        assert!(
            matches!(&error, FirewallError::Full { set, .. } if set == "ssh_filter4"),
            "{error}"
        );
        backend.apply(&[1, 2, 20].map(|number| Change::Put(numbered(number))))?;
        let error = backend.apply(&two[1..]).expect_err("there is no room");
        assert!(error.to_string().contains("198.51.100.21"), "{error}");
        let held = backend.observe()?.expect("they are there").members;
        assert_eq!(held.len(), 16, "nobody was lost");
        desired.members = (0..30).map(numbered).collect();
        let error = backend.install(&desired).expect_err("there is no room");
        assert!(matches!(error, FirewallError::Full { .. }), "{error}");
        Ok(())
    })??;
    Ok(())
}

/// Errors that may cross threads.
type OnServer = Result<(), FirewallError>;

fn meddling(world: &mut World) -> Tried {
    let meddle: [(&str, &[&str], &str); 6] = [
        ("iptables", &["-F"], "chain ssh_policy is altered"),
        (
            "ip6tables",
            &["-F", "ssh_filter"],
            "ip6tables: chain ssh_filter is altered",
        ),
        (
            "iptables",
            &["-I", "INPUT", "-j", "ACCEPT"],
            "not the first of INPUT",
        ),
        (
            "iptables",
            &["-I", "ssh_filter", "-j", "ACCEPT"],
            "chain ssh_filter is altered",
        ),
        (
            "iptables",
            &["-D", "ssh_policy", "5"],
            "chain ssh_policy is altered",
        ),
        ("iptables", &["-D", "INPUT", "1"], "not the first of INPUT"),
    ];
    for (stem, arguments, expected) in meddle {
        world.install(vec![ssh()], vec![filter(A, 300)]);
        iptables(world, stem, arguments);
        let problems = world.with(|backend| backend.verify())?.join(", ");
        assert!(problems.contains(expected), "{arguments:?}: {problems}");
        world.install(vec![ssh()], vec![filter(A, 300)]);
        assert_eq!(world.who(&[A, B]), [A], "{arguments:?}");
        let strays = iptables(world, "iptables", &["-S", "INPUT"]);
        let ours = strays.lines().filter(|line| line.contains("portcullis"));
        assert_eq!(ours.count(), 2, "{strays}");
    }
    // A new process finds what a flush has left.
    iptables(world, "iptables", &["-F"]);
    world.restart()?;
    world.install(vec![ssh()], vec![filter(A, 300)]);
    assert_eq!(world.who(&[A, B]), [A]);
    iptables(world, "iptables", &["-F"]);
    world.restart()?;
    world.with(|backend| backend.teardown())?;
    assert_eq!(ipset(world, &["list", "-n"]), "");
    assert!(!saved(world).contains("ssh_"));
    Ok(())
}

fn in_use(world: &mut World) -> Tried {
    world.install(vec![ssh()], vec![]);
    iptables(world, "iptables", &["-N", "own"]);
    iptables(world, "iptables", &["-A", "own", "-j", "ssh_filter"]);
    let before = saved(world);
    let error = world
        .with(|backend| backend.teardown())
        .expect_err("it is in use");
    assert!(matches!(error, FirewallError::Program { .. }), "{error}");
    assert_eq!(saved(world), before, "all or nothing");
    assert_eq!(world.with(|backend| backend.verify())?, [""; 0]);
    iptables(world, "iptables", &["-D", "INPUT", "1"]);
    let problems = world.with(|backend| backend.verify())?;
    assert_eq!(problems.len(), 1, "it is still watched over: {problems:?}");
    assert!(!world.gets_in(A));
    iptables(world, "iptables", &["-F", "own"]);
    world.with(|backend| backend.teardown())?;
    assert!(!saved(world).contains("ssh_"));
    Ok(())
}

fn locked(world: &mut World) -> Tried {
    let _alone = world.alone();
    world.install(vec![ssh()], vec![filter(A, 300)]);
    let before = saved(world);
    let file: File = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open("/run/xtables.lock")?;
    let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    let error = refusal(world, vec![rules("ssh", &["80"])]);
    assert!(matches!(error, FirewallError::Locked { .. }), "{error}");
    // Members need no lock.
    world.apply(&[Change::Put(filter(B, 300))]);
    drop(lock);
    assert_eq!(saved(world), before);
    world.install(vec![rules("ssh", &["80"])], vec![]);
    Ok(())
}

fn chooses(world: &mut World) -> Tried {
    let variant = variant(world);
    world.server.run(|| -> OnServer {
        let choose = |wanted, before| choose::choose_with(wanted, before, variant);
        let chosen = choose(BackendChoice::Auto, None)?;
        assert_eq!(chosen.backend.kind(), BackendKind::Iptables);
        assert!(chosen.reason.contains("ip_set"), "{}", chosen.reason);
        let chosen = choose(BackendChoice::Auto, Some(BackendKind::Nftables))?;
        assert_eq!(chosen.backend.kind(), BackendKind::Nftables);
        assert!(chosen.reason.contains("earlier"), "{}", chosen.reason);
        let chosen = choose(BackendChoice::Iptables, Some(BackendKind::Nftables))?;
        assert_eq!(chosen.backend.kind(), BackendKind::Iptables);
        assert_eq!(chosen.former.len(), 0);
        Ok(())
    })??;
    Ok(())
}

fn changes(world: &mut World) -> Tried {
    let variant = variant(world);
    world.server.run(|| -> OnServer {
        let desired = Desired {
            gates: vec![ssh()],
            members: vec![filter(A, 300), member_at("ssh", Chain::Banned, B, secs(60))],
            sessions: vec![],
        };
        Nftables::open()?.install(&desired)?;
        let kinds = [
            BackendChoice::Iptables,
            BackendChoice::Nftables,
            BackendChoice::Iptables,
        ];
        for wanted in kinds {
            let mut chosen = choose::choose_with(wanted, None, variant)?;
            let mut found = Vec::new();
            for former in &mut chosen.former {
                assert_ne!(former.kind(), chosen.backend.kind());
                found.extend(former.members()?);
            }
            assert_eq!(found.len(), 2, "they are adopted");
            let members = found;
            chosen.backend.install(&Desired {
                members,
                ..desired.clone()
            })?;
            for former in chosen.former {
                former.remove()?;
            }
            assert_eq!(chosen.backend.verify()?, Vec::<String>::new());
            let (kind, held) = choose::observe()?.expect("one is there");
            assert_eq!((kind, held.members.len()), (chosen.backend.kind(), 2));
        }
        // The other iptables, whose sets are the same.
        let other = match variant {
            Variant::Legacy => Variant::Nft,
            _ => Variant::Legacy,
        };
        let mut chosen = choose::choose_with(BackendChoice::Iptables, None, other)?;
        chosen.backend.install(&desired)?;
        assert_eq!(chosen.former.len(), 1);
        for former in chosen.former {
            former.remove()?;
        }
        assert_eq!(chosen.backend.verify()?, Vec::<String>::new());
        // Whatever there is.
        Nftables::open()?.install(&desired)?;
        Iptables::open(variant)?.install(&desired)?;
        choose::teardown()?;
        assert!(choose::observe()?.is_none());
        Ok(())
    })??;
    assert!(!saved(world).contains("ssh_"));
    assert_eq!(ipset(world, &["list", "-n"]), "");
    assert!(world.gets_in(B));
    Ok(())
}

/// `disable_ipv6` is a switch that anybody may turn back, for one interface alone, at any time.
fn without_ipv6(world: &mut World) -> Tried {
    world.server.sysctl("net/ipv6/conf/all/disable_ipv6", "1")?;
    world.restart()?;
    world.install(vec![ssh()], vec![filter(A, 300), filter(A6, 300)]);
    assert_eq!(world.who(&[A, B]), [A]);
    assert!(iptables(world, "ip6tables-save", &[]).contains("ssh_policy"));
    world
        .server
        .sysctl("net/ipv6/conf/eth0/disable_ipv6", "0")?;
    world.server.sysctl("net/ipv6/conf/eth0/accept_dad", "0")?;
    let add = [
        "-6",
        "addr",
        "add",
        "2001:db8::1/64",
        "dev",
        "eth0",
        "nodad",
    ];
    let (well, said) = run(world, "/usr/sbin/ip", &add);
    assert!(well, "{said}");
    assert_eq!(world.who(&[A, B, A6, B6]), [A, A6]);
    Ok(())
}

/// Counters go on, and nobody waits for a lock.
fn unchanged(world: &mut World) -> Tried {
    world.install(vec![ssh()], vec![filter(A, 300)]);
    assert!(world.gets_in(A) && !world.gets_in(B));
    let counted = |world: &World| iptables(world, "iptables", &["-vnxL", "ssh_policy"]);
    let before = counted(world);
    world.install(vec![ssh()], vec![filter(A, 300), banned(C)]);
    assert_eq!(counted(world), before);
    world.install(vec![returning()], vec![]);
    assert_ne!(counted(world), before);
    Ok(())
}
