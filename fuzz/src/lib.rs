//! What must hold whatever bytes come in: one function for each way in, which panics if it does
//! not. The fuzz targets call them with bytes that a fuzzer makes up, `tests/corpora.rs` with those
//! in `corpus/`.
#![forbid(unsafe_code)]

mod capture;
mod classic;
mod control;
mod matcher;
mod packet;
mod policy;
mod whitelist;

pub use capture::capture;
pub use classic::classic;
pub use control::control;
pub use matcher::matcher;
pub use packet::packet;
pub use policy::policy;
pub use whitelist::whitelist;

/// What must hold for any bytes.
pub type Check = fn(&[u8]);

/// Every way in, by the name of its target and of its corpus.
pub const TARGETS: [(&str, Check); 7] = [
    ("packet", packet),
    ("matcher", matcher),
    ("policy", policy),
    ("whitelist", whitelist),
    ("control", control),
    ("capture", capture),
    ("classic", classic),
];

/// Whether a terminal or a log can be given it as a line.
fn is_one_line(text: &str) -> bool {
    !text.chars().any(char::is_control)
}
