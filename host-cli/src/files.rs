//! What the file system is asked for here: files that are there whole or not at all, that stay through a power failure, and that
//! take no room for zeros.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::exit::{Exit, Failure};

/// Zeros in whole blocks of so many octets become holes.
const BLOCK: usize = 64 << 10;

/// The file's octets are on the disk.
pub fn sync(path: &Path) -> Result<(), Failure> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(Failure::io("write", path))
}

/// The names in its directory are on the disk, as far as its file system does that.
pub fn sync_directory_of(path: &Path) {
    let directory = path.parent().unwrap_or(Path::new("."));
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
}

/// Gives the file its name, unless there is a file of this name.
pub fn move_new(from: &Path, to: &Path) -> Result<(), Failure> {
    match fs::hard_link(from, to) {
        Ok(()) => {
            let _ = fs::remove_file(from);
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(exists(to)),
        // A file system without links: whoever makes the file right now loses it.
        Err(_) if to.symlink_metadata().is_ok() => return Err(exists(to)),
        Err(_) => fs::rename(from, to).map_err(Failure::io("write", to))?,
    }
    sync_directory_of(to);
    Ok(())
}

/// Makes `to` the same file as `from`, in place of what is there; by way of `new`, which is nobody else's.
pub fn put(from: &Path, new: &Path, to: &Path) -> Result<(), Failure> {
    let _ = fs::remove_file(new);
    // A file system without links: the file moves.
    fs::hard_link(from, new)
        .or_else(|_| fs::rename(from, new))
        .and_then(|()| fs::rename(new, to))
        .map_err(Failure::io("write", to))?;
    // Of two names of one file, rename leaves both.
    let _ = fs::remove_file(new);
    sync_directory_of(to);
    Ok(())
}

/// The refusal to replace a file.
pub fn exists(path: &Path) -> Failure {
    let text = format!(
        "{} is there already; nothing is replaced: remove it, or choose another name",
        path.display()
    );
    Failure::new(Exit::Conflict, text)
}

/// Makes the file whole or not at all. Two commands may do so at once: the last one's is there. What one that was killed has left
/// goes with the next.
pub fn write_whole(path: &Path, content: impl AsRef<[u8]>) -> Result<(), Failure> {
    for left in begun(path) {
        let _ = fs::remove_file(left);
    }
    let mut new = path.as_os_str().to_owned();
    new.push(format!("{BEGUN}{}", std::process::id()));
    let new = Path::new(&new);
    let write = || {
        let mut file = File::create(new)?;
        file.write_all(content.as_ref())?;
        file.sync_all()?;
        fs::rename(new, path)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(new);
        Failure::io("write", path)(error)
    })?;
    sync_directory_of(path);
    Ok(())
}

/// What stands between a file's name and the number of the process that makes it anew.
const BEGUN: &str = ".new.";

/// What commands that are no more have begun to write in the place of this file.
pub fn begun(path: &Path) -> Vec<PathBuf> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(OsStr::to_str)) else {
        return Vec::new();
    };
    let is_dead = |pid| kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH);
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let left = entries.filter(|entry| {
        let entry = entry.file_name();
        let rest = entry.to_str().and_then(|entry| entry.strip_prefix(name));
        let pid = rest.and_then(|rest| rest.strip_prefix(BEGUN)?.parse().ok());
        pid.is_some_and(is_dead)
    });
    left.map(|entry| entry.path()).collect()
}

/// A second file with the same octets, which shares them where the file system can do that.
pub fn clone(from: &Path, to: &Path) -> Result<(), Failure> {
    if share(from, to) {
        return Ok(());
    }
    let mut source = File::open(from).map_err(Failure::io("read", from))?;
    let mut copy = File::create(to).map_err(Failure::io("write", to))?;
    match copy_sparse(&mut source, &mut copy, u64::MAX, |_| {}) {
        Ok(_) => Ok(()),
        Err(CopyError::Read(error)) => Err(Failure::io("read", from)(error)),
        Err(CopyError::Write(error)) => Err(Failure::io("write", to)(error)),
        Err(CopyError::TooLarge) => Err(Failure::new(Exit::Failed, "the file grows without end")),
    }
}

/// Whether the copy has the source's octets now, without a copy: btrfs, XFS and others.
#[cfg(target_os = "linux")]
fn share(from: &Path, to: &Path) -> bool {
    use std::os::fd::AsRawFd as _;
    let files = File::open(from).and_then(|from| Ok((from, File::create(to)?)));
    files.is_ok_and(|(from, to)| {
        // SAFETY: both descriptors are open, and the call takes no pointers.
        unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONE as _, from.as_raw_fd()) == 0 }
    })
}

/// The same of APFS, which wants to make the copy itself.
#[cfg(target_os = "macos")]
fn share(from: &Path, to: &Path) -> bool {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt as _;
    let text = |path: &Path| CString::new(path.as_os_str().as_bytes());
    match (text(from), text(to)) {
        // SAFETY: both are texts that end with a zero, and live until the call returns.
        (Ok(from), Ok(to)) => unsafe { libc::clonefile(from.as_ptr(), to.as_ptr(), 0) == 0 },
        _ => false,
    }
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn share(_: &Path, _: &Path) -> bool {
    false
}

/// Copies to the end, at most `limit` octets; zeros become holes. `copied` sees every octet. Returns how many there were.
pub fn copy_sparse(
    from: &mut dyn Read,
    to: &mut File,
    limit: u64,
    mut copied: impl FnMut(&[u8]),
) -> Result<u64, CopyError> {
    let mut buffer = vec![0; 16 * BLOCK];
    let mut at = 0_u64;
    loop {
        let length = fill(from, &mut buffer).map_err(CopyError::Read)?;
        if length == 0 {
            break;
        }
        if at + length as u64 > limit {
            return Err(CopyError::TooLarge);
        }
        copied(&buffer[..length]);
        for block in buffer[..length].chunks(BLOCK) {
            if block.iter().any(|octet| *octet != 0) {
                to.seek(SeekFrom::Start(at)).map_err(CopyError::Write)?;
                to.write_all(block).map_err(CopyError::Write)?;
            }
            at += block.len() as u64;
        }
    }
    to.set_len(at).map_err(CopyError::Write)?;
    Ok(at)
}

/// Why a copy is none.
#[derive(Debug)]
pub enum CopyError {
    Read(io::Error),
    Write(io::Error),
    TooLarge,
}

/// As much as there is room for, or is left.
fn fill(from: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match from.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Octets that the file takes on the disk.
pub fn allocated(metadata: &Metadata) -> u64 {
    metadata.blocks() * 512
}

/// Octets that this user can still write to the file system.
pub fn free(directory: &Path) -> Option<u64> {
    let facts = nix::sys::statvfs::statvfs(directory).ok()?;
    // The two have different types on different systems.
    #[allow(clippy::unnecessary_cast)]
    Some(facts.blocks_available() as u64 * facts.fragment_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_take_no_room() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let mut content = vec![0; 8 << 20];
        content[5 << 20] = 7;
        let mut seen = 0;
        let length = copy_sparse(
            &mut &content[..],
            &mut File::create(&path).unwrap(),
            u64::MAX,
            |octets| seen += octets.len(),
        );
        assert_eq!(length.unwrap(), 8 << 20);
        assert_eq!(seen, 8 << 20);
        assert_eq!(fs::read(&path).unwrap(), content);
        let room = allocated(&fs::metadata(&path).unwrap());
        assert!(room < 1 << 20, "{room}");
    }

    #[test]
    fn a_copy_has_a_limit() {
        let dir = tempfile::tempdir().unwrap();
        let mut to = File::create(dir.path().join("disk")).unwrap();
        let copied = copy_sparse(&mut io::repeat(0), &mut to, 4 << 20, |_| {});
        assert!(matches!(copied, Err(CopyError::TooLarge)));
    }
}
