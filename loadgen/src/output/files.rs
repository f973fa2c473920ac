//! Files that a run writes, each as a whole or not at all.
//!
//! A finished text goes into a temporary file beside its place, which is then renamed. So nobody reads half of it,
//! and the old file stays if the new one cannot be written. What cannot be replaced in this way is written in place:
//! devices, pipes and symbolic links (`/dev/stdout`), and a file whose directory takes no others (one that is mounted
//! alone into a container).
//!
//! Before a run the same way is tried without a text, so that a path that cannot be written does not cost a run. That
//! leaves nothing behind, and touches no existing file.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use serde::Serialize;
use tempfile::NamedTempFile;
use thiserror::Error;

/// The error for a result that cannot be written. The run, the other results and the old file are not affected.
#[derive(Debug, Error)]
#[error("can't write {what} to {path}: {source}; name a file in a directory that you may write to")]
pub(crate) struct OutputError {
    /// The kind of the result.
    pub what: &'static str,
    /// The path of the file.
    pub path: PathBuf,
    /// The system's error.
    pub source: io::Error,
}

/// Checks whether a file can be written there, as far as that is known before. Nothing is changed.
///
/// # Errors
/// Fails with [`OutputError`].
pub(crate) fn check_file(what: &'static str, path: &Path) -> Result<(), OutputError> {
    let checked = match writing(path) {
        Ok(Writing::Replace(before)) => match (draft(path, before.as_ref()), before) {
            (Err(error), Some(_)) if is_of_directory(&error) => is_writable(path),
            (draft, _) => draft.map(drop),
        },
        Ok(Writing::InPlace) => is_writable(path),
        Err(error) => Err(error),
    };
    checked.map_err(to(what, path))
}

/// Checks whether files can be written into this directory, which may not exist yet. Nothing is changed.
///
/// # Errors
/// Fails with [`OutputError`].
pub(crate) fn check_directory(what: &'static str, path: &Path) -> Result<(), OutputError> {
    let nearest = path.ancestors().find(|ancestor| match ancestor.to_str() {
        Some("") => true,
        _ => fs::symlink_metadata(ancestor).is_ok(),
    });
    let inside = nearest.unwrap_or(path).join("result");
    draft(&inside, None).map(drop).map_err(to(what, path))
}

/// Writes a whole text file.
pub(crate) fn write_text(what: &'static str, path: &Path, text: &[u8]) -> Result<(), OutputError> {
    write(path, text).map_err(to(what, path))
}

/// Writes a value as JSON that people can read, too, with a line end.
pub(crate) fn write_json(value: &impl Serialize, path: &Path) -> Result<(), OutputError> {
    const WHAT: &str = "the JSON record";
    let text = serde_json::to_vec_pretty(value);
    let mut text = text.map_err(|source| to(WHAT, path)(source.into()))?;
    text.push(b'\n');
    write_text(WHAT, path, &text)
}

/// Makes a directory and those above it, if they are missing.
pub(crate) fn make_directory(what: &'static str, path: &Path) -> Result<(), OutputError> {
    fs::create_dir_all(path).map_err(to(what, path))
}

fn to(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OutputError {
    move |source| OutputError {
        what,
        path: path.to_owned(),
        source,
    }
}

/// The way in which a text gets to a path.
enum Writing {
    /// A new file replaces the old one, and gets its permissions.
    Replace(Option<Permissions>),
    /// The existing file is written.
    InPlace,
}

fn writing(path: &Path) -> io::Result<Writing> {
    let there = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Writing::Replace(None)),
        there => there?,
    };
    if path.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    Ok(match there.is_file() {
        true => Writing::Replace(Some(there.permissions())),
        false => Writing::InPlace,
    })
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let Writing::Replace(before) = writing(path)? else {
        return write_in_place(path, text);
    };
    match replace(path, before.as_ref(), text) {
        Err(error) if before.is_some() && is_of_directory(&error) => write_in_place(path, text),
        replaced => replaced,
    }
}

fn replace(path: &Path, before: Option<&Permissions>, text: &[u8]) -> io::Result<()> {
    let mut draft = draft(path, before)?;
    draft.write_all(text)?;
    draft.persist(path)?;
    Ok(())
}

/// A temporary file beside a path. It is removed when dropped.
fn draft(path: &Path, before: Option<&Permissions>) -> io::Result<NamedTempFile> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    // As with `File::create`, the process's mask is applied to this.
    let usual = Permissions::from_mode(0o666);
    let draft = tempfile::Builder::new()
        .prefix(".loadgen-")
        .permissions(usual)
        .tempfile_in(directory)?;
    if let Some(before) = before {
        draft.as_file().set_permissions(before.clone())?;
    }
    Ok(draft)
}

/// Whether an error means that nothing can be made or renamed beside the file; the file itself may be writable.
fn is_of_directory(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::ResourceBusy
            | ErrorKind::CrossesDevices
    )
}

fn write_in_place(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(text)
}

/// Whether a file is writable. It asks without opening, since a pipe's reader would take a file that is closed again
/// for its end. A link that leads nowhere is only noticed when it is written.
fn is_writable(path: &Path) -> io::Result<()> {
    match access(path, Access::WRITE_OK) {
        Err(rustix::io::Errno::NOENT) if path.is_symlink() => Ok(()),
        asked => Ok(asked?),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::super::testing;
    use super::*;

    /// Names of the entries of a directory.
    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    fn text_of(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_check_changes_nothing() {
        let directory = testing::directory("output-check");
        let (new, old) = (directory.join("new"), directory.join("old"));
        fs::write(&old, "as it was").unwrap();
        let before = fs::metadata(&old).unwrap();
        check_file("it", &new).unwrap();
        check_file("it", &old).unwrap();
        check_directory("it", &directory).unwrap();
        check_directory("it", &directory.join("a/b/c")).unwrap();
        check_directory("it", Path::new("no/such/directory/here")).unwrap();
        assert_eq!(names(&directory), ["old"]);
        let after = fs::metadata(&old).unwrap();
        assert_eq!(text_of(&old), "as it was");
        let when = |of: &fs::Metadata| (of.mtime(), of.mtime_nsec(), of.ino());
        assert_eq!(when(&after), when(&before));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_is_checked_and_written_is_there_whole_and_alone() {
        let directory = testing::directory("output-write");
        let path = directory.join("file");
        for text in ["a long text", "short", ""] {
            check_file("it", &path).unwrap();
            write_text("it", &path, text.as_bytes()).unwrap();
            assert_eq!(text_of(&path), text);
            assert_eq!(names(&directory), ["file"]);
        }
        // The mode is that of any new file, and then that of the old file.
        let mode = || fs::metadata(&path).unwrap().mode() & 0o777;
        let usual = directory.join("usual");
        fs::File::create(&usual).unwrap();
        assert_eq!(mode(), fs::metadata(&usual).unwrap().mode() & 0o777);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        write_text("it", &path, b"again").unwrap();
        assert_eq!(mode(), 0o640);
        // A reader of the old file reads it to its end.
        let old = fs::File::open(&path).unwrap();
        write_text("it", &path, b"new").unwrap();
        assert_eq!(io::read_to_string(old).unwrap(), "again");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn links_and_devices_are_written_in_place() {
        let directory = testing::directory("output-places");
        let (target, link) = (directory.join("target"), directory.join("link"));
        symlink(&target, &link).unwrap();
        for text in ["new", "old"] {
            check_file("it", &link).unwrap();
            write_text("it", &link, text.as_bytes()).unwrap();
            assert_eq!(text_of(&target), text);
            assert!(link.is_symlink());
        }
        check_file("it", Path::new("/dev/null")).unwrap();
        write_text("it", Path::new("/dev/null"), b"text").unwrap();
        let error = write_text("it", Path::new("/dev/full"), b"text").unwrap_err();
        assert_eq!(error.source.kind(), ErrorKind::StorageFull);
        assert_eq!(names(&directory), ["link", "target"]);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_cannot_be_written_is_said_before_and_leaves_nothing() {
        let directory = testing::directory("output-errors");
        let file = directory.join("file");
        fs::write(&file, "a file").unwrap();
        let long = "n".repeat(300);
        let none = [
            directory.clone(),
            directory.join("no/such/directory"),
            file.join("below a file"),
            directory.join(long),
            PathBuf::from("/proc/no file here"),
        ];
        for path in &none {
            assert!(check_file("it", path).is_err(), "{}", path.display());
            assert!(
                write_text("it", path, b"text").is_err(),
                "{}",
                path.display()
            );
        }
        for path in [file.clone(), file.join("below a file"), "/proc/no".into()] {
            let error = check_directory("it", &path).unwrap_err().to_string();
            assert!(error.contains(path.to_str().unwrap()), "{error}");
        }
        assert_eq!(names(&directory), ["file"]);
        assert_eq!(text_of(&file), "a file");
        fs::remove_dir_all(directory).unwrap();
    }
}
