//! Programs that fail or hang, and what is left half done.

use std::fs::write;
use std::time::Duration;

use portcullis::firewall::iptables::{Iptables, Restraints, Variant};
use portcullis::firewall::{Backend, Desired, FirewallError};
use portcullis::lab::{BEFORE_A_SECOND_SYN, write_program};

use super::{FOREIGN, ORIGINAL, OnServer, ipset, iptables, restore, saved, variant};
use crate::world::{A, A6, B, Tried, World, filter, rules, ssh};

/// Puts a program of that name before the system's.
fn wrapper(world: &World, stem: &str, script: &str) -> std::path::PathBuf {
    let directory = world.lab.dir().join("wrappers");
    std::fs::create_dir_all(&directory).expect("it can be made");
    let variant = match variant(world) {
        Variant::Legacy => "legacy",
        _ => "nft",
    };
    let (family, what) = stem.split_once('-').expect("iptables-save");
    let path = directory.join(format!("{family}-{variant}-{what}"));
    let script = format!("#!/bin/sh\n{script}\n");
    write_program(&path, script.as_bytes()).expect("it can be written");
    directory
}

/// Where only one of the two families can be written, neither is.
pub(super) fn half_written(world: &mut World) -> Tried {
    let variant = variant(world);
    let directory = wrapper(
        world,
        "ip6tables-restore",
        "cat >/dev/null; echo boom >&2; exit 1",
    );
    let desired = Desired {
        gates: vec![ssh()],
        members: vec![filter(A, 300)],
        sessions: vec![],
    };
    let fails = |world: &World, desired: &Desired| {
        let result = world.server.run(|| -> Result<Vec<String>, FirewallError> {
            let all = Restraints::default();
            let mut backend = Iptables::open_with(variant, all, Some(&directory))?;
            drop(backend.observe()?);
            let error = backend.install(desired).expect_err("it cannot be written");
            assert!(error.to_string().contains("boom"), "{error}");
            backend.verify()
        });
        result.expect("it runs").expect("it verifies")
    };
    // What legacy iptables makes by being asked cannot be unmade.
    restore(world, "iptables", ORIGINAL);
    restore(world, "ip6tables", FOREIGN);
    let before = saved(world);
    assert_eq!(fails(world, &desired), ["nothing is installed"]);
    assert_eq!(saved(world), before);
    assert_eq!(ipset(world, &["list", "-n"]), "");
    assert_eq!(world.who(&[A, B]), [A, B], "as the original says");
    world.install(vec![ssh()], vec![filter(A, 300)]);
    let before = saved(world);
    let mut other = desired.clone();
    other.gates.push(rules("mail", &["80"]));
    fails(world, &other);
    assert_eq!(saved(world), before);
    assert!(!ipset(world, &["list", "-n"]).contains("mail"));
    assert_eq!(world.with(|backend| backend.verify())?, [""; 0]);
    Ok(())
}

/// Somebody takes out our rules one by one: each time it is read back it is written again, and
/// that has an end.
pub(super) fn changed_meanwhile(world: &mut World) -> Tried {
    let variant = variant(world);
    let rounds = world.lab.dir().join("rounds");
    let real = match variant {
        Variant::Legacy => "/usr/sbin/iptables-legacy",
        _ => "/usr/sbin/iptables-nft",
    };
    // As often as there are lines in that file.
    let script = format!(
        "{real}-restore \"$@\" || exit\n\
         left=$(wc -l < {0}); [ \"$left\" = 0 ] && exit\n\
         sed -i 1d {0} && {real} --wait -D INPUT 1",
        rounds.display()
    );
    let directory = wrapper(world, "iptables-restore", &script);
    let desired = Desired {
        gates: vec![ssh()],
        members: vec![filter(A, 300)],
        sessions: vec![],
    };
    write(&rounds, "")?;
    world.server.run(|| -> OnServer {
        let mut backend = Iptables::open_with(variant, Restraints::default(), Some(&directory))?;
        let mut install = |times: usize| {
            write(&rounds, "once\n".repeat(times)).expect("it can be written");
            backend.install(&desired)
        };
        install(0)?;
        for times in 1..=3 {
            let damage = std::process::Command::new(real)
                .args(["--wait", "-D", "INPUT", "1"])
                .status();
            assert!(damage.expect("it runs").success());
            install(times)?;
        }
        assert!(
            install(9).is_ok(),
            "nothing is missing, so nothing is written"
        );
        write(&rounds, "").expect("it can be written");
        assert_eq!(backend.verify()?, [""; 0]);
        Ok(())
    })??;
    assert_eq!(world.who(&[A, B]), [A]);
    Ok(())
}

/// A program that hangs is not waited for, and does not write when we are gone.
pub(super) fn slow(world: &mut World) -> Tried {
    let variant = variant(world);
    let marker = world.lab.dir().join("late");
    let script = format!("cat >/dev/null; sleep 5; touch {}", marker.display());
    let directory = wrapper(world, "ip6tables-restore", &script);
    wrapper(
        world,
        "iptables-save",
        "sleep 0.3; exec /usr/sbin/$(basename $0)",
    );
    let desired = Desired {
        gates: vec![ssh()],
        members: vec![filter(A, 2), filter(B, 60)],
        sessions: vec![],
    };
    let before = saved(world);
    world.server.run(|| -> OnServer {
        let all = Restraints::default();
        let mut backend = Iptables::open_with(variant, all, Some(&directory))?;
        let started = std::time::Instant::now();
        let error = backend.install(&desired).expect_err("it hangs");
        let took = started.elapsed();
        assert!(error.to_string().contains("in time"), "{error}");
        assert!(took < Duration::from_millis(4_500), "{took:?}");
        Ok(())
    })??;
    if variant == Variant::Nft {
        assert_eq!(saved(world), before);
    }
    assert!(!saved(world).contains("ssh_"));
    std::fs::remove_dir_all(&directory)?;
    // One that takes its time does not lengthen anybody's.
    let directory = wrapper(
        world,
        "iptables-save",
        "sleep 1.1; exec /usr/sbin/$(basename $0)",
    );
    world.server.run(|| -> OnServer {
        let all = Restraints::default();
        let mut backend = Iptables::open_with(variant, all, Some(&directory))?;
        backend.install(&desired)
    })??;
    world.is_shut_out_after(A, Duration::from_secs(1));
    assert_eq!(world.who(&[A, B]), [B]);
    std::thread::sleep(Duration::from_secs(1));
    assert!(!marker.exists(), "it went on");
    Ok(())
}

/// Somebody else's rule keeps a set that we do not want any more.
pub(super) fn left_over(world: &mut World) -> Tried {
    world.install(vec![ssh(), rules("web", &["80"])], vec![]);
    let rule = "FORWARD -m set --match-set web_banned4 src -j DROP";
    let with = |verb: &str| format!("{verb} {rule}");
    let (add, delete) = (with("-A"), with("-D"));
    iptables(world, "iptables", &add.split(' ').collect::<Vec<_>>());
    let desired = Desired {
        gates: vec![ssh()],
        members: vec![filter(A, 300)],
        sessions: vec![],
    };
    world.with(|backend| backend.install(&desired))?;
    let problems = world.with(|backend| backend.verify())?;
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("web_banned4"), "{problems:?}");
    assert_eq!(world.who(&[A, B]), [A]);
    iptables(world, "iptables", &delete.split(' ').collect::<Vec<_>>());
    while !world.with(|backend| backend.verify())?.is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!ipset(world, &["list", "-n"]).contains("web"));
    Ok(())
}

/// The original knew nothing of IPv6: there the gate is new, and sessions are open.
pub(super) fn takes_over_sessions(world: &mut World) -> Tried {
    restore(world, "iptables", ORIGINAL);
    let client = world.clients.client(A6)?;
    let portcullis::lab::Outcome::Open(mut session) =
        client.connect("[2001:db8::1]:22", BEFORE_A_SECOND_SYN)?
    else {
        panic!("nothing guards IPv6 yet");
    };
    session.banner()?;
    let mut desired = Desired {
        gates: vec![ssh()],
        ..Desired::default()
    };
    desired.members = world.observed().expect("the original's").members;
    let missing = world.with(|backend| backend.missing(&desired))?;
    assert_eq!(missing, [(ssh().name, "22".parse()?)]);
    let peers = world
        .server
        .run(|| portcullis::sessions::established(&ssh().ports))??;
    let sessions = peers.into_iter().map(|(_, peer)| (ssh().name, peer));
    desired.sessions = sessions.collect();
    world.install_all(&desired);
    assert!(session.echoes("still here")?);
    assert_eq!(world.who(&[A, B, A6]), [A, B]);
    assert!(world.with(|backend| backend.missing(&desired))?.is_empty());
    Ok(())
}
