use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::{KnockPort, PortRange};

/// The key of RFC 6238, appendix B, for HMAC-SHA-256.
const KEY: &[u8] = b"12345678901234567890123456789012";

fn shape(ports: &str, length: u8) -> Shape {
    Shape::new(ports.parse().unwrap(), length).unwrap()
}

fn secret() -> Secret {
    Secret::new(KEY.to_vec()).unwrap()
}

fn numbers(sequence: &[KnockPort]) -> Vec<u16> {
    sequence.iter().map(|port| port.port).collect()
}

/// Worked out with Python's `hmac`, at two of the moments of RFC 6238, appendix B, too.
#[test]
fn a_sequence_follows_from_the_secret_the_step_and_the_family() {
    let shape = shape("20000-40000", 4);
    let cases = [
        (
            0,
            [30887, 34027, 32190, 30891],
            [38281, 30632, 28887, 24533],
        ),
        (
            1,
            [32341, 23186, 29056, 37892],
            [34617, 24854, 21454, 33269],
        ),
        (
            step(Duration::from_secs(1_111_111_109)),
            [29507, 33254, 36313, 27828],
            [31710, 20832, 21797, 37369],
        ),
        (
            step(Duration::from_secs(20_000_000_000)),
            [21461, 31251, 33147, 36227],
            [25990, 38672, 29054, 30340],
        ),
    ];
    for (step, v4, v6) in cases {
        let of = |family| numbers(&shape.sequence(&secret(), step, family));
        assert_eq!(of(Family::V4), v4, "step {step}");
        assert_eq!(of(Family::V6), v6, "step {step}");
    }
}

#[test]
fn a_sequence_may_take_every_port_of_its_range() {
    let mut ports = numbers(&shape("1000-1031", 32).sequence(&secret(), 7, Family::V4));
    assert_eq!(ports[..5], [1019, 1007, 1003, 1006, 1016]);
    ports.sort_unstable();
    assert_eq!(ports, (1000..=1031).collect::<Vec<_>>());
}

#[test]
fn datagrams_are_knocks_too() {
    let udp: PortRange = "20000-40000/udp".parse().unwrap();
    let sequence = Shape::new(udp, 3)
        .unwrap()
        .sequence(&secret(), 0, Family::V4);
    assert_eq!(
        sequence,
        [30887, 34027, 32190].map(KnockPort::udp),
        "the beginning of the longer one"
    );
}

proptest! {
    #[test]
    fn all_ports_are_different_and_in_the_range(
        first in 1_u16..60_000, width in 1_100_u16..5_000, length in 3_u8..=32, step: u64, bytes: [u8; 16]
    ) {
        let range = PortRange { first, last: first + width, proto: crate::model::Proto::Tcp };
        let secret = Secret::new(bytes.to_vec()).unwrap();
        let sequence = Shape::new(range, length).unwrap().sequence(&secret, step, Family::V6);
        let mut different = numbers(&sequence);
        different.sort_unstable();
        different.dedup();
        prop_assert_eq!(different.len(), usize::from(length));
        prop_assert!(sequence.iter().all(|port| range.contains(*port)));
    }

    #[test]
    fn what_is_written_is_read_back(bytes in proptest::collection::vec(any::<u8>(), 16..80)) {
        let secret = Secret::new(bytes).unwrap();
        prop_assert_eq!(Secret::parse(secret.written().as_bytes()), Ok(secret));
    }

    #[test]
    fn a_secret_is_read_without_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Secret::parse(&text);
    }
}

#[test]
fn the_family_is_that_in_which_packets_arrive() {
    for (address, of, towards) in [
        ("192.0.2.1", Family::V4, Family::V4),
        ("::ffff:192.0.2.1", Family::V4, Family::V4),
        ("2001:db8::1", Family::V6, Family::V6),
        ("64:ff9b::c000:201", Family::V6, Family::V4),
        ("64:ff9b:1::c000:201", Family::V6, Family::V6),
    ] {
        let address: std::net::IpAddr = address.parse().unwrap();
        assert_eq!(
            (Family::of(address), Family::towards(address)),
            (of, towards)
        );
    }
}

#[test]
fn what_is_guessed_too_soon_is_no_shape() {
    let make = |ports: &str, length| Shape::new(ports.parse().unwrap(), length);
    for length in [0, 1, 2, 33, 255] {
        assert_eq!(make("1-65535", length), Err(ShapeError::Length(length)));
    }
    let few = |length, first, last| {
        Err(ShapeError::Few {
            length,
            first,
            last,
        })
    };
    assert_eq!(make("7000", 3), few(3, 7000, 7000));
    assert_eq!(make("1000-1030", 32), few(32, 1000, 1030));
    assert_eq!(make("1000-2000", 3), few(3, 1000, 2000));
    assert!(make("1000-2001", 3).is_ok());
}

#[test]
fn a_secret_is_one_line_of_base32() {
    let written = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZA";
    for text in [
        written.to_owned(),
        format!("# of the laboratory\n\n  {written}\r\n# the end\n"),
        format!("{written}===="),
        written.to_ascii_lowercase(),
        "GEZD GNBV GY3T QOJQ-GEZD GNBV GY3T QOJQ GEZD GNBV GY3T QOJQ GEZA".to_owned(),
    ] {
        assert_eq!(Secret::parse(text.as_bytes()), Ok(secret()), "{text}");
    }
    let cases: [(&[u8], SecretError); 7] = [
        (b"", SecretError::None),
        (b"# nothing\n\n", SecretError::None),
        (b"#\nAAAA\nBBBB\n", SecretError::Several(3)),
        (b"\n1111111111", SecretError::NotBase32(2)),
        (b"\xff\xff", SecretError::NotBase32(1)),
        (b"GEZDGNBVGY3TQOJQ", SecretError::Short(80)),
        (b"=", SecretError::NotBase32(1)),
    ];
    for (text, error) in cases {
        assert_eq!(
            Secret::parse(text),
            Err(error),
            "{}",
            String::from_utf8_lossy(text)
        );
    }
    assert_eq!(format!("{:?}", secret()), "Secret(…)");
}

#[test]
fn what_is_no_file_with_a_secret_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    let told = || Secret::read(&path).unwrap_err().to_string();
    assert!(told().ends_with("(`knockctl sequences secret` makes one)"));
    std::fs::write(&path, "# GEZDGNBVGY3TQOJQ\nx").unwrap();
    assert!(
        told().ends_with("secret: line 2 is not base32: expected letters and the digits 2 to 7")
    );
    std::fs::write(&path, vec![b'#'; 70_000]).unwrap();
    assert!(told().ends_with("a regular file of at most 64 KiB is"));
    let _ = std::fs::remove_file(&path);
    std::fs::create_dir(&path).unwrap();
    assert!(told().ends_with("a regular file of at most 64 KiB is"));
}

#[test]
fn steps_are_half_minutes_of_unix_time() {
    let at = Duration::from_millis;
    for (millis, is, remains) in [
        (0, 0, 30_000),
        (29_999, 0, 1),
        (30_000, 1, 30_000),
        (59_500, 1, 500),
        (60_001, 2, 29_999),
    ] {
        assert_eq!(step(at(millis)), is);
        assert_eq!(left(at(millis)), at(remains));
    }
    assert_eq!(counting(5), 4..=6);
    assert_eq!(counting(0), 0..=1);
    assert_eq!(counting(u64::MAX).end(), &u64::MAX);
}

#[test]
fn a_sequence_counts_for_the_first_address_of_each_family() {
    let [a, b, six]: [std::net::IpAddr; 3] =
        ["192.0.2.1", "192.0.2.2", "2001:db8::1"].map(|text| text.parse().unwrap());
    let mut used = Used::default();
    assert_eq!(used.take(9, a, 10), Ok(()));
    assert_eq!(used.take(9, a, 10), Ok(()), "a second time");
    assert_eq!(used.take(9, b, 10), Err(a));
    assert_eq!(used.take(10, b, 10), Ok(()), "the next one");
    assert_eq!(used.take(9, six, 10), Ok(()), "another sequence");
    assert_eq!(used.to_string(), "9=192.0.2.1 9=2001:db8::1 10=192.0.2.2");
    assert_eq!(used.to_string().parse(), Ok(used.clone()));
    assert_eq!(
        "x 3= =a 4=192.0.2.1".parse::<Used>().unwrap().to_string(),
        "4=192.0.2.1"
    );
    // What nobody can knock any more is forgotten, and not before.
    assert_eq!(used.take(11, a, 11), Ok(()));
    assert_eq!(used.take(10, a, 11), Err(b));
    assert_eq!(used.to_string(), "10=192.0.2.2 11=192.0.2.1");
}
