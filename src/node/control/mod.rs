//! The control thread: rare messages, rounds to legacy peers, the cluster, HTTP, signals. Nothing that
//! it waits for (names, slow HTTP clients) holds up a data thread.

pub(super) mod addresses;
mod challenge;
mod legacy;

use std::convert::Infallible;
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_local};

pub(super) use self::challenge::is_probe_answer;
use self::legacy::Rounds;
use super::gossip::Gossip;
use super::shared::Shared;
use super::{Ending, http};
use crate::config::HostPort;
use crate::io::{Backend, Stop};

/// What the control thread starts with.
pub(super) struct Control {
    pub(super) shared: Arc<Shared>,
    pub(super) http: Option<TcpListener>,
    /// The cluster's socket, and whom to join.
    pub(super) cluster: Option<(UdpSocket, Vec<HostPort>)>,
    pub(super) endings: mpsc::UnboundedReceiver<Ending>,
    /// The same channel's other end, for signals.
    pub(super) ended: mpsc::UnboundedSender<Ending>,
    pub(super) handle_signals: bool,
    /// Ends the data threads ...
    pub(super) stop: Stop,
    /// ... which each have an end of this, and drop it last.
    pub(super) data_ended: mpsc::Receiver<Infallible>,
}

/// Runs until an [`Ending`] comes, and returns it. The runtime is tokio-uring's where the data
/// threads have io_uring, and tokio's own elsewhere, since tokio-uring cannot do without.
///
/// No operation of tokio-uring's own is ever in flight when its runtime goes: sockets are tokio's.
pub(super) fn run(control: Control) -> std::io::Result<Ending> {
    match control.shared.backend() {
        Backend::Uring => tokio_uring::start(serve(control)),
        Backend::Mmsg => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            tokio::task::LocalSet::new().block_on(&runtime, serve(control))
        }
    }
}

/// The end has an order: data threads take what reached their sockets; then the cluster gets the last
/// counts, and hears good-bye; HTTP answers until then.
async fn serve(control: Control) -> std::io::Result<Ending> {
    let Control {
        shared,
        http,
        cluster,
        mut endings,
        ended,
        handle_signals,
        stop,
        mut data_ended,
    } = control;
    if handle_signals {
        forward(signal(SignalKind::interrupt())?, "SIGINT", ended.clone());
        forward(signal(SignalKind::terminate())?, "SIGTERM", ended);
    }
    let http = http
        .map(|listener| serve_http(listener, Arc::clone(&shared)))
        .transpose()?;
    let gossip = cluster
        .map(|(socket, seeds)| gossip(&shared, socket, seeds))
        .transpose()?;
    let mut rounds = Rounds::new(Arc::clone(&shared));
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

fn serve_http(listener: TcpListener, shared: Arc<Shared>) -> std::io::Result<Task> {
    let (end, ended) = oneshot::channel();
    let handle = spawn_local(http::serve(
        tokio::net::TcpListener::from_std(listener)?,
        shared as Arc<dyn http::StatusSource>,
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
