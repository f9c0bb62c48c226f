use proptest::prelude::*;

use super::*;

/// Something that may happen, over a few addresses so that things do meet.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Knock(u8, usize),
    Accept(u8, bool),
    Drop(IpNet, bool, u64),
    Trust(IpNet),
    Untrust(IpNet),
    Unban(IpNet),
    Flush(Flush),
    Open,
    Close,
    Whitelist(Vec<IpNet>),
    Edit(Vec<IpNet>, Vec<IpNet>),
    Relist(IpNet),
    Own(u8),
    Reload(bool),
    Wait(u64),
}

fn source(n: u8) -> IpAddr {
    if n < 8 {
        IpAddr::from([10, 0, 0, n])
    } else {
        IpAddr::from([0x2001, 0xdb8, 0, u16::from(n & 1), 0, 0, 0, u16::from(n)])
    }
}

fn a_net() -> impl Strategy<Value = IpNet> {
    (
        0u8..16,
        prop::sample::select(vec![28u8, 30, 31, 32, 64, 126, 128]),
    )
        .prop_map(|(n, len)| net_of_prefix(source(n), len))
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..16, 0usize..9).prop_map(|(n, k)| Step::Knock(n, k)),
        2 => (0u8..16, any::<bool>()).prop_map(|(n, force)| Step::Accept(n, force)),
        2 => (a_net(), any::<bool>(), 1u64..50).prop_map(|(n, f, t)| Step::Drop(n, f, t)),
        2 => a_net().prop_map(Step::Trust),
        1 => a_net().prop_map(Step::Untrust),
        1 => a_net().prop_map(Step::Unban),
        1 => prop_oneof![
            Just(Flush::Filter), Just(Flush::Banned), Just(Flush::All),
            (0u8..16).prop_map(|n| Flush::Address(source(n))),
        ].prop_map(Step::Flush),
        1 => Just(Step::Open),
        1 => Just(Step::Close),
        1 => prop::collection::vec(a_net(), 0..4).prop_map(Step::Whitelist),
        1 => (prop::collection::vec(a_net(), 0..3), prop::collection::vec(a_net(), 0..3))
            .prop_map(|(add, remove)| Step::Edit(add, remove)),
        1 => a_net().prop_map(Step::Relist),
        1 => (0u8..16).prop_map(Step::Own),
        1 => any::<bool>().prop_map(Step::Reload),
        3 => (0u64..400).prop_map(Step::Wait),
    ]
}

pub(super) fn policy_with(prefix: u8) -> Policy {
    let mut policy = appliance();
    policy.gates[0].ipv6_prefix = prefix;
    policy
        .knocks
        .push(knock("friend", "1 2", KnockAction::Trust));
    policy.knocks.push(knock("open", "2 3", KnockAction::Open));
    let mut growing = knock("growing", "3 4", KnockAction::Drop);
    growing.lifetime = Some(Lifetime::For(Duration::from_secs(20)));
    growing.ban = Some(crate::policy::BanRule {
        after: 2,
        within: Duration::from_secs(300),
        longest: Some(Duration::from_secs(100)),
    });
    policy.knocks.push(growing);
    policy
}

pub(super) fn event(step: &Step, policy: &Policy) -> Event {
    let gates = Vec::new();
    let command = match step.clone() {
        Step::Knock(n, k) => {
            return Event::Knocked {
                source: source(n),
                knock: policy.knocks[k].name.clone(),
            };
        }
        Step::Whitelist(nets) => {
            return Event::Whitelist(nets.into_iter().map(|n| (n, "file".into())).collect());
        }
        Step::Reload(wide) => {
            return Event::Policy(Box::new(policy_with(if wide { 64 } else { 128 })));
        }
        Step::Edit(add, remove) => {
            let add = add.into_iter().map(|n| (n, "name".into())).collect();
            return Event::WhitelistEdit { add, remove };
        }
        Step::Relist(net) => return Event::Relisted(vec![net]),
        Step::Own(n) => return Event::OwnAddresses(vec![source(n)]),
        Step::Wait(_) => return Event::Tick,
        Step::Accept(n, force) => Command::Accept {
            addresses: vec![source(n)],
            gates,
            lifetime: None,
            force,
        },
        Step::Drop(net, force, secs) => Command::Drop {
            nets: vec![net],
            gates,
            lifetime: Some(Lifetime::For(Duration::from_secs(secs))),
            force,
        },
        Step::Trust(net) => Command::Trust {
            nets: vec![net],
            gates,
        },
        Step::Untrust(net) => Command::Untrust {
            nets: vec![net],
            gates,
        },
        Step::Unban(net) => Command::Unban {
            nets: vec![net],
            gates,
        },
        Step::Flush(what) => Command::Flush {
            what: vec![what],
            gates,
        },
        Step::Open => Command::Open {
            gates,
            lifetime: None,
        },
        Step::Close => Command::Close { gates },
    };
    Event::Command {
        who: Who("someone".into()),
        command,
    }
}

/// A kernel in small: what it holds if it does as it is told, and forgets by itself.
#[derive(Default)]
struct Kernel(Vec<(Chain, IpNet, Deadline)>);

impl Kernel {
    fn obey(&mut self, actions: &[Action], engine: &Engine, now: Time) {
        self.obey_and_look(actions, engine, now, |_| {});
    }

    /// Looks after each action: some kernels take one at a time.
    fn obey_and_look(
        &mut self,
        actions: &[Action],
        engine: &Engine,
        now: Time,
        mut look: impl FnMut(&Self),
    ) {
        for action in actions {
            match action {
                Action::Install => {
                    let members = engine.desired(now).members;
                    self.0 = members
                        .iter()
                        .map(|m| (m.chain, m.net, m.remaining.deadline(now)))
                        .collect();
                }
                Action::Firewall(Change::Put(m)) => {
                    self.0
                        .retain(|&(chain, net, _)| (chain, net) != (m.chain, m.net));
                    self.0.push((m.chain, m.net, m.remaining.deadline(now)));
                }
                Action::Firewall(Change::Remove { chain, net, .. }) => {
                    self.0.retain(|&(c, n, _)| (c, n) != (*chain, *net));
                }
                _ => {}
            }
            look(self);
        }
        self.0.retain(|(.., deadline)| !deadline.is_over(now));
    }

    /// Whether it is banned, and whether it gets in.
    fn fate(&self, address: IpAddr) -> (bool, bool) {
        let banned = self.holds(Chain::Banned, address);
        let let_in = [Chain::Trusted, Chain::Filter];
        let let_in = let_in.iter().any(|chain| self.holds(*chain, address));
        (banned, let_in && !banned)
    }

    fn holds(&self, wanted: Chain, address: IpAddr) -> bool {
        self.0
            .iter()
            .any(|(chain, net, _)| *chain == wanted && net.contains(&address))
    }
}

fn run(
    steps: &[Step],
    mut each: impl FnMut(&Bench, &Kernel, &Step) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let mut bench = Bench::new(policy_with(128));
    let mut kernel = Kernel::default();
    for step in steps {
        if let Step::Wait(secs) = step {
            bench.wait(*secs);
        }
        let event = event(step, &bench.engine.policy);
        bench.handle(event);
        kernel.obey(&bench.actions, &bench.engine, bench.now);
        each(&bench, &kernel, step)?;
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_trusted_address_is_never_banned(steps in prop::collection::vec(step(), 0..40)) {
        run(&steps, |bench, kernel, step| {
            for n in 0..16 {
                let address = source(n);
                let trusted = bench.engine.trusted(0, net_of_prefix(address, 128)).is_some();
                prop_assert!(
                    !(trusted && kernel.holds(Chain::Banned, address)),
                    "{} after {:?}", address, step
                );
                if trusted {
                    prop_assert!(kernel.holds(Chain::Trusted, address), "{} {:?}", address, step);
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn whatever_becomes_trusted_is_not_banned(steps in prop::collection::vec(step(), 0..40), last in a_net()) {
        let mut all = steps;
        all.push(Step::Trust(last));
        let count = all.len();
        let mut seen = 0;
        run(&all, |bench, kernel, _| {
            seen += 1;
            if seen == count {
                for n in (0..16).filter(|n| last.contains(&source(*n))) {
                    prop_assert!(bench.engine.lets_in(0, source(n)));
                    prop_assert!(!kernel.holds(Chain::Banned, source(n)));
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn the_kernel_holds_what_the_engine_believes(steps in prop::collection::vec(step(), 0..40)) {
        run(&steps, |bench, kernel, step| {
            let mut wanted: Vec<_> = bench
                .engine
                .desired(bench.now)
                .members
                .into_iter()
                .map(|m| (m.chain, m.net, m.remaining.deadline(bench.now)))
                .collect();
            let mut held = kernel.0.clone();
            wanted.sort_unstable();
            held.sort_unstable();
            prop_assert_eq!(wanted, held, "after {:?}", step);
            Ok(())
        })?;
    }

    /// Killed between two messages, or where one fails, it leaves nothing that is neither old nor new.
    #[test]
    fn at_no_moment_of_a_change_is_anybody_what_they_are_neither_before_nor_after(
        steps in prop::collection::vec(step(), 0..40),
    ) {
        let mut kernel = Kernel::default();
        run(&steps, |bench, done, step| {
            kernel.0.retain(|(.., deadline)| !deadline.is_over(bench.now));
            let fates = |kernel: &Kernel| (0..16).map(|n| kernel.fate(source(n))).collect::<Vec<_>>();
            let (before, after) = (fates(&kernel), fates(done));
            let mut odd = None;
            kernel.obey_and_look(&bench.actions, &bench.engine, bench.now, |kernel| {
                let meanwhile = fates(kernel);
                for (n, now) in meanwhile.iter().enumerate() {
                    let (was, is) = (before[n], after[n]);
                    let stays = now.0 == was.0 || now.0 == is.0;
                    if !stays || (now.1 != was.1 && now.1 != is.1) {
                        odd.get_or_insert(source(u8::try_from(n).unwrap()));
                    }
                }
            });
            prop_assert_eq!(odd, None, "{:?}: {:?}", step, bench.changes());
            Ok(())
        })?;
    }

    #[test]
    fn the_same_inputs_give_the_same_actions(steps in prop::collection::vec(step(), 0..30)) {
        let mut first = Vec::new();
        run(&steps, |bench, _, _| { first.push(bench.actions.clone()); Ok(()) })?;
        let mut again = Vec::new();
        run(&steps, |bench, _, _| { again.push(bench.actions.clone()); Ok(()) })?;
        prop_assert_eq!(first, again);
    }

    #[test]
    fn the_firewall_is_told_first(steps in prop::collection::vec(step(), 0..30)) {
        run(&steps, |bench, _, _| {
            let rank = |a: &Action| match a {
                Action::Firewall(_) | Action::Install => 0,
                Action::Store(_) => 1,
                Action::Log(_) => 2,
                Action::Reply(_) => 3,
            };
            prop_assert!(bench.actions.is_sorted_by_key(rank));
            Ok(())
        })?;
    }
}
