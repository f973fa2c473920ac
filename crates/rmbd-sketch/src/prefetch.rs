//! Prefetching a cache line. This is the only unsafe code of the crate.

use std::sync::atomic::AtomicU32;

/// Starts to fetch the cell's cache line, which will be written soon. This is a hint and changes nothing.
#[inline(always)]
#[allow(unsafe_code)]
pub(super) fn for_write(cell: &AtomicU32) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        // SAFETY: a prefetch reads and writes nothing, and cannot fault whatever the address; this
        // one is that of a live reference anyway. SSE is part of x86_64.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(cell.as_ptr().cast::<i8>()) }
    }
    #[cfg(target_arch = "aarch64")]
    {
        // SAFETY: PRFM reads and writes nothing that a program can see and cannot fault, whatever
        // the address; this one is that of a live reference anyway. It clobbers no flags and no stack.
        unsafe {
            std::arch::asm!(
                "prfm pstl1keep, [{cell}]",
                cell = in(reg) cell.as_ptr(),
                options(nostack, preserves_flags, readonly),
            );
        }
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = cell;
}
