//! A server with the daemon and the shipped policy, and a host with very many addresses.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use portcullis::lab::{Daemon, Host, Lab, LabError, Program, Programs, Service};
use serde_json::Value;

use super::sender::Sender;

/// The policy as it is shipped.
pub(crate) const SHIPPED: &str = include_str!("../../policy/knockd.yaml");

/// What should come about at once may take that long on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(20);

/// Fields are dropped in this order.
pub(crate) struct World {
    pub(crate) daemon: Daemon,
    _services: Vec<Service>,
    pub(crate) clients: Host,
    _server: Host,
    _lab: Lab,
}

/// Half of the people speak IPv4, the others IPv6.
pub(crate) fn person(number: usize) -> IpAddr {
    let number = u16::try_from(number).expect("a small number");
    if number.is_multiple_of(2) {
        Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 1, 0).to_bits() + u32::from(number)).into()
    } else {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, number).into()
    }
}

/// The server as somebody reaches it.
pub(crate) fn server_of(person: IpAddr) -> IpAddr {
    if person.is_ipv4() {
        Ipv4Addr::new(10, 0, 0, 1).into()
    } else {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()
    }
}

impl World {
    /// With so many people, and with something listening on 22, 80 and 443.
    pub(crate) fn new(people: usize) -> Result<Self, LabError> {
        let lab = Lab::new()?;
        let (server, clients) = (lab.host("server")?, lab.host("clients")?);
        let addresses: Vec<String> = (0..people)
            .map(|number| match person(number) {
                IpAddr::V4(v4) => format!("{v4}/16"),
                IpAddr::V6(v6) => format!("{v6}/64"),
            })
            .collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let there = ["10.0.0.1/16", "2001:db8::1/64"];
        lab.link(&server, "eth0", &there, &clients, "eth0", &addresses)?;
        let services = [22, 80, 443].map(|port| Service::start(&server, port));
        let services = services.into_iter().collect::<Result<Vec<_>, _>>()?;
        let programs = Programs {
            knockd: Program::at(env!("CARGO_BIN_EXE_knockd")),
            knockctl: Some(Program::at(env!("CARGO_BIN_EXE_knockctl"))),
        };
        let daemon = Daemon::launch(&lab, &server, &programs, SHIPPED, "# nobody\n")?;
        Ok(Self {
            daemon,
            _services: services,
            clients,
            _server: server,
            _lab: lab,
        })
    }

    /// Sends from the clients' host.
    pub(crate) fn sending<T: Send>(
        &self,
        work: impl FnOnce(&mut Sender) -> std::io::Result<T> + Send,
    ) -> Result<T, Box<dyn std::error::Error>> {
        let sent = self.clients.run(|| work(&mut Sender::new()?))?;
        Ok(sent?)
    }

    fn json(&self, verb: &str) -> Result<Value, Box<dyn std::error::Error>> {
        let reply = self.daemon.ctl(&["-o", "json", verb])?;
        assert_eq!(reply.code, Some(0), "{verb}: {reply:?}");
        Ok(serde_json::from_str(&reply.stdout)?)
    }

    /// Who is accepted.
    pub(crate) fn accepted(&self) -> Result<HashSet<IpAddr>, Box<dyn std::error::Error>> {
        let list = self.json("list")?;
        let entries = list["entries"].as_array().expect("entries is a list");
        let accepted = entries
            .iter()
            .filter(|entry| entry["chain"] == "ssh_filter");
        let address = |entry: &Value| entry["address"].as_str().and_then(|text| text.parse().ok());
        Ok(accepted.filter_map(address).collect())
    }

    /// How often a sequence was completed.
    pub(crate) fn completed(&self, knock: &str) -> Result<u64, Box<dyn std::error::Error>> {
        let status = self.json("status")?;
        let mut knocks = status["knocks"].as_array().expect("a list").iter();
        let found = knocks.find(|entry| entry["name"] == knock);
        let count = found.and_then(|entry| entry["completed"].as_u64());
        Ok(count.unwrap_or_else(|| panic!("no {knock} in {status}")))
    }

    /// A counter of packets: `knocks`, `foreign`, `seen`, `dropped`.
    pub(crate) fn packets(&self, counter: &str) -> Result<u64, Box<dyn std::error::Error>> {
        let status = self.json("status")?;
        let count = status["packets"][counter].as_u64();
        Ok(count.unwrap_or_else(|| panic!("no packets.{counter} in {status}")))
    }

    /// Waits until the daemon has taken in so many knocks and foreign packets.
    pub(crate) fn await_heard(&self, packets: u64) -> Result<(), Box<dyn std::error::Error>> {
        let started = Instant::now();
        loop {
            let heard = self.packets("knocks")? + self.packets("foreign")?;
            if heard >= packets {
                assert_eq!(self.packets("dropped")?, 0, "packets were lost");
                return Ok(());
            }
            let late = started.elapsed() > AT_ONCE;
            assert!(!late, "{heard} of {packets} packets were heard");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
