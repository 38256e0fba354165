//! The archive of a container image that the provisioner runs. In: a file, or where they usually are. Out: its digest and size;
//! whether it is a docker or OCI archive is podman's to say. It refuses what is no archive at all.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::drivers::spec::Arch;
use crate::exit::{Exit, Failure};
use crate::output::or_null;

/// An archive that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    pub path: PathBuf,
    /// In hexadecimal.
    pub sha256: String,
    /// Octets.
    pub size: u64,
}

impl Archive {
    /// Reads a file whole.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let path = std::path::absolute(path).map_err(Failure::io("find", path))?;
        let mut file = File::open(&path).map_err(Failure::io("read", &path))?;
        let mut head = [0; 512];
        let mut digest = Sha256::new();
        let mut size = 0;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = file.read(&mut buffer).map_err(Failure::io("read", &path))?;
            if read == 0 {
                break;
            }
            if size == 0 {
                let first = read.min(head.len());
                head[..first].copy_from_slice(&buffer[..first]);
            }
            digest.update(&buffer[..read]);
            size += read as u64;
        }
        if !is_archive(&head) {
            let text = format!(
                "{}: wanted a container image as docker save, podman save or bootjack image container write it (tar, or tar.gz)",
                path.display()
            );
            return Err(Failure::new(Exit::Invalid, text));
        }
        let sha256 = digest.finalize();
        Ok(Self {
            path,
            sha256: sha256.iter().map(|octet| format!("{octet:02x}")).collect(),
            size,
        })
    }

    /// The one that `make image` left, of this computer's programs or of the user's.
    pub fn usual(arch: Arch, images: &Path) -> Result<PathBuf, Failure> {
        let beside = std::env::current_exe().ok();
        // target/release/bootjack, target/image/bootjackd.tar
        let target = beside
            .as_deref()
            .and_then(Path::parent)
            .and_then(Path::parent);
        let made = target.map(|target| target.join("image/bootjackd.tar"));
        let kept = images.join(format!("bootjackd-{}.tar", arch.as_str()));
        let all = made.into_iter().chain([kept.clone()]);
        all.into_iter().find(|path| path.is_file()).ok_or_else(|| {
            let text = format!(
                "the lab lacks a container image of bootjackd: make one with `make image` and name it in lab.toml ([provisioner] container), or put it at {}",
                kept.display()
            );
            Failure::new(Exit::Missing, text)
        })
    }
}

/// How the container stands, as /usr/lib/bootjack/status in the machine says it. What is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// systemd's word: active, activating, inactive, failed.
    pub state: String,
    /// Why it failed, or success.
    pub result: String,
    pub restarts: String,
    /// SHA-256 of the archive that was loaded.
    pub digest: String,
    pub image: String,
    pub id: String,
    pub started: String,
    pub capabilities: Vec<String>,
}

impl Status {
    /// From lines NAME=VALUE.
    pub fn of(text: &str) -> Self {
        let mut status = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
            let value = value.trim().to_owned();
            match name {
                "state" => status.state = value,
                "result" => status.result = value,
                "restarts" => status.restarts = value,
                "digest" => status.digest = value,
                "image" => status.image = value,
                "id" => status.id = value,
                "started" => status.started = value,
                "capabilities" => {
                    let mut all: Vec<String> =
                        value.split_whitespace().map(str::to_owned).collect();
                    all.sort();
                    status.capabilities = all;
                }
                _ => {}
            }
        }
        status
    }

    /// For programs.
    pub fn as_json(&self) -> Value {
        json!({
            "state": self.state,
            "result": or_null(&self.result),
            "restarts": self.restarts.parse::<u64>().ok(),
            "archive_sha256": or_null(&self.digest),
            "image": or_null(&self.image),
            "image_id": or_null(&self.id),
            "started": or_null(&self.started),
            "capabilities": self.capabilities,
        })
    }

    /// For people.
    pub fn in_words(&self) -> String {
        match self.state.as_str() {
            "active" => format!(
                "{} (archive {}) runs since {} with {}",
                self.image,
                self.digest.get(..12).unwrap_or(&self.digest),
                self.started,
                self.capabilities.join(", ")
            ),
            state => format!(
                "{state} ({}); see: bootjack provisioner container logs",
                self.result
            ),
        }
    }
}

/// The magic of tar (POSIX ustar and GNU) or gzip.
fn is_archive(head: &[u8; 512]) -> bool {
    head[257..262] == *b"ustar" || head[..2] == [0x1f, 0x8b]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_known_by_its_octets() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, octets: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, octets).unwrap();
            path
        };
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_data(&mut tar::Header::new_gnu(), "x", &b""[..])
            .unwrap();
        let octets = tar.into_inner().unwrap();
        let archive = Archive::read(&write("i.tar", &octets)).unwrap();
        assert_eq!(archive.size, octets.len() as u64);
        assert_eq!(archive.sha256, crate::seed::digest(&octets));
        for (name, octets) in [("empty", &b""[..]), ("text", b"#!/bin/sh\n")] {
            let refused = Archive::read(&write(name, octets)).unwrap_err();
            assert_eq!(refused.exit, Exit::Invalid);
        }
        assert!(Archive::read(&dir.path().join("nowhere")).is_err());
    }

    #[test]
    fn a_container_is_shown_as_it_stands() {
        let status = Status::of(
            "state=active\nresult=success\nrestarts=0\ndigest=3fa3f038cc35ac0de6ac\nimage=localhost/bootjackd:current\nid=bf3f\nstarted=2026-11-21T15:05:59Z\ncapabilities=CAP_NET_RAW CAP_NET_BIND_SERVICE \n",
        );
        assert_eq!(
            status.in_words(),
            "localhost/bootjackd:current (archive 3fa3f038cc35) runs since 2026-11-21T15:05:59Z with CAP_NET_BIND_SERVICE, CAP_NET_RAW"
        );
        assert_eq!(status.as_json()["restarts"], 0);
        let failed = Status::of("state=failed\nresult=exit-code\nrestarts=3\n");
        assert!(failed.in_words().starts_with("failed (exit-code); "));
        assert!(failed.as_json()["image"].is_null());
    }
}
