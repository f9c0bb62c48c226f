//! Malformed policies, each with every line that is said about it.

use std::path::Path;

use super::parse;

const GATE: &str = "gates: { ssh: { ports: [22] } }\n";
const KNOCK: &str = "gates: { ssh: { ports: [22] } }\nknocks:\n  a: ";

/// `<G>` stands for `GATE`, `<K>` for `KNOCK`; all messages begin with `p.yaml:`.
#[rustfmt::skip]
const CASES: &[(&str, &[&str])] = &[
    ("", &[
        "1:1: found an empty policy, expected at least one gate (for example `gates: { ssh: { ports: [22] } }`)",
    ]),
    ("# c\n", &[
        "1:1: found an empty policy, expected at least one gate (for example `gates: { ssh: { ports: [22] } }`)",
    ]),
    ("~", &[
        "1:1: found an empty policy, expected at least one gate (for example `gates: { ssh: { ports: [22] } }`)",
    ]),
    ("just words", &[
        "1:1: found `just words`, expected a mapping with `gates` and `knocks`",
    ]),
    ("- 1\n- 2\n", &[
        "1:1: found a list, expected a mapping with `gates` and `knocks`",
    ]),
    ("[]", &[
        "1:1: found an empty list, expected a mapping with `gates` and `knocks`",
    ]),
    ("{}", &[
        "1:1: found a policy without `gates`, expected for example `gates: { ssh: { ports: [22] } }`",
    ]),
    ("gates: {}", &[
        "1:8: found no gate, expected at least one under `gates`",
    ]),
    ("gates: {}\nknocks: { a: { sequence: [1, 2], action: run, start: x, gate: ssh } }", &[
        "2:57: found `gate` in a policy without gates, expected no `gate`",
    ]),
    ("knocks: { a: { sequence: [1, 2], action: run, start: x }, b: { sequence: [3, 4], action: drop } }", &[
        "1:1: found a policy without `gates`, expected for example `gates: { ssh: { ports: [22] } }`",
    ]),
    ("<K>{ sequence: [1228, 1227], action: accept, target: 192.0.2.0/24 }\n", &[
        "3:56: found `192.0.2.0/24`, expected an IPv4 or IPv6 address",
    ]),
    ("<G>log: { file: knockd.log, syslog: yes, style: loud, level: 3 }\n", &[
        "2:14: found `knockd.log`, expected the absolute path of a log file",
        "2:34: found `yes`, expected `true` or `false` (did you mean `true`?)",
        "2:46: found `loud`, expected `plain` or `classic`",
        "2:52: found the unknown key `level`, expected `file`, `syslog` or `style`",
    ]),
    ("gates:\n", &[
        "1:1: found nothing, expected a mapping of gate names to gates",
    ]),
    ("gates: [ssh]", &[
        "1:8: found a list, expected a mapping of gate names to gates",
    ]),
    ("gates: { ssh: }", &[
        "1:10: found nothing, expected a mapping with at least `ports`",
    ]),
    ("gates: { ssh: {} }", &[
        "1:10: found the gate `ssh` without `ports`, expected a list of ports such as `[22]` or `[\"60000-61000/udp\"]`",
    ]),
    ("gates: { Ssh: { ports: [22] } }", &[
        "1:10: found `Ssh`, expected a gate name: a small letter, then up to 15 small letters or digits",
    ]),
    ("gates: { all: { ports: [22] } }", &[
        "1:10: found `all` as a gate's name, expected another name, since `gate: all` means every gate",
    ]),
    ("gates: { ssh: { ports: 22 } }", &[
        "1:24: found `22`, expected a list of ports such as `[22]` or `[\"60000-61000/udp\"]` (write `[22]`)",
    ]),
    // What cannot be shown as it is cannot be suggested either.
    ("gates: { ssh: { ports: \"22\\t\" } }", &[
        "1:24: found `22\\u{9}`, expected a list of ports such as `[22]` or `[\"60000-61000/udp\"]`",
    ]),
    ("gates: { ssh: { ports: [] } }", &[
        "1:24: found an empty list, expected 1 to 128 ports or ranges",
    ]),
    ("gates: { ssh: { ports: [0, 65536, -1, 22.5, ssh, 22:udp, 22/sctp, 30-20, [22], ~, 22, 22/tcp, 20-30] } }", &[
        "1:25: found `0`, expected a port from 1 to 65535 or a range, such as `22`, `22/tcp` or `60000-61000/udp`",
        "1:28: found `65536`, expected a port from 1 to 65535 or a range, such as `22`, `22/tcp` or `60000-61000/udp`",
        "1:35: found `-1`, expected a port from 1 to 65535 or a range, such as `22`, `22/tcp` or `60000-61000/udp`",
        "1:39: found `22.5`, expected a port from 1 to 65535 or a range, such as `22`, `22/tcp` or `60000-61000/udp`",
        "1:45: found `ssh`, expected a port from 1 to 65535 or a range, such as `22`, `22/tcp` or `60000-61000/udp`",
        "1:50: found `22:udp`, expected a port from 1 to 65535 or a range, such as `22`, `22/tcp` or `60000-61000/udp` (did you mean `22/udp`?)",
        "1:58: found `22/sctp`, expected `/tcp` or `/udp` after the port",
        "1:67: found `30-20`, expected the smaller port first (did you mean `20-30`?)",
        "1:74: found a list, expected a port from 1 to 65535 or a range, such as `22`, `22/tcp` or `60000-61000/udp`",
        "1:80: found nothing, expected a port from 1 to 65535 or a range, such as `22`, `22/tcp` or `60000-61000/udp`",
        "1:87: found 22/tcp, which `22/tcp` already covers in part or whole, expected each port once",
        "1:95: found 20-30/tcp, which `22/tcp` already covers in part or whole, expected each port once",
    ]),
    ("gates: { ssh: { ports: [22], hook: forward } }", &[
        "1:36: found a gate for forwarded traffic without `address`, expected `address` with the address or network behind this host",
    ]),
    ("gates: { ssh: { ports: [22], hook: both, address: www.example.org } }", &[
        "1:51: found the host name `www.example.org` on a gate for forwarded traffic, expected an address or a network behind this host",
    ]),
    ("gates: { ssh: { ports: [22], hook: inptu, address: 999.1.1.1, verdict: x, once: yes, log_drops: 1, ipv6_prefix: 56, accept_timout: 300s, ban_timeout: 5 m, accept_timeout: 300 } }", &[
        "1:36: found `inptu`, expected `input`, `forward` or `both` (did you mean `input`?)",
        "1:52: found `999.1.1.1`, expected an address, a network or a host name",
        "1:72: found `x`, expected `accept` or `return`",
        "1:81: found `yes`, expected `true` or `false` (did you mean `true`?)",
        "1:97: found `1`, expected `true` or `false`",
        "1:113: found `56`, expected `128` or `64`",
        "1:117: found the unknown key `accept_timout`, expected `ports`, `address`, `hook`, `accept_timeout`, `ban_timeout`, `verdict`, `once`, `log_drops`, `cut_sessions` or `ipv6_prefix` (did you mean `accept_timeout`?)",
        "1:151: found `5 m`, expected a duration such as `300s`, `5m`, `1h30m` or `never`",
        "1:172: found `300` without a unit, expected a duration such as `300s`, `5m`, `1h30m` or `never` (did you mean `300s`?)",
    ]),
    ("gates: { ssh: { ports: [22], address: 0.0.0.0/0, accept_timeout: never, verdict: return, cut_sessions: \"true\" } }\nx: 1", &[
        "1:39: found `0.0.0.0/0`, expected a network smaller than everything (leave `address` out to guard every address of this host)",
        "1:104: found `true`, expected `true` or `false` (without quotes)",
        "2:1: found the unknown key `x`, expected `interface`, `firewall`, `trusted`, `never_ban`, `scan_guard`, `ban`, `memory`, `history`, `gates`, `knocks` or `log`",
    ]),
    ("gates: { a: { ports: [22] }, b: { ports: [20-25] } }", &[
        "1:43: found 20-25/tcp, where the gate `a` of line 1 guards 22/tcp already, expected each port in one gate, unless their `hook` or `address` differ",
    ]),
    ("gates: { a: { ports: [22], address: 192.0.2.1 }, b: { ports: [22], address: 192.0.2.1/32 } }", &[
        "1:63: found 22/tcp, where the gate `a` of line 1 guards 22/tcp already, expected each port in one gate, unless their `hook` or `address` differ",
    ]),
    ("gates:\n\tssh: 1\n", &[
        "2:1: found a tab, expected spaces for indentation (YAML does not take tabs there)",
    ]),
    ("<G>gates: {}\n", &[
        "2:1: found the key `gates` a second time, expected each key once",
    ]),
    ("<G>interface: [eth0, lo, eth0, any, a/b, 'a b', abcdefghijklmnop, ~]\n", &[
        "2:19: found `lo`, expected an interface that others reach; loopback is never gated",
        "2:23: found the interface `eth0` a second time, expected each interface once",
        "2:29: found `any` inside a list, expected `any` by itself, or names",
        "2:34: found `a/b`, expected an interface name: 1 to 15 bytes without `/`, `:` or white space",
        "2:39: found `a b`, expected an interface name: 1 to 15 bytes without `/`, `:` or white space",
        "2:46: found `abcdefghijklmnop`, expected an interface name: 1 to 15 bytes without `/`, `:` or white space",
        "2:64: found nothing, expected an interface name: 1 to 15 bytes without `/`, `:` or white space",
    ]),
    ("<G>interface: lo\n", &[
        "2:12: found `lo`, expected an interface that others reach; loopback is never gated",
    ]),
    ("<G>interface: []\n", &[
        "2:12: found 0 interfaces, expected `any`, a name or a list of 1 to 64 names",
    ]),
    ("<G>firewall: { backend: iptable, on_stop: close, foo: 1 }\n", &[
        "2:22: found `iptable`, expected `auto`, `iptables` or `nftables` (did you mean `iptables`?)",
        "2:40: found `close`, expected `keep` or `closed` (did you mean `closed`?)",
        "2:47: found the unknown key `foo`, expected `backend`, `on_stop` or `owner`",
    ]),
    ("<G>firewall: { owner: maybe }\n", &[
        "2:20: found `maybe`, expected `true` or `false`",
    ]),
    ("<G>firewall: nftables\n", &[
        "2:11: found `nftables`, expected a mapping with `backend`, `on_stop` and `owner`",
    ]),
    ("<G>trusted: ~\nnever_ban: [192.0.2.1/33, x]\nmemory: 32\n", &[
        "2:10: found nothing, expected the path of the whitelist file",
        "3:13: found `192.0.2.1/33`, expected an address or a network such as `192.0.2.0/24`",
        "3:27: found `x`, expected an address or a network such as `192.0.2.0/24`",
        "4:9: found `32`, expected a size from `64KiB` to `1GiB` (did you mean `32MiB`?)",
    ]),
    ("<G>memory: 32MB\nscan_guard: { ports: 0, within: never, action: ban }\nnever_ban: 192.0.2.1\n", &[
        "2:9: found `32MB`, expected a size from `64KiB` to `1GiB` (did you mean `32MiB`?)",
        "3:22: found `0`, expected a whole number from 1 to 65535",
        "3:33: found `never`, expected a duration such as `300s`, `5m` or `1h30m`",
        "3:48: found `ban`, expected `none` or `drop`",
        "4:12: found `192.0.2.1`, expected a list of addresses and networks such as `[192.0.2.0/24, 2001:db8::1]` (write `[192.0.2.1]`)",
    ]),
    ("<G>history: 90d\n", &[
        "2:10: found `90d`, expected a mapping with `keep` and `rows`",
    ]),
    ("<G>history: { keep: never, rows: 0, since: 1d }\n", &[
        "2:18: found `never`, expected a duration such as `300s`, `5m` or `1h30m`",
        "2:31: found `0`, expected a whole number from 1 to 1000000",
        "2:34: found the unknown key `since`, expected `keep` or `rows`",
    ]),
    ("<G>history: { keep: 90, rows: 2000000 }\n", &[
        "2:18: found `90` without a unit, expected a duration such as `300s`, `5m` or `1h30m` (did you mean `90s`?)",
        "2:28: found `2000000`, expected a whole number from 1 to 1000000",
    ]),
    ("<G>scan_guard: { nearby: 1001 }\n", &[
        "2:23: found `1001`, expected a whole number from 0 to 1000",
    ]),
    ("<G>memory: 2GiB\n", &[
        "2:9: found `2GiB`, expected a size from `64KiB` to `1GiB` (a whole GiB has room for 19 million records)",
    ]),
    ("<G>memory: 63KiB\n", &[
        "2:9: found `63KiB`, expected a size from `64KiB` to `1GiB`",
    ]),
    ("<K>{ sequence: [1228, 1227], seq_timout: 15s, action: accept }\n", &[
        "3:32: found the unknown key `seq_timout`, expected `sequence`, `seq_timeout`, `tcpflags`, `target`, `action`, `gate`, `for`, `ban`, `start`, `stop`, `start_6`, `stop_6`, `shell` or `timeout` (did you mean `seq_timeout`?)",
    ]),
    ("<K>{ sequence: [1228, 1227], seq_timeout: 15, action: acept }\n", &[
        "3:45: found `15` without a unit, expected a duration such as `300s`, `5m` or `1h30m` (did you mean `15s`?)",
        "3:57: found `acept`, expected `accept`, `drop`, `trust`, `flush`, `open`, `close` or `run` (did you mean `accept`?)",
    ]),
    ("<K>{ sequence: [1228, 1227], seq_timeout: never, action: run, start: x }\n", &[
        "3:45: found `never`, expected a duration such as `300s`, `5m` or `1h30m`",
    ]),
    ("<K>{ sequence: [1228, 1227], action: accept, start: x, shell: true }\n", &[
        "3:48: found `start`, expected it only with `action: run`",
        "3:58: found `shell`, expected it only with `action: run`",
    ]),
    ("<K>{ sequence: [], action: accept }\n", &[
        "3:18: found an empty sequence, expected a list of 1 to 32 ports such as `[1228, 1227]`",
    ]),
    ("<K>{ sequence: 1228, action: accept }\n", &[
        "3:18: found `1228`, expected a list of 1 to 32 ports such as `[1228, 1227]` (write `[1228]`)",
    ]),
    ("<K>{ sequence: \"1228,1227\", action: accept }\n", &[
        "3:18: found `1228,1227`, expected a list of 1 to 32 ports such as `[1228, 1227]` (write `[1228,1227]`)",
    ]),
    ("<K>{ sequence: [1228:sctp, 0, 70000, 1-2, x], action: accept }\n", &[
        "3:19: found `1228:sctp`, expected `tcp` or `udp` after the port",
        "3:30: found `0`, expected a port from 1 to 65535, such as `1228`, `\"1228:udp\"` or `1228/udp`",
        "3:33: found `70000`, expected a port from 1 to 65535, such as `1228`, `\"1228:udp\"` or `1228/udp`",
        "3:40: found `1-2`, expected a port from 1 to 65535, such as `1228`, `\"1228:udp\"` or `1228/udp`",
        "3:45: found `x`, expected a port from 1 to 65535, such as `1228`, `\"1228:udp\"` or `1228/udp`",
    ]),
    ("<K>{ sequence: [22, 1227], action: accept }\n", &[
        "3:19: found 22/tcp, a port of the gate `ssh`, expected a port that no gate guards",
    ]),
    ("<K>{ action: accept }\n", &[
        "3:3: found the knock `a` without `sequence`, expected a list of 1 to 32 ports such as `[1228, 1227]`",
    ]),
    ("<K>{ sequence: [1, 2] }\n", &[
        "3:3: found the knock `a` without `action`, expected `accept`, `drop`, `trust`, `flush`, `open`, `close` or `run`",
    ]),
    ("<K>~\n", &[
        "3:6: found nothing, expected a mapping with `sequence` and `action`",
    ]),
    ("<K>[1228]\n", &[
        "3:6: found a list, expected a mapping with `sequence` and `action`",
    ]),
    ("<K>{ sequence: [1228, 1227], tcpflags: \"syn,!syn\", action: accept }\n", &[
        "3:42: found both `syn` and `!syn`, expected one of the two, since no packet has both",
    ]),
    ("<K>{ sequence: [1228, 1227], tcpflags: \"syn,,ack\", action: accept }\n", &[
        "3:42: found an empty flag in `syn,,ack`, expected `fin`, `syn`, `rst`, `psh`, `ack` or `urg`, separated by commas, each alone or after `!`",
    ]),
    ("<K>{ sequence: [1228, 1227], tcpflags: sin, action: accept }\n", &[
        "3:42: found the unknown flag `sin`, expected `fin`, `syn`, `rst`, `psh`, `ack` or `urg`, separated by commas, each alone or after `!` (did you mean `fin`?)",
    ]),
    ("<K>{ sequence: [1228, 1227], tcpflags: !ack, action: accept }\n", &[
        "3:42: found the YAML tag `!ack`, expected text without a tag (write flags with `!` in quotes: `tcpflags: \"syn,!ack\"`)",
    ]),
    ("<K>{ sequence: [1228, 1227], tcpflags: syn,!ack, action: accept }\n", &[
        "3:46: found the YAML tag `!ack`, expected text without a tag (write flags with `!` in quotes: `tcpflags: \"syn,!ack\"`)",
    ]),
    ("<K>{ sequence: [1228, 1227], action: accept, gate: shh }\n", &[
        "3:54: found the unknown gate `shh`, expected `ssh` or `all` (did you mean `ssh`?)",
    ]),
    ("<K>{ sequence: [1228, 1227], action: accept, gate: [ssh, ssh, all, {}] }\n", &[
        "3:60: found the gate `ssh` a second time, expected each gate once",
        "3:65: found `all` inside a list, expected `ssh` or `all`",
        "3:70: found a mapping, expected `ssh` or `all`",
    ]),
    ("<K>{ sequence: [1228, 1227], action: flush, for: 5m }\n", &[
        "3:47: found `for` with `action: flush`, expected `for` only with `accept`, `drop` or `open`",
    ]),
    ("<K>{ sequence: [1228, 1227], action: accept, for: 0s }\n", &[
        "3:53: found `0s`, expected more than zero and at most `36500d`",
    ]),
    ("<K>{ sequence: [1228, 1227], action: accept, for: 99999999999999s }\n", &[
        "3:53: found `99999999999999s`, expected more than zero and at most `36500d`",
    ]),
    ("<K>{ sequence: [1, 2], action: accept }\n  b: { sequence: [1, 2], action: drop }\n  c: { sequence: [1, 2, 3], action: drop }\n", &[
        "4:18: found the sequence of `a` a second time (line 3), expected a sequence of its own for each knock",
        "5:18: found a sequence that begins with that of `a` (line 3), which always fires first, expected no sequence to begin with another",
    ]),
    ("gates: { a: { ports: [22] }, b: { ports: [80] } }\nknocks: { x: { sequence: [1228, 1229], action: accept } }", &[
        "2:11: found the knock `x` without `gate` where there are several, expected `gate` with `a`, `b` or `all`",
    ]),
    ("<G>knocks: { 'a b': { sequence: [1228], action: drop } }", &[
        "2:11: found `a b`, expected a knock name: 1 to 64 letters, digits, `_`, `-`, `.` or `:`",
    ]),
    ("<G>---\na: 1\n", &[
        "3:1: found a second document after `---`, expected one policy in a file",
    ]),
    ("<G>knocks: *k\n", &[
        "2:9: found an alias of an anchor that is not there, expected `*name` after an `&name`, or the text in quotes",
    ]),
    ("<G>knocks: &k { a: *k }\n", &[
        "2:17: found an alias inside what it stands for, expected a mapping or list that ends",
    ]),
    ("<G>knocks: @x\n", &[
        "2:9: found a syntax error: unexpected character: `@', expected valid YAML (put text that begins with `@` in quotes)",
    ]),
    ("<G>knocks: { a: [1\n", &[
        "2:14: found a syntax error: unclosed bracket '[', expected valid YAML",
    ]),
    ("<G>? [1]\n: 2\n", &[
        "2:3: found a list as a key, expected a name",
    ]),
    ("<G>~: 2\n", &[
        "2:1: found nothing as a key, expected a name",
    ]),
    ("\0\0\0", &[
        "1:1: found a syntax error: unexpected character: `\\u{0}', expected valid YAML",
    ]),
    ("é: 1\nb: x\u{7}y\n", &[
        "2:4: found a syntax error: unexpected character: `\\u{7}', expected valid YAML",
    ]),
    ("a: \"\\q\"\n", &[
        "1:4: found a syntax error: while parsing a quoted scalar, found unknown escape character, expected valid YAML",
    ]),
    ("\u{202e}abc\u{1b}[31m: 1", &[
        "1:1: found a syntax error: unexpected character: `\\u{1b}', expected valid YAML",
    ]),
    ("a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f]\n", &[
        "5:11: found more nesting, entries or aliases than any policy needs, expected a policy of at most 64 gates and 1024 knocks",
    ]),
    ("<G><<: { memory: 1KiB }", &[
        "2:1: found the unknown key `<<`, expected `interface`, `firewall`, `trusted`, `never_ban`, `scan_guard`, `ban`, `memory`, `history`, `gates`, `knocks` or `log`",
    ]),
];

fn problems(text: &str) -> Vec<String> {
    match parse(text, Path::new("p.yaml")) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.to_string().lines().map(str::to_owned).collect(),
    }
}

#[test]
fn every_malformed_policy_is_told_with_line_column_found_and_expected() {
    for (text, expected) in CASES {
        let text = text.replace("<G>", GATE).replace("<K>", KNOCK);
        let expected: Vec<String> = expected
            .iter()
            .map(|line| format!("p.yaml:{line}"))
            .collect();
        assert_eq!(problems(&text), expected, "{text}");
    }
}

#[test]
fn all_semantic_errors_are_reported_at_once_in_the_order_of_the_file() {
    let text = "memory: 1\nknocks: { a: { sequence: [22, 0], action: x } }\ngates: { ssh: { ports: [22], hook: y } }\ninterface: lo\n";
    let places: Vec<String> = problems(text)
        .iter()
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(
        places,
        [
            "p.yaml:1:9:",
            "p.yaml:2:31:",
            "p.yaml:2:43:",
            "p.yaml:3:36:",
            "p.yaml:4:12:"
        ]
    );
}

#[test]
fn a_report_ends_after_a_hundred_problems_and_counts_the_rest() {
    let keys: Vec<String> = (0..300).map(|i| format!("key{i}: 1\n")).collect();
    let text = keys.concat();
    let told = problems(&text);
    assert_eq!(told.len(), 101);
    assert_eq!(told[100], "p.yaml: 201 more");
}

#[test]
fn what_is_found_is_shown_without_control_characters() {
    let text = format!("{GATE}\"a\\e[31m\\u202e\\n\": 1\n");
    let told = problems(&text).join("\n");
    assert!(told.contains("`a\\u{1b}[31m\\u{202e}\\u{a}`"), "{told}");
    assert!(!told.contains('\u{1b}') && !told.contains('\u{202e}'));
}
