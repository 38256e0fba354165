//! TFTP as clients that are not ours speak it, and as firmware does, packet by packet.

mod engine;

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::symlink;
use std::time::Duration;

use crate::support::netns::{Netns, server_and_client};
use crate::support::service::{Home, Service};

/// A hang is a failure; this only bounds how long one is waited for.
const HANG: Duration = Duration::from_secs(60);
const PORT_69: &str = "198.18.0.1:69";

struct Server {
    /// Where machines ask from: it has 198.18.0.66.
    client: Netns,
    _netns: Netns,
    home: Home,
    service: Service,
}

fn serve(prepare: impl FnOnce(&Home)) -> Server {
    serve_on(|config| config, prepare)
}

fn serve_on(configure: impl FnOnce(String) -> String, prepare: impl FnOnce(&Home)) -> Server {
    let (netns, client) = server_and_client("52:54:00:00:00:01");
    client.ip(&["address", "add", "198.18.0.66/24", "dev", "eth0"]);
    let home = Home::new();
    prepare(&home);
    let service = Service::start(&netns, &home, &configure(home.config("")));
    Server {
        client,
        _netns: netns,
        home,
        service,
    }
}

/// Octets without a pattern that a lost or doubled block would fit into.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

// Clients that are not ours.

/// Has a client fetch `name` into a file; what that file holds.
fn fetched(server: &Server, client: &[&str], name: &str) -> Result<Vec<u8>, String> {
    let out = server.home.path().join("fetched");
    let _ = std::fs::remove_file(&out);
    let path = out.display().to_string();
    let url = format!("tftp://198.18.0.1/{name}");
    let words = client.iter().map(|word| match *word {
        "NAME" => name,
        "OUT" => &path,
        "URL" => &url,
        word => word,
    });
    let output = (server.client.command("timeout").arg("60"))
        .args(words)
        .output()
        .expect("it runs");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(
        !said.contains("No such file or directory (os") && output.status.code() != Some(127),
        "{}: install curl, tftp-hpa, atftp and busybox-static: {said}",
        client[0]
    );
    std::fs::read(&out).map_err(|_| said)
}

const CLIENTS: [&[&str]; 8] = [
    &["curl", "-sS", "-o", "OUT", "URL"],
    &["curl", "-sS", "--tftp-blksize", "1468", "-o", "OUT", "URL"],
    &["curl", "-sS", "--tftp-no-options", "-o", "OUT", "URL"],
    &[
        "tftp",
        "-m",
        "binary",
        "198.18.0.1",
        "-c",
        "get",
        "NAME",
        "OUT",
    ],
    &["atftp", "-g", "-r", "NAME", "-l", "OUT", "198.18.0.1"],
    &[
        "atftp",
        "--option",
        "blksize 1468",
        "--option",
        "windowsize 16",
        "--option",
        "tsize 0",
        "-g",
        "-r",
        "NAME",
        "-l",
        "OUT",
        "198.18.0.1",
    ],
    &[
        "busybox",
        "tftp",
        "-g",
        "-r",
        "NAME",
        "-l",
        "OUT",
        "198.18.0.1",
    ],
    &[
        "busybox",
        "tftp",
        "-b",
        "1468",
        "-g",
        "-r",
        "NAME",
        "-l",
        "OUT",
        "198.18.0.1",
    ],
];

#[test]
fn four_clients_get_programs_and_files_octet_by_octet() {
    let sizes = [1, 511, 512, 513, 1024, 1468, 2 * 1468, 300_001];
    let server = serve(|home| {
        for size in sizes {
            home.write(&format!("tftp/sub/{size}"), noise(size));
        }
    });
    let program = std::fs::read("/usr/lib/ipxe/undionly.kpxe").expect("the package ipxe");
    for client in CLIENTS {
        for size in sizes {
            let got = fetched(&server, client, &format!("sub/{size}"));
            let same = got.as_deref() == Ok(&noise(size)[..]);
            assert!(same, "{client:?} {size}: {:?}", got.map(|got| got.len()));
        }
        let got = fetched(&server, client, "undionly.kpxe");
        assert!(got.as_deref() == Ok(&program[..]), "{client:?}");
    }
}

#[test]
fn clients_are_told_that_there_is_no_such_file() {
    let server = serve(|_| {});
    for client in CLIENTS {
        // Some make the file before they ask.
        let got = fetched(&server, client, "nothing.here").unwrap_or_default();
        assert!(got.is_empty(), "{client:?}");
    }
    server
        .service
        .wait_for_nth("refused", CLIENTS.len(), |line| {
            line["protocol"] == "tftp" && line["path"] == "nothing.here"
        });
}

#[test]
fn text_that_is_asked_for_as_netascii_arrives_as_text() {
    let text = "one\ntwo\n\nfour, longer than nothing\n".repeat(200);
    let server = serve(|home| {
        home.write("tftp/grub.cfg", &text);
    });
    for client in [
        &[
            "tftp",
            "-m",
            "ascii",
            "198.18.0.1",
            "-c",
            "get",
            "NAME",
            "OUT",
        ][..],
        &[
            "atftp",
            "--option",
            "mode netascii",
            "-g",
            "-r",
            "NAME",
            "-l",
            "OUT",
            "198.18.0.1",
        ],
    ] {
        let got = fetched(&server, client, "grub.cfg").expect("text");
        let got = String::from_utf8(got).expect("text").replace('\r', "");
        assert_eq!(got, text, "{client:?}");
    }
}

// Packet by packet.

#[derive(Debug, PartialEq)]
enum Packet {
    Data(u16, Vec<u8>),
    Ack(u16),
    Error(u16, String),
    Options(Vec<(String, String)>),
}

/// One client's socket.
struct Peer {
    socket: UdpSocket,
    /// Where the last packet came from.
    from: SocketAddr,
}

impl Peer {
    fn new(netns: &Netns) -> Self {
        Self::at(netns, "0.0.0.0:0")
    }

    fn at(netns: &Netns, address: &str) -> Self {
        let socket = netns.inside(|| UdpSocket::bind(address).expect("a port"));
        socket.set_read_timeout(Some(HANG)).expect("set");
        let from = PORT_69.parse().expect("an address");
        Self { socket, from }
    }

    fn send_to(&self, octets: &[u8], to: impl std::net::ToSocketAddrs) {
        self.socket.send_to(octets, to).expect("sent");
    }

    /// Asks to read `name`; options as name and value.
    fn ask(&self, name: impl AsRef<[u8]>, options: &[(&str, &str)]) {
        self.send_to(&request(1, name.as_ref(), options), PORT_69);
    }

    fn ack(&self, block: u16) {
        self.send_to(&[[0, 4], block.to_be_bytes()].concat(), self.from);
    }

    fn receive(&mut self) -> Packet {
        self.receive_in_time().expect("a packet in time")
    }

    fn receive_in_time(&mut self) -> Option<Packet> {
        let mut octets = [0; 2048];
        let (length, from) = loop {
            match self.socket.recv_from(&mut octets) {
                Ok(received) => break received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error}"),
            }
        };
        self.from = from;
        let (head, rest) = octets[..length].split_at(2);
        let number = || u16::from_be_bytes([rest[0], rest[1]]);
        let mut words = rest.split(|octet| *octet == 0).map(|word| {
            let word = String::from_utf8(word.to_vec());
            word.expect("text")
        });
        Some(match head {
            [0, 3] => Packet::Data(number(), rest[2..].to_vec()),
            [0, 4] => Packet::Ack(number()),
            [0, 5] => {
                let text = rest[2..].strip_suffix(&[0]).expect("a text and its end");
                Packet::Error(number(), String::from_utf8_lossy(text).into_owned())
            }
            [0, 6] => {
                let mut options = Vec::new();
                while let (Some(name), Some(value)) = (words.next(), words.next()) {
                    options.push((name, value));
                }
                Packet::Options(options)
            }
            other => panic!("what is {other:?}?"),
        })
    }

    /// Reads a whole file in lock-step or in windows, from whatever packet comes next.
    fn rest_of_file(&mut self, block_size: usize, window: u16) -> Vec<u8> {
        self.file_from(1, block_size, window)
    }

    /// The file from this block on, which has not come yet.
    fn file_from(&mut self, first: u16, block_size: usize, window: u16) -> Vec<u8> {
        let mut content = Vec::new();
        let (mut expected, mut unacknowledged) = (first, 0);
        loop {
            match self.receive() {
                Packet::Data(block, data) if block == expected => {
                    content.extend_from_slice(&data);
                    unacknowledged += 1;
                    if data.len() < block_size || unacknowledged == window {
                        self.ack(block);
                        unacknowledged = 0;
                    }
                    if data.len() < block_size {
                        return content;
                    }
                    expected = expected.wrapping_add(1);
                }
                // Sent again, because an acknowledgement was late.
                Packet::Data(block, _) if expected.wrapping_sub(block) < 0x8000 => {}
                other => panic!("wanted block {expected}, got {other:?}"),
            }
        }
    }

    /// Asks, and as all clients do, asks again: a burst of others may have taken the request's place in the socket.
    fn answer_to(&mut self, name: &str, options: &[(&str, &str)]) -> Packet {
        let patience = Some(Duration::from_secs(1));
        self.socket.set_read_timeout(patience).expect("set");
        let answer = (0..60).find_map(|_| {
            self.ask(name, options);
            self.receive_in_time()
        });
        self.socket.set_read_timeout(Some(HANG)).expect("set");
        answer.expect("an answer in time")
    }

    /// A download in 1468 octets a block.
    fn fetch(&mut self, name: &str) -> Vec<u8> {
        let options = match self.answer_to(name, &[("blksize", "1468")]) {
            Packet::Options(options) => options,
            other => panic!("{name}: wanted options, got {other:?}"),
        };
        assert_eq!(options, [("blksize".to_owned(), "1468".to_owned())]);
        self.ack(0);
        self.rest_of_file(1468, 1)
    }
}

fn request(code: u8, name: &[u8], options: &[(&str, &str)]) -> Vec<u8> {
    let mut octets = vec![0, code];
    octets.extend_from_slice(name);
    octets.extend_from_slice(b"\0octet\0");
    for (name, value) in options {
        octets.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
    }
    octets
}

#[test]
fn an_option_is_answered_only_if_it_was_asked_for_and_within_our_bounds() {
    let server = serve(|home| {
        home.write("tftp/file", noise(3000));
    });
    for (asked, answered) in [
        (&[][..], &[][..]),
        (&[("tsize", "0")], &[("tsize", "3000")]),
        (
            &[("TSIZE", "0"), ("BlkSize", "1024")],
            &[("blksize", "1024"), ("tsize", "3000")],
        ),
        (&[("blksize", "8")], &[("blksize", "8")]),
        (&[("blksize", "65464")], &[("blksize", "1468")]),
        (&[("blksize", "7")], &[]),
        (&[("blksize", "65465")], &[]),
        (&[("blksize", "many")], &[]),
        (&[("windowsize", "4")], &[("windowsize", "4")]),
        (&[("windowsize", "65535")], &[("windowsize", "64")]),
        (&[("windowsize", "0")], &[]),
        (&[("timeout", "3")], &[("timeout", "3")]),
        (&[("timeout", "0")], &[]),
        (&[("multicast", ""), ("utimeout", "1")], &[]),
        (&[("multicast", ""), ("tsize", "0")], &[("tsize", "3000")]),
    ] {
        let mut peer = Peer::new(&server.client);
        peer.ask("file", asked);
        let block_size = match peer.receive() {
            Packet::Options(mut options) => {
                options.sort();
                let options: Vec<(&str, &str)> = options
                    .iter()
                    .map(|(n, v)| (n.as_str(), v.as_str()))
                    .collect();
                assert_eq!(options, answered, "{asked:?}");
                peer.ack(0);
                let size = answered.iter().find(|(name, _)| *name == "blksize");
                size.map_or(512, |(_, size)| size.parse().expect("a number"))
            }
            Packet::Data(1, data) => {
                assert!(
                    answered.is_empty() && data == noise(3000)[..512],
                    "{asked:?}"
                );
                peer.ack(1);
                assert_eq!(
                    peer.receive(),
                    Packet::Data(2, noise(3000)[512..1024].to_vec())
                );
                continue;
            }
            other => panic!("{asked:?}: {other:?}"),
        };
        let window = answered.iter().find(|(name, _)| *name == "windowsize");
        let window = window.map_or(1, |(_, size)| size.parse().expect("a number"));
        assert!(
            peer.rest_of_file(block_size, window) == noise(3000),
            "{asked:?}"
        );
    }
}

#[test]
fn what_is_not_there_is_error_1_and_what_leads_out_is_error_2() {
    let server = serve(|home| {
        let root = home.path().join("tftp");
        home.write("secret/secret.txt", "the secret");
        home.write("tftp/sub/file", "x");
        symlink("../secret/secret.txt", root.join("out")).expect("made");
        symlink(home.path().join("secret"), root.join("out-directory")).expect("made");
        symlink("nothing", root.join("dangling")).expect("made");
    });
    let not_found = |path: &str| (1, path.to_owned());
    let refused = |path: &str| (2, path.to_owned());
    let absolute = server
        .home
        .path()
        .join("secret/secret.txt")
        .display()
        .to_string();
    for (code, name) in [
        not_found("nothing"),
        not_found("sub"),
        not_found("sub/"),
        not_found("dangling"),
        not_found("etc/passwd"),
        not_found("/etc/passwd"),
        not_found(&absolute),
        not_found("C:\\boot.ini"),
        not_found("%2e%2e/secret/secret.txt"),
        refused("../secret/secret.txt"),
        refused("/../secret/secret.txt"),
        refused("sub/../../secret/secret.txt"),
        refused("..\\secret\\secret.txt"),
        refused("sub\\..\\..\\secret\\secret.txt"),
        refused("sub/.."),
        refused(".."),
        refused("out"),
        refused("out-directory/secret.txt"),
        refused(""),
        refused("/"),
        refused("sub/\nfile"),
        refused(&"a/".repeat(300)),
    ] {
        let mut peer = Peer::new(&server.client);
        peer.ask(&name, &[("tsize", "0")]);
        match peer.receive() {
            Packet::Error(got, _) => assert_eq!(got, code, "{name:?}"),
            other => panic!("{name:?}: {other:?}"),
        }
    }
}

#[test]
fn a_file_in_a_file_and_a_name_that_no_file_can_have_are_not_found() {
    let server = serve(|home| {
        home.write("tftp/file", "x");
    });
    for name in [
        "file/file".to_owned(),
        "file/".to_owned() + "x/y",
        "x".repeat(300),
    ] {
        let mut peer = Peer::new(&server.client);
        peer.ask(&name, &[]);
        match peer.receive() {
            Packet::Error(code, _) => assert_eq!(code, 1, "{name:?}"),
            other => panic!("{name:?}: {other:?}"),
        }
    }
}

#[test]
fn a_name_means_the_same_file_however_firmware_writes_it() {
    let server = serve(|home| {
        home.write("tftp/sub/boot.efi", noise(700));
    });
    for name in [
        "sub/boot.efi",
        "/sub/boot.efi",
        "//sub/boot.efi",
        "sub//boot.efi",
        "\\sub\\boot.efi",
        "./sub/./boot.efi",
    ] {
        let mut peer = Peer::new(&server.client);
        assert!(peer.fetch(name) == noise(700), "{name}");
    }
}

#[test]
fn nothing_can_be_written() {
    let server = serve(|home| {
        home.write("tftp/file", "as it was");
    });
    for name in ["file", "new", "../new"] {
        let mut peer = Peer::new(&server.client);
        peer.send_to(&request(2, name.as_bytes(), &[("tsize", "3")]), PORT_69);
        match peer.receive() {
            Packet::Error(code, _) => assert_eq!(code, 2, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
        server.service.wait_for("refused", |line| {
            line["path"] == name && line["reason"] == "nothing can be written here"
        });
    }
    let there: Vec<_> = std::fs::read_dir(server.home.path().join("tftp"))
        .expect("it is there")
        .collect();
    assert_eq!(there.len(), 1);
    let content = std::fs::read_to_string(server.home.path().join("tftp/file"));
    assert_eq!(content.expect("it is there"), "as it was");
}

#[test]
fn the_size_of_a_file_is_asked_first_and_the_file_then_from_the_same_port() {
    // EDK II asks for tsize, answers ERROR 8, and opens the file again.
    let server = serve(|home| {
        home.write("tftp/boot.efi", noise(5000));
    });
    let mut peer = Peer::new(&server.client);
    peer.ask("boot.efi", &[("tsize", "0"), ("blksize", "1468")]);
    assert!(matches!(peer.receive(), Packet::Options(_)));
    let probe = peer.from;
    peer.send_to(b"\0\x05\0\x08user aborted the transfer\0", probe);
    peer.ask("boot.efi", &[("blksize", "1468")]);
    let options = [("blksize".to_owned(), "1468".to_owned())];
    assert_eq!(peer.receive(), Packet::Options(options.into()));
    assert_ne!(peer.from, probe);
    peer.ack(0);
    let content = peer.rest_of_file(1468, 1);
    assert!(content == noise(5000));
}

#[test]
fn a_block_that_is_acknowledged_twice_is_followed_by_one_block() {
    // RFC 1123 §4.2.3.1, the Sorcerer's Apprentice: both of the next blocks would be there before the one after it.
    let server = serve(|home| {
        home.write("tftp/file", noise(5000));
    });
    let mut peer = Peer::new(&server.client);
    peer.ask("file", &[]);
    for block in 1..=9_u16 {
        let from = usize::from(block - 1) * 512;
        assert_eq!(
            peer.receive(),
            Packet::Data(block, noise(5000)[from..from + 512].to_vec())
        );
        peer.ack(block);
        peer.ack(block);
    }
}

#[test]
fn a_block_that_is_not_acknowledged_is_sent_again() {
    let server = serve(|home| {
        home.write("tftp/file", noise(1000));
    });
    let mut peer = Peer::new(&server.client);
    peer.ask("file", &[]);
    let first = peer.receive();
    assert_eq!(peer.receive(), first);
    peer.ack(1);
    assert_eq!(peer.receive(), Packet::Data(2, noise(1000)[512..].to_vec()));
}

#[test]
fn a_strangers_packets_do_not_disturb_a_transfer() {
    let server = serve(|home| {
        home.write("tftp/file", noise(5000));
    });
    let mut peer = Peer::new(&server.client);
    let stranger = Peer::new(&server.client);
    peer.ask("file", &[]);
    assert!(matches!(peer.receive(), Packet::Data(1, _)));
    for packet in [
        &b"\0\x04\0\x01"[..],
        b"\0\x05\0\x00no\0",
        b"\0\x04\0\x02",
        b"nonsense",
    ] {
        stranger.send_to(packet, peer.from);
    }
    peer.ack(1);
    assert!(peer.file_from(2, 512, 1) == noise(5000)[512..]);
}

#[test]
fn a_file_of_more_blocks_than_are_counted_is_served_in_lock_step() {
    // 65,535 blocks of 512 octets are 33.5 MB; the counter goes on at 0.
    let content = noise(34_000_000);
    let server = serve(|home| {
        home.write("tftp/large", &content);
    });
    let mut peer = Peer::new(&server.client);
    peer.ask("large", &[]);
    assert!(peer.rest_of_file(512, 1) == content);
}

#[test]
fn a_file_of_more_blocks_than_are_counted_is_served_in_windows() {
    let content = noise(600_000);
    let server = serve(|home| {
        home.write("tftp/large", &content);
    });
    let mut peer = Peer::new(&server.client);
    // Twelve do not divide 65,536: a window begins before the counter starts again and ends after.
    peer.ask("large", &[("blksize", "8"), ("windowsize", "12")]);
    assert!(matches!(peer.receive(), Packet::Options(_)));
    peer.ack(0);
    assert!(peer.rest_of_file(8, 12) == content);
}

#[test]
fn a_window_of_which_a_block_was_lost_is_sent_again_from_there() {
    let server = serve(|home| {
        home.write("tftp/file", noise(512 * 12 + 1));
    });
    let mut peer = Peer::new(&server.client);
    peer.ask("file", &[("windowsize", "4")]);
    assert!(matches!(peer.receive(), Packet::Options(_)));
    peer.ack(0);
    let blocks = |peer: &mut Peer, wanted: std::ops::RangeInclusive<u16>| {
        for wanted in wanted {
            let Packet::Data(block, data) = peer.receive() else {
                panic!("no data");
            };
            let from = usize::from(wanted - 1) * 512;
            assert_eq!(
                (block, &data[..]),
                (wanted, &noise(512 * 12 + 1)[from..][..data.len()])
            );
        }
    };
    blocks(&mut peer, 1..=4);
    // RFC 7440 §4: the third was lost.
    peer.ack(2);
    blocks(&mut peer, 3..=6);
    peer.ack(6);
    blocks(&mut peer, 7..=10);
    peer.ack(10);
    blocks(&mut peer, 11..=13);
    peer.ack(13);
    let line = server
        .service
        .wait_for("served", |line| line["path"] == "file");
    assert_eq!(
        (&line["bytes"], &line["complete"]),
        (&6145.into(), &true.into())
    );
}

#[test]
fn a_file_that_changes_is_served_to_its_end_as_it_was() {
    let server = serve(|home| {
        home.write("tftp/file", noise(200_000));
    });
    let mut peer = Peer::new(&server.client);
    peer.ask("file", &[]);
    assert_eq!(
        peer.receive(),
        Packet::Data(1, noise(200_000)[..512].to_vec())
    );
    std::fs::write(server.home.path().join("tftp/file"), "new").expect("written");
    assert_eq!(Peer::new(&server.client).fetch("file"), b"new");
    peer.ack(1);
    assert!(peer.file_from(2, 512, 1) == noise(200_000)[512..]);
}

#[test]
fn a_file_that_is_larger_than_any_memory_is_served_from_the_disk() {
    let length = 64_u64 << 30;
    let server = serve(|home| {
        let path = home.write("tftp/disk.img", "");
        let file = std::fs::File::options()
            .write(true)
            .open(path)
            .expect("it is there");
        file.set_len(length).expect("sparse");
    });
    let mut peer = Peer::new(&server.client);
    peer.ask("disk.img", &[("tsize", "0"), ("windowsize", "65535")]);
    let answered = [
        ("tsize".to_owned(), length.to_string()),
        ("windowsize".to_owned(), "64".to_owned()),
    ];
    assert_eq!(peer.receive(), Packet::Options(answered.into()));
    peer.ack(0);
    for block in 1..=6400 {
        assert_eq!(peer.receive(), Packet::Data(block, vec![0; 512]));
        if block % 64 == 0 {
            peer.ack(block);
        }
    }
}

#[test]
fn fifty_machines_are_served_at_once() {
    let content = noise(1 << 20);
    let server = serve(|home| {
        home.write("tftp/kernel", &content);
    });
    let peers: Vec<Peer> = (0..50).map(|_| Peer::new(&server.client)).collect();
    std::thread::scope(|scope| {
        for mut peer in peers {
            let content = &content;
            scope.spawn(move || assert!(peer.fetch("kernel") == *content));
        }
    });
    for n in 1..=50 {
        let line = server
            .service
            .wait_for_nth("served", n, |line| line["path"] == "kernel");
        assert_eq!(
            (&line["bytes"], &line["complete"]),
            (&(1 << 20).into(), &true.into())
        );
    }
}

#[test]
fn clients_that_fall_silent_keep_nobody_from_being_served() {
    let server = serve(|home| {
        home.write("tftp/kernel", noise(100_000));
    });
    let silent: Vec<Peer> = (0..300).map(|_| Peer::new(&server.client)).collect();
    for peer in &silent {
        peer.ask("kernel", &[("timeout", "255")]);
    }
    let mut peer = Peer::new(&server.client);
    assert!(peer.fetch("kernel") == noise(100_000));
}

#[test]
fn packets_that_are_no_requests_hurt_nobody() {
    let server = serve(|home| {
        home.write("tftp/file", noise(1000));
    });
    let noise = noise(200_000);
    let good = request(1, b"file", &[("blksize", "1024"), ("tsize", "0")]);
    let from = Peer::new(&server.client);
    for n in 0..2000 {
        let mut packet = match n % 3 {
            0 => noise[n * 7..n * 7 + n % 60].to_vec(),
            1 => good[..n % good.len()].to_vec(),
            _ => good.clone(),
        };
        if let Some(octet) = packet.get_mut(n % 31) {
            *octet ^= noise[n];
        }
        from.send_to(&packet, PORT_69);
    }
    let mut peer = Peer::new(&server.client);
    assert!(peer.fetch("file") == noise[..1000]);
}

#[test]
fn an_answer_comes_from_the_address_that_was_asked() {
    let everywhere = |config: String| config.replace(PORT_69, "0.0.0.0:69");
    let (netns, client) = server_and_client("52:54:00:00:00:01");
    client.ip(&["address", "add", "198.18.0.66/24", "dev", "eth0"]);
    netns.ip(&["address", "add", "198.18.0.2/24", "dev", "lan0"]);
    let home = Home::new();
    home.write("tftp/file", noise(1000));
    let _service = Service::start(&netns, &home, &everywhere(home.config("")));
    for address in ["198.18.0.1:69", "198.18.0.2:69"] {
        let mut peer = Peer::new(&client);
        peer.send_to(&request(1, b"file", &[]), address);
        assert_eq!(peer.receive(), Packet::Data(1, noise(1000)[..512].to_vec()));
        let asked: SocketAddr = address.parse().expect("an address");
        assert_eq!(peer.from.ip(), asked.ip());
    }
}

#[test]
fn a_program_hides_a_file_of_the_same_name() {
    let server = serve(|home| {
        home.write("tftp/undionly.kpxe", "not the one of the package");
    });
    let program = std::fs::read("/usr/lib/ipxe/undionly.kpxe").expect("the package ipxe");
    assert!(Peer::new(&server.client).fetch("undionly.kpxe") == program);
}

#[test]
fn a_program_that_its_package_links_to_boot_is_served() {
    // Debian 12 has /usr/lib/ipxe/ipxe.efi as a link to /boot/ipxe.efi, and DHCP gives that name to machines.
    let server = serve(|_| {});
    let program = std::fs::read("/usr/lib/ipxe/ipxe.efi").expect("the package ipxe");
    assert!(Peer::new(&server.client).fetch("ipxe.efi") == program);
}

#[test]
fn tftp_without_a_root_serves_the_programs_alone() {
    let without = |config: String| {
        let root = config
            .lines()
            .find(|l| l.starts_with("root"))
            .expect("one")
            .to_owned();
        config.replace(&root, "")
    };
    let server = serve_on(without, |home| {
        home.write("tftp/file", "x");
    });
    let mut peer = Peer::new(&server.client);
    peer.ask("file", &[]);
    assert!(matches!(peer.receive(), Packet::Error(1, _)));
    assert!(!Peer::new(&server.client).fetch("undionly.kpxe").is_empty());
}
