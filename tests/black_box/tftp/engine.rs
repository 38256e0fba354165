//! What the engine is for: clients that stop, start anew, lose packets or get them twice, come a thousand at a time, reach one
//! port alone, or are being served when the service is told to stop.

use std::os::unix::process::ExitStatusExt as _;
use std::time::Instant;

use super::*;
use crate::support::service::signal;

const WINDOW_OF_4: [(&str, &str); 1] = [("windowsize", "4")];

fn single_port(config: String) -> String {
    config.replace("[tftp]\n", "[tftp]\nsingle_port = true\n")
}

/// Asks, expects options, and starts the transfer.
fn begin(peer: &mut Peer, name: &str, options: &[(&str, &str)]) {
    peer.ask(name, options);
    assert!(matches!(peer.receive(), Packet::Options(_)), "{name}");
    peer.ack(0);
}

/// A client on a bad line: of what comes, every `lose`th packet does not arrive; of what it says, every `lose`th is lost and
/// every `double`th is said twice.
fn fetch_badly(peer: &mut Peer, name: &str, window: u16, lose: usize, double: usize) -> Vec<u8> {
    let windowsize = window.to_string();
    let options = [("blksize", "1024"), ("windowsize", &windowsize[..])];
    assert!(matches!(peer.answer_to(name, &options), Packet::Options(_)));
    let (mut content, mut expected, mut in_window) = (Vec::new(), 1_u16, 0);
    let (mut heard, mut said) = (0_usize, 0_usize);
    let mut say = |peer: &Peer, block: u16| {
        said += 1;
        let times = match () {
            () if said.is_multiple_of(lose) => 0,
            () if said.is_multiple_of(double) => 2,
            () => 1,
        };
        for _ in 0..times {
            peer.ack(block);
        }
    };
    peer.ack(0);
    loop {
        let packet = peer.receive();
        heard += 1;
        if heard.is_multiple_of(lose) {
            continue;
        }
        match packet {
            Packet::Data(block, data) if block == expected => {
                content.extend_from_slice(&data);
                expected = expected.wrapping_add(1);
                in_window += 1;
                if data.len() < 1024 {
                    peer.ack(block);
                    return content;
                }
                if in_window == window {
                    in_window = 0;
                    say(peer, block);
                }
            }
            Packet::Data(..) => {
                in_window = 0;
                say(peer, expected.wrapping_sub(1));
            }
            Packet::Options(_) => peer.ack(0),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_size_that_was_asked_is_logged_as_that_and_not_as_a_download_that_broke_off() {
    let server = serve(|home| {
        home.write("tftp/boot.efi", noise(5000));
    });
    let mut peer = Peer::new(&server.client);
    for _ in 0..20 {
        // The same words both times, as GRUB has them, and no pause between.
        let options = [("tsize", "0"), ("blksize", "1468")];
        peer.ask("boot.efi", &options);
        let Packet::Options(told) = peer.receive() else {
            panic!("no options");
        };
        assert_eq!(told[0], ("tsize".to_owned(), "5000".to_owned()));
        let probe = peer.from;
        peer.send_to(b"\0\x05\0\x08User aborted the transfer\0", probe);
        peer.ask("boot.efi", &options);
        assert!(matches!(peer.receive(), Packet::Options(_)));
        assert_ne!(peer.from, probe, "the old transfer has ended");
        peer.ack(0);
        assert!(peer.rest_of_file(1468, 1) == noise(5000));
    }
    server
        .service
        .wait_for_nth("served", 20, |line| line["path"] == "boot.efi");
    let log = server.service.log();
    let of = |message: &str| log.iter().filter(|line| line["message"] == message).count();
    assert_eq!((of("told the size"), of("served")), (20, 20));
    assert!(log.iter().all(|line| line["complete"] != false));
}

#[test]
fn an_error_of_the_client_ends_the_transfer_and_is_logged_with_its_words() {
    let server = serve(|home| {
        home.write("tftp/file", noise(5000));
    });
    let mut peer = Peer::new(&server.client);
    peer.ask("file", &[]);
    assert!(matches!(peer.receive(), Packet::Data(1, _)));
    peer.ack(1);
    assert!(matches!(peer.receive(), Packet::Data(2, _)));
    peer.send_to(b"\0\x05\0\x03Disk\n full\0", peer.from);
    let line = server
        .service
        .wait_for("served", |line| line["path"] == "file");
    assert_eq!(
        (
            &line["complete"],
            &line["ended"],
            &line["error"],
            &line["bytes"]
        ),
        (
            &false.into(),
            &"aborted".into(),
            &"3 Disk full".into(),
            &512.into()
        )
    );
    // Longer than any block would wait to be sent again.
    let patience = Some(Duration::from_millis(1500));
    peer.socket.set_read_timeout(patience).expect("set");
    assert_eq!(peer.receive_in_time(), None);
}

#[test]
fn a_client_that_asks_for_another_file_from_the_same_port_gets_that() {
    let server = serve(|home| {
        home.write("tftp/first", noise(50_000));
        home.write("tftp/second", noise(3000));
    });
    let mut peer = Peer::new(&server.client);
    peer.ask("first", &[]);
    assert!(matches!(peer.receive(), Packet::Data(1, _)));
    let first = peer.from;
    peer.ask("second", &[]);
    assert!(peer.rest_of_file(512, 1) == noise(3000));
    assert_ne!(peer.from, first);
    let line = server
        .service
        .wait_for("served", |line| line["path"] == "first");
    assert_eq!(line["ended"], "replaced");
}

#[test]
fn a_request_that_comes_twice_is_answered_from_one_port() {
    let server = serve(|home| {
        home.write("tftp/file", noise(3000));
    });
    let mut peer = Peer::new(&server.client);
    for _ in 0..5 {
        peer.ask("file", &[("blksize", "1024")]);
    }
    let mut ports = Vec::new();
    for _ in 0..5 {
        assert!(matches!(peer.receive(), Packet::Options(_)));
        ports.push(peer.from);
    }
    ports.dedup();
    assert_eq!(ports.len(), 1);
    peer.ack(0);
    peer.ack(0);
    assert!(peer.rest_of_file(1024, 1) == noise(3000));
}

#[test]
fn a_stranger_is_told_that_it_is_one() {
    let server = serve(|home| {
        home.write("tftp/file", noise(5000));
    });
    let (mut peer, mut stranger) = (Peer::new(&server.client), Peer::new(&server.client));
    peer.ask("file", &[]);
    assert!(matches!(peer.receive(), Packet::Data(1, _)));
    // RFC 1350 §4. Errors are not answered: two servers would never come to an end.
    stranger.send_to(b"\0\x05\0\0no\0", peer.from);
    for packet in [&b"\0\x04\0\x01"[..], b"\0\x04\0\x02", b"nonsense"] {
        stranger.send_to(packet, peer.from);
        let told = Packet::Error(5, "unknown transfer ID".to_owned());
        assert_eq!(stranger.receive(), told);
    }
    peer.ack(1);
    let rest = noise(5000)[512..1024].to_vec();
    assert_eq!(peer.receive(), Packet::Data(2, rest));
}

#[test]
fn a_first_block_that_was_lost_is_sent_again_soon() {
    let server = serve(|home| {
        home.write("tftp/file", noise(20_000));
    });
    for options in [&[("blksize", "1024")][..], &WINDOW_OF_4] {
        let mut peer = Peer::new(&server.client);
        begin(&mut peer, "file", options);
        let first = peer.receive();
        assert!(matches!(first, Packet::Data(1, _)));
        let lost_at = Instant::now();
        while peer.receive() != first {}
        // What was used before took three seconds.
        assert!(lost_at.elapsed() < Duration::from_secs(2));
    }
}

#[test]
fn files_arrive_whole_over_lines_that_lose_and_double() {
    let content = noise(80_000);
    for configure in [std::convert::identity, single_port] {
        let server = serve_on(configure, |home| {
            home.write("tftp/file", &content);
        });
        std::thread::scope(|scope| {
            for (window, lose, double) in [(1, 9, 2), (1, 7, 3), (4, 11, 2), (16, 13, 5)] {
                let mut peer = Peer::new(&server.client);
                let content = &content;
                scope.spawn(move || {
                    let got = fetch_badly(&mut peer, "file", window, lose, double);
                    assert!(got == *content, "{window} {lose} {double}");
                });
            }
        });
    }
}

#[test]
fn a_thousand_machines_are_served_at_once_whatever_they_ask_for() {
    let content = noise(200_000);
    let large = noise(8 << 20);
    let server = serve(|home| {
        home.write("tftp/kernel", &content);
        home.write("tftp/large", &large);
    });
    for last in 67..=69 {
        let address = format!("198.18.0.{last}/24");
        server
            .client
            .ip(&["address", "add", &address, "dev", "eth0"]);
    }
    // A thousand are under way before the first gets a block.
    let greedy = [("windowsize", "65535"), ("blksize", "65464")];
    let mut peers = Vec::new();
    for n in 0..1000 {
        let mut peer = Peer::at(&server.client, &format!("198.18.0.{}:0", 66 + n % 4));
        let (name, options) = match n % 10 {
            0 => ("large", &greedy[..]),
            _ => ("kernel", &[("blksize", "1468")][..]),
        };
        assert!(matches!(peer.answer_to(name, options), Packet::Options(_)));
        peers.push((peer, name));
    }
    std::thread::scope(|scope| {
        for (mut peer, name) in peers {
            let content = &content;
            let small = std::thread::Builder::new().stack_size(256 << 10);
            let fetch = move || {
                peer.ack(0);
                if name == "kernel" {
                    // While the others asked, what it was answered has come again.
                    let mut first = peer.receive();
                    while matches!(first, Packet::Options(_)) {
                        first = peer.receive();
                    }
                    let Packet::Data(1, mut octets) = first else {
                        panic!("wanted block 1, got {first:?}");
                    };
                    peer.ack(1);
                    octets.extend(peer.file_from(2, 1468, 1));
                    assert!(octets == *content);
                }
            };
            small.spawn_scoped(scope, fetch).expect("a thread");
        }
    });
    server
        .service
        .wait_for_nth("served", 900, |line| line["complete"] == true);
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.service.pid()));
    let status = status.expect("it runs");
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let most = most.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    // Of which a hundred windows of 64 KiB are 6 MiB.
    assert!(most.expect("proc(5)") < 200_000, "{most:?} kB");
}

#[test]
fn nobody_takes_all_the_places() {
    let few = |config: String| {
        config.replace(
            "[tftp]\n",
            "[tftp]\nmax_transfers = 5\nmax_transfers_per_client = 3\n",
        )
    };
    let server = serve_on(few, |home| {
        home.write("tftp/file", noise(3000));
    });
    server
        .client
        .ip(&["address", "add", "198.18.0.67/24", "dev", "eth0"]);
    let mut greedy: Vec<Peer> = (0..4).map(|_| Peer::new(&server.client)).collect();
    for peer in &mut greedy[..3] {
        begin(peer, "file", &WINDOW_OF_4);
    }
    greedy[3].ask("file", &[]);
    let why = "3 transfers of this client run already";
    assert_eq!(greedy[3].receive(), Packet::Error(0, why.to_owned()));
    server
        .service
        .wait_for("refused", |line| line["reason"] == why);
    let mut other = Peer::at(&server.client, "198.18.0.67:0");
    other.ask("file", &[]);
    assert!(other.rest_of_file(512, 1) == noise(3000));
    // And what has ended makes room.
    assert!(greedy[0].rest_of_file(512, 4) == noise(3000));
    server.service.wait_for_nth("served", 2, |_| true);
    greedy[3].ask("file", &[]);
    assert!(greedy[3].rest_of_file(512, 1) == noise(3000));
}

#[test]
fn one_port_is_enough_where_no_other_can_be_reached() {
    let server = serve_on(single_port, |home| {
        home.write("tftp/file", noise(70_000));
    });
    for client in CLIENTS {
        let got = fetched(&server, client, "file");
        assert!(got.as_deref() == Ok(&noise(70_000)[..]), "{client:?}");
    }
    let port_69: SocketAddr = PORT_69.parse().expect("an address");
    let mut peers: Vec<Peer> = (0..20).map(|_| Peer::new(&server.client)).collect();
    for peer in &mut peers {
        begin(peer, "file", &[("tsize", "0")]);
    }
    for peer in &mut peers {
        assert!(peer.rest_of_file(512, 1) == noise(70_000));
        assert_eq!(peer.from, port_69);
    }
    // A size, and the file from the same port.
    let mut peer = Peer::new(&server.client);
    peer.ask("file", &[("tsize", "0")]);
    assert!(matches!(peer.receive(), Packet::Options(_)));
    peer.send_to(b"\0\x05\0\x08enough\0", port_69);
    begin(&mut peer, "file", &[("tsize", "0")]);
    assert!(peer.rest_of_file(512, 1) == noise(70_000));
    server
        .service
        .wait_for("told the size", |line| line["path"] == "file");
    // Whose transfer nobody knows.
    let mut stranger = Peer::new(&server.client);
    stranger.ack(1);
    let told = Packet::Error(5, "unknown transfer ID".to_owned());
    assert_eq!(stranger.receive(), told);
}

#[test]
fn one_port_answers_from_the_address_that_was_asked_too() {
    let everywhere = |config: String| single_port(config.replace(PORT_69, "0.0.0.0:69"));
    let (netns, client) = server_and_client("52:54:00:00:00:01");
    client.ip(&["address", "add", "198.18.0.66/24", "dev", "eth0"]);
    netns.ip(&["address", "add", "198.18.0.2/24", "dev", "lan0"]);
    let home = Home::new();
    home.write("tftp/file", noise(5000));
    let _service = Service::start(&netns, &home, &everywhere(home.config("")));
    for address in ["198.18.0.1:69", "198.18.0.2:69"] {
        let mut peer = Peer::new(&client);
        peer.send_to(&request(1, b"file", &WINDOW_OF_4), address);
        assert!(matches!(peer.receive(), Packet::Options(_)));
        peer.ack(0);
        assert!(peer.rest_of_file(512, 4) == noise(5000));
        assert_eq!(peer.from, address.parse().expect("an address"));
    }
}

#[test]
fn one_socket_serves_both_families() {
    for configure in [std::convert::identity, single_port] {
        let both = |config: String| configure(config.replace(PORT_69, "[::]:69"));
        let server = serve_on(both, |home| {
            home.write("tftp/file", noise(5000));
        });
        for (client, address) in [("[::1]:0", "[::1]:69"), ("127.0.0.1:0", "127.0.0.2:69")] {
            let mut peer = Peer::at(&server._netns, client);
            peer.send_to(&request(1, b"file", &WINDOW_OF_4), address);
            assert!(matches!(peer.receive(), Packet::Options(_)), "{address}");
            peer.ack(0);
            assert!(peer.rest_of_file(512, 4) == noise(5000), "{address}");
            let asked: SocketAddr = address.parse().expect("an address");
            assert_eq!(peer.from.ip(), asked.ip());
        }
    }
}

#[test]
fn an_address_that_comes_later_is_served_and_a_broadcast_is_not_answered() {
    let everywhere = |config: String| config.replace(PORT_69, "0.0.0.0:69");
    let server = serve_on(everywhere, |home| {
        home.write("tftp/file", noise(600));
    });
    server
        ._netns
        .ip(&["address", "add", "198.18.0.3/24", "dev", "lan0"]);
    let mut peer = Peer::new(&server.client);
    peer.socket.set_broadcast(true).expect("set");
    // RFC 1123 §4.2.3.5. The answer that comes is the one to the second request.
    peer.send_to(&request(1, b"file", &[]), "198.18.0.255:69");
    peer.send_to(&request(1, b"file", &[]), "198.18.0.3:69");
    assert!(peer.rest_of_file(512, 1) == noise(600));
    assert_eq!(peer.from.ip().to_string(), "198.18.0.3");
}

#[test]
fn a_block_is_no_longer_than_the_path_carries() {
    let server = serve(|home| {
        home.write("tftp/file", noise(3000));
    });
    server._netns.ip(&["link", "set", "lan0", "mtu", "1400"]);
    let mut peer = Peer::new(&server.client);
    peer.ask("file", &[("blksize", "1468")]);
    let told = [("blksize".to_owned(), "1368".to_owned())];
    assert_eq!(peer.receive(), Packet::Options(told.into()));
    peer.ack(0);
    assert!(peer.rest_of_file(1368, 1) == noise(3000));
}

#[test]
fn names_and_modes_are_taken_as_roms_send_them() {
    let server = serve(|home| {
        home.write("tftp/pxelinux.0", noise(600));
    });
    let mut peer = Peer::new(&server.client);
    peer.ask(b"pxelinux.0\xff", &[]);
    assert!(peer.rest_of_file(512, 1) == noise(600));
    for (packet, code) in [
        (&b"\0\x01gr\xfc\xdfe\0octet\0"[..], 1),
        (b"\0\x01pxelinux.0\0mail\0", 4),
        (b"\0\x01pxelinux.0\0", 4),
        (b"\0\x01", 4),
    ] {
        let mut peer = Peer::new(&server.client);
        peer.send_to(packet, PORT_69);
        match peer.receive() {
            Packet::Error(got, _) => assert_eq!(got, code, "{packet:?}"),
            other => panic!("{packet:?}: {other:?}"),
        }
    }
}

#[test]
fn netascii_has_its_own_ends_of_lines_and_its_own_length() {
    let server = serve(|home| {
        home.write("tftp/text", "one\ntwo\rthree\n");
    });
    let mut peer = Peer::new(&server.client);
    peer.send_to(b"\0\x01text\0NetASCII\0tsize\x000\0", PORT_69);
    let told = [("tsize".to_owned(), "17".to_owned())];
    assert_eq!(peer.receive(), Packet::Options(told.into()));
    peer.ack(0);
    assert_eq!(peer.rest_of_file(512, 1), b"one\r\ntwo\r\0three\r\n");
}

#[test]
fn a_file_that_changes_on_disk_is_given_up_and_not_sent_as_a_mixture() {
    let server = serve(|home| {
        home.write("tftp/large", noise(6 << 20));
    });
    let mut peer = Peer::new(&server.client);
    peer.ask("large", &[]);
    assert!(matches!(peer.receive(), Packet::Data(1, _)));
    std::fs::write(server.home.path().join("tftp/large"), "new").expect("written");
    let mut block = 1;
    let told = loop {
        peer.ack(block);
        match peer.receive() {
            Packet::Data(next, _) => block = next,
            other => break other,
        }
    };
    assert_eq!(told, Packet::Error(0, "cannot be read".to_owned()));
    server.service.wait_for("refused", |line| {
        line["reason"] == "the file changed while it was sent"
    });
}

#[test]
fn a_transfer_that_runs_is_finished_before_it_stops() {
    for configure in [std::convert::identity, single_port] {
        let server = serve_on(configure, |home| {
            home.write("tftp/file", noise(300_000));
        });
        let mut peer = Peer::new(&server.client);
        begin(&mut peer, "file", &[("blksize", "1024")]);
        let Packet::Data(1, first) = peer.receive() else {
            panic!("no data");
        };
        signal(server.service.pid(), "TERM");
        // It takes no new ones: asked until there is no answer any more.
        let mut late = Peer::new(&server.client);
        let patience = Some(Duration::from_millis(300));
        late.socket.set_read_timeout(patience).expect("set");
        let refuses = (0..60).any(|_| {
            late.ask("nothing", &[]);
            late.receive_in_time().is_none()
        });
        assert!(refuses);
        peer.ack(1);
        let mut content = first;
        for block in 2..=293 {
            loop {
                match peer.receive() {
                    Packet::Data(got, data) if got == block => break content.extend(data),
                    Packet::Data(got, _) if got < block => {} // sent again meanwhile
                    other => panic!("{other:?}"),
                }
            }
            peer.ack(block);
        }
        assert!(content == noise(300_000));
        let (status, log) = server.service.wait();
        assert_eq!((status.code(), status.signal()), (Some(0), None));
        let served = log.iter().find(|line| line["message"] == "served");
        assert_eq!(served.expect("logged")["complete"], true);
    }
}

#[test]
fn a_client_that_fell_silent_does_not_keep_it_from_stopping() {
    let server = serve(|home| {
        home.write("tftp/file", noise(300_000));
    });
    let mut peer = Peer::new(&server.client);
    begin(&mut peer, "file", &[("timeout", "255")]);
    signal(server.service.pid(), "TERM");
    server.service.wait_for("served", |line| {
        line["complete"] == false && line["ended"] == "cut"
    });
    assert_eq!(server.service.wait().0.code(), Some(0));
}
