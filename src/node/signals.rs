//! Signals of a node that is a program of its own, and what each does.
//!
//! | signal | what it does |
//! |---|---|
//! | `TERM`, `INT`, `QUIT`, `PWR`, `XCPU` | the node ends in order, with code 0 |
//! | one of them again, half a second later or more | the process ends at once, with code 128 + its number: what was counted last may be lost |
//! | one of them before the node serves | the process ends at once, with code 0: nothing was taken |
//! | `HUP` | the configuration file and rules are read again: limits, rules and the log filter are taken over |
//! | `USR1`, `USR2`, `ALRM`, `VTALRM`, `PROF`, `IO`, `STKFLT`, `XFSZ`, `RTMIN` to `RTMAX` | nothing |
//! | `PIPE`, `CHLD`, `URG`, `WINCH`, `CONT`; `TSTP`, `TTIN`, `TTOU` | as everywhere: nothing, or the process stands still until `CONT` |
//! | `ILL`, `TRAP`, `ABRT`, `BUS`, `FPE`, `SEGV`, `SYS` | the process ends at once: they stand for its own faults |
//! | `KILL`, `STOP`, and 32 and 33, which are the C library's own | nobody can take them |
//!
//! signal(7), <https://man7.org/linux/man-pages/man7/signal.7.html>.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use libc::c_int;
use signal_hook::iterator::{Handle, Signals as Coming};
use signal_hook::low_level;
use tracing::{info, warn};

use super::crew::{Crew, Ending, Part};
use super::reload::Reloader;
use rmbd_console as console;

/// A signal to end within this time after another counts as the same signal. One signal may come twice: to the
/// process and, by a wrapper or a terminal, to its group.
const SAME_WITHIN: Duration = Duration::from_millis(500);
/// How long an immediate end waits for the log.
const SHORT_FLUSH: Duration = Duration::from_millis(100);

/// The effect of a signal that the node handles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    End,
    Reload,
    Nothing,
}

const ENDING: [c_int; 5] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGPWR,
    libc::SIGXCPU,
];
const IGNORED: [c_int; 8] = [
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
    libc::SIGSTKFLT,
    libc::SIGXFSZ,
];

/// Handles signals from [`start`](Self::start) on. When it is dropped, signals do nothing any more.
pub(super) struct Signals {
    crew: Crew,
    phase: Arc<Mutex<Phase>>,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// The node has taken no datagrams, so nothing can be lost.
    Starting,
    Serving,
    /// The node has been ending since this moment.
    Ending(Instant),
}

impl Signals {
    /// Handles all signals that this module's table lists as handled.
    pub(super) fn start(crew: &Crew, reloader: Option<Reloader>) -> io::Result<Self> {
        let real_time = libc::SIGRTMIN()..=libc::SIGRTMAX();
        let named = ENDING.into_iter().chain([libc::SIGHUP]).chain(IGNORED);
        Self::taking(crew, named.chain(real_time), reloader)
    }

    fn taking(
        crew: &Crew,
        signals: impl Iterator<Item = c_int>,
        reloader: Option<Reloader>,
    ) -> io::Result<Self> {
        let mut coming = Coming::new(signals)?;
        let handle = coming.handle();
        let phase = Arc::new(Mutex::new(Phase::Starting));
        let mut taker = Taker {
            crew: crew.clone(),
            phase: Arc::clone(&phase),
            reloader,
            said: 0,
        };
        let take_all = move || coming.forever().for_each(|signal| taker.take(signal));
        let thread = crew.thread(Part::Signals, "rmbd-signals".to_owned(), take_all)?;
        Ok(Self {
            crew: crew.clone(),
            phase,
            handle,
            thread: Some(thread),
        })
    }

    /// Handles no signals, for tests, whose process does not belong to the node.
    #[cfg(test)]
    pub(super) fn none(crew: &Crew) -> io::Result<Self> {
        Self::taking(crew, std::iter::empty(), None)
    }

    /// Notes that the node serves: now there is something to lose, and a signal to end leads to an end in order.
    pub(super) fn serve(&self) {
        *lock(&self.phase) = Phase::Serving;
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // The thread ends because it is told to.
        self.crew.begin_end();
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Locks the phase. It is valid even if its holder panicked.
fn lock(phase: &Mutex<Phase>) -> MutexGuard<'_, Phase> {
    phase.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Taker {
    crew: Crew,
    phase: Arc<Mutex<Phase>>,
    /// Reads the configuration file again, if the node has one.
    reloader: Option<Reloader>,
    /// A bit for each signal that was reported to do nothing.
    said: u128,
}

impl Taker {
    fn take(&mut self, signal: c_int) {
        let name = name(signal);
        match effect(signal) {
            Effect::End => self.end(signal, name),
            Effect::Reload => match &mut self.reloader {
                Some(reloader) => reloader.reload(&name),
                None => info!("{name}: there is nothing to reload without --config or --limits"),
            },
            Effect::Nothing => {
                let bit = 1_u128 << (signal & 127);
                if self.said & bit == 0 {
                    info!("{name} does nothing (said once)");
                }
                self.said |= bit;
            }
        }
    }

    fn end(&self, signal: c_int, name: String) {
        // The lock is held during the decision, so that the node begins to serve before or after it.
        let mut phase = lock(&self.phase);
        match *phase {
            Phase::Starting => {
                info!("{name} before the node served: nothing was taken, nothing is lost");
                console::flush(console::LAST_WORDS);
                low_level::exit(0);
            }
            Phase::Serving => {
                *phase = Phase::Ending(Instant::now());
                self.crew.end(Ending::Signal(name));
            }
            Phase::Ending(since) if since.elapsed() < SAME_WITHIN => {}
            Phase::Ending(_) => {
                warn!("{name} once more: ended at once, others may lack what was counted last");
                console::flush(SHORT_FLUSH);
                low_level::exit(128 + signal);
            }
        }
    }
}

fn effect(signal: c_int) -> Effect {
    match signal {
        libc::SIGHUP => Effect::Reload,
        signal if ENDING.contains(&signal) => Effect::End,
        _ => Effect::Nothing,
    }
}

fn name(signal: c_int) -> String {
    let named = low_level::signal_name(signal).map(str::to_owned);
    named.unwrap_or_else(|| format!("signal {signal}"))
}
