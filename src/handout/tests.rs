use proptest::prelude::*;

use super::*;

fn handout(ports: &str, language: Language) -> Handout {
    Handout {
        host: "ssh.maths.univ.fr".into(),
        ports: ports.split(' ').map(|port| port.parse().unwrap()).collect(),
        service: 22,
        accept: Lifetime::For(Duration::from_secs(300)),
        once: false,
        seq_timeout: Duration::from_secs(15),
        quiet: Duration::from_secs(75),
        language,
    }
}

/// SHA-256 (FIPS 180-4), plainly: the page's policy names its script and style by it.
fn sha256(message: &[u8]) -> Vec<u8> {
    let primes: Vec<u32> = (2..312_u32)
        .filter(|n| (2..*n).all(|d| n % d != 0))
        .take(64)
        .collect();
    // The first 32 bits of the fractional part of a root.
    let root = |prime: u32, power: u32| {
        let (mut low, mut high) = (0_u128, 1 << 40);
        let wanted = u128::from(prime) << (32 * power);
        while high - low > 1 {
            let middle: u128 = u128::midpoint(low, high);
            if middle.pow(power) <= wanted {
                low = middle;
            } else {
                high = middle;
            }
        }
        u32::try_from(low & 0xffff_ffff).unwrap()
    };
    let mut state: Vec<u32> = primes[..8].iter().map(|p| root(*p, 2)).collect();
    let constants: Vec<u32> = primes.iter().map(|p| root(*p, 3)).collect();
    let mut padded = message.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend((message.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks(64) {
        let mut w: Vec<u32> = block
            .chunks(4)
            .map(|four| u32::from_be_bytes(four.try_into().unwrap()))
            .collect();
        for i in 16..64 {
            let s0 = w[i - 15].rotate_right(7) ^ w[i - 15].rotate_right(18) ^ (w[i - 15] >> 3);
            let s1 = w[i - 2].rotate_right(17) ^ w[i - 2].rotate_right(19) ^ (w[i - 2] >> 10);
            let sum = w[i - 16].wrapping_add(s0).wrapping_add(w[i - 7]);
            w.push(sum.wrapping_add(s1));
        }
        let mut v = state.clone();
        for (constant, word) in constants.iter().zip(&w) {
            let s1 = v[4].rotate_right(6) ^ v[4].rotate_right(11) ^ v[4].rotate_right(25);
            let choice = (v[4] & v[5]) ^ (!v[4] & v[6]);
            let t1 = [s1, choice, *constant, *word]
                .iter()
                .fold(v[7], |sum, n| sum.wrapping_add(*n));
            let s0 = v[0].rotate_right(2) ^ v[0].rotate_right(13) ^ v[0].rotate_right(22);
            let majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
            v.rotate_right(1);
            v[4] = v[4].wrapping_add(t1);
            v[0] = t1.wrapping_add(s0.wrapping_add(majority));
        }
        for (sum, add) in state.iter_mut().zip(v) {
            *sum = sum.wrapping_add(add);
        }
    }
    state.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let number = (0..3).fold(0, |n, i| n << 8 | u32::from(*three.get(i).unwrap_or(&0)));
        for place in 0..4 {
            let digit = (number >> (18 - 6 * place)) & 63;
            out.push(if place <= three.len() {
                char::from(DIGITS[digit as usize])
            } else {
                '='
            });
        }
    }
    out
}

#[test]
fn the_policy_of_the_page_names_the_script_and_the_style_that_are_in_it() {
    let empty = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    assert_eq!(base64(&sha256(b"")), empty, "the measure itself");
    assert_eq!(base64(&sha256(SCRIPT.as_bytes())), SCRIPT_HASH, "page.js");
    assert_eq!(base64(&sha256(STYLE.as_bytes())), STYLE_HASH, "page.css");
    let page = page(&handout("1228 1227", Language::En));
    assert!(page.contains(&format!("<script>{SCRIPT}</script>")));
    assert!(page.contains(&format!("<style>{STYLE}</style>")));
}

#[test]
fn the_page_contacts_the_knock_ports_and_loads_nothing() {
    for language in Language::ALL {
        let page = page(&handout("1228 1227", language));
        let sources = "connect-src https://ssh.maths.univ.fr:1227 https://ssh.maths.univ.fr:1228;";
        assert!(page.contains(sources));
        assert!(page.contains("content=\"default-src &#39;none&#39;; script-src"));
        for outside in ["src=", "href=", "@import", "url(", "style=\"", "onclick"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("data-ports=\"1228 1227\" data-wait=\"800\" data-accept=\"300\""));
    }
}

#[test]
fn an_address_has_no_name_that_the_policy_could_hold() {
    let mut six = handout("1228 1227", Language::En);
    six.host = "2001:db8::1".into();
    let text = page(&six);
    assert!(text.contains("connect-src https:;") && text.contains("data-host=\"[2001:db8::1]\""));
    assert!(text.contains("knock 2001:db8::1 1228 1227 &amp;&amp; ssh 2001:db8::1"));
}

#[test]
fn every_language_says_everything_and_nothing_is_left_to_be_filled_in() {
    for language in Language::ALL {
        let page = page(&handout("1228 1227", language));
        assert!(page.contains(&format!("<html lang=\"{}\">", language.tag())));
        let body = page.split("<script>").next().unwrap();
        let body = &body[body.find("<body>").unwrap()..];
        for template in ["{host}", "{ports}", "{time}", "  "] {
            let body = body.replace("{port} ({n}", "x");
            assert!(!body.contains(template), "{template} in {}", language.tag());
        }
        assert!(
            body.contains("<li><code>1228</code></li>\n<li><code>1227</code></li>")
                && body.contains("ssh.maths.univ.fr")
        );
        assert!(body.contains("role=\"status\" aria-live=\"polite\""));
        // What the script fills in is what it knows.
        for value in ["{port}", "{n}", "{count}"] {
            assert!(language.words().knocking.contains(value));
        }
    }
}

/// The commands on the page, as they are pasted.
fn commands(handout: &Handout) -> Vec<String> {
    let page = page(handout);
    let commands = page.split("<code translate=\"no\">").skip(1).map(|rest| {
        let command = rest.split("</code>").next().unwrap();
        let plain = command.replace("&lt;", "<").replace("&quot;", "\"");
        plain.replace("&#39;", "'").replace("&amp;", "&")
    });
    commands.collect()
}

#[test]
fn every_recipe_is_there_and_says_the_ports_in_order() {
    let handout = handout("1228 1227", Language::Fr);
    let host = "ssh.maths.univ.fr";
    assert_eq!(
        commands(&handout),
        [
            format!("ssh {host}"),
            format!(
                "for p in 1228 1227; do ssh -o ConnectTimeout=1 -p $p {host}; done; ssh {host}"
            ),
            format!("knock {host} 1228 1227 && ssh {host}"),
            format!("Match host {host} exec \"knock %h 1228 1227\""),
            format!("for p in 1228 1227; do nc -z -w 1 {host} $p; done; ssh {host}"),
            format!(
                "for p in 1228 1227; do nmap -n -Pn -sT --max-retries 0 -p $p {host}; done; ssh {host}"
            ),
            format!(
                "for p in 1228 1227; do timeout 1 telnet {host} $p < /dev/null; done; ssh {host}"
            ),
            format!(
                "1228, 1227 | % {{ $c = [Net.Sockets.TcpClient]::new(); try {{ $null = \
                 $c.ConnectAsync('{host}', $_).Wait(500) }} catch {{}}; $c.Dispose() }}; ssh {host}"
            ),
            format!(
                "(for %p in (1228 1227) do @curl -s -m 1 --noproxy \"*\" http://{host}:%p) & putty {host}"
            ),
        ]
    );
    assert!(page(&handout).contains("Port Knocker sous Android"));
}

#[test]
fn one_port_is_spoken_of_as_one_and_needs_no_loop() {
    let one = handout("1228", Language::En);
    let text = page(&one);
    assert!(text.contains("has to contact this port first:"));
    assert!(text.contains("<ol class=\"ports\">\n<li><code>1228</code></li>\n</ol>"));
    let commands = commands(&one);
    assert_eq!(
        commands[1],
        "ssh -o ConnectTimeout=1 -p 1228 ssh.maths.univ.fr; ssh ssh.maths.univ.fr"
    );
    assert!(commands.iter().all(|command| !command.contains("$p")));
}

#[test]
fn an_ipv6_address_is_named_as_each_program_wants_it() {
    let mut six = handout("1228 1227", Language::En);
    six.host = "2001:db8::1".into();
    let commands = commands(&six).join("\n");
    for part in [
        "do nmap -6 -n -Pn -sT",
        "[Net.Sockets.TcpClient]::new('InterNetworkV6')",
        "http://[2001:db8::1]:%p",
        "Match host 2001:db8::1 exec",
        "nc -z -w 1 2001:db8::1 $p",
    ] {
        assert!(commands.contains(part), "{part} in {commands}");
    }
}

#[test]
fn another_port_than_22_is_connected_to() {
    let mut other = handout("1228 1227", Language::En);
    other.service = 2222;
    let commands = commands(&other);
    assert_eq!(commands[0], "ssh -p 2222 ssh.maths.univ.fr");
    let config = "Match host ssh.maths.univ.fr exec \"knock %h 1228 1227\"\n    Port 2222";
    assert_eq!(commands[3], config);
    for (at, command) in commands.iter().enumerate().filter(|(at, _)| *at != 3) {
        let ends = ["; ", " && ", " & ", ""].map(|before| {
            let program = if before == " & " {
                "putty -P"
            } else {
                "ssh -p"
            };
            format!("{before}{program} 2222 ssh.maths.univ.fr")
        });
        assert!(
            ends.iter().any(|end| command.ends_with(end)),
            "{at}: {command}"
        );
    }
}

#[test]
fn the_page_says_how_long_to_wait_and_what_one_knock_is_good_for() {
    let mut plain = handout("1228 1227", Language::En);
    let text = page(&plain);
    assert!(
        text.contains("wait 2\u{a0}minutes"),
        "75 s are more than one"
    );
    assert!(!text.contains("good for one connection"));
    plain.quiet = Duration::from_secs(3600);
    plain.once = true;
    let text = page(&plain);
    assert!(text.contains("wait 1\u{a0}hour") && text.contains("good for one connection"));
}

#[test]
fn where_browsers_cannot_knock_the_page_says_so_and_has_no_button() {
    let udp = handout("1228 1227/udp", Language::En);
    assert_eq!(udp.no_button(), Some(NoButton::Udp));
    let text = page(&udp);
    assert!(!text.contains("<button") && text.contains("UDP packets are part of the sequence"));
    assert!(text.contains("connect-src &#39;none&#39;"));
    assert!(text.contains("<li><code>1227</code> UDP</li>"));
    let commands = commands(&udp).join("\n");
    assert!(commands.contains("knock ssh.maths.univ.fr 1228 1227:udp"));
    assert!(commands.contains("1228; echo | nc -u -w 1 ssh.maths.univ.fr 1227; ssh"));
    assert!(commands.contains("sudo nmap -n -Pn -sU --max-retries 0 -p 1227"));
    assert!(!text.contains("telnet") && !text.contains("ConnectTimeout"));

    let blocked = handout("6667 1227 22", Language::It);
    assert_eq!(blocked.no_button(), Some(NoButton::Blocked(vec![6667, 22])));
    let text = page(&blocked);
    assert!(!text.contains("<button") && text.contains("la porta 6667, 22."));
    assert!(text.contains("telnet"));
}

#[test]
fn all_tries_fit_into_the_time_of_the_sequence() {
    let many = vec!["7000"; 32].join(" ");
    let mut long = handout(&many, Language::En);
    assert!(long.patience() * 32 <= Duration::from_secs(15));
    long.seq_timeout = Duration::from_secs(1);
    assert!(long.patience() * 32 <= Duration::from_secs(1));
    assert_eq!(
        handout("1 2", Language::En).patience(),
        Duration::from_millis(800)
    );
}

#[test]
fn no_line_of_french_ends_before_its_punctuation() {
    let page = page(&handout("1228 1227", Language::Fr));
    let body = page.split("<script>").next().unwrap();
    for space in [" :", " ;", " !", " ?", " »", "« "] {
        let body = body.split("<main").nth(1).unwrap();
        let text: String = body.split("<pre").collect();
        assert!(!text.contains(space), "{space}");
    }
    assert!(page.contains("«\u{a0}frappé à la porte\u{a0}»\u{a0}:"));
}

#[test]
fn times_are_told_in_the_largest_unit_that_is_whole() {
    let told =
        |language: Language, seconds| language.time(Lifetime::For(Duration::from_secs(seconds)));
    assert_eq!(told(Language::En, 300).unwrap(), "5\u{a0}minutes");
    assert_eq!(told(Language::Fr, 1).unwrap(), "1\u{a0}seconde");
    assert_eq!(told(Language::Es, 90).unwrap(), "90\u{a0}segundos");
    assert_eq!(told(Language::It, 3600).unwrap(), "1\u{a0}ora");
    assert_eq!(told(Language::En, 172_800).unwrap(), "2\u{a0}days");
    let mut for_good = handout("1 2", Language::En);
    for_good.accept = Lifetime::Never;
    let page = page(&for_good);
    assert!(page.contains("data-accept=\"\"") && !page.contains("Time left"));
    assert!(!page.contains("<progress") && !page.contains("id=\"clock\""));
}

proptest! {
    #[test]
    fn nothing_in_a_value_becomes_markup(host in "[\\PC<>&\"'{}]{0,20}") {
        let mut handout = handout("1228 1227", Language::En);
        handout.host = host;
        let page = page(&handout);
        let plain = super::page(&self::handout("1228 1227", Language::En));
        for mark in ["<", ">", "\""] {
            prop_assert_eq!(page.matches(mark).count(), plain.matches(mark).count(), "{}", mark);
        }
    }
}
