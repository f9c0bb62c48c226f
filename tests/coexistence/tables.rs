//! Rules in the shapes that other programs make them.

use crate::Ours;
use crate::scenarios;
use crate::tools::{load, opens_to_knockers_only, opens_to_nobody, says, says_nothing, world};
use crate::world::{Family, Tried, World};

scenarios![
    docker_leaves_the_host_alone,
    firewalld_is_named_until_the_service_is_added,
    a_plain_nftables_firewall_is_named_until_it_has_the_port,
    a_verdict_map_and_a_named_set_are_understood,
    a_rule_before_everything_is_named,
    a_rule_put_before_ours_is_named,
    bans_and_limits_of_others_are_no_complaint,
    where_addresses_are_rewritten_everything_is_tracked,
];

/// What Docker 24 has in the filter table with one container that publishes a port.
pub(crate) const DOCKER: &str = "\
*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
COMMIT
*filter
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -j RETURN
COMMIT
";

fn docker_leaves_the_host_alone(ours: Ours) -> Tried {
    let mut world = world(ours)?;
    load(&world.lab, &world.server, "iptables-restore", DOCKER);
    world.daemon.start()?;
    // It drops what is forwarded, and this gate is on the host itself.
    says_nothing(&world);
    opens_to_knockers_only(&world);
    Ok(())
}

/// What firewalld has (version 1.3, nftables backend), for one zone; `SERVICES` are its services.
const FIREWALLD: &str = r#"
table inet firewalld {
    chain filter_PREROUTING {
        type filter hook prerouting priority filter + 10; policy accept;
        icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
        meta nfproto ipv6 fib saddr . mark . iif oif missing drop
    }
    chain filter_INPUT {
        type filter hook input priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname "lo" accept
        ct state invalid drop
        jump filter_INPUT_ZONES
        reject with icmpx admin-prohibited
    }
    chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname "lo" accept
        ct state invalid drop
        reject with icmpx admin-prohibited
    }
    chain filter_INPUT_ZONES {
        iifname "virbr0" goto filter_IN_trusted
        iifname "eth0" goto filter_IN_public
        goto filter_IN_public
    }
    chain filter_IN_trusted {
        accept
    }
    chain filter_IN_public {
        jump filter_INPUT_POLICIES_pre
        jump filter_IN_public_deny
        jump filter_IN_public_allow
        meta l4proto { icmp, ipv6-icmp } accept
        reject with icmpx admin-prohibited
    }
    chain filter_INPUT_POLICIES_pre {
        icmpv6 type { nd-neighbor-advert, nd-neighbor-solicit, nd-router-advert, nd-redirect } accept
    }
    chain filter_IN_public_deny {
    }
    chain filter_IN_public_allow {
        SERVICES
        ip6 daddr fe80::/64 udp dport 546 accept
    }
}
"#;

fn firewalld_is_named_until_the_service_is_added(ours: Ours) -> Tried {
    let mut world = world(ours)?;
    let rules = FIREWALLD.replace("SERVICES", "tcp dport 9090 accept");
    load(&world.lab, &world.server, "nft", &rules);
    world.daemon.start()?;
    // Whichever backend is ours, firewalld decides after it.
    says(
        &world,
        &["table inet firewalld", "filter_IN_public", "22/tcp"],
    );
    says(&world, &["firewall-cmd --permanent --add-port=22/tcp"]);
    for person in world.people(14)? {
        person.knocks(crate::world::KNOCK);
        world.await_member("ssh_filter", &person.address);
        // It rejects; ICMP errors are limited, so that this may look like silence.
        assert_ne!(person.finds(22), "open");
    }
    let add = "add rule inet firewalld filter_IN_public_allow tcp dport 22 accept";
    load(&world.lab, &world.server, "nft", add);
    says_nothing(&world);
    opens_to_knockers_only(&world);
    Ok(())
}

/// A firewall as in the nftables wiki and in Debian's examples.
const PLAIN: &str = r#"
table inet filter {
    chain input {
        type filter hook input priority filter; policy drop;
        iif "lo" accept
        ct state established,related accept
        meta l4proto { icmp, ipv6-icmp } accept
        tcp dport { 80, 443 } accept
        ip saddr 198.51.100.0/24 tcp dport 22 accept
        iifname "wg0" accept
    }
    chain forward {
        type filter hook forward priority filter; policy drop;
    }
    chain output {
        type filter hook output priority filter; policy accept;
    }
}
"#;

fn a_plain_nftables_firewall_is_named_until_it_has_the_port(ours: Ours) -> Tried {
    let mut world = world(ours)?;
    load(&world.lab, &world.server, "nft", PLAIN);
    world.daemon.start()?;
    says(
        &world,
        &["chain input (its policy is drop) of table inet filter"],
    );
    says(
        &world,
        &["nft insert rule inet filter input tcp dport 22 accept"],
    );
    opens_to_nobody(&world);
    load(
        &world.lab,
        &world.server,
        "nft",
        "insert rule inet filter input tcp dport 22 accept",
    );
    says_nothing(&world);
    opens_to_knockers_only(&world);
    Ok(())
}

fn a_verdict_map_and_a_named_set_are_understood(ours: Ours) -> Tried {
    let rules = r#"
table inet filter {
    set services { type inet_service; flags interval; elements = { 20-21, 25, 80-90 } }
    chain input {
        type filter hook input priority filter; policy drop;
        ct state vmap { invalid : drop, established : accept, related : accept }
        meta l4proto ipv6-icmp accept
        iifname vmap { "lo" : accept, "eth0" : jump world, "eth1" : accept }
    }
    chain world {
        tcp dport @services accept
        tcp dport vmap { 8080 : accept, 22 : jump ssh }
    }
    chain ssh {
        limit rate over 1000/second drop
        ip saddr 198.51.100.0/24 accept
        ip6 saddr 2001:db8:9::/48 accept
    }
}
"#;
    let mut world = world(ours)?;
    load(&world.lab, &world.server, "nft", rules);
    world.daemon.start()?;
    says(
        &world,
        &["chain input (its policy is drop) of table inet filter"],
    );
    opens_to_nobody(&world);
    load(
        &world.lab,
        &world.server,
        "nft",
        "add element inet filter services { 22-24 }",
    );
    says_nothing(&world);
    opens_to_knockers_only(&world);
    Ok(())
}

fn a_rule_before_everything_is_named(ours: Ours) -> Tried {
    let rules = "
table inet early {
    chain first {
        type filter hook prerouting priority raw; policy accept;
        tcp dport 1-1023 tcp flags & (syn | ack) == syn counter drop
    }
}
";
    let mut world = world(ours)?;
    load(&world.lab, &world.server, "nft", rules);
    world.daemon.start()?;
    says(
        &world,
        &[
            "rule 1 of chain first",
            "table inet early",
            "22/tcp (gate ssh)",
        ],
    );
    opens_to_nobody(&world);
    Ok(())
}

fn a_rule_put_before_ours_is_named(ours: Ours) -> Tried {
    let mut world = world(ours)?;
    world.daemon.start()?;
    says_nothing(&world);
    let drop = "*filter\n-I INPUT -p tcp -m multiport --dports 20:23,80 -m conntrack --ctstate NEW \
                -j DROP\nCOMMIT\n";
    for program in ["iptables-restore", "ip6tables-restore"] {
        load(&world.lab, &world.server, program, drop);
    }
    for table in ["table ip filter", "table ip6 filter"] {
        says(&world, &["rule 1 of chain INPUT", table]);
    }
    opens_to_nobody(&world);
    Ok(())
}

fn bans_and_limits_of_others_are_no_complaint(ours: Ours) -> Tried {
    let rules = r#"
table inet others {
    set banned { type ipv4_addr; flags interval; elements = { 198.51.100.0/24, 203.0.113.9 } }
    chain input {
        type filter hook input priority -5; policy accept;
        ip saddr @banned drop
        ip saddr 203.0.113.0/24 reject
        ip6 saddr 2001:db8:dead::/48 drop
        tcp dport 23 drop
        tcp dport 22 ct state new limit rate over 1000/second burst 1000 packets drop
        ip daddr 224.0.0.0/4 drop
        meta l4proto ipv6-icmp accept
        fib daddr type { broadcast, multicast } drop
        ct state invalid drop
        tcp flags & (fin | syn) == fin | syn drop
        iifname "eth7" drop
    }
}
"#;
    let mut world = world(ours)?;
    load(&world.lab, &world.server, "nft", rules);
    world.daemon.start()?;
    says_nothing(&world);
    opens_to_knockers_only(&world);
    Ok(())
}

/// What is not tracked is not rewritten: a knock port that somebody publishes must work.
fn where_addresses_are_rewritten_everything_is_tracked(ours: Ours) -> Tried {
    let mut world = world(ours)?;
    world.daemon.start()?;
    let untracked = |world: &World| world.json(&["status"])["untracked"].clone();
    let ports = untracked(&world)["ports"].clone();
    assert_eq!(ports[0], "1220/tcp", "{ports}");
    // Chains alone rewrite nothing.
    let chain = "add table ip site\nadd chain ip site outside { type nat hook prerouting priority -100; }\n";
    load(&world.lab, &world.server, "nft", chain);
    world.expect(0, &["reload"]);
    assert_eq!(untracked(&world)["ports"], ports);
    let rule = "add rule ip site outside tcp dport 1220 redirect to :22\n";
    load(&world.lab, &world.server, "nft", rule);
    world.expect(0, &["reload"]);
    let found = untracked(&world);
    assert_eq!(found["ports"], serde_json::json!([]));
    let why = found["why_none"].as_str().unwrap_or_default();
    assert!(why.contains("table ip site"), "{why}");
    world.expect(0, &["status"]);
    // And it is rewritten: to a gate's port, where strangers wait outside.
    let person = world.person(Family::V4, 10)?;
    person.opens();
    person.gets_in_at(1220);
    load(&world.lab, &world.server, "nft", "delete table ip site\n");
    world.expect(0, &["reload"]);
    assert_eq!(untracked(&world)["ports"], ports);
    world.expect(0, &["status"]);
    Ok(())
}
