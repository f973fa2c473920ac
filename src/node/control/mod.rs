//! The control thread: rare messages, rounds to legacy peers, the cluster, HTTP, signals. Nothing that
//! it waits for (names, slow HTTP clients) holds up a data thread.

pub(super) mod addresses;
mod challenge;
mod legacy;

use std::convert::Infallible;
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::info;

pub(super) use self::challenge::is_probe_answer;
use self::legacy::Rounds;
use super::crew::{Crew, Part, Task};
use super::gossip::Gossip;
use super::shared::Shared;
use super::{Ending, http};
use crate::config::HostPort;
use crate::io::Backend;

/// What the control thread starts with.
pub(super) struct Control {
    pub(super) shared: Arc<Shared>,
    pub(super) http: Option<TcpListener>,
    /// The cluster's socket, and whom to join.
    pub(super) cluster: Option<(UdpSocket, Vec<HostPort>)>,
    /// The crew's.
    pub(super) endings: mpsc::UnboundedReceiver<Ending>,
    /// Each data thread has an end of this, and drops it last.
    pub(super) data_ended: mpsc::Receiver<Infallible>,
}

/// Runs until an [`Ending`] comes. The runtime is tokio-uring's where the data
/// threads have io_uring, and tokio's own elsewhere, since tokio-uring cannot do without.
///
/// No operation of tokio-uring's own is ever in flight when its runtime goes: sockets are tokio's.
pub(super) fn run(control: Control) -> std::io::Result<()> {
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
async fn serve(control: Control) -> std::io::Result<()> {
    let Control {
        shared,
        http,
        cluster,
        mut endings,
        mut data_ended,
    } = control;
    let crew = shared.crew().clone();
    // Inside: a panic takes the tasks along, whose ends would be reported first.
    let _watch = crew.watch(Part::Control);
    let http = http
        .map(|listener| serve_http(&crew, listener, Arc::clone(&shared)))
        .transpose()?;
    let gossip = cluster
        .map(|(socket, seeds)| gossip(&crew, &shared, socket, seeds))
        .transpose()?;
    let rounds = Rounds::new(Arc::clone(&shared));
    let rounds = crew.task(Part::Rounds, |leave| rounds.run(leave));
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

fn serve_http(crew: &Crew, listener: TcpListener, shared: Arc<Shared>) -> std::io::Result<Task> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    Ok(crew.task(Part::Http, |mut leave| {
        http::serve(
            listener,
            shared as Arc<dyn http::StatusSource>,
            async move {
                leave.asked().await;
            },
        )
    }))
}

fn gossip(
    crew: &Crew,
    shared: &Arc<Shared>,
    socket: UdpSocket,
    seeds: Vec<HostPort>,
) -> std::io::Result<Task> {
    let gossip = Gossip::new(Arc::clone(shared), socket, seeds)?;
    Ok(crew.task(Part::Cluster, |leave| gossip.run(leave)))
}
