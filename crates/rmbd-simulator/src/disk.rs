//! A disk: what a process sees of it, and what is left of that when the power fails.

use std::collections::BTreeMap;

use super::random::Random;

/// The number of a file, whatever its name is.
type Inode = usize;

/// One folder. What was written is certain to be there after the power has failed only if it was synced; of the rest
/// anything may be left.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    files: Vec<Contents>,
    /// The names that processes see.
    names: BTreeMap<&'static str, Inode>,
    /// The names that are certain.
    synced: BTreeMap<&'static str, Inode>,
    /// What has happened to names since then, in order.
    changes: Vec<Change>,
}

#[derive(Debug, Clone, Default)]
struct Contents {
    bytes: Vec<u8>,
    synced: usize,
}

#[derive(Debug, Clone, Copy)]
enum Change {
    Links(&'static str, Inode),
    Removes(&'static str),
    Renames(&'static str, &'static str),
}

impl Disk {
    /// Makes an empty file, in place of one of this name.
    pub fn create(&mut self, name: &'static str) {
        self.files.push(Contents::default());
        self.change(Change::Links(name, self.files.len() - 1));
    }

    /// Appends to a file that is there.
    pub fn append(&mut self, name: &str, bytes: &[u8]) {
        if let Some(&inode) = self.names.get(name) {
            self.files[inode].bytes.extend_from_slice(bytes);
        }
    }

    /// Makes certain what is in a file.
    pub fn sync(&mut self, name: &str) {
        if let Some(&inode) = self.names.get(name) {
            let contents = &mut self.files[inode];
            contents.synced = contents.bytes.len();
        }
    }

    /// Makes certain what names there are.
    pub fn sync_folder(&mut self) {
        self.changes.clear();
        self.synced = self.names.clone();
    }

    pub fn rename(&mut self, from: &'static str, to: &'static str) {
        self.change(Change::Renames(from, to));
    }

    pub fn remove(&mut self, name: &'static str) {
        self.change(Change::Removes(name));
    }

    /// Puts a whole file in place of one of this name, so that after a power cut it is one or the other.
    pub fn replace(&mut self, name: &'static str, by: &'static str, bytes: &[u8]) {
        self.create(by);
        self.append(by, bytes);
        self.sync(by);
        self.rename(by, name);
        self.sync_folder();
    }

    /// The contents of a file, if there is one.
    pub fn read(&self, name: &str) -> Option<&[u8]> {
        let inode = self.names.get(name)?;
        Some(&self.files[*inode].bytes)
    }

    /// The power fails: names and contents are what was certain, and a part of what was not.
    pub fn lose_power(&mut self, random: &mut Random) {
        let kept = random.below(self.changes.len() + 1);
        let mut names = self.synced.clone();
        for &change in &self.changes[..kept] {
            apply(&mut names, change);
        }
        self.names = names;
        self.sync_folder();
        for contents in &mut self.files {
            let unsynced = contents.bytes.len() - contents.synced;
            let kept = contents.synced + random.below(unsynced + 1);
            contents.bytes.truncate(kept);
            if kept > contents.synced && random.chance(0.5) {
                // The length was written, and the data were not.
                contents.bytes[contents.synced..].fill(0);
            }
            contents.synced = kept;
        }
    }

    /// Damages a file: a bit of it flips, or its end is missing. Returns whether there was something to damage.
    pub fn damage(&mut self, name: &str, random: &mut Random) -> bool {
        let Some(&inode) = self.names.get(name) else {
            return false;
        };
        let contents = &mut self.files[inode];
        if contents.bytes.is_empty() {
            return false;
        }
        let at = random.below(contents.bytes.len());
        if random.chance(0.5) {
            contents.bytes[at] ^= 1 << random.below(8);
        } else {
            contents.bytes.truncate(at);
            contents.synced = contents.synced.min(at);
        }
        true
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.names, change);
        self.changes.push(change);
    }
}

fn apply(names: &mut BTreeMap<&'static str, Inode>, change: Change) {
    match change {
        Change::Links(name, inode) => {
            names.insert(name, inode);
        }
        Change::Removes(name) => {
            names.remove(name);
        }
        Change::Renames(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to, inode);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_outlives_the_power_and_of_the_rest_there_is_a_part() {
        let (mut lost, mut torn, mut renamed) = (0, 0, 0);
        for seed in 0..200 {
            let mut disk = Disk::default();
            disk.replace("file", "new", b"whole");
            disk.create("new");
            disk.append("new", b"later");
            disk.rename("new", "file");
            disk.lose_power(&mut Random::new(seed));
            let left = disk.read("file").unwrap();
            match left {
                b"whole" => lost += 1,
                b"later" => renamed += 1,
                _ => torn += 1,
            }
            assert!(left.len() <= 5);
        }
        assert!(
            lost > 20 && torn > 20 && renamed > 2,
            "{lost} {torn} {renamed}"
        );
    }

    #[test]
    fn a_file_that_is_replaced_is_one_or_the_other() {
        let mut disk = Disk::default();
        disk.replace("file", "new", b"one");
        disk.replace("file", "new", b"other");
        disk.lose_power(&mut Random::new(1));
        assert_eq!(disk.read("file"), Some(&b"other"[..]));
        assert_eq!(disk.read("new"), None);
        disk.remove("file");
        disk.sync_folder();
        disk.lose_power(&mut Random::new(2));
        assert_eq!(disk.read("file"), None);
        assert!(!disk.damage("file", &mut Random::new(3)));
    }
}
