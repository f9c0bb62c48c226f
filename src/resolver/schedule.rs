use std::collections::hash_map::{Entry, RandomState};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::lookup::{Found, resolve};
use super::{Config, Event, Known, MAX_NAMES, ResolveError, Timing, addresses};
use crate::model::canonical;

/// Look-ups at a time.
const AT_ONCE: usize = 8;

/// A name and what is known of it.
#[derive(Debug, Default)]
struct State {
    /// Whether it is looked after; otherwise it is only remembered.
    wanted: bool,
    /// When it is asked for next; none while it is being asked for, or not wanted.
    due: Option<Instant>,
    /// Whether it is being asked for.
    asking: bool,
    /// The last good addresses, and until when each counts.
    last: Vec<(IpAddr, Instant)>,
    failures: u32,
}

type Answered = (String, Result<Found, ResolveError>);

struct Schedule {
    config: Arc<Config>,
    states: HashMap<String, State>,
    due: BTreeSet<(Instant, String)>,
    running: JoinSet<Answered>,
    random: RandomState,
}

/// Looks after the names until nobody reads the events, or sets names, any more.
pub(super) async fn run(
    config: Config,
    known: Vec<Known>,
    mut wanted: watch::Receiver<Vec<String>>,
    events: mpsc::Sender<Event>,
) {
    let mut schedule = Schedule::new(config, known);
    loop {
        let next = schedule.next_due();
        tokio::select! {
            changed = wanted.changed() => {
                if changed.is_err() {
                    return;
                }
                let names = wanted.borrow_and_update().clone();
                schedule.want(names, Instant::now());
            }
            () = until(next) => schedule.ask(Instant::now()),
            Some(ended) = schedule.running.join_next() => {
                let event = if let Ok((name, result)) = ended {
                    schedule.learn(name, result, Instant::now())
                } else {
                    schedule.start_over(Instant::now());
                    None
                };
                if let Some(event) = event
                    && events.send(event).await.is_err()
                {
                    return;
                }
            }
        }
    }
}

/// For ever, if there is nothing to wait for.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

impl Schedule {
    fn new(config: Config, known: Vec<Known>) -> Self {
        let now = Instant::now();
        let keep = config.timing.keep;
        let states = known
            .into_iter()
            .take(MAX_NAMES)
            .filter_map(|known| {
                let left = |age| keep.checked_sub(age);
                let ends = known.addresses.into_iter();
                let ends: BTreeMap<IpAddr, Instant> = ends
                    .filter_map(|(address, age)| Some((canonical(address), now + left(age)?)))
                    .collect();
                let good = addresses::useful(&known.name, ends.keys().copied()).ok()?;
                let last = good.into_iter();
                let state = State {
                    last: last
                        .filter_map(|address| Some((address, *ends.get(&address)?)))
                        .collect(),
                    ..State::default()
                };
                Some((known.name, state))
            })
            .collect();
        Self {
            config: Arc::new(config),
            states,
            due: BTreeSet::new(),
            running: JoinSet::new(),
            random: RandomState::new(),
        }
    }

    fn next_due(&self) -> Option<Instant> {
        if self.running.len() >= AT_ONCE {
            return None;
        }
        self.due.first().map(|(moment, _)| *moment)
    }

    fn want(&mut self, names: Vec<String>, now: Instant) {
        for (name, state) in &mut self.states {
            state.wanted = false;
            if names.binary_search(name).is_err()
                && let Some(moment) = state.due.take()
            {
                self.due.remove(&(moment, name.clone()));
            }
        }
        for name in names {
            let state = match self.states.entry(name.clone()) {
                Entry::Occupied(known) => {
                    let state = known.into_mut();
                    state.wanted = true;
                    if state.due.is_some() || state.asking {
                        continue;
                    }
                    state
                }
                Entry::Vacant(new) => new.insert(State {
                    wanted: true,
                    ..State::default()
                }),
            };
            state.due = Some(now);
            self.due.insert((now, name));
        }
        self.forget(now);
    }

    /// Names that are not wanted are remembered while their addresses count, should they come
    /// back; but never more than are looked after at most.
    fn forget(&mut self, now: Instant) {
        let mut spare = MAX_NAMES;
        self.states.retain(|_, state| {
            if state.wanted {
                return true;
            }
            state.last.retain(|(_, end)| *end > now);
            let keep = spare > 0 && (state.asking || !state.last.is_empty());
            spare -= usize::from(keep);
            keep
        });
    }

    fn ask(&mut self, now: Instant) {
        while self.running.len() < AT_ONCE {
            match self.due.first() {
                Some((moment, _)) if *moment <= now => {}
                _ => return,
            }
            let Some((_, name)) = self.due.pop_first() else {
                return;
            };
            let Some(state) = self.states.get_mut(&name) else {
                continue;
            };
            state.due = None;
            state.asking = true;
            state.last.retain(|(_, end)| *end > now);
            let last: Vec<IpAddr> = state.last.iter().map(|(address, _)| *address).collect();
            let config = Arc::clone(&self.config);
            self.running.spawn(async move {
                let result = resolve(&config, &name, &last).await;
                (name, result)
            });
        }
    }

    fn learn(
        &mut self,
        name: String,
        result: Result<Found, ResolveError>,
        now: Instant,
    ) -> Option<Event> {
        let luck = self.luck(&name);
        let state = self.states.get_mut(&name)?;
        state.asking = false;
        if !state.wanted {
            return None;
        }
        let timing = &self.config.timing;
        let (pause, event) = match result {
            Ok(found) => {
                state.failures = 0;
                let kept = |address: &IpAddr| found.kept.contains(address);
                state.last.retain(|(address, _)| kept(address));
                let fresh = found.addresses.iter().filter(|address| !kept(address));
                let fresh = fresh.map(|address| (*address, now + timing.keep));
                state.last.extend(fresh);
                let of_before = state.last.iter().filter(|(address, _)| kept(address));
                let of_before = of_before.map(|(address, end)| {
                    let left = end.saturating_duration_since(now);
                    (*address, timing.keep.saturating_sub(left))
                });
                let event = Event::Resolved {
                    name: name.clone(),
                    kept: of_before.collect(),
                    addresses: found.addresses,
                    valid_for: found.valid_for,
                };
                (found.valid_for, event)
            }
            Err(why) => {
                state.failures = state.failures.saturating_add(1);
                state.last.retain(|(_, end)| *end > now);
                let keeping = !state.last.is_empty();
                let event = Event::Failed {
                    name: name.clone(),
                    why: why.to_string(),
                    keeping,
                };
                (back_off(timing, state.failures), event)
            }
        };
        // A tenth more or less at random, so that names do not line up for ever.
        let moment = now + pause + pause.mul_f64(luck * 0.1);
        if let Some(earlier) = state.due.replace(moment) {
            self.due.remove(&(earlier, name.clone()));
        }
        self.due.insert((moment, name));
        Some(event)
    }

    /// A look-up was lost without an answer, and nobody knows which: all that are under way are
    /// asked for again after a pause.
    fn start_over(&mut self, now: Instant) {
        let moment = now + self.config.timing.retry_first;
        for (name, state) in &mut self.states {
            if state.asking && state.wanted && state.due.is_none() {
                state.due = Some(moment);
                self.due.insert((moment, name.clone()));
            }
        }
    }

    /// From 0 to 1, different for each name and run.
    fn luck(&self, name: &str) -> f64 {
        let mut hasher = self.random.build_hasher();
        hasher.write(name.as_bytes());
        // 16 bits are exact in any float.
        f64::from(u16::try_from(hasher.finish() >> 48).unwrap_or(0)) / 65_536.0
    }
}

fn back_off(timing: &Timing, failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    timing
        .retry_first
        .saturating_mul(1 << doublings)
        .min(timing.retry_longest)
}
