//! Which files of an installation medium boot. In: a path inside it. Out: whether it is a kernel or an initial RAM disk, by the
//! names that distributions give them.

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Kernel,
    Initrd,
}

/// The kind of file at this path, if it boots.
pub fn kind_of(path: &str) -> Option<Kind> {
    let file = path.rsplit('/').next()?.to_ascii_lowercase();
    let is_beside = [
        ".sig", ".asc", ".sha256", ".sha512", ".md5", ".txt", ".cfg", ".img.p7s",
    ];
    if is_beside.iter().any(|end| file.ends_with(end)) {
        return None;
    }
    // debian-installer's netboot.tar.gz has `linux`; Fedora and Alpine have vmlinuz, some others bzImage.
    if file == "linux" || file == "bzimage" || file.starts_with("vmlinuz") {
        Some(Kind::Kernel)
    } else if file.starts_with("initrd") || file.starts_with("initramfs") {
        Some(Kind::Initrd)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_and_initrds_are_known_by_the_names_that_distributions_give_them() {
        for kernel in [
            "install.amd/vmlinuz",
            "casper/vmlinuz",
            "images/pxeboot/vmlinuz",
            "boot/vmlinuz-lts",
            "debian-installer/amd64/linux",
        ] {
            assert_eq!(kind_of(kernel), Some(Kind::Kernel), "{kernel}");
        }
        for initrd in [
            "install.amd/initrd.gz",
            "casper/initrd",
            "images/pxeboot/initrd.img",
            "boot/initramfs-lts",
        ] {
            assert_eq!(kind_of(initrd), Some(Kind::Initrd), "{initrd}");
        }
        for other in [
            "vmlinuz.sig",
            "initrd.img.sha256",
            "pool/linux-image.deb",
            "isolinux/linux.cfg",
            "",
            "vmlinuz/",
        ] {
            assert_eq!(kind_of(other), None, "{other}");
        }
    }
}
