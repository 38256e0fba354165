//! Images that have names everywhere. In: a name, an architecture. Out: where the image is to be had, and what it has to be. The
//! list is part of the program (`catalogue.toml`), so that a name means the same to everybody who has the same Bootjack.

use std::sync::LazyLock;

use serde::Deserialize;

use super::digest::Digest;
use crate::drivers::spec::Arch;

/// One image.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    pub name: String,
    /// For people.
    pub title: String,
    boot: Vec<String>,
    /// Whether it configures itself by cloud-init.
    pub cloud_init: bool,
    #[serde(rename = "source")]
    sources: Vec<ListedSource>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListedSource {
    arch: String,
    url: String,
    digest: Option<String>,
    checksums: Option<String>,
}

/// Where a file is, and what vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub url: String,
    pub voucher: Voucher,
}

/// What a downloaded file is held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Voucher {
    Digest(Digest),
    /// The URL of a file of checksums that names the file.
    Checksums(String),
    /// Nothing: somebody has said that this will do.
    Nobody,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    image: Vec<Listed>,
}

static LIST: LazyLock<Vec<Listed>> = LazyLock::new(|| {
    let file: File = toml::from_str(include_str!("catalogue.toml"))
        .expect("the list is part of the program, and a test reads it");
    file.image
});

/// All.
pub fn all() -> &'static [Listed] {
    &LIST
}

/// The image of this name.
pub fn find(name: &str) -> Option<&'static Listed> {
    LIST.iter().find(|image| image.name == name)
}

/// Names that somebody may have meant.
pub fn similar(name: &str) -> Option<&'static str> {
    let scored = LIST.iter().map(|image| {
        let score = match image.name.starts_with(name) {
            true => 1.0,
            false => strsim::jaro_winkler(&image.name, name),
        };
        (score, image.name.as_str())
    });
    scored
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

impl Listed {
    /// Where it is to be had for this architecture, in the order to try; none if it is not.
    pub fn sources(&self, arch: Arch) -> Vec<Source> {
        let fits = self.sources.iter().filter(|s| s.arch == arch.as_str());
        fits.map(|source| Source {
            url: source.url.clone(),
            voucher: match (&source.digest, &source.checksums) {
                (Some(digest), _) => {
                    Voucher::Digest(digest.parse().expect("a test reads every digest"))
                }
                (None, Some(url)) => Voucher::Checksums(url.clone()),
                (None, None) => unreachable!("a test looks for a voucher of every source"),
            },
        })
        .collect()
    }

    pub fn archs(&self) -> Vec<Arch> {
        [Arch::X86_64, Arch::Aarch64]
            .into_iter()
            .filter(|arch| self.sources.iter().any(|s| s.arch == arch.as_str()))
            .collect()
    }

    /// Firmware it boots from, `uefi` or `bios`.
    pub fn boot(&self, arch: Arch) -> Vec<String> {
        let fits = |firmware: &&String| arch == Arch::X86_64 || *firmware == "uefi";
        self.boot.iter().filter(fits).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::store::check_name;

    #[test]
    fn every_entry_is_whole_and_vouched_for() {
        for image in all() {
            check_name(&image.name).unwrap();
            assert!(
                !image.title.is_empty() && !image.boot.is_empty(),
                "{}",
                image.name
            );
            for firmware in &image.boot {
                assert!(matches!(firmware.as_str(), "uefi" | "bios"), "{firmware}");
            }
            for source in &image.sources {
                let vouchers = [&source.digest, &source.checksums];
                assert_eq!(vouchers.iter().filter(|v| v.is_some()).count(), 1);
                assert!(matches!(source.arch.as_str(), "x86_64" | "aarch64"));
                // A checksum that anybody on the way may change vouches for nothing.
                for url in [Some(&source.url), source.checksums.as_ref()]
                    .into_iter()
                    .flatten()
                {
                    assert!(url.starts_with("https://"), "{url}");
                }
                let names = match source.arch.as_str() {
                    "x86_64" => ["amd64", "x86_64"],
                    _ => ["arm64", "aarch64"],
                };
                assert!(
                    names.iter().any(|name| source.url.contains(name)),
                    "{}",
                    source.url
                );
            }
            assert!(!image.archs().is_empty());
            for arch in image.archs() {
                assert!(!image.sources(arch).is_empty());
                assert!(!image.boot(arch).is_empty(), "{}", image.name);
            }
        }
        let mut names: Vec<&str> = all().iter().map(|image| image.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all().len());
    }

    #[test]
    fn the_distributions_of_the_manual_are_there_for_both_architectures() {
        for name in [
            "ubuntu-24.04",
            "debian-12-generic",
            "debian-12-genericcloud",
            "debian-12-nocloud",
            "fedora-43",
            "alpine-3.23",
        ] {
            let archs = find(name).unwrap().archs();
            assert_eq!(archs, [Arch::X86_64, Arch::Aarch64], "{name}");
        }
        assert!(!find("debian-12-nocloud").unwrap().cloud_init);
        assert_eq!(find("ubuntu-24.04").unwrap().boot(Arch::Aarch64), ["uefi"]);
    }

    #[test]
    fn a_name_that_is_nearly_right_is_recognised() {
        assert_eq!(similar("ubuntu-2404"), Some("ubuntu-24.04"));
        assert!(similar("debian-12").unwrap().starts_with("debian-12-"));
        assert_eq!(similar("windows"), None);
    }
}
