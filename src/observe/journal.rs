//! The timeline on disk: one JSON object a line, appended and never synced, since nothing is decided by it. What is remembered is
//! written anew when the file has grown to twice that, so that it stays in bounds. A line that was torn by a kill is left out.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::history::{History, MOST_IN_ALL};
use crate::model::Entry;

const FILE: &str = "timeline.jsonl";
/// Lines that are written beyond those that are remembered, before the file is written anew.
const SURPLUS: usize = MOST_IN_ALL;

/// The file, open for more.
pub struct Journal {
    dir: PathBuf,
    file: BufWriter<File>,
    lines: usize,
}

impl Journal {
    /// Opens the journal of this directory, or makes it; answers what is in it.
    pub fn open(dir: &Path) -> io::Result<(Self, History)> {
        let mut history = History::default();
        let mut lines = 0;
        let mut is_torn = false;
        match File::open(dir.join(FILE)) {
            Ok(file) => {
                for line in BufReader::new(file).split(b'\n') {
                    lines += 1;
                    match serde_json::from_slice::<Entry>(&line?) {
                        Ok(entry) => history.restore(entry),
                        Err(_) => is_torn = true,
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let file = BufWriter::new(append_to(&dir.join(FILE))?);
        let mut journal = Self {
            dir: dir.to_owned(),
            file,
            lines,
        };
        if is_torn || lines > history.len() + SURPLUS {
            journal.write_anew(&history)?;
        }
        Ok((journal, history))
    }

    /// Adds a line.
    pub fn append(&mut self, entry: &Entry, history: &History) -> io::Result<()> {
        if self.lines > history.len() + SURPLUS {
            return self.write_anew(history);
        }
        serde_json::to_writer(&mut self.file, entry)?;
        self.file.write_all(b"\n")?;
        self.lines += 1;
        Ok(())
    }

    /// Hands everything to the system: a kill takes none of it.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    fn write_anew(&mut self, history: &History) -> io::Result<()> {
        let (new, path) = (self.dir.join("timeline.new"), self.dir.join(FILE));
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = BufWriter::new(append_to(&new)?);
        for entry in history.all() {
            serde_json::to_writer(&mut file, &**entry)?;
            file.write_all(b"\n")?;
        }
        file.flush()?;
        std::fs::rename(&new, &path)?;
        self.file = file;
        self.lines = history.len();
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Kind, Subject};

    fn entry(n: u64) -> Entry {
        Entry {
            sequence: 0,
            at_ms: n,
            subject: Subject::Machine("node-1".into()),
            attempt: 1,
            kind: Kind::Document,
            what: n.to_string(),
            detail: String::new(),
            bytes: Some(n),
            elapsed_ms: None,
            count: 1,
            last_ms: None,
        }
    }

    #[test]
    fn what_was_written_is_read_again_and_a_torn_line_is_left_out() {
        let home = tempfile::tempdir().expect("a directory");
        let (mut journal, mut history) = Journal::open(home.path()).expect("opens");
        for n in 0..5 {
            let noted = history.note(entry(n));
            journal.append(&noted.entry, &history).expect("written");
        }
        journal.flush().expect("written");
        let path = home.path().join(FILE);
        let mut file = append_to(&path).expect("opens");
        file.write_all(b"{\"sequence\":6,\"at_ms").expect("written");
        let (mut journal, again) = Journal::open(home.path()).expect("opens again");
        assert_eq!(again.last(), 5);
        assert_eq!(
            again.all().collect::<Vec<_>>(),
            history.all().collect::<Vec<_>>()
        );
        journal.append(&entry(9), &again).expect("written");
        journal.flush().expect("written");
        let text = std::fs::read_to_string(&path).expect("readable");
        assert_eq!(text.lines().count(), 6, "{text}");
        assert!(text.starts_with(
            r#"{"sequence":1,"at_ms":0,"subject":"machines/node-1","attempt":1,"kind":"document","what":"0","bytes":0}"#
        ));
    }

    #[test]
    fn the_file_stays_in_bounds() {
        let home = tempfile::tempdir().expect("a directory");
        let (mut journal, mut history) = Journal::open(home.path()).expect("opens");
        let most = 256 + SURPLUS + 1;
        for n in 0..2 * most as u64 {
            let noted = history.note(entry(n));
            journal.append(&noted.entry, &history).expect("written");
            assert!(journal.lines <= most, "{n}");
        }
        journal.flush().expect("written");
        let (_, again) = Journal::open(home.path()).expect("opens again");
        assert_eq!(again.last(), 2 * most as u64);
    }
}
