//! What was measured, as a table.

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::process::Command;
use std::time::Duration;

/// How a figure compares with its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    Missed,
    /// There is no figure, and there should be.
    Failed,
    /// There is no figure, for want of a program that others have.
    Missing,
    /// There is no target; the figure is for comparison.
    None,
}

impl Verdict {
    pub(crate) fn of(met: bool) -> Self {
        if met { Verdict::Met } else { Verdict::Missed }
    }

    fn word(self) -> &'static str {
        match self {
            Verdict::Met => "met",
            Verdict::Missed => "**missed**",
            Verdict::Failed => "**failed**",
            Verdict::Missing => "not measured",
            Verdict::None => "",
        }
    }
}

/// A line of the table.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) what: String,
    pub(crate) figure: String,
    pub(crate) target: String,
    pub(crate) verdict: Verdict,
}

impl Line {
    /// A figure with its target.
    pub(crate) fn new(
        what: impl Into<String>,
        figure: impl Into<String>,
        target: impl Into<String>,
        met: bool,
    ) -> Self {
        Self {
            what: what.into(),
            figure: figure.into(),
            target: target.into(),
            verdict: Verdict::of(met),
        }
    }

    /// What could not be measured, and why.
    pub(crate) fn failed(what: impl Into<String>, why: &dyn Error) -> Self {
        Self {
            what: what.into(),
            figure: format!("could not be measured: {why}").replace(['\n', '|'], " "),
            target: String::new(),
            verdict: Verdict::Failed,
        }
    }

    /// What could not be compared, as that program is not here.
    pub(crate) fn missing(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            figure: "not installed".to_owned(),
            target: String::new(),
            verdict: Verdict::Missing,
        }
    }

    /// A figure for comparison.
    pub(crate) fn aside(what: impl Into<String>, figure: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            figure: figure.into(),
            target: String::new(),
            verdict: Verdict::None,
        }
    }
}

/// The lines of a row, or why there are none.
pub(crate) type Measured = Result<Vec<Line>, Box<dyn Error>>;

/// Prints the rows as a Markdown table, its columns aligned.
pub(crate) fn table(rows: &[(&str, Measured)]) -> String {
    let head = ["row", "what", "figure", "target", "verdict", "command"];
    let mut cells: Vec<[String; 6]> = vec![head.map(str::to_owned)];
    for (row, measured) in rows {
        let failed;
        let lines = match measured {
            Ok(lines) => lines.as_slice(),
            Err(error) => {
                failed = [Line::failed("all of it", error.as_ref())];
                &failed
            }
        };
        cells.extend(lines.iter().map(|line| {
            [
                (*row).to_owned(),
                line.what.clone(),
                line.figure.clone(),
                line.target.clone(),
                line.verdict.word().to_owned(),
                format!("`cargo bench --bench gate -- {row}`"),
            ]
        }));
    }
    let width = |column: usize| {
        let widths = cells.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut text = String::new();
    for (number, row) in cells.iter().enumerate() {
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(text, "| {cell:width$} ");
        }
        text.push_str("|\n");
        if number == 0 {
            for width in widths {
                let _ = write!(text, "|{:-<1$}", "", width + 2);
            }
            text.push_str("|\n");
        }
    }
    text
}

/// What a strict run complains about, a line for each.
pub(crate) fn complaints(rows: &[(&str, Measured)]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (row, measured) in rows {
        for line in measured.iter().flatten() {
            let (what, figure, target) = (&line.what, &line.figure, &line.target);
            match line.verdict {
                Verdict::Missed => {
                    complaints.push(format!("missed: {row}: {what}: {figure}, target: {target}"));
                }
                Verdict::Failed | Verdict::Missing => {
                    complaints.push(format!("no figure: {row}: {what}: {figure}"));
                }
                Verdict::Met | Verdict::None => {}
            }
        }
        if let Err(error) = measured {
            complaints.push(format!("no figure: {row}: {error}"));
        }
    }
    complaints
}

/// Samples in ascending order.
#[derive(Debug)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn new(mut samples: Vec<Duration>) -> Self {
        assert!(!samples.is_empty(), "nothing was sampled");
        samples.sort_unstable();
        Self(samples)
    }

    /// The same, if there are any.
    pub(crate) fn new_or_none(samples: Vec<Duration>) -> Option<Self> {
        (!samples.is_empty()).then(|| Self::new(samples))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The smallest sample that `percent` of all do not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0[rank - 1]
    }

    pub(crate) fn median(&self) -> Duration {
        self.percentile(50)
    }

    pub(crate) fn max(&self) -> Duration {
        self.percentile(100)
    }

    /// All of it in a line.
    pub(crate) fn summary(&self) -> String {
        format!(
            "median {}, p90 {}, p99 {}, max {} ({} samples)",
            ms(self.median()),
            ms(self.percentile(90)),
            ms(self.percentile(99)),
            ms(self.max()),
            self.len()
        )
    }
}

/// In milliseconds, with three digits that mean something.
pub(crate) fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    match ms {
        ..1.0 => format!("{ms:.3} ms"),
        ..100.0 => format!("{ms:.1} ms"),
        _ => format!("{ms:.0} ms"),
    }
}

/// In microseconds.
pub(crate) fn us(time: Duration) -> String {
    format!("{:.2} µs", time.as_secs_f64() * 1e6)
}

/// The machine, in a sentence.
pub(crate) fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown CPU", |rest| {
            rest.trim_start_matches([' ', '\t', ':'])
        });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let virtual_machine = if cpuinfo.contains(" hypervisor") {
        ", a virtual machine"
    } else {
        ""
    };
    let memory = read("/proc/meminfo");
    let kib: u64 = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0);
    let load = read("/proc/loadavg");
    let iptables = Command::new("iptables").arg("--version").output();
    let iptables = iptables.map_or_else(
        |_| "no iptables".to_owned(),
        |said| String::from_utf8_lossy(&said.stdout).trim().to_owned(),
    );
    format!(
        "{model}, {cores} cores, {} GiB{virtual_machine}; Linux {}; {iptables}; load {} at the start",
        kib.div_ceil(1 << 20),
        read("/proc/sys/kernel/osrelease").trim(),
        load.split(' ').next().unwrap_or("unknown"),
    )
}
