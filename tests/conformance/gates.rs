//! Which traffic a gate is in front of.

use std::time::Duration;

use portcullis::lab::ONE_SYN;
use portcullis::model::{Chain, Lifetime};
use portcullis::policy::Hook;

use crate::world::{
    A, A6, B, SERVER, SERVER6, Tried, World, banned, filter, member_at, rules, secs, ssh, trusted,
};

pub(crate) fn several_gates(world: &mut World) -> Tried {
    let gates = vec![ssh(), rules("web", &["80"])];
    let members = vec![
        filter(A, 300),
        member_at("web", Chain::Filter, B, secs(300)),
        member_at("web", Chain::Banned, A, Lifetime::Never),
    ];
    world.install(gates, members);
    assert!(world.gets_in_at(A, "ssh", 22) && !world.gets_in_at(A, "web", 80));
    assert!(!world.gets_in_at(B, "ssh", 22) && world.gets_in_at(B, "web", 80));
    let observed = world.observed().expect("there they are");
    assert_eq!(observed.gates.len(), 2);
    Ok(())
}

pub(crate) fn no_gates(world: &mut World) -> Tried {
    world.install(Vec::new(), Vec::new());
    assert_eq!(world.observed(), None, "nothing is installed");
    assert!(world.gets_in_at(A, "ssh", 22));
    world.install(vec![ssh()], vec![filter(A, 300), banned(B)]);
    assert!(!world.gets_in_at(B, "ssh", 22));
    world.install(Vec::new(), Vec::new());
    assert_eq!(world.observed(), None, "the gate is gone, members and all");
    assert!(world.gets_in_at(B, "ssh", 22));
    world.restart()?;
    world.install(Vec::new(), Vec::new());
    world.with(|backend| backend.teardown())?;
    assert_eq!(world.observed(), None);
    // A gate that comes back knows nothing of the one before.
    world.install(vec![ssh()], Vec::new());
    assert!(!world.gets_in_at(A, "ssh", 22));
    Ok(())
}

pub(crate) fn reload(world: &mut World) -> Tried {
    world.install(
        vec![ssh(), rules("web", &["80"])],
        vec![
            filter(A, 300),
            member_at("web", Chain::Filter, B, secs(300)),
        ],
    );
    world.pass(Duration::from_millis(1_100));
    // The web is free again, and ssh is on two ports.
    let kept = world.observed().expect("there they are").members;
    let kept = kept.into_iter().filter(|m| m.gate == ssh().name);
    let kept: Vec<_> = kept.chain([trusted(B)]).collect();
    world.install(vec![rules("ssh", &["22", "80"])], kept.clone());
    assert!(world.gets_in_at(A, "ssh", 80) && world.gets_in_at(B, "ssh", 80));
    assert!(!world.gets_in_at(crate::world::C, "ssh", 80));
    assert_eq!(world.observed().expect("still there").gates, [ssh().name]);
    // And back.
    world.install(vec![ssh()], kept);
    assert!(world.gets_in_at(crate::world::C, "gone", 80));
    assert_eq!(
        world.members(),
        [
            "ssh_filter 192.0.2.10/32 300 test",
            "ssh_trusted 192.0.2.11/32 never test"
        ]
    );
    Ok(())
}

pub(crate) fn teardown(world: &mut World) -> Tried {
    world.with(|backend| backend.teardown())?;
    assert_eq!(world.observed(), None, "nothing there is no error");
    let gates = vec![ssh(), rules("web", &["80"])];
    world.install(gates, vec![banned(A), filter(B, 300)]);
    assert!(!world.gets_in(A));
    world.restart()?;
    world.with(|backend| backend.teardown())?;
    assert_eq!(world.observed(), None);
    assert!(world.gets_in(A), "everybody is let in again");
    world.with(|backend| backend.teardown())?;
    Ok(())
}

pub(crate) fn port_ranges(world: &mut World) -> Tried {
    let gates = vec![rules("ssh", &["60000-61000", "22", "500-600/udp"])];
    world.install(gates, vec![filter(A, 300)]);
    for port in [22, 60_005] {
        assert!(world.gets_in_at(A, "ssh", port) && !world.gets_in_at(B, "ssh", port));
    }
    assert!(world.gets_in_at(B, "ssh", 80));
    Ok(())
}

pub(crate) fn one_address(world: &mut World) -> Tried {
    let mut gate = ssh();
    gate.input_addresses = vec!["192.0.2.1/32".parse()?];
    world.install(vec![gate.clone()], vec![]);
    let reaches = |world: &World, from: &str, to: &str| {
        let client = world.clients.client(from).expect("an address");
        let outcome = client.connect(to, ONE_SYN).expect("a SYN can be sent");
        outcome.is_open()
    };
    assert!(!reaches(world, A, "192.0.2.1:22"));
    assert!(
        reaches(world, A, "192.0.2.2:22"),
        "another address of the host"
    );
    assert!(reaches(world, A6, "[2001:db8::1]:22"), "the other family");
    gate.input_addresses = vec!["192.0.2.2/31".parse()?, "2001:db8::/64".parse()?];
    world.install(vec![gate], vec![]);
    assert!(reaches(world, A, "192.0.2.1:22"));
    assert!(!reaches(world, A, "192.0.2.2:22"));
    assert!(!reaches(world, A6, "[2001:db8::1]:22"));
    Ok(())
}

pub(crate) fn loopback(world: &mut World) -> Tried {
    world.install(vec![ssh()], vec![]);
    for (from, to) in [
        ("127.0.0.1", "127.0.0.1:22"),
        (SERVER, "192.0.2.1:22"),
        (SERVER6, "[2001:db8::1]:22"),
    ] {
        let outcome = world.server.client(from)?.connect(to, ONE_SYN)?;
        assert!(outcome.is_open(), "{to} from itself");
    }
    Ok(())
}

/// The server is a router with a host behind it.
pub(crate) fn forward(world: &mut World) -> Tried {
    let inner = world.lab.host("inner")?;
    world.lab.link(
        &world.server,
        "eth1",
        &["198.51.100.1/24"],
        &inner,
        "eth0",
        &["198.51.100.2/24"],
    )?;
    world.server.forward()?;
    inner.route("0.0.0.0/0", "198.51.100.1")?;
    world.clients.route("198.51.100.0/24", SERVER)?;
    let _service = portcullis::lab::Service::start(&inner, 22)?;
    let _outside = portcullis::lab::Service::start(&world.clients, 22)?;
    let reaches = |world: &World, from: &str| {
        let client = world.clients.client(from).expect("an address");
        let outcome = client.connect("198.51.100.2:22", ONE_SYN);
        outcome.expect("a SYN can be sent").is_open()
    };
    assert!(reaches(world, A), "before");
    let mut gate = ssh();
    gate.hook = Hook::Forward;
    gate.forward_addresses = vec!["198.51.100.2/32".parse()?];
    world.install(vec![gate.clone()], vec![filter(A, 300)]);
    assert!(reaches(world, A) && !reaches(world, B));
    assert!(world.gets_in(B), "the router itself is not gated");
    let out = inner
        .client("198.51.100.2")?
        .connect("192.0.2.10:22", ONE_SYN)?;
    assert!(
        out.is_open(),
        "what the inner host does itself is not gated"
    );
    gate.hook = Hook::Both;
    world.install(vec![gate.clone()], vec![filter(A, 300)]);
    assert!(reaches(world, A) && !reaches(world, B));
    assert!(world.gets_in(A) && !world.gets_in(B), "all addresses");
    gate.input_addresses = vec!["198.51.100.1/32".parse()?];
    world.install(vec![gate], vec![filter(A, 300)]);
    assert!(reaches(world, A) && !reaches(world, B));
    assert!(world.gets_in(B), "an address that is not guarded");
    Ok(())
}
