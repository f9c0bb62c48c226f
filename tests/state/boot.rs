//! The machine is booted: the kernel has forgotten everything, the state directory is there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use portcullis::engine::{Everything, Kept};
use portcullis::lab::{Lab, LabError, await_some};
use portcullis::model::{Chain, Deadline, GateName, Time, host_net};
use portcullis::store::{Batch, Clocks, Store, boot_id};
use portcullis::sys::clock;

use crate::scenarios;
use crate::world::{DECOY, Family, TRUSTED, Tried, World, long_policy, on_backend};

scenarios![
    members_come_back_with_their_reasons_and_what_is_left,
    trust_until_reboot_is_over_and_the_whitelist_rules,
    what_was_decided_without_a_daemon_outlives_the_boot,
    an_open_gate_stays_open_for_the_rest_of_its_time,
    a_boot_in_the_middle_of_a_trial_takes_it_back_with_all_that_it_removed,
    a_wall_clock_that_was_wrong_prolongs_nothing,
    a_hundred_thousand_bans_come_back,
];

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Another boot, as far as this process and those that it starts are concerned, until dropped.
pub(crate) struct Boot(PathBuf);

impl Boot {
    pub(crate) fn another(dir: &Path) -> Result<Self, Box<dyn std::error::Error>> {
        let number = clock::boottime();
        let file = dir.join(format!("boot-{number}"));
        let id = format!("{:08x}-0000-4000-8000-{number:012x}\n", std::process::id());
        fs::write(&file, id)?;
        let none = None::<&str>;
        mount(Some(&file), BOOT_ID, none, MsFlags::MS_BIND, none)?;
        Ok(Self(file))
    }
}

impl Drop for Boot {
    fn drop(&mut self) {
        let _ = umount2(BOOT_ID, MntFlags::MNT_DETACH);
        let _ = fs::remove_file(&self.0);
    }
}

/// A machine with the same disk, not yet started.
pub(crate) fn with_the_disk_of(old: &World, policy: &str) -> Result<World, LabError> {
    let new = World::before(policy, TRUSTED, &[22])?;
    copy_state(old, &new);
    Ok(new)
}

fn copy_state(old: &World, new: &World) {
    let from = fs::read_dir(old.daemon.state_dir()).expect("the state directory");
    for entry in from {
        let entry = entry.expect("an entry");
        let to = new.daemon.state_dir().join(entry.file_name());
        fs::copy(entry.path(), to).expect("a copy");
    }
}

type Members = BTreeMap<String, (Option<f64>, String)>;

#[track_caller]
fn members(world: &World, chain: &str) -> Members {
    let all = world.members(chain).into_iter();
    all.map(|m| (m.address, (m.left, m.reason))).collect()
}

fn members_come_back_with_their_reasons_and_what_is_left() -> Tried {
    let mut old = World::with(&long_policy(), TRUSTED)?;
    let (knocked, banned) = (old.people(10)?, old.people(11)?);
    for (knocked, banned) in knocked.iter().zip(&banned) {
        knocked.opens();
        banned.knocks(DECOY);
        old.await_member("ssh_banned", &banned.address);
    }
    old.expect(0, &["drop", "198.51.100.0/24", "--for", "1h"]);
    old.expect(0, &["drop", "198.51.100.9"]);
    old.expect(0, &["accept", "192.0.2.12", "--for", "never"]);
    old.expect(0, &["accept", "192.0.2.13", "--for", "1s"]);
    let (filter, ban) = (members(&old, "ssh_filter"), members(&old, "ssh_banned"));
    let since = Instant::now();
    old.daemon.kill_9();
    std::thread::sleep(Duration::from_millis(1_100));

    let mut new = with_the_disk_of(&old, &long_policy())?;
    let boot = Boot::another(new.lab.dir())?;
    new.daemon.start()?;
    let passed = since.elapsed().as_secs_f64();
    for (chain, mut before) in [("ssh_filter", filter), ("ssh_banned", ban)] {
        before.remove("192.0.2.13");
        let after = members(&new, chain);
        assert_eq!(
            before.keys().collect::<Vec<_>>(),
            after.keys().collect::<Vec<_>>()
        );
        for (address, (left, reason)) in &before {
            let (now, why) = &after[address];
            assert_eq!(reason, why, "{address}");
            match (left, now) {
                (None, None) => {}
                (Some(left), Some(now)) => {
                    let lost = left - now;
                    // Shown in whole seconds; the listing takes its time, too.
                    assert!(
                        lost >= 0.0 && lost <= passed + 3.0,
                        "{address}: {left} {now}"
                    );
                }
                other => panic!("{address}: {other:?}"),
            }
        }
    }
    for (knocked, banned) in knocked.iter().zip(&banned) {
        let [v4, v6] = new.people(10)?;
        let here = if knocked.address == v4.address {
            v4
        } else {
            v6
        };
        here.gets_in();
        let [v4, v6] = new.people(11)?;
        let here = if banned.address == v4.address { v4 } else { v6 };
        here.is_refused();
    }
    // Once more: what was written in one boot counts in the third.
    new.daemon.kill_9();
    let mut third = with_the_disk_of(&new, &long_policy())?;
    drop(boot);
    let _boot = Boot::another(third.lab.dir())?;
    third.daemon.start()?;
    assert!(third.member("ssh_banned", "198.51.100.9").is_some());
    assert!(
        third
            .member("ssh_filter", "192.0.2.12")
            .is_some_and(|m| m.left.is_none())
    );
    Ok(())
}

fn trust_until_reboot_is_over_and_the_whitelist_rules() -> Tried {
    let mut old = World::with(&long_policy(), "# nobody\n")?;
    old.expect(0, &["trust", "192.0.2.12", "--runtime"]);
    // Trusted by the whitelist of the next boot.
    old.expect(0, &["drop", "192.0.2.50"]);
    old.expect(0, &["drop", "192.0.2.11"]);
    old.daemon.kill_9();
    let mut new = with_the_disk_of(&old, &long_policy())?;
    let _boot = Boot::another(new.lab.dir())?;
    new.daemon.start()?;
    assert!(new.member("ssh_banned", "192.0.2.50").is_none());
    assert!(new.member("ssh_banned", "192.0.2.11").is_some());
    new.person(Family::V4, 50)?.gets_in();
    new.person(Family::V4, 12)?.is_refused();
    Ok(())
}

fn what_was_decided_without_a_daemon_outlives_the_boot() -> Tried {
    let mut old = World::with(&long_policy(), TRUSTED)?;
    old.expect(0, &["accept", "192.0.2.12", "--for", "never"]);
    old.expect(0, &["drop", "198.51.100.7", "198.51.100.8"]);
    old.daemon.kill_9();
    for arguments in [
        &["flush", "192.0.2.12"][..],
        &["unban", "198.51.100.7"],
        &["drop", "198.51.100.9", "--for", "1h"],
        &["accept", "192.0.2.13", "--for", "1h"],
        &["trust", "198.51.100.20"],
        &["trust", "198.51.100.21", "--runtime"],
    ] {
        let reply = old.daemon.ctl_direct(arguments)?;
        assert_eq!(reply.code, Some(0), "{arguments:?}: {reply:?}");
    }

    let mut new = with_the_disk_of(&old, &long_policy())?;
    let _boot = Boot::another(new.lab.dir())?;
    new.daemon.start()?;
    let accepted: Vec<String> = members(&new, "ssh_filter").into_keys().collect();
    assert_eq!(accepted, ["192.0.2.13"]);
    let banned = members(&new, "ssh_banned");
    let left = banned
        .iter()
        .map(|(who, (left, _))| (who.as_str(), left.is_some()));
    let left: Vec<_> = left.collect();
    assert_eq!(left, [("198.51.100.8", false), ("198.51.100.9", true)]);
    for (address, what) in [
        ("192.0.2.12", "withdrawn"),
        ("192.0.2.13", "accepted"),
        ("198.51.100.7", "unbanned"),
        ("198.51.100.9", "banned"),
        ("198.51.100.20", "trusted"),
        ("198.51.100.21", "trusted"),
    ] {
        let told = new.json(&["history", address]);
        let entries = told["entries"].as_array().ok_or("entries")?;
        let last = entries.last().ok_or(format!("{address} has no history"))?;
        assert_eq!(last["what"], what, "{entries:?}");
        let why = last["reason"].as_str().ok_or("why")?;
        assert!(why.starts_with("knockctl --direct by "), "{last}");
    }
    Ok(())
}

fn an_open_gate_stays_open_for_the_rest_of_its_time() -> Tried {
    let mut old = World::with(&long_policy(), TRUSTED)?;
    old.expect(0, &["open", "--for", "2h"]);
    old.daemon.terminate()?;
    let mut new = with_the_disk_of(&old, &long_policy())?;
    let _boot = Boot::another(new.lab.dir())?;
    new.daemon.start()?;
    for stranger in new.people(14)? {
        stranger.gets_in();
    }
    let status = new.json(&["status"]);
    let left = status["gates"][0]["open_expires_in_s"].as_u64();
    assert!(
        left.is_some_and(|left| left <= 7200 && left > 7000),
        "{left:?}"
    );
    Ok(())
}

fn a_boot_in_the_middle_of_a_trial_takes_it_back_with_all_that_it_removed() -> Tried {
    let web = "gates:\n  web: { ports: [8443], accept_timeout: 60s, ban_timeout: never }\n";
    // Another machine has the same whitelist at the same place.
    let place = Lab::new()?;
    let list = place.dir().join("list");
    fs::write(&list, TRUSTED)?;
    let list_name = list.to_str().ok_or("not UTF-8")?;
    let less = on_backend(&long_policy().replace("knockd.trusted", list_name));
    let whole = less
        .replace("gates:\n", web)
        .replace("action: accept", "action: accept, gate: ssh");
    let mut old = World::with_services(&whole, TRUSTED, &[22, 8443])?;
    old.expect(0, &["drop", "192.0.2.12", "--gate", "web"]);
    old.expect(0, &["accept", "192.0.2.13", "--for", "1h", "--gate", "web"]);
    let file = old.lab.dir().join("less.yaml");
    fs::write(&file, &less)?;
    // Whoever edits the list takes their own line out.
    fs::write(&list, "192.0.2.15\n")?;
    let file = file.to_str().ok_or("not UTF-8")?;
    old.expect(0, &["apply", file, "--confirm", "1h"]);
    old.person(Family::V4, 12)?.gets_in_at(8443);
    old.person(Family::V4, 50)?.is_refused();
    old.daemon.kill_9();

    let mut new = World::before(&whole, TRUSTED, &[22, 8443])?;
    copy_state(&old, &new);
    let _boot = Boot::another(new.lab.dir())?;
    for round in ["the first boot", "and again"] {
        new.daemon.start()?;
        new.person(Family::V4, 12)?.is_refused_at(8443);
        assert!(new.member("web_banned", "192.0.2.12").is_some(), "{round}");
        let accepted = new.member("web_filter", "192.0.2.13").ok_or(round)?;
        assert!(
            accepted.left.is_some_and(|left| left > 3_000.0),
            "{accepted:?}"
        );
        for trusted in new.people(50)? {
            trusted.gets_in();
        }
        new.person(Family::V4, 15)?.is_refused();
        let told = new.expect(5, &["status"]).stdout;
        assert!(
            told.contains("list is not in force as it was edited"),
            "{round}: {told}"
        );
        new.daemon.kill_9();
    }
    new.daemon.start()?;
    new.expect(0, &["reload"]);
    new.expect(0, &["status"]);
    new.person(Family::V4, 50)?.is_refused();
    new.person(Family::V4, 15)?.gets_in();
    Ok(())
}

fn a_wall_clock_that_was_wrong_prolongs_nothing() -> Tried {
    let mut world = World::before(&long_policy(), TRUSTED, &[22])?;
    let (ssh, minute) = (GateName::new("ssh")?, 60_000_000_000);
    let kept = |last: u8, chain| Kept {
        gate: ssh.clone(),
        chain,
        net: host_net([192, 0, 2, last].into()),
        deadline: Deadline::At(Time(10 * minute)),
        reason: "before".into(),
        by_knock: None,
    };
    let members = vec![kept(10, Chain::Filter), kept(11, Chain::Banned)];
    let mut batch = Batch {
        everything: Some(Everything {
            members,
            ..Everything::default()
        }),
        ..Batch::default()
    };
    // Written ten days in the future, when nine minutes were left.
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let wall_ms = i64::try_from(since.as_millis())? + 10 * 86_400_000;
    let clocks = |boot| Clocks {
        boot_id: "another".into(),
        boot: Time(boot),
        wall_ms,
    };
    let mut store = Store::open_as(&world.daemon.state_dir(), "another")?;
    store.write(&batch, &clocks(minute))?;
    // Both clocks were noted again five minutes later.
    batch.everything = None;
    store.write(&batch, &clocks(6 * minute))?;
    drop(store);
    world.daemon.start()?;
    for (chain, address) in [("ssh_filter", "192.0.2.10"), ("ssh_banned", "192.0.2.11")] {
        let member = world.member(chain, address).expect("it is there");
        assert!(
            member
                .left
                .is_some_and(|left| left <= 240.0 && left > 200.0),
            "{member:?}"
        );
    }
    Ok(())
}

fn a_hundred_thousand_bans_come_back() -> Tried {
    let number: u32 = 100_000;
    let mut world = World::before(&long_policy(), TRUSTED, &[22])?;
    let ssh = GateName::new("ssh")?;
    let members = (0..number).map(|n| Kept {
        gate: ssh.clone(),
        chain: Chain::Banned,
        net: host_net((0x0a00_0000 + n).to_be_bytes().into()),
        deadline: Deadline::Never,
        reason: "decoy".into(),
        by_knock: (n % 2 == 0).then_some(u64::from(n) + 1),
    });
    let batch = Batch {
        everything: Some(Everything {
            members: members.collect(),
            ..Everything::default()
        }),
        ..Batch::default()
    };
    assert_ne!(boot_id()?, "another");
    let mut store = Store::open_as(&world.daemon.state_dir(), "another")?;
    let clocks = Clocks {
        boot_id: "another".into(),
        boot: Time(1),
        wall_ms: 0,
    };
    store.write(&batch, &clocks)?;
    drop(store);
    let started = Instant::now();
    world.daemon.spawn()?;
    // In how much less than a second they are back is for `cargo bench --bench restarts -- reboot` to
    // say; without optimization it takes ten times as long.
    await_some("the first answer", Duration::from_secs(60), || {
        Ok((world.ctl(&["ping"])?.code == Some(0)).then_some(()))
    })?;
    let took = started.elapsed();
    println!("{number} bans came back in {took:?}, from exec to the first answer");
    let status = world.json(&["status"]);
    assert_eq!(status["gates"][0]["banned"], number);
    Ok(())
}
