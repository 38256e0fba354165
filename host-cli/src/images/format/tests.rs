use std::io::Cursor;

use super::*;

fn of(octets: Vec<u8>) -> Result<Disk, String> {
    probe(&mut Cursor::new(octets), None)
}

fn set(octets: &mut [u8], at: usize, value: &[u8]) {
    octets[at..at + value.len()].copy_from_slice(value);
}

/// A header alone, version 3, 1 GiB.
fn qcow2() -> Vec<u8> {
    let mut header = vec![0; 65536];
    set(&mut header, 0, b"QFI\xfb\0\0\0\x03");
    set(&mut header, 20, &16_u32.to_be_bytes());
    set(&mut header, 24, &(1_u64 << 30).to_be_bytes());
    set(&mut header, 100, &104_u32.to_be_bytes());
    header
}

fn vmdk(text: &str) -> Vec<u8> {
    let mut header = vec![0; 65536];
    set(&mut header, 0, b"KDMV\x01\0\0\0");
    set(&mut header, 12, &2048_u64.to_le_bytes());
    set(&mut header, 28, &1_u64.to_le_bytes());
    set(&mut header, 36, &20_u64.to_le_bytes());
    set(&mut header, 512, text.as_bytes());
    header
}

fn vdi() -> Vec<u8> {
    let mut header = vec![0; 1024];
    set(&mut header, 0x40, &0xbeda_107f_u32.to_le_bytes());
    set(&mut header, 0x44, &0x0001_0001_u32.to_le_bytes());
    set(&mut header, 0x4c, &1_u32.to_le_bytes());
    set(&mut header, 0x170, &(1_u64 << 20).to_le_bytes());
    header
}

#[test]
fn each_format_is_known_by_its_octets() {
    let disk = |format, virtual_size| {
        Ok(Disk {
            format,
            virtual_size,
            backing: None,
        })
    };
    assert_eq!(of(qcow2()), disk(DiskFormat::Qcow2, 1 << 30));
    assert_eq!(
        of(vmdk("createType=\"monolithicSparse\"\n")),
        disk(DiskFormat::Vmdk, 1 << 20)
    );
    assert_eq!(of(vdi()), disk(DiskFormat::Vdi, 1 << 20));
    let mut boot_sector = vec![0; 1000];
    set(&mut boot_sector, 510, b"\x55\xaa");
    assert_eq!(of(boot_sector), disk(DiskFormat::Raw, 1024));
    let mut iso = vec![0; 0x9000];
    set(&mut iso, 0x8001, b"CD001");
    assert_eq!(of(iso), disk(DiskFormat::Raw, 0x9000));
}

#[test]
fn a_raw_disk_without_a_table_is_taken_on_its_owners_word_alone() {
    let blank = vec![0; 4096];
    let error = of(blank.clone()).unwrap_err();
    assert!(error.ends_with("say so with --format raw"), "{error}");
    let raw = |octets| probe(&mut Cursor::new(octets), Some(DiskFormat::Raw));
    assert_eq!(raw(blank).unwrap().virtual_size, 4096);
    // A word against the octets does not count.
    assert_eq!(raw(qcow2()).unwrap_err(), "wanted raw, got qcow2");
    assert_eq!(of(Vec::new()).unwrap_err(), "the file is empty");
}

#[test]
fn the_image_beneath_a_qcow2_is_read_with_its_format() {
    let mut image = qcow2();
    set(&mut image, 104, &0xe279_2aca_u32.to_be_bytes());
    set(&mut image, 108, &3_u32.to_be_bytes());
    set(&mut image, 112, b"raw");
    set(&mut image, 512, b"/etc/shadow");
    set(&mut image, 8, &512_u64.to_be_bytes());
    set(&mut image, 16, &11_u32.to_be_bytes());
    let backing = of(image.clone()).unwrap().backing.unwrap();
    assert_eq!(backing.file, "/etc/shadow");
    assert_eq!(backing.format.as_deref(), Some("raw"));
    // Version 2 has a shorter header.
    set(&mut image, 4, &2_u32.to_be_bytes());
    set(&mut image, 72, &0_u32.to_be_bytes());
    let backing = of(image.clone()).unwrap().backing.unwrap();
    assert_eq!(backing.format, None);
    set(&mut image, 16, &4096_u32.to_be_bytes());
    assert!(of(image).unwrap_err().ends_with("ends too soon"));
}

#[test]
fn qcow2_images_that_would_open_other_files_or_none_are_refused() {
    let mut data_file = qcow2();
    set(&mut data_file, 72, &4_u64.to_be_bytes());
    let mut named = qcow2();
    set(&mut named, 104, &0x4441_5441_u32.to_be_bytes());
    set(&mut named, 108, &11_u32.to_be_bytes());
    set(&mut named, 112, b"/etc/shadow");
    for image in [data_file, named] {
        let error = of(image).unwrap_err();
        assert!(error.contains("keeps its data in another file"), "{error}");
    }
    let changed = |at, value: &[u8], problem: &str| {
        let mut image = qcow2();
        set(&mut image, at, value);
        let error = of(image).unwrap_err();
        assert!(error.contains(problem), "{error}");
    };
    changed(4, &[0, 0, 0, 9], "got version 9");
    changed(4, &[0, 0, 0, 1], "version 1");
    changed(32, &[0, 0, 0, 2], "encrypted");
    changed(79, &[1], "was not closed");
    changed(79, &[2], "marked as damaged");
    changed(78, &[1], "not known here (0x100)");
    changed(100, &[0xff; 4], "its header has");
    changed(104, &[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], "ends too soon");
    for length in [4, 20, 40, 100] {
        let error = of(qcow2()[..length].to_vec()).unwrap_err();
        assert!(error.ends_with("ends too soon"), "{length}: {error}");
    }
}

#[test]
fn vmdks_that_name_other_files_are_refused() {
    for text in [
        "# Disk DescriptorFile\nparentFileNameHint=\"/etc/shadow\"\n",
        "createType=\"twoGbMaxExtentSparse\"\n",
        "createType=\"monolithicFlat\"\nRW 2 FLAT \"/etc/shadow\" 0\n",
    ] {
        let error = of(vmdk(text)).unwrap_err();
        assert!(error.contains("not opened"), "{error}");
    }
    let mut text_alone = vmdk("");
    set(&mut text_alone, 12, &0_u64.to_le_bytes());
    assert!(of(text_alone).unwrap_err().contains("several files"));
    let descriptor = b"# Disk DescriptorFile\nRW 2 FLAT \"/etc/shadow\" 0\n".to_vec();
    assert!(of(descriptor).unwrap_err().contains("several files"));
    assert!(of(b"KDMV\x01\0\0\0".to_vec()).is_err());
}

#[test]
fn a_vdi_on_top_of_another_is_refused() {
    let mut differencing = vdi();
    set(&mut differencing, 0x4c, &4_u32.to_le_bytes());
    let mut linked = vdi();
    set(&mut linked, 0x1a8, &[7; 16]);
    for image in [differencing, linked] {
        assert!(of(image).unwrap_err().contains("holds no whole disk"));
    }
    let mut endless = vdi();
    set(&mut endless, 0x170, &[0xff; 8]);
    assert!(of(endless).unwrap_err().contains("octets"));
}

#[test]
fn other_formats_are_named_with_the_way_out() {
    let padded = |head: &[u8]| {
        let mut octets = head.to_vec();
        octets.resize(4096, 0);
        of(octets).unwrap_err()
    };
    assert!(padded(b"\x1f\x8b\x08").ends_with("unpack it first with: gunzip"));
    assert!(padded(b"\xfd7zXZ\0").contains("packed by xz"));
    assert!(padded(b"vhdxfile").contains("got VHDX"));
    assert!(padded(b"QED\0").contains("got QED"));
    let mut footer = vec![0; 4096];
    set(&mut footer, 4096 - 512, b"conectix");
    assert!(of(footer).unwrap_err().contains("got VHD"));
}

/// No octet that a stranger may set makes it panic or read without end.
#[test]
fn damaged_headers_are_refused_or_read() {
    let mut state = 1_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize
    };
    for base in [qcow2(), vmdk("createType=\"x\"\n"), vdi()] {
        for _ in 0..2_000 {
            let mut image = base.clone();
            for _ in 0..1 + next() % 6 {
                let at = 4 + next() % 600;
                image[at] = next() as u8;
            }
            image.truncate(5 + next() % image.len());
            let _ = of(image);
        }
    }
}
