//! The only `unsafe` code: thin, safe wrappers around what the kernel offers and no safe crate
//! covers. Knows no other module of this program.

pub mod cache;
pub mod clock;
pub mod descriptors;
pub mod ns;
pub mod packet;
pub mod ready;
pub mod sched;
pub mod xtables;
