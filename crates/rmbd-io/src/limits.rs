//! The system's limits on this process (getrlimit(2), and its control groups), and which of them prevents something.
//!
//! Room is tried, not computed: descriptors and memory are taken for a moment and given back. So the kernel's own
//! count decides, whatever else the process has.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use memmap2::MmapMut;
use rustix::process::{Resource as Raw, getrlimit};

use super::cgroup::Groups;

/// A resource that the system limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resource {
    /// The resource is open files of the process.
    Files,
    /// The resource is processes and threads of the user.
    UserTasks,
    /// The resource is processes and threads of a control group; the file sets the limit.
    GroupTasks(PathBuf),
    /// The resource is address space of the process, in bytes.
    AddressSpace,
    /// The resource is private writable memory of the process, in bytes.
    Data,
    /// The resource is locked memory of the user, in bytes.
    LockedMemory,
}

/// The error for a limit that is too low. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: raise {}", self.shortage(), resource.cure())]
pub struct LimitReached {
    /// The resource that is limited.
    pub(super) resource: Resource,
    /// The limit, in the resource's unit.
    pub(super) now: u64,
    /// The lowest limit with which the failed attempt would succeed.
    pub(super) needed: u64,
}

impl LimitReached {
    /// A text with the limit and the need, without the cure.
    pub(super) fn shortage(&self) -> String {
        let Self {
            resource,
            now,
            needed,
        } = self;
        let (name, unit) = resource.name();
        format!("the limit of {name} is {now}{unit} and {needed} are needed")
    }
}

impl Resource {
    /// The resource's name, and its unit if the name is not the unit.
    fn name(&self) -> (&'static str, &'static str) {
        match self {
            Self::Files => ("open files", ""),
            Self::UserTasks => ("this user's processes and threads", ""),
            Self::GroupTasks(_) => ("the control group's processes and threads", ""),
            Self::AddressSpace => ("address space", " bytes"),
            Self::Data => ("data", " bytes"),
            Self::LockedMemory => ("this user's locked memory", " bytes"),
        }
    }

    fn cure(&self) -> Cure<'_> {
        Cure(self)
    }

    fn raw(&self) -> Option<Raw> {
        match self {
            Self::Files => Some(Raw::Nofile),
            Self::UserTasks => Some(Raw::Nproc),
            Self::GroupTasks(_) => None,
            Self::AddressSpace => Some(Raw::As),
            Self::Data => Some(Raw::Data),
            Self::LockedMemory => Some(Raw::Memlock),
        }
    }

    /// The soft limit, which is the one that applies; `None` is no limit.
    pub(super) fn limit(&self) -> Option<u64> {
        getrlimit(self.raw()?).current
    }
}

/// The text that says where a limit is raised.
struct Cure<'a>(&'a Resource);

impl fmt::Display for Cure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Resource::Files => "RLIMIT_NOFILE (ulimit -n, LimitNOFILE=)",
            Resource::UserTasks => "RLIMIT_NPROC (ulimit -u, LimitNPROC=)",
            Resource::GroupTasks(file) => return write!(f, "{} (TasksMax=)", file.display()),
            Resource::AddressSpace => "RLIMIT_AS (ulimit -v, LimitAS=)",
            Resource::Data => "RLIMIT_DATA (ulimit -d, LimitDATA=)",
            Resource::LockedMemory => "RLIMIT_MEMLOCK (ulimit -l, LimitMEMLOCK=)",
        })
    }
}

/// Checks whether `more` files can be opened. It succeeds if `/proc` cannot be read, or if opening fails for another
/// reason than the process's limit: then the program finds out when it opens them.
///
/// # Errors
/// [`LimitReached`] if the process's limit is too low.
pub fn room_for_files(more: u64) -> Result<(), LimitReached> {
    let first = match fs::File::open("/dev/null") {
        Ok(first) => first,
        Err(error) if error.raw_os_error() == Some(libc::EMFILE) => return short_of_files(0, more),
        // There is no such file where the root is that of a container; then nothing is known.
        Err(_) => return Ok(()),
    };
    let mut taken = Vec::new();
    for opened in 1..more {
        match rustix::io::fcntl_dupfd_cloexec(&first, 0) {
            Ok(file) => taken.push(file),
            Err(rustix::io::Errno::MFILE) => return short_of_files(opened, more),
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}

fn short_of_files(opened: u64, more: u64) -> Result<(), LimitReached> {
    let Some(now) = Resource::Files.limit() else {
        return Ok(());
    };
    Err(LimitReached {
        resource: Resource::Files,
        now,
        needed: now + (more - opened),
    })
}

/// Number of files that can still be opened, counted up to `most`.
#[must_use]
pub fn files_left(most: u64) -> u64 {
    match room_for_files(most) {
        Ok(()) => most,
        Err(short) => most.saturating_sub(short.needed - short.now),
    }
}

/// Checks whether blocks of these many bytes can be allocated, and `mapped_bytes` mapped, all at once. Nothing is
/// touched, so this costs address space only, and the allocator keeps what it reserves for it. It always succeeds if
/// memory is not limited.
///
/// # Errors
/// [`LimitReached`] if the limit of address space or of data is too low.
pub fn room_for_memory(blocks_bytes: &[usize], mapped_bytes: u64) -> Result<(), LimitReached> {
    let Some(resource) = memory_limit() else {
        return Ok(());
    };
    let now = resource.limit().unwrap_or(u64::MAX);
    let short = |missing: u64| LimitReached {
        resource: resource.clone(),
        now,
        needed: now.saturating_add(missing).saturating_add(GRAIN_BYTES),
    };
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    for (allocated, &bytes) in blocks_bytes.iter().enumerate() {
        let mut block = Vec::new();
        if block.try_reserve_exact(bytes).is_err() || blocks.try_reserve(1).is_err() {
            let left = blocks_bytes[allocated..].iter().map(|&bytes| bytes as u64);
            return Err(short(left.fold(mapped_bytes, u64::saturating_add)));
        }
        blocks.push(block);
    }
    let mut mapped = Vec::new();
    for left in pieces(mapped_bytes) {
        match MmapMut::map_anon(MAPPED_PIECE_BYTES) {
            Ok(piece) => mapped.push(piece),
            Err(_) => return Err(short(left)),
        }
    }
    Ok(())
}

/// The accuracy of the missing amount, in bytes. The allocator mimalloc reserves this much at once if it can, and
/// part of that may not be what was asked for.
const GRAIN_BYTES: u64 = 128 << 20;
/// Bytes of a mapped piece: small enough to know well how much is missing, large enough that pieces are few.
const MAPPED_PIECE_BYTES: usize = 8 << 20;

/// Iterates over the bytes that are still to be mapped before each piece.
fn pieces(bytes: u64) -> impl Iterator<Item = u64> {
    let piece = MAPPED_PIECE_BYTES as u64;
    (0..bytes.div_ceil(piece)).map(move |done| bytes - done * piece)
}

/// The resource whose limit of memory is lower, if there is a limit.
fn memory_limit() -> Option<Resource> {
    let limited = [Resource::AddressSpace, Resource::Data];
    let limited = limited.into_iter().filter(|it| it.limit().is_some());
    limited.min_by_key(Resource::limit)
}

/// Number of bytes that the process may still map, if it has a limit of its own.
#[must_use]
pub fn memory_left_bytes() -> Option<u64> {
    let limit = memory_limit()?.limit()?;
    // The first field is the number of pages of address space (proc_pid_statm(5)).
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').next()?.parse().ok()?;
    Some(limit.saturating_sub(pages * rustix::param::page_size() as u64))
}

/// Checks whether a program has room to begin at all, before it allocates for the first time, and without allocating.
/// If there is no room, it prints one line to standard error.
#[must_use]
pub fn has_room_to_begin() -> bool {
    let Some(resource) = memory_limit() else {
        return true;
    };
    let Err(_) = MmapMut::map_anon(BEGIN_BYTES) else {
        return true;
    };
    let now = resource.limit().unwrap_or(0);
    let short = LimitReached {
        resource,
        now,
        needed: now.saturating_add(BEGIN_BYTES as u64),
    };
    let mut line = [0; 512];
    let mut rest = &mut line[..];
    let _ = writeln!(rest, "error: {short}");
    let left = rest.len();
    let _ = rustix::io::write(io::stderr(), &line[..line.len() - left]);
    false
}

/// Bytes that reading a command line takes, with a margin.
const BEGIN_BYTES: usize = 16 << 20;

/// Limits the C library's own allocator, which a thread touches when it starts, to one pool. Otherwise it reserves 64
/// MiB of address space for each thread, which nothing else can use. Does nothing if memory is not limited.
#[allow(unsafe_code)]
pub fn spare_address_space() {
    #[cfg(target_env = "gnu")]
    if memory_limit().is_some() {
        // SAFETY: sets a number inside the C library (mallopt(3)); may be called at any time from any thread.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, 1);
        }
    }
}

/// The limit that prevented the start of a thread, where `missing` threads are still to be started.
#[must_use]
pub fn in_the_way_of_threads(error: &io::Error, missing: u64) -> Option<LimitReached> {
    if error.raw_os_error() != Some(libc::EAGAIN) {
        return None;
    }
    let groups = Groups::of_this_process();
    if let Some(left) = groups.tasks_left()
        && left.most == 0
    {
        let now = groups.tasks_max(&left.file)?;
        return Some(LimitReached {
            resource: Resource::GroupTasks(left.file),
            now,
            needed: now + missing,
        });
    }
    let now = Resource::UserTasks.limit()?;
    let tasks = tasks_of_this_user();
    (tasks >= now).then_some(LimitReached {
        resource: Resource::UserTasks,
        now,
        needed: tasks + missing,
    })
}

/// Number of threads of all visible processes of the user (`Uid:` and `Threads:` of proc_pid_status(5)).
fn tasks_of_this_user() -> u64 {
    let user = rustix::process::getuid().as_raw().to_string();
    let Ok(processes) = fs::read_dir("/proc") else {
        return 0;
    };
    let threads = processes.flatten().filter_map(|process| {
        // Only numbers are processes: `self` would count this one twice.
        process.file_name().to_str()?.parse::<u32>().ok()?;
        let status = fs::read_to_string(process.path().join("status")).ok()?;
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name))?;
            value.split_whitespace().next()
        };
        let is_ours = field("Uid:")? == user;
        is_ours.then(|| field("Threads:")?.parse::<u64>().ok())?
    });
    threads.sum()
}
