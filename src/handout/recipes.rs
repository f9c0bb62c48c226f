//! Commands that knock.

use crate::model::{KnockPort, Proto};

use super::{Handout, Words};

/// A way to knock: what it is called, what is to be said about it, and the command.
pub(super) struct Recipe {
    pub(super) name: &'static str,
    pub(super) text: Option<&'static str>,
    pub(super) command: String,
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
pub(super) fn recipes(handout: &Handout, words: &'static Words) -> Vec<Recipe> {
    let connect = connect(handout);
    let mut recipes = Vec::new();
    let mut add = |name, text, command| {
        recipes.push(Recipe {
            name,
            text,
            command,
        });
    };
    let then = |knocks: String| format!("{knocks}; {connect}");
    if !has_udp(handout) {
        add("ssh", None, then(each(handout, &by_ssh)));
    }
    let knock = format!("{} && {connect}", knock(handout, &handout.host));
    add("knock", Some(words.knock), knock);
    add(words.config, Some(words.config_text), config(handout));
    add("nc (netcat)", None, then(each(handout, &by_nc)));
    add("nmap", None, then(each(handout, &by_nmap)));
    if !has_udp(handout) {
        add("telnet (Linux)", None, then(each(handout, &by_telnet)));
        add(words.windows, None, then(power_shell(handout)));
        add("PuTTY (Windows)", Some(words.putty), putty(handout));
    }
    recipes
}

fn has_udp(handout: &Handout) -> bool {
    handout.ports.iter().any(|port| port.proto == Proto::Udp)
}

fn is_ipv6(handout: &Handout) -> bool {
    handout.host.contains(':')
}

/// In sh: the command for every port, in a loop where there are several of one protocol.
fn each(handout: &Handout, command: &dyn Fn(&str, Proto, &str) -> String) -> String {
    let Handout { host, ports, .. } = handout;
    let first = ports.first().map_or(Proto::Tcp, |port| port.proto);
    if ports.len() > 1 && ports.iter().all(|port| port.proto == first) {
        let numbers = numbers(ports, " ");
        let command = command(host, first, "$p");
        return format!("for p in {numbers}; do {command}; done");
    }
    let one = |port: &KnockPort| command(host, port.proto, &port.port.to_string());
    ports.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn numbers(ports: &[KnockPort], between: &str) -> String {
    let numbers: Vec<String> = ports.iter().map(|port| port.port.to_string()).collect();
    numbers.join(between)
}

fn by_ssh(host: &str, _: Proto, port: &str) -> String {
    format!("ssh -o ConnectTimeout=1 -p {port} {host}")
}

fn by_nc(host: &str, proto: Proto, port: &str) -> String {
    match proto {
        Proto::Tcp => format!("nc -z -w 1 {host} {port}"),
        Proto::Udp => format!("echo | nc -u -w 1 {host} {port}"),
    }
}

/// Datagrams are for root only; it has to be told that an address is IPv6.
fn by_nmap(host: &str, proto: Proto, port: &str) -> String {
    let (program, scan) = match proto {
        Proto::Tcp => ("nmap", "-sT"),
        Proto::Udp => ("sudo nmap", "-sU"),
    };
    let six = if host.contains(':') { " -6" } else { "" };
    format!("{program}{six} -n -Pn {scan} --max-retries 0 -p {port} {host}")
}

fn by_telnet(host: &str, _: Proto, port: &str) -> String {
    format!("timeout 1 telnet {host} {port} < /dev/null")
}

/// Windows' own is of .NET Framework, whose client is IPv4 unless it is told otherwise; a refusal
/// within the half second is an exception.
fn power_shell(handout: &Handout) -> String {
    let family = if is_ipv6(handout) {
        "'InterNetworkV6'"
    } else {
        ""
    };
    format!(
        "{} | % {{ $c = [Net.Sockets.TcpClient]::new({family}); try {{ $null = \
         $c.ConnectAsync('{}', $_).Wait(500) }} catch {{}}; $c.Dispose() }}",
        numbers(&handout.ports, ", "),
        handout.host
    )
}

/// Windows has curl; PuTTY's own plink cannot be told to give up.
fn putty(handout: &Handout) -> String {
    let Handout { host, ports, .. } = handout;
    let knocks = format!(
        "for %p in ({}) do @curl -s -m 1 --noproxy \"*\" http://{}:%p",
        numbers(ports, " "),
        handout.url_host()
    );
    let putty = match handout.service {
        22 => format!("putty {host}"),
        port => format!("putty -P {port} {host}"),
    };
    format!("({knocks}) & {putty}")
}

fn config(handout: &Handout) -> String {
    let knock = knock(handout, "%h");
    let host = &handout.host;
    match handout.service {
        22 => format!("Match host {host} exec \"{knock}\""),
        port => format!("Match host {host} exec \"{knock}\"\n    Port {port}"),
    }
}

fn knock(handout: &Handout, host: &str) -> String {
    let ports = handout.ports.iter().map(|port| match port.proto {
        Proto::Tcp => port.port.to_string(),
        Proto::Udp => format!("{}:udp", port.port),
    });
    format!("knock {host} {}", ports.collect::<Vec<_>>().join(" "))
}
