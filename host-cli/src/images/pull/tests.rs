//! Against servers on this computer that do everything wrong that servers do.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::answer::Known;
use super::*;
use crate::client::block_on;
use crate::images::store::lock::Lock;

/// What a server was asked.
#[derive(Clone, Debug, Default)]
struct Request {
    path: String,
    /// Where the wanted range begins.
    from: Option<usize>,
    if_range: Option<String>,
}

/// A server on this computer. Ends with the test's process.
struct Server {
    url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// `answer` gets the number of the request, from 0.
    fn start(
        answer: impl Fn(usize, &Request, &mut TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (requests.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (seen, answer, mut stream) = (seen.clone(), answer.clone(), stream.unwrap());
                std::thread::spawn(move || {
                    let Some(request) = read(&mut stream) else {
                        return;
                    };
                    let number = {
                        let mut seen = seen.lock().unwrap();
                        seen.push(request.clone());
                        seen.len() - 1
                    };
                    // Whoever hangs up is no fault of the server's.
                    let _ = answer(number, &request, &mut stream);
                });
            }
        });
        Self { url, requests }
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut request = Request::default();
    let mut lines = BufReader::new(stream).lines();
    request.path = lines.next()?.ok()?.split(' ').nth(1)?.to_owned();
    for line in lines {
        let line = line.ok()?;
        let (name, value) = match line.split_once(": ") {
            Some(header) => header,
            None => break,
        };
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                let from = value.strip_prefix("bytes=")?.strip_suffix('-')?;
                request.from = Some(from.parse().ok()?);
            }
            "if-range" => request.if_range = Some(value.to_owned()),
            _ => {}
        }
    }
    Some(request)
}

/// An answer with these headers, then these octets, then the connection ends.
fn send(stream: &mut TcpStream, status: u16, headers: &str, body: &[u8]) -> io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 {status} Whatever\r\n{headers}Connection: close\r\n\r\n"
    )?;
    stream.write_all(body)
}

/// As a server should: ranges, If-Range, 416.
fn serve(request: &Request, stream: &mut TcpStream, etag: &str, content: &[u8]) -> io::Result<()> {
    serve_up_to(request, stream, etag, content, usize::MAX)
}

/// The same, but the connection ends after so many octets.
fn serve_up_to(
    request: &Request,
    stream: &mut TcpStream,
    etag: &str,
    content: &[u8],
    octets: usize,
) -> io::Result<()> {
    let same = request.if_range.as_deref().is_none_or(|is| is == etag);
    let from = request.from.filter(|_| same);
    let total = content.len();
    let (status, headers, body) = match from {
        Some(from) if from >= total => {
            return send(
                stream,
                416,
                &format!("Content-Range: bytes */{total}\r\n"),
                b"",
            );
        }
        Some(from) => {
            let range = format!("Content-Range: bytes {from}-{}/{total}\r\n", total - 1);
            (206, range, &content[from..])
        }
        None => (200, String::new(), content),
    };
    let length = body.len();
    let headers = format!("{headers}Content-Length: {length}\r\nETag: {etag}\r\n");
    send(stream, status, &headers, &body[..length.min(octets)])
}

/// A raw disk of 300 KiB; `seed` makes it another one.
fn disk(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut octets: Vec<u8> = (0..300 << 10)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 40) as u8
        })
        .collect();
    octets[0] = 0;
    octets[510..512].copy_from_slice(b"\x55\xaa");
    octets
}

fn sha256(content: &[u8]) -> Digest {
    Digest::new(Algorithm::Sha256, &hex(&Sha256::digest(content))).unwrap()
}

struct Fixture {
    _dir: tempfile::TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        Self { _dir: dir, store }
    }

    fn pull(&self, url: &str, voucher: Voucher) -> Result<Pulled, Failure> {
        self.pull_from(&[(url, voucher)])
    }

    fn pull_from(&self, sources: &[(&str, Voucher)]) -> Result<Pulled, Failure> {
        let sources = sources.iter().map(|(url, voucher)| Source {
            url: (*url).to_owned(),
            voucher: voucher.clone(),
        });
        let wanted = Wanted {
            name: "image".to_owned(),
            arch: None,
            sources: sources.collect(),
            boot: Vec::new(),
            cloud_init: None,
            says: None,
            replace: false,
        };
        let patience = Patience {
            stall: Duration::from_secs(5),
            pause: Duration::from_millis(1),
        };
        block_on(pull(&self.store, &wanted, patience))
    }

    /// What is under way: names and lengths, without locks.
    fn parts(&self) -> Vec<(String, u64)> {
        let files = std::fs::read_dir(self.store.parts()).unwrap();
        let mut parts: Vec<_> = files
            .map(|file| file.unwrap())
            .map(|file| {
                (
                    file.file_name().into_string().unwrap(),
                    file.metadata().unwrap().len(),
                )
            })
            .filter(|(name, _)| !name.ends_with(".lock"))
            .collect();
        parts.sort();
        parts
    }

    /// The image is there, whole, and nothing else is.
    fn has(&self, content: &[u8]) {
        let image = self.store.find("image", None).unwrap().unwrap();
        assert_eq!(std::fs::read(&image.path).unwrap(), content);
        assert_eq!(self.parts(), []);
        assert!(self.store.prune().unwrap().files.is_empty());
    }

    fn has_nothing(&self) {
        assert!(self.store.list().unwrap().is_empty());
        assert_eq!(self.parts(), []);
    }
}

fn by_digest(content: &[u8]) -> Voucher {
    Voucher::Digest(sha256(content))
}

#[test]
fn a_file_is_got_once_and_kept_with_who_vouches_for_it() {
    let (at, content) = (Fixture::new(), disk(1));
    let served = content.clone();
    let server = Server::start(move |_, request, stream| serve(request, stream, "\"a\"", &served));
    let url = format!("{}/dir/disk.img?token=secret", server.url);
    let pulled = at.pull(&url, by_digest(&content)).unwrap();
    assert!(!pulled.was_here);
    at.has(&content);
    let entry = pulled.image.entry.unwrap();
    assert_eq!(entry.origin, format!("{}/dir/disk.img", server.url));
    assert_eq!(entry.verified, Some(sha256(&content).to_string()));
    assert!(at.pull(&url, by_digest(&content)).unwrap().was_here);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_transfer_that_breaks_off_goes_on_where_it_broke_off() {
    let (at, content) = (Fixture::new(), disk(1));
    let served = content.clone();
    let server = Server::start(move |_, request, stream| {
        serve_up_to(request, stream, "\"a\"", &served, 100_000)
    });
    at.pull(&format!("{}/disk", server.url), by_digest(&content))
        .unwrap();
    at.has(&content);
    let from: Vec<_> = server.requests().iter().map(|r| r.from).collect();
    assert_eq!(from, [None, Some(100_000), Some(200_000), Some(300_000)]);
    assert!(server.requests()[1].if_range.as_deref() == Some("\"a\""));
}

#[test]
fn a_server_that_never_gets_on_is_given_up_and_what_came_is_kept() {
    let (at, content) = (Fixture::new(), disk(1));
    let served = content.clone();
    let works = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let switch = works.clone();
    let server = Server::start(move |number, request, stream| {
        let all = switch.load(std::sync::atomic::Ordering::SeqCst);
        let octets = match number {
            0 => 5_000,
            _ if all => usize::MAX,
            _ => 0,
        };
        serve_up_to(request, stream, "\"a\"", &served, octets)
    });
    let url = format!("{}/disk", server.url);
    let failure = at.pull(&url, by_digest(&content)).unwrap_err();
    assert_eq!(failure.exit, Exit::Unverified);
    assert!(
        failure
            .message
            .ends_with("have come; the same command goes on from there"),
        "{failure}"
    );
    assert_eq!(server.requests().len(), 5);
    assert!(
        at.parts()
            .iter()
            .any(|(name, length)| name.ends_with(".part") && *length == 5_000)
    );
    // In another process, later.
    works.store(true, std::sync::atomic::Ordering::SeqCst);
    at.pull(&url, by_digest(&content)).unwrap();
    assert_eq!(server.requests().last().unwrap().from, Some(5_000));
    at.has(&content);
}

#[test]
fn a_server_that_ignores_ranges_sends_it_all_again() {
    let (at, content) = (Fixture::new(), disk(1));
    let served = content.clone();
    let server = Server::start(move |number, _, stream| {
        let end = if number == 0 { 70_000 } else { served.len() };
        let headers = format!("Content-Length: {}\r\n", served.len());
        send(stream, 200, &headers, &served[..end])
    });
    at.pull(&format!("{}/disk", server.url), by_digest(&content))
        .unwrap();
    at.has(&content);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_file_that_changes_midway_is_got_anew() {
    let (at, old, new) = (Fixture::new(), disk(1), disk(2));
    let (first, second) = (old.clone(), new.clone());
    let server = Server::start(move |number, request, stream| match number {
        0 => serve_up_to(request, stream, "\"a\"", &first, 70_000),
        _ => serve(request, stream, "\"b\"", &second),
    });
    at.pull(&format!("{}/disk", server.url), by_digest(&new))
        .unwrap();
    at.has(&new);
}

/// It says 206 for another file, and its ETag gives it away; or does not, and then the digest does.
#[test]
fn a_server_that_ignores_if_range_is_found_out() {
    for tells in [true, false] {
        let (at, old, new) = (Fixture::new(), disk(1), disk(2));
        let (first, second) = (old.clone(), new.clone());
        let server = Server::start(move |number, request, stream| {
            let etag = if tells && number > 0 {
                "\"b\""
            } else {
                "\"a\""
            };
            let request = Request {
                if_range: None,
                ..request.clone()
            };
            match number {
                0 => serve_up_to(&request, stream, etag, &first, 70_000),
                _ => serve(&request, stream, etag, &second),
            }
        });
        at.pull(&format!("{}/disk", server.url), by_digest(&new))
            .unwrap();
        at.has(&new);
        assert_eq!(server.requests().len(), 3, "tells: {tells}");
    }
}

#[test]
fn a_server_that_lies_about_the_length_is_found_out() {
    let content = disk(1);
    // More than there is: the rest is asked for, and there is none.
    let (at, served) = (Fixture::new(), content.clone());
    let server = Server::start(move |number, request, stream| match number {
        0 => {
            let headers = format!("Content-Length: {}\r\nETag: \"a\"\r\n", served.len() + 1000);
            send(stream, 200, &headers, &served)
        }
        _ => serve(request, stream, "\"a\"", &served),
    });
    at.pull(&format!("{}/disk", server.url), by_digest(&content))
        .unwrap();
    at.has(&content);
    // Less: what comes is not what was wanted.
    let (at, served) = (Fixture::new(), content.clone());
    let server =
        Server::start(move |_, _, stream| send(stream, 200, "Content-Length: 1000\r\n", &served));
    let failure = at
        .pull(&format!("{}/disk", server.url), by_digest(&content))
        .unwrap_err();
    assert_eq!(failure.exit, Exit::Unverified);
    at.has_nothing();
}

#[test]
fn no_length_at_all_is_no_obstacle() {
    let (at, content) = (Fixture::new(), disk(1));
    let served = content.clone();
    let server = Server::start(move |_, _, stream| send(stream, 200, "", &served));
    at.pull(&format!("{}/disk", server.url), by_digest(&content))
        .unwrap();
    at.has(&content);
}

#[test]
fn wrong_octets_are_not_kept() {
    let (at, content) = (Fixture::new(), disk(1));
    let mut wrong = content.clone();
    wrong[9_999] ^= 1;
    let server = Server::start(move |_, request, stream| serve(request, stream, "\"a\"", &wrong));
    let failure = at
        .pull(&format!("{}/disk", server.url), by_digest(&content))
        .unwrap_err();
    assert_eq!(failure.exit, Exit::Unverified);
    assert!(
        failure
            .message
            .contains(&format!("wanted {}, got sha256:", sha256(&content)))
    );
    at.has_nothing();
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_silent_server_is_given_up() {
    let at = Fixture::new();
    let server = Server::start(move |_, _, stream| {
        send(stream, 200, "Content-Length: 1000\r\n", b"only this")?;
        // Until the other side has enough of it.
        stream.read_to_end(&mut Vec::new()).map(|_| ())
    });
    let wanted = Wanted {
        name: "image".to_owned(),
        arch: None,
        sources: vec![Source {
            url: format!("{}/disk", server.url),
            voucher: by_digest(b""),
        }],
        boot: Vec::new(),
        cloud_init: None,
        says: None,
        replace: false,
    };
    let patience = Patience {
        stall: Duration::from_millis(100),
        pause: Duration::from_millis(1),
    };
    let failure = block_on(pull(&at.store, &wanted, patience)).unwrap_err();
    assert!(
        failure.message.contains("the server is silent"),
        "{failure}"
    );
}

#[test]
fn a_server_leads_to_another_place() {
    let (at, content) = (Fixture::new(), disk(1));
    let served = content.clone();
    let server = Server::start(move |_, request, stream| match request.path.as_str() {
        "/a" => send(stream, 302, "Location: /b\r\nContent-Length: 0\r\n", b""),
        "/b" => send(stream, 308, "Location: c/d?e\r\nContent-Length: 0\r\n", b""),
        "/c/d?e" => serve(request, stream, "\"a\"", &served),
        "/round" => send(
            stream,
            302,
            "Location: /round\r\nContent-Length: 0\r\n",
            b"",
        ),
        _ => send(
            stream,
            302,
            "Location: http://198.18.0.1/x\r\nContent-Length: 0\r\n",
            b"",
        ),
    });
    at.pull(&format!("{}/a", server.url), by_digest(&content))
        .unwrap();
    at.has(&content);
    let at = Fixture::new();
    for (path, problem) in [
        ("/round", "leads elsewhere more than 10 times"),
        ("/away", "which is not encrypted"),
    ] {
        let url = format!("{}{path}", server.url);
        let failure = at.pull(&url, by_digest(&content)).unwrap_err();
        assert!(failure.message.contains(problem), "{failure}");
    }
    at.has_nothing();
}

#[test]
fn the_next_source_is_tried_where_one_is_gone() {
    let (at, content) = (Fixture::new(), disk(1));
    let served = content.clone();
    let server = Server::start(move |_, request, stream| match request.path.as_str() {
        "/latest/disk.img" => serve(request, stream, "\"a\"", &served),
        "/latest/SHA512SUMS" => {
            let hash = hex(&sha2::Sha512::digest(&served));
            let text = format!("{}  other.img\n{hash}  disk.img\n", "0".repeat(128));
            serve(request, stream, "\"s\"", text.as_bytes())
        }
        _ => send(stream, 404, "Content-Length: 0\r\n", b""),
    });
    let url = |path: &str| format!("{}/{path}", server.url);
    let (dated, latest) = (url("2026/disk.img"), url("latest/disk.img"));
    let older = url("2025/disk.img");
    let pulled = at.pull_from(&[
        (&older, Voucher::Checksums(url("2025/SHA512SUMS"))),
        (&dated, by_digest(b"something")),
        (&latest, Voucher::Checksums(url("latest/SHA512SUMS"))),
    ]);
    let verified = pulled.unwrap().image.entry.unwrap().verified.unwrap();
    assert!(verified.starts_with("sha512:"), "{verified}");
    at.has(&content);
    let at = Fixture::new();
    let failure = at.pull_from(&[(&dated, by_digest(b""))]).unwrap_err();
    assert!(
        failure.message.contains("it is not there any more"),
        "{failure}"
    );
    let unnamed = Voucher::Checksums(url("latest/SHA512SUMS"));
    let failure = at
        .pull_from(&[(&url("latest/more.img"), unnamed)])
        .unwrap_err();
    assert!(
        failure.message.ends_with("no digest is given for more.img"),
        "{failure}"
    );
}

#[test]
fn without_a_digest_a_part_goes_on_only_if_the_server_can_compare() {
    for (etag, wanted) in [
        ("\"a\"", vec![None, Some(70_000)]),
        ("W/\"a\"", vec![None, None]),
    ] {
        let (at, content) = (Fixture::new(), disk(1));
        let served = content.clone();
        let server = Server::start(move |number, request, stream| {
            let octets = if number == 0 { 70_000 } else { usize::MAX };
            serve_up_to(request, stream, etag, &served, octets)
        });
        at.pull(&format!("{}/disk", server.url), Voucher::Nobody)
            .unwrap();
        at.has(&content);
        let from: Vec<_> = server.requests().iter().map(|r| r.from).collect();
        assert_eq!(from, wanted);
        let entry = at
            .store
            .find("image", None)
            .unwrap()
            .unwrap()
            .entry
            .unwrap();
        assert_eq!(entry.verified, None);
    }
}

#[test]
fn what_is_no_image_is_not_kept() {
    let at = Fixture::new();
    let page = b"<html>please log in</html>".repeat(100);
    let served = page.clone();
    let server = Server::start(move |_, request, stream| serve(request, stream, "\"a\"", &served));
    let url = format!("{}/disk.qcow2", server.url);
    let failure = at.pull(&url, Voucher::Nobody).unwrap_err();
    assert_eq!(failure.exit, Exit::Invalid);
    assert!(
        failure
            .message
            .starts_with(&format!("{url}: wanted a disk image")),
        "{failure}"
    );
    at.has_nothing();
}

#[test]
fn two_that_want_the_same_get_it_once() {
    let (at, content) = (Fixture::new(), disk(1));
    let served = content.clone();
    let (reached, go_on) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
    let (reached, is_reached) = (Mutex::new(reached.0), reached.1);
    let (go, go_on) = (go_on.0, Mutex::new(go_on.1));
    let server = Server::start(move |_, request, stream| {
        reached.lock().unwrap().send(()).unwrap();
        let _ = go_on.lock().unwrap().recv();
        serve(request, stream, "\"a\"", &served)
    });
    let url = format!("{}/disk", server.url);
    std::thread::scope(|scope| {
        let pull = || at.pull(&url, by_digest(&content)).unwrap().was_here;
        let first = scope.spawn(pull);
        is_reached.recv().unwrap();
        let second = scope.spawn(pull);
        drop(go);
        let mut was_here = [first.join().unwrap(), second.join().unwrap()];
        was_here.sort_unstable();
        assert_eq!(was_here, [false, true]);
    });
    assert_eq!(server.requests().len(), 1);
    at.has(&content);
}

#[test]
fn a_download_that_is_under_way_is_not_pruned() {
    let at = Fixture::new();
    let part = |name: &str| at.store.parts().join(name);
    let lock = Lock::try_exclusive(&part("a.lock")).unwrap().unwrap();
    for name in ["a.part", "a.json", "b.part", "b.lock"] {
        std::fs::write(part(name), "x").unwrap();
    }
    // Begun by one that is no more: no process has this number.
    std::fs::write(part("b.json.new.2147483647"), "x").unwrap();
    at.store.prune().unwrap();
    let left: Vec<String> = at.parts().into_iter().map(|(name, _)| name).collect();
    assert_eq!(left, ["a.json", "a.part"]);
    drop(lock);
    at.store.prune().unwrap();
    assert_eq!(std::fs::read_dir(at.store.parts()).unwrap().count(), 0);
    assert!(Path::new(at.store.root()).exists());
}

/// Between the last octet and the name: the part is whole, and possibly the content as well.
#[test]
fn what_was_whole_before_a_kill_is_not_got_again() {
    let (at, content) = (Fixture::new(), disk(1));
    let served = content.clone();
    let server = Server::start(move |_, request, stream| serve(request, stream, "\"a\"", &served));
    let url = format!("{}/disk", server.url);
    let digest = sha256(&content);
    {
        let part = Part::open(&at.store.parts(), digest.hex(), |_| {}).unwrap();
        let known = Known {
            url_sha256: sha256_of(&url),
            etag: None,
            modified: None,
            length: Some(content.len() as u64),
        };
        part.begin(&known).unwrap().write_all(&content).unwrap();
        // As `Store::add` leaves it when it is killed before the name is written.
        let blob = at.store.root().join("blobs/sha256").join(digest.hex());
        std::fs::hard_link(part.path(), &blob).unwrap();
    }
    at.pull(&url, Voucher::Digest(digest)).unwrap();
    assert_eq!(server.requests().len(), 0);
    at.has(&content);
}
