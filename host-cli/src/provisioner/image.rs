//! The provisioner's image: a directory with a kernel, its initramfs, a root file system, and image.json, which says what they
//! are, as `bootjack image build provisioner` makes it; or a disk image for clouds, which boots by itself.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::drivers::spec::{Arch, DiskFormat};
use crate::exit::{Exit, Failure};
use crate::lab::plan::FoundImage;

/// What says that a directory is such an image.
const DESCRIPTION: &str = "image.json";
const KIND: &str = "bootjack-provisioner";

/// An image that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub arch: Arch,
    /// None: its root is a whole disk, with a boot loader on it.
    pub kernel: Option<Kernel>,
    /// Never written to.
    pub root: PathBuf,
    pub format: DiskFormat,
    /// Another for another image.
    pub digest: String,
}

/// What starts an image of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    pub kernel: PathBuf,
    pub initrd: PathBuf,
}

#[derive(Deserialize)]
struct Described {
    kind: String,
    version: u32,
    arch: String,
    kernel: Part,
    initrd: Part,
    root: Part,
}

#[derive(Deserialize)]
struct Part {
    file: String,
    sha256: String,
}

/// Where an image for this processor is built to and looked for, among all images.
pub fn usual(images: &Path, arch: Arch) -> PathBuf {
    images.join(format!("provisioner-{}", arch.as_str()))
}

impl Image {
    /// A cloud image.
    pub fn cloud(arch: Arch, found: &FoundImage) -> Result<Self, Failure> {
        let path = &found.path;
        let facts = std::fs::metadata(path).map_err(Failure::io("read", path))?;
        let changed = facts.modified().ok();
        let since = changed.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        // Half a gigabyte is not read at every start to learn that it is as it was.
        let what = format!(
            "{} {} {}",
            path.display(),
            facts.len(),
            since.map_or(0, |since| since.as_nanos())
        );
        Ok(Self {
            arch,
            kernel: None,
            root: path.clone(),
            format: found.format,
            digest: crate::seed::digest(what.as_bytes()),
        })
    }

    /// Reads what is in a directory.
    pub fn open(directory: &Path) -> Result<Self, Failure> {
        let path = directory.join(DESCRIPTION);
        let text = std::fs::read_to_string(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Failure::new(
                Exit::NotFound,
                format!(
                    "there is no provisioner image in {}; make it with: bootjack image build provisioner",
                    directory.display()
                ),
            ),
            _ => Failure::io("read", &path)(error),
        })?;
        let image = Self::of(&text, directory)
            .map_err(|why| Failure::new(Exit::Invalid, format!("{}: {why}", path.display())))?;
        let kernel = image.kernel.iter();
        let parts = kernel.flat_map(|kernel| [&kernel.kernel, &kernel.initrd]);
        for part in parts.chain([&image.root]) {
            if !part.exists() {
                let text = format!(
                    "{} is missing; make the image again with: bootjack image build provisioner",
                    part.display()
                );
                return Err(Failure::new(Exit::NotFound, text));
            }
        }
        Ok(image)
    }

    /// By the text of its image.json.
    fn of(text: &str, directory: &Path) -> Result<Self, String> {
        let described: Described = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if (described.kind.as_str(), described.version) != (KIND, 1) {
            return Err(format!(
                "wanted kind {KIND}, version 1, got {}, {}",
                described.kind, described.version
            ));
        }
        let arch = match described.arch.as_str() {
            "x86_64" => Arch::X86_64,
            "aarch64" => Arch::Aarch64,
            other => return Err(format!("wanted arch x86_64 or aarch64, got {other}")),
        };
        let Described {
            kernel,
            initrd,
            root,
            ..
        } = described;
        let parts = [&kernel, &initrd, &root];
        let digests = parts.map(|part| part.sha256.as_str()).join(" ");
        // A name, and not a way out of the directory.
        if parts.iter().any(|part| part.file.contains('/')) {
            return Err("wanted names of files in the same directory".to_owned());
        }
        Ok(Self {
            arch,
            kernel: Some(Kernel {
                kernel: directory.join(&kernel.file),
                initrd: directory.join(&initrd.file),
            }),
            root: directory.join(&root.file),
            format: DiskFormat::Qcow2,
            digest: crate::seed::digest(digests.as_bytes()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"kind": "bootjack-provisioner", "version": 1, "arch": "x86_64", "distribution": "debian bookworm",
        "kernel": {"file": "vmlinuz", "sha256": "aa", "release": "6.1.0"}, "initrd": {"file": "initrd.img", "sha256": "bb"},
        "root": {"file": "root.qcow2", "sha256": "cc", "format": "qcow2"}, "recipe": "dd"}"#;

    #[test]
    fn an_image_is_what_its_description_says() {
        let image = Image::of(TEXT, Path::new("/images/p")).unwrap();
        assert_eq!(image.kernel.unwrap().kernel, Path::new("/images/p/vmlinuz"));
        let other = Image::of(&TEXT.replace("cc", "ce"), Path::new("/images/p")).unwrap();
        assert_ne!(image.digest, other.digest);
    }

    #[test]
    fn other_descriptions_are_refused() {
        for (from, to) in [
            ("\"version\": 1", "\"version\": 2"),
            ("bootjack-provisioner", "cloud"),
            ("x86_64", "riscv64"),
            ("vmlinuz", "../vmlinuz"),
        ] {
            assert!(
                Image::of(&TEXT.replace(from, to), Path::new("/i")).is_err(),
                "{to}"
            );
        }
        let missing = Image::open(Path::new("/nowhere")).unwrap_err();
        assert_eq!(missing.exit, Exit::NotFound);
        assert!(
            missing
                .message
                .ends_with("bootjack image build provisioner")
        );
    }
}
