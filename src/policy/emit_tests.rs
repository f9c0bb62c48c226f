use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use proptest::prelude::*;

use crate::model::{GateName, KnockName, KnockPort, Lifetime, PortRange, Proto, canonical_net};
use crate::policy::{
    BackendChoice, BanRule, CommandLine, Firewall, Gate, GateAddress, History, Hook, Interfaces,
    Knock, KnockAction, LogSettings, LogStyle, Notes, OnStop, PerFamily, Policy, Run, ScanAction,
    ScanGuard, TcpFlags, Verdict, emit, parse,
};

const SHIPPED: &str = include_str!("../../policy/knockd.yaml");

fn read(text: &str) -> Policy {
    match parse(text, Path::new("p.yaml")) {
        Ok(checked) => checked.policy,
        Err(errors) => panic!("{errors}\n{text}"),
    }
}

#[test]
fn the_shipped_policy_is_read_back_as_it_is() {
    let policy = read(SHIPPED);
    assert_eq!(read(&emit(&policy, &Notes::default())), policy);
}

#[test]
fn comments_stay_comments_whatever_is_in_them() {
    let policy = read(SHIPPED);
    let first = policy.knocks[0].name.clone();
    let nasty = "a\nknocks: {}\r# \"".to_owned();
    let notes = Notes {
        head: vec![nasty.clone(), String::new()],
        knocks: vec![(first, nasty.clone())],
        tail: vec![nasty],
    };
    assert_eq!(read(&emit(&policy, &notes)), policy);
}

fn time() -> impl Strategy<Value = Duration> {
    (1..10_000_000_u64).prop_map(Duration::from_millis)
}

fn lifetime() -> impl Strategy<Value = Lifetime> {
    prop_oneof![time().prop_map(Lifetime::For), Just(Lifetime::Never)]
}

fn flags() -> impl Strategy<Value = TcpFlags> {
    let any = (0..64_u8, 0..64_u8).prop_map(|(set, clear)| TcpFlags {
        set,
        clear: clear & !set,
    });
    let listed = any.prop_map(|flags| match flags {
        // These have no words.
        TcpFlags {
            set: 0 | TcpFlags::SYN,
            clear: 0,
        } => TcpFlags::OPENING,
        flags => flags,
    });
    prop_oneof![Just(TcpFlags::OPENING), listed]
}

fn command(shell: bool) -> BoxedStrategy<CommandLine> {
    if shell {
        prop_oneof!["[ -~\t]{1,30}", "[^\\pC]{1,20}"]
            .prop_map(CommandLine::Shell)
            .boxed()
    } else {
        prop::collection::vec("[^\\pC]{1,10}", 1..4)
            .prop_map(CommandLine::Words)
            .boxed()
    }
}

fn per_family(shell: bool) -> impl Strategy<Value = PerFamily> {
    let one = || prop::option::of(command(shell));
    prop_oneof![
        one().prop_map(|v4| PerFamily { v6: v4.clone(), v4 }),
        (one(), one()).prop_map(|(v4, v6)| PerFamily { v4, v6 }),
    ]
}

fn timeout() -> impl Strategy<Value = Duration> {
    prop_oneof![Just(30_000), 1..=86_400_000u64].prop_map(Duration::from_millis)
}

fn run() -> impl Strategy<Value = (KnockAction, Option<Lifetime>)> {
    any::<bool>()
        .prop_flat_map(|shell| (per_family(shell), per_family(shell), time(), timeout()))
        .prop_map(|(start, stop, time, timeout)| {
            let lifetime = (!stop.is_empty()).then_some(Lifetime::For(time));
            (
                KnockAction::Run(Box::new(Run {
                    start,
                    stop,
                    timeout,
                })),
                lifetime,
            )
        })
}

fn action() -> impl Strategy<Value = (KnockAction, Option<Lifetime>)> {
    let with_time = prop::sample::select(vec![
        KnockAction::Accept,
        KnockAction::Drop,
        KnockAction::Open,
    ]);
    let without = prop::sample::select(vec![
        KnockAction::Trust,
        KnockAction::Flush,
        KnockAction::Close,
    ]);
    prop_oneof![
        (with_time, prop::option::of(lifetime())),
        without.prop_map(|action| (action, None)),
        run(),
    ]
}

/// A knock of number `index`: its ports are no other's.
fn knock(index: u16) -> impl Strategy<Value = Knock> {
    (
        prop_oneof![
            "[a-zA-Z0-9_.:-]{1,12}",
            Just("null".to_owned()),
            Just("1e3".to_owned())
        ],
        prop::collection::vec(any::<bool>(), 1..5),
        time(),
        flags(),
        action(),
        prop::option::of(prop_oneof![
            any::<[u8; 4]>().prop_map(std::net::IpAddr::from),
            any::<[u8; 16]>().prop_map(|b| std::net::IpAddr::from(b).to_canonical()),
        ]),
        any::<u8>(),
    )
        .prop_map(
            move |(name, udp, seq_timeout, flags, (action, lifetime), target, gates)| {
                let ports = udp
                    .into_iter()
                    .zip(100 * (index + 1)..)
                    .map(|(udp, port)| KnockPort {
                        port,
                        proto: if udp { Proto::Udp } else { Proto::Tcp },
                    });
                Knock {
                    name: KnockName::new(&format!("{name}{}", ["", "x"][usize::from(index % 2)]))
                        .unwrap(),
                    sequence: ports.collect(),
                    changing: None,
                    seq_timeout,
                    flags,
                    target,
                    ban: (action == KnockAction::Drop).then(|| counting(index, seq_timeout)),
                    action,
                    // Which of the gates; made names of them in `policy`.
                    gates: vec![GateName::new(&format!("g{gates}")).unwrap()],
                    lifetime,
                }
            },
        )
}

/// A rule that any gate's time of a ban goes with.
fn counting(number: u16, within: Duration) -> BanRule {
    match number % 32 {
        0 => BanRule::default(),
        more => BanRule {
            after: more + 1,
            within,
            longest: None,
        },
    }
}

fn net() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (any::<[u8; 4]>(), 1..=32_u8).prop_map(|(a, len)| IpNet::new(a.into(), len).unwrap()),
        (any::<[u8; 16]>(), 1..=128_u8).prop_map(|(a, len)| IpNet::new(a.into(), len).unwrap()),
    ]
    .prop_map(|net| canonical_net(net.trunc()))
}

fn gate(index: u16) -> impl Strategy<Value = Gate> {
    (
        (0..500_u16, any::<bool>(), lifetime(), lifetime()),
        prop::option::of(prop_oneof![
            net().prop_map(GateAddress::Net),
            Just(GateAddress::Name("ssh.example.org".into())),
        ]),
        any::<[bool; 6]>(),
    )
        .prop_map(
            move |((width, udp, accept_timeout, ban_timeout), address, bits)| {
                let first = 40_000 + 1000 * index;
                let hook = match (&address, bits[0], bits[1]) {
                    (Some(GateAddress::Net(_)), true, true) => Hook::Forward,
                    (Some(GateAddress::Net(_)), true, false) => Hook::Both,
                    _ => Hook::Input,
                };
                Gate {
                    name: GateName::new(&format!("g{index}")).unwrap(),
                    ports: vec![PortRange {
                        first,
                        last: first + width,
                        proto: if udp { Proto::Udp } else { Proto::Tcp },
                    }],
                    address,
                    hook,
                    accept_timeout,
                    ban_timeout,
                    verdict: if bits[2] {
                        Verdict::Accept
                    } else {
                        Verdict::Return
                    },
                    once: bits[3],
                    log_drops: bits[4],
                    cut_sessions: bits[5],
                    ipv6_prefix: if bits[0] { 64 } else { 128 },
                }
            },
        )
}

/// Everything but gates and knocks.
fn settings() -> impl Strategy<Value = Policy> {
    let interfaces = prop_oneof![
        Just(Interfaces::Any),
        prop::collection::hash_set("[a-z0-9~#]{2,10}", 1..4).prop_map(|mut names| {
            names.retain(|name| name != "lo" && name != "any");
            names.insert("eth0".to_owned());
            Interfaces::Named(names.into_iter().collect())
        }),
    ];
    let backend = prop::sample::select(vec![
        BackendChoice::Auto,
        BackendChoice::Iptables,
        BackendChoice::Nftables,
    ]);
    (
        interfaces,
        backend,
        any::<[bool; 4]>(),
        "[^\\pC]{1,20}",
        prop::collection::vec(net(), 0..3),
        (1..=u16::MAX, time(), 64..100_000_usize),
        prop::option::of("[^\\pC]{0,20}"),
    )
        .prop_map(
            |(interfaces, backend, bits, trusted, never_ban, (ports, within, kib), log)| Policy {
                interfaces,
                firewall: Firewall {
                    backend,
                    on_stop: [OnStop::Keep, OnStop::Closed][usize::from(bits[0])],
                    owner: bits[2],
                },
                trusted: bits[1].then(|| trusted.into()),
                never_ban,
                scan_guard: ScanGuard {
                    ports,
                    within,
                    nearby: ports % 1001,
                    action: [ScanAction::None, ScanAction::Drop][usize::from(bits[2])],
                },
                ban: counting(ports, within),
                memory: kib * 1024,
                history: History {
                    keep: within,
                    rows: u32::from(ports),
                },
                gates: Vec::new(),
                knocks: Vec::new(),
                log: LogSettings {
                    file: log.map(|path| format!("/{path}").into()),
                    syslog: bits[3],
                    style: [LogStyle::Plain, LogStyle::Classic][usize::from(bits[1])],
                },
                pid_file: None,
            },
        )
}

fn policy() -> impl Strategy<Value = Policy> {
    let knocks = (0..4_u16).map(knock).collect::<Vec<_>>();
    let gates = (gate(0), gate(1), 0..=2_usize);
    (settings(), gates, (knocks, 0..=4_usize)).prop_map(
        |(settings, (first, second, gates), (mut knocks, count))| {
            let gates: Vec<Gate> = [first, second].into_iter().take(gates).collect();
            knocks.truncate(count);
            knocks.retain(|knock| !gates.is_empty() || matches!(knock.action, KnockAction::Run(_)));
            let mut seen = std::collections::HashSet::new();
            knocks.retain(|knock| seen.insert(knock.name.clone()));
            for knock in &mut knocks {
                let which = knock.gates[0].as_str().len() % 3;
                let names = gates.iter().take(which.max(1));
                knock.gates = names.map(|gate| gate.name.clone()).collect();
            }
            let trusted = settings.trusted.or_else(|| {
                // Where there are gates there is a whitelist.
                (!gates.is_empty()).then(|| "knockd.trusted".into())
            });
            Policy {
                trusted,
                gates,
                knocks,
                ..settings
            }
        },
    )
}

proptest! {
    #[test]
    fn every_policy_that_is_written_is_read_back_the_same(policy in policy()) {
        prop_assume!(!policy.gates.is_empty() || !policy.knocks.is_empty());
        let text = emit(&policy, &Notes::default());
        let back = parse(&text, Path::new("p.yaml"));
        match back {
            Ok(checked) => prop_assert_eq!(checked.policy, policy, "{}", text),
            Err(errors) => prop_assert!(false, "{errors}\n{text}"),
        }
    }
}
