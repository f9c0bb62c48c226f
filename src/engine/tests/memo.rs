//! What is remembered of what is decided.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::properties::{Step, event, policy_with, step};
use super::*;

impl Bench {
    fn news(&mut self) -> Vec<(What, Option<IpNet>, String, bool)> {
        let records = self.engine.take_news().records;
        let short = |r: Record| (r.what, r.net, r.why, r.by_hand);
        records.into_iter().map(short).collect()
    }
}

#[test]
fn news_that_are_forgotten_are_not_told_later() {
    let mut bench = Bench::appliance();
    bench.knocked(A, "opencloseSSH");
    bench.engine.forget_news();
    assert_eq!(bench.engine.take_news(), News::default());
    bench.knocked(B, "opencloseSSH");
    let news = bench.engine.take_news();
    assert_eq!((news.memos.len(), news.records.len()), (1, 1));
}

#[test]
fn every_decision_is_recorded_with_its_reason() {
    let mut bench = Bench::appliance();
    let by = |why: &str| why.to_owned();
    let (a, b) = (Some(net(A)), Some(net(B)));
    let root = "knockctl by root";

    bench.knocked(A, "opencloseSSH");
    let accepted = (What::Accepted, a, by("opencloseSSH"), false);
    assert_eq!(bench.news(), [accepted]);
    bench.knocked(A, "banned1");
    let banned = (What::Banned, a, by("banned1"), false);
    let ended = (What::Withdrawn, a, by("banned"), false);
    assert_eq!(bench.news(), [banned, ended]);
    bench.knocked(A, "opencloseSSH");
    let refused = (What::Refused, a, by("opencloseSSH"), false);
    assert_eq!(bench.news(), [refused]);
    bench.accept(A, false);
    let refused = (What::Refused, None, by(root), true);
    assert_eq!(bench.news(), [refused]);
    bench.accept(A, true);
    let unbanned = (What::Unbanned, a, by(root), true);
    let accepted = (What::Accepted, a, by(root), true);
    assert_eq!(bench.news(), [unbanned, accepted]);
    bench.tick_after(300);
    let expired = (What::Expired, a, by("filter"), false);
    assert_eq!(bench.news(), [expired]);
    bench.drop(B, false);
    let banned = (What::Banned, b, by(root), true);
    assert_eq!(bench.news(), [banned]);
    bench.command(Command::Flush {
        what: vec![Flush::All],
        gates: vec![],
    });
    let flushed = (What::Flushed, None, by(root), true);
    assert_eq!(bench.news(), [flushed]);
    bench.handle(Event::Swept { source: address(B) });
    let swept = (What::Swept, b, by(SCAN_GUARD), false);
    assert_eq!(bench.news(), [swept]);
}

#[test]
fn what_a_sweep_takes_back_is_recorded_like_what_it_was_granted() {
    let mut policy = appliance();
    let opens = knock("fire", "1 2", KnockAction::Open);
    let trusts = knock("friend", "3 4", KnockAction::Trust);
    policy.knocks.extend([opens, trusts]);
    let mut bench = Bench::new(policy);
    let cases = [
        ("opencloseSSH", What::Withdrawn),
        ("fire", What::Closed),
        ("friend", What::Untrusted),
    ];
    for (name, what) in cases {
        bench.knocked(A, name);
        assert_eq!(bench.news().len(), 1, "{name}");
        let knock = crate::model::KnockName::new(name).unwrap();
        for expected in [1, 0] {
            let (source, knock) = (address(A), knock.clone());
            bench.handle(Event::Undone { source, knock });
            let recorded = (what, Some(net(A)), name.to_owned(), false);
            assert_eq!(bench.news(), vec![recorded; expected]);
        }
    }
}

#[test]
fn a_flood_of_refusals_is_counted_instead() {
    let mut bench = Bench::appliance();
    bench.drop(A, false);
    bench.engine.take_news();
    for _ in 0..10_000 {
        bench.knocked(A, "opencloseSSH");
    }
    let news = bench.engine.take_news();
    assert!(news.records.len() <= 101, "{}", news.records.len());
    assert_eq!(news.records.len() as u64 + news.unrecorded, 10_000);
}

#[test]
fn what_is_restored_counts_as_it_did_before() {
    let mut bench = Bench::appliance();
    bench.knocked(A, "opencloseSSH");
    bench.knocked(B, "banned1");
    bench.drop(SIX, false);
    let before = bench.engine.everything();
    let mut after = Bench::appliance();
    after.handle(Event::Restore(before.members.clone()));
    assert_eq!(after.engine.everything(), before);
    // A forged flood evicts the bans by knock that were restored, and none by hand.
    after.now = Time::from_secs(2000);
    for n in 0..70_000u32 {
        let net = IpNet::from(IpAddr::from((0x0a00_0000 + n).to_be_bytes()));
        let grant = Grant {
            deadline: Deadline::Never,
            reason: "banned1".into(),
        };
        after.engine.ledgers[0].ban(net, grant, true);
    }
    let ledger = &after.engine.ledgers[0];
    assert!(ledger.banned().get(net(B)).is_none());
    assert!(ledger.banned().get(net(SIX)).is_some());
}

#[test]
fn trust_ends_what_would_be_restored() {
    let mut bench = Bench::appliance();
    bench.drop(A, false);
    bench.drop(B, false);
    let before = bench.engine.everything().members;
    let mut policy = appliance();
    policy.never_ban = vec![net(B)];
    let mut after = Bench::new(policy);
    after.whitelist(&[A]);
    after.handle(Event::Restore(before));
    assert_eq!(after.engine.everything().members, []);
}

#[test]
fn what_is_over_by_now_is_not_restored() {
    let mut bench = Bench::appliance();
    bench.knocked(A, "opencloseSSH");
    let before = bench.engine.everything().members;
    bench.wait(300);
    let mut after = Bench::appliance();
    after.now = bench.now;
    after.handle(Event::Restore(before));
    assert_eq!(after.engine.everything().members, []);
}

type Written = BTreeMap<(GateName, Chain, IpNet), Kept>;

fn write(written: &mut Written, memos: Vec<Memo>) {
    for memo in memos {
        match memo {
            Memo::Keep(kept) => {
                written.insert((kept.gate.clone(), kept.chain, kept.net), kept);
            }
            Memo::Forget(gate, chain, net) => drop(written.remove(&(gate, chain, net))),
            Memo::ForgetGate(gate) => written.retain(|(name, ..), _| *name != gate),
            Memo::Owe(_) | Memo::Settled(_) => unreachable!("nothing is run here"),
        }
    }
}

proptest! {
    #[test]
    fn what_was_told_bit_by_bit_is_all_there_is(steps in prop::collection::vec(step(), 1..60)) {
        let policy = policy_with(128);
        let mut bench = Bench::new(policy.clone());
        let mut written = Written::new();
        for step in steps {
            if let Step::Wait(secs) = step {
                bench.wait(secs);
            }
            bench.handle(event(&step, &policy));
            write(&mut written, bench.engine.take_news().memos);
            let all = bench.engine.everything().members;
            let all: Written = all
                .into_iter()
                .map(|kept| ((kept.gate.clone(), kept.chain, kept.net), kept))
                .collect();
            prop_assert_eq!(&written, &all);
        }
    }

    #[test]
    fn a_restart_changes_nothing_about_who_gets_in(steps in prop::collection::vec(step(), 1..60)) {
        let policy = policy_with(128);
        let mut bench = Bench::new(policy.clone());
        for step in steps {
            if matches!(step, Step::Reload(_)) {
                continue;
            }
            if let Step::Wait(secs) = step {
                bench.wait(secs);
            }
            bench.handle(event(&step, &policy));
        }
        let everything = bench.engine.everything();
        let mut after = Bench::new(policy);
        after.now = bench.now;
        after.handle(Event::Restore(everything.members.clone()));
        prop_assert_eq!(after.engine.everything().members, everything.members);
    }
}
