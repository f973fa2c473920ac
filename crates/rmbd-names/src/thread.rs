//! Look-ups on threads of their own, so that a slow resolver delays nothing else.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::Duration;

use super::{HostPort, LookupError, Resolver};

/// Largest number of threads of this process that look names up at the same time. A resolver that hangs does so for
/// all of them, and more threads would not help.
pub const LOOKUP_THREADS_MAX: usize = 64;

static THREADS: Threads = Threads(AtomicUsize::new(0));

/// The outcome of a look-up: at least one address, or the error.
pub type Lookup = Result<Vec<SocketAddr>, LookupError>;

/// The work of a thread that looks names up.
pub type Work = Box<dyn FnOnce() + Send>;

/// Looks names up one after the other on a thread of its own, which hands their [`Lookup`]s to `done` in the same
/// order. Nothing waits for that thread, not even the end of the process.
///
/// # Errors
/// Fails if there is no thread; `done` is dropped then.
pub fn look_up_on_thread(
    resolver: &Resolver,
    names: Vec<HostPort>,
    done: impl FnOnce(Vec<Lookup>) + Send + 'static,
) -> io::Result<()> {
    look_up_by(start_thread, resolver, names, done)
}

/// Does the same on a thread that `start` starts, for a program that watches its threads.
///
/// # Errors
/// The error of `start`, or that too many look-ups are under way; `done` is dropped then.
pub(super) fn look_up_by(
    start: impl FnOnce(Work) -> io::Result<()>,
    resolver: &Resolver,
    names: Vec<HostPort>,
    done: impl FnOnce(Vec<Lookup>) + Send + 'static,
) -> io::Result<()> {
    look_up_on(&THREADS, start, resolver, names, done)
}

fn look_up_on(
    threads: &'static Threads,
    start: impl FnOnce(Work) -> io::Result<()>,
    resolver: &Resolver,
    names: Vec<HostPort>,
    done: impl FnOnce(Vec<Lookup>) + Send + 'static,
) -> io::Result<()> {
    let place = threads.take()?;
    let resolver = resolver.clone();
    let look = move || {
        let found = names.iter().map(|name| resolver.look_up(name)).collect();
        drop(place);
        done(found);
    };
    start(Box::new(look))
}

fn start_thread(work: Work) -> io::Result<()> {
    let thread = std::thread::Builder::new().name("rmbd-names".to_owned());
    thread.spawn(work).map(drop)
}

/// Looks a name up, and waits for `patience` at most.
///
/// # Errors
/// Like [`Resolver::look_up`]; no thread; or no answer in time.
pub fn look_up_within(resolver: &Resolver, name: &HostPort, patience: Duration) -> Lookup {
    look_up_within_by(start_thread, resolver, name, patience)
}

/// Does the same on a thread that `start` starts, like [`look_up_by`].
///
/// # Errors
/// Like [`look_up_within`].
pub(super) fn look_up_within_by(
    start: impl FnOnce(Work) -> io::Result<()>,
    resolver: &Resolver,
    name: &HostPort,
    patience: Duration,
) -> Lookup {
    if let Some(address) = name.literal() {
        return Ok(vec![address]);
    }
    let failed = |source| LookupError::new(name, source);
    let (send, found) = mpsc::channel();
    let done = move |found| {
        let _ = send.send(found);
    };
    look_up_by(start, resolver, vec![name.clone()], done).map_err(failed)?;
    let found: Option<Vec<Lookup>> = found.recv_timeout(patience).ok();
    (found.and_then(|found| found.into_iter().next())).unwrap_or_else(|| {
        let text = format!("no answer in {} ms", patience.as_millis());
        Err(failed(io::Error::new(io::ErrorKind::TimedOut, text)))
    })
}

/// The number of look-up threads that run.
struct Threads(AtomicUsize);

/// The right to run one of these threads.
struct Place(&'static Threads);

impl Threads {
    fn take(&'static self) -> io::Result<Place> {
        // Relaxed: this is only a count, and nothing else is ordered by it.
        let taken = self.0.fetch_update(Relaxed, Relaxed, |running| {
            (running < LOOKUP_THREADS_MAX).then_some(running + 1)
        });
        let full = |_| {
            let text = format!("{LOOKUP_THREADS_MAX} names are being looked up already");
            io::Error::new(io::ErrorKind::ResourceBusy, text)
        };
        taken.map(|_| Place(self)).map_err(full)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn name(text: &str) -> HostPort {
        text.parse().unwrap()
    }

    #[test]
    fn an_answer_is_waited_for_so_long_and_no_longer() {
        let held = Arc::new(Mutex::new(()));
        let hold = held.lock().unwrap();
        let slow = hanging(&held);
        let text = look_up_within(&slow, &name("slow:7"), Duration::from_millis(1))
            .unwrap_err()
            .to_string();
        assert_eq!(text, "cannot look up slow:7: no answer in 1 ms");
        drop(hold);
        let found = look_up_within(&slow, &name("slow:7"), Duration::from_secs(30)).unwrap();
        assert_eq!(found, [([127, 0, 0, 1], 7).into()]);
    }

    #[test]
    fn there_are_so_many_threads_and_no_more() {
        static OURS: Threads = Threads(AtomicUsize::new(0));
        let held = Arc::new(Mutex::new(()));
        let hold = held.lock().unwrap();
        let slow = hanging(&held);
        let (send, found) = mpsc::channel();
        let look_up = || {
            let send = send.clone();
            let done = move |found| send.send(found).unwrap();
            look_up_on(&OURS, start_thread, &slow, vec![name("slow:7")], done)
        };
        for _ in 0..LOOKUP_THREADS_MAX {
            look_up().unwrap();
        }
        let text = look_up().unwrap_err().to_string();
        assert!(text.contains("being looked up already"), "{text}");
        drop(hold);
        for _ in 0..LOOKUP_THREADS_MAX {
            assert!(found.recv().unwrap()[0].is_ok());
        }
        look_up().unwrap();
    }

    /// A resolver that answers once the lock is free.
    fn hanging(held: &Arc<Mutex<()>>) -> Resolver {
        let held = Arc::clone(held);
        Resolver::new(move |name| {
            drop(held.lock());
            Ok(vec![([127, 0, 0, 1], name.port).into()])
        })
    }
}
