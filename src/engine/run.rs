//! Knocks that start commands.

use std::net::IpAddr;

use super::jobs::{Job, Owed, Pledge};
use super::out::Out;
use super::{Engine, Record, What, shown};
use crate::model::{KnockName, host_net};
use crate::policy::{Knock, Run};

impl Engine {
    /// A knock with `action: run` is complete. Who is banned at one of its gates starts nothing.
    pub(super) fn run_by_knock(
        &mut self,
        gates: &[usize],
        source: IpAddr,
        knock: &Knock,
        run: &Run,
        out: &mut Out,
    ) {
        let name = &knock.name;
        let banned = gates.iter().find_map(|&gate| {
            let (net, _) = self.ledgers[gate].banned().lookup(host_net(source))?;
            Some((gate, net))
        });
        if let Some((gate, ban)) = banned {
            self.log(out, |engine| {
                let gate = &engine.policy.gates[gate].name;
                let ban = shown(ban);
                format!("{source}: {name}: nothing is run: {ban} is banned at {gate}")
            });
            return;
        }
        self.start_commands(source, knock, run, out);
    }

    /// Has the start command run, and owes the stop command when `knock.lifetime` has passed since
    /// its end. Where there is nothing to start there is nothing to stop.
    fn start_commands(&mut self, source: IpAddr, knock: &Knock, run: &Run, out: &mut Out) {
        let Some(command) = run.start.for_address(source) else {
            return;
        };
        let start = Job {
            id: 0,
            knock: knock.name.clone(),
            source,
            gates: knock.gates.clone(),
            command: command.for_source(source),
            timeout: run.timeout,
            owes: None,
            is_stop: false,
        };
        let stop = run.stop.for_address(source).zip(knock.lifetime);
        let stop = stop.map(|(command, after)| Pledge {
            stop: Owed {
                id: 0,
                knock: knock.name.clone(),
                source,
                gates: knock.gates.clone(),
                command: command.for_source(source),
                timeout: run.timeout,
                due: after.deadline(out.now),
            },
            after,
        });
        if let Err(why) = self.jobs.ask(start, stop) {
            self.refused.commands += 1;
            self.not_run(source, &knock.name, &why, out);
        }
    }

    fn not_run(&mut self, source: IpAddr, name: &KnockName, why: &str, out: &mut Out) {
        self.record_cheap(out.now, |_| {
            let refused = Record::new(What::Refused, name.as_str()).to(host_net(source));
            refused.saying(format!("not run: {why}"))
        });
        self.log(out, |_| format!("{source}: {name}: not run: {why}"));
    }

    /// The daemon ends: what waits is not run, and nothing is to be stopped that never started.
    pub(super) fn end_jobs(&mut self, out: &mut Out) {
        for start in self.jobs.end() {
            self.not_run(start.source, &start.knock, "knockd stops", out);
        }
    }

    /// Has run what is due and what may run by now.
    pub(super) fn mind_jobs(&mut self, out: &mut Out) {
        let fallen = self.jobs.fall_due(out.now).into_iter();
        let fallen: Vec<_> = fallen.map(|o| (o.source, o.knock.clone())).collect();
        for (source, knock) in fallen {
            self.log(out, |_| format!("{source}: {knock}: command timeout"));
        }
        while let Some(job) = self.jobs.next() {
            self.log(out, |_| {
                format!("{}: running command: {}", job.knock, job.command)
            });
            let ran = Record::new(What::Ran, job.knock.as_str()).to(host_net(job.source));
            self.record(ran.saying(job.command.to_string()));
            self.jobs.ready.push(job);
        }
    }

    /// A knock turned out to have been part of a sweep: what has run has run, but need not last.
    pub(super) fn undo_run(&mut self, source: IpAddr, name: &KnockName, out: &mut Out) {
        if self.jobs.undo(name, source, out.now) {
            self.log(out, |_| {
                format!("{source}: {name}: undone: it was part of a sweep")
            });
        }
    }

    /// The commands that are to run since the last call, in order. Each of them counts as running
    /// until [`super::Event::Ended`] says that it has ended.
    pub fn take_jobs(&mut self) -> Vec<Job> {
        std::mem::take(&mut self.jobs.ready)
    }
}
