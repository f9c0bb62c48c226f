//! Who takes part in everything that a capture holds. A host captures what it sends and what it is
//! sent, so that it is one of the two in each packet; hardly ever is anybody else.

use std::collections::HashSet;
use std::net::IpAddr;

use super::link::Mac;
use crate::packet::Knock;

/// So many addresses are told apart on either side.
const MOST_ADDRESSES: usize = 4096;

/// Where two take part in everything, as a host and its router do, there are more addresses on the
/// far side, and by so much that a few packets do not show it.
const MANY_TIMES: usize = 8;

/// Those who took part in every packet so far: at first the two ends of the first packet.
#[derive(Debug)]
pub(super) struct Hub<T> {
    begun: bool,
    left: Vec<End<T>>,
}

/// Somebody who took part in every packet.
#[derive(Debug)]
struct End<T> {
    who: T,
    /// Whom it took part with, as many as make a difference: two.
    others: Vec<T>,
    /// Addresses on its side.
    near: HashSet<IpAddr>,
    /// And on the other.
    far: HashSet<IpAddr>,
    /// Whether anybody ever turned to it.
    is_sought: bool,
}

impl<T> Default for Hub<T> {
    fn default() -> Self {
        Self {
            begun: false,
            left: Vec::new(),
        }
    }
}

impl<T: Copy + PartialEq> Hub<T> {
    /// Takes a packet into account, and between whom it went. `is_first`: it is no answer, and
    /// belongs to nothing that goes on already.
    pub(super) fn look_at(&mut self, from: T, to: T, packet: &Knock, is_first: bool) {
        if from == to {
            return;
        }
        if !self.begun {
            self.begun = true;
            self.left = [from, to].map(End::new).into();
        }
        let (source, destination) = (packet.source, packet.destination);
        self.left.retain_mut(|end| {
            if end.who == from {
                end.note(to, source, destination);
            } else if end.who == to {
                end.note(from, destination, source);
                end.is_sought |= is_first;
            } else {
                return false;
            }
            true
        });
    }

    /// A host is one to which somebody turns now and then. Whoever only turns to others and takes part
    /// in everything may be a scanner, of whom alone the capture is, or the router through which
    /// that one comes: it has many beyond if the host has many addresses.
    fn one(&self, is_it: impl Fn(&End<T>) -> bool) -> Option<T> {
        let sought = self.left.iter().filter(|end| end.is_sought);
        let mut found = sought.filter(|end| is_it(end));
        found.next().map(|end| end.who)
    }
}

impl<T: Copy + PartialEq> End<T> {
    fn new(who: T) -> Self {
        Self {
            who,
            others: Vec::new(),
            near: HashSet::new(),
            far: HashSet::new(),
            is_sought: false,
        }
    }

    fn note(&mut self, other: T, near: IpAddr, far: IpAddr) {
        if self.others.len() < 2 && !self.others.contains(&other) {
            self.others.push(other);
        }
        for (set, address) in [(&mut self.near, near), (&mut self.far, far)] {
            if set.len() < MOST_ADDRESSES {
                set.insert(address);
            }
        }
    }

    fn has_many_beyond(&self) -> bool {
        self.far.len() >= MANY_TIMES * self.near.len()
    }
}

impl Hub<Mac> {
    /// The card of the host. That of a router may take part in everything, too, where the host is
    /// but one of several behind it; there are more addresses on a router's side.
    pub(super) fn card(&self) -> Option<Mac> {
        self.one(|end| {
            end.has_many_beyond() || (end.others.len() > 1 && end.far.len() > end.near.len())
        })
    }
}

impl Hub<IpAddr> {
    /// The address of a host that has but one.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.one(End::has_many_beyond)
    }
}
