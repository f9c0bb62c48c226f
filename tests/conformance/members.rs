//! Who gets in, and until when.

use std::time::Duration;

use portcullis::firewall::{Change, Desired, FirewallError, Member};
use portcullis::model::{Chain, Lifetime};

use crate::world::{
    A, A6, B, B6, C, C6, Tried, World, banned, filter, member_at, remove, secs, ssh, trusted,
};

const NOBODY: [&str; 0] = [];

fn put(member: Member) -> Change {
    Change::Put(member)
}

pub(crate) fn accept(world: &mut World) -> Tried {
    assert_eq!(world.who(&[A, B]), [A, B], "before there is a gate");
    world.install(vec![ssh()], vec![]);
    assert_eq!(world.who(&[A, B]), NOBODY);
    world.apply(&[put(filter(A, 300))]);
    assert_eq!(world.who(&[A, B]), [A]);
    assert_eq!(world.members(), ["ssh_filter 192.0.2.10/32 300 test"]);
    Ok(())
}

/// What a knock would bring about is gone through; that changes nothing, also where it cannot be.
pub(crate) fn rehearse(world: &mut World) -> Tried {
    world.with(|backend| backend.rehearse(&filter(A, 300)));
    world.install(vec![ssh()], vec![filter(B, 300)]);
    let heard = world.with(|backend| {
        backend.rehearse(&filter(A, 300));
        backend.rehearse(&filter(B, 10));
        backend.rehearse(&banned(C));
        backend.verify()
    });
    assert_eq!(heard?, Vec::<String>::new());
    assert_eq!(world.who(&[A, B, C]), [B]);
    assert_eq!(world.members(), ["ssh_filter 192.0.2.11/32 300 test"]);
    world.apply(&[put(filter(A, 300))]);
    assert_eq!(world.who(&[A, B]), [A, B]);
    Ok(())
}

pub(crate) fn refresh(world: &mut World) -> Tried {
    world.install(vec![ssh()], vec![filter(A, 2)]);
    world.pass(Duration::from_millis(1_200));
    let again = Member {
        reason: "again".to_owned(),
        ..filter(A, 300)
    };
    world.apply(&[put(again)]);
    world.pass(Duration::from_millis(1_200));
    assert!(world.gets_in(A), "the full time was not restored");
    assert_eq!(world.members(), ["ssh_filter 192.0.2.10/32 300 again"]);
    // And less time, if that is what is asked for.
    world.apply(&[put(filter(A, 1))]);
    world.is_shut_out_after(A, Duration::from_secs(1));
    Ok(())
}

pub(crate) fn expire(world: &mut World) -> Tried {
    world.install(vec![ssh()], vec![filter(B, 300)]);
    let ban = member_at("ssh", Chain::Banned, C, secs(1));
    world.apply(&[put(filter(A, 1)), put(filter(C, 300)), put(ban)]);
    assert_eq!(world.who(&[A, B, C]), [A, B]);
    world.is_shut_out_after(A, Duration::from_secs(1));
    world.pass(Duration::from_millis(300));
    assert_eq!(world.who(&[A, B, C]), [B, C], "a ban ends too");
    assert_eq!(world.members().len(), 2);
    // Taking out what is over is no error.
    world.apply(&[remove(&filter(A, 1))]);
    Ok(())
}

pub(crate) fn ban(world: &mut World) -> Tried {
    world.install(vec![ssh()], vec![filter(A, 300), trusted(B)]);
    assert_eq!(world.who(&[A, B]), [A, B]);
    world.apply(&[put(banned(A)), put(banned("192.0.2.11/32"))]);
    assert_eq!(world.who(&[A, B]), NOBODY, "banned comes first");
    world.apply(&[remove(&banned(A))]);
    assert_eq!(world.who(&[A, B]), [A]);
    world.apply(&[put(banned("192.0.2.0/24"))]);
    assert_eq!(world.who(&[A, B, C]), NOBODY);
    world.apply(&[put(banned("0.0.0.0/0"))]);
    world.apply(&[remove(&banned("192.0.2.0/24")), remove(&banned(B))]);
    assert_eq!(world.who(&[A, B, C]), NOBODY, "all of them");
    let expected = "ssh_banned 0.0.0.0/0 never test";
    assert!(world.members().contains(&expected.to_owned()));
    world.apply(&[remove(&banned("0.0.0.0/0"))]);
    assert_eq!(world.who(&[A, B, C]), [A, B]);
    Ok(())
}

pub(crate) fn trust(world: &mut World) -> Tried {
    world.install(vec![ssh()], vec![trusted("192.0.2.8/30")]);
    assert_eq!(world.who(&[A, B, C]), [A, B]);
    // Trust has no end, whatever is asked for.
    let short = member_at("ssh", Chain::Trusted, C, secs(1));
    world.apply(&[put(short.clone())]);
    world.pass(Duration::from_millis(1_500));
    assert!(world.gets_in(C));
    world.apply(&[remove(&short), remove(&trusted("192.0.2.8/30"))]);
    assert_eq!(world.who(&[A, B, C]), NOBODY);
    Ok(())
}

/// A ban of a network goes on for the rest of it: the parts are put before the whole goes. Each of
/// these changes may be the last that is carried out.
pub(crate) fn hole(world: &mut World) -> Tried {
    let parts = ["192.0.2.8/31", "192.0.2.12/30", "192.0.2.11/32"];
    for lifetime in [Lifetime::Never, secs(300)] {
        let ban = |net| member_at("ssh", Chain::Banned, net, lifetime);
        let mut changes: Vec<Change> = parts.map(|net| put(ban(net))).into();
        changes.push(remove(&ban("192.0.2.8/29")));
        for done in 0..=changes.len() {
            let mut held: Vec<Member> = [A, B, C].map(|source| filter(source, 300)).into();
            held.push(ban("192.0.2.8/29"));
            world.install(vec![ssh()], held);
            world.apply(&changes[..done]);
            let inside: &[&str] = if done == changes.len() { &[A] } else { &[] };
            assert_eq!(world.who(&[A, B, C]), inside, "after {done} changes");
            world.apply(&changes[done..]);
            assert_eq!(world.who(&[A, B, C]), [A]);
        }
        let bans = world.observed_in(&[Chain::Banned]).members;
        assert_eq!(bans.len(), parts.len(), "{bans:?}");
    }
    Ok(())
}

fn everything() -> [Member; 5] {
    [
        filter(A, 300),
        filter(A6, 300),
        banned(B),
        banned(B6),
        trusted(C),
    ]
}

pub(crate) fn flush_ip(world: &mut World) -> Tried {
    world.install(vec![ssh()], everything().into());
    assert_eq!(world.who(&[A, B, C, A6, B6]), [A, C, A6]);
    world.apply(&[remove(&filter(A, 0)), remove(&filter(B, 0))]);
    assert_eq!(world.who(&[A, B, C, A6, B6]), [C, A6]);
    Ok(())
}

pub(crate) fn flush_filter(world: &mut World) -> Tried {
    world.install(vec![ssh()], everything().into());
    let open = ["0.0.0.0/0", "::/0"].map(|net| filter(net, 300));
    world.apply(&open.clone().map(Change::Put));
    let all = open.into_iter().chain(everything());
    let gone: Vec<Change> = all
        .filter(|member| member.chain == Chain::Filter)
        .map(|member| remove(&member))
        .collect();
    world.apply(&gone);
    assert_eq!(world.who(&[A, B, C, A6, B6]), [C]);
    assert_eq!(world.members().len(), 3);
    Ok(())
}

pub(crate) fn flush_banned(world: &mut World) -> Tried {
    world.install(vec![ssh()], everything().into());
    world.apply(&[put(banned("192.0.2.0/24"))]);
    assert_eq!(world.who(&[A, C]), NOBODY);
    world.apply(&[
        remove(&banned(B)),
        remove(&banned(B6)),
        remove(&banned("192.0.2.0/24")),
    ]);
    assert_eq!(world.who(&[A, B, C, A6, B6]), [A, C, A6]);
    world.apply(&[put(filter(B, 300))]);
    assert!(world.gets_in(B));
    Ok(())
}

pub(crate) fn flush_all(world: &mut World) -> Tried {
    world.install(vec![ssh()], everything().into());
    // As many changes may come about: everything anew, with trust alone.
    world.install(vec![ssh()], vec![trusted(C)]);
    assert_eq!(world.who(&[A, B, C, A6, B6]), [C]);
    assert_eq!(world.members(), ["ssh_trusted 192.0.2.12/32 never test"]);
    Ok(())
}

pub(crate) fn ipv6(world: &mut World) -> Tried {
    world.install(vec![ssh()], vec![trusted("2001:db8:0:1::/64")]);
    assert_eq!(world.who(&[A6, B6, C6]), [C6]);
    world.apply(&[put(filter(A6, 300))]);
    assert_eq!(world.who(&[A6, B6, C6]), [A6, C6]);
    assert_eq!(world.who(&[A, B]), NOBODY, "the other family");
    world.apply(&[put(banned("2001:db8::/32"))]);
    assert_eq!(world.who(&[A6, B6, C6]), NOBODY);
    world.apply(&[remove(&banned("2001:db8::/32"))]);
    world.apply(&[remove(&filter(A6, 0))]);
    assert_eq!(world.who(&[A6, B6, C6]), [C6]);
    Ok(())
}

pub(crate) fn ipv6_prefixes(world: &mut World) -> Tried {
    let mut wide = ssh();
    wide.ipv6_prefix = 64;
    world.install(vec![wide], vec![filter(A6, 300)]);
    assert_eq!(world.who(&[A6, B6, C6]), [A6, B6]);
    assert_eq!(world.members(), ["ssh_filter 2001:db8::/64 300 test"]);
    world.apply(&[put(filter(C6, 300)), remove(&filter(B6, 0))]);
    assert_eq!(world.who(&[A6, B6, C6]), [C6]);
    world.install(vec![ssh()], vec![filter(A6, 300)]);
    assert_eq!(world.who(&[A6, B6, C6]), [A6]);
    Ok(())
}

/// Whatever covers an address counts; what lasts longest decides.
pub(crate) fn overlapping(world: &mut World) -> Tried {
    let timed = |net, seconds| member_at("ssh", Chain::Banned, net, secs(seconds));
    let accepted = [A, B, C].map(|source| filter(source, 300));
    world.install(vec![ssh()], accepted.into());
    // A short one inside a long one, and a long one inside a short one.
    world.apply(&[
        put(timed("192.0.2.0/29", 300)),
        put(timed("192.0.2.8/30", 1)),
        put(timed(A, 300)),
    ]);
    assert_eq!(world.who(&[A, B, C]), [C]);
    world.pass(Duration::from_millis(1_600));
    assert_eq!(
        world.who(&[A, B, C]),
        [B, C],
        "the address outlives its network"
    );
    world.apply(&[put(banned("192.0.2.0/24")), put(timed(B, 1))]);
    world.pass(Duration::from_millis(1_600));
    assert_eq!(
        world.who(&[A, B, C]),
        NOBODY,
        "the network outlives its address"
    );
    world.apply(&[remove(&banned("192.0.2.0/24"))]);
    assert_eq!(world.who(&[A, B, C]), [B, C]);
    world.apply(&[remove(&banned(A))]);
    assert_eq!(world.who(&[A, B, C]), [A, B, C]);
    Ok(())
}

pub(crate) fn adoption(world: &mut World) -> Tried {
    let mut written: Vec<Member> = everything().into();
    written.push(banned("198.51.100.0/24"));
    world.install(vec![ssh()], written);
    let before = world.members();
    world.restart()?;
    let observed = world.observed().expect("it is all still there");
    assert_eq!(observed.gates, [ssh().name]);
    assert_eq!(world.members(), before);
    for chain in Chain::ALL {
        let alone = world.observed_in(&[chain]);
        assert_eq!(alone.gates, [ssh().name]);
        let all = observed.members.iter();
        let of_chain = all.filter(|member| member.chain == chain).count();
        assert_eq!(alone.members.len(), of_chain, "{chain:?}");
        assert!(alone.members.iter().all(|member| member.chain == chain));
    }
    // Also before anything is installed, as `--direct` does.
    world.apply(&[put(filter(B6, 300)), remove(&banned(B6))]);
    assert_eq!(world.who(&[A, B, C, A6, B6]), [A, C, A6, B6]);
    let observed = world.observed().expect("it is all still there");
    world.install(vec![ssh()], observed.members);
    assert_eq!(world.who(&[A, B, C, A6, B6]), [A, C, A6, B6]);
    Ok(())
}

/// What somebody else puts into the sets is told of before it goes.
pub(crate) fn unseen(world: &mut World) -> Tried {
    let own = [banned(B), filter(A, 300)];
    world.install(vec![ssh()], own.clone().into());
    world.apply(&[put(banned(B6)), remove(&banned(B6)), put(filter(C6, 300))]);
    let foreign = [banned(C), banned("198.51.100.0/24"), filter(A6, 300)];
    for member in &foreign {
        world.meddle(member)?;
    }
    // Trust is the caller's alone.
    world.meddle(&trusted(B))?;
    let before = world.members();
    let desired = Desired {
        gates: vec![ssh()],
        members: own.into(),
        sessions: vec![],
    };
    let error = world.with(|backend| backend.install(&desired));
    let Err(FirewallError::Unseen(mut unseen)) = error else {
        panic!("{error:?}");
    };
    unseen.sort_by_key(|member| (member.chain, member.net));
    let nets: Vec<String> = unseen.iter().map(|member| member.net.to_string()).collect();
    assert_eq!(
        nets,
        ["192.0.2.12/32", "198.51.100.0/24", "2001:db8::10/128"]
    );
    assert_eq!(world.members(), before, "nothing was changed");
    // Some are adopted; the others go, now that they are known.
    let mut members = desired.members.clone();
    members.push(unseen.remove(0));
    world.install(vec![ssh()], members);
    let held = world.members();
    assert_eq!(held.len(), 3, "{held:?}");
    assert_eq!(world.who(&[A, B, C, A6, C6]), [A]);
    Ok(())
}

/// What somebody else has put there, or what another process of ours has, gets the time and the
/// reason that are wanted now, with all else that is written with it.
pub(crate) fn renewed(world: &mut World) -> Tried {
    world.install(vec![ssh()], vec![]);
    for member in [filter(A, 20), banned(C)] {
        world.meddle(&member)?;
    }
    world.apply(&[put(filter(A, 300)), put(filter(B, 300))]);
    let held = world.members();
    let ours = [
        "ssh_filter 192.0.2.10/32 300 test",
        "ssh_filter 192.0.2.11/32 300 test",
    ];
    assert!(
        ours.iter().all(|line| held.iter().any(|it| it == line)),
        "{held:?}"
    );
    world.restart()?;
    world.apply(&[put(filter(A, 200)), put(filter(B, 200))]);
    assert!(world.gets_in(A) && world.gets_in(B) && !world.gets_in(C));
    let held = world.members();
    assert!(
        held.contains(&"ssh_filter 192.0.2.10/32 200 test".to_owned()),
        "{held:?}"
    );
    Ok(())
}

fn once_only() -> portcullis::firewall::GateRules {
    let mut once = ssh();
    once.once = true;
    once
}

pub(crate) fn once(world: &mut World) -> Tried {
    world.install(vec![once_only()], vec![trusted(C), filter(A6, 300)]);
    world.apply(&[put(filter(A, 300)), put(filter(B, 300))]);
    assert!(world.gets_in(A), "the first");
    assert!(!world.gets_in(A), "the second");
    assert!(world.gets_in(B) && world.gets_in(A6));
    assert_eq!(world.who(&[A, B, A6]), NOBODY);
    assert!(world.gets_in(C) && world.gets_in(C), "trust is not used up");
    assert_eq!(world.members(), ["ssh_trusted 192.0.2.12/32 never test"]);
    world.apply(&[put(filter(A, 300))]);
    assert!(world.gets_in(A) && !world.gets_in(A), "knocked again");
    Ok(())
}

/// A gate that stands open for everybody is not used up by anybody.
pub(crate) fn once_and_open(world: &mut World) -> Tried {
    world.install(vec![once_only()], vec![]);
    world.apply(&["0.0.0.0/0", "::/0"].map(|net| put(filter(net, 300))));
    for _ in 0..2 {
        assert_eq!(world.who(&[A, B, C, A6]), [A, B, C, A6]);
    }
    let members = world.members();
    assert_eq!(members.len(), 2, "{members:?}");
    world.restart()?;
    world.apply(&["0.0.0.0/0", "::/0"].map(|net| remove(&filter(net, 0))));
    assert_eq!(world.who(&[A, B, C, A6]), NOBODY);
    Ok(())
}

pub(crate) fn open(world: &mut World) -> Tried {
    world.install(vec![ssh()], vec![banned(C)]);
    world.apply(&["0.0.0.0/0", "::/0"].map(|net| put(filter(net, 300))));
    assert_eq!(world.who(&[A, B, C, A6, B6]), [A, B, A6, B6]);
    assert_eq!(
        world.members(),
        [
            "ssh_banned 192.0.2.12/32 never test",
            "ssh_filter 0.0.0.0/0 300 test",
            "ssh_filter ::/0 300 test",
        ]
    );
    world.apply(&[remove(&filter("::/0", 0))]);
    assert_eq!(world.who(&[A, B, C, A6, B6]), [A, B]);
    world.apply(&[put(filter("0.0.0.0/0", 1)), put(filter(B, 300))]);
    world.is_shut_out_after(A, Duration::from_secs(1));
    assert_eq!(world.who(&[A, B]), [B]);
    Ok(())
}

pub(crate) fn all_or_none(world: &mut World) -> Tried {
    world.install(vec![ssh()], vec![]);
    let nowhere = filter("198.51.100.0/24", 300);
    let nobodys = member_at("web", Chain::Banned, B, Lifetime::Never);
    for bad in [nowhere, nobodys] {
        let changes = [put(filter(A, 300)), put(bad.clone())];
        assert!(world.with(|backend| backend.apply(&changes)).is_err());
        let desired = Desired {
            gates: vec![ssh()],
            members: vec![filter(A, 300), bad],
            sessions: vec![],
        };
        assert!(world.with(|backend| backend.install(&desired)).is_err());
        assert_eq!(world.members(), NOBODY);
    }
    assert!(!world.gets_in(A));
    Ok(())
}

/// Longer than some kernels can count.
pub(crate) fn long_lifetimes(world: &mut World) -> Tried {
    const YEAR: u64 = 365 * 86_400;
    let long = member_at("ssh", Chain::Banned, B, secs(YEAR));
    world.install(vec![ssh()], vec![long, filter(A, YEAR)]);
    world.apply(&[put(filter(C, YEAR))]);
    let expected = [
        format!("ssh_banned 192.0.2.11/32 {YEAR} test"),
        format!("ssh_filter 192.0.2.10/32 {YEAR} test"),
        format!("ssh_filter 192.0.2.12/32 {YEAR} test"),
    ];
    assert_eq!(world.members(), expected);
    world.restart()?;
    assert_eq!(world.members(), expected);
    assert_eq!(world.who(&[A, B, C]), [A, C]);
    Ok(())
}
