//! The thread of HTTP: requests of clients and of proxies, and scrapes, which delay neither data threads nor
//! replication.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot, watch};

#[cfg(test)]
use super::crew::Part;
use super::envoy::EnvoyService;
use super::error::{NodeError, system};
use super::overview::Overview;
use crate::fronts::http::api::{Api, ApiOptions, Tokens};
use crate::fronts::http::{self, Hosts, StatusSource};
use crate::fronts::spoe::{self, Agent};
use rmbd_envoy::Bounds;

/// What the thread starts with, and owns from then on.
pub(super) struct HttpThread {
    pub(super) overview: Arc<Overview>,
    /// Where HTTP is served; `None` where it is off.
    pub(super) listener: Option<TcpListener>,
    /// Where HAProxy connects to, and what answers it; `None` where that is off.
    pub(super) spoe: Option<(TcpListener, Arc<Agent>)>,
    /// Where Envoy's rate limit service is; `None` where that is off.
    pub(super) envoy: Option<TcpListener>,
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
        let HttpEnds { adding, serving } = self.ends;
        let source: Arc<dyn StatusSource> = self.overview.clone();
        let front = Arc::clone(self.overview.envoy().front());
        let api = Arc::new(Api::new(ApiOptions {
            shared: Arc::clone(self.overview.shared()),
            source: Arc::clone(&source),
            hosts: self.hosts.clone(),
            tokens: self.tokens,
            has_check: self.has_check,
            published: Arc::clone(self.overview.http_tally()),
            envoy: self.overview.has_rules().then(|| Arc::clone(&front)),
        }));
        let (spoe, agent) = self.spoe.unzip();
        let ends_adding = {
            let (alive, api, front) = (self.alive, Arc::clone(&api), Arc::clone(&front));
            let agent = agent.clone();
            async move {
                let _ = adding.await;
                api.end_adding();
                front.end_adding();
                if let Some(agent) = agent {
                    agent.end_adding();
                }
                drop(alive);
                std::future::pending::<()>().await;
            }
        };
        let (stop, stopped) = watch::channel(());
        let ends_serving = async move {
            drop(serving.await);
            drop(stop);
            std::future::pending::<()>().await;
        };
        let overview = self.overview;
        let envoy = tokio_listener(self.envoy)?;
        let envoy = serve_envoy(envoy, EnvoyService { front, overview }, stopped.clone());
        // HAProxy is told of the end when nothing is added any more, before the others.
        let spoe = tokio_listener(spoe)?.zip(agent);
        let spoe = serve_spoe(spoe, Arc::clone(&source));
        let http = tokio_listener(self.listener)?;
        let http = serve_http(http, source, self.hosts, api, stopped);
        let serving = async {
            tokio::join!(http, spoe, envoy);
        };
        #[cfg(test)]
        let serving = crew.unless_struck(Part::Http, serving);
        tokio::select! {
            () = serving => {}
            () = ends_adding => {}
            () = ends_serving => {}
        }
        Ok(())
    }
}

async fn serve_http(
    listener: Option<tokio::net::TcpListener>,
    source: Arc<dyn StatusSource>,
    hosts: Hosts,
    api: Arc<Api>,
    stopped: watch::Receiver<()>,
) {
    match listener {
        Some(it) => http::serve_with(it, source, hosts, Some(api), gone(stopped)).await,
        None => gone(stopped).await,
    }
}

async fn serve_spoe(
    spoe: Option<(tokio::net::TcpListener, Arc<Agent>)>,
    source: Arc<dyn StatusSource>,
) {
    if let Some((listener, agent)) = spoe {
        spoe::serve(listener, agent, || source.connection_panicked()).await;
    }
}

async fn serve_envoy(
    listener: Option<tokio::net::TcpListener>,
    service: EnvoyService,
    stopped: watch::Receiver<()>,
) {
    let bounds = Bounds::default();
    match listener {
        Some(it) => rmbd_envoy::serve(it, Arc::new(service), bounds, gone(stopped)).await,
        None => gone(stopped).await,
    }
}

/// Waits until the sender is gone.
async fn gone(mut signal: watch::Receiver<()>) {
    while signal.changed().await.is_ok() {}
}

fn tokio_listener(
    listener: Option<TcpListener>,
) -> std::io::Result<Option<tokio::net::TcpListener>> {
    listener.map(tokio::net::TcpListener::from_std).transpose()
}
