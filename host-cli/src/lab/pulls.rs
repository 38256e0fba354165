//! Where an image comes from that a lab names and this computer does not have: pure. In: the lab, a name, a processor. Out: what is to
//! be pulled; nothing if nobody says where. The lab's own `[[image]]` goes before the list that comes with bootjack.

use crate::drivers::spec::Arch;
use crate::exit::Failure;
use crate::images::catalogue;
use crate::images::catalogue::Voucher;
use crate::images::digest::Digest;
use crate::images::pull::Wanted;
use crate::labfile::{Lab, LabImage};

/// What is to be pulled. Refuses an image of the list that is not there for the processor.
pub fn wanted(lab: &Lab, name: &str, arch: Arch) -> Result<Option<Wanted>, Failure> {
    if let Some(image) = own(lab, name, arch) {
        return Ok(Some(Wanted {
            name: image.name.clone(),
            arch: image.arch.or(Some(arch)),
            sources: vec![image.source.clone()],
            boot: Vec::new(),
            cloud_init: None,
            says: image.format,
            // It may be that of another lab.
            replace: false,
        }));
    }
    let listed = catalogue::find(name);
    listed
        .map(|listed| Wanted::listed(listed, arch))
        .transpose()
}

/// What the lab says that an image is.
pub fn digest<'a>(lab: &'a Lab, name: &str, arch: Arch) -> Option<&'a Digest> {
    match &own(lab, name, arch)?.source.voucher {
        Voucher::Digest(digest) => Some(digest),
        Voucher::Checksums(_) | Voucher::Nobody => None,
    }
}

fn own<'a>(lab: &'a Lab, name: &str, arch: Arch) -> Option<&'a LabImage> {
    let fits = |image: &&LabImage| image.name == name && image.arch.is_none_or(|its| its == arch);
    lab.images.iter().find(fits)
}

/// What to do about an image that nobody says where to get.
pub fn advice(name: &str, machine: &str) -> String {
    let meant = catalogue::similar(name)
        .map_or_else(String::new, |similar| format!("; did you mean {similar}?"));
    format!(
        "image {name} of {machine}: it is not among `bootjack image list`, nor can it be had by that name{meant}; take yours in with: bootjack image import FILE --name {name}"
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn lab(images: &str) -> Lab {
        let text = format!("version = 1\n{images}");
        crate::labfile::read(&text, Path::new("/home/me/demo")).unwrap()
    }

    #[test]
    fn the_labs_own_image_goes_before_the_list() {
        let lab = lab(&format!(
            "[[image]]\nname = \"debian-12-generic\"\narch = \"x86_64\"\nurl = \"https://h.example/d.qcow2\"\ndigest = \"{DIGEST}\"\n"
        ));
        let from = |arch| {
            let wanted = wanted(&lab, "debian-12-generic", arch).unwrap().unwrap();
            wanted.from().to_owned()
        };
        assert_eq!(from(Arch::X86_64), "https://h.example/d.qcow2");
        assert!(from(Arch::Aarch64).starts_with("https://cloud.debian.org/"));
        let known = digest(&lab, "debian-12-generic", Arch::X86_64);
        assert_eq!(known.unwrap().hex(), DIGEST);
        assert_eq!(digest(&lab, "debian-12-generic", Arch::Aarch64), None);
    }

    #[test]
    fn what_nobody_knows_is_not_pulled_and_what_was_meant_is_said() {
        let lab = lab("");
        let is_known = wanted(&lab, "debian-99", Arch::X86_64).unwrap().is_some();
        assert!(!is_known);
        assert!(advice("ubuntu-2404", "edge").contains("did you mean ubuntu-24.04?"));
        assert!(!advice("windows", "edge").contains("did you mean"));
    }
}
