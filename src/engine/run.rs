//! Knocks that start commands.

use std::net::IpAddr;

use super::out::Out;
use super::{Engine, shown};
use crate::model::host_net;
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

    /// Has the start command run, and owes the stop command when `knock.lifetime` is over. This
    /// version only says so.
    fn start_commands(&mut self, source: IpAddr, knock: &Knock, run: &Run, out: &mut Out) {
        let Some(command) = run.start.for_address(source) else {
            return;
        };
        let name = &knock.name;
        self.log(out, |_| {
            format!("{source}: {name}: not run, which this version cannot: {command}")
        });
    }
}
