//! The files that are served. In: a name's parts, and then ranges of blocks. Out: DATA packets with what is in them. Refuses
//! what is no plain file, what lies outside its directory, and a file that changes while it is on its way.
//!
//! Small files, such as network boot programs, are in memory while they are served, once for all transfers. Others are read a
//! window at a time, straight into the packets and only from the page cache; what is not there is read ahead on a thread that
//! may wait for the disk.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IoSliceMut, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::packet::{DATA_HEADER, data_header};
use super::transfer::Blocks;

/// What is held in memory: boot programs, their configuration, small RAM disks.
const SMALL: u64 = 4 << 20;
/// What is held in memory in all; what comes on top is read from the disk.
const HELD_IN_ALL: u64 = 64 << 20;
/// How far apart a file is looked at, whether it is still the same.
const CHECK_EVERY: u64 = 1 << 20;
/// What is read at once where the page cache has nothing.
const READ_AHEAD: usize = 64 << 10;

/// The directories that are served, the first that has a file wins.
pub struct Directories {
    /// Links are followed out of it: packages put them there, to /boot for one.
    programs: Option<PathBuf>,
    /// Links are not followed out of it.
    root: Option<PathBuf>,
    held: Mutex<HashMap<(PathBuf, Form), Held>>,
}

/// How a file's octets are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    AsTheyAre,
    /// Lines end in CR LF, and a CR alone is CR NUL (RFC 764, by way of RFC 1350 §1).
    Netascii,
}

/// A file that some transfer holds in memory, as it was when it was read.
struct Held {
    version: Version,
    content: Weak<[u8]>,
}

/// What changes when a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    length: u64,
    modified: SystemTime,
}

/// A file that is being served.
pub enum Content {
    InMemory(Arc<[u8]>),
    OnDisk(OnDisk),
}

/// A file of which a window at a time is in memory.
pub struct OnDisk {
    file: Arc<File>,
    version: Version,
    /// Whether the file system can say what is in the page cache.
    can_peek: bool,
    /// What was read ahead, and from where.
    ahead: (u64, Vec<u8>),
}

impl Directories {
    /// A directory that does not exist is left out.
    pub fn new(programs: &Path, root: Option<&Path>) -> Self {
        Self {
            programs: programs.canonicalize().ok(),
            root: root.and_then(|root| root.canonicalize().ok()),
            held: Mutex::default(),
        }
    }

    /// Opens a file. It may wait for the disk.
    pub fn open(&self, parts: &[String], form: Form) -> io::Result<Content> {
        let path = self.find(parts)?;
        // Before it is opened: to open a device may do something.
        if !path.metadata()?.is_file() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
            .open(&path)?;
        let version = Version::of(&file)?;
        if version.length <= SMALL
            && let Some(content) = self.hold(path, form, &file, version)?
        {
            return Ok(Content::InMemory(content));
        }
        match form {
            Form::Netascii => Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "netascii is for texts of up to 4 MiB; ask for octet",
            )),
            Form::AsTheyAre => Ok(Content::OnDisk(OnDisk {
                file: Arc::new(file),
                version,
                can_peek: true,
                ahead: (0, Vec::new()),
            })),
        }
    }

    /// The file's content, shared with the transfers that run; none if there is too much in memory already.
    fn hold(
        &self,
        path: PathBuf,
        form: Form,
        file: &File,
        version: Version,
    ) -> io::Result<Option<Arc<[u8]>>> {
        // Kept while the file is read: a thousand machines that ask at once wait for one reading, and do not make a thousand.
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|_, held| held.content.strong_count() > 0);
        let key = (path, form);
        if let Some(known) = held.get(&key)
            && known.version == version
            && let Some(content) = known.content.upgrade()
        {
            return Ok(Some(content));
        }
        let in_all: u64 = held.values().map(|held| held.version.length).sum();
        if in_all + version.length > HELD_IN_ALL {
            return Ok(None);
        }
        let mut octets = Vec::new();
        file.take(SMALL).read_to_end(&mut octets)?;
        if Version::of(file)? != version {
            return Err(changed());
        }
        let content: Arc<[u8]> = match form {
            Form::AsTheyAre => octets.into(),
            Form::Netascii => netascii(&octets).into(),
        };
        let entry = Held {
            version,
            content: Arc::downgrade(&content),
        };
        held.insert(key, entry);
        Ok(Some(content))
    }

    /// Whether it is a network boot program.
    pub fn is_program(&self, parts: &[String]) -> bool {
        let programs = self.programs.as_ref();
        programs.is_some_and(|dir| dir.join(parts.join("/")).is_file())
    }

    /// The first of the directories that has the file.
    fn find(&self, parts: &[String]) -> io::Result<PathBuf> {
        let relative: PathBuf = parts.iter().collect();
        if let Some(programs) = &self.programs
            && let Ok(real) = programs.join(&relative).canonicalize()
        {
            return Ok(real);
        }
        let root = self.root.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let real = root.join(&relative).canonicalize()?;
        if real.starts_with(root) {
            Ok(real)
        } else {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }
}

impl Version {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            length: metadata.len(),
            modified: metadata.modified()?,
        })
    }
}

fn netascii(octets: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(octets.len() + octets.len() / 16);
    for octet in octets {
        match octet {
            b'\n' => text.extend_from_slice(b"\r\n"),
            b'\r' => text.extend_from_slice(b"\r\0"),
            octet => text.push(*octet),
        }
    }
    text
}

impl Content {
    /// In octets, as they are sent.
    pub fn length(&self) -> u64 {
        match self {
            Self::InMemory(content) => content.len() as u64,
            Self::OnDisk(file) => file.version.length,
        }
    }

    /// Makes `packets` the DATA packets of these blocks, end to end, all but the last of the same length.
    pub async fn fill(
        &mut self,
        packets: &mut Vec<u8>,
        blocks: Blocks,
        block_size: u16,
    ) -> io::Result<()> {
        let block_size = usize::from(block_size);
        let start = (blocks.first - 1) * block_size as u64;
        let payload = (blocks.count * block_size as u64).min(self.length() - start);
        let payload = usize::try_from(payload).map_err(io::Error::other)?;
        let count = usize::try_from(blocks.count).map_err(io::Error::other)?;
        packets.resize(count * DATA_HEADER + payload, 0);
        let stride = DATA_HEADER + block_size;
        for (block, packet) in (blocks.first..).zip(packets.chunks_mut(stride)) {
            packet[..DATA_HEADER].copy_from_slice(&data_header(block as u16));
        }
        match self {
            Self::InMemory(content) => {
                let from = usize::try_from(start).map_err(io::Error::other)?;
                spread(&content[from..from + payload], packets, stride);
                Ok(())
            }
            Self::OnDisk(file) => file.fill(packets, stride, start, payload).await,
        }
    }
}

/// Copies octets into the packets, behind their headers.
fn spread(octets: &[u8], packets: &mut [u8], stride: usize) {
    let pieces = octets.chunks(stride - DATA_HEADER);
    for (packet, piece) in packets.chunks_mut(stride).zip(pieces) {
        packet[DATA_HEADER..].copy_from_slice(piece);
    }
}

impl OnDisk {
    async fn fill(
        &mut self,
        packets: &mut [u8],
        stride: usize,
        start: u64,
        payload: usize,
    ) -> io::Result<()> {
        if let Some(octets) = self.read_before(start, payload) {
            spread(octets, packets, stride);
            return Ok(());
        }
        if self.can_peek && self.peek(packets, stride, start, payload)? {
            return Ok(());
        }
        let (file, length) = (self.file.clone(), payload.max(READ_AHEAD));
        let read = move || read_at(&file, start, length);
        self.ahead = (start, tokio::task::spawn_blocking(read).await??);
        self.check(start, self.ahead.1.len())?;
        match self.read_before(start, payload) {
            Some(octets) => spread(octets, packets, stride),
            None => return Err(changed()),
        }
        Ok(())
    }

    fn read_before(&self, start: u64, payload: usize) -> Option<&[u8]> {
        let (from, octets) = &self.ahead;
        let at = usize::try_from(start.checked_sub(*from)?).ok()?;
        octets.get(at..at.checked_add(payload)?)
    }

    /// Reads from the page cache; false if not all of it is there. Then the disk is not waited for.
    fn peek(
        &mut self,
        packets: &mut [u8],
        stride: usize,
        start: u64,
        payload: usize,
    ) -> io::Result<bool> {
        let mut slices: Vec<IoSliceMut> = (packets.chunks_mut(stride))
            .map(|packet| IoSliceMut::new(&mut packet[DATA_HEADER..]))
            .collect();
        match preadv2(&*self.file, &mut slices, start, ReadWriteFlags::NOWAIT) {
            Ok(length) if length == payload => self.check(start, payload).map(|()| true),
            Ok(_) | Err(Errno::AGAIN) => Ok(false),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                self.can_peek = false;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What was read is of the file that the transfer began with. That is looked at now and then, and before the end: a file
    /// without its end is no file.
    fn check(&self, start: u64, payload: usize) -> io::Result<()> {
        let end = start + payload as u64;
        let is_due = end == self.version.length || start / CHECK_EVERY != end / CHECK_EVERY;
        if !is_due || Version::of(&self.file)? == self.version {
            Ok(())
        } else {
            Err(changed())
        }
    }
}

fn changed() -> io::Error {
    io::Error::other("the file changed while it was sent")
}

fn read_at(file: &File, start: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut octets = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut octets[filled..], start + filled as u64) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    octets.truncate(filled);
    Ok(octets)
}

#[cfg(test)]
mod tests;
