//! One sketch of the blocking client's server.

use std::time::Duration;

use super::{Manner, count_in, hit_by_name, one, pardon};
use crate::questions::{Credit, hit};
use crate::sketches::SketchesList;
use crate::top::TopList;
use crate::{
    Adder, Bounds, Client, ClientError, Count, Hit, Limit, Limits, OnFailure, SketchInfo, Top,
    TopQuestion, Verdict, Window, WindowCount,
};
use rmbd_proto::SketchNameError;
use rmbd_proto::compact::Operation;

/// One sketch of a [`Client`]'s server.
///
/// ```no_run
/// use std::time::Duration;
/// use rmbd_client::{Client, ClientOptions, Limit, Limits, OnFailure, Window};
///
/// let mut client = Client::connect("127.0.0.1:8000", ClientOptions::default())?;
/// let minute = Window::smooth(Duration::from_secs(60));
/// let mut logins = client.sketch("logins")?.within(Duration::from_millis(50)).or(OnFailure::Open);
/// let verdict = logins.take("10.0.0.7", 1, 5, minute)?;
/// if !verdict.allowed {
///     println!("again after {:?}", verdict.retry_after);
/// }
/// // An address and its network in one request: both are added, or none.
/// let hour = Duration::from_secs(3600);
/// logins.limits(&Limits::take([Limit::new("10.0.0.7", 20, hour), Limit::new("10.0.0.0/24", 300, hour)]))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Sketch<'c> {
    client: &'c mut Client,
    manner: Manner,
}

impl Client {
    /// A sketch by its name, for questions about it. Nothing is sent: a node that has no such sketch refuses the
    /// questions.
    ///
    /// # Errors
    /// What is no name of a sketch.
    pub fn sketch(&mut self, name: &str) -> Result<Sketch<'_>, SketchNameError> {
        let manner = Manner::of(name)?;
        let client = self;
        Ok(Sketch { client, manner })
    }

    /// The sketch that every node has.
    pub fn default_sketch(&mut self) -> Sketch<'_> {
        let (client, manner) = (self, Manner::default());
        Sketch { client, manner }
    }

    /// [`Sketch::count_in`], of the sketch that every node has.
    ///
    /// # Errors
    /// As there.
    pub fn count_in(
        &mut self,
        key: impl AsRef<[u8]>,
        window: Window,
    ) -> Result<WindowCount, ClientError> {
        self.default_sketch().count_in(key, window)
    }

    /// [`Sketch::hit_in`], of the sketch that every node has.
    ///
    /// # Errors
    /// As there.
    pub fn hit_in(
        &mut self,
        key: impl AsRef<[u8]>,
        weight: u64,
        limit: u64,
        window: Window,
    ) -> Result<Verdict, ClientError> {
        self.default_sketch().hit_in(key, weight, limit, window)
    }

    /// [`Sketch::limits`], of the sketch that every node has.
    ///
    /// # Errors
    /// As there.
    pub fn limits(&mut self, limits: &Limits<'_>) -> Result<Verdict, ClientError> {
        self.default_sketch().limits(limits)
    }

    /// [`Sketch::hit_by_name`], of the sketch that every node has.
    ///
    /// # Errors
    /// As there.
    pub fn hit_by_name(
        &mut self,
        limit: &str,
        key: impl AsRef<[u8]>,
        weight: u64,
    ) -> Result<Verdict, ClientError> {
        self.default_sketch().hit_by_name(limit, key, weight)
    }

    /// [`Sketch::pardon`], of the sketch that every node has.
    ///
    /// # Errors
    /// As there.
    pub fn pardon(
        &mut self,
        limit: &str,
        key: impl AsRef<[u8]>,
        duration: Duration,
    ) -> Result<u64, ClientError> {
        self.default_sketch().pardon(limit, key, duration)
    }

    /// [`Sketch::top`], of the sketch that every node has.
    ///
    /// # Errors
    /// As there.
    pub fn top(&mut self, question: TopQuestion) -> Result<Top, ClientError> {
        self.default_sketch().top(question)
    }

    /// [`Sketch::sketches`].
    ///
    /// # Errors
    /// As there.
    pub fn sketches(&mut self) -> Result<Vec<SketchInfo>, ClientError> {
        self.default_sketch().sketches()
    }
}

impl<'c> Sketch<'c> {
    /// Waits no longer than this for an answer, instead of for the client's timeout. What was sent by then may still be
    /// added.
    #[must_use]
    pub fn within(mut self, deadline: Duration) -> Self {
        self.manner.deadline = Some(deadline);
        self
    }

    /// Gives this verdict where no answer comes in time, instead of an error.
    #[must_use]
    pub fn or(mut self, on_failure: OnFailure) -> Self {
        self.manner.on_failure = Some(on_failure);
        self
    }

    /// Something to add many keys with, without waiting for each.
    pub fn adder(&mut self) -> Adder<'_> {
        Adder::new(self.client, self.manner.sketch)
    }

    /// [`Self::adder`], for as long as the client is borrowed.
    pub fn into_adder(self) -> Adder<'c> {
        Adder::new(self.client, self.manner.sketch)
    }

    /// How often a key was added: approximately, and never too low for what arrived.
    ///
    /// # Errors
    /// No answer, a refusal, or a key of more than 1 024 bytes. A count changes nothing.
    pub fn count(&mut self, key: impl AsRef<[u8]>) -> Result<Count, ClientError> {
        let key = key.as_ref();
        let question = self.manner.ask(Operation::Count { key });
        self.client.ask(question)
    }

    /// How often a key was added within a window.
    ///
    /// # Errors
    /// As [`Self::count`]; a window that the sketch does not keep is refused.
    pub fn count_in(
        &mut self,
        key: impl AsRef<[u8]>,
        window: Window,
    ) -> Result<WindowCount, ClientError> {
        let question = self.manner.ask(count_in(key.as_ref(), window));
        self.client.ask(question)
    }

    /// [`Self::count`] of many keys, in their order.
    ///
    /// # Errors
    /// As [`Self::count`].
    pub fn count_many<K: AsRef<[u8]>>(&mut self, keys: &[K]) -> Result<Vec<Count>, ClientError> {
        let manner = self.manner;
        let question = |at: usize| {
            let key = keys[at].as_ref();
            manner.ask(Operation::Count { key })
        };
        (self.client).ask_all_within(manner.deadline, keys.len(), question)
    }

    /// [`Self::count_in`] of many keys, in their order.
    ///
    /// # Errors
    /// As [`Self::count_in`].
    pub fn count_many_in<K: AsRef<[u8]>>(
        &mut self,
        keys: &[K],
        window: Window,
    ) -> Result<Vec<WindowCount>, ClientError> {
        let manner = self.manner;
        let question = |at: usize| manner.ask(count_in(keys[at].as_ref(), window));
        (self.client).ask_all_within(manner.deadline, keys.len(), question)
    }

    /// A key's estimate, likely and certain bounds of it, and N.
    ///
    /// # Errors
    /// As [`Self::count`].
    pub fn count_bounds(&mut self, key: impl AsRef<[u8]>) -> Result<Bounds, ClientError> {
        let key = key.as_ref();
        let question = self.manner.ask(Operation::Bounds { key });
        self.client.ask(question)
    }

    /// Adds a weight to a key, then tells whether it was added at most `limit` times, over all time. A weight of 0
    /// only looks.
    ///
    /// # Errors
    /// [`ClientError::fate`] tells whether the weight may have been added.
    pub fn hit(
        &mut self,
        key: impl AsRef<[u8]>,
        weight: u64,
        limit: u64,
    ) -> Result<Hit, ClientError> {
        let question = self.manner.ask(hit(key.as_ref(), weight, limit));
        self.client.ask(question)
    }

    /// Adds a weight to a key; 0 changes nothing.
    ///
    /// # Errors
    /// [`ClientError::fate`] tells whether the weight may have been added.
    pub fn add(&mut self, key: impl AsRef<[u8]>, weight: u64) -> Result<(), ClientError> {
        let key = key.as_ref();
        let question = self.manner.ask(Operation::Add { key, weight });
        self.client.ask(question)
    }

    /// Asks about one to eight limits together; see [`Limits`]. Those that name no sketch are of this one.
    ///
    /// # Errors
    /// [`ClientError::fate`] tells whether the weights may have been added. Silence is no error after [`Self::or`].
    pub fn limits(&mut self, limits: &Limits<'_>) -> Result<Verdict, ClientError> {
        let mut written = Vec::new();
        let question = self.manner.ask_limits(limits, &mut written)?;
        let result = self.client.ask(question);
        self.manner.decide(result)
    }

    /// Adds a weight to a key, then tells whether at most `limit` came within the window. It is added also where that
    /// is too much. A weight of 0 only looks.
    ///
    /// # Errors
    /// As [`Self::limits`].
    pub fn hit_in(
        &mut self,
        key: impl AsRef<[u8]>,
        weight: u64,
        limit: u64,
        window: Window,
    ) -> Result<Verdict, ClientError> {
        let limit = Limit::new(key.as_ref(), limit, window.span).weight(weight);
        self.limits(&one(limit, window))
    }

    /// Adds a weight to a key only if at most `limit` come within the window with it, and tells whether it did.
    ///
    /// # Errors
    /// As [`Self::limits`].
    pub fn take(
        &mut self,
        key: impl AsRef<[u8]>,
        weight: u64,
        limit: u64,
        window: Window,
    ) -> Result<Verdict, ClientError> {
        let limit = Limit::new(key.as_ref(), limit, window.span).weight(weight);
        self.limits(&one(limit, window).and_takes())
    }

    /// Adds a weight to a key as a limit of the node's own says, and tells whether that is within it. The limit names
    /// the sketch, what is allowed in which time, and whether it takes.
    ///
    /// # Errors
    /// As [`Self::limits`]; a name that the node does not know is refused.
    pub fn hit_by_name(
        &mut self,
        limit: &str,
        key: impl AsRef<[u8]>,
        weight: u64,
    ) -> Result<Verdict, ClientError> {
        let operation = hit_by_name(limit, key.as_ref(), weight);
        let question = self.manner.ask_anywhere(operation);
        let result = self.client.ask(question);
        self.manner.decide(result)
    }

    /// Forgives a key for some time what it has in the window of a limit of the node's own; the weight that is
    /// forgiven. The node's whole cluster does so soon.
    ///
    /// # Errors
    /// No answer, or a refusal: of a name that the node does not know, or of a client that it does not trust.
    pub fn pardon(
        &mut self,
        limit: &str,
        key: impl AsRef<[u8]>,
        duration: Duration,
    ) -> Result<u64, ClientError> {
        let operation = pardon(limit, key.as_ref(), duration);
        let question = self.manner.ask_anywhere(operation);
        let Credit(credit) = self.client.ask(question)?;
        Ok(credit)
    }

    /// The largest keys, of all time or in a window, as the node listed them within the last second or so.
    ///
    /// # Errors
    /// No answer, or a refusal: of a sketch that lists no keys, or of a window that it does not keep as a whole.
    pub fn top(&mut self, question: TopQuestion) -> Result<Top, ClientError> {
        let mut list = TopList::new(question);
        loop {
            let part = self.manner.ask(list.operation());
            if list.take(self.client.ask(part)?) {
                return Ok(list.finish());
            }
        }
    }

    /// All sketches of the node, with the windows that they keep.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub fn sketches(&mut self) -> Result<Vec<SketchInfo>, ClientError> {
        let mut list = SketchesList::default();
        loop {
            let first = list.first();
            let question = self.manner.ask_anywhere(Operation::Sketches { first });
            if list.take(self.client.ask(question)?)? {
                return Ok(list.sketches());
            }
        }
    }
}
