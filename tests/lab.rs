//! The laboratory itself, with nothing but the kernel.
#![cfg(target_os = "linux")]

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use portcullis::lab::{
    BANNER, Daemon, Entered, Host, Lab, LabError, ONE_SYN, Outcome, Program, Programs, Service,
    await_some, enter, run_bounded,
};

type Tried = Result<(), Box<dyn Error>>;

const SOON: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    match enter() {
        Ok(Entered::Inside) => {}
        Ok(Entered::Done(code)) => return code.into(),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    if std::env::var_os(CHILD).is_some() {
        return hold_a_lab();
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(2);
    let trials = vec![
        trial("two_hosts_talk_over_both_families", two_hosts_talk),
        trial("many_hosts_share_a_wire", many_hosts_share_a_wire),
        trial("a_router_forwards", a_router_forwards),
        trial("refusal_and_silence_differ", refusal_and_silence_differ),
        trial("knocks_arrive_in_order", knocks_arrive_in_order),
        trial("a_client_notices_an_opening", a_client_notices_an_opening),
        trial("interfaces_come_and_go", interfaces_come_and_go),
        trial("commands_run_on_their_host", commands_run_on_their_host),
        trial("a_command_that_hangs_is_ended", a_hanging_command_is_ended),
        trial("a_dropped_lab_leaves_nothing", a_dropped_lab_leaves_nothing),
        trial("a_killed_lab_leaves_nothing", a_killed_lab_leaves_nothing),
        trial("a_daemon_that_ends_is_reported", a_daemon_that_ends),
        trial("outside_there_is_no_lab", outside_there_is_no_lab),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(name: &str, scenario: fn() -> Tried) -> Trial {
    Trial::test(name, move || {
        scenario().map_err(|e| Failed::from(e.to_string()))
    })
}

const SERVER: [&str; 2] = ["192.0.2.1/24", "2001:db8::1/64"];
const CLIENT: [&str; 3] = ["192.0.2.10/24", "192.0.2.11/24", "2001:db8::10/64"];

fn pair(lab: &Lab) -> Result<(Host, Host), LabError> {
    let (server, client) = (lab.host("server")?, lab.host("client")?);
    lab.link(&server, "eth0", &SERVER, &client, "eth0", &CLIENT)?;
    Ok((server, client))
}

fn two_hosts_talk() -> Tried {
    let lab = Lab::new()?;
    let (server, client) = pair(&lab)?;
    let _service = Service::start(&server, 22)?;
    for (from, to) in [
        ("192.0.2.10", "192.0.2.1:22"),
        ("192.0.2.11", "192.0.2.1:22"),
        ("2001:db8::10", "[2001:db8::1]:22"),
    ] {
        let outcome = client.client(from)?.connect(to, SOON)?;
        let Outcome::Open(mut session) = outcome else {
            return Err(format!("{from} to {to}: {}", outcome.word()).into());
        };
        assert_eq!(session.banner()?, BANNER.trim_end());
        assert!(session.echoes("hello")?);
        assert!(!session.is_over());
    }
    // Two laboratories with the same addresses do not meet.
    let other = Lab::new()?;
    let (_, stranger) = pair(&other)?;
    let outcome = stranger
        .client("192.0.2.10")?
        .connect("192.0.2.1:22", SOON)?;
    assert_eq!(outcome.word(), "refused");
    Ok(())
}

fn many_hosts_share_a_wire() -> Tried {
    let lab = Lab::new()?;
    let wire = lab.wire("campus")?;
    let server = lab.host("server")?;
    wire.plug(&server, "eth0", &SERVER)?;
    let _service = Service::start(&server, 22)?;
    for number in 10..13 {
        let host = lab.host(&format!("client{number}"))?;
        let v4 = format!("192.0.2.{number}");
        let v6 = format!("2001:db8::{number}");
        wire.plug(&host, "eth0", &[&format!("{v4}/24"), &format!("{v6}/64")])?;
        assert!(host.client(&v4)?.connect("192.0.2.1:22", SOON)?.is_open());
        assert!(
            host.client(&v6)?
                .connect("[2001:db8::1]:22", SOON)?
                .is_open()
        );
    }
    Ok(())
}

fn a_router_forwards() -> Tried {
    let lab = Lab::new()?;
    let [client, router, inner] = [lab.host("client")?, lab.host("router")?, lab.host("inner")?];
    let far = ["192.0.2.1/24", "2001:db8::1/64"];
    let near = ["198.51.100.1/24", "2001:db8:1::1/64"];
    lab.link(&client, "eth0", &CLIENT, &router, "eth0", &far)?;
    let own = ["198.51.100.2/24", "2001:db8:1::2/64"];
    lab.link(&router, "eth1", &near, &inner, "eth0", &own)?;
    for (host, v4, v6) in [
        (&client, "192.0.2.1", "2001:db8::1"),
        (&inner, "198.51.100.1", "2001:db8:1::1"),
    ] {
        host.route("0.0.0.0/0", v4)?;
        host.route("::/0", v6)?;
    }
    let _service = Service::start(&inner, 22)?;
    let (v4, v6) = (client.client("192.0.2.10")?, client.client("2001:db8::10")?);
    assert!(v4.connect("198.51.100.2:22", ONE_SYN)?.is_silent());
    router.forward()?;
    assert!(v4.connect("198.51.100.2:22", SOON)?.is_open());
    assert!(v6.connect("[2001:db8:1::2]:22", SOON)?.is_open());
    Ok(())
}

fn refusal_and_silence_differ() -> Tried {
    let lab = Lab::new()?;
    let (_server, client) = pair(&lab)?;
    let client = client.client("192.0.2.10")?;
    assert_eq!(client.connect("192.0.2.1:23", SOON)?.word(), "refused");
    // Nobody has this address, so nobody answers for it.
    assert_eq!(client.connect("192.0.2.77:23", ONE_SYN)?.word(), "silent");
    assert!(matches!(
        client.connect("192.0.2.1", SOON),
        Err(LabError::Malformed { .. })
    ));
    Ok(())
}

fn knocks_arrive_in_order() -> Tried {
    let lab = Lab::new()?;
    let (server, client) = pair(&lab)?;
    let sockets: Vec<UdpSocket> = server.run(|| {
        [1228, 1227]
            .into_iter()
            .map(|port| UdpSocket::bind(("192.0.2.1", port)))
            .collect::<Result<_, _>>()
    })??;
    let from = client.client("192.0.2.11")?;
    from.knock("192.0.2.1", &["1228/udp", "1227/udp", "1226"])?;
    for socket in &sockets {
        socket.set_read_timeout(Some(SOON))?;
        let mut bytes = [9; 8];
        let (length, source) = socket.recv_from(&mut bytes)?;
        assert_eq!((&bytes[..length], source.ip()), (&[0][..], from.source()));
    }
    // Nobody listens on the TCP port: the SYN was answered by a reset, the only one.
    await_some("the answer to the TCP knock", SOON, || {
        let resets = server.run(|| tcp_counter("OutRsts"))?;
        Ok((resets == Some(1)).then_some(()))
    })?;
    Ok(())
}

/// A counter of the namespace that the thread is in: RFC 4022.
fn tcp_counter(name: &str) -> Option<u64> {
    let counters = fs::read_to_string("/proc/thread-self/net/snmp").ok()?;
    let mut lines = counters.lines().filter(|line| line.starts_with("Tcp:"));
    let column = lines.next()?.split(' ').position(|word| word == name)?;
    lines.next()?.split(' ').nth(column)?.parse().ok()
}

fn a_client_notices_an_opening() -> Tried {
    let lab = Lab::new()?;
    let (server, client) = pair(&lab)?;
    let client = client.client("192.0.2.10")?;
    let late = client.await_open("192.0.2.1:22", Duration::from_millis(50));
    assert!(matches!(late, Err(LabError::TooLate { .. })));
    let opening = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        Service::start(&server, 22)
    });
    let mut opened = client.await_open("192.0.2.1:22", SOON)?;
    assert!(opened.unanswered > 0, "{opened:?}");
    assert_eq!(opened.session.banner()?, BANNER.trim_end());
    opening.join().map_err(|_| "the opener panicked")??;
    Ok(())
}

fn interfaces_come_and_go() -> Tried {
    let lab = Lab::new()?;
    let (server, client) = pair(&lab)?;
    let _service = Service::start(&server, 22)?;
    let from = client.client("192.0.2.10")?;
    assert!(from.connect("192.0.2.1:22", SOON)?.is_open());
    server.delete_link("eth0")?;
    assert!(
        client.set_link("eth0", true).is_err(),
        "the other end stayed"
    );
    lab.link(&server, "eth0", &SERVER, &client, "eth0", &CLIENT)?;
    assert!(from.connect("192.0.2.1:22", SOON)?.is_open());
    server.delete_address("eth0", "192.0.2.1/24")?;
    assert!(!from.connect("192.0.2.1:22", ONE_SYN)?.is_open());
    Ok(())
}

fn commands_run_on_their_host() -> Tried {
    let lab = Lab::new()?;
    let (server, client) = pair(&lab)?;
    for host in [&server, &client] {
        let mut command = host.command("/proc/self/exe")?;
        command.env(CHILD, "netns");
        let finished = run_bounded(&mut command, lab.dir(), SOON * 5)?;
        let expected = host
            .run(|| fs::metadata("/proc/thread-self/ns/net"))??
            .ino();
        assert_eq!(finished.stdout.trim(), expected.to_string(), "{finished:?}");
    }
    Ok(())
}

fn a_hanging_command_is_ended() -> Tried {
    let lab = Lab::new()?;
    let host = lab.host("server")?;
    let mut command = host.command("/proc/self/exe")?;
    command.env(CHILD, "hang");
    let outcome = run_bounded(&mut command, lab.dir(), Duration::from_millis(300));
    assert!(
        matches!(outcome, Err(LabError::TooLate { .. })),
        "{outcome:?}"
    );
    Ok(())
}

/// Network namespaces that any process of this user has open or is in.
fn namespaces() -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        let path = process.path();
        let own = fs::metadata(path.join("ns/net")).map(|meta| meta.ino());
        found.extend(own.ok());
        let open = fs::read_dir(path.join("fd"))
            .into_iter()
            .flatten()
            .flatten();
        found.extend(open.filter_map(|fd| {
            let target = fs::read_link(fd.path()).ok()?;
            let inode = target.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?;
            inode.parse::<u64>().ok()
        }));
    }
    found
}

fn a_dropped_lab_leaves_nothing() -> Tried {
    let (dir, inodes) = {
        let lab = Lab::new()?;
        let (server, client) = pair(&lab)?;
        let _service = Service::start(&server, 22)?;
        let _open = client.client("192.0.2.10")?.connect("192.0.2.1:22", SOON)?;
        let inode = |host: &Host| {
            let path = format!("/proc/self/fd/{}", host.netns().as_raw_fd());
            fs::metadata(path).map(|meta| meta.ino())
        };
        let inodes = [inode(&server)?, inode(&client)?];
        assert!(inodes.iter().all(|inode| namespaces().contains(inode)));
        (lab.dir().to_owned(), inodes)
    };
    assert!(!dir.exists());
    assert!(!inodes.iter().any(|inode| namespaces().contains(inode)));
    Ok(())
}

/// Tells a copy of this program what to do instead of the tests.
const CHILD: &str = "PORTCULLIS_LAB_TEST_CHILD";

fn hold_a_lab() -> ExitCode {
    let role = std::env::var(CHILD).unwrap_or_default();
    let held = || -> Tried {
        if role == "netns" {
            println!("{}", fs::metadata("/proc/self/ns/net")?.ino());
            return Ok(());
        }
        let lab = Lab::new()?;
        let (server, _client) = pair(&lab)?;
        let mut sleeper = if role == "lab" {
            let mut command = server.command("/proc/self/exe")?;
            Some(command.env(CHILD, "hang").stdout(Stdio::null()).spawn()?)
        } else {
            None
        };
        let pid = sleeper.as_ref().map_or(0, std::process::Child::id);
        println!("{pid}");
        // Forever, as far as the test is concerned.
        std::thread::sleep(Duration::from_secs(600));
        if let Some(sleeper) = &mut sleeper {
            sleeper.kill()?;
            sleeper.wait()?;
        }
        Ok(())
    };
    match held() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn a_killed_lab_leaves_nothing() -> Tried {
    use std::io::BufRead;
    let mut holder = Command::new("/proc/self/exe")
        .env(CHILD, "lab")
        .stdout(Stdio::piped())
        .spawn()?;
    let out = holder.stdout.take().ok_or("no pipe")?;
    let mut line = String::new();
    std::io::BufReader::new(out).read_line(&mut line)?;
    let sleeper: u32 = line.trim().parse()?;
    let place = format!("/proc/{sleeper}/ns/net");
    // The child prints before its own child has called exec; either way it is on the host.
    let inode = fs::metadata(&place)?.ino();
    assert!(namespaces().contains(&inode));
    holder.kill()?;
    holder.wait()?;
    await_some("the end of the namespace", SOON * 5, || {
        Ok((!namespaces().contains(&inode)).then_some(()))
    })?;
    Ok(())
}

fn a_daemon_that_ends() -> Tried {
    let lab = Lab::new()?;
    let host = lab.host("server")?;
    let programs = Programs {
        knockd: Program::at("/bin/false"),
        knockctl: None,
    };
    let outcome = Daemon::launch(&lab, &host, &programs, "", "");
    assert!(
        matches!(outcome, Err(LabError::DaemonEnded { .. })),
        "{outcome:?}"
    );
    Ok(())
}

fn outside_there_is_no_lab() -> Tried {
    // The variable alone does not make an inside: here it names the namespace we are in.
    let inode = fs::metadata("/proc/self/ns/net")?.ino();
    let lab = Lab::new()?;
    let mut command = Command::new("/proc/self/exe");
    command
        .env("PORTCULLIS_LAB_ORIGIN", inode.to_string())
        .env(CHILD, "netns");
    let finished = run_bounded(&mut command, lab.dir(), SOON * 5)?;
    // It did not take our word for it and made namespaces of its own.
    assert_ne!(finished.stdout.trim(), inode.to_string());
    assert!(finished.status.success(), "{finished:?}");
    Ok(())
}
