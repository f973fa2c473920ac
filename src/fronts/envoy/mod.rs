//! Envoy's rate limit service: rules, and counts of the sketch `envoy` by them.
//!
//! Each descriptor of a request is asked for itself: it meets a rule, or brings a limit, and takes its hits of a
//! window that slides, as long as the limit's unit. What is over its limit consumes nothing. The key is that of
//! [`counter_key`], which clients of other protocols can ask, too.
//!
//! gRPC and JSON are the work of `rmbd-envoy`; how rules are read and met is that of `rmbd-rules`.

mod book;
mod desk;
mod question;
#[cfg(test)]
pub(crate) mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use self::book::Book;
use self::desk::Desk;
use self::question::{Question, Reader};
use crate::config::ENVOY_SKETCH;
use crate::fronts::datagrams::ClientPort;
use crate::shared::Shared;
use crate::status::{EnvoyStatus, PublishedFront, Tally};
use rmbd_envoy::{
    Code, Decide, DescriptorStatus, Event, RateLimitRequest, RateLimitResponse, Undecided,
};
use rmbd_io::latency::Histogram;
use rmbd_names::Unresolved;
use rmbd_store::SketchIndex;

/// Why Envoy's rate limit service cannot be served. The node does not start.
#[derive(Debug, thiserror::Error)]
pub enum EnvoyError {
    /// The address cannot be looked up.
    #[error("--envoy: {0}")]
    Resolve(#[from] Unresolved),
    /// The address cannot be bound.
    #[error("--envoy: can't serve on {address} over TCP: {source}; choose another address")]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
    /// Everybody could reach the address and count.
    #[error(
        "--envoy {0} is not loopback, so that anybody may count there: name those who may with --allow ADDRESS/BITS"
    )]
    Open(SocketAddr),
}

/// Decides by rules.
pub(crate) struct EnvoyFront {
    port: Arc<ClientPort>,
    /// The sketch that counts; `None` where the node has started without rules.
    sketch: Option<SketchIndex>,
    /// `None` when it adds no more. The lock is never waited for: one thread answers.
    desk: Mutex<Option<Desk>>,
    /// The rules in force, with their numbers.
    book: Mutex<Arc<Book>>,
    /// What it has done.
    published: Arc<PublishedFront>,
    connections: AtomicU64,
}

impl EnvoyFront {
    /// It decides by the rules that are in force. Whoever may use `port` may ask.
    pub(crate) fn new(port: Arc<ClientPort>) -> Self {
        let published = Arc::<PublishedFront>::default();
        let registry = port.shared().engine().registry();
        Self {
            sketch: registry.by_name(ENVOY_SKETCH.as_bytes()),
            desk: Mutex::new(Some(Desk::new(port.shared(), Arc::clone(&published)))),
            book: Mutex::new(Arc::new(Book::new(
                port.shared().limits().rules(),
                &Book::default(),
            ))),
            port,
            published,
            connections: AtomicU64::new(0),
        }
    }

    /// Adds no more. Questions are unanswered from then on.
    pub(crate) fn end_adding(&self) {
        if let Some(mut desk) = self.desk().take() {
            desk.finish();
        }
    }

    /// What it has done, as far as it has told.
    pub(crate) fn tally(&self) -> Tally {
        self.published.read()
    }

    /// How long its requests took.
    pub(crate) fn times(&self) -> &Histogram {
        self.published.times()
    }

    /// The status, without what is in the [`tally`](Self::tally).
    pub(crate) fn status(&self) -> EnvoyStatus {
        let book = self.book();
        EnvoyStatus {
            connections: self.connections.load(Relaxed),
            domains: book.rules.domains().len() as u64,
            rules: book.rules.len() as u64,
            by_rule: book.status(),
            ..EnvoyStatus::default()
        }
    }

    fn shared(&self) -> &Shared {
        self.port.shared()
    }

    /// The rules in force. A reload may have brought others.
    fn book(&self) -> Arc<Book> {
        let rules = self.shared().limits().rules();
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&book.rules, &rules) {
            *book = Arc::new(Book::new(rules, &book));
        }
        Arc::clone(&book)
    }

    /// Locks the desk. What waits in it after a panic is answered to nobody.
    fn desk(&self) -> MutexGuard<'_, Option<Desk>> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_decide(&self, request: &RateLimitRequest) -> Result<RateLimitResponse, Undecided> {
        let (start, book, now) = (Instant::now(), self.book(), self.shared().now());
        let mut desk = self.desk();
        let desk = desk.as_mut().ok_or_else(ending)?;
        let reader = Reader {
            engine: self.shared().engine(),
            sketch: self.sketch,
            session: &desk.own.session,
            now,
        };
        let mut asked = reader.read(&book, request)?;
        let answered = self.sketch.map_or(Ok(()), |sketch| {
            let answered = desk.perform(sketch, &mut asked);
            // Also where it was refused: then a pass is wanted.
            self.shared().call_control_if_due();
            answered
        });
        answered?;
        let statuses = asked.questions.iter().map(Question::status).collect();
        let answer = RateLimitResponse::of(statuses);
        desk.note(|tally| {
            tally.envoy_requests += 1;
            tally.envoy_descriptors += asked.questions.len() as u64;
            tally.envoy_over += u64::from(answer.is_over());
            tally.envoy_unknown_domains += u64::from(!asked.is_domain_known);
            tally.envoy_overrides += asked.overrides;
            tally.envoy_overrides_without_window += asked.overrides_without_window;
            tally.envoy_values_left_out += book.note(&asked);
        });
        desk.own.note_time(start);
        Ok(answer)
    }
}

impl Decide for EnvoyFront {
    fn decide(&self, request: &RateLimitRequest) -> Result<RateLimitResponse, Undecided> {
        let decided = self.try_decide(request);
        match &decided {
            Ok(_) => {}
            Err(Undecided::Unavailable(_)) => self.note(Event::Broken),
            Err(_) => self.note(Event::Refused),
        }
        decided
    }

    /// Whether it still adds.
    fn is_ready(&self) -> bool {
        self.desk().is_some()
    }

    fn may_ask(&self, from: IpAddr) -> bool {
        self.port.may_use(from)
    }

    fn note(&self, event: Event) {
        match event {
            Event::Accepted => self.connections.fetch_add(1, Relaxed),
            Event::Closed => self.connections.fetch_sub(1, Relaxed),
            _ => 0,
        };
        let mut desk = self.desk();
        let Some(desk) = desk.as_mut() else {
            return;
        };
        desk.note(|tally| {
            let counter = match event {
                Event::Accepted => &mut tally.envoy_connections_accepted,
                Event::NotAllowed => &mut tally.envoy_connections_not_allowed,
                Event::NoPlace => &mut tally.envoy_connections_without_place,
                Event::Refused => &mut tally.envoy_refused,
                Event::Broken | Event::Panicked => &mut tally.envoy_failed,
                Event::Closed => return,
            };
            *counter += 1;
        });
    }
}

/// A status that says nothing but that there is no limit in the way.
fn without_limit() -> DescriptorStatus {
    DescriptorStatus::of(Code::Ok)
}

fn ending() -> Undecided {
    Undecided::Unavailable("the node ends: ask another, or this one when it is back".to_owned())
}
