//! The thread of HTTP: requests of clients, scrapes, and HAProxy, which delay neither data threads nor replication.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};

#[cfg(test)]
use super::crew::Part;
use super::error::{NodeError, system};
use super::overview::Overview;
use crate::fronts::http::api::{Api, ApiOptions, Tokens};
use crate::fronts::http::{self, Hosts, StatusSource};
use crate::fronts::spoe::{self, Agent};

/// What the thread starts with, and owns from then on.
pub(super) struct HttpThread {
    pub(super) overview: Arc<Overview>,
    /// `None` where HTTP is off.
    pub(super) listener: Option<TcpListener>,
    /// Where HAProxy connects to, and what answers it.
    pub(super) spoe: Option<(TcpListener, Arc<Agent>)>,
    /// The names by which it may be asked.
    pub(super) hosts: Hosts,
    pub(super) tokens: Tokens,
    /// Whether it answers checks.
    pub(super) has_check: bool,
    pub(super) ends: HttpEnds,
    /// A sender that is dropped when the thread adds no more.
    pub(super) alive: mpsc::Sender<Infallible>,
}

/// When the thread is to end. Nothing is ever sent: that the senders are dropped is the signal.
pub(super) struct HttpEnds {
    /// From then on it adds no more.
    adding: oneshot::Receiver<()>,
    /// From then on it answers no more.
    serving: oneshot::Receiver<()>,
}

/// How the control thread ends the thread of HTTP, which ends, too, where this is dropped.
pub(super) struct HttpHold {
    adding: Option<oneshot::Sender<()>>,
    _serving: oneshot::Sender<()>,
}

/// The two ends of the signals.
pub(super) fn ends_of_http() -> (HttpHold, HttpEnds) {
    let (add, adding) = oneshot::channel();
    let (serve, serving) = oneshot::channel();
    let hold = HttpHold {
        adding: Some(add),
        _serving: serve,
    };
    (hold, HttpEnds { adding, serving })
}

impl HttpHold {
    /// Lets the thread add no more. It still answers what adds nothing.
    pub(super) fn end_adding(&mut self) {
        drop(self.adding.take());
    }
}

/// Makes the thread's runtime, on the thread that will run it.
pub(super) fn runtime() -> Result<Runtime, NodeError> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(system("making the runtime of HTTP"))
}

impl HttpThread {
    /// Serves until it is told to end.
    pub(super) fn run(self, runtime: &Runtime) -> Result<(), NodeError> {
        let served = runtime.block_on(self.serve());
        served.map_err(system("serving HTTP"))
    }

    async fn serve(self) -> std::io::Result<()> {
        #[cfg(test)]
        let crew = self.overview.crew().clone();
        let from_std = tokio::net::TcpListener::from_std;
        let listener = self.listener.map(from_std).transpose()?;
        let HttpEnds { adding, serving } = self.ends;
        let source: Arc<dyn StatusSource> = self.overview.clone();
        let api = Arc::new(Api::new(ApiOptions {
            shared: Arc::clone(self.overview.shared()),
            source: Arc::clone(&source),
            hosts: self.hosts.clone(),
            tokens: self.tokens,
            has_check: self.has_check,
            published: Arc::clone(self.overview.http_tally()),
        }));
        let (alive, adds) = (self.alive, Arc::clone(&api));
        let (spoe, agent) = self.spoe.unzip();
        let spoe = spoe.map(from_std).transpose()?.zip(agent.clone());
        let ends_adding = async move {
            let _ = adding.await;
            adds.end_adding();
            if let Some(agent) = agent {
                agent.end_adding();
            }
            drop(alive);
            std::future::pending::<()>().await;
        };
        let stop = async move { drop(serving.await) };
        let of_spoe = Arc::clone(&source);
        let serving_spoe = async move {
            if let Some((listener, agent)) = spoe {
                spoe::serve(listener, agent, || of_spoe.connection_panicked()).await;
            }
        };
        let hosts = self.hosts;
        let serving_http = async move {
            match listener {
                Some(listener) => http::serve_with(listener, source, hosts, Some(api), stop).await,
                None => stop.await,
            }
        };
        // HAProxy is told of the end when nothing is added any more, before the other one.
        let serving = async move {
            tokio::join!(serving_http, serving_spoe);
        };
        #[cfg(test)]
        let serving = crew.unless_struck(Part::Http, serving);
        tokio::select! {
            () = serving => {}
            () = ends_adding => {}
        }
        Ok(())
    }
}
