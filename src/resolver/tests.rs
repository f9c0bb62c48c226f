//! Against a small name server on the loopback interface.

use std::collections::HashMap;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tempfile::TempDir;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::*;

/// What the server does with a question.
#[derive(Debug, Clone)]
enum Reply {
    Addresses(Vec<IpAddr>, u32),
    Pointer(&'static str),
    Empty,
    NoSuchName,
    Fail,
    Silence,
}

type Zone = Arc<Mutex<HashMap<(String, RecordType), Reply>>>;
type Questions = Arc<Mutex<Vec<(String, RecordType)>>>;

struct NameServer {
    address: SocketAddr,
    zone: Zone,
    questions: Questions,
    task: JoinHandle<()>,
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl NameServer {
    async fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let (zone, questions) = (Zone::default(), Questions::default());
        let task = tokio::spawn(serve(socket, Arc::clone(&zone), Arc::clone(&questions)));
        Self {
            address,
            zone,
            questions,
            task,
        }
    }

    fn set(&self, name: &str, kind: RecordType, reply: Reply) {
        let key = (name.to_owned(), kind);
        self.zone.lock().unwrap().insert(key, reply);
    }

    fn set_both(&self, name: &str, reply: &Reply) {
        self.set(name, RecordType::A, reply.clone());
        self.set(name, RecordType::AAAA, reply.clone());
    }

    fn asked(&self, name: &str) -> usize {
        let questions = self.questions.lock().unwrap();
        questions.iter().filter(|(asked, _)| asked == name).count()
    }
}

async fn serve(socket: UdpSocket, zone: Zone, questions: Questions) {
    let mut buffer = [0; 4096];
    loop {
        let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
        let question = Message::from_vec(&buffer[..length]).unwrap();
        let query = question.queries[0].clone();
        let name = query.name().to_string().trim_end_matches('.').to_owned();
        let key = (name, query.query_type());
        let reply = zone.lock().unwrap().get(&key).cloned();
        questions.lock().unwrap().push(key);
        let mut answer = question.into_response();
        answer.metadata.authoritative = true;
        match reply.unwrap_or(Reply::NoSuchName) {
            Reply::Addresses(addresses, ttl) => {
                for address in addresses {
                    let data = RData::from(address);
                    answer.add_answer(Record::from_rdata(query.name().clone(), ttl, data));
                }
            }
            Reply::Pointer(to) => {
                let to = hickory_resolver::proto::rr::Name::from_ascii(to).unwrap();
                let data = RData::PTR(hickory_resolver::proto::rr::rdata::PTR(to));
                answer.add_answer(Record::from_rdata(query.name().clone(), 60, data));
            }
            Reply::Empty => {}
            Reply::NoSuchName => answer.metadata.response_code = ResponseCode::NXDomain,
            Reply::Fail => answer.metadata.response_code = ResponseCode::ServFail,
            Reply::Silence => continue,
        }
        socket
            .send_to(&answer.to_vec().unwrap(), peer)
            .await
            .unwrap();
    }
}

/// Seconds become hundredths.
fn quick() -> Timing {
    Timing {
        shortest: Duration::from_millis(300),
        longest: Duration::from_secs(36),
        retry_first: Duration::from_millis(100),
        retry_longest: Duration::from_millis(400),
        lookup: Duration::from_millis(1500),
        keep: Duration::from_secs(3600),
    }
}

fn config(dir: &TempDir, server: Option<SocketAddr>) -> Config {
    Config {
        resolv_conf: dir.path().join("resolv.conf"),
        hosts: dir.path().join("hosts"),
        name_server: server,
        timing: quick(),
    }
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn reply(texts: &[&str], ttl: u32) -> Reply {
    Reply::Addresses(addresses(texts), ttl)
}

async fn next(events: &mut mpsc::Receiver<Event>) -> Event {
    timeout(Duration::from_secs(20), events.recv())
        .await
        .expect("an event in time")
        .expect("a running resolver")
}

fn resolved(event: Event) -> (Vec<IpAddr>, Duration) {
    match event {
        Event::Resolved {
            addresses,
            valid_for,
            ..
        } => (addresses, valid_for),
        Event::Failed { .. } => panic!("{event:?}"),
    }
}

fn failed(event: Event) -> (String, bool) {
    match event {
        Event::Failed { why, keeping, .. } => (why, keeping),
        Event::Resolved { .. } => panic!("{event:?}"),
    }
}

fn names(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

#[tokio::test]
async fn both_families_are_asked_for_and_time_to_live_is_clamped() {
    let (dir, server) = (tempfile::tempdir().unwrap(), NameServer::start().await);
    server.set(
        "gw.test",
        RecordType::A,
        reply(&["192.0.2.2", "192.0.2.1"], 20),
    );
    server.set("gw.test", RecordType::AAAA, reply(&["2001:db8::1"], 10));
    server.set("old.test", RecordType::A, reply(&["192.0.2.3"], 86_400));
    server.set("old.test", RecordType::AAAA, Reply::Empty);
    server.set("new.test", RecordType::A, reply(&["192.0.2.4"], 0));
    server.set("new.test", RecordType::AAAA, Reply::Empty);
    let (resolver, mut events) = Resolver::start(config(&dir, Some(server.address)), vec![]);
    resolver.set_names(names(&["gw.test"]));
    let (found, valid_for) = resolved(next(&mut events).await);
    assert_eq!(found, addresses(&["192.0.2.1", "192.0.2.2", "2001:db8::1"]));
    let (least, most) = (Duration::from_secs(8), Duration::from_secs(10));
    assert!((least..=most).contains(&valid_for), "{valid_for:?}");
    resolver.set_names(names(&["old.test"]));
    assert_eq!(resolved(next(&mut events).await).1, quick().longest);
    resolver.set_names(names(&["new.test"]));
    assert_eq!(resolved(next(&mut events).await).1, quick().shortest);
}

#[tokio::test]
async fn names_are_asked_for_again_as_their_time_runs_out() {
    let (dir, server) = (tempfile::tempdir().unwrap(), NameServer::start().await);
    server.set("gw.test", RecordType::A, reply(&["192.0.2.1"], 0));
    server.set("gw.test", RecordType::AAAA, Reply::Empty);
    let (resolver, mut events) = Resolver::start(config(&dir, Some(server.address)), vec![]);
    resolver.set_names(names(&["gw.test"]));
    let start = std::time::Instant::now();
    assert_eq!(
        resolved(next(&mut events).await).0,
        addresses(&["192.0.2.1"])
    );
    server.set("gw.test", RecordType::A, reply(&["192.0.2.9"], 0));
    assert_eq!(
        resolved(next(&mut events).await).0,
        addresses(&["192.0.2.9"])
    );
    assert!(start.elapsed() >= quick().shortest);
    // Set again, a name is not asked for before its time.
    resolver.set_names(names(&["gw.test", "other.test"]));
    assert!(matches!(next(&mut events).await, Event::Failed { name, .. } if name == "other.test"));
    assert_eq!(server.asked("gw.test"), 4);
}

#[tokio::test]
async fn the_last_good_addresses_are_kept_while_a_name_does_not_resolve() {
    let (dir, server) = (tempfile::tempdir().unwrap(), NameServer::start().await);
    server.set_both("gw.test", &reply(&["192.0.2.1"], 0));
    server.set("gw.test", RecordType::AAAA, Reply::Empty);
    let (resolver, mut events) = Resolver::start(config(&dir, Some(server.address)), vec![]);
    resolver.set_names(names(&["gw.test"]));
    resolved(next(&mut events).await);
    for (bad, told) in [
        (Reply::NoSuchName, "there is no such name"),
        (Reply::Empty, "it has no addresses"),
        (Reply::Fail, "the look-up failed"),
        (Reply::Silence, "did not answer in time"),
    ] {
        server.set_both("gw.test", &bad);
        let (why, keeping) = loop {
            let (why, keeping) = failed(next(&mut events).await);
            if why.contains(told) {
                break (why, keeping);
            }
        };
        assert!(keeping, "{why}");
    }
    server.set_both("gw.test", &reply(&["192.0.2.7"], 0));
    loop {
        if let Event::Resolved {
            addresses: found, ..
        } = next(&mut events).await
        {
            assert_eq!(found, addresses(&["192.0.2.7"]));
            break;
        }
    }
}

#[tokio::test]
async fn what_an_earlier_run_knew_counts_for_as_long_as_it_may() {
    let (dir, server) = (tempfile::tempdir().unwrap(), NameServer::start().await);
    let known = |name: &str, age| Known {
        name: name.to_owned(),
        addresses: vec![("192.0.2.1".parse().unwrap(), age)],
    };
    let soon = quick().keep.saturating_sub(Duration::from_millis(900));
    let stale = quick().keep + Duration::from_secs(1);
    let seeds = vec![known("soon.test", soon), known("stale.test", stale)];
    let (resolver, mut events) = Resolver::start(config(&dir, Some(server.address)), seeds);
    resolver.set_names(names(&["stale.test"]));
    assert!(!failed(next(&mut events).await).1);
    resolver.set_names(names(&["soon.test"]));
    let mut kept = Vec::new();
    while kept.last() != Some(&false) {
        if let Event::Failed { name, keeping, .. } = next(&mut events).await
            && name == "soon.test"
        {
            kept.push(keeping);
        }
    }
    assert!(kept[0], "{kept:?}");
}

#[tokio::test]
async fn a_family_that_is_not_answered_keeps_its_addresses() {
    let (dir, server) = (tempfile::tempdir().unwrap(), NameServer::start().await);
    server.set("gw.test", RecordType::A, reply(&["192.0.2.1"], 0));
    server.set("gw.test", RecordType::AAAA, reply(&["2001:db8::1"], 0));
    let (resolver, mut events) = Resolver::start(config(&dir, Some(server.address)), vec![]);
    resolver.set_names(names(&["gw.test"]));
    assert_eq!(resolved(next(&mut events).await).0.len(), 2);
    server.set("gw.test", RecordType::A, reply(&["192.0.2.2"], 0));
    server.set("gw.test", RecordType::AAAA, Reply::Fail);
    let Event::Resolved {
        addresses: found,
        kept,
        ..
    } = next(&mut events).await
    else {
        panic!("it resolves");
    };
    assert_eq!(found, addresses(&["192.0.2.2", "2001:db8::1"]));
    let [(address, age)] = kept[..] else {
        panic!("{kept:?}");
    };
    assert_eq!(address, found[1]);
    assert!(age >= quick().shortest, "{age:?}");
    // An answer that there is none is an answer.
    server.set("gw.test", RecordType::AAAA, Reply::Empty);
    while resolved(next(&mut events).await).0 != addresses(&["192.0.2.2"]) {}
}

#[tokio::test]
async fn each_address_of_an_earlier_run_counts_for_as_long_as_it_may() {
    let (dir, server) = (tempfile::tempdir().unwrap(), NameServer::start().await);
    let left = |left| quick().keep.saturating_sub(left);
    let known = Known {
        name: "gw.test".to_owned(),
        addresses: vec![
            ("192.0.2.1".parse().unwrap(), Duration::ZERO),
            (
                "2001:db8::1".parse().unwrap(),
                left(Duration::from_millis(900)),
            ),
            ("2001:db8::2".parse().unwrap(), quick().keep * 2),
        ],
    };
    server.set("gw.test", RecordType::A, reply(&["192.0.2.1"], 0));
    server.set("gw.test", RecordType::AAAA, Reply::Fail);
    let (resolver, mut events) = Resolver::start(config(&dir, Some(server.address)), vec![known]);
    resolver.set_names(names(&["gw.test"]));
    let (found, _) = resolved(next(&mut events).await);
    assert_eq!(found, addresses(&["192.0.2.1", "2001:db8::1"]));
    while resolved(next(&mut events).await).0 != addresses(&["192.0.2.1"]) {}
}

#[tokio::test]
async fn addresses_that_no_peer_can_have_are_ignored() {
    let (dir, server) = (tempfile::tempdir().unwrap(), NameServer::start().await);
    let mixed = [
        "0.0.0.0",
        "127.0.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
    ];
    server.set("mixed.test", RecordType::A, reply(&mixed, 60));
    let six = ["::", "::1", "ff02::1", "::ffff:192.0.2.7", "2001:db8::1"];
    server.set("mixed.test", RecordType::AAAA, reply(&six, 60));
    server.set("blocked.test", RecordType::A, reply(&["0.0.0.0"], 60));
    server.set("blocked.test", RecordType::AAAA, reply(&["::"], 60));
    let (resolver, mut events) = Resolver::start(config(&dir, Some(server.address)), vec![]);
    resolver.set_names(names(&["mixed.test"]));
    let (found, _) = resolved(next(&mut events).await);
    assert_eq!(found, addresses(&["192.0.2.1", "192.0.2.7", "2001:db8::1"]));
    resolver.set_names(names(&["blocked.test"]));
    let (why, keeping) = failed(next(&mut events).await);
    assert!(why.contains("0.0.0.0") && !keeping, "{why}");
}

#[tokio::test]
async fn a_name_has_at_most_64_addresses() {
    let found =
        (0..200u32).map(|n| IpAddr::from(Ipv6Addr::from(0x2001_0db8u128 << 96 | u128::from(n))));
    let kept = addresses::useful("many.test", found).unwrap();
    assert_eq!(kept.len(), MAX_ADDRESSES);
    assert_eq!(kept[0].to_string(), "2001:db8::");
}

#[tokio::test]
async fn the_hosts_file_comes_first() {
    let (dir, server) = (tempfile::tempdir().unwrap(), NameServer::start().await);
    server.set_both("gw.test", &reply(&["192.0.2.1"], 60));
    fs::write(dir.path().join("hosts"), "192.0.2.50 gw.test gw\n").unwrap();
    let (resolver, mut events) = Resolver::start(config(&dir, Some(server.address)), vec![]);
    resolver.set_names(names(&["gw.test"]));
    assert_eq!(
        resolved(next(&mut events).await).0,
        addresses(&["192.0.2.50"])
    );
    assert_eq!(server.asked("gw.test"), 0);
}

#[tokio::test]
async fn the_name_of_an_address_is_for_the_log() {
    let (dir, server) = (tempfile::tempdir().unwrap(), NameServer::start().await);
    let config = config(&dir, Some(server.address));
    let pointer = |text: &str, to| server.set(text, RecordType::PTR, Reply::Pointer(to));
    pointer("1.2.0.192.in-addr.arpa", "Host-1.univ.test.");
    pointer("2.2.0.192.in-addr.arpa", "a\\032line\\010break.test.");
    let name = async |text: &str| name_of(&config, text.parse().unwrap()).await;
    assert_eq!(name("192.0.2.1").await.as_deref(), Some("Host-1.univ.test"));
    assert_eq!(
        name("192.0.2.2").await,
        None,
        "not what a log line may hold"
    );
    assert_eq!(name("192.0.2.3").await, None, "no such name");
}

#[tokio::test]
async fn an_empty_resolv_conf_is_tried_again_later() {
    let (dir, server) = (tempfile::tempdir().unwrap(), NameServer::start().await);
    let (resolver, mut events) = Resolver::start(config(&dir, None), vec![]);
    resolver.set_names(names(&["gw.test"]));
    let (why, _) = failed(next(&mut events).await);
    assert!(why.contains("resolv.conf"), "{why}");
    fs::write(dir.path().join("resolv.conf"), "# no name server yet\n").unwrap();
    while !failed(next(&mut events).await).0.contains("no nameservers") {}
    fs::write(dir.path().join("hosts"), "192.0.2.50 gw.test\n").unwrap();
    loop {
        if let Event::Resolved {
            addresses: found, ..
        } = next(&mut events).await
        {
            assert_eq!(found, addresses(&["192.0.2.50"]));
            break;
        }
    }
    drop(server);
}

#[tokio::test]
async fn a_name_with_a_dot_is_meant_as_it_is() {
    let name = |text: &str| hickory_resolver::proto::rr::Name::from_utf8(text).unwrap();
    let search = [name("univ.test."), name("test.")];
    let shown = |text| {
        lookup::candidates(&name(text), &search)
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(shown("gw"), ["gw.univ.test.", "gw.test.", "gw."]);
    assert_eq!(shown("gw.partner.example"), ["gw.partner.example."]);
    assert_eq!(shown("gw."), ["gw."]);
}

#[tokio::test]
async fn many_names_are_asked_for_a_few_at_a_time() {
    let (dir, server) = (tempfile::tempdir().unwrap(), NameServer::start().await);
    let all: Vec<String> = (0..100).map(|n| format!("host-{n}.test")).collect();
    for name in &all {
        server.set(name, RecordType::A, reply(&["192.0.2.1"], 60));
        server.set(name, RecordType::AAAA, Reply::Empty);
    }
    let (resolver, mut events) = Resolver::start(config(&dir, Some(server.address)), vec![]);
    resolver.set_names(all.clone());
    for _ in &all {
        resolved(next(&mut events).await);
    }
    assert_eq!(server.questions.lock().unwrap().len(), 200);
    resolver.set_names(vec![]);
}

#[tokio::test]
async fn at_most_eight_names_wait_for_an_answer() {
    let (dir, server) = (tempfile::tempdir().unwrap(), NameServer::start().await);
    let all: Vec<String> = (0..50).map(|n| format!("host-{n}.test")).collect();
    for name in &all {
        server.set_both(name, &Reply::Silence);
    }
    let mut config = config(&dir, Some(server.address));
    config.timing.lookup = Duration::from_secs(15);
    let (resolver, mut events) = Resolver::start(config, vec![]);
    resolver.set_names(all);
    let waiting = || {
        let questions = server.questions.lock().unwrap();
        let names: std::collections::HashSet<_> = questions.iter().map(|(name, _)| name).collect();
        names.len()
    };
    while waiting() < 8 {
        tokio::task::yield_now().await;
    }
    let silence = timeout(Duration::from_millis(300), events.recv()).await;
    assert!(silence.is_err(), "{silence:?}");
    assert_eq!(waiting(), 8);
}

#[tokio::test]
async fn without_names_nothing_happens() {
    let (dir, server) = (tempfile::tempdir().unwrap(), NameServer::start().await);
    server.set_both("gw.test", &reply(&["192.0.2.1"], 0));
    let (resolver, mut events) = Resolver::start(config(&dir, Some(server.address)), vec![]);
    resolver.set_names(names(&["gw.test"]));
    resolved(next(&mut events).await);
    resolver.set_names(vec![]);
    let before = server.asked("gw.test");
    // Three times what the name would have been asked for again in.
    let silence = timeout(quick().shortest * 3, events.recv()).await;
    assert!(silence.is_err(), "{silence:?}");
    assert!(server.asked("gw.test") <= before + 2);
    drop(resolver);
    assert!(
        timeout(Duration::from_secs(5), events.recv())
            .await
            .unwrap()
            .is_none()
    );
}
