//! Huge pages for large memory.

use std::io;
use std::sync::atomic::AtomicU32;

/// Size of a transparent huge page on x86-64 and on aarch64 with 4 KiB pages.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// The advice that makes huge pages of small ones at once (madvise(2), since Linux 6.1).
const MADV_COLLAPSE: libc::c_int = 25;

/// Has all memory of this process that is not in use yet made of small pages. The allocator asks for huge ones, of
/// which a few bytes here and there take 2 MiB each.
///
/// # Errors
/// The kernel's error.
pub fn forgo() -> io::Result<()> {
    Ok(rustix::thread::disable_transparent_huge_pages(true)?)
}

/// Asks for huge pages behind `cells` (`MADV_HUGEPAGE`, madvise(2)): fewer TLB misses for random
/// access, at the cost of memory in steps of 2 MiB. Returns the bytes that were advised; 0 where
/// the region holds no whole huge page or the kernel does not do it, which is harmless.
#[allow(unsafe_code)]
pub fn advise(cells: &[AtomicU32]) -> usize {
    let start = cells.as_ptr().addr().next_multiple_of(HUGE_PAGE_BYTES);
    let end = (cells.as_ptr().addr() + size_of_val(cells)) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    let Some(bytes) = end.checked_sub(start).filter(|&bytes| bytes > 0) else {
        return 0;
    };
    let address = cells.as_ptr().with_addr(start).cast_mut();
    // SAFETY: `address..address + bytes` lies inside `cells`, rounded inwards to whole pages, so it
    // is mapped and ours; MADV_HUGEPAGE changes how memory is backed, never what it holds.
    let advised = match unsafe { libc::madvise(address.cast(), bytes, libc::MADV_HUGEPAGE) } {
        0 => bytes,
        _ => 0,
    };
    // Memory that was in use before has small pages already, which the first advice alone would leave. If they cannot
    // be collapsed (Linux before 6.1, or no page of the region was touched), huge pages come as pages are touched.
    // SAFETY: As above; MADV_COLLAPSE changes how memory is backed, never what it holds.
    unsafe { libc::madvise(address.cast(), bytes, MADV_COLLAPSE) };
    advised
}
