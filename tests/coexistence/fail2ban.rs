//! fail2ban as Debian ships it, on a socket, a log and a database of its own.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use portcullis::lab::{Host, await_some};

use crate::Ours;
use crate::scenarios;
use crate::tools::{says_nothing, world};
use crate::world::{AT_ONCE, Tried, World, goes_on};

scenarios![
    our_action_bans_and_unbans_through_the_gate,
    our_action_leaves_the_trusted_alone,
    a_ban_with_rules_of_its_own_holds_for_the_accepted_too,
];

const PATIENCE: Duration = Duration::from_secs(20);

struct Fail2ban {
    server: Child,
    host: Host,
    dir: PathBuf,
}

impl Fail2ban {
    /// Starts it with one jail that looks for `N failure from ADDRESS`, two of which are enough.
    fn start(world: &World, action: &str) -> Result<Self, Box<dyn Error>> {
        let dir = world.lab.dir().join("fail2ban");
        let etc = dir.join("etc");
        fs::create_dir_all(&dir)?;
        let copied = Command::new("cp")
            .args(["-r", "/etc/fail2ban"])
            .arg(&etc)
            .status()?;
        assert!(copied.success(), "cp /etc/fail2ban");
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("policy/fail2ban/action.d");
        fs::copy(
            shipped.join("knockd.conf"),
            etc.join("action.d/knockd.conf"),
        )?;
        for jails in ["jail.d", "fail2ban.d"] {
            fs::remove_dir_all(etc.join(jails))?;
        }
        fs::write(
            etc.join("filter.d/gate.conf"),
            "[Definition]\nfailregex = ^ failure from <ADDR>$\ndatepattern = ^EPOCH\n",
        )?;
        let log = dir.join("log");
        fs::write(&log, "")?;
        fs::write(
            etc.join("jail.local"),
            format!(
                "[DEFAULT]\nbantime = 600\nfindtime = 600\nmaxretry = 2\nbackend = polling\n\
                 ignoreself = false\n\n[gate]\nenabled = true\nfilter = gate\nport = 22\n\
                 logpath = {}\naction = {action}\n",
                log.display()
            ),
        )?;
        fs::write(etc.join("fail2ban.local"), "[Definition]\ndbfile = None\n")?;
        let journal = fs::File::create(dir.join("journal"))?;
        let server = world
            .server
            .command("/usr/bin/fail2ban-server")?
            .arg("-c")
            .arg(&etc)
            .arg("-s")
            .arg(dir.join("socket"))
            .arg("-p")
            .arg(dir.join("pid"))
            .args(["--logtarget", "stdout", "-x", "-f", "start"])
            .stdin(Stdio::null())
            .stdout(journal.try_clone()?)
            .stderr(journal)
            .spawn()?;
        let it = Self {
            server,
            host: world.server.clone(),
            dir,
        };
        it.wait("the jail", || Ok(it.client(&["status", "gate"])?.is_some()))?;
        Ok(it)
    }

    /// What its client prints, if it succeeds.
    fn client(&self, arguments: &[&str]) -> Result<Option<String>, Box<dyn Error>> {
        let output = self
            .host
            .command("/usr/bin/fail2ban-client")?
            .arg("-c")
            .arg(self.dir.join("etc"))
            .arg("-s")
            .arg(self.dir.join("socket"))
            .args(arguments)
            .stderr(Stdio::null())
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(output.status.success().then_some(text))
    }

    /// Waits for something that takes it a poll or two.
    fn wait(
        &self,
        what: &str,
        mut is_so: impl FnMut() -> Result<bool, Box<dyn Error>>,
    ) -> Result<(), Box<dyn Error>> {
        let mut failed = None;
        let waited = await_some(what, PATIENCE, || match is_so() {
            Ok(true) => Ok(Some(())),
            Ok(false) => Ok(None),
            Err(error) => {
                failed = Some(error);
                Ok(Some(()))
            }
        });
        match failed {
            Some(error) => Err(error),
            None => waited.map_err(|error| format!("{error}\n{}", self.journal()).into()),
        }
    }

    fn journal(&self) -> String {
        fs::read_to_string(self.dir.join("journal")).unwrap_or_default()
    }

    /// Writes two failures of that address into the log that it watches.
    fn sees_failures(&self, address: &str) -> Result<(), Box<dyn Error>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let mut log = fs::OpenOptions::new()
            .append(true)
            .open(self.dir.join("log"))?;
        for _ in 0..2 {
            writeln!(log, "{now} failure from {address}")?;
        }
        Ok(())
    }
}

impl Drop for Fail2ban {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Our action with the programs under test.
fn our_action(world: &World) -> String {
    format!(
        "knockd[gate=ssh, knockctl=\"{} --socket <socket>\", socket=\"{}\"]",
        env!("CARGO_BIN_EXE_knockctl"),
        world.daemon.socket_path().display()
    )
}

fn our_action_bans_and_unbans_through_the_gate(ours: Ours) -> Tried {
    let mut world = world(ours)?;
    world.daemon.start()?;
    let fail2ban = Fail2ban::start(&world, &our_action(&world))?;
    for person in world.people(10)? {
        let mut session = person.opens();
        fail2ban.sees_failures(&person.address)?;
        fail2ban.wait("the ban", || {
            Ok(world.member("ssh_banned", &person.address).is_some())
        })?;
        let ban = world.await_member("ssh_banned", &person.address);
        let left = ban.left.ok_or("a ban that ends")?;
        assert!(left > 500.0 && left <= 600.0, "{ban:?}");
        assert_eq!(ban.gate, "ssh");
        // The acceptance is over, the knock counts no more, the session lives.
        person.is_refused();
        person.knocks(crate::world::KNOCK);
        goes_on(&mut session);
        world.all_is_handled()?;
        person.is_refused();
        fail2ban
            .client(&["unban", &person.address])?
            .ok_or("unban")?;
        fail2ban.wait("its end", || {
            Ok(world.member("ssh_banned", &person.address).is_none())
        })?;
        person.opens();
    }
    assert!(
        !fail2ban.journal().contains("ERROR"),
        "{}",
        fail2ban.journal()
    );
    says_nothing(&world);
    Ok(())
}

fn our_action_leaves_the_trusted_alone(ours: Ours) -> Tried {
    let mut world = world(ours)?;
    world.daemon.start()?;
    let fail2ban = Fail2ban::start(&world, &our_action(&world))?;
    let [trusted, _] = world.people(50)?;
    let [other, _] = world.people(11)?;
    fail2ban.sees_failures(&trusted.address)?;
    fail2ban.sees_failures(&other.address)?;
    // They are dealt with in order.
    fail2ban.wait("the ban", || {
        Ok(world.member("ssh_banned", &other.address).is_some())
    })?;
    trusted.gets_in();
    assert!(world.member("ssh_banned", &trusted.address).is_none());
    assert!(
        !fail2ban.journal().contains("ERROR"),
        "{}",
        fail2ban.journal()
    );
    Ok(())
}

/// With the action that is Debian's default: its chain sees packets that we accepted.
fn a_ban_with_rules_of_its_own_holds_for_the_accepted_too(ours: Ours) -> Tried {
    let mut world = world(ours)?;
    if ours != Ours::Nftables {
        let policy = std::fs::read_to_string(world.daemon.policy_path())?;
        let returning = policy.replace("ports: [22],", "ports: [22], verdict: return,");
        assert_ne!(policy, returning);
        world.daemon.write_policy(&returning)?;
    }
    world.daemon.start()?;
    for action in ["iptables-multiport", "nftables-multiport"] {
        let fail2ban = Fail2ban::start(&world, &format!("{action}[name=gate, port=22]"))?;
        for person in world.people(if action.starts_with('i') { 10 } else { 12 })? {
            person.opens();
            fail2ban.sees_failures(&person.address)?;
            fail2ban.wait("the ban", || {
                let status = fail2ban.client(&["status", "gate"])?;
                Ok(status.is_some_and(|text| text.contains(&person.address)))
            })?;
            // Its rules reject; ICMP errors are limited, so that this may look like silence.
            fail2ban.wait("being shut out", || Ok(person.finds(22) != "open"))?;
            // fail2ban has put its jump before ours, where it only takes away.
            says_nothing(&world);
            fail2ban
                .client(&["unban", &person.address])?
                .ok_or("unban")?;
            fail2ban.wait("being let in again", || Ok(person.finds(22) == "open"))?;
        }
        drop(fail2ban);
        let _ = fs::remove_dir_all(world.lab.dir().join("fail2ban"));
    }
    for person in world.people(14)? {
        person.is_refused();
        person.client.knock(&person.server, crate::world::KNOCK)?;
        let gate = crate::world::port_at(&person.server, 22);
        person.client.await_open(&gate, AT_ONCE)?;
    }
    Ok(())
}
