//! `knockctl why`: what happens to whom, and because of what; and what `knockctl status` warns of.

use std::time::Duration;

use portcullis::firewall::iptables::{Iptables, Variant};
use portcullis::firewall::nftables::Nftables;
use portcullis::firewall::{Backend, Change, FirewallError, Member};
use portcullis::model::{Chain, GateName, Lifetime, host_net};
use serde_json::{Value, json};

use crate::scenarios;
use crate::world::{DECOY, Family, KNOCK, POLICY, TRUSTED, Tried, World, backend, long_policy};

scenarios![
    why_says_what_the_connection_then_finds,
    why_names_the_network_and_the_gate,
    why_shows_how_far_a_knock_is_and_who_sweeps,
    why_shows_whose_knock_does_not_count_because_of_one_port,
    why_tells_of_what_others_have_put_into_the_sets,
    why_of_what_is_no_address_is_refused,
    status_says_when_a_gate_can_accept_nobody_else,
];

impl World {
    /// The entries for an address, one for each gate.
    #[track_caller]
    fn why(&self, address: &str) -> Vec<Value> {
        let answer = self.json(&["why", address]);
        let entries = answer["entries"].as_array().expect("entries is a list");
        for entry in entries {
            assert_eq!(entry["address"], address);
        }
        entries.clone()
    }
}

/// Compares the fields that are named.
#[track_caller]
fn has(entry: &Value, expected: &Value) {
    for (field, value) in expected.as_object().expect("fields") {
        assert_eq!(entry[field], *value, "{field} of {entry}");
    }
}

fn why_says_what_the_connection_then_finds() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    for person in world.people(10)? {
        let address = person.address.as_str();
        has(
            &world.why(address)[0],
            &json!({"gate": "ssh", "verdict": "dropped", "chain": "ssh_policy", "member": null,
                    "expires_in_s": null, "knocks": ["open"], "doubts": [], "protected": null}),
        );
        person.is_refused();

        person.opens();
        let entry = &world.why(address)[0];
        has(
            entry,
            &json!({"verdict": "accepted", "chain": "ssh_filter", "member": address,
                    "reason": "open", "knocks": [], "doubts": []}),
        );
        let left = entry["expires_in_s"].as_u64().expect("it ends");
        assert!((50..=60).contains(&left), "{entry}");

        person.knocks(DECOY);
        world.await_member("ssh_banned", address);
        has(
            &world.why(address)[0],
            &json!({"verdict": "dropped", "chain": "ssh_banned", "member": address,
                    "reason": "decoy", "expires_in_s": null, "knocks": [], "doubts": []}),
        );
        person.is_refused();
    }
    for person in world.people(50)? {
        let entry = &world.why(&person.address)[0];
        has(
            entry,
            &json!({"verdict": "accepted", "chain": "ssh_trusted", "member": person.address,
                    "expires_in_s": null, "doubts": []}),
        );
        let reason = entry["reason"].as_str().expect("a reason");
        assert!(reason.starts_with("knockd.trusted"), "{reason}");
        let protected = entry["protected"].as_str().expect("it cannot be banned");
        assert!(protected.contains("is trusted"), "{protected}");
        person.gets_in();
    }
    for family in Family::BOTH {
        let entry = &world.why(family.server())[0];
        has(
            entry,
            &json!({"verdict": "accepted", "chain": null, "doubts": []}),
        );
    }
    // In words, for several at once.
    let reply = world.expect(0, &["why", "192.0.2.10", "192.0.2.11"]);
    let first = "192.0.2.10 at ssh: dropped by ssh_banned for good: decoy\n";
    assert!(reply.stdout.starts_with(first), "{reply:?}");
    assert!(
        reply
            .stdout
            .contains("\n192.0.2.11 at ssh: dropped by ssh_policy: ")
    );
    Ok(())
}

fn why_names_the_network_and_the_gate() -> Tried {
    let policy = "
interface: any
never_ban: [192.0.2.14]
gates:
  ssh: { ports: [22] }
  web: { ports: [80] }
knocks:
  open: { sequence: [1228, 1227], seq_timeout: 1s, action: accept, gate: ssh }
";
    let world = World::with_services(policy, "192.0.2.12/30\n", &[22, 80])?;
    for (net, inside) in [
        ("198.51.100.0/24", "198.51.100.255"),
        ("2001:db8:9::/48", "2001:db8:9::1"),
    ] {
        world.expect(0, &["drop", net, "--gate", "web", "--for", "1h"]);
        let [ssh, web] = &world.why(inside)[..] else {
            panic!("two gates");
        };
        has(
            ssh,
            &json!({"gate": "ssh", "chain": "ssh_policy", "knocks": ["open"]}),
        );
        has(
            web,
            &json!({"gate": "web", "chain": "web_banned", "member": net, "knocks": []}),
        );
        let left = web["expires_in_s"].as_u64().expect("it ends");
        assert!((3500..=3600).contains(&left), "{web}");
        // The one after the other, overlapping: the longer counts, whichever it is.
        world.expect(0, &["drop", inside, "--gate", "web"]);
        has(
            &world.why(inside)[1],
            &json!({"member": inside, "expires_in_s": null}),
        );
        let one = world.json(&["why", inside, "--gate", "ssh"]);
        assert_eq!(one["entries"].as_array().map(Vec::len), Some(1));
    }
    let trusted = &world.why("192.0.2.13")[0];
    has(
        trusted,
        &json!({"chain": "ssh_trusted", "member": "192.0.2.12/30"}),
    );
    let never = world.why("192.0.2.14")[0]["protected"].clone();
    assert!(
        never.as_str().is_some_and(|it| it.contains("never_ban")),
        "{never}"
    );
    world.expect(0, &["open", "--for", "1h", "--gate", "ssh"]);
    for (anybody, everybody) in [("203.0.113.9", "0.0.0.0/0"), ("2001:db8:7::1", "::/0")] {
        let entry = &world.why(anybody)[0];
        has(
            entry,
            &json!({"verdict": "accepted", "member": everybody, "doubts": []}),
        );
    }
    Ok(())
}

fn why_shows_how_far_a_knock_is_and_who_sweeps() -> Tried {
    let policy = POLICY.replace("seq_timeout: 1s", "seq_timeout: 30s");
    let world = World::with(&policy, TRUSTED)?;
    for person in world.people(10)? {
        person.knocks(&KNOCK[..1]);
        world.all_is_handled()?;
        let entry = &world.why(&person.address)[0];
        let attempt = &entry["attempts"][0];
        has(attempt, &json!({"knock": "open", "matched": 1, "of": 2}));
        has(entry, &json!({"sweeps": false, "knocks": ["open"]}));
        person.knocks(&["5001", "5002", "5003", "5004", "5005"]);
        world.all_is_handled()?;
        has(
            &world.why(&person.address)[0],
            &json!({"sweeps": true, "knocks": [], "attempts": []}),
        );
    }
    Ok(())
}

fn why_shows_whose_knock_does_not_count_because_of_one_port() -> Tried {
    let policy = POLICY.replace("seq_timeout: 1s", "seq_timeout: 30s");
    let world = World::with(&policy, TRUSTED)?;
    for person in world.people(10)? {
        person.knocks(&["1229"]);
        person.knocks(KNOCK);
        world.all_is_handled()?;
        person.is_refused();
        let entry = &world.why(&person.address)[0];
        has(entry, &json!({"sweeps": false, "knocks": []}));
        let kept = &entry["kept_from"][0];
        has(kept, &json!({"knock": "open"}));
        let left = kept["left_s"].as_u64().unwrap_or_default();
        assert!((20..=31).contains(&left), "{entry}");
    }
    Ok(())
}

fn why_tells_of_what_others_have_put_into_the_sets() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    for family in Family::BOTH {
        let theirs = family.address(10);
        let put = [Change::Put(Member {
            gate: GateName::new("ssh").expect("a gate's name"),
            chain: Chain::Banned,
            net: host_net(theirs.parse().expect("an address")),
            remaining: Lifetime::For(Duration::from_secs(3600)),
            reason: "by somebody".to_owned(),
        })];
        let backend = backend();
        world.server.run(|| meddle(&backend, &put))??;
        // Whether the daemon has heard of it by now or not.
        let entry = &world.why(&theirs)[0];
        has(
            entry,
            &json!({"verdict": "dropped", "member": theirs, "reason": "by somebody"}),
        );
        let left = entry["expires_in_s"].as_u64().expect("it ends");
        assert!((3500..=3600).contains(&left), "{entry}");
    }
    Ok(())
}

/// Changes members without the daemon.
fn meddle(backend: &str, changes: &[Change]) -> Result<(), FirewallError> {
    match backend {
        "iptables" => Iptables::open(Variant::Installed)?.apply(changes),
        _ => Nftables::open()?.apply(changes),
    }
}

fn why_of_what_is_no_address_is_refused() -> Tried {
    let world = World::new()?;
    for wrong in [
        "192.0.2.0/24",
        "host.example.org",
        "nonsense ",
        "127.0.0.1/8",
    ] {
        world.expect(2, &["why", wrong]);
    }
    world.expect(2, &["why"]);
    world.expect(2, &["why", "192.0.2.1", "--gate", "nowhere"]);
    world.expect(2, &["why", "192.0.2.1", "--gate", "No Name"]);
    // Not gated, but something to ask about.
    world.expect(0, &["why", "127.0.0.1", "::1", "::ffff:192.0.2.1"]);
    Ok(())
}

fn status_says_when_a_gate_can_accept_nobody_else() -> Tried {
    const MOST: u32 = 65_536;
    let mut world = World::with(&long_policy(), TRUSTED)?;
    let put: Vec<Change> = (0..MOST)
        .map(|number| accepted(0x0a00_0000 + number))
        .collect();
    let backend = backend();
    world.server.run(|| meddle(&backend, &put))??;
    world.daemon.kill_9();
    world.daemon.start()?;
    let reply = world.expect(5, &["-o", "json", "status"]);
    let status: Value = serde_json::from_str(&reply.stdout)?;
    assert_eq!(status["state"], "degraded");
    assert_eq!(
        status["problems"].as_array().map(Vec::len),
        Some(1),
        "{status}"
    );
    assert_eq!(status["gates"][0]["accepted"], MOST);
    let person = world.person(Family::V4, 10)?;
    person.knocks(KNOCK);
    world.daemon.await_log("65536 already are", 1)?;
    person.is_refused();
    world.expect(0, &["flush", "10.0.0.7"]);
    world.expect(0, &["status"]);
    person.opens();
    Ok(())
}

/// An acceptance that somebody has put into the kernel.
fn accepted(address: u32) -> Change {
    Change::Put(Member {
        gate: GateName::new("ssh").expect("a gate's name"),
        chain: Chain::Filter,
        net: host_net(std::net::Ipv4Addr::from(address).into()),
        remaining: Lifetime::For(Duration::from_secs(3600)),
        reason: String::new(),
    })
}
