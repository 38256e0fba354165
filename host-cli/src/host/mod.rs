//! What this computer has: QEMU, firmware, boot programs, a KVM that works. In: where to look. Out: `ArchFacts`, without a
//! judgement: `lab::plan` says what is missing.

mod firmware;
pub mod smoke;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::drivers::spec::Arch;
use crate::output::io_reason;
use crate::process;

/// Whether KVM runs the guest's instructions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kvm {
    Works,
    /// And why not.
    No(String),
    /// It was not asked for.
    NotTried,
}

/// Places of iPXE's ROM for QEMU's virtio card: Debian and Ubuntu, Fedora, Arch, Homebrew.
const ROMS: [&str; 6] = [
    "/usr/lib/ipxe/qemu/pxe-virtio.rom",
    "/usr/share/qemu/pxe-virtio.rom",
    "/usr/share/ipxe/qemu/pxe-virtio.rom",
    "/usr/share/ipxe/1af41000.rom",
    "/opt/homebrew/share/qemu/pxe-virtio.rom",
    "/usr/local/share/qemu/pxe-virtio.rom",
];

/// Pairs of code and variables without Secure Boot, which would refuse iPXE: Debian and Ubuntu, Fedora, Arch, Homebrew.
const OVMF: [(&str, &str); 7] = [
    (
        "/usr/share/OVMF/OVMF_CODE_4M.fd",
        "/usr/share/OVMF/OVMF_VARS_4M.fd",
    ),
    (
        "/usr/share/OVMF/OVMF_CODE.fd",
        "/usr/share/OVMF/OVMF_VARS.fd",
    ),
    (
        "/usr/share/edk2/ovmf/OVMF_CODE.fd",
        "/usr/share/edk2/ovmf/OVMF_VARS.fd",
    ),
    (
        "/usr/share/edk2/x64/OVMF_CODE.4m.fd",
        "/usr/share/edk2/x64/OVMF_VARS.4m.fd",
    ),
    (
        "/usr/share/edk2-ovmf/x64/OVMF_CODE.fd",
        "/usr/share/edk2-ovmf/x64/OVMF_VARS.fd",
    ),
    (
        "/opt/homebrew/share/qemu/edk2-x86_64-code.fd",
        "/opt/homebrew/share/qemu/edk2-i386-vars.fd",
    ),
    (
        "/usr/local/share/qemu/edk2-x86_64-code.fd",
        "/usr/local/share/qemu/edk2-i386-vars.fd",
    ),
];

/// As `OVMF`, for aarch64; code and variables are 64 MiB each, QEMU_EFI.fd as it is built is too short.
const AAVMF: [(&str, &str); 5] = [
    (
        "/usr/share/AAVMF/AAVMF_CODE.fd",
        "/usr/share/AAVMF/AAVMF_VARS.fd",
    ),
    (
        "/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw",
        "/usr/share/edk2/aarch64/vars-template-pflash.raw",
    ),
    (
        "/usr/share/edk2/aarch64/QEMU_CODE.fd",
        "/usr/share/edk2/aarch64/QEMU_VARS.fd",
    ),
    (
        "/opt/homebrew/share/qemu/edk2-aarch64-code.fd",
        "/opt/homebrew/share/qemu/edk2-arm-vars.fd",
    ),
    (
        "/usr/local/share/qemu/edk2-aarch64-code.fd",
        "/usr/local/share/qemu/edk2-arm-vars.fd",
    ),
];

/// Directories beyond the PATH in which programs are found.
const PROGRAM_DIRS: [&str; 5] = [
    "/usr/sbin",
    "/sbin",
    "/usr/local/bin",
    "/opt/homebrew/bin",
    "/usr/libexec",
];

/// How long the test guest may take to its first octet, QEMU's start included, and from there to its last.
const SMOKE_START: Duration = Duration::from_secs(5);
const SMOKE_RUN: Duration = Duration::from_millis(1500);

/// What there is for machines of one processor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchFacts {
    pub arch: Arch,
    pub qemu: Option<PathBuf>,
    /// QEMU's network card ROM with iPXE for BIOS.
    pub rom: Option<PathBuf>,
    /// UEFI code and the template of its variables.
    pub uefi: Option<(PathBuf, PathBuf)>,
    /// Whether this system's own way of running machines works for it.
    pub native: Kvm,
}

/// Looks for what machines of this processor need; starts a test guest for a moment if KVM is worth a try
/// and it is `wanted`.
pub async fn look(arch: Arch, wanted: bool) -> ArchFacts {
    let qemu = find_program(arch.qemu());
    let native = match (&qemu, wanted) {
        (Some(_), true) if cfg!(target_os = "macos") => hvf(arch),
        (Some(qemu), true) => try_kvm(qemu, arch).await,
        _ => Kvm::NotTried,
    };
    ArchFacts {
        arch,
        rom: first_file(ROMS),
        uefi: uefi(arch),
        qemu,
        native,
    }
}

/// The hypervisor of macOS runs machines of its own processor alone.
fn hvf(arch: Arch) -> Kvm {
    match Arch::of_host() == Some(arch) {
        true => Kvm::Works,
        false => Kvm::No(format!(
            "{} on an {} Mac",
            arch.as_str(),
            std::env::consts::ARCH
        )),
    }
}

fn uefi(arch: Arch) -> Option<(PathBuf, PathBuf)> {
    firmware::by_descriptors(arch).or_else(|| match arch {
        Arch::X86_64 => first_pair(&OVMF),
        Arch::Aarch64 => first_pair(&AAVMF),
    })
}

/// The program's file on the PATH, or where programs are that ordinary users have no PATH to.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(PROGRAM_DIRS.iter().map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// A KVM that opens may still be useless: one inside another virtual machine may run each instruction by hand. So a test guest
/// has to run at the speed of a processor.
async fn try_kvm(qemu: &Path, arch: Arch) -> Kvm {
    match Arch::of_host() {
        Some(host) if host == arch => {}
        _ => {
            let text = format!(
                "{} on an {} computer",
                arch.as_str(),
                std::env::consts::ARCH
            );
            return Kvm::No(text);
        }
    }
    let device = Path::new("/dev/kvm");
    if let Err(error) = File::options().read(true).write(true).open(device) {
        return Kvm::No(match error.kind() {
            std::io::ErrorKind::NotFound => "there is no /dev/kvm".to_owned(),
            std::io::ErrorKind::PermissionDenied => {
                "/dev/kvm is not for this user; to change that: sudo usermod -aG kvm $USER"
                    .to_owned()
            }
            _ => format!("/dev/kvm: {}", io_reason(&error)),
        });
    }
    let name = format!("bootjack-kvm-test-{}.img", std::process::id());
    let image = Forgotten(std::env::temp_dir().join(name));
    // Never through a link that somebody else has put there.
    let file = File::options().write(true).create_new(true).open(&image.0);
    if let Err(error) = file.and_then(|mut file| file.write_all(&smoke::image(arch))) {
        let file = image.0.display();
        return Kvm::No(format!("no test guest in {file}: {}", io_reason(&error)));
    }
    let arguments = smoke::arguments(arch, &image.0);
    let awaited = [(smoke::STARTED, SMOKE_START), (smoke::DONE, SMOKE_RUN)];
    let seen = process::await_octets(qemu, &arguments, &awaited).await;
    match seen {
        Ok(2) => Kvm::Works,
        Ok(1) => Kvm::No(
            "/dev/kvm is there, but ran a test guest slower than emulation would".to_owned(),
        ),
        Ok(_) => Kvm::No("/dev/kvm is there, but a test guest did not start under it".to_owned()),
        Err(reason) => Kvm::No(format!("/dev/kvm is there, but QEMU said: {reason}")),
    }
}

/// A file that is removed with this value.
struct Forgotten(PathBuf);

impl Drop for Forgotten {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A program in the directory of this one.
pub fn beside_this_program(name: &str) -> Option<PathBuf> {
    let file = std::env::current_exe().ok()?.parent()?.join(name);
    file.is_file().then_some(file)
}

fn first_file<const N: usize>(candidates: [&str; N]) -> Option<PathBuf> {
    candidates
        .iter()
        .map(PathBuf::from)
        .find(|file| file.is_file())
}

fn first_pair(candidates: &[(&str, &str)]) -> Option<(PathBuf, PathBuf)> {
    let mut pairs = candidates
        .iter()
        .map(|(code, vars)| (PathBuf::from(code), PathBuf::from(vars)));
    pairs.find(|(code, vars)| code.is_file() && vars.is_file())
}
