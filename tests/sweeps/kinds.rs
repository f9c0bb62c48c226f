//! Sweeps as lists of ports.

/// The knock that opens, in this order.
pub(crate) const KNOCK: [u16; 2] = [1228, 1227];

/// A kind of sweep: what it is called, the ports of its so-and-so-manieth example, and how many of
/// a hundred may open the gate for a moment, until they show what they are.
pub(crate) type Kind = (&'static str, fn(usize) -> Vec<u16>, usize);

/// The order of ports leaves nothing to luck but where it is random: one in a hundred and ten
/// shuffles of eleven ports begins with the very knock, and few foreign ports far away may come
/// before it. The lists are the same in every run.
pub(crate) const KINDS: [Kind; 7] = [
    ("ascending", ascending, 0),
    ("descending", descending, 0),
    ("random", random, 0),
    ("decoys interleaved", interleaved, 10),
    ("around the knock ports, ascending", around, 0),
    ("around the knock ports, descending", around_descending, 0),
    ("around the knock ports, random", around_random, 1),
];

fn ascending(number: usize) -> Vec<u16> {
    let start = 1222 - small(number);
    (start..=1240).collect()
}

/// From 1229 to 1328 downwards: the last begin with a single foreign port.
fn descending(number: usize) -> Vec<u16> {
    let start = 1328 - small(number) % 100;
    (1190..=start).rev().collect()
}

fn random(number: usize) -> Vec<u16> {
    let mut ports: Vec<u16> = (1150..1300).collect();
    Random(number).shuffle(&mut ports);
    ports
}

/// The knock in the right order, with decoys and foreign ports before and between.
fn interleaved(number: usize) -> Vec<u16> {
    let mut random = Random(number);
    let mut decoys = vec![1220, 1221, 1222, 1223, 1224, 1225, 1226, 1300, 80, 9];
    random.shuffle(&mut decoys);
    let before = 1 + number % 8;
    let between = number % 3;
    let mut ports = decoys[..before].to_vec();
    ports.push(KNOCK[0]);
    // Other knock ports would void the attempt by themselves.
    ports.extend([1301, 1302][..between.min(2)].iter());
    ports.push(KNOCK[1]);
    ports.extend(&decoys[before..]);
    ports
}

/// From one to twenty ports more at either end than the knock itself.
fn range(number: usize) -> std::ops::RangeInclusive<u16> {
    let more = 1 + small(number) % 20;
    KNOCK[1] - more..=KNOCK[0] + more
}

fn around(number: usize) -> Vec<u16> {
    range(number).collect()
}

fn around_descending(number: usize) -> Vec<u16> {
    range(number).rev().collect()
}

fn around_random(number: usize) -> Vec<u16> {
    let mut ports: Vec<u16> = range(number).collect();
    Random(number).shuffle(&mut ports);
    ports
}

fn small(number: usize) -> u16 {
    u16::try_from(number).expect("a small number")
}

/// The same numbers every time (xorshift, Marsaglia 2003), so that a failure can be repeated.
struct Random(usize);

impl Random {
    fn shuffle(&mut self, ports: &mut [u16]) {
        let mut state = (self.0 as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for last in (1..ports.len()).rev() {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let other = usize::try_from(state >> 33).expect("31 bits") % (last + 1);
            ports.swap(last, other);
        }
        self.0 += 1;
    }
}
