//! `apply`, `rollback` and `diff`, and the last good policy.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use portcullis::lab::await_some;

use crate::scenarios;
use crate::sheets::Mounted;
use crate::world::{AT_ONCE, Family, KNOCK, POLICY, TRUSTED, Tried, World, backend, long_policy};

scenarios![
    a_policy_is_applied_and_kept_and_rolled_back,
    a_bad_policy_is_not_applied_and_changes_nothing,
    what_cannot_be_kept_is_not_even_tried,
    what_the_file_says_already_need_not_be_written,
    a_trial_that_cannot_be_kept_any_more_goes_on_until_its_time_is_over,
    an_edit_that_was_never_in_force_is_not_lost,
    diff_says_what_would_change,
    diff_warns_of_what_apply_refuses,
    memory_that_the_machine_does_not_have_is_refused,
    garbage_at_start_is_overcome_by_the_last_good_policy,
    without_a_last_good_policy_garbage_is_refused,
];

/// Another sequence opens.
pub(crate) const OTHER: &[&str] = &["4001", "4002"];

pub(crate) fn pinned(policy: &str) -> String {
    format!(
        "{}\nfirewall: {{ backend: {} }}\n",
        policy.trim_end(),
        backend()
    )
}

pub(crate) fn other_policy() -> String {
    pinned(&long_policy().replace("[1228, 1227]", "[4001, 4002]"))
}

pub(crate) fn candidate(
    world: &World,
    name: &str,
    text: &str,
) -> Result<String, Box<dyn std::error::Error>> {
    let path = world.lab.dir().join(name);
    fs::write(&path, text)?;
    Ok(path.to_str().ok_or("not UTF-8")?.to_owned())
}

#[track_caller]
pub(crate) fn on_disk(world: &World) -> String {
    fs::read_to_string(world.daemon.policy_path()).expect("the policy can be read")
}

/// Which knocks open the gate. Nobody else may be accepted meanwhile.
#[track_caller]
pub(crate) fn opens_with(world: &World, works: &[&str], fails: &[&str]) {
    for family in Family::BOTH {
        let [stranger, person] =
            [10, 11].map(|number| world.person(family, number).expect("a person"));
        world.expect(0, &["flush", "filter"]);
        stranger.knocks(fails);
        person.opens_with(works, 22);
        // Knocks are handled in order: the stranger's were before.
        stranger.is_refused();
    }
}

#[track_caller]
pub(crate) fn change(world: &World, code: i32) -> serde_json::Value {
    let reply = world.expect(code, &["-o", "json", "status"]);
    let status: serde_json::Value = serde_json::from_str(&reply.stdout).expect("JSON");
    status["change"].clone()
}

fn a_policy_is_applied_and_kept_and_rolled_back() -> Tried {
    let mut world = World::with(&long_policy(), TRUSTED)?;
    let path = world.daemon.policy_path();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o604))?;
    let before = on_disk(&world);
    let other = other_policy();
    let file = candidate(&world, "other.yaml", &other)?;
    let reply = world.expect(1, &["rollback"]);
    assert!(reply.stderr.contains("no policy from before"), "{reply:?}");
    let reply = world.expect(0, &["apply", &file]);
    assert!(reply.stdout.contains("is in force"), "{reply:?}");
    opens_with(&world, OTHER, KNOCK);
    assert_eq!(on_disk(&world), other);
    let mode = fs::metadata(&path)?.permissions().mode();
    assert_eq!(mode & 0o7777, 0o604);
    for (expected, [works, fails]) in [
        (&before, [KNOCK, OTHER]),
        (&other, [OTHER, KNOCK]),
        (&before, [KNOCK, OTHER]),
    ] {
        world.expect(0, &["rollback"]);
        opens_with(&world, works, fails);
        assert_eq!(on_disk(&world), *expected);
    }
    world.daemon.kill_9();
    world.daemon.start()?;
    opens_with(&world, KNOCK, OTHER);
    world.expect(0, &["status"]);
    // The same once more is nothing new: the one from before stays.
    let file = candidate(&world, "same.yaml", &before)?;
    world.expect(0, &["apply", &file]);
    world.expect(0, &["rollback"]);
    assert_eq!(on_disk(&world), other);
    for kept in ["policy.good", "policy.previous"] {
        let mode = fs::metadata(world.daemon.state_dir().join(kept))?.permissions();
        assert_eq!(mode.mode() & 0o7777, 0o600, "{kept}");
    }
    Ok(())
}

fn a_bad_policy_is_not_applied_and_changes_nothing() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    let before = on_disk(&world);
    let person = world.person(Family::V4, 12)?;
    person.opens();
    let misspelt = POLICY.replace("accept_timeout: 2s", "accept_timout: 2s");
    let misspelt = candidate(&world, "bad.yaml", &misspelt)?;
    let alone = POLICY.replace("knockd.trusted", "/nowhere/list");
    let alone = candidate(&world, "alone.yaml", &alone)?;
    let long = candidate(&world, "long.yaml", &"# filler\n".repeat(40_000))?;
    let binary = world.lab.dir().join("binary.yaml");
    fs::write(&binary, [0xff, 0xfe])?;
    let binary = binary.to_str().ok_or("not UTF-8")?;
    for (file, word) in [
        (misspelt.as_str(), "bad.yaml:5:"),
        (&alone, "/nowhere/list"),
        (&long, "256 KiB"),
        (binary, "UTF-8"),
        ("/nowhere/policy.yaml", "No such file"),
        ("/", "directory"),
    ] {
        for extra in [&[][..], &["--confirm", "5s"], &["--force"]] {
            let reply = world.expect(2, &[&["apply", file][..], extra].concat());
            assert!(reply.stderr.contains(word), "{word} in {reply:?}");
        }
    }
    let reply = world.expect(2, &["apply", &misspelt, "--confirm", "never"]);
    assert!(reply.stderr.contains("--confirm"), "{reply:?}");
    person.gets_in();
    assert_eq!(on_disk(&world), before);
    assert!(change(&world, 0).is_null());
    assert!(!world.daemon.state_dir().join("policy.unconfirmed").exists());
    opens_with(&world, KNOCK, OTHER);
    Ok(())
}

fn what_the_file_says_already_need_not_be_written() -> Tried {
    let classic = "[door]\n    Sequence = 7000,8000\n    Start_Command = /bin/true %IP%\n";
    let world = World::with(classic, TRUSTED)?;
    let path = world.daemon.policy_path();
    let own = path.to_str().ok_or("not UTF-8")?;
    // As written before UTF-8 was common.
    let bytes = [b"# acc\xe8s\n", classic.replace("8000", "9000").as_bytes()].concat();
    fs::write(&path, &bytes)?;
    let mounted = Mounted::new(path.parent().ok_or("a file is in a directory")?)?;
    mounted.is_read_only(true)?;
    world.expect(0, &["apply", own, "--confirm", "60s"]);
    world.expect(0, &["confirm"]);
    world.expect(0, &["reload"]);
    world.expect(0, &["apply", own]);
    assert!(change(&world, 0).is_null());
    drop(mounted);
    assert_eq!(fs::read(&path)?, bytes);
    Ok(())
}

fn what_cannot_be_kept_is_not_even_tried() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    let file = candidate(&world, "other.yaml", &other_policy())?;
    let path = world.daemon.policy_path();
    let own = path.to_str().ok_or("not UTF-8")?.to_owned();
    let before = on_disk(&world);
    let dir = path.parent().ok_or("a file is in a directory")?;
    let mounted = Mounted::new(dir)?;
    // As the systemd unit has /etc.
    mounted.is_read_only(true)?;
    for way in [&["apply", &file][..], &["apply", &file, "--confirm", "60s"]] {
        let reply = world.expect(1, way);
        for words in ["nothing was changed", "is read-only", "/etc/knockd"] {
            assert!(reply.stderr.contains(words), "{words} in {reply:?}");
        }
        assert!(change(&world, 0).is_null());
        opens_with(&world, KNOCK, OTHER);
    }
    assert_eq!(on_disk(&world), before);
    // What is there already needs no writing.
    mounted.is_read_only(false)?;
    world.daemon.write_policy(&other_policy())?;
    mounted.is_read_only(true)?;
    world.expect(0, &["apply", &own, "--confirm", "60s"]);
    opens_with(&world, OTHER, KNOCK);
    world.expect(0, &["confirm"]);
    opens_with(&world, OTHER, KNOCK);
    let reply = world.expect(1, &["rollback"]);
    assert!(reply.stderr.contains("nothing was changed"), "{reply:?}");
    world.expect(0, &["reload"]);
    opens_with(&world, OTHER, KNOCK);
    mounted.is_read_only(false)?;
    let names = fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name()));
    let names: Vec<_> = names.collect::<std::io::Result<_>>()?;
    assert_eq!(names.len(), 2, "policy and whitelist: {names:?}");
    Ok(())
}

fn a_trial_that_cannot_be_kept_any_more_goes_on_until_its_time_is_over() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    let file = candidate(&world, "other.yaml", &other_policy())?;
    let path = world.daemon.policy_path();
    let aside = world.lab.dir().join("aside");
    fs::rename(&path, &aside)?;
    fs::create_dir(&path)?;
    let reply = world.expect(1, &["apply", &file]);
    assert!(reply.stderr.contains("is a directory"), "{reply:?}");
    opens_with(&world, KNOCK, OTHER);
    fs::remove_dir(&path)?;
    fs::rename(&aside, &path)?;
    world.expect(0, &["apply", &file, "--confirm", "60s"]);
    fs::rename(&path, &aside)?;
    fs::create_dir(&path)?;
    let reply = world.expect(1, &["confirm"]);
    assert!(reply.stderr.contains("not confirmed"), "{reply:?}");
    assert_eq!(change(&world, 0)["state"], "unconfirmed");
    fs::remove_dir(&path)?;
    world.expect(0, &["confirm"]);
    opens_with(&world, OTHER, KNOCK);
    assert_eq!(on_disk(&world), other_policy());
    Ok(())
}

fn an_edit_that_was_never_in_force_is_not_lost() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    let edited = format!("{}# half an idea\n", long_policy());
    world.daemon.write_policy(&edited)?;
    let file = candidate(&world, "other.yaml", &other_policy())?;
    let reply = world.expect(0, &["apply", &file]);
    assert!(reply.stdout.contains("policy.replaced"), "{reply:?}");
    let aside = world.daemon.state_dir().join("policy.replaced");
    assert_eq!(fs::read_to_string(aside)?, edited);
    assert_eq!(on_disk(&world), other_policy());
    Ok(())
}

fn diff_says_what_would_change() -> Tried {
    let world = World::with(&pinned(&long_policy()), TRUSTED)?;
    let same = candidate(&world, "same.yaml", &pinned(&long_policy()))?;
    let reply = world.expect(0, &["diff", &same]);
    assert_eq!(reply.stdout.trim_end(), "nothing would change");
    let other = candidate(&world, "other.yaml", &other_policy())?;
    let reply = world.expect(0, &["diff", &other]);
    let line = "knock open: sequence [1228/tcp, 1227/tcp] → [4001/tcp, 4002/tcp]";
    assert_eq!(reply.stdout.trim_end(), line);
    let json = world.json(&["diff", &other]);
    let change = &json["changes"][0];
    assert_eq!(
        (change["of"].as_str(), change["key"].as_str()),
        (Some("knock open"), Some("sequence"))
    );
    assert_eq!(change["to"], "[4001/tcp, 4002/tcp]");
    let bad = candidate(&world, "bad.yaml", "gates: 5\n")?;
    let reply = world.expect(2, &["diff", &bad]);
    assert!(reply.stderr.contains("bad.yaml:1:"), "{reply:?}");
    opens_with(&world, KNOCK, OTHER);
    Ok(())
}

/// What `diff` warns of is what `apply` says, which fails with this code.
#[track_caller]
fn is_warned_of(world: &World, file: &str, code: i32) {
    let reply = world.expect(0, &["diff", file]);
    let said = world.expect(code, &["apply", file]).stderr;
    let mut said = said
        .lines()
        .map(|line| line.trim_start_matches("knockctl: "));
    let first = said.next().expect("it says why");
    let mut warned = reply.stderr.lines();
    let warning = format!("knockctl: warning: `apply` would be refused: {first}");
    assert!(warned.any(|line| line == warning), "{warning} in {reply:?}");
    for line in said {
        let line = format!("knockctl: {line}");
        assert!(reply.stderr.contains(&line), "{line} in {reply:?}");
    }
    assert!(!reply.stdout.contains("warning"), "{reply:?}");
    let json = world.json(&["diff", file])["warnings"].to_string();
    assert!(json.contains(first), "{first} in {json}");
}

fn diff_warns_of_what_apply_refuses() -> Tried {
    let world = World::with(&pinned(&long_policy()), TRUSTED)?;
    let same = candidate(&world, "same.yaml", &pinned(&long_policy()))?;
    let reply = world.expect(0, &["diff", &same]);
    assert_eq!(reply.stderr, "", "there is nothing to warn of");
    let missing = other_policy().replace("knockd.trusted", "nowhere");
    let missing = candidate(&world, "missing.yaml", &missing)?;
    is_warned_of(&world, &missing, 2);
    world
        .daemon
        .write_trusted("192.0.2.50\nnonsense!\nmore!\n")?;
    is_warned_of(&world, &same, 2);
    world.daemon.write_trusted(TRUSTED)?;
    let doubtful = format!("{TRUSTED}192.0.2.9/28 typo\n");
    world.daemon.write_trusted(&doubtful)?;
    let reply = world.expect(0, &["diff", &same]);
    let doubt = "knockctl: warning: ";
    assert!(reply.stderr.starts_with(doubt), "{reply:?}");
    assert!(reply.stderr.contains("192.0.2.0/28"), "{reply:?}");
    let other = candidate(&world, "other.yaml", &other_policy())?;
    {
        let path = world.daemon.policy_path();
        let mounted = Mounted::new(path.parent().ok_or("a file is in a directory")?)?;
        mounted.is_read_only(true)?;
        is_warned_of(&world, &other, 1);
    }
    world.expect(0, &["apply", &other, "--confirm", "60s"]);
    let reply = world.expect(0, &["diff", &same]);
    assert!(reply.stderr.contains("waits to be confirmed"), "{reply:?}");
    Ok(())
}

/// The daemon would be ended by it.
fn memory_that_the_machine_does_not_have_is_refused() -> Tried {
    let world = World::with(&pinned(&long_policy()), TRUSTED)?;
    limit_to(&world, 256 << 20)?;
    let large = format!("{}memory: 1GiB\n", pinned(&long_policy()));
    let file = candidate(&world, "large.yaml", &large)?;
    is_warned_of(&world, &file, 2);
    let reply = world.expect(2, &["apply", &file, "--confirm", "60s"]);
    assert!(reply.stderr.contains("1024 MiB"), "{reply:?}");
    let before = on_disk(&world);
    world.daemon.write_policy(&large)?;
    let reply = world.expect(2, &["reload"]);
    assert!(reply.stderr.contains("1024 MiB"), "{reply:?}");
    world.daemon.write_policy(&before)?;
    world.expect(0, &["reload"]);
    opens_with(&world, KNOCK, OTHER);
    // What it has it need not have twice.
    let mut world = World::with(&large, TRUSTED)?;
    limit_to(&world, 256 << 20)?;
    world.expect(0, &["reload"]);
    world.expect(0, &["diff", &file]);
    world.daemon.terminate()?;
    Ok(())
}

/// So much address space more than the daemon has now.
fn limit_to(world: &World, more: u64) -> Tried {
    let pid = world.daemon.pid().ok_or("it runs")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let size = size.and_then(|line| line.split_whitespace().next());
    let kib: u64 = size.ok_or("no VmSize")?.parse()?;
    let limited = Command::new("prlimit")
        .args(["--pid", &pid.to_string()])
        .arg(format!("--as={}", (kib << 10) + more))
        .status()
        .map_err(|error| format!("prlimit: {error}: install util-linux"))?;
    assert!(limited.success());
    Ok(())
}

type Spoil = fn(&PathBuf) -> std::io::Result<()>;

fn garbage_at_start_is_overcome_by_the_last_good_policy() -> Tried {
    let mut world = World::with(&long_policy(), TRUSTED)?;
    let path = world.daemon.policy_path();
    let good = on_disk(&world);
    let garbage: [(&str, Spoil); 3] = [
        ("knockd.yaml:1:", |path| fs::write(path, "gates: 5")),
        ("there is no policy at", |path| fs::remove_file(path)),
        ("it is a directory", |path| fs::create_dir(path)),
    ];
    for (word, spoil) in garbage {
        world.daemon.kill_9();
        spoil(&path)?;
        let reply = world.daemon.run_knockd(&["setup"])?;
        assert_eq!(reply.code, Some(0), "{reply:?}");
        assert!(reply.stderr.contains(word), "{word} in {reply:?}");
        world.daemon.start()?;
        opens_with(&world, KNOCK, OTHER);
        // The whitelist is found beside the policy that is no more.
        for trusted in world.people(50)? {
            trusted.gets_in();
        }
        let reply = world.expect(5, &["status"]);
        assert!(reply.stdout.contains(word), "{word} in {reply:?}");
        assert!(reply.stdout.contains("the last good policy"), "{reply:?}");
        let reply = world.expect(2, &["reload"]);
        assert!(reply.stderr.contains(word), "{word} in {reply:?}");
        assert_eq!(world.daemon.run_knockd(&["check"])?.code, Some(2));
    }
    fs::remove_dir(&path)?;
    fs::write(&path, &good)?;
    world.expect(0, &["reload"]);
    world.expect(0, &["status"]);
    // What was in force is also what `apply` puts into the place of garbage.
    world.daemon.kill_9();
    fs::write(&path, "gates: 5")?;
    world.daemon.start()?;
    let file = candidate(&world, "other.yaml", &other_policy())?;
    world.expect(0, &["apply", &file]);
    world.expect(0, &["status"]);
    await_some("the file", AT_ONCE, || {
        Ok((on_disk(&world) == other_policy()).then_some(()))
    })?;
    Ok(())
}

fn without_a_last_good_policy_garbage_is_refused() -> Tried {
    let world = World::before("gates: 5", TRUSTED, &[22])?;
    for subcommand in [&["setup"][..], &[]] {
        let reply = world.daemon.run_knockd(subcommand)?;
        assert_eq!(reply.code, Some(2), "{reply:?}");
        assert!(reply.stderr.contains("knockd.yaml:1:"), "{reply:?}");
    }
    Ok(())
}
