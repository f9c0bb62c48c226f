use super::super::rules::Wanted;
use super::*;

fn gate() -> GateName {
    GateName::new("ssh").unwrap()
}

const ORIGINAL: &str = "# Generated\n*nat\n:PREROUTING ACCEPT [0:0]\n-A ssh_policy -j X\nCOMMIT\n\
*filter\n:INPUT DROP [1:2]\n:ssh_policy - [0:0]\n:ssh_banned - [0:0]\n:ssh_trusted - [0:0]\n\
:ssh_filter - [0:0]\n-A INPUT -p tcp -m tcp --dport 22 -j ssh_policy\n\
-A ssh_policy -j ssh_banned\n-A ssh_policy -j ssh_trusted\n-A ssh_policy -j ssh_filter\n\
-A ssh_policy -m limit --limit 10/min -j LOG --log-prefix \"[knockd,drop] \"\n\
-A ssh_policy -j DROP\n-A ssh_banned -s 203.0.113.9/32 -j DROP\n\
-A ssh_trusted -s 192.0.2.0/24 -p tcp -m tcp --dport 22 -j ACCEPT\n\
-A ssh_filter -s 198.51.100.7/32 -i eth0 -j ACCEPT\nCOMMIT\n";

#[test]
fn the_original_scripts_chains_are_known_by_their_shape() {
    let saved = Saved::parse(ORIGINAL);
    assert_eq!(saved.gates(), [gate()]);
    let Standing::Original(members) = saved.standing(&gate(), false) else {
        panic!("{:?}", saved.standing(&gate(), false));
    };
    let shown: Vec<String> = members
        .iter()
        .map(|(chain, net)| format!("{} {net}", chain.suffix()))
        .collect();
    assert_eq!(
        shown,
        [
            "banned 203.0.113.9/32",
            "trusted 192.0.2.0/24",
            "filter 198.51.100.7/32"
        ]
    );
    assert!(!saved.is_bare());
}

#[test]
fn somebody_elses_chains_are_nobody_elses() {
    for (from, to, strange) in [
        ("-A ssh_policy -j ssh_trusted\n", "", "does not go"),
        ("-A ssh_policy -j DROP", "-A ssh_policy -j DOCKER", "DOCKER"),
        (
            "-s 203.0.113.9/32 -j DROP",
            "-p udp -j DROP",
            "`-p udp -j DROP`",
        ),
        (
            "-s 203.0.113.9/32 -j DROP",
            "-s 203.0.113.9/32 -j ACCEPT",
            "ACCEPT",
        ),
        (
            "-s 203.0.113.9/32 -j DROP",
            "! -s 203.0.113.9/32 -j DROP",
            "! -s",
        ),
    ] {
        let saved = Saved::parse(&ORIGINAL.replace(from, to));
        match saved.standing(&gate(), true) {
            Standing::Foreign(why) => assert!(why.contains(strange), "{why}"),
            other => panic!("{to}: {other:?}"),
        }
    }
    let other = GateName::new("web").unwrap();
    assert_eq!(
        Saved::parse(ORIGINAL).standing(&other, true),
        Standing::Absent
    );
}

#[test]
fn our_comment_makes_it_ours_and_so_does_what_a_flush_leaves() {
    let commented = ORIGINAL.replace(
        "-A ssh_policy -j DROP",
        "-A ssh_policy -m comment --comment portcullis -j DROP",
    );
    assert_eq!(
        Saved::parse(&commented).standing(&gate(), false),
        Standing::Ours
    );
    let flushed: String = ORIGINAL
        .lines()
        .filter(|line| !line.starts_with("-A"))
        .flat_map(|line| [line, "\n"])
        .collect();
    assert_eq!(
        Saved::parse(&flushed).standing(&gate(), false),
        Standing::Ours
    );
}

#[test]
fn quoted_words_are_one_word() {
    assert_eq!(
        words(r#"-j LOG --log-prefix "[knockd,drop] " --x "a \"b\"""#),
        [
            "-j",
            "LOG",
            "--log-prefix",
            "[knockd,drop] ",
            "--x",
            "a \"b\""
        ]
    );
    assert_eq!(words(r#""" b"#), ["", "b"]);
}

#[test]
fn rules_before_ours_that_only_take_away_are_told_from_those_that_let_in() {
    let table = "*filter\n:INPUT ACCEPT [0:0]\n:f2b - [0:0]\n:lets - [0:0]\n:loop - [0:0]\n\
-A f2b -s 203.0.113.9/32 -j REJECT --reject-with icmp-port-unreachable\n-A f2b -j RETURN\n\
-A lets -s 192.0.2.1/32 -j ACCEPT\n-A loop -j loop\nCOMMIT\n";
    let saved = Saved::parse(table);
    let rule = |text: &str| Rule {
        chain: "INPUT".into(),
        text: text.into(),
    };
    let guarded = Guarded::by(&Wanted {
        base: vec![rule("-p tcp -m tcp --dport 22 -j ssh_policy")],
        ..Wanted::default()
    });
    let only_takes_away = |text: &str| saved.only_takes_away(&rule(text), &guarded);
    for harmless in [
        "-p tcp -m multiport --dports 22 -j f2b",
        "-s 203.0.113.0/24 -j DROP",
        "-m limit --limit 1/min -j LOG",
        "-i lo -j ACCEPT",
        "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-p tcp",
        "-j loop",
        "-p tcp -m tcp --dport 80 -j ACCEPT",
        "-p udp -j lets",
    ] {
        assert!(only_takes_away(harmless), "{harmless}");
    }
    for letting_in in [
        "-p tcp -m tcp --dport 22 -j ACCEPT",
        "-j lets",
        "-j NFQUEUE --queue-num 0",
        "-m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT",
        "-m conntrack ! --ctstate ESTABLISHED -j ACCEPT",
        "! -i lo -j ACCEPT",
        "-j UNKNOWN",
    ] {
        assert!(!only_takes_away(letting_in), "{letting_in}");
    }
    let ours = "-m comment --comment portcullis -j DROP";
    assert!(!only_takes_away(ours));
}

#[test]
fn rules_that_are_for_other_packets_are_others() {
    let rule = |text: &str| Rule {
        chain: "INPUT".to_owned(),
        text: text.to_owned(),
    };
    let written = "-d 192.0.2.1 ! -i lo -p tcp -m tcp --dport 22 -m set --match-set ssh_grace4 src \
                   -m conntrack ! --ctstate RELATED,ESTABLISHED -j ssh_policy";
    let read = "-d 192.0.2.1/32 ! -i lo -p tcp -m conntrack ! --ctstate ESTABLISHED,RELATED -m tcp \
                --dport 22 -m set --match-set ssh_grace4 src -j ssh_policy";
    let essence = |text: &str| rule(text).essence();
    assert_eq!(essence(written), essence(read));
    for (from, to) in [
        ("-d 192.0.2.1/32", ""),
        ("-d 192.0.2.1/32", "! -d 192.0.2.1/32"),
        ("192.0.2.1/32", "192.0.2.2/32"),
        ("! -i lo", "-i lo"),
        ("! -i lo", ""),
        ("ESTABLISHED,RELATED", "NEW"),
        ("! --ctstate", "--ctstate"),
        ("ssh_grace4 src", "ssh_grace4 dst"),
        ("--match-set", "! --match-set"),
        ("--dport 22", "--dport 23"),
        ("-j ssh_policy", "-s 192.0.2.3/32 -j ssh_policy"),
        ("-j ssh_policy", "-j ACCEPT"),
    ] {
        let other = read.replace(from, to);
        assert_ne!(other, read);
        assert_ne!(essence(&other), essence(written), "{from} → {to}");
    }
}
