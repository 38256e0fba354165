use std::io::Write as _;

use super::*;

fn members(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn metadata(text: &str) -> Metadata {
    serde_json::from_str(text).unwrap()
}

#[test]
fn the_disk_of_each_kind_of_box_is_found() {
    let cases = [
        (
            vec!["metadata.json", "Vagrantfile", "box.img"],
            "{}",
            "box.img",
        ),
        (
            vec!["box.ovf", "box-disk001.vmdk", "metadata.json"],
            "{}",
            "box-disk001.vmdk",
        ),
        (vec!["a.vmx", "a.nvram", "disk.vmdk"], "{}", "disk.vmdk"),
        (
            vec!["metadata.json", "a.img", "b.img"],
            r#"{"provider":"libvirt","disks":[{"path":"b.img","format":"qcow2"}]}"#,
            "b.img",
        ),
    ];
    for (names, text, disk) in cases {
        let found = choose(&members(&names), &metadata(text), None).unwrap();
        assert_eq!(found.disk, disk);
    }
    let arm = metadata(r#"{"provider":"libvirt","architecture":"arm64","format":"qcow2"}"#);
    let found = choose(&members(&["box.img"]), &arm, None).unwrap();
    assert_eq!(found.arch, Some(Arch::Aarch64));
}

#[test]
fn nothing_is_chosen_among_several_disks() {
    let several = members(&["disk.vmdk", "disk-s001.vmdk"]);
    let none = Metadata::default();
    let problem = choose(&several, &none, None).unwrap_err();
    assert!(
        problem.ends_with("--member: disk.vmdk, disk-s001.vmdk"),
        "{problem}"
    );
    assert_eq!(
        choose(&several, &none, Some("disk.vmdk")).unwrap().disk,
        "disk.vmdk"
    );
    assert!(
        choose(&several, &none, Some("x"))
            .unwrap_err()
            .starts_with("it has no x")
    );
    assert!(
        choose(&members(&["a.txt"]), &none, None)
            .unwrap_err()
            .contains("without a disk")
    );
    let elsewhere = metadata(r#"{"disks":[{"path":"/etc/shadow"}]}"#);
    assert!(
        choose(&several, &elsewhere, None)
            .unwrap_err()
            .contains("which it has not")
    );
}

/// A tar of one entry, whose name is written as it is.
fn tar_of(name: &str, kind: tar::EntryType, link: &str) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    let field = &mut header.as_old_mut().name;
    field[..name.len()].copy_from_slice(name.as_bytes());
    if !link.is_empty() {
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    }
    header.set_entry_type(kind);
    header.set_size(0);
    header.set_mode(0o644);
    header.set_cksum();
    let mut tar = tar::Builder::new(Vec::new());
    tar.append(&header, io::empty()).unwrap();
    tar.into_inner().unwrap()
}

#[test]
fn archives_that_name_other_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.box");
    let link = tar_of("box.img", tar::EntryType::Symlink, "/etc/shadow");
    let hard = tar_of("box.img", tar::EntryType::Link, "/etc/shadow");
    let device = tar_of("box.img", tar::EntryType::Block, "");
    let file = |name| tar_of(name, tar::EntryType::Regular, "");
    for (tar, problem) in [
        (link, "got a link or a device: box.img"),
        (hard, "got a link or a device: box.img"),
        (device, "got a link or a device: box.img"),
        (file("../box.img"), "outside of itself: ../box.img"),
        (file("/etc/box.img"), "outside of itself: /etc/box.img"),
        (file("GNUSparseFile.0/box.img"), "tar --format=gnu -S"),
    ] {
        std::fs::write(&path, tar).unwrap();
        assert!(is_one(&path).unwrap());
        let failure = look(&path, None).unwrap_err();
        assert_eq!(failure.exit, Exit::Invalid);
        assert!(failure.message.ends_with(problem), "{failure}");
    }
}

#[test]
fn what_is_no_archive_or_half_of_one_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.box");
    for content in [
        &b""[..],
        b"\x1f\x8b",
        b"\x1f\x8bgarbage",
        b"QFI\xfb",
        &[0; 2000],
    ] {
        std::fs::write(&path, content).unwrap();
        assert!(!is_one(&path).unwrap());
    }
    assert!(!is_one(dir.path()).unwrap());
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(100_000);
    header.set_mode(0o644);
    tar.append_data(&mut header, "box.img", &[7; 100_000][..])
        .unwrap();
    let whole = tar.into_inner().unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    packed.write_all(&whole).unwrap();
    let packed = packed.finish().unwrap();
    for content in [&whole[..60_000], &packed[..60_000]] {
        std::fs::write(&path, content).unwrap();
        assert!(is_one(&path).unwrap());
        let failure = look(&path, None).unwrap_err();
        assert!(failure.message.contains("damaged or cut off"), "{failure}");
    }
    std::fs::write(&path, &packed).unwrap();
    let found = look(&path, None).unwrap();
    let length = with_disk(&path, &found, |disk| {
        let mut octets = Vec::new();
        disk.read_to_end(&mut octets).unwrap();
        Ok(octets.len())
    });
    assert_eq!(length.unwrap(), 100_000);
}

#[test]
fn metadata_has_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.box");
    let long = vec![b' '; (METADATA_MAX + 10) as usize];
    for (content, problem) in [(&long[..], "too long"), (b"{", "not understood")] {
        let mut tar = tar::Builder::new(File::create(&path).unwrap());
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, "metadata.json", content)
            .unwrap();
        tar.into_inner().unwrap();
        let failure = look(&path, None).unwrap_err();
        assert!(failure.message.contains(problem), "{failure}");
    }
}
