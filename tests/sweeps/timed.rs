//! Honest traffic in replayed time: the same as in `honest`, as slow as it really is, over both
//! families.

use std::net::IpAddr;
use std::time::Duration;

use portcullis::model::Time;

use crate::kinds::KNOCK;
use crate::replayed::Core;
use crate::world::person;
use crate::{EACH, Scenario, Tried, row};

pub(crate) const SCENARIOS: &[Scenario] = &[(
    "honest_traffic_is_not_punished_however_slow",
    honest_traffic_is_not_punished_however_slow,
)];

/// When a SYN that nobody answers comes again, in milliseconds after the first (Linux,
/// `tcp_syn_retries` 6).
const AGAIN: [u64; 6] = [1000, 3000, 7000, 15_000, 31_000, 63_000];

/// A SYN of somebody.
#[derive(Debug, Clone, Copy)]
struct Syn {
    from: IpAddr,
    port: u16,
    /// The same when it comes again.
    connection: u32,
    /// In milliseconds.
    at: u64,
}

/// What somebody with an address of each family sends.
struct Somebody {
    v4: IpAddr,
    v6: IpAddr,
    number: u64,
    sent: Vec<Syn>,
    connections: u32,
}

impl Somebody {
    fn new(number: usize) -> Self {
        Self {
            v4: person(2 * number),
            v6: person(2 * number + 1),
            number: number as u64,
            sent: Vec::new(),
            connections: 0,
        }
    }

    /// The one that is used where one is enough.
    fn usual(&self) -> IpAddr {
        if self.number.is_multiple_of(2) {
            self.v4
        } else {
            self.v6
        }
    }

    /// A connection that is refused or taken at once.
    fn touches(&mut self, from: IpAddr, port: u16, at: u64) {
        self.hangs(from, port, at, 0);
    }

    /// A connection that nobody answers, given up after that many SYNs more.
    fn hangs(&mut self, from: IpAddr, port: u16, at: u64, again: usize) {
        self.connections += 1;
        let connection = self.connections;
        let later = AGAIN[..again].iter().map(|later| at + later);
        self.sent
            .extend([at].into_iter().chain(later).map(|at| Syn {
                from,
                port,
                connection,
                at,
            }));
    }
}

/// What somebody does, from the first millisecond on; which addresses are to be accepted then.
type Story = fn(&mut Somebody) -> Vec<IpAddr>;

const STORIES: [(&str, Story); 5] = [
    ("Happy Eyeballs, IPv4 250 ms after IPv6", happy_eyeballs),
    ("ssh's retransmissions, knock ports dropped", ssh),
    ("a web page between two knocks", web_page),
    ("a neighbour touches three closed ports", neighbour),
    ("nc … & in parallel, tried again", parallel),
];

/// RFC 8305: the other family is tried after 250 ms, and both go on while nobody answers.
fn happy_eyeballs(who: &mut Somebody) -> Vec<IpAddr> {
    let (v4, v6) = (who.v4, who.v6);
    // Until the second port is typed.
    let pause = 400 + 140 * who.number;
    for (port, at) in KNOCK.into_iter().zip([0, pause]) {
        who.hangs(v6, port, at, 4);
        who.hangs(v4, port, at + 250, 4);
    }
    vec![v4, v6]
}

/// `ssh -p` to each port, each interrupted after a while, or left to itself.
fn ssh(who: &mut Somebody) -> Vec<IpAddr> {
    let (from, number) = (who.usual(), who.number);
    let again = 1 + usize::try_from(number % 6).unwrap_or(0);
    // After the SYN that comes after 7 s, and before the attempt is too old.
    let pause = 7_500 + 75 * number;
    who.hangs(from, 22, 0, 1);
    who.hangs(from, KNOCK[0], 3_500, again);
    who.hangs(from, KNOCK[1], 3_500 + pause, again);
    who.hangs(from, 22, 4_500 + pause, 0);
    vec![from]
}

/// The page listens, so that its packets are nothing but time that passes.
fn web_page(who: &mut Somebody) -> Vec<IpAddr> {
    let (from, number) = (who.usual(), who.number);
    let pause = 1_000 + 139 * number;
    who.hangs(from, KNOCK[0], 0, 3);
    for at in [10, 20, 200, 210, 220, 900] {
        who.touches(from, 443, at);
        who.touches(from, 80, at + pause);
    }
    who.hangs(from, KNOCK[1], pause, 3);
    vec![from]
}

/// Somewhere before, during and after the knock.
fn neighbour(who: &mut Somebody) -> Vec<IpAddr> {
    let (from, number) = (who.usual(), who.number);
    let start = 5_000;
    who.hangs(from, KNOCK[0], start, 2);
    who.hangs(from, KNOCK[1], start + 130 * number, 2);
    for (port, factor) in [(3306, 41), (8080, 97), (5432, 193)] {
        // Tried twice, as programs do.
        let at = factor * number;
        who.touches(from, port, at);
        who.touches(from, port, at + 500);
    }
    vec![from]
}

/// Whichever is faster comes first, both times; then one after the other.
fn parallel(who: &mut Somebody) -> Vec<IpAddr> {
    let (from, number) = (who.usual(), who.number);
    let orders = [[0, 1], [1, 0]];
    for (attempt, bit) in [(0, 1), (1, 2)] {
        let at = attempt * (2_000 + 110 * number);
        let order = orders[usize::from(number & bit == 0)];
        for (place, later) in order.into_iter().zip(0..) {
            who.hangs(from, KNOCK[place], at + later, 3);
        }
    }
    let last = 2 * (2_000 + 110 * number);
    who.hangs(from, KNOCK[0], last, 1);
    who.hangs(from, KNOCK[1], last + 1_500, 1);
    vec![from]
}

#[expect(clippy::unnecessary_wraps, reason = "a scenario may fail")]
fn honest_traffic_is_not_punished_however_slow() -> Tried {
    for (name, story) in STORIES {
        let (mut packets, mut expected) = (Vec::new(), Vec::new());
        for number in 0..EACH {
            let mut who = Somebody::new(number);
            expected.push(story(&mut who));
            packets.append(&mut who.sent);
        }
        packets.sort_by_key(|syn| syn.at);
        let mut core = Core::new();
        for syn in packets {
            let at = Time::from_secs(1000).after(Duration::from_millis(syn.at));
            core.hear_again(syn.from, syn.port, syn.connection, at);
        }
        let is_in = |all: &&Vec<IpAddr>| all.iter().all(|one| core.accepted.contains(one));
        let open = expected.iter().filter(is_in).count();
        row(name, &format!("{open} of {EACH} opened, in replayed time"));
        assert_eq!(open, EACH, "{name}");
    }
    Ok(())
}
