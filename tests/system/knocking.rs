//! Knocks by the programs that people have, and what `nft` and `knockctl` then show.

use crate::cases;
use crate::world::{Family, Person, Tried, World};

cases![
    nft_shows_banned_trusted_filter_log_drop_in_this_order,
    debians_knock_opens_for_the_knocker_only,
    the_shipped_knock_opens_for_the_knocker_only,
    nc_opens_too,
    nc_on_a_decoy_bans,
    the_banned_cannot_knock_and_the_trusted_need_not,
    ssh_itself_can_knock,
    nmap_can_knock,
    udp_knocks_of_debians_knock_and_of_nc_count,
    the_kernel_holds_what_knockctl_lists,
];

fn nft_shows_banned_trusted_filter_log_drop_in_this_order() -> Tried {
    let world = World::new()?;
    let table = world.nft(&["list", "table", "inet", "knockd"]);
    let chain = chain(&table, "ssh_policy");
    let steps = [
        "jump ssh_banned",
        "jump ssh_trusted",
        "jump ssh_filter",
        "log prefix \"[knockd,drop] \"",
        "drop",
    ];
    assert_eq!(chain.len(), steps.len(), "{chain:?}");
    for (rule, step) in chain.iter().zip(steps) {
        assert!(rule.contains(step), "`{rule}` is not `{step}`: {chain:?}");
    }
    assert!(chain[3].starts_with("limit rate"), "{chain:?}");
    let base = self::chain(&table, "input");
    assert!(
        base[0].contains("hook input") && base[0].contains("policy accept"),
        "{base:?}"
    );
    assert!(
        base.last()
            .is_some_and(|rule| rule.starts_with("tcp dport 22 jump ssh_policy")),
        "{base:?}"
    );
    Ok(())
}

/// The lines of a chain.
fn chain(table: &str, name: &str) -> Vec<String> {
    let opening = format!("chain {name} {{");
    table
        .lines()
        .map(str::trim)
        .skip_while(|line| *line != opening)
        .skip(1)
        .take_while(|line| *line != "}")
        .map(str::to_owned)
        .collect()
}

/// Knocks, and nobody but who knocked gets in.
#[track_caller]
fn opens_for_the_knocker_only(world: &World, family: Family, knock: impl Fn(&Person)) {
    let (knocker, stranger) = (&world.knocker, &world.stranger);
    assert_eq!(knocker.finds(family, 22), "silent");
    knock(knocker);
    knocker.soon_finds(family, "open");
    assert_eq!(stranger.finds(family, 22), "silent");
    let (left, reason) = world.soon_in("ssh_filter", &knocker.address(family));
    assert!(
        left.is_some_and(|left| (280..=300).contains(&left)),
        "{left:?}"
    );
    assert_eq!(reason, "opencloseSSH");
    assert_eq!(world.listed(&stranger.address(family)), []);
}

fn debians_knock_opens_for_the_knocker_only() -> Tried {
    let world = World::new()?;
    for family in Family::BOTH {
        opens_for_the_knocker_only(&world, family, |knocker| {
            let arguments = [family.flag(), family.server(), "1228", "1227"];
            world.succeeds(&knocker.host, "knock", &arguments);
        });
    }
    Ok(())
}

fn the_shipped_knock_opens_for_the_knocker_only() -> Tried {
    let world = World::new()?;
    for family in Family::BOTH {
        opens_for_the_knocker_only(&world, family, |knocker| {
            let mut knock = knocker
                .host
                .command(env!("CARGO_BIN_EXE_knock"))
                .expect("a command");
            let finished = world.run(knock.args([family.server(), "1228", "1227"]));
            assert!(finished.expect("it runs and ends").status.success());
        });
    }
    Ok(())
}

/// `nc`, which is refused: nothing listens on a knock port.
#[track_caller]
fn nc(world: &World, person: &Person, family: Family, port: &str) {
    let mut nc = person.command("nc").expect("a command");
    let finished = world.run(nc.args(["-z", "-w", "1", family.flag(), family.server(), port]));
    assert_eq!(finished.expect("it runs and ends").status.code(), Some(1));
}

fn nc_opens_too() -> Tried {
    let world = World::new()?;
    for family in Family::BOTH {
        opens_for_the_knocker_only(&world, family, |knocker| {
            nc(&world, knocker, family, "1228");
            nc(&world, knocker, family, "1227");
        });
    }
    Ok(())
}

fn nc_on_a_decoy_bans() -> Tried {
    let world = World::new()?;
    for family in Family::BOTH {
        nc(&world, &world.scanner, family, "1220");
        nc(&world, &world.scanner, family, "1221");
        let banned = world.soon_in("ssh_banned", &world.scanner.address(family));
        assert_eq!(banned, (None, "banned1".to_owned()));
        assert_eq!(world.scanner.finds(family, 22), "silent");
        // Only the gate is shut: everything else is none of our business.
        assert_eq!(world.scanner.finds(family, 80), "refused");
    }
    Ok(())
}

fn the_banned_cannot_knock_and_the_trusted_need_not() -> Tried {
    let world = World::new()?;
    for family in Family::BOTH {
        assert_eq!(world.colleague.finds(family, 22), "open");
        for person in [&world.scanner, &world.colleague] {
            nc(&world, person, family, "1222");
            nc(&world, person, family, "1222");
        }
        world.soon_in("ssh_banned", &world.scanner.address(family));
        let arguments = [family.flag(), family.server(), "1228", "1227"];
        world.succeeds(&world.scanner.host, "knock", &arguments);
        // Who knocks later is let in later.
        world.succeeds(&world.knocker.host, "knock", &arguments);
        world.knocker.soon_finds(family, "open");
        assert_eq!(world.scanner.finds(family, 22), "silent");
        assert_eq!(world.colleague.finds(family, 22), "open");
        world.soon_in("ssh_trusted", &world.colleague.address(family));
    }
    Ok(())
}

fn ssh_itself_can_knock() -> Tried {
    let world = World::new()?;
    for family in Family::BOTH {
        opens_for_the_knocker_only(&world, family, |knocker| {
            for port in ["1228", "1227"] {
                let mut ssh = knocker.command("ssh").expect("a command");
                ssh.args([
                    "-F",
                    "none",
                    "-o",
                    "BatchMode=yes",
                    "-o",
                    "ConnectTimeout=1",
                ]);
                let finished = world.run(ssh.args(["-p", port, family.server()]));
                assert_eq!(finished.expect("it runs and ends").status.code(), Some(255));
            }
        });
    }
    Ok(())
}

fn nmap_can_knock() -> Tried {
    let world = World::new()?;
    for family in Family::BOTH {
        opens_for_the_knocker_only(&world, family, |knocker| {
            for port in ["1228", "1227"] {
                let mut arguments = vec!["-n", "-Pn", "-sS", "--max-retries", "0", "-p", port];
                if family == Family::V6 {
                    arguments.push("-6");
                }
                arguments.push(family.server());
                world.succeeds(&knocker.host, "nmap", &arguments);
            }
        });
    }
    Ok(())
}

fn udp_knocks_of_debians_knock_and_of_nc_count() -> Tried {
    let policy = "
gates: { ssh: { ports: [22] } }
knocks: { udp: { sequence: [\"7000:udp\", 7001/udp, 7002], seq_timeout: 15s, action: accept } }
";
    let world = World::with(policy)?;
    for family in Family::BOTH {
        let knock = [
            family.flag(),
            family.server(),
            "7000:udp",
            "7001:udp",
            "7002:tcp",
        ];
        world.succeeds(&world.knocker.host, "knock", &knock);
        world.knocker.soon_finds(family, "open");

        let shell = format!(
            "echo x | nc -u -w 1 {server} 7000; echo x | nc -u -w 1 {server} 7001; \
             nc -z -w 1 {server} 7002; true",
            server = family.server()
        );
        world.succeeds(&world.stranger.host, "sh", &["-c", &shell]);
        world.stranger.soon_finds(family, "open");
        assert_eq!(world.scanner.finds(family, 22), "silent");
    }
    Ok(())
}

fn the_kernel_holds_what_knockctl_lists() -> Tried {
    let world = World::new()?;
    for family in Family::BOTH {
        world.succeeds(
            &world.knocker.host,
            "knock",
            &[family.flag(), family.server(), "1228", "1227"],
        );
        nc(&world, &world.scanner, family, "1226");
        nc(&world, &world.scanner, family, "1226");
        world.soon_in("ssh_filter", &world.knocker.address(family));
        world.soon_in("ssh_banned", &world.scanner.address(family));
        world.soon_in("ssh_trusted", &world.colleague.address(family));
    }
    let table = world.nft(&["list", "table", "inet", "knockd"]);
    let sets = [
        ("ssh_filter", &world.knocker),
        ("ssh_banned", &world.scanner),
        ("ssh_trusted", &world.colleague),
    ];
    for (name, person) in sets {
        for (family, digit) in Family::BOTH.into_iter().zip(["4", "6"]) {
            let listed = world.nft(&["list", "set", "inet", "knockd", &format!("{name}{digit}")]);
            let address = person.address(family);
            assert!(listed.contains(&address), "{address}: {listed}\n{table}");
        }
    }
    Ok(())
}
