//! What every scenario needs: a server behind a gate, people who want in, and words for what they
//! do.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::time::{Duration, Instant, SystemTime};

use portcullis::lab::{
    BANNER, BEFORE_A_SECOND_SYN, Client, Daemon, Host, Lab, LabError, ONE_SYN, Outcome, Program,
    Programs, Reply, Service, Session,
};
use portcullis::store::{Store, boot_id};
use serde_json::Value;

pub(crate) type Tried = Result<(), Box<dyn Error>>;

/// What should come about at once may take that long on a busy machine.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(3);
/// `accept_timeout` of the usual policy.
pub(crate) const ACCEPT_TIME: Duration = Duration::from_secs(2);

pub(crate) const KNOCK: &[&str] = &["1228", "1227"];
pub(crate) const DECOY: &[&str] = &["1220", "1221"];

/// The usual policy.
pub(crate) const POLICY: &str = "
interface: any
trusted: knockd.trusted
gates:
  ssh: { ports: [22], accept_timeout: 2s, ban_timeout: never }
knocks:
  open: { sequence: [1228, 1227], seq_timeout: 1s, action: accept }
  decoy: { sequence: [1220, 1221], seq_timeout: 1s, action: drop }
  twice: { sequence: [1226, 1226], seq_timeout: 1s, action: drop }
";

/// The same with acceptances that last longer than any scenario.
pub(crate) fn long_policy() -> String {
    POLICY.replace("accept_timeout: 2s", "accept_timeout: 60s")
}

/// Where a knock follows a decoy at once: the scan guard would have the knocker wait for
/// `seq_timeout`, and has tests of its own.
pub(crate) fn at_once_after_decoys(policy: &str) -> String {
    format!("scan_guard: {{ nearby: 0 }}\n{}", policy.trim_start())
}

/// The backend that every kernel has, whatever programs are installed, unless another is asked
/// for.
pub(crate) fn backend() -> String {
    if let Some(chosen) = BACKEND.get() {
        return chosen.to_owned();
    }
    std::env::var("PORTCULLIS_BACKEND").unwrap_or_else(|_| "nftables".to_owned())
}

thread_local! {
    static BACKEND: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// While it is there, the worlds that this thread makes are on that backend.
#[cfg(feature = "system-tests")]
pub(crate) struct OnBackend(());

#[cfg(feature = "system-tests")]
impl OnBackend {
    pub(crate) fn new(backend: &'static str) -> Self {
        BACKEND.set(Some(backend));
        Self(())
    }
}

#[cfg(feature = "system-tests")]
impl Drop for OnBackend {
    fn drop(&mut self) {
        BACKEND.set(None);
    }
}

pub(crate) fn on_backend(policy: &str) -> String {
    let is_classic = policy.starts_with('[');
    if is_classic || policy.contains("firewall:") {
        policy.to_owned()
    } else {
        // At the end, so that line numbers stay what they are.
        format!(
            "{}\nfirewall: {{ backend: {} }}\n",
            policy.trim_end(),
            backend()
        )
    }
}

/// The usual whitelist.
pub(crate) const TRUSTED: &str =
    "# the laboratory\n192.0.2.50   a workstation\n2001:db8::50 # too\n";

/// The programs that Cargo built for this test.
pub(crate) fn programs() -> Programs {
    Programs {
        knockd: Program::at(env!("CARGO_BIN_EXE_knockd")),
        knockctl: Some(Program::at(env!("CARGO_BIN_EXE_knockctl"))),
    }
}

thread_local! {
    static LOG: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The log of the last world that ended on this thread, for the report of a failure.
pub(crate) fn last_log() -> String {
    LOG.take()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const BOTH: [Family; 2] = [Family::V4, Family::V6];

    pub(crate) fn server(self) -> &'static str {
        match self {
            Family::V4 => "192.0.2.1",
            Family::V6 => "2001:db8::1",
        }
    }

    /// The address of client number so and so.
    pub(crate) fn address(self, number: u8) -> String {
        match self {
            Family::V4 => format!("192.0.2.{number}"),
            Family::V6 => format!("2001:db8::{number}"),
        }
    }

    pub(crate) fn with_length(self, address: &str) -> String {
        match self {
            Family::V4 => format!("{address}/24"),
            Family::V6 => format!("{address}/64"),
        }
    }
}

pub(crate) fn port_at(address: &str, port: u16) -> String {
    if address.contains(':') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    }
}

/// A server with the daemon and a service on port 22, and a host with many clients.
/// Fields are dropped in this order.
pub(crate) struct World {
    pub(crate) daemon: Daemon,
    _services: Vec<Service>,
    pub(crate) clients: Host,
    pub(crate) server: Host,
    pub(crate) lab: Lab,
    witnesses: Cell<u8>,
}

impl Drop for World {
    fn drop(&mut self) {
        LOG.set(self.daemon.log_tail(40));
    }
}

/// Gives a name a last good address, as an earlier run would have stored it.
pub(crate) fn remember_name(daemon: &Daemon, name: &str, address: &str) -> Tried {
    let mut store = Store::open_as(&daemon.state_dir(), &boot_id()?)?;
    store.remember_name(name, &[address.parse()?], SystemTime::now())?;
    Ok(())
}

impl World {
    pub(crate) fn new() -> Result<Self, LabError> {
        Self::with(POLICY, TRUSTED)
    }

    /// With another policy or whitelist.
    pub(crate) fn with(policy: &str, trusted: &str) -> Result<Self, LabError> {
        Self::with_services(policy, trusted, &[22])
    }

    /// With services on other ports than 22.
    pub(crate) fn with_services(
        policy: &str,
        trusted: &str,
        ports: &[u16],
    ) -> Result<Self, LabError> {
        let mut world = Self::before(policy, trusted, ports)?;
        world.daemon.start()?;
        Ok(world)
    }

    /// Before the daemon is started.
    pub(crate) fn before(policy: &str, trusted: &str, ports: &[u16]) -> Result<Self, LabError> {
        Self::before_with(policy, trusted, ports, &programs())
    }

    /// The same with other programs.
    pub(crate) fn before_with(
        policy: &str,
        trusted: &str,
        ports: &[u16],
        programs: &Programs,
    ) -> Result<Self, LabError> {
        let lab = Lab::new()?;
        let (server, clients) = (lab.host("server")?, lab.host("clients")?);
        connect(&lab, &server, &clients)?;
        let services = ports.iter().map(|&port| Service::start(&server, port));
        let services = services.collect::<Result<_, _>>()?;
        let policy = on_backend(policy);
        let daemon = Daemon::prepare(&lab, &server, programs, &policy, trusted)?;
        Ok(Self {
            daemon,
            _services: services,
            clients,
            server,
            lab,
            witnesses: Cell::new(100),
        })
    }

    pub(crate) fn person(&self, family: Family, number: u8) -> Result<Person, LabError> {
        let address = family.address(number);
        Ok(Person {
            client: self.clients.client(&address)?,
            server: family.server().to_owned(),
            address,
        })
    }

    /// The client of that number, over IPv4 and over IPv6. There are 10 to 15, and 50, who is
    /// on the usual whitelist.
    pub(crate) fn people(&self, number: u8) -> Result<[Person; 2], LabError> {
        let [v4, v6] = Family::BOTH;
        Ok([self.person(v4, number)?, self.person(v6, number)?])
    }

    /// Returns when every packet that has arrived until now has had its effect: a witness, for
    /// each family a new one, knocks and gets in, and knocks are handled in order.
    pub(crate) fn all_is_handled(&self) -> Result<(), LabError> {
        let number = self.witnesses.get();
        self.witnesses.set(number + 1);
        for family in Family::BOTH {
            let address = family.with_length(&family.address(number));
            self.clients.add_addresses("eth0", &[&address])?;
            let witness = self.person(family, number)?;
            let gate = port_at(family.server(), 22);
            witness.client.knock_until_open(&gate, KNOCK, AT_ONCE)?;
        }
        Ok(())
    }

    pub(crate) fn ctl(&self, arguments: &[&str]) -> Result<Reply, LabError> {
        self.daemon.ctl(arguments)
    }

    /// Runs `knockctl`, which must end with this code.
    #[track_caller]
    pub(crate) fn expect(&self, code: i32, arguments: &[&str]) -> Reply {
        let reply = self.ctl(arguments).expect("knockctl runs and ends");
        assert_eq!(reply.code, Some(code), "knockctl {arguments:?}: {reply:?}");
        reply
    }

    /// What `knockctl -o json …` prints.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let reply = self.expect(0, &[&["-o", "json"], arguments].concat());
        serde_json::from_str(&reply.stdout).expect("knockctl -o json prints JSON")
    }

    /// The members of this chain as (address, seconds left, reason).
    #[track_caller]
    pub(crate) fn members(&self, chain: &str) -> Vec<Member> {
        let list = self.json(&["list"]);
        let entries = list["entries"].as_array().expect("entries is a list");
        let of_chain = entries.iter().filter(|entry| entry["chain"] == chain);
        of_chain.map(Member::of).collect()
    }

    /// The member with this address.
    #[track_caller]
    pub(crate) fn member(&self, chain: &str, address: &str) -> Option<Member> {
        let members = self.members(chain);
        members.into_iter().find(|member| member.address == address)
    }

    /// Waits for a member, which must come about at once.
    #[track_caller]
    pub(crate) fn await_member(&self, chain: &str, address: &str) -> Member {
        let started = Instant::now();
        loop {
            if let Some(member) = self.member(chain, address) {
                return member;
            }
            let late = started.elapsed() > AT_ONCE;
            assert!(!late, "{address} is not in {chain}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Joins server and clients on eth0, with all their addresses.
pub(crate) fn connect(lab: &Lab, server: &Host, clients: &Host) -> Result<(), LabError> {
    let numbers = [10, 11, 12, 13, 14, 15, 50];
    let own: Vec<String> = Family::BOTH
        .into_iter()
        .flat_map(|family| numbers.map(|number| family.with_length(&family.address(number))))
        .collect();
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let there = Family::BOTH.map(|family| family.with_length(family.server()));
    let there = [there[0].as_str(), there[1].as_str()];
    lab.link(server, "eth0", &there, clients, "eth0", &own)
}

/// A line of `knockctl list`.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) gate: String,
    pub(crate) address: String,
    /// `None` is never.
    pub(crate) left: Option<f64>,
    pub(crate) reason: String,
}

impl Member {
    #[track_caller]
    fn of(entry: &Value) -> Self {
        let text = |key: &str| {
            let found = entry[key].as_str();
            found
                .unwrap_or_else(|| panic!("no {key} in {entry}"))
                .to_owned()
        };
        let left = &entry["expires_in_s"];
        assert!(
            left.is_null() || left.is_number(),
            "expires_in_s in {entry}"
        );
        Self {
            gate: text("gate"),
            address: text("address"),
            left: left.as_f64(),
            reason: text("reason"),
        }
    }
}

/// Somebody with an address who wants in.
pub(crate) struct Person {
    pub(crate) client: Client,
    pub(crate) server: String,
    pub(crate) address: String,
}

impl Person {
    #[track_caller]
    pub(crate) fn knocks(&self, ports: &[&str]) {
        let knocked = self.client.knock(&self.server, ports);
        knocked.expect("a knock can be sent");
    }

    /// `open`, `refused` or `silent`.
    #[track_caller]
    pub(crate) fn finds(&self, port: u16) -> &'static str {
        let outcome = self.client.connect(&port_at(&self.server, port), ONE_SYN);
        outcome.expect("a SYN can be sent").word()
    }

    #[track_caller]
    pub(crate) fn is_refused_at(&self, port: u16) {
        let found = self.finds(port);
        assert_eq!(found, "silent", "what {} finds at {port}", self.address);
    }

    #[track_caller]
    pub(crate) fn is_refused(&self) {
        self.is_refused_at(22);
    }

    /// Gets in, at the first attempt.
    #[track_caller]
    pub(crate) fn gets_in_at(&self, port: u16) -> Session {
        let outcome = self
            .client
            .connect(&port_at(&self.server, port), BEFORE_A_SECOND_SYN);
        let outcome = outcome.expect("a SYN can be sent");
        let word = outcome.word();
        let Outcome::Open(session) = outcome else {
            panic!("{} finds {port} {word}, not open", self.address);
        };
        greeted(session)
    }

    #[track_caller]
    pub(crate) fn gets_in(&self) -> Session {
        self.gets_in_at(22)
    }

    /// Knocks, and then gets in.
    #[track_caller]
    pub(crate) fn opens_with(&self, ports: &[&str], port: u16) -> Session {
        let gate = port_at(&self.server, port);
        let opened = self.client.knock_until_open(&gate, ports, AT_ONCE);
        let opened = opened.unwrap_or_else(|error| panic!("{}: {error}", self.address));
        greeted(opened.session)
    }

    #[track_caller]
    pub(crate) fn opens(&self) -> Session {
        self.opens_with(KNOCK, 22)
    }

    /// Gets in before long, without a knock.
    #[track_caller]
    pub(crate) fn gets_in_soon(&self, port: u16) -> Session {
        self.opens_with(&[], port)
    }

    /// Is shut out before this time is over; returns how long it took.
    #[track_caller]
    pub(crate) fn is_refused_within(&self, patience: Duration) -> Duration {
        let closed = self
            .client
            .await_silent(&port_at(&self.server, 22), patience);
        closed.unwrap_or_else(|error| panic!("{}: {error}", self.address))
    }
}

#[track_caller]
fn greeted(mut session: Session) -> Session {
    let banner = session.banner().expect("the service greets");
    assert_eq!(banner, BANNER.trim_end());
    session
}

#[track_caller]
pub(crate) fn goes_on(session: &mut Session) {
    assert!(session.echoes("still here?").expect("the session goes on"));
}
