//! What an earlier start has left in the folder: a file that is whole or is set aside, and a mark with which is done
//! what is to be done before anybody goes on from it.

use std::fs::File;
use std::io::{self, BufReader, Seek};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rmbd_proto::{SketchNumber, Writer};
use rmbd_snapshot::{
    Beginning, CleanMark, ExtraKind, Loaded, MarkStep, SnapshotFileError, SnapshotFileSummary,
    ThisStart, check, load,
};
use rmbd_store::{KnownSince, Slices};
use tracing::{info, warn};

use super::clocks;
use super::source::signature_of;
use super::thread::KnownFile;
use crate::data_dir::{FileIdentity, Folder, Unusable};
use crate::status::SetAsideFile;

/// Bytes that are read of a file at once.
const READ_BYTES: usize = 256 << 10;
/// The reason in the name of a file of which something was left out.
const SKIPPED: &str = "skipped";

/// What was found.
#[derive(Debug)]
pub(crate) struct Found {
    folder: Arc<Folder>,
    node: u64,
    /// A file that is whole.
    file: Option<(File, SnapshotFileSummary)>,
    /// How this start goes on. The mark says nothing else any more.
    beginning: Beginning,
    set_aside: Vec<SetAsideFile>,
}

/// What was taken over of it.
#[derive(Debug, Default)]
pub(crate) struct TakenOver {
    pub(super) loaded: Option<Loaded>,
    /// Sum of all weights that are here now.
    pub(super) weight: u64,
    pub(super) is_resumed: bool,
    pub(crate) known: Option<KnownFile>,
    /// The blocks behind the slices, if there was a clean end.
    pub(crate) extra: Vec<(ExtraKind, Vec<u8>)>,
    /// How long ago all that was written, or less.
    pub(crate) elapsed: Duration,
    /// All files that were set aside, now or earlier.
    pub(super) set_aside: Vec<SetAsideFile>,
}

/// Looks for what an earlier start of this node has left. A file that cannot be used is set aside; a mark is removed,
/// before anything else is done with it. `sketches` are those of this start, each with its fingerprint.
///
/// # Errors
/// The system's, where it has no memory or descriptors for a look: then nothing was touched.
pub(crate) fn look(
    folder: &Arc<Folder>,
    node: u64,
    sketches: impl IntoIterator<Item = (SketchNumber, u64)>,
    this_start: ThisStart,
) -> io::Result<Found> {
    let mut found = Found {
        folder: Arc::clone(folder),
        node,
        file: None,
        beginning: Beginning::new(None, None, [], this_start),
        set_aside: earlier(folder),
    };
    match folder.open_snapshot() {
        Ok(Some(file)) => found.check(file),
        Ok(None) => {}
        Err(Unusable::Open(error)) if is_want(&error) => return Err(error),
        Err(why) => found.set_aside(why.word(), &why.to_string()),
    }
    if let Err(error) = folder.remove_new_snapshot() {
        warn!("{}: {error}", folder.path().display());
    }
    found.begin(sketches, this_start);
    Ok(found)
}

impl Found {
    /// The writer as which this start goes on, if it is not the one that it has drawn.
    pub(crate) fn writer(&self) -> Option<Writer> {
        self.beginning.writer()
    }

    /// Takes over what the file holds, before the node has published, learnt or met anything. `now` is its clock;
    /// `joins_nobody`: it looks for no others.
    ///
    /// # Errors
    /// The file was whole a moment ago, and cannot be taken over: a part of it may have been.
    pub(crate) fn take_over(
        mut self,
        into: &mut [Slices],
        now: Duration,
        joins_nobody: bool,
    ) -> Result<TakenOver, SnapshotFileError> {
        let Some((file, checked)) = self.file.take() else {
            return Ok(TakenOver {
                set_aside: self.set_aside,
                ..TakenOver::default()
            });
        };
        let now = clocks::read(now);
        let options = self.beginning.load_options(&checked, self.node, now);
        let (is_clean, mut extra) = (self.beginning.is_clean(), Vec::new());
        let mut take = |kind, payload: &[u8], _| extra.push((kind, payload.to_vec()));
        let identity = FileIdentity::of(&file.metadata()?);
        let mut reader = BufReader::with_capacity(READ_BYTES, file);
        let loaded = load(&mut reader, into, &options, &mut take)?;
        if !is_clean {
            extra.clear();
        }
        let is_all = loaded.skipped.is_empty() && loaded.refused == 0;
        if joins_nobody && is_clean && is_all && !knows_others(&checked) {
            // Nobody else has counted anything, and we have forgotten nothing.
            into.iter_mut()
                .for_each(|it| it.set_known_since(KnownSince::EVER));
        }
        let weight = into.iter().map(Slices::weight).fold(0, u64::saturating_add);
        self.say(&loaded, weight);
        if !is_all {
            self.keep_what_was_skipped();
        }
        let signature = signature_of(into.iter());
        Ok(TakenOver {
            elapsed: loaded.elapsed,
            weight,
            is_resumed: loaded.is_resumed,
            loaded: Some(loaded),
            known: is_all.then_some(KnownFile {
                identity,
                signature,
            }),
            extra,
            set_aside: self.set_aside,
        })
    }

    /// Checks a whole file, and keeps it if nothing is wrong with it.
    fn check(&mut self, file: File) {
        let mut reader = BufReader::with_capacity(READ_BYTES, file);
        let checked = check(&mut reader).and_then(|summary| {
            if summary.node != self.node {
                return Err(SnapshotFileError::OtherNode(summary.node));
            }
            let mut file = reader.into_inner();
            file.rewind()?;
            Ok((file, summary))
        });
        match checked {
            Ok(whole) => self.file = Some(whole),
            Err(why) => self.set_aside(why.reason(), &why.to_string()),
        }
    }

    fn set_aside(&mut self, word: &'static str, why: &str) {
        let (folder, now) = (Arc::clone(&self.folder), SystemTime::now());
        let path = folder.path().display();
        let file = folder.set_aside(now, word);
        match &file {
            Ok(name) => warn!(
                "the snapshot file in {path} cannot be used: {why}; it is {name} now, and the node starts without it"
            ),
            Err(error) => warn!(
                "the snapshot file in {path} cannot be used: {why}; the node starts without it, and the next one takes \
                 its place, since it cannot be set aside: {error}"
            ),
        }
        self.note(file.ok(), why);
    }

    /// The next file lacks what was skipped, so this one is kept under another name, too.
    fn keep_what_was_skipped(&mut self) {
        let kept = self.folder.keep_too(SystemTime::now(), SKIPPED);
        match &kept {
            Ok(name) => info!("the file that has it is kept as {name}, too"),
            Err(error) => warn!("the file that has it cannot be kept: {error}"),
        }
        self.note(kept.ok(), "something in it was skipped");
    }

    fn note(&mut self, file: Option<String>, why: &str) {
        // Of those that were there before, the oldest may have gone.
        let there = self.folder.bad_files();
        self.set_aside
            .retain(|earlier| earlier.file.as_ref().is_none_or(|it| there.contains(it)));
        self.set_aside.push(SetAsideFile {
            file,
            reason: Some(why.to_owned()),
        });
    }

    /// Does with the mark of a clean end what is to be done with it.
    fn begin(
        &mut self,
        sketches: impl IntoIterator<Item = (SketchNumber, u64)>,
        this_start: ThisStart,
    ) {
        let mark = self.read_mark();
        let file = self.file.as_ref().map(|(_, summary)| summary);
        self.beginning = Beginning::new(mark, file, sketches, this_start);
        while let Some(step) = self.beginning.step() {
            let done = match step {
                MarkStep::Replace(mark) => self.folder.write_mark(&mark.encode()),
                MarkStep::Remove => self.folder.remove_mark(),
            };
            if let Err(error) = done.as_ref()
                && self.beginning.is_clean()
            {
                let path = self.folder.path().display();
                warn!(
                    "the mark of a clean end in {path} cannot be taken away: {error}; this start writes slices of its own"
                );
            }
            self.beginning.note(done.is_ok());
        }
    }

    fn read_mark(&self) -> Option<CleanMark> {
        let path = self.folder.path().display();
        let read = self.folder.read_mark();
        let read = read.inspect_err(|error| {
            warn!("the mark of a clean end in {path} cannot be read: {error}");
        });
        let mark = CleanMark::decode(&read.ok().flatten()?);
        let mark = mark.inspect_err(|why| warn!("the mark of a clean end in {path}: {why}"));
        mark.ok()
    }

    fn say(&self, loaded: &Loaded, weight: u64) {
        let path = self.folder.path().display();
        for skipped in &loaded.skipped {
            let (name, why) = (&skipped.name, skipped.why);
            warn!("the snapshot file in {path}: the sketch {name} was skipped: {why}");
        }
        if loaded.refused > 0 {
            let refused = loaded.refused;
            warn!("the snapshot file in {path}: there is no room for {refused} slices in it");
        }
        if self.beginning.resumes() && !loaded.is_resumed {
            warn!("the snapshot file in {path}: there is no memory to go on as the writer of it");
        }
        let how = match (loaded.is_resumed, self.beginning.is_clean()) {
            (true, _) => "the node goes on from there",
            (false, true) => {
                "its sketches are others, nobody can be asked, or there is no memory, so the node begins as another writer"
            }
            (false, false) => "it had no clean end, so the node begins as another writer",
        };
        info!(
            "a snapshot file of {:.1} s ago was taken over, {} slices with a weight of {weight}; {how}",
            loaded.elapsed.as_secs_f64(),
            loaded.slices,
        );
    }
}

/// Whether a file has something that another node has counted: then others may have gone on meanwhile.
fn knows_others(checked: &SnapshotFileSummary) -> bool {
    let mut slices = checked.sketches.iter().flat_map(|sketch| &sketch.slices);
    slices.any(|slice| slice.node != checked.node)
}

/// Files that earlier starts have set aside.
fn earlier(folder: &Folder) -> Vec<SetAsideFile> {
    let files = folder.bad_files().into_iter();
    files
        .map(|file| SetAsideFile {
            file: Some(file),
            reason: None,
        })
        .collect()
}

/// Whether the process lacks something, and the file may be fine.
fn is_want(error: &io::Error) -> bool {
    let want = [libc::EMFILE, libc::ENFILE, libc::ENOMEM];
    error
        .raw_os_error()
        .is_some_and(|code| want.contains(&code))
}
