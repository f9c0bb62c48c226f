//! A web site that serves one directory over http and https.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use portcullis::lab::{Host, Lab, run_bounded};

use crate::Error;

pub(crate) struct Site {
    dir: PathBuf,
    https: Child,
}

impl Site {
    pub(crate) fn start(lab: &Lab, host: &Host) -> Result<Self, Error> {
        let dir = lab.dir().join("site");
        fs::create_dir_all(&dir)?;
        let (key, certificate) = (lab.dir().join("key.pem"), lab.dir().join("cert.pem"));
        let mut command = host.command("openssl")?;
        command.args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        ]);
        command.args(["-subj", "/CN=www.example.test", "-keyout"]);
        command.arg(&key).arg("-out").arg(&certificate);
        let made = run_bounded(&mut command, lab.dir(), Duration::from_secs(60))?;
        if !made.status.success() {
            return Err(format!("openssl: {}", made.stderr).into());
        }
        let https = host
            .command("openssl")?
            .args(["s_server", "-accept", "443", "-WWW", "-quiet", "-cert"])
            .arg(&certificate)
            .arg("-key")
            .arg(&key)
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let listener = host.run(|| TcpListener::bind("[::]:80"))??;
        let root = dir.clone();
        // Ends with the process.
        thread::spawn(move || serve(&listener, &root));
        Ok(Self { dir, https })
    }

    /// What is put here is served.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.https.kill();
        let _ = self.https.wait();
    }
}

fn serve(listener: &TcpListener, root: &Path) {
    for stream in listener.incoming().flatten() {
        let mut reader = BufReader::new(stream);
        let mut request = String::new();
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|read| read > 0) && line != "\r\n" {
            request.push_str(&line);
            line.clear();
        }
        let is_page = request.starts_with("GET /knock.html ");
        let page = if is_page {
            fs::read(root.join("knock.html")).ok()
        } else {
            None
        };
        let (status, body) = match page {
            Some(page) => ("200 OK", page),
            None => ("404 Not Found", Vec::new()),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            body.len()
        );
        let stream = reader.get_mut();
        // A browser that has gone away is its own affair.
        let _ = stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(&body));
    }
}
