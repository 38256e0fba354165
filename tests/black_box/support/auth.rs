//! An authority as an operator makes it, and clients that come over TLS.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use super::netns::Netns;
use super::service::{Home, program};

/// Where the services of these tests take gRPC over TLS.
pub const TLS: &str = "198.18.0.1:50052";

/// The command line's program, which is built beside the service's.
pub fn bootjack() -> PathBuf {
    let path = Path::new(program()).with_file_name("bootjack");
    assert!(
        path.exists(),
        "{} is missing; run: cargo build --workspace",
        path.display()
    );
    path
}

/// The directory of `bootjack auth`.
pub struct Authority {
    pub dir: PathBuf,
}

impl Authority {
    /// Makes one below the home, with a certificate for the server's address.
    pub fn new(home: &Home) -> Self {
        Self::below(home.path(), "auth")
    }

    /// The same, under another name.
    pub fn below(home: &Path, name: &str) -> Self {
        let authority = Self {
            dir: home.join(name),
        };
        authority.auth(&["init", "--name", "198.18.0.1"]);
        authority
    }

    /// `bootjack auth` with these words; what it prints.
    pub fn auth(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    pub fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(bootjack());
        command.args(["auth", "--dir"]).arg(&self.dir).args(words);
        command.output().expect("it runs")
    }

    /// `bootjack auth` with these words; what it answers to programs.
    pub fn json(&self, words: &[&str]) -> Value {
        let text = self.auth(&[words, &["--output", "json"]].concat());
        serde_json::from_str(&text).expect("JSON")
    }

    /// A certificate of this scope, named after it: its serial number.
    pub fn certificate(&self, name: &str, scope: &str) -> String {
        let made = self.json(&["issue", "--name", name, "--scope", scope]);
        made["id"].as_str().expect("an id").to_owned()
    }

    /// A token of this scope, in a file named after it: its id, and the token.
    pub fn token(&self, name: &str, scope: &str) -> (String, String) {
        let made = self.json(&["issue", "--token", "--name", name, "--scope", scope]);
        let text = |key: &str| made[key].as_str().expect("text").to_owned();
        std::fs::write(self.token_file(name), text("token")).expect("written");
        (text("id"), text("token"))
    }

    pub fn token_file(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.token"))
    }

    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The service's half.
    pub fn service(&self) -> PathBuf {
        self.dir.join("service")
    }

    pub fn client(&self, name: &str) -> (PathBuf, PathBuf) {
        let file = |ending| self.dir.join(format!("clients/{name}.{ending}"));
        (file("pem"), file("key"))
    }

    /// The service's configuration: gRPC over TLS and on the usual socket.
    pub fn config(&self, home: &Home, more: &str) -> String {
        let socket = home.api();
        let listen = format!("listen = \"{socket}\"");
        let auth = self.service().display().to_string();
        let several = format!("listen = [\"{socket}\", \"{TLS}\"]\nauth = \"{auth}\"\n{more}");
        home.config("").replace(&listen, &several)
    }

    /// `bootjack` over TLS from inside a namespace, with what proves who asks: status, standard output and error.
    pub fn ask(
        &self,
        from: &Netns,
        proof: &Proof,
        words: &[&str],
    ) -> (Option<i32>, String, String) {
        let mut command = from.command(&bootjack().display().to_string());
        command.args(["--server", &format!("https://{TLS}"), "--ca"]);
        command.arg(self.ca());
        match proof {
            Proof::Nothing => {}
            Proof::Certificate(authority, name) => {
                let (certificate, key) = authority.client(name);
                command.arg("--cert").arg(certificate);
                command.arg("--key").arg(key);
            }
            Proof::Token(name) => {
                command.arg("--token-file").arg(self.token_file(name));
            }
        }
        let output = command.args(words).output().expect("ip runs");
        let text = |octets| String::from_utf8(octets).expect("text");
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    }
}

/// What is shown of oneself.
pub enum Proof<'a> {
    Nothing,
    /// A certificate of this authority and name.
    Certificate(&'a Authority, &'a str),
    /// A token's name.
    Token(&'a str),
}
