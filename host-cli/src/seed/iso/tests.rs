use std::process::Command;

use super::*;

fn small() -> Vec<Entry> {
    vec![
        Entry::text("meta-data", 0o644, "instance-id: i-1\n"),
        Entry::text("user-data", 0o600, "#cloud-config\n"),
        Entry::text("root/etc/bootjack/auth/server.key", 0o600, "secret").owned_by(65_532),
        Entry::text("root/etc/systemd/network/10-lan0.network", 0o644, ""),
    ]
}

/// What a block holds, as text up to its first zero.
fn text(octets: &[u8], block: usize) -> String {
    let content = &octets[block * BLOCK..(block + 1) * BLOCK];
    let end = content.iter().position(|octet| *octet == 0);
    String::from_utf8_lossy(&content[..end.unwrap_or(BLOCK)]).into_owned()
}

#[test]
fn the_same_files_give_the_same_octets() {
    let entries = small();
    let octets = Iso::new("CIDATA", &entries).unwrap().octets().unwrap();
    assert_eq!(
        octets,
        Iso::new("CIDATA", &entries).unwrap().octets().unwrap()
    );
    assert_eq!(octets.len() % BLOCK, 0);
    assert_eq!(&octets[16 * BLOCK + 1..16 * BLOCK + 6], b"CD001");
    assert_eq!(&octets[16 * BLOCK + 40..16 * BLOCK + 46], b"CIDATA");
    assert_eq!(octets[17 * BLOCK], 255);
    // Golden: read by Linux (`isofs`), cloud-init 22.4 and isoinfo 1.1.11 when this was noted.
    let digest = crate::seed::digest(&octets);
    assert_eq!(
        digest,
        "ea209e9e897a8eae33dea7b692cc4d3dde7ac9544518578908cdd0325a082256"
    );
    let last = octets.len() / BLOCK - 1;
    assert_eq!(text(&octets, last), "secret");
}

#[test]
fn what_fits_no_image_is_refused_by_its_path() {
    let refused = |entries: &[Entry]| Iso::new("CIDATA", entries).map(|_| ()).unwrap_err();
    for (path, why) in [
        ("/etc/hostname", "this is no path"),
        ("a//b", "this is no path"),
        ("a/../b", "this is no path"),
        ("", "this is no path"),
        ("meta-data", "it is there twice"),
        ("meta-data/a", "it is there twice"),
    ] {
        let entries = [
            Entry::text("meta-data", 0o644, ""),
            Entry::text(path, 0o644, ""),
        ];
        let refused = refused(&entries);
        assert!(refused.starts_with(&format!("{path}: {why}")), "{refused}");
    }
    let long = refused(&[Entry::text(&"n".repeat(200), 0o644, "")]);
    assert!(
        long.ends_with("the name is too long for an ISO image"),
        "{long}"
    );
    let huge = refused(&[Entry {
        content: Content::File {
            path: "huge".into(),
            size: 1 << 32,
        },
        ..Entry::text("huge", 0o644, "")
    }]);
    assert!(huge.contains("too many for an ISO image"), "{huge}");
    assert!(Iso::new("cidata", &[]).is_err());
}

#[test]
fn a_file_that_shrank_is_an_error_and_one_that_grew_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kernel");
    std::fs::write(&path, "0123456789").unwrap();
    let write = |size| {
        let entries = [Entry {
            content: Content::File {
                path: path.clone(),
                size,
            },
            ..Entry::text("files/kernel", 0o644, "")
        }];
        Iso::new("FILES", &entries).unwrap().octets()
    };
    let octets = write(4).unwrap();
    assert_eq!(text(&octets, octets.len() / BLOCK - 1), "0123");
    assert!(write(11).is_err());
}

/// Hundreds of members: records that may not lie across the end of a block, and names that are the same in capitals.
#[test]
fn every_member_of_a_large_directory_is_there_once() {
    let entries: Vec<Entry> = (0..300)
        .flat_map(|number| {
            let name = format!("deep/a-long-directory-name-{number:03}/File.txt");
            let twin = format!("deep/a-long-directory-name-{number:03}/file.txt");
            [
                Entry::text(&name, 0o644, format!("{number}")),
                Entry::text(&twin, 0o644, "twin"),
            ]
        })
        .collect();
    let octets = Iso::new("MANY", &entries).unwrap().octets().unwrap();
    let listed = isoinfo(&octets, &["-R", "-f"]);
    for entry in &entries {
        let path = format!("/{}", entry.path);
        assert_eq!(listed.lines().filter(|line| **line == path).count(), 1);
    }
    // Identifiers of those that read no Rock Ridge: all different.
    let plain = isoinfo(&octets, &["-f"]);
    let mut names: Vec<&str> = plain.lines().collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
    assert_eq!(all, 600 + 300 + 1);
}

/// What the reference reader says.
fn isoinfo(octets: &[u8], arguments: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image.iso");
    std::fs::write(&path, octets).unwrap();
    let output = Command::new("isoinfo")
        .arg("-i")
        .arg(&path)
        .args(arguments)
        .output()
        .expect("isoinfo runs; run: deploy/packages.sh test");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_reference_reader_finds_names_modes_and_contents() {
    let entries = small();
    let octets = Iso::new("CIDATA", &entries).unwrap().octets().unwrap();
    let described = isoinfo(&octets, &["-d"]);
    assert!(described.contains("Volume id: CIDATA"), "{described}");
    assert!(
        described.contains("Rock Ridge signatures version 1 found"),
        "{described}"
    );
    let listed = isoinfo(&octets, &["-R", "-l"]);
    let key = listed.lines().find(|line| line.ends_with("server.key "));
    let key = key.unwrap_or_else(|| panic!("{listed}"));
    assert!(key.starts_with("-rw-------   1 "), "{key}");
    let content = isoinfo(&octets, &["-R", "-x", "/root/etc/bootjack/auth/server.key"]);
    assert_eq!(content, "secret");
    assert_eq!(
        isoinfo(&octets, &["-R", "-x", "/meta-data"]),
        "instance-id: i-1\n"
    );
}
