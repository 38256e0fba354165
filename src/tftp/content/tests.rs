use super::*;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

fn directories(root: &Path) -> Directories {
    Directories::new(Path::new("/nonexistent"), Some(root))
}

fn octets(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 7 + at / 1000) as u8).collect()
}

async fn all(content: &mut Content, block_size: u16, window: u64) -> io::Result<Vec<u8>> {
    let (mut got, mut packets) = (Vec::new(), Vec::new());
    let last = content.length() / u64::from(block_size) + 1;
    let mut first = 1;
    while first <= last {
        let count = window.min(last + 1 - first);
        let blocks = Blocks { first, count };
        content.fill(&mut packets, blocks, block_size).await?;
        for (block, packet) in (first..).zip(packets.chunks(4 + usize::from(block_size))) {
            assert_eq!(packet[..4], data_header(block as u16));
            got.extend_from_slice(&packet[4..]);
        }
        first += count;
    }
    Ok(got)
}

#[tokio::test]
async fn files_of_all_sizes_are_cut_into_blocks() {
    let dir = directory();
    for length in [0, 1, 511, 512, 513, 100_000, (4 << 20) + 512, 5_000_001] {
        std::fs::write(dir.path().join("f"), octets(length)).expect("written");
        for (block_size, window) in [(512, 1), (1468, 44), (65464, 1)] {
            let mut content = directories(dir.path())
                .open(&["f".to_owned()], Form::AsTheyAre)
                .expect("it is there");
            let is_held = matches!(content, Content::InMemory(_));
            assert_eq!(is_held, length <= 4 << 20);
            let got = all(&mut content, block_size, window).await.expect("read");
            assert!(got == octets(length), "{length} {block_size} {window}");
            if let Content::OnDisk(file) = &mut content {
                file.can_peek = false;
                let got = all(&mut content, block_size, window).await.expect("read");
                assert!(
                    got == octets(length),
                    "{length} {block_size} {window} ahead"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_file_that_changes_is_not_sent_as_a_mixture() {
    let dir = directory();
    let path = dir.path().join("f");
    for (can_peek, new) in [(true, 5 << 20), (true, 10), (false, 5 << 20), (false, 10)] {
        std::fs::write(&path, octets(5 << 20)).expect("written");
        let old = SystemTime::UNIX_EPOCH;
        let file = File::options()
            .write(true)
            .open(&path)
            .expect("it is there");
        file.set_modified(old).expect("set");
        let mut content = directories(dir.path())
            .open(&["f".to_owned()], Form::AsTheyAre)
            .expect("it is there");
        if let Content::OnDisk(file) = &mut content {
            file.can_peek = can_peek;
        }
        std::fs::write(&path, octets(new)).expect("written");
        let sent = all(&mut content, 512, 1).await.map(drop);
        let error = sent.expect_err("it changed");
        assert_eq!(error.to_string(), "the file changed while it was sent");
    }
}

#[test]
fn small_files_are_held_once_and_only_so_many() {
    let dir = directory();
    let directories = directories(dir.path());
    let open = |name: &str| {
        let opened = directories.open(&[name.to_owned()], Form::AsTheyAre);
        match opened.expect("it is there") {
            Content::InMemory(content) => Some(content),
            Content::OnDisk(_) => None,
        }
    };
    let names: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    for name in &names {
        std::fs::write(dir.path().join(name), octets(4 << 20)).expect("written");
    }
    let held: Vec<_> = names.iter().filter_map(|name| open(name)).collect();
    assert_eq!(held.len(), 16);
    let again = open("3").expect("it is held");
    assert!(Arc::ptr_eq(&again, &held[3]));
    drop((held, again));
    assert!(open("19").is_some(), "there is room again");
}

#[test]
fn netascii_has_lines_as_telnet_has_them() {
    assert_eq!(netascii(b"a\nb\rc\r\nd"), b"a\r\nb\r\0c\r\0\r\nd");
}
