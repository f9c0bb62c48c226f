use std::fs;
use std::path::PathBuf;

use super::input::Order as ByteOrder;
use super::made_tests::{Bytes, HERE, HERE_6, START, UNICAST, ethernet, pcap, syn, tcp, udp};
use super::*;

pub(super) const POLICY: &str = "
trusted: knockd.trusted
gates:
  ssh: { ports: [22], accept_timeout: 60s }
knocks:
  open: { sequence: [1228, 1227], seq_timeout: 5s, action: accept }
  udp: { sequence: [1301/udp, 1302/udp, 1302/udp], seq_timeout: 5s, action: accept }
  decoy: { sequence: [1220, 1221], seq_timeout: 5s, action: drop }
  all: { sequence: [1401, 1402], seq_timeout: 5s, action: open, for: 10s }
";

/// A directory with a policy, a whitelist and a capture.
pub(super) struct Place {
    dir: tempfile::TempDir,
    pub(super) order: Order,
}

impl Place {
    pub(super) fn with(capture: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name| dir.path().join(name);
        fs::write(at("p.yaml"), POLICY).unwrap();
        let trusted = "192.0.2.50 # office\nadmin.example.org\n";
        fs::write(at("knockd.trusted"), trusted).unwrap();
        fs::write(at("c.pcap"), capture).unwrap();
        let order = Order {
            capture: at("c.pcap"),
            policy: Some(at("p.yaml")),
            ..Order::default()
        };
        Self { dir, order }
    }

    pub(super) fn of(packets: &[(u64, Vec<u8>)]) -> Self {
        let packets: Vec<_> = packets
            .iter()
            .map(|(millis, packet)| (millis * 1_000_000, packet.clone()))
            .collect();
        Self::with(&pcap(ByteOrder::Little, true, 101, &packets))
    }

    fn try_run(&self) -> Result<(Vec<String>, Summary), ReplayError> {
        try_run(&self.order)
    }

    pub(super) fn run(&self) -> (Vec<String>, Summary) {
        self.try_run().unwrap()
    }

    /// As standard input is one: it can be read but once.
    pub(super) fn run_through_a_pipe(&self) -> (Vec<String>, Summary) {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let capture = fs::read(&self.order.capture).unwrap();
        let order = Order {
            capture: pipe.clone(),
            ..self.order.clone()
        };
        std::thread::scope(|scope| {
            scope.spawn(|| fs::write(&pipe, &capture).unwrap());
            try_run(&order).unwrap()
        })
    }

    fn fails(&self) -> (u8, String) {
        let error = self.try_run().unwrap_err();
        (error.code(), error.to_string())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn try_run(order: &Order) -> Result<(Vec<String>, Summary), ReplayError> {
    let mut told = Vec::new();
    let summary = run(order, &mut |decision| {
        told.push(shown(decision));
        Ok(())
    })?;
    Ok((told, summary))
}

/// Milliseconds, who, by what, and what changes.
pub(super) fn shown(decision: &Decision) -> String {
    let who = decision.source.map_or("-".to_owned(), |s| s.to_string());
    let by = match &decision.cause {
        Cause::Knock(name) => name.to_string(),
        Cause::Sweep => "sweep".to_owned(),
        Cause::Undone(name) => format!("undone {name}"),
        Cause::Time => "time".to_owned(),
    };
    let effects: Vec<String> = decision
        .effects
        .iter()
        .map(|effect| {
            let lifetime = effect.lifetime.map_or(String::new(), |it| format!(" {it}"));
            format!(" {} {}{lifetime}", effect.deed.word(), effect.net)
        })
        .collect();
    format!(
        "{} {who} {by}:{}",
        decision.after.as_millis(),
        effects.join(",")
    )
}

#[test]
fn knocks_decoys_and_sweeps_are_decided_in_the_time_of_the_capture() {
    let a = "198.51.100.7";
    let mut packets = vec![
        (0, syn(a, HERE, 1228)),
        (1, syn(a, HERE, 1228)),
        (4_000, syn(a, HERE, 1227)),
        (5_000, syn("2001:db8::10", HERE_6, 1228)),
        // Too late.
        (10_001, syn("2001:db8::10", HERE_6, 1227)),
        (11_000, udp(a, HERE, 1301)),
        (11_001, udp(a, HERE, 1302)),
        (11_002, udp(a, HERE, 1302)),
        (20_000, syn("192.0.2.50", HERE, 1220)),
        (20_001, syn("192.0.2.50", HERE, 1221)),
        (30_000, syn("198.51.100.8", HERE, 1401)),
        (30_001, syn("198.51.100.8", HERE, 1402)),
    ];
    packets.extend((1..=5).map(|n| (50_000 + u64::from(n), syn("198.51.100.9", HERE, 9000 + n))));
    packets.push((60_000, syn("198.51.100.9", HERE, 1228)));
    packets.push((60_001, syn("198.51.100.9", HERE, 1227)));
    packets.push((60_002, syn("198.51.100.9", HERE, 1220)));
    packets.push((60_003, syn("198.51.100.9", HERE, 1221)));
    packets.push((100_000, syn(a, "203.0.113.5", 443)));
    let (told, summary) = Place::of(&packets).run();
    assert_eq!(
        told,
        [
            "4000 198.51.100.7 open: accept 198.51.100.7/32 1m",
            "11002 198.51.100.7 udp: accept 198.51.100.7/32 1m",
            "20001 192.0.2.50 decoy:",
            "30001 198.51.100.8 all: open 0.0.0.0/0 10s",
            "40001 - time: open-over 0.0.0.0/0",
            "50005 198.51.100.9 sweep:",
            "60003 198.51.100.9 decoy: ban 198.51.100.9/32 never",
            "71002 - time: accept-over 198.51.100.7/32",
        ]
    );
    let completed: Vec<u64> = summary.completed.iter().map(|(_, n)| *n).collect();
    assert_eq!(completed, [1, 1, 2, 1]);
    let counts = &summary.counts;
    assert_eq!((counts.read, counts.knocks, counts.others), (22, 16, 5));
    assert_eq!((counts.accepted, counts.banned, counts.sweeps), (2, 1, 1));
    assert_eq!(counts.not_for_us, 1);
    assert_eq!(summary.addresses.len(), 2);
    assert_eq!(summary.holds[0].banned, 1);
    assert_eq!(summary.ending, Ending::Whole);
    assert!(summary.warnings[0].contains("host names are not looked up (1)"));
}

#[test]
fn the_words_are_those_of_the_log() {
    let place = Place::of(&[
        (0, syn("192.0.2.50", HERE, 1220)),
        (1, syn("192.0.2.50", HERE, 1221)),
    ]);
    let mut words = Vec::new();
    run(&place.order, &mut |decision| {
        words.extend(decision.words.clone());
        Ok(())
    })
    .unwrap();
    let expected =
        "192.0.2.50: decoy: not banned at ssh: 192.0.2.50 is trusted (knockd.trusted: office)";
    assert_eq!(words, [expected]);
}

#[test]
fn commands_are_told_and_not_run() {
    let a = "198.51.100.7";
    let place = Place::of(&[
        (0, syn(a, HERE, 1228)),
        (0, syn(a, HERE, 1227)),
        (60_000, syn(a, HERE, 80)),
    ]);
    let ran = place.path("ran");
    let touch = format!("/bin/touch {}", ran.display());
    let policy = format!(
        "gates:\n  ssh: {{ ports: [22] }}\nknocks:\n  door: {{ sequence: [1228, 1227], action: run, \
         start: \"{touch} %IP%\", stop: \"/bin/stop %IP%\", for: 10s }}\n"
    );
    fs::write(place.path("p.yaml"), policy).unwrap();
    let mut told = Vec::new();
    run(&place.order, &mut |decision| {
        told.push((decision.after.as_secs(), decision.commands.clone()));
        Ok(())
    })
    .unwrap();
    let [start, stop] = [format!("{touch} {a}"), format!("/bin/stop {a}")];
    assert_eq!(told, [(0, vec![start]), (10, vec![stop])]);
    assert!(!ran.exists());
}

#[test]
fn ports_that_answer_are_no_sweep_unless_told_otherwise() {
    let a = "198.51.100.7";
    let mut packets = vec![(0, syn(a, HERE, 1228))];
    for port in 81..=85 {
        packets.push((u64::from(port), syn(a, HERE, port)));
        packets.push((u64::from(port), tcp(HERE, a, (port, 40_000), "SA", 5)));
    }
    packets.push((100, syn(a, HERE, 1227)));
    let mut place = Place::of(&packets);
    let (told, summary) = place.run();
    assert_eq!(told, ["100 198.51.100.7 open: accept 198.51.100.7/32 1m"]);
    assert_eq!(summary.listening, [81, 82, 83, 84, 85]);
    place.order.listening = Some(vec![81]);
    assert_eq!(place.run().0.len(), 1, "four foreign ports are no sweep");
    place.order.listening = Some(Vec::new());
    assert_eq!(place.run().0, ["85 198.51.100.7 sweep:"]);
}

#[test]
fn which_addresses_are_ours_can_be_said() {
    let a = "198.51.100.7";
    let packets = [(0, syn(a, HERE, 1228)), (1, syn(a, HERE, 1227))];
    let mut place = Place::of(&packets);
    assert_eq!(place.run().0.len(), 1);
    place.order.addresses = vec!["192.0.2.2".parse().unwrap()];
    let (told, summary) = place.run();
    assert_eq!((told.len(), summary.counts.not_for_us), (0, 2));
    place.order.addresses = vec![HERE.parse().unwrap(), a.parse().unwrap()];
    assert_eq!(place.run().0.len(), 0, "our own packets are no knocks");
    let silent = Place::of(&[(0, syn(a, HERE, 80))]);
    let (told, summary) = silent.run();
    assert_eq!(told.len(), 0);
    assert!(summary.warnings.iter().any(|w| w.contains("nobody knocks")));
}

#[test]
fn of_a_stream_nothing_is_known_to_listen_and_it_is_said() {
    let packets = [
        (0, syn("198.51.100.7", HERE, 1228)),
        (1, syn("198.51.100.7", HERE, 1227)),
    ];
    let mut place = Place::of(&packets);
    place.order.addresses = vec![HERE.parse().unwrap()];
    for (listening, said) in [(None, true), (Some(Vec::new()), false)] {
        place.order.listening = listening;
        let (told, summary) = place.run_through_a_pipe();
        assert_eq!(told.len(), 1);
        let warned = summary.warnings.iter().any(|w| w.contains("--listening"));
        assert_eq!(warned, said, "{:?}", summary.warnings);
    }
}

#[test]
fn one_time_sequences_are_not_replayed_and_it_is_said() {
    let place = Place::of(&[(0, syn("198.51.100.7", HERE, 1228))]);
    let policy = format!("{POLICY}  once: {{ sequence: {{ one_time: sheet }}, action: accept }}\n");
    fs::write(place.path("p.yaml"), policy).unwrap();
    let (_, summary) = place.run();
    let said = "once: its sequences are used up live, each by one knock; not replayed";
    assert!(
        summary.warnings.iter().any(|w| w == said),
        "{:?}",
        summary.warnings
    );
}

#[test]
fn whoever_knocks_a_one_time_sequence_is_no_sweeper() {
    let a = "198.51.100.7";
    let ports = [2101, 3402, 4403, 5404, 6405, 7406];
    let mut packets: Vec<_> = (0..).zip(ports.map(|port| syn(a, HERE, port))).collect();
    packets.extend([(100, syn(a, HERE, 1228)), (101, syn(a, HERE, 1227))]);
    let place = Place::of(&packets);
    let policy = format!("{POLICY}  once: {{ sequence: {{ one_time: sheet }}, action: accept }}\n");
    fs::write(place.path("p.yaml"), policy).unwrap();
    fs::write(place.path("sheet"), "#2101,3402,4403\n 5404,6405,7406\n").unwrap();
    let (told, summary) = place.run();
    assert_eq!(told, ["101 198.51.100.7 open: accept 198.51.100.7/32 1m"]);
    assert!(!summary.warnings.iter().any(|w| w.contains("sweep")));
    fs::remove_file(place.path("sheet")).unwrap();
    let (told, summary) = place.run();
    assert_eq!(told, ["4 198.51.100.7 sweep:"]);
    let said = "whoever knocks its sequences may seem to sweep ports";
    assert!(summary.warnings.iter().any(|w| w.contains(said)));
}

#[test]
fn packets_that_are_no_knocks_are_counted_by_what_is_wrong_with_them() {
    let good = syn("198.51.100.7", HERE, 1228);
    let mut fragment = good.clone();
    fragment[6] = 0x20;
    let mut arp = ethernet(&good, UNICAST, &[]);
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    let frames: Vec<_> = [
        ethernet(&good, UNICAST, &[0x8100]),
        ethernet(&good[..30], UNICAST, &[]),
        ethernet(&fragment, UNICAST, &[]),
        ethernet(&syn("127.0.0.1", HERE, 1228), UNICAST, &[]),
        ethernet(&good, [0xff; 6], &[]),
        vec![1, 2, 3],
        arp,
    ]
    .into_iter()
    .map(|frame| (0, frame))
    .collect();
    let (_, summary) = Place::with(&pcap(ByteOrder::Little, false, 1, &frames)).run();
    let counts = summary.counts;
    assert_eq!((counts.knocks, counts.not_for_us, counts.not_ip), (1, 1, 1));
    let refused: Vec<_> = counts
        .refused
        .iter()
        .map(|(why, n)| (why.to_string(), *n))
        .collect();
    assert_eq!(
        refused,
        [
            ("cut short".to_owned(), 2),
            ("a fragment".to_owned(), 1),
            ("an impossible source address".to_owned(), 1),
        ]
    );
}

#[test]
fn packets_that_were_cut_short_are_named_where_nobody_knocks() {
    let knock = syn("198.51.100.7", HERE, 1228);
    let of = |packet: &[u8]| Place::of(&[(0, packet.to_vec()), (1, knock[..30].to_vec())]).run();
    let said = |summary: Summary| {
        let mut warnings = summary.warnings.into_iter();
        warnings.any(|w| w.contains("packets are cut short") && w.contains("tcpdump -s"))
    };
    assert!(said(of(&knock[..20]).1));
    assert!(!said(of(&knock).1));
}

#[test]
fn bad_input_is_named_and_ends_with_2() {
    let empty = Place::with(b"").fails();
    assert!(
        empty.0 == 2 && empty.1.contains("the file is empty"),
        "{empty:?}"
    );
    let text = Place::with(b"192.0.2.1 # a whitelist").fails();
    assert!(text.0 == 2 && text.1.contains("not a capture"), "{text:?}");
    let link = Place::with(&pcap(ByteOrder::Big, false, 127, &[])).fails();
    assert!(
        link.0 == 2 && link.1.contains("link type is 127"),
        "{link:?}"
    );

    let mut place = Place::of(&[]);
    place.order.capture = place.path("absent.pcap");
    let absent = place.fails();
    assert!(
        absent.0 == 2 && absent.1.contains("absent.pcap"),
        "{absent:?}"
    );
    place.order.capture = place.dir.path().to_owned();
    assert!(place.fails().1.contains("directory"));
    place.order.capture = "-".into();
    let stream = place.fails();
    assert!(
        stream.0 == 2 && stream.1.contains("--address"),
        "{stream:?}"
    );

    let mut place = Place::of(&[]);
    fs::write(place.path("p.yaml"), "gates: 5").unwrap();
    assert_eq!(place.fails().0, 2);
    place.order.policy = Some(place.path("none.yaml"));
    assert!(place.fails().1.contains("there is no policy"));
}

#[test]
fn more_memory_than_there_is_is_refused_as_the_daemon_refuses_it() {
    let capture = pcap(ByteOrder::Little, true, 101, &[]);
    let mut policy = policy::parse(POLICY, Path::new("p.yaml")).unwrap().policy;
    policy.memory = usize::MAX / 2;
    let order = Order {
        policy: Some("p.yaml".into()),
        ..Order::default()
    };
    let error = run_on(&capture, policy, &order, &mut |_| Ok(())).unwrap_err();
    let said = "p.yaml: memory: the machine does not give";
    assert!(error.to_string().starts_with(said), "{error}");
    assert_eq!(error.code(), 2);
}

#[test]
fn what_may_not_be_read_ends_with_1() {
    let capture = ReplayError::Open {
        file: "night.pcap".into(),
        source: io::ErrorKind::PermissionDenied.into(),
    };
    let said = "cannot open the capture night.pcap: permission denied (run as";
    assert!(capture.to_string().starts_with(said), "{capture}");
    assert_eq!(capture.code(), 1);
    let policy = policy::LoadError::Permission("p.yaml".into());
    assert_eq!(ReplayError::from(policy).code(), 1);
}

#[test]
fn interfaces_with_unknown_links_are_left_out_unless_there_are_no_others() {
    let knocks = |first: u16, other: u16| {
        let mut file = Bytes::new(ByteOrder::Little);
        file.section().interface(first, &[]).interface(other, &[]);
        let (one, two) = (
            syn("198.51.100.7", HERE, 1228),
            syn("198.51.100.7", HERE, 1227),
        );
        let now = START * 1_000_000;
        file.packet(0, now, &one)
            .packet(1, now, &one)
            .packet(0, now + 1, &two);
        Place::with(&file.all)
    };
    let (told, summary) = knocks(101, 127).run();
    assert_eq!((told.len(), summary.counts.unknown_link), (1, 1));
    assert!(
        summary
            .warnings
            .iter()
            .any(|w| w.contains("link type is 127"))
    );
    let (code, why) = knocks(127, 105).fails();
    assert!(code == 2 && why.contains("link type is 127"), "{why}");
}

#[test]
fn an_interface_with_an_unknown_link_that_no_packet_came_through_is_not_named() {
    let mut file = Bytes::new(ByteOrder::Little);
    file.section().interface(101, &[]).interface(105, &[]);
    let knock = syn("198.51.100.7", HERE, 1228);
    file.packet(0, START * 1_000_000, &knock);
    let (_, summary) = Place::with(&file.all).run();
    let warned = summary.warnings.join("\n");
    assert!(!warned.contains("link type"), "{warned}");
}

#[test]
fn what_is_whole_of_a_damaged_capture_is_replayed() {
    let a = "198.51.100.7";
    let packets = [(0, syn(a, HERE, 1228)), (1, syn(a, HERE, 1227))];
    let mut file = pcap(ByteOrder::Little, true, 101, &packets);
    let (told, summary) = Place::with(&file).run();
    assert_eq!((told.len(), summary.code()), (1, 0));
    file.extend([0; 7]);
    let (told, summary) = Place::with(&file).run();
    assert_eq!((told.len(), summary.code()), (1, 0));
    assert!(summary.warnings.iter().any(|w| w.contains("in the middle")));
    file.extend([0xff; 9]);
    let (told, summary) = Place::with(&file).run();
    assert_eq!((told.len(), summary.code()), (1, 1));
    assert!(
        summary
            .warnings
            .iter()
            .any(|w| w.contains("damaged at byte"))
    );
}

#[test]
fn more_addresses_than_a_host_has_are_asked_for() {
    // Of two sources neither takes part in everything.
    let packets: Vec<_> = (0..=MOST_ADDRESSES)
        .map(|n| {
            let (from, to) = (n % 2 + 7, format!("10.0.{}.{}", n / 256, n % 256));
            (0, syn(&format!("198.51.100.{from}"), &to, 1228))
        })
        .collect();
    let (code, why) = Place::of(&packets).fails();
    assert!(code == 2 && why.contains("--address"), "{why}");
}
