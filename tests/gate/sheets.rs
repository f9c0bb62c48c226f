//! One-time sequences: each opens once, and one that could be used again opens nothing.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use portcullis::lab::{LabError, await_some};

use crate::scenarios;
use crate::world::{AT_ONCE, Person, TRUSTED, Tried, World};

scenarios![
    each_sequence_of_a_sheet_opens_once_and_the_next_one_follows,
    a_classic_door_takes_its_sequences_from_a_file_over_ipv6_too,
    a_line_that_is_no_sequence_is_told_of_and_makes_none_replayable,
    a_sheet_that_is_used_up_or_gone_shuts_the_door_and_the_state_says_so,
    a_sequence_that_cannot_be_marked_opens_nothing,
    a_sheet_that_cannot_be_written_opens_nothing,
    a_sequence_for_an_address_behind_us_is_heard,
    a_sweep_that_begins_with_a_sequence_is_undone,
    a_sweep_that_shows_while_its_sequence_is_marked_opens_nothing,
    an_edit_by_hand_costs_one_knock_and_not_the_door,
    two_doors_of_one_sheet_are_refused,
];

const POLICY: &str = "
interface: any
trusted: knockd.trusted
gates:
  ssh: { ports: [22], accept_timeout: 60s }
knocks:
  once: { sequence: { one_time: sheet }, seq_timeout: 5s, action: accept }
  open: { sequence: [1228, 1227], seq_timeout: 5s, action: accept }
";

struct Sheet {
    world: World,
    path: PathBuf,
}

impl Sheet {
    fn with(policy: &str, sheet: &str) -> Result<Self, LabError> {
        let mut world = World::before(policy, TRUSTED, &[22])?;
        let path = world.daemon.policy_path().with_file_name("sheet");
        if policy.starts_with('[') {
            let policy = policy.replace("SHEET", &path.display().to_string());
            let notes = path.with_file_name("notes").display().to_string();
            world
                .daemon
                .write_policy(&policy.replace("NOTES", &notes))?;
        }
        fs::write(&path, sheet).expect("the laboratory can be written to");
        world.daemon.start()?;
        Ok(Self { world, path })
    }

    /// What is in the sheet, when this is.
    fn await_text(&self, text: &str) -> Result<(), LabError> {
        await_some(&format!("{text:?} in the sheet"), AT_ONCE, || {
            let found = fs::read_to_string(&self.path).unwrap_or_default();
            Ok((found == text).then_some(()))
        })
    }

    fn problems(&self, state: &str) -> String {
        let code = if state == "running" { 0 } else { 5 };
        let reply = self.world.expect(code, &["-o", "json", "status"]);
        let status: serde_json::Value = serde_json::from_str(&reply.stdout).expect("JSON");
        assert_eq!(status["state"], state, "{status}");
        status["problems"].to_string()
    }

    /// Somebody for whom this opens nothing.
    fn does_not_open(&self, person: &Person, ports: &[&str]) -> Tried {
        person.knocks(ports);
        self.world.all_is_handled()?;
        person.is_refused();
        Ok(())
    }
}

fn each_sequence_of_a_sheet_opens_once_and_the_next_one_follows() -> Tried {
    let sheet = Sheet::with(POLICY, "# two\n 7000,8000\n 7001,8001:udp\n")?;
    let [first, six] = sheet.world.people(10)?;
    let [second, _] = sheet.world.people(11)?;
    sheet.does_not_open(&second, &["7001", "8001:udp"])?;
    first.opens_with(&["7000", "8000"], 22);
    sheet.await_text("# two\n#7000,8000\n 7001,8001:udp\n")?;
    sheet
        .world
        .daemon
        .await_log("once: 1 one-time sequences are left", 1)?;
    sheet.does_not_open(&second, &["7000", "8000"])?;
    assert_eq!(sheet.problems("running"), "[]");
    // Nor after a restart, and the next one is still the next.
    let mut sheet = sheet;
    sheet.world.daemon.kill_9();
    sheet.world.daemon.start()?;
    sheet.does_not_open(&second, &["7000", "8000"])?;
    six.opens_with(&["7001", "8001:udp"], 22);
    Ok(())
}

fn a_classic_door_takes_its_sequences_from_a_file_over_ipv6_too() -> Tried {
    let classic = "[options]\n Interface = any\n[door]\n One_Time_Sequences = SHEET\n TCPFlags = syn\n \
                   Command = echo %IP% >> NOTES\n";
    let sheet = Sheet::with(classic, " 7000,8000\n 7101,8101\n")?;
    let [four, six] = sheet.world.people(10)?;
    let notes = sheet.path.with_file_name("notes");
    let await_notes = |text: &str| {
        await_some(&format!("{text:?} in the notes"), AT_ONCE, || {
            let found = fs::read_to_string(&notes).unwrap_or_default();
            Ok((found == text).then_some(()))
        })
    };
    six.knocks(&["7000", "8000"]);
    await_notes("2001:db8::10\n")?;
    sheet.await_text("#7000,8000\n 7101,8101\n")?;
    sheet
        .world
        .daemon
        .await_log("door: 1 one-time sequences are left", 1)?;
    four.knocks(&["7000", "8000"]);
    four.knocks(&["7101", "8101"]);
    await_notes("2001:db8::10\n192.0.2.10\n")?;
    sheet
        .world
        .daemon
        .await_log("door: 0 one-time sequences are left", 1)?;
    let words = "no more sequences left in the one time sequences file for door door --> disabling";
    sheet.world.daemon.await_log(words, 1)?;
    assert!(sheet.problems("degraded").contains(words));
    Ok(())
}

fn a_line_that_is_no_sequence_is_told_of_and_makes_none_replayable() -> Tried {
    let sheet = Sheet::with(
        POLICY,
        " 7000,8000\n 70x\n 1228,1227\n 22,5\n7101,8101\n7000,8000\n",
    )?;
    let [first, second] = sheet.world.people(10)?;
    assert!(sheet.problems("degraded").contains("sheet:2: found `70x`"));
    first.opens_with(&["7000", "8000"], 22);
    sheet.await_text("#7000,8000\n 70x\n 1228,1227\n 22,5\n7101,8101\n#000,8000\n")?;
    sheet.world.daemon.await_log("sequences are left", 1)?;
    let problems = sheet.problems("degraded");
    for part in [
        "sheet:2: found `70x`",
        "sheet:3: one of this sequence and that of `open` begins with the other; skipped",
        "sheet:4: 22/tcp is a port of the gate `ssh`; skipped",
    ] {
        assert!(problems.contains(part), "{problems}");
    }
    sheet.does_not_open(&second, &["7000", "8000"])?;
    second.opens_with(&["7101", "8101"], 22);
    Ok(())
}

fn a_sheet_that_is_used_up_or_gone_shuts_the_door_and_the_state_says_so() -> Tried {
    let sheet = Sheet::with(POLICY, " 7000,8000\n")?;
    let [first, second] = sheet.world.people(10)?;
    first.opens_with(&["7000", "8000"], 22);
    sheet
        .world
        .daemon
        .await_log("once: 0 one-time sequences are left", 1)?;
    assert!(
        sheet
            .problems("degraded")
            .contains("no more sequences left")
    );
    sheet.does_not_open(&second, &["7000", "8000"])?;
    // The other door is as it was.
    let [third, fourth] = sheet.world.people(11)?;
    third.opens();
    fs::remove_file(&sheet.path)?;
    sheet.world.expect(0, &["reload"]);
    let problems = sheet.problems("degraded");
    assert!(
        problems.contains("`knockctl sequences new` makes one"),
        "{problems}"
    );
    fs::write(&sheet.path, " 7005,8005\n")?;
    sheet.world.expect(0, &["reload"]);
    assert_eq!(sheet.problems("running"), "[]");
    fourth.opens_with(&["7005", "8005"], 22);
    Ok(())
}

fn a_sequence_that_cannot_be_marked_opens_nothing() -> Tried {
    let sheet = Sheet::with(POLICY, " 7000,8000\n 7101,8101\n")?;
    let [person, _] = sheet.world.people(10)?;
    // What cannot be written is not even root's to write where the file is no file any more.
    fs::remove_file(&sheet.path)?;
    fs::create_dir(&sheet.path)?;
    sheet.does_not_open(&person, &["7000", "8000"])?;
    sheet
        .world
        .daemon
        .await_log("once: the knock does not count", 1)?;
    assert!(sheet.problems("degraded").contains("is no sheet"));
    sheet.does_not_open(&person, &["7000", "8000"])?;
    fs::remove_dir(&sheet.path)?;
    fs::write(&sheet.path, " 7101,8101\n")?;
    sheet.world.expect(0, &["reload"]);
    sheet.does_not_open(&person, &["7000", "8000"])?;
    person.opens_with(&["7101", "8101"], 22);
    Ok(())
}

/// A directory mounted over itself, which can be made read-only.
pub(crate) struct Mounted<'d>(&'d Path);

impl<'d> Mounted<'d> {
    pub(crate) fn new(dir: &'d Path) -> Result<Self, nix::Error> {
        let none = None::<&str>;
        mount(Some(dir), dir, none, MsFlags::MS_BIND, none)?;
        Ok(Self(dir))
    }

    pub(crate) fn is_read_only(&self, is_read_only: bool) -> Result<(), nix::Error> {
        let none = None::<&str>;
        let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
        flags.set(MsFlags::MS_RDONLY, is_read_only);
        mount(none, self.0, none, flags, none)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = umount2(self.0, MntFlags::MNT_DETACH);
    }
}

fn a_sheet_that_cannot_be_written_opens_nothing() -> Tried {
    let sheet = Sheet::with(POLICY, " 7000,8000\n 7101,8101\n")?;
    let [person, other] = sheet.world.people(10)?;
    let dir = sheet.path.parent().expect("a file is in a directory");
    let mounted = Mounted::new(dir)?;
    mounted.is_read_only(true)?;
    sheet.does_not_open(&person, &["7000", "8000"])?;
    sheet
        .world
        .daemon
        .await_log("once: the knock does not count", 1)?;
    let hint = "(knockd has to write to it; under systemd it may do so in /etc/knockd)";
    assert!(sheet.problems("degraded").contains(hint));
    // One that was so from the start is no better.
    sheet.world.expect(0, &["reload"]);
    assert!(sheet.problems("degraded").contains(hint));
    sheet.does_not_open(&person, &["7000", "8000"])?;
    mounted.is_read_only(false)?;
    sheet.world.expect(0, &["reload"]);
    assert_eq!(sheet.problems("running"), "[]");
    // It was never marked, and was good for nobody.
    other.opens_with(&["7000", "8000"], 22);
    Ok(())
}

fn a_sequence_for_an_address_behind_us_is_heard() -> Tried {
    let policy = POLICY.replace(
        "{ one_time: sheet },",
        "{ one_time: sheet }, target: 203.0.113.9,",
    );
    assert_ne!(policy, POLICY);
    let sheet = Sheet::with(&policy, " 7000,8000\n 7101,8101\n")?;
    sheet.world.clients.route("203.0.113.0/24", "192.0.2.1")?;
    let [first, _] = sheet.world.people(10)?;
    let [second, _] = sheet.world.people(11)?;
    for (person, ports) in [(first, ["7000", "8000"]), (second, ["7101", "8101"])] {
        // To us it is none.
        sheet.does_not_open(&person, &ports)?;
        person.client.knock("203.0.113.9", &ports)?;
        person.gets_in_soon(22);
    }
    Ok(())
}

/// With ports that are not near each other.
const APART: [&str; 3] = ["1000", "1200", "1400"];

fn a_sweep_that_begins_with_a_sequence_is_undone() -> Tried {
    let foreign = ["3001", "3003", "3005", "3007", "3009"].as_slice();
    for rest in [foreign, &["1402"]] {
        let sheet = Sheet::with(POLICY, " 1000,1200,1400\n 7101,8101\n")?;
        let [scanner, six] = sheet.world.people(10)?;
        scanner.opens_with(&APART, 22);
        scanner.knocks(rest);
        let undone = "192.0.2.10: once: undone at ssh: it was part of a sweep";
        sheet.world.daemon.await_log(undone, 1)?;
        scanner.is_refused();
        // What was used stays used, and the next one counts.
        sheet.await_text("#1000,1200,1400\n 7101,8101\n")?;
        sheet.does_not_open(&six, &APART)?;
        six.opens_with(&["7101", "8101"], 22);
    }
    Ok(())
}

fn a_sweep_that_shows_while_its_sequence_is_marked_opens_nothing() -> Tried {
    let sheet = Sheet::with(POLICY, " 1000,1200,1400\n 7101,8101\n")?;
    let [scanner, six] = sheet.world.people(10)?;
    // Then all of it is there before anything is marked.
    let pid = sheet.world.daemon.pid().expect("it runs");
    let pid = Pid::from_raw(i32::try_from(pid)?);
    kill(pid, Signal::SIGSTOP)?;
    scanner.knocks(&APART);
    scanner.knocks(&["1402"]);
    kill(pid, Signal::SIGCONT)?;
    sheet
        .world
        .daemon
        .await_log("192.0.2.10: once: the knock does not count", 1)?;
    scanner.is_refused();
    assert!(!sheet.world.daemon.log().contains("192.0.2.10 accepted"));
    sheet.await_text("#1000,1200,1400\n 7101,8101\n")?;
    six.opens_with(&["7101", "8101"], 22);
    Ok(())
}

fn an_edit_by_hand_costs_one_knock_and_not_the_door() -> Tried {
    let sheet = Sheet::with(POLICY, " 7000,8000\n 7101,8101\n")?;
    let [first, second] = sheet.world.people(10)?;
    fs::write(&sheet.path, "# made anew\n 7202,8202\n")?;
    sheet.does_not_open(&first, &["7000", "8000"])?;
    sheet
        .world
        .daemon
        .await_log("once: the knock does not count", 1)?;
    assert_eq!(sheet.problems("running"), "[]");
    second.opens_with(&["7202", "8202"], 22);
    sheet.await_text("# made anew\n#7202,8202\n")?;
    Ok(())
}

fn two_doors_of_one_sheet_are_refused() -> Tried {
    let sheet = Sheet::with(POLICY, " 7000,8000\n")?;
    let twice = "  again: { sequence: { one_time: sheet }, action: drop }\n";
    sheet
        .world
        .daemon
        .write_policy(&format!("{POLICY}{twice}"))?;
    let refused = sheet.world.expect(2, &["reload"]);
    assert!(
        refused.stderr.contains("the sheet of `once` a second time"),
        "{refused:?}"
    );
    Ok(())
}
