//! Rules of rates for descriptors, as they are read from files and folders.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use rmbd_rules::{FILE_BYTES_MAX, FILES_MAX, READ_BYTES_MAX, Rules, RulesError, RulesFile};

/// How the names of files of rules end.
const ENDINGS: [&str; 2] = ["yaml", "yml"];
/// Largest number of entries in a folder of rules, with those that are none: whoever names a folder by mistake should
/// not wait for all of it.
const ENTRIES_MAX: usize = 64 * FILES_MAX;

/// A file of rules that was read, and is not understood yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RulesText {
    /// Its path, for people.
    pub name: String,
    /// Its YAML.
    pub text: String,
}

/// Why there are no rules. Those that were in force before still are.
#[derive(Debug, Error)]
pub enum RulesFilesError {
    /// A file or a folder cannot be read.
    #[error("{}: {error}: name files of rules, or folders of them, that this process may read", path.display())]
    Unreadable {
        /// The file or the folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A file is none that could be read again.
    #[error("{}: this is no regular file: name a file or a folder", .0.display())]
    NotRegular(PathBuf),
    /// A folder has no file of rules.
    #[error("{}: there is no *.yaml and no *.yml in this folder: name the one with the rules", .0.display())]
    NoFiles(PathBuf),
    /// A folder has too many entries, or there are too many files.
    #[error(
        "{}: there are more than {ENTRIES_MAX} entries, or {FILES_MAX} files of rules: name the folder with the rules",
        .0.display()
    )]
    TooManyFiles(PathBuf),
    /// A file is too large.
    #[error("{}: the file has more than {FILE_BYTES_MAX} bytes: split it by domains", .0.display())]
    TooLarge(PathBuf),
    /// All files are too large.
    #[error("{}: with it all files have more than {READ_BYTES_MAX} bytes: write fewer", .0.display())]
    TooMuch(PathBuf),
    /// A file is not UTF-8.
    #[error("{}:{line}: this line is not UTF-8: save the file as UTF-8", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The first line that is not, from 1.
        line: usize,
    },
    /// A file is not understood.
    #[error(transparent)]
    Rules(#[from] RulesError),
}

/// Reads files, and those of folders whose names end in `.yaml` or `.yml`, and makes rules of them.
///
/// # Errors
/// The first thing that is wrong with any of them, with its file, and its line where it has one.
pub fn read_rules(paths: &[PathBuf]) -> Result<Rules, RulesFilesError> {
    let texts = read_rules_texts(paths)?;
    Ok(understand(&texts)?)
}

/// Makes rules of files that were read.
///
/// # Errors
/// The first thing that is wrong with any of them.
pub fn understand(texts: &[RulesText]) -> Result<Rules, RulesError> {
    let files = texts
        .iter()
        .map(|RulesText { name, text }| RulesFile { name, text });
    Rules::read(&files.collect::<Vec<_>>())
}

/// Reads the texts of files and folders, in this order; those of a folder in the order of their names.
///
/// # Errors
/// Fails for what cannot be read, is too large, or is not UTF-8.
pub fn read_rules_texts(paths: &[PathBuf]) -> Result<Vec<RulesText>, RulesFilesError> {
    let mut files = Vec::new();
    for path in paths {
        files.extend(files_of(path)?);
        if files.len() > FILES_MAX {
            return Err(RulesFilesError::TooManyFiles(path.clone()));
        }
    }
    let mut texts: Vec<RulesText> = Vec::with_capacity(files.len());
    let mut bytes = 0;
    for path in files {
        let text = text_of(&path)?;
        bytes += text.len();
        if bytes > READ_BYTES_MAX {
            return Err(RulesFilesError::TooMuch(path));
        }
        let name = path.display().to_string();
        texts.push(RulesText { name, text });
    }
    Ok(texts)
}

/// Whether a path is one of rules: a folder, or a file with the ending of YAML.
#[must_use]
pub fn is_of_rules(path: &Path) -> bool {
    has_ending(path) || path.is_dir()
}

fn has_ending(path: &Path) -> bool {
    let ending = path.extension();
    ending.is_some_and(|ending| ENDINGS.iter().any(|it| ending.eq_ignore_ascii_case(it)))
}

/// The files that a path stands for.
fn files_of(path: &Path) -> Result<Vec<PathBuf>, RulesFilesError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let unreadable = |error| RulesFilesError::Unreadable {
        path: path.to_owned(),
        error,
    };
    let mut files = Vec::new();
    for (place, entry) in path.read_dir().map_err(unreadable)?.enumerate() {
        let entry = entry.map_err(unreadable)?;
        if place == ENTRIES_MAX {
            return Err(RulesFilesError::TooManyFiles(path.to_owned()));
        }
        let file = entry.path();
        // What begins with a dot is an editor's, or one of the folders behind a ConfigMap's links.
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !is_hidden && has_ending(&file) && !file.is_dir() {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(RulesFilesError::NoFiles(path.to_owned()));
    }
    files.sort_unstable();
    Ok(files)
}

fn text_of(path: &Path) -> Result<String, RulesFilesError> {
    let bytes = bytes_of(path)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(RulesFilesError::TooLarge(path.to_owned()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
        let path = path.to_owned();
        RulesFilesError::NotUtf8 { path, line }
    })
}

/// The bytes of a file, at most one more than it may have.
fn bytes_of(path: &Path) -> Result<Vec<u8>, RulesFilesError> {
    let unreadable = |error| RulesFilesError::Unreadable {
        path: path.to_owned(),
        error,
    };
    // Opening a pipe could wait for ever.
    let about = path.metadata().map_err(unreadable)?;
    if !about.is_file() {
        return Err(RulesFilesError::NotRegular(path.to_owned()));
    }
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    let mut file = file.take(FILE_BYTES_MAX as u64 + 1);
    file.read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// A folder that is removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("rmbd-rules-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
            let path = self.0.join(name);
            std::fs::write(&path, text).unwrap();
            path
        }

        /// What is said of the folder, without its path.
        fn refused(&self) -> String {
            let error = read_rules(std::slice::from_ref(&self.0)).unwrap_err();
            let path = self.0.to_str().unwrap();
            error.to_string().replace(path, "FOLDER")
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn files_of_a_folder_are_read_in_the_order_of_their_names() {
        let folder = Folder::new("order");
        for name in [
            "b.yml",
            "a.yaml",
            "c.YAML",
            "10.yaml",
            ".hidden.yaml",
            "d.yaml~",
            "e.txt",
        ] {
            folder.write(name, format!("domain: '{name}'"));
        }
        std::fs::create_dir(folder.0.join("f.yaml")).unwrap();
        std::os::unix::fs::symlink("e.txt", folder.0.join("link.yaml")).unwrap();
        let first = folder.write("z.txt", "domain: z");
        let rules = read_rules(&[first, folder.0.clone()]).unwrap();
        let domains: Vec<_> = rules.domains().map(|domain| &*domain.name).collect();
        assert_eq!(
            domains,
            ["z", "10.yaml", "a.yaml", "b.yml", "c.YAML", "e.txt"]
        );
    }

    #[test]
    fn what_is_wrong_with_files_is_said_with_their_names() {
        let folder = Folder::new("wrong");
        assert!(folder.refused().starts_with("FOLDER: there is no *.yaml"));
        let file = folder.write("a.yaml", "domain: a\nno: no");
        assert!(
            folder
                .refused()
                .starts_with("FOLDER/a.yaml:2:1: a file of rules has no key `no`")
        );
        std::fs::write(&file, b"domain: a\n# \xff\n").unwrap();
        assert!(
            folder
                .refused()
                .starts_with("FOLDER/a.yaml:2: this line is not UTF-8")
        );
        std::fs::write(&file, vec![b'#'; FILE_BYTES_MAX + 1]).unwrap();
        assert!(
            folder
                .refused()
                .starts_with("FOLDER/a.yaml: the file has more than")
        );
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &file).unwrap();
        assert!(
            folder
                .refused()
                .starts_with("FOLDER/a.yaml: this is no regular file")
        );
        let missing = read_rules(&[folder.0.join("none.yaml")]).unwrap_err();
        assert!(
            missing.to_string().contains("none.yaml: No such file"),
            "{missing}"
        );
    }

    #[test]
    fn the_number_of_files_is_bounded() {
        let folder = Folder::new("many");
        for number in 0..=FILES_MAX {
            folder.write(&format!("{number}.yaml"), format!("domain: d{number}"));
        }
        assert!(folder.refused().starts_with("FOLDER: there are more than"));
        std::fs::remove_file(folder.0.join("7.yaml")).unwrap();
        let rules = read_rules(std::slice::from_ref(&folder.0)).unwrap();
        assert_eq!(rules.domains().count(), FILES_MAX);
    }
}
