//! Who changed what. In: one call that would write. Out: a line in the log, and one in the file of `grpc.audit_log`: in the kernel's
//! hands before the call is answered, and not waited for on the disk. Of what was written it has the resource's name alone.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::model::{Audit, Event};
use crate::observe::emit;

/// Where it is noted.
pub struct AuditLog(Option<Kept>);

struct Kept {
    path: PathBuf,
    file: Mutex<File>,
}

impl AuditLog {
    /// To the log alone, or to this file too, which is made if it is missing.
    pub fn open(path: Option<&Path>) -> io::Result<Self> {
        let kept = path.map(|path| {
            let file = Mutex::new(open(path)?);
            let path = path.to_owned();
            Ok::<_, io::Error>(Kept { path, file })
        });
        Ok(Self(kept.transpose()?))
    }

    /// Notes it. Where it cannot be written that is told, and the call is answered all the same: it has been done.
    pub(crate) fn note(&self, audit: Audit) {
        if let Some(kept) = &self.0
            && let Err(error) = kept.write(&audit)
        {
            emit(&Event::Failed {
                about: "audit",
                error: format!("{}: {error}", kept.path.display()),
            });
        }
        emit(&Event::Audited(audit));
    }
}

impl Kept {
    fn write(&self, audit: &Audit) -> io::Result<()> {
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let mut line = serde_json::json!({ "time": time });
        if let (Some(line), Ok(serde_json::Value::Object(fields))) =
            (line.as_object_mut(), serde_json::to_value(audit))
        {
            line.extend(fields);
        }
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if has_moved(&file, &self.path) {
            *file = open(&self.path)?;
        }
        // One write for each line: two of them never mix.
        file.write_all(format!("{line}\n").as_bytes())
    }
}

/// Whether the file was rotated away.
fn has_moved(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(there)) = (file.metadata(), std::fs::metadata(path)) else {
        return true;
    };
    (open.dev(), open.ino()) != (there.dev(), there.ino())
}

fn open(path: &Path) -> io::Result<File> {
    (OpenOptions::new().create(true).append(true))
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_added_to_the_file_and_to_a_new_one_after_it_was_moved() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("audit.log");
        let log = AuditLog::open(Some(&path)).expect("it opens");
        let audit = Audit {
            who: "token ci".into(),
            ..Audit::default()
        };
        log.note(audit.clone());
        log.note(audit.clone());
        let moved = dir.path().join("audit.log.1");
        std::fs::rename(&path, &moved).expect("moved");
        log.note(audit);
        let lines = |path| {
            std::fs::read_to_string(path)
                .expect("there")
                .lines()
                .count()
        };
        assert_eq!((lines(&moved), lines(&path)), (2, 1));
        let mode = std::fs::metadata(&path).expect("there").mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).expect("there");
        let line: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(line["who"], "token ci");
        assert!(line["time"].as_str().is_some_and(|t| t.ends_with('Z')));
    }
}
