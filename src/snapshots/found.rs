//! What an earlier start has left in the folder: a file that is whole or is set aside, and a mark that is gone before
//! anybody goes on from it.

use std::fs::File;
use std::io::{self, BufReader, Seek};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rmbd_snapshot::{
    CleanMark, ExtraKind, LoadOptions, Loaded, SnapshotFileError, SnapshotFileSummary, check, load,
};
use tracing::{info, warn};

use super::clocks;
use super::source::Source;
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
    file: Option<File>,
    mark: Option<CleanMark>,
    set_aside: Vec<SetAsideFile>,
}

/// What was taken over of it.
#[derive(Debug, Default)]
pub(crate) struct TakenOver {
    pub(crate) loaded: Option<Loaded>,
    pub(crate) known: Option<KnownFile>,
    /// The blocks behind the slices, if this start goes on from a clean end.
    pub(crate) extra: Vec<(ExtraKind, Vec<u8>)>,
    /// All files that were set aside, now or earlier.
    pub(crate) set_aside: Vec<SetAsideFile>,
}

/// Looks for what an earlier start of this node has left. A file that cannot be used is set aside; a mark is removed,
/// before anything else is done with it.
///
/// # Errors
/// The system's, where it has no memory or descriptors for a look: then nothing was touched.
pub(crate) fn look(folder: &Arc<Folder>, node: u64) -> io::Result<Found> {
    let mut found = Found {
        folder: Arc::clone(folder),
        node,
        file: None,
        mark: None,
        set_aside: earlier(folder),
    };
    let whole = match folder.open_snapshot() {
        Ok(Some(file)) => found.check(file),
        Ok(None) => None,
        Err(Unusable::Open(error)) if is_want(&error) => return Err(error),
        Err(why) => {
            found.set_aside(why.word(), &why.to_string());
            None
        }
    };
    if let Err(error) = folder.remove_new_snapshot() {
        warn!("{}: {error}", folder.path().display());
    }
    found.mark = found.take_mark(whole.as_ref());
    Ok(found)
}

impl Found {
    /// The mark of a clean end, which is gone from the folder: this start may go on as its writer.
    pub(crate) fn mark(&self) -> Option<&CleanMark> {
        self.mark.as_ref()
    }

    /// Takes over what the file holds, before the node has published, learnt or met anything; `now` is its clock.
    ///
    /// # Errors
    /// The file was whole a moment ago, and cannot be read any more: a part of it may have been taken over.
    pub(crate) fn take_over(
        mut self,
        source: &Source,
        now: Duration,
    ) -> Result<TakenOver, SnapshotFileError> {
        let Some(file) = self.file.take() else {
            return Ok(TakenOver {
                set_aside: self.set_aside,
                ..TakenOver::default()
            });
        };
        let options = LoadOptions {
            node: self.node,
            now: clocks::read(now),
            uptime: clocks::since_boot(),
            resume: self.mark.take(),
        };
        let mut extra = Vec::new();
        let mut take = |kind, payload: &[u8]| extra.push((kind, payload.to_vec()));
        let identity = FileIdentity::of(&file.metadata()?);
        let mut reader = BufReader::with_capacity(READ_BYTES, file);
        let loaded = source.load(|slices| {
            let loaded = load(&mut reader, slices, &options, &mut take)?;
            if loaded.is_resumed && source.is_alone() {
                // Nobody else has counted anything, and we have forgotten nothing.
                slices.iter_mut().for_each(|it| it.set_known_since(None));
            }
            Ok::<Loaded, SnapshotFileError>(loaded)
        })?;
        if !loaded.is_resumed {
            extra.clear();
        }
        self.say(&loaded, source);
        let is_all = loaded.skipped.is_empty();
        if !is_all {
            self.keep_what_was_skipped();
        }
        let signature = source.signature();
        Ok(TakenOver {
            known: is_all.then_some(KnownFile {
                identity,
                signature,
            }),
            loaded: Some(loaded),
            extra,
            set_aside: self.set_aside,
        })
    }

    /// Checks a whole file, and keeps it if nothing is wrong with it.
    fn check(&mut self, file: File) -> Option<SnapshotFileSummary> {
        let mut reader = BufReader::with_capacity(READ_BYTES, file);
        let checked = check(&mut reader).and_then(|summary| {
            if summary.node != self.node {
                return Err(SnapshotFileError::OtherNode { node: summary.node });
            }
            let mut file = reader.into_inner();
            file.rewind()?;
            Ok((file, summary))
        });
        match checked {
            Ok((file, summary)) => {
                self.file = Some(file);
                Some(summary)
            }
            Err(why) => {
                self.set_aside(word(&why), &why.to_string());
                None
            }
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

    /// Takes the mark of a clean end away, and returns it if this start may go on from there.
    fn take_mark(&self, whole: Option<&SnapshotFileSummary>) -> Option<CleanMark> {
        let path = self.folder.path().display();
        let read = self.folder.read_mark();
        let bytes = match read {
            Ok(None) => None,
            Ok(Some(bytes)) => Some(bytes),
            Err(error) => {
                warn!("the mark of a clean end in {path} cannot be read: {error}");
                None
            }
        };
        // Whatever it is, it is older than what this start will do.
        let removed = self.folder.remove_mark();
        let mark = CleanMark::decode(&bytes?);
        let mark = mark.inspect_err(|why| warn!("the mark of a clean end in {path}: {why}"));
        let of_file = |mark: &CleanMark| {
            whole.is_some_and(|file| (mark.snapshot_id, mark.node) == (file.id, self.node))
        };
        let mark = mark.ok().filter(of_file)?;
        match removed {
            Ok(()) => Some(mark),
            Err(error) => {
                warn!(
                    "the mark of a clean end in {path} cannot be removed: {error}; this start writes slices of its own"
                );
                None
            }
        }
    }

    fn say(&self, loaded: &Loaded, source: &Source) {
        let path = self.folder.path().display();
        for (sketch, why) in &loaded.skipped {
            warn!("the snapshot file in {path}: {sketch} was skipped: {why}");
        }
        info!(
            "{} slices with a weight of {} are taken over from a snapshot file of {:.1} s ago; {} as writer {}",
            loaded.slices,
            loaded.weight,
            loaded.elapsed.as_secs_f64(),
            match loaded.is_resumed {
                true => "the node goes on",
                false => "it had no clean end, so the node begins",
            },
            source.writer()
        );
    }
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

/// The reason in a file's name.
fn word(why: &SnapshotFileError) -> &'static str {
    match why {
        SnapshotFileError::Io(_) => "unreadable",
        SnapshotFileError::Magic => "no-snapshot",
        SnapshotFileError::LaterVersion(_) => "later-version",
        SnapshotFileError::Torn { .. } => "torn",
        SnapshotFileError::Checksum { .. } => "checksum",
        SnapshotFileError::OtherNode { .. } => "other-node",
        _ => "form",
    }
}
