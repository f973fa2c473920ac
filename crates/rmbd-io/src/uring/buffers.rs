//! Receive buffers that the kernel chooses from: a ring of entries that name them (io_uring_register_buf_ring(3)),
//! and the memory itself.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use memmap2::MmapMut;

use super::ring::Ring;

/// The buffer group of datagrams.
pub(super) const DATAGRAMS: u16 = 0;
/// The buffer group of streams.
pub(super) const STREAMS: u16 = 1;

/// `count` buffers of `bytes` each. The kernel owns a buffer, except during the call of [`read`](Self::read) for the
/// completion that names it.
pub(super) struct Buffers {
    entries: MmapMut,
    memory: MmapMut,
    count: u16,
    bytes: usize,
    /// Number of buffers that were ever given to the kernel, modulo 2^16: the kernel's `tail`.
    tail: u16,
}

impl Buffers {
    /// Maps `count` (a power of two) buffers of a group that the ring does not have yet, and gives them all to the
    /// kernel. Their memory is touched when it is first received into.
    ///
    /// # Safety
    /// - The ring is dropped before the buffers.
    #[allow(unsafe_code)]
    pub(super) unsafe fn register(
        ring: &Ring,
        group: u16,
        count: u16,
        bytes: usize,
    ) -> io::Result<Self> {
        let mut buffers = Self {
            entries: MmapMut::map_anon(usize::from(count) * size_of::<BufRingEntry>())?,
            memory: MmapMut::map_anon(usize::from(count) * bytes)?,
            count,
            bytes,
            tail: 0,
        };
        let entries = buffers.entries.as_mut_ptr() as u64;
        // SAFETY: `entries` is a private mapping, page-aligned and `count` entries long, which lives until
        // the ring is gone, as the caller promises.
        unsafe {
            ring.submitter()
                .register_buf_ring_with_flags(entries, count, group, 0)
        }?;
        for id in 0..count {
            // SAFETY: every buffer of the mapping is given once, and nobody has one yet.
            unsafe { buffers.give(id) };
        }
        Ok(buffers)
    }

    /// Calls `reader` with what the kernel wrote into buffer `id`: its first `len` bytes, or `None` if there is no
    /// such buffer or it is shorter. Then gives the buffer back to the kernel.
    ///
    /// # Safety
    /// - A completion of the ring named the buffer, and this is the only call for that completion.
    #[allow(unsafe_code)]
    pub(super) unsafe fn read<T>(
        &mut self,
        id: u16,
        len: usize,
        reader: impl FnOnce(Option<&[u8]>) -> T,
    ) -> T {
        if id >= self.count {
            return reader(None);
        }
        let start = self.start_of(id);
        let received = (len <= self.bytes).then(|| {
            // SAFETY: inside the mapping by the checks above. The kernel writes only into buffers that it was
            // given; this one it has handed over with the completion (which orders its writes before our
            // reads), and it gets it back below, when the slice, which `reader` cannot keep, is gone.
            unsafe { std::slice::from_raw_parts(start, len) }
        });
        let read = reader(received);
        // SAFETY: the kernel has handed it over, and `id` < `count`.
        unsafe { self.give(id) };
        read
    }

    fn start_of(&self, id: u16) -> *const u8 {
        let offset = usize::from(id) * self.bytes;
        self.memory.as_ptr().wrapping_add(offset)
    }

    /// Lets the kernel receive into buffer `id`.
    ///
    /// # Safety
    /// - `id` is below `count`.
    /// - The kernel does not have the buffer, and nobody uses it from now on.
    #[allow(unsafe_code)]
    unsafe fn give(&mut self, id: u16) {
        let address = self.start_of(id) as u64;
        let entries = self.entries.as_mut_ptr().cast::<BufRingEntry>();
        let index = usize::from(self.tail & (self.count - 1));
        // SAFETY: `index` < `count`, so the entry lies inside the mapping, which is aligned to a
        // page. The kernel reads only entries below `tail`, and there are never more buffers given
        // than entries, so nobody else uses this one.
        let entry = unsafe { &mut *entries.add(index) };
        entry.set_addr(address);
        entry.set_len(self.bytes as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `tail` points into the first entry's reserved field, aligned for u16, inside the
        // mapping; the kernel and we only use it atomically.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(entries).cast_mut()) };
        // Release: the kernel, which reads `tail` with acquire, sees the entry complete.
        tail.store(self.tail, Ordering::Release);
    }
}
