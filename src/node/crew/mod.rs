//! The crew of a node: it starts every thread and every task of the node, so that no end of one goes unnoticed.
//!
//! *Standing* parts run as long as the node does. If one ends by a return or a panic without having been told to, the
//! node's health is red from then on, and the node ends in order with an error that names the part: it says good-bye
//! and hands over what can be handed over. A node that has lost a data thread would lose the datagrams that the
//! kernel steers to that thread's socket, and one that has lost its cluster would fall behind. A node that is gone is
//! seen to be gone, and its supervisor starts it again. *Passing* parts end when they are done. If one panics, nobody
//! knows what it left undone, so the node ends in the same way.
//!
//! Connections of HTTP are tasks, too. A panic in one turns health red and ends nothing, since a stranger may have
//! caused it ([`Crew::redden`]).

#[cfg(test)]
mod faults;

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;
use tracing::error;

#[cfg(test)]
pub(super) use self::faults::Fault;
use super::NodeError;
#[cfg(test)]
use crate::snapshots::testing::Trouble;
use rmbd_io::Stop;
use rmbd_names::{Lookups, Resolver};

/// Lists the parts: the name of each, and whether it stands as long as the node does.
macro_rules! parts {
    ($($(#[doc = $doc:literal])* $part:ident, $name:literal, $stands:literal;)*) => {
        /// A kind of thread or task.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Part {
            $($(#[doc = $doc])* $part,)*
        }

        impl Part {
            #[cfg(test)]
            pub(super) const ALL: &[Self] = &[$(Self::$part,)*];

            pub(super) fn name(self) -> &'static str {
                match self {
                    $(Self::$part => $name,)*
                }
            }

            pub(super) fn stands(self) -> bool {
                match self {
                    $(Self::$part => $stands,)*
                }
            }
        }
    };
}

parts! {
    /// A data thread, of which there is one for each socket.
    Data, "a data thread", true;
    /// The thread that runs all tasks.
    Control, "the control thread", true;
    /// The task for rare messages and legacy peers.
    Rounds, "the task for legacy peers", true;
    /// The task that goes over the cells if there is no cluster.
    Passes, "the task that goes over the cells", true;
    /// The task that samples what sketches err by.
    Sampling, "the task that samples errors", true;
    /// The task that lists the largest keys.
    Listing, "the task that lists the largest keys", true;
    /// The task of the cluster's socket.
    Cluster, "the task of the cluster", true;
    /// The thread that answers over HTTP.
    Http, "the thread of HTTP", true;
    /// The thread that handles signals.
    Signals, "the thread for signals", true;
    /// The thread that feeds the watchdog of a supervisor.
    Watchdog, "the thread of the watchdog", true;
    /// The thread that writes snapshot files.
    Snapshots, "the thread for snapshot files", true;
    /// A connection of HTTP.
    Connection, "a connection of HTTP", false;
    /// A thread that looks up a name of `--join` or `--advertise`.
    SeedLookup, "the look-up of --join or --advertise", false;
    /// A thread that looks up the name of a `peer` order.
    PeerLookup, "the look-up of a peer's name", false;
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a node ends.
#[derive(Debug)]
pub(super) enum Ending {
    Asked,
    Signal(String),
    /// A part failed; the crew knows which.
    Failed,
}

/// The way in which a part ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Return,
    Panic,
}

/// A handle of the crew, which all parts share that start others or ask how the node is.
#[derive(Clone)]
pub(super) struct Crew(Arc<Inner>);

struct Inner {
    /// The signal that ends the data threads.
    stop: Stop,
    endings: mpsc::UnboundedSender<Ending>,
    /// Whether the end was begun: from then on a part that returns was told to.
    is_ending: AtomicBool,
    /// When the end was begun.
    ending_since: OnceLock<Instant>,
    failure: Mutex<Failure>,
    #[cfg(test)]
    fault: Option<Fault>,
    #[cfg(test)]
    trouble: Option<Arc<Trouble>>,
}

#[derive(Default)]
struct Failure {
    /// The failure that turned health red first, in one line.
    text: Option<String>,
    /// The error that ends the node.
    error: Option<NodeError>,
}

impl Crew {
    /// A crew, and the receiver of reasons to end the node: a request or a failure.
    pub(super) fn new() -> io::Result<(Self, mpsc::UnboundedReceiver<Ending>)> {
        Self::make(
            #[cfg(test)]
            None,
            #[cfg(test)]
            None,
        )
    }

    #[cfg(test)]
    pub(super) fn with(fault: Fault) -> io::Result<(Self, mpsc::UnboundedReceiver<Ending>)> {
        Self::make(Some(fault), None)
    }

    /// A crew of a node whose disk makes trouble.
    #[cfg(test)]
    pub(super) fn with_trouble(
        trouble: Arc<Trouble>,
    ) -> io::Result<(Self, mpsc::UnboundedReceiver<Ending>)> {
        Self::make(None, Some(trouble))
    }

    #[cfg(test)]
    pub(super) fn trouble(&self) -> Option<Arc<Trouble>> {
        self.0.trouble.clone()
    }

    fn make(
        #[cfg(test)] fault: Option<Fault>,
        #[cfg(test)] trouble: Option<Arc<Trouble>>,
    ) -> io::Result<(Self, mpsc::UnboundedReceiver<Ending>)> {
        let (endings, heard) = mpsc::unbounded_channel();
        let inner = Inner {
            stop: Stop::new()?,
            endings,
            is_ending: AtomicBool::new(false),
            ending_since: OnceLock::new(),
            failure: Mutex::default(),
            #[cfg(test)]
            fault,
            #[cfg(test)]
            trouble,
        };
        Ok((Self(Arc::new(inner)), heard))
    }

    /// The signal that ends the data threads.
    pub(super) fn stop(&self) -> &Stop {
        &self.0.stop
    }

    /// Asks for the node's end.
    pub(super) fn end(&self, ending: Ending) {
        // If there is no receiver any more, the node has ended in another way.
        let _ = self.0.endings.send(ending);
    }

    /// Begins the end of the node; data threads end first.
    pub(super) fn begin_end(&self) {
        self.ending_since();
        // Relaxed: a thread that is stopped sees the flag by way of the stop signal.
        self.0.is_ending.store(true, Relaxed);
        self.0.stop.give();
    }

    /// When the end was begun: now, if it was not yet.
    pub(super) fn ending_since(&self) -> Instant {
        *self.0.ending_since.get_or_init(Instant::now)
    }

    /// Whether the end was begun.
    pub(super) fn is_ending(&self) -> bool {
        self.0.is_ending.load(Relaxed)
    }

    /// The failure in one line, if there is one.
    pub(super) fn failure(&self) -> Option<String> {
        self.failed().text.clone()
    }

    /// Whether there is an error that ends the node.
    pub(super) fn has_failed(&self) -> bool {
        self.failed().error.is_some()
    }

    /// Takes the error that a node returns when it ends; there is one only once.
    pub(super) fn take_error(&self) -> Option<NodeError> {
        self.failed().error.take()
    }

    /// Turns health red, and ends the node with this error.
    pub(super) fn fail(&self, error: NodeError) {
        let text = error.to_string();
        let mut failed = self.failed();
        failed.text.get_or_insert_with(|| text.clone());
        // Later failures may be consequences of the first one.
        let is_first = failed.error.is_none();
        failed.error.get_or_insert(error);
        drop(failed);
        if is_first {
            error!("{text}; the node ends");
        }
        self.end(Ending::Failed);
    }

    /// Notes and logs an error of the end itself. The node returns it, if there is no earlier one.
    pub(super) fn fail_at_end(&self, error: NodeError) {
        error!("{error}");
        self.failed().error.get_or_insert(error);
    }

    /// Turns health red because this part failed, and ends nothing.
    pub(super) fn redden(&self, part: Part) {
        let error = ended(part, None, How::Panic);
        error!("{error}");
        self.failed().text.get_or_insert_with(|| error.to_string());
    }

    /// Locks the failure. The lock is held for an instant, and nothing can panic meanwhile.
    fn failed(&self) -> MutexGuard<'_, Failure> {
        self.0
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A guard that notices the end of the thread or task that holds it.
    pub(super) fn watch(&self, part: Part) -> Watch {
        Watch {
            crew: self.clone(),
            part,
            thread: None,
        }
    }

    /// Starts a thread.
    ///
    /// # Errors
    /// Fails if the system gives no thread.
    pub(super) fn thread(
        &self,
        part: Part,
        name: String,
        run: impl FnOnce() + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        let (crew, watched_as) = (self.clone(), name.clone());
        std::thread::Builder::new().name(name).spawn(move || {
            // The watch begins here: if the system gives no thread, none has ended.
            let watch = crew.watch_thread(part, watched_as);
            // Faults strike these two parts only after they have begun to work.
            #[cfg(test)]
            if !matches!(part, Part::Data | Part::Control)
                && watch.crew.strikes_thread(part)
                // The last file is written by a thread that was told to end.
                && !(part == Part::Snapshots && watch.crew.is_ending())
            {
                return;
            }
            run();
            drop(watch);
        })
    }

    /// Starts a thread that first gets ready. It is watched from its call of [`Self::watch_thread`] on, and reports
    /// earlier failures to its starter itself.
    ///
    /// # Errors
    /// Fails if the system gives no thread.
    pub(super) fn waiting_thread(
        &self,
        name: String,
        run: impl FnOnce() + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name(name).spawn(run)
    }

    /// Look-ups with this resolver, on threads that are this part.
    pub(super) fn lookups(&self, part: Part, resolver: &Resolver) -> Lookups {
        let crew = self.clone();
        let start = move |work| crew.thread(part, "rmbd-names".to_owned(), work).map(drop);
        Lookups::new(resolver.clone(), start)
    }

    /// A guard that notices the end of a thread that was started by [`Self::waiting_thread`].
    pub(super) fn watch_thread(&self, part: Part, name: String) -> Watch {
        Watch {
            crew: self.clone(),
            part,
            thread: Some(name),
        }
    }

    /// Starts a task on this thread that runs until it is told to end.
    pub(super) fn task<F: Future<Output = ()> + 'static>(
        &self,
        part: Part,
        run: impl FnOnce(Leave) -> F,
    ) -> Task {
        let (end, leave) = oneshot::channel();
        let work = run(Leave(leave));
        let watch = self.watch(part);
        let handle = spawn_local(async move {
            #[cfg(test)]
            watch.crew.clone().unless_struck(part, work).await;
            #[cfg(not(test))]
            work.await;
            drop(watch);
        });
        Task { end, handle }
    }
}

/// A task of the control thread, with the means to end it.
pub(super) struct Task {
    end: oneshot::Sender<()>,
    handle: tokio::task::JoinHandle<()>,
}

impl Task {
    /// Tells the task to end, and waits for that.
    pub(super) async fn end(self) {
        drop(self.end);
        // The crew knows about a panic of the task; the rest of the end goes on.
        let _ = self.handle.await;
    }
}

/// A future that is ready when its task should end.
pub(super) struct Leave(oneshot::Receiver<()>);

impl Future for Leave {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // Nothing is ever sent: the sender's drop is the signal.
        Pin::new(&mut self.0).poll(context).map(drop)
    }
}

/// A guard that is dropped when its thread or task ends, in whatever way.
pub(super) struct Watch {
    crew: Crew,
    part: Part,
    /// The name of the thread.
    thread: Option<String>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let how = match std::thread::panicking() {
            true => How::Panic,
            false if !self.part.stands() || self.crew.is_ending() => return,
            false => How::Return,
        };
        self.crew
            .fail(ended(self.part, self.thread.as_deref(), how));
        if self.part == Part::Control {
            // No other part is left that would begin the end.
            self.crew.begin_end();
        }
    }
}

fn ended(part: Part, thread: Option<&str>, how: How) -> NodeError {
    let part = match thread {
        Some(thread) => format!("{part} ({thread})"),
        None => part.to_string(),
    };
    let how = match how {
        How::Return => "by itself",
        How::Panic => "by a panic",
    };
    NodeError::Ended { part, how }
}
