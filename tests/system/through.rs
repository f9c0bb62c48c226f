//! A session of a real sshd on a host behind the gate: knockd is on the gateway, which has no socket
//! of it, and a ban ends it where the gate says so.

use std::time::{Duration, Instant};

use portcullis::lab::{Host, ONE_SYN};

use crate::cases;
use crate::ssh::{Session, Sshd};
use crate::world::{Family, Person, Tried, World};

cases![
    on_nftables_a_ban_leaves_a_session_through_the_gateway_alone,
    on_nftables_with_cut_sessions_a_ban_stops_a_session_through_the_gateway,
    on_iptables_a_ban_leaves_a_session_through_the_gateway_alone,
    on_iptables_with_cut_sessions_a_ban_stops_a_session_through_the_gateway,
];

const POLICY: &str = "
interface: any
trusted: knockd.trusted
gates:
  inner: { ports: [22], hook: forward, address: 198.51.100.2, accept_timeout: 299s, ban_timeout: never }
  inner6: { ports: [22], hook: forward, address: \"2001:db8:1::2\", accept_timeout: 299s, ban_timeout: never }
knocks:
  open: { sequence: [1228, 1227], seq_timeout: 15s, action: accept, gate: all }
  decoy: { sequence: [1220, 1221], seq_timeout: 15s, action: drop }
";

/// As long as nobody's answer takes.
const LONG: Duration = Duration::from_secs(2);

fn inner(family: Family) -> &'static str {
    match family {
        Family::V4 => "198.51.100.2",
        Family::V6 => "2001:db8:1::2",
    }
}

/// What somebody finds at port 22 of the inner host.
#[track_caller]
fn finds(who: &Person, family: Family) -> &'static str {
    let client = who.host.client(&who.address(family)).expect("a client");
    let to = match family {
        Family::V4 => format!("{}:22", inner(family)),
        Family::V6 => format!("[{}]:22", inner(family)),
    };
    let outcome = client.connect(&to, ONE_SYN);
    outcome.expect("a SYN can be sent").word()
}

/// A gateway, and behind it a host with sshd. Fields are dropped in this order.
struct Site {
    sshd: Sshd,
    world: World,
    _inner: Host,
}

impl Site {
    fn new(backend: &str, cuts: bool) -> Result<Self, Box<dyn std::error::Error>> {
        let policy = if cuts {
            POLICY.replace("ban_timeout", "cut_sessions: true, ban_timeout")
        } else {
            POLICY.to_owned()
        };
        let policy = format!("{policy}firewall: {{ backend: {backend} }}\n");
        let mut world = World::before(&policy, crate::world::TRUSTED, None)?;
        let inner = world.lab.host("inner")?;
        let near = ["198.51.100.1/24", "2001:db8:1::1/64"];
        let far = ["198.51.100.2/24", "2001:db8:1::2/64"];
        world
            .lab
            .link(&world.server, "eth1", &near, &inner, "eth0", &far)?;
        world.server.forward()?;
        for (host, [v4, v6]) in [
            (&inner, ["198.51.100.1", "2001:db8:1::1"]),
            (&world.knocker.host, Family::BOTH.map(Family::server)),
            (&world.colleague.host, Family::BOTH.map(Family::server)),
        ] {
            host.route("0.0.0.0/0", v4)?;
            host.route("::/0", v6)?;
        }
        world.daemon.start()?;
        let sshd = Sshd::start(&world, &inner)?;
        Ok(Self {
            sshd,
            world,
            _inner: inner,
        })
    }

    #[track_caller]
    fn soon_finds(&self, who: &Person, family: Family, word: &str) {
        let started = Instant::now();
        while finds(who, family) != word {
            let late = started.elapsed() > crate::world::AT_ONCE;
            assert!(!late, "not {word}: {}", Sshd::log(&self.world));
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn banned_in_a_session(backend: &str, cuts: bool) -> Tried {
    let site = Site::new(backend, cuts)?;
    let (world, sshd) = (&site.world, &site.sshd);
    let (knocker, colleague) = (&world.knocker, &world.colleague);
    for family in Family::BOTH {
        let server = inner(family);
        site.soon_finds(colleague, family, "open");
        assert_eq!(finds(knocker, family), "silent");
        let knock = [family.flag(), server, "1228", "1227"];
        world.succeeds(&knocker.host, "knock", &knock);
        site.soon_finds(knocker, family, "open");
        let mut session = Session::open_at(sshd, knocker, server);
        assert!(session.echoes("good morning")?, "{}", Sshd::log(world));
        let mut untouched = Session::open_at(sshd, colleague, server);
        assert!(untouched.echoes("good morning")?, "{}", Sshd::log(world));

        world.expect(0, &["drop", &knocker.address(family)]);
        assert_eq!(finds(knocker, family), "silent");
        if cuts {
            // There is no socket here to reset, and nothing is answered.
            assert!(session.stands_still(LONG)?, "something passes");
        } else {
            assert!(session.echoes("still here")?);
            session.close();
        }
        assert!(untouched.echoes("still here")?);
        untouched.close();
    }
    Ok(())
}

fn on_nftables_a_ban_leaves_a_session_through_the_gateway_alone() -> Tried {
    banned_in_a_session("nftables", false)
}

fn on_nftables_with_cut_sessions_a_ban_stops_a_session_through_the_gateway() -> Tried {
    banned_in_a_session("nftables", true)
}

fn on_iptables_a_ban_leaves_a_session_through_the_gateway_alone() -> Tried {
    banned_in_a_session("iptables", false)
}

fn on_iptables_with_cut_sessions_a_ban_stops_a_session_through_the_gateway() -> Tried {
    banned_in_a_session("iptables", true)
}
