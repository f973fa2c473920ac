//! Prefetching a cache line. This is the only unsafe code of the crate.

use std::sync::atomic::AtomicU32;

/// Starts to fetch the cell's cache line, which will be written soon. This is a hint and changes nothing.
#[inline(always)]
pub(super) fn for_write(cell: &AtomicU32) {
    prefetch::<true>(cell);
}

/// Starts to fetch the cache line of a cell in any table, which will be read soon and is seldom written, so that all
/// cores may have it at the same time. This is a hint and changes nothing.
#[inline(always)]
pub fn prefetch_for_read(cell: &AtomicU32) {
    prefetch::<false>(cell);
}

#[inline(always)]
#[allow(unsafe_code)]
fn prefetch<const IS_WRITTEN: bool>(cell: &AtomicU32) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_ET0, _MM_HINT_T0, _mm_prefetch};
        let address = cell.as_ptr().cast::<i8>();
        // SAFETY: a prefetch reads and writes nothing, and cannot fault whatever the address; this
        // one is that of a live reference anyway. SSE is part of x86_64.
        unsafe {
            if IS_WRITTEN {
                _mm_prefetch::<_MM_HINT_ET0>(address);
            } else {
                _mm_prefetch::<_MM_HINT_T0>(address);
            }
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        // SAFETY: PRFM reads and writes nothing that a program can see and cannot fault, whatever
        // the address; this one is that of a live reference anyway. It clobbers no flags and no stack.
        unsafe {
            if IS_WRITTEN {
                std::arch::asm!(
                    "prfm pstl1keep, [{cell}]",
                    cell = in(reg) cell.as_ptr(),
                    options(nostack, preserves_flags, readonly),
                );
            } else {
                std::arch::asm!(
                    "prfm pldl1keep, [{cell}]",
                    cell = in(reg) cell.as_ptr(),
                    options(nostack, preserves_flags, readonly),
                );
            }
        }
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = cell;
}
