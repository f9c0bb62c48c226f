//! Somebody else's `nft` takes our rules away.

use crate::cases;
use crate::world::{Family, Tried, World};

cases![
    a_knock_right_after_nft_flush_ruleset_counts,
    what_was_added_by_hand_is_kept_and_flushed_like_the_rest,
    other_tables_are_left_alone,
    a_drop_in_another_table_stands,
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
