//! Unix datagram sockets, many frames at a time.
//!
//! A socket stays unconnected: it sends to a file name, so whoever binds that name next is reached without a word, and takes
//! from everybody. In: frames for the peer; how far they got and why not further. Out: batches of frames.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use super::frame::FRAME_MAX;

/// Frames read or written at once.
pub const BATCH: usize = 32;
/// One octet more than the longest frame shows what was longer.
const ROOM: usize = FRAME_MAX + 1;
/// A vfkit that connects says so with this datagram.
const VFKT: &[u8] = b"VFKT";
const SEND_BUFFER: libc::c_int = 1 << 20;
const RECEIVE_BUFFER: libc::c_int = 4 << 20;

/// Why a frame was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The peer has no room now.
    Busy,
    /// Nobody has bound the name.
    Absent,
    Other,
}

/// Our end of one link.
#[derive(Debug)]
pub struct Link {
    socket: UnixDatagram,
    local: PathBuf,
    peer: PathBuf,
    /// Connected to the peer, for the kernel to say when it has room again; an unconnected socket is not told.
    probe: Option<UnixDatagram>,
}

impl Link {
    /// Binds `local`, whatever lies there: callers hold the lock that says that it is theirs.
    pub fn bind(local: PathBuf, peer: PathBuf) -> io::Result<Self> {
        remove(&local)?;
        let socket = UnixDatagram::bind(&local)?;
        socket.set_nonblocking(true)?;
        for (option, octets) in [
            (libc::SO_SNDBUF, SEND_BUFFER),
            (libc::SO_RCVBUF, RECEIVE_BUFFER),
        ] {
            set_option(&socket, option, octets);
        }
        Ok(Self {
            socket,
            local,
            peer,
            probe: None,
        })
    }

    /// Reads what has arrived, at most one batch. The peer is from now on whoever sent last: machines that QEMU runs send from
    /// the name they were given, vfkit's from one of their own.
    pub fn receive(&mut self, batch: &mut Batch) -> io::Result<()> {
        batch.receive(&self.socket)?;
        let last = (0..batch.count)
            .rev()
            .find(|&i| !batch.sources[i].is_empty());
        if let Some(source) = last.map(|i| batch.sources[i].path())
            && source != self.peer
        {
            self.peer = source.to_owned();
            self.probe = None;
        }
        Ok(())
    }

    /// Sends frames in order until one is refused; how many went, and why no more.
    pub fn send<'a>(&self, frames: impl Iterator<Item = &'a [u8]>) -> (usize, Option<Refusal>) {
        match send_all(&self.socket, &self.peer, frames) {
            (sent, None) => (sent, None),
            (sent, Some(error)) => (sent, Some(refusal(&error))),
        }
    }

    /// What can be written to as soon as a busy peer has room; none if that cannot be known, and time must tell.
    #[cfg(target_os = "linux")]
    pub fn room(&mut self) -> Option<BorrowedFd<'_>> {
        if self.probe.is_none() {
            let probe = UnixDatagram::unbound().ok()?;
            // A peer that is itself connected, as vfkit's, refuses.
            probe.connect(&self.peer).ok()?;
            self.probe = Some(probe);
        }
        self.probe.as_ref().map(AsFd::as_fd)
    }

    /// Here the kernel does not tell.
    #[cfg(not(target_os = "linux"))]
    pub fn room(&mut self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// The peer was found gone: its successor has another socket.
    pub fn forget_probe(&mut self) {
        self.probe = None;
    }

    pub fn raw(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.local);
    }
}

fn remove(file: &Path) -> io::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn refusal(error: &io::Error) -> Refusal {
    match error.raw_os_error() {
        // ENOBUFS: macOS says so where Linux says EAGAIN.
        Some(libc::EAGAIN | libc::ENOBUFS | libc::EINTR | libc::ENOMEM) => Refusal::Busy,
        Some(libc::ENOENT | libc::ECONNREFUSED | libc::ECONNRESET) => Refusal::Absent,
        _ => Refusal::Other,
    }
}

/// Frames that were read together.
pub struct Batch {
    octets: Box<[u8]>,
    lengths: [usize; BATCH],
    sources: [Source; BATCH],
    count: usize,
}

/// The name a datagram came from, as it was bound.
#[derive(Clone, Copy)]
struct Source {
    address: libc::sockaddr_un,
    length: libc::socklen_t,
}

impl Source {
    fn none() -> Self {
        // SAFETY: all zeroes is a valid `sockaddr_un`.
        let address = unsafe { std::mem::zeroed() };
        Self { address, length: 0 }
    }

    fn octets(&self) -> &[u8] {
        let start = std::mem::offset_of!(libc::sockaddr_un, sun_path);
        let length = (self.length as usize).saturating_sub(start);
        let path = &self.address.sun_path[..length.min(self.address.sun_path.len())];
        // SAFETY: `c_char` and `u8` have the same size, and every bit pattern is valid for both.
        let path = unsafe { std::slice::from_raw_parts(path.as_ptr().cast::<u8>(), path.len()) };
        // A name in a file system ends at the first zero; an abstract one begins with it.
        path.split(|octet| *octet == 0).next().unwrap_or_default()
    }

    fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.octets()))
    }

    fn is_empty(&self) -> bool {
        self.octets().is_empty()
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            octets: vec![0; BATCH * ROOM].into(),
            lengths: [0; BATCH],
            sources: [Source::none(); BATCH],
            count: 0,
        }
    }
}

impl Batch {
    /// The datagrams, without those that are vfkit's greeting.
    pub fn frames(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.count)
            .map(|i| &self.octets[i * ROOM..][..self.lengths[i]])
            .filter(|frame| *frame != VFKT)
    }

    #[cfg(target_os = "linux")]
    fn receive(&mut self, socket: &UnixDatagram) -> io::Result<()> {
        self.count = 0;
        let mut parts: [libc::iovec; BATCH] = std::array::from_fn(|i| libc::iovec {
            iov_base: self.octets[i * ROOM..].as_mut_ptr().cast(),
            iov_len: ROOM,
        });
        let mut headers: [libc::mmsghdr; BATCH] = std::array::from_fn(|i| {
            // SAFETY: all zeroes is a valid `mmsghdr`.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            header.msg_hdr.msg_name = (&raw mut self.sources[i].address).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_un>() as _;
            header.msg_hdr.msg_iov = &raw mut parts[i];
            header.msg_hdr.msg_iovlen = 1;
            header
        });
        // SAFETY: every header points to a name and one buffer of its own that outlive the call.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as _,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        if count < 0 {
            return nothing(io::Error::last_os_error());
        }
        self.count = count as usize;
        for (i, header) in headers.iter().enumerate().take(self.count) {
            self.lengths[i] = header.msg_len as usize;
            self.sources[i].length = header.msg_hdr.msg_namelen;
        }
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn receive(&mut self, socket: &UnixDatagram) -> io::Result<()> {
        self.count = 0;
        while self.count < BATCH {
            let i = self.count;
            let source = &mut self.sources[i];
            source.length = size_of::<libc::sockaddr_un>() as _;
            // SAFETY: the buffer and the name are as long as is said and outlive the call.
            let length = unsafe {
                libc::recvfrom(
                    socket.as_raw_fd(),
                    self.octets[i * ROOM..].as_mut_ptr().cast(),
                    ROOM,
                    libc::MSG_DONTWAIT,
                    (&raw mut source.address).cast(),
                    &raw mut source.length,
                )
            };
            if length < 0 {
                return nothing(io::Error::last_os_error());
            }
            self.lengths[i] = length as usize;
            self.count += 1;
        }
        Ok(())
    }
}

/// That nothing has arrived is no error.
fn nothing(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(()),
        _ => Err(error),
    }
}

#[cfg(target_os = "linux")]
fn send_all<'a>(
    socket: &UnixDatagram,
    peer: &Path,
    mut frames: impl Iterator<Item = &'a [u8]>,
) -> (usize, Option<io::Error>) {
    let (mut address, length) = match address(peer) {
        Ok(address) => address,
        Err(error) => return (0, Some(error)),
    };
    let mut sent = 0;
    loop {
        // SAFETY: all zeroes is a valid `iovec` and a valid `mmsghdr`.
        let mut parts: [libc::iovec; BATCH] = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        let mut count = 0;
        for frame in frames.by_ref().take(BATCH) {
            // The kernel only reads it.
            parts[count].iov_base = frame.as_ptr().cast_mut().cast();
            parts[count].iov_len = frame.len();
            let header = &mut headers[count].msg_hdr;
            header.msg_name = (&raw mut address).cast();
            header.msg_namelen = length;
            header.msg_iov = &raw mut parts[count];
            header.msg_iovlen = 1;
            count += 1;
        }
        let mut done = 0;
        while done < count {
            let rest = &mut headers[done..count];
            // SAFETY: every header points to the name and to one buffer that outlive the call.
            let taken = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    rest.as_mut_ptr(),
                    rest.len() as _,
                    libc::MSG_DONTWAIT as _,
                )
            };
            if taken < 0 {
                return (sent + done, Some(io::Error::last_os_error()));
            }
            done += taken as usize;
        }
        sent += count;
        if count < BATCH {
            return (sent, None);
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn send_all<'a>(
    socket: &UnixDatagram,
    peer: &Path,
    frames: impl Iterator<Item = &'a [u8]>,
) -> (usize, Option<io::Error>) {
    let mut sent = 0;
    for frame in frames {
        if let Err(error) = socket.send_to(frame, peer) {
            return (sent, Some(error));
        }
        sent += 1;
    }
    (sent, None)
}

#[cfg(target_os = "linux")]
fn address(path: &Path) -> io::Result<(libc::sockaddr_un, libc::socklen_t)> {
    let octets = path.as_os_str().as_bytes();
    let mut address = Source::none().address;
    if octets.len() >= address.sun_path.len() {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    address.sun_family = libc::AF_UNIX as _;
    for (to, from) in address.sun_path.iter_mut().zip(octets) {
        *to = *from as libc::c_char;
    }
    let start = std::mem::offset_of!(libc::sockaddr_un, sun_path);
    Ok((address, (start + octets.len() + 1) as _))
}

/// Tries: the system may grant less.
fn set_option(socket: &UnixDatagram, option: libc::c_int, octets: libc::c_int) {
    // SAFETY: the descriptor is open, and the value is an int that outlives the call.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const octets).cast(),
            size_of::<libc::c_int>() as _,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(dir: &Path) -> Link {
        Link::bind(dir.join("a"), dir.join("b")).unwrap()
    }

    fn read(link: &mut Link) -> Vec<Vec<u8>> {
        let mut batch = Batch::default();
        link.receive(&mut batch).unwrap();
        batch.frames().map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn frames_go_both_ways_over_stale_files_up_to_the_longest() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            drop(UnixDatagram::bind(dir.path().join(name)).unwrap());
        }
        let mut link = link(dir.path());
        let frame = vec![7; FRAME_MAX];
        assert_eq!(
            link.send([&frame[..]].into_iter()),
            (0, Some(Refusal::Absent))
        );
        let mut other = Link::bind(dir.path().join("b"), dir.path().join("a")).unwrap();
        assert_eq!(read(&mut link), Vec::<Vec<u8>>::new());
        assert_eq!(link.send([&frame[..], b"x"].into_iter()), (2, None));
        assert_eq!(read(&mut other), [frame, b"x".to_vec()]);
        drop(other);
        assert_eq!(
            link.send([&b"x"[..]].into_iter()),
            (0, Some(Refusal::Absent))
        );
    }

    #[test]
    fn a_peer_that_does_not_read_is_busy_and_says_when_it_has_room() {
        let dir = tempfile::tempdir().unwrap();
        let mut link = link(dir.path());
        let mut other = Link::bind(dir.path().join("b"), dir.path().join("a")).unwrap();
        let many = vec![&b"frame"[..]; 100_000];
        let (sent, refused) = link.send(many.iter().copied());
        assert!(sent > 0 && sent < many.len());
        assert_eq!(refused, Some(Refusal::Busy));
        if let Some(room) = link.room() {
            assert!(!is_writable(room, 0));
            while !read(&mut other).is_empty() {}
            assert!(is_writable(link.room().unwrap(), 10_000));
        }
    }

    fn is_writable(fd: BorrowedFd<'_>, wait_ms: libc::c_int) -> bool {
        let mut poll = libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLOUT,
            revents: 0,
        };
        // SAFETY: one entry that outlives the call.
        unsafe { libc::poll(&raw mut poll, 1, wait_ms) == 1 }
    }

    #[test]
    fn vfkit_greets_from_a_name_of_its_own_and_is_answered_there() {
        let dir = tempfile::tempdir().unwrap();
        let mut link = link(dir.path());
        let name = dir.path().join("vfkit-1.sock");
        let vfkit = UnixDatagram::bind(&name).unwrap();
        vfkit.connect(dir.path().join("a")).unwrap();
        vfkit.send(VFKT).unwrap();
        assert_eq!(read(&mut link), Vec::<Vec<u8>>::new());
        assert_eq!(link.send([&b"hello"[..]].into_iter()), (1, None));
        let mut buffer = [0; 16];
        assert_eq!(vfkit.recv(&mut buffer).unwrap(), 5);
        // It has no room to tell about: it is connected to us.
        assert!(link.room().is_none());
    }
}
