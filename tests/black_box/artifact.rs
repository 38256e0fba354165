//! Artefacts: what comes in whole or not at all, what is served of it, and what goes when nobody wants it.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::api::{Api, Http, node, text};
use crate::support::netns::{Netns, server_and_client};
use crate::support::service::{Home, Service, program};

const KERNEL: &[u8] = b"a kernel, as far as anybody here knows";

/// A directory with a configuration, which no service serves yet.
struct Store {
    home: Home,
    more: String,
}

impl Store {
    fn new() -> Self {
        Self::with("")
    }

    fn with(more: &str) -> Self {
        let home = Home::new();
        home.write("bootjackd.toml", home.config(more));
        Self {
            home,
            more: more.to_owned(),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .arg("artifact")
            .args(arguments)
            .arg("--config")
            .arg(self.home.path().join("bootjackd.toml"));
        command
    }

    /// What it says, if it succeeds.
    fn does(&self, arguments: &[&str]) -> String {
        let done = self.command(arguments).output().expect("it runs");
        assert!(done.status.success(), "{arguments:?}: {done:?}");
        String::from_utf8(done.stdout).expect("text")
    }

    /// Why it fails.
    fn refuses(&self, arguments: &[&str]) -> String {
        error(&self.command(arguments).output().expect("it runs"))
    }

    /// Names and contents, as the files of the store say it; and that nothing else is there.
    fn holds(&self) -> (Vec<String>, Vec<String>) {
        let files = |name: &str| -> Vec<String> {
            let Ok(read) = std::fs::read_dir(self.home.path().join("data/artifacts").join(name))
            else {
                return Vec::new();
            };
            let names = read.map(|entry| {
                entry
                    .expect("read")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            });
            let mut names: Vec<String> = names.collect();
            names.sort();
            names
        };
        assert_eq!(files("partial"), [""; 0], "nothing half-written stays");
        (files("names"), files("blobs"))
    }

    fn serve(&self) -> (Netns, Netns, Service) {
        let (netns, client) = server_and_client("52:54:00:00:00:0a");
        netns.ip(&["link", "set", "lo", "up"]);
        let service = Service::start(&netns, &self.home, &self.home.config(&self.more));
        (netns, client, service)
    }
}

fn error(done: &Output) -> String {
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    said.strip_prefix("bootjackd: ")
        .expect("by its name")
        .trim_end()
        .to_owned()
}

fn sha256(octets: &[u8]) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(octets);
    digest.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// A server that answers every request with this, and the port it is at. It ends with the test.
fn upstream(answer: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(&answer);
        }
    });
    port
}

fn response(length: usize, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

#[test]
fn an_artifact_is_served_by_its_name_with_its_digest_for_an_etag() {
    let store = Store::new();
    let file = store.home.write("vmlinuz", KERNEL);
    let digest = sha256(KERNEL);
    let said = store.does(&[
        "import",
        file.to_str().expect("text"),
        "--name",
        "mine/x86_64/vmlinuz",
    ]);
    assert_eq!(
        said,
        format!("mine/x86_64/vmlinuz  {}  sha256:{digest}\n", KERNEL.len())
    );
    assert_eq!(
        store.holds(),
        (vec!["mine%2Fx86_64%2Fvmlinuz".into()], vec![digest.clone()])
    );
    let listed: Value =
        serde_json::from_str(&store.does(&["list", "--output", "json"])).expect("JSON");
    assert_eq!(listed[0]["sha256"], digest.as_str());
    assert_eq!(listed[0]["name"], "mine/x86_64/vmlinuz");

    let (netns, _client, service) = store.serve();
    let mut http = Http::connect(&netns);
    let tag = format!("\"{digest}\"");
    let got = http.get("/files/mine/x86_64/vmlinuz");
    assert_eq!(
        (got.status, &got.body[..], got.header("etag")),
        (200, KERNEL, Some(tag.as_str()))
    );
    let served = service.wait_for("served", |line| line["path"] == "mine/x86_64/vmlinuz");
    assert_eq!(
        (&served["bytes"], &served["complete"]),
        (&KERNEL.len().into(), &true.into())
    );
    let ask = |http: &mut Http, headers: &[(&str, &str)]| {
        let got = http.ask("GET", "/files//mine/x86_64/vmlinuz", headers);
        (got.status, got.body)
    };
    assert_eq!(ask(&mut http, &[("If-None-Match", &tag)]).0, 304);
    assert_eq!(ask(&mut http, &[("If-None-Match", "\"other\"")]).0, 200);
    assert_eq!(
        ask(&mut http, &[("Range", "bytes=2-7")]),
        (206, KERNEL[2..8].to_vec())
    );
    assert_eq!(
        ask(&mut http, &[("Range", "bytes=2-7"), ("If-Range", &tag)]).0,
        206
    );
    assert_eq!(
        ask(
            &mut http,
            &[("Range", "bytes=2-7"), ("If-Range", "\"other\"")]
        )
        .0,
        200
    );
    for path in ["mine/x86_64", "mine/x86_64/vmlinuz/", "other", &digest] {
        let status = http.get(&format!("/files/{path}")).status;
        assert_eq!(
            status,
            if path.ends_with('/') { 200 } else { 404 },
            "{path}"
        );
    }

    // A file below http.files comes first, and what has lost octets is not served.
    store.home.write("http/mine/x86_64/vmlinuz", "a file");
    assert_eq!(http.get("/files/mine/x86_64/vmlinuz").text(), "a file");
    std::fs::remove_dir_all(store.home.path().join("http/mine")).expect("removed");
    let blob = store.home.path().join("data/artifacts/blobs").join(&digest);
    std::fs::remove_file(&blob).expect("removed");
    std::fs::write(&blob, &KERNEL[1..]).expect("written");
    assert_eq!(http.get("/files/mine/x86_64/vmlinuz").status, 500);
    let done = store.command(&["verify"]).output().expect("it runs");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(
        said.starts_with(&format!(
            "mine/x86_64/vmlinuz: {} is damaged: its SHA-256 is",
            blob.display()
        )),
        "{said}"
    );
    assert_eq!(error(&done), "artifact: 1 of 1 are damaged");
}

#[test]
fn what_is_not_as_wanted_does_not_come_in() {
    let store = Store::new();
    let file = store.home.write("vmlinuz", KERNEL);
    let file = file.to_str().expect("text");
    let (found, wanted) = (sha256(KERNEL), "0".repeat(64));
    assert_eq!(
        store.refuses(&["import", file, "--sha256", &wanted]),
        format!("artifact: vmlinuz: its SHA-256 is {found}, wanted {wanted}; nothing was kept")
    );
    let cut = upstream(response(100_000, KERNEL));
    let url = format!("http://127.0.0.1:{cut}/images/disk.img.zst?x=/y");
    let said = store.refuses(&["import", &url]);
    assert!(
        said.starts_with("artifact: disk.img.zst: cannot read it any further after 38 octets: "),
        "{said}"
    );
    let missing = upstream(
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(),
    );
    let url = format!("http://127.0.0.1:{missing}/x");
    assert_eq!(
        store.refuses(&["import", &url]),
        format!("artifact: {url}: the server answers 404")
    );
    let said = store.refuses(&["import", "/nowhere/vmlinuz"]);
    assert_eq!(
        said,
        "artifact: cannot read /nowhere/vmlinuz: No such file or directory (os error 2)"
    );
    let said = store.refuses(&["import", "http://127.0.0.1:1/"]);
    assert!(
        said.contains("`127.0.0.1:1` is no name") || said.contains("http://127.0.0.1:1/: "),
        "{said}"
    );
    assert_eq!(store.holds(), (vec![], vec![]));
    let done = store
        .command(&["import", file, "--name", "../etc"])
        .output()
        .expect("it runs");
    assert_eq!(done.status.code(), Some(2), "{done:?}");
}

#[test]
fn a_disk_that_is_full_leaves_nothing_half_written() {
    let store = Store::new();
    let large = store.home.write("large", vec![7; 3 << 20]);
    std::fs::create_dir_all(store.home.path().join("data/artifacts")).expect("made");
    let full = |source: &str, input: Stdio| {
        let script = "mount -t tmpfs -o size=2m tmpfs \"$1\" && shift && \"$@\" && exit 0; s=$?; find \"$ARTIFACTS\" -type f; exit $s";
        let artifacts = store.home.path().join("data/artifacts");
        let import = store.command(&["import", source, "--name", "large"]);
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", script, "sh"])
            .arg(&artifacts);
        command.arg(import.get_program()).args(import.get_args());
        let done = command
            .env("ARTIFACTS", &artifacts)
            .stdin(input)
            .output()
            .expect("it runs");
        assert_eq!(String::from_utf8_lossy(&done.stdout), "", "nothing stays");
        error(&done)
    };
    let said = full(large.to_str().expect("text"), Stdio::null());
    assert!(
        said.starts_with("artifact: large: ") && said.ends_with(" octets free, and it has 3145728"),
        "{said}"
    );
    let mut pipe = Command::new("cat")
        .arg(&large)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let said = full("/dev/stdin", pipe.stdout.take().expect("piped").into());
    let _ = pipe.kill();
    let _ = pipe.wait();
    assert!(said.starts_with("artifact: large: cannot write "), "{said}");
    assert!(
        said.ends_with("No space left on device (os error 28)"),
        "{said}"
    );
}

/// A directory with what an installation medium has.
fn medium(home: &Home) -> std::path::PathBuf {
    home.write("medium/install.amd/vmlinuz", KERNEL);
    home.write("medium/install.amd/initrd.gz", "an initrd");
    home.write("medium/install.amd/xx-vmlinuz", "no kernel's name");
    home.write(
        "medium/pool/main/a-package-with-a-long-name_1.0_amd64.deb",
        "a package",
    );
    home.path().join("medium")
}

fn bsdtar(arguments: &[&str], out: &Path, from: &Path) {
    let mut command = Command::new("bsdtar");
    command
        .arg("-c")
        .args(arguments)
        .arg("-f")
        .arg(out)
        .arg("-C")
        .arg(from)
        .arg(".");
    let done = command
        .output()
        .expect("bsdtar is there: deploy/packages.sh lab");
    assert!(done.status.success(), "{done:?}");
}

#[test]
fn kernels_and_initrds_are_found_inside_an_iso_and_a_tarball() {
    let store = Store::new();
    let from = medium(&store.home);
    for (name, arguments) in [
        ("plain.iso", &["--format", "iso9660"][..]),
        ("netboot.tar.gz", &["-z"]),
        ("netboot.tar", &[]),
    ] {
        let file = store.home.path().join(name);
        bsdtar(arguments, &file, &from);
        let said = store.does(&["import", file.to_str().expect("text")]);
        let names: Vec<&str> = said
            .lines()
            .filter_map(|line| line.split("  ").next())
            .collect();
        let inside = |path: &str| format!("{name}/install.amd/{path}");
        let mut wanted = [name.to_owned(), inside("initrd.gz"), inside("vmlinuz")];
        wanted[1..].sort_by_key(|name| names.iter().position(|found| found == name));
        assert_eq!(names, wanted);
        assert!(said.contains(&sha256(KERNEL)), "{said}");
    }
    let (_, before) = store.holds();
    assert_eq!(before.len(), 5, "what is the same is there once");

    // The same medium, with a name that leads out of it.
    let mut octets = std::fs::read(store.home.path().join("plain.iso")).expect("made");
    let (plain, evil) = (b"xx-vmlinuz", b"../vmlinuz");
    let at = octets
        .windows(plain.len())
        .position(|octets| octets == plain);
    let at = at.expect("a Rock Ridge name");
    octets[at..at + evil.len()].copy_from_slice(evil);
    let evil = store.home.write("evil.iso", &octets);
    let before = store.holds();
    let source = evil.to_str().expect("text");
    assert_eq!(
        store.refuses(&["import", source]),
        format!(
            "artifact: {source}: it calls a kernel or a RAM disk `install.amd/../vmlinuz`, which is no path below its own; nothing was imported"
        )
    );
    assert_eq!(store.holds(), before);
    // And one that ends in the middle.
    octets.truncate(20 * 2048);
    let short = store.home.write("short.iso", &octets);
    let said = store.refuses(&["import", short.to_str().expect("text")]);
    assert!(said.contains("no sound ISO 9660: "), "{said}");
    assert_eq!(store.holds(), before);
}

#[test]
fn gc_keeps_what_profiles_and_reservations_name_and_removes_the_rest() {
    let store = Store::new();
    store.home.write(
        "profiles/mine/profile.toml",
        "[vars]\nrelease = \"12\"\n[x86_64]\nkernel = \"mine-{{ release }}/vmlinuz\"\ninitrd = [\"/mine/initrd\"]\n",
    );
    for name in [
        "mine-12/vmlinuz",
        "mine/initrd",
        "images/of-a-machine",
        "images/by-digest",
        "old/vmlinuz",
        "mine/initrd2",
    ] {
        let file = store.home.write("file", name);
        store.does(&["import", file.to_str().expect("text"), "--name", name]);
    }
    let old = format!("sha256:{}", sha256(b"old/vmlinuz"));
    let (_netns, _client, service) = store.serve();
    let mut machine = node(10);
    machine.vars = [
        ("image".to_owned(), text("images/of-a-machine")),
        (
            "image_sha256".to_owned(),
            text(&sha256(b"images/by-digest")),
        ),
    ]
    .into();
    Api::unix(&store.home).create(machine).expect("created");
    for running in [true, false] {
        let said = store.does(&["gc", "--dry-run"]);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(
            lines[..3],
            [
                "would remove images/by-digest",
                "would remove mine/initrd2",
                "would remove old/vmlinuz"
            ]
        );
        assert!(
            lines.contains(&format!("would remove {old}  11").as_str()),
            "{said}"
        );
        assert!(said.ends_with("would free 23 octets\n"), "{said}");
        assert_eq!(store.holds().1.len(), 6);
        if running {
            service.wait_for("ready", |_| true);
        }
    }
    service.terminate();
    assert!(store.does(&["gc"]).ends_with("freed 23 octets\n"));
    let (names, blobs) = store.holds();
    assert_eq!(
        names,
        [
            "images%2Fof-a-machine",
            "mine%2Finitrd",
            "mine-12%2Fvmlinuz"
        ]
    );
    assert_eq!(blobs.len(), 4, "one by its digest alone");
}

#[test]
fn a_pinned_artifact_is_fetched_once_when_it_is_first_asked_for() {
    let store = Store::new();
    let (netns, _client) = server_and_client("52:54:00:00:00:0a");
    netns.ip(&["link", "set", "lo", "up"]);
    let port = netns.inside(|| upstream(response(KERNEL.len(), KERNEL)));
    let config = |offline: bool| {
        let pinned = |name: &str, digest: &str| {
            format!(
                "[[artifact]]\nname = \"{name}\"\nurl = \"http://127.0.0.1:{port}/vmlinuz\"\nsha256 = \"{digest}\"\n"
            )
        };
        store.home.config(&format!(
            "[artifacts]\noffline = {offline}\n{}{}",
            pinned("mine/vmlinuz", &sha256(KERNEL)),
            pinned("wrong/vmlinuz", &"0".repeat(64)),
        ))
    };
    let offline = Service::start(&netns, &store.home, &config(true));
    let got = Http::connect(&netns).get("/files/mine/vmlinuz");
    assert_eq!(got.status, 503);
    let refused = offline.wait_for("refused", |line| line["path"] == "mine/vmlinuz");
    assert_eq!(
        refused["reason"],
        "artifact mine/vmlinuz is not here, and artifacts.offline is set; bootjackd artifact import brings it"
    );
    offline.terminate();

    let online = Service::start(&netns, &store.home, &config(false));
    let mut http = Http::connect(&netns);
    for _ in 0..2 {
        let got = http.get("/files/mine/vmlinuz");
        assert_eq!((got.status, &got.body[..]), (200, KERNEL));
    }
    let fetched = |line: &&Value| line["message"] == "noticed" && line["about"] == "artifact";
    assert_eq!(online.log().iter().filter(fetched).count(), 1);
    assert_eq!(http.get("/files/wrong/vmlinuz").status, 502);
    online.wait_for("failed", |line| {
        let error = line["error"].as_str().unwrap_or_default();
        error.starts_with("wrong/vmlinuz: its SHA-256 is ") && line["about"] == "artifact"
    });
    assert_eq!(
        store.holds(),
        (vec!["mine%2Fvmlinuz".into()], vec![sha256(KERNEL)])
    );
    online.terminate();

    let offline = Service::start(&netns, &store.home, &config(true));
    assert_eq!(Http::connect(&netns).get("/files/mine/vmlinuz").status, 200);
    offline.terminate();
}

#[test]
fn what_the_configuration_says_of_artifacts_is_checked() {
    let home = Home::new();
    let file = home.write(
        "bootjackd.toml",
        home.config("[artifacts]\noffline = \"no\"\n[[artifact]]\nname = \"../x\"\nurl = \"ftp://h/x\"\n[[artifact]]\nname = \"x\"\nurl = \"http://h/x\"\nsha256 = \"12\"\n"),
    );
    let done = Command::new(program())
        .args(["check", "--config"])
        .arg(file)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&done.stderr);
    for problem in [
        "artifacts.offline: wanted true or false, got",
        "artifact[0].name: `../x` does not parse: wanted a name such as",
        "artifact[0].url: wanted a URL that begins with http:// or https://, got ftp://h/x",
        "artifact[0].sha256: is missing",
        "artifact[1].sha256: `12` does not parse: wanted a SHA-256, 64 hexadecimal digits",
    ] {
        assert!(said.contains(problem), "no `{problem}`: {said}");
    }
}
