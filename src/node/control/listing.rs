//! The lists of the largest keys, which are made and told twice a second, in pieces between other work.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval};

use crate::shared::Shared;
use rmbd_store::{
    Reading, Replica, SketchIndex, ToldKey, ToldList, ToldLists, TopKeys, TopList, WindowQuestion,
};

/// Time between two lists of the same keys. A name is there after two rounds and an add of its key between them.
const ROUND: Duration = Duration::from_millis(500);

/// The task that makes them.
pub(super) struct Listing {
    shared: Arc<Shared>,
    /// Those that have lists.
    sketches: Vec<(SketchIndex, Arc<Replica>, TopKeys)>,
}

impl Listing {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let all = shared.engine().registry().iter();
        let sketches = all.filter_map(|(sketch, named)| {
            let replica = &named.replica;
            let keys = (replica.top() > 0).then(|| TopKeys::new(Arc::clone(replica)))?;
            Some((sketch, Arc::clone(replica), keys))
        });
        let sketches = sketches.collect();
        Self { shared, sketches }
    }

    /// Runs until it is told to end.
    pub(super) async fn run(mut self, leave: impl Future<Output = ()>) {
        let mut leave = pin!(leave);
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut leave => return,
                _ = rounds.tick() => {}
            }
            tokio::select! {
                () = &mut leave => return,
                () = self.round() => {}
            }
        }
    }

    async fn round(&mut self) {
        let Self { shared, sketches } = self;
        for (sketch, replica, keys) in sketches {
            keys.update();
            let now = shared.now();
            let mut lists = vec![of_all_time(replica, keys)];
            yield_now().await;
            for plan in replica.window_plans() {
                lists.extend(of_window(replica, keys, plan.span_ms(), now));
                yield_now().await;
            }
            let told = ToldLists { made: now, lists };
            shared.engine().top().tell(*sketch, told);
        }
    }
}

fn of_all_time(replica: &Replica, keys: &TopKeys) -> ToldList {
    let list = keys.list(replica.top());
    told(replica, &list, None, replica.total_weight())
}

fn of_window(replica: &Replica, keys: &TopKeys, span_ms: u64, now: Duration) -> Option<ToldList> {
    let question = WindowQuestion {
        window: replica.find_window(span_ms)?,
        reading: Reading::Bound,
        now,
    };
    let list = keys.list_in(&question, replica.top());
    let total_weight = replica.weight_in(&question);
    Some(told(replica, &list, Some(span_ms), total_weight))
}

fn told(
    replica: &Replica,
    list: &TopList<'_>,
    span_ms: Option<u64>,
    total_weight: u64,
) -> ToldList {
    let node = replica.own_slice().node;
    let keys = list.keys.iter().map(|key| {
        let certain = key.certain.min(key.estimate.count);
        ToldKey {
            hash: key.hash,
            name: key.name.map(Box::from),
            estimate: key.estimate.count,
            certain,
            by_node: (certain > 0)
                .then_some((node, certain))
                .into_iter()
                .collect(),
        }
    });
    let lacks = |key: &rmbd_store::TopKey<'_>| key.estimate.incomplete;
    ToldList {
        span_ms,
        keys: keys.collect(),
        total_weight,
        complete_above: list.complete_above,
        is_incomplete: replica.is_incomplete() || list.keys.iter().any(lacks),
    }
}
