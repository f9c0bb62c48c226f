use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use crate::model::{KnockPort, Lifetime};
use crate::policy::{
    Checked, CommandLine, Interfaces, Knock, KnockAction, LogStyle, PerFamily, Policy, Run,
    TcpFlags, check_report, parse,
};

fn checked(text: &str) -> Checked {
    parse(text, Path::new("/etc/knockd.conf")).unwrap_or_else(|errors| panic!("{errors}"))
}

fn policy(text: &str) -> Policy {
    checked(text).policy
}

/// The only door.
fn door(text: &str) -> Knock {
    let mut knocks = policy(text).knocks;
    assert_eq!(knocks.len(), 1);
    knocks.remove(0)
}

fn run(knock: &Knock) -> &Run {
    match &knock.action {
        KnockAction::Run(run) => run,
        other => panic!("{other:?}"),
    }
}

fn shell(line: &str) -> CommandLine {
    CommandLine::Shell(line.into())
}

fn both(line: &str) -> PerFamily {
    PerFamily {
        v4: Some(shell(line)),
        v6: Some(shell(line)),
    }
}

fn errors(text: &str) -> Vec<String> {
    let errors = parse(text, Path::new("k")).expect_err(text);
    errors.problems.iter().map(ToString::to_string).collect()
}

fn warnings(text: &str) -> Vec<String> {
    checked(text)
        .warnings
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// What the Debian package installs, in the shape if not in the letters.
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
";

#[test]
fn the_stock_file_is_read_whole() {
    let policy = policy(STOCK);
    assert!(policy.gates.is_empty());
    assert_eq!(policy.trusted, None);
    assert_eq!(policy.interfaces, Interfaces::Named(vec!["eth0".into()]));
    assert!(policy.log.syslog && policy.log.file.is_none());
    assert_eq!(policy.log.style, LogStyle::Classic);
    let names: Vec<&str> = policy.knocks.iter().map(|k| k.name.as_str()).collect();
    assert_eq!(names, ["openSSH", "closeSSH"]);
    let open = &policy.knocks[0];
    assert_eq!(open.sequence, [7000, 8000, 9000].map(KnockPort::tcp));
    assert_eq!(open.seq_timeout, Duration::from_secs(5));
    let syn = TcpFlags {
        set: TcpFlags::SYN,
        clear: 0,
    };
    assert_eq!(open.flags, syn);
    assert_eq!(open.lifetime, None);
    assert!(run(open).stop.is_empty());
    let line = "/sbin/iptables -A INPUT -s %IP% -p tcp --dport 22 -j ACCEPT";
    assert_eq!(run(open).start, both(line));
}

#[test]
fn every_key_counts_whatever_the_case_of_its_letters() {
    let text = "# a comment, and = in it
[options]
LOGFILE = /var/log/knockd.log
pidfile=/run/k.pid
  Interface =  ens3
[ftp]
SEQUENCE = 1000 , 2000:UDP,3000:tcp
Timeout=7
TcpFlags=FIN,!ack
target = ::ffff:192.0.2.9
START_COMMAND = a=b; echo %IP% > /tmp/x # not a comment
Start_Command_6=
Stop_Command=c
CMD_TIMEOUT=3
";
    let whole = policy(text);
    assert_eq!(
        whole.log.file.as_deref(),
        Some(Path::new("/var/log/knockd.log"))
    );
    assert_eq!(whole.pid_file.as_deref(), Some(Path::new("/run/k.pid")));
    assert_eq!(whole.interfaces, Interfaces::Named(vec!["ens3".into()]));
    assert!(!whole.log.syslog);
    let door = &whole.knocks[0];
    let ports = [
        KnockPort::tcp(1000),
        KnockPort::udp(2000),
        KnockPort::tcp(3000),
    ];
    assert_eq!(door.sequence, ports);
    assert_eq!(door.seq_timeout, Duration::from_secs(7));
    assert_eq!(door.target, Some("192.0.2.9".parse().unwrap()));
    let flags = TcpFlags {
        set: TcpFlags::FIN,
        clear: TcpFlags::ACK,
    };
    assert_eq!(door.flags, flags);
    assert_eq!(
        run(door).start.v4,
        Some(shell("a=b; echo %IP% > /tmp/x # not a comment"))
    );
    assert_eq!(
        run(door).start.v6,
        None,
        "an empty command is nothing to do"
    );
    assert_eq!(
        run(door).stop,
        both("c"),
        "without its own, IPv6 has IPv4's"
    );
    assert_eq!(door.lifetime, Some(Lifetime::For(Duration::from_secs(3))));
}

#[test]
fn what_is_left_out_is_as_in_the_classic_daemon() {
    let door = door("[a]\nsequence=1,2\ncommand=x\nstop_command=y\n");
    assert_eq!(door.seq_timeout, Duration::from_secs(25));
    assert_eq!(door.lifetime, Some(Lifetime::For(Duration::from_secs(10))));
    assert_eq!(door.target, None);
    for flags in 0..64 {
        assert!(door.flags.fit(flags), "unlisted flags do not matter");
    }
}

#[test]
fn a_file_with_windows_line_ends_a_mark_and_no_options_is_one_too() {
    let door = door("\u{feff}# hello\r\n\r\n[a]\r\nsequence=1,2\r\ncommand=x y\r\n");
    assert_eq!(run(&door).start, both("x y"));
}

#[test]
fn doors_may_share_sequences_since_each_has_its_own_command() {
    let text = "[a]\nsequence=1000,2000\ncommand=x\n[b]\nsequence=1000,2000\ncommand=y\n\
                [c]\nsequence=1000,2000,3000\ncommand=z\n";
    assert_eq!(policy(text).knocks.len(), 3);
}

/// A door with this line instead of its sequence.
fn with_sequence(ports: &str) -> String {
    format!("[a]\nsequence = {ports}\ncommand=x\n")
}

#[test]
fn ports_that_the_classic_daemon_swallows_are_errors() {
    let port = "a port from 1 to 65535, such as `7000` or `7000:udp`";
    let cases = [
        ("abc", format!("2:12: found `abc`, expected {port}")),
        ("7000, -5", format!("2:18: found `-5`, expected {port}")),
        (
            "7000,8000-8010",
            format!(
                "2:17: found `8000-8010`, expected {port} (a sequence has no ranges: write the \
                 ports one by one)"
            ),
        ),
        (
            "7000,",
            format!("2:17: found nothing between commas, expected {port} (a comma too many?)"),
        ),
        (
            "7000 8000",
            format!("2:12: found `7000 8000`, expected {port} (did you mean `7000,8000`?)"),
        ),
        (
            "7000/udp",
            format!("2:12: found `7000/udp`, expected {port} (did you mean `7000:udp`?)"),
        ),
        (
            "1,2 # first",
            format!(
                "2:14: found `2 # first`, expected {port} (comments stand on lines of their own)"
            ),
        ),
        ("0", format!("2:12: found `0`, expected {port}")),
        ("65536", format!("2:12: found `65536`, expected {port}")),
        (
            "1:sctp",
            "2:12: found `1:sctp`, expected `tcp` or `udp` after the port".to_owned(),
        ),
    ];
    for (ports, expected) in cases {
        assert_eq!(errors(&with_sequence(ports)), [expected], "{ports}");
    }
    let long = vec!["1"; 33].join(",");
    assert!(errors(&with_sequence(&long))[0].contains("a sequence of 33 ports"));
    let fits = vec!["1"; 32].join(",");
    assert_eq!(door(&with_sequence(&fits)).sequence.len(), 32);
}

#[test]
fn everything_that_is_wrong_is_said_at_once_and_where() {
    let text = "[Options]
UseSyslog
[a]
sequence = 1,2
tcpflags = syn, ack
comand = x
command = y
command = z
seq_timeout = 15s
[b
cmd_timeout = -1
[options]
UseSyslog = yes
command = x
LogFile = '/k.log'
interface = eth0,eth1
[c]
sequnce = 1,2
sequence 1
target = 192.0.2.0/24
logfile = /x
[d]
[d]
sequence=1
one_time_sequences=/x
command=x
; no comment
";
    let told = errors(text);
    let expected = [
        "1:1: found `[Options]`, expected `[options]`, in small letters, or a door's name (did you mean `options`?)",
        "5:12: found the flag ` ack`, expected `fin`, `syn`, `rst`, `psh`, `ack` or `urg`, each alone or after `!`, separated by commas without spaces (did you mean `syn,ack`?)",
        "6:1: found the unknown key `comand`, expected ",
        "8:1: found the key `command` a second time (line 7), expected each key once",
        "9:15: found `15s`, expected a whole number of seconds from 1 to 31536000 (did you mean `15`? It is in seconds, without a unit)",
        "10:1: found `[b`, expected a section such as `[openSSH]` (the `]` is missing)",
        "11:15: found `-1`, expected a whole number of seconds from 0 to 31536000",
        "13:13: found a value for `UseSyslog`, expected the word alone (leave the line out to say no)",
        "14:1: found the unknown key `command`, expected `UseSyslog`, `LogFile`, `PidFile` or `Interface` (it belongs into the section of a door)",
        "15:11: found `'/k.log'`, expected an absolute path, such as `/var/log/knockd.log`",
        "16:13: found `eth0,eth1`, expected the name of one interface, such as `eth0` (a policy in YAML may have several; `any` is all of them)",
        "17:1: found the door `c` without `Sequence`, expected ",
        "18:1: found the unknown key `sequnce`, expected ",
        "19:1: found the unknown key `sequence 1`, expected ",
        "20:10: found `192.0.2.0/24`, expected an IPv4 or IPv6 address",
        "21:1: found the unknown key `logfile`, expected ",
        "22:1: found the door `d` without `Sequence`, expected ",
        "25:1: found `One_Time_Sequences` beside `Sequence`, expected one of the two",
        "27:1: found `; no comment`, expected a section, a key or a comment (comments begin with `#`)",
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.starts_with(expected), "{told}\n{expected}");
    }
    assert!(told[2].ends_with("(did you mean `command`?)") || told[2].contains("Command"));
    assert!(told[13 + 2].contains("Sequence"), "{}", told[15]);
    assert!(told[18].contains(';'));
    assert!(
        told.iter()
            .any(|line| line.contains("(it belongs into `[options]`)"))
    );
}

#[test]
fn what_is_doubtful_but_works_is_a_warning() {
    let text = "[options]\nInterface = eth0:1\n[open it]\nsequence=7000,8000\ncmd_timeout=5\n";
    let told = warnings(text);
    assert_eq!(told.len(), 5, "{told:#?}");
    assert!(
        told[3].starts_with("4:10: found a sequence of ports in ascending order without the flags")
    );
    assert!(told[0].starts_with("2:13: found `eth0:1`, expected `eth0`, with `Target`"));
    assert!(
        told.iter()
            .any(|line| line.contains("it is called `open_it` here"))
    );
    assert!(
        told.iter()
            .any(|line| line.contains("without a command to start"))
    );
    assert!(
        told.iter()
            .any(|line| line.contains("without `Stop_Command`"))
    );
    let alias = policy(text);
    assert_eq!(alias.interfaces, Interfaces::Named(vec!["eth0".into()]));
    assert_eq!(alias.knocks[0].lifetime, None);

    let told = warnings("[a]\nsequence=7000\ncommand=x %ip%\n");
    assert!(
        told.iter()
            .any(|line| line.contains("a single scan of this port starts"))
    );
    assert!(
        told.iter()
            .any(|line| line.contains("only `%IP%` becomes the address"))
    );

    let text = "[a]\none_time_sequences=/etc/knockd/seq\ncommand=x\n";
    assert_eq!(warnings(text), [] as [String; 0]);
    let one_time = door(text);
    assert!(one_time.sequence.is_empty());
    assert_eq!(one_time.one_time(), Some(Path::new("/etc/knockd/seq")));
}

#[test]
fn what_the_classic_daemon_runs_soundly_runs_with_a_warning() {
    let text = "[options]\nlogfile = log/k.log\npidfile = k.pid\n\
                [open it]\nsequence = 7000 :udp,8000: UDP\ncommand=x\n\
                [open_it]\nsequence=7001,8001\ncommand=y\n\
                [open_it]\none_time_sequences=seq\ncommand=z\n";
    let told = warnings(text);
    for (told, expected) in told.iter().zip([
        "2:11: found `log/k.log`, expected an absolute path, such as `/var/log/knockd.log` \
         (`/log/k.log` is taken)",
        "3:11: found `k.pid`, expected an absolute path, such as `/var/log/knockd.log` (`/k.pid` \
         is taken)",
        "4:1: found `[open it]`",
        "5:12: found a sequence of UDP ports in ascending order",
        "7:1: found the door `open_it` a second time (line 4), expected a name of its own for each \
         door (this one is called `open_it_2` here)",
        "8:10: found a sequence of ports in ascending order without the flags `syn,!ack`",
        "10:1: found the door `open_it` a second time",
        "11:20: found `seq`, expected the absolute path of a file of sequences (`/seq` is taken)",
    ]) {
        assert!(told.starts_with(expected), "{told}\n{expected}");
    }
    assert_eq!(told.len(), 8, "{told:#?}");
    let policy = policy(text);
    assert_eq!(policy.log.file.as_deref(), Some(Path::new("/log/k.log")));
    assert_eq!(policy.pid_file.as_deref(), Some(Path::new("/k.pid")));
    let doors = policy.knocks.iter().map(|door| door.name.as_str());
    assert_eq!(
        doors.collect::<Vec<_>>(),
        ["open_it", "open_it_2", "open_it_3"]
    );
    assert_eq!(policy.knocks[0].sequence, [7000, 8000].map(KnockPort::udp));
    let sheet = policy.knocks[2].one_time();
    assert_eq!(sheet, Some(Path::new("/seq")));
}

#[test]
fn a_door_may_be_called_nearly_as_the_options_are() {
    for name in ["actions", "notions", "motions", "stations"] {
        let text = format!("[{name}]\nsequence=1,2\ncommand=x\n");
        assert_eq!(door(&text).name.as_str(), name);
    }
    for name in ["OPTIONS", "option", "optoins", "optionss"] {
        let text = format!("[{name}]\nsequence=1,2\ncommand=x\n");
        assert!(
            errors(&text)[0].ends_with("(did you mean `options`?)"),
            "{name}"
        );
    }
    let long = "x".repeat(64);
    let text = format!("[{long}]\nsequence=1,2\ncommand=x\n").repeat(2);
    let doors = policy(&text).knocks;
    assert_eq!(doors[1].name.as_str(), format!("{}_2", "x".repeat(58)));
}

#[test]
fn commands_that_are_too_long_or_hide_something_are_errors() {
    let long = format!("[a]\nsequence=1,2\ncommand={}\n", "x".repeat(4097));
    assert!(errors(&long)[0].starts_with("3:9: found a command of 4097 bytes"));
    assert!(
        errors("[a]\nsequence=1,2\ncommand=x\u{1b}[2J\n")[0].starts_with("3:9: found `x\\u{1b}")
    );
    assert_eq!(
        run(&door("[a]\nsequence=1,2\ncommand=x\ty\n")).start,
        both("x\ty")
    );
}

#[test]
fn a_file_without_doors_or_with_lines_before_them_is_an_error() {
    assert!(errors("[options]\nUseSyslog\n")[0].contains("found no door"));
    let many: Vec<String> = (0..1025)
        .map(|n| format!("[d{n}]\nsequence=1\ncommand=x\n"))
        .collect();
    assert!(errors(&many.concat())[0].contains("the 1025th door"));
}

#[test]
fn yaml_is_told_apart_by_its_first_line() {
    for yaml in [
        "gates: {}\n",
        "[a, b]\n",
        "[\"a\"]\n",
        "[a: b]\n",
        "[{a: b}]\n",
    ] {
        assert!(!super::is_classic(yaml), "{yaml}");
    }
    for conf in [
        "[options]",
        "\u{feff}# x\n\n  [a b]  \n",
        "; x\n[a]\n",
        "[a:b]\n",
    ] {
        assert!(super::is_classic(conf), "{conf}");
    }
}

#[test]
fn check_says_in_words_what_a_classic_file_does() {
    let Checked { policy, warnings } = checked(&STOCK.replace(
        "command     = /sbin/iptables -D",
        "stop_command = bye\n\tstart_command_6 =\n\tstart_command     = /sbin/iptables -D",
    ));
    let report = check_report(&policy, &warnings, None, &[]);
    for line in [
        "  None: nothing is installed in the firewall.\n",
        "  openSSH: TCP with SYN to 7000 then 8000 then 9000 within 5s runs `/sbin/iptables -A \
         INPUT -s %IP% -p tcp --dport 22 -j ACCEPT`.\n",
        "(IPv6: nothing), and `bye` 10s later.\n",
        "  Knocks count on eth0.\n",
        "  The log goes to the system log, in the words of the classic knockd.\n",
        "  tcp, knocks: 7000, 8000, 9000\n",
    ] {
        assert!(report.contains(line), "{line}\n{report}");
    }
    assert!(!report.contains("Firewall:"), "{report}");
}

proptest! {
    #[test]
    fn nonsense_is_refused_or_read_and_never_panics(
        lines in prop::collection::vec(
            prop_oneof![
                "\\PC{0,30}",
                "\\[[a-zé ]{0,9}\\]?",
                "(sequence|command|TCPFlags|seq_timeout|target|interface|Cmd_Timeout)[ =]{0,3}[ !,:0-9a-z#-]{0,20}",
            ],
            0..20,
        ),
    ) {
        let text = format!("[a]\n{}", lines.join("\n"));
        match parse(&text, Path::new("k")) {
            Ok(checked) => prop_assert!(!checked.policy.knocks.is_empty()),
            Err(errors) => prop_assert!(!errors.problems.is_empty()),
        }
    }

    #[test]
    fn what_is_written_is_read(
        ports in prop::collection::vec((1..=u16::MAX, any::<bool>()), 1..=32),
        timeout in 1..100_000u32,
        command in "[ -~]{1,40}",
    ) {
        let written: Vec<String> = ports
            .iter()
            .map(|(port, udp)| format!("{port}{}", if *udp { ":udp" } else { "" }))
            .collect();
        let text = format!(
            "[d]\nsequence = {}\nseq_timeout = {timeout}\ncommand = {command}\n",
            written.join(",")
        );
        let door = door(&text);
        let expected: Vec<KnockPort> = ports
            .iter()
            .map(|&(port, udp)| if udp { KnockPort::udp(port) } else { KnockPort::tcp(port) })
            .collect();
        prop_assert_eq!(&door.sequence, &expected);
        prop_assert_eq!(door.seq_timeout, Duration::from_secs(timeout.into()));
        let trimmed = command.trim();
        prop_assert_eq!(
            run(&door).start.v4.clone(),
            (!trimmed.is_empty()).then(|| CommandLine::Shell(trimmed.to_owned()))
        );
    }
}

#[test]
fn what_is_wrong_is_told_without_control_characters() {
    for line in ["tcpflags = sin\u{1b}[a b]", "sequence = 7000\u{1b} 8000"] {
        let told = errors(&format!("[a]\nsequence = 1,2\ncommand = true\n{line}\n"));
        assert!(
            told.iter().all(|line| !line.contains(char::is_control)),
            "{told:?}"
        );
    }
}
