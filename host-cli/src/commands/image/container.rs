//! `bootjack image container`: the container image of bootjackd, from a program and boot programs that are there already.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use oci_spec::image::Arch as ImageArch;

use crate::cli::ContainerArgs;
use crate::container::{self, Image};
use crate::drivers::spec::Arch;
use crate::exit::{Exit, Failure};
use crate::files::write_whole;
use crate::output;

/// Where Linux distributions and macOS keep what certificates are checked against; the first that is there is taken.
const CERTIFICATES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

pub fn run(args: &ContainerArgs) -> Result<(), Failure> {
    let program = read(&args.program)?;
    refuse_what_cannot_run(&program, args)?;
    let certificates = match &args.certificates {
        Some(path) => Some(read(path)?),
        None => CERTIFICATES.iter().find_map(|path| fs::read(path).ok()),
    };
    let entries = container::entries(program, boot_programs(&args.boot_programs)?, certificates);
    let image = Image {
        name: args.name.clone(),
        version: args.tag.clone(),
        arch: match args.arch {
            Arch::X86_64 => ImageArch::Amd64,
            Arch::Aarch64 => ImageArch::ARM64,
        },
    };
    let archive = container::pack(&image, &entries).map_err(failed)?;
    write_whole(&args.to, &archive)?;
    output::say(&format!(
        "made {} ({:.1} MB), image {}:{} for {}; load it with: docker load -i {0}",
        args.to.display(),
        archive.len() as f64 / 1e6,
        image.name,
        image.version,
        image.arch,
    ))
}

/// Looks at the ELF header: the machine it is for, and whether it needs a loader, which the image does not have.
fn refuse_what_cannot_run(program: &[u8], args: &ContainerArgs) -> Result<(), Failure> {
    let invalid = |problem: String| {
        Err(Failure::new(
            Exit::Invalid,
            format!("{}: {problem}", args.program.display()),
        ))
    };
    let (wanted, name) = match args.arch {
        Arch::X86_64 => (62, "x86_64"),
        Arch::Aarch64 => (183, "aarch64"),
    };
    let half = |at: usize| {
        Some(u16::from_le_bytes([
            *program.get(at)?,
            *program.get(at + 1)?,
        ]))
    };
    let is_elf = program.starts_with(b"\x7fELF\x02\x01");
    match half(18) {
        Some(machine) if is_elf && machine == wanted => {}
        _ => {
            return invalid(format!(
                "wanted a Linux program (ELF) for {name}; build it with: make image ARCH={name}"
            ));
        }
    }
    let word = |at: usize| {
        let octets = program.get(at..at + 8)?;
        Some(u64::from_le_bytes(octets.try_into().ok()?))
    };
    let (table, size, count) = (word(32), half(54), half(56));
    if let (Some(table), Some(size), Some(count)) = (table, size, count) {
        for number in 0..u64::from(count) {
            let at = table + number * u64::from(size);
            // PT_INTERP: it names a loader.
            let kind = usize::try_from(at)
                .ok()
                .and_then(|at| program.get(at..at + 4));
            if kind == Some(&[3, 0, 0, 0]) {
                return invalid(
                    "it needs libraries, and the image has none; build it static with: make image"
                        .to_owned(),
                );
            }
        }
    }
    Ok(())
}

/// The network boot programs of a directory.
fn boot_programs(directory: &Path) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let unread = |error: std::io::Error| {
        Failure::new(Exit::Missing, format!("{}: {error}", directory.display()))
    };
    let is_program = |path: &Path| {
        let ending = path.extension().and_then(OsStr::to_str);
        matches!(ending, Some("efi" | "kpxe" | "pxe" | "0"))
    };
    let mut programs = Vec::new();
    for entry in fs::read_dir(directory).map_err(unread)? {
        let path = entry.map_err(unread)?.path();
        if let Some(name) = path.file_name().and_then(OsStr::to_str)
            && is_program(&path)
        {
            programs.push((name.to_owned(), read(&path)?));
        }
    }
    if programs.is_empty() {
        return Err(Failure::new(
            Exit::Missing,
            format!(
                "{}: wanted network boot programs (*.efi, *.kpxe), got none; make them with: ipxe/programs.sh",
                directory.display()
            ),
        ));
    }
    programs.sort();
    Ok(programs)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path)
        .map_err(|error| Failure::new(Exit::Missing, format!("{}: {error}", path.display())))
}

fn failed(problem: String) -> Failure {
    Failure::new(Exit::Failed, problem)
}
