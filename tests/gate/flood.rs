//! Floods of forged knocks.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use portcullis::lab::{Flood, LabError};
use serde_json::{Value, json};

use crate::scenarios;
use crate::world::{Family, KNOCK, Person, TRUSTED, Tried, World, long_policy};

scenarios![
    a_flood_of_forged_knocks_leaves_connection_tracking_empty,
    fifty_of_fifty_knocks_open_during_a_flood_whatever_is_between_them,
    a_port_that_is_served_stays_tracked,
    status_counts_what_was_dropped_and_says_how_it_is_scheduled,
];

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Nobody knocks there.
const OTHER: u16 = 2000;

impl World {
    fn flooded_at(&self, port: u16, rate: Option<u32>) -> Result<Flood, LabError> {
        self.clients.flood(SocketAddrV4::new(SERVER, port), rate)
    }

    /// How many connections the server keeps track of.
    fn tracked(&self) -> Result<u64, Box<dyn std::error::Error>> {
        let file = "/proc/sys/net/netfilter/nf_conntrack_count";
        let text: io::Result<String> = self.server.run(|| fs::read_to_string(file))?;
        Ok(text?.trim().parse()?)
    }
}

/// Lets it go on until it has sent that many.
fn of(flood: Flood, packets: u64) -> Tried {
    let started = Instant::now();
    while flood.sent() < packets {
        let late = started.elapsed() > Duration::from_secs(20);
        assert!(!late, "only {} packets were sent", flood.sent());
        std::thread::sleep(Duration::from_millis(1));
    }
    flood.stop()?;
    Ok(())
}

fn a_flood_of_forged_knocks_leaves_connection_tracking_empty() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    let before = world.tracked()?;
    of(world.flooded_at(1228, None)?, 20_000)?;
    let knocks = world.tracked()?;
    assert!(knocks < before + 50, "{before} before, {knocks} after");
    // Where nobody knocks it is as ever: that is what it would be like.
    of(world.flooded_at(OTHER, None)?, 2_000)?;
    let others = world.tracked()?;
    assert!(others > knocks + 1_000, "{knocks} before, {others} after");
    Ok(())
}

/// With time for the longest gap, and for a machine that has other things to do.
fn patient_policy() -> String {
    long_policy().replace("seq_timeout: 1s", "seq_timeout: 15s")
}

/// With each gap.
const KNOCKS: u8 = 50;
/// So many of them also knock over IPv6.
const OF_IPV6: u8 = 5;
const GAPS: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_secs(2),
];

fn fifty_of_fifty_knocks_open_during_a_flood_whatever_is_between_them() -> Tried {
    let world = World::with(&patient_policy(), TRUSTED)?;
    // What a debug build keeps up with, and other scenarios beside it; `make bench` sends all it can.
    let flood = world.flooded_at(1228, Some(50_000))?;
    let mut all = 0;
    for (first, gap) in (60..).step_by(usize::from(KNOCKS)).zip(GAPS) {
        let mut people = Vec::new();
        for (family, count) in Family::BOTH.into_iter().zip([KNOCKS, OF_IPV6]) {
            for number in first..first + count {
                let address = family.with_length(&family.address(number));
                world.clients.add_addresses("eth0", &[&address])?;
                people.push(world.person(family, number)?);
            }
        }
        people[0].is_refused();
        staggered(&people, gap);
        for person in &people {
            person.gets_in_soon(22);
        }
        all += people.len();
    }
    let (sent, _) = flood.stop()?;
    assert!(sent > 10_000, "that was no flood: {sent}");
    let knock = &world.json(&["status"])["knocks"][0];
    assert_eq!(*knock, json!({"name": "open", "completed": all}));
    Ok(())
}

/// They knock one after another, each of them once: a knock that is lost is not made up for. The
/// next do not wait until those before have knocked twice.
fn staggered(people: &[Person], gap: Duration) {
    let [first, second] = KNOCK else {
        panic!("two ports are knocked");
    };
    let mut due: Vec<(Duration, &Person, &str)> = Vec::new();
    for (number, person) in (0..).zip(people) {
        let at = Duration::from_millis(20) * number;
        due.extend([(at, person, *first), (at + gap, person, *second)]);
    }
    due.sort_by_key(|(at, ..)| *at);
    let started = Instant::now();
    for (at, person, port) in due {
        std::thread::sleep(at.saturating_sub(started.elapsed()));
        person.knocks(&[port]);
    }
}

fn untracked(world: &World) -> Value {
    world.json(&["status"])["untracked"]["ports"].clone()
}

fn a_port_that_is_served_stays_tracked() -> Tried {
    let policy =
        long_policy().replace("[1220, 1221]", "[1220, \"1221/udp\", 40000, \"40000/udp\"]");
    let world = World::with_services(&policy, TRUSTED, &[22, 1226])?;
    let expected = json!(["1220/tcp", "1221/udp", "1227/tcp", "1228/tcp", "40000/tcp"]);
    assert_eq!(untracked(&world), expected);
    let socket = world
        .server
        .run(|| std::net::UdpSocket::bind("0.0.0.0:1221"))??;
    world.expect(0, &["reload"]);
    let expected = json!(["1220/tcp", "1227/tcp", "1228/tcp", "40000/tcp"]);
    assert_eq!(untracked(&world), expected);
    drop(socket);
    world.expect(0, &["reload"]);
    assert_eq!(untracked(&world)[1], "1221/udp");
    // It is one of the rules that are looked after.
    assert_eq!(world.json(&["status"])["problems"], json!([]));
    Ok(())
}

fn status_counts_what_was_dropped_and_says_how_it_is_scheduled() -> Tried {
    let policy = format!("{}\nmemory: 64KiB\n", long_policy().trim_end());
    let mut world = World::with(&policy, TRUSTED)?;
    // A few places of the table are spare, and not counted as used.
    of(world.flooded_at(1228, Some(20_000))?, 5_100)?;
    world.all_is_handled()?;
    let status = world.json(&["status"]);
    let count = |part: &str, name: &str| {
        let count = status[part][name].as_u64();
        count.unwrap_or_else(|| panic!("no {part}.{name} in {status}"))
    };
    let lost = count("packets", "dropped");
    assert!(count("packets", "knocks") + lost >= 5_000, "{status}");
    let made = count("attempts", "used") + count("attempts", "evicted");
    // The table has a thirty-second more places than it tells of, which may be full or not.
    let untold = count("attempts", "capacity") / 31;
    assert!(made + lost + untold >= 5_000, "{status}");
    for name in [
        "refused_bans",
        "refused_renewals",
        "refused_acceptances",
        "refused_trust",
        "refused_commands",
        "other_interfaces",
        "evicted_bans",
        "unlogged",
        "lost_lines",
        "refused",
    ] {
        count("packets", name);
    }
    let scheduling = status["scheduling"].as_str().unwrap_or_default();
    assert!(
        ["fifo", "nice", "ordinary"].contains(&scheduling),
        "{status}"
    );
    assert_eq!(scheduling, of_the_kernel(&mut world)?);
    Ok(())
}

/// How the kernel schedules the daemon's first thread, in the words of `status`
/// (`proc_pid_stat(5)`).
fn of_the_kernel(world: &mut World) -> Result<&'static str, Box<dyn std::error::Error>> {
    let pid = world.daemon.pid().ok_or("it does not run")?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(')').ok_or("no name")?;
    // From field 3 on.
    let field = |number: usize| rest.split_whitespace().nth(number - 3).unwrap_or_default();
    Ok(match (field(41), field(19)) {
        ("1", _) => "fifo",
        (_, "-20") => "nice",
        _ => "ordinary",
    })
}
