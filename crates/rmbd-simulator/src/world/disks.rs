//! Hosts' disks: what processes keep on them, what befalls them, and checks of what comes back.

use std::collections::BTreeMap;
use std::time::Duration;

use rmbd_cluster::NameTaken::{Unanswered, Unasked};
use rmbd_proto::cluster::SliceId;
use rmbd_proto::{Boot, SketchNumber, Writer};
use rmbd_snapshot::{ClockReading, FILE_NAME, MARK_FILE_NAME};

use super::super::disk::Disk;
use super::super::machine::{Copies, Found, Keep, Machine, SaveProgress, Setup, is_empty, raise};
use super::super::network::Place;
use super::World;
use super::events::Event;
use super::life::EPOCH_MS;
use super::process::CLOCK_START;

/// Largest number of steps of a file. More is a fault.
const STEPS_MAX: usize = 100_000;
/// Time between two steps of a file.
const STEP_TIME: (Duration, Duration) = (Duration::ZERO, Duration::from_millis(20));
/// The longest time for which a disk is busy with other things.
const BUSY_MAX: Duration = Duration::from_secs(1);
/// A machine has been up for so long when the world begins.
const UP_BEFORE: Duration = Duration::from_secs(100);

/// How hosts keep what they have counted.
#[derive(Debug, Clone, Copy)]
pub struct DiskTerms {
    /// The time from a file to the next one.
    pub interval: Duration,
    /// Whether disks may be copied: then counts that two processes have told under one name may count twice.
    pub are_copied: bool,
}

/// The disk of a host, and what is known of it.
#[derive(Debug, Clone, Default)]
pub struct Drive {
    disk: Disk,
    /// The last file that is certain to be there; files that were begun since then may be, too.
    certain: Option<u64>,
    begun: Vec<u64>,
    /// A copy of it that was made earlier, with the node that it is of.
    copy: Option<(u64, Box<Self>)>,
    /// When the machine booted, and in which boot it is.
    booted: Duration,
    boots: u64,
}

impl Drive {
    /// All files that it may have, and its copy.
    fn files(&self) -> Vec<u64> {
        let copy = self.copy.iter().flat_map(|(_, copy)| copy.files());
        (self.certain.into_iter())
            .chain(self.begun.iter().copied())
            .chain(copy)
            .collect()
    }
}

/// What must be there if a file is there.
#[derive(Debug, Clone)]
pub(super) struct KeptFile {
    copies: Copies,
    /// What its writer had counted of each key by then, by sketch.
    truth: BTreeMap<SketchNumber, Vec<u64>>,
    /// The time by which the wall clock of its machine was behind.
    wall_behind: Duration,
}

/// What befalls the disk of a host on which nothing runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFault {
    /// The disk is another one, which is empty.
    Lost,
    /// The file is damaged, or the mark.
    Torn,
}

impl<M: Machine> World<M> {
    /// Starts a machine with what is on the host's disk, if it has one, and checks what it has found.
    pub(super) fn begin(&mut self, place: Place, setup: &Setup) -> (M, Found) {
        let clocks = self.clocks(place, CLOCK_START);
        let Some(drive) = &mut self.hosts[place].drive else {
            return (M::start(setup, CLOCK_START), Found::default());
        };
        let (machine, found) = M::start_on(setup, &mut drive.disk, clocks);
        let kept = found.file.and_then(|file| self.kept.get(&file));
        if kept.is_some_and(|kept| kept.wall_behind > self.hosts[place].wall_behind) {
            // The disk was in a machine whose clock was behind, and all in it looks older than it is.
            self.ledger.jumped(self.now);
        }
        if let Some(what) = self.look_at_found(place, setup, &machine, found) {
            self.violations.push(format!("{place}: {what}"));
        }
        if let Some(drive) = &mut self.hosts[place].drive {
            // After this the process does as it pleases with it.
            (drive.certain, drive.begun) = (found.file, Vec::new());
        }
        let faults = &mut self.network.faults;
        faults.files_taken_over += u64::from(found.file.is_some());
        faults.clean_starts += u64::from(found.is_resumed);
        faults.files_set_aside += u64::from(found.is_set_aside);
        (machine, found)
    }

    fn look_at_found(
        &self,
        place: Place,
        setup: &Setup,
        machine: &M,
        found: Found,
    ) -> Option<String> {
        let host = &self.hosts[place];
        let drive = host.drive.as_ref()?;
        let may_be = |file: u64| drive.certain == Some(file) || drive.begun.contains(&file);
        if let Some(certain) = drive.certain
            && !found.file.is_some_and(may_be)
        {
            return Some(format!("the file {certain:x} was certain: {found:?}"));
        }
        let kept = self.kept.get(&found.file?)?;
        let has = |number| setup.spec(number).map(|spec| spec.fingerprint());
        let lacks = kept.copies.iter().find(|(slice, cells)| {
            if has(slice.sketch) != self.fingerprints.get(slice).copied() {
                return false;
            }
            let mut name = **slice;
            if (slice.node, slice.writer) == (setup.node, found.writer_before) {
                name.writer = found.renamed.unwrap_or(name.writer);
                if found.is_resumed {
                    name.writer = machine.name().map_or(name.writer, |(_, writer)| writer);
                }
            }
            let held = machine.cells(&name).unwrap_or_default();
            super::watch::lacks(&held, cells)
        });
        let (slice, _) = lacks.filter(|_| !host.is_limited())?;
        Some(format!(
            "the file has {slice:?}, and the process lacks some of it: {found:?}"
        ))
    }

    /// The copies that a process holds, as its answers see them: what an earlier process had counted in its own slices
    /// is one of those of others.
    pub fn as_answered(&self, place: Place, mut copies: Copies) -> Copies {
        let base = self.process(place).resumed.iter().flatten();
        for (slice, base) in base.filter(|(_, base)| !is_empty(base)) {
            if let Some(cells) = copies.get_mut(slice) {
                cells
                    .iter_mut()
                    .zip(base)
                    .for_each(|(cell, base)| *cell -= base);
                let apart = SliceId {
                    writer: Writer(!slice.writer.0),
                    ..*slice
                };
                copies.insert(apart, base.clone());
            }
        }
        copies
    }

    /// Notes with what a process goes on, if it does.
    pub(super) fn note_resumed(&mut self, place: Place, found: Found) {
        let Some(process) = &mut self.hosts[place].process else {
            return;
        };
        let kept = found.file.filter(|_| found.is_resumed);
        let Some(kept) = kept.and_then(|file| self.kept.get(&file)) else {
            return;
        };
        let writer = process.setup.writer;
        process.resumed = Some(process.all_own_cells().collect());
        for slice in process.setup.slices() {
            let Some(truth) = kept.truth.get(&slice.sketch) else {
                continue;
            };
            process.truth.insert(slice.sketch, truth.clone());
            raise_truth(&mut self.truth, slice, truth);
            if writer != found.writer_before {
                let before = SliceId {
                    writer: found.writer_before,
                    ..slice
                };
                self.ledger.goes_on(before, slice);
                if self.terms.disks.is_some_and(|disks| disks.are_copied) {
                    // Another copy may have gone on as another writer.
                    add_all(self.twice.entry(slice.sketch).or_default(), truth);
                }
            }
        }
    }

    /// Sees whether a process has taken another writer, and moves what it has counted since its start.
    pub(super) fn see_name(&mut self, place: Place) {
        let now = self.now;
        let Some(process) = &mut self.hosts[place].process else {
            return;
        };
        let Some((boot, writer)) = process.machine.name() else {
            return;
        };
        process.boot_now = boot;
        if writer == process.setup.writer {
            return;
        }
        let reason = process.machine.reason_of_name(process.clock(now));
        let are_copied = self.terms.disks.is_some_and(|disks| disks.are_copied);
        let before: Vec<_> = process.setup.slices().collect();
        process.setup.writer = writer;
        process.noted_versions.clear();
        let base = process.resumed.take().unwrap_or_default();
        let since = std::mem::take(&mut process.since);
        let ledger = std::mem::take(&mut process.ledger);
        process.truth = since.clone();
        let mut written = Copies::new();
        for old in before {
            let added = process.machine.own_cells(old.sketch);
            let base = base.get(&old).into_iter().flatten();
            let base = base.copied().chain(std::iter::repeat(0));
            let cells = added.iter().zip(base).map(|(added, base)| added + base);
            written.insert(old, cells.collect());
            let new = process.setup.slice_of(old.sketch);
            if let Some(&fingerprint) = self.fingerprints.get(&old) {
                self.fingerprints.insert(new, fingerprint);
            }
            self.truth.insert(new, vec![0; self.keys.len()]);
            if let Some(since) = since.get(&old.sketch) {
                raise_truth(&mut self.truth, new, since);
                if are_copied {
                    // Some of it may have gone out under the old name.
                    add_all(self.twice.entry(old.sketch).or_default(), since);
                }
            }
            self.ledger.set(new, ledger.of(&old));
        }
        for (slice, cells) in written {
            super::raise_or_insert(&mut self.written, slice, cells);
        }
        self.network.faults.new_writers += 1;
        self.tell(|| format!("{place} is writer {writer} now: {reason:?}"));
        if !are_copied && !matches!(reason, Some(Unanswered | Unasked)) {
            let what = format!("{place} gave up a name that was its own: {reason:?}");
            self.violations.push(what);
        }
    }

    /// Does the next step of a file.
    pub(super) fn save_some(&mut self, place: Place, boot: Boot) {
        let Some(terms) = self.terms.disks else {
            return;
        };
        let is_it = self.hosts[place]
            .process
            .as_ref()
            .is_some_and(|process| process.setup.boot == boot && process.leaving.is_none());
        if !is_it {
            return;
        }
        let is_stopped = self.process(place).paused_until.is_some();
        let busy = match self.disk_random.chance(0.02) {
            true => BUSY_MAX,
            false => STEP_TIME.1,
        };
        let mut pause = self.disk_random.time(STEP_TIME.0, busy);
        if !is_stopped {
            match self.save(place, false) {
                None => return,
                Some(SaveProgress::Saved(_)) => pause = terms.interval,
                Some(_) => {}
            }
            self.settle(place);
        }
        self.queue.push(
            self.now + pause.max(STEP_TIME.1 / 20),
            Event::Save { place, boot },
        );
    }

    /// Does one step of a file. Returns `None` where nothing is kept.
    fn save(&mut self, place: Place, is_last: bool) -> Option<SaveProgress> {
        let file = self.disk_random.next();
        let now = self.clocks(place, self.clock(place));
        let host = &mut self.hosts[place];
        let (drive, process) = host.drive.as_mut().zip(host.process.as_mut())?;
        let to = Keep {
            setup: &process.setup,
            file,
            now,
            is_last,
        };
        let progress = process.machine.save(to, &mut drive.disk)?;
        // The power may fail before anything else happens, and the file has what was published.
        self.see_name(place);
        self.watch(place);
        match progress {
            SaveProgress::Begins(file) => self.note_begun(place, file),
            SaveProgress::Saved(file) => {
                self.network.faults.files += 1;
                if let Some(drive) = &mut self.hosts[place].drive {
                    (drive.certain, drive.begun) = (Some(file), Vec::new());
                }
            }
            SaveProgress::Going => {}
        }
        Some(progress)
    }

    fn note_begun(&mut self, place: Place, file: u64) {
        let process = self.process(place);
        let kept = KeptFile {
            copies: process.machine.copies(),
            truth: process.truth.clone(),
            wall_behind: self.hosts[place].wall_behind,
        };
        if let Some(drive) = &mut self.hosts[place].drive {
            drive.begun.push(file);
        }
        let drives = self.hosts.iter().filter_map(|host| host.drive.as_ref());
        let files: Vec<u64> = drives.flat_map(Drive::files).collect();
        self.kept.retain(|file, _| files.contains(file));
        self.kept.insert(file, kept);
    }

    /// Writes the last file of a process, and its mark, unless the power fails meanwhile.
    pub(super) fn save_last(&mut self, place: Place) {
        let host = &mut self.hosts[place];
        let Some((drive, process)) = host.drive.as_mut().zip(host.process.as_mut()) else {
            return;
        };
        process.machine.give_up_saving(&mut drive.disk);
        let fails = self.disk_random.chance(0.15);
        let fails_at = fails.then(|| self.disk_random.below(20));
        for step in 0..STEPS_MAX {
            if fails_at == Some(step) {
                self.lose_power(place);
                return;
            }
            match self.save(place, true) {
                None => return,
                Some(SaveProgress::Saved(_)) => {
                    self.network.faults.clean_ends += 1;
                    return;
                }
                Some(_) => {}
            }
        }
        self.violations
            .push(format!("{place} does not end its file"));
    }

    /// The host's power fails. What ran on it must be gone.
    pub(super) fn lose_power(&mut self, place: Place) {
        let now = self.now;
        if let Some(drive) = &mut self.hosts[place].drive {
            drive.disk.lose_power(&mut self.disk_random);
            drive.booted = now;
            drive.boots += 1;
            self.network.faults.power_cuts += 1;
        }
    }

    /// Half of all crashes are the host's.
    pub(super) fn may_lose_power(&mut self, place: Place) {
        if self.hosts[place].drive.is_some() && self.disk_random.chance(0.5) {
            self.lose_power(place);
        }
    }

    /// Crashes a process, lets something befall its disk, and starts it again.
    pub fn befall_disk(&mut self, place: Place, fault: DiskFault) {
        if self.hosts[place].drive.is_none() {
            return;
        }
        self.crash(place);
        let node = self.random.next();
        let host = &mut self.hosts[place];
        let Some(drive) = &mut host.drive else {
            return;
        };
        match fault {
            DiskFault::Lost => {
                host.node = node;
                *drive = Drive::default();
                self.network.faults.lost_disks += 1;
            }
            DiskFault::Torn => {
                let name = if self.disk_random.chance(0.8) {
                    drive.certain = None;
                    FILE_NAME
                } else {
                    MARK_FILE_NAME
                };
                let is_torn = drive.disk.damage(name, &mut self.disk_random);
                self.network.faults.torn_files += u64::from(is_torn);
            }
        }
        self.start(place);
    }

    /// Copies a host's disk as it is.
    pub fn copy_disk(&mut self, place: Place) {
        let host = &mut self.hosts[place];
        if let Some(drive) = &mut host.drive {
            let mut copy = drive.clone();
            copy.copy = None;
            drive.copy = Some((host.node, Box::new(copy)));
        }
    }

    /// Starts a process with a copy of a disk that was made earlier.
    pub fn start_on_copy(&mut self, of: Place, at: Place) {
        let copy = self.hosts[of].drive.as_ref();
        let Some((node, copy)) = copy.and_then(|drive| drive.copy.clone()) else {
            return;
        };
        self.crash(at);
        self.network.faults.old_copies += 1;
        self.hosts[at].node = node;
        self.put_disk(at, *copy);
        self.start(at);
    }

    /// Puts a copy of a disk into a host, which stays the machine that it is.
    pub(super) fn put_disk(&mut self, at: Place, copy: Drive) {
        if let Some(drive) = &mut self.hosts[at].drive {
            let (booted, boots, own_copy) = (drive.booted, drive.boots, drive.copy.take());
            *drive = Drive {
                booted,
                boots,
                copy: own_copy,
                ..copy
            };
        }
    }

    /// What the clocks of a host show, of which the node's own shows `time`.
    fn clocks(&self, place: Place, time: Duration) -> ClockReading {
        let host = &self.hosts[place];
        let (booted, boots) = host
            .drive
            .as_ref()
            .map_or((Duration::ZERO, 0), |drive| (drive.booted, drive.boots));
        let mut up = self.now - booted;
        if boots == 0 {
            up += UP_BEFORE;
        }
        ClockReading {
            time,
            wall: Duration::from_millis(EPOCH_MS) + self.now - host.wall_behind,
            since_boot: up.mul_f64(host.clock_rate),
            machine_boot: (place as u128 + 1) << 64 | u128::from(boots),
        }
    }
}

/// Raises what was added to a slice to what one line of it has.
pub(super) fn raise_truth(truth: &mut BTreeMap<SliceId, Vec<u64>>, slice: SliceId, to: &[u64]) {
    let truth = truth.entry(slice).or_insert_with(|| vec![0; to.len()]);
    raise(truth, to);
}

fn add_all(sums: &mut Vec<u64>, more: &[u64]) {
    sums.resize(more.len().max(sums.len()), 0);
    sums.iter_mut()
        .zip(more)
        .for_each(|(sum, more)| *sum += more);
}
