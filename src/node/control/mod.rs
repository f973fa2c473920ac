//! The control thread: rare messages, rounds to legacy peers, the cluster, HTTP, signals. Nothing that
//! it waits for (names, slow HTTP clients) holds up a data thread.

pub(crate) mod once;

use std::convert::Infallible;
use std::net::{TcpListener, UdpSocket};
use std::sync::{Arc, mpsc as std_mpsc};

use tokio::sync::mpsc;
use tracing::info;

use super::crew::{Crew, Part, Task};
use super::shared::Shared;
use super::{Ending, NodeError, system};
use crate::cluster_io::{Gossip, Seeds};
use crate::fronts::http::{self, Hosts};
use crate::io::{Backend, RingRefused};
use crate::legacy::Rounds;
use crate::passes::Passes;
use crate::replica::Slices;

/// What the control thread starts with.
pub(super) struct Control {
    pub(super) shared: Arc<Shared>,
    pub(super) http: Option<TcpListener>,
    /// By which names HTTP may be asked.
    pub(super) http_hosts: Hosts,
    /// The cluster's sockets, and whom to join.
    pub(super) cluster: Option<(Vec<UdpSocket>, Seeds)>,
    /// Who goes over our own cells where no cluster does.
    pub(super) slices: Option<Slices>,
    /// The crew's.
    pub(super) endings: mpsc::UnboundedReceiver<Ending>,
    /// To be told when nothing can fail any more; dropped if something did.
    pub(super) serving: std_mpsc::Sender<()>,
    /// Each data thread has an end of this, and drops it last.
    pub(super) data_ended: mpsc::Receiver<Infallible>,
}

/// What the control thread runs on: tokio-uring's runtime where the data threads have io_uring, and tokio's own
/// elsewhere, since tokio-uring cannot do without.
///
/// No operation of tokio-uring's own is ever in flight when its runtime goes: sockets are tokio's.
pub(super) enum Runtime {
    Uring(tokio_uring::Runtime),
    Plain(tokio::runtime::Runtime),
}

impl Runtime {
    /// On the thread that will run it. Where the ring is refused, tokio-uring leaves the four descriptors of a
    /// runtime open.
    pub(super) fn new(backend: Backend) -> Result<Self, NodeError> {
        match backend {
            Backend::Uring => tokio_uring::Runtime::new(&tokio_uring::builder())
                .map(Self::Uring)
                .map_err(|source| RingRefused::in_setup(source).into()),
            Backend::Mmsg => tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map(Self::Plain)
                .map_err(system("making the control thread's runtime")),
        }
    }

    /// Serves until an [`Ending`] comes.
    pub(super) fn run(self, control: Control) -> std::io::Result<()> {
        match self {
            Self::Uring(runtime) => runtime.block_on(serve(control)),
            Self::Plain(runtime) => tokio::task::LocalSet::new().block_on(&runtime, serve(control)),
        }
    }
}

/// The end has an order: data threads take what reached their sockets; then the cluster gets the last
/// counts, and hears good-bye; HTTP answers until then.
async fn serve(control: Control) -> std::io::Result<()> {
    let Control {
        shared,
        http,
        http_hosts,
        cluster,
        slices,
        mut endings,
        serving,
        mut data_ended,
    } = control;
    let crew = shared.crew().clone();
    // Inside: a panic takes the tasks along, whose ends would be reported first.
    let _watch = crew.watch(Part::Control);
    let http = http
        .map(|listener| serve_http(&crew, listener, Arc::clone(&shared), http_hosts))
        .transpose()?;
    let gossip = cluster
        .map(|(sockets, seeds)| gossip(&crew, &shared, sockets, seeds))
        .transpose()?;
    let passes = slices.map(|slices| {
        let passes = Passes::new(Arc::clone(&shared), slices);
        crew.task(Part::Passes, |leave| passes.run(leave))
    });
    let rounds = Rounds::new(Arc::clone(&shared));
    let rounds = crew.task(Part::Rounds, |leave| rounds.run(leave));
    let _ = serving.send(());
    let Some(ending) = next(&mut endings, &crew).await else {
        // The crew has a sender, and is told of this return.
        return Ok(());
    };
    if let Ending::Signal(name) = ending {
        info!("{name}: the node ends");
    }
    shared.set_ready(false);
    crew.begin_end();
    // Nothing is ever sent: this waits for the last one's end.
    let _ = data_ended.recv().await;
    rounds.end().await;
    if let Some(passes) = passes {
        passes.end().await;
    }
    if let Some(gossip) = gossip {
        gossip.end().await;
    }
    if let Some(http) = http {
        http.end().await;
    }
    Ok(())
}

#[cfg(not(test))]
async fn next(endings: &mut mpsc::UnboundedReceiver<Ending>, _: &Crew) -> Option<Ending> {
    endings.recv().await
}

#[cfg(test)]
async fn next(endings: &mut mpsc::UnboundedReceiver<Ending>, crew: &Crew) -> Option<Ending> {
    tokio::select! {
        ending = endings.recv() => ending,
        () = crew.struck(Part::Control) => None,
    }
}

fn serve_http(
    crew: &Crew,
    listener: TcpListener,
    shared: Arc<Shared>,
    hosts: Hosts,
) -> std::io::Result<Task> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    Ok(crew.task(Part::Http, |mut leave| {
        http::serve(
            listener,
            shared as Arc<dyn http::StatusSource>,
            hosts,
            async move {
                leave.asked().await;
            },
        )
    }))
}

fn gossip(
    crew: &Crew,
    shared: &Arc<Shared>,
    sockets: Vec<UdpSocket>,
    seeds: Seeds,
) -> std::io::Result<Task> {
    let gossip = Gossip::new(Arc::clone(shared), sockets, seeds)?;
    Ok(crew.task(Part::Cluster, |leave| gossip.run(leave)))
}
