use super::*;

#[test]
fn accept_of_a_banned_address_exits_4_naming_the_ban() {
    let mut bench = Bench::appliance();
    bench.knocked(A, "banned1");
    let outcome = bench.accept(A, false);
    assert_eq!(outcome.code, 4);
    assert!(outcome.refused[0].contains("banned1"), "{outcome:?}");
    assert!(bench.changes().is_empty());
}

#[test]
fn force_lifts_it() {
    let mut bench = Bench::appliance();
    bench.knocked(A, "banned1");
    assert_eq!(bench.accept(A, true).code, 0);
    assert!(bench.lets_in(A));
    let mut bench = Bench::appliance();
    bench.drop("198.51.100.0/24", false);
    assert_eq!(bench.accept(A, true).code, 0);
    assert!(bench.lets_in(A), "also out of a banned network");
    bench.knocked("198.51.100.8", "opencloseSSH");
    assert!(
        !bench.lets_in("198.51.100.8"),
        "the rest of which stays banned"
    );
}

/// Not every kernel takes both at once, and in between nobody is to be let in for good.
#[test]
fn what_stays_of_a_ban_is_written_before_the_whole_goes() {
    let in_order = |bench: &Bench| {
        let changes = bench.changes();
        let bans = changes
            .iter()
            .filter(|line| line[1..].starts_with("ssh_banned"));
        let bans: Vec<&String> = bans.collect();
        assert_eq!(bans.len(), 9, "{changes:?}");
        assert!(
            bans[..8].iter().all(|line| line.starts_with('+')),
            "{bans:?}"
        );
        assert_eq!(bans[8], "-ssh_banned 198.51.100.0/24");
    };
    let banned = || {
        let mut bench = Bench::appliance();
        bench.drop("198.51.100.0/24", false);
        bench
    };
    let mut bench = banned();
    assert_eq!(bench.accept(A, true).code, 0);
    in_order(&bench);
    let mut bench = banned();
    bench.whitelist(&[A]);
    in_order(&bench);
    let mut bench = banned();
    bench.handle(Event::OwnAddresses(vec![address(A)]));
    in_order(&bench);
}

#[test]
fn drop_of_a_trusted_address_exits_4() {
    let mut bench = Bench::appliance();
    bench.whitelist(&[A]);
    let outcome = bench.drop(A, false);
    assert_eq!(outcome.code, 4);
    assert!(outcome.refused[0].contains("is trusted"), "{outcome:?}");
    assert!(bench.lets_in(A) && bench.changes().is_empty());
}

#[test]
fn force_also_withdraws_trust_until_restart() {
    let mut bench = Bench::appliance();
    bench.whitelist(&[A, B]);
    assert_eq!(bench.drop(A, true).code, 0);
    assert!(!bench.lets_in(A) && bench.lets_in(B));
    assert!(bench.changes().contains(&format!("-ssh_trusted {A}/32")));
    bench.whitelist(&[A, B]);
    assert!(
        !bench.lets_in(A),
        "a reload of the same file does not restore it"
    );
    bench.command(Command::Unban {
        nets: vec![net(A)],
        gates: vec![],
    });
    assert!(!bench.lets_in(A), "nor does the end of the ban");
    bench.handle(Event::Relisted(vec![net(A)]));
    assert!(bench.lets_in(A), "being trusted anew does");
}

#[test]
fn what_a_forced_ban_withdraws_is_said_and_so_is_what_brings_it_back() {
    let mut bench = Bench::appliance();
    bench.whitelist(&[A]);
    let ends = format!("until restart or `trust {A}`");
    let unban = |who: &str| Command::Unban {
        nets: vec![net(who)],
        gates: vec![],
    };
    let said = bench.drop(A, true).done.remove(0);
    assert!(
        said.ends_with(&format!("; trust in it is withdrawn {ends}")),
        "{said}"
    );
    let said = bench.command(unban(A)).done.remove(0);
    assert!(
        said.ends_with(&format!("is lifted; trust in it stays withdrawn {ends}")),
        "{said}"
    );
    let ssh = GateName::new("ssh").unwrap();
    let standing = bench.engine.standing(&ssh, address(A), Time(0)).unwrap();
    assert_eq!(standing.withheld.map(|(_, until)| until), Some(ends));
    bench.handle(Event::Relisted(vec![net(A)]));
    let standing = bench.engine.standing(&ssh, address(A), Time(0)).unwrap();
    assert_eq!(standing.withheld, None);
    bench.drop(A, true);
    let what = vec![Flush::Banned];
    let gates = vec![];
    let said = bench.command(Command::Flush { what, gates }).done.remove(0);
    assert!(said.contains("stays so until restart or `trust`"), "{said}");
    for said in [bench.drop(B, true), bench.command(unban(B))] {
        assert!(!said.done[0].contains("trust"), "{said:?}");
    }
    bench.whitelist(&[A, "198.51.100.9"]);
    let said = bench.drop("198.51.100.0/24", true).done.remove(0);
    assert!(said.ends_with("until restart or `trust` of each"), "{said}");
}

#[test]
fn a_forced_ban_inside_a_trusted_network_leaves_the_rest_trusted() {
    let mut bench = Bench::appliance();
    bench.whitelist(&["198.51.100.0/24"]);
    assert_eq!(bench.drop(A, true).code, 0);
    assert!(!bench.lets_in(A) && bench.lets_in("198.51.100.8"));
    assert_eq!(bench.drop("198.51.100.8", false).code, 4);
}

#[test]
fn a_ban_of_a_network_that_overlaps_a_trusted_entry_is_refused() {
    let mut bench = Bench::appliance();
    bench.whitelist(&[A, "192.0.2.0/24"]);
    for overlapping in [
        "198.51.0.0/16",
        "0.0.0.0/0",
        "192.0.2.64/26",
        "192.0.0.0/16",
    ] {
        assert_eq!(bench.drop(overlapping, false).code, 4, "{overlapping}");
        assert!(bench.changes().is_empty());
    }
    assert_eq!(bench.drop("203.0.113.0/24", false).code, 0);
}

#[test]
fn a_command_refused_for_one_address_does_nothing_for_the_others() {
    let mut bench = Bench::appliance();
    bench.whitelist(&[A]);
    let nets = vec![net(B), net(A)];
    let outcome = bench.command(Command::Drop {
        nets,
        gates: vec![],
        lifetime: None,
        force: false,
    });
    assert_eq!((outcome.code, outcome.done.len()), (4, 0));
    assert!(bench.changes().is_empty());
}

#[test]
fn asking_for_what_already_holds_is_success() {
    let mut bench = Bench::appliance();
    for _ in 0..2 {
        assert_eq!(bench.accept(A, false).code, 0);
        assert_eq!(bench.drop(B, false).code, 0);
    }
    let unban = |who: &str, gates| Command::Unban {
        nets: vec![net(who)],
        gates,
    };
    let untrust = |who: &str| Command::Untrust {
        nets: vec![net(who)],
        gates: vec![],
    };
    let flush = |what| Command::Flush {
        what: vec![what],
        gates: vec![],
    };
    let ssh = vec![GateName::new("ssh").unwrap()];
    bench.whitelist(&["10.0.0.2"]);
    for (command, said) in [
        (unban("10.0.0.1", vec![]), &["10.0.0.1 is not banned"][..]),
        (unban("10.0.0.1", ssh), &["10.0.0.1 is not banned at ssh"]),
        (untrust("10.0.0.1"), &["10.0.0.1 is not trusted"]),
        (
            untrust("10.0.0.2"),
            &[
                "10.0.0.2 is not trusted at run time, but by the whitelist: untrust it without \
               --runtime",
            ],
        ),
        (
            flush(Flush::Address(address("10.0.0.1"))),
            &["10.0.0.1 is not accepted"],
        ),
        (Command::Close { gates: vec![] }, &[]),
    ] {
        let outcome = bench.command(command);
        assert_eq!((outcome.code, outcome.done), (0, vec![]));
        let lines: Vec<String> = outcome.unchanged.into_iter().map(|it| it.1).collect();
        assert_eq!(lines, said);
    }
    bench.drop("203.0.113.64/31", false);
    let said = bench.command(unban("203.0.113.64/30", vec![])).unchanged;
    let whole = "203.0.113.64/30 is not banned as a whole, but 203.0.113.64/31 in it is";
    assert_eq!(said[0].1, whole);
    let nets = vec![net(B), net("10.0.0.1")];
    let outcome = bench.command(Command::Unban {
        nets,
        gates: vec![],
    });
    assert_eq!((outcome.done.len(), outcome.unchanged.len()), (1, 1));
}

#[test]
fn trust_however_it_comes_about_ends_bans_that_it_covers() {
    let mut bench = Bench::appliance();
    bench.knocked(A, "banned1");
    bench.whitelist(&["198.51.100.0/24"]);
    assert!(bench.lets_in(A), "the file");
    assert!(bench.changes().contains(&format!("-ssh_banned {A}/32")));
    bench.drop(B, false);
    bench.command(Command::Trust {
        nets: vec![net(B)],
        gates: vec![],
    });
    assert!(bench.lets_in(B), "a command");
    assert!(bench.members(Chain::Banned).is_empty());
}

#[test]
fn trust_inside_a_banned_network_is_taken_out_of_the_ban() {
    let mut bench = Bench::appliance();
    bench.drop("198.51.100.0/24", false);
    bench.whitelist(&[A]);
    assert!(bench.lets_in(A));
    assert_eq!(
        bench.members(Chain::Banned).len(),
        8,
        "the rest of the network, in pieces"
    );
    for still in ["198.51.100.6", "198.51.100.8", "198.51.100.255"] {
        assert_eq!(bench.accept(still, false).code, 4, "{still}");
    }
}

#[test]
fn untrust_ends_trust_given_at_run_time_but_not_the_files() {
    let mut bench = Bench::appliance();
    bench.whitelist(&[A]);
    bench.command(Command::Trust {
        nets: vec![net(A), net(B)],
        gates: vec![],
    });
    bench.command(Command::Untrust {
        nets: vec![net(A), net(B)],
        gates: vec![],
    });
    assert!(bench.lets_in(A) && !bench.lets_in(B));
    assert_eq!(bench.changes(), [format!("-ssh_trusted {B}/32")]);
}

#[test]
fn trust_by_command_is_stored_until_reboot() {
    let mut bench = Bench::appliance();
    bench.command(Command::Trust {
        nets: vec![net(A)],
        gates: vec![],
    });
    let who = "knockctl by root".to_owned();
    assert!(
        bench
            .actions
            .contains(&Action::Store(TrustEdit::Add(None, net(A), who)))
    );
    bench.command(Command::Untrust {
        nets: vec![net(A)],
        gates: vec![],
    });
    assert!(
        bench
            .actions
            .contains(&Action::Store(TrustEdit::Remove(None, net(A))))
    );
}

#[test]
fn flush_ip_withdraws_the_acceptance_not_the_ban() {
    let mut bench = Bench::appliance();
    bench.accept(A, false);
    bench.drop(B, false);
    let what = vec![Flush::Address(address(A)), Flush::Address(address(B))];
    assert_eq!(
        bench
            .command(Command::Flush {
                what,
                gates: vec![]
            })
            .code,
        0
    );
    assert!(!bench.lets_in(A));
    assert_eq!(bench.members(Chain::Banned), [for_good(B)]);
}

#[test]
fn flush_filter_all_acceptances_and_an_open() {
    let mut bench = Bench::appliance();
    bench.accept(A, false);
    bench.drop(B, false);
    bench.command(Command::Open {
        gates: vec![],
        lifetime: None,
    });
    assert!(bench.lets_in("192.0.2.99"));
    bench.command(Command::Flush {
        what: vec![Flush::Filter],
        gates: vec![],
    });
    assert!(bench.members(Chain::Filter).is_empty());
    assert_eq!(bench.members(Chain::Banned).len(), 1);
}

#[test]
fn flush_banned_all_bans_and_all_both_and_trusted_is_never_flushed() {
    let mut bench = Bench::appliance();
    bench.whitelist(&["192.0.2.1"]);
    bench.accept(A, false);
    bench.drop(B, false);
    bench.command(Command::Flush {
        what: vec![Flush::Banned],
        gates: vec![],
    });
    assert!(bench.members(Chain::Banned).is_empty() && bench.lets_in(A));
    bench.drop(B, false);
    bench.command(Command::Flush {
        what: vec![Flush::All],
        gates: vec![],
    });
    assert!(bench.members(Chain::Banned).is_empty() && bench.members(Chain::Filter).is_empty());
    assert!(bench.lets_in("192.0.2.1"));
}

#[test]
fn unban_of_an_address_inside_a_banned_network_names_the_network() {
    let mut bench = Bench::appliance();
    bench.drop("198.51.100.0/24", false);
    let outcome = bench.command(Command::Unban {
        nets: vec![net(A)],
        gates: vec![],
    });
    assert_eq!(outcome.code, 1);
    assert!(
        outcome.refused[0].contains("198.51.100.0/24"),
        "{outcome:?}"
    );
    let nets = vec![net("198.51.100.0/24")];
    assert_eq!(
        bench
            .command(Command::Unban {
                nets,
                gates: vec![]
            })
            .code,
        0
    );
    assert_eq!(bench.accept(A, false).code, 0);
}

#[test]
fn gates_are_chosen_by_name_and_none_means_every_gate() {
    let mut bench = Bench::new(policy(vec![gate("ssh"), gate("vpn")], vec![]));
    let vpn = vec![GateName::new("vpn").unwrap()];
    let addresses = vec![address(A)];
    bench.command(Command::Accept {
        addresses,
        gates: vpn,
        lifetime: None,
        force: false,
    });
    assert!(!bench.engine.lets_in(0, address(A)) && bench.engine.lets_in(1, address(A)));
    bench.drop(B, false);
    assert_eq!(bench.changes().len(), 2);
    let gates = vec![GateName::new("smtp").unwrap()];
    let outcome = bench.command(Command::Close { gates });
    assert_eq!(outcome.code, 2);
    assert!(outcome.refused[0].contains("ssh, vpn"), "{outcome:?}");
}

#[test]
fn everything_decided_carries_a_reason() {
    let mut bench = Bench::appliance();
    bench.whitelist(&["192.0.2.1"]);
    bench.accept(A, false);
    bench.knocked(B, "banned1");
    let reason = |chain, who: &str| {
        bench
            .engine
            .reason(&GateName::new("ssh").unwrap(), chain, net(who))
            .unwrap()
    };
    assert_eq!(reason(Chain::Filter, A), "knockctl by root");
    assert_eq!(reason(Chain::Banned, B), "banned1");
    assert_eq!(reason(Chain::Trusted, "192.0.2.1"), "whitelist: 192.0.2.1");
}

#[test]
fn trust_withdrawn_from_a_part_of_an_entry_stays_withdrawn_after_the_ban() {
    let mut bench = Bench::appliance();
    bench.whitelist(&["198.51.100.0/24"]);
    assert_eq!(bench.drop(A, true).code, 0);
    bench.command(Command::Unban {
        nets: vec![net(A)],
        gates: vec![],
    });
    assert!(!bench.lets_in(A) && bench.lets_in("198.51.100.8"));
    assert_eq!(
        bench.members(Chain::Trusted).len(),
        8,
        "the entry in pieces"
    );
    bench.handle(Event::Relisted(vec![net("198.51.100.0/24")]));
    assert!(bench.lets_in(A));
    assert_eq!(bench.members(Chain::Trusted).len(), 1, "whole again");
}

#[test]
fn asking_to_trust_what_could_not_be_written_lifts_no_ban() {
    let mut bench = Bench::appliance();
    bench.drop(A, false);
    bench.handle(Event::Relisted(vec![net(A)]));
    assert_eq!(
        bench.members(Chain::Banned),
        [for_good(A)],
        "it is on no list"
    );
}

#[test]
fn untrust_says_where_trust_remains() {
    let mut bench = Bench::appliance();
    let ssh = || vec![GateName::new("ssh").unwrap()];
    let nets = |who: &str| vec![net(who)];
    let trust = |who: &str, gates| Command::Trust {
        nets: nets(who),
        gates,
    };
    let untrust = |who: &str, gates| Command::Untrust {
        nets: nets(who),
        gates,
    };
    bench.command(trust(A, vec![]));
    let outcome = bench.command(untrust(A, ssh()));
    assert_eq!(outcome.code, 1);
    assert!(outcome.refused[0].contains("every gate"), "{outcome:?}");
    bench.command(trust("203.0.113.0/24", ssh()));
    let outcome = bench.command(untrust(B, vec![]));
    assert_eq!(outcome.code, 1);
    assert!(outcome.refused[0].contains("203.0.113.0/24"), "{outcome:?}");
}

#[test]
fn unban_says_that_a_wider_ban_remains() {
    let mut bench = Bench::appliance();
    bench.drop("198.51.100.0/24", false);
    bench.drop(A, false);
    let outcome = bench.command(Command::Unban {
        nets: vec![net(A)],
        gates: vec![],
    });
    assert_eq!(outcome.code, 0);
    let said = outcome.done.join("\n");
    assert!(
        said.contains("still banned as part of 198.51.100.0/24"),
        "{said}"
    );
}
