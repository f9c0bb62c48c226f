//! Bounds, and what lies beyond them.

use std::path::Path;
use std::time::{Duration, Instant};

use super::parse;

const GATE: &str = "gates: { ssh: { ports: [22] } }\n";
const KNOCK: &str = "gates: { ssh: { ports: [22] } }\nknocks:\n  a: ";

fn problems(text: &str) -> Vec<String> {
    match parse(text, Path::new("p.yaml")) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.to_string().lines().map(str::to_owned).collect(),
    }
}

fn joined(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(line).collect::<Vec<_>>().concat()
}

/// What must be refused, whatever the words, before anybody gets impatient.
#[test]
fn hostile_yaml_is_refused_quickly() {
    let bomb = |levels: usize| {
        let first = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n";
        let rest = joined(levels, |level| {
            let aliases = vec![format!("*a{level}"); 9].join(",");
            let level = level + 1;
            format!("a{level}: &a{level} [{aliases}]\n")
        });
        format!("{first}{rest}")
    };
    let texts = [
        ("ten megabytes of nonsense", "x".repeat(10_000_000)),
        ("a megabyte of nonsense", "x".repeat(1_000_000)),
        ("a megabyte of lines", "x y\n".repeat(250_000)),
        ("random bytes", random_text(1_000_000)),
        ("a billion laughs", bomb(9)),
        ("deep lists", "[".repeat(500_000)),
        ("deep mappings", "{a: ".repeat(200_000)),
        ("deep blocks", "- ".repeat(300_000)),
        (
            "deep indentation",
            joined(1000, |i| format!("{}a:\n", " ".repeat(i))),
        ),
        ("many keys", joined(60_000, |i| format!("k{i}: 1\n"))),
        ("the same key", "x: 1\n".repeat(200_000)),
        ("a long key", format!("{}: 1\n", "k".repeat(900))),
        ("many anchors", joined(50_000, |i| format!("- &a{i} x\n"))),
        ("many documents", "---\n".repeat(200_000)),
        ("only comments", "#\n".repeat(400_000)),
        ("NULs", "\0".repeat(1_000_000)),
    ];
    for (what, text) in texts {
        let start = Instant::now();
        let told = problems(&text);
        assert!(!told.is_empty(), "{what}");
        let bytes: usize = told.iter().map(String::len).sum();
        assert!(bytes < 64 * 1024, "{what}: {bytes} bytes of explanation");
        // Unoptimised and beside other tests; a few milliseconds otherwise.
        let took = start.elapsed();
        assert!(took < Duration::from_secs(10), "{what}: {took:?}");
    }
}

/// The same text each time (Knuth's MMIX generator).
fn random_text(length: usize) -> String {
    let mut state: u64 = 1;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        char::from((state >> 57) as u8)
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn limits_are_limits() {
    let gates = |n: usize| -> String {
        let gates = joined(n, |i| format!("  g{i}: {{ ports: [{}] }}\n", i + 1));
        format!("gates:\n{gates}")
    };
    assert_eq!(problems(&gates(64)), Vec::<String>::new());
    assert_eq!(
        problems(&gates(65)),
        ["p.yaml:66:3: found `g64` as the 65th gate, expected at most 64 gates"]
    );
    let knocks = |n: usize| -> String {
        let knock = |i| {
            format!(
                "  k{i}: {{ sequence: [{}, {}], action: drop }}\n",
                1000 + i,
                5000
            )
        };
        format!("{GATE}knocks:\n{}", joined(n, knock))
    };
    assert_eq!(problems(&knocks(1024)), Vec::<String>::new());
    assert_eq!(
        problems(&knocks(1025)),
        ["p.yaml:1027:3: found `k1024` as the 1025th knock, expected at most 1024 knocks"]
    );
    let ports = |n: u16| {
        (1000..1000 + n)
            .map(|p| p.to_string())
            .collect::<Vec<_>>()
            .join(",")
    };
    let sequence = |n| format!("{KNOCK}{{ sequence: [{}], action: drop }}", ports(n));
    assert_eq!(problems(&sequence(32)), Vec::<String>::new());
    assert_eq!(
        problems(&sequence(33)),
        [
            "p.yaml:3:18: found a sequence of 33 ports, expected a list of 1 to 32 ports such as `[1228, 1227]`"
        ]
    );
}

/// As many knocks as there may be, as long as they may be: random ones, and such that are part of
/// one another wherever one looks.
#[test]
fn a_policy_at_its_limits_is_checked_quickly() {
    let policy = |ports: &dyn Fn(usize, usize) -> usize, length: &dyn Fn(usize) -> usize| {
        let knock = |k: usize| {
            let ports: Vec<_> = (0..length(k)).map(|p| ports(k, p).to_string()).collect();
            let ports = ports.join(", ");
            format!("  k{k}: {{ sequence: [{ports}], action: drop }}\n")
        };
        format!("{GATE}knocks:\n{}", joined(1024, knock))
    };
    let scattered = |k: usize, p: usize| 1000 + (k * 7919 + p * 104_729) % 30_000;
    let alike = |k: usize, p: usize| 1000 + usize::from(p == 31) * k;
    let texts = [
        ("random", policy(&scattered, &|_| 32), 0),
        ("alike but for the last port", policy(&alike, &|_| 32), 0),
        ("one port", policy(&|_, _| 5000, &|k| 1 + k % 32), 1),
    ];
    for (what, text, errors) in texts {
        let start = Instant::now();
        let told = problems(&text);
        assert_eq!(told.is_empty(), errors == 0, "{what}: {told:?}");
        // Unoptimised and beside other tests; a few milliseconds otherwise.
        let took = start.elapsed();
        assert!(took < Duration::from_secs(10), "{what}: {took:?}");
    }
}
