//! A gate before another machine: client, gateway with the daemon, inner host.

use portcullis::lab::{Daemon, Host, Lab, Service};

use crate::scenarios;
use crate::world::{DECOY, KNOCK, Person, Tried, goes_on, on_backend, programs};

scenarios![
    the_gateway_guards_the_inner_host,
    knocks_on_the_gateway_itself_count,
    a_sweep_of_the_inner_host_opens_nothing,
    a_ban_leaves_forwarded_sessions_alone_unless_the_gate_cuts_them,
    outgoing_connections_are_not_gated,
    the_gateways_own_port_is_guarded_with_both,
    sessions_through_the_gateway_outlive_its_first_start,
];

const POLICY: &str = "
interface: any
gates:
  inner: { ports: [22], hook: forward, address: 198.51.100.2, accept_timeout: 60s, ban_timeout: never }
  inner6: { ports: [22], hook: forward, address: \"2001:db8:1::/64\", accept_timeout: 60s, ban_timeout: never }
knocks:
  open: { sequence: [1228, 1227], seq_timeout: 1s, action: accept, gate: all }
  decoy: { sequence: [1220, 1221], seq_timeout: 1s, action: drop }
";

const INNER: [&str; 2] = ["198.51.100.2", "2001:db8:1::2"];
const GATEWAY: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const CLIENT: [&str; 2] = ["192.0.2.10", "2001:db8::10"];

struct Site {
    daemon: Daemon,
    _services: [Service; 4],
    clients: Host,
    inner: Host,
    _gateway: Host,
    _lab: Lab,
}

impl Site {
    fn new(policy: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let mut site = Self::before(policy)?;
        site.daemon.start()?;
        Ok(site)
    }

    /// Before the daemon is started.
    fn before(policy: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let lab = Lab::new()?;
        let [clients, gateway, inner] = [
            lab.host("clients")?,
            lab.host("gateway")?,
            lab.host("inner")?,
        ];
        let own = [
            "192.0.2.10/24",
            "192.0.2.11/24",
            "2001:db8::10/64",
            "2001:db8::11/64",
        ];
        let outer = ["192.0.2.1/24", "2001:db8::1/64"];
        lab.link(&clients, "eth0", &own, &gateway, "eth0", &outer)?;
        let near = ["198.51.100.1/24", "2001:db8:1::1/64"];
        let far = ["198.51.100.2/24", "2001:db8:1::2/64"];
        lab.link(&gateway, "eth1", &near, &inner, "eth0", &far)?;
        gateway.forward()?;
        for (host, v4, v6) in [
            (&clients, GATEWAY[0], GATEWAY[1]),
            (&inner, "198.51.100.1", "2001:db8:1::1"),
        ] {
            host.route("0.0.0.0/0", v4)?;
            host.route("::/0", v6)?;
        }
        let services = [
            Service::start(&inner, 22)?,
            Service::start(&inner, 80)?,
            Service::start(&gateway, 22)?,
            Service::start(&clients, 22)?,
        ];
        let policy = on_backend(policy);
        let daemon = Daemon::prepare(&lab, &gateway, &programs(), &policy, "")?;
        Ok(Self {
            daemon,
            _services: services,
            clients,
            inner,
            _gateway: gateway,
            _lab: lab,
        })
    }

    fn person(&self, from: &str, to: &str) -> Result<Person, Box<dyn std::error::Error>> {
        Ok(Person {
            client: self.clients.client(from)?,
            server: to.to_owned(),
            address: from.to_owned(),
        })
    }
}

fn the_gateway_guards_the_inner_host() -> Tried {
    let site = Site::new(POLICY)?;
    for ((from, other), to) in CLIENT
        .into_iter()
        .zip(["192.0.2.11", "2001:db8::11"])
        .zip(INNER)
    {
        let (person, other) = (site.person(from, to)?, site.person(other, to)?);
        person.is_refused();
        // Other ports of the inner host are not guarded.
        person.gets_in_at(80);
        goes_on(&mut person.opens());
        other.is_refused();
        person.knocks(DECOY);
        person.is_refused_within(crate::world::AT_ONCE);
    }
    Ok(())
}

fn knocks_on_the_gateway_itself_count() -> Tried {
    let site = Site::new(POLICY)?;
    for ((from, gateway), inner) in CLIENT.into_iter().zip(GATEWAY).zip(INNER) {
        let inside = site.person(from, inner)?;
        inside.is_refused();
        site.person(from, gateway)?.knocks(KNOCK);
        inside.gets_in_soon(22);
    }
    Ok(())
}

fn a_sweep_of_the_inner_host_opens_nothing() -> Tried {
    let site = Site::new(POLICY)?;
    for ((from, other), to) in CLIENT
        .into_iter()
        .zip(["192.0.2.11", "2001:db8::11"])
        .zip(INNER)
    {
        let (scanner, other) = (site.person(from, to)?, site.person(other, to)?);
        scanner.knocks(&["1231", "1230", "1229", "1228", "1227"]);
        // Packets are handled in the order in which they come.
        other.opens();
        scanner.is_refused();
    }
    Ok(())
}

fn a_ban_leaves_forwarded_sessions_alone_unless_the_gate_cuts_them() -> Tried {
    let cutting = POLICY.replace("ban_timeout", "cut_sessions: true, ban_timeout");
    for (policy, cuts) in [(POLICY, false), (cutting.as_str(), true)] {
        let site = Site::new(policy)?;
        for ((from, other), to) in CLIENT
            .into_iter()
            .zip(["192.0.2.11", "2001:db8::11"])
            .zip(INNER)
        {
            let (person, other) = (site.person(from, to)?, site.person(other, to)?);
            let (mut session, mut untouched) = (person.opens(), other.opens());
            person.knocks(DECOY);
            person.is_refused_within(crate::world::AT_ONCE);
            if cuts {
                // There is no socket here to reset, and nothing is answered: it stands still.
                let error = session.echoes("still here?").unwrap_err();
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                assert!(!session.is_over());
            } else {
                goes_on(&mut session);
            }
            goes_on(&mut untouched);
        }
    }
    Ok(())
}

fn outgoing_connections_are_not_gated() -> Tried {
    let site = Site::new(POLICY)?;
    for (from, to) in INNER.into_iter().zip(CLIENT) {
        let insider = Person {
            client: site.inner.client(from)?,
            server: to.to_owned(),
            address: from.to_owned(),
        };
        goes_on(&mut insider.gets_in());
    }
    // Nor is the gateway's own port, with `hook: forward`.
    for (from, to) in CLIENT.into_iter().zip(GATEWAY) {
        site.person(from, to)?.gets_in();
    }
    Ok(())
}

fn the_gateways_own_port_is_guarded_with_both() -> Tried {
    // The address says what is guarded behind us, be it one host or a network in which we have an
    // address, too; on the gateway itself every address is.
    let network = POLICY.replace("address: 198.51.100.2", "address: 198.51.100.0/24");
    for policy in [POLICY, &network] {
        let site = Site::new(&policy.replace("hook: forward", "hook: both"))?;
        for ((from, outer), (near, inner)) in CLIENT
            .into_iter()
            .zip(GATEWAY)
            .zip(["198.51.100.1", "2001:db8:1::1"].into_iter().zip(INNER))
        {
            let own = [site.person(from, outer)?, site.person(from, near)?];
            let inner = site.person(from, inner)?;
            own.iter().for_each(Person::is_refused);
            inner.is_refused();
            own[0].opens();
            own[1].gets_in();
            inner.gets_in();
            // Other ports are not guarded.
            inner.gets_in_at(80);
        }
    }
    Ok(())
}

/// The gateway has no socket of theirs, and connection tracking has never seen them.
fn sessions_through_the_gateway_outlive_its_first_start() -> Tried {
    let mut site = Site::before(POLICY)?;
    let ends: Vec<_> = CLIENT.into_iter().zip(INNER).collect();
    let people = ends.iter().map(|(from, to)| site.person(from, to));
    let people = people.collect::<Result<Vec<_>, _>>()?;
    let mut sessions: Vec<_> = people.iter().map(Person::gets_in).collect();
    site.daemon.start()?;
    for (person, session) in people.iter().zip(&mut sessions) {
        goes_on(session);
        person.is_refused();
        goes_on(session);
    }
    Ok(())
}
