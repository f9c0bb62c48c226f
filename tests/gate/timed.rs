//! Time-based sequences: they follow from a secret and the time, and each counts for one address.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use portcullis::lab::LabError;
use portcullis::totp::{self, Family, Secret, Shape};
use serde_json::Value;

use crate::scenarios;
use crate::world::{Person, TRUSTED, Tried, World, port_at};

scenarios![
    a_sequence_counts_for_the_first_address_that_knocks_it_and_for_its_family,
    a_sequence_of_another_time_opens_nothing_until_its_time_comes,
    what_was_used_stays_used_when_the_daemon_is_killed,
    without_a_secret_the_door_is_shut_and_the_state_says_so,
    the_client_knows_the_sequences,
];

const SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZA";

const POLICY: &str = "
interface: any
trusted: knockd.trusted
gates:
  ssh: { ports: [22], accept_timeout: 60s }
knocks:
  travel: { sequence: { totp: secret, ports: \"20000-40000\" }, seq_timeout: 5s, action: accept }
  open: { sequence: [1228, 1227], seq_timeout: 5s, action: accept }
";

struct Site {
    world: World,
    secret: PathBuf,
}

impl Site {
    fn with(secret: Option<&str>) -> Result<Self, LabError> {
        let mut world = World::before(POLICY, TRUSTED, &[22])?;
        let path = world.daemon.policy_path().with_file_name("secret");
        if let Some(secret) = secret {
            write(&path, secret);
        }
        world.daemon.start()?;
        Ok(Self {
            world,
            secret: path,
        })
    }

    /// Somebody for whom this opens nothing.
    fn does_not_open(&self, person: &Person, ports: &[String]) -> Tried {
        person.knocks(&words(ports));
        self.world.all_is_handled()?;
        person.is_refused();
        Ok(())
    }

    fn status(&self, code: i32) -> Value {
        let reply = self.world.expect(code, &["-o", "json", "status"]);
        serde_json::from_str(&reply.stdout).expect("JSON")
    }
}

fn write(path: &PathBuf, secret: &str) {
    fs::write(path, secret).expect("the laboratory can be written to");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("as above");
}

fn unix_time() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("it is later than 1970")
}

/// The sequence of so many steps from now.
fn sequence(steps: i64, family: Family) -> Vec<String> {
    let step = totp::step(unix_time()).checked_add_signed(steps);
    of_step(step.expect("it is later than 1970"), family)
}

fn of_step(step: u64, family: Family) -> Vec<String> {
    let secret = Secret::parse(SECRET.as_bytes()).expect("a secret");
    let shape = Shape::new("20000-40000".parse().expect("a range"), 4).expect("a shape");
    let ports = shape.sequence(&secret, step, family);
    ports.iter().map(|port| port.port.to_string()).collect()
}

fn words(ports: &[String]) -> Vec<&str> {
    ports.iter().map(String::as_str).collect()
}

fn a_sequence_counts_for_the_first_address_that_knocks_it_and_for_its_family() -> Tried {
    let site = Site::with(Some(SECRET))?;
    let [first, six] = site.world.people(10)?;
    let [second, other_six] = site.world.people(11)?;
    let (now, next) = (sequence(0, Family::V4), sequence(1, Family::V4));
    first.opens_with(&words(&now), 22);
    site.does_not_open(&second, &now)?;
    let told = "192.0.2.11: travel: this sequence counts for 192.0.2.10 alone";
    site.world.daemon.await_log(told, 1)?;
    // Whoever has it may knock again; the next one is anybody's.
    first.opens_with(&words(&now), 22);
    second.opens_with(&words(&next), 22);
    // Over IPv6 there is another sequence.
    site.does_not_open(&other_six, &now)?;
    six.opens_with(&words(&sequence(0, Family::V6)), 22);
    let status = site.status(0);
    let ports = status["ports"].as_array().expect("a list");
    let shown: Vec<&str> = ports
        .iter()
        .filter_map(|port| port["port"].as_str())
        .collect();
    assert_eq!(shown, ["1227/tcp", "1228/tcp"], "{status}");
    let untracked = status["untracked"]["ports"].to_string();
    assert!(untracked.contains("1228/tcp"), "{status}");
    assert!(now.iter().all(|port| !untracked.contains(port)), "{status}");
    Ok(())
}

fn a_sequence_of_another_time_opens_nothing_until_its_time_comes() -> Tried {
    let site = Site::with(Some(SECRET))?;
    let [past, _] = site.world.people(10)?;
    let [future, _] = site.world.people(11)?;
    let [patient, _] = site.world.people(12)?;
    // Far enough also where a step ends meanwhile.
    site.does_not_open(&past, &sequence(-3, Family::V4))?;
    site.does_not_open(&future, &sequence(4, Family::V4))?;
    let step = totp::step(unix_time());
    // From the next step on it is one that counts; a moment later the daemon has noticed.
    sleep(totp::left(unix_time()) + Duration::from_millis(200));
    patient.opens_with(&words(&of_step(step + 2, Family::V4)), 22);
    Ok(())
}

fn what_was_used_stays_used_when_the_daemon_is_killed() -> Tried {
    let mut site = Site::with(Some(SECRET))?;
    let [first, _] = site.world.people(10)?;
    let [second, _] = site.world.people(11)?;
    let next = sequence(1, Family::V4);
    first.opens_with(&words(&next), 22);
    // A command is answered when what was before it is on the disk.
    site.world.expect(0, &["accept", "192.0.2.13"]);
    site.world.daemon.kill_9();
    site.world.daemon.start()?;
    site.does_not_open(&second, &next)?;
    // Nor after a change of the policy without the knock, and back.
    let with = fs::read_to_string(site.world.daemon.policy_path())?;
    let without = with.lines().filter(|line| !line.contains("travel"));
    let without: Vec<&str> = without.collect();
    site.world.daemon.write_policy(&without.join("\n"))?;
    site.world.expect(0, &["reload"]);
    site.world.daemon.write_policy(&with)?;
    site.world.expect(0, &["reload"]);
    let [third, _] = site.world.people(12)?;
    site.does_not_open(&third, &next)
}

fn without_a_secret_the_door_is_shut_and_the_state_says_so() -> Tried {
    let site = Site::with(None)?;
    let [first, _] = site.world.people(10)?;
    let problems = site.status(5)["problems"].to_string();
    assert!(
        problems.contains("`knockctl sequences secret` makes one"),
        "{problems}"
    );
    let check = site.world.daemon.run_knockd(&["check"])?;
    let told = "knockd: warning: travel: cannot read the secret in ";
    assert!(
        check.code == Some(0) && check.stderr.contains(told),
        "{check:?}"
    );
    site.does_not_open(&first, &sequence(0, Family::V4))?;
    // The other knock is as it was.
    let [second, _] = site.world.people(11)?;
    second.opens_with(&["1228", "1227"], 22);
    let out = site.secret.to_string_lossy().into_owned();
    site.world
        .expect(0, &["sequences", "secret", "--out", &out]);
    site.world.expect(0, &["reload"]);
    assert_eq!(site.status(0)["state"], "running");
    let mode = fs::metadata(&site.secret)?.permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Never over one that is there.
    site.world
        .expect(2, &["sequences", "secret", "--out", &out]);
    fs::set_permissions(&site.secret, fs::Permissions::from_mode(0o644))?;
    site.world.expect(0, &["reload"]);
    let problems = site.status(5)["problems"].to_string();
    assert!(problems.contains("chmod 600"), "{problems}");
    // One secret, two knocks: what is heard of the first would open the second.
    let policy = fs::read_to_string(site.world.daemon.policy_path())?;
    let copy = site.secret.with_file_name("copy");
    write(&copy, SECRET);
    write(&site.secret, SECRET);
    let again = "  again: { sequence: { totp: copy, ports: \"10000-19999\" }, action: accept }\n";
    let twice = policy.replacen("knocks:\n", &format!("knocks:\n{again}"), 1);
    site.world.daemon.write_policy(&twice)?;
    site.world.expect(0, &["reload"]);
    let problems = site.status(5)["problems"].to_string();
    assert!(problems.contains("is another knock's"), "{problems}");
    let check = site.world.daemon.run_knockd(&["check"])?;
    assert!(check.stderr.contains("is another knock's"), "{check:?}");
    site.world.daemon.write_policy(&policy)?;
    site.world.expect(0, &["reload"]);
    let [third, _] = site.world.people(12)?;
    third.opens_with(&words(&sequence(0, Family::V4)), 22);
    Ok(())
}

fn the_client_knows_the_sequences() -> Tried {
    let site = Site::with(Some(SECRET))?;
    let home = site.world.lab.dir().join("home");
    fs::create_dir_all(&home)?;
    write(&home.join("a.secret"), SECRET);
    let profile = "work: { host: 192.0.2.1, port: 22, knocks: { totp: a.secret, ports: \
                   \"20000-40000\" } }\n";
    fs::write(home.join("knock.yaml"), profile)?;
    let knock = |arguments: &[&str]| -> Result<String, Box<dyn std::error::Error>> {
        let mut command = site.world.clients.command(env!("CARGO_BIN_EXE_knock"))?;
        let output = command
            .env("XDG_CONFIG_HOME", &home)
            .args(arguments)
            .output()?;
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let told = knock(&["--open-and-check", "22", "work"])?;
    assert!(told.contains("192.0.2.1:22 is open"), "{told}");
    let secret = home.join("a.secret");
    let options = [
        "--totp",
        &secret.to_string_lossy(),
        "--totp-ports",
        "20000-40000",
    ];
    let six = ["--open-and-check", "22", "2001:db8::1"];
    let told = knock(&[&options[..], &six].concat())?;
    assert!(
        told.contains(&format!("{} is open", port_at("2001:db8::1", 22))),
        "{told}"
    );
    Ok(())
}
