//! The page of `knockctl handout` in a real browser: Chromium knocks on a knockd, all in network
//! namespaces, from a page that came over https, over http and from a file. `make test-long`.
#![cfg(target_os = "linux")]

mod site;
mod webdriver;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use portcullis::lab::{
    Daemon, Entered, Host, Lab, ONE_SYN, Program, Programs, Service, await_some, enter, run_bounded,
};

use site::Site;
use webdriver::{Browser, Look};

pub(crate) type Error = Box<dyn std::error::Error>;
type Tried = Result<(), Error>;

const NAME: &str = "ssh.example.test";
const SERVER: &str = "192.0.2.1";
const READER: &str = "192.0.2.10";
const SITE: &str = "198.51.100.80";

const POLICY: &str = "
interface: any
firewall: { backend: nftables }
gates:
  ssh: { ports: [22], accept_timeout: 300s }
knocks:
  open: { sequence: [1228, 1227], seq_timeout: 15s, action: accept }
  decoy: { sequence: [1220, 1221], seq_timeout: 15s, action: drop }
";

/// Two ports and a first try, each given up after less than two seconds, on a busy machine.
const BEFORE_LONG: Duration = Duration::from_secs(20);

/// A scenario with its name, which is the sentence that it checks.
type Scenario = (&'static str, fn() -> Tried);

const SCENARIOS: &[Scenario] = &[
    ("the_button_opens_the_port_from_a_page_over_https", || {
        knocks_from(From::Https)
    }),
    ("the_button_opens_the_port_from_a_page_over_http", || {
        knocks_from(From::Http)
    }),
    ("the_button_opens_the_port_from_a_file", || {
        knocks_from(From::File)
    }),
    (
        "the_button_opens_the_port_where_knocks_are_dropped",
        knocks_where_they_are_dropped,
    ),
    (
        "a_command_is_copied_from_a_page_over_http_and_from_a_file",
        commands_are_copied,
    ),
    (
        "without_a_network_the_page_says_so_and_promises_nothing",
        says_when_it_is_offline,
    ),
    (
        "hours_are_counted_as_hours_and_for_ever_not_at_all",
        other_times_are_told,
    ),
    (
        "the_page_fits_a_phone_and_a_desk_in_every_language",
        fits_every_screen,
    ),
];

/// How the page gets to the browser.
#[derive(Debug, Clone, Copy)]
enum From {
    Https,
    Http,
    File,
}

fn main() -> ExitCode {
    match enter() {
        Ok(Entered::Inside) => {}
        Ok(Entered::Done(code)) => return code.into(),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    let mut arguments = Arguments::from_args();
    // A browser takes what there is.
    arguments.test_threads.get_or_insert(1);
    let trials = SCENARIOS.iter().map(|&(name, scenario)| {
        Trial::test(name, move || {
            match catch_unwind(AssertUnwindSafe(scenario)) {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(Failed::from(error.to_string())),
                // The panic's message and place are printed already.
                Err(_) => Err(Failed::from("it panicked")),
            }
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// A gate, and somebody with a browser who can reach it and the university's web site. Fields are
/// dropped in this order.
struct World {
    browser: Browser,
    daemon: Daemon,
    _sshd: Service,
    site: Site,
    reader: Host,
    server: Host,
    lab: Lab,
}

impl World {
    fn new() -> Result<Self, Error> {
        Self::with(POLICY)
    }

    fn with(policy: &str) -> Result<Self, Error> {
        let lab = Lab::new()?;
        let [server, reader, web] = ["server", "reader", "web"].map(|name| lab.host(name));
        let (server, reader, web) = (server?, reader?, web?);
        lab.link(
            &server,
            "eth0",
            &["192.0.2.1/24"],
            &reader,
            "eth0",
            &["192.0.2.10/24"],
        )?;
        lab.link(
            &web,
            "eth0",
            &["198.51.100.80/24"],
            &reader,
            "eth1",
            &["198.51.100.10/24"],
        )?;
        let programs = Programs {
            knockd: Program::at(env!("CARGO_BIN_EXE_knockd")),
            knockctl: Some(Program::at(env!("CARGO_BIN_EXE_knockctl"))),
        };
        let sshd = Service::start(&server, 22)?;
        let daemon = Daemon::launch(&lab, &server, &programs, policy, "# nobody\n")?;
        let site = Site::start(&lab, &web)?;
        let browser = Browser::start(&lab, &reader, (NAME, SERVER))?;
        Ok(Self {
            browser,
            daemon,
            _sshd: sshd,
            site,
            reader,
            server,
            lab,
        })
    }

    /// Has `knockctl` make the page, and puts it where it is served from.
    fn publish(&self, lang: &str) -> Result<PathBuf, Error> {
        let mut command = Program::at(env!("CARGO_BIN_EXE_knockctl")).on(&self.server)?;
        command.args(["handout", "--host", NAME, "--lang", lang, "-c"]);
        command.arg(self.daemon.policy_path());
        let made = run_bounded(&mut command, self.lab.dir(), Duration::from_secs(10))?;
        if !made.status.success() || !made.stderr.is_empty() {
            return Err(made.stderr.into());
        }
        let path = self.site.dir().join("knock.html");
        fs::write(&path, made.stdout)?;
        Ok(path)
    }

    fn address(&self, from: From) -> Result<String, Error> {
        let path = self.publish("en")?;
        Ok(match from {
            From::Https => format!("https://{SITE}/knock.html"),
            From::Http => format!("http://{SITE}/knock.html"),
            From::File => format!("file://{}", path.display()),
        })
    }

    /// What the reader finds at the gate: `open` or `silent`.
    fn found(&self) -> Result<&'static str, Error> {
        let client = self.reader.client(READER)?;
        Ok(client.connect(&format!("{SERVER}:22"), ONE_SYN)?.word())
    }

    /// Waits until the gate is open to the reader.
    fn await_open(&self, when: &str) -> Tried {
        let client = self.reader.client(READER)?;
        let opened = client.knock_until_open(&format!("{SERVER}:22"), &[], BEFORE_LONG);
        opened.map_err(|error| {
            let log = self.daemon.log_tail(20);
            let said = self.browser.complaints().unwrap_or_default();
            format!("{when}: {error}\n{log}\n{said:?}")
        })?;
        Ok(())
    }

    /// Clicks, and waits until the page is through.
    fn knock(&self) -> Result<(), Error> {
        assert_eq!(self.browser.text("#status")?, "");
        self.browser.click("#knock")?;
        await_some("the end of the knock", BEFORE_LONG, || {
            let said = self.browser.text("#status").unwrap_or_default();
            Ok(said.starts_with("Knocked.").then_some(()))
        })?;
        Ok(())
    }

    /// What the page promises after a knock.
    fn counts_down(&self) -> Tried {
        let shown = self
            .browser
            .run("return !document.getElementById('then').hidden")?;
        assert_eq!(shown, true, "how to connect");
        assert_eq!(self.browser.text("#then code")?, format!("ssh {NAME}"));
        let clock = |text: String| -> Option<u32> {
            let (minutes, seconds) = text.split_once(':')?;
            Some(60 * minutes.parse::<u32>().ok()? + seconds.parse::<u32>().ok()?)
        };
        let first = clock(self.browser.text("#clock")?).ok_or("no clock")?;
        assert!((280..=300).contains(&first), "{first}");
        await_some("the next second", BEFORE_LONG, || {
            let now = self.browser.text("#clock").ok().and_then(clock);
            Ok(now.filter(|now| *now < first))
        })?;
        Ok(())
    }
}

fn knocks_from(from: From) -> Tried {
    let world = World::new()?;
    world.browser.open(&world.address(from)?)?;
    assert_eq!(world.found()?, "silent", "before the knock");
    world.knock()?;
    world.await_open("after the knock")?;
    world.counts_down()?;
    let list = world.daemon.ctl(&["list", "accepted"])?;
    assert!(list.stdout.contains(READER), "{list:?}");
    // That nobody answers at the knock ports is as it should be; that something was blocked is not.
    for complaint in world.browser.complaints()? {
        let expected = ["ERR_CONNECTION_REFUSED", "net::ERR_ABORTED", "favicon.ico"];
        assert!(
            expected.iter().any(|word| complaint.contains(word)),
            "{complaint}"
        );
    }
    // And once more, on the same page.
    world.daemon.ctl(&["flush", "filter"])?;
    world
        .browser
        .run("document.getElementById('status').textContent = ''")?;
    assert_eq!(world.found()?, "silent");
    world.knock()?;
    world.await_open("after a second knock")
}

/// The host's own firewall drops what nobody listens to: each try has to be given up, and the browser
/// tries each port more than once.
fn knocks_where_they_are_dropped() -> Tried {
    // A route to nowhere takes the place of that firewall: no refusal comes back.
    let world = World::new()?;
    world
        .server
        .command("ip")?
        .args(["route", "add", "blackhole", "192.0.2.10/32"])
        .status()?;
    world.browser.open(&world.address(From::Http)?)?;
    world.knock()?;
    world
        .server
        .command("ip")?
        .args(["route", "del", "blackhole", "192.0.2.10/32"])
        .status()?;
    world.await_open("after the knock")
}

/// Pastes into a field of the page what the button has put on the clipboard.
fn commands_are_copied() -> Tried {
    let world = World::new()?;
    for from in [From::Https, From::Http, From::File] {
        world.browser.open(&world.address(from)?)?;
        let field = "const field = document.createElement('textarea'); field.id = 'field';
                     document.querySelector('h1').after(field)";
        world.browser.run(field)?;
        // The first is hidden until somebody has knocked.
        let block = "h2 ~ .code";
        world.browser.click(&format!("{block} .copy"))?;
        await_some("the word that it is copied", BEFORE_LONG, || {
            let says = world.browser.text(&format!("{block} .copy"));
            Ok(says.is_ok_and(|says| says == "Copied").then_some(()))
        })?;
        world.browser.paste("#field")?;
        let pasted = world
            .browser
            .run("return document.getElementById('field').value")?;
        let command = world.browser.text(&format!("{block} code"))?;
        assert!(command.contains("-p $p"), "{command}");
        assert_eq!(pasted, command, "{from:?}");
    }
    Ok(())
}

fn says_when_it_is_offline() -> Tried {
    let world = World::new()?;
    world.browser.open(&world.address(From::File)?)?;
    world.browser.set_online(false)?;
    world.browser.click("#knock")?;
    assert_eq!(
        world.browser.text("#status")?,
        "This device seems to be offline. Nothing was sent."
    );
    let hidden = world
        .browser
        .run("return document.getElementById('then').hidden")?;
    assert_eq!(hidden, true);
    world.browser.set_online(true)?;
    world.browser.click("#knock")?;
    world.await_open("after a second try")
}

fn other_times_are_told() -> Tried {
    for (time, wanted) in [("2h", Some("1:59:")), ("never", None)] {
        let world = World::with(&POLICY.replace("300s", time))?;
        world.browser.open(&world.address(From::File)?)?;
        world.knock()?;
        let clock = "return document.querySelector('#clock')?.textContent ?? null";
        let clock = world.browser.run(clock)?;
        match wanted {
            Some(wanted) => {
                let clock = clock.as_str().unwrap_or_default();
                assert!(clock.starts_with(wanted) || clock == "2:00:00", "{clock}");
            }
            None => assert!(clock.is_null(), "{clock}"),
        }
        assert_eq!(world.browser.text("#then code")?, format!("ssh {NAME}"));
        world.await_open("after the knock")?;
    }
    Ok(())
}

const SCREENS: [(&str, Look); 4] = [
    (
        "phone-light",
        Look {
            width: 390,
            height: 844,
            is_phone: true,
            is_dark: false,
        },
    ),
    (
        "phone-dark",
        Look {
            width: 390,
            height: 844,
            is_phone: true,
            is_dark: true,
        },
    ),
    (
        "desk-light",
        Look {
            width: 1280,
            height: 900,
            is_phone: false,
            is_dark: false,
        },
    ),
    (
        "desk-dark",
        Look {
            width: 1280,
            height: 900,
            is_phone: false,
            is_dark: true,
        },
    ),
];

/// The lowest contrast of any text with what it stands on (WCAG 2.2, success criterion 1.4.3).
const LOWEST_CONTRAST: &str = "
    const light = (color) => {
        const [r, g, b] = color.match(/[\\d.]+/g).map((c) => {
            const s = c / 255;
            return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (element) => {
        const color = getComputedStyle(element).backgroundColor;
        return /, 0\\)$/.test(color) ? ground(element.parentElement) : color;
    };
    let lowest = 21;
    for (const element of document.querySelectorAll('main *')) {
        const said = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
        if (!said || !element.checkVisibility()) continue;
        const [a, b] = [light(getComputedStyle(element).color), light(ground(element))];
        lowest = Math.min(lowest, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
    }
    return lowest";

fn can_be_read(world: &World, when: &str) -> Tried {
    let contrast = world.browser.run(LOWEST_CONTRAST)?;
    assert!(contrast.as_f64() >= Some(4.5), "{when}: {contrast} to 1");
    Ok(())
}

/// Nothing sticks out to the side, buttons can be hit with a thumb, and what is written can be told
/// from the ground. Pictures go to the directory that `HANDOUT_PICTURES` names.
fn fits_every_screen() -> Tried {
    let world = World::new()?;
    for lang in ["en", "fr", "es", "it"] {
        let path = world.publish(lang)?;
        for (screen, look) in SCREENS {
            world.browser.look(look)?;
            world.browser.open(&format!("file://{}", path.display()))?;
            let low = "return Math.min(...[...document.querySelectorAll('button')]
                       .filter((b) => b.checkVisibility())
                       .map((b) => b.getBoundingClientRect().height))";
            let low = world.browser.run(low)?;
            assert!(
                low.as_f64() >= Some(44.0),
                "{lang} {screen}: a button of {low}"
            );
            let ground = "return getComputedStyle(document.body).backgroundColor";
            let ground = world.browser.run(ground)?;
            assert_eq!(ground == "rgb(22, 24, 29)", look.is_dark, "{ground}");
            fits(&world, look, &format!("{lang}-{screen}"))?;
        }
        // What the page says after a knock does, too.
        for (screen, look) in [SCREENS[0], SCREENS[3]] {
            world.browser.look(look)?;
            world.browser.open(&format!("file://{}", path.display()))?;
            world.browser.click("#knock")?;
            await_some("the end of the knock", BEFORE_LONG, || {
                let hidden = world
                    .browser
                    .run("return document.getElementById('then').hidden");
                Ok(hidden.is_ok_and(|hidden| hidden == false).then_some(()))
            })?;
            fits(&world, look, &format!("{lang}-after-{screen}"))?;
        }
    }
    Ok(())
}

fn fits(world: &World, look: Look, when: &str) -> Tried {
    let wide = world
        .browser
        .run("return document.scrollingElement.scrollWidth")?;
    assert!(
        wide.as_u64() <= Some(look.width.into()),
        "{when}: {wide} wide"
    );
    can_be_read(world, when)?;
    if let Some(directory) = std::env::var_os("HANDOUT_PICTURES").map(PathBuf::from) {
        let picture = world.browser.screenshot()?;
        fs::write(directory.join(format!("{when}.png.base64")), picture)?;
    }
    Ok(())
}
