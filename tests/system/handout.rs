//! The commands on the page of `knockctl handout`, each pasted into a shell.

use portcullis::lab::Program;

use crate::cases;
use crate::world::{Family, SHIPPED, TRUSTED, Tried, World};

cases![
    every_command_on_the_page_opens_over_both_families,
    every_command_for_four_ports_and_another_gate_opens,
    every_command_for_a_single_port_opens,
    every_command_for_a_sequence_with_datagrams_opens,
];

/// The shipped policy with another knock, and another port behind the gate.
fn policy(sequence: &str, port: u16) -> String {
    let policy = SHIPPED.replace("[1228, 1227]", sequence);
    let policy = policy.replace("ports: [22]", &format!("ports: [{port}]"));
    assert!(policy.contains(sequence) && policy.contains(&format!("[{port}]")));
    policy
}

/// What a reader of the page may paste, without what is for Windows.
fn on_the_page(world: &World, family: Family) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let mut knockctl = Program::at(env!("CARGO_BIN_EXE_knockctl")).on(&world.server)?;
    knockctl.args(["handout", "--host", family.server(), "-c"]);
    let made = world.run(knockctl.arg(world.daemon.policy_path()))?;
    assert!(made.status.success(), "{made:?}");
    let blocks = made.stdout.split("<code translate=\"no\">").skip(1);
    let commands = blocks.map(|block| {
        let command = block.split("</code>").next().unwrap_or_default();
        let command = command.replace("&lt;", "<").replace("&quot;", "\"");
        command.replace("&#39;", "'").replace("&amp;", "&")
    });
    let for_windows = ["TcpClient", "putty"];
    Ok(commands
        .filter(|command| for_windows.iter().all(|word| !command.contains(word)))
        // What only connects.
        .filter(|command| command.contains("12"))
        .collect())
}

/// Runs each as it stands, `ssh` at the end included, and nobody else gets in.
fn each_opens(world: &World, family: Family, at_least: usize, service: u16) -> Tried {
    let commands = on_the_page(world, family)?;
    assert!(commands.len() >= at_least, "only {commands:#?}");
    let (knocker, address) = (&world.knocker, world.knocker.address(family));
    // What answers is no sshd, and nobody is there to be asked.
    let quietly =
        "Host *\n    BatchMode yes\n    ConnectTimeout 2\n    UserKnownHostsFile /dev/null\n";
    for command in commands {
        assert_eq!(knocker.finds(family, service), "silent", "before {command}");
        let (config, line) = match command.strip_prefix("Match host") {
            Some(_) => {
                let line = format!("ssh -F $CONFIG {} true", family.server());
                (format!("{command}\n{quietly}"), line)
            }
            None => (
                quietly.to_owned(),
                command.replace("ssh ", "ssh -F $CONFIG "),
            ),
        };
        let config = world.file("ssh_config", config.as_bytes())?;
        let mut shell = knocker.command("sh")?;
        shell.env("CONFIG", config);
        // They are root already.
        shell.args(["-c", &line.replace("sudo ", "")]);
        let finished = world.run(&mut shell)?;
        let more = || format!("after `{command}`: {finished:?}");
        let listed = world.soon_in_or("ssh_filter", &address, &more);
        assert_eq!(listed.1, "opencloseSSH");
        assert_eq!(knocker.finds(family, service), "open");
        assert_eq!(world.stranger.finds(family, service), "silent");
        world.expect(0, &["flush", &address]);
    }
    Ok(())
}

fn every_command_on_the_page_opens_over_both_families() -> Tried {
    let world = World::new()?;
    for family in Family::BOTH {
        each_opens(&world, family, 6, 22)?;
    }
    Ok(())
}

fn world(sequence: &str, port: u16) -> Result<World, Box<dyn std::error::Error>> {
    let mut world = World::before(&policy(sequence, port), TRUSTED, Some(port))?;
    world.daemon.start()?;
    Ok(world)
}

fn every_command_for_four_ports_and_another_gate_opens() -> Tried {
    let world = world("[1228, 1248, 1238, 1258]", 2222)?;
    each_opens(&world, Family::V6, 6, 2222)
}

fn every_command_for_a_single_port_opens() -> Tried {
    let world = world("[1228]", 22)?;
    each_opens(&world, Family::V4, 6, 22)
}

fn every_command_for_a_sequence_with_datagrams_opens() -> Tried {
    let world = world("[1228, 1248/udp, 1238/udp]", 22)?;
    each_opens(&world, Family::V4, 4, 22)
}
