use super::*;
use crate::policy::{GateAddress, Hook};

fn found(chain: Chain, who: &str, remaining: Lifetime, reason: &str) -> Member {
    Member {
        gate: GateName::new("ssh").unwrap(),
        chain,
        net: net(who),
        remaining,
        reason: reason.to_owned(),
    }
}

fn secs(secs: u64) -> Lifetime {
    Lifetime::For(Duration::from_secs(secs))
}

#[test]
fn trusted_is_never_what_the_kernel_happens_to_hold() {
    let mut bench = Bench::appliance();
    bench.whitelist(&["192.0.2.1"]);
    bench.handle(Event::Adopt(vec![found(
        Chain::Trusted,
        A,
        Lifetime::Never,
        "",
    )]));
    assert_eq!(bench.members(Chain::Trusted), [for_good("192.0.2.1")]);
    assert!(
        bench.actions.contains(&Action::Install),
        "which takes the line that is gone out"
    );
}

#[test]
fn other_members_found_in_the_kernel_are_adopted() {
    let mut bench = Bench::appliance();
    bench.handle(Event::Adopt(vec![
        found(Chain::Filter, A, secs(120), ""),
        found(Chain::Banned, B, Lifetime::Never, "banned1"),
        found(Chain::Banned, "10.0.0.0/8", secs(60), ""),
    ]));
    assert_eq!(bench.members(Chain::Filter), [left(A, 120)]);
    assert!(bench.members(Chain::Banned).contains(&for_good(B)));
    assert!(
        bench
            .members(Chain::Banned)
            .contains(&left("10.0.0.0/8", 60))
    );
    let ssh = GateName::new("ssh").unwrap();
    let reason = |chain, who| bench.engine.reason(&ssh, chain, net(who));
    assert_eq!(reason(Chain::Filter, A).unwrap(), "found in kernel");
    assert_eq!(
        reason(Chain::Banned, B).unwrap(),
        "banned1",
        "it says so itself"
    );
    bench.tick_after(120);
    assert!(
        bench.members(Chain::Filter).is_empty(),
        "the true remaining time"
    );
}

#[test]
fn one_without_a_deadline_in_filter_gets_accept_timeout() {
    let mut bench = Bench::appliance();
    bench.handle(Event::Adopt(vec![found(
        Chain::Filter,
        A,
        Lifetime::Never,
        "",
    )]));
    assert_eq!(bench.members(Chain::Filter), [left(A, 300)]);
}

#[test]
fn an_open_gate_is_adopted() {
    let mut bench = Bench::appliance();
    let both = ["0.0.0.0/0", "::/0"].map(|all| found(Chain::Filter, all, secs(30), "fire"));
    bench.handle(Event::Adopt(both.to_vec()));
    assert!(bench.lets_in(B));
    bench.tick_after(30);
    assert!(!bench.lets_in(B));
}

#[test]
fn an_adopted_ban_never_covers_what_is_trusted_now() {
    let mut bench = Bench::appliance();
    bench.whitelist(&[A]);
    bench.handle(Event::Adopt(vec![
        found(Chain::Banned, A, Lifetime::Never, ""),
        found(Chain::Banned, "198.51.100.0/29", Lifetime::Never, ""),
    ]));
    assert!(bench.lets_in(A));
    assert_eq!(
        bench.members(Chain::Banned).len(),
        3,
        "the rest of the network"
    );
}

#[test]
fn members_of_unknown_gates_are_not_adopted() {
    let mut bench = Bench::appliance();
    let mut member = found(Chain::Filter, A, secs(10), "");
    member.gate = GateName::new("gone").unwrap();
    bench.handle(Event::Adopt(vec![member]));
    assert!(bench.engine.desired(bench.now).members.is_empty());
}

#[test]
fn stored_runtime_entries_are_trusted_at_start() {
    let mut bench = Bench::appliance();
    bench.handle(Event::RuntimeTrust(vec![
        (None, net(A), "knockctl by root".into()),
        (
            Some(GateName::new("gone").unwrap()),
            net(B),
            "knockctl by root".into(),
        ),
    ]));
    assert!(bench.lets_in(A) && !bench.lets_in(B));
}

#[test]
fn at_reload_members_keep_their_deadlines() {
    let mut bench = Bench::appliance();
    bench.knocked(A, "opencloseSSH");
    bench.knocked(B, "banned1");
    bench.wait(100);
    let mut new = appliance();
    new.gates[0].accept_timeout = secs(60);
    bench.handle(Event::Policy(Box::new(new)));
    assert!(bench.actions.contains(&Action::Install));
    assert_eq!(bench.members(Chain::Filter), [left(A, 200)]);
    assert_eq!(bench.members(Chain::Banned), [for_good(B)]);
    bench.knocked("192.0.2.3", "opencloseSSH");
    assert!(
        bench
            .members(Chain::Filter)
            .contains(&left("192.0.2.3", 60)),
        "the new time"
    );
}

#[test]
fn at_reload_a_removed_gates_chains_go() {
    let mut bench = Bench::new(policy(vec![gate("ssh"), gate("vpn")], vec![]));
    bench.accept(A, false);
    bench.handle(Event::Policy(Box::new(policy(vec![gate("vpn")], vec![]))));
    let desired = bench.engine.desired(bench.now);
    assert_eq!(desired.gates.len(), 1);
    assert_eq!(desired.gates[0].name.as_str(), "vpn");
    assert_eq!(desired.members.len(), 1);
    assert_eq!(
        bench.members(Chain::Filter),
        [left(A, 300)],
        "of vpn, which is the first now"
    );
}

#[test]
fn at_reload_the_whitelist_changes_by_what_differs() {
    let mut bench = Bench::appliance();
    bench.whitelist(&[A, "192.0.2.0/24"]);
    bench.whitelist(&[A, "10.0.0.0/8"]);
    let expected = [
        "+ssh_trusted 10.0.0.0/8 never whitelist: 10.0.0.0/8",
        "-ssh_trusted 192.0.2.0/24",
    ];
    assert_eq!(bench.changes(), expected);
    bench.whitelist(&[A, "10.0.0.0/8"]);
    assert!(bench.changes().is_empty());
}

#[test]
fn a_change_of_the_ipv6_prefix_keeps_acceptances_without_widening_bans() {
    let mut bench = Bench::appliance();
    bench.knocked(SIX, "opencloseSSH");
    let mut wider = appliance();
    wider.gates[0].ipv6_prefix = 64;
    bench.handle(Event::Policy(Box::new(wider)));
    assert_eq!(
        bench.members(Chain::Filter),
        [left("2001:db8:1:2::/64", 300)]
    );
    bench.handle(Event::Policy(Box::new(appliance())));
    assert!(
        bench.members(Chain::Filter).is_empty(),
        "a prefix does not say who had knocked"
    );
}

#[test]
fn a_gate_with_an_address_covers_it_only_while_it_is_the_hosts() {
    let mut policy = appliance();
    policy.gates[0].address = Some(GateAddress::Net(net("192.0.2.1")));
    let mut bench = Bench::new(policy);
    let covers = |bench: &Bench| {
        bench.engine.desired(bench.now).gates[0]
            .input_addresses
            .clone()
    };
    assert!(covers(&bench).is_empty(), "foreign: all");
    bench.handle(Event::OwnAddresses(vec![
        address("192.0.2.1"),
        address("192.0.2.2"),
    ]));
    assert!(bench.actions.contains(&Action::Install));
    assert_eq!(covers(&bench), [net("192.0.2.1")]);
    bench.handle(Event::OwnAddresses(vec![address("192.0.2.1")]));
    assert!(bench.actions.is_empty(), "nothing changed for the gate");
    bench.handle(Event::OwnAddresses(vec![]));
    assert!(covers(&bench).is_empty());
}

#[test]
fn a_gate_with_a_name_covers_all_until_it_is_resolved() {
    let mut policy = appliance();
    policy.gates[0].address = Some(GateAddress::Name("ssh.example.org".into()));
    let mut bench = Bench::new(policy);
    bench.handle(Event::OwnAddresses(vec![address("192.0.2.1")]));
    assert!(
        bench.engine.desired(bench.now).gates[0]
            .input_addresses
            .is_empty()
    );
    let ssh = GateName::new("ssh").unwrap();
    bench.handle(Event::GateAddresses(vec![(
        ssh,
        vec![address("192.0.2.1")],
    )]));
    assert_eq!(
        bench.engine.desired(bench.now).gates[0].input_addresses,
        [net("192.0.2.1")]
    );
}

#[test]
fn with_both_hooks_a_network_behind_us_leaves_no_address_of_the_host_open() {
    let mut policy = appliance();
    policy.gates[0].hook = Hook::Both;
    policy.gates[0].address = Some(GateAddress::Net(net("198.51.100.0/24")));
    let mut bench = Bench::new(policy);
    // The host has an address in that network, and another one.
    bench.handle(Event::OwnAddresses(vec![
        address("192.0.2.1"),
        address("198.51.100.1"),
    ]));
    let rules = &bench.engine.desired(bench.now).gates[0];
    assert!(rules.input_addresses.is_empty(), "all");
    assert_eq!(rules.forward_addresses, [net("198.51.100.0/24")]);
    let mut policy = appliance();
    policy.gates[0].hook = Hook::Both;
    policy.gates[0].address = Some(GateAddress::Net(net("192.0.2.1")));
    bench.handle(Event::Policy(Box::new(policy)));
    let rules = &bench.engine.desired(bench.now).gates[0];
    assert_eq!(rules.input_addresses, [net("192.0.2.1")], "it is ours");
    assert_eq!(rules.forward_addresses, [net("192.0.2.1")]);
}

#[test]
fn the_next_deadline_is_the_earliest() {
    let mut bench = Bench::appliance();
    assert_eq!(bench.engine.next_deadline(), None);
    bench.knocked(A, "opencloseSSH");
    bench.wait(10);
    bench.knocked(B, "opencloseSSH");
    assert_eq!(bench.engine.next_deadline(), Some(Time::from_secs(1300)));
    bench.knocked(B, "banned1");
    bench.command(Command::Flush {
        what: vec![Flush::Filter],
        gates: vec![],
    });
    assert_eq!(
        bench.engine.next_deadline(),
        None,
        "a ban for good has none"
    );
}

#[test]
fn what_the_first_connection_used_up_does_not_come_back() {
    let mut policy = appliance();
    policy.gates[0].once = true;
    let mut bench = Bench::new(policy);
    bench.knocked(A, "opencloseSSH");
    bench.knocked(B, "opencloseSSH");
    let ssh = || GateName::new("ssh").unwrap();
    let held = vec![
        (ssh(), Chain::Filter, net(B)),
        (ssh(), Chain::Banned, net(A)),
    ];
    let told = |gates: &[GateName], members: &[_]| Event::Held {
        gates: gates.to_vec(),
        members: members.to_vec(),
    };
    // The kernel was told of nobody at the gate.
    bench.handle(told(&[], &held));
    assert_eq!(bench.members(Chain::Filter).len(), 2);
    bench.handle(told(&[ssh()], &held));
    assert_eq!(bench.members(Chain::Filter), [left(B, 300)]);
    let mut bench = Bench::appliance();
    bench.knocked(A, "opencloseSSH");
    bench.handle(told(&[ssh()], &[]));
    assert_eq!(
        bench.members(Chain::Filter),
        [left(A, 300)],
        "only where `once` is set"
    );
}

#[test]
fn several_members_that_become_one_keep_the_longest_time() {
    let mut policy = appliance();
    policy.gates[0].ipv6_prefix = 64;
    let mut bench = Bench::new(policy);
    bench.handle(Event::Adopt(vec![
        found(Chain::Filter, "2001:db8:1:2::1", secs(300), ""),
        found(Chain::Filter, "2001:db8:1:2::2", secs(5), ""),
    ]));
    assert_eq!(
        bench.members(Chain::Filter),
        [left("2001:db8:1:2::/64", 300)]
    );
}

#[test]
fn what_becomes_protected_is_not_banned_any_more() {
    let mut bench = Bench::appliance();
    bench.drop(A, false);
    bench.drop("203.0.113.0/30", false);
    bench.handle(Event::OwnAddresses(vec![address(A)]));
    assert_eq!(bench.changes(), [format!("-ssh_banned {A}/32")]);
    let mut policy = appliance();
    policy.never_ban = vec![net("203.0.113.0/31")];
    bench.handle(Event::Policy(Box::new(policy)));
    assert_eq!(bench.members(Chain::Banned), [for_good("203.0.113.2/31")]);
}

#[test]
fn a_name_with_another_address_changes_just_that() {
    let mut bench = Bench::appliance();
    bench.whitelist(&["192.0.2.1", A]);
    bench.handle(Event::WhitelistEdit {
        add: vec![(net(B), "gateway.example.org".into())],
        remove: vec![net(A)],
    });
    let expected = [
        format!("+ssh_trusted {B}/32 never gateway.example.org"),
        format!("-ssh_trusted {A}/32"),
    ];
    assert_eq!(bench.changes(), expected);
}
