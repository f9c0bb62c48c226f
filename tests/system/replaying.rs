//! What a real tcpdump captures gives exactly what the live daemon decided.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use portcullis::lab::await_some;
use serde_json::Value;

use crate::cases;
use crate::world::{Family, SHIPPED, TRUSTED, Tried, World};

cases![captures_of_tcpdump_give_what_the_daemon_decided];

/// tcpdump on the server. Killed when dropped.
struct Tcpdump {
    child: Child,
    capture: PathBuf,
}

impl Drop for Tcpdump {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Tcpdump {
    /// Returns when it listens.
    fn start(
        world: &World,
        name: &str,
        arguments: &[&str],
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let capture = world.lab.dir().join(name);
        let said = capture.with_extension("said");
        let child = world
            .server
            .command(crate::programs::path("tcpdump"))?
            .args(["-n", "-U", "--immediate-mode", "-Z", "root"])
            // With whole packets there would be room for 64 of them.
            .args(["-B", "16384", "-s", "256"])
            .args(arguments)
            .arg("-w")
            .arg(&capture)
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(&said)?)
            .spawn()?;
        let tcpdump = Self { child, capture };
        await_some("tcpdump listening", Duration::from_secs(10), || {
            let said = std::fs::read_to_string(&said).unwrap_or_default();
            Ok(said.contains("listening on").then_some(()))
        })?;
        Ok(tcpdump)
    }

    /// Ends it softly, so that it writes what it has.
    fn finish(&mut self) -> Tried {
        kill(Pid::from_raw(self.child.id().try_into()?), Signal::SIGINT)?;
        let status = self.child.wait()?;
        assert!(status.success(), "tcpdump: {status}");
        // A capture with holes proves nothing.
        let said = std::fs::read_to_string(self.capture.with_extension("said"))?;
        assert!(said.contains("\n0 packets dropped by kernel"), "{said}");
        Ok(())
    }
}

fn captures_of_tcpdump_give_what_the_daemon_decided() -> Tried {
    let mut world = World::before(SHIPPED, TRUSTED, Some(22))?;
    let mut dumps = Vec::new();
    for (name, arguments) in [
        ("ethernet.pcap", &["-i", "eth0"][..]),
        ("nanoseconds.pcap", &["-i", "eth0", "-j", "host", "--nano"]),
        ("sll.pcap", &["-i", "any", "-y", "LINUX_SLL"]),
        ("sll2.pcap", &["-i", "any", "-y", "LINUX_SLL2"]),
    ] {
        dumps.push(Tcpdump::start(&world, name, arguments)?);
    }
    world.daemon.start()?;
    people_do_all_that_people_do(&world)?;
    // So that the last line is in the log.
    world.daemon.terminate()?;
    let decided = decided(&world.daemon.log());
    for words in [
        "accepted at ssh",
        "banned at ssh",
        "sweeps ports",
        "is trusted",
    ] {
        let said = decided.iter().any(|line| line.contains(words));
        assert!(said, "the daemon did not say `{words}`: {decided:#?}");
    }
    let policy = world.daemon.policy_path();
    let policy = policy.to_string_lossy();
    for dump in &mut dumps {
        dump.finish()?;
        let capture = dump.capture.to_string_lossy();
        let reply = world.expect(0, &["-o", "json", "replay", &capture, "-c", &policy]);
        let shown: Value = serde_json::from_str(&reply.stdout)?;
        let words: Vec<&str> = shown["decisions"]
            .as_array()
            .expect("a list of decisions")
            .iter()
            .flat_map(|decision| decision["words"].as_array().expect("a list of words"))
            .filter_map(Value::as_str)
            .collect();
        assert_eq!(words, decided, "{capture}");
    }
    Ok(())
}

/// One after another, since what comes over IPv4 and IPv6 at once has no order.
fn people_do_all_that_people_do(world: &World) -> Tried {
    let ssh = |family: Family, ports: [&'static str; 2]| {
        [&[family.flag(), family.server()][..], &ports].concat()
    };
    for family in Family::BOTH {
        let knocker = &world.knocker;
        world.succeeds(&knocker.host, "knock", &ssh(family, ["1228", "1227"]));
        let address = knocker.address(family);
        world.daemon.await_log(&format!("{address} accepted"), 1)?;
        knocker.soon_finds(family, "open");

        let colleague = &world.colleague;
        world.succeeds(&colleague.host, "knock", &ssh(family, ["1220", "1221"]));
        let address = colleague.address(family);
        world
            .daemon
            .await_log(&format!("{address} is trusted"), 1)?;

        let mut sweep = vec!["-n", "-Pn", "-r", "-sS", "-p", "1-3000", family.server()];
        if family == Family::V6 {
            sweep.push("-6");
        }
        world.succeeds(&world.scanner.host, "nmap", &sweep);
        let address = world.scanner.address(family);
        world.daemon.await_log(&format!("{address} banned"), 1)?;

        let stranger = &world.stranger;
        world.succeeds(&stranger.host, "knock", &ssh(family, ["1228", "1226"]));
        world.succeeds(&stranger.host, "knock", &ssh(family, ["1227", "1226"]));
        world.succeeds(&stranger.host, "knock", &ssh(family, ["1226", "1226"]));
        let address = stranger.address(family);
        world.daemon.await_log(&format!("{address} banned"), 1)?;
        // Nothing is under way any more.
        let again = format!("{} accepted", knocker.address(family));
        world.succeeds(&knocker.host, "knock", &ssh(family, ["1228", "1227"]));
        world.daemon.await_log(&again, 2)?;
        knocker.soon_finds(family, "open");
    }
    Ok(())
}

/// What the log says about who did what: lines that begin with an address.
fn decided(log: &str) -> Vec<String> {
    let text = |line: &str| {
        let at = line.find("INFO ").or_else(|| line.find("WARN "))?;
        Some(line[at + 5..].to_owned())
    };
    let tells = |text: &String| {
        let first = text.split(": ").next().unwrap_or_default();
        first.parse::<IpAddr>().is_ok()
    };
    log.lines().filter_map(text).filter(tells).collect()
}
