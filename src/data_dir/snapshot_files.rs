//! The files of the folder that keep what was counted, and the mark of a clean end.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rmbd_snapshot::{FILE_NAME, MARK_FILE_NAME, NEW_FILE_NAME};

use super::folder::{Folder, remove_if_there};

const NEW_MARK_FILE_NAME: &str = "clean_end.new";
/// How the names of files begin that were set aside; time and reason follow.
const BAD_START: &str = "snapshot.bad-";
/// Number of files that are kept after they were set aside: enough to find out what happened in some restarts. They
/// may be as large as the memory of all cells.
const BAD_FILES_MAX: usize = 4;
/// Number of names that are tried for a file that is set aside; a name may be taken if the clock goes back.
const NAMES_TRIED: usize = 100;
/// Most bytes of a mark: several times what the largest number of sketches takes.
const MARK_BYTES_MAX: u64 = 64 << 10;
/// The last second of the year 9999, behind which a year has more digits.
const LAST_SECOND: Duration = Duration::from_secs(253_402_300_799);

/// Why the snapshot file cannot even be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// A link could lead to anybody's file.
    #[error("it is a symbolic link")]
    Link,
    /// It is a folder, a pipe or a device.
    #[error("it is no regular file")]
    NotAFile,
    #[error("it cannot be opened: {0}")]
    Open(io::Error),
}

/// Which file it is on this machine, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileIdentity {
    device: u64,
    inode: u64,
}

impl Unusable {
    /// The reason in a file's name.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::NotAFile => "no-file",
            Self::Open(_) => "unreadable",
        }
    }
}

impl FileIdentity {
    pub(crate) fn of(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
        }
    }
}

impl Folder {
    /// Opens the last snapshot file; `None` if there is none. Links are not followed, and nothing waits for a pipe.
    ///
    /// # Errors
    /// [`Unusable`]; the file is as it was.
    pub(crate) fn open_snapshot(&self) -> Result<Option<File>, Unusable> {
        match open(&self.file(FILE_NAME)) {
            Ok(file) => Ok(Some(file)),
            Err(Unusable::Open(error)) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Which file the last snapshot file is; `None` if there is none, or it cannot be looked at.
    pub(crate) fn snapshot_identity(&self) -> Option<FileIdentity> {
        let metadata = fs::symlink_metadata(self.file(FILE_NAME)).ok()?;
        Some(FileIdentity::of(&metadata))
    }

    /// Gives the snapshot file a name that says when (`now`, UTC) and why (`word`) it is not used. Of the files that
    /// were set aside, only the youngest are kept. Returns the new name.
    ///
    /// # Errors
    /// The system's; then the file is where it was.
    pub(crate) fn set_aside(&self, now: SystemTime, word: &str) -> io::Result<String> {
        let name = self.free_name(now, word)?;
        fs::rename(self.file(FILE_NAME), self.file(&name))?;
        self.forget_oldest(&name);
        self.sync()?;
        Ok(name)
    }

    /// Like [`set_aside`](Self::set_aside), for a file that stays in its place as well, until the next one replaces it.
    ///
    /// # Errors
    /// The system's; some file systems know no second names.
    pub(crate) fn keep_too(&self, now: SystemTime, word: &str) -> io::Result<String> {
        let name = self.free_name(now, word)?;
        fs::hard_link(self.file(FILE_NAME), self.file(&name))?;
        self.forget_oldest(&name);
        self.sync()?;
        Ok(name)
    }

    /// Names of all files that were set aside, the oldest first.
    pub(crate) fn bad_files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path()).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name());
        let mut bad: Vec<String> = names.filter_map(bad_name).collect();
        bad.sort_unstable();
        bad
    }

    /// Removes what was left of a snapshot file that was being written.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn remove_new_snapshot(&self) -> io::Result<()> {
        remove_if_there(&self.file(NEW_FILE_NAME)).map(drop)
    }

    /// The bytes of the mark of a clean end; `None` if there is none that could be one.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn read_mark(&self) -> io::Result<Option<Vec<u8>>> {
        let file = match open(&self.file(MARK_FILE_NAME)) {
            Ok(file) => file,
            Err(Unusable::Open(error)) if error.kind() != ErrorKind::NotFound => return Err(error),
            Err(_) => return Ok(None),
        };
        let mut bytes = Vec::new();
        file.take(MARK_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        Ok((bytes.len() as u64 <= MARK_BYTES_MAX).then_some(bytes))
    }

    /// Removes the mark of a clean end, so that it stays away also after a loss of power.
    ///
    /// # Errors
    /// The system's: the mark is there, or may come back.
    pub(crate) fn remove_mark(&self) -> io::Result<()> {
        match remove_if_there(&self.file(MARK_FILE_NAME))? {
            true => self.sync(),
            false => Ok(()),
        }
    }

    /// Writes the mark of a clean end durably.
    ///
    /// # Errors
    /// The system's: there may be no mark.
    pub(crate) fn write_mark(&self, mark: &[u8]) -> io::Result<()> {
        self.replace(NEW_MARK_FILE_NAME, MARK_FILE_NAME, mark)
    }

    fn free_name(&self, now: SystemTime, word: &str) -> io::Result<String> {
        let start = format!("{BAD_START}{}", utc(now));
        let numbered = (1..NAMES_TRIED).map(|number| format!("{start}.{number:02}-{word}"));
        let mut names = std::iter::once(format!("{start}-{word}")).chain(numbered);
        let is_free = |name: &String| {
            let there = fs::symlink_metadata(self.file(name));
            there.is_err_and(|error| error.kind() == ErrorKind::NotFound)
        };
        let free = names.find(is_free);
        free.ok_or_else(|| io::Error::other(format!("all names like {start}-{word} are taken")))
    }

    /// Removes the oldest files that were set aside, but not this one.
    fn forget_oldest(&self, newest: &str) {
        let mut bad = self.bad_files();
        bad.retain(|name| name != newest);
        let surplus = (bad.len() + 1).saturating_sub(BAD_FILES_MAX);
        for name in bad.iter().take(surplus) {
            let path = self.file(name);
            // A folder with something in it is somebody's, and stays.
            if fs::remove_file(&path).is_err() {
                let _ = fs::remove_dir(&path);
            }
        }
    }
}

fn open(path: &Path) -> Result<File, Unusable> {
    let mut options = OpenOptions::new();
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = options.read(true).custom_flags(flags).open(path);
    let file = file.map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => Unusable::Link,
        Some(libc::ENXIO) => Unusable::NotAFile,
        _ => Unusable::Open(error),
    })?;
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(file),
        Ok(_) => Err(Unusable::NotAFile),
        Err(error) => Err(Unusable::Open(error)),
    }
}

fn bad_name(name: OsString) -> Option<String> {
    let name = name.into_string().ok()?;
    name.starts_with(BAD_START).then_some(name)
}

/// A time such as `20260131T235959.123Z`: in the order of letters these are in the order of time.
fn utc(time: SystemTime) -> String {
    let since_1970 = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = UNIX_EPOCH + since_1970.min(LAST_SECOND);
    let text = humantime::format_rfc3339_millis(time).to_string();
    text.replace(['-', ':'], "")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::data_dir::tests::Scratch;

    const START: Duration = Duration::from_secs(1_800_000_000);

    fn folder(scratch: &Scratch) -> Folder {
        fs::create_dir_all(&scratch.0).unwrap();
        Folder::lock(&scratch.0).unwrap()
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + START + Duration::from_secs(seconds)
    }

    #[test]
    fn names_are_in_the_order_of_time() {
        assert_eq!(utc(UNIX_EPOCH + START), "20270115T080000.000Z");
        assert_eq!(utc(UNIX_EPOCH - START), "19700101T000000.000Z");
        let late = UNIX_EPOCH + Duration::from_secs(1 << 45);
        assert_eq!(utc(late), "99991231T235959.000Z");
        let mut last = utc(UNIX_EPOCH);
        for step in 1..2_000 {
            let next = utc(UNIX_EPOCH + Duration::from_millis(step * step * 987_654));
            assert!(last < next, "{last} {next}");
            last = next;
        }
    }

    #[test]
    fn what_is_set_aside_says_when_and_why_and_the_oldest_go() {
        let scratch = Scratch::new("aside");
        let folder = folder(&scratch);
        assert!(folder.open_snapshot().unwrap().is_none());
        assert!(folder.set_aside(at(0), "torn").is_err(), "there is none");
        let put = |content: &str| fs::write(folder.file(FILE_NAME), content).unwrap();
        put("twice");
        assert_eq!(
            folder.set_aside(at(0), "torn").unwrap(),
            "snapshot.bad-20270115T080000.000Z-torn"
        );
        put("twice");
        let second = folder.set_aside(at(0), "torn").unwrap();
        assert_eq!(second, "snapshot.bad-20270115T080000.000Z.01-torn");
        for seconds in 1..9 {
            put(&seconds.to_string());
            let name = folder.set_aside(at(seconds), "checksum").unwrap();
            assert_eq!(
                fs::read_to_string(folder.file(&name)).unwrap(),
                seconds.to_string()
            );
            assert!(folder.snapshot_identity().is_none());
        }
        let kept = folder.bad_files();
        let youngest =
            [5, 6, 7, 8].map(|seconds| format!("{BAD_START}20270115T08000{seconds}.000Z-checksum"));
        assert_eq!(kept, youngest);
        // A clock that goes back does not make what was just set aside the oldest.
        put("now");
        let name = folder.set_aside(UNIX_EPOCH, "link").unwrap();
        assert_eq!(fs::read_to_string(folder.file(&name)).unwrap(), "now");
        assert_eq!(folder.bad_files().len(), BAD_FILES_MAX);
        put("both");
        let name = folder.keep_too(at(99), "skipped").unwrap();
        for name in [FILE_NAME, &name] {
            assert_eq!(fs::read_to_string(folder.file(name)).unwrap(), "both");
        }
    }

    #[test]
    fn only_a_regular_file_is_opened() {
        let scratch = Scratch::new("regular");
        let folder = folder(&scratch);
        let path = folder.file(FILE_NAME);
        let elsewhere = scratch.0.join("elsewhere");
        fs::write(&elsewhere, "somebody's").unwrap();
        symlink(&elsewhere, &path).unwrap();
        assert!(matches!(folder.open_snapshot(), Err(Unusable::Link)));
        folder.set_aside(at(0), "link").unwrap();
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "somebody's");
        fs::create_dir(&path).unwrap();
        assert!(matches!(folder.open_snapshot(), Err(Unusable::NotAFile)));
        folder.set_aside(at(1), "no-file").unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, mode, 0).unwrap();
        assert!(matches!(folder.open_snapshot(), Err(Unusable::NotAFile)));
        folder.set_aside(at(2), "no-file").unwrap();
        fs::write(&path, "ours").unwrap();
        let mut text = String::new();
        let mut file = folder.open_snapshot().unwrap().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "ours");
        let identity = FileIdentity::of(&file.metadata().unwrap());
        assert_eq!(folder.snapshot_identity(), Some(identity));
    }

    #[test]
    fn a_mark_is_written_read_and_gone() {
        let scratch = Scratch::new("mark");
        let folder = folder(&scratch);
        assert_eq!(folder.read_mark().unwrap(), None);
        folder.remove_mark().unwrap();
        // What was left of one that was being written is in nobody's way, whatever it is.
        symlink("/nowhere", folder.file(NEW_MARK_FILE_NAME)).unwrap();
        folder.write_mark(b"end").unwrap();
        assert_eq!(folder.read_mark().unwrap().as_deref(), Some(&b"end"[..]));
        let path = folder.file(MARK_FILE_NAME);
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        folder.write_mark(b"another").unwrap();
        folder.remove_mark().unwrap();
        assert_eq!(folder.read_mark().unwrap(), None);
        fs::write(&path, vec![0; MARK_BYTES_MAX as usize + 1]).unwrap();
        assert_eq!(folder.read_mark().unwrap(), None, "no mark is so long");
        fs::remove_file(&path).unwrap();
        symlink("/nowhere", &path).unwrap();
        assert_eq!(folder.read_mark().unwrap(), None);
        folder.remove_mark().unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(folder.read_mark().unwrap(), None);
        assert!(folder.remove_mark().is_err(), "a folder stays");
    }

    #[test]
    fn a_folder_that_was_moved_away_is_noticed() {
        let scratch = Scratch::new("moved");
        let there = scratch.0.join("there");
        fs::create_dir_all(&there).unwrap();
        let folder = Folder::lock(&there).unwrap();
        assert!(folder.is_still_there().unwrap());
        fs::rename(&there, scratch.0.join("away")).unwrap();
        assert!(folder.is_still_there().is_err());
        fs::create_dir(&there).unwrap();
        let _other = Folder::lock(&there).unwrap();
        assert!(!folder.is_still_there().unwrap());
    }
}
