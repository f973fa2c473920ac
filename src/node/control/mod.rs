//! The control thread: rare messages, rounds to legacy peers, the cluster, HTTP, signals. Nothing that
//! it waits for (names, slow HTTP clients) holds up a data thread.

pub(super) mod addresses;
mod challenge;
mod legacy;

use std::convert::Infallible;
use std::net::{TcpListener, UdpSocket};
use std::sync::{Arc, mpsc as std_mpsc};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_local};

use self::legacy::Rounds;
use super::gossip::Gossip;
use super::http::Hosts;
use super::shared::Shared;
use super::{Ending, NodeError, http, system};
use crate::config::HostPort;
use crate::io::{Backend, RingRefused, Stop};

/// What the control thread starts with.
pub(super) struct Control {
    pub(super) shared: Arc<Shared>,
    pub(super) http: Option<TcpListener>,
    /// By which names HTTP may be asked.
    pub(super) http_hosts: Hosts,
    /// The cluster's socket, and whom to join.
    pub(super) cluster: Option<(UdpSocket, Vec<HostPort>)>,
    pub(super) endings: mpsc::UnboundedReceiver<Ending>,
    /// The same channel's other end, for signals.
    pub(super) ended: mpsc::UnboundedSender<Ending>,
    pub(super) handle_signals: bool,
    /// To be told when nothing can fail any more; dropped if something did.
    pub(super) serving: std_mpsc::Sender<()>,
    /// Ends the data threads ...
    pub(super) stop: Stop,
    /// ... which each have an end of this, and drop it last.
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

    /// Serves until an [`Ending`] comes, and returns it.
    pub(super) fn run(self, control: Control) -> std::io::Result<Ending> {
        match self {
            Self::Uring(runtime) => runtime.block_on(serve(control)),
            Self::Plain(runtime) => tokio::task::LocalSet::new().block_on(&runtime, serve(control)),
        }
    }
}

/// The end has an order: data threads take what reached their sockets; then the cluster gets the last
/// counts, and hears good-bye; HTTP answers until then.
async fn serve(control: Control) -> std::io::Result<Ending> {
    let Control {
        shared,
        http,
        http_hosts,
        cluster,
        mut endings,
        ended,
        handle_signals,
        serving,
        stop,
        mut data_ended,
    } = control;
    if handle_signals {
        forward(signal(SignalKind::interrupt())?, "SIGINT", ended.clone());
        forward(signal(SignalKind::terminate())?, "SIGTERM", ended);
    }
    let http = http
        .map(|listener| serve_http(listener, Arc::clone(&shared), http_hosts))
        .transpose()?;
    let gossip = cluster
        .map(|(socket, seeds)| gossip(&shared, socket, seeds))
        .transpose()?;
    let mut rounds = Rounds::new(Arc::clone(&shared));
    let _ = serving.send(());
    let ending = rounds.until(&mut endings).await;
    shared.set_ready(false);
    stop.give();
    // Nothing is ever sent: this waits for the last one's end.
    let _ = data_ended.recv().await;
    rounds.take_parcels().await;
    if let Some(gossip) = gossip {
        gossip.end().await;
    }
    if let Some(http) = http {
        http.end().await;
    }
    Ok(ending)
}

/// A task of this thread, and how to tell it to end.
struct Task {
    end: oneshot::Sender<()>,
    handle: JoinHandle<()>,
}

impl Task {
    async fn end(self) {
        drop(self.end);
        // A panic in there has been printed; the rest of the end goes on.
        let _ = self.handle.await;
    }
}

fn serve_http(listener: TcpListener, shared: Arc<Shared>, hosts: Hosts) -> std::io::Result<Task> {
    let (end, ended) = oneshot::channel();
    let handle = spawn_local(http::serve(
        tokio::net::TcpListener::from_std(listener)?,
        shared as Arc<dyn http::StatusSource>,
        hosts,
        async {
            let _ = ended.await;
        },
    ));
    Ok(Task { end, handle })
}

fn gossip(shared: &Arc<Shared>, socket: UdpSocket, seeds: Vec<HostPort>) -> std::io::Result<Task> {
    let (end, ended) = oneshot::channel();
    let gossip = Gossip::new(Arc::clone(shared), socket, seeds)?;
    let handle = spawn_local(gossip.run(ended));
    Ok(Task { end, handle })
}

fn forward(mut signal: Signal, name: &'static str, ended: mpsc::UnboundedSender<Ending>) {
    spawn_local(async move {
        if signal.recv().await.is_some() {
            let _ = ended.send(Ending::Signal(name));
        }
    });
}
