//! `knockctl --direct`: the same verbs while no daemon runs, and what it finds when it returns.

use std::fs;
use std::path::Path;

use portcullis::lab::Reply;
use serde_json::Value;

use crate::scenarios;
use crate::world::{
    AT_ONCE, DECOY, Family, KNOCK, Person, TRUSTED, Tried, World, goes_on, long_policy, on_backend,
};

scenarios![
    while_a_daemon_runs_it_is_refused,
    an_acceptance_lets_in_and_the_daemon_finds_it,
    a_ban_shuts_out_and_the_daemon_finds_it,
    the_rules_of_precedence_are_the_daemons,
    a_ban_within_a_ban_is_lifted_by_itself,
    whoever_is_taken_out_of_a_banned_network_leaves_the_rest_banned,
    a_banned_network_at_a_gate_that_is_gone_hinders_no_other,
    what_cannot_be_read_is_not_written_over,
    what_a_knock_or_a_decoy_brought_about_can_be_taken_back,
    open_and_close_work,
    trust_edits_the_file_and_runtime_trust_is_remembered,
    a_trusted_name_whose_addresses_are_forgotten_is_not_banned,
    many_entries_at_once_are_put_into_the_sets,
    without_rules_it_says_what_to_do_and_makes_none,
    after_setup_it_works,
    what_needs_a_daemon_says_so,
    a_bad_policy_or_request_changes_nothing,
    in_the_place_of_a_bad_policy_the_last_good_one_serves,
    what_was_tried_and_never_confirmed_is_not_gone_by,
    a_policy_without_gates_is_not_taken_for_an_empty_one,
    why_and_list_show_what_the_kernel_holds,
];

impl World {
    /// Runs `knockctl --direct`, which must end with this code.
    #[track_caller]
    pub(crate) fn direct(&self, code: i32, arguments: &[&str]) -> Reply {
        let reply = self.daemon.ctl_direct(arguments).expect("it runs and ends");
        assert_eq!(reply.code, Some(code), "--direct {arguments:?}: {reply:?}");
        reply
    }

    /// What `knockctl --direct -o json …` prints.
    #[track_caller]
    fn direct_json(&self, arguments: &[&str]) -> Value {
        let reply = self.direct(0, &[&["-o", "json"], arguments].concat());
        serde_json::from_str(&reply.stdout).expect("it prints JSON")
    }

    /// `(chain, address, reason)` of every member.
    #[track_caller]
    fn direct_list(&self) -> Vec<(String, String, String)> {
        let list = self.direct_json(&["list"]);
        let text = |entry: &Value, key: &str| entry[key].as_str().expect("text").to_owned();
        let entries = list["entries"].as_array().expect("a list").iter();
        let shown = |e: &Value| (text(e, "chain"), text(e, "address"), text(e, "reason"));
        entries.map(shown).collect()
    }
}

fn dead() -> Result<World, Box<dyn std::error::Error>> {
    let mut world = World::with(&long_policy(), TRUSTED)?;
    world.daemon.kill_9();
    Ok(world)
}

#[track_caller]
fn all_get_in(people: &[Person]) {
    for person in people {
        person.gets_in();
    }
}

fn while_a_daemon_runs_it_is_refused() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    let before = world.json(&["list"])["entries"].clone();
    for arguments in [
        &["accept", "192.0.2.10"][..],
        &["drop", "192.0.2.10", "--force"],
        &["trust", "192.0.2.10"],
        &["untrust", "192.0.2.50"],
        &["flush", "all"],
        &["open"],
        &["list"],
        &["why", "192.0.2.10"],
    ] {
        let reply = world.direct(4, arguments);
        assert!(reply.stderr.contains("already running"), "{reply:?}");
        assert!(reply.stderr.contains("leave --direct out"), "{reply:?}");
    }
    assert_eq!(world.json(&["list"])["entries"], before);
    Ok(())
}

fn an_acceptance_lets_in_and_the_daemon_finds_it() -> Tried {
    let mut world = dead()?;
    let people = world.people(10)?;
    for person in &people {
        person.is_refused();
        let reply = world.direct(0, &["accept", &person.address, "--for", "10m"]);
        let line = format!("ssh: {} accepted for 10m\n", person.address);
        assert_eq!(reply.stdout, line, "as with a daemon");
        person.gets_in();
    }
    world.daemon.start()?;
    for person in &people {
        let found = world
            .member("ssh_filter", &person.address)
            .expect("it is found");
        let left = found.left.expect("it ends");
        assert!((590.0..=600.0).contains(&left), "{found:?}");
        assert!(
            found.reason.starts_with("knockctl --direct by "),
            "{found:?}"
        );
        person.gets_in();
    }
    Ok(())
}

fn a_ban_shuts_out_and_the_daemon_finds_it() -> Tried {
    let mut world = World::with(&long_policy(), TRUSTED)?;
    let people = world.people(10)?;
    let mut sessions = people.each_ref().map(|person| person.opens());
    world.daemon.kill_9();
    for (person, session) in people.iter().zip(&mut sessions) {
        world.direct(0, &["drop", &person.address]);
        person.is_refused();
        goes_on(session);
    }
    world.direct(0, &["drop", "198.51.100.0/24", "2001:db8:9::/48"]);
    world.daemon.start()?;
    for person in &people {
        let ban = world
            .member("ssh_banned", &person.address)
            .expect("it is found");
        assert_eq!(ban.left, None);
        assert!(world.member("ssh_filter", &person.address).is_none());
        person.knocks(KNOCK);
    }
    for net in ["198.51.100.0/24", "2001:db8:9::/48"] {
        world.await_member("ssh_banned", net);
        world.expect(0, &["unban", net]);
    }
    world.all_is_handled()?;
    people.iter().for_each(Person::is_refused);
    Ok(())
}

fn the_rules_of_precedence_are_the_daemons() -> Tried {
    let policy = format!("never_ban: [192.0.2.12]\n{}", long_policy());
    let mut world = World::with(&policy, TRUSTED)?;
    world.daemon.kill_9();
    for person in world.people(50)? {
        let reply = world.direct(4, &["drop", &person.address]);
        assert!(reply.stderr.contains("is trusted"), "{reply:?}");
        person.gets_in();
    }
    for family in Family::BOTH {
        let reply = world.direct(4, &["drop", family.server()]);
        assert!(
            reply.stderr.contains("an address of this host"),
            "{reply:?}"
        );
    }
    world.direct(4, &["drop", "192.0.2.12"]);
    world.direct(4, &["drop", "192.0.2.48/29"]);
    for person in world.people(10)? {
        world.direct(0, &["drop", &person.address]);
        let reply = world.direct(4, &["accept", &person.address]);
        assert!(reply.stderr.contains("is banned"), "{reply:?}");
        person.is_refused();
        world.direct(0, &["accept", "--force", &person.address]);
        person.gets_in();
    }
    let person = world.person(Family::V4, 50)?;
    world.direct(0, &["drop", "--force", &person.address]);
    person.is_refused();
    // Trust is withdrawn until restart, as it is by a daemon.
    world.daemon.start()?;
    person.gets_in_soon(22);
    Ok(())
}

/// `(network, whether it ends)` of every ban that the daemon finds.
#[track_caller]
fn banned(world: &World) -> Vec<(String, bool)> {
    let bans = world.members("ssh_banned").into_iter();
    let mut bans: Vec<_> = bans.map(|it| (it.address, it.left.is_some())).collect();
    bans.sort();
    bans
}

/// nftables keeps the two in pieces that do not overlap.
fn a_ban_within_a_ban_is_lifted_by_itself() -> Tried {
    let (wide, narrow) = ("192.0.2.8/29", "192.0.2.10/31");
    let mut world = World::with(&long_policy(), TRUSTED)?;
    let within = world.person(Family::V4, 10)?;
    let beside = world.person(Family::V4, 12)?;
    for (lifted, left) in [(wide, narrow), (narrow, wide)] {
        world.expect(0, &["drop", wide, "--for", "1h"]);
        world.expect(0, &["drop", narrow]);
        let both = banned(&world);
        assert_eq!(both.len(), 2, "{both:?}");
        world.daemon.kill_9();
        within.is_refused();
        beside.is_refused();
        let shown: Vec<String> = world
            .direct_list()
            .into_iter()
            .filter(|(chain, ..)| chain == "ssh_banned")
            .map(|(_, net, _)| net)
            .collect();
        assert_eq!(shown, [wide, narrow]);
        let reply = world.direct(0, &["unban", lifted]);
        let line = format!("ssh: the ban of {lifted} is lifted");
        assert!(reply.stdout.starts_with(&line), "{reply:?}");
        world.direct(4, &["accept", &within.address]);
        if left == wide {
            world.direct(4, &["accept", &beside.address]);
            beside.is_refused();
        } else {
            world.direct(0, &["accept", &beside.address]);
            beside.gets_in();
        }
        within.is_refused();
        world.daemon.start()?;
        assert_eq!(banned(&world), [(left.to_owned(), left == wide)]);
        within.is_refused();
        world.expect(0, &["flush", "all"]);
    }
    Ok(())
}

fn whoever_is_taken_out_of_a_banned_network_leaves_the_rest_banned() -> Tried {
    let mut world = World::with(&long_policy(), TRUSTED)?;
    let persons = [10, 11, 12].map(|number| world.person(Family::V4, number));
    let [accepted, trusted, other] = persons;
    let (accepted, trusted, other) = (accepted?, trusted?, other?);
    world.expect(0, &["drop", "192.0.2.8/29", "--for", "1h"]);
    world.daemon.kill_9();
    world.direct(4, &["accept", &accepted.address]);
    world.direct(0, &["accept", "--force", &accepted.address]);
    world.direct(0, &["trust", "--runtime", &trusted.address]);
    for _ in 0..2 {
        accepted.gets_in();
        trusted.gets_in();
        other.is_refused();
        world.daemon.start()?;
        let bans = banned(&world);
        let parts = ["192.0.2.12/30", "192.0.2.8/31"].map(|net| (net.to_owned(), true));
        assert_eq!(bans, parts);
        world.daemon.kill_9();
    }
    Ok(())
}

fn a_banned_network_at_a_gate_that_is_gone_hinders_no_other() -> Tried {
    let one = long_policy().replace("action:", "gate: ssh, action:");
    let two = one.replace("knocks:", "  web: { ports: [80] }\nknocks:");
    let net = "198.51.100.0/24";
    let mut world = World::with(&two, TRUSTED)?;
    world.expect(0, &["drop", net, "--gate", "web"]);
    world.daemon.terminate()?;
    let (state, before) = (world.daemon.state_dir(), tempfile::tempdir()?);
    copy(&state, before.path())?;
    world.daemon.write_policy(&on_backend(&one))?;
    world.daemon.start()?;
    world.daemon.terminate()?;
    // As if older rules had been loaded: the kernel has no such gate, and the store knows it.
    std::fs::remove_dir_all(&state)?;
    std::fs::create_dir(&state)?;
    copy(before.path(), &state)?;
    let person = world.person(Family::V4, 10)?;
    for (policy, verb) in [(&one, "accept"), (&two, "drop")] {
        world.daemon.write_policy(&on_backend(policy))?;
        world.direct(0, &[verb, "--force", &person.address, "--gate", "ssh"]);
        if verb == "accept" {
            person.gets_in();
        } else {
            person.is_refused();
        }
    }
    world.daemon.start()?;
    world.await_member("web_banned", net);
    world.await_member("ssh_banned", &person.address);
    Ok(())
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn what_cannot_be_read_is_not_written_over() -> Tried {
    let mut world = World::with(&long_policy(), TRUSTED)?;
    let [person, other] = [10, 11].map(|number| world.person(Family::V4, number));
    let (person, other) = (person?, other?);
    world.expect(0, &["drop", &person.address]);
    world.daemon.terminate()?;
    let store = rusqlite::Connection::open(world.daemon.state_dir().join("knockd.db"))?;
    let stored = || {
        let mut select = store.prepare("SELECT net, reason, ends_wall FROM members")?;
        let row = |row: &rusqlite::Row<'_>| -> rusqlite::Result<(String, String, String)> {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        };
        select.query_map([], row)?.collect::<Result<Vec<_>, _>>()
    };
    store.execute("UPDATE members SET ends_wall = 'damaged'", [])?;
    let damaged = stored()?;
    assert_eq!(damaged.len(), 1, "{damaged:?}");
    let reply = world.direct(0, &["drop", &other.address]);
    assert!(
        reply.stdout.contains("not written to the disk"),
        "{reply:?}"
    );
    other.is_refused();
    let reply = world.direct(0, &["unban", &person.address]);
    assert!(reply.stdout.contains("cannot be read"), "{reply:?}");
    assert_eq!(stored()?, damaged);
    Ok(())
}

fn what_a_knock_or_a_decoy_brought_about_can_be_taken_back() -> Tried {
    let mut world = World::with(&long_policy(), TRUSTED)?;
    let (in_, out) = (world.people(10)?, world.people(11)?);
    for (knocker, decoyed) in in_.iter().zip(&out) {
        knocker.opens();
        decoyed.knocks(DECOY);
        world.await_member("ssh_banned", &decoyed.address);
    }
    world.daemon.kill_9();
    let reply = world.direct(0, &["unban", &out[0].address]);
    assert!(reply.stdout.contains("the ban of"), "{reply:?}");
    let reply = world.direct(0, &["flush", &in_[0].address]);
    assert!(reply.stdout.contains("is withdrawn"), "{reply:?}");
    in_[0].is_refused();
    in_[1].gets_in();
    world.direct(0, &["flush", "all"]);
    in_[1].is_refused();
    let left = world.direct_list();
    assert!(
        left.iter().all(|(chain, ..)| chain == "ssh_trusted"),
        "{left:?}"
    );
    assert_eq!(world.direct(0, &["flush", "all"]).stdout, "nothing to do\n");
    world.daemon.start()?;
    for person in out.iter().chain(&in_) {
        person.opens();
    }
    Ok(())
}

fn open_and_close_work() -> Tried {
    let mut world = dead()?;
    let people = world.people(10)?;
    world.direct(0, &["open", "--for", "1h"]);
    all_get_in(&people);
    world.direct(0, &["close"]);
    people.iter().for_each(Person::is_refused);
    world.direct(0, &["open", "--for", "1h", "--gate", "ssh"]);
    world.daemon.start()?;
    all_get_in(&people);
    world.expect(0, &["close"]);
    people.iter().for_each(Person::is_refused);
    Ok(())
}

fn trust_edits_the_file_and_runtime_trust_is_remembered() -> Tried {
    let mut world = dead()?;
    let [file, runtime] = [world.people(10)?, world.people(11)?];
    for (person, other) in file.iter().zip(&runtime) {
        world.direct(0, &["drop", &person.address]);
        world.direct(0, &["trust", "--comment", "by hand", &person.address]);
        person.gets_in();
        world.direct(0, &["trust", "--runtime", &other.address]);
        other.gets_in();
    }
    let text = std::fs::read_to_string(world.daemon.trusted_path())?;
    assert!(text.starts_with(TRUSTED), "{text}");
    assert!(
        text.contains("192.0.2.10") && text.contains("by hand"),
        "{text}"
    );
    assert!(!text.contains("192.0.2.11"), "{text}");
    world.daemon.start()?;
    for person in file.iter().chain(&runtime) {
        person.gets_in_soon(22);
    }
    world.daemon.terminate()?;
    for (person, other) in file.iter().zip(&runtime) {
        world.direct(0, &["untrust", &person.address]);
        world.direct(0, &["untrust", "--runtime", &other.address]);
        person.is_refused();
        other.is_refused();
    }
    assert_eq!(
        std::fs::read_to_string(world.daemon.trusted_path())?,
        TRUSTED
    );
    world.daemon.start()?;
    for person in file.iter().chain(&runtime) {
        person.is_refused();
    }
    Ok(())
}

fn a_trusted_name_whose_addresses_are_forgotten_is_not_banned() -> Tried {
    let mut world = World::with(&long_policy(), "192.0.2.10 for now\n")?;
    let person = world.person(Family::V4, 10)?;
    world.daemon.kill_9();
    // As if a name had stood for it, and the store were lost.
    world.daemon.write_trusted("host.invalid\n")?;
    let reply = world.direct(4, &["drop", &person.address]);
    assert!(reply.stderr.contains("is trusted"), "{reply:?}");
    person.gets_in();
    Ok(())
}

fn many_entries_at_once_are_put_into_the_sets() -> Tried {
    // So many that the engine asks for everything to be installed anew.
    let mut world = dead()?;
    let many: Vec<String> = (0..1010)
        .map(|n| format!("198.51.{}.{}", 100 + n / 250, n % 250 + 1))
        .collect();
    let arguments: Vec<&str> = std::iter::once("trust")
        .chain(many.iter().map(String::as_str))
        .collect();
    world.direct(0, &arguments);
    let count = |world: &World| {
        let list = world.direct_list();
        list.iter()
            .filter(|(chain, ..)| chain == "ssh_trusted")
            .count()
    };
    assert_eq!(count(&world), 1012);
    let arguments = [&["untrust"], &arguments[1..]].concat();
    world.direct(0, &arguments);
    assert_eq!(count(&world), 2);
    world.daemon.start()?;
    for person in world.people(50)? {
        person.gets_in();
    }
    Ok(())
}

fn without_rules_it_says_what_to_do_and_makes_none() -> Tried {
    let world = World::before(&long_policy(), TRUSTED, &[22])?;
    for arguments in [
        &["accept", "192.0.2.10"][..],
        &["drop", "192.0.2.10"],
        &["trust", "192.0.2.10"],
        &["list"],
        &["why", "192.0.2.10"],
    ] {
        let reply = world.direct(1, arguments);
        assert!(reply.stderr.contains("knockd setup"), "{reply:?}");
    }
    assert_eq!(
        std::fs::read_to_string(world.daemon.trusted_path())?,
        TRUSTED
    );
    for person in world.people(10)? {
        // There is no gate.
        person.gets_in();
    }
    Ok(())
}

fn after_setup_it_works() -> Tried {
    let mut world = World::before(&long_policy(), TRUSTED, &[22])?;
    assert_eq!(world.daemon.run_knockd(&["setup"])?.code, Some(0));
    let people = world.people(10)?;
    people[0].is_refused();
    world.direct(0, &["accept", &people[0].address, &people[1].address]);
    all_get_in(&people);
    world.daemon.start()?;
    all_get_in(&people);
    Ok(())
}

fn what_needs_a_daemon_says_so() -> Tried {
    let world = dead()?;
    for verb in ["status", "ping", "reload"] {
        let reply = world.direct(3, &[verb]);
        assert!(reply.stderr.contains("a running knockd"), "{reply:?}");
    }
    // And who could do without is told.
    let reply = world.expect(3, &["accept", "192.0.2.10"]);
    assert!(reply.stderr.contains("knockctl --direct"), "{reply:?}");
    for verb in ["status", "history", "ping", "reload", "confirm", "rollback"] {
        let reply = world.expect(3, &[verb]);
        assert!(!reply.stderr.contains("--direct"), "{reply:?}");
        let reply = world.direct(3, &[verb]);
        assert!(reply.stderr.contains("start it with"), "{reply:?}");
    }
    Ok(())
}

fn a_bad_policy_or_request_changes_nothing() -> Tried {
    let world = dead()?;
    world.direct(2, &["accept", "nonsense"]);
    world.direct(2, &["accept", "192.0.2.10", "--gate", "nowhere"]);
    world.direct(2, &["list", "--gate", "nowhere"]);
    world.direct(2, &["why", "192.0.2.10", "--gate", "nowhere"]);
    world
        .daemon
        .write_policy("gates: { ssh: { prots: [22] } }\n")?;
    let good = world.daemon.state_dir().join("policy.good");
    fs::rename(&good, good.with_extension("gone"))?;
    let reply = world.direct(2, &["accept", "192.0.2.10"]);
    assert!(reply.stderr.contains("knockd.yaml:1:"), "{reply:?}");
    let person = world.person(Family::V4, 10)?;
    person.is_refused_within(AT_ONCE);
    Ok(())
}

/// As a start would: a daemon that died and a mistake in the policy are no reason to be locked out.
fn in_the_place_of_a_bad_policy_the_last_good_one_serves() -> Tried {
    let mut world = dead()?;
    let path = world.daemon.policy_path();
    let good = fs::read_to_string(&path)?;
    for spoilt in [true, false] {
        if spoilt {
            world
                .daemon
                .write_policy("gates: { ssh: { prots: [22] } }\n")?;
        } else {
            fs::remove_file(&path)?;
        }
        let reply = world.direct(0, &["accept", "192.0.2.10"]);
        for part in ["knockd.yaml", "the last good policy"] {
            assert!(reply.stderr.contains(part), "{part} in {reply:?}");
        }
        let person = world.person(Family::V4, 10)?;
        person.gets_in();
        world.direct(0, &["flush", "filter"]);
    }
    world.direct(0, &["trust", "192.0.2.20", "a", "colleague"]);
    let trusted = fs::read_to_string(world.daemon.trusted_path())?;
    assert!(trusted.contains("192.0.2.20"), "{trusted}");
    world.daemon.write_policy(&good)?;
    world.daemon.start()?;
    Ok(())
}

/// As a start would not either.
fn what_was_tried_and_never_confirmed_is_not_gone_by() -> Tried {
    let mut world = World::with(&long_policy(), TRUSTED)?;
    let tried = fs::read_to_string(world.daemon.policy_path())?.replace("ssh:", "web:");
    world.daemon.write_policy(&tried)?;
    let path = world.daemon.policy_path();
    let own = path.to_str().ok_or("not UTF-8")?;
    world.expect(0, &["apply", own, "--confirm", "100s"]);
    world.daemon.kill_9();
    let setup = world.daemon.run_knockd(&["setup"])?;
    assert_eq!(setup.code, Some(0), "{setup:?}");
    let reply = world.direct(0, &["list"]);
    assert!(reply.stderr.contains("never confirmed"), "{reply:?}");
    let reply = world.direct(2, &["accept", "192.0.2.10", "--gate", "web"]);
    assert!(reply.stderr.contains("web"), "{reply:?}");
    world.direct(0, &["accept", "192.0.2.10"]);
    world.person(Family::V4, 10)?.gets_in();
    Ok(())
}

fn a_policy_without_gates_is_not_taken_for_an_empty_one() -> Tried {
    let world = dead()?;
    let address = &world.person(Family::V4, 10)?.address;
    let classic = "[openSSH]\n    sequence = 7000,8000\n    command = /bin/true\n";
    world.daemon.write_policy(classic)?;
    let path = world.daemon.policy_path();
    let told = format!(
        "the policy {} has no gates; name yours with -c",
        path.display()
    );
    for arguments in [
        &["list"][..],
        &["why", address],
        &["accept", address],
        &["list", "--gate", "ssh"],
    ] {
        let reply = world.direct(2, arguments);
        assert_eq!(reply.stdout, "");
        assert!(reply.stderr.contains(&told), "{reply:?}");
    }
    Ok(())
}

fn why_and_list_show_what_the_kernel_holds() -> Tried {
    let mut world = World::with(&long_policy(), TRUSTED)?;
    for person in world.people(10)? {
        person.knocks(DECOY);
        world.await_member("ssh_banned", &person.address);
    }
    let before = world.json(&["list"]);
    world.daemon.kill_9();
    assert_eq!(world.direct_json(&["list"]), before, "word for word");
    for person in world.people(10)? {
        let why = world.direct_json(&["why", &person.address]);
        let entry = &why["entries"][0];
        assert_eq!(entry["chain"], "ssh_banned", "{entry}");
        assert_eq!(entry["reason"], "decoy", "{entry}");
        let doubts = entry["doubts"].as_array().expect("doubts");
        assert_eq!(doubts.len(), 1, "only that nobody hears knocks: {entry}");
    }
    Ok(())
}
