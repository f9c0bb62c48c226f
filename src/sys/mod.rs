//! What the kernel offers and safe Rust does not: the only module with `unsafe` in it. Every
//! function here is safe to call; each block says why.

pub mod ns;
