//! Long lists.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::cases;
use crate::world::{Family, SHIPPED, Tried, World};

cases![start_with_a_hundred_thousand_lines_is_complete];

const LINES: u32 = 100_000;
const A_MINUTE: Duration = Duration::from_secs(60);

fn start_with_a_hundred_thousand_lines_is_complete() -> Tried {
    let mut trusted = String::from("# many\n");
    for number in 0..LINES {
        let [_, a, b, c] = number.to_be_bytes();
        writeln!(trusted, "10.{a}.{b}.{c} # number {number}")?;
    }
    trusted.push_str("192.0.2.50\n2001:db8::50\n");
    let mut world = World::before(SHIPPED, &trusted, Some(22))?;
    let started = Instant::now();
    // How long it takes is for `make bench` to say, optimised and undisturbed.
    world.daemon.spawn()?;
    while world.daemon.ctl(&["ping"])?.code != Some(0) {
        assert!(world.daemon.ended()?.is_none(), "it ended");
        assert!(started.elapsed() < A_MINUTE, "it does not answer");
        std::thread::sleep(Duration::from_millis(50));
    }
    let took = started.elapsed();
    println!("start with {LINES} lines, unoptimised: {took:.1?}");

    let set = world.nft(&["-j", "list", "set", "inet", "knockd", "ssh_trusted4"]);
    let set: serde_json::Value = serde_json::from_str(&set)?;
    let objects = set["nftables"].as_array().ok_or("nft's JSON has a list")?;
    let elements = objects
        .iter()
        .find_map(|object| object["set"]["elem"].as_array());
    let count = elements.map_or(0, Vec::len);
    assert_eq!(count, LINES as usize + 1);

    let status = world.expect(0, &["status", "-o", "json"]);
    let status: serde_json::Value = serde_json::from_str(&status.stdout)?;
    assert_eq!(status["gates"][0]["trusted"], LINES + 2);
    let list = world.expect(0, &["list", "trusted", "-o", "json"]);
    let list: serde_json::Value = serde_json::from_str(&list.stdout)?;
    let listed = list["entries"].as_array().map_or(0, Vec::len);
    assert_eq!(listed, LINES as usize + 2);

    for family in Family::BOTH {
        assert_eq!(world.colleague.finds(family, 22), "open");
        assert_eq!(world.stranger.finds(family, 22), "silent");
        let knock = [family.flag(), family.server(), "1228", "1227"];
        world.succeeds(&world.knocker.host, "knock", &knock);
        world.knocker.soon_finds(family, "open");
    }
    Ok(())
}
