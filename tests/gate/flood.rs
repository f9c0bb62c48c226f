//! Floods of forged knocks.

use std::fs;

use crate::scenarios;
use crate::world::{TRUSTED, Tried, World, long_policy};

scenarios![
    the_ruleset,
];
fn the_ruleset() -> Tried {
    let world = World::with(&long_policy(), TRUSTED)?;
    let out = world.server.command("nft")?.args(["list","ruleset"]).output()?;
    println!("{}", String::from_utf8_lossy(&out.stdout));
    let out = world.server.command("iptables-save")?.output()?;
    println!("{}", String::from_utf8_lossy(&out.stdout));
    println!("{:?}", world.ctl(&["-o","json","status"])?);
    println!("{}", world.daemon.log());
    let r = world.daemon.run_knockd(&["teardown"])?;
    println!("{r:?}");
    let out = world.server.command("nft")?.args(["list","ruleset"]).output()?;
    println!("{}", String::from_utf8_lossy(&out.stdout));
    Ok(())
}
