//! Commands that knock.

use crate::model::{KnockPort, Proto};

use super::Handout;

/// A way to knock: what it is called, what is to be said about it, and the command.
pub(super) struct Recipe {
    pub(super) name: String,
    pub(super) text: Option<String>,
    pub(super) command: String,
}

impl Recipe {
    fn new(name: &str, command: String) -> Self {
        Self {
            name: name.to_owned(),
            text: None,
            command,
        }
    }
}

/// The command that connects.
pub(super) fn connect(handout: &Handout) -> String {
    let Handout { host, service, .. } = handout;
    match service {
        22 => format!("ssh {host}"),
        port => format!("ssh -p {port} {host}"),
    }
}

/// Every recipe that can send these knocks.
pub(super) fn recipes(handout: &Handout) -> Vec<Recipe> {
    let words = handout.language.words();
    let Handout { host, ports, .. } = handout;
    let connect = connect(handout);
    let fill = |text: &str| super::fill(text, &handout.values());
    let each = |command: &dyn Fn(&KnockPort) -> String| {
        ports.iter().map(command).collect::<Vec<_>>().join("; ")
    };
    let has_udp = ports.iter().any(|port| port.proto == Proto::Udp);
    let mut recipes = Vec::new();
    if !has_udp {
        let one = |port: &KnockPort| format!("ssh -o ConnectTimeout=1 -p {} {host}", port.port);
        recipes.push(Recipe::new("ssh", format!("{}; {connect}", each(&one))));
    }
    recipes.push(Recipe::new(
        "knock",
        format!("{} && {connect}", knock(handout, host)),
    ));
    let one = |port: &KnockPort| match port.proto {
        Proto::Tcp => format!("nc -z -w 1 {host} {}", port.port),
        Proto::Udp => format!("echo | nc -u -w 1 {host} {}", port.port),
    };
    recipes.push(Recipe::new(
        "nc (netcat)",
        format!("{}; {connect}", each(&one)),
    ));
    let one = |port: &KnockPort| {
        let scan = match port.proto {
            Proto::Tcp => "-sT",
            Proto::Udp => "-sU",
        };
        let port = port.port;
        format!("nmap -n -Pn {scan} --max-retries 0 -p {port} {host}")
    };
    recipes.push(Recipe::new("nmap", format!("{}; {connect}", each(&one))));
    if !has_udp {
        let one = |port: &KnockPort| format!("timeout 1 telnet {host} {}", port.port);
        recipes.push(Recipe::new("telnet", format!("{}; {connect}", each(&one))));
        let numbers: Vec<String> = ports.iter().map(|port| port.port.to_string()).collect();
        recipes.push(Recipe::new(
            words.windows,
            format!(
                "{} | % {{ $c = [Net.Sockets.TcpClient]::new(); $null = $c.ConnectAsync('{host}', \
                 $_).Wait(500); $c.Dispose() }}; {connect}",
                numbers.join(", ")
            ),
        ));
        let one = |port: &KnockPort| format!("plink -batch -P {} {host}", port.port);
        let plinks = ports.iter().map(one).collect::<Vec<_>>().join(" & ");
        let putty = match handout.service {
            22 => format!("putty {host}"),
            port => format!("putty -P {port} {host}"),
        };
        recipes.push(Recipe {
            text: Some(fill(words.putty)),
            ..Recipe::new("PuTTY", format!("{plinks} & {putty}"))
        });
    }
    recipes.push(Recipe {
        text: Some(fill(words.config_text)),
        ..Recipe::new(
            words.config,
            format!("Match host {host} exec \"{}\"", knock(handout, "%h")),
        )
    });
    recipes
}

fn knock(handout: &Handout, host: &str) -> String {
    let ports = handout.ports.iter().map(|port| match port.proto {
        Proto::Tcp => port.port.to_string(),
        Proto::Udp => format!("{}:udp", port.port),
    });
    format!("knock {host} {}", ports.collect::<Vec<_>>().join(" "))
}
