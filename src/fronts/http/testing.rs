//! A made-up node, for tests.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{PendingOrder, StatusSource};
use crate::status::testing::{denied, detail, status, top};
use crate::status::{
    DeniedDocument, DeniedError, DeniedQuestion, Detail, DetailError, DetailQuestion, Readiness,
    SnapshotOrder, Status, TopDocument, TopError, TopQuestion,
};

/// A source whose status is always the same, but for its readiness.
#[derive(Debug)]
pub(crate) struct Fake {
    pub(crate) ready: AtomicBool,
    pub(crate) readiness: Mutex<Readiness>,
    pub(crate) failure: Mutex<Option<String>>,
    /// Whom it trusts, if it keeps anything, and to whom it shows keys.
    pub(crate) trusted: Option<IpAddr>,
}

impl Fake {
    pub(crate) fn new(ready: bool) -> Self {
        Self {
            ready: AtomicBool::new(ready),
            readiness: Mutex::default(),
            failure: Mutex::default(),
            trusted: Some(Ipv4Addr::LOCALHOST.into()),
        }
    }
}

impl StatusSource for Fake {
    fn status(&self) -> Status {
        Status {
            ready: self.ready.load(Ordering::Relaxed),
            failure: self.failure.lock().map(|it| it.clone()).unwrap_or_default(),
            readiness: self
                .readiness
                .lock()
                .map(|it| it.clone())
                .unwrap_or_default(),
            ..status()
        }
    }

    fn detail(&self, question: &DetailQuestion) -> Result<Detail, DetailError> {
        detail(question)
    }

    fn top(&self, question: &TopQuestion, shows_keys: bool) -> Result<TopDocument, TopError> {
        top(question, shows_keys)
    }

    fn denied(
        &self,
        question: &DeniedQuestion,
        shows_keys: bool,
    ) -> Result<DeniedDocument, DeniedError> {
        denied(question, shows_keys)
    }

    fn may_see_keys(&self, ip: IpAddr, is_by_proxy: bool) -> bool {
        self.trusted == Some(ip) && !is_by_proxy
    }

    fn is_trusted(&self, ip: IpAddr) -> bool {
        self.trusted == Some(ip)
    }

    fn order_snapshot(&self) -> Option<PendingOrder> {
        let (answer, done) = tokio::sync::oneshot::channel();
        let told = SnapshotOrder {
            bytes: 4_711,
            ..SnapshotOrder::default()
        };
        let _ = answer.send(told);
        Some(PendingOrder { number: 1, done })
    }
}
