//! Random operations on a real firewall, with the programs and real connections: after each, who
//! gets in is who should, and every few, that nothing ends later or earlier than it should.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

use crate::model::{Answer, Fate, Model, latest, same};
use crate::operations::{Chance, End, GATES, NEVER_BAN, Operation, PEOPLE, Rules, net};
use crate::scenarios;
use crate::world::{Tried, World};

scenarios![
    on_nftables_who_gets_in_is_who_should,
    #[cfg(feature = "system-tests")]
    on_iptables_who_gets_in_is_who_should,
];

/// As near as this before its end, and after it, something may be over or not.
const BEFORE: u64 = 1_000;
const AFTER: u64 = 300;
/// An ipset counts whole seconds, and what comes back after a restart is rounded up.
const WHOLE: u64 = 1_000;
/// Commands take their time, and what is left is shown in whole seconds.
const TOLERANCE: u64 = 2_500;
/// The policy's times, as many times as the operations say: waiting is not what is tested.
const SLOWER: u64 = 10;
/// So many operations.
const EACH: usize = 200;
/// What somebody else has done is put back within this.
const REPAIRED: Duration = Duration::from_secs(8);
/// More repairs than that within a minute are a fight, which is tested elsewhere.
const REPAIRS: usize = 2;
const MINUTE: Duration = Duration::from_secs(61);
/// An answer over a veth pair takes microseconds.
const ONE_SYN: Duration = Duration::from_millis(8);
/// On a busy machine, for those who are to be let in.
const BUSY: Duration = Duration::from_millis(500);
/// The knocks of one who has nothing to do with the rest, to know that all before are handled.
const WITNESSES: [&str; 2] = ["192.0.2.60", "2001:db8::60"];

fn policy(rules: Rules, backend: &str) -> String {
    let time = |secs: Option<u64>| match secs {
        Some(secs) => format!("{}s", SLOWER * secs),
        None => "never".to_owned(),
    };
    let gate = |(name, port): (&&str, u16)| {
        let (accept, ban) = rules.times(name);
        let (accept, ban) = (time(Some(accept)), time(ban));
        format!("  {name}: {{ ports: [{port}], accept_timeout: {accept}, ban_timeout: {ban} }}\n")
    };
    let gates: String = rules.gates().iter().zip([22, 80]).map(gate).collect();
    let knock = |(name, ports): (&&str, &str)| {
        format!(
            "  {name}: {{ sequence: [{ports}], seq_timeout: 5s, action: accept, gate: {name} }}\n"
        )
    };
    let knocks = rules.gates().iter().zip(["1228, 1227", "1230, 1231"]);
    let knocks: String = knocks.map(knock).collect();
    format!(
        "interface: any\ntrusted: knockd.trusted\nnever_ban: [{NEVER_BAN}]\n\
         firewall: {{ backend: {backend} }}\nscan_guard: {{ nearby: 0 }}\ngates:\n{gates}knocks:\n{knocks}  \
         decoy: {{ sequence: [1220, 1221], seq_timeout: 5s, action: drop, gate: all }}\n"
    )
}

type Carried = Result<Option<u8>, Box<dyn Error>>;

/// World and model side by side.
struct Story {
    world: World,
    model: Model,
    backend: &'static str,
    began: Instant,
    repairs: Vec<Instant>,
    told: String,
    /// How many attempts were silent, and how many open.
    got: [Cell<usize>; 2],
}

impl Story {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Until nothing is about to end.
    fn come_to_rest(&mut self) {
        let after = match self.backend {
            "iptables" => AFTER + WHOLE,
            _ => AFTER,
        };
        loop {
            let now = self.now();
            let near = |end: &u64| *end <= now + BEFORE && *end + after > now;
            let Some(end) = self.model.ends().into_iter().filter(near).max() else {
                break;
            };
            sleep(Duration::from_millis(end + after - now));
        }
        self.model.pass(self.now());
    }

    /// `knockctl`, with a gate where one is named.
    fn ctl(&self, words: &[&str], at: Option<&str>, more: &[&str]) -> Result<u8, Box<dyn Error>> {
        let gate = at.map(|gate| ["--gate", gate]);
        let gate = gate.as_ref().map_or(&[][..], |words| &words[..]);
        let reply = self.world.ctl(&[words, gate, more].concat())?;
        let code = reply.code.and_then(|code| u8::try_from(code).ok());
        code.ok_or_else(|| format!("{reply:?} {}", self.told).into())
    }

    /// Returns when every packet sent until now has had its effect.
    fn all_is_handled(&self) -> Tried {
        for witness in WITNESSES {
            self.world.expect(0, &["flush", witness]);
            let client = self.world.clients.client(witness)?;
            client.knock(server(net(witness).addr()), &["1228", "1227"])?;
            self.world.await_member("ssh_filter", witness);
        }
        Ok(())
    }

    fn knock(&self, who: IpNet, ports: &[&str]) -> Tried {
        let who = who.addr();
        self.world
            .clients
            .client(&who.to_string())?
            .knock(server(who), ports)?;
        self.all_is_handled()
    }

    /// The exit code; none if there is no such thing as that on a real machine.
    fn carry_out(&mut self, operation: &Operation) -> Carried {
        let tried = self.model.is_tried();
        match operation {
            Operation::Knock(_, gate) if !self.model.gates.contains_key(gate) => return Ok(None),
            Operation::Knock(who, "ssh") => self.knock(*who, &["1228", "1227"])?,
            Operation::Knock(who, _) => self.knock(*who, &["1230", "1231"])?,
            Operation::Decoy(who) => self.knock(*who, &["1220", "1221"])?,
            Operation::Rewrite(_) if tried => return Ok(None),
            Operation::Rewrite(entries) => {
                let lines: Vec<String> = entries.iter().map(ToString::to_string).collect();
                let text = format!("# by hand\n{}\n", lines.join("\n"));
                self.world.daemon.write_trusted(&text)?;
                return self.ctl(&["reload"], None, &[]).map(Some);
            }
            Operation::Apply(rules, secs) => {
                let file = self.world.lab.dir().join("new.yaml");
                std::fs::write(&file, policy(*rules, self.backend))?;
                let file = file.to_string_lossy();
                let confirm = secs.map(|secs| format!("--confirm={secs}s"));
                let confirm: Vec<&str> = confirm.iter().map(String::as_str).collect();
                return self.ctl(&["apply", &file], None, &confirm).map(Some);
            }
            Operation::Restart(how) => self.restart(*how)?,
            Operation::ForeignFlush | Operation::ForeignSetFlush(_) => {
                return self.damage(operation);
            }
            Operation::Wait(secs) => sleep(Duration::from_secs((*secs).min(1))),
            // The wall clock is the whole machine's.
            Operation::ClockJump(_) => return Ok(None),
            command => return self.command(command).map(Some),
        }
        Ok(Some(0))
    }

    /// What `knockctl` is asked for.
    fn command(&self, operation: &Operation) -> Result<u8, Box<dyn Error>> {
        let time = |secs: &Option<u64>| secs.map_or("never".to_owned(), |secs| format!("{secs}s"));
        let force = |force: bool| if force { &["--force"][..] } else { &[] };
        let text = |net: &IpNet| {
            if net.prefix_len() == net.max_prefix_len() {
                net.addr().to_string()
            } else {
                net.to_string()
            }
        };
        let (words, at, more): (&[&str], _, &[&str]) = match operation {
            Operation::Accept(who, at, secs, by_force) => (
                &["accept", &text(who), "--for", &time(secs)],
                *at,
                force(*by_force),
            ),
            Operation::Drop(what, at, secs, by_force) => (
                &["drop", &text(what), "--for", &time(secs)],
                *at,
                force(*by_force),
            ),
            Operation::Unban(what, at) => (&["unban", &text(what)], *at, &[]),
            Operation::FlushAddress(who) => (&["flush", &text(who)], None, &[]),
            Operation::FlushAccepted => (&["flush", "filter"], None, &[]),
            Operation::FlushBanned => (&["flush", "banned"], None, &[]),
            Operation::FlushAll => (&["flush", "all"], None, &[]),
            Operation::Open(at, secs) => (&["open", "--for", &time(&Some(*secs))], *at, &[]),
            Operation::Close(at) => (&["close"], *at, &[]),
            Operation::Trust(what) => (&["trust", &text(what)], None, &[]),
            Operation::TrustForNow(what) => (&["trust", &text(what), "--runtime"], None, &[]),
            Operation::Untrust(what) => (&["untrust", &text(what)], None, &[]),
            Operation::Reload => (&["reload"], None, &[]),
            Operation::Confirm => (&["confirm"], None, &[]),
            Operation::Rollback => (&["rollback"], None, &[]),
            other => return Err(format!("{other:?} is no command").into()),
        };
        self.ctl(words, at, more)
    }

    fn restart(&mut self, how: End) -> Tried {
        match how {
            End::Stopped => {
                let status = self.world.daemon.terminate()?;
                assert!(status.success(), "{status} {}", self.told);
            }
            End::Killed | End::KilledEarly | End::Rebooted => self.world.daemon.kill_9(),
            End::KilledAndFlushed => {
                self.world.daemon.kill_9();
                let reply = self.world.daemon.run_knockd(&["teardown"])?;
                assert_eq!(reply.code, Some(0), "{reply:?} {}", self.told);
            }
        }
        self.repairs.clear();
        self.world.daemon.start()?;
        Ok(())
    }

    /// Somebody else does away with what is ours; where that would become a fight, nobody does.
    fn damage(&mut self, operation: &Operation) -> Carried {
        self.repairs.retain(|at| at.elapsed() < MINUTE);
        let now = self.now();
        let soon = self.model.ends().into_iter().any(|end| end < now + 12_000);
        if self.repairs.len() >= REPAIRS || soon {
            return Ok(None);
        }
        self.repairs.push(Instant::now());
        match (operation, self.backend) {
            (Operation::ForeignFlush, "nftables") => meddle(&self.world, None)?,
            (Operation::ForeignSetFlush(chain), "nftables") => meddle(&self.world, Some(*chain))?,
            (Operation::ForeignFlush, _) => {
                for words in [&["iptables-nft", "-F"], &["ip6tables-nft", "-F"]] {
                    run(&self.world, words)?;
                }
            }
            (Operation::ForeignSetFlush(chain), _) => {
                for family in ["4", "6"] {
                    run(
                        &self.world,
                        &["ipset", "flush", &format!("ssh_{chain}{family}")],
                    )?;
                }
            }
            _ => {}
        }
        let began = Instant::now();
        let back = || {
            self.everybody_finds_what_they_should()?;
            self.everything_is_there()
        };
        while let Err(why) = back() {
            assert!(began.elapsed() < REPAIRED, "not put back: {why}");
            sleep(Duration::from_millis(20));
        }
        Ok(Some(0))
    }

    /// Who gets in where.
    fn everybody_finds_what_they_should(&self) -> Result<(), String> {
        let tries: Vec<(IpAddr, SocketAddr)> = PEOPLE
            .iter()
            .map(|text| net(text).addr())
            .flat_map(|who| {
                let server: IpAddr = server(who).parse().expect("an address");
                [22, 80].map(|port| (who, SocketAddr::new(server, port)))
            })
            .collect();
        let gate = |port: u16| if port == 22 { GATES[0] } else { GATES[1] };
        let should = |(who, to): &(IpAddr, SocketAddr)| {
            self.model.fate(gate(to.port()), IpNet::from(*who)) != Fate::Out
        };
        let wanted: Vec<bool> = tries.iter().map(should).collect();
        let found = self.world.clients.run(|| open(&tries, &wanted));
        let found = found
            .map_err(|e| e.to_string())?
            .map_err(|e| e.to_string())?;
        for (((who, to), is_open), wanted) in tries.iter().zip(found).zip(wanted) {
            let got = &self.got[usize::from(is_open)];
            got.set(got.get() + 1);
            if is_open != wanted {
                let gate = gate(to.port());
                return Err(format!("{who} at {gate}: open is {is_open} {}", self.told));
            }
        }
        Ok(())
    }

    /// What is listed, and when it ends.
    fn listed(&self) -> BTreeMap<(String, IpNet), Option<u64>> {
        let now = self.now();
        let listed = self.world.json(&["list"]);
        let entries = listed["entries"].as_array().expect("entries").iter();
        let entry = |entry: &Value| {
            let text = |key: &str| entry[key].as_str().expect("text").to_owned();
            let left = entry["expires_in_s"].as_u64();
            let end = left.map(|s| now + 1000 * s);
            ((text("chain"), net(&text("address"))), end)
        };
        entries.map(entry).collect()
    }

    /// Also of those who would be let in, or not, without it.
    fn everything_is_there(&self) -> Result<(), String> {
        let listed = self.listed();
        let has = |chain: &str, who: IpNet| {
            let mut nets = listed.keys().filter(|(of, _)| of == chain);
            nets.any(|(_, net)| net.contains(&who))
        };
        for (name, gate) in &self.model.gates {
            let covers =
                |held: &BTreeMap<IpNet, _>, who: IpNet| held.keys().any(|net| net.contains(&who));
            for who in PEOPLE.map(net) {
                for (chain, should) in [
                    ("filter", covers(&gate.accepted, who)),
                    ("banned", covers(&gate.banned, who)),
                    ("trusted", self.model.trusts(name, who)),
                ] {
                    if should && !has(&format!("{name}_{chain}"), who) {
                        return Err(format!("{who} is not in {name}_{chain} {}", self.told));
                    }
                }
            }
        }
        Ok(())
    }

    /// When what ends.
    fn nothing_has_moved(&self) {
        let ends = self.listed();
        for (name, gate) in &self.model.gates {
            for who in PEOPLE.map(net) {
                let told = format!("{who} at {name} {}", self.told);
                let accepted = ends.get(&(format!("{name}_filter"), who)).copied();
                same(
                    latest(accepted.into_iter()),
                    latest(gate.accepted.get(&who).copied().into_iter()),
                    TOLERANCE,
                    &told,
                );
                let chain = format!("{name}_banned");
                let bans = ends
                    .iter()
                    .filter(|((of, net), _)| *of == chain && net.contains(&who));
                let should = gate.banned.iter().filter(|(net, _)| net.contains(&who));
                let should = latest(should.map(|(_, end)| *end));
                same(latest(bans.map(|(_, end)| *end)), should, TOLERANCE, &told);
            }
        }
    }
}

fn server(who: IpAddr) -> &'static str {
    if who.is_ipv4() {
        "192.0.2.1"
    } else {
        "2001:db8::1"
    }
}

/// Which of these are answered, with one SYN each, all at once.
fn open(tries: &[(IpAddr, SocketAddr)], wanted: &[bool]) -> io::Result<Vec<bool>> {
    let begin = |(from, to): &(IpAddr, SocketAddr)| -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(*to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_linger(Some(Duration::ZERO))?;
        socket.bind(&SocketAddr::new(*from, 0).into())?;
        match socket.connect(&(*to).into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => Ok(socket),
        }
    };
    let sockets = tries.iter().map(begin).collect::<io::Result<Vec<_>>>()?;
    let answered = |socket: &Socket| -> io::Result<bool> {
        let mut waiting = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
        if poll(&mut waiting, PollTimeout::ZERO)? == 0 {
            return Ok(false);
        }
        Ok(socket.peer_addr().is_ok())
    };
    let since = Instant::now();
    loop {
        sleep(ONE_SYN);
        let found = sockets
            .iter()
            .map(answered)
            .collect::<io::Result<Vec<_>>>()?;
        let late = found
            .iter()
            .zip(wanted)
            .any(|(found, wanted)| *wanted && !found);
        if !late || since.elapsed() > BUSY {
            return Ok(found);
        }
    }
}

/// As somebody else's `nft delete table`, or `nft flush set` of one chain's sets, without nft.
fn meddle(world: &World, chain: Option<&str>) -> Tried {
    use portcullis::firewall::{Change, choose};
    use portcullis::model::Chain;
    use portcullis::policy::BackendChoice;
    let chain = chain.map(|chain| match chain {
        "filter" => Chain::Filter,
        "banned" => Chain::Banned,
        _ => Chain::Trusted,
    });
    let done = world.server.run(|| {
        let mut backend = choose::choose(BackendChoice::Nftables, None)?.backend;
        let held = backend.observe()?.unwrap_or_default();
        let Some(chain) = chain else {
            return backend.teardown();
        };
        let members = held.members.into_iter().filter(|m| m.chain == chain);
        let changes: Vec<Change> = members
            .map(|m| Change::Remove {
                gate: m.gate,
                chain: m.chain,
                net: m.net,
            })
            .collect();
        backend.apply(&changes)
    })?;
    Ok(done?)
}

/// Runs somebody else's program on the server.
fn run(world: &World, words: &[&str]) -> Tried {
    let status = world.server.command(words[0])?.args(&words[1..]).status()?;
    assert!(status.success(), "{words:?}: {status}");
    Ok(())
}

fn play(backend: &'static str) -> Tried {
    let seed = Chance::seed(&format!("random operations on {backend}"));
    let mut chance = Chance::new(seed);
    let rules = chance.one_of(&[Rules::Both, Rules::Alone]);
    let file = [net("192.0.2.50"), net("2001:db8::50")];
    let trusted = "# the laboratory\n192.0.2.50\n2001:db8::50\n";
    let mut world = World::before(&policy(rules, backend), trusted, &[22, 80])?;
    if backend == "iptables" {
        world.daemon.set_environment(&[("KNOCKD_IPTABLES", "nft")]);
    }
    world
        .clients
        .add_addresses("eth0", &["192.0.2.60/24", "2001:db8::60/64"])?;
    world.daemon.start()?;
    let model = Model::new(rules, &file).slower(SLOWER);
    let (began, repairs, told) = (Instant::now(), Vec::new(), String::new());
    let mut story = Story {
        world,
        model,
        backend,
        began,
        repairs,
        told,
        got: Default::default(),
    };
    let (mut past, mut done, mut restarts) = (Vec::<String>::new(), 0, 0);
    while done < EACH {
        story.come_to_rest();
        let operation = slower(Operation::any(&mut chance));
        past.push(format!("{:>8} {operation:?}", story.now()));
        let tail = past.len().saturating_sub(12);
        story.told = format!(
            "after {done} operations of PORTCULLIS_SEED={seed}:\n{}",
            past[tail..].join("\n")
        );
        let mut model = story.model.clone();
        let Some(code) = story.carry_out(&operation)? else {
            past.pop();
            continue;
        };
        done += 1;
        restarts += usize::from(matches!(operation, Operation::Restart(_)));
        model.pass(story.now());
        let answer = model.happened(&operation);
        story.model = model;
        match answer {
            Answer::Done => assert_eq!(code, 0, "{}", story.told),
            Answer::Refused(with) => assert_eq!(code, with, "{}", story.told),
            Answer::Whatever => story.trusted_otherwise(&operation),
        }
        story.come_to_rest();
        if let Err(why) = story.everybody_finds_what_they_should() {
            panic!("{why}");
        }
        if done % 5 == 0 || matches!(operation, Operation::Restart(_)) {
            story.nothing_has_moved();
        }
    }
    let [silent, open] = story.got.each_ref().map(Cell::get);
    println!(
        "{backend}: {done} operations, {restarts} restarts, {silent} attempts silent and {open} \
         open, in {:?}",
        story.began.elapsed()
    );
    assert!(silent > 0 && open > 0 && restarts > 0);
    Ok(())
}

impl Story {
    fn trusted_otherwise(&mut self, operation: &Operation) {
        match operation {
            Operation::Trust(what) => self.model.trust(*what, false),
            Operation::TrustForNow(what) => self.model.trust(*what, true),
            Operation::Untrust(what) => self.model.untrust(*what),
            Operation::Rewrite(entries) => self.model.reread(entries),
            _ => {}
        }
    }
}

/// Half a minute is five: what is about to end has to be waited for.
fn slower(operation: Operation) -> Operation {
    let long = |secs: Option<u64>| secs.map(|secs| if secs == 30 { 300 } else { secs });
    match operation {
        Operation::Accept(who, at, secs, force) => Operation::Accept(who, at, long(secs), force),
        Operation::Drop(what, at, secs, force) => Operation::Drop(what, at, long(secs), force),
        // A reboot is another machine, and in `tests/state`.
        Operation::Restart(End::Rebooted) => Operation::Restart(End::Killed),
        other => other,
    }
}

fn on_nftables_who_gets_in_is_who_should() -> Tried {
    play("nftables")
}

#[cfg(feature = "system-tests")]
fn on_iptables_who_gets_in_is_who_should() -> Tried {
    play("iptables")
}
