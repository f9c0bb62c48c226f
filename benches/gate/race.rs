//! Many clients who knock one after the other, whether or not those before have got in.

use std::collections::VecDeque;
use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use portcullis::sys::sched::{self, Class};

use crate::syn::Prober;
use crate::world::{FREE, GATE, Server, stay_on_one_cpu};

/// What has not opened by then is lost.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// Who sends what when.
pub(crate) struct Plan {
    /// The first clients may be left out.
    pub(crate) from: usize,
    /// How many packets a client sends.
    pub(crate) steps: usize,
    /// Between two packets of a client.
    pub(crate) gap: Duration,
    /// Between the first packets of two clients.
    pub(crate) spacing: Duration,
}

/// Sends a client's packet of that number.
pub(crate) type Send<'a> = &'a mut dyn FnMut(&mut Prober, Ipv4Addr, usize) -> io::Result<()>;

/// How long it took each of those who got in. To be called on the clients' host.
pub(crate) fn race(server: &Server, plan: &Plan, send: Send) -> io::Result<Vec<Duration>> {
    Race::new(server, plan, send)?.run()
}

struct Race<'a> {
    server: &'a Server,
    prober: Prober,
    send: Send<'a>,
    /// Who sends its how-manieth packet when.
    due: VecDeque<(Instant, Ipv4Addr, usize)>,
    last: usize,
    waiting: Vec<Waiting>,
    opened: Vec<Duration>,
}

struct Waiting {
    client: Ipv4Addr,
    knocked: Instant,
    /// By their source ports.
    sent: Vec<(u16, Instant)>,
}

impl Waiting {
    /// As exact as it need be, and no more.
    fn next(&self) -> Instant {
        let last = self.sent.last().map_or(self.knocked, |(_, at)| *at);
        last + (self.knocked.elapsed() / 50).max(Duration::from_micros(50))
    }
}

impl<'a> Race<'a> {
    fn new(server: &'a Server, plan: &Plan, send: Send<'a>) -> io::Result<Self> {
        stay_on_one_cpu()?;
        // How long we wait for a CPU ourselves is not to be measured.
        sched::set_class(Class::RealTime)?;
        let mut prober = Prober::new()?;
        // So that nobody has to be looked for later.
        for client in &server.clients[plan.from..] {
            prober.syn(*client, server.address, FREE)?;
        }
        let start = Instant::now() + Duration::from_millis(500);
        let mut due = Vec::new();
        for (number, client) in (0..).zip(&server.clients[plan.from..]) {
            let first = start + plan.spacing * number;
            due.extend((0..).zip(0..plan.steps).map(|(times, step)| {
                let at = first + plan.gap * times;
                (at, *client, step)
            }));
        }
        due.sort_by_key(|(at, ..)| *at);
        Ok(Self {
            server,
            prober,
            send,
            due: due.into(),
            last: plan.steps - 1,
            waiting: Vec::new(),
            opened: Vec::new(),
        })
    }

    fn run(mut self) -> io::Result<Vec<Duration>> {
        while !(self.due.is_empty() && self.waiting.is_empty()) {
            self.knock()?;
            self.try_the_gate()?;
            self.read_answers()?;
            self.waiting.retain(|one| one.knocked.elapsed() < PATIENCE);
            let due = self.waiting.iter().map(Waiting::next);
            let due = due.chain(self.due.front().map(|(at, ..)| *at)).min();
            if let Some(due) = due {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        }
        Ok(self.opened)
    }

    fn knock(&mut self) -> io::Result<()> {
        while let Some(&(at, client, step)) = self.due.front()
            && at <= Instant::now()
        {
            self.due.pop_front();
            let knocked = Instant::now();
            (self.send)(&mut self.prober, client, step)?;
            if step == self.last {
                self.waiting.push(Waiting {
                    client,
                    knocked,
                    sent: Vec::new(),
                });
            }
        }
        Ok(())
    }

    fn try_the_gate(&mut self) -> io::Result<()> {
        for one in &mut self.waiting {
            let now = Instant::now();
            if one.next() <= now {
                let port = self.prober.syn(one.client, self.server.address, GATE)?;
                one.sent.push((port, now));
            }
        }
        Ok(())
    }

    fn read_answers(&mut self) -> io::Result<()> {
        while let Some(answer) = self.prober.answer()? {
            if !answer.open || answer.asked != (self.server.address, GATE) {
                continue;
            }
            let Some(at) = self
                .waiting
                .iter()
                .position(|it| it.client == answer.asker.0)
            else {
                continue;
            };
            let tried = self.waiting[at].sent.iter();
            if let Some((_, sent)) = tried.rev().find(|(port, _)| *port == answer.asker.1) {
                self.opened.push(*sent - self.waiting[at].knocked);
                self.waiting.swap_remove(at);
            }
        }
        Ok(())
    }
}
