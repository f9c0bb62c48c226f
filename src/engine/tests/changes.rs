//! Changes of the policy: who would be shut out by one, and the way back.

use super::*;
use crate::model::SshConnection;

const SESSION: &str = "198.51.100.7 51022 192.0.2.1 22";

fn session(text: &str) -> SshConnection {
    text.parse().unwrap()
}

/// What is said of the session from A when `change` is made.
fn said_of(before: &Bench, session: &SshConnection, change: impl FnOnce(&mut Bench)) -> String {
    let mut after = Bench {
        engine: before.engine.clone(),
        now: before.now,
        actions: Vec::new(),
    };
    change(&mut after);
    shut_out(&before.engine, &after.engine, session).map_or("-".to_owned(), |why| why.to_string())
}

fn new_policy(bench: &mut Bench, edit: impl FnOnce(&mut Policy)) {
    let mut policy = bench.engine.policy().clone();
    edit(&mut policy);
    bench.handle(Event::Policy(Box::new(policy)));
}

type Step = fn(&mut Bench);

#[test]
fn a_ban_of_whoever_is_logged_in_shuts_them_out() {
    let accepted = |bench: &mut Bench| drop(bench.accept(A, false));
    let nothing = |_: &mut Bench| {};
    let trusted = |bench: &mut Bench| bench.whitelist(&[A]);
    let banned = |bench: &mut Bench| drop(bench.drop(A, false));
    // What was before, the ban, what is said.
    let cases: &[(Step, &str, &str)] = &[
        (accepted, A, "ssh: 198.51.100.7 would be banned"),
        // The acceptance ran out; a ban is more than that.
        (nothing, A, "ssh: 198.51.100.7 would be banned"),
        (
            nothing,
            "198.51.100.0/24",
            "ssh: 198.51.100.0/24 would be banned",
        ),
        (accepted, B, "-"),
        (nothing, B, "-"),
        // The engine refuses that by itself.
        (trusted, A, "-"),
        // It makes no difference any more.
        (banned, A, "-"),
    ];
    for (before, net, expected) in cases {
        let mut bench = Bench::appliance();
        before(&mut bench);
        let said = said_of(&bench, &session(SESSION), |bench| {
            bench.drop(net, false);
        });
        assert_eq!(said, *expected, "{net}");
    }
}

#[test]
fn a_ban_says_when_it_cuts_the_session() {
    let mut bench = Bench::appliance();
    new_policy(&mut bench, |policy| policy.gates[0].cut_sessions = true);
    let said = said_of(&bench, &session(SESSION), |bench| {
        bench.drop(A, false);
    });
    assert_eq!(
        said,
        "ssh: 198.51.100.7 would be banned, and the session cut"
    );
    // Who is banned and in is cut by a gate that cuts from now on.
    let mut bench = Bench::appliance();
    bench.drop(A, false);
    let said = said_of(&bench, &session(SESSION), |bench| {
        new_policy(bench, |policy| policy.gates[0].cut_sessions = true);
    });
    assert!(said.ends_with("the session cut"), "{said}");
}

#[test]
fn trust_that_ends_shuts_out_whom_nothing_else_lets_in() {
    let lost = "ssh: it would be neither trusted nor accepted any more";
    let untrust = |bench: &mut Bench, who: &str| {
        bench.handle(Event::WhitelistEdit {
            add: vec![],
            remove: vec![net(who)],
        });
    };
    let mut bench = Bench::appliance();
    bench.whitelist(&[A, B]);
    let said = |bench: &Bench, who| said_of(bench, &session(SESSION), |after| untrust(after, who));
    assert_eq!(said(&bench, A), lost);
    assert_eq!(said(&bench, B), "-", "somebody else");
    let said_of_list = said_of(&bench, &session(SESSION), |after| after.whitelist(&[B]));
    assert_eq!(said_of_list, lost, "another file");
    bench.accept(A, false);
    assert_eq!(said(&bench, A), "-", "accepted besides");
    let mut wider = Bench::appliance();
    wider.whitelist(&[A, "198.51.100.0/24"]);
    assert_eq!(said(&wider, A), "-", "trusted besides");
    // Who came by a knock that ran out depends on nobody's trust.
    let mut knocked = Bench::appliance();
    knocked.whitelist(&[B]);
    assert_eq!(said(&knocked, B), "-");
}

#[test]
fn a_gate_shuts_out_where_there_was_none() {
    let new = "web: a new gate in front of it that neither trusts nor accepts it";
    let with_web = |bench: &mut Bench| {
        new_policy(bench, |policy| {
            let mut web = gate("web");
            web.ports = vec!["8000-8443".parse().unwrap()];
            policy.gates.push(web);
        });
    };
    let web = session("198.51.100.7 51022 192.0.2.1 8443");
    let mut bench = Bench::appliance();
    assert_eq!(said_of(&bench, &web, with_web), new);
    assert_eq!(said_of(&bench, &session(SESSION), with_web), "-");
    let local = session("127.0.0.1 51022 127.0.0.1 8443");
    assert_eq!(said_of(&bench, &local, with_web), "-", "loopback");
    let udp = |bench: &mut Bench| {
        with_web(bench);
        new_policy(bench, |policy| {
            policy.gates[1].ports = vec!["8443/udp".parse().unwrap()];
        });
    };
    assert_eq!(said_of(&bench, &web, udp), "-", "ssh is TCP");
    let behind = |bench: &mut Bench| {
        with_web(bench);
        new_policy(bench, |policy| {
            policy.gates[1].hook = crate::policy::Hook::Forward;
        });
    };
    assert_eq!(said_of(&bench, &web, behind), "-", "not on this host");
    bench.whitelist(&["198.51.100.0/24"]);
    assert_eq!(said_of(&bench, &web, with_web), "-", "trusted");
}

#[test]
fn a_gate_at_another_address_is_no_gate() {
    let mut bench = Bench::appliance();
    let own = ["192.0.2.1", "192.0.2.2"].map(address).to_vec();
    bench.handle(Event::OwnAddresses(own));
    new_policy(&mut bench, |policy| {
        policy.gates[0].address = Some(crate::policy::GateAddress::Net(net("192.0.2.2")));
    });
    let everywhere = |bench: &mut Bench| new_policy(bench, |p| p.gates[0].address = None);
    let said = said_of(&bench, &session(SESSION), everywhere);
    assert!(said.starts_with("ssh: a new gate"), "{said}");
    let there = session("198.51.100.7 51022 192.0.2.2 22");
    assert_eq!(said_of(&bench, &there, everywhere), "-");
}

#[test]
fn a_gate_with_another_name_shuts_out_whom_the_old_one_let_in() {
    let rename = |bench: &mut Bench| new_policy(bench, |p| p.gates[0].name = gate("door").name);
    let mut bench = Bench::appliance();
    assert_eq!(said_of(&bench, &session(SESSION), rename), "-");
    bench.accept(A, false);
    let said = said_of(&bench, &session(SESSION), rename);
    assert!(said.starts_with("door: a new gate"), "{said}");
}

#[test]
fn a_policy_that_only_removes_shuts_nobody_out() {
    let mut bench = Bench::appliance();
    bench.accept(A, false);
    let said = said_of(&bench, &session(SESSION), |bench| {
        new_policy(bench, |policy| policy.knocks.clear());
    });
    assert_eq!(said, "-", "the acceptance stays");
    let said = said_of(&bench, &session(SESSION), |bench| {
        new_policy(bench, |policy| {
            policy.gates[0].name = gate("web").name;
            policy.gates[0].ports = vec!["443".parse().unwrap()];
        });
    });
    assert_eq!(said, "-", "nothing guards the port any more");
}

#[test]
fn the_way_back_brings_back_what_a_removed_gate_held() {
    let mut two = appliance();
    let mut web = gate("web");
    web.ports = vec!["443".parse().unwrap()];
    two.gates.push(web);
    let mut bench = Bench::new(two.clone());
    bench.drop(A, false);
    bench.drop(B, false);
    bench.accept("192.0.2.77", false);
    let before = bench.engine.clone();
    bench.handle(Event::Policy(Box::new(appliance())));
    bench.wait(100);
    let trusted = vec![(net(B), "friend".to_owned())];
    bench.handle(Event::Whitelist(trusted));
    bench.accept("192.0.2.78", false);
    bench.actions = bench.engine.back_to(two, &before, bench.now);
    assert!(bench.actions.contains(&Action::Install));
    let desired = bench.engine.desired(bench.now);
    let of_web = desired.members.iter().filter(|m| m.gate.as_str() == "web");
    let of_web: Vec<_> = of_web
        .map(|m| (m.chain, shown(m.net), m.remaining.as_secs()))
        .collect();
    assert_eq!(
        of_web,
        [
            (Chain::Banned, A.to_owned(), None),
            (Chain::Trusted, B.to_owned(), None),
            (Chain::Filter, "192.0.2.77".to_owned(), Some(200)),
        ]
    );
    // What was decided meanwhile at the gate that stayed, stays.
    let accepted = bench.members(Chain::Filter);
    assert_eq!(accepted, [left("192.0.2.77", 200), left("192.0.2.78", 300)]);
    bench.tick_after(200);
    assert_eq!(bench.members(Chain::Filter), [left("192.0.2.78", 100)]);
}

#[test]
fn the_way_back_brings_back_acceptances_that_covered_another_part_of_an_address() {
    let mut narrow = appliance();
    narrow.gates[0].ipv6_prefix = 128;
    let mut wide = appliance();
    wide.gates[0].ipv6_prefix = 64;
    let all = ["2001:db8::1", "2001:db8::2", "2001:db8:1::1", "192.0.2.77"];
    for (from, to) in [(&narrow, &wide), (&wide, &narrow)] {
        let mut bench = Bench::new(from.clone());
        for who in all {
            bench.accept(who, false);
        }
        let mut expected = bench.members(Chain::Filter);
        for member in &mut expected {
            member.1 = Some(200);
        }
        let before = bench.engine.clone();
        bench.handle(Event::Policy(Box::new(to.clone())));
        bench.wait(100);
        bench.actions = bench.engine.back_to(from.clone(), &before, bench.now);
        assert_eq!(bench.members(Chain::Filter), expected);
        // What is over meanwhile is over, and who is banned stays out.
        bench.handle(Event::Policy(Box::new(to.clone())));
        bench.drop("2001:db8::1", false);
        bench.actions = bench.engine.back_to(from.clone(), &before, bench.now);
        assert!(!bench.lets_in("2001:db8::1"));
        assert!(bench.lets_in("2001:db8:1::1") && bench.lets_in("192.0.2.77"));
        bench.handle(Event::Policy(Box::new(to.clone())));
        bench.wait(300);
        bench.actions = bench.engine.back_to(from.clone(), &before, bench.now);
        assert!(bench.members(Chain::Filter).is_empty());
    }
}

type Happened<'a> = &'a [&'a dyn Fn(&mut Bench)];

/// Back from a trial of this policy, in which all that happened.
fn taken_back(from: &Bench, tried: &Policy, happened: Happened<'_>) -> Bench {
    let mut bench = Bench {
        engine: from.engine.clone(),
        now: from.now,
        actions: Vec::new(),
    };
    drop(bench.engine.take_news());
    let mut before = bench.engine.clone();
    bench.handle(Event::Policy(Box::new(tried.clone())));
    for step in happened {
        step(&mut bench);
        // As the daemon does after every event.
        let lost = bench.engine.take_news().lost;
        drop(before.lose(&lost, &bench.engine));
    }
    let policy = before.policy().clone();
    bench.actions = bench.engine.back_to(policy, &before, bench.now);
    bench
}

/// A policy with knocks that flush and close as well, whose acceptances cover that much.
fn of_prefix(prefix: u8) -> Policy {
    let mut policy = appliance();
    policy.gates[0].ipv6_prefix = prefix;
    let own = [("shut", KnockAction::Flush), ("close", KnockAction::Close)];
    let own = own.map(|(name, action)| knock(name, "4001 4002", action));
    policy.knocks.extend(own);
    policy
}

fn flush(bench: &mut Bench, what: Flush) {
    bench.command(Command::Flush {
        what: vec![what],
        gates: vec![],
    });
}

fn undone(bench: &mut Bench, source: &str) {
    let (source, knock) = (address(source), KnockName::new("opencloseSSH").unwrap());
    bench.handle(Event::Undone { source, knock });
}

#[test]
fn the_way_back_brings_back_nobody_who_was_withdrawn_meanwhile() {
    let [narrow, wide] = [128, 64].map(of_prefix);
    let (one, neighbour, other) = ("2001:db8::1", "2001:db8::2", "2001:db8:1::1");
    let everybody: [&dyn Fn(&mut Bench); 2] = [&|bench| flush(bench, Flush::Filter), &|bench| {
        flush(bench, Flush::All);
    }];
    let somebody: [&dyn Fn(&mut Bench); 5] = [
        &|bench| flush(bench, Flush::Address(address(one))),
        &|bench| bench.knocked(one, "shut"),
        &|bench| undone(bench, one),
        &|bench| {
            bench.drop(one, false);
            bench.command(Command::Unban {
                nets: vec![net(one)],
                gates: vec![],
            });
        },
        &|bench| {
            bench.knocked(one, "banned1");
            flush(bench, Flush::Banned);
        },
    ];
    for (from, tried) in [(&narrow, &wide), (&wide, &narrow)] {
        let mut bench = Bench::new(from.clone());
        for who in [one, other, "192.0.2.77"] {
            bench.knocked(who, "opencloseSSH");
        }
        // A network that is accepted anew is so for whoever knocked; where the policy from before
        // accepts networks, that is all of it.
        let again = |bench: &mut Bench| bench.knocked(neighbour, "opencloseSSH");
        let is_narrow = from.gates[0].ipv6_prefix == 128;
        for step in everybody {
            let back = taken_back(&bench, tried, &[step]);
            assert!(back.members(Chain::Filter).is_empty());
            let back = taken_back(&bench, tried, &[step, &again]);
            assert_eq!(back.lets_in(one), !is_narrow);
            assert!(!back.lets_in(other));
        }
        for (number, step) in somebody.into_iter().enumerate() {
            for (steps, in_again) in [(&[step][..], false), (&[step, &again], !is_narrow)] {
                let back = taken_back(&bench, tried, steps);
                assert_eq!(back.lets_in(one), in_again, "{number}");
                assert!(
                    back.lets_in(other) && back.lets_in("192.0.2.77"),
                    "{number}"
                );
            }
        }
        // What somebody was given by hand is not what a knock within a sweep has granted.
        let mut bench = Bench::new(from.clone());
        bench.accept(one, false);
        let back = taken_back(&bench, tried, &[&|bench| undone(bench, one)]);
        assert!(back.lets_in(one));
    }
}

#[test]
fn what_is_over_in_a_trial_takes_from_before_only_what_it_had_taken_the_place_of() {
    let [narrow, wide] = [128, 64].map(of_prefix);
    let (one, neighbour) = ("2001:db8::1", "2001:db8::2");
    let shortly = |bench: &mut Bench| {
        bench.command(Command::Accept {
            addresses: vec![address(neighbour)],
            gates: vec![],
            lifetime: Some(Lifetime::For(Duration::from_secs(10))),
            force: false,
        });
    };
    let over = |bench: &mut Bench| bench.tick_after(10);
    for (from, tried) in [(&narrow, &wide), (&wide, &narrow)] {
        let mut bench = Bench::new(from.clone());
        bench.accept(one, false);
        let back = taken_back(&bench, tried, &[&shortly, &over, &shortly]);
        assert_eq!(back.lets_in(one), from.gates[0].ipv6_prefix == 64);
    }
}

#[test]
fn what_is_taken_at_every_gate_is_taken_at_those_that_come_back_too() {
    let mut two = of_prefix(128);
    two.gates.push(gate("web"));
    for knock in &mut two.knocks {
        knock.gates.push(gate("web").name);
    }
    let mut bench = Bench::new(two);
    bench.knocked(A, "opencloseSSH");
    bench.knocked("192.0.2.77", "opencloseSSH");
    bench.drop(B, false);
    bench.command(Command::Open {
        gates: vec![],
        lifetime: None,
    });
    bench.command(Command::Trust {
        nets: vec![net("192.0.2.10")],
        gates: vec![gate("web").name],
    });
    let at_web = |happened: &dyn Fn(&mut Bench)| {
        let back = taken_back(&bench, &of_prefix(128), &[happened]);
        let ledger = &back.engine.ledgers[1];
        let accepted: Vec<_> = ledger.accepted().iter().map(|it| shown(it.0)).collect();
        let (open, banned) = (ledger.opened().is_some(), ledger.banned().len());
        (accepted.join(" "), open, banned, ledger.runtime.len())
    };
    let (both, one) = (format!("192.0.2.77 {A}"), "192.0.2.77");
    let is = |accepted: &str, open, banned, trusted| (accepted.to_owned(), open, banned, trusted);
    assert_eq!(at_web(&|_| {}), is(&both, true, 1, 1));
    let named = vec![gate("ssh").name];
    let at_ssh = |bench: &mut Bench| {
        let (what, gates) = (vec![Flush::All], named.clone());
        bench.command(Command::Flush { what, gates });
    };
    assert_eq!(at_web(&at_ssh), is(&both, true, 1, 1));
    assert_eq!(
        at_web(&|bench| flush(bench, Flush::All)),
        is("", false, 0, 1)
    );
    assert_eq!(
        at_web(&|bench| flush(bench, Flush::Filter)),
        is("", false, 1, 1)
    );
    assert_eq!(
        at_web(&|bench| flush(bench, Flush::Banned)),
        is(&both, true, 0, 1)
    );
    let out: [&dyn Fn(&mut Bench); 5] = [
        &|bench| flush(bench, Flush::Address(address(A))),
        &|bench| bench.knocked(A, "shut"),
        &|bench| bench.knocked(A, "banned1"),
        &|bench| drop(bench.drop(A, false)),
        &|bench| undone(bench, A),
    ];
    for step in out {
        assert_eq!(at_web(step), is(one, true, 1, 1));
    }
    let close = |bench: &mut Bench| drop(bench.command(Command::Close { gates: vec![] }));
    assert_eq!(at_web(&close), is(&both, false, 1, 1));
    assert_eq!(
        at_web(&|bench| bench.knocked(A, "close")),
        is(&both, false, 1, 1)
    );
    let untrust = |bench: &mut Bench| {
        let (nets, gates) = (vec![net("192.0.2.10")], vec![]);
        bench.command(Command::Untrust { nets, gates });
    };
    assert_eq!(at_web(&untrust), is(&both, true, 1, 0));
}

#[test]
fn whoever_comes_to_be_trusted_at_every_gate_is_not_banned_by_those_that_come_back() {
    let mut two = of_prefix(128);
    two.gates.push(gate("web"));
    let (whole, who, rest) = ("192.0.2.10/31", "192.0.2.10", "192.0.2.11");
    let mut bench = Bench::new(two);
    bench.whitelist(&[B]);
    bench.drop(whole, false);
    bench.drop(B, true);
    let at_web = |happened: Happened<'_>| {
        let back = taken_back(&bench, &of_prefix(128), happened);
        let ledger = &back.engine.ledgers[1];
        let banned: Vec<_> = ledger.banned().iter().map(|it| shown(it.0)).collect();
        (banned.join(" "), ledger.withdrawn.len())
    };
    let edit = |add, remove| Event::WhitelistEdit { add, remove };
    let entry = || (net(who), "friend".to_owned());
    let listed = |bench: &mut Bench| bench.handle(edit(vec![entry()], vec![]));
    let unlisted = |bench: &mut Bench| bench.handle(edit(vec![], vec![net(who)]));
    let trust = |bench: &mut Bench, gates| {
        let nets = vec![net(who)];
        bench.command(Command::Trust { nets, gates });
    };
    let trusted = |bench: &mut Bench| trust(bench, vec![]);
    let trusted_at_ssh = |bench: &mut Bench| trust(bench, vec![gate("ssh").name]);
    let untrusted = |bench: &mut Bench| {
        let (nets, gates) = (vec![net(who)], vec![]);
        bench.command(Command::Untrust { nets, gates });
    };
    let all = (format!("{whole} {B}"), 1);
    assert_eq!(at_web(&[]), all);
    assert_eq!(at_web(&[&trusted_at_ssh]), all);
    let without = (format!("{rest} {B}"), 1);
    assert_eq!(at_web(&[&listed]), without);
    assert_eq!(at_web(&[&listed, &unlisted]), without);
    assert_eq!(at_web(&[&trusted]), without);
    assert_eq!(at_web(&[&trusted, &untrusted]), without);
    // Trust holds again where a ban by force had withdrawn it.
    let relisted = |bench: &mut Bench| bench.handle(Event::Relisted(vec![net(B)]));
    assert_eq!(at_web(&[&relisted]), (whole.to_owned(), 0));
}
