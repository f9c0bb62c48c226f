use super::*;

const SHIPPED: &[u8] = include_bytes!("../../policy/knockd.trusted");

fn host(text: &str) -> Host {
    text.parse().unwrap()
}

fn hosts(text: &str) -> Vec<String> {
    let parsed = parse(text.as_bytes());
    assert_eq!(parsed.bad, [], "{text}");
    let entries = parsed.entries.iter();
    entries.map(|entry| entry.host.to_string()).collect()
}

/// The reason why a file of this one line is refused.
fn why(line: &[u8]) -> String {
    let parsed = parse(line);
    assert_eq!(parsed.entries, [], "{line:?}");
    assert_eq!(parsed.bad.len(), 1, "{line:?}");
    parsed.bad[0].why.to_string()
}

#[test]
fn the_shipped_file_trusts_nobody_and_has_no_bad_line() {
    let parsed = parse(SHIPPED);
    assert_eq!(
        (parsed.entries.len(), parsed.bad.len(), parsed.blank),
        (0, 0, false)
    );
}

#[test]
fn the_first_field_is_an_address_a_network_or_a_name() {
    for (line, expected) in [
        ("192.0.2.17", "192.0.2.17"),
        ("192.0.2.17/32", "192.0.2.17"),
        ("198.51.100.9/24", "198.51.100.0/24"),
        ("198.51.100.0/255.255.255.0", "198.51.100.0/24"),
        ("2001:DB8::17", "2001:db8::17"),
        ("2001:db8:42::/48", "2001:db8:42::/48"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("gateway.example.org", "gateway.example.org"),
        ("Gateway.Example.ORG.", "Gateway.Example.ORG."),
        ("a", "a"),
        ("1and1.example", "1and1.example"),
        ("  \t192.0.2.17\t ", "192.0.2.17"),
    ] {
        assert_eq!(hosts(line), [expected], "{line}");
    }
}

#[test]
fn a_network_that_is_written_as_an_address_in_it_is_told_and_counts() {
    let text = "192.0.2.17/8 typo\n192.0.2.17\n10.0.0.0/8\n2001:db8::1/32\n\
                198.51.100.9/255.255.255.0\n192.0.2.17/32\n0.0.0.1/0\n";
    let parsed = parse(text.as_bytes());
    let told = parsed.doubts(std::path::Path::new("list"));
    let expected = [
        (1, "192.0.2.17/8", "192.0.0.0/8"),
        (4, "2001:db8::1/32", "2001:db8::/32"),
        (5, "198.51.100.9/255.255.255.0", "198.51.100.0/24"),
    ];
    let expected = expected.map(|(line, found, net)| {
        format!("list:{line}: found `{found}`, expected `{net}` (it is taken as that network)")
    });
    assert_eq!(told, expected);
    assert_eq!((parsed.entries.len(), parsed.bad.len()), (6, 1));

    let many = parse("192.0.2.17/8\n".repeat(MOST_BAD_LINES + 4).as_bytes());
    let told = many.doubts(std::path::Path::new("list"));
    assert_eq!(told.len(), MOST_BAD_LINES + 1);
    assert!(told[MOST_BAD_LINES].contains("4 more"), "{told:?}");
}

#[test]
fn the_rest_is_comment_with_or_without_a_hash() {
    for (line, comment) in [
        ("192.0.2.17", ""),
        ("192.0.2.17 the lab", "the lab"),
        ("192.0.2.17 # the lab", "the lab"),
        ("192.0.2.17\t#the lab # upstairs", "the lab # upstairs"),
        ("192.0.2.17#the lab", "the lab"),
        ("192.0.2.17 salle Évariste", "salle Évariste"),
        ("192.0.2.17 a\u{7}b", "a\u{fffd}b"),
        ("192.0.2.17 192.0.2.18", "192.0.2.18"),
    ] {
        let parsed = parse(line.as_bytes());
        assert_eq!(parsed.entries.len(), 1, "{line}");
        assert_eq!(parsed.entries[0].comment, comment, "{line}");
    }
    // Latin-1, as old files have it.
    let parsed = parse(b"192.0.2.17 salle \xc9variste\n");
    assert_eq!(parsed.entries[0].comment, "salle \u{fffd}variste");
}

#[test]
fn blank_lines_and_comment_lines_are_skipped() {
    let parsed = parse(b"\n  \n# 192.0.2.1\n\t# x\r\n\r\n192.0.2.2\r\n#");
    assert_eq!(parsed.bad, []);
    assert_eq!(parsed.entries.len(), 1);
    assert_eq!(
        (parsed.entries[0].line, parsed.entries[0].comment.as_str()),
        (6, "")
    );
    assert_eq!(hosts("\u{feff}192.0.2.2"), ["192.0.2.2"]);
}

#[test]
fn a_mark_of_byte_order_means_nothing_in_any_line() {
    let joined = "\u{feff}192.0.2.1\n\u{feff}\u{feff} 192.0.2.2\n\u{feff}# 192.0.2.3\n\u{feff}\n";
    assert_eq!(hosts(joined), ["192.0.2.1", "192.0.2.2"]);
}

#[test]
fn a_blank_file_is_told_from_one_of_comments() {
    for (text, blank) in [
        ("", true),
        ("\n \r\n\t\n", true),
        ("\u{feff}", true),
        ("#", false),
        ("x y", false),
    ] {
        assert_eq!(parse(text.as_bytes()).blank, blank, "{text:?}");
    }
}

#[test]
fn bad_lines_are_told_with_their_number_and_skipped() {
    let parsed = parse(b"192.0.2.1\n999.1.1.1 x\n\n192.0.2.2\nfoo_bar\n");
    assert_eq!(parsed.entries.len(), 2);
    let told: Vec<String> = parsed.bad.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "line 2: `999.1.1.1 x`: not an address: expected one such as 192.0.2.17 or 2001:db8::17",
            "line 5: `foo_bar`: not an address, a network or a host name",
        ]
    );
}

#[test]
fn each_kind_of_nonsense_has_its_reason() {
    let long_label = format!("{}.org", "a".repeat(64));
    let long_name = vec!["abcdefgh"; 29].join(".");
    for (line, expected) in [
        ("256.0.0.1", "not an address:"),
        ("192.0.2", "not an address:"),
        ("12345", "not an address:"),
        ("fe80::1%eth0", "not an address:"),
        ("2001:db8::1::2", "not an address:"),
        ("192.0.2.0/33", "not a network:"),
        ("192.0.2.0/", "not a network:"),
        ("192.0.2.0/255.0.255.0", "not a network:"),
        ("example.org/24", "not a network:"),
        ("http://example.org", "not a network:"),
        (
            "universit\u{e9}.fr",
            "not a host name: write it in its ASCII form",
        ),
        ("-a.org", "not an address, a network or"),
        ("a-.org", "not an address, a network or"),
        ("a..org", "not an address, a network or"),
        (".org", "not an address, a network or"),
        ("*.example.org", "not an address, a network or"),
        ("user@example.org", "not an address, a network or"),
        ("a_b.org", "not an address, a network or"),
        ("example.123", "not an address, a network or"),
        ("$(reboot)", "not an address, a network or"),
        (&long_label, "not an address, a network or"),
        (&long_name, "not an address, a network or"),
        ("192.0.2.1 a\0b", "binary data"),
    ] {
        let told = why(line.as_bytes());
        assert!(told.starts_with(expected), "{line}: {told}");
    }
    assert_eq!(why(b"\x7fELF\x02\x01\x01\0\0"), "binary data");
    assert_eq!(why(b"\xff\xfe1\0"), "binary data");
}

#[test]
fn a_network_of_length_0_needs_force_at_the_head_of_its_comment() {
    for net in [
        "0.0.0.0/0",
        "::/0",
        "192.0.2.1/0",
        "::ffff:0.0.0.0/96",
        "0.0.0.0/0.0.0.0",
    ] {
        assert!(
            why(net.as_bytes()).starts_with("this would trust everybody"),
            "{net}"
        );
        assert!(why(format!("{net} not --force").as_bytes()).starts_with("this would"));
        assert!(why(format!("{net} # --forced").as_bytes()).starts_with("this would"));
        assert_eq!(hosts(&format!("{net} # --force for the exam")).len(), 1);
        assert_eq!(hosts(&format!("{net} --force")).len(), 1);
    }
}

#[test]
fn what_is_shown_of_a_line_is_short_and_printable() {
    let parsed = parse(format!("\u{1b}[31m{}", "x".repeat(1000)).as_bytes());
    assert_eq!(parsed.bad[0].text.chars().count(), 60);
    assert!(!parsed.bad[0].text.contains('\u{1b}'));
}

#[test]
fn junk_does_not_make_the_report_grow() {
    let parsed = parse("?\n".repeat(5_000).as_bytes());
    assert_eq!((parsed.bad.len(), parsed.more_bad), (MOST_BAD_LINES, 4_000));
}

#[test]
fn entries_are_counted_by_kind() {
    let parsed = parse(b"192.0.2.1\n2001:db8::1\n192.0.2.0/24\na.example.org\n");
    let expected = Counts {
        addresses: 2,
        networks: 1,
        names: 1,
    };
    assert_eq!(parsed.counts(), expected);
}

#[test]
fn the_same_is_the_same_however_it_is_written() {
    for (one, two) in [
        ("192.0.2.1", "192.0.2.1/32"),
        ("192.0.2.1", "::ffff:192.0.2.1"),
        ("192.0.2.9/24", "192.0.2.0/24"),
        ("2001:db8::1", "2001:0DB8:0:0::1"),
        ("Example.org", "example.ORG."),
    ] {
        assert!(host(one).same(&host(two)), "{one} {two}");
    }
    for (one, two) in [
        ("192.0.2.1", "192.0.2.0/24"),
        ("192.0.2.1", "example.org"),
        ("a.org", "b.org"),
    ] {
        assert!(!host(one).same(&host(two)), "{one} {two}");
    }
}

#[test]
fn a_hundred_thousand_lines_are_read_quickly() {
    use std::fmt::Write;
    let mut text = String::new();
    for i in 0..100_000_u32 {
        writeln!(
            text,
            "{} # machine {i}",
            std::net::Ipv4Addr::from(0x0a00_0000 + i)
        )
        .unwrap();
    }
    let start = std::time::Instant::now();
    assert_eq!(parse(text.as_bytes()).entries.len(), 100_000);
    // Unoptimised and beside other tests; 15 ms otherwise.
    assert!(
        start.elapsed() < std::time::Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
}

proptest::proptest! {
    #[test]
    fn every_line_is_accounted_for(text in "([0-9a-f.:/]{1,12}|[a-z.-]{1,9}|[ #\t\r\n]|\\PC|\0){0,80}") {
        let parsed = parse(text.as_bytes());
        let lines = text.split('\n').count();
        proptest::prop_assert!(parsed.entries.len() + parsed.bad.len() <= lines);
        for entry in &parsed.entries {
            // What is shown reads back as the same.
            proptest::prop_assert!(entry.host.to_string().parse::<Host>().unwrap().same(&entry.host));
        }
    }

    #[test]
    fn random_bytes_are_read_without_panic(bytes in proptest::collection::vec(0_u8.., 0..400)) {
        parse(&bytes);
    }
}
