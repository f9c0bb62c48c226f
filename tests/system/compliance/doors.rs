//! The keys of a door.

use std::time::Duration;

use portcullis::lab::LabError;

use super::{
    DOOR, KNOCKS, Outcome, SERVER, SERVER_6, Side, TIMED, TIMED_KNOCKS, Whose, alike, both,
};
use crate::cases;
use crate::world::Tried;

cases![
    sequence_is_knocked_in_order_over_tcp_and_udp,
    start_command_is_a_shells_line_with_the_address_in_it,
    start_command_6_is_for_ipv6_and_falls_back,
    stop_command_6_is_for_ipv6_and_falls_back,
    seq_timeout_ends_an_attempt,
    times_that_are_not_given_are_25_and_10_seconds,
    tcpflags_that_do_not_match_are_ignored,
    target_is_the_address_that_counts,
    target_may_be_a_host_behind_a_router,
    stop_command_follows_after_cmd_timeout_once_for_each_knock,
];

/// From 2001:db8::10.
fn knocks_over_ipv6(side: &Side, ports: &[&str]) {
    side.knocks_from("2001:db8::10", SERVER_6, ports);
}

fn sequence_is_knocked_in_order_over_tcp_and_udp() -> Tried {
    let story = |ports: &[&str], lines| {
        both(DOOR, |side| {
            side.knocks(ports);
            side.noted(lines)
        })
    };
    let open = "open 192.0.2.10\n".to_owned();
    let manual = "Specify the sequence of ports in the special knock.";
    alike(&story(&KNOCKS, 1)?, &open, 1, manual);
    let manual = "If a wrong port with the same flags is received, the knock is discarded.";
    let outcomes = story(&["7000", "9000", "8000:udp", "9000"], 0)?;
    alike(&outcomes, &String::new(), 0, manual);
    let manual = "Optionally, you can define the protocol to be used on a per-port basis (default \
                  is TCP).";
    let outcomes = story(&["7000", "8000", "9000"], 0)?;
    alike(&outcomes, &String::new(), 0, manual);
    Ok(())
}

fn start_command_is_a_shells_line_with_the_address_in_it() -> Tried {
    let config = DOOR.replace(
        "echo open %IP% >> NOTES",
        "A=\"%IP%\"; echo $A '%IP%' > NOTES.new; mv NOTES.new NOTES # a comment",
    );
    let outcomes = both(&config, |side| {
        side.knocks(&KNOCKS);
        side.noted(1)
    })?;
    let manual = "All instances of %IP% will be replaced with the knocker's IP address. The Command \
                  directive is an alias for Start_Command.";
    let expected = "192.0.2.10 192.0.2.10\n".to_owned();
    alike(&outcomes, &expected, 1, manual);
    let alias = config.replace("Start_Command", "Command");
    let outcomes = both(&alias, |side| {
        side.knocks(&KNOCKS);
        side.noted(1)
    })?;
    alike(&outcomes, &expected, 1, manual);
    Ok(())
}

/// What is noted of a knock over IPv6.
fn over_ipv6(config: &str, ports: &[&str], lines: usize) -> Result<[Outcome<String>; 2], LabError> {
    both(config, |side| {
        knocks_over_ipv6(side, ports);
        side.noted(lines)
    })
}

fn start_command_6_is_for_ipv6_and_falls_back() -> Tried {
    let manual = "If not present it will automatically fallback onto the same IPV4 Start_Command \
                  value.";
    // No rule of iptables for an address of IPv6, but the rest of the line.
    let open = "open 2001:db8::10\n".to_owned();
    alike(&over_ipv6(DOOR, &KNOCKS, 1)?, &open, 0, manual);
    let rule = "/sbin/ip6tables -w -I INPUT -s %IP% -j ACCEPT; echo six %IP% >> NOTES";
    let six = "six 2001:db8::10\n".to_owned();
    for (key, manual) in [
        (
            "Start_Command_6",
            "Specify the command to be executed when a client makes the correct port-knock with \
             IPv6.",
        ),
        (
            "Command_6",
            "The Command_6 directive is an alias for Start_Command_6.",
        ),
    ] {
        let own = format!("{DOOR}    {key} = {rule}\n");
        alike(&over_ipv6(&own, &KNOCKS, 1)?, &six, 1, manual);
    }
    let manual = "You can use empty value to force doing nothing.";
    let empty = format!("{DOOR}    Start_Command_6 =\n");
    let outcomes = both(&empty, |side| {
        knocks_over_ipv6(side, &KNOCKS);
        side.noted(0);
        // Over IPv4 it is as it was.
        side.knocks(&KNOCKS);
        side.noted(1)
    })?;
    alike(&outcomes, &"open 192.0.2.10\n".to_owned(), 1, manual);
    Ok(())
}

fn stop_command_6_is_for_ipv6_and_falls_back() -> Tried {
    let start = "/sbin/ip6tables -w -I INPUT -s %IP% -j ACCEPT; echo + >> NOTES";
    let stop = "/sbin/ip6tables -w -D INPUT -s %IP% -j ACCEPT; echo 6 >> NOTES";
    let own = format!("{TIMED}    Start_Command_6 = {start}\n    Stop_Command_6 = {stop}\n");
    let manual = "Specify the command to be executed when Cmd_Timeout seconds have passed since \
                  Start_Command_6 has been executed.";
    let expected = "+\n6\n".to_owned();
    alike(&over_ipv6(&own, &TIMED_KNOCKS, 2)?, &expected, 0, manual);
    let manual = "If not present it will automatically fallback onto the same IPV4 Stop_Command \
                  value.";
    let falls_back = format!("{TIMED}    Start_Command_6 = {start}\n");
    let expected = "+\n-\n".to_owned();
    // The rule that iptables cannot take out stays.
    let outcomes = over_ipv6(&falls_back, &TIMED_KNOCKS, 2)?;
    alike(&outcomes, &expected, 1, manual);
    let manual = "You can use empty value to force doing nothing.";
    let empty = format!("{TIMED}    Start_Command_6 = {start}\n    Stop_Command_6 =\n");
    let outcomes = both(&empty, |side| {
        knocks_over_ipv6(side, &TIMED_KNOCKS);
        side.noted(1);
        std::thread::sleep(Duration::from_millis(2_500));
        side.noted(1)
    })?;
    alike(&outcomes, &"+\n".to_owned(), 1, manual);
    Ok(())
}

fn seq_timeout_ends_an_attempt() -> Tried {
    let manual = "If the time elapses before the knock is complete, it is discarded.";
    // `Timeout` is not in the manual page, but it is in the program.
    for config in [DOOR.to_owned(), DOOR.replace("Seq_Timeout", "Timeout")] {
        let outcomes = both(&config, |side| {
            side.knocks(&["7000", "8000:udp"]);
            // Theirs counts whole seconds.
            std::thread::sleep(Duration::from_millis(3_100));
            side.knocks(&["9000"]);
            side.noted(0)
        })?;
        alike(&outcomes, &String::new(), 0, manual);
    }
    Ok(())
}

fn times_that_are_not_given_are_25_and_10_seconds() -> Tried {
    // The manual page leaves the defaults to the program. Everybody waits at the same time.
    let slow = DOOR.replace("    Seq_Timeout = 2\n", "");
    let slowly = |whose| -> Result<String, LabError> {
        let side = Side::start(whose, &slow)?;
        side.knocks(&["7000", "8000:udp"]);
        // More than the 15 seconds of a policy in YAML.
        std::thread::sleep(Duration::from_secs(16));
        side.knocks(&["9000"]);
        Ok(side.noted(1))
    };
    let without = TIMED
        .replace("    Cmd_Timeout = 2\n", "")
        .replace("echo +", "date +%s%3N")
        .replace("echo -", "date +%s%3N");
    let apart = |whose| -> Result<Outcome<u64>, LabError> {
        let side = Side::start(whose, &without)?;
        side.knocks(&TIMED_KNOCKS);
        side.soon_has_rules(1);
        std::thread::sleep(Duration::from_secs(5));
        let noted = side.noted(2);
        let mut times = noted.lines().map(|time| time.parse().expect("a number"));
        let start: u64 = times.next().expect("it was opened");
        let stop = times.next().expect("and shut");
        Ok((stop - start, side.rules().len()))
    };
    std::thread::scope(|scope| -> Tried {
        let both = [Whose::Theirs, Whose::Ours];
        let slowly = both.map(|whose| scope.spawn(move || slowly(whose)));
        let apart = both.map(|whose| scope.spawn(move || apart(whose)));
        for (thread, whose) in slowly.into_iter().zip(both) {
            let noted = thread.join().expect("it ends")?;
            assert_eq!(noted, "open 192.0.2.10\n", "{whose:?}: Seq_Timeout");
        }
        for (thread, whose) in apart.into_iter().zip(both) {
            let (milliseconds, rules) = thread.join().expect("it ends")?;
            let ten_seconds = (9_500..12_000).contains(&milliseconds);
            assert!(ten_seconds, "{whose:?}: Cmd_Timeout: {milliseconds} ms");
            assert_eq!(rules, 0, "{whose:?}");
        }
        Ok(())
    })
}

fn tcpflags_that_do_not_match_are_ignored() -> Tried {
    // Connecting sends a SYN alone.
    let config = format!(
        "{DOOR}[fin]\n    Sequence = 7001,7002\n    TCPFlags = fin,!syn\n    Command = echo fin >> \
         NOTES\n[notsyn]\n    Sequence = 7003:udp,7004:udp\n    TCPFlags = !syn\n    Command = echo udp \
         >> NOTES\n"
    );
    let outcomes = both(&config, |side| {
        side.knocks(&["7001", "7002"]);
        side.knocks(&["7003:udp", "7004", "7004:udp"]);
        side.noted(1)
    })?;
    let manual = "When using TCP flags, knockd will IGNORE tcp packets that don't match the flags. \
                  … Flags can be explicitly excluded by a \"!\" (eg, TCPFlags = syn,!ack).";
    alike(&outcomes, &"udp\n".to_owned(), 0, manual);
    Ok(())
}

fn target_is_the_address_that_counts() -> Tried {
    let config = format!("{DOOR}    Target = 192.0.2.2\n");
    let story = |to: &str, lines| {
        both(&config, |side| {
            side.knocks_from("192.0.2.10", to, &KNOCKS);
            side.noted(lines)
        })
    };
    let manual = "Use the specified IP address instead of the address determined for the Interface \
                  when matching the Sequence.";
    let open = "open 192.0.2.10\n".to_owned();
    alike(&story("192.0.2.2", 1)?, &open, 1, manual);
    alike(&story(SERVER, 0)?, &String::new(), 0, manual);
    Ok(())
}

fn target_may_be_a_host_behind_a_router() -> Tried {
    let config = format!("{DOOR}    Target = 203.0.113.2\n");
    let outcomes = both(&config, |side| -> Result<String, LabError> {
        let inner = side.lab.host("inner")?;
        let [router, host] = [["203.0.113.1/24"], ["203.0.113.2/24"]];
        side.lab
            .link(&side.server, "lan0", &router, &inner, "eth0", &host)?;
        side.server.forward()?;
        inner.route("192.0.2.0/24", "203.0.113.1")?;
        side.clients.route("203.0.113.0/24", SERVER)?;
        side.knocks_from("192.0.2.10", "203.0.113.2", &KNOCKS);
        Ok(side.noted(1))
    })?;
    let [(theirs, left), (ours, left_by_ours)] = outcomes;
    let manual = "This is useful if knockd is running on a router and you want to do something in \
                  response to an actual connection attempt to a routed host";
    let outcomes = [(theirs?, left), (ours?, left_by_ours)];
    alike(&outcomes, &"open 192.0.2.10\n".to_owned(), 1, manual);
    Ok(())
}

fn stop_command_follows_after_cmd_timeout_once_for_each_knock() -> Tried {
    let manual = "Specify the command to be executed when Cmd_Timeout seconds have passed since \
                  Start_Command has been executed.";
    let once = both(TIMED, |side| {
        side.knocks(&TIMED_KNOCKS);
        let rules = side.soon_has_rules(1);
        assert!(rules[0].contains("-s 192.0.2.10/32"), "{rules:?}");
        side.noted(2)
    })?;
    alike(&once, &"+\n-\n".to_owned(), 0, manual);
    // A second knock within Cmd_Timeout: as many rules go as came.
    let twice = both(TIMED, |side| {
        side.knocks(&TIMED_KNOCKS);
        side.soon_has_rules(1);
        side.knocks(&TIMED_KNOCKS);
        side.soon_has_rules(2);
        side.noted(4)
    })?;
    alike(&twice, &"+\n+\n-\n-\n".to_owned(), 0, manual);
    Ok(())
}
