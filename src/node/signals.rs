//! Signals of a node that is a program of its own, and what each does.
//!
//! | signal | what it does |
//! |---|---|
//! | `TERM`, `INT`, `QUIT`, `PWR`, `XCPU` | the node ends in order, with code 0 |
//! | one of them again, half a second later or more | the process ends at once, with code 128 + its number: what was counted last may be lost |
//! | one of them before the node serves | the process ends at once, with code 0: nothing was taken |
//! | `HUP` | the configuration, rules and keys are read again, and taken over as `node/reload.rs` says |
//! | `USR1`, `USR2`, `ALRM`, `VTALRM`, `PROF`, `IO`, `STKFLT`, `XFSZ`, `RTMIN` to `RTMAX` | nothing |
//! | `PIPE`, `CHLD`, `URG`, `WINCH`, `CONT`; `TSTP`, `TTIN`, `TTOU` | as everywhere: nothing, or the process stands still until `CONT` |
//! | `ILL`, `TRAP`, `ABRT`, `BUS`, `FPE`, `SEGV`, `SYS` | the process ends at once: they stand for its own faults |
//! | `KILL`, `STOP`, and 32 and 33, which are the C library's own | nobody can take them |
//!
//! signal(7), <https://man7.org/linux/man-pages/man7/signal.7.html>.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use libc::c_int;
use signal_hook::iterator::{Handle, Signals as Coming};
use signal_hook::low_level;
use tracing::{info, warn};

use super::crew::{Crew, Ending, Part};
use super::reload::{Reloader, Running};
use super::supervisor::Supervisor;
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
    supervisor: Supervisor,
    phase: Arc<Mutex<Phase>>,
    running: Arc<OnceLock<Running>>,
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
    pub(super) fn start(
        crew: &Crew,
        reloader: Option<Reloader>,
        supervisor: Supervisor,
    ) -> io::Result<Self> {
        let real_time = libc::SIGRTMIN()..=libc::SIGRTMAX();
        let named = ENDING.into_iter().chain([libc::SIGHUP]).chain(IGNORED);
        Self::taking(crew, named.chain(real_time), reloader, supervisor)
    }

    fn taking(
        crew: &Crew,
        signals: impl Iterator<Item = c_int>,
        reloader: Option<Reloader>,
        supervisor: Supervisor,
    ) -> io::Result<Self> {
        let mut coming = Coming::new(signals)?;
        let handle = coming.handle();
        let phase = Arc::new(Mutex::new(Phase::Starting));
        let running = Arc::new(OnceLock::new());
        let mut taker = Taker {
            running: Arc::clone(&running),
            crew: crew.clone(),
            phase: Arc::clone(&phase),
            reloader,
            supervisor: supervisor.clone(),
            said: 0,
        };
        let take_all = move || coming.forever().for_each(|signal| taker.take(signal));
        let thread = crew.thread(Part::Signals, "rmbd-signals".to_owned(), take_all)?;
        Ok(Self {
            crew: crew.clone(),
            supervisor,
            phase,
            running,
            handle,
            thread: Some(thread),
        })
    }

    /// Handles no signals, for tests, whose process does not belong to the node.
    #[cfg(test)]
    pub(super) fn none(crew: &Crew, supervisor: Supervisor) -> io::Result<Self> {
        Self::taking(crew, std::iter::empty(), None, supervisor)
    }

    /// Who is told how the node is.
    pub(super) fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// Notes that the node serves: now there is something to lose, and a signal to end leads to an end in order. From
    /// now on a reload changes something of it.
    pub(super) fn serve(&self, running: Running) {
        // A node serves once.
        let _ = self.running.set(running);
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
    running: Arc<OnceLock<Running>>,
    /// Reads the configuration file again, if the node has one.
    reloader: Option<Reloader>,
    supervisor: Supervisor,
    /// A bit for each signal that was reported to do nothing.
    said: u128,
}

impl Taker {
    fn take(&mut self, signal: c_int) {
        let name = name(signal);
        match effect(signal) {
            Effect::End => self.end(signal, name),
            Effect::Reload => self.reload(&name),
            Effect::Nothing => {
                let bit = 1_u128 << (signal & 127);
                if self.said & bit == 0 {
                    info!("{name} does nothing (said once)");
                }
                self.said |= bit;
            }
        }
    }

    /// The supervisor waits for a reload's end, whether or not there is anything to reload.
    fn reload(&mut self, name: &str) {
        // Before the node serves, the message that a reload is over would say that it does.
        let is_serving = matches!(*lock(&self.phase), Phase::Serving);
        if is_serving {
            self.supervisor.reloading();
        }
        match &mut self.reloader {
            Some(reloader) => reloader.reload(name, self.running.get()),
            None => info!(
                "{name}: there is nothing to reload without --config, --limits or --cluster-key-file"
            ),
        }
        if is_serving {
            self.supervisor.reloaded();
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
