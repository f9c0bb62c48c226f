use portcullis::model::{Proto, canonical};
use portcullis::packet::{NotAKnock, parse};

/// Any bytes are a knock or none. What is one has a source that can send, and stays the same with
/// padding behind it; cut short, it is the same knock or none.
pub fn packet(bytes: &[u8]) {
    let Ok(knock) = parse(bytes) else { return };
    assert_ne!(knock.port.port, 0);
    for address in [knock.source, knock.destination] {
        assert_eq!(address, canonical(address));
    }
    let source = knock.source;
    assert!(!source.is_loopback() && !source.is_multicast() && !source.is_unspecified());
    if knock.port.proto == Proto::Udp {
        assert_eq!((knock.flags, knock.seq), (0, 0));
    }
    for end in 0..bytes.len().min(200) {
        match parse(&bytes[..end]) {
            Ok(same) => assert_eq!(same, knock, "cut to {end} bytes"),
            Err(why) => assert_eq!(why, NotAKnock::Truncated, "cut to {end} bytes"),
        }
    }
    let padded = [bytes, &[0xff; 4]].concat();
    assert_eq!(parse(&padded), Ok(knock));
}
