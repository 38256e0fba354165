//! Against the qemu-img of this machine.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};

use super::*;
use crate::client::block_on;
use crate::images::format;

struct Fixture {
    dir: tempfile::TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("images")).unwrap();
        Self { dir, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Names of files beside the store.
    fn files(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "images")
            .collect();
        names.sort();
        names
    }

    fn base(&self) -> Image {
        let path = self.path("base.img");
        let mut file = File::create(&path).unwrap();
        file.set_len(4 << 20).unwrap();
        file.seek(SeekFrom::Start(510)).unwrap();
        file.write_all(b"\x55\xaa").unwrap();
        Image::at(&path, None, None).unwrap()
    }
}

#[test]
fn new_disks_take_no_room_and_replace_nothing() {
    let at = Fixture::new();
    let (raw, qcow2) = (at.path("a.raw"), at.path("a.qcow2"));
    block_on(create(&at.store, &raw, 8 << 30, DiskFormat::Raw)).unwrap();
    block_on(create(&at.store, &qcow2, 8 << 30, DiskFormat::Qcow2)).unwrap();
    for (path, says) in [(&raw, Some(DiskFormat::Raw)), (&qcow2, None)] {
        let info = block_on(info(path, says)).unwrap();
        assert_eq!(info.virtual_size, 8 << 30);
        assert!(info.allocated < 1 << 20, "{info:?}");
        assert!(!info.in_use && info.beneath.is_empty());
        let again = block_on(create(&at.store, path, 1 << 30, DiskFormat::Raw));
        assert_eq!(again.unwrap_err().exit, Exit::Conflict);
    }
    assert_eq!(at.files(), ["a.qcow2", "a.raw"]);
    let nowhere = at.path("no/where");
    let failure = block_on(create(&at.store, &nowhere, 1 << 30, DiskFormat::Raw)).unwrap_err();
    assert_eq!(failure.exit, Exit::NotFound);
}

#[test]
fn an_overlay_is_as_large_as_its_image_or_larger() {
    let at = Fixture::new();
    let base = at.base();
    let disk = at.path("disk.qcow2");
    let failure = block_on(overlay(&at.store, &base, &disk, Some(1 << 20))).unwrap_err();
    assert!(
        failure
            .message
            .starts_with("a disk of 1MiB on top of an image of 4MiB")
    );
    block_on(overlay(&at.store, &base, &disk, Some(1 << 30))).unwrap();
    let looked = block_on(info(&disk, None)).unwrap();
    assert_eq!(looked.virtual_size, 1 << 30);
    assert_eq!(looked.beneath, [base.path]);
    assert_eq!(at.files(), ["base.img", "disk.qcow2"]);
}

#[test]
fn a_disk_grows_and_shrinks_only_when_told() {
    let at = Fixture::new();
    let disk = at.path("disk.qcow2");
    block_on(create(&at.store, &disk, 1 << 30, DiskFormat::Qcow2)).unwrap();
    block_on(resize(&disk, None, 2 << 30, false)).unwrap();
    let failure = block_on(resize(&disk, None, 1 << 30, false)).unwrap_err();
    assert_eq!(failure.exit, Exit::Conflict);
    assert_eq!(block_on(info(&disk, None)).unwrap().virtual_size, 2 << 30);
    block_on(resize(&disk, None, 1 << 30, true)).unwrap();
    assert_eq!(block_on(info(&disk, None)).unwrap().virtual_size, 1 << 30);
}

#[test]
fn snapshots_have_names_of_their_own() {
    let at = Fixture::new();
    let disk = at.path("disk.qcow2");
    block_on(create(&at.store, &disk, 1 << 30, DiskFormat::Qcow2)).unwrap();
    let go = |verb, name: &str| block_on(snapshot(&disk, verb, name));
    go(SnapshotVerb::Create, "clean").unwrap();
    assert_eq!(
        go(SnapshotVerb::Create, "clean").unwrap_err().exit,
        Exit::Conflict
    );
    assert_eq!(
        go(SnapshotVerb::Apply, "none").unwrap_err().exit,
        Exit::NotFound
    );
    go(SnapshotVerb::Apply, "clean").unwrap();
    let kept = block_on(info(&disk, None)).unwrap().snapshots;
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].name, "clean");
    go(SnapshotVerb::Delete, "clean").unwrap();
    assert!(block_on(info(&disk, None)).unwrap().snapshots.is_empty());
    let raw = at.base().path;
    let failure = block_on(snapshot(&raw, SnapshotVerb::Create, "a")).unwrap_err();
    assert!(
        failure
            .message
            .ends_with("wanted qcow2, which keeps snapshots, got raw")
    );
}

#[test]
fn a_clone_lies_on_top_of_the_same_image_and_keeps_it_there() {
    let at = Fixture::new();
    let path = at.path("base.img");
    drop(at.base());
    let facts = crate::images::Facts {
        name: "base".to_owned(),
        arch: None,
        origin: String::new(),
        verified: None,
        boot: Vec::new(),
        cloud_init: None,
        replace: false,
    };
    let base = block_on(crate::images::import::file(
        &at.store, &path, None, None, facts,
    ))
    .unwrap();
    let (disk, copy) = (at.path("disk.qcow2"), at.path("copy.qcow2"));
    block_on(overlay(&at.store, &base, &disk, None)).unwrap();
    block_on(clone(&at.store, &disk, None, &copy)).unwrap();
    assert_eq!(fs::read(&disk).unwrap(), fs::read(&copy).unwrap());
    fs::remove_file(&disk).unwrap();
    let failure = at.store.remove(&base).unwrap_err();
    assert!(failure.message.contains("copy.qcow2"), "{failure}");
    fs::remove_file(&copy).unwrap();
    at.store.remove(&base).unwrap();
}

#[test]
fn chains_that_would_open_other_things_than_files_are_refused() {
    let at = Fixture::new();
    let base = at.base();
    let disk = at.path("disk.qcow2");
    block_on(overlay(&at.store, &base, &disk, None)).unwrap();
    // qemu-img does not make such a disk: its header is changed by hand.
    let point_at = |name: &str| {
        let mut file = File::options().read(true).write(true).open(&disk).unwrap();
        let mut header = vec![0; 4096];
        file.read_exact(&mut header).unwrap();
        let at = u64::from_be_bytes(header[8..16].try_into().unwrap());
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(name.as_bytes()).unwrap();
        file.seek(SeekFrom::Start(16)).unwrap();
        file.write_all(&(name.len() as u32).to_be_bytes()).unwrap();
    };
    for name in ["nbd:localhost:10809", "json:{}", "https://host/disk"] {
        point_at(name);
        let failure = block_on(info(&disk, None)).unwrap_err();
        assert!(
            failure
                .message
                .ends_with(&format!("wanted a file beneath it, got '{name}'"))
        );
    }
    point_at("disk.qcow2");
    assert!(block_on(info(&disk, None)).is_err());
    point_at("/no/such/file");
    assert_eq!(
        block_on(info(&disk, None)).unwrap_err().exit,
        Exit::NotFound
    );
    point_at("base.img");
    assert_eq!(
        block_on(info(&disk, None)).unwrap().beneath,
        std::slice::from_ref(&base.path)
    );
    assert!(format::probe_file(&disk, Some(DiskFormat::Raw)).is_err());
}

/// As QEMU does it: another process has the file open for writing, with QEMU's own locks.
#[test]
fn a_disk_of_a_running_machine_is_looked_at_and_not_touched() {
    let at = Fixture::new();
    let disk = at.path("disk.qcow2");
    block_on(create(&at.store, &disk, 1 << 20, DiskFormat::Qcow2)).unwrap();
    let file = File::options().read(true).write(true).open(&disk).unwrap();
    // QEMU, block/file-posix.c: octets from 100 say who has which permission, from 200 who minds; 1 is to write.
    let lock = |start: i64| {
        use std::os::fd::AsRawFd as _;
        let mut wish: libc::flock = unsafe { std::mem::zeroed() };
        wish.l_type = libc::F_RDLCK as _;
        wish.l_whence = libc::SEEK_SET as _;
        wish.l_start = start;
        wish.l_len = 1;
        // SAFETY: the descriptor is open, the structure is whole.
        assert_eq!(
            unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &wish) },
            0
        );
    };
    lock(101);
    lock(201);
    assert!(block_on(info(&disk, None)).unwrap().in_use);
    let resized = block_on(resize(&disk, None, 2 << 20, false)).unwrap_err();
    assert_eq!(resized.exit, Exit::Conflict, "{resized}");
    let cloned = block_on(clone(&at.store, &disk, None, &at.path("b"))).unwrap_err();
    assert!(cloned.message.ends_with("stop that one first"), "{cloned}");
    drop(file);
    assert!(!block_on(info(&disk, None)).unwrap().in_use);
}
