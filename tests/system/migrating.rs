//! docs/migrating.md, tried: its blocks about files, what comes of them, and fwknopd in front of a
//! gate.

use std::path::PathBuf;
use std::process::{Child, Stdio};

use portcullis::lab::await_some;

use crate::cases;
use crate::programs;
use crate::world::{Family, TRUSTED, Tried, World};

cases![
    debians_own_file_becomes_a_policy_that_opens_and_shuts,
    a_machine_with_the_scripts_chains_is_taken_over,
    the_filter_for_fail2ban_reads_the_classic_log,
    fwknopd_lets_people_in_through_the_gate,
];

const DOCUMENT: &str = include_str!("../../docs/migrating.md");

/// As Debian's package has it, comments and all.
const STOCK: &str = "[options]
	UseSyslog

[openSSH]
	sequence    = 7000,8000,9000
	seq_timeout = 5
	command     = /sbin/iptables -A INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
	tcpflags    = syn

[closeSSH]
	sequence    = 9000,8000,7000
	seq_timeout = 5
	command     = /sbin/iptables -D INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
	tcpflags    = syn

[openHTTPS]
	sequence    = 12345,54321,24680,13579
	seq_timeout = 5
	command     = /usr/local/sbin/knock_add -i -c INPUT -p tcp -d 443 -f %IP%
	tcpflags    = syn

";

/// As the talk has it.
const SCRIPTS: &str = "[options]
	logfile = /var/log/knockd.log

[opencloseSSH]
	sequence    = 1228,1227
	seq_timeout = 15
	command     = /etc/init.d/knockd accept %IP%
	tcpflags    = syn

[banned1]
	sequence    = 1220,1221
	seq_timeout = 15
	command     = /etc/init.d/knockd drop %IP%
	tcpflags    = syn
";

/// What the script leaves in the kernel: a rule an address, and an INPUT that lets nobody else in.
const CHAINS: &str = "*filter
:INPUT DROP [0:0]
:ssh_policy - [0:0]
:ssh_banned - [0:0]
:ssh_trusted - [0:0]
:ssh_filter - [0:0]
-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p tcp -m tcp --dport 22 -j ssh_policy
-A ssh_policy -j ssh_banned
-A ssh_policy -j ssh_trusted
-A ssh_policy -j ssh_filter
-A ssh_policy -j DROP
-A ssh_banned -s 192.0.2.66/32 -j DROP
-A ssh_trusted -s 192.0.2.50/32 -j ACCEPT
-A ssh_filter -s 192.0.2.10/32 -j ACCEPT
COMMIT
";

/// The blocks of shell commands in a section of the document.
fn blocks(section: &str) -> Vec<String> {
    let (_, text) = DOCUMENT.split_once(section).expect("the section is there");
    let text = text.split("\n## ").next().unwrap_or(text);
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut blocks = Vec::new();
    let mut block: Option<Vec<&str>> = None;
    for line in lines {
        match (&mut block, line) {
            (None, "```sh") => block = Some(Vec::new()),
            (Some(lines), "```") => {
                blocks.push(lines.join("\n"));
                block = None;
            }
            (Some(lines), line) => lines.push(line),
            (None, _) => {}
        }
    }
    blocks
}

/// A machine with that knockd.conf, on which nothing of ours runs yet. `etc` stands for /etc/knockd,
/// and `etc.conf` for /etc/knockd.conf.
fn machine(classic: &str) -> Result<(World, PathBuf), Box<dyn std::error::Error>> {
    let world = World::before("", TRUSTED, Some(22))?;
    let etc = world.lab.dir().join("etc");
    std::fs::create_dir(&etc)?;
    std::fs::copy(world.daemon.trusted_path(), etc.join("knockd.trusted"))?;
    world.file("etc.conf", classic.as_bytes())?;
    Ok((world, etc))
}

/// Runs each block in turn, as the document has it but for the places. What the last prints.
fn follow(world: &World, etc: &std::path::Path, section: &str) -> Result<String, std::io::Error> {
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_knockctl"));
    let bin = bin.parent().expect("a program is in a directory");
    let path = format!(
        "{}:{}",
        bin.display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let mut said = String::new();
    for block in blocks(section) {
        let block = block.replace("/etc/knockd", &etc.display().to_string());
        let mut shell = world.server.command(programs::path("sh")).expect("a shell");
        shell.env("PATH", &path).args(["-e", "-c", &block]);
        let finished = world.run(&mut shell).expect("it runs and ends");
        assert!(finished.status.success(), "{block}\n{finished:?}");
        said = finished.stdout;
    }
    let policy = std::fs::read_to_string(etc.join("knockd.yaml"))?;
    world.daemon.write_policy(&policy).expect("a policy");
    Ok(said)
}

fn knocks(world: &World, ports: &[&str]) -> Tried {
    let mut knock = world.knocker.command("knock")?;
    knock.arg(Family::V4.server()).args(ports);
    let finished = world.run(&mut knock)?;
    assert!(finished.status.success(), "{finished:?}");
    Ok(())
}

fn debians_own_file_becomes_a_policy_that_opens_and_shuts() -> Tried {
    let (mut world, etc) = machine(STOCK)?;
    let said = follow(&world, &etc, "## From the classic knockd\n")?;
    assert!(said.contains("ssh: guards 22/tcp"), "{said}");
    // What the document shows of it.
    let policy = std::fs::read_to_string(world.daemon.policy_path())?;
    let shown = DOCUMENT.split("```yaml\n").nth(1);
    let shown = shown.and_then(|rest| rest.split("```").next());
    for line in shown.ok_or("a policy is shown")?.lines() {
        assert!(policy.contains(line), "{line} in {policy}");
    }
    world.daemon.start()?;
    assert_eq!(world.knocker.finds(Family::V4, 22), "silent");
    knocks(&world, &["7000", "8000", "9000"])?;
    world.knocker.soon_finds(Family::V4, "open");
    assert_eq!(world.stranger.finds(Family::V4, 22), "silent");
    knocks(&world, &["9000", "8000", "7000"])?;
    world.knocker.soon_finds(Family::V4, "silent");
    assert_eq!(world.colleague.finds(Family::V4, 22), "open");
    Ok(())
}

fn a_machine_with_the_scripts_chains_is_taken_over() -> Tried {
    let (mut world, etc) = machine(SCRIPTS)?;
    // Only the trusted of the chain, so that it shows.
    world.daemon.write_trusted("# nobody\n")?;
    let chains = world.file("chains", CHAINS.as_bytes())?;
    let mut restore = world.server.command(programs::path("sh"))?;
    let restored = world.run(restore.arg("-c").arg(format!(
        "{} < {}",
        programs::path("iptables-nft-restore").display(),
        chains.display()
    )))?;
    assert!(restored.status.success(), "{restored:?}");
    let found = |world: &World| {
        [
            &world.knocker,
            &world.colleague,
            &world.scanner,
            &world.stranger,
        ]
        .map(|person| person.finds(Family::V4, 22))
    };
    assert_eq!(found(&world), ["open", "open", "silent", "silent"]);
    let said = follow(&world, &etc, "## From the script with four chains\n")?;
    assert!(said.contains("Firewall: iptables and ipset"), "{said}");
    // The log of that file is the machine's own.
    let policy = std::fs::read_to_string(world.daemon.policy_path())?;
    let policy = policy.replace("file: /var/log/knockd.log, ", "");
    world.daemon.write_policy(&policy)?;
    world.daemon.set_environment(&[("KNOCKD_IPTABLES", "nft")]);
    world.daemon.start()?;
    assert_eq!(found(&world), ["open", "open", "silent", "silent"]);
    for (address, chain) in [
        ("192.0.2.10", "ssh_filter"),
        ("192.0.2.50", "ssh_trusted"),
        ("192.0.2.66", "ssh_banned"),
    ] {
        let listed = world.listed(address);
        assert_eq!(listed.len(), 1, "{address}: {listed:?}");
        assert_eq!(listed[0].0, chain);
    }
    world.expect(0, &["flush", "192.0.2.10"]);
    assert_eq!(world.knocker.finds(Family::V4, 22), "silent");
    knocks(&world, &["1228", "1227"])?;
    world.knocker.soon_finds(Family::V4, "open");
    Ok(())
}

fn the_filter_for_fail2ban_reads_the_classic_log() -> Tried {
    let filter = DOCUMENT.split("```ini\n").nth(1);
    let filter = filter.and_then(|rest| rest.split("```").next());
    let classic = "[options]\n  Interface = any\n[SSH]\n  Sequence = 7000,8000\n  TCPFlags = syn\n  \
                   Start_Command = /bin/true\n";
    let world = World::with(classic)?;
    knocks(&world, &["7000", "8000"])?;
    world.daemon.await_log("192.0.2.10: SSH: OPEN SESAME", 1)?;
    let filter = world.file("filter.conf", filter.ok_or("a filter is shown")?.as_bytes())?;
    let log = world.file("log", world.daemon.log().as_bytes())?;
    let mut regex = world.server.command(programs::path("fail2ban-regex"))?;
    let finished = world.run(regex.args([&log, &filter]))?;
    assert!(finished.stdout.contains(", 1 matched, "), "{finished:?}");
    Ok(())
}

const KEYS: [&str; 2] = [
    "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXowMTIzNDU2Nzg5",
];

/// Killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn fwknopd(world: &World) -> Result<Running, Box<dyn std::error::Error>> {
    let lines = DOCUMENT.split("CMD_CYCLE_OPEN").nth(1);
    let lines = lines.and_then(|rest| rest.split("```").next());
    let lines = format!("CMD_CYCLE_OPEN{}", lines.ok_or("its stanza is shown")?);
    let ctl = format!(
        "{} --socket {}",
        env!("CARGO_BIN_EXE_knockctl"),
        world.daemon.socket_path().display()
    );
    assert!(lines.contains("/usr/local/sbin/knockctl"), "{lines}");
    let lines = lines.replace("/usr/local/sbin/knockctl", &ctl);
    let access = format!(
        "SOURCE ANY\nKEY_BASE64 {}\nHMAC_KEY_BASE64 {}\n{lines}",
        KEYS[0], KEYS[1]
    );
    let access = world.file("access.conf", access.as_bytes())?;
    let run = world.lab.dir().join("fwknop");
    std::fs::create_dir(&run)?;
    let config = format!("PCAP_INTF eth0;\nFWKNOP_RUN_DIR {};\n", run.display());
    let config = world.file("fwknopd.conf", config.as_bytes())?;
    for file in [&access, &config] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(file, mode)?;
    }
    let log = std::fs::File::create(world.lab.dir().join("fwknop.log"))?;
    let mut daemon = world.server.command(programs::path("fwknopd"))?;
    daemon.args(["-f", "-c"]).arg(config).arg("-a").arg(access);
    daemon
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    let running = Running(daemon.spawn()?);
    await_some("fwknopd's beginning", crate::world::AT_ONCE * 3, || {
        let said = std::fs::read_to_string(world.lab.dir().join("fwknop.log"));
        Ok(said
            .is_ok_and(|said| said.contains("main event loop"))
            .then_some(()))
    })?;
    Ok(running)
}

fn fwknopd_lets_people_in_through_the_gate() -> Tried {
    let world = World::new()?;
    let _fwknopd = fwknopd(&world)?;
    let address = world.knocker.address(Family::V4);
    let mut client = world.knocker.command("fwknop")?;
    client
        .env("HOME", world.lab.dir())
        .args(["-A", "tcp/22", "-a", &address]);
    client.args(["-D", Family::V4.server(), "--no-save-args", "--use-hmac"]);
    client.args([
        "--key-base64-rijndael",
        KEYS[0],
        "--key-base64-hmac",
        KEYS[1],
    ]);
    assert_eq!(world.knocker.finds(Family::V4, 22), "silent");
    let finished = world.run(&mut client)?;
    assert!(finished.status.success(), "{finished:?}");
    let more = || std::fs::read_to_string(world.lab.dir().join("fwknop.log")).unwrap_or_default();
    let (left, reason) = world.soon_in_or("ssh_filter", &address, &more);
    assert!(left.is_some_and(|left| left <= 60), "{left:?}");
    assert!(reason.starts_with("knockctl by root"), "{reason}");
    world.knocker.soon_finds(Family::V4, "open");
    assert_eq!(world.stranger.finds(Family::V4, 22), "silent");
    Ok(())
}
