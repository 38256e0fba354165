//! Command lines of qemu-img, and what it answers. In: absolute paths and formats that were looked at. Out: arguments, program not
//! included; or what came of it. Each format is said, so that QEMU never guesses; each path begins with a slash, so that none is
//! taken for an address.

use std::ffi::OsString;
use std::path::Path;

use serde::Deserialize;

use super::SnapshotVerb;
use crate::exit::{Exit, Failure};
use crate::images::progress::Progress;
use crate::images::{Disk, DiskFormat};
use crate::process;

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

/// An empty disk.
pub fn create(path: &Path, size: u64, format: DiskFormat) -> Vec<OsString> {
    let mut arguments = words(&["create", "-q", "-f", format.as_str()]);
    arguments.push(path.into());
    arguments.push(size.to_string().into());
    arguments
}

/// A qcow2 disk on top of another image.
pub fn overlay(path: &Path, base: &Path, format: DiskFormat, size: Option<u64>) -> Vec<OsString> {
    let mut arguments = words(&["create", "-q", "-f", "qcow2", "-b"]);
    arguments.push(base.into());
    arguments.extend(words(&["-F", format.as_str()]));
    arguments.push(path.into());
    arguments.extend(size.map(|size| size.to_string().into()));
    arguments
}

/// All octets of a disk, and of what lies beneath it, in another file.
pub fn convert(
    from: &Path,
    format: DiskFormat,
    to: &Path,
    wanted: DiskFormat,
    options: &[&str],
) -> Vec<OsString> {
    let mut arguments = words(&[
        "convert",
        "-p",
        "-f",
        format.as_str(),
        "-O",
        wanted.as_str(),
    ]);
    arguments.extend(words(options));
    arguments.push(from.into());
    arguments.push(to.into());
    arguments
}

pub fn resize(path: &Path, format: DiskFormat, size: u64, shrink: bool) -> Vec<OsString> {
    let mut arguments = words(&["resize", "-q", "-f", format.as_str()]);
    if shrink {
        arguments.push("--shrink".into());
    }
    arguments.push(path.into());
    arguments.push(size.to_string().into());
    arguments
}

pub fn snapshot(path: &Path, verb: SnapshotVerb, name: &str) -> Vec<OsString> {
    let flag = match verb {
        SnapshotVerb::Create => "-c",
        SnapshotVerb::Apply => "-a",
        SnapshotVerb::Delete => "-d",
    };
    let mut arguments = words(&["snapshot", "-q", flag, name]);
    arguments.push(path.into());
    arguments
}

fn inspect(path: &Path, format: DiskFormat, share: bool) -> Vec<OsString> {
    let mut arguments = words(&["info", "--output=json", "-f", format.as_str()]);
    if share {
        arguments.push("-U".into());
    }
    arguments.push(path.into());
    arguments
}

/// What qemu-img says of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    pub virtual_size: u64,
    pub snapshots: Vec<Snapshot>,
    /// QEMU has locked it.
    pub in_use: bool,
}

/// The state of a disk at some time, within the disk.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Snapshot {
    pub name: String,
    /// Seconds since 1970.
    #[serde(rename = "date-sec")]
    pub made: u64,
    /// Octets of the machine's memory that are kept with it.
    #[serde(rename = "vm-state-size")]
    pub memory: u64,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "virtual-size")]
    virtual_size: u64,
    #[serde(default)]
    snapshots: Vec<Snapshot>,
    #[serde(rename = "backing-filename")]
    backing: Option<String>,
}

/// Asks, also while a machine has the disk.
pub async fn info(path: &Path, format: DiskFormat) -> Result<Inspected, Failure> {
    let (answer, in_use) = match ask(path, format, false).await {
        Ok(answer) => (answer, false),
        Err(failure) if failure.exit == Exit::Conflict => (ask(path, format, true).await?, true),
        Err(failure) => return Err(failure),
    };
    Ok(Inspected {
        virtual_size: answer.virtual_size,
        snapshots: answer.snapshots,
        in_use,
    })
}

/// Refuses an image that QEMU sees with other eyes than `format` did.
pub async fn agrees(path: &Path, disk: &Disk) -> Result<(), Failure> {
    let answer = ask(path, disk.format, true).await?;
    if answer.virtual_size != disk.virtual_size || answer.backing.is_some() {
        let text = format!(
            "{}: its header says {} octets, and QEMU says {}{}; it is damaged, or made to deceive",
            path.display(),
            disk.virtual_size,
            answer.virtual_size,
            match &answer.backing {
                Some(beneath) => format!(" on top of {beneath}"),
                None => String::new(),
            }
        );
        return Err(Failure::new(Exit::Invalid, text));
    }
    Ok(())
}

async fn ask(path: &Path, format: DiskFormat, share: bool) -> Result<Answer, Failure> {
    let output = process::qemu_img(&inspect(path, format, share), |_| {}).await?;
    if !output.status.success() {
        return Err(complaint(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| {
        let text = format!("qemu-img answered something that is not understood: {error}");
        Failure::new(Exit::Failed, text)
    })
}

/// Runs it to its end.
pub async fn run(arguments: &[OsString]) -> Result<(), Failure> {
    let output = process::qemu_img(arguments, |_| {}).await?;
    match output.status.success() {
        true => Ok(()),
        false => Err(complaint(&output.stderr)),
    }
}

/// As `run`, of a command line with `-p`: shows how far it is.
pub async fn run_with_progress(what: &str, arguments: &[OsString]) -> Result<(), Failure> {
    let progress = Progress::percent(what);
    let output = process::qemu_img(arguments, |text| {
        if let Some(percent) = percent(text) {
            progress.set(percent);
        }
    });
    let output = output.await?;
    match output.status.success() {
        true => Ok(()),
        false => Err(complaint(&output.stderr)),
    }
}

/// The last of many `    (12.34/100%)\r`.
fn percent(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let (before, _) = text.rsplit_once("/100%)")?;
    let number = before.rsplit('(').next()?;
    number.split('.').next()?.trim().parse().ok()
}

fn complaint(stderr: &[u8]) -> Failure {
    let line = process::last_line(stderr);
    let line = line.strip_prefix("qemu-img: ").unwrap_or(&line).to_owned();
    if String::from_utf8_lossy(stderr).contains("\" lock") {
        let text = "a machine that runs has this disk, or the image beneath it is being written";
        return Failure::new(
            Exit::Conflict,
            format!("{text}; stop the machine first: {line}"),
        );
    }
    let next = match line.contains("No space left on device") {
        true => "; make room, such as with: bootjack image prune, and try again",
        false => "",
    };
    Failure::new(Exit::Failed, format!("qemu-img: {line}{next}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(arguments: &[OsString]) -> String {
        let words: Vec<&str> = arguments.iter().map(|a| a.to_str().unwrap()).collect();
        words.join(" ")
    }

    #[test]
    fn every_command_line_says_every_format() {
        let (a, b) = (Path::new("/d/a"), Path::new("/d/b"));
        let lines = [
            (
                create(a, 1 << 30, DiskFormat::Qcow2),
                "create -q -f qcow2 /d/a 1073741824",
            ),
            (
                overlay(a, b, DiskFormat::Raw, Some(1024)),
                "create -q -f qcow2 -b /d/b -F raw /d/a 1024",
            ),
            (
                overlay(a, b, DiskFormat::Qcow2, None),
                "create -q -f qcow2 -b /d/b -F qcow2 /d/a",
            ),
            (
                convert(a, DiskFormat::Qcow2, b, DiskFormat::Vmdk, &["-o", "x=y"]),
                "convert -p -f qcow2 -O vmdk -o x=y /d/a /d/b",
            ),
            (
                resize(a, DiskFormat::Raw, 512, true),
                "resize -q -f raw --shrink /d/a 512",
            ),
            (
                snapshot(a, SnapshotVerb::Apply, "clean"),
                "snapshot -q -a clean /d/a",
            ),
            (
                inspect(a, DiskFormat::Vdi, true),
                "info --output=json -f vdi -U /d/a",
            ),
        ];
        for (arguments, wanted) in lines {
            assert_eq!(line(&arguments), wanted);
        }
    }

    #[test]
    fn percents_are_read_out_of_the_middle() {
        assert_eq!(percent(b"    (12.34/100%)\r    (13.00/100%)\r  "), Some(13));
        assert_eq!(percent(b"    (0.00/100%)\r"), Some(0));
        assert_eq!(percent(b"nothing"), None);
    }

    #[test]
    fn a_lock_is_a_conflict() {
        let stderr = b"qemu-img: Could not open 'a': Failed to get shared \"write\" lock\nIs another process using the image [a]?\n";
        assert_eq!(complaint(stderr).exit, Exit::Conflict);
        let failure = complaint(b"qemu-img: error while writing: No space left on device\n");
        assert_eq!(
            failure.message,
            "qemu-img: error while writing: No space left on device; make room, such as with: bootjack image prune, and try again"
        );
    }
}
