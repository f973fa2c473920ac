//! The buffers that the kernel chooses from when it receives: a ring of entries that names them
//! (io_uring_register_buf_ring(3)), and the memory itself.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;
use memmap2::MmapMut;

/// The one group of buffers of a ring.
pub(super) const GROUP: u16 = 0;

/// `count` buffers of `bytes` each, owned by the kernel or by us: a buffer is ours from the moment
/// a completion names it until [`give_back`](Self::give_back).
pub(super) struct Buffers {
    entries: MmapMut,
    memory: MmapMut,
    count: u16,
    bytes: usize,
    /// How many buffers were ever given, modulo 2^16: the kernel's `tail`.
    tail: u16,
}

impl Buffers {
    /// Maps `count` (a power of two) buffers and gives them all to the kernel. The memory is
    /// touched when it is first received into.
    pub(super) fn register(ring: &IoUring, count: u16, bytes: usize) -> io::Result<Self> {
        let mut buffers = Self {
            entries: MmapMut::map_anon(usize::from(count) * size_of::<BufRingEntry>())?,
            memory: MmapMut::map_anon(usize::from(count) * bytes)?,
            count,
            bytes,
            tail: 0,
        };
        buffers.register_entries(ring)?;
        for id in 0..count {
            buffers.give_back(id);
        }
        Ok(buffers)
    }

    #[allow(unsafe_code)]
    fn register_entries(&mut self, ring: &IoUring) -> io::Result<()> {
        let address = self.entries.as_ptr() as u64;
        // SAFETY: `entries` is a private mapping, page-aligned and `count` entries long, which
        // lives in the same structure as the memory; `uring::Loop` drops its ring before this.
        unsafe {
            ring.submitter()
                .register_buf_ring_with_flags(address, self.count, GROUP, 0)
        }
    }

    /// What the kernel wrote into buffer `id`: its first `len` bytes. `None` for an `id` or a
    /// length that cannot be.
    ///
    /// The caller must have been told by a completion that the buffer is ours, and not have given
    /// it back since.
    #[allow(unsafe_code)]
    pub(super) fn received(&self, id: u16, len: usize) -> Option<&[u8]> {
        if id >= self.count || len > self.bytes {
            return None;
        }
        let start = self
            .memory
            .as_ptr()
            .wrapping_add(usize::from(id) * self.bytes);
        // SAFETY: inside the mapping by the check above. The kernel writes only into buffers that
        // it was given; this one it has given to us with the completion (which orders its writes
        // before our reads), and it gets it back only through `give_back`, which needs `&mut self`
        // and so cannot happen while the slice lives.
        Some(unsafe { std::slice::from_raw_parts(start, len) })
    }

    /// Lets the kernel receive into buffer `id` again.
    #[allow(unsafe_code)]
    pub(super) fn give_back(&mut self, id: u16) {
        let address = self
            .memory
            .as_mut_ptr()
            .wrapping_add(usize::from(id) * self.bytes) as u64;
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
