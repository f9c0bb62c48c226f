//! kill -9 at every step of a start and of every change, while people keep knocking at the door: at
//! no moment is a stranger let in or a trusted machine refused, and after the next start every
//! member is there with its true time.
//!
//! A step is a system call that changes something outside of the process: a message to the kernel,
//! a write, a sync, a rename. strace kills on the way into the n-th of a kind, so that the last one
//! before is done and nothing after it. On iptables it is as often one of the programs that the
//! daemon runs which dies.

use std::time::Duration;

use ipnet::IpNet;
use portcullis::model::{Chain, Lifetime};

use crate::operations::{Chance, hosts_of, net};
use crate::scenarios;
use crate::siege::{Cut, Siege, each_step, thorough};
use crate::world::{Tried, backend};

scenarios![
    at_any_step_of_a_start,
    at_any_step_of_a_change,
    at_any_step_of_an_acceptance_out_of_a_banned_network,
    at_random_moments,
];

/// How far apart the steps of a start are, of which there are many.
const OF_A_START: usize = 24;

fn at_any_step_of_a_start() -> Tried {
    let mut siege = Siege::begin()?;
    let mut chance = Chance::new(Chance::seed("steps of a start"));
    let deaths = each_step(&mut chance, OF_A_START, |calls, step| {
        siege.world.daemon.kill_9();
        let died = siege.dies_at_start(&format!("{calls}:signal=KILL:when={step}"))?;
        siege.world.daemon.kill_9();
        siege.world.daemon.start()?;
        siege.holds(&format!("after a death at {calls} {step} of a start"));
        Ok(died)
    })?;
    assert!(deaths > 0, "it never died");
    siege.say("a start", deaths)
}

/// A change, what holds afterwards if it was done, and what takes it back.
type Change = (
    &'static [&'static str],
    (&'static str, &'static str),
    &'static [&'static str],
);

pub(crate) const CHANGES: [Change; 4] = [
    (
        &["accept", "192.0.2.10", "--for", "1h"],
        ("ssh_filter", "192.0.2.10"),
        &["flush", "192.0.2.10"],
    ),
    (
        &["drop", "192.0.2.11", "--for", "1h"],
        ("ssh_banned", "192.0.2.11"),
        &["unban", "192.0.2.11"],
    ),
    (
        &["trust", "192.0.2.12"],
        ("ssh_trusted", "192.0.2.12"),
        &["untrust", "192.0.2.12"],
    ),
    (
        &["trust", "2001:db8::12", "--runtime"],
        ("ssh_trusted", "2001:db8::12"),
        &["untrust", "2001:db8::12"],
    ),
];

/// Every step on nftables; on iptables, where everything takes longer, some of them, others each
/// time.
fn of_a_change() -> usize {
    if backend() == "nftables" { 1 } else { 24 }
}

fn at_any_step_of_a_change() -> Tried {
    let mut siege = Siege::begin()?;
    let mut chance = Chance::new(Chance::seed("steps of changes"));
    let mut deaths = 0;
    for (words, (chain, address), back) in CHANGES {
        deaths += each_step(&mut chance, of_a_change(), |calls, step| {
            let Cut { died, told, reply } = siege.cut_short(words, calls, step)?;
            siege.holds(&told);
            let there = siege.world.member(chain, address).is_some();
            // What was answered with "done" is done.
            assert!(there || reply.code != Some(0), "{told}");
            siege.world.expect(0, back);
            Ok(died)
        })?;
    }
    assert!(deaths > 0, "it never died");
    siege.say("changes", deaths)
}

/// Somebody of a banned network is accepted by force.
pub(crate) const NETWORK: &str = "203.0.113.0/28";
pub(crate) const OUT_OF_IT: &str = "203.0.113.9";

fn at_any_step_of_an_acceptance_out_of_a_banned_network() -> Tried {
    let mut siege = Siege::begin()?;
    let mut chance = Chance::new(Chance::seed("steps of an acceptance by force"));
    let words = ["accept", OUT_OF_IT, "--force", "--for", "1h"];
    let deaths = each_step(&mut chance, of_a_change(), |calls, step| {
        siege.world.expect(0, &["drop", NETWORK, "--for", "2h"]);
        let cut = siege.cut_short(&words, calls, step)?;
        siege.holds(&cut.told);
        rest_is_banned(&siege, &cut);
        siege.world.expect(0, &["flush", OUT_OF_IT]);
        Ok(cut.died)
    })?;
    assert!(deaths > 0, "it never died");
    siege.say("an acceptance out of a banned network", deaths)
}

/// Whoever is in the network besides is banned for as long as before; whoever was accepted, if that
/// was answered, is.
pub(crate) fn rest_is_banned(siege: &Siege, cut: &Cut) {
    let (held, ..) = siege.held();
    let covers = |chain, whom: IpNet| {
        let mut members = held.iter();
        members.find(|m| m.chain == chain && m.net.contains(&whom))
    };
    let out = net(OUT_OF_IT);
    for host in hosts_of(net(NETWORK))
        .into_iter()
        .filter(|&host| host != out)
    {
        let ban = covers(Chain::Banned, host);
        let Some(Lifetime::For(left)) = ban.map(|ban| ban.remaining) else {
            panic!(
                "{host} is not banned any more, or for good: {ban:?} {}",
                cut.told
            );
        };
        let fits = left > Duration::from_secs(7_100) && left <= Duration::from_secs(7_201);
        assert!(fits, "{host} is banned for {left:?} {}", cut.told);
    }
    if cut.is_done() {
        assert!(covers(Chain::Banned, out).is_none(), "{}", cut.told);
        assert!(covers(Chain::Filter, out).is_some(), "{}", cut.told);
    }
}

fn at_random_moments() -> Tried {
    let mut siege = Siege::begin()?;
    let mut chance = Chance::new(Chance::seed("random moments"));
    let rounds = if thorough() { 200 } else { 8 };
    for round in 0..rounds {
        let words: &[&str] = chance.one_of(&[
            &["accept", "192.0.2.10", "--for", "1h"][..],
            &["drop", "192.0.2.11"],
            &["trust", "192.0.2.12"],
            &["untrust", "192.0.2.12"],
            &["reload"],
        ]);
        let mut asked = siege.world.server.command(env!("CARGO_BIN_EXE_knockctl"))?;
        let asked = asked
            .arg("--socket")
            .arg(siege.world.daemon.socket_path())
            .args(words);
        let mut asked = asked
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()?;
        std::thread::sleep(Duration::from_micros(chance.below(40_000) as u64));
        siege.world.daemon.kill_9();
        drop(asked.wait());
        // Half of them die again on their way up.
        if chance.below(2) == 0 {
            siege.world.daemon.spawn()?;
            std::thread::sleep(Duration::from_micros(chance.below(150_000) as u64));
            siege.world.daemon.kill_9();
        }
        siege.world.daemon.start()?;
        siege.holds(&format!("after round {round}"));
    }
    siege.say("random moments", rounds)
}
