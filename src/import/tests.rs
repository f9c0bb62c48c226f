use std::path::Path;

use super::*;
use crate::model::{GateName, Lifetime, parse_duration};
use crate::policy::{CommandLine, Interfaces, Knock, KnockAction, PerFamily, TcpFlags, parse};

fn import(text: &str) -> Imported {
    knockd_conf(text, Path::new("/etc/knockd.conf")).unwrap_or_else(|error| panic!("{error}"))
}

fn policy_of(imported: &Imported) -> Policy {
    let checked = parse(&imported.yaml, Path::new("/etc/knockd/knockd.yaml"));
    checked
        .unwrap_or_else(|errors| panic!("{errors}\n{}", imported.yaml))
        .policy
}

/// A file of one door, with these lines besides its sequence.
fn door(lines: &[&str]) -> String {
    format!(
        "[a]\nsequence=7000,8000\ntcpflags=syn\n{}\n",
        lines.join("\n")
    )
}

fn knock(lines: &[&str]) -> Knock {
    let mut knocks = policy_of(&import(&door(lines))).knocks;
    assert_eq!(knocks.len(), 1);
    knocks.remove(0)
}

fn is_run(knock: &Knock) -> bool {
    matches!(knock.action, KnockAction::Run(_))
}

fn time(text: &str) -> Lifetime {
    parse_duration(text).unwrap()
}

fn remarks(imported: &Imported) -> Vec<String> {
    let told = imported.remarks.iter().map(|remark| match &remark.knock {
        Some(knock) => format!("{knock}: {}", remark.text),
        None => remark.text.clone(),
    });
    told.collect()
}

const STOCK: &str = "[options]
\tUseSyslog

[openSSH]
\tsequence    = 7000,8000,9000
\tseq_timeout = 5
\tcommand     = /sbin/iptables -A INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
\ttcpflags    = syn

[closeSSH]
\tsequence    = 9000,8000,7000
\tseq_timeout = 5
\tcommand     = /sbin/iptables -D INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
\ttcpflags    = syn

[openHTTPS]
\tsequence    = 12345,24680,13579
\tseq_timeout = 5
\tcommand     = /usr/local/sbin/knock_add -i -c INPUT -p tcp -d 443 -f %IP%
\ttcpflags    = syn
";

#[test]
fn the_stock_file_becomes_a_gate_that_one_door_opens_and_the_other_closes() {
    let imported = import(STOCK);
    let policy = policy_of(&imported);
    let gates: Vec<&str> = policy.gates.iter().map(|gate| gate.name.as_str()).collect();
    assert_eq!(gates, ["ssh"]);
    let [open, close, other] = policy.knocks.as_slice() else {
        panic!("{:?}", policy.knocks);
    };
    assert_eq!(open.action, KnockAction::Accept);
    assert_eq!(open.lifetime, Some(Lifetime::Never), "as the rule did");
    assert_eq!(open.flags, TcpFlags::OPENING);
    assert_eq!(close.action, KnockAction::Flush);
    assert_eq!(close.gates, [GateName::new("ssh").unwrap()]);
    assert!(is_run(other), "a script is run as before");
    assert!(policy.log.syslog);
    assert_eq!(
        remarks(&imported),
        [
            "the file names no `Interface`, so knocks are heard on all of them; the classic daemon \
             took eth0, unless `-i` told it otherwise",
            "the log keeps the classic words where there are such; lines about acceptances are in \
             this program's own",
            "openSSH: its iptables rule is an acceptance now, which lasts until it is flushed, as \
             the rule did; better give it a time, such as `for: 300s`",
            "openSSH: it lets in over IPv6, too, where `iptables` could not",
            "closeSSH: the iptables rule that it deleted is an acceptance now, which it ends",
            "from now on knockd itself keeps 22/tcp shut, but for the accepted and the trusted: \
             put those who must always get in into knockd.trusted before you start it",
            "a rule of your own that drops new connections to 22/tcp has to go where knockd uses \
             nftables: what one table drops another cannot let in",
        ]
    );
    for remark in &imported.remarks {
        assert!(
            imported.yaml.contains(&format!("# {}", remark.text))
                || imported.yaml.contains(&format!("# - {}", remark.text))
        );
    }
}

#[test]
fn what_is_unwise_is_told_of_the_policy_and_not_of_what_the_file_said() {
    let stock = import(STOCK);
    // The flags are other ones, and what starts a command there is an acceptance.
    assert_eq!(stock.warnings, []);
    let [never] = stock.unwise.as_slice() else {
        panic!("{:?}", stock.unwise);
    };
    assert_eq!(never.found, "`for: never`");
    let text = "[a]\nsequence=7000,40000\ntcpflags=ack\ncommand=x\n[a]\nsequence=7000:udp,8000:udp\n\
                command=iptables -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT\n\
                stop_command=iptables -D INPUT -s %IP% -p tcp --dport 22 -j ACCEPT\n";
    let imported = import(text);
    let told = |problems: &[Problem]| problems.iter().map(ToString::to_string).collect::<Vec<_>>();
    let [twice] = &told(&imported.warnings)[..] else {
        panic!("{:?}", imported.warnings);
    };
    assert!(twice.contains("the door `a` a second time"), "{twice}");
    let unwise = told(&imported.unwise);
    assert_eq!(unwise.len(), 3, "{unwise:?}");
    for (problem, part) in unwise.iter().zip([
        "one port after the other, starts the command",
        "the ephemeral port 40000/tcp",
        "one port after the other, lets the scanner in",
    ]) {
        assert!(problem.contains(part), "{problem}");
    }
    let line = usize::try_from(imported.unwise[0].line).unwrap();
    let there = imported.yaml.lines().nth(line - 1).unwrap();
    assert!(there.contains("[7000, 40000]"), "{there}");
}

#[test]
fn knocks_are_heard_everywhere_unless_the_file_says_where() {
    let text = door(&["command = x"]);
    let unsaid = import(&format!("[options]\n# Interface = eth1\n{text}"));
    // A gate is shut on every interface: nobody may be deaf where the daemon had been told by -i.
    assert_eq!(policy_of(&unsaid).interfaces, Interfaces::Any);
    let named = |remark: &String| remark.contains("`Interface`");
    assert_eq!(remarks(&unsaid).iter().filter(|r| named(r)).count(), 1);
    for key in ["Interface = eth0", "interface=eth0", "  INTERFACE  = eth0"] {
        let said = import(&format!("[options]\n{key}\n{text}"));
        let eth0 = Interfaces::Named(vec!["eth0".to_owned()]);
        assert_eq!(policy_of(&said).interfaces, eth0, "{key}");
        assert!(!remarks(&said).iter().any(named), "{key}");
    }
}

#[test]
fn the_usual_rules_are_recognised_however_they_are_written() {
    let rules = [
        "/sbin/iptables -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT",
        "/usr/sbin/iptables -A INPUT -p tcp -s %IP% --dport 22 -j ACCEPT",
        "iptables -I INPUT 1 -p tcp --dport ssh -s %IP% -j ACCEPT",
        "iptables --insert INPUT --protocol tcp --source %IP%/32 --destination-port 22 --jump ACCEPT",
        "iptables -w -t filter -A INPUT -s %IP% --dport 22 -j ACCEPT",
        "iptables -w 5 -I INPUT -s %IP% -p tcp -m tcp --syn --dport 22 -j ACCEPT",
        "iptables -I INPUT -s %IP% -p tcp -m state --state NEW -m comment --comment \"a b\" --dport 22 -j ACCEPT",
        "iptables -I INPUT -s \"%IP%\" -p tcp -m conntrack --ctstate NEW,ESTABLISHED --dport 22:22 -j ACCEPT",
    ];
    for rule in rules {
        let undo = rule
            .replace("INPUT 1", "INPUT")
            .replace("-I ", "-D ")
            .replace("-A ", "-D ")
            .replace("--insert", "--delete");
        let lines = [
            format!("start_command = {rule}"),
            "cmd_timeout = 30".to_owned(),
            format!("stop_command = {undo}"),
        ];
        let knock = knock(&lines.each_ref().map(String::as_str));
        assert_eq!(knock.action, KnockAction::Accept, "{rule}");
        assert_eq!(knock.lifetime, Some(time("30s")), "{rule}");
        assert_eq!(knock.gates, [GateName::new("ssh").unwrap()]);
    }
}

#[test]
fn without_cmd_timeout_it_lasts_ten_seconds_as_in_the_classic_daemon() {
    let knock = knock(&[
        "command = iptables -I INPUT -s %IP% -p udp --dport 1194 -j ACCEPT",
        "stop_command = iptables -D INPUT -s %IP% -p udp --dport 1194 -j ACCEPT",
    ]);
    assert_eq!(knock.lifetime, Some(time("10s")));
    assert_eq!(knock.gates, [GateName::new("openvpn").unwrap()]);
}

#[test]
fn what_is_not_the_usual_rule_is_run_as_it_is() {
    let commands = [
        "iptables -I FORWARD -s %IP% -p tcp --dport 22 -j ACCEPT",
        "iptables -I INPUT -s 192.0.2.1 -p tcp --dport 22 -j ACCEPT",
        "iptables -I INPUT -p tcp --dport 22 -j ACCEPT",
        "iptables -I INPUT -s %IP% -j ACCEPT",
        "iptables -I INPUT -s %IP% -p tcp --syn -j ACCEPT",
        "iptables -I INPUT -s %IP% -p tcp --dport 22 -j DROP",
        "iptables -I INPUT -s %IP% -p tcp --dport 22 -i eth1 -j ACCEPT",
        "iptables -I INPUT ! -s %IP% -p tcp --dport 22 -j ACCEPT",
        "iptables -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT; echo hello",
        "iptables -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT > /dev/null",
        "iptables -I INPUT -s %IP% -p tcp --dport 22:20 -j ACCEPT",
        "iptables -I INPUT -s %IP% -p tcp --dport 0 -j ACCEPT",
        "iptables -I INPUT -A INPUT -s %IP% -p tcp --dport 22 -j ACCEPT",
        "iptables -D INPUT 1 -s %IP% -p tcp --dport 22 -j ACCEPT",
        "ip6tables -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT",
        "iptables-save",
        "/usr/bin/etherwake 00:11:22:33:44:55",
        "echo '",
    ];
    for command in commands {
        let imported = import(&door(&[&format!("command = {command}")]));
        let policy = policy_of(&imported);
        assert!(policy.gates.is_empty(), "{command}");
        let KnockAction::Run(run) = &policy.knocks[0].action else {
            panic!("{command}");
        };
        assert_eq!(run.start.v4, Some(CommandLine::Shell(command.into())));
    }
}

#[test]
fn a_kept_command_that_a_gate_makes_useless_is_told_of() {
    let gate = "[a]\nsequence=7000,8000\ntcpflags=syn\n\
                command=iptables -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT\n";
    let told = |command: &str| {
        let text = format!("{gate}[b]\nsequence=7100,8100\ntcpflags=syn\n{command}\n");
        let imported = import(&text);
        assert!(is_run(&policy_of(&imported).knocks[1]), "{command}");
        let remarks = remarks(&imported);
        let mut about = remarks.iter().filter(|remark| remark.starts_with("b: "));
        about.any(|remark| remark.contains("cannot let anybody in to 22/tcp"))
    };
    for command in [
        "command = iptables -I INPUT -i tun0 -s %IP% -p tcp --dport 22 -j ACCEPT",
        "command = /sbin/iptables -I INPUT -i tun0 -s %IP% -p tcp --dport ssh -j ACCEPT",
        "command = iptables -I INPUT -i tun0 -s %IP% -m multiport --dports 80,20:25 -j ACCEPT",
        "command = iptables -I INPUT -i tun0 -s %IP% -p tcp --dport=22 -j ACCEPT",
        "command = iptables -A INPUT -s %IP% -p tcp --syn -j ACCEPT",
        "command = x\ncommand_6 = ip6tables -I INPUT -i tun0 -s %IP% --dport 22 -j ACCEPT; logger in",
        "command = nft add rule inet filter input ip saddr %IP% tcp dport 22 accept",
        "command = ufw insert 1 allow from %IP% to any port 22",
        "command = /usr/local/sbin/knock_add -i -c INPUT -p tcp -d 22 -f %IP%",
    ] {
        assert!(told(command), "{command}");
    }
    for command in [
        "command = iptables -I INPUT -i tun0 -s %IP% -p tcp --dport 443 -j ACCEPT",
        "command = iptables -I INPUT -i tun0 -s 192.0.2.22/22 -p tcp --dport 80 -j ACCEPT",
        "command = iptables -t nat -A PREROUTING -s %IP% -p tcp --dport 443 -j DNAT --to 10.0.0.22:22",
        "command = iptables -I INPUT -s %IP% -j DROP",
        "command = iptables -I INPUT -s %IP% -p tcp --dport 22 -j DROP",
        "command = iptables -I FORWARD -s %IP% -p tcp --dport 22 -j ACCEPT",
        "command = iptables -D INPUT -i tun0 -s %IP% -p tcp --dport 22 -j ACCEPT",
        "command = logger 22",
    ] {
        assert!(!told(command), "{command}");
    }
}

#[test]
fn a_stop_command_that_does_not_undo_the_start_is_run_as_it_is() {
    let open = "start_command = iptables -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT";
    for stop in [
        "logger bye",
        "iptables -D INPUT -s %IP% -p tcp --dport 23 -j ACCEPT",
        "iptables -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT",
        "ip6tables -D INPUT -s %IP% -p tcp --dport 22 -j ACCEPT",
    ] {
        assert!(
            is_run(&knock(&[open, &format!("stop_command = {stop}")])),
            "{stop}"
        );
    }
}

#[test]
fn both_families_are_one_acceptance_where_their_rules_are_the_same() {
    let four = "iptables -I INPUT -s %IP% -p tcp --dport 25 -j ACCEPT";
    let start = format!("start_command = {four}");
    let six = |rule: &str| format!("start_command_6 = {rule}");
    let same = six("/sbin/ip6tables -I INPUT -s %IP%/128 -p tcp --dport 25 -j ACCEPT");
    let imported = import(&door(&[&start, &same]));
    assert_eq!(policy_of(&imported).knocks[0].action, KnockAction::Accept);
    assert!(
        !remarks(&imported)
            .iter()
            .any(|remark| remark.contains("IPv6"))
    );

    let nothing = import(&door(&[&start, &six("")]));
    assert_eq!(policy_of(&nothing).knocks[0].action, KnockAction::Accept);
    assert!(
        remarks(&nothing)
            .iter()
            .any(|r| r.contains("where it did nothing before"))
    );

    for other in [
        "ip6tables -I INPUT -s %IP% -p tcp --dport 26 -j ACCEPT",
        "logger %IP%",
        "iptables -I INPUT -s %IP% -p tcp --dport 26 -j ACCEPT",
    ] {
        assert!(is_run(&knock(&[&start, &six(other)])), "{other}");
    }
}

#[test]
fn the_mathrice_scripts_verbs_are_actions_of_the_gate_ssh() {
    for (command, action) in [
        ("/etc/init.d/knockd accept %IP%", KnockAction::Accept),
        ("/etc/init.d/knockd drop %IP%", KnockAction::Drop),
        ("service knockd drop %IP%", KnockAction::Drop),
        (
            "/usr/sbin/invoke-rc.d knockd trust %IP%",
            KnockAction::Trust,
        ),
        ("/usr/local/sbin/knockd.sh flush %IP%", KnockAction::Flush),
        ("sudo knockctl accept %IP%", KnockAction::Accept),
    ] {
        let knock = knock(&[&format!("command = {command}")]);
        assert_eq!(knock.action, action, "{command}");
        assert_eq!(knock.lifetime, None, "the gate's time");
    }
    for other in [
        "/etc/init.d/ssh accept %IP%",
        "/etc/init.d/knockd restart %IP%",
        "/etc/init.d/knockd accept 192.0.2.1",
        "/etc/init.d/knockd accept %IP% now please",
    ] {
        assert!(is_run(&knock(&[&format!("command = {other}")])), "{other}");
    }
    let timed = knock(&[
        "start_command = /etc/init.d/knockd accept %IP%",
        "stop_command = /etc/init.d/knockd flush %IP%",
        "cmd_timeout = 60",
    ]);
    assert_eq!(
        (timed.action, timed.lifetime),
        (KnockAction::Accept, Some(time("60s")))
    );
}

#[test]
fn several_ports_are_several_gates_and_each_port_one() {
    let text = "[web]\nsequence=1000,2000\ntcpflags=syn\n\
                command=iptables -I INPUT -s %IP% -p tcp -m multiport --dports 80,443,6000:6007 -j ACCEPT\n\
                [ssl]\nsequence=3000,4000\ntcpflags=syn\n\
                command=iptables -I INPUT -s %IP% -p tcp --dport 443 -j ACCEPT\n\
                [x]\nsequence=5000,5001\ntcpflags=syn\n\
                command=iptables -I INPUT -s %IP% -p tcp --dport 6001 -j ACCEPT\n";
    let policy = policy_of(&import(text));
    let gates: Vec<&str> = policy.gates.iter().map(|gate| gate.name.as_str()).collect();
    assert_eq!(gates, ["http", "https", "tcp6000to6007"]);
    assert_eq!(policy.knocks[0].gates.len(), 3);
    assert_eq!(policy.knocks[1].gates, [GateName::new("https").unwrap()]);
    assert!(is_run(&policy.knocks[2]), "a part of another gate");
    assert_eq!(policy.knocks[2].gates.len(), 3);
}

#[test]
fn what_has_no_equivalent_is_said_and_never_lost_in_silence() {
    let text = "[options]\npidfile=/run/k.pid\nlogfile=/var/log/knockd.log\ninterface=ens3\n\
                [a]\nsequence=1000,2000\ntarget=192.0.2.9\ncommand=run me\nstop_command=z\ncmd_timeout=0\n\
                [b]\none_time_sequences=/etc/seq\ncommand=x\n";
    let imported = import(text);
    let policy = policy_of(&imported);
    let sheet = policy.knocks[1].one_time();
    assert_eq!(sheet, Some(Path::new("/etc/seq")));
    let knock = &policy.knocks[0];
    assert_eq!(knock.target, Some("192.0.2.9".parse().unwrap()));
    assert_eq!(knock.lifetime, Some(time("1s")));
    let KnockAction::Run(run) = &knock.action else {
        panic!("{knock:?}");
    };
    let line = Some(CommandLine::Shell("run me".into()));
    assert_eq!(
        run.start,
        PerFamily {
            v4: line.clone(),
            v6: line
        }
    );
    assert_eq!(
        policy.log.file.as_deref(),
        Some(Path::new("/var/log/knockd.log"))
    );
    let told = remarks(&imported).join("\n");
    for part in [
        "start knockd with -p /run/k.pid",
        "a: without `TCPFlags` every TCP packet counted",
        "a: `Cmd_Timeout = 0` is a second here",
    ] {
        assert!(told.contains(part), "{part}\n{told}");
    }
}

#[test]
fn what_a_policy_would_not_take_is_refused_with_its_reason() {
    let same = "[a]\nsequence=1000,2000\ncommand=x\n[b]\nsequence=1000,2000\ncommand=y\n";
    let error = knockd_conf(same, Path::new("k")).unwrap_err();
    assert!(matches!(error, ImportError::Refused { .. }));
    assert!(
        error
            .to_string()
            .contains("the sequence of `a` a second time"),
        "{error}"
    );
    let through = door(&["command=iptables -I INPUT -s %IP% -p tcp --dport 8000 -j ACCEPT"]);
    let error = knockd_conf(&through, Path::new("k")).unwrap_err();
    assert!(
        error.to_string().contains("a port of the gate `tcp8000`"),
        "{error}"
    );
    let yaml = knockd_conf("gates: {}\n", Path::new("k.yaml")).unwrap_err();
    assert!(matches!(yaml, ImportError::NotClassic(_)), "{yaml}");
    let wrong = knockd_conf("[a]\nsequence=x\n", Path::new("k")).unwrap_err();
    assert!(matches!(wrong, ImportError::File(_)), "{wrong}");
}

#[test]
fn what_is_said_of_a_file_has_no_control_characters_of_it() {
    let text = "[options]\npidfile=/run/\u{1b}[2J\u{202e}\n\
                [a]\none_time_sequences=/etc/\u{202e}\u{7}\ncommand=x\n\
                [b]\nsequence=1000,2000\ncommand=x\n";
    let told = remarks(&import(text)).join(" ");
    assert!(
        told.contains("\\u{1b}[2J") && told.contains("\\u{202e}"),
        "{told}"
    );
    assert!(!told.contains(char::is_control), "{told}");
    let error = knockd_conf("a: 1", Path::new("\u{1b}c")).unwrap_err();
    assert!(!error.to_string().contains(char::is_control), "{error:?}");
}
