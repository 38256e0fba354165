//! `images.json`: which name is which content. In: the file. Out: the images; or, changed, the file again. It refuses a file of a
//! newer Bootjack, and one that it does not understand, and then changes nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::exit::{Exit, Failure};
use crate::files;
use crate::images::format::DiskFormat;

const VERSION: u32 = 1;

/// The file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    version: u32,
    pub images: Vec<Entry>,
}

/// One image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub name: String,
    /// Of the machines it is for, such as `x86_64`.
    pub arch: Option<String>,
    /// Of the file as it is kept: where it is.
    pub sha256: String,
    pub format: DiskFormat,
    /// Octets that a machine sees.
    pub virtual_size: u64,
    /// Octets of the file.
    pub size: u64,
    /// A URL, or a path.
    pub origin: String,
    /// The digest that its publisher gave, and that it has; nothing if nobody vouches for it.
    pub verified: Option<String>,
    /// Firmware it boots from, `uefi` or `bios`, or both.
    #[serde(default)]
    pub boot: Vec<String>,
    /// Whether it configures itself by cloud-init, as far as that is known.
    pub cloud_init: Option<bool>,
    /// Seconds since 1970.
    pub added: u64,
}

impl Index {
    /// Without a file there are no images.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self {
                    version: VERSION,
                    images: Vec::new(),
                });
            }
            Err(error) => return Err(Failure::io("read", path)(error)),
        };
        let invalid = |problem: String| {
            let text = format!("{}: {problem}", path.display());
            Failure::new(Exit::Invalid, text)
        };
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let found: Version = serde_json::from_slice(&text).map_err(|error| {
            invalid(format!(
                "wanted the list of images, got something else ({error}); move it away and import the images again, their files are in blobs/sha256"
            ))
        })?;
        if found.version != VERSION {
            return Err(invalid(format!(
                "wanted version {VERSION}, got {}; a newer bootjack wrote it: use that one",
                found.version
            )));
        }
        serde_json::from_slice(&text).map_err(|error| invalid(error.to_string()))
    }

    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        let mut text = serde_json::to_vec_pretty(self).expect("it has no maps with odd keys");
        text.push(b'\n');
        files::write_whole(path, &text)
    }

    /// Puts it in the place of the one with its name and architecture, if there is one; sorted.
    pub fn put(&mut self, entry: Entry) {
        self.images
            .retain(|old| (&old.name, &old.arch) != (&entry.name, &entry.arch));
        self.images.push(entry);
        self.images
            .sort_by(|a, b| (&a.name, &a.arch).cmp(&(&b.name, &b.arch)));
    }

    /// Whether an image has this content.
    pub fn names(&self, sha256: &str) -> bool {
        self.images.iter().any(|image| image.sha256 == sha256)
    }
}

impl Entry {
    /// Where its content is, in the store's directory.
    pub fn blob(&self) -> PathBuf {
        PathBuf::from("blobs/sha256").join(&self.sha256)
    }

    /// With its architecture, for people.
    pub fn title(&self) -> String {
        match &self.arch {
            Some(arch) => format!("{} ({arch})", self.name),
            None => self.name.clone(),
        }
    }
}

/// Names are file names without surprises: they stand in URLs, tables and shells.
pub fn check_name(name: &str) -> Result<(), String> {
    let starts = name.starts_with(|first: char| first.is_ascii_alphanumeric());
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "._-+".contains(letter);
    match starts && name.len() <= 64 && name.chars().all(allowed) {
        true => Ok(()),
        false => Err(format!(
            "wanted a name of at most 64 letters, digits, '.', '_', '+' and '-' that begins with a letter or digit, got '{name}'"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, arch: Option<&str>, sha256: &str) -> Entry {
        Entry {
            name: name.to_owned(),
            arch: arch.map(str::to_owned),
            sha256: sha256.to_owned(),
            format: DiskFormat::Qcow2,
            virtual_size: 1 << 30,
            size: 5,
            origin: "/tmp/a".to_owned(),
            verified: None,
            boot: vec!["uefi".to_owned()],
            cloud_init: None,
            added: 1,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("images.json");
        let mut index = Index::read(&path).unwrap();
        assert!(index.images.is_empty());
        index.put(entry("b", Some("x86_64"), "1"));
        index.put(entry("a", None, "2"));
        index.put(entry("b", Some("aarch64"), "3"));
        index.put(entry("b", Some("x86_64"), "4"));
        index.write(&path).unwrap();
        let read = Index::read(&path).unwrap();
        assert_eq!(read, index);
        let contents: Vec<&str> = read.images.iter().map(|i| i.sha256.as_str()).collect();
        assert_eq!(contents, ["2", "3", "4"]);
        assert!(read.names("3") && !read.names("1"));
    }

    #[test]
    fn a_list_of_a_newer_version_or_of_something_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("images.json");
        for (text, wanted) in [
            (r#"{"version":2,"pictures":[]}"#, "wanted version 1, got 2"),
            ("not json", "wanted the list of images"),
            (r#"{"version":1,"images":[{"name":"a"}]}"#, "missing field"),
        ] {
            fs::write(&path, text).unwrap();
            let failure = Index::read(&path).unwrap_err();
            assert_eq!(failure.exit, Exit::Invalid);
            assert!(failure.message.contains(wanted), "{failure}");
        }
    }

    #[test]
    fn names_are_plain() {
        for name in ["debian-12", "a", "Fedora-43.1_x", "c++"] {
            check_name(name).unwrap();
        }
        let long = "a".repeat(65);
        for name in ["", "../a", "a/b", ".hidden", "-o", "a b", &long, "ä"] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
