//! As much of W3C WebDriver as these tests need, spoken to chromedriver over HTTP, in the browser's
//! network namespace.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Stdio};
use std::time::Duration;

use portcullis::lab::{Host, Lab, Program, await_some};
use serde_json::{Value, json};

use crate::Error;

const PORT: u16 = 9515;
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser on a host. Ends when dropped.
pub(crate) struct Browser {
    host: Host,
    driver: Child,
    session: String,
}

/// What kind of browser.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) is_phone: bool,
    pub(crate) is_dark: bool,
}

impl Browser {
    /// Starts chromedriver and, with it, a headless Chromium for which `name` is `address`.
    pub(crate) fn start(
        lab: &Lab,
        host: &Host,
        (name, address): (&str, &str),
    ) -> Result<Self, Error> {
        let home = lab.dir().join("chromium");
        fs::create_dir_all(&home)?;
        let mut command = Program::at("/usr/bin/chromedriver").on(host)?;
        let driver = command
            .arg(format!("--port={PORT}"))
            .env("HOME", &home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| {
                format!("cannot start /usr/bin/chromedriver: {error} (install chromium-driver)")
            })?;
        let mut browser = Self {
            host: host.clone(),
            driver,
            session: String::new(),
        };
        await_some("an answer of chromedriver", PATIENCE, || {
            Ok(browser.ask("GET", "/status", None).ok())
        })?;
        let arguments = [
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--disable-background-networking".to_owned(),
            "--no-first-run".to_owned(),
            format!("--user-data-dir={}", home.join("profile").display()),
            format!("--host-resolver-rules=MAP {name} {address}"),
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "acceptInsecureCerts": true,
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let session = browser.ask("POST", "/session", Some(&wanted))?;
        browser.session = text(&session["sessionId"])?;
        Ok(browser)
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Error> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost:{PORT}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = self.host.run(move || exchange(&request))??;
        let answer: Value = serde_json::from_slice(&answer)?;
        match answer["value"].get("error") {
            None => Ok(answer["value"].clone()),
            Some(error) => Err(format!("{path}: {error}: {}", answer["value"]["message"]).into()),
        }
    }

    fn command(&self, path: &str, body: &Value) -> Result<Value, Error> {
        self.ask(
            "POST",
            &format!("/session/{}{path}", self.session),
            Some(body),
        )
    }

    pub(crate) fn open(&self, address: &str) -> Result<(), Error> {
        self.command("/url", &json!({ "url": address })).map(drop)
    }

    /// Clicks as people do, with a pointer, on the first element that fits.
    pub(crate) fn click(&self, selector: &str) -> Result<(), Error> {
        let path = format!("{}/click", self.element(selector)?);
        self.command(&path, &json!({})).map(drop)
    }

    /// Pastes as people do, with the keyboard.
    pub(crate) fn paste(&self, selector: &str) -> Result<(), Error> {
        let path = format!("{}/value", self.element(selector)?);
        // Control, in the private use area that WebDriver has for keys.
        self.command(&path, &json!({ "text": "\u{e009}v" }))
            .map(drop)
    }

    fn element(&self, selector: &str) -> Result<String, Error> {
        let found = self.command(
            "/element",
            &json!({ "using": "css selector", "value": selector }),
        )?;
        let element = found.as_object().and_then(|found| found.values().next());
        let element = text(element.unwrap_or(&Value::Null))?;
        Ok(format!("/element/{element}"))
    }

    /// Whether the browser has a network.
    pub(crate) fn set_online(&self, online: bool) -> Result<(), Error> {
        let conditions = json!({
            "offline": !online, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1,
        });
        self.devtools("Network.enable", &json!({}))?;
        self.devtools("Network.emulateNetworkConditions", &conditions)
            .map(drop)
    }

    /// What a function's body returns, run in the page.
    pub(crate) fn run(&self, script: &str) -> Result<Value, Error> {
        self.command("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// What stands in the first element that fits.
    pub(crate) fn text(&self, selector: &str) -> Result<String, Error> {
        text(&self.run(&format!(
            "return document.querySelector('{selector}').textContent"
        ))?)
    }

    /// What the browser had to complain about since it was last asked.
    pub(crate) fn complaints(&self) -> Result<Vec<String>, Error> {
        let log = self.command("/se/log", &json!({ "type": "browser" }))?;
        let entries = log.as_array().cloned().unwrap_or_default();
        entries
            .iter()
            .map(|entry| text(&entry["message"]))
            .collect()
    }

    /// From now on it is such a screen.
    pub(crate) fn look(&self, look: Look) -> Result<(), Error> {
        let metrics = json!({
            "width": look.width, "height": look.height,
            "deviceScaleFactor": if look.is_phone { 2 } else { 1 }, "mobile": look.is_phone,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics)?;
        let scheme = if look.is_dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", &media)
            .map(drop)
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Result<Value, Error> {
        self.command(
            "/goog/cdp/execute",
            &json!({ "cmd": command, "params": parameters }),
        )
    }

    /// All of the page as a PNG, in base64.
    pub(crate) fn screenshot(&self) -> Result<String, Error> {
        let all = json!({ "format": "png", "captureBeyondViewport": true });
        text(&self.devtools("Page.captureScreenshot", &all)?["data"])
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            // Chromium ends with its session.
            let _ = self.ask("DELETE", &format!("/session/{}", self.session), None);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Sends a request, and returns the body of the answer.
fn exchange(request: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(body)
}

fn text(value: &Value) -> Result<String, Error> {
    let text = value.as_str();
    text.map(str::to_owned)
        .ok_or_else(|| format!("not text: {value}").into())
}
