//! What a process keeps on a disk, from one start to the next: the real formats and the real order of steps, on a
//! simulated disk. The real threads and files are in `src/snapshots`.

use std::sync::Arc;
use std::time::Duration;

use rmbd_cluster::Cluster;
use rmbd_proto::{SketchNumber, Writer};
use rmbd_snapshot::{
    Beginning, CleanMark, ClockReading, Extra, ExtraKind, FILE_NAME, MARK_FILE_NAME, MarkStep,
    NEW_FILE_NAME, Saving, SavingOptions, SavingStep, SlicesSource, SnapshotFileSummary, ThisStart,
    check, load,
};
use rmbd_store::Slices;
use rmbd_store::once::{BootChain, OnceTable};

use super::disk::Disk;
use super::machine::{Found, SaveProgress, Setup};

/// The name that a mark has while it is written.
const NEW_MARK_FILE_NAME: &str = "clean_end.new";
/// The name of a file that cannot be used.
const BAD_FILE_NAME: &str = "snapshot.bad";

/// What a start has found on its disk.
pub struct Finding {
    file: Option<(Vec<u8>, SnapshotFileSummary)>,
    beginning: Beginning,
    is_set_aside: bool,
}

/// What stands behind the slices of a file, and how long ago it was written.
#[derive(Default)]
pub struct Kept {
    blocks: Vec<(ExtraKind, Vec<u8>)>,
    elapsed: Duration,
}

impl Finding {
    /// Looks at a disk, and does with a mark what is to be done with it.
    pub fn look(disk: &mut Disk, setup: &Setup) -> Self {
        let bytes = disk.read(FILE_NAME).map(<[u8]>::to_vec);
        let checked = bytes.map(|bytes| (check(&mut &bytes[..]), bytes));
        let is_ours = |summary: &SnapshotFileSummary| summary.head.node == setup.node;
        let (file, is_set_aside) = match checked {
            Some((Ok(summary), bytes)) if is_ours(&summary) => (Some((bytes, summary)), false),
            Some(_) => {
                disk.rename(FILE_NAME, BAD_FILE_NAME);
                disk.sync_folder();
                (None, true)
            }
            None => (None, false),
        };
        disk.remove(NEW_FILE_NAME);
        let mark = disk.read(MARK_FILE_NAME);
        let mark = mark.and_then(|bytes| CleanMark::decode(bytes).ok());
        let sketches = setup.sketches.iter();
        let mut beginning = Beginning::new(
            mark,
            file.as_ref().map(|(_, summary)| summary),
            sketches.map(|spec| (spec.number, spec.fingerprint())),
            ThisStart {
                is_in_cluster: true,
                drawn: setup.writer,
                spare: Writer(!setup.writer.0),
            },
        );
        while let Some(step) = beginning.step() {
            match step {
                MarkStep::Replace(mark) => {
                    disk.replace(MARK_FILE_NAME, NEW_MARK_FILE_NAME, &mark.encode());
                }
                MarkStep::Remove => {
                    disk.remove(MARK_FILE_NAME);
                    disk.sync_folder();
                }
            }
            beginning.note(true);
        }
        Self {
            file,
            beginning,
            is_set_aside,
        }
    }

    /// The writer that the process is.
    pub fn writer(&self, setup: &Setup) -> Writer {
        self.beginning.writer().unwrap_or(setup.writer)
    }

    /// Takes over what the file has. Returns what the world is told, and what is for clients.
    pub fn take_over(
        &self,
        setup: &Setup,
        now: ClockReading,
        slices: &mut [Slices],
    ) -> (Found, Kept) {
        let Some((bytes, summary)) = &self.file else {
            let is_set_aside = self.is_set_aside;
            let found = Found {
                is_set_aside,
                ..Found::default()
            };
            return (found, Kept::default());
        };
        let options = self.beginning.load_options(summary, setup.node, now);
        let mut kept = Kept::default();
        let mut take = |kind, block: &[u8], _| kept.blocks.push((kind, block.to_vec()));
        let loaded = load(&mut &bytes[..], slices, &options, &mut take).unwrap();
        kept.elapsed = loaded.elapsed;
        if !self.beginning.is_clean() {
            kept.blocks.clear();
        }
        let found = Found {
            file: Some(summary.head.file),
            writer_before: summary.head.writer,
            is_resumed: loaded.is_resumed,
            renamed: loaded.renamed,
            is_set_aside: false,
        };
        (found, kept)
    }
}

impl Kept {
    /// Takes clients back into a table that has just been made, and returns the boots whose requests it knows then.
    pub fn take_back(&self, table: &OnceTable, now: Duration) -> BootChain {
        let mut earlier = BootChain::default();
        for (kind, block) in &self.blocks {
            match kind {
                ExtraKind::Clients => {
                    table.restore(block, now, self.elapsed).unwrap();
                }
                ExtraKind::Boots => earlier = BootChain::read(block).unwrap(),
            }
        }
        if table.came_back() {
            earlier
        } else {
            BootChain::default()
        }
    }
}

/// The file that a process is writing.
#[derive(Default)]
pub struct Keeper {
    job: Option<Job>,
}

enum Job {
    /// All that was added is published first.
    Publish(ClockReading, Vec<u64>),
    Write(u64, Box<Saving>),
}

/// What a file is written of.
pub struct Occasion<'a> {
    pub setup: &'a Setup,
    /// The number of the file, if one is begun.
    pub file: u64,
    pub now: ClockReading,
    /// The clients, which stand behind the slices of the last file.
    pub last: Option<Clients<'a>>,
}

/// The clients of a process, and the boots whose requests they send.
pub type Clients<'a> = (&'a Arc<OnceTable>, &'a BootChain);

impl Keeper {
    /// Gives up the file at hand.
    pub fn give_up(&mut self, disk: &mut Disk) {
        if self.job.take().is_some() {
            disk.remove(NEW_FILE_NAME);
        }
    }

    /// Does the next step of a file, and begins one if none is at hand. The last file of a process ends with a mark.
    pub fn step(
        &mut self,
        cluster: &mut Cluster,
        disk: &mut Disk,
        occasion: &Occasion<'_>,
    ) -> SaveProgress {
        let now = occasion.now.time;
        match &mut self.job {
            None => {
                let passes = cluster.all_slices().map(Slices::passes_until_now).collect();
                self.job = Some(Job::Publish(occasion.now, passes));
            }
            Some(Job::Publish(begun, passes)) => {
                if cluster.publish_until(now, passes) {
                    cluster.settle_name(now);
                    let saving = Saving::new(options(occasion, *begun), extra(occasion));
                    let saving = Box::new(saving);
                    self.job = Some(Job::Write(occasion.file, saving));
                }
            }
            Some(Job::Write(file, saving)) => {
                let file = *file;
                match saving.next(&Lent(cluster), &|| now) {
                    SavingStep::Create => {
                        disk.create(NEW_FILE_NAME);
                        return SaveProgress::Begins(file);
                    }
                    SavingStep::Write(bytes) => disk.append(NEW_FILE_NAME, bytes),
                    SavingStep::SyncSome | SavingStep::SyncAll => disk.sync(NEW_FILE_NAME),
                    SavingStep::Rename => disk.rename(NEW_FILE_NAME, FILE_NAME),
                    SavingStep::SyncFolder => disk.sync_folder(),
                    SavingStep::Done(saved) => {
                        if occasion.last.is_some() {
                            let mark = CleanMark::of(&saved, cluster.is_name_told());
                            disk.replace(MARK_FILE_NAME, NEW_MARK_FILE_NAME, &mark.encode());
                        }
                        self.job = None;
                        return SaveProgress::Saved(file);
                    }
                }
            }
        }
        SaveProgress::Going
    }
}

fn extra(occasion: &Occasion<'_>) -> Extra {
    let Some((table, chain)) = occasion.last else {
        return Box::new(std::iter::empty());
    };
    let boots = (ExtraKind::Boots, chain.write());
    let pieces = table.save(occasion.now.time);
    Box::new(std::iter::once(boots).chain(pieces.map(|piece| (ExtraKind::Clients, piece))))
}

fn options(occasion: &Occasion<'_>, begun: ClockReading) -> SavingOptions {
    let sketches = occasion.setup.sketches.iter();
    let name = |number: SketchNumber| (number, format!("sketch {}", number.0));
    SavingOptions {
        file: occasion.file,
        boot: occasion.setup.boot,
        now: begun,
        program: "simulator".to_owned(),
        names: sketches.map(|spec| name(spec.number)).collect(),
    }
}

struct Lent<'c>(&'c Cluster);

impl SlicesSource for Lent<'_> {
    fn with(&self, read: &mut dyn FnMut(&[&Slices])) {
        read(&self.0.all_slices().collect::<Vec<_>>());
    }
}
