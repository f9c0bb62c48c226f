//! ufw as Debian ships it, with its default of denying what comes in.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::Ours;
use crate::scenarios;
use crate::tools::{opens_to_knockers_only, opens_to_nobody, run, says, says_nothing, world};
use crate::world::{Tried, World};

scenarios![
    default_deny_is_named_until_the_port_is_allowed,
    enabled_later_it_is_noticed,
    a_reload_of_ufw_leaves_the_gate_alone,
    what_is_handed_back_is_ufws_to_decide,
];

/// ufw with files of its own; the machine's stay as they are.
struct Ufw {
    files: String,
}

impl Ufw {
    fn new(world: &World) -> Result<Self, Box<dyn std::error::Error>> {
        let files = world.lab.dir().join("ufw");
        for (from, to) in [
            ("/etc/ufw", "etc/ufw"),
            ("/lib/ufw", "lib/ufw"),
            ("/etc/default/ufw", "etc/default/ufw"),
        ] {
            let to = files.join(to);
            fs::create_dir_all(to.parent().unwrap_or(Path::new("/")))?;
            let copied = Command::new("cp").arg("-r").arg(from).arg(&to).status()?;
            assert!(copied.success(), "cp {from}");
        }
        Ok(Self {
            files: files.display().to_string(),
        })
    }

    #[track_caller]
    fn run(&self, world: &World, arguments: &[&str]) -> String {
        let files = format!("--datadir={}", self.files);
        let command = [&["ufw", "--rootdir=/", &files], arguments].concat();
        run(&world.lab, &world.server, &command).stdout
    }
}

fn default_deny_is_named_until_the_port_is_allowed(ours: Ours) -> Tried {
    let mut world = world(ours)?;
    let ufw = Ufw::new(&world)?;
    ufw.run(&world, &["--force", "enable"]);
    assert!(
        ufw.run(&world, &["status", "verbose"])
            .contains("deny (incoming)")
    );
    world.daemon.start()?;
    match ours {
        Ours::Nftables => {
            let table = [
                "table ip filter",
                "table ip6 filter",
                "chain INPUT",
                "policy is drop",
            ];
            says(&world, &table);
            says(&world, &["22/tcp", "gate ssh", "ufw allow 22/tcp"]);
            opens_to_nobody(&world);
            ufw.run(&world, &["allow", "22/tcp"]);
        }
        // At position 1 of INPUT ours comes before anything of ufw's.
        Ours::Iptables => {}
    }
    says_nothing(&world);
    opens_to_knockers_only(&world);
    Ok(())
}

fn enabled_later_it_is_noticed(ours: Ours) -> Tried {
    let mut world = world(ours)?;
    world.daemon.start()?;
    says_nothing(&world);
    let ufw = Ufw::new(&world)?;
    ufw.run(&world, &["--force", "enable"]);
    // From one address only: that lets in nobody who knocks from elsewhere.
    ufw.run(
        &world,
        &["allow", "from", "198.51.100.7", "to", "any", "port", "22"],
    );
    match ours {
        Ours::Nftables => {
            says(&world, &["chain INPUT"]);
            opens_to_nobody(&world);
        }
        Ours::Iptables => {
            says_nothing(&world);
            opens_to_knockers_only(&world);
        }
    }
    ufw.run(&world, &["disable"]);
    says_nothing(&world);
    opens_to_knockers_only(&world);
    Ok(())
}

fn a_reload_of_ufw_leaves_the_gate_alone(ours: Ours) -> Tried {
    let mut world = world(ours)?;
    let ufw = Ufw::new(&world)?;
    ufw.run(&world, &["allow", "22/tcp"]);
    ufw.run(&world, &["--force", "enable"]);
    world.daemon.start()?;
    let [session, _] = world.people(12)?.map(|person| person.opens());
    ufw.run(&world, &["reload"]);
    says_nothing(&world);
    opens_to_knockers_only(&world);
    let mut session = session;
    crate::world::goes_on(&mut session);
    Ok(())
}

fn what_is_handed_back_is_ufws_to_decide(ours: Ours) -> Tried {
    let mut world = world(ours)?;
    let policy = fs::read_to_string(world.daemon.policy_path())?;
    let returning = policy.replace("ports: [22],", "ports: [22], verdict: return,");
    assert_ne!(policy, returning);
    world.daemon.write_policy(&returning)?;
    let ufw = Ufw::new(&world)?;
    ufw.run(&world, &["--force", "enable"]);
    world.daemon.start()?;
    says(&world, &["chain INPUT (its policy is drop)"]);
    if ours == Ours::Iptables {
        says(&world, &["or use `verdict: accept`"]);
    }
    opens_to_nobody(&world);
    ufw.run(&world, &["allow", "22/tcp"]);
    says_nothing(&world);
    opens_to_knockers_only(&world);
    Ok(())
}
