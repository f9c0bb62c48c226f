//! The page that tells people how to knock, with a button that does it from the browser: one
//! file, for a public web site, in their language.
//!
//! Pure. The page loads nothing from elsewhere, and its Content-Security-Policy lets it contact the
//! knock ports and nothing else, if the host has a name: of an address such a policy can say only
//! that https is wanted. Browsers send no lone packets, so it asks for `https://HOST:PORT/`
//! and lets that fail: the SYN is the knock. Only https can be asked for from pages that came over
//! https, over http or from a file alike (mixed content is blocked, a secure request never is).
#![forbid(unsafe_code)]

mod recipes;
#[cfg(test)]
mod tests;
mod words;

use std::fmt::Write as _;
use std::time::Duration;

use crate::model::{KnockPort, Lifetime, Proto};
use crate::policy::browsers_block;

pub use words::Language;
use words::Words;

const SCRIPT: &str = include_str!("page.js");
const STYLE: &str = include_str!("page.css");
/// SHA-256 of the two in base64, for the page's policy; a test knows better.
const SCRIPT_HASH: &str = "zQxxLhMxnNJcLTpTC+a2Tw8M4xQvnzhYIKWBcPLMNPM=";
const STYLE_HASH: &str = "elLFlmjzxCZwNphqZ2EPsGhwf64qafq6PLCY5mEQMO0=";

/// A try of a port is given up after this: by then its SYN is long sent.
const LONGEST_TRY: Duration = Duration::from_millis(800);

/// What the page is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handout {
    /// The host's name or address, as people reach it.
    pub host: String,
    /// What is to be knocked, in order; not empty.
    pub ports: Vec<KnockPort>,
    /// The TCP port that opens.
    pub service: u16,
    /// How long it stays open.
    pub accept: Lifetime,
    /// Whether the first connection uses that up.
    pub once: bool,
    /// From the first knock to the last.
    pub seq_timeout: Duration,
    /// How long a scanner has to be quiet until its knocks count again.
    pub quiet: Duration,
    /// Of the page.
    pub language: Language,
}

/// Why the page has no button.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoButton {
    /// Browsers send no datagrams on their own.
    Udp,
    /// Browsers refuse to contact these (WHATWG Fetch, section 2.10, "bad port").
    Blocked(Vec<u16>),
}

impl Handout {
    /// Whether a browser can knock; if not, why.
    pub fn no_button(&self) -> Option<NoButton> {
        if self.ports.iter().any(|port| port.proto == Proto::Udp) {
            return Some(NoButton::Udp);
        }
        let numbers = self.ports.iter().map(|port| port.port);
        let blocked: Vec<u16> = numbers.filter(|port| browsers_block(*port)).collect();
        (!blocked.is_empty()).then_some(NoButton::Blocked(blocked))
    }

    /// How long the script tries each port, so that all fit into `seq_timeout`.
    fn patience(&self) -> Duration {
        let count = u32::try_from(self.ports.len()).unwrap_or(u32::MAX).max(1);
        LONGEST_TRY.min(self.seq_timeout * 4 / 5 / count)
    }

    /// What stands for `{host}` and so on.
    fn values(&self) -> [(&'static str, String); 4] {
        // Whole minutes are easier to wait for.
        let quiet = self.quiet.as_secs().div_ceil(60).max(1) * 60;
        let quiet = Lifetime::For(Duration::from_secs(quiet));
        let ports = self.ports.iter().map(|port| match port.proto {
            Proto::Tcp => port.port.to_string(),
            Proto::Udp => format!("{} (UDP)", port.port),
        });
        [
            ("host", self.host.clone()),
            ("ports", ports.collect::<Vec<_>>().join(", ")),
            ("time", self.language.time(self.accept).unwrap_or_default()),
            ("quiet", self.language.time(quiet).unwrap_or_default()),
        ]
    }

    /// The host as it stands in an address of the web.
    fn url_host(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        }
    }

    /// Where the script may connect to. A policy knows no addresses, only names: no source
    /// matches a host that is no domain (CSP 3, section 6.7.2.7). Chromium is less strict, others
    /// may not be; so all that is asked for over https is allowed then. No other script runs.
    fn sources(&self) -> String {
        if self.no_button().is_some() {
            return "'none'".to_owned();
        }
        if self.host.parse::<std::net::IpAddr>().is_ok() {
            return "https:".to_owned();
        }
        let each = self
            .ports
            .iter()
            .map(|port| format!("https://{}:{}", self.host, port.port));
        let mut sources: Vec<String> = each.collect();
        sources.sort_unstable();
        sources.dedup();
        sources.join(" ")
    }
}

/// The page, in HTML.
pub fn page(handout: &Handout) -> String {
    let words = handout.language.words();
    let values = handout.values();
    let text = |template: &str| escape(&handout.language.set(&fill(template, &values)));
    let mut out = String::with_capacity(24 * 1024);
    head(&mut out, handout, &text(words.title));
    // Writing to a string cannot fail.
    let _ = writeln!(out, "<h1>{}</h1>", text(words.title));
    lead(&mut out, handout, &text);
    card(&mut out, handout, &text);
    let _ = write!(
        out,
        "<h2>{}</h2>\n<p>{}</p>\n",
        text(words.others),
        text(words.others_lead)
    );
    for recipe in recipes::recipes(handout, words) {
        let _ = writeln!(out, "<h3>{}</h3>", escape(recipe.name));
        if let Some(about) = recipe.text {
            let _ = writeln!(out, "<p>{}</p>", text(about));
        }
        code(&mut out, &recipe.command);
    }
    let _ = write!(
        out,
        "<h3>{}</h3>\n<p>{}</p>\n<h2>{}</h2>\n<ul>\n",
        text(words.phone),
        text(words.phone_text),
        text(words.trouble)
    );
    for trouble in words.troubles {
        let _ = writeln!(out, "<li>{}</li>", text(trouble));
    }
    let _ = write!(
        out,
        "</ul>\n</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    );
    out
}

/// A command; the script puts a button beside it that copies.
fn code(out: &mut String, command: &str) {
    let command = escape(command);
    let _ = writeln!(
        out,
        "<div class=\"code\"><pre tabindex=\"0\"><code translate=\"no\">{command}</code></pre></div>"
    );
}

/// What has to be knocked on, and what that is good for.
fn lead(out: &mut String, handout: &Handout, text: &dyn Fn(&str) -> String) {
    let words = handout.language.words();
    let lead = match handout.ports.len() {
        1 => words.lead_one,
        _ => words.lead,
    };
    let _ = write!(out, "<p>{}</p>\n<ol class=\"ports\">\n", text(lead));
    for port in &handout.ports {
        let proto = match port.proto {
            Proto::Tcp => "",
            Proto::Udp => " UDP",
        };
        let _ = writeln!(out, "<li><code>{}</code>{proto}</li>", port.port);
    }
    let lasts = match handout.accept {
        Lifetime::For(_) => words.lasts,
        Lifetime::Never => words.lasts_for_good,
    };
    let _ = write!(out, "</ol>\n<p>{}", text(lasts));
    if handout.once {
        let _ = write!(out, " {}", text(words.once));
    }
    out.push_str("</p>\n");
}

fn head(out: &mut String, handout: &Handout, title: &str) {
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{SCRIPT_HASH}'; style-src 'sha256-{STYLE_HASH}'; \
         connect-src {}; base-uri 'none'; form-action 'none'",
        handout.sources()
    );
    let ports = handout.ports.iter().map(|port| port.port.to_string());
    let words = handout.language.words();
    let _ = write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"{}\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <meta name=\"robots\" content=\"noindex\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <main data-host=\"{}\" data-ports=\"{}\" data-wait=\"{}\" data-accept=\"{}\" \
         data-copy=\"{}\" data-copied=\"{}\">\n",
        handout.language.tag(),
        escape(&policy),
        escape(&handout.url_host()),
        ports.collect::<Vec<_>>().join(" "),
        handout.patience().as_millis(),
        handout
            .accept
            .as_secs()
            .map(|s| s.to_string())
            .unwrap_or_default(),
        escape(words.copy),
        escape(words.copied),
    );
}

/// The button and what it says, or why there is none.
fn card(out: &mut String, handout: &Handout, text: &dyn Fn(&str) -> String) {
    let words = handout.language.words();
    out.push_str("<div class=\"card\">\n");
    match handout.no_button() {
        None => button(out, handout, text),
        Some(NoButton::Udp) => drop(writeln!(out, "<p>{}</p>", text(words.no_udp))),
        Some(NoButton::Blocked(ports)) => {
            let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
            let values = [("ports", ports.join(", "))];
            let _ = writeln!(out, "<p>{}</p>", escape(&fill(words.blocked, &values)));
        }
    }
    out.push_str("</div>\n");
}

fn button(out: &mut String, handout: &Handout, text: &dyn Fn(&str) -> String) {
    let words = handout.language.words();
    let _ = write!(
        out,
        "<button id=\"knock\" type=\"button\">{}</button>\n<noscript><p>{}</p></noscript>\n\
         <p id=\"status\" role=\"status\" aria-live=\"polite\" data-knocking=\"{}\" \
         data-done=\"{}\" data-over=\"{}\" data-offline=\"{}\"></p>\n<div id=\"then\" hidden>\n",
        text(words.button),
        text(words.no_script),
        // Filled in by the script.
        escape(words.knocking),
        text(words.done),
        text(words.over),
        text(words.offline),
    );
    code(out, &recipes::connect(handout));
    let clock = "<span id=\"clock\" role=\"timer\" aria-live=\"off\"></span>";
    if let Some(seconds) = handout.accept.as_secs() {
        let _ = write!(
            out,
            "<p class=\"left\">{} {clock}</p>\n\
             <progress id=\"left\" max=\"{seconds}\" aria-hidden=\"true\"></progress>\n",
            text(words.left)
        );
    }
    let _ = write!(out, "</div>\n<p class=\"soft\">{}</p>\n", text(words.blind));
}

/// Puts values for `{name}`, once: what is in a value is not looked at again.
fn fill(template: &str, values: &[(&'static str, String)]) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(start) = rest.find('{') {
        out.push_str(&rest[..start]);
        let tail = &rest[start..];
        let known = values.iter().find_map(|(name, value)| {
            let end = tail[1..].strip_prefix(name)?.strip_prefix('}')?;
            Some((value, end))
        });
        if let Some((value, end)) = known {
            out.push_str(value);
            rest = end;
        } else {
            out.push('{');
            rest = &tail[1..];
        }
    }
    out.push_str(rest);
    out
}

/// Text as it stands in HTML, between tags or in quotes.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
