//! In the foreground, with systemd's watchdog.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::world::{AT_ONCE, BAD_POLICY, KNOCKD, Tried, World, send};

crate::scenarios!(crate::Plain:
    it_is_fed_while_all_is_well,
    it_is_not_fed_by_one_that_hangs,
    it_is_not_fed_by_one_that_nobody_can_speak_to,
    it_is_left_alone_where_it_was_not_asked_for,
    a_bad_policy_is_not_tried_again_but_other_failures_are,
    the_early_unit_is_before_the_network_and_before_the_daemon,
);

/// `WatchdogSec=` of these scenarios; it is fed three times as often.
const WATCHDOG: Duration = Duration::from_millis(1500);

/// The daemon as systemd starts it.
struct Service {
    world: World,
    notices: UnixDatagram,
    child: Child,
}

impl Service {
    fn start(watchdog: Option<Duration>) -> Result<Self, Box<dyn std::error::Error>> {
        let world = World::new()?;
        let socket = world.path("notify");
        let notices = UnixDatagram::bind(&socket)?;
        let mut command = world.command(KNOCKD)?;
        command
            .args(world.options())
            .env("NOTIFY_SOCKET", &socket)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some(time) = watchdog {
            command.env("WATCHDOG_USEC", time.as_micros().to_string());
        }
        let child = command.spawn()?;
        let service = Self {
            world,
            notices,
            child,
        };
        assert!(service.hears("READY=1", AT_ONCE));
        Ok(service)
    }

    fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Whether this is said within that time.
    fn hears(&self, text: &str, within: Duration) -> bool {
        let until = Instant::now() + within;
        let mut buffer = [0; 1024];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            self.notices
                .set_read_timeout(Some(left))
                .expect("a timeout");
            if let Ok(length) = self.notices.recv(&mut buffer)
                && String::from_utf8_lossy(&buffer[..length]).contains(text)
            {
                return true;
            }
        }
    }

    /// Whether the watchdog would have been fed in time for so many times its own.
    fn is_fed(&self, times: u32) -> bool {
        (0..3 * times).all(|_| self.hears("WATCHDOG=1", WATCHDOG))
    }

    /// Hears what was said until now.
    fn forget(&self) {
        self.notices.set_nonblocking(true).expect("a flag");
        while self.notices.recv(&mut [0; 1024]).is_ok() {}
        self.notices.set_nonblocking(false).expect("a flag");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn it_is_fed_while_all_is_well() -> Tried {
    let service = Service::start(Some(WATCHDOG))?;
    let started = Instant::now();
    assert!(service.is_fed(4));
    assert!(started.elapsed() > WATCHDOG, "not so often, either");
    service.world.gate_holds();
    Ok(())
}

fn it_is_not_fed_by_one_that_hangs() -> Tried {
    let service = Service::start(Some(WATCHDOG))?;
    assert!(service.is_fed(1));
    send(service.pid(), Signal::SIGSTOP);
    service.forget();
    assert!(!service.hears("WATCHDOG=1", WATCHDOG));
    send(service.pid(), Signal::SIGCONT);
    assert!(service.is_fed(1));
    Ok(())
}

fn it_is_not_fed_by_one_that_nobody_can_speak_to() -> Tried {
    let service = Service::start(Some(WATCHDOG))?;
    assert!(service.is_fed(1));
    fs::remove_file(service.world.path("run/control.sock"))?;
    // A round may have been under way.
    let _ = service.hears("WATCHDOG=1", WATCHDOG / 3);
    service.forget();
    assert!(!service.hears("WATCHDOG=1", WATCHDOG));
    service.world.gate_holds();
    Ok(())
}

fn it_is_left_alone_where_it_was_not_asked_for() -> Tried {
    let service = Service::start(None)?;
    assert!(!service.hears("WATCHDOG", 2 * WATCHDOG));
    Ok(())
}

/// The values of a key in a unit file, over all its lines.
fn values(unit: &str, key: &str) -> Vec<String> {
    let lines = unit.lines().filter_map(|line| line.strip_prefix(key));
    let values = lines.filter_map(|rest| rest.strip_prefix('='));
    values
        .flat_map(|value| value.split_whitespace().map(str::to_owned))
        .collect()
}

fn the_early_unit_is_before_the_network_and_before_the_daemon() -> Tried {
    let read = |name: &str| {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/init/");
        fs::read_to_string(format!("{dir}{name}"))
    };
    let (early, daemon) = (read("knockd-early.service")?, read("knockd.service")?);
    let before = values(&early, "Before");
    for later in ["network-pre.target", "knockd.service", "shutdown.target"] {
        assert!(before.iter().any(|unit| unit == later), "{before:?}");
    }
    // A passive target: nobody else need want it.
    assert_eq!(values(&early, "Wants"), ["network-pre.target"]);
    assert_eq!(values(&early, "DefaultDependencies"), ["no"]);
    assert_eq!(values(&early, "Conflicts"), ["shutdown.target"]);
    assert_eq!(values(&early, "Type"), ["oneshot"]);
    assert_eq!(values(&early, "ExecStart")[1..], ["setup", "$KNOCKD_OPTS"]);
    // As in the unit of Debian's package knockd.
    assert_eq!(values(&daemon, "ExecStart")[1..], ["$KNOCKD_OPTS"]);
    assert_eq!(values(&daemon, "EnvironmentFile"), ["-/etc/default/knockd"]);
    assert_eq!(values(&early, "EnvironmentFile"), ["-/etc/default/knockd"]);
    // Its end must not take away the directory in which the daemon has its socket.
    assert_eq!(values(&early, "RuntimeDirectoryPreserve"), ["yes"]);
    for same in ["RuntimeDirectory", "StateDirectory", "StateDirectoryMode"] {
        assert_eq!(values(&early, same), values(&daemon, same), "{same}");
    }
    for same in ["SystemCallFilter", "ProtectSystem"] {
        assert_eq!(values(&early, same), values(&daemon, same), "{same}");
    }
    // Nothing is hurried before there is a network.
    let mut capabilities = values(&daemon, "CapabilityBoundingSet");
    capabilities.retain(|capability| capability != "CAP_SYS_NICE");
    assert_eq!(values(&early, "CapabilityBoundingSet"), capabilities);
    Ok(())
}

fn a_bad_policy_is_not_tried_again_but_other_failures_are() -> Tried {
    let unit = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/init/knockd.service"))?;
    let prevents = unit
        .lines()
        .find_map(|line| line.strip_prefix("RestartPreventExitStatus="));
    let given_up: i32 = prevents.expect("a code").parse()?;
    let world = World::new()?;
    let ends_with = || {
        let mut command = world.command(KNOCKD)?;
        let finished = world.finish(command.args(world.options()))?;
        Ok::<_, Box<dyn std::error::Error>>(finished.status.code())
    };
    // In the way of the runtime directory.
    world.write("run", "");
    let code = ends_with()?;
    assert!(
        code.is_some_and(|code| code != 0 && code != given_up),
        "{code:?}"
    );
    fs::remove_file(world.path("run"))?;
    world.write("knockd.yaml", BAD_POLICY);
    assert_eq!(ends_with()?, Some(given_up));
    Ok(())
}
