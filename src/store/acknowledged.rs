//! The last revision that somebody was told of, in a file that keeps its size: a commit then waits for one block to be written, and not
//! for whatever else the file system has to bring to disk for a new file.
//!
//! Two lines, each a revision and the CRC-32 of its digits; they are written in turns, so that the other stands where one was torn.
//! A line of digits alone is what versions before wrote.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::journal::sync_directory;

/// 20 digits, a space, 8 hexadecimal digits, a line feed.
const LINE: usize = 30;

/// Why it cannot be read.
const NO_NUMBER: &str = "its file acknowledged holds no number";

/// The last revision; 0 if there is no such file.
pub(super) fn read(path: &Path) -> Result<u64, String> {
    match std::fs::read(path) {
        Ok(octets) => parse(&octets).ok_or_else(|| NO_NUMBER.to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error.to_string()),
    }
}

/// Notes a revision; it is on disk when this returns.
pub(super) fn write(path: &Path, revision: u64) -> io::Result<()> {
    let is_new = !path.try_exists()?;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)?;
    let at = (revision % 2) * LINE as u64;
    file.write_all_at(line(revision).as_bytes(), at)?;
    file.sync_data()?;
    match is_new {
        true => sync_directory(path),
        false => Ok(()),
    }
}

fn line(revision: u64) -> String {
    let digits = format!("{revision:020}");
    format!("{digits} {:08x}\n", crc32fast::hash(digits.as_bytes()))
}

fn parse(octets: &[u8]) -> Option<u64> {
    octets.chunks(LINE).filter_map(number).max()
}

fn number(chunk: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(chunk).ok()?;
    let text = text.trim_matches(['\0', '\n']);
    match text.split_once(' ') {
        Some((digits, _)) => {
            let revision = digits.parse().ok()?;
            (line(revision).trim_end() == text).then_some(revision)
        }
        // Half a line of ours begins with zeros.
        None => match text.strip_prefix('0') {
            Some("") | None => text.parse().ok(),
            Some(_) => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_revision_is_read_and_the_one_before_where_it_was_torn() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("acknowledged");
        assert_eq!(read(&path), Ok(0));
        for revision in 1..=12 {
            write(&path, revision).expect("written");
            assert_eq!(read(&path), Ok(revision));
        }
        let whole = std::fs::read(&path).expect("readable");
        assert_eq!(whole.len(), 2 * LINE);
        // 12 stands in the first line, 11 in the second.
        for at in 0..LINE {
            let mut torn = whole.clone();
            torn[at] ^= 1;
            let read = parse(&torn);
            assert!(read == Some(11) || at == LINE - 1, "{at}: {read:?}");
        }
        assert_eq!(parse(&whole[..LINE]), Some(12));
        assert_eq!(parse(&whole[..LINE - 5]), None);
    }

    #[test]
    fn what_versions_before_wrote_is_read_and_written_over() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("acknowledged");
        for (text, revision) in [("77\n", 77), ("0\n", 0), ("77", 77)] {
            std::fs::write(&path, text).expect("written");
            assert_eq!(read(&path), Ok(revision));
        }
        std::fs::write(&path, "77\n").expect("written");
        write(&path, 79).expect("written");
        assert_eq!(read(&path), Ok(79));
        write(&path, 80).expect("written");
        assert_eq!(read(&path), Ok(80));
        std::fs::write(&path, "seven\n").expect("written");
        assert_eq!(read(&path), Err(NO_NUMBER.to_owned()));
    }
}
