//! The profiles that were made over the API, below the service's own directory. In: a name and its files. Out: a directory that is on
//! disk whole, or the one that was there before. What was there is kept until it is clear that the new one stays.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// A change that is on disk, and can still be taken back.
#[must_use]
pub struct Changed {
    dir: PathBuf,
    name: String,
    /// Whether a profile was there before, which lies beside the new one now; or does so alone, if it was removed.
    had: bool,
    has: bool,
}

/// Puts these files in place of whatever the profile of this name had.
pub fn put(dir: &Path, name: &str, files: &BTreeMap<String, String>) -> io::Result<Changed> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let (target, aside) = (dir.join(name), aside(dir, name));
    remove(&aside)?;
    DirBuilder::new().mode(0o700).create(&aside)?;
    for (file, text) in files {
        let mut open = OpenOptions::new();
        let mut file = (open.write(true).create_new(true).mode(0o600)).open(aside.join(file))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
    }
    File::open(&aside)?.sync_all()?;
    let had = target.is_dir();
    if had {
        renameat_with(CWD, &aside, CWD, &target, RenameFlags::EXCHANGE)?;
    } else {
        fs::rename(&aside, &target)?;
    }
    File::open(dir)?.sync_all()?;
    Ok(Changed {
        dir: dir.to_owned(),
        name: name.to_owned(),
        had,
        has: true,
    })
}

/// Takes the profile of this name away.
pub fn delete(dir: &Path, name: &str) -> io::Result<Changed> {
    let aside = aside(dir, name);
    remove(&aside)?;
    fs::rename(dir.join(name), &aside)?;
    File::open(dir)?.sync_all()?;
    Ok(Changed {
        dir: dir.to_owned(),
        name: name.to_owned(),
        had: true,
        has: false,
    })
}

impl Changed {
    /// It stays.
    pub fn keep(self) -> io::Result<()> {
        remove(&aside(&self.dir, &self.name))
    }

    /// All is as it was before.
    pub fn undo(self) -> io::Result<()> {
        let (target, aside) = (self.dir.join(&self.name), aside(&self.dir, &self.name));
        match (self.had, self.has) {
            (true, true) => renameat_with(CWD, &aside, CWD, &target, RenameFlags::EXCHANGE)?,
            (true, false) => fs::rename(&aside, &target)?,
            (false, _) => fs::rename(&target, &aside)?,
        }
        File::open(&self.dir)?.sync_all()?;
        remove(&aside)
    }
}

/// Directories that begin with a dot are no profiles.
fn aside(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!(".{name}"))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(text: &str) -> BTreeMap<String, String> {
        [("profile.toml", text), ("a.j2", "a")]
            .map(|(name, text)| (name.to_owned(), text.to_owned()))
            .into()
    }

    fn found(dir: &Path) -> Vec<(String, String)> {
        let mut found: Vec<_> = (fs::read_dir(dir).expect("a directory"))
            .map(|entry| {
                let path = entry.expect("an entry").path();
                let text = fs::read_to_string(path.join("profile.toml")).expect("a file");
                let name = path
                    .file_name()
                    .expect("a name")
                    .to_string_lossy()
                    .into_owned();
                (name, text)
            })
            .collect();
        found.sort();
        found
    }

    #[test]
    fn a_profile_is_put_replaced_and_deleted_whole_and_each_can_be_taken_back() {
        let home = tempfile::tempdir().expect("a directory");
        let dir = home.path().join("profiles");
        let one = |text: &str| vec![("p".to_owned(), text.to_owned())];
        put(&dir, "p", &files("1"))
            .expect("made")
            .undo()
            .expect("undone");
        assert_eq!(found(&dir), []);
        put(&dir, "p", &files("1"))
            .expect("made")
            .keep()
            .expect("kept");
        assert_eq!(found(&dir), one("1"));
        put(&dir, "p", &files("2"))
            .expect("made")
            .undo()
            .expect("undone");
        assert_eq!(found(&dir), one("1"));
        put(&dir, "p", &files("2"))
            .expect("made")
            .keep()
            .expect("kept");
        assert_eq!(found(&dir), one("2"));
        delete(&dir, "p").expect("gone").undo().expect("undone");
        assert_eq!(found(&dir), one("2"));
        delete(&dir, "p").expect("gone").keep().expect("kept");
        assert_eq!(found(&dir), []);
        assert!(delete(&dir, "p").is_err());
    }

    #[test]
    fn what_a_crash_left_stands_in_nobodys_way() {
        let home = tempfile::tempdir().expect("a directory");
        let _crash = put(home.path(), "p", &files("1")).expect("made");
        let _crash = put(home.path(), "p", &files("2")).expect("made");
        put(home.path(), "p", &files("3"))
            .expect("made")
            .keep()
            .expect("kept");
        assert_eq!(found(home.path()), [("p".to_owned(), "3".to_owned())]);
    }
}
