//! The lists of the largest keys as the control thread told them last, for everybody who answers questions.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use rmbd_sketch::KeyHash;

use crate::editions::{Editions, Seen};
use crate::registry::{Registry, SketchIndex};

/// The told lists of all sketches of a node. The control thread tells them again and again; any thread looks at them.
#[derive(Debug)]
pub struct TopBoard(Box<[Editions<ToldLists>]>);

/// A session's view of a [`TopBoard`].
#[derive(Debug, Default)]
pub struct TopView(Vec<Seen<ToldLists>>);

/// The lists of one sketch, which were made together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ToldLists {
    /// When they were made, by the node's clock.
    pub made: Duration,
    /// The list of all time first, then that of each window, in the order of the windows. Empty where the sketch has no
    /// lists, or none was made yet.
    pub lists: Vec<ToldList>,
}

/// One list.
#[derive(Debug, Clone, PartialEq)]
pub struct ToldList {
    /// The length of its window in milliseconds; `None` is all time.
    pub span_ms: Option<u64>,
    /// The keys, those with the largest counts first, at most [`TOP_MAX`](crate::TOP_MAX).
    pub keys: Vec<ToldKey>,
    /// N: all weight that was counted (in the window), on all nodes. Counts are shares of it.
    pub total_weight: u64,
    /// Every key of which more than this was counted (in the window) is in this list, as far as what was counted has
    /// arrived here, unless [as many keys](Self::keys) as it may have are larger. [`u64::MAX`] if nothing is known.
    pub complete_above: u64,
    /// Not everything that is counted is here: see [`Estimate`](crate::Estimate).
    pub is_incomplete: bool,
}

/// One key of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct ToldKey {
    /// Its hash.
    pub hash: KeyHash,
    /// Its bytes; `None` if nobody has told them.
    pub name: Option<Box<[u8]>>,
    /// Its count in all the cluster: never below the truth for what has arrived here.
    pub estimate: u64,
    /// What certainly was added to it (in the window), never above the truth, nor above the estimate.
    pub certain: u64,
    /// The parts of what is certain by the nodes that counted them, those that have some.
    pub by_node: Vec<(u64, u64)>,
}

impl TopBoard {
    /// A board for all sketches of a registry, of which nothing is told yet.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        Self(registry.iter().map(|_| Editions::default()).collect())
    }

    /// Tells other lists of a sketch.
    pub fn tell(&self, sketch: SketchIndex, lists: ToldLists) {
        if let Some(told) = self.0.get(sketch.get()) {
            let lists = Arc::new(lists);
            let _: Result<(), Infallible> = told.change(|_| Ok(lists));
        }
    }

    /// The lists of a sketch as they were told last.
    #[must_use]
    pub fn lists(&self, sketch: SketchIndex) -> Arc<ToldLists> {
        let told = self.0.get(sketch.get());
        told.map(Editions::get).unwrap_or_default()
    }
}

impl TopView {
    /// A view that has room for all sketches already, so that no look allocates.
    #[must_use]
    pub fn of(board: &TopBoard) -> Self {
        Self(board.0.iter().map(|_| Seen::default()).collect())
    }

    /// The lists of a sketch as they were told last. No references are counted as long as they stay the same, and lists
    /// that are seen no more are freed by whoever tells.
    pub fn lists<'v>(&'v mut self, board: &TopBoard, sketch: SketchIndex) -> &'v Arc<ToldLists> {
        let sketches = board.0.len().max(1);
        self.0.resize_with(sketches, Seen::default);
        let at = sketch.get() % sketches;
        self.0[at].current(&board.0[at])
    }
}

impl ToldLists {
    /// The list of a window of this length, or with `None` that of all time.
    #[must_use]
    pub fn list(&self, span_ms: Option<u64>) -> Option<&ToldList> {
        self.lists.iter().find(|list| list.span_ms == span_ms)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{NamedSketch, Replica};
    use rmbd_sketch::{Geometry, HashFamily};

    #[test]
    fn who_looks_sees_what_was_told_last_of_each_sketch() {
        let named = |name: &str| {
            let geometry = Geometry::new(16, 2).unwrap();
            let replica = Replica::try_new(geometry, HashFamily::Fnv, 0).unwrap();
            NamedSketch::new(name.parse().unwrap(), Arc::new(replica))
        };
        let registry = Registry::new(vec![named("default"), named("logins")]).unwrap();
        let (board, mut view) = (TopBoard::new(&registry), TopView::default());
        let logins = registry.by_name("logins").unwrap();
        assert_eq!(**view.lists(&board, logins), ToldLists::default());
        for made in [1, 2].map(Duration::from_secs) {
            let list = ToldList {
                span_ms: Some(1_000),
                keys: Vec::new(),
                total_weight: 70,
                complete_above: 7,
                is_incomplete: false,
            };
            let lists = ToldLists {
                made,
                lists: vec![list.clone()],
            };
            board.tell(logins, lists.clone());
            assert_eq!(**view.lists(&board, logins), lists);
            assert_eq!(board.lists(logins).list(Some(1_000)), Some(&list));
            assert_eq!(board.lists(logins).list(None), None);
        }
        assert_eq!(*board.lists(SketchIndex::DEFAULT), ToldLists::default());
    }

    #[test]
    fn who_tells_frees_what_nobody_looks_at() {
        let geometry = Geometry::new(16, 2).unwrap();
        let replica = Replica::try_new(geometry, HashFamily::Fnv, 0).unwrap();
        let registry = Registry::of_default(Arc::new(replica));
        let board = TopBoard::new(&registry);
        let mut views = [TopView::of(&board), TopView::of(&board)];
        let sketch = SketchIndex::DEFAULT;
        let earlier = || board.0[0].earlier();
        for n in 1..20 {
            let made = Duration::from_secs(n);
            let lists = Vec::new();
            board.tell(sketch, ToldLists { made, lists });
            // Each view may have an earlier one; the one that was told last waits for the next.
            assert!(earlier() <= views.len(), "{}", earlier());
            let view = &mut views[(n % 2) as usize];
            let seen = Arc::clone(view.lists(&board, sketch));
            assert_eq!(seen.made, made);
            let before = seen;
            board.tell(sketch, ToldLists::default());
            let _ = view.lists(&board, sketch);
            assert_eq!(Arc::strong_count(&before), 2, "the board has it, too");
        }
        drop(views);
        board.tell(sketch, ToldLists::default());
        assert_eq!(earlier(), 0);
    }
}
