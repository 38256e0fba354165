//! A lab in directories of its own, and what it is made of.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

#[cfg(target_os = "linux")]
pub use held::Held;
pub use turn::Turn;

#[path = "../../../tests/black_box/support/turn.rs"]
mod turn;

/// A directory that is home, current directory and everything else to the commands in it. Its lab, if it has one, is ended with this.
pub struct Lab {
    home: tempfile::TempDir,
    /// What its commands run in, if not where the tests do.
    #[cfg(target_os = "linux")]
    pub held: Option<Held>,
    turn: Option<Turn>,
}

impl Lab {
    /// A directory without a lab's file.
    pub fn none() -> Self {
        // In a short place: a lab's sockets are below it.
        let home = tempfile::Builder::new().prefix("bj-").tempdir_in("/tmp");
        let lab = Self {
            home: home.unwrap(),
            #[cfg(target_os = "linux")]
            held: None,
            turn: None,
        };
        for dir in ["r", "bin"] {
            std::fs::create_dir(lab.path(dir)).unwrap();
        }
        lab
    }

    /// One with this lab.toml, see `write`.
    pub fn of(text: &str) -> Self {
        let lab = Self::none();
        lab.write("lab.toml", text);
        lab
    }

    /// The same, of machines that do run.
    pub fn real(text: &str) -> Self {
        let mut lab = Self::of(text);
        lab.turn = Some(Turn::awaited());
        lab
    }

    pub fn home(&self) -> &str {
        self.home.path().to_str().unwrap()
    }

    /// In `text`, @home@ is this directory, @target@ has what `make test-needs` left, and @deploy@ is the checkout's.
    pub fn write(&self, name: &str, text: &str) {
        for word in text.split('"') {
            if let Some(name) = word.strip_prefix("@target@/") {
                built(name);
            }
        }
        let mut text = text.replace("@home@", self.home());
        for (word, path) in [
            ("@target@", target()),
            ("@deploy@", checkout().join("deploy")),
        ] {
            text = text.replace(word, path.to_str().unwrap());
        }
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Has its commands find a program of tests/lab by this name.
    pub fn with_fake(self, script: &str, name: &str) -> Self {
        let from = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/lab")
            .join(script);
        let to = self.path("bin").join(name);
        std::fs::copy(from, &to).unwrap();
        std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    pub fn path(&self, rest: &str) -> PathBuf {
        self.home.path().join(rest)
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_bootjack");
        #[cfg(target_os = "linux")]
        let held = self.held.as_ref().map(|held| held.command(program));
        #[cfg(not(target_os = "linux"))]
        let held = None;
        let mut command = held.unwrap_or_else(|| Command::new(program));
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .args(words)
            .current_dir(self.home.path())
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .env("HOME", self.home.path())
            .env("XDG_STATE_HOME", self.path("state"))
            .env("XDG_DATA_HOME", self.path("data"))
            .env("XDG_RUNTIME_DIR", self.path("r"))
            .env_remove("BOOTJACK_LAB")
            .env_remove("BOOTJACK_SERVER")
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Standard output and error of one that worked.
    pub fn works(&self, words: &[&str]) -> (String, String) {
        let output = self.run(words);
        let (stdout, stderr) = said(&output);
        let code = output.status.code();
        assert_eq!(code, Some(0), "{words:?}: {stdout}{stderr}{}", self.logs());
        (stdout, stderr)
    }

    /// Exit status and standard error of one that did not.
    pub fn fails(&self, words: &[&str]) -> (i32, String) {
        let output = self.run(words);
        let code = output.status.code().unwrap();
        assert_ne!(code, 0, "{words:?}");
        (code, said(&output).1)
    }

    pub fn json(&self, words: &[&str]) -> Value {
        let (stdout, _) = self.works(&[words, &["--output", "json"]].concat());
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
    }

    /// A machine's state and its process.
    pub fn state_of(&self, name: &str) -> (String, Option<i64>) {
        let shown = self.json(&["vm", "show", name]);
        let state = shown["state"].as_str().unwrap().to_owned();
        (state, shown["pid"].as_i64())
    }

    pub fn console(&self, lab: &str, name: &str) -> String {
        let log = self.path(&format!("state/bootjack/labs/{lab}/vm/{name}/console.log"));
        String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned()
    }

    /// The last of every log, for a test that failed.
    pub fn logs(&self) -> String {
        let mut find = Command::new("find");
        find.arg(self.path("state"));
        let find = find.args(["-name", "*.log", "-size", "+0"]).output();
        let files = String::from_utf8_lossy(&find.unwrap().stdout).into_owned();
        let last = files.lines().map(|file| {
            let text = std::fs::read(file).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(12)..];
            format!("\n== {file}\n{}", last.join("\n"))
        });
        last.collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.run(&["down", "--kill"]);
    }
}

/// Standard output and standard error.
pub fn said(output: &Output) -> (String, String) {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn target() -> PathBuf {
    checkout().join("target")
}

/// What `make test-needs` left.
pub fn built(name: &str) -> PathBuf {
    let path = target().join(name);
    let shown = path.display();
    assert!(path.exists(), "{shown} is missing; run: make test-needs");
    path
}

/// A container image without an engine: of the program that the Dockerfile made, without what is for debuggers.
pub fn pack(archive: &Path) {
    let program = archive.with_extension("program");
    let strip = Command::new("strip")
        .arg("-o")
        .args([&program, &built("test/container/bootjackd")])
        .status();
    let strip = strip.expect("strip runs; run: deploy/packages.sh test");
    assert!(strip.success());
    let packed = Command::new(env!("CARGO_BIN_EXE_bootjack"))
        .args(["image", "container", "--arch", std::env::consts::ARCH])
        .arg("--program")
        .arg(&program)
        .arg("--boot-programs")
        .arg(built("ipxe"))
        .arg("--to")
        .arg(archive)
        .output()
        .unwrap();
    assert!(packed.status.success(), "{packed:?}");
}

#[cfg(target_os = "linux")]
mod held {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Child, Command, Stdio};

    /// Namespaces, and what a script did in them, for as long as a process of theirs waits.
    pub struct Held {
        holder: Child,
        kinds: &'static [&'static str],
    }

    impl Held {
        /// The kinds are unshare's and nsenter's flags; `script` is sh's.
        pub fn by(kinds: &'static [&'static str], script: &str) -> Self {
            let script = format!("set -e\n{script}\necho made\nexec cat >/dev/null");
            let mut holder = Command::new("unshare")
                .args(kinds)
                .args(["sh", "-c", &script])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut said = String::new();
            let stdout = holder.stdout.take().unwrap();
            BufReader::new(stdout).read_line(&mut said).unwrap();
            assert_eq!(said, "made\n");
            Self { holder, kinds }
        }

        /// A command that runs in them.
        pub fn command(&self, program: &str) -> Command {
            let mut command = Command::new("nsenter");
            command.args(["--target", &self.holder.id().to_string()]);
            command.args(self.kinds).args(["--wd=.", "--", program]);
            command
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            drop(self.holder.stdin.take());
            let _ = self.holder.wait();
        }
    }
}
