//! HTTP as boot loaders, installers, cloud-init and strangers ask it.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::support::api::{self, Api, Http, Response, node, text};
use crate::support::netns::{Netns, server_and_client};
use crate::support::service::{Home, Service, program, signal};

/// Two machines that boot, one that has nothing to boot, and one that is known by its MAC alone.
const MACHINES: &str = r#"
[[reservation]]
mac = "52:54:00:00:00:01"
address = "198.18.0.10"
hostname = "node-1"
profile = "debian-12"
vars = { ssh_key = "ssh-ed25519 AAAA one@lab" }
[[reservation]]
mac = "52:54:00:00:00:02"
address = "198.18.0.20"
hostname = "node-2"
profile = "local-disk"
[[reservation]]
mac = "52:54:00:00:00:03"
"#;

struct Server {
    netns: Netns,
    home: Home,
    service: Service,
    _client: Netns,
}

/// A service with these lines at the end of its configuration, over what `prepare` puts into its home.
fn serve(more: &str, prepare: impl FnOnce(&Home)) -> Server {
    let (netns, client) = server_and_client("52:54:00:00:00:01");
    let home = Home::new();
    prepare(&home);
    let service = Service::start(&netns, &home, &home.config(more));
    Server {
        netns,
        home,
        service,
        _client: client,
    }
}

impl Server {
    /// From node-1's address.
    fn connect(&self) -> Http {
        Http::connect_from(&self.netns, "198.18.0.10")
    }

    /// From the address of the machine that it asks for.
    fn get(&self, target: &str) -> Response {
        let from = match target.split('/').nth(2) {
            Some("52-54-00-00-00-02") => "198.18.0.20",
            Some("52-54-00-00-00-03") => "198.18.0.30",
            Some("52-54-00-00-00-05") => "198.18.0.5",
            _ => "198.18.0.10",
        };
        api::get_from(&self.netns, from, target)
    }

    fn ask(&self, target: &str, headers: &[(&str, &str)]) -> Response {
        self.connect().ask("GET", target, headers)
    }

    /// A document of the machine whose MAC ends in `n`.
    fn nocloud(&self, n: u8, document: &str) -> Response {
        let target = format!("/machines/52-54-00-00-00-{n:02x}/nocloud/{document}");
        self.get(&target)
    }
}

/// What cloud-init makes of a document: it reads YAML with PyYAML.
fn cloud_init_read(document: &str) -> Result<Value, String> {
    let program = "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin.buffer.read().decode()), sys.stdout)";
    let mut python = Command::new("/usr/bin/python3")
        .args(["-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 runs; install python3 and python3-yaml");
    let mut stdin = python.stdin.take().expect("piped");
    stdin.write_all(document.as_bytes()).expect("it reads");
    drop(stdin);
    let output = python.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !said.contains("ModuleNotFoundError"),
        "install python3-yaml: {said}"
    );
    let why = || said.lines().last().unwrap_or_default().to_owned();
    serde_json::from_slice(&output.stdout).map_err(|_| why())
}

fn as_cloud_init_reads(document: &str) -> Value {
    cloud_init_read(document).unwrap_or_else(|why| panic!("{why}:\n{document}"))
}

// Files.

const HELLO: &[u8] = b"hello, world\n";

fn serve_hello() -> Server {
    serve("", |home| {
        home.write("http/hello.txt", HELLO);
    })
}

#[test]
fn a_file_is_served_with_its_length_and_validators_and_head_says_the_same() {
    let server = serve_hello();
    let mut http = server.connect();
    let got = http.get("/files/hello.txt");
    assert_eq!((got.status, &got.body[..]), (200, HELLO));
    assert_eq!(got.header("content-length"), Some("13"));
    assert_eq!(got.header("accept-ranges"), Some("bytes"));
    assert_eq!(got.header("transfer-encoding"), None);
    let etag = got.header("etag").expect("an ETag");
    assert!(etag.starts_with('"'), "a strong one: {etag}");
    let head = http.ask("HEAD", "/files/hello.txt", &[]);
    let but_date = |r: &Response| {
        let headers = r.headers.iter().filter(|(name, _)| name != "date");
        headers.cloned().collect::<Vec<_>>()
    };
    assert_eq!((head.status, but_date(&head)), (200, but_date(&got)));
    assert_eq!(http.get("/files/hello.txt").body, HELLO, "HEAD had no body");
}

#[test]
fn a_range_is_answered_with_that_part() {
    let server = serve_hello();
    let mut http = server.connect();
    for (range, said, part) in [
        ("bytes=0-4", "bytes 0-4/13", &b"hello"[..]),
        ("bytes=0-0", "bytes 0-0/13", b"h"),
        ("bytes=7-", "bytes 7-12/13", b"world\n"),
        ("bytes=7-9999", "bytes 7-12/13", b"world\n"),
        ("bytes=12-12", "bytes 12-12/13", b"\n"),
        ("bytes=-6", "bytes 7-12/13", b"world\n"),
        ("bytes=-13", "bytes 0-12/13", HELLO),
    ] {
        let got = http.ask("GET", "/files/hello.txt", &[("Range", range)]);
        assert_eq!((got.status, &got.body[..]), (206, part), "{range}");
        assert_eq!(got.header("content-range"), Some(said), "{range}");
        let length = part.len().to_string();
        assert_eq!(got.header("content-length"), Some(length.as_str()));
    }
}

#[test]
fn a_suffix_longer_than_the_file_is_the_whole_file() {
    // RFC 9110 §14.1.2
    let server = serve_hello();
    let got = server.ask("/files/hello.txt", &[("Range", "bytes=-99")]);
    assert_eq!((got.status, &got.body[..]), (206, HELLO));
    assert_eq!(got.header("content-range"), Some("bytes 0-12/13"));
}

#[test]
fn a_range_behind_the_end_is_refused() {
    let server = serve_hello();
    for range in ["bytes=13-", "bytes=99-100", "bytes=-0"] {
        let got = server.ask("/files/hello.txt", &[("Range", range)]);
        assert_eq!(got.status, 416, "{range}");
    }
}

#[test]
fn a_range_that_is_refused_is_answered_with_the_length_there_is() {
    // RFC 9110 §15.5.17: how a client that resumes learns that it has everything.
    let server = serve_hello();
    let got = server.ask("/files/hello.txt", &[("Range", "bytes=13-")]);
    assert_eq!(got.status, 416);
    assert_eq!(got.header("content-range"), Some("bytes */13"));
}

#[test]
fn several_ranges_are_answered_with_the_whole_file() {
    let server = serve_hello();
    let got = server.ask("/files/hello.txt", &[("Range", "bytes=0-1,3-4")]);
    assert_eq!((got.status, &got.body[..]), (200, HELLO));
}

#[test]
fn a_range_in_a_unit_that_is_not_understood_is_ignored() {
    // RFC 9110 §14.2
    let server = serve_hello();
    let got = server.ask("/files/hello.txt", &[("Range", "lines=1-2")]);
    assert_eq!((got.status, &got.body[..]), (200, HELLO));
}

#[test]
fn head_knows_no_range() {
    // RFC 9110 §14.2: GET is the only method that has it.
    let server = serve_hello();
    let headers = [("Range", "bytes=0-4")];
    let head = (server.connect()).ask("HEAD", "/files/hello.txt", &headers);
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("13"))
    );
}

#[test]
fn a_download_is_resumed_only_while_the_file_is_the_same() {
    let server = serve_hello();
    let path = server.home.path().join("http/hello.txt");
    let at = |secs: u64, nanos: u32| {
        let time = SystemTime::UNIX_EPOCH + Duration::new(secs, nanos);
        let file = File::options()
            .write(true)
            .open(&path)
            .expect("it is there");
        file.set_modified(time).expect("set");
    };
    at(1_700_000_000, 0);
    let first = server.get("/files/hello.txt");
    let etag = first.header("etag").expect("an ETag").to_owned();
    let date = first.header("last-modified").expect("a date").to_owned();
    assert_eq!(date, "Tue, 14 Nov 2023 22:13:20 GMT");
    let resume = |validator: &str| {
        let headers = [("Range", "bytes=7-"), ("If-Range", validator)];
        let got = server.ask("/files/hello.txt", &headers);
        (got.status, got.body)
    };
    let rest = (206, b"world\n".to_vec());
    let whole = (200, HELLO.to_vec());
    assert_eq!(resume(&etag), rest);
    assert_eq!(resume(&date), rest);
    assert_eq!(resume("\"another\""), whole);
    assert_eq!(resume(&format!("W/{etag}")), whole, "weak ones never match");
    assert_eq!(resume("Tue, 14 Nov 2023 22:13:19 GMT"), whole);
    assert_eq!(resume("nonsense"), whole);
    // The same length, within the same second.
    at(1_700_000_000, 1);
    assert_eq!(resume(&etag), whole);
    std::fs::write(&path, b"HELLO, WORLD\n").expect("written");
    at(1_700_000_060, 0);
    assert_eq!(resume(&etag), (200, b"HELLO, WORLD\n".to_vec()));
    assert_eq!(resume(&date), (200, b"HELLO, WORLD\n".to_vec()));
}

#[test]
fn a_file_that_the_client_has_already_is_not_sent_again() {
    let server = serve_hello();
    let first = server.get("/files/hello.txt");
    let etag = first.header("etag").expect("an ETag").to_owned();
    let date = first.header("last-modified").expect("a date").to_owned();
    let mut http = server.connect();
    let mut status = |headers: &[(&str, &str)]| {
        let got = http.ask("GET", "/files/hello.txt", headers);
        assert_eq!(got.body.is_empty(), got.status == 304, "{headers:?}");
        got.status
    };
    let old = "Mon, 01 Jan 2001 00:00:00 GMT";
    assert_eq!(status(&[("If-None-Match", &etag)]), 304);
    assert_eq!(status(&[("If-None-Match", &format!("\"x\", {etag}"))]), 304);
    assert_eq!(status(&[("If-None-Match", &format!("W/{etag}"))]), 304);
    assert_eq!(status(&[("If-None-Match", "*")]), 304);
    assert_eq!(status(&[("If-None-Match", "\"another\"")]), 200);
    assert_eq!(status(&[("If-Modified-Since", &date)]), 304);
    assert_eq!(status(&[("If-Modified-Since", old)]), 200);
    assert_eq!(status(&[("If-Modified-Since", "nonsense")]), 200);
    // RFC 9110 §13.2.2: the ETag decides.
    let both = [
        ("If-None-Match", "\"another\""),
        ("If-Modified-Since", &date),
    ];
    assert_eq!(status(&both), 200);
    let got = http.ask("GET", "/files/hello.txt", &[("If-None-Match", &etag)]);
    assert_eq!(got.header("etag"), Some(etag.as_str()));
}

#[test]
fn the_end_of_a_file_beyond_4_gib_is_served() {
    const SIZE: u64 = 5 << 30;
    let server = serve("", |home| {
        let path = home.write("http/disk.img", "");
        let mut file = File::options().write(true).open(path).expect("it is there");
        file.set_len(SIZE).expect("sparse");
        file.seek(SeekFrom::End(-9)).expect("sought");
        file.write_all(b"the end.\n").expect("written");
    });
    let mut http = server.connect();
    let head = http.ask("HEAD", "/files/disk.img", &[]);
    assert_eq!(head.header("content-length"), Some("5368709120"));
    for range in [
        "bytes=5368709111-",
        "bytes=5368709111-5368709119",
        "bytes=-9",
    ] {
        let got = http.ask("GET", "/files/disk.img", &[("Range", range)]);
        assert_eq!((got.status, got.text()), (206, "the end.\n"), "{range}");
        let said = Some("bytes 5368709111-5368709119/5368709120");
        assert_eq!(got.header("content-range"), said);
    }
}

#[test]
fn an_empty_file_is_a_file() {
    let server = serve("", |home| {
        home.write("http/empty", "");
    });
    let got = server.get("/files/empty");
    assert_eq!((got.status, got.header("content-length")), (200, Some("0")));
}

#[test]
fn names_are_decoded_once_and_slashes_in_a_row_are_one() {
    let server = serve("", |home| {
        for name in ["http/a b+ü%41.txt", "http/sub/deep.txt"] {
            home.write(name, name);
        }
    });
    for (target, name) in [
        ("/files/a%20b+%C3%BC%2541.txt", "http/a b+ü%41.txt"),
        ("/files/sub/deep.txt", "http/sub/deep.txt"),
        ("/files/sub//deep.txt", "http/sub/deep.txt"),
        ("/files//sub/deep.txt", "http/sub/deep.txt"),
        ("/files/sub%2Fdeep.txt", "http/sub/deep.txt"),
        ("/files/sub/deep.txt?a=b", "http/sub/deep.txt"),
    ] {
        let got = server.get(target);
        assert_eq!((got.status, got.text()), (200, name), "{target}");
    }
}

#[test]
fn a_boot_program_has_the_type_that_uefi_wants() {
    let server = serve("", |home| {
        home.write("http/grub.efi", "MZ");
    });
    let got = server.get("/files/grub.efi");
    assert_eq!(got.header("content-type"), Some("application/efi"));
    let got = server.get("/programs/snponly.efi");
    assert_eq!(got.header("content-type"), Some("application/efi"));
    let program = std::fs::read("/usr/lib/ipxe/snponly.efi").expect("the package ipxe");
    assert!(got.status == 200 && got.body == program, "octet by octet");
}

#[test]
fn a_program_that_its_package_links_to_boot_is_served() {
    // Debian 12 has /usr/lib/ipxe/ipxe.efi as a link to /boot/ipxe.efi, and DHCP gives that name to machines.
    let server = serve("", |_| {});
    let program = std::fs::read("/usr/lib/ipxe/ipxe.efi").expect("the package ipxe");
    let got = server.get("/programs/ipxe.efi");
    assert_eq!(got.status, 200);
    assert!(got.body == program, "octet by octet");
}

#[test]
fn directories_are_not_listed() {
    let server = serve("", |home| {
        home.write("http/sub/deep.txt", "x");
        home.write("http/sub/index.html", "x");
    });
    for target in [
        "/files",
        "/files/",
        "/files/sub",
        "/files/sub/",
        "/programs/",
        "/programs/qemu",
    ] {
        let got = server.get(target);
        assert_eq!(
            (got.status, got.text()),
            (404, "404 Not Found\n"),
            "{target}"
        );
        assert_eq!(got.header("location"), None);
    }
}

#[test]
fn no_spelling_of_a_path_leads_out_of_the_directory() {
    let server = serve("", |home| {
        home.write("secret.txt", "the secret");
        home.write("http/sub/hello.txt", HELLO);
        home.write("http-too/secret.txt", "the secret");
    });
    let home = server.home.path().display().to_string();
    let encoded = home.replace('/', "%2f");
    let paths = [
        "../secret.txt",
        "sub/../../secret.txt",
        "./../secret.txt",
        "%2e%2e/secret.txt",
        "%2E%2E%2Fsecret.txt",
        "..%2fsecret.txt",
        ".%2e/secret.txt",
        "sub%2f..%2f..%2fsecret.txt",
        "%252e%252e/secret.txt",
        "%252e%252e%252fsecret.txt",
        "..%c0%afsecret.txt",
        "%c0%ae%c0%ae/secret.txt",
        "..\\secret.txt",
        "..%5csecret.txt",
        "sub%5c..%5c..%5csecret.txt",
        "%00../secret.txt",
        "../secret.txt%00",
        "sub/hello.txt%00/../../../secret.txt",
        "..;/secret.txt",
        "..%00/secret.txt",
        "..%20/secret.txt",
        "../http-too/secret.txt",
        "sub/hello.txt/../../../secret.txt",
    ]
    .map(str::to_owned);
    let absolute = [
        format!("{home}/secret.txt"),
        format!("/{home}/secret.txt"),
        format!("{encoded}%2fsecret.txt"),
        format!("file:{home}/secret.txt"),
    ];
    for path in paths.iter().chain(&absolute) {
        for target in [
            format!("/files/{path}"),
            format!("/programs/{path}"),
            format!("/{path}"),
            format!("http://198.18.0.1/files/{path}"),
            format!("/machines/52-54-00-00-00-01/documents/{path}"),
        ] {
            let got = server.get(&target);
            assert!(matches!(got.status, 400 | 404), "{target}: {}", got.status);
            assert!(!got.text().contains("the secret"), "{target}");
        }
    }
    assert_eq!(server.get("/files/sub/hello.txt").body, HELLO);
}

#[test]
fn a_link_is_followed_inside_the_directory_and_never_out_of_it() {
    let server = serve("", |home| {
        let root = home.path().join("http");
        home.write("secret/secret.txt", "the secret");
        home.write("http/hello.txt", HELLO);
        for (to, at) in [
            ("hello.txt".into(), "relative"),
            (root.join("hello.txt"), "absolute"),
            (".".into(), "here"),
            ("../secret/secret.txt".into(), "out"),
            (home.path().join("secret/secret.txt"), "out-absolute"),
            (home.path().join("secret"), "out-directory"),
            ("../http/hello.txt".into(), "out-and-in"),
            ("out".into(), "out-by-two"),
            ("nothing".into(), "dangling"),
            ("loop".into(), "loop"),
        ] {
            symlink(to, root.join(at)).expect("made");
        }
    });
    for inside in [
        "relative",
        "absolute",
        "here/hello.txt",
        "here/here/relative",
        "out-and-in",
    ] {
        assert_eq!(
            server.get(&format!("/files/{inside}")).body,
            HELLO,
            "{inside}"
        );
    }
    for outside in [
        "out",
        "out-absolute",
        "out-directory/secret.txt",
        "here/out-directory/secret.txt",
        "out-by-two",
        "dangling",
        "loop",
    ] {
        let got = server.get(&format!("/files/{outside}"));
        assert_eq!(
            (got.status, got.text()),
            (404, "404 Not Found\n"),
            "{outside}"
        );
    }
}

#[test]
fn what_is_neither_file_nor_directory_is_not_found() {
    let server = serve("", |home| {
        let made = Command::new("mkfifo")
            .arg(home.path().join("http/pipe"))
            .status();
        assert!(made.expect("mkfifo runs").success());
    });
    let stream = api::connect(&server.netns, api::HTTP).expect("HTTP listens");
    let mut http = Http::over(stream.try_clone().expect("cloned"));
    // Whoever opens a pipe waits for a writer that never comes; an answer is there at once.
    let at_once = Some(Duration::from_secs(5));
    stream.set_read_timeout(at_once).expect("set");
    assert_eq!(http.get("/files/pipe").status, 404);
}

#[test]
fn without_http_files_there_are_none() {
    let (netns, _client) = server_and_client("52:54:00:00:00:01");
    let home = Home::new();
    home.write("http/hello.txt", HELLO);
    let config = home.config("");
    let files = config
        .lines()
        .find(|l| l.starts_with("files"))
        .expect("it has one");
    let service = Service::start(&netns, &home, &config.replace(files, ""));
    assert_eq!(api::get(&netns, "/files/hello.txt").status, 404);
    service.wait_for("refused", |line| {
        line["path"] == "hello.txt"
            && line["reason"] == "http.files is not set in the configuration"
    });
}

#[test]
fn a_transfer_is_logged_with_what_became_of_it() {
    let server = serve("", |home| {
        home.write("http/hello.txt", HELLO);
        home.write("http/large", vec![b'x'; 64 << 20]);
    });
    server.get("/files/hello.txt");
    let line = server
        .service
        .wait_for("served", |line| line["path"] == "hello.txt");
    assert_eq!(
        (
            &line["status"],
            &line["bytes"],
            &line["complete"],
            &line["client"]
        ),
        (&json!(200), &json!(13), &json!(true), &json!("198.18.0.10"))
    );
    let mut http = server.connect();
    http.request("GET", "/files/large", &[]);
    http.head();
    drop(http);
    let line = server
        .service
        .wait_for("served", |line| line["path"] == "large");
    assert_eq!(line["complete"], false);
    assert!(line["bytes"].as_u64() < Some(64 << 20));
}

// Boot scripts.

#[test]
fn a_boot_script_names_the_kernel_and_the_initrd_of_the_machines_profile() {
    let profile = r#"[x86_64]
kernel = "x86/vmlinuz"
initrd = ["x86/initrd.img"]
args = ["console=ttyS0,115200n8", "ds=nocloud;s={{ seed_url }}"]
[aarch64]
kernel = "/arm/Image"
initrd = ["arm/initrd.img"]
"#;
    let server = serve(MY_MACHINE, |home| {
        home.write("profiles/mine/profile.toml", profile);
    });
    let seed = "ds=nocloud;s=http://198.18.0.1/machines/52-54-00-00-00-01/nocloud/";
    let x86 = format!("console=ttyS0,115200n8 {seed} ");
    for (query, platform, kernel, args) in [
        (
            "?arch=x86_64&firmware=bios",
            "x86_64 bios",
            "x86/vmlinuz",
            x86.clone(),
        ),
        (
            "?arch=x86_64&firmware=uefi",
            "x86_64 uefi",
            "x86/vmlinuz",
            format!("initrd=initrd0 {x86}"),
        ),
        (
            "",
            "x86_64 uefi",
            "x86/vmlinuz",
            format!("initrd=initrd0 {x86}"),
        ),
        (
            "?arch=aarch64&firmware=uefi",
            "aarch64 uefi",
            "arm/Image",
            "initrd=initrd0 ".to_owned(),
        ),
    ] {
        let got = server.get(&format!("/machines/52-54-00-00-00-01/boot.ipxe{query}"));
        assert_eq!(got.status, 200);
        assert_eq!(
            got.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
        assert_eq!(got.header("cache-control"), Some("no-store"));
        let initrd = kernel
            .replace("vmlinuz", "initrd.img")
            .replace("Image", "initrd.img");
        let expected = format!(
            "#!ipxe\n\
             # node-1: profile mine, {platform}\n\
             echo bootjack: node-1 boots mine\n\
             set tries:int32 0\n\
             set pause:int32 1\n\
             \n\
             :attempt\n\
             imgfree\n\
             set step kernel\n\
             kernel --name kernel http://198.18.0.1/files/{kernel} {args}|| goto failed\n\
             set step initrd0\n\
             initrd --name initrd0 http://198.18.0.1/files/{initrd} || goto failed\n\
             set step boot\n\
             boot || goto failed\n"
        );
        assert!(
            got.text().starts_with(&expected),
            "{query}: wanted\n{expected}\ngot\n{}",
            got.text()
        );
    }
}

#[test]
fn the_shipped_debian_profile_boots_debian_and_tells_it_where_its_documents_are() {
    let server = serve(MACHINES, |_| {});
    for arch in ["x86_64", "aarch64"] {
        let got = server.get(&format!(
            "/machines/52-54-00-00-00-01/boot.ipxe?arch={arch}&firmware=uefi"
        ));
        for part in [
            format!(
                "kernel --name kernel http://198.18.0.1/files/debian-12/{arch}/vmlinuz initrd=initrd0 "
            ),
            format!("initrd --name initrd0 http://198.18.0.1/files/debian-12/{arch}/initrd.img "),
            "s=http://198.18.0.1/machines/52-54-00-00-00-01/nocloud/ ".to_owned(),
        ] {
            assert!(
                got.text().contains(&part),
                "{part} is not in\n{}",
                got.text()
            );
        }
    }
}

#[test]
fn a_machine_without_a_profile_to_boot_is_sent_to_its_disk() {
    let server = serve(MACHINES, |_| {});
    for (mac, title) in [
        ("52-54-00-00-00-02", "node-2"),
        ("52-54-00-00-00-03", "52-54-00-00-00-03"),
    ] {
        let bios = server.get(&format!(
            "/machines/{mac}/boot.ipxe?arch=x86_64&firmware=bios"
        ));
        assert_eq!(
            bios.text(),
            format!(
                "#!ipxe\n# {title}: nothing to boot from the network\necho bootjack: {title} boots its local disk\nsanboot --no-describe --drive 0x80 ||\nexit 0\n"
            )
        );
        let uefi = server.get(&format!(
            "/machines/{mac}/boot.ipxe?arch=aarch64&firmware=uefi"
        ));
        assert_eq!(
            uefi.text(),
            format!(
                "#!ipxe\n# {title}: nothing to boot from the network\necho bootjack: {title} boots its local disk\nexit 0\n"
            )
        );
    }
}

#[test]
fn an_architecture_or_firmware_that_there_is_not_is_refused() {
    let server = serve(MACHINES, |_| {});
    for query in [
        "arch=vax&firmware=uefi",
        "arch=x86_64&firmware=openboot",
        "arch=&firmware=",
    ] {
        let got = server.get(&format!("/machines/52-54-00-00-00-01/boot.ipxe?{query}"));
        assert_eq!(
            (got.status, got.text()),
            (400, "400 Bad Request\n"),
            "{query}"
        );
    }
    server.service.wait_for("refused", |line| {
        line["path"] == "boot.ipxe" && line["reason"] == "arch or firmware is not known"
    });
}

#[test]
fn a_machine_is_found_by_its_mac_however_it_is_written() {
    let server = serve(MACHINES, |_| {});
    for mac in [
        "52-54-00-00-00-01",
        "52:54:00:00:00:01",
        "52%3A54%3A00%3a00%3a00%3a01",
        "525400000001",
        "5254.0000.0001",
    ] {
        let got = server.get(&format!("/machines/{mac}/nocloud/meta-data"));
        assert_eq!(got.status, 200, "{mac}");
        assert!(got.text().contains("node-1"), "{mac}");
    }
}

#[test]
fn urls_in_a_script_are_the_servers_own_and_not_what_a_client_calls_it() {
    let server = serve(MACHINES, |_| {});
    let mut http = server.connect();
    http.send(
        "GET /machines/52-54-00-00-00-01/boot.ipxe HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: evil.example\r\n\r\n",
    );
    let got = http.answer(true);
    assert!(!got.text().contains("evil"), "{}", got.text());
    assert!(got.text().contains("http://198.18.0.1/files/"));
}

#[test]
fn another_port_is_part_of_every_url() {
    let (netns, _client) = server_and_client("52:54:00:00:00:01");
    let home = Home::new();
    let config = home
        .config(MACHINES)
        .replace("198.18.0.1:80", "0.0.0.0:8080");
    let _service = Service::start(&netns, &home, &config);
    for address in ["198.18.0.1:8080", "127.0.0.1:8080"] {
        let stream = api::connect_from(&netns, "198.18.0.10", address).expect("HTTP listens");
        let got = Http::over(stream).get("/machines/52-54-00-00-00-01/boot.ipxe");
        for path in [
            "files/debian-12/x86_64/vmlinuz",
            "machines/52-54-00-00-00-01/nocloud/ ",
        ] {
            let url = format!("http://{address}/{path}");
            assert!(got.text().contains(&url), "{url} is not in\n{}", got.text());
        }
    }
}

// Documents.

#[test]
fn the_four_documents_of_a_known_machine_are_always_there() {
    let server = serve(MACHINES, |_| {});
    for n in [1, 2, 3] {
        for document in ["meta-data", "user-data", "vendor-data", "network-config"] {
            let got = server.nocloud(n, document);
            assert_eq!(got.status, 200, "{n} {document}");
            assert_eq!(got.header("content-type"), Some("text/yaml; charset=utf-8"));
            assert_eq!(got.header("cache-control"), Some("no-store"));
        }
    }
}

#[test]
fn what_a_profile_leaves_out_is_answered_with_exactly_these_defaults() {
    let server = serve(MACHINES, |_| {});
    let document = |n, name| server.nocloud(n, name).text().to_owned();
    // An instance-id that is another one after an update of Bootjack would have every machine configured again.
    assert_eq!(
        document(1, "meta-data"),
        "instance-id: i-41331307-3c71-57d3-b17d-5b86817e1eb6\nlocal-hostname: \"node-1\"\n"
    );
    assert_eq!(
        document(3, "meta-data"),
        "instance-id: i-28e1d1c0-bb1a-58d9-98c0-76311e47dddd\n"
    );
    assert_eq!(document(2, "user-data"), "#cloud-config\n{}\n");
    for n in [1, 2, 3] {
        assert_eq!(document(n, "vendor-data"), "#cloud-config\n{}\n");
        assert_eq!(
            document(n, "network-config"),
            format!(
                "version: 2\nethernets:\n  boot:\n    match:\n      macaddress: \"52:54:00:00:00:0{n}\"\n    dhcp4: true\n"
            )
        );
    }
}

#[test]
fn the_shipped_debian_profile_lets_the_reservations_key_log_in() {
    let server = serve(MACHINES, |_| {});
    let user_data = server.nocloud(1, "user-data");
    assert!(user_data.text().starts_with("#cloud-config\n"));
    let read = as_cloud_init_reads(user_data.text());
    assert_eq!(
        read["users"],
        json!([{ "name": "root", "ssh_authorized_keys": ["ssh-ed25519 AAAA one@lab"] }])
    );
    assert_eq!(read["disable_root"], false);
}

#[test]
fn head_of_a_document_says_its_length_and_nothing_else() {
    let server = serve(MACHINES, |_| {});
    let mut http = server.connect();
    for path in [
        "nocloud/meta-data",
        "nocloud/network-config",
        "boot.ipxe",
        "documents/user-data",
    ] {
        let target = format!("/machines/52-54-00-00-00-01/{path}");
        let head = http.ask("HEAD", &target, &[]);
        let got = http.get(&target);
        let length = got.body.len().to_string();
        assert_eq!(
            (head.status, head.header("content-length")),
            (200, Some(length.as_str())),
            "{path}"
        );
    }
}

#[test]
fn an_instance_is_the_same_until_its_configuration_changes() {
    let (netns, _client) = server_and_client("52:54:00:00:00:01");
    let home = Home::new();
    let service = Service::start(&netns, &home, &home.config(""));
    let api = Api::unix(&home);
    let meta_data_of = |from: &str| {
        let got = api::get_from(
            &netns,
            from,
            "/machines/52-54-00-00-00-05/nocloud/meta-data",
        );
        as_cloud_init_reads(got.text())["instance-id"].clone()
    };
    api.create(node(5)).expect("nothing in the way");
    let first = meta_data_of("198.18.0.5");
    assert!(first.as_str().is_some_and(|id| id.starts_with("i-")));
    let mut other = node(5);
    other.name = "reservations/node-5".to_owned();
    other.vars.insert("role".to_owned(), text("db"));
    api.update(&["vars"], other.clone())
        .expect("nothing in the way");
    let second = meta_data_of("198.18.0.5");
    let meta_data = || meta_data_of("198.18.0.55");
    assert_ne!(first, second);
    other.address = "198.18.0.55".to_owned();
    api.update(&["address"], other.clone())
        .expect("nothing in the way");
    assert_eq!(meta_data(), second, "its address is no part of it");
    drop(api);
    assert_eq!(service.terminate().0.code(), Some(0));
    let _service = Service::start(&netns, &home, &home.config(""));
    assert_eq!(meta_data(), second, "nor is a restart a change");
    other.vars.clear();
    Api::unix(&home)
        .update(&["*"], other)
        .expect("nothing in the way");
    assert_eq!(meta_data(), first);
}

#[test]
fn a_stranger_learns_nothing_of_the_machines_there_are() {
    let server = serve(MACHINES, |_| {});
    let targets = [
        "boot.ipxe?arch=x86_64&firmware=bios",
        "boot.ipxe",
        "nocloud/meta-data",
        "nocloud/user-data",
        "nocloud/vendor-data",
        "nocloud/network-config",
        "documents/user-data",
        "documents/anything",
    ];
    for path in targets {
        for mac in [
            "52-54-00-00-00-99",
            "00-00-00-00-00-00",
            "ff-ff-ff-ff-ff-ff",
        ] {
            let got = server.get(&format!("/machines/{mac}/{path}"));
            assert_eq!(
                (got.status, got.text()),
                (404, "404 Not Found\n"),
                "{mac} {path}"
            );
            let headers: Vec<&str> = got.headers.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(headers, ["content-length", "date"], "{mac} {path}");
        }
    }
    let line = server
        .service
        .wait_for("refused", |line| line["path"] == "meta-data");
    assert_eq!(line["reason"], "no reservation for 52:54:00:00:00:99");
}

#[test]
fn what_is_no_mac_is_not_found() {
    let server = serve(MACHINES, |_| {});
    for mac in [
        "node-1",
        "52-54-00-00-00",
        "52-54-00-00-00-01-02",
        "52-54:00-00:00-01",
        "52-54-00-00-00-0g",
        "52-54-00-00-00-1",
        "+2-54-00-00-00-01",
        "%00",
        "..",
        "%20",
        "52-54-00-00-00-01%0a",
        "${net0%2fmac}",
    ] {
        let got = server.get(&format!("/machines/{mac}/nocloud/meta-data"));
        assert_eq!((got.status, got.text()), (404, "404 Not Found\n"), "{mac}");
    }
    server.service.wait_for("refused", |line| {
        line["reason"] == "no reservation for 52-54-00-00-00-1"
    });
}

#[test]
fn a_request_that_does_not_decode_is_refused_in_our_words_and_logged() {
    let server = serve(MACHINES, |_| {});
    for target in [
        "/machines/%ff/boot.ipxe",
        "/machines/52-54-00-00-00-01/nocloud/%ff",
        "/files/%ff",
        "/machines/52-54-00-00-00-01/boot.ipxe?arch=x86_64&arch=aarch64",
    ] {
        let before = refusals(&server);
        let got = server.get(target);
        let expected = match got.status {
            404 => "404 Not Found\n",
            _ => "400 Bad Request\n",
        };
        assert_eq!(got.text(), expected, "{target}");
        assert_eq!(refusals(&server), before + 1, "{target} is not in the log");
    }
}

fn refusals(server: &Server) -> usize {
    // What was logged for one connection is there before the next one is answered, and read in order.
    let marker = format!("/marker-{}", server.service.log().len());
    server.get(&marker);
    server
        .service
        .wait_for("refused", |line| line["path"] == marker.as_str());
    let log = server.service.log();
    let refused = log.iter().filter(|line| line["message"] == "refused");
    refused
        .filter(|line| {
            !line["path"]
                .as_str()
                .is_some_and(|p| p.starts_with("/marker"))
        })
        .count()
}

/// A profile whose user-data names something that nobody gives it, on its third line.
fn with_a_broken_profile(home: &Home) {
    home.write(
        "profiles/mine/profile.toml",
        "[x86_64]\nkernel = \"vmlinuz\"\nargs = [\"a\", \"{{ where }}\"]\n[documents]\nuser-data = \"user-data.yaml.j2\"\n",
    );
    home.write(
        "profiles/mine/user-data.yaml.j2",
        "#cloud-config\n# hush: the-password\nproxy: {{ proxy }}\n",
    );
}

const MY_MACHINE: &str =
    "[[reservation]]\nmac = \"52:54:00:00:00:01\"\nhostname = \"node-1\"\nprofile = \"mine\"\n";

#[test]
fn a_template_error_is_a_number_for_the_machine_and_a_line_for_the_log() {
    let server = serve(MY_MACHINE, with_a_broken_profile);
    for (path, document, error) in [
        (
            "nocloud/user-data",
            "user-data",
            "template user-data.yaml.j2 line 3: `proxy` is not defined",
        ),
        (
            "documents/user-data",
            "user-data",
            "template user-data.yaml.j2 line 3: `proxy` is not defined",
        ),
        (
            "boot.ipxe",
            "boot.ipxe",
            "template mine/args line 1: `where` is not defined",
        ),
    ] {
        let got = server.get(&format!("/machines/52-54-00-00-00-01/{path}"));
        assert_eq!(got.status, 500, "{path}");
        let id = got.header("x-request-id").expect("a request id");
        assert_eq!(id.len(), 32, "{id}");
        assert_eq!(
            got.text(),
            format!("500 Internal Server Error; request {id}\n")
        );
        let line = server
            .service
            .wait_for("not rendered", |line| line["request_id"] == id);
        assert_eq!(
            (
                &line["error"],
                &line["document"],
                &line["machine"],
                &line["level"]
            ),
            (
                &error.into(),
                &document.into(),
                &"node-1".into(),
                &"ERROR".into()
            )
        );
    }
    assert_eq!(
        server.nocloud(1, "meta-data").status,
        200,
        "the others are there"
    );
}

#[test]
fn a_template_that_never_ends_is_ended() {
    let server = serve(MY_MACHINE, |home| {
        home.write(
            "profiles/mine/profile.toml",
            "[documents]\nuser-data = \"endless.j2\"\nvendor-data = \"itself.j2\"\n",
        );
        home.write(
            "profiles/mine/endless.j2",
            "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
        );
        home.write("profiles/mine/itself.j2", "{% include \"itself.j2\" %}");
    });
    for document in ["user-data", "vendor-data"] {
        assert_eq!(server.nocloud(1, document).status, 500, "{document}");
    }
    assert_eq!(server.get("/healthz").status, 200);
}

/// Text that means something to YAML, to a shell, to iPXE, to HTML or to the template language.
const HOSTILE: [&str; 16] = [
    "x\"\nruncmd: [reboot]\n# \"",
    "'; reboot; '",
    "- a\n- b",
    "key: value",
    "{{ machine.mac }}{% raw %}",
    "{a: b}",
    "&anchor *alias !!python/object:os.system",
    "# comment",
    "| literal",
    "> folded",
    "$(reboot) `reboot` ${net0/mac}",
    "<b>&amp;</b>",
    "tab\tand \\ backslash and \u{1b}[31m and \u{0} NUL",
    "ünïcödé 🦀",
    "---\n...\n",
    "no",
];

#[test]
fn hostile_variables_stay_data_in_cloud_config() {
    let server = serve("", |home| {
        home.write(
            "profiles/mine/profile.toml",
            "[documents]\nuser-data = \"user-data.j2\"\n",
        );
        home.write(
            "profiles/mine/user-data.j2",
            "#cloud-config\nbootcmd:\n  - [echo, {{ v|yaml }}]\nwrite_files:\n  - path: /a\n    content: {{ v|json }}\nall: {{ {'deep': [v]}|yaml }}\n",
        );
    });
    let service = &server.service;
    let api = Api::unix(&server.home);
    let mut created = node_with("mine");
    created.vars.insert("v".to_owned(), text("fine"));
    api.create(created).expect("nothing in the way");
    for hostile in HOSTILE {
        let mut changed = node_with("mine");
        changed.name = "reservations/node-5".to_owned();
        changed.vars.insert("v".to_owned(), text(hostile));
        changed.vars.insert("ssh_key".to_owned(), text(hostile));
        api.update(&["vars", "profile"], changed.clone())
            .expect("a variable may hold any text");
        let got = server.nocloud(5, "user-data");
        assert_eq!(
            as_cloud_init_reads(got.text()),
            json!({
                "bootcmd": [["echo", hostile]],
                "write_files": [{ "path": "/a", "content": hostile }],
                "all": { "deep": [hostile] },
            }),
            "{hostile:?}"
        );
        // The document that is made without a profile, and the shipped profile's.
        for profile in ["", "debian-12"] {
            changed.profile = profile.to_owned();
            api.update(&["profile"], changed.clone())
                .expect("nothing in the way");
            let got = server.nocloud(5, "user-data");
            let read = as_cloud_init_reads(got.text());
            assert_eq!(
                read["ssh_authorized_keys"],
                json!([hostile]),
                "{profile} {hostile:?}"
            );
            assert_eq!(read["runcmd"], Value::Null);
        }
    }
    let log = service.log();
    assert!(
        !log.iter().any(|line| line.to_string().contains("reboot")),
        "variables are secrets"
    );
}

fn node_with(profile: &str) -> bootjack_api::v1::Reservation {
    bootjack_api::v1::Reservation {
        profile: profile.to_owned(),
        ..node(5)
    }
}

#[test]
fn characters_that_yaml_1_1_does_not_know_as_text_stay_data() {
    // PyYAML refuses a document that holds a C1 control character or DEL as it is, folds lines at U+0085, U+2028 and U+2029,
    // and takes U+FEFF for a byte order mark.
    let server = serve("", |_| {});
    let api = Api::unix(&server.home);
    api.create(node(5)).expect("nothing in the way");
    let mut wrong = Vec::new();
    for odd in [
        "\u{7f}", "\u{80}", "\u{85}", "\u{9b}", "\u{2028}", "\u{2029}", "\u{feff}", "\u{fffe}",
    ] {
        let value = format!("before {odd} behind");
        let mut changed = node(5);
        changed.name = "reservations/node-5".to_owned();
        changed.vars.insert("ssh_key".to_owned(), text(&value));
        api.update(&["vars"], changed)
            .expect("a variable may hold any text");
        let got = server.nocloud(5, "user-data");
        let read = cloud_init_read(got.text());
        if read.as_ref().map(|read| &read["ssh_authorized_keys"][0]) != Ok(&json!(value)) {
            wrong.push((value, read));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_host_name_that_yaml_would_take_for_something_else_stays_a_name() {
    let server = serve("", |_| {});
    let api = Api::unix(&server.home);
    api.create(node(5)).expect("nothing in the way");
    for hostname in [
        "no",
        "null",
        "true",
        "0755",
        "1e3",
        "12",
        "0x1f",
        "1.5",
        "2026-01-01",
        "on",
    ] {
        let mut changed = node(5);
        changed.name = "reservations/node-5".to_owned();
        changed.hostname = hostname.to_owned();
        api.update(&["hostname"], changed).expect(hostname);
        let got = server.nocloud(5, "meta-data");
        assert_eq!(as_cloud_init_reads(got.text())["local-hostname"], hostname);
    }
}

#[test]
fn a_host_name_that_is_none_never_reaches_a_document() {
    let server = serve("", |_| {});
    let api = Api::unix(&server.home);
    for hostname in [
        "a\nexit",
        "a b",
        "${net0/mac}",
        "a;reboot",
        "a\"",
        "../a",
        "a_b",
        "ä",
        "-a",
        "a..b",
    ] {
        let mut hostile = node(5);
        hostile.hostname = hostname.to_owned();
        let refused = api.create_as("node-5", hostile).expect_err(hostname);
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{hostname}");
    }
    assert_eq!(api.names(), [""; 0]);
}

#[test]
fn a_variable_cannot_become_a_second_word_or_a_command_of_a_boot_script() {
    let server = serve("", |home| {
        home.write(
            "profiles/mine/profile.toml",
            "[vars]\nk = \"vmlinuz\"\nv = \"fine\"\n[x86_64]\nkernel = \"{{ k }}\"\nargs = [\"quoted={{ v|karg }}\", \"{{ v }}\"]\n",
        );
    });
    let api = Api::unix(&server.home);
    api.create(node_with("mine")).expect("nothing in the way");
    let script = |name: &str, value: &str| {
        let mut changed = node_with("mine");
        changed.name = "reservations/node-5".to_owned();
        changed.vars.insert(name.to_owned(), text(value));
        api.update(&["vars"], changed)?;
        Ok::<_, tonic::Status>(
            server.get("/machines/52-54-00-00-00-05/boot.ipxe?arch=x86_64&firmware=bios"),
        )
    };
    for fine in [
        "console=ttyS0,115200",
        "a\"b'c",
        "$HOME",
        "a&&b",
        "ünï",
        "a;b",
    ] {
        let got = script("v", fine).expect("a variable may hold any text");
        assert_eq!(got.status, 200, "{fine}");
        let line = format!(
            "kernel --name kernel http://198.18.0.1/files/vmlinuz quoted={fine} {fine} || goto failed\n"
        );
        assert!(got.text().contains(&line), "{}", got.text());
    }
    for hostile in [
        "two words",
        "a\tb",
        "a\nchain http://evil.example/",
        "a\r\nexit",
        "${net0/mac}",
        "$(date)",
        "||",
        "&&",
        "!",
        ";",
        "#",
        "# comment",
        "\u{0}",
        "\u{1b}[31m",
        "a\u{a0}b",
        "",
    ] {
        for name in ["v", "k"] {
            let refused = script(name, hostile).expect_err(hostile);
            assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{hostile:?}");
            assert!(refused.message().contains("mine/"), "{refused}");
        }
    }
}

#[test]
fn what_a_client_asks_for_cannot_write_a_line_of_its_own_into_the_log() {
    let (netns, _client) = server_and_client("52:54:00:00:00:01");
    let home = Home::new();
    let file = home.write("bootjackd.toml", home.config(""));
    let mut command = netns.command("timeout");
    command.arg("60").arg(program());
    command.args(["serve", "--log-format", "text", "--config"]);
    let mut child = command
        .arg(file)
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut log = BufReader::new(child.stderr.take().expect("piped")).lines();
    let mut until = |part: &str| {
        let mut seen = Vec::new();
        while !seen.last().is_some_and(|line: &String| line.contains(part)) {
            seen.push(log.next().expect("it lives").expect("UTF-8"));
        }
        seen
    };
    until(" ready ");
    api::get(
        &netns,
        "/files/%0a2026-01-01T00:00:00Z%20ERROR%20forged%1b%5b31m%0d",
    );
    api::get(&netns, "/marker");
    let lines = until("/marker");
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].contains("forged"), "{lines:#?}");
    assert!(!lines[0].contains(['\u{1b}', '\r']), "{lines:#?}");
    signal(child.id(), "TERM");
    child.wait().expect("it can be waited for");
}

// Connections and everything else.

#[test]
fn nothing_else_is_served() {
    let server = serve(MACHINES, |_| {});
    for target in [
        "/",
        "//",
        "/favicon.ico",
        "/machines",
        "/machines/",
        "/machines/52-54-00-00-00-01",
        "/machines/52-54-00-00-00-01/",
        "/machines/52-54-00-00-00-01/nocloud",
        "/machines/52-54-00-00-00-01/nocloud/",
        "/machines/52-54-00-00-00-01/nocloud/user-data/",
        "/machines/52-54-00-00-00-01/nocloud/anything",
        "/machines/52-54-00-00-00-01/documents/anything",
        "/machines/52-54-00-00-00-01/boot.ipxe/",
        "/metrics",
        "/healthz/",
        "/HEALTHZ",
    ] {
        let got = server.get(target);
        assert_eq!(
            (got.status, got.text()),
            (404, "404 Not Found\n"),
            "{target}"
        );
    }
    assert_eq!(server.get("/healthz").text(), "ok\n");
}

#[test]
fn methods_that_write_are_not_allowed() {
    let server = serve(MACHINES, |home| {
        home.write("http/hello.txt", HELLO);
    });
    for target in [
        "/files/hello.txt",
        "/files/new.txt",
        "/programs/ipxe.efi",
        "/machines/52-54-00-00-00-01/boot.ipxe",
        "/machines/52-54-00-00-00-01/nocloud/user-data",
        "/healthz",
    ] {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
            let mut http = server.connect();
            let got = http.ask(method, target, &[("Content-Length", "0")]);
            assert_eq!(got.status, 405, "{method} {target}");
            assert_eq!(got.header("allow"), Some("GET,HEAD"));
        }
    }
    assert_eq!(server.get("/files/hello.txt").body, HELLO);
    assert_eq!(server.get("/files/new.txt").status, 404);
}

#[test]
fn a_connection_is_kept_alive_and_answers_in_order() {
    let server = serve(MACHINES, |home| {
        home.write("http/hello.txt", HELLO);
    });
    let mut http = server.connect();
    for _ in 0..3 {
        assert_eq!(http.get("/files/hello.txt").body, HELLO);
        assert_eq!(http.get("/nothing").status, 404);
        assert_eq!(
            http.get("/machines/52-54-00-00-00-01/boot.ipxe").status,
            200
        );
        assert_eq!(http.ask("HEAD", "/files/hello.txt", &[]).status, 200);
    }
    // Three requests before the first answer is read.
    http.request("GET", "/files/hello.txt", &[("Range", "bytes=0-4")]);
    http.request("GET", "/healthz", &[]);
    http.request("GET", "/files/hello.txt", &[("Connection", "close")]);
    assert_eq!(http.answer(true).text(), "hello");
    assert_eq!(http.answer(true).text(), "ok\n");
    assert_eq!(http.answer(true).body, HELLO);
    assert!(http.is_closed());
}

#[test]
fn clients_of_http_1_0_are_served_and_let_go() {
    let server = serve_hello();
    let mut http = server.connect();
    http.send("GET /files/hello.txt HTTP/1.0\r\n\r\n");
    assert_eq!(http.answer(true).body, HELLO);
    assert!(http.is_closed());
}

#[test]
fn what_is_not_http_is_refused_and_hurts_nobody() {
    let server = serve_hello();
    let mut other = server.connect();
    let long = format!("GET /{} HTTP/1.1\r\nHost: b\r\n\r\n", "x".repeat(100_000));
    let heavy = format!(
        "GET / HTTP/1.1\r\nHost: b\r\nX: {}\r\n\r\n",
        "x".repeat(200_000)
    );
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(1000));
    for (request, codes) in [
        ("\r\n\r\nnonsense\r\n\r\n", &[400][..]),
        ("GET\r\n\r\n", &[400]),
        ("GET / HTTP/9.9\r\n\r\n", &[400, 505]),
        ("GET /\u{0} HTTP/1.1\r\n\r\n", &[400]),
        ("\u{16}\u{3}\u{1} a TLS hello\r\n\r\n", &[400]),
        (&long, &[400, 414, 431]),
        (&heavy, &[400, 431]),
        (&many, &[400, 431]),
    ] {
        let mut http = server.connect();
        http.send_what_is_taken(request);
        let shown: String = request.chars().take(20).collect();
        if let Some(got) = http.answer_if_any() {
            assert!(codes.contains(&got.status), "{shown:?}: {}", got.status);
        }
        assert_eq!(other.get("/healthz").status, 200, "after {shown:?}");
    }
}
