//! What may happen to a gate, at random, and always the same from the same seed. Shared by the
//! tests against a kernel in memory (`src/knockd/random_tests.rs`) and against a real one.

use ipnet::IpNet;

/// Numbers that look like chance (SplitMix64, Steele, Lea and Flood 2014).
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The seed to begin with: `PORTCULLIS_SEED`, or another each time. It is printed, so that a
    /// failure can be repeated.
    pub(crate) fn seed(what: &str) -> u64 {
        let given = std::env::var("PORTCULLIS_SEED").ok();
        let seed = given.and_then(|text| text.parse().ok()).unwrap_or_else(|| {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            since.map_or(1, |since| u64::from(since.subsec_nanos()))
        });
        println!("{what}: PORTCULLIS_SEED={seed}");
        seed
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to one less than `most`.
    pub(crate) fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() % most as u64).unwrap_or(0)
    }

    pub(crate) fn one_of<T: Copy>(&mut self, these: &[T]) -> T {
        these[self.below(these.len())]
    }

    fn is(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }
}

/// The last parts of addresses of those who do things: 192.0.2.N and 2001:db8::N.
pub(crate) const PEOPLE: [&str; 14] = [
    "192.0.2.10",
    "192.0.2.11",
    "192.0.2.12",
    "192.0.2.13",
    "192.0.2.14",
    "192.0.2.15",
    "192.0.2.50",
    "2001:db8::10",
    "2001:db8::11",
    "2001:db8::12",
    "2001:db8::13",
    "2001:db8::14",
    "2001:db8::15",
    "2001:db8::50",
];

/// Networks of some of them, and of others who never do anything.
pub(crate) const NETWORKS: [&str; 8] = [
    "192.0.2.8/30",
    "192.0.2.12/30",
    "192.0.2.8/29",
    "192.0.2.10/31",
    "192.0.2.48/29",
    "2001:db8::10/127",
    "2001:db8::10/125",
    "2001:db8::14/126",
];

/// Never banned, unless by force.
pub(crate) const NEVER_BAN: &str = "192.0.2.15";

/// Everybody that the networks have an address of.
pub(crate) fn universe() -> Vec<IpNet> {
    let all = ["192.0.2.8/29", "192.0.2.48/29", "2001:db8::10/125"];
    let hosts = all.iter().flat_map(|text| hosts_of(net(text)));
    hosts.chain([net("2001:db8::50")]).collect()
}

/// The addresses of a small network.
pub(crate) fn hosts_of(whole: IpNet) -> Vec<IpNet> {
    whole
        .subnets(whole.max_prefix_len())
        .map(Iterator::collect)
        .unwrap_or_default()
}

/// An address or a network.
pub(crate) fn net(text: &str) -> IpNet {
    let parsed = text.parse::<IpNet>().ok();
    let alone = || text.parse::<std::net::IpAddr>().map(IpNet::from);
    parsed.unwrap_or_else(|| alone().expect("an address"))
}

/// The gates of the first policy; the second has the first of them alone.
pub(crate) const GATES: [&str; 2] = ["ssh", "web"];

/// One of the two policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rules {
    /// Both gates.
    Both,
    /// Only `ssh`, with other times.
    Alone,
}

impl Rules {
    pub(crate) fn gates(self) -> &'static [&'static str] {
        match self {
            Rules::Both => &GATES,
            Rules::Alone => &GATES[..1],
        }
    }

    /// Seconds for which a gate accepts whoever knocks, and bans whoever steps on a decoy.
    pub(crate) fn times(self, gate: &str) -> (u64, Option<u64>) {
        match (self, gate) {
            (Rules::Both, "ssh") => (40, Some(50)),
            (Rules::Both, _) => (15, None),
            (Rules::Alone, _) => (20, Some(90)),
        }
    }
}

/// How the daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// kill -9.
    Killed,
    /// kill -9 before what a packet brought about was on the disk.
    KilledEarly,
    /// kill -9, and then somebody removes all rules.
    KilledAndFlushed,
    /// The power goes.
    Rebooted,
    /// It is told to.
    Stopped,
}

/// Something that happens. Gates: none is all of them. Seconds: none is for good.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operation {
    Knock(IpNet, &'static str),
    Decoy(IpNet),
    Accept(IpNet, Option<&'static str>, Option<u64>, bool),
    Drop(IpNet, Option<&'static str>, Option<u64>, bool),
    Unban(IpNet, Option<&'static str>),
    FlushAddress(IpNet),
    FlushAccepted,
    FlushBanned,
    FlushAll,
    Open(Option<&'static str>, u64),
    Close(Option<&'static str>),
    /// In the file.
    Trust(IpNet),
    /// Until reboot.
    TrustForNow(IpNet),
    Untrust(IpNet),
    /// The whitelist is another, by hand.
    Rewrite(Vec<IpNet>),
    Reload,
    /// For so many seconds, unless confirmed, or for good.
    Apply(Rules, Option<u64>),
    Confirm,
    Rollback,
    Restart(End),
    /// Somebody else removes all of ours.
    ForeignFlush,
    /// Somebody else empties a set.
    ForeignSetFlush(&'static str),
    /// So many seconds pass.
    Wait(u64),
    /// The wall clock is set, by so many seconds.
    ClockJump(i64),
}

impl Operation {
    /// What happens next.
    pub(crate) fn any(chance: &mut Chance) -> Self {
        let who = net(chance.one_of(&PEOPLE));
        let at = chance.one_of(&[None, None, Some("ssh"), Some("web")]);
        let secs = chance.one_of(&[Some(6), Some(30), Some(30), Some(300), None]);
        let force = chance.is(3);
        match chance.below(100) {
            0..12 => Self::Knock(who, chance.one_of(&GATES)),
            12..19 => Self::Decoy(who),
            19..27 => Self::Accept(who, at, secs, force),
            27..37 => Self::Drop(some_net(chance), at, secs, force),
            37..42 => Self::Unban(some_net(chance), at),
            42..45 => Self::FlushAddress(who),
            45 => Self::FlushAccepted,
            46 => Self::FlushBanned,
            47 => Self::FlushAll,
            48..51 => Self::Open(at, secs.unwrap_or(20).min(30)),
            51..54 => Self::Close(at),
            54..59 => Self::Trust(some_net(chance)),
            59..62 => Self::TrustForNow(some_net(chance)),
            62..67 => Self::Untrust(some_net(chance)),
            67..70 => Self::Rewrite((0..chance.below(4)).map(|_| some_net(chance)).collect()),
            70..72 => Self::Reload,
            72..77 => {
                let rules = chance.one_of(&[Rules::Both, Rules::Alone]);
                Self::Apply(rules, chance.one_of(&[None, Some(300), Some(6)]))
            }
            77..79 => Self::Confirm,
            79..82 => Self::Rollback,
            82..90 => Self::Restart(chance.one_of(&[
                End::Killed,
                End::Killed,
                End::KilledEarly,
                End::KilledAndFlushed,
                End::Rebooted,
                End::Stopped,
            ])),
            90..92 => Self::ForeignFlush,
            92..95 => Self::ForeignSetFlush(chance.one_of(&["filter", "banned", "trusted"])),
            95..99 => Self::Wait(chance.one_of(&[1, 4, 20])),
            _ => Self::ClockJump(chance.one_of(&[-86_400, 86_400])),
        }
    }
}

fn some_net(chance: &mut Chance) -> IpNet {
    if chance.is(3) {
        net(chance.one_of(&NETWORKS))
    } else {
        net(chance.one_of(&PEOPLE))
    }
}
