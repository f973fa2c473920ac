//! How a start goes on from what an earlier one has left.

use rmbd_proto::{SketchNumber, Writer};

use crate::mark::may_resume;
use crate::{CleanMark, ClockReading, LoadOptions, SnapshotFileSummary};

/// What a start knows of itself before it looks.
#[derive(Debug, Clone, Copy)]
pub struct ThisStart {
    /// Whether there are others, who can be asked what they have heard.
    pub is_in_cluster: bool,
    /// The writer that it has drawn.
    pub drawn: Writer,
    /// Another one, which it is where there is no memory to go on as the same writer.
    pub spare: Writer,
}

/// What is to be done with the mark of a clean end, durably, before anything else is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MarkStep {
    /// This one takes its place.
    Replace(CleanMark),
    /// It is taken away, if there is one.
    Remove,
}

/// How a start goes on from a file and a mark.
///
/// If others may have heard of the writer of the file, the start is that writer, and the mark is gone before it serves:
/// a later start must not go on from the same file once more. If nobody has, it is the writer that it has drawn, and
/// the mark says so from then on: what the file has are the beginnings of that writer's slices, however often they are
/// read.
///
/// [`step`](Self::step) says what is to be done, and [`note`](Self::note) is told whether it was, until there is
/// nothing left.
#[derive(Debug)]
pub struct Beginning {
    /// The mark that belongs to the file.
    mark: Option<CleanMark>,
    resumes: bool,
    renamed: Option<Writer>,
    this_start: ThisStart,
    step: Option<MarkStep>,
}

impl Beginning {
    /// Looks at what was found: a file that is whole, and a mark that can be read. `sketches` are those of this start,
    /// each with its fingerprint.
    #[must_use]
    pub fn new(
        mark: Option<CleanMark>,
        file: Option<&SnapshotFileSummary>,
        sketches: impl IntoIterator<Item = (SketchNumber, u64)>,
        this_start: ThisStart,
    ) -> Self {
        let mark = mark.filter(|mark| file.is_some_and(|file| mark.head == file.head));
        let renamed = mark.as_ref().and_then(|mark| mark.renamed);
        if renamed.is_some() {
            // The mark stays until the next file takes the place of this one.
            return Self {
                mark: None,
                resumes: false,
                renamed,
                this_start,
                step: None,
            };
        }
        let resumes = mark.as_ref().zip(file).is_some_and(|(mark, file)| {
            let can_ask = this_start.is_in_cluster || !mark.is_told;
            can_ask && may_resume(mark, file, sketches)
        });
        let untold = mark.clone().filter(|mark| resumes && !mark.is_told);
        let step = untold.map_or(MarkStep::Remove, |mark| {
            let renamed = Some(this_start.drawn);
            MarkStep::Replace(CleanMark { renamed, ..mark })
        });
        Self {
            mark,
            resumes,
            renamed: None,
            this_start,
            step: Some(step),
        }
    }

    /// What is to be done next.
    #[must_use]
    pub fn step(&self) -> Option<&MarkStep> {
        self.step.as_ref()
    }

    /// Notes whether it was done, and is durable. A start goes on as the writer of a file only if it was.
    pub fn note(&mut self, is_done: bool) {
        match self.step.take() {
            Some(MarkStep::Replace(_)) if !is_done => {
                self.resumes = false;
                // Whatever else it is, it is older than what this start will do.
                self.step = Some(MarkStep::Remove);
            }
            Some(MarkStep::Remove) if !is_done => (self.mark, self.resumes) = (None, false),
            _ => {}
        }
    }

    /// Whether the earlier start came to a clean end. Then its exactly-once clients are known, too.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.mark.is_some()
    }

    /// Whether our own slices go on from those of the file.
    #[must_use]
    pub fn resumes(&self) -> bool {
        self.resumes
    }

    /// The writer that this start is; `None`: the one that it has drawn.
    #[must_use]
    pub fn writer(&self) -> Option<Writer> {
        let mark = self.mark.as_ref().filter(|_| self.resumes)?;
        mark.is_told.then_some(mark.head.writer)
    }

    /// How the file is to be taken over by this node, when the clocks show this.
    #[must_use]
    pub fn load_options<'a>(
        &self,
        checked: &'a SnapshotFileSummary,
        node: u64,
        now: ClockReading,
    ) -> LoadOptions<'a> {
        LoadOptions {
            checked,
            node,
            now,
            resumes: self.resumes,
            renamed: self.renamed,
            this_start: self.this_start,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rmbd_proto::cluster::SliceId;
    use rmbd_proto::snapshot_file::{
        FILE_MAGIC, FileHead, Kind, SketchBlock, SliceBlock, begin_block, end_block, write_end,
    };

    use super::*;
    use crate::check;
    use crate::tests::head;

    const FINGERPRINT: u64 = 5;
    const DRAWN: Writer = Writer(77);

    /// A file in whose one sketch the node had reached version 3, and its mark.
    fn found(is_told: bool) -> (CleanMark, SnapshotFileSummary) {
        let head = FileHead {
            writer: Writer(9),
            ..head()
        };
        let own = SliceId::of(head.node, head.writer);
        let mark = CleanMark {
            versions: vec![(own, 3)],
            head: head.clone(),
            is_told,
            renamed: None,
        };
        let mut file = Vec::from(FILE_MAGIC);
        let mut blocks = 0;
        let mut block = |kind, write: &dyn Fn(&mut Vec<u8>)| {
            let start = begin_block(kind, &mut file);
            write(&mut file);
            end_block(start, blocks, &mut file);
            blocks += 1;
        };
        let sketch = SketchBlock {
            number: SketchNumber::DEFAULT,
            fingerprint: FINGERPRINT,
            cells: 1,
            name: String::new(),
            time_ns: 0,
            own_marks: Vec::new(),
            learnt_marks: Vec::new(),
        };
        let slice = SliceBlock {
            slice: own,
            version: 3,
            weight: 1,
        };
        block(Kind::Head, &|out| head.write(out));
        block(Kind::Sketch, &|out| sketch.write(out));
        block(Kind::Slice, &|out| slice.write(out));
        block(Kind::End, &|out| write_end(3, out));
        (mark, check(&mut &file[..]).unwrap())
    }

    fn begin(mark: CleanMark, file: &SnapshotFileSummary, is_in_cluster: bool) -> Beginning {
        let sketches = [(SketchNumber::DEFAULT, FINGERPRINT)];
        let this_start = ThisStart {
            is_in_cluster,
            drawn: DRAWN,
            spare: Writer(78),
        };
        Beginning::new(Some(mark), Some(file), sketches, this_start)
    }

    #[test]
    fn a_told_name_goes_on_only_if_the_mark_is_gone() {
        for is_gone in [true, false] {
            let (mark, file) = found(true);
            let writer = mark.head.writer;
            let mut beginning = begin(mark, &file, true);
            assert_eq!(beginning.step(), Some(&MarkStep::Remove));
            beginning.note(is_gone);
            assert_eq!(beginning.step(), None);
            assert_eq!(
                (beginning.resumes(), beginning.is_clean()),
                (is_gone, is_gone)
            );
            assert_eq!(beginning.writer(), is_gone.then_some(writer));
        }
    }

    #[test]
    fn who_can_ask_nobody_does_not_go_on_with_a_told_name() {
        let (mark, file) = found(true);
        let mut beginning = begin(mark, &file, false);
        assert_eq!(beginning.step(), Some(&MarkStep::Remove));
        beginning.note(true);
        assert!(beginning.is_clean() && !beginning.resumes() && beginning.writer().is_none());
    }

    #[test]
    fn an_untold_name_gives_way_to_a_new_one_which_the_mark_says_from_then_on() {
        let (mark, file) = found(false);
        let mut beginning = begin(mark, &file, false);
        let Some(MarkStep::Replace(renamed)) = beginning.step().cloned() else {
            panic!("{beginning:?}");
        };
        assert_eq!(renamed.renamed, Some(DRAWN));
        beginning.note(true);
        assert!(beginning.step().is_none() && beginning.resumes() && beginning.writer().is_none());
        // However often it is read: the slices of the file are the beginnings of those of that start.
        for _ in 0..2 {
            let again = begin(renamed.clone(), &file, true);
            assert!(again.step().is_none() && !again.resumes() && !again.is_clean());
            assert_eq!(again.renamed, Some(DRAWN));
        }
    }

    #[test]
    fn where_the_mark_cannot_say_so_it_goes_and_the_start_begins_anew() {
        for is_gone in [true, false] {
            let (mark, file) = found(false);
            let mut beginning = begin(mark, &file, true);
            beginning.note(false);
            assert_eq!(beginning.step(), Some(&MarkStep::Remove));
            beginning.note(is_gone);
            assert!(beginning.step().is_none() && !beginning.resumes());
            assert_eq!(beginning.is_clean(), is_gone);
        }
    }

    #[test]
    fn a_mark_of_another_file_is_taken_away() {
        let (mut mark, file) = found(true);
        mark.head.file += 1;
        let mut beginning = begin(mark, &file, true);
        assert_eq!(beginning.step(), Some(&MarkStep::Remove));
        beginning.note(true);
        assert!(!beginning.is_clean() && !beginning.resumes());
    }
}
