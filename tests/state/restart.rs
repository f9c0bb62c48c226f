//! The daemon is killed while the machine goes on: the kernel says who is in and who is not.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use portcullis::firewall::choose;
use portcullis::firewall::{Change, Member};
use portcullis::model::{Chain, GateName, Lifetime};
use portcullis::policy::BackendChoice;

use crate::boot::{Boot, with_the_disk_of};
use crate::held::{held, tolerance};
use crate::scenarios;
use crate::world::{TRUSTED, Tried, World, backend, long_policy};

scenarios![
    kill_9_loses_and_prolongs_nothing,
    what_somebody_took_out_stays_out_and_what_they_put_in_is_adopted,
    what_the_kernel_has_lost_comes_back_from_the_store,
    commands_by_hand_are_still_by_hand,
];

/// On each backend. `STATE_ROUNDS=200` are both together, for the figure in docs/benchmarks.md.
fn rounds() -> u32 {
    let wanted = std::env::var("STATE_ROUNDS").ok();
    wanted.and_then(|text| text.parse().ok()).unwrap_or(20) / 2
}

/// Between which moments each is to end, in seconds since the scenario began: it was decided after
/// the command was given and before it was answered.
type Deadlines = HashMap<(Chain, IpNet), (f64, f64)>;

fn kill_9_loses_and_prolongs_nothing() -> Tried {
    let mut world = World::with(&long_policy(), TRUSTED)?;
    let tolerance = tolerance(&backend());
    let began = Instant::now();
    let now = || began.elapsed().as_secs_f64();
    let mut expected = Deadlines::new();
    let (mut read, mut farthest) = (0, 0.0_f64);
    for round in 0..rounds() {
        let secs = 40 + u64::from(round % 7) * 100;
        let time = format!("{secs}s");
        for (verb, chain, net) in [
            ("accept", Chain::Filter, "192.0"),
            ("drop", Chain::Banned, "198.51"),
        ] {
            let address = format!("{net}.{}.{}", 64 + round / 200, round % 200 + 1);
            let asked = now();
            world.expect(0, &[verb, &address, "--for", &time]);
            let secs = Duration::from_secs(secs).as_secs_f64();
            let host = IpNet::from(address.parse::<IpAddr>()?);
            expected.insert((chain, host), (asked + secs, now() + secs));
        }
        if round % 3 == 0 {
            std::thread::sleep(Duration::from_millis(u64::from(round % 30)));
        }
        world.daemon.kill_9();
        world.daemon.start()?;
        let asked = now();
        let held = held(&world.server, &backend())?;
        let answered = now();
        expected.retain(|_, (from, _)| *from > answered + tolerance);
        for ((chain, net), (from, to)) in &expected {
            let told = format!("{net} in {} in round {round}", chain.suffix());
            let mut members = held.iter();
            let found = members.find(|member| member.chain == *chain && member.net == *net);
            let Some(found) = found else {
                panic!("{told} is lost");
            };
            let Lifetime::For(left) = found.remaining else {
                panic!("{told} is there for good");
            };
            let left = left.as_secs_f64();
            // At the least, and at the most: as the moments are known.
            let (late, early) = (asked + left - to, from - (answered + left));
            assert!(late <= tolerance, "{told} is prolonged by {late} s");
            assert!(early <= tolerance, "{told} has lost {early} s");
            (read, farthest) = (read + 1, farthest.max(late).max(early));
        }
    }
    println!(
        "{}: {} times kill -9; none of {read} unexpired members was lost, and none was off by more \
         than {farthest:.3} s",
        backend(),
        rounds()
    );
    Ok(())
}

fn what_somebody_took_out_stays_out_and_what_they_put_in_is_adopted() -> Tried {
    let mut world = World::with(&long_policy(), TRUSTED)?;
    for address in ["198.51.100.1", "198.51.100.2", "198.51.100.0/28"] {
        world.expect(0, &["drop", address]);
    }
    world.expect(0, &["accept", "192.0.2.10", "192.0.2.11", "--for", "1h"]);
    world.daemon.kill_9();
    let gate = GateName::new("ssh")?;
    let choice = if backend() == "nftables" {
        BackendChoice::Nftables
    } else {
        BackendChoice::Iptables
    };
    let done = world.server.run(|| {
        let mut backend = choose::choose(choice, None)?.backend;
        backend.observe()?;
        let remove = |chain, net: &str| Change::Remove {
            gate: gate.clone(),
            chain,
            net: net.parse().expect("a network"),
        };
        let put = Member {
            gate: gate.clone(),
            chain: Chain::Banned,
            net: "203.0.113.7/32".parse().expect("a network"),
            remaining: Lifetime::Never,
            reason: String::new(),
        };
        backend.apply(&[
            remove(Chain::Banned, "198.51.100.1/32"),
            remove(Chain::Filter, "192.0.2.10/32"),
            Change::Put(put),
        ])
    })?;
    done?;
    world.daemon.start()?;
    let banned = world.members("ssh_banned");
    let mut banned: Vec<_> = banned.iter().map(|m| m.address.as_str()).collect();
    banned.sort_unstable();
    assert_eq!(banned, ["198.51.100.0/28", "198.51.100.2", "203.0.113.7"]);
    let accepted = world.members("ssh_filter");
    let accepted: Vec<_> = accepted.iter().map(|m| m.address.as_str()).collect();
    assert_eq!(accepted, ["192.0.2.11"]);
    // And so it stays in the next boot.
    world.daemon.kill_9();
    let mut new = with_the_disk_of(&world, &long_policy())?;
    let _boot = Boot::another(new.lab.dir())?;
    new.daemon.start()?;
    assert!(new.member("ssh_banned", "198.51.100.1").is_none());
    assert!(new.member("ssh_banned", "203.0.113.7").is_some());
    assert!(new.member("ssh_filter", "192.0.2.10").is_none());
    Ok(())
}

fn what_the_kernel_has_lost_comes_back_from_the_store() -> Tried {
    let mut world = World::with(&long_policy(), TRUSTED)?;
    world.expect(0, &["drop", "192.0.2.11"]);
    world.expect(0, &["accept", "192.0.2.10", "--for", "1h"]);
    world.daemon.kill_9();
    // As `nft flush ruleset` leaves it, without nft.
    let reply = world.daemon.run_knockd(&["teardown"])?;
    assert_eq!(reply.code, Some(0), "{reply:?}");
    world.daemon.start()?;
    let accepted = world
        .member("ssh_filter", "192.0.2.10")
        .expect("it is there");
    assert!(
        accepted.left.is_some_and(|left| left > 3_500.0),
        "{accepted:?}"
    );
    let banned = world
        .member("ssh_banned", "192.0.2.11")
        .expect("it is there");
    assert!(banned.reason.starts_with("knockctl by "), "{banned:?}");
    Ok(())
}

fn commands_by_hand_are_still_by_hand() -> Tried {
    let mut world = World::with(&long_policy(), TRUSTED)?;
    world.expect(0, &["accept", "192.0.2.12", "--for", "never"]);
    world.daemon.kill_9();
    world.daemon.start()?;
    // Nobody else's acceptance without an end would stay one.
    let member = world
        .member("ssh_filter", "192.0.2.12")
        .expect("it is there");
    assert!(member.left.is_none(), "{member:?}");
    assert!(member.reason.starts_with("knockctl by "), "{member:?}");
    Ok(())
}
