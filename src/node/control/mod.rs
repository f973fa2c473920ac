//! The control thread: rare messages, rounds to legacy peers, the cluster and signals. Its waits for names never hold
//! up a data thread.

mod listing;
mod once;
mod passes;
mod sampling;

use std::convert::Infallible;
use std::sync::{Arc, mpsc as std_mpsc};

use tokio::sync::mpsc;
use tracing::info;

use self::listing::Listing;
use self::once::OnceWatch;
use self::passes::Passes;
use self::sampling::Sampling;
use super::crew::{Crew, Ending, Part, Task};
use super::http::HttpHold;
use super::overview::Overview;
use super::supervisor::{ControlPing, Supervisor};
use super::{NodeError, system};
use crate::cluster_io::{ClusterSockets, ClusterTask, Seeds, SharedCluster};
use crate::legacy::Rounds;
use crate::shared::{LoneSlices, Shared};
use rmbd_io::{Backend, RingRefused};

/// The parts that the control thread starts with and owns from then on.
pub(super) struct ControlThread {
    pub(super) overview: Arc<Overview>,
    /// What ends the thread of HTTP, if there is one.
    pub(super) http: Option<HttpHold>,
    pub(super) publisher: Publisher,
    pub(super) rounds: Rounds,
    /// The seed of the keys by which errors are sampled.
    pub(super) sampling_seed: u64,
    /// The receiver of the crew's reasons to end.
    pub(super) endings: mpsc::UnboundedReceiver<Ending>,
    /// A sender that is told when the start cannot fail any more, and is dropped if it failed.
    pub(super) serving: std_mpsc::Sender<()>,
    /// A channel of which each thread that adds has a sender, and drops it when it adds no more.
    pub(super) data_ended: mpsc::Receiver<Infallible>,
    pub(super) supervisor: Supervisor,
    /// The watchdog's questions, if there is one.
    pub(super) ping: Option<Arc<ControlPing>>,
}

/// The task that goes over our own cells, and publishes what was added to them.
// There is one, and it moves once.
#[allow(clippy::large_enum_variant)]
pub(super) enum Publisher {
    /// The cluster's task publishes to other nodes.
    Cluster {
        cluster: Arc<SharedCluster>,
        sockets: ClusterSockets,
        seeds: Box<Seeds>,
    },
    /// There is no cluster, so nothing is published.
    Alone(Arc<LoneSlices>),
}

/// The runtime of the control thread: tokio-uring's if the data threads have io_uring, and else tokio's own, since
/// tokio-uring needs io_uring.
///
/// Sockets are tokio's, so no operation of tokio-uring itself is ever in flight when its runtime ends.
pub(super) enum Runtime {
    Uring(tokio_uring::Runtime),
    Plain(tokio::runtime::Runtime),
}

impl Runtime {
    /// Makes a runtime on the thread that will run it. If the ring is refused, tokio-uring leaves the four descriptors
    /// of a runtime open.
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
    pub(super) fn run(self, control: ControlThread) -> std::io::Result<()> {
        match self {
            Self::Uring(runtime) => runtime.block_on(serve(control)),
            Self::Plain(runtime) => tokio::task::LocalSet::new().block_on(&runtime, serve(control)),
        }
    }
}

/// Serves until the end. The end has an order: data threads take what reached their sockets; then the cluster gets
/// the last counts and says good-bye; HTTP answers until then.
async fn serve(control: ControlThread) -> std::io::Result<()> {
    let ControlThread {
        overview,
        mut http,
        publisher,
        rounds,
        sampling_seed,
        mut endings,
        serving,
        mut data_ended,
        supervisor,
        ping,
    } = control;
    let crew = overview.crew().clone();
    // The watch is inside the runtime: a panic takes the tasks along, and their ends would otherwise be reported
    // first.
    let _watch = crew.watch(Part::Control);
    let sampling = Sampling::new(Arc::clone(overview.shared()), sampling_seed);
    let sampling = crew.task(Part::Sampling, |leave| sampling.run(leave));
    let listing = Listing::new(Arc::clone(overview.shared()), &publisher);
    let listing = crew.task(Part::Listing, |leave| listing.run(leave));
    let publisher = publish(&crew, Arc::clone(overview.shared()), publisher)?;
    let rounds = {
        let (overview, mut once) = (Arc::clone(&overview), OnceWatch::default());
        let each_round = move || {
            once.round(&overview);
            overview.watch_snapshot_files();
        };
        crew.task(Part::Rounds, |leave| rounds.run(leave, each_round))
    };
    let _ = serving.send(());
    let ending = tokio::select! {
        ending = next(&mut endings, &crew) => ending,
        () = answer(ping.as_deref()) => None,
    };
    let Some(ending) = ending else {
        // The crew keeps a sender; it is told of this return.
        return Ok(());
    };
    if let Ending::Signal(name) = ending {
        info!("{name}: the node ends");
    }
    overview.set_ready(false);
    crew.begin_end();
    supervisor.stopping();
    if let Some(http) = &mut http {
        http.end_adding();
    }
    // Nothing is ever sent: this waits until the last thread that adds has dropped its sender.
    let _ = data_ended.recv().await;
    sampling.end().await;
    listing.end().await;
    rounds.end().await;
    publisher.end().await;
    drop(http);
    Ok(())
}

/// Answers the watchdog's questions, for ever.
async fn answer(ping: Option<&ControlPing>) {
    match ping {
        Some(ping) => ping.answer_all().await,
        None => std::future::pending().await,
    }
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

fn publish(crew: &Crew, shared: Arc<Shared>, publisher: Publisher) -> std::io::Result<Task> {
    Ok(match publisher {
        Publisher::Cluster {
            cluster,
            sockets,
            seeds,
        } => {
            let task = ClusterTask::new(shared, cluster, sockets, *seeds)?;
            crew.task(Part::Cluster, |leave| task.run(leave))
        }
        Publisher::Alone(slices) => {
            let passes = Passes::new(shared, slices);
            crew.task(Part::Passes, |leave| passes.run(leave))
        }
    })
}
