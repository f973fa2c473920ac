//! The system's limits on this process (getrlimit(2), and its control groups), and which of them is in the way.
//!
//! Room is tried, not worked out: descriptors and memory are taken for a moment and given back. So what counts is
//! what the kernel counts, whatever else the process has.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use memmap2::MmapMut;
use rustix::process::{Resource as Raw, getrlimit};

use super::cgroup::Groups;

/// Something that the system limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resource {
    /// Open files of the process.
    Files,
    /// Processes and threads of the user.
    UserTasks,
    /// Processes and threads of a control group; the file that says how many.
    GroupTasks(PathBuf),
    /// Address space of the process, in bytes.
    AddressSpace,
    /// Private writable memory of the process, in bytes.
    Data,
    /// Locked memory of the user, in bytes.
    LockedMemory,
}

/// A limit that is too low. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: raise {}", self.shortage(), resource.cure())]
pub struct LimitReached {
    /// What is limited.
    pub(super) resource: Resource,
    /// The limit, in the resource's unit.
    pub(super) now: u64,
    /// The lowest limit with which what failed here succeeds.
    pub(super) needed: u64,
}

impl LimitReached {
    /// The limit and what is needed, without the cure.
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
    /// The resource's name, and its unit where the name is not the unit.
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

    /// The soft limit, which is the one that holds; `None` is no limit.
    pub(super) fn limit(&self) -> Option<u64> {
        getrlimit(self.raw()?).current
    }
}

/// Where a limit is raised.
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

/// Whether so many files more can be opened. With `/proc` out of reach, or for another reason than the process's
/// limit, that is left to whoever opens them.
///
/// # Errors
/// [`LimitReached`] where the process's limit is in the way.
pub fn room_for_files(more: u64) -> Result<(), LimitReached> {
    let Ok(first) = fs::File::open("/dev/null") else {
        return short_of_files(0, more);
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

/// How many files can still be opened, counted up to `most`.
#[must_use]
pub fn files_left(most: u64) -> u64 {
    match room_for_files(most) {
        Ok(()) => most,
        Err(short) => most.saturating_sub(short.needed - short.now),
    }
}

/// Whether blocks of these many bytes can be allocated, and `mapped_bytes` mapped, all at once. Nothing is touched, so
/// that it costs address space only; what the allocator reserves for it stays with it. Always so where memory is not
/// limited.
///
/// # Errors
/// [`LimitReached`] where the limit of address space or of data is in the way.
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

/// Of what is missing not more than this is unknown: mimalloc reserves so much at once where it can, of which a part
/// may not be what was asked for.
const GRAIN_BYTES: u64 = 128 << 20;
/// Small enough that what is missing is known well, large enough that they are few.
const MAPPED_PIECE_BYTES: usize = 8 << 20;

/// The bytes that are still to be mapped before each piece.
fn pieces(bytes: u64) -> impl Iterator<Item = u64> {
    let piece = MAPPED_PIECE_BYTES as u64;
    (0..bytes.div_ceil(piece)).map(move |done| bytes - done * piece)
}

/// The limit of memory, if there is one: of two the lower one.
fn memory_limit() -> Option<Resource> {
    let limited = [Resource::AddressSpace, Resource::Data];
    let limited = limited.into_iter().filter(|it| it.limit().is_some());
    limited.min_by_key(Resource::limit)
}

/// Bytes that the process may still map, as far as a limit of its own says so.
#[must_use]
pub fn memory_left_bytes() -> Option<u64> {
    let limit = memory_limit()?.limit()?;
    // First field: pages of address space (proc_pid_statm(5)).
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').next()?.parse().ok()?;
    Some(limit.saturating_sub(pages * rustix::param::page_size() as u64))
}

/// Whether a program may begin at all: before it allocates for the first time, and so without doing it. Where there is
/// no room, says so to standard error in one line.
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

/// What reading a command line takes, and more.
const BEGIN_BYTES: usize = 16 << 20;

/// Keeps the C library's own allocator, which a thread touches when it starts, to one pool. Otherwise it reserves
/// 64 MiB of address space for each thread, which nothing else can use. Does nothing where memory is not limited.
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

/// Which limit kept a thread from being started, where `missing` are still to be started.
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

/// Threads of all processes of the user (`Uid:` and `Threads:` of proc_pid_status(5)), as far as they are seen.
fn tasks_of_this_user() -> u64 {
    let user = rustix::process::getuid().as_raw().to_string();
    let Ok(processes) = fs::read_dir("/proc") else {
        return 0;
    };
    let threads = processes.flatten().filter_map(|process| {
        // Not `self` once more.
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
