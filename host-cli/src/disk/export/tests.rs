//! Against the qemu-img of this machine.

use super::*;
use crate::client::block_on;
use crate::drivers::spec::{Arch, Firmware};
use crate::images::{Facts, Image, import};

fn machine() -> Machine {
    Machine {
        name: "node-1".to_owned(),
        arch: Arch::X86_64,
        firmware: Firmware::Uefi,
        cpus: 2,
        memory_mib: 1024,
        user: "vagrant".to_owned(),
    }
}

/// A disk of 3 MiB with something at its beginning, its middle and its end.
fn octets() -> Vec<u8> {
    let mut octets = vec![0; 3 << 20];
    octets[510..512].copy_from_slice(b"\x55\xaa");
    for (at, octet) in octets[1 << 20..(1 << 20) + 200_000].iter_mut().enumerate() {
        *octet = ((at * at) >> 3) as u8;
    }
    octets[(3 << 20) - 1] = 7;
    octets
}

struct Fixture {
    dir: tempfile::TempDir,
    store: Store,
    disk: std::path::PathBuf,
}

impl Fixture {
    /// A qcow2 disk on top of an image of the store.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("images")).unwrap();
        let source = dir.path().join("source.img");
        std::fs::write(&source, octets()).unwrap();
        let image = import(&store, &source, "base").unwrap();
        let disk = dir.path().join("disk.qcow2");
        block_on(crate::disk::overlay(&store, &image, &disk, None)).unwrap();
        Self { dir, store, disk }
    }

    fn export(&self, form: Form, to: &Path) -> Result<(), Failure> {
        let wanted = Wanted {
            form,
            pack: false,
            machine: machine(),
        };
        block_on(export(&self.store, &self.disk, None, to, &wanted))
    }
}

fn import(store: &Store, file: &Path, name: &str) -> Result<Image, Failure> {
    let facts = Facts {
        name: name.to_owned(),
        arch: None,
        origin: file.display().to_string(),
        verified: None,
        boot: Vec::new(),
        cloud_init: None,
        replace: true,
    };
    block_on(import::file(store, file, None, None, facts))
}

/// Each form is read by our own import, which holds the disk's octets against those that went in.
#[test]
fn what_is_exported_is_read_back_with_the_same_octets() {
    let at = Fixture::new();
    for form in Form::value_variants() {
        let to = at.dir.path().join("exported");
        at.export(*form, &to).unwrap();
        let image = import(&at.store, &to, "back").unwrap();
        let raw = at.dir.path().join("raw");
        let arguments = qemu_img::convert(&image.path, image.format, &raw, DiskFormat::Raw, &[]);
        block_on(qemu_img::run(&arguments)).unwrap();
        assert!(std::fs::read(&raw).unwrap() == octets(), "{form:?}");
        let arch = form.is_box().then_some(Arch::X86_64);
        assert_eq!(image.arch, arch, "{form:?}");
        std::fs::remove_file(&to).unwrap();
    }
    let mut names: Vec<_> = std::fs::read_dir(at.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["disk.qcow2", "images", "raw", "source.img"]);
}

#[test]
fn nothing_is_replaced_and_nothing_is_left_of_what_fails() {
    let at = Fixture::new();
    let to = at.dir.path().join("exported");
    std::fs::write(&to, "mine").unwrap();
    let failure = at.export(Form::Vdi, &to).unwrap_err();
    assert_eq!(failure.exit, crate::exit::Exit::Conflict);
    assert_eq!(std::fs::read(&to).unwrap(), b"mine");
    std::fs::remove_file(&to).unwrap();
    // What lies beneath is gone: it fails in the middle.
    let image = at.store.find("base", None).unwrap().unwrap();
    std::fs::remove_file(&image.path).unwrap();
    at.export(Form::VagrantVirtualbox, &to).unwrap_err();
    assert_eq!(std::fs::read_dir(at.dir.path()).unwrap().count(), 3);
    assert!(at.store.prune().unwrap().files.is_empty());
}
