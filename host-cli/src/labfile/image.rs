//! `[[image]]` of a lab file: where an image is to be had that the lab's machines name, and who vouches for it. It refuses an image
//! that nobody vouches for: whoever gets the file is to have the same disk.

use super::reader::{Found, Problems, Table};
use crate::drivers::spec::Arch;
use crate::images::DiskFormat;
use crate::images::catalogue::{Source, Voucher};
use crate::images::pull::{check_url, is_safe};
use crate::images::store::check_name;

/// An image that the lab brings along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabImage {
    pub name: String,
    /// Of which machines it is; without it, of any.
    pub arch: Option<Arch>,
    pub source: Source,
    /// What it has to be; wanted for raw disks without a partition table.
    pub format: Option<DiskFormat>,
}

/// Those of the file, each once for a processor.
pub fn images(tables: Vec<Table<'_>>) -> Vec<LabImage> {
    let mut images: Vec<LabImage> = Vec::new();
    for table in tables {
        if let Some(image) = image(&table) {
            let is_same = |other: &LabImage| {
                let overlap = match (other.arch, image.arch) {
                    (Some(one), Some(other)) => one == other,
                    _ => true,
                };
                other.name == image.name && overlap
            };
            match images.iter().any(is_same) {
                true => {
                    table.wrong("another image has this name; give each its arch, or another name")
                }
                false => images.push(image),
            }
        }
        table.finish();
    }
    images
}

fn image(table: &Table<'_>) -> Option<LabImage> {
    let problems = table.problems();
    let name = required(table, "name", "name = \"debian\"");
    let name =
        name.and_then(|name| name.parsed(problems, |name| check_name(name).map(|()| name.clone())));
    let url = required(table, "url", "url = \"https://…\"");
    let url = url.and_then(|url| url.parsed(problems, |url| check_url(url)));
    let arch = table.word(
        "arch",
        &[("x86_64", Arch::X86_64), ("aarch64", Arch::Aarch64)],
    );
    let formats = [("qcow2", DiskFormat::Qcow2), ("raw", DiskFormat::Raw)];
    let format = table.word("format", &formats);
    let voucher = voucher(table, problems)?;
    Some(LabImage {
        name: name?.value,
        arch: arch.map(|arch| arch.value),
        source: Source {
            url: url?.value,
            voucher,
        },
        format: format.map(|format| format.value),
    })
}

fn required(table: &Table<'_>, key: &'static str, example: &str) -> Option<Found<String>> {
    let found = table.string(key);
    if found.is_none() {
        table.wrong(format!("it has no {key}; add: {example}"));
    }
    found
}

fn voucher(table: &Table<'_>, problems: &Problems) -> Option<Voucher> {
    let digest = table.string("digest");
    let checksums = table.string("checksums");
    match (digest, checksums) {
        (Some(digest), None) => {
            let digest = digest.parsed(problems, |text| text.parse())?;
            Some(Voucher::Digest(digest.value))
        }
        (None, Some(checksums)) => {
            let url = checksums.parsed(problems, |url| match check_url(url) {
                Ok(url) if is_safe(&url) => Ok(url),
                Ok(_) => {
                    Err("wanted https://, or somebody on the way could change them".to_owned())
                }
                Err(problem) => Err(problem),
            })?;
            Some(Voucher::Checksums(url.value))
        }
        (Some(_), Some(checksums)) => {
            checksums.wrong(
                problems,
                "there is a digest already; leave one of the two out",
            );
            None
        }
        (None, None) => {
            table.wrong("nobody vouches for what comes from there; add: digest = \"sha256:…\", or checksums = \"https://…/SHA256SUMS\"");
            None
        }
    }
}
