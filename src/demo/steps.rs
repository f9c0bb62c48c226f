//! The story, a step each: what is done, and what must then hold.

use std::time::{Duration, Instant};

use super::DemoError;
use super::stage::{
    ACCEPT_TIME, AT_ONCE, DECOY, GATE, GUEST, KNOCK, KNOCKER, KNOCKER6, PATIENCE, SCANNER, SERVER,
    Stage, TRUSTED,
};
use crate::control::{Request, Verb};
use crate::lab::{Outcome, Session};

/// A step: its check does it and returns what was seen, a line each.
pub(super) struct Step {
    pub(super) title: &'static str,
    pub(super) check: fn(&mut Stage) -> Result<Vec<String>, DemoError>,
}

pub(super) const STEPS: [Step; 9] = [
    Step {
        title: "A stranger meets a closed gate",
        check: closed_to_a_stranger,
    },
    Step {
        title: "It knocks, and the gate opens: to it alone",
        check: a_knock_opens,
    },
    Step {
        title: "Its session stays",
        check: the_session_stays,
    },
    Step {
        title: "When the time is over the gate is closed again, and the session goes on",
        check: closed_when_the_time_is_over,
    },
    Step {
        title: "A scanner steps on a decoy, and is banned",
        check: a_decoy_bans,
    },
    Step {
        title: "The ban survives the right knock",
        check: the_ban_survives,
    },
    Step {
        title: "A whitelisted machine gets in, whatever it does",
        check: the_trusted_gets_in,
    },
    Step {
        title: "kill -9: the kernel goes on without the daemon",
        check: the_kernel_goes_on,
    },
    Step {
        title: "The daemon is back, and takes over what it finds",
        check: the_daemon_is_back,
    },
];

fn closed_to_a_stranger(stage: &mut Stage) -> Result<Vec<String>, DemoError> {
    Ok(vec![
        stage.refused("knocker", KNOCKER)?,
        stage.refused("knocker", KNOCKER6)?,
    ])
}

fn a_knock_opens(stage: &mut Stage) -> Result<Vec<String>, DemoError> {
    let knocked = Instant::now();
    let first = stage.knocker_opens(KNOCKER)?;
    stage.knocked = Some(knocked);
    stage.sessions = vec![first.session, session(stage, KNOCKER)?];
    let over_ipv6 = stage.knocker_opens(KNOCKER6)?;
    stage.member("ssh_filter", KNOCKER)?;
    let line = |address, after: Duration| {
        let millis = after.as_secs_f64() * 1000.0;
        format!(
            "knocker {address} knocks {}: open {millis:.2} ms after the last knock",
            KNOCK.join(", ")
        )
    };
    Ok(vec![
        line(KNOCKER, first.after),
        line(KNOCKER6, over_ipv6.after),
    ])
}

fn the_session_stays(stage: &mut Stage) -> Result<Vec<String>, DemoError> {
    answers(stage, 0)?;
    Ok(vec![format!("knocker {KNOCKER} says something: answered")])
}

fn closed_when_the_time_is_over(stage: &mut Stage) -> Result<Vec<String>, DemoError> {
    let Some(knocked) = stage.knocked else {
        return Err(DemoError::NotSo("nobody has knocked yet".to_owned()));
    };
    let ended = stage.ends_on_time(KNOCKER, knocked)?;
    answers(stage, 1)?;
    Ok(vec![
        ended,
        "its session, opened in time, is still answered".to_owned(),
    ])
}

fn a_decoy_bans(stage: &mut Stage) -> Result<Vec<String>, DemoError> {
    stage.client(SCANNER)?.knock(SERVER, &DECOY)?;
    let ban = stage.member("ssh_banned", SCANNER)?;
    if !ban.reason.contains("banned1") {
        let reason = format!("the ban's reason is `{}`, not banned1", ban.reason);
        return Err(DemoError::NotSo(reason));
    }
    Ok(vec![
        format!("scanner {SCANNER} touches {}: banned", DECOY.join(", ")),
        stage.refused("scanner", SCANNER)?,
    ])
}

fn the_ban_survives(stage: &mut Stage) -> Result<Vec<String>, DemoError> {
    stage.client(SCANNER)?.knock(SERVER, &KNOCK)?;
    // The knocker's knock comes after the scanner's: when it has worked, so has the other.
    stage.knocker_opens(KNOCKER)?;
    stage.member("ssh_banned", SCANNER)?;
    Ok(vec![
        format!(
            "scanner {SCANNER} knocks {}, as the knocker does",
            KNOCK.join(", ")
        ),
        stage.let_in("knocker", KNOCKER)?,
        stage.refused("scanner", SCANNER)?,
    ])
}

fn the_trusted_gets_in(stage: &mut Stage) -> Result<Vec<String>, DemoError> {
    let before = stage.let_in("trusted", TRUSTED)?;
    stage.client(TRUSTED)?.knock(SERVER, &DECOY)?;
    stage.knocker_opens(KNOCKER)?;
    Ok(vec![
        before,
        format!("it touches {}: refused to ban it", DECOY.join(", ")),
        stage.let_in("trusted", TRUSTED)?,
    ])
}

fn the_kernel_goes_on(stage: &mut Stage) -> Result<Vec<String>, DemoError> {
    let mut request = Request::new(Verb::Accept, [GUEST]);
    request.lifetime = Some("10m".to_owned());
    stage.asks(&request)?;
    stage.member("ssh_filter", GUEST)?;
    let knocked = Instant::now();
    stage.knocker_opens(KNOCKER)?;
    stage.daemon.kill_9();
    // Read from the kernel from now on.
    stage.member("ssh_filter", GUEST)?;
    stage.member("ssh_banned", SCANNER)?;
    let lines = vec![
        format!("guest {GUEST} is let in for 10m, knocker {KNOCKER} knocks; then kill -9"),
        stage.let_in("guest", GUEST)?,
        stage.let_in("knocker", KNOCKER)?,
        stage.let_in("trusted", TRUSTED)?,
        stage.refused("scanner", SCANNER)?,
        stage.ends_on_time(KNOCKER, knocked)?,
    ];
    stage.client(KNOCKER)?.knock(SERVER, &KNOCK)?;
    let deaf = stage.refused("knocker", KNOCKER)?;
    let deaf = format!("nobody hears a knock now: {deaf}");
    Ok([lines, vec![deaf]].concat())
}

fn the_daemon_is_back(stage: &mut Stage) -> Result<Vec<String>, DemoError> {
    stage.daemon.start()?;
    let ban = stage.member("ssh_banned", SCANNER)?;
    if ban.expires_in_s.is_some() {
        let limited = "the ban was for good, and now it has an end".to_owned();
        return Err(DemoError::NotSo(limited));
    }
    let guest = stage.member("ssh_filter", GUEST)?;
    let Some(left) = guest.expires_in_s.filter(|&left| left < ten_minutes()) else {
        let wrong = format!("the guest's time is not what was left of it: {guest:?}");
        return Err(DemoError::NotSo(wrong));
    };
    let opened = stage.knocker_opens(KNOCKER)?;
    Ok(vec![
        format!("the ban of {SCANNER} is still there, for good"),
        format!("the guest has {left} s left of its 600"),
        stage.let_in("guest", GUEST)?,
        stage.let_in("trusted", TRUSTED)?,
        stage.refused("scanner", SCANNER)?,
        format!(
            "knocker {KNOCKER} knocks: open {:.2} ms after the last knock",
            opened.after.as_secs_f64() * 1000.0
        ),
    ])
}

/// The guest's time less what has passed since: the knocker's acceptance has ended meanwhile.
fn ten_minutes() -> u64 {
    600 - ACCEPT_TIME.as_secs() / 2
}

fn session(stage: &Stage, address: &str) -> Result<Session, DemoError> {
    match stage
        .client(address)?
        .connect(GATE, AT_ONCE.max(PATIENCE))?
    {
        Outcome::Open(session) => Ok(session),
        other => Err(DemoError::NotSo(format!(
            "the gate opened to {address}, and then it found the port {}",
            other.word()
        ))),
    }
}

fn answers(stage: &mut Stage, number: usize) -> Result<(), DemoError> {
    let Some(session) = stage.sessions.get_mut(number) else {
        return Err(DemoError::NotSo("no session was opened".to_owned()));
    };
    if stage.service.answers(session)? {
        Ok(())
    } else {
        let wrong = "the service behind the gate answered something else".to_owned();
        Err(DemoError::NotSo(wrong))
    }
}
