//! `bootjack image` and `bootjack disk` as a person runs them: killed, without room, two at once; and what others make of the
//! files: qemu-img, tar, an XML parser, a machine that boots one.
//!
//! Wants what `make test` makes: qemu-img, qemu-io, python3 and zstd, QEMU, target/guest/disk-x86_64, and root (or a user namespace)
//! for a small file system.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

/// A directory with a store.
struct At {
    dir: tempfile::TempDir,
}

impl At {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bootjack"));
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .env("BOOTJACK_IMAGES", self.path("images"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// It works, and answers in JSON.
    fn ask(&self, arguments: &[&str]) -> Json {
        let arguments = [arguments, &["--output", "json"]].concat();
        let output = self.run(&arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            stderr(&output)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Files that are being made, or were.
    fn hidden(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for directory in [self.dir.path().to_owned(), self.path("images/staging")] {
            let Ok(entries) = std::fs::read_dir(directory) else {
                continue;
            };
            found.extend(
                entries
                    .map(|entry| entry.unwrap().path())
                    .filter(|path| path.to_string_lossy().ends_with(".part")),
            );
        }
        found
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Another program, which has to work.
fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output =
        output.unwrap_or_else(|error| panic!("{program}: {error}; run: deploy/packages.sh test"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        stderr(&output)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Until it is so, for two minutes at most.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !is_so() {
        assert!(Instant::now() < end, "waited for: {what}");
        std::thread::yield_now();
    }
}

/// Octets without a pattern, that begin as a disk does.
fn disk(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut octets: Vec<u8> = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as u8
    })
    .take(length)
    .collect();
    octets[0] = 0;
    octets[510..512].copy_from_slice(b"\x55\xaa");
    octets
}

fn sha256(path: &Path) -> String {
    tool("sha256sum", &[text(path)])[..64].to_owned()
}

/// Answers one request after the other; `answer` gets where the wanted range begins.
fn server(answer: impl Fn(usize, usize, &mut TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut from = 0;
            for line in BufReader::new(&mut stream).lines() {
                let line = line.unwrap_or_default().to_ascii_lowercase();
                if let Some(range) = line.strip_prefix("range: bytes=") {
                    from = range.trim_end_matches('-').parse().unwrap();
                }
                if line.is_empty() {
                    break;
                }
            }
            answer(number, from, &mut stream);
        }
    });
    url
}

/// The head of a good answer with what is behind `from`.
fn head(from: usize, length: usize) -> String {
    let range = match from {
        0 => String::new(),
        from => format!("Content-Range: bytes {from}-{}/{length}\r\n", length - 1),
    };
    format!(
        "HTTP/1.1 {} X\r\n{range}ETag: \"a\"\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        if from == 0 { 200 } else { 206 },
        length - from
    )
}

#[test]
fn a_pull_that_is_killed_goes_on_where_it_was() {
    let at = At::new();
    let content = disk(3 << 20);
    let source = at.path("source.img");
    std::fs::write(&source, &content).unwrap();
    let (asked, asked_from) = mpsc::channel();
    let served = content.clone();
    let url = server(move |number, from, stream| {
        asked.send(from).unwrap();
        let _ = stream.write_all(head(from, served.len()).as_bytes());
        match number {
            // Then nothing more, until the other side is dead.
            0 => {
                let _ = stream.write_all(&served[..2 << 20]);
                let _ = stream.read_to_end(&mut Vec::new());
            }
            _ => {
                let _ = stream.write_all(&served[from..]);
            }
        }
    });
    let url = format!("{url}/disk.img");
    let digest = sha256(&source);
    let pull = ["image", "pull", &url, "--name", "a", "--digest", &digest];
    let mut first = at.command(&pull).spawn().unwrap();
    let part = at.path("images/parts").join(format!("{digest}.part"));
    until("two MiB", || {
        std::fs::metadata(&part).is_ok_and(|part| part.len() == 2 << 20)
    });
    first.kill().unwrap();
    first.wait().unwrap();
    let got = at.ask(&pull);
    assert_eq!(got["sha256"], digest.as_str());
    assert_eq!(got["verified"], format!("sha256:{digest}"));
    assert_eq!(asked_from.try_iter().collect::<Vec<_>>(), [0, 2 << 20]);
    assert_eq!(
        std::fs::read(got["path"].as_str().unwrap()).unwrap(),
        content
    );
    assert_eq!(
        at.ask(&["image", "prune"])["removed"],
        serde_json::json!([])
    );
}

#[test]
fn two_pulls_of_the_same_image_are_one() {
    let at = At::new();
    let content = disk(1 << 20);
    let source = at.path("source.img");
    std::fs::write(&source, &content).unwrap();
    let (go, may_go) = mpsc::channel::<()>();
    let (asked, is_asked) = mpsc::channel();
    let served = content.clone();
    let url = server(move |_, from, stream| {
        asked.send(()).unwrap();
        let _ = may_go.recv();
        let _ = stream.write_all(head(from, served.len()).as_bytes());
        let _ = stream.write_all(&served[from..]);
    });
    let url = format!("{url}/disk.img");
    let digest = sha256(&source);
    let pull = ["image", "pull", &url, "--name", "a", "--digest", &digest];
    let first = at.command(&pull).spawn().unwrap();
    is_asked.recv().unwrap();
    let mut second = at.command(&pull).spawn().unwrap();
    let mut line = String::new();
    let mut complaints = BufReader::new(second.stderr.take().unwrap());
    complaints.read_line(&mut line).unwrap();
    let holder = first.id();
    assert_eq!(
        line,
        format!("bootjack: waiting for process {holder}, which is getting the same file\n")
    );
    drop(go);
    let outputs = [first.wait_with_output(), second.wait_with_output()].map(Result::unwrap);
    for output in &outputs {
        assert!(output.status.success(), "{}", stderr(output));
    }
    assert_eq!(outputs[1].stdout, b"a is here already\n");
    assert_eq!(is_asked.try_iter().count(), 0);
}

#[test]
fn a_full_disk_keeps_what_has_come() {
    let at = At::new();
    let content = disk(6 << 20);
    let source = at.path("source.img");
    std::fs::write(&source, &content).unwrap();
    let served = content.clone();
    // It says nothing of the length: the room ends in the middle.
    let url = server(move |_, from, stream| {
        let head = match from {
            0 => "HTTP/1.1 200 X\r\nETag: \"a\"\r\nConnection: close\r\n\r\n".to_owned(),
            from => head(from, served.len()),
        };
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(&served[from..]);
    });
    let url = format!("{url}/disk.img");
    let digest = sha256(&source);
    let store = at.path("images");
    std::fs::create_dir(&store).unwrap();
    // In a mount namespace of its own: a file system of 4 MiB, then one that was made larger.
    let script = format!(
        "set -e; mount -t tmpfs -o size=4m none {0}
         if \"$0\" \"$@\"; then exit 99; else echo status $?; fi
         ls -l {0}/parts >&2
         mount -o remount,size=32m {0}
         \"$0\" \"$@\"; \"$0\" image verify",
        text(&store)
    );
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", &script])
        .arg(env!("CARGO_BIN_EXE_bootjack"))
        .args(["image", "pull", &url, "--name", "a", "--digest", &digest])
        .env("BOOTJACK_IMAGES", &store)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = stderr(&output);
    assert!(output.status.success(), "{said}{complained}");
    assert!(complained.contains("no room for disk.img"), "{complained}");
    assert!(
        said.starts_with("status 1\ngot a: raw, 6.0 MiB"),
        "{said}{complained}"
    );
    assert!(said.ends_with("a: whole\n"), "{said}");
}

#[test]
fn an_export_that_is_killed_leaves_what_prune_removes() {
    let at = At::new();
    let source = at.path("source.img");
    std::fs::write(&source, disk(24 << 20)).unwrap();
    at.ask(&["image", "import", "source.img", "--name", "base"]);
    at.ask(&["disk", "create", "--image", "base", "a.qcow2"]);
    for form in ["qcow2", "vagrant-virtualbox"] {
        let export = ["disk", "export", "a.qcow2", "--format", form, "--to", "out"];
        let mut killed = at.command(&export).process_group(0).spawn().unwrap();
        until("a file that is being made", || !at.hidden().is_empty());
        killed.kill().unwrap();
        killed.wait().unwrap();
        assert!(!at.path("out").exists());
        // qemu-img dies with bootjack, and writes no more.
        until("nothing is written any more", || {
            let pruned = at.ask(&["image", "prune"]);
            pruned["removed"].as_array().unwrap().is_empty() && at.hidden().is_empty()
        });
    }
    // Everything else is as it was.
    at.ask(&["image", "show", "base"]);
    let info = at.ask(&["disk", "info", "a.qcow2"]);
    assert_eq!(info["virtual_size_bytes"], 24 << 20);
    let verified = at.run(&["image", "verify"]);
    assert!(verified.status.success());
}

/// Runs it once whole, which tells how long it takes, and then kills it at ever later moments; `after_each` looks at what is left.
fn killed_at_every_moment(at: &At, arguments: &[&str], mut after_each: impl FnMut()) {
    const MOMENTS: u32 = 10;
    let start = Instant::now();
    at.ask(arguments);
    let takes = start.elapsed();
    after_each();
    for moment in 0..=MOMENTS {
        let mut command = at.command(arguments).spawn().unwrap();
        let end = Instant::now() + takes * moment / (MOMENTS - 2);
        while Instant::now() < end && command.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        let _ = command.kill();
        command.wait().unwrap();
        after_each();
    }
}

#[test]
fn an_import_that_is_killed_loses_nothing_that_was_there() {
    let at = At::new();
    std::fs::write(at.path("kept.img"), disk(1 << 20)).unwrap();
    std::fs::write(at.path("new.img"), disk(6 << 20)).unwrap();
    at.ask(&["image", "import", "kept.img"]);
    killed_at_every_moment(&at, &["image", "import", "new.img"], || {
        let images = at.ask(&["image", "list"]);
        let names: Vec<_> = images
            .as_array()
            .unwrap()
            .iter()
            .map(|image| image["name"].clone())
            .collect();
        assert!(names.contains(&"kept".into()), "{names:?}");
        assert!(at.run(&["image", "verify"]).status.success());
        at.ask(&["image", "prune"]);
        assert_eq!(at.hidden(), Vec::<PathBuf>::new());
        let blobs = std::fs::read_dir(at.path("images/blobs/sha256")).unwrap();
        assert_eq!(blobs.count(), names.len());
        if names.len() == 2 {
            at.ask(&["image", "rm", "new"]);
        }
    });
}

#[test]
fn a_pull_that_is_killed_at_any_moment_comes_to_its_end() {
    let at = At::new();
    let content = disk(4 << 20);
    let source = at.path("source.img");
    std::fs::write(&source, &content).unwrap();
    let digest = sha256(&source);
    let served = content.clone();
    let url = server(move |_, from, stream| {
        let _ = stream.write_all(head(from, served.len()).as_bytes());
        let _ = stream.write_all(&served[from..]);
    });
    let url = format!("{url}/disk.img");
    let pull = ["image", "pull", &url, "--name", "a", "--digest", &digest];
    killed_at_every_moment(&at, &pull, || {
        // Nothing is removed in between: what one has left the next one has to get on with.
        let verified = at.run(&["image", "verify"]);
        assert!(verified.status.success(), "{}", stderr(&verified));
        if !at.ask(&["image", "list"]).as_array().unwrap().is_empty() {
            at.ask(&["image", "rm", "a"]);
        }
    });
    let got = at.ask(&pull);
    assert_eq!(got["sha256"], digest.as_str());
    assert!(std::fs::read(got["path"].as_str().unwrap()).unwrap() == content);
    at.ask(&["image", "prune"]);
    assert_eq!(at.hidden(), Vec::<PathBuf>::new());
    assert_eq!(
        std::fs::read_dir(at.path("images/parts")).unwrap().count(),
        0
    );
}

#[test]
fn others_read_what_is_exported() {
    let at = At::new();
    std::fs::write(at.path("source.img"), disk(8 << 20)).unwrap();
    at.ask(&[
        "image",
        "import",
        "source.img",
        "--name",
        "base",
        "--arch",
        "x86_64",
    ]);
    at.ask(&[
        "disk", "create", "--image", "base", "--size", "64MiB", "a.qcow2",
    ]);
    let disk = at.path("a.qcow2");
    let write = ["-c", "write -P 0x5a 40M 1M", "-c", "write -P 0 1M 1M"];
    tool(
        "qemu-io",
        &[&["-f", "qcow2"], &write[..], &[text(&disk)]].concat(),
    );
    for (form, format) in [
        ("qcow2", "qcow2"),
        ("raw", "raw"),
        ("vmdk", "vmdk"),
        ("vdi", "vdi"),
    ] {
        let to = at.path(form);
        at.ask(&["disk", "export", "a.qcow2", "--format", form, "--to", form]);
        tool(
            "qemu-img",
            &[
                "compare",
                "-f",
                "qcow2",
                "-F",
                format,
                text(&disk),
                text(&to),
            ],
        );
        if format != "raw" {
            tool("qemu-img", &["check", "-f", format, text(&to)]);
        }
        let info = tool(
            "qemu-img",
            &["info", "--output=json", "-f", format, text(&to)],
        );
        let info: Json = serde_json::from_str(&info).unwrap();
        assert_eq!(info["virtual-size"], 64 << 20);
        assert_eq!(info.get("backing-filename"), None);
    }
    let raw = std::fs::metadata(at.path("raw")).unwrap();
    let room = std::os::unix::fs::MetadataExt::blocks(&raw) * 512;
    assert!(room < 16 << 20, "{room} octets for 9 MiB of content");

    for (provider, disk_name, format) in [
        ("libvirt", "box.img", "qcow2"),
        ("vmware", "disk.vmdk", "vmdk"),
        ("virtualbox", "box-disk001.vmdk", "vmdk"),
    ] {
        let form = format!("vagrant-{provider}");
        let file = format!("{provider}.box");
        at.ask(&[
            "disk", "export", "a.qcow2", "--format", &form, "--to", &file, "--name", "n1",
        ]);
        let unpacked = at.path(provider);
        std::fs::create_dir(&unpacked).unwrap();
        tool(
            "tar",
            &["-xzf", text(&at.path(&file)), "-C", text(&unpacked)],
        );
        let inside = unpacked.join(disk_name);
        tool(
            "qemu-img",
            &[
                "compare",
                "-f",
                "qcow2",
                "-F",
                format,
                text(&disk),
                text(&inside),
            ],
        );
        tool("qemu-img", &["check", "-f", format, text(&inside)]);
        let metadata = std::fs::read(unpacked.join("metadata.json")).unwrap();
        let metadata: Json = serde_json::from_slice(&metadata).unwrap();
        let name = match provider {
            "vmware" => "vmware_desktop",
            other => other,
        };
        assert_eq!(metadata["provider"], name);
        assert_eq!(metadata["architecture"], "amd64");
        assert!(unpacked.join("Vagrantfile").exists());
        // And so do we, into a store of our own.
        let back = at.ask(&["image", "import", &file, "--name", provider]);
        assert_eq!(back["arch"], "x86_64");
        let path = back["path"].as_str().unwrap();
        tool(
            "qemu-img",
            &["compare", "-f", "qcow2", "-F", "qcow2", text(&disk), path],
        );
    }
    let vmdk = at.path("virtualbox/box-disk001.vmdk");
    let info = tool("qemu-img", &["info", text(&vmdk)]);
    assert!(info.contains("create type: streamOptimized"), "{info}");
    assert!(
        std::fs::read_to_string(at.path("vmware/n1.vmx"))
            .unwrap()
            .contains("disk.vmdk")
    );
    read_ovf(&at.path("virtualbox/box.ovf"), &vmdk);
}

/// Well-formed, in the namespace of OVF 1, and the references lead to what is there.
fn read_ovf(path: &Path, disk: &Path) {
    const READ: &str = r#"
import json, sys, xml.etree.ElementTree as xml
o = "{http://schemas.dmtf.org/ovf/envelope/1}"
r = "{http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData}"
root = xml.parse(sys.argv[1]).getroot()
assert root.tag == o + "Envelope", root.tag
file = root.find(f"{o}References/{o}File").attrib
disk = root.find(f"{o}DiskSection/{o}Disk").attrib
items = {}
for item in root.findall(f"{o}VirtualSystem/{o}VirtualHardwareSection/{o}Item"):
    fields = {e.tag.replace(r, ""): e.text for e in item}
    items[fields["InstanceID"]] = fields
print(json.dumps({"file": {k.replace(o, ""): v for k, v in file.items()},
    "disk": {k.replace(o, ""): v for k, v in disk.items()}, "items": items}))
"#;
    let read: Json = serde_json::from_str(&tool("python3", &["-c", READ, text(path)])).unwrap();
    assert_eq!(read["file"]["href"], "box-disk001.vmdk");
    let size = std::fs::metadata(disk).unwrap().len().to_string();
    assert_eq!(read["file"]["size"], size.as_str());
    assert_eq!(read["disk"]["fileRef"], read["file"]["id"]);
    assert_eq!(
        read["disk"]["capacity"],
        (64_u64 << 20).to_string().as_str()
    );
    let items = read["items"].as_object().unwrap();
    let of_type = |kind: &str| {
        items
            .values()
            .find(|item| item["ResourceType"] == kind)
            .unwrap()
    };
    let disk = of_type("17");
    let id = read["disk"]["diskId"].as_str().unwrap();
    assert_eq!(disk["HostResource"], format!("/disk/{id}"));
    assert_eq!(disk["Parent"], of_type("20")["InstanceID"]);
    assert_eq!(of_type("3")["VirtualQuantity"], "2");
    assert_eq!(of_type("4")["VirtualQuantity"], "2048");
}

/// An installed target becomes a base image for others.
#[test]
fn the_disk_of_a_machine_of_the_lab_is_exported_with_what_the_lab_says_of_it() {
    let at = At::new();
    let file = "version = 1\n[lab]\nname = \"demo\"\n[provisioner]\nkind = \"namespace\"\n[[vm]]\nname = \"node1\"\narch = \"x86_64\"\nfirmware = \"bios\"\ncpus = 3\nmemory = \"1536MiB\"\ndisk = \"1GiB\"\nprofile = \"tiny\"\n";
    std::fs::write(at.path("lab.toml"), file).unwrap();
    let state = at.path("state");
    let run = |arguments: &[&str]| {
        let mut command = at.command(arguments);
        command
            .env("XDG_STATE_HOME", &state)
            .env_remove("BOOTJACK_LAB");
        command.output().unwrap()
    };
    let export = [
        "disk",
        "export",
        "--vm",
        "node1",
        "--format",
        "vagrant-vmware",
        "--to",
        "a.box",
    ];
    let early = run(&export);
    assert_eq!(early.status.code(), Some(4), "{}", stderr(&early));
    assert!(
        stderr(&early).contains("node1 has no disk yet"),
        "{}",
        stderr(&early)
    );
    let machine = state.join("bootjack/labs/demo/vm/node1");
    std::fs::create_dir_all(&machine).unwrap();
    let disk = machine.join("disk.qcow2");
    at.ask(&["disk", "create", text(&disk), "--size", "1GiB"]);
    let output = run(&export);
    assert!(output.status.success(), "{}", stderr(&output));
    let vmx = tool("tar", &["-xzOf", text(&at.path("a.box")), "node1.vmx"]);
    for line in [
        "numvcpus = \"3\"",
        "memsize = \"1536\"",
        "displayName = \"node1\"",
    ] {
        assert!(vmx.lines().any(|found| found == line), "{line}\n{vmx}");
    }
    assert!(!vmx.contains("efi"), "{vmx}");
    let none = run(&[
        "disk", "export", "--vm", "node9", "--format", "raw", "--to", "b",
    ]);
    assert!(
        stderr(&none).contains("there is no machine node9 in lab demo"),
        "{}",
        stderr(&none)
    );
}

/// A box as GNU tar makes it with holes, as vagrant-libvirt's own script does.
#[test]
fn a_box_with_holes_is_read() {
    let at = At::new();
    let mut content = vec![0; 8 << 20];
    content[..1 << 20].copy_from_slice(&disk(1 << 20));
    content[7 << 20] = 9;
    let file = std::fs::File::create(at.path("box.img")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &content[..1 << 20], 0).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[9], 7 << 20).unwrap();
    file.set_len(8 << 20).unwrap();
    let metadata =
        r#"{"provider":"libvirt","format":"raw","virtual_size":1,"architecture":"arm64"}"#;
    std::fs::write(at.path("metadata.json"), metadata).unwrap();
    let (made, dir) = (at.path("a.box"), at.dir.path());
    tool(
        "tar",
        &[
            "--format=gnu",
            "-cSzf",
            text(&made),
            "-C",
            text(dir),
            "./metadata.json",
            "./box.img",
        ],
    );
    let image = at.ask(&["image", "import", "a.box"]);
    assert_eq!(image["arch"], "aarch64");
    assert!(std::fs::read(image["path"].as_str().unwrap()).unwrap() == content);
    tool(
        "tar",
        &[
            "--format=pax",
            "-cSzf",
            text(&at.path("b.box")),
            "-C",
            text(dir),
            "./box.img",
        ],
    );
    let refused = at.run(&["image", "import", "b.box"]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(
        stderr(&refused).contains("tar --format=gnu -S"),
        "{}",
        stderr(&refused)
    );
}

/// A machine boots what was exported, and says what is on its disk.
#[test]
fn a_machine_boots_from_what_was_exported() {
    let at = At::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let guest = root.join("target/guest/disk-x86_64/disk.img.zst");
    assert!(
        guest.exists(),
        "wanted {}; run: make test-needs",
        guest.display()
    );
    let raw = at.path("disk.img");
    tool("zstd", &["-dq", text(&guest), "-o", text(&raw)]);
    at.ask(&[
        "image", "import", "disk.img", "--name", "guest", "--arch", "x86_64",
    ]);
    at.ask(&["disk", "create", "--image", "guest", "a.qcow2"]);
    for form in ["vmdk", "vdi"] {
        at.ask(&["disk", "export", "a.qcow2", "--format", form, "--to", form]);
        let drive = format!("file={},format={form},if=virtio", text(&at.path(form)));
        let mut machine = Command::new("qemu-system-x86_64")
            .args([
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-accel",
                "tcg",
            ])
            .args([
                "-machine",
                "q35",
                "-m",
                "256",
                "-serial",
                "stdio",
                "-no-reboot",
            ])
            .args(["-drive", &drive])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(machine.stdout.take().unwrap()).lines();
        let mut seen = Vec::new();
        for line in lines {
            let line = String::from_utf8_lossy(line.unwrap().as_bytes()).into_owned();
            let is_end = line.contains("bootjack-disk: done");
            seen.push(line);
            if is_end {
                break;
            }
        }
        machine.kill().unwrap();
        machine.wait().unwrap();
        let all = seen.join("\n");
        assert!(
            all.contains("bootjack-disk: booted from its disk"),
            "{form}:\n{all}"
        );
        assert!(all.contains("bootjack-disk: root="), "{form}:\n{all}");
    }
}

#[test]
fn what_may_not_be_believed_has_to_be_allowed() {
    let at = At::new();
    let refused = at.run(&["image", "pull", "http://127.0.0.1:9/a.img"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        stderr(&refused).contains("say --allow-unverified"),
        "{}",
        stderr(&refused)
    );
    let sums = "http://198.18.0.1/SHA256SUMS";
    let refused = at.run(&[
        "image",
        "pull",
        "https://198.18.0.1/a.img",
        "--checksums",
        sums,
    ]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        stderr(&refused).contains("wanted https://"),
        "{}",
        stderr(&refused)
    );
    let unknown = at.run(&["image", "pull", "ubuntu-2404"]);
    assert_eq!(unknown.status.code(), Some(4));
    assert!(
        stderr(&unknown).contains("did you mean ubuntu-24.04?"),
        "{}",
        stderr(&unknown)
    );
    let all = at.ask(&["image", "list", "--available"]);
    assert!(all.as_array().unwrap().len() > 20);
}

/// A proxy of the environment is asked, but not for this computer.
#[test]
fn proxies_of_the_environment_are_used() {
    let at = At::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let (asked, what) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut line = String::new();
            let _ = BufReader::new(&mut stream).read_line(&mut line);
            asked.send(line).unwrap();
            let _ = stream.write_all(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let digest = "0".repeat(64);
    let pull = |url: &str| {
        let pull = [
            "image",
            "pull",
            url,
            "--digest",
            &digest,
            "--stall-timeout",
            "5s",
        ];
        let mut command = at.command(&pull);
        for name in [
            "ALL_PROXY",
            "all_proxy",
            "https_proxy",
            "HTTP_PROXY",
            "http_proxy",
        ] {
            command.env_remove(name);
        }
        let output = command
            .env("HTTPS_PROXY", &proxy)
            .env_remove("NO_PROXY")
            .env_remove("no_proxy")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(10), "{}", stderr(&output));
    };
    pull("https://198.18.0.1/a.img");
    let line = what.try_iter().next().unwrap();
    assert!(line.starts_with("CONNECT 198.18.0.1:443 "), "{line}");
    let url = server(|_, _, stream| {
        let _ =
            stream.write_all(b"HTTP/1.1 404 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    });
    // What was asked again is of the first pull.
    let before = what.try_iter().count();
    assert!(before < 10);
    pull(&format!("{url}/a.img"));
    assert_eq!(what.try_iter().count(), 0);
}

/// Certificates are believed as this computer believes them, and nothing leads away from HTTPS.
#[test]
fn a_server_is_believed_by_its_certificate() {
    const SERVE: &str = r#"
import http.server, ssl, sys
content = open(sys.argv[3], "rb").read()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/down":
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:9/disk.img")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
    def log_message(self, *_): pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;
    let at = At::new();
    std::fs::write(at.path("disk.img"), disk(1 << 20)).unwrap();
    let (authority, certificate, key) = certificates();
    for (name, text) in [
        ("ca.pem", authority),
        ("cert.pem", certificate),
        ("key.pem", key),
    ] {
        std::fs::write(at.path(name), text).unwrap();
    }
    let mut server = Command::new("python3")
        .args(["-c", SERVE, "cert.pem", "key.pem", "disk.img"])
        .current_dir(at.dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut port = String::new();
    BufReader::new(server.stdout.take().unwrap())
        .read_line(&mut port)
        .unwrap();
    let url = format!("https://127.0.0.1:{}", port.trim());
    let digest = sha256(&at.path("disk.img"));
    let pull = |path: &str, believed: Option<&str>| {
        let url = format!("{url}{path}");
        let mut command = at.command(&["image", "pull", &url, "--name", "a", "--digest", &digest]);
        if let Some(believed) = believed {
            command.env("SSL_CERT_FILE", at.path(believed));
        }
        command.output().unwrap()
    };
    let stranger = pull("/disk.img", None);
    let downgrade = pull("/down", Some("ca.pem"));
    let friend = pull("/disk.img", Some("ca.pem"));
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(stranger.status.code(), Some(10));
    let complained = stderr(&stranger);
    assert!(
        complained.contains("its certificate is not believed"),
        "{complained}"
    );
    assert_eq!(downgrade.status.code(), Some(10));
    let complained = stderr(&downgrade);
    assert!(
        complained.contains("which is not encrypted"),
        "{complained}"
    );
    assert!(friend.status.success(), "{}", stderr(&friend));
}

/// An authority's certificate, and one of 127.0.0.1 with its key, in PEM.
fn certificates() -> (String, String, String) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = ca.self_signed(&ca_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    let certificate = params.signed_by(&key, &issuer).unwrap().pem();
    (authority, certificate, key.serialize_pem())
}
