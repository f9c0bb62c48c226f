//! A gateway that hands a port to an inner host by DNAT, made with programs that we did not write.

use std::error::Error;

use portcullis::lab::{Daemon, Host, Lab, Service};

use crate::Ours;
use crate::scenarios;
use crate::tools::{load, run};
use crate::world::{AT_ONCE, DECOY, KNOCK, Person, Tried, goes_on, programs};

scenarios![
    a_port_forwarded_by_nft_is_guarded,
    a_port_forwarded_by_iptables_is_guarded,
    a_container_that_docker_publishes_is_guarded,
    a_forward_chain_that_drops_is_named,
    the_inner_networks_own_connections_are_not_gated,
];

const POLICY: &str = "
interface: any
trusted: knockd.trusted
gates:
  inner: { ports: [22], hook: forward, address: 198.51.100.2, accept_timeout: 60s, ban_timeout: never }
knocks:
  open: { sequence: [1228, 1227], seq_timeout: 1s, action: accept }
  decoy: { sequence: [1220, 1221], seq_timeout: 1s, action: drop }
";

const GATEWAY: &str = "192.0.2.1";
const INNER: &str = "198.51.100.2";

/// Fields are dropped in this order.
struct Site {
    daemon: Daemon,
    _services: [Service; 3],
    clients: Host,
    inner: Host,
    gateway: Host,
    lab: Lab,
}

impl Drop for Site {
    fn drop(&mut self) {
        // The report of a failure shows it.
        if std::thread::panicking() {
            eprintln!("{}", self.daemon.log_tail(40));
        }
    }
}

impl Site {
    /// Client – gateway – inner host, whose side of the gateway is `inside`; the daemon on the
    /// gateway, not started.
    fn new(ours: Ours, inside: &str) -> Result<Self, Box<dyn Error>> {
        let lab = Lab::new()?;
        let hosts = [
            lab.host("clients")?,
            lab.host("gateway")?,
            lab.host("inner")?,
        ];
        let [clients, gateway, inner] = hosts;
        let own = [
            "192.0.2.10/24",
            "192.0.2.11/24",
            "192.0.2.12/24",
            "192.0.2.50/24",
        ];
        lab.link(&clients, "eth0", &own, &gateway, "eth0", &["192.0.2.1/24"])?;
        let (near, far) = (["198.51.100.1/24"], ["198.51.100.2/24"]);
        lab.link(&gateway, inside, &near, &inner, "eth0", &far)?;
        gateway.forward()?;
        clients.route("0.0.0.0/0", GATEWAY)?;
        gateway.route("0.0.0.0/0", "192.0.2.10")?;
        inner.route("0.0.0.0/0", "198.51.100.1")?;
        let services = [
            Service::start(&inner, 22)?,
            Service::start(&gateway, 22)?,
            Service::start(&clients, 22)?,
        ];
        let policy = ours.policy(POLICY);
        let daemon = Daemon::prepare(&lab, &gateway, &programs(), &policy, "192.0.2.50\n")?;
        Ok(Self {
            daemon,
            _services: services,
            clients,
            inner,
            gateway,
            lab,
        })
    }

    fn person(&self, number: u8, to: &str) -> Result<Person, Box<dyn Error>> {
        let address = format!("192.0.2.{number}");
        Ok(Person {
            client: self.clients.client(&address)?,
            server: to.to_owned(),
            address,
        })
    }

    #[track_caller]
    fn status(&self, code: i32) -> String {
        let reply = self.daemon.ctl(&["status"]).expect("knockctl runs");
        assert_eq!(reply.code, Some(code), "{reply:?}");
        reply.stdout
    }

    /// Port 2222 of the gateway is the inner host's 22: guarded, from knock to ban.
    fn is_guarded(&self) -> Tried {
        let outside = |number| self.person(number, GATEWAY);
        let (person, other, trusted) = (outside(10)?, outside(11)?, outside(50)?);
        goes_on(&mut trusted.gets_in_at(2222));
        person.is_refused_at(2222);
        // On the gateway's own address, which is the only one that the world knows.
        let mut session = person.opens_with(KNOCK, 2222);
        goes_on(&mut session);
        other.is_refused_at(2222);
        // The gateway's own port is another matter.
        other.gets_in_at(22);
        person.knocks(DECOY);
        let gate = crate::world::port_at(GATEWAY, 2222);
        person.client.await_silent(&gate, AT_ONCE)?;
        goes_on(&mut session);
        Ok(())
    }
}

fn a_port_forwarded_by_nft_is_guarded(ours: Ours) -> Tried {
    let mut site = Site::new(ours, "eth1")?;
    let rules = "
table ip nat {
    chain prerouting {
        type nat hook prerouting priority dstnat;
        iifname \"eth0\" ip daddr 192.0.2.1 tcp dport 2222 dnat to 198.51.100.2:22
    }
}
";
    load(&site.lab, &site.gateway, "nft", rules);
    site.daemon.start()?;
    site.status(0);
    site.is_guarded()?;
    // Where it is addressed directly, the same gate stands.
    let direct = site.person(12, INNER)?;
    direct.is_refused();
    direct.opens();
    Ok(())
}

fn a_port_forwarded_by_iptables_is_guarded(ours: Ours) -> Tried {
    let mut site = Site::new(ours, "eth1")?;
    site.daemon.start()?;
    // Later than the gate; also the port itself, so that the gateway's own is out of reach.
    let forward = |port: &str| {
        let rule = format!(
            "iptables -t nat -A PREROUTING -i eth0 -p tcp --dport {port} -j DNAT --to-destination \
             198.51.100.2:22"
        );
        let words: Vec<&str> = rule.split_ascii_whitespace().collect();
        run(&site.lab, &site.gateway, &words);
    };
    forward("2222");
    site.status(0);
    site.is_guarded()?;
    forward("22");
    let (person, other) = (site.person(12, GATEWAY)?, site.person(11, GATEWAY)?);
    person.is_refused();
    person.opens();
    other.is_refused();
    Ok(())
}

/// Docker's rules with the inner host as a container that publishes its port 22 as 2222.
fn docker() -> String {
    let published = "-p tcp -m tcp --dport 2222 -j DNAT --to-destination 198.51.100.2:22";
    crate::tables::DOCKER
        .replace("172.17.0.0/16", "198.51.100.0/24")
        .replace(
            "-p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80",
            published,
        )
        .replace("172.17.0.2/32", "198.51.100.2/32")
        .replace("--dport 80 ", "--dport 22 ")
}

fn a_container_that_docker_publishes_is_guarded(ours: Ours) -> Tried {
    let mut site = Site::new(ours, "docker0")?;
    load(&site.lab, &site.gateway, "iptables-restore", &docker());
    site.daemon.start()?;
    site.status(0);
    site.is_guarded()
}

fn a_forward_chain_that_drops_is_named(ours: Ours) -> Tried {
    let mut site = Site::new(ours, "docker0")?;
    // The port is translated, and nothing lets it through.
    let rules = docker();
    let (before, after) = rules
        .split_once("-A DOCKER -d 198.51.100.2/32")
        .ok_or("the rule")?;
    let (_, after) = after.split_once('\n').ok_or("its end")?;
    load(
        &site.lab,
        &site.gateway,
        "iptables-restore",
        &format!("{before}{after}"),
    );
    site.daemon.start()?;
    let person = site.person(10, GATEWAY)?;
    match ours {
        Ours::Nftables => {
            let said = site.status(5);
            for word in [
                "chain FORWARD",
                "table ip filter",
                "gate inner",
                "DOCKER-USER",
            ] {
                assert!(said.contains(word), "`{word}` in {said}");
            }
            person.knocks(KNOCK);
            site.daemon.await_log("accepted at inner", 1)?;
            person.is_refused_at(2222);
            let accept = "iptables -I DOCKER-USER -p tcp --dport 22 -j ACCEPT";
            let words: Vec<&str> = accept.split_ascii_whitespace().collect();
            run(&site.lab, &site.gateway, &words);
        }
        // At position 1 of FORWARD ours comes before anything of Docker's.
        Ours::Iptables => {}
    }
    site.status(0);
    person.opens_with(KNOCK, 2222);
    Ok(())
}

fn the_inner_networks_own_connections_are_not_gated(ours: Ours) -> Tried {
    let mut site = Site::new(ours, "eth1")?;
    let rule = "iptables -t nat -A POSTROUTING -s 198.51.100.0/24 -o eth0 -j MASQUERADE";
    let words: Vec<&str> = rule.split_ascii_whitespace().collect();
    run(&site.lab, &site.gateway, &words);
    site.daemon.start()?;
    let insider = Person {
        client: site.inner.client(INNER)?,
        server: "192.0.2.10".to_owned(),
        address: INNER.to_owned(),
    };
    goes_on(&mut insider.gets_in());
    site.person(10, INNER)?.is_refused();
    Ok(())
}
