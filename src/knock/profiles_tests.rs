use super::*;
use crate::knock::args::{Arguments, Plan, Task};
use crate::model::KnockPort;
use crate::totp::Family;
use clap::Parser;

const FILE: &str = "
# How I get in
work:
  host: ssh.example.org
  knocks: [1228, 1227, \"9663:udp\", 9664/udp]
  delay: 200ms
  port: 2222
ssh.example.net: { knocks: [7000], udp: true }
bare: { host: 192.0.2.1 }
";

fn profiles(text: &str) -> Result<Profiles, String> {
    let all = parse(text.as_bytes(), Path::new("knock.yaml")).map_err(|e| e.to_string())?;
    Ok(Profiles { file: None, all })
}

fn plan(words: &[&str]) -> Plan {
    let arguments = Arguments::try_parse_from([&["knock"], words].concat()).unwrap();
    arguments.plan(&profiles(FILE).unwrap()).unwrap()
}

fn shown(plan: &Plan) -> String {
    let ports = plan.knocks.ports(Family::V4, Duration::ZERO);
    let knocks: Vec<String> = ports.iter().map(KnockPort::to_string).collect();
    format!("{} {} {:?}", plan.host, knocks.join(" "), plan.delay)
}

#[test]
fn a_profile_supplies_host_knocks_delay_and_protocol() {
    let work = plan(&["work"]);
    let all = "ssh.example.org 1228/tcp 1227/tcp 9663/udp 9664/udp 200ms";
    assert_eq!((shown(&work).as_str(), work.task), (all, Task::Knock));
    assert_eq!(
        shown(&plan(&["ssh.example.net"])),
        "ssh.example.net 7000/udp 0ns"
    );
}

#[test]
fn the_command_line_goes_before_the_profile() {
    let said = plan(&["-d", "0", "work", "5:udp"]);
    assert_eq!(shown(&said), "ssh.example.org 5/udp 0ns");
    let said = plan(&["bare", "5"]);
    assert_eq!(shown(&said), "192.0.2.1 5/tcp 0ns");
    let said = plan(&["other.example.org", "5"]);
    assert_eq!(shown(&said), "other.example.org 5/tcp 0ns");
    let said = plan(&["-u", "work"]);
    assert!(shown(&said).contains("1228/udp"));
}

#[test]
fn a_profile_says_where_to_connect_to() {
    assert_eq!(plan(&["--proxy", "work"]).task, Task::Proxy(2222));
    let ssh = plan(&["--proxy", "work", "22"]);
    assert_eq!(
        (ssh.task, ssh.knocks.ports(Family::V4, Duration::ZERO).len()),
        (Task::Proxy(22), 4)
    );
    let ssh = plan(&["--proxy", "work", "22", "1"]);
    assert_eq!(
        (ssh.task, ssh.knocks.ports(Family::V4, Duration::ZERO).len()),
        (Task::Proxy(22), 1)
    );
    let check = plan(&["--open-and-check", "22", "work"]);
    assert_eq!(
        (
            check.task,
            check.knocks.ports(Family::V4, Duration::ZERO).len()
        ),
        (Task::Check(22), 4)
    );
}

#[test]
fn a_profile_without_knocks_needs_some() {
    let arguments = Arguments::try_parse_from(["knock", "bare"]).unwrap();
    let error = arguments.plan(&profiles(FILE).unwrap()).unwrap_err();
    assert!(error.to_string().contains("no ports"), "{error}");
    assert_eq!(error.code(), 2);
}

#[test]
fn an_empty_file_has_no_profiles() {
    for text in ["", "\n\n", "# nothing yet\n  # really\n", "{}\n"] {
        assert!(profiles(text).unwrap().all.is_empty(), "{text:?}");
    }
}

#[test]
fn mistakes_have_their_place() {
    for (text, told) in [
        ("work:\n  hots: a\n", "knock.yaml:2:3: "),
        ("work:\n  hots: a\n", "hots"),
        ("work:\n  knocks: [1228, 99999]\n", "knock.yaml:2:18: "),
        ("work:\n  knocks: [1228, 99999]\n", "`99999` is not a port"),
        ("work:\n  knocks: [1228, -5]\n", "`-5` is not a port"),
        (
            "work:\n  knocks: [\"22:icmp\"]\n",
            "`icmp` is not a protocol",
        ),
        ("work:\n  delay: 200\n", "write `200s` for seconds"),
        ("work:\n  delay: never\n", "out of range"),
        ("work:\n  delay: 2h\n", "out of range"),
        (
            "work:\n  port: 22:udp\n",
            "`22:udp` is not a port to connect to",
        ),
        ("work:\n  port: [22]\n", "a port such as 22"),
        ("work:\n  udp: perhaps\n", "knock.yaml:2:8: "),
        (
            "work: { port: 22 }\nwork: { port: 23 }\n",
            "knock.yaml:2:1: ",
        ),
        ("work: [1228]\n", "knock.yaml:1:7: "),
        ("- work\n", "knock.yaml:1:1: "),
        ("work: { knocks: [1228 }\n", "knock.yaml:1:"),
    ] {
        let error = profiles(text).unwrap_err();
        assert!(error.contains(told), "{text:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let error = parse(b"a: 1\nb: \xff\n", Path::new("k")).unwrap_err();
    assert!(
        error.to_string().starts_with("k:2:4: found a byte"),
        "{error}"
    );
}

#[test]
fn a_deep_or_endless_file_is_refused() {
    let deep = format!("a: {}1{}", "[".repeat(5000), "]".repeat(5000));
    assert!(profiles(&deep).is_err());
    let bomb = "a: &a [1, 1]\nb: &b [*a, *a, *a, *a]\n".to_owned() + &"c: [*b, *b, *b]\n".repeat(9);
    assert!(profiles(&bomb).is_err());
}

#[test]
fn the_file_is_where_the_user_keeps_such_files() {
    let root = if cfg!(windows) { "C:/" } else { "/" };
    let at = |given: &[(&str, &str)]| {
        place(|name| {
            let found = given.iter().find(|(known, _)| *known == name);
            found.map(|(_, path)| PathBuf::from(path.replace('/', root)))
        })
    };
    let home = [("HOME", "/home")];
    let path = |text: &str| Some(PathBuf::from(text.replacen('/', root, 1)));
    assert_eq!(at(&home), path("/home/.config/knock.yaml"));
    let both = [("HOME", "/home"), ("XDG_CONFIG_HOME", "/config")];
    assert_eq!(at(&both), path("/config/knock.yaml"));
    let relative = [("HOME", "/home"), ("XDG_CONFIG_HOME", "config")];
    assert_eq!(at(&relative), path("/home/.config/knock.yaml"));
    assert_eq!(at(&[]), None);
}

#[test]
fn a_missing_file_is_none_and_an_unreadable_one_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("none/knock.yaml");
    assert!(Profiles::load_from(absent).unwrap().all.is_empty());
    let error = Profiles::load_from(dir.path().to_owned()).unwrap_err();
    assert!(
        error.to_string().starts_with("cannot read the profiles"),
        "{error}"
    );
    let big = dir.path().join("big");
    std::fs::write(&big, vec![b'#'; 1_048_577]).unwrap();
    assert!(matches!(
        Profiles::load_from(big),
        Err(ProfilesError::TooBig(_))
    ));
}

#[test]
fn a_profile_may_have_a_secret_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("knock.yaml");
    let secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZA";
    std::fs::write(dir.path().join("s"), secret).unwrap();
    let plan = |knocks: &str| {
        std::fs::write(&file, format!("work: {{ knocks: {knocks} }}")).unwrap();
        let profiles = Profiles::load_from(file.clone())?;
        Arguments::parse_from(["knock", "work"]).plan(&profiles)
    };
    let found = plan("{ totp: s, ports: \"20000-40000\", length: 3 }").unwrap();
    assert_eq!(shown(&found), "work 30887/tcp 34027/tcp 32190/tcp 0ns");
    for (knocks, told) in [
        ("{ totp: s }", "1:"),
        ("{ totp: s, ports: x }", "`x` is not a port"),
        ("{ totp: s, ports: 1-9, lenght: 3 }", "lenght"),
        ("{ totp: s, ports: 1-9 }", "a billion are not guessed"),
        (
            "{ totp: gone, ports: \"20000-40000\" }",
            "cannot read the secret",
        ),
        ("7000", "1:"),
    ] {
        let error = plan(knocks).unwrap_err();
        assert!(error.to_string().contains(told), "{knocks}: {error}");
        assert_eq!(error.code(), 2, "{error}");
    }
}
