//! What the kernel says about one address.

use std::time::Instant;

use portcullis::firewall::{BackendKind, Change, GateRules};
use portcullis::model::{Chain, Lifetime};

use crate::world::{
    A, A6, B, C, Tried, World, banned, filter, gate, member_at, secs, ssh, trusted,
};

impl World {
    /// As `filter 192.0.2.10/32`, in the order of the chains; with the time that is left, rounded
    /// to tens of seconds, and the reason, where the kernel tells them.
    fn look_up(&mut self, name: &str, address: &str) -> Vec<String> {
        let (gate, address) = (gate(name), address.parse().expect("an address"));
        let hits = self.with(move |backend| (backend.look_up(&gate, address), backend.kind()));
        let (hits, kind) = (hits.0.expect("it can be asked"), hits.1);
        let shown = |hit: portcullis::firewall::Hit| {
            let told = match hit.remaining {
                None => {
                    assert_eq!(kind, BackendKind::Iptables, "others know the time");
                    String::new()
                }
                Some(Lifetime::Never) => format!(" never {}", hit.reason),
                Some(Lifetime::For(span)) => {
                    format!(" {} {}", (span.as_secs() + 5) / 10 * 10, hit.reason)
                }
            };
            (format!("{} {}", hit.chain.suffix(), hit.net), told)
        };
        let hits: Vec<(String, String)> = hits.into_iter().map(shown).collect();
        for (_, told) in &hits {
            let is_told = told.ends_with(" test");
            assert!(is_told || kind == BackendKind::Iptables, "{told}");
        }
        hits.into_iter().map(|(hit, _)| hit).collect()
    }
}

pub(crate) fn look_up(world: &mut World) -> Tried {
    assert_eq!(world.look_up("ssh", A), [""; 0], "before there is a gate");
    let members = vec![
        filter(A, 300),
        filter(A6, 300),
        member_at("ssh", Chain::Banned, C, secs(60)),
        banned("198.51.100.0/24"),
        banned("198.51.101.0/25"),
        trusted("192.0.2.8/30"),
        trusted("2001:db8:5::/48"),
    ];
    world.install(vec![ssh()], members);
    for (address, expected) in [
        (A, &["trusted 192.0.2.8/30", "filter 192.0.2.10/32"][..]),
        (
            "::ffff:192.0.2.10",
            &["trusted 192.0.2.8/30", "filter 192.0.2.10/32"],
        ),
        (A6, &["filter 2001:db8::10/128"]),
        (B, &["trusted 192.0.2.8/30"]),
        (C, &["banned 192.0.2.12/32"]),
        ("192.0.2.7", &[]),
        ("192.0.2.13", &[]),
        ("198.51.99.255", &[]),
        ("198.51.100.0", &["banned 198.51.100.0/24"]),
        ("198.51.100.255", &["banned 198.51.100.0/24"]),
        ("198.51.101.127", &["banned 198.51.101.0/25"]),
        ("198.51.101.128", &[]),
        ("2001:db8:5:ffff::1", &["trusted 2001:db8:5::/48"]),
        ("2001:db8:6::", &[]),
        ("0.0.0.0", &[]),
        ("255.255.255.255", &[]),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", &[]),
    ] {
        assert_eq!(world.look_up("ssh", address), expected, "{address}");
    }
    assert_eq!(
        world.look_up("other", A),
        [""; 0],
        "a gate that there is not"
    );
    // What is over is not there.
    world.apply(&[Change::Put(filter(B, 1))]);
    assert_eq!(world.look_up("ssh", B).len(), 2);
    world.pass(std::time::Duration::from_millis(2200));
    assert_eq!(world.look_up("ssh", B).len(), 1);
    Ok(())
}

pub(crate) fn look_up_everybody(world: &mut World) -> Tried {
    let wide = GateRules {
        ipv6_prefix: 64,
        ..ssh()
    };
    let members = vec![
        member_at("ssh", Chain::Filter, "2001:db8::/64", secs(60)),
        member_at("ssh", Chain::Filter, "0.0.0.0/0", secs(60)),
        banned("0.0.0.0/0"),
        banned("fe00::/7"),
    ];
    world.install(vec![wide], members);
    for (address, expected) in [
        (A, &["banned 0.0.0.0/0", "filter 0.0.0.0/0"][..]),
        ("255.255.255.255", &["banned 0.0.0.0/0", "filter 0.0.0.0/0"]),
        ("2001:db8::abcd", &["filter 2001:db8::/64"]),
        ("2001:db8:0:1::1", &[]),
        (
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            &["banned fe00::/7"],
        ),
    ] {
        assert_eq!(world.look_up("ssh", address), expected, "{address}");
    }
    Ok(())
}

/// A dump of so many takes a tenth of a second and more.
pub(crate) fn look_up_among_many(world: &mut World) -> Tried {
    let member = |n: u32| {
        let address = std::net::Ipv4Addr::from(0x6400_0000 + n);
        member_at("ssh", Chain::Banned, &address.to_string(), secs(600))
    };
    let mut members: Vec<_> = (0..50_000).map(member).collect();
    members.push(filter(A, 300));
    world.install(vec![ssh()], members);
    assert_eq!(world.look_up("ssh", "100.0.0.77"), ["banned 100.0.0.77/32"]);
    let started = Instant::now();
    for _ in 0..20 {
        assert_eq!(world.look_up("ssh", A), ["filter 192.0.2.10/32"]);
    }
    let each = started.elapsed() / 20;
    println!("{}: a look-up among 50,000: {each:?}", world.column.name());
    let limit = std::time::Duration::from_millis(50);
    assert!(world.column.name() == "memory" || each < limit, "{each:?}");
    Ok(())
}
