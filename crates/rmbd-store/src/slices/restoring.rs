//! Taking over what a snapshot file holds, before anything was published or learnt.

use std::time::Duration;

use rmbd_proto::Writer;
use rmbd_proto::cluster::{GROUP_CELLS, SliceId};

use super::base::Base;
use super::given::GivenCells;
use super::groups::Keep;
use super::learnt::{Aging, Held};
use super::{SliceRefused, Slices};
use crate::ages::{GroupAges, LearntGrowth, Mark, Moment, SavedMark, SavedMarks};

/// Our own slice while it is taken over.
#[derive(Debug)]
pub(super) struct Restoring {
    /// The writer as which it was counted.
    writer: Writer,
    held: Held,
    version: u64,
    /// `None` without windows.
    growth: Option<LearntGrowth>,
}

impl Slices {
    /// The marks of this sketch, for a snapshot file. There are none without windows.
    #[must_use]
    pub fn saved_marks(&self) -> SavedMarks {
        let own = self.own.growth.iter().flat_map(|growth| growth.marks());
        let own = own.map(|Mark { at, version, .. }| SavedMark { at, version });
        let learnt = self.learnt_growth.iter();
        let mut learnt: Vec<Moment> = learnt
            .flat_map(|learnt| learnt.marks().youngest_first())
            .map(|mark| mark.at)
            .collect();
        learnt.reverse();
        SavedMarks {
            own: own.collect(),
            learnt,
        }
    }

    /// Groups of a slice that may have cells which are not 0, ascending from `from` on, for a snapshot file.
    pub fn groups_of(&self, slice: &SliceId, from: u32) -> impl Iterator<Item = u32> + '_ {
        let is_own = *slice == self.own_slice();
        let own = is_own.then(|| self.own.changed_groups(0, from));
        let held = self.known(slice).and_then(|known| known.held.as_ref());
        let learnt = held.map(|held| held.groups().numbers_from(from));
        own.into_iter()
            .flatten()
            .chain(learnt.into_iter().flatten())
    }

    /// All marks that say something of a slice, the youngest first, for [`increments`](Self::increments); also those of
    /// the last step, of which others are not told.
    #[must_use]
    pub fn all_marks_of(&self, slice: &SliceId) -> Vec<Mark> {
        if *slice == self.own_slice() {
            let growth = self.own.growth.iter();
            return growth.flat_map(|growth| growth.all_marks()).collect();
        }
        let held = self.known(slice).and_then(|known| known.held.as_ref());
        match (&self.learnt_growth, held) {
            (Some(learnt), Some(held)) => held.growth.marks_of(learnt.marks()).collect(),
            _ => Vec::new(),
        }
    }

    /// Begins to take over what a snapshot file holds: these marks, by our own clock. With `resumes` our own slice goes
    /// on from what the file holds of the slice that this node wrote as that writer: under its name, or under a new one
    /// where nobody else has ever heard of the old one. To be called before anything was published, merged or marked;
    /// [`end_restore`](Self::end_restore) ends it.
    ///
    /// # Errors
    /// Fails as [`SliceRefused`] says where there is no memory for our own slice; nothing has changed.
    pub fn begin_restore(
        &mut self,
        marks: &SavedMarks,
        now: Duration,
        resumes: Option<Writer>,
    ) -> Result<(), SliceRefused> {
        let now = Moment::of(now);
        if let Some(writer) = resumes {
            let held = Held::try_new(&self.replica)?;
            let own = marks.own.iter().map(|mark| (mark.at, mark.version));
            let growth = self.own.growth.as_mut();
            self.restoring = Some(Box::new(Restoring {
                writer,
                held,
                version: 0,
                growth: growth.map(|growth| growth.restore(own, now)),
            }));
        }
        if let Some(learnt) = &mut self.learnt_growth {
            learnt.restore(&marks.learnt, now);
        }
        Ok(())
    }

    /// Takes over cells of one group of a slice, with their ages; cells of other groups are left out.
    ///
    /// # Errors
    /// Fails as [`SliceRefused`] says. What was refused is not here, as if it had never been in the file.
    pub fn restore(
        &mut self,
        slice: &SliceId,
        group: u32,
        cells: impl Iterator<Item = (u32, u64)>,
        ages: &GroupAges<'_>,
    ) -> Result<(), SliceRefused> {
        let base = self.base_name();
        let Some(own) = (self.restoring.as_mut()).filter(|_| Some(*slice) == base) else {
            return self
                .merge_aged(slice, group, cells, ages, false)
                .map(|_| ());
        };
        let of_group = cells.filter(|(index, _)| index / GROUP_CELLS as u32 == group);
        let mut given = GivenCells::new(of_group, self.geometry);
        let aging = own.growth.as_ref().map(|learnt| Aging {
            learnt,
            ages: *ages,
        });
        let (replica, copier) = (&self.replica, &mut self.copier);
        let (_, outcome) = own
            .held
            .merge(replica, given.by_ref(), Keep::Packed, copier, aging);
        outcome?;
        given.outcome(0).map(|_| ())
    }

    /// A slice was in the file completely, up to this version.
    pub fn restore_complete(&mut self, slice: &SliceId, version: u64) {
        let base = self.base_name();
        match &mut self.restoring {
            Some(own) if Some(*slice) == base => own.version = version,
            _ => {
                self.complete(slice, 0, version);
            }
        }
    }

    /// All that is to be taken over is here. Where our own slice goes on, it has the version that the file said.
    pub fn end_restore(&mut self) {
        let Some(restoring) = self.restoring.take() else {
            return;
        };
        let Restoring {
            writer,
            mut held,
            version,
            ..
        } = *restoring;
        let history = std::mem::take(&mut held.growth);
        let growth = self.own.growth.as_mut();
        let last_number = growth.map_or(0, |growth| growth.go_on_from(history));
        self.own
            .go_on_from(Base::new(writer, held, version, last_number));
    }

    /// The name that our own slice has in the file from which it goes on.
    fn base_name(&self) -> Option<SliceId> {
        let restoring = self.restoring.as_ref();
        restoring.map(|own| SliceId {
            writer: own.writer,
            ..self.own_slice()
        })
    }

    /// Whether our own slice goes on under a name that an earlier start has given it.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        let base = self.own.base();
        base.is_some_and(|base| base.writer() == self.own_slice().writer)
    }

    /// Whether something was published in our own slice since this start.
    #[must_use]
    pub fn has_grown(&self) -> bool {
        let base = self.own.base();
        self.own.version() > base.map_or(0, Base::version)
    }

    /// From now on all that was added since this start is a slice of this writer, which nobody has used. What an
    /// earlier start had counted is a learnt slice. No count changes by this.
    pub fn take_new_writer(&mut self, writer: Writer) {
        let old = self.own_slice();
        self.replica.set_own_writer(writer);
        let Some(base) = self.own.leave_base(self.replica.own()) else {
            return;
        };
        self.leave_top_base(old);
        let (version, last_number, mut held) = base.into_parts();
        if let (Some(own), Some(learnt)) = (&mut self.own.growth, &self.learnt_growth) {
            held.growth = own.give_until(last_number, learnt, &self.replica.memory);
        }
        self.by_id.insert(old, self.known.len());
        self.known.push(super::Known::new(old));
        if let Some(known) = self.known.last_mut() {
            self.sums
                .change(known, |known| known.become_held(version, held));
        }
    }
}
