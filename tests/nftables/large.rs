//! Many members.

use std::time::{Duration, Instant};

use portcullis::firewall::nftables::{Nftables, Restraints};
use portcullis::firewall::{Backend, Change, Member};
use portcullis::model::{Chain, Lifetime};

use crate::common::{desired, found, gate, member, secs};
use crate::left::assert_left;

/// Debug builds encode slowly.
const PATIENCE: u32 = if cfg!(debug_assertions) { 20 } else { 1 };

pub(crate) fn trusted(count: u32) -> Vec<Member> {
    (0..count)
        .map(|i| Member {
            gate: gate("ssh"),
            chain: Chain::Trusted,
            net: std::net::IpAddr::from((0x0a00_0000 + i).to_be_bytes()).into(),
            remaining: Lifetime::Never,
            reason: "knockd.trusted".to_owned(),
        })
        .collect()
}

pub(crate) fn more_than_a_batch_takes(_: &mut Nftables) {
    let mut small = Nftables::open_restrained(Restraints {
        batch: Some(100_000),
        ..Restraints::default()
    })
    .unwrap();
    let mut members = trusted(5_000);
    members.extend((0..3_000u32).map(|i| {
        let host = std::net::IpAddr::from((0xc000_0000 + i).to_be_bytes());
        member(Chain::Banned, &host.to_string(), secs(500), "b")
    }));
    small.install(&desired(members.clone())).unwrap();
    assert_eq!(found().len(), 8_000);
    // Renewing, removing and adding at once.
    members.truncate(6_000);
    for member in &mut members[5_000..] {
        member.remaining = secs(900);
    }
    members.remove(0);
    small.install(&desired(members)).unwrap();
    let after = found();
    assert_eq!(after.len(), 5_999);
    assert_left(&after, "192.0.0.0/32", 900);
    assert!(small.verify().unwrap().is_empty());
}

/// What is in several batches is in the order that leaves nobody out; here the kernel takes it.
pub(crate) fn addresses_become_networks_and_back(_: &mut Nftables) {
    let mut small = Nftables::open_restrained(Restraints {
        batch: Some(40_000),
        ..Restraints::default()
    })
    .unwrap();
    let net = |chain, i: u32, length| {
        let first = std::net::IpAddr::from((0x0a00_0000 + i * 1024 + 4).to_be_bytes());
        let net = ipnet::IpNet::new(first, length).unwrap().trunc();
        member(chain, &net.to_string(), Lifetime::Never, "")
    };
    let all = |trusted, banned| -> Vec<Member> {
        (0..1_500)
            .flat_map(|i| {
                let ban = net(Chain::Banned, i + 10_000, banned);
                [net(Chain::Trusted, i, trusted), ban]
            })
            .collect()
    };
    for (trusted, banned) in [(32, 24), (24, 32), (25, 23), (32, 32), (26, 26)] {
        let wanted = all(trusted, banned);
        small.install(&desired(wanted.clone())).unwrap();
        let mut expected = crate::common::lines(&wanted);
        let mut got = crate::common::lines(&found());
        expected.sort();
        got.sort();
        assert!(got == expected, "{trusted} {banned}");
        assert!(small.verify().unwrap().is_empty());
    }
}

pub(crate) fn timed<T>(what: &str, most: Duration, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    let took = start.elapsed();
    eprintln!("    {what}: {took:?}");
    assert!(took < most * PATIENCE, "{what} took {took:?}");
    result
}

pub(crate) fn hundred_thousand_trusted(backend: &mut Nftables) {
    let wanted = desired(trusted(100_000));
    let second = Duration::from_secs(1);
    timed("install 100,000", second, || backend.install(&wanted)).unwrap();
    let observed = timed("observe 100,000", second, || backend.observe());
    assert_eq!(observed.unwrap().unwrap().members.len(), 100_000);
    timed("install again", second, || backend.install(&wanted)).unwrap();
    timed("verify", second / 10, || backend.verify()).unwrap();
    timed("1,000 puts", second / 5, || {
        for i in 0..1000u32 {
            let host = std::net::IpAddr::from((0xc000_0000 + i).to_be_bytes());
            let put = member(Chain::Filter, &host.to_string(), secs(300), "opencloseSSH");
            backend.apply(&[Change::Put(put)]).unwrap();
        }
    });
}

pub(crate) fn ten_thousand_networks(backend: &mut Nftables) {
    let members = (0..10_000u32).map(|i| {
        let host = std::net::IpAddr::from((0x0a00_0000 + i * 512).to_be_bytes());
        member(Chain::Banned, &format!("{host}/24"), secs(500), "b")
    });
    let wanted = desired(members.collect());
    timed("install 10,000 networks", Duration::from_secs(1), || {
        backend.install(&wanted)
    })
    .unwrap();
    assert_eq!(found().len(), 10_000);
    timed("100 networks put", Duration::from_secs(1), || {
        for i in 0..100u32 {
            let put = member(Chain::Banned, &format!("192.0.{i}.0/24"), secs(300), "");
            backend.apply(&[Change::Put(put)]).unwrap();
        }
    });
}
