//! The policies in `policy/examples/`, each with real packets: they say what they mean, open to
//! whoever knocks, close on time, and close when they are told to. Needs nothing but the kernel.
#![cfg(target_os = "linux")]

#[allow(
    dead_code,
    reason = "shared with the gate's scenarios, which use all of it"
)]
#[path = "../gate/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use portcullis::lab::{Entered, enter};
use portcullis::policy;

use world::{AT_ONCE, KNOCK, TRUSTED, Tried, World, goes_on, last_log};

/// What an example is to do.
struct Example {
    file: &'static str,
    /// Places of its warnings, and a word of each.
    warnings: &'static [(&'static str, &'static str)],
    open: &'static [&'static str],
    /// Takes it back before its time.
    close: Option<&'static [&'static str]>,
    /// Lets everybody in, not only the knocker.
    everybody: bool,
    /// How long it lasts, as the file says it.
    lasts: &'static str,
}

const EPHEMERAL: &str = "ephemeral port";

const EXAMPLES: [Example; 5] = [
    Example {
        file: "classic-open-close.yaml",
        warnings: &[],
        open: &["7000", "8000", "9000"],
        close: Some(&["9000", "8000", "7000"]),
        everybody: false,
        lasts: "accept_timeout: 1h",
    },
    Example {
        file: "mixed-tcp-udp.yaml",
        warnings: &[],
        open: &["666", "9663/udp", "2355"],
        close: None,
        everybody: false,
        lasts: "accept_timeout: 30s",
    },
    Example {
        file: "udp-emergency.yaml",
        warnings: &[],
        open: &["3011/udp", "1954/udp", "2718/udp", "1618/udp"],
        close: Some(&["1618/udp", "2718/udp", "1954/udp", "3011/udp"]),
        everybody: true,
        lasts: "for: 60s",
    },
    Example {
        file: "five-steps.yaml",
        warnings: &[],
        open: &["9132", "4367", "8371", "1321", "5239"],
        close: None,
        everybody: false,
        lasts: "accept_timeout: 60s",
    },
    Example {
        file: "high-ports.yaml",
        warnings: &[
            ("17:25", EPHEMERAL),
            ("17:32", EPHEMERAL),
            ("17:39", EPHEMERAL),
            ("20:26", EPHEMERAL),
            ("20:33", EPHEMERAL),
            ("20:40", EPHEMERAL),
        ],
        open: &["40000", "50000", "60000"],
        close: Some(&["60000", "50000", "40000"]),
        everybody: false,
        lasts: "accept_timeout: 120s",
    },
];

/// In place of what the file says, so that nobody has to wait for it.
const SHORT: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    match enter() {
        Ok(Entered::Inside) => {}
        Ok(Entered::Done(code)) => return code.into(),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(4);
    let mut trials = vec![trial("all_are_tried", all_are_tried)];
    for example in &EXAMPLES {
        let name = example.file.trim_end_matches(".yaml");
        trials.push(trial(&format!("{name}::is_valid"), || is_valid(example)));
        trials.push(trial(&format!("{name}::opens_and_closes"), || {
            opens_and_closes(example)
        }));
        trials.push(trial(&format!("{name}::ends_on_time"), || {
            ends_on_time(example)
        }));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(name: &str, scenario: impl FnOnce() -> Tried + Send + 'static) -> Trial {
    Trial::test(name, move || {
        let why = match catch_unwind(AssertUnwindSafe(scenario)) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic
                .downcast_ref::<String>()
                .map_or_else(|| "it panicked".to_owned(), Clone::clone),
        };
        let log = last_log();
        Err(Failed::from(format!("{why}\n--- the daemon's log:\n{log}")))
    })
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("policy/examples")
}

fn all_are_tried() -> Tried {
    let mut there = BTreeSet::new();
    for entry in std::fs::read_dir(directory())? {
        there.insert(entry?.file_name().to_string_lossy().into_owned());
    }
    let tried: BTreeSet<String> = EXAMPLES.iter().map(|e| e.file.to_owned()).collect();
    assert_eq!(there, tried, "an example that nobody tries proves nothing");
    Ok(())
}

fn is_valid(example: &Example) -> Tried {
    let file = directory().join(example.file);
    let checked = policy::load(&file)?;
    let warnings: Vec<String> = checked.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), example.warnings.len(), "{warnings:#?}");
    for (said, (place, word)) in warnings.iter().zip(example.warnings) {
        assert!(said.starts_with(place) && said.contains(word), "{said}");
    }
    Ok(())
}

/// The example's text, on the backend that needs no packages.
fn text(example: &Example) -> Result<String, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string(directory().join(example.file))?;
    Ok(format!("firewall: {{ backend: nftables }}\n{text}"))
}

/// With the times of the file: what opens, and for whom, and what closes.
fn opens_and_closes(example: &Example) -> Tried {
    let world = World::with(&text(example)?, TRUSTED)?;
    let (people, others) = (world.people(10)?, world.people(11)?);
    for (person, other) in people.iter().zip(&others) {
        person.is_refused();
        // Neither the wrong order nor a part of it opens.
        let backwards: Vec<&str> = example.open.iter().rev().copied().collect();
        other.knocks(&example.open[1..]);
        other.knocks(&backwards);
        let mut session = person.opens_with(example.open, 22);
        goes_on(&mut session);
        if example.everybody {
            other.gets_in();
        } else {
            other.is_refused();
        }
        let Some(close) = example.close else { continue };
        person.knocks(close);
        person.is_refused_within(AT_ONCE);
        other.is_refused();
        goes_on(&mut session);
    }
    for trusted in world.people(50)? {
        trusted.gets_in();
    }
    if example.everybody {
        // The knock for every day lets in the knocker only.
        let (person, other) = (&world.people(12)?[0], &world.people(13)?[0]);
        person.opens_with(&["2011", "1954"], 22);
        other.is_refused();
    }
    person_with_the_usual_knock_stays_out(&world)
}

/// The appliance's knock means nothing to an example.
fn person_with_the_usual_knock_stays_out(world: &World) -> Tried {
    for person in world.people(14)? {
        person.knocks(KNOCK);
        person.is_refused();
    }
    Ok(())
}

/// With a shorter time in place of the file's.
fn ends_on_time(example: &Example) -> Tried {
    let text = text(example)?;
    let (key, _) = example.lasts.split_once(' ').ok_or("`key: time`")?;
    assert_eq!(text.matches(example.lasts).count(), 1, "{}", example.lasts);
    let short = format!("{key} {}s", SHORT.as_secs());
    let world = World::with(&text.replace(example.lasts, &short), TRUSTED)?;
    for person in world.people(10)? {
        let knocked = Instant::now();
        let mut session = person.opens_with(example.open, 22);
        person.is_refused_within(SHORT * 2);
        let open = knocked.elapsed();
        assert!(open >= SHORT, "{} lost time: {open:?}", person.address);
        goes_on(&mut session);
    }
    Ok(())
}
