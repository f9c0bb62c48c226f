//! Back to a policy after another one was tried.

use ipnet::IpNet;

use super::out::Out;
use super::{Action, Engine};
use crate::model::{Time, host_net};
use crate::policy::Policy;

impl Engine {
    /// Goes back to a policy. Gates that the one in force does not have, and that lost what they
    /// held when it came, get back what `before`, the engine of that moment, knew of them; what
    /// has ended meanwhile stays ended, and who is trusted by now is not banned.
    pub fn back_to(&mut self, policy: Policy, before: &Engine, now: Time) -> Vec<Action> {
        let mut out = Out::new(now);
        self.expire(&mut out);
        let here = self.policy.gates.iter().map(|gate| gate.name.clone());
        let here: Vec<_> = here.collect();
        self.set_policy(policy, &mut out);
        for (gate, ledger) in self.policy.gates.iter().zip(&mut self.ledgers) {
            let old = before.policy.gates.iter().zip(&before.ledgers);
            let mut old = old.filter(|(old, _)| old.name == gate.name);
            if let Some((_, old)) = old.next().filter(|_| !here.contains(&gate.name)) {
                *ledger = old.clone();
            }
        }
        self.expire(&mut out);
        let own = self.own.iter().map(|own| host_net(*own));
        let never = self.policy.never_ban.iter().copied();
        let listed = self.whitelist.iter().map(|(net, _)| net);
        let given = self.runtime.iter().map(|(net, _)| net);
        let safe: Vec<IpNet> = own.chain(never).chain(listed).chain(given).collect();
        self.lift_what_is_protected(&safe, &mut out);
        out.into_actions()
    }
}
