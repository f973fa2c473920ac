//! The supervisor of a node that is a program, such as systemd: it is told how the node is (sd_notify(3)), and ends
//! one that hangs.
//!
//! A thread of its own asks the control thread and every data thread whether they still come round, eight times in the
//! time that the supervisor waits. It feeds the watchdog when all have answered within half of that time. So a node of
//! which one thread hangs is ended and started again, although its other threads go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::sync::Notify;
use tracing::{info, warn};

use super::crew::{Crew, Part};
use super::error::{NodeError, system};
use rmbd_io::Ping;

/// Looks at answers in the time that the supervisor waits.
const LOOKS: u32 = 8;

/// What tells the supervisor.
type Tell = dyn Fn(&[NotifyState<'_>]) -> std::io::Result<()> + Send + Sync;

/// The way to the supervisor, if there is one.
#[derive(Clone, Default)]
pub(super) struct Supervisor {
    tell: Option<Arc<Tell>>,
    /// Time without food after which it ends the process.
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// The supervisor that the environment names (`NOTIFY_SOCKET`, `WATCHDOG_USEC`), or nobody.
    pub(super) fn of_environment() -> Self {
        if std::env::var_os("NOTIFY_SOCKET").is_none_or(|socket| socket.is_empty()) {
            return Self::default();
        }
        Self {
            tell: Some(Arc::new(sd_notify::notify)),
            // A time of which an eighth is no time cannot be kept.
            watchdog: sd_notify::watchdog_enabled().filter(|time| *time / LOOKS > Duration::ZERO),
        }
    }

    /// The node serves; the line says how.
    pub(super) fn ready(&self, line: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(line)]);
    }

    /// The configuration is read again, until [`reloaded`](Self::reloaded).
    pub(super) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(error) => warn!("the supervisor isn't told of the reload: {error}"),
        }
    }

    /// The reload is over.
    pub(super) fn reloaded(&self) {
        self.tell(&[NotifyState::Ready]);
    }

    /// The node ends.
    pub(super) fn stopping(&self) {
        self.tell(&[
            NotifyState::Stopping,
            NotifyState::Status("the node ends, and brings its counts to the others"),
        ]);
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        let told = self.tell.as_ref().map_or(Ok(()), |tell| tell(states));
        if let Err(error) = told {
            warn!("the supervisor isn't told how the node is: {error}");
        }
    }

    /// Questions to so many data threads, where somebody waits for answers.
    ///
    /// # Errors
    /// Fails if the process has no file descriptor left.
    pub(super) fn roll_call(&self, threads: usize) -> Result<Option<RollCall>, NodeError> {
        let Some(watchdog) = self.watchdog else {
            return Ok(None);
        };
        let data = (0..threads).map(|_| Ping::new()).collect::<Result<_, _>>();
        Ok(Some(RollCall {
            watchdog,
            data: data.map_err(system("making the watchdog's questions"))?,
            control: Arc::default(),
        }))
    }

    /// Starts the thread that feeds the watchdog. `line` is the status while all is well.
    ///
    /// # Errors
    /// Fails if the system gives no thread.
    pub(super) fn watch(
        &self,
        crew: &Crew,
        roll_call: RollCall,
        line: String,
    ) -> Result<Watchdog, NodeError> {
        let (end, ends) = channel();
        let (supervisor, watched) = (self.clone(), crew.clone());
        let run = move || {
            let clock = Instant::now();
            let mut feeding = Feeding::new(roll_call.watchdog);
            let look = roll_call.watchdog / LOOKS;
            roll_call.ask();
            // Threads that end answer no more, and a supervisor's patience with an end is another one.
            while ends.recv_timeout(look) == Err(RecvTimeoutError::Timeout) && !watched.is_ending()
            {
                let silent = roll_call.silent();
                let step = feeding.look(clock.elapsed(), silent.is_empty());
                supervisor.take(step, &silent, &line);
                if step != Step::Wait {
                    roll_call.ask();
                }
            }
        };
        let thread = crew.thread(Part::Watchdog, "rmbd-watchdog".to_owned(), run);
        Ok(Watchdog {
            end,
            thread: thread.map_err(system("starting the thread of the watchdog"))?,
        })
    }

    fn take(&self, step: Step, silent: &[String], line: &str) {
        match step {
            Step::Wait => {}
            Step::Feed { is_news: false } => self.tell(&[NotifyState::Watchdog]),
            Step::Feed { is_news: true } => {
                info!("all threads answer the watchdog again");
                self.tell(&[NotifyState::Watchdog, NotifyState::Status(line)]);
            }
            Step::Starve => {
                let silent = match silent {
                    // They answered, too late.
                    [] => "a thread".to_owned(),
                    silent => silent.join(", "),
                };
                let text = format!("{silent} did not answer the watchdog in time: it isn't fed");
                warn!("{text}");
                self.tell(&[NotifyState::Status(&text)]);
            }
        }
    }
}

/// The thread of the watchdog, which ends when [`end`](Self::end) is called.
pub(super) struct Watchdog {
    /// Nothing is ever sent: its drop is the signal.
    end: Sender<()>,
    thread: JoinHandle<()>,
}

impl Watchdog {
    /// Ends the thread, and waits for that.
    pub(super) fn end(self) {
        drop(self.end);
        // The crew knows about a panic.
        let _ = self.thread.join();
    }
}

/// The questions to all threads that must answer.
#[derive(Clone)]
pub(super) struct RollCall {
    watchdog: Duration,
    data: Vec<Ping>,
    control: Arc<ControlPing>,
}

impl RollCall {
    /// The questions to one data thread.
    pub(super) fn data(&self, thread: usize) -> Option<&Ping> {
        self.data.get(thread)
    }

    /// The questions to the control thread.
    pub(super) fn control(&self) -> &Arc<ControlPing> {
        &self.control
    }

    fn ask(&self) {
        self.control.ask();
        self.data.iter().for_each(Ping::ask);
    }

    /// The threads that have not answered.
    fn silent(&self) -> Vec<String> {
        let control = (!self.control.is_answered()).then(|| "rmbd-control".to_owned());
        let data = self.data.iter().enumerate();
        let data = data.filter(|(_, ping)| !ping.is_answered());
        control
            .into_iter()
            .chain(data.map(|(thread, _)| format!("rmbd-data-{thread}")))
            .collect()
    }
}

/// Questions to the control thread. Each number stands for itself, so access is relaxed.
#[derive(Default)]
pub(super) struct ControlPing {
    asked: AtomicU64,
    answered: AtomicU64,
    call: Notify,
}

impl ControlPing {
    fn ask(&self) {
        self.asked.fetch_add(1, Relaxed);
        self.call.notify_one();
    }

    fn is_answered(&self) -> bool {
        self.answered.load(Relaxed) == self.asked.load(Relaxed)
    }

    /// Answers all questions, for ever.
    pub(super) async fn answer_all(&self) {
        loop {
            self.call.notified().await;
            self.answered.store(self.asked.load(Relaxed), Relaxed);
        }
    }
}

/// When the watchdog is fed. Time is that of any clock.
struct Feeding {
    /// Time within which all must have answered.
    patience: Duration,
    asked_at: Duration,
    is_starving: bool,
}

/// What follows of a look. After all but [`Wait`](Self::Wait) the threads are asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Wait,
    /// All have answered in time; it is news after they had not.
    Feed {
        is_news: bool,
    },
    /// Time is over, also where all have answered meanwhile: whoever looks was held up, too, or they came late.
    Starve,
}

impl Feeding {
    /// The threads were asked at the clock's zero.
    fn new(watchdog: Duration) -> Self {
        Self {
            patience: watchdog / 2,
            asked_at: Duration::ZERO,
            is_starving: false,
        }
    }

    fn look(&mut self, now: Duration, all_answered: bool) -> Step {
        let is_late = now.saturating_sub(self.asked_at) > self.patience;
        if !is_late && !all_answered {
            return Step::Wait;
        }
        self.asked_at = now;
        let was_starving = std::mem::replace(&mut self.is_starving, is_late);
        match is_late {
            true => Step::Starve,
            false => Step::Feed {
                is_news: was_starving,
            },
        }
    }
}

#[cfg(test)]
pub(super) mod testing {
    use std::sync::Mutex;

    use super::*;

    /// A supervisor that writes down what it is told.
    pub(in crate::node) fn noting(watchdog: Duration) -> (Supervisor, Arc<Mutex<Vec<String>>>) {
        let notes = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&notes);
        let tell = move |states: &[NotifyState<'_>]| {
            let mut told = told.lock().expect("nobody panics with it");
            told.extend(states.iter().map(ToString::to_string));
            Ok(())
        };
        let supervisor = Supervisor {
            tell: Some(Arc::new(tell)),
            watchdog: Some(watchdog),
        };
        (supervisor, notes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_within_half_of_the_time_feed() {
        let fed = |is_news| Step::Feed { is_news };
        let mut feeding = Feeding::new(Duration::from_secs(8));
        // Seconds, whether all have answered by then, and what follows.
        for (at_s, all_answered, step) in [
            (1, true, fed(false)),
            (2, false, Step::Wait),
            (5, true, fed(false)),
            (8, false, Step::Wait),
            (9, false, Step::Wait),
            (10, false, Step::Starve),
            (14, false, Step::Wait),
            (15, false, Step::Starve),
            (16, true, fed(true)),
            (17, true, fed(false)),
            // All have answered, and whoever looks was held up.
            (22, true, Step::Starve),
            (23, true, fed(true)),
        ] {
            let now = Duration::from_secs(at_s);
            assert_eq!(feeding.look(now, all_answered), step, "{at_s}");
        }
    }

    #[test]
    fn who_is_silent_is_named() {
        let (supervisor, _) = testing::noting(Duration::from_secs(1));
        let roll_call = supervisor.roll_call(2).ok().flatten();
        let roll_call = roll_call.expect("there is a watchdog");
        assert!(roll_call.silent().is_empty());
        roll_call.ask();
        let all = ["rmbd-control", "rmbd-data-0", "rmbd-data-1"];
        assert_eq!(roll_call.silent(), all);
    }
}
