use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::IpAddr;
use std::path::Path;

/// A longer file (the lists of advertisers that some keep there) is read away from the event loop.
const LONG: u64 = 64 * 1024;

/// What is behind this is not read.
const LONGEST: u64 = 32 * 1024 * 1024;

/// The addresses that the file gives a name (hosts(5)); none if it does not know the name or
/// cannot be read.
pub(super) async fn lookup(path: &Path, name: &str) -> Vec<IpAddr> {
    let Ok(file) = File::open(path) else {
        return Vec::new();
    };
    if file.metadata().is_ok_and(|found| found.len() <= LONG) {
        return scan(file, name);
    }
    let name = name.to_owned();
    tokio::task::spawn_blocking(move || scan(file, &name))
        .await
        .unwrap_or_default()
}

/// Line by line, so that the length of the file costs no memory.
pub(super) fn scan(file: impl Read, name: &str) -> Vec<IpAddr> {
    let name = name.trim_end_matches('.');
    let mut found = Vec::new();
    let mut reader = BufReader::new(file.take(LONGEST));
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return found,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        let mut words = text
            .split('#')
            .next()
            .unwrap_or_default()
            .split_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse) else {
            continue;
        };
        if words.any(|word| word.eq_ignore_ascii_case(name)) {
            found.push(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_as_hosts_5_says() {
        let text =
            b"\xff\xfe junk\n127.0.0.1\tlocalhost\n# 192.0.2.9 gw\n192.0.2.1  GW.example.org \
            gw # 192.0.2.7 other\n2001:db8::1 gw\r\nnonsense gw\n\n192.0.2.2";
        let find = |name| {
            scan(&text[..], name)
                .iter()
                .map(IpAddr::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(find("gw"), ["192.0.2.1", "2001:db8::1"]);
        assert_eq!(find("gw.EXAMPLE.org."), ["192.0.2.1"]);
        assert_eq!(find("other"), [""; 0]);
        assert_eq!(find("192.0.2.1"), [""; 0]);
    }
}
