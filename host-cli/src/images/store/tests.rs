use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::client::block_on;
use crate::disk;
use crate::images::DiskFormat;
use crate::images::import;

/// A disk with a partition table's mark, and something to tell it by.
fn raw_disk(path: &Path, mark: u8) {
    let mut octets = vec![0; 1 << 20];
    octets[510..512].copy_from_slice(b"\x55\xaa");
    octets[4096] = mark;
    fs::write(path, octets).unwrap();
}

fn facts(name: &str) -> Facts {
    Facts {
        name: name.to_owned(),
        arch: None,
        origin: "/somewhere".to_owned(),
        verified: None,
        boot: Vec::new(),
        cloud_init: None,
        replace: false,
    }
}

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

    fn import(&self, name: &str, mark: u8) -> Result<Image, Failure> {
        let file = self.path("source.img");
        raw_disk(&file, mark);
        block_on(import::file(&self.store, &file, None, None, facts(name)))
    }

    /// Every file of the store but locks, relative to it.
    fn files(&self) -> Vec<String> {
        fn walk(root: &Path, dir: &Path, found: &mut Vec<String>) {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => walk(root, &path, found),
                    false => {
                        let name = path.strip_prefix(root).unwrap().display().to_string();
                        if !name.ends_with(".lock") {
                            found.push(name);
                        }
                    }
                }
            }
        }
        let mut found = Vec::new();
        walk(self.store.root(), self.store.root(), &mut found);
        found.sort();
        found
    }
}

#[test]
fn what_is_imported_is_found_by_name_and_never_written_again() {
    let at = Fixture::new();
    let image = at.import("plain", 1).unwrap();
    let found = at.store.find("plain", None).unwrap().unwrap();
    assert_eq!(found, image);
    assert_eq!(found.virtual_size, 1 << 20);
    assert_eq!(found.format, DiskFormat::Raw);
    assert_eq!(
        fs::read(&found.path).unwrap(),
        fs::read(at.path("source.img")).unwrap()
    );
    let mode = fs::metadata(&found.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o444);
    // The same again, under two names, is one content.
    at.import("plain", 1).unwrap();
    at.import("other", 1).unwrap();
    let sha256 = &image.entry.as_ref().unwrap().sha256;
    assert_eq!(
        at.files(),
        [format!("blobs/sha256/{sha256}"), "images.json".to_owned()]
    );
    at.store.verify(&found, |_| {}).unwrap();
}

#[test]
fn a_path_is_looked_at_where_there_is_no_name() {
    let at = Fixture::new();
    let file = at.path("disk.img");
    raw_disk(&file, 1);
    let image = at
        .store
        .find(file.to_str().unwrap(), None)
        .unwrap()
        .unwrap();
    assert_eq!((image.entry, image.format), (None, DiskFormat::Raw));
    assert_eq!(at.store.find("nothing", None).unwrap(), None);
}

#[test]
fn one_name_can_have_an_image_for_each_architecture() {
    let at = Fixture::new();
    let file = at.path("source.img");
    for (arch, mark) in [(Arch::X86_64, 1), (Arch::Aarch64, 2)] {
        raw_disk(&file, mark);
        let facts = Facts {
            arch: Some(arch),
            ..facts("both")
        };
        block_on(import::file(&at.store, &file, None, None, facts)).unwrap();
    }
    let image = at.store.find("both", Some(Arch::Aarch64)).unwrap().unwrap();
    assert_eq!(fs::read(image.path).unwrap()[4096], 2);
    let failure = at.store.find("both", None).unwrap_err();
    assert_eq!(
        failure.message,
        "there are images both for aarch64 and x86_64; say which with --arch"
    );
}

#[test]
fn another_content_under_the_same_name_has_to_be_asked_for() {
    let at = Fixture::new();
    at.import("plain", 1).unwrap();
    let failure = at.import("plain", 2).unwrap_err();
    assert_eq!(failure.exit, Exit::Conflict);
    assert_eq!(at.files().len(), 2, "{:?}", at.files());
    let file = at.path("source.img");
    let replacing = Facts {
        replace: true,
        ..facts("plain")
    };
    block_on(import::file(&at.store, &file, None, None, replacing)).unwrap();
    assert_eq!(at.store.list().unwrap().len(), 1);
    // The old content has no name any more.
    assert_eq!(at.store.prune().unwrap().files.len(), 1);
    assert_eq!(at.files().len(), 2);
}

#[test]
fn an_image_beneath_a_disk_stays() {
    let at = Fixture::new();
    let image = at.import("plain", 1).unwrap();
    let disk = at.path("disk.qcow2");
    block_on(disk::overlay(&at.store, &image, &disk, Some(2 << 20))).unwrap();
    let failure = at.store.remove(&image).unwrap_err();
    assert_eq!(failure.exit, Exit::Conflict);
    assert!(failure.message.contains("disk.qcow2"), "{failure}");
    // Nor is its content removed when the name has gone to another one.
    let file = at.path("source.img");
    raw_disk(&file, 2);
    let replacing = Facts {
        replace: true,
        ..facts("plain")
    };
    block_on(import::file(&at.store, &file, None, None, replacing)).unwrap();
    assert!(at.store.prune().unwrap().files.is_empty());
    assert!(image.path.exists());
    fs::remove_file(&disk).unwrap();
    assert_eq!(at.store.prune().unwrap().files, [image.path]);
}

#[test]
fn a_damaged_content_is_found_and_named() {
    let at = Fixture::new();
    let image = at.import("plain", 1).unwrap();
    fs::set_permissions(&image.path, fs::Permissions::from_mode(0o644)).unwrap();
    let mut octets = fs::read(&image.path).unwrap();
    octets[70_000] = 9;
    fs::write(&image.path, octets).unwrap();
    let failure = at.store.verify(&image, |_| {}).unwrap_err();
    assert_eq!(failure.exit, Exit::Unverified);
    assert!(
        failure
            .message
            .starts_with("image plain is damaged: wanted sha256 ")
    );
    at.store.remove(&image).unwrap();
    at.import("plain", 1).unwrap();
    let again = at.store.find("plain", None).unwrap().unwrap();
    at.store.verify(&again, |_| {}).unwrap();
}

/// Between any two steps of an import: what is left is a staged file with its note, or a content without a name.
#[test]
fn what_a_killed_import_leaves_is_pruned_and_harms_nobody() {
    let at = Fixture::new();
    let image = at.import("kept", 1).unwrap();
    let before = at.files();
    let left = at.store.staged("image").unwrap();
    raw_disk(left.path(), 3);
    left.forget_as_if_killed();
    fs::write(
        at.store.root().join("blobs/sha256").join("0".repeat(64)),
        "x",
    )
    .unwrap();
    assert_eq!(at.files().len(), before.len() + 3);
    assert_eq!(at.store.find("kept", None).unwrap().unwrap(), image);
    assert_eq!(at.store.prune().unwrap().files.len(), 2);
    assert_eq!(at.files(), before);
}

#[test]
fn hostile_files_are_refused_and_leave_nothing() {
    let at = Fixture::new();
    let secret = at.path("secret");
    raw_disk(&secret, 1);
    let overlay = at.path("overlay.qcow2");
    let base = Image::at(&secret, None, None).unwrap();
    block_on(disk::overlay(&at.store, &base, &overlay, None)).unwrap();
    let failure =
        block_on(import::file(&at.store, &overlay, None, None, facts("bad"))).unwrap_err();
    assert_eq!(failure.exit, Exit::Invalid);
    assert!(
        failure
            .message
            .contains("wanted an image that is whole by itself"),
        "{failure}"
    );
    let directory = block_on(import::file(
        &at.store,
        at.dir.path(),
        None,
        None,
        facts("bad"),
    ));
    assert_eq!(directory.unwrap_err().exit, Exit::Invalid);
    let missing = block_on(import::file(
        &at.store,
        &at.path("none"),
        None,
        None,
        facts("bad"),
    ));
    assert_eq!(missing.unwrap_err().exit, Exit::NotFound);
    assert_eq!(at.files(), Vec::<String>::new());
}

#[test]
fn vmdk_and_vdi_become_qcow2_with_the_same_octets() {
    let at = Fixture::new();
    let source = at.path("source.img");
    raw_disk(&source, 7);
    for (format, options) in [
        (DiskFormat::Vmdk, vec!["-o", "subformat=streamOptimized"]),
        (DiskFormat::Vmdk, vec![]),
        (DiskFormat::Vdi, vec![]),
    ] {
        let file = at.path("made");
        let arguments = disk::qemu_img::convert(&source, DiskFormat::Raw, &file, format, &options);
        block_on(disk::qemu_img::run(&arguments)).unwrap();
        let facts = Facts {
            replace: true,
            ..facts("made")
        };
        let image = block_on(import::file(&at.store, &file, None, None, facts)).unwrap();
        assert_eq!(image.format, DiskFormat::Qcow2);
        let back = at.path("back");
        let arguments =
            disk::qemu_img::convert(&image.path, image.format, &back, DiskFormat::Raw, &[]);
        block_on(disk::qemu_img::run(&arguments)).unwrap();
        assert_eq!(fs::read(&back).unwrap(), fs::read(&source).unwrap());
        fs::remove_file(&file).unwrap();
    }
}
