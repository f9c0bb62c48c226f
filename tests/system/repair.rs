//! Somebody else's `nft` takes our rules away.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cases;
use crate::world::{Family, Tried, World};

cases![
    a_knock_right_after_nft_flush_ruleset_counts,
    what_was_added_by_hand_is_kept_and_flushed_like_the_rest,
    other_tables_are_left_alone,
    a_drop_in_another_table_stands,
    a_second_after_nft_flush_ruleset_the_table_is_whole,
    two_seconds_after_a_flush_of_legacy_iptables_or_of_ipsets_everything_is_there,
    two_seconds_after_a_flush_of_iptables_nft_or_of_ipsets_everything_is_there,
];

fn a_knock_right_after_nft_flush_ruleset_counts() -> Tried {
    let world = World::new()?;
    world.expect(0, &["status"]);
    world.expect(0, &["drop", &world.scanner.address(Family::V4)]);
    world.nft(&["flush", "ruleset"]);
    let knock = ["-4", Family::V4.server(), "1228", "1227"];
    world.succeeds(&world.knocker.host, "knock", &knock);
    world.soon_in("ssh_filter", &world.knocker.address(Family::V4));
    let status = world.expect(0, &["status"]);
    assert!(
        status.stdout.contains("table inet knockd is missing"),
        "{status:?}"
    );
    for family in Family::BOTH {
        assert_eq!(world.stranger.finds(family, 22), "silent");
        assert_eq!(world.colleague.finds(family, 22), "open");
    }
    world.knocker.soon_finds(Family::V4, "open");
    assert_eq!(world.scanner.finds(Family::V4, 22), "silent");
    world.soon_in("ssh_banned", &world.scanner.address(Family::V4));
    Ok(())
}

fn what_was_added_by_hand_is_kept_and_flushed_like_the_rest() -> Tried {
    let world = World::new()?;
    let scanner = world.scanner.address(Family::V4);
    let ban = format!("{{ {scanner} }}");
    world.nft(&["add", "element", "inet", "knockd", "ssh_banned4", &ban]);
    world.expect(0, &["reload"]);
    let listed = world.expect(0, &["list", "banned"]);
    assert!(listed.stdout.contains("found in kernel"), "{listed:?}");
    let accepted = format!("{{ {} timeout 1h }}", world.stranger.address(Family::V4));
    world.nft(&["add", "element", "inet", "knockd", "ssh_filter4", &accepted]);
    world.stranger.soon_finds(Family::V4, "open");
    world.expect(0, &["flush", "all"]);
    let listed = world.expect(0, &["list", "banned", "accepted"]);
    assert!(!listed.stdout.contains("found in kernel"), "{listed:?}");
    assert_eq!(world.stranger.finds(Family::V4, 22), "silent");
    Ok(())
}

fn other_tables_are_left_alone() -> Tried {
    let mut world = World::before(crate::world::SHIPPED, crate::world::TRUSTED, Some(22))?;
    world.nft(&["add", "table", "ip", "host"]);
    world.nft(&["add", "chain", "ip", "host", "ssh_policy"]);
    let before = world.nft(&["list", "table", "ip", "host"]);
    world.daemon.start()?;
    world.expect(0, &["accept", &world.knocker.address(Family::V4)]);
    world.expect(0, &["reload"]);
    world.daemon.terminate()?;
    let reply = world.daemon.run_knockd(&["teardown"])?;
    assert_eq!(reply.code, Some(0), "{reply:?}");
    assert_eq!(world.nft(&["list", "ruleset"]).trim(), before.trim());
    Ok(())
}

/// What README.md says about ufw, firewalld and others: an acceptance here is not one there.
fn a_drop_in_another_table_stands() -> Tried {
    let world = World::new()?;
    world.nft(&["add", "table", "inet", "host"]);
    let chain = "{ type filter hook input priority filter; policy accept; }";
    world.nft(&["add", "chain", "inet", "host", "in", chain]);
    world.nft(&[
        "add", "rule", "inet", "host", "in", "tcp", "dport", "22", "drop",
    ]);
    assert_eq!(world.colleague.finds(Family::V4, 22), "silent");
    world.nft(&["delete", "table", "inet", "host"]);
    assert_eq!(world.colleague.finds(Family::V4, 22), "open");
    Ok(())
}

/// Within which everything is back where nf_tables tells of it, and where it is looked for.
const TOLD: Duration = Duration::from_secs(1);
const LOOKED_FOR: Duration = Duration::from_secs(2);
/// The kernel's programs show whole seconds.
const SHOWN: f64 = 1.0;

/// Rules as they are listed, without what counts or is numbered, and who is in which set for how
/// many seconds.
#[derive(Debug, PartialEq)]
struct Listed {
    rules: Vec<Value>,
    members: BTreeMap<(String, String), Option<f64>>,
}

/// What `nft list ruleset` shows of our table.
#[track_caller]
fn listed(world: &World) -> Listed {
    let text = world.nft(&["-j", "list", "ruleset"]);
    let all: Value = serde_json::from_str(&text).expect("JSON");
    let mut listed = Listed {
        rules: Vec::new(),
        members: BTreeMap::new(),
    };
    for object in all["nftables"].as_array().expect("a list") {
        let (kind, what) = object
            .as_object()
            .and_then(|it| it.iter().next())
            .expect("one");
        let of_ours = what["table"] == "knockd" || (kind == "table" && what["name"] == "knockd");
        if !of_ours {
            continue;
        }
        let mut object = object.clone();
        if kind == "set"
            && let Value::Array(members) = object["set"]["elem"].take()
        {
            for member in members {
                let inside = member.get("elem");
                let value = inside.map_or(&member, |inside| &inside["val"]);
                let left = inside.and_then(|inside| inside["expires"].as_f64());
                let set = what["name"].as_str().expect("a name").to_owned();
                listed.members.insert((set, value.to_string()), left);
            }
        }
        forget_numbers(&mut object);
        listed.rules.push(object);
    }
    listed
}

fn forget_numbers(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for counted in ["handle", "packets", "bytes"] {
                fields.remove(counted);
            }
            fields.values_mut().for_each(forget_numbers);
        }
        Value::Array(values) => values.iter_mut().for_each(forget_numbers),
        _ => {}
    }
}

/// Everything is there, and ends when it should.
#[track_caller]
fn is_whole(before: &Listed, since: Instant, world: &World) {
    let now = listed(world);
    let passed = since.elapsed().as_secs_f64();
    assert_eq!(now.rules, before.rules);
    let who = |listed: &Listed| listed.members.keys().cloned().collect::<Vec<_>>();
    assert_eq!(who(&now), who(before));
    for (who, left) in &before.members {
        match (left, now.members[who]) {
            (None, None) => {}
            (Some(before), Some(now)) => {
                let least = before - passed - SHOWN;
                let is_right = now >= least && now <= before + SHOWN;
                assert!(is_right, "{who:?}: {before} s, {passed} s later {now} s");
            }
            (before, now) => panic!("{who:?}: {before:?}, then {now:?}"),
        }
    }
}

/// The promise to the letter: not how soon it is noticed, but what anybody finds a second later.
fn a_second_after_nft_flush_ruleset_the_table_is_whole() -> Tried {
    let world = World::new()?;
    fill(&world);
    let (before, since) = (listed(&world), Instant::now());
    assert!(
        before.rules.len() > 10 && before.members.len() > 5,
        "{before:?}"
    );
    let others = "flush ruleset\ntable inet other {\n chain in {\n  type filter hook input priority \
                  filter; policy accept;\n }\n}\n";
    let others = world.file("others", others.as_bytes())?;
    let others = others.display().to_string();
    // Twice, which is no fight yet.
    for damage in [&["flush", "ruleset"][..], &["-f", &others]] {
        world.nft(damage);
        std::thread::sleep(TOLD);
        is_whole(&before, since, &world);
    }
    assert!(world.nft(&["list", "ruleset"]).contains("table inet other"));
    world.expect(0, &["status"]);
    Ok(())
}

#[track_caller]
fn fill(world: &World) {
    for family in Family::BOTH {
        world.expect(0, &["drop", &world.scanner.address(family)]);
        world.expect(
            0,
            &["accept", &world.knocker.address(family), "--for", "1h"],
        );
    }
    world.expect(0, &["drop", "198.51.100.0/24", "--for", "2h"]);
}

/// What `iptables-save` and `ipset save` show: rules, and members with their seconds.
#[track_caller]
fn saved(world: &World, variant: &str) -> (Vec<String>, BTreeMap<String, Option<f64>>) {
    let mut rules = Vec::new();
    for family in ["iptables", "ip6tables"] {
        let text = world.succeeds(
            &world.server,
            &format!("{family}-{variant}-save"),
            &["-t", "filter"],
        );
        let ours = text
            .lines()
            .filter(|line| line.contains("portcullis") || line.contains("ssh_"));
        rules.extend(ours.map(|line| line.split(" [").next().unwrap_or(line).to_owned()));
    }
    let mut members = BTreeMap::new();
    for line in world.succeeds(&world.server, "ipset", &["save"]).lines() {
        let Some(member) = line.strip_prefix("add ") else {
            continue;
        };
        let words: Vec<&str> = member.split(' ').collect();
        let left = words.iter().position(|word| *word == "timeout");
        let left = left.and_then(|at| words.get(at + 1)?.parse::<f64>().ok());
        // 0 is never.
        let left = left.filter(|left| *left > 0.0);
        members.insert(words[..2].join(" "), left);
    }
    (rules, members)
}

fn two_seconds_after(variant: &'static str, damages: [&[&str]; 2]) -> Tried {
    let policy = crate::world::SHIPPED.replace("backend: nftables", "backend: iptables");
    let mut world = World::before(&policy, crate::world::TRUSTED, Some(22))?;
    world
        .daemon
        .set_environment(&[("KNOCKD_IPTABLES", variant)]);
    world.daemon.start()?;
    fill(&world);
    let ((rules, members), since) = (saved(&world, variant), Instant::now());
    assert!(
        rules.len() > 10 && members.len() >= 7,
        "{rules:#?} {members:?}"
    );
    for damage in damages {
        world.succeeds(&world.server, damage[0], &damage[1..]);
        std::thread::sleep(LOOKED_FOR);
        let (rules_now, members_now) = saved(&world, variant);
        let passed = since.elapsed().as_secs_f64();
        assert_eq!(rules_now, rules, "{damage:?}");
        let who = |members: &BTreeMap<String, _>| members.keys().cloned().collect::<Vec<_>>();
        assert_eq!(who(&members_now), who(&members), "{damage:?}");
        for (who, left) in &members {
            let told = format!("{damage:?}: {who}: {left:?} s, then {:?}", members_now[who]);
            let now = members_now[who].unwrap_or(f64::INFINITY);
            let left = left.unwrap_or(f64::INFINITY);
            // Written once more in whole seconds.
            assert!(now <= left + SHOWN, "{told}");
            assert!(now >= left - passed - 2.0 * SHOWN, "{told}");
        }
    }
    world.expect(0, &["status"]);
    Ok(())
}

fn two_seconds_after_a_flush_of_legacy_iptables_or_of_ipsets_everything_is_there() -> Tried {
    two_seconds_after("legacy", [&["iptables-legacy", "-F"], &["ipset", "flush"]])
}

fn two_seconds_after_a_flush_of_iptables_nft_or_of_ipsets_everything_is_there() -> Tried {
    two_seconds_after("nft", [&["ip6tables-nft", "-F"], &["ipset", "flush"]])
}
