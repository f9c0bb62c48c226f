use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use portcullis::policy::{self, Policy};
use portcullis::replay::{Ending, Order, ReplayError, run_on};

use super::is_one_line;

/// A gate for each thing that can happen to somebody.
static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let text = "memory: 64KiB
scan_guard: { ports: 5, action: drop }
gates:
  ssh: { ports: [22], accept_timeout: 60s, ban_timeout: 1h }
  web: { ports: [443], accept_timeout: 60s, once: true }
knocks:
  open: { sequence: [1228, 1227], seq_timeout: 5s, action: accept, gate: ssh }
  udp: { sequence: [1301/udp, 1302/udp], seq_timeout: 5s, action: accept, gate: web, for: never }
  decoy: { sequence: [1220, 1221], seq_timeout: 5s, action: drop }
  all: { sequence: [1401, 1402], seq_timeout: 5s, action: open, gate: ssh, for: 10s }
";
    let checked = policy::parse(text, Path::new("fuzz.yaml"));
    checked.expect("the policy is good").policy
});

/// The shortest packet of a file, with what stands around it.
const SHORTEST: u64 = 16;

/// Bytes as a capture, once for a host about which nothing is known and once for one about which
/// all is: it is read to an end that can be told, and what is decided is in proportion to what was
/// read, in the order of time.
pub fn capture(bytes: &[u8]) {
    let unknown = Order {
        capture: "fuzz.pcap".into(),
        ..Order::default()
    };
    let here = [
        IpAddr::from(Ipv4Addr::new(192, 0, 2, 1)),
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    ];
    let known = Order {
        addresses: here.to_vec(),
        listening: Some(vec![22]),
        ..unknown.clone()
    };
    for order in [unknown, known] {
        replayed(bytes, &order);
    }
}

fn replayed(bytes: &[u8], order: &Order) {
    let (mut decisions, mut last) = (0, Duration::ZERO);
    let summary = run_on(bytes, POLICY.clone(), order, &mut |decision| {
        decisions += 1;
        assert!(last <= decision.after, "{last:?} {decision:?}");
        last = decision.after;
        assert!(
            decision.words.iter().all(|line| is_one_line(line)),
            "{decision:?}"
        );
        Ok(())
    });
    let summary = match summary {
        Ok(summary) => summary,
        Err(error @ (ReplayError::Format { .. } | ReplayError::TooManyAddresses)) => {
            assert!(is_one_line(&error.to_string()), "{error}");
            assert_eq!(decisions, 0, "nothing is told of what is refused");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let counts = &summary.counts;
    let read = counts.read;
    assert!(read * SHORTEST <= bytes.len() as u64, "{read} packets");
    let sorted = counts.knocks
        + counts.others
        + counts.not_for_us
        + counts.copies
        + counts.not_ip
        + counts.unknown_link
        + counts.refused.values().sum::<u64>();
    assert_eq!(sorted, read, "{counts:?}");
    // A packet completes, undoes and sweeps what it may, and each of these ends once.
    let most = 8 * read * POLICY.knocks.len() as u64;
    assert!(decisions <= most, "{decisions} decisions of {read} packets");
    if let Ending::Damaged { offset, why } = summary.ending {
        assert!(offset <= bytes.len() as u64, "{why}");
    }
    assert!(summary.warnings.iter().all(|line| is_one_line(line)));
}
