//! What the processor is to have at hand.

/// Has the cache line that this begins in fetched, while the program goes on. On processors for which
/// this does not know how, nothing happens, and whoever reads it later waits.
#[inline]
pub fn prefetch<T>(what: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: SSE, which has it, is part of x86-64; it reads nothing that the program could see,
        // and never faults ("Intel 64 and IA-32 Architectures Software Developer's Manual", PREFETCHh).
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(what).cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = what;
}
