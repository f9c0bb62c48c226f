//! The daemons that others use, as Debian packages them, set up as their manuals say.

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::ops::Range;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use portcullis::firewall::BackendKind;
use portcullis::lab::{Host, Lab, Program, run_bounded};

use crate::open::{NO_ANSWER, knock_slowly};
use crate::report::ms;
use crate::syn::Prober;
use crate::world::{GATE, KNOCK, Server};

const PATIENCE: Duration = Duration::from_secs(5);
/// It does not say when it listens, and may miss what comes before.
const AGAIN: Duration = Duration::from_millis(300);

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// knockd 0.8.
    Knockd,
    /// fwknopd 2.6, sniffing as it does by default.
    Fwknopd,
}

/// All of them.
pub(crate) const ALL: [Kind; 2] = [Kind::Knockd, Kind::Fwknopd];

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Knockd => "knockd 0.8",
            Kind::Fwknopd => "fwknopd 2.6.10",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Kind::Knockd => "/usr/sbin/knockd",
            Kind::Fwknopd => "/usr/sbin/fwknopd",
        }
    }

    /// Ours may have been installed under the same name.
    pub(crate) fn is_installed(self) -> bool {
        let version = Command::new(self.program()).arg("--version").output();
        version.is_ok_and(|it| {
            let said = String::from_utf8_lossy(&it.stdout).into_owned();
            said.contains("Judd Vinet") || said.contains("fwknopd server")
        })
    }
}

/// A running one, on a server whose gate is shut.
pub(crate) struct Peer {
    pub(crate) server: Server,
    kind: Kind,
    running: Running,
}

/// Its process. Killed when dropped.
pub(crate) struct Running {
    child: Child,
    log: std::path::PathBuf,
}

/// Its UDP port (`fwknop(8)`).
const SPA_PORT: u16 = 62_201;
const KEYS: [&str; 2] = ["one-key-of-a-measurement", "another-key-of-a-measurement"];

impl Peer {
    /// Starts it for so many clients and one more, who gets in; `None` where it is not installed.
    pub(crate) fn start(
        lab: &Lab,
        clients: &Host,
        kind: Kind,
        number: u8,
        count: u16,
    ) -> Result<Option<Self>, Box<dyn Error>> {
        if !kind.is_installed() {
            return Ok(None);
        }
        let server = Self::shut(lab, clients, kind, number, count)?;
        let running = spawn(lab, &server, kind)?;
        let peer = Self {
            server,
            kind,
            running,
        };
        clients.run(|| peer.await_first())??;
        peer.must_live()?;
        Ok(Some(peer))
    }

    /// A server whose gate is shut as its manual says, for so many clients and one more.
    pub(crate) fn shut(
        lab: &Lab,
        clients: &Host,
        kind: Kind,
        number: u8,
        count: u16,
    ) -> Result<Server, Box<dyn Error>> {
        let server = Server::new(lab, clients, (number, BackendKind::Iptables), count + 1)?;
        let mut drop_all = Program::at("iptables").on(&server.host)?;
        drop_all.args(["-A", "INPUT", "-p", "tcp", "--dport", "22", "-j", "DROP"]);
        let dropped = run_bounded(&mut drop_all, lab.dir(), PATIENCE)
            .map_err(|error| format!("{} needs iptables: {error}", kind.name()))?;
        if !dropped.status.success() {
            return Err(format!("iptables: {}", dropped.stderr).into());
        }
        Ok(server)
    }

    /// Those of its clients who have not knocked yet.
    pub(crate) fn fresh_clients(&self) -> Range<usize> {
        1..self.server.clients.len()
    }

    /// Knocks as its own client does; when the last packet was sent. `between`: the time between
    /// two knocks, where there are two.
    pub(crate) fn knock(
        &self,
        prober: &mut Prober,
        client: Ipv4Addr,
        server: Ipv4Addr,
        between: Duration,
    ) -> io::Result<Instant> {
        if self.kind == Kind::Knockd {
            return knock_slowly(prober, client, server, between);
        }
        let packet = spa_packet(client, server)?;
        let socket = UdpSocket::bind((client, 0))?;
        let sent = Instant::now();
        socket.send_to(&packet, (server, SPA_PORT))?;
        Ok(sent)
    }

    /// What every fresh client sends, made beforehand where that takes long.
    pub(crate) fn ready(&self) -> io::Result<Ready> {
        if self.kind == Kind::Knockd {
            return Ok(Ready::Knocks);
        }
        let clients = self.server.clients[self.fresh_clients()].iter();
        let packets =
            clients.map(|client| Ok((*client, spa_packet(*client, self.server.address)?)));
        Ok(Ready::Packets(packets.collect::<io::Result<_>>()?))
    }

    /// Fails if it has ended.
    pub(crate) fn must_live(&self) -> Result<(), Box<dyn Error>> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.running.child.id()))?;
        if stat.contains(") Z ") {
            let log = fs::read_to_string(&self.running.log)?;
            return Err(format!("{} has ended: {log}", self.kind.name()).into());
        }
        Ok(())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.child.id()
    }

    /// The first client knocks until it is let in.
    fn await_first(&self) -> io::Result<()> {
        let mut prober = Prober::new()?;
        let (client, server) = (self.server.clients[0], self.server.address);
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            self.knock(&mut prober, client, server, Duration::ZERO)?;
            sleep(AGAIN);
            if prober.ask(client, server, GATE, NO_ANSWER)?.is_some() {
                return Ok(());
            }
        }
        let log = fs::read_to_string(&self.running.log)?;
        let name = self.kind.name();
        Err(io::Error::other(format!(
            "{name} let nobody in within {}: {log}",
            ms(PATIENCE)
        )))
    }
}

/// What its clients send.
pub(crate) enum Ready {
    Knocks,
    /// Each has one of its own.
    Packets(HashMap<Ipv4Addr, Vec<u8>>),
}

impl Ready {
    /// How many packets that takes.
    pub(crate) fn steps(&self) -> usize {
        match self {
            Ready::Knocks => KNOCK.len(),
            Ready::Packets(_) => 1,
        }
    }

    /// Sends one of them.
    pub(crate) fn send(
        &self,
        prober: &mut Prober,
        client: Ipv4Addr,
        server: Ipv4Addr,
        step: usize,
    ) -> io::Result<()> {
        match self {
            Ready::Knocks => prober.syn(client, server, KNOCK[step]).map(drop),
            Ready::Packets(packets) => {
                let socket = UdpSocket::bind((client, 0))?;
                socket.send_to(&packets[&client], (server, SPA_PORT))?;
                Ok(())
            }
        }
    }
}

/// Starts it, with files of its own.
pub(crate) fn spawn(lab: &Lab, server: &Server, kind: Kind) -> Result<Running, Box<dyn Error>> {
    let log_path = lab.dir().join(format!("{}.log", kind.name()));
    let log = fs::File::create(&log_path)?;
    let mut command = server.host.command(kind.program())?;
    command.args(configure(kind, lab)?);
    let child = command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    Ok(Running {
        child,
        log: log_path,
    })
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes its files; its arguments.
fn configure(kind: Kind, lab: &Lab) -> io::Result<Vec<String>> {
    let file = |name: &str, text: &str| -> io::Result<String> {
        let path = lab.dir().join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        Ok(path.display().to_string())
    };
    let arguments = match kind {
        Kind::Knockd => {
            let policy = file(
                "peer.conf",
                "[options]\n\tinterface = eth0\n\
                 [open]\n\tsequence = 1228,1227\n\tseq_timeout = 15\n\ttcpflags = syn\n\
                 \tstart_command = iptables -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT\n",
            )?;
            let pid_file = lab.dir().join("peer.pid").display().to_string();
            vec!["-c".to_owned(), policy, "-p".to_owned(), pid_file]
        }
        Kind::Fwknopd => {
            let [key, hmac] = KEYS;
            let policy = file(
                "fwknopd.conf",
                "PCAP_INTF eth0;\nENABLE_IPT_COMMENT_CHECK N;\n",
            )?;
            let access = file(
                "access.conf",
                &format!("SOURCE ANY\nKEY {key}\nHMAC_KEY {hmac}\nFW_ACCESS_TIMEOUT 300\n"),
            )?;
            let run = lab.dir().join("fwknop");
            fs::create_dir_all(&run)?;
            let run = run.display().to_string();
            let words = ["-f", "-i", "eth0", "-c", &policy, "-a", &access, "-r", &run];
            words.map(str::to_owned).into()
        }
    };
    Ok(arguments)
}

/// What its client would send; each one counts once.
fn spa_packet(client: Ipv4Addr, server: Ipv4Addr) -> io::Result<Vec<u8>> {
    let [key, hmac] = KEYS;
    let path = std::env::temp_dir().join(format!("spa-{}-{client}", std::process::id()));
    let made = Command::new("/usr/bin/fwknop")
        .args([
            "-T",
            "-A",
            "tcp/22",
            "--no-rc-file",
            "--no-save-args",
            "--use-hmac",
        ])
        .args(["-a", &client.to_string(), "-D", &server.to_string(), "-B"])
        .arg(&path)
        .arg(format!("--key-rijndael={key}"))
        .arg(format!("--key-hmac={hmac}"))
        .stdin(Stdio::null())
        .output()?;
    let packet = fs::read(&path);
    let _ = fs::remove_file(&path);
    let mut packet = packet.map_err(|error| {
        let said = String::from_utf8_lossy(&made.stderr).into_owned();
        io::Error::other(format!("fwknop made no packet ({error}): {said}"))
    })?;
    packet.truncate(packet.trim_ascii_end().len());
    Ok(packet)
}
