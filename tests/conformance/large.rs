//! Many members.

use std::net::Ipv4Addr;
use std::time::Instant;

use portcullis::firewall::{Backend, Change, Member};

use crate::world::{A, B, C, Tried, World, banned, filter, ssh, trusted};

const MANY: u32 = 10_000;
const ROUNDS: u32 = 500;

fn many(first: Ipv4Addr, make: fn(&str) -> Member) -> impl Iterator<Item = Member> {
    let first = u32::from(first);
    // Every other address, so that nothing can be joined.
    (0..MANY).map(move |number| make(&Ipv4Addr::from(first + 2 * number).to_string()))
}

pub(crate) fn ten_thousand(world: &mut World) -> Tried {
    let mut members: Vec<Member> = many(Ipv4Addr::new(10, 0, 0, 0), banned).collect();
    members.extend(many(Ipv4Addr::new(10, 8, 0, 0), trusted));
    members.extend([trusted(A), banned(B)]);
    let count = members.len();
    let started = Instant::now();
    world.install(vec![ssh()], members.clone());
    let first = started.elapsed();
    assert_eq!(world.who(&[A, B, C]), [A]);
    let observed = world.observed().expect("there they are");
    assert_eq!(observed.members.len(), count);

    let started = Instant::now();
    world.install(vec![ssh()], members);
    let again = started.elapsed();

    let change = [Change::Put(filter(C, 300))];
    let took = world.with(|backend: &mut dyn Backend| {
        let started = Instant::now();
        for _ in 0..ROUNDS {
            backend.apply(&change).expect("it can be renewed");
        }
        started.elapsed() / ROUNDS
    });
    println!(
        "{}: {count} members installed in {first:.1?}, again in {again:.1?}, one accepted in \
         {took:.1?}",
        world.column.name()
    );
    assert_eq!(world.who(&[A, B, C]), [A, C]);
    Ok(())
}
