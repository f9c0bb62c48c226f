//! Nobody who is logged in is shut out by accident: who is in, and what a change would do to them.
//!
//! An operator is whoever sshd has let in and whose connection still stands. Whoever asks from an
//! ssh session answers for that one; where nobody does (a console, a cron job, fail2ban), everybody
//! who is logged in is looked after. Connections that sshd has not let in yet are nobody's: they
//! must not keep an attacker from being banned.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use tracing::warn;

use crate::control::{Asked, Response};
use crate::engine::{Action, Command, Engine, Event, Record, What, Who, shut_out};
use crate::firewall::Member;
use crate::model::{Chain, GateName, Lifetime, SshConnection, Time, host_net, net_of_prefix};
use crate::operators::{self, LoggedIn};
use crate::policy::{self, Checked, PolicyErrors};
use crate::sessions::{self, Open};

use super::daemon::{Daemon, log, now};
use super::requests::nets;
use super::roster::Roster;
use super::whitelisting::hosts;

/// Who is logged in over ssh.
#[derive(Debug, Clone, Default)]
pub(super) struct Operators {
    sessions: Vec<(SshConnection, Whose)>,
}

/// What is known of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Whose {
    /// It is the only one, and that of whoever asked.
    Own,
    /// sshd has let it in.
    Ssh,
    /// sshd has let somebody in from there: in this session, or in another.
    Address,
}

impl Whose {
    const fn words(self) -> &'static str {
        match self {
            Whose::Own => "your ssh session",
            Whose::Ssh => "an open ssh session",
            Whose::Address => "a connection from an address that is logged in over ssh",
        }
    }
}

/// What is found out about a request away from the event loop, where packets wait.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// Who could be shut out; nobody where that is not asked.
    pub(super) operators: Operators,
    /// The policy that it is about. A long one takes its time.
    pub(super) checked: Option<Result<Checked, PolicyErrors>>,
}

impl Prepared {
    /// Whether there is something to find out.
    pub(super) fn is_needed(asked: &Asked) -> bool {
        asked.endangers() || matches!(asked, Asked::Diff(_) | Asked::Apply { .. })
    }

    /// Finds it out; without a request, for a reload. `path` is the daemon's policy.
    pub(super) fn of(asked: Option<&Asked>, session: Option<SshConnection>, path: &Path) -> Self {
        let checked = match asked {
            Some(Asked::Diff(policy) | Asked::Apply { policy, .. }) => {
                Some(check_as(&policy.text, path, Path::new(&policy.file)))
            }
            _ => None,
        };
        let operators = match asked {
            Some(asked) if !asked.endangers() => Operators::default(),
            _ => Operators::look(session),
        };
        Self { operators, checked }
    }
}

/// Checks a policy as it will be at `path`, from which its relative paths count; problems are told
/// of `file`.
pub(super) fn check_as(text: &str, path: &Path, file: &Path) -> Result<Checked, PolicyErrors> {
    policy::parse(text, path).map_err(|errors| PolicyErrors {
        file: file.to_owned(),
        ..errors
    })
}

impl Operators {
    /// Looks for the session of whoever asked, or for everybody's. Asks the kernel and reads many
    /// small files: not for the event loop.
    pub(super) fn look(asking: Option<SshConnection>) -> Self {
        let open = match sessions::open() {
            Ok(open) => open,
            Err(error) => {
                warn!("{error}: whether those who are logged in would be shut out is not known");
                let asking = asking.into_iter();
                return Self {
                    sessions: asking.map(|own| (own, Whose::Own)).collect(),
                };
            }
        };
        // A session that was left in the environment of a terminal multiplexer is not one.
        if let Some(own) = asking.filter(|own| open.iter().any(|it| connection(it) == *own)) {
            return Self {
                sessions: vec![(own, Whose::Own)],
            };
        }
        Self::among(&open, &operators::logged_in())
    }

    /// Those among the open sessions that are known. Where only an address is known, any of its
    /// connections may be the one, but for those that others than root have accepted: sshd tells the
    /// login manager, which it may as root only. So a web server's clients behind the same address
    /// translation are nobody's session.
    fn among(open: &[Open], known: &LoggedIn) -> Self {
        let whose = |session: &Open| {
            let connection = connection(session);
            let may_be = session.uid == 0 && known.addresses.contains(&session.peer.ip());
            let whose = if known.sessions.contains(&connection) {
                Some(Whose::Ssh)
            } else {
                may_be.then_some(Whose::Address)
            };
            whose.map(|whose| (connection, whose))
        };
        let mut sessions: Vec<_> = open.iter().filter_map(whose).collect();
        // What is certain is told first.
        sessions.sort_unstable_by_key(|(connection, whose)| (*whose, *connection));
        sessions.dedup();
        Self { sessions }
    }

    /// Why a change of the engine must not be made: whom it would shut out, and how.
    pub(super) fn objection(
        &self,
        before: &Engine,
        change: impl FnOnce(&mut Engine),
    ) -> Option<String> {
        if self.sessions.is_empty() {
            return None;
        }
        let mut after = before.clone();
        change(&mut after);
        self.sessions.iter().find_map(|(session, whose)| {
            let why = shut_out(before, &after, session)?;
            let whose = whose.words();
            Some(format!(
                "this would shut out {session} ({whose}): {why}; nothing was changed"
            ))
        })
    }

    /// Whether a ban of these could concern one of them. Bans may be as wide as an IPv6 subnet.
    fn concerned(&self, nets: &[IpNet]) -> bool {
        self.sessions.iter().any(|(session, _)| {
            let peer = session.peer.ip();
            let around = if peer.is_ipv6() {
                net_of_prefix(peer, 64)
            } else {
                host_net(peer)
            };
            nets.iter()
                .any(|net| net.contains(&around) || around.contains(net))
        })
    }
}

fn connection(session: &Open) -> SshConnection {
    let Open { local, peer, .. } = *session;
    SshConnection { peer, local }
}

/// What refuses to shut somebody out; `way` is what lets it happen all the same.
pub(super) fn refusal(who: &Who, objection: &str, way: &str) -> Response {
    warn!("{who}: refused: {objection}");
    Response::refused(4, format!("{objection} ({way})"))
}

/// What lets it happen all the same.
pub(super) const FORCE: &str = "--force does it all the same";

impl Daemon {
    /// Refuses a ban or an end of trust that would shut out somebody who is logged in. What changes
    /// the policy is judged where the new one is known.
    pub(super) fn guard(
        &self,
        asked: &Asked,
        who: &Who,
        operators: &Operators,
    ) -> Option<Response> {
        let (refusal, records) = guard(&self.engine, &self.roster, asked, who, operators)?;
        for record in records {
            self.memory.record(record);
        }
        Some(refusal)
    }
}

/// The same for whoever has these, with what is to be in the history.
pub(super) fn guard(
    engine: &Engine,
    roster: &Roster,
    asked: &Asked,
    who: &Who,
    operators: &Operators,
) -> Option<(Response, Vec<Record>)> {
    let nobody = || Who(String::new());
    let objection = match asked {
        Asked::Engine(command @ Command::Drop { nets, force, .. })
            if !force && operators.concerned(nets) =>
        {
            operators.objection(engine, |engine| {
                let (who, command) = (nobody(), command.clone());
                engine.handle(Event::Command { who, command }, now());
            })
        }
        Asked::Untrust {
            entries,
            runtime,
            gates,
            force: false,
        } => operators.objection(engine, |engine| {
            if !runtime {
                let change = roster.clone().remove(&hosts(entries));
                let (add, remove) = (change.add, change.remove);
                engine.handle(Event::WhitelistEdit { add, remove }, now());
            }
            let command = Command::Untrust {
                nets: nets(entries),
                gates: gates.clone(),
            };
            let who = nobody();
            engine.handle(Event::Command { who, command }, now());
        }),
        _ => None,
    };
    let objection = objection?;
    let records = records(asked, who, &objection);
    Some((refusal(who, &objection, FORCE), records))
}

/// That it was refused: to each network that was named, as it would be had it been done.
fn records(asked: &Asked, who: &Who, objection: &str) -> Vec<Record> {
    let record = Record::new(What::Refused, &who.0)
        .saying(objection)
        .by_hand();
    let named = match asked {
        Asked::Engine(Command::Drop { nets, .. }) => nets.clone(),
        Asked::Untrust { entries, .. } => nets(entries),
        _ => Vec::new(),
    };
    if named.is_empty() {
        return vec![record];
    }
    let named = named.into_iter();
    named.map(|net| record.clone().to(net)).collect()
}

/// The least time for which an installer is accepted.
const TO_COME_BACK: Duration = Duration::from_secs(300);

/// When `new` gates come in front of ports that no gate of ours has guarded: lets those come back for
/// a while who are logged in through them, first of all whoever installs.
pub(super) fn accept_installers(engine: &mut Engine, new: &[GateName]) {
    if new.is_empty() {
        return;
    }
    let operators = Operators::look(operators::own());
    // What follows in the kernel is installed with the rest.
    let sessions = operators.sessions.into_iter();
    let sessions: Vec<SshConnection> = sessions.map(|(session, _)| session).collect();
    let said = let_come_back(engine, new, &sessions, now());
    said.iter().for_each(log);
}

/// Accepts them for a while, but for whoever may come back at least as long already: after a reboot
/// the store has brought back what they had.
fn let_come_back(
    engine: &mut Engine,
    new: &[GateName],
    sessions: &[SshConnection],
    now: Time,
) -> Vec<Action> {
    let mut said = Vec::new();
    let sessions = sessions.iter().filter(|it| !it.peer.ip().is_loopback());
    let all = sessions.flat_map(|session| {
        let gates = engine.gates_before(session.local).into_iter();
        let gates = gates.filter(|gate| new.contains(gate));
        gates.map(|gate| (session.peer.ip(), gate))
    });
    let all: BTreeSet<(IpAddr, GateName)> = all.collect();
    if all.is_empty() {
        return said;
    }
    let held = engine.desired(now).members;
    for (peer, gate) in all {
        let usual = engine.policy().gate(&gate).map(|gate| gate.accept_timeout);
        let time = match usual {
            Some(Lifetime::For(time)) => time.max(TO_COME_BACK),
            _ => TO_COME_BACK,
        };
        let is_let_in = |member: &Member| {
            member.gate == gate
                && member.chain != Chain::Banned
                && member.net.contains(&peer)
                && !matches!(member.remaining, Lifetime::For(left) if left < time)
        };
        if held.iter().any(is_let_in) {
            continue;
        }
        let command = Command::Accept {
            addresses: vec![peer],
            gates: vec![gate],
            lifetime: Some(Lifetime::For(time)),
            // Not whoever is banned.
            force: false,
        };
        let who = Who("installer's session".to_owned());
        said.extend(engine.handle(Event::Command { who, command }, now));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    const NOW: Time = Time::from_secs(1_000);

    #[test]
    fn whoever_is_logged_in_may_come_back_for_a_while_and_never_for_less_than_before() {
        let hour = Duration::from_secs(3_600);
        let minute = Duration::from_secs(60);
        let cases = [
            (None, Some(Lifetime::For(TO_COME_BACK))),
            (
                Some(Lifetime::For(minute)),
                Some(Lifetime::For(TO_COME_BACK)),
            ),
            (Some(Lifetime::For(hour * 8)), Some(Lifetime::For(hour * 8))),
            (Some(Lifetime::Never), Some(Lifetime::Never)),
        ];
        for (before, expected) in cases {
            let mut engine = engine();
            if let Some(lifetime) = before {
                let command = Command::Accept {
                    addresses: vec![fixtures::address("192.0.2.10")],
                    gates: Vec::new(),
                    lifetime: Some(lifetime),
                    force: false,
                };
                let who = Who("somebody".into());
                drop(engine.handle(Event::Command { who, command }, NOW));
            }
            let sessions = [session("192.0.2.10:4711")];
            drop(let_come_back(&mut engine, &ssh(), &sessions, NOW));
            assert_eq!(accepted(&engine), expected, "{before:?}");
        }
    }

    #[test]
    fn of_an_address_that_is_logged_in_what_others_than_root_serve_is_no_session() {
        let open = |peer: &str, port, uid| Open {
            local: format!("192.0.2.1:{port}").parse().unwrap(),
            peer: peer.parse().unwrap(),
            uid,
        };
        let all = [
            open("198.51.100.7:1", 22, 0),
            open("198.51.100.7:2", 443, 33),
            open("198.51.100.7:3", 8443, 0),
            open("198.51.100.8:4", 22, 0),
            // Known by itself, whoever has accepted it.
            open("198.51.100.9:5", 2222, 1_000),
        ];
        let known = LoggedIn {
            sessions: BTreeSet::from([connection(&all[4])]),
            addresses: BTreeSet::from([all[0].peer.ip()]),
        };
        let expected = [
            (connection(&all[4]), Whose::Ssh),
            (connection(&all[0]), Whose::Address),
            (connection(&all[2]), Whose::Address),
        ];
        assert_eq!(Operators::among(&all, &known).sessions, expected);
    }

    #[test]
    fn whoever_is_trusted_banned_or_on_the_machine_itself_is_not_accepted() {
        let mut engine = engine();
        let trusted = vec![("192.0.2.0/28".parse().unwrap(), "the laboratory".into())];
        drop(engine.handle(Event::Whitelist(trusted), NOW));
        let command = Command::Drop {
            nets: vec!["192.0.2.66/32".parse().unwrap()],
            gates: Vec::new(),
            lifetime: None,
            force: false,
        };
        let who = Who("somebody".into());
        drop(engine.handle(Event::Command { who, command }, NOW));
        let sessions = ["192.0.2.10:4711", "192.0.2.66:4711", "127.0.0.1:4711"].map(session);
        drop(let_come_back(&mut engine, &ssh(), &sessions, NOW));
        assert_eq!(accepted(&engine), None);
    }

    #[test]
    fn only_new_gates_let_anybody_come_back() {
        let mut engine = engine();
        let sessions = [session("192.0.2.10:4711")];
        let web = GateName::new("web").unwrap();
        drop(let_come_back(&mut engine, &[web], &sessions, NOW));
        assert_eq!(accepted(&engine), None);
    }

    fn ssh() -> [GateName; 1] {
        [GateName::new("ssh").unwrap()]
    }

    fn engine() -> Engine {
        Engine::new(fixtures::policy(vec![fixtures::gate("ssh")], Vec::new()))
    }

    fn session(peer: &str) -> SshConnection {
        SshConnection {
            peer: peer.parse().unwrap(),
            local: "192.0.2.1:22".parse().unwrap(),
        }
    }

    /// How long the only acceptance lasts.
    fn accepted(engine: &Engine) -> Option<Lifetime> {
        let members = engine.desired(NOW).members;
        let mut accepted = members.iter().filter(|it| it.chain == Chain::Filter);
        let first = accepted.next().map(|member| member.remaining);
        assert!(accepted.next().is_none(), "{members:?}");
        first
    }
}
