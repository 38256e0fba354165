//! The documents of every shipped profile on every processor, held against what they were when somebody last looked
//! (`tests/golden/documents`), and read by the programs that they are for.
//!
//! After a change that is meant: `BOOTJACK_BLESS=1 cargo test --test documents`, and look at the difference.
//!
//! The programs come by `make test-needs`; what is missing fails by name.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use bootjackd::catalog::{Catalog, Change, Settings};
use bootjackd::http::document::{Asker, Loader};
use bootjackd::lint::Severity;
use bootjackd::lint::machine::look;
use bootjackd::model::{
    Cpu, Document, Firmware, MacAddr, Profile, Reservation, Source, Subnet, Token, Var, Vars,
};
use bootjackd::store::profiles;

const SERVER: &str = "http://198.18.0.1";
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE me@example";

/// What operators say of such machines; without it a profile's defaults alone would be seen.
fn vars(profile: &str, full: bool) -> Vars {
    let text = |text: &str| Var::Text(text.to_owned());
    let texts = |list: &[&str]| Var::List(list.iter().map(|item| text(item)).collect());
    let mut said: Vec<(&str, Var)> = vec![("password", text("correct horse"))];
    if profile == "custom-ipxe" {
        said.push(("script_url", text("http://boot.example/menu.ipxe")));
    }
    if profile == "disk-image" {
        said.push(("image", text("images/debian-12.raw.zst")));
        said.push(("image_sha256", text(&"ab".repeat(32))));
    }
    if full {
        said.push(("ssh_key", text(KEY)));
        said.push((
            "ssh_keys",
            texts(&["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIF you: it's \"you\""]),
        ));
        said.push((
            "disk",
            text(if profile == "fedora-kickstart" {
                "sda"
            } else {
                "/dev/sda"
            }),
        ));
        said.push(("packages", texts(&["vim", "htop"])));
        said.push((
            "late_commands",
            texts(&["curtin in-target -- systemctl enable ssh"]),
        ));
        said.push(("late_command", text("in-target systemctl enable ssh")));
        said.push((
            "units",
            Var::Map(
                [(
                    "hello.service".to_owned(),
                    text("[Service]\nExecStart=/bin/echo hello\n[Install]\nWantedBy=multi-user.target\n"),
                )]
                .into(),
            ),
        ));
    }
    said.into_iter()
        .map(|(name, var)| (name.to_owned(), var))
        .collect()
}

struct Shown {
    catalog: Catalog,
    profile: Profile,
}

impl Shown {
    fn of(profile: Profile, full: bool) -> Self {
        let mut subnet = Subnet::of("198.18.0.0/24".parse().expect("a network"));
        subnet.router = Some(Ipv4Addr::new(198, 18, 0, 1));
        subnet.domain = Some("lab.internal".into());
        let mut reservation = Reservation::of("node-1".into(), Source::ConfigFile);
        reservation.mac = Some(MacAddr([0x52, 0x54, 0, 0, 0, 1]));
        reservation.address = Some(Ipv4Addr::new(198, 18, 0, 10));
        reservation.hostname = Some("node-1".into());
        reservation.profile = Some(profile.name.clone());
        reservation.vars = vars(&profile.name, full);
        let catalog = Catalog::new(Settings {
            subnets: vec![subnet],
            profiles: [(profile.name.clone(), profile.clone())].into(),
            ..Settings::default()
        });
        let catalog = catalog.with(&Change::Create(reservation)).expect("fits");
        Self { catalog, profile }
    }

    fn reservation(&self) -> &Reservation {
        self.catalog.by_id("node-1").expect("there")
    }

    fn asker(&self) -> Asker<'_> {
        let mut asker = Asker::of(self.reservation(), &self.catalog, SERVER);
        if self.profile.install.is_some() {
            asker.token = Some(Token([0xab; 16]));
        }
        asker
    }

    /// All that the machine may fetch, by the name of the golden file.
    fn documents(&self) -> BTreeMap<String, String> {
        let asker = self.asker();
        let own = self
            .profile
            .documents
            .keys()
            .map(|name| Document::named(name));
        let mut all: BTreeMap<String, String> = own
            .chain(Document::NOCLOUD)
            .map(|document| {
                let text = asker.document(&document).expect("renders");
                (document.name().to_owned(), text)
            })
            .collect();
        let cpus: Vec<Cpu> = match self.profile.boot.is_empty() {
            true => vec![Cpu::X86_64],
            false => self.profile.boot.keys().copied().collect(),
        };
        for cpu in cpus {
            for (loader, firmware) in [
                (Loader::Ipxe, Firmware::Bios),
                (Loader::Ipxe, Firmware::Uefi),
                (Loader::Grub, Firmware::Uefi),
            ] {
                if firmware == Firmware::Bios && cpu != Cpu::X86_64 {
                    continue;
                }
                let text = asker.boot_script(loader, cpu, firmware).expect("renders");
                all.insert(format!("{cpu}-{firmware}.{}", loader.document()), text);
            }
        }
        all
    }
}

fn shipped() -> BTreeMap<String, Profile> {
    profiles::read(None).expect("the shipped profiles are sound")
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/documents")
}

#[test]
fn every_document_of_every_shipped_profile_and_processor_is_what_it_was() {
    let is_blessed = std::env::var_os("BOOTJACK_BLESS").is_some();
    let mut wrong = Vec::new();
    let mut expected = Vec::new();
    for profile in shipped().into_values() {
        let dir = golden().join(&profile.name);
        for (name, text) in Shown::of(profile, true).documents() {
            let path = dir.join(&name);
            expected.push(path.clone());
            if is_blessed {
                std::fs::create_dir_all(&dir).expect("made");
                std::fs::write(&path, &text).expect("written");
            }
            if std::fs::read_to_string(&path).ok().as_deref() != Some(text.as_str()) {
                wrong.push(format!("--- {} is now:\n{text}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for dir in std::fs::read_dir(golden()).expect("there").flatten() {
        for file in std::fs::read_dir(dir.path()).expect("there").flatten() {
            assert!(
                expected.contains(&file.path()),
                "{} is of no profile any more",
                file.path().display()
            );
        }
    }
}

#[test]
fn no_shipped_profile_has_an_error_or_a_warning_with_or_without_what_operators_may_say() {
    for profile in shipped().into_values() {
        for full in [true, false] {
            let shown = Shown::of(profile.clone(), full);
            let found = look(&shown.catalog, shown.reservation());
            let bad: Vec<String> = (found.iter())
                .filter(|finding| finding.severity != Severity::Info)
                .map(ToString::to_string)
                .collect();
            assert_eq!(bad, [""; 0], "{}", profile.name);
        }
    }
}

#[test]
fn an_installing_profile_tells_of_its_start_or_its_end_and_of_its_failure_where_it_can() {
    for profile in shipped().into_values().filter(|p| p.install.is_some()) {
        let all: String = Shown::of(profile.clone(), true)
            .documents()
            .into_values()
            .collect();
        let events = format!("{SERVER}/t/{}/events/", "ab".repeat(16));
        // Ours is told where, and does it by itself (tests/black_box/disk_image.rs).
        let ends = ["done", "webhook"].map(|event| format!("{events}{event}"));
        let ends = ends.iter().any(|end| all.contains(end))
            || all.contains(&format!("bootjack.events={events} "));
        assert!(ends, "{}", profile.name);
    }
}

// Real readers.

/// A program, and how it is had.
fn tool(path: &Path, next_step: &str) -> PathBuf {
    assert!(path.exists(), "{} is missing; {next_step}", path.display());
    path.to_owned()
}

fn target(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target")
        .join(below)
}

/// Each document that `is_it`, in a file of its own: with and without what operators may say.
fn files(is_it: impl Fn(&str, &str) -> bool) -> (tempfile::TempDir, Vec<PathBuf>) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut paths = Vec::new();
    for profile in shipped().into_values() {
        for full in [true, false] {
            for (name, text) in Shown::of(profile.clone(), full).documents() {
                if is_it(&name, &text) {
                    let path = dir.path().join(format!("{}-{full}-{name}", profile.name));
                    std::fs::write(&path, text).expect("written");
                    paths.push(path);
                }
            }
        }
    }
    assert!(!paths.is_empty());
    (dir, paths)
}

#[track_caller]
fn succeeds(mut command: Command, about: &Path) -> String {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{:?}: {error}; run: make test-needs", command.get_program())
    });
    let said = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let all = said(&output.stdout) + &said(&output.stderr);
    assert!(
        output.status.success(),
        "{:?} says of {}:\n{all}\n{}",
        command.get_program(),
        about.display(),
        std::fs::read_to_string(about).unwrap_or_default()
    );
    all
}

#[test]
fn cloud_inits_own_schema_takes_every_cloud_config() {
    let needs = "run: make test-needs (deploy/unpack.sh target/test/readers cloud-init ignition)";
    let modules = tool(&target("test/readers/usr/lib/python3/dist-packages"), needs);
    let (_dir, paths) = files(|_, text| text.starts_with("#cloud-config\n"));
    for path in paths {
        let mut command = Command::new("/usr/bin/python3");
        command.env("PYTHONPATH", &modules);
        command.args(["-m", "cloudinit.cmd.main", "schema", "--config-file"]);
        let said = succeeds(
            {
                command.arg(&path);
                command
            },
            &path,
        );
        assert!(said.contains("Valid"), "{}: {said}", path.display());
        assert!(!said.contains("DEPRECAT"), "{}: {said}", path.display());
    }
}

#[test]
fn python_reads_every_yaml_and_json_document_as_we_do() {
    let (_dir, paths) = files(|name, _| {
        name.ends_with("-data") || name == "network-config" || name.ends_with(".ign")
    });
    for path in paths {
        let read = if path.extension().is_some_and(|end| end == "ign") {
            "import json,sys; assert isinstance(json.load(open(sys.argv[1])), dict)"
        } else {
            "import yaml,sys; assert isinstance(yaml.safe_load(open(sys.argv[1])), dict)"
        };
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", read]).arg(&path);
        succeeds(command, &path);
    }
}

#[test]
fn debconf_understands_every_preseed() {
    let (_dir, paths) = files(|name, _| name == "preseed.cfg");
    for path in paths {
        let mut command = Command::new("debconf-set-selections");
        command.arg("--checkonly").arg(&path);
        let said = succeeds(command, &path);
        assert_eq!(said, "", "{}", path.display());
    }
}

#[test]
fn pykickstart_takes_every_kickstart() {
    let needs = "run: make test-needs (tests/readers.py setup target/tmp/readers)";
    let program = tool(&target("tmp/readers/bin/ksvalidator"), needs);
    let (_dir, paths) = files(|name, _| name.ends_with(".ks"));
    for path in paths {
        let mut command = Command::new(&program);
        command.args(["-v", "F40"]).arg(&path);
        succeeds(command, &path);
    }
}

#[test]
fn ignition_validates_every_ignition_configuration() {
    let needs = "run: make test-needs (deploy/unpack.sh target/test/readers cloud-init ignition)";
    let program = tool(&target("test/readers/usr/bin/ignition-validate"), needs);
    let (_dir, paths) = files(|name, _| name.ends_with(".ign"));
    for path in paths {
        let mut command = Command::new(&program);
        command.arg(&path);
        let said = succeeds(command, &path);
        for word in ["error", "warning"] {
            assert!(!said.contains(word), "{}: {said}", path.display());
        }
    }
}

#[test]
fn grub_parses_every_configuration_made_for_it() {
    let (_dir, paths) = files(|name, _| name.ends_with("grub.cfg"));
    for path in paths {
        let mut command = Command::new("grub-script-check");
        command.arg(&path);
        succeeds(command, &path);
    }
}

/// glibc's crypt(3), by perl, which every Debian has: what the installed system will do with a typed password.
#[test]
fn glibc_takes_a_password_for_the_hash_that_a_document_carries() {
    let profile = shipped().remove("ubuntu-autoinstall").expect("shipped");
    let documents = Shown::of(profile, true).documents();
    let hash = documents["user-data"]
        .lines()
        .find_map(|line| line.trim().strip_prefix("password: \""))
        .and_then(|rest| rest.strip_suffix('"'))
        .expect("a hash");
    for (typed, is_right) in [("correct horse", true), ("correct", false)] {
        let output = Command::new("perl")
            .args(["-e", "print crypt($ARGV[0], $ARGV[1])", typed, hash])
            .output()
            .expect("perl runs");
        assert_eq!(
            String::from_utf8_lossy(&output.stdout) == hash,
            is_right,
            "{typed} {hash}"
        );
    }
}
