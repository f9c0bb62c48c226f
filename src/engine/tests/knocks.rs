#![allow(clippy::cast_possible_truncation, reason = "small numbers, in a test")]

use super::*;

#[test]
fn accept_is_for_the_gates_accept_timeout() {
    let mut bench = Bench::appliance();
    bench.knocked(A, "opencloseSSH");
    assert_eq!(
        bench.changes(),
        [format!("+ssh_filter {A}/32 300 opencloseSSH")]
    );
    assert!(bench.lets_in(A) && !bench.lets_in(B));
    bench.tick_after(300);
    assert!(!bench.lets_in(A));
    assert!(bench.logged("the acceptance of 198.51.100.7 is over"));
}

#[test]
fn or_for_the_knocks_own_time() {
    let mut policy = appliance();
    policy.knocks[0].lifetime = Some(Lifetime::For(Duration::from_secs(60)));
    let mut bench = Bench::new(policy);
    bench.knocked(A, "opencloseSSH");
    assert_eq!(bench.members(Chain::Filter), [left(A, 60)]);
}

#[test]
fn knocking_again_restores_the_full_time() {
    let mut bench = Bench::appliance();
    bench.knocked(A, "opencloseSSH");
    bench.wait(200);
    bench.knocked(A, "opencloseSSH");
    assert_eq!(bench.members(Chain::Filter), [left(A, 300)]);
    bench.tick_after(299);
    assert!(bench.lets_in(A));
    bench.tick_after(1);
    assert!(!bench.lets_in(A));
}

#[test]
fn knocking_never_shortens_a_longer_acceptance() {
    let mut bench = Bench::appliance();
    bench.command(Command::Accept {
        addresses: vec![address(A)],
        gates: vec![],
        lifetime: Some(Lifetime::For(Duration::from_secs(3600))),
        force: false,
    });
    bench.knocked(A, "opencloseSSH");
    assert_eq!(bench.members(Chain::Filter), [left(A, 3600)]);
}

#[test]
fn a_banned_sources_knocks_grant_nothing() {
    let mut policy = appliance();
    for (name, action) in [("t", KnockAction::Trust), ("o", KnockAction::Open)] {
        policy.knocks.push(knock(name, "1 2", action));
    }
    let mut bench = Bench::new(policy);
    bench.knocked(A, "banned1");
    for knock in ["opencloseSSH", "t", "o"] {
        bench.knocked(A, knock);
        assert!(bench.changes().is_empty(), "{knock}");
        assert!(bench.logged("nothing granted"));
    }
    assert!(!bench.lets_in(A) && !bench.lets_in(B));
}

#[test]
fn drop_bans_for_the_gates_ban_timeout() {
    let mut bench = Bench::appliance();
    bench.knocked(A, "banned3");
    assert_eq!(
        bench.changes(),
        [format!("+ssh_banned {A}/32 never banned3")]
    );
    let mut policy = appliance();
    policy.gates[0].ban_timeout = Lifetime::For(Duration::from_secs(60));
    let mut bench = Bench::new(policy);
    bench.knocked(A, "banned3");
    bench.tick_after(60);
    assert!(bench.members(Chain::Banned).is_empty());
    bench.knocked(A, "opencloseSSH");
    assert!(bench.lets_in(A));
}

#[test]
fn a_ban_ends_a_running_acceptance() {
    let mut bench = Bench::appliance();
    bench.knocked(A, "opencloseSSH");
    bench.knocked(A, "banned1");
    let expected = [
        format!("+ssh_banned {A}/32 never banned1"),
        format!("-ssh_filter {A}/32"),
    ];
    assert_eq!(bench.changes(), expected, "the ban first");
    bench.command(Command::Unban {
        nets: vec![net(A)],
        gates: vec![],
    });
    assert!(!bench.lets_in(A), "the acceptance does not come back");
}

#[test]
fn drop_never_touches_a_trusted_address() {
    let mut bench = Bench::appliance();
    bench.whitelist(&["198.51.100.0/24"]);
    bench.knocked(A, "banned1");
    assert!(bench.changes().is_empty());
    assert!(bench.logged("198.51.100.0/24 is trusted"));
    assert!(bench.lets_in(A));
}

#[test]
fn drop_never_touches_an_address_of_this_host() {
    let mut bench = Bench::appliance();
    bench.handle(Event::OwnAddresses(vec![address(A)]));
    bench.knocked(A, "banned1");
    assert!(bench.changes().is_empty() && bench.logged("an address of this host"));
    assert_eq!(
        bench.drop("198.51.100.0/24", true).code,
        4,
        "not even with --force"
    );
}

#[test]
fn drop_never_touches_never_ban() {
    let mut policy = appliance();
    policy.never_ban = vec![net("198.51.100.0/24")];
    let mut bench = Bench::new(policy);
    bench.knocked(A, "banned1");
    assert!(bench.changes().is_empty() && bench.logged("in never_ban"));
    let outcome = bench.drop("198.51.0.0/16", false);
    assert_eq!(outcome.code, 4);
    assert!(
        outcome.refused[0].contains("198.51.100.0/24 is in never_ban"),
        "{outcome:?}"
    );
}

#[test]
fn an_ipv6_prefix_ban_that_contains_a_trusted_entry_falls_back_to_one_address() {
    let mut policy = appliance();
    policy.gates[0].ipv6_prefix = 64;
    let mut bench = Bench::new(policy);
    bench.whitelist(&["2001:db8:1:2::1"]);
    bench.knocked(SIX, "banned1");
    assert_eq!(bench.members(Chain::Banned), [for_good(SIX)]);
    bench.knocked("2001:db8:1:2::1", "banned1");
    assert!(bench.changes().is_empty());
    bench.knocked("2001:db8:1:3::1", "banned1");
    assert!(
        bench
            .members(Chain::Banned)
            .contains(&for_good("2001:db8:1:3::/64"))
    );
}

#[test]
fn ipv6_acceptances_and_bans_cover_one_address_unless_the_gate_says_64() {
    let mut bench = Bench::appliance();
    bench.knocked(SIX, "opencloseSSH");
    assert_eq!(bench.members(Chain::Filter), [left(SIX, 300)]);
    assert!(!bench.lets_in("2001:db8:1:2::8"));
    let mut policy = appliance();
    policy.gates[0].ipv6_prefix = 64;
    let mut bench = Bench::new(policy);
    bench.knocked(SIX, "opencloseSSH");
    assert!(bench.lets_in("2001:db8:1:2::8") && !bench.lets_in("2001:db8:1:3::8"));
    bench.knocked(A, "opencloseSSH");
    assert!(!bench.lets_in("198.51.100.8"), "IPv4 is one address always");
}

#[test]
fn a_mapped_address_is_the_ipv4_address() {
    let mut bench = Bench::appliance();
    bench.knocked("::ffff:198.51.100.7", "opencloseSSH");
    assert_eq!(bench.members(Chain::Filter), [left(A, 300)]);
}

#[test]
fn trust_by_knock_lasts_until_the_daemon_restarts() {
    let mut policy = appliance();
    policy
        .knocks
        .push(knock("friend", "1 2", KnockAction::Trust));
    let mut bench = Bench::new(policy);
    bench.knocked(A, "friend");
    assert_eq!(
        bench.changes(),
        [format!("+ssh_trusted {A}/32 never friend")]
    );
    assert!(
        !bench.actions.iter().any(|a| matches!(a, Action::Store(_))),
        "not stored"
    );
    bench.whitelist(&[]);
    assert!(bench.lets_in(A), "a reload of the file does not end it");
}

#[test]
fn flush_by_knock_withdraws_the_sources_own_acceptance() {
    let mut policy = appliance();
    policy.knocks.push(knock("bye", "1 2", KnockAction::Flush));
    let mut bench = Bench::new(policy);
    bench.knocked(A, "opencloseSSH");
    bench.knocked(B, "opencloseSSH");
    bench.knocked(A, "bye");
    assert_eq!(bench.changes(), [format!("-ssh_filter {A}/32")]);
    assert!(!bench.lets_in(A) && bench.lets_in(B));
    bench.knocked(A, "bye");
    assert!(bench.changes().is_empty());
}

#[test]
fn open_lets_everybody_but_the_banned_in_and_close_ends_that() {
    let mut policy = appliance();
    policy.knocks.push(knock("fire", "1 2", KnockAction::Open));
    policy.knocks.push(knock("out", "2 1", KnockAction::Close));
    policy.knocks[6].lifetime = Some(Lifetime::For(Duration::from_secs(60)));
    let mut bench = Bench::new(policy);
    bench.knocked(A, "banned1");
    bench.knocked(B, "fire");
    assert_eq!(
        bench.changes(),
        ["+ssh_filter 0.0.0.0/0 60 fire", "+ssh_filter ::/0 60 fire"]
    );
    assert!(bench.lets_in("192.0.2.200") && bench.lets_in(SIX) && !bench.lets_in(A));
    bench.knocked(B, "out");
    assert_eq!(
        bench.changes(),
        ["-ssh_filter 0.0.0.0/0", "-ssh_filter ::/0"]
    );
    assert!(!bench.lets_in("192.0.2.200"));
    bench.knocked(B, "fire");
    bench.tick_after(60);
    assert!(!bench.lets_in("192.0.2.200"), "and the time ends it too");
}

#[test]
fn a_knock_acts_on_its_own_gates_only() {
    let mut other = knock("both", "1 2", KnockAction::Accept);
    other.gates = vec![GateName::new("ssh").unwrap(), GateName::new("vpn").unwrap()];
    let policy = policy(
        vec![gate("ssh"), gate("vpn")],
        vec![knock("one", "3 4", KnockAction::Accept), other],
    );
    let mut bench = Bench::new(policy);
    bench.knocked(A, "one");
    assert_eq!(bench.changes(), [format!("+ssh_filter {A}/32 300 one")]);
    assert!(!bench.engine.lets_in(1, address(A)));
    bench.knocked(B, "both");
    assert_eq!(bench.changes().len(), 2);
    assert!(bench.engine.lets_in(1, address(B)));
}

#[test]
fn bans_by_knock_pass_a_token_bucket_of_ten_a_second() {
    let mut bench = Bench::appliance();
    for i in 0..100 {
        bench.knocked(&format!("10.0.0.{i}"), "banned1");
    }
    assert_eq!(bench.members(Chain::Banned).len(), 10);
    assert_eq!(bench.engine.refused_bans(), 90);
    bench.wait(1);
    for i in 100..200 {
        bench.knocked(&format!("10.0.0.{i}"), "banned1");
    }
    assert_eq!(bench.members(Chain::Banned).len(), 20);
}

#[test]
fn a_cap_evicts_the_oldest_ban_by_knock_and_bans_by_hand_are_never_evicted() {
    let mut ledger = Ledger::default();
    let ban = |reason: &str| Grant {
        deadline: Deadline::Never,
        reason: reason.to_owned(),
    };
    let nth = |i: usize| {
        net_of_prefix(
            IpAddr::from([10, (i >> 16) as u8, (i >> 8) as u8, i as u8]),
            32,
        )
    };
    assert_eq!(ledger.ban(net(A), ban("by hand"), false), None);
    assert_eq!(
        ledger.ban(net(A), ban("a decoy after that"), true),
        None,
        "stays by hand"
    );
    for i in 0..ledger::MOST_BANS_BY_KNOCK {
        assert_eq!(ledger.ban(nth(i), ban("decoy"), true), None);
    }
    assert_eq!(ledger.ban(nth(100_000), ban("decoy"), true), Some(nth(0)));
    assert_eq!(
        ledger.ban(nth(1), ban("decoy"), true),
        None,
        "again: it keeps its place"
    );
    assert_eq!(ledger.ban(nth(100_001), ban("decoy"), true), Some(nth(1)));
    assert!(ledger.banned().get(net(A)).is_some());
    assert_eq!(ledger.banned().len(), ledger::MOST_BANS_BY_KNOCK + 1);
}

#[test]
fn a_ban_that_is_restored_has_the_place_that_is_remembered() {
    let mut ledger = Ledger::default();
    let until = |secs| Grant {
        deadline: Deadline::At(Time::from_secs(secs)),
        reason: "decoy".to_owned(),
    };
    let place = |ledger: &Ledger, who: &str| ledger.banned().get(net(who)).unwrap().order();
    ledger.ban(net(A), until(10), true);
    ledger.restore_ban(net(A), until(20), Some(7));
    assert_eq!(place(&ledger, A), Some(7));
    ledger.ban(net(B), until(10), true);
    assert_eq!(place(&ledger, B), Some(8));
    ledger.ban(net(SIX), until(10), false);
    ledger.restore_ban(net(SIX), until(20), Some(9));
    assert_eq!(place(&ledger, SIX), None, "by hand it stays by hand");
}

#[test]
fn acceptances_have_an_end_and_whoever_is_in_stays_in() {
    let mut bench = Bench::appliance();
    let nth = |i: usize| format!("10.{}.{}.{}", i >> 16, i >> 8 & 255, i & 255);
    for i in 0..ledger::MOST_ACCEPTED {
        bench.knocked(&nth(i), "opencloseSSH");
    }
    bench.wait(1);
    let is_full = |bench: &Bench| bench.engine.gates(bench.now)[0].is_full;
    assert!(is_full(&bench));
    bench.knocked(A, "opencloseSSH");
    assert!(bench.changes().is_empty() && bench.logged("already are"));
    assert_eq!(bench.engine.refused().acceptances, 1);
    assert!(bench.lets_in(&nth(0)));
    bench.knocked(&nth(0), "opencloseSSH");
    assert_eq!(bench.changes().len(), 1, "who is in may knock again");
}

#[test]
fn trust_by_knock_has_an_end_and_whoever_has_it_keeps_it() {
    let mut policy = appliance();
    policy
        .knocks
        .push(knock("friend", "3 4", KnockAction::Trust));
    let mut bench = Bench::new(policy);
    for i in 0..u32::try_from(ledger::MOST_ACCEPTED).unwrap() {
        let runtime = Runtime {
            reason: "friend".to_owned(),
            stored: false,
        };
        let address = IpAddr::from((0x0a00_0000 + i).to_be_bytes());
        let trusted = &mut bench.engine.ledgers[0].runtime;
        trusted.insert(net_of_prefix(address, 32), runtime);
    }
    bench.knocked(A, "friend");
    assert!(!bench.lets_in(A) && bench.logged("not trusted at ssh: 65536 already are"));
    let records = bench.engine.take_news().records;
    assert_eq!(records[0].what, What::Refused);
    bench.knocked("10.0.0.1", "friend");
    assert!(bench.lets_in("10.0.0.1") && bench.logged("trusted at ssh until"));
    assert_eq!(bench.engine.refused().trust, 1);
}

#[test]
fn per_knock_how_often_it_opened() {
    let mut bench = Bench::appliance();
    bench.knocked(A, "opencloseSSH");
    bench.knocked(B, "opencloseSSH");
    bench.knocked(B, "banned1");
    let fired: Vec<u64> = bench.engine.knocks().iter().map(|k| k.completed).collect();
    assert_eq!(fired, [2, 1, 0, 0, 0, 0]);
}

#[test]
fn log_lines_from_packets_are_limited() {
    let mut bench = Bench::appliance();
    let mut lines = 0;
    for _ in 0..10_000 {
        bench.knocked(A, "opencloseSSH");
        lines += bench
            .actions
            .iter()
            .filter(|a| matches!(a, Action::Log(_)))
            .count();
    }
    assert_eq!(lines, 100);
    bench.wait(10);
    bench.knocked(A, "opencloseSSH");
    assert!(bench.logged("9900 lines were left out"));
}

#[test]
fn a_sweep_is_logged_and_bans_only_where_the_policy_says_so() {
    let mut bench = Bench::appliance();
    bench.handle(Event::Swept { source: address(A) });
    assert!(bench.changes().is_empty() && bench.logged("sweeps ports"));
    let mut policy = appliance();
    policy.scan_guard.action = crate::policy::ScanAction::Drop;
    let mut bench = Bench::new(policy);
    bench.whitelist(&[B]);
    bench.handle(Event::Swept { source: address(A) });
    assert_eq!(
        bench.changes(),
        [format!("+ssh_banned {A}/32 never scan_guard")]
    );
    bench.handle(Event::Swept { source: address(B) });
    assert!(bench.changes().is_empty(), "never what is trusted");
}

fn undone(bench: &mut Bench, source: &str, knock: &str) {
    let knock = crate::model::KnockName::new(knock).unwrap();
    let source = address(source);
    bench.handle(Event::Undone { source, knock });
}

#[test]
fn what_a_knock_within_a_sweep_granted_is_taken_back() {
    let mut bench = Bench::appliance();
    bench.knocked(A, "opencloseSSH");
    bench.knocked(B, "opencloseSSH");
    undone(&mut bench, A, "opencloseSSH");
    assert_eq!(bench.changes(), [format!("-ssh_filter {A}/32")]);
    assert!(bench.logged("it was part of a sweep"));
    assert_eq!(bench.members(Chain::Filter), [left(B, 300)]);
    undone(&mut bench, A, "opencloseSSH");
    assert!(bench.changes().is_empty(), "there is nothing left");
}

#[test]
fn opening_and_trust_by_such_a_knock_end_too_and_a_ban_does_not() {
    let mut policy = appliance();
    policy.knocks.push(knock("fire", "1 2", KnockAction::Open));
    policy
        .knocks
        .push(knock("friend", "3 4", KnockAction::Trust));
    let mut bench = Bench::new(policy);
    for name in ["fire", "friend", "banned1"] {
        bench.knocked(if name == "banned1" { B } else { A }, name);
    }
    undone(&mut bench, A, "fire");
    undone(&mut bench, A, "friend");
    undone(&mut bench, B, "banned1");
    assert!(bench.members(Chain::Filter).is_empty());
    assert!(bench.members(Chain::Trusted).is_empty());
    assert_eq!(bench.members(Chain::Banned), [for_good(B)]);
}

#[test]
fn what_somebody_else_granted_is_not_taken_back() {
    let mut bench = Bench::appliance();
    bench.command(Command::Accept {
        addresses: vec![address(A)],
        gates: vec![],
        lifetime: Some(Lifetime::For(Duration::from_secs(3600))),
        force: false,
    });
    bench.knocked(A, "opencloseSSH");
    undone(&mut bench, A, "opencloseSSH");
    assert_eq!(bench.members(Chain::Filter), [left(A, 3600)]);
}

#[test]
fn trust_by_a_knock_takes_nothing_from_trust_by_hand_and_nothing_is_stored_of_it() {
    let mut policy = appliance();
    let trusts = knock("friend", "3 4", KnockAction::Trust);
    policy.knocks.push(trusts);
    let mut bench = Bench::new(policy);
    let gate = bench.engine.policy().gates[0].name.clone();
    bench.command(Command::Trust {
        nets: vec![net(A)],
        gates: vec![gate],
    });
    let stored = bench.engine.everything().trust;
    assert_eq!(stored.len(), 1);
    for who in [A, B] {
        bench.knocked(who, "friend");
        assert!(bench.lets_in(who));
        undone(&mut bench, who, "friend");
        let is_edit = |action: &Action| matches!(action, Action::Store(_));
        assert!(!bench.actions.iter().any(is_edit), "{:?}", bench.actions);
    }
    assert!(bench.lets_in(A) && !bench.lets_in(B));
    assert_eq!(bench.engine.everything().trust, stored);
}

#[test]
fn whoever_is_protected_does_not_use_up_the_bans_of_others() {
    let mut bench = Bench::appliance();
    bench.whitelist(&[B]);
    for _ in 0..100 {
        bench.knocked(B, "banned1");
    }
    bench.knocked(A, "banned1");
    assert_eq!(bench.members(Chain::Banned), [for_good(A)]);
}

#[test]
fn an_open_knock_never_shortens_what_was_opened_by_hand() {
    let mut policy = appliance();
    policy.knocks.push(knock("fire", "1 2", KnockAction::Open));
    let mut bench = Bench::new(policy);
    let lifetime = Some(Lifetime::For(Duration::from_secs(3600)));
    bench.command(Command::Open {
        gates: vec![],
        lifetime,
    });
    bench.knocked(A, "fire");
    assert!(
        bench
            .members(Chain::Filter)
            .contains(&left("0.0.0.0/0", 3600))
    );
}

#[test]
fn forged_sweeps_do_not_silence_the_log_of_decisions() {
    let mut bench = Bench::appliance();
    for i in 0..1000 {
        let source = address(&format!("10.0.{}.{}", i / 250, i % 250));
        bench.handle(Event::Swept { source });
    }
    bench.knocked(A, "opencloseSSH");
    assert!(bench.logged("accepted"));
}

#[test]
fn many_endings_at_once_are_not_a_line_each() {
    let mut bench = Bench::appliance();
    for i in 0..5000 {
        bench.knocked(&format!("10.0.{}.{}", i / 250, i % 250), "opencloseSSH");
    }
    bench.tick_after(300);
    let lines = bench.actions.iter().filter(|a| matches!(a, Action::Log(_)));
    assert!(lines.count() <= 101);
    assert!(bench.changes().is_empty(), "the kernel ends them by itself");
    bench.knocked(A, "opencloseSSH");
    bench.tick_after(400);
    assert_eq!(
        bench.changes(),
        [format!("-ssh_filter {A}/32")],
        "unless it slept"
    );
}
