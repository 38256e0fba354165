//! The guest that KVM is tried with. In: a processor. Out: an image of a few instructions, and QEMU's arguments that run it.

use std::path::Path;

use crate::drivers::qemu;
use crate::drivers::spec::Arch;

/// First octet the test guest writes to its serial port; no text contains it.
pub const STARTED: u8 = 0xf1;
/// Octet it writes after 200 million turns of an empty loop: a blink on a real KVM, ten seconds where one only emulates.
pub const DONE: u8 = 0xf2;

/// The arguments that start the test guest under KVM; it answers on standard output.
pub fn arguments(arch: Arch, image: &Path) -> Vec<String> {
    let (machine, cpu) = qemu::processor(arch, qemu::Accel::Kvm, false);
    let image = qemu::value(image);
    let words = [
        "-nodefaults -no-user-config -display none -monitor none -m 64".to_owned(),
        format!("-machine {machine} -accel kvm -cpu {cpu}"),
        // signal=off: Ctrl-C is for Bootjack, not for QEMU.
        "-chardev stdio,id=console,signal=off -serial chardev:console".to_owned(),
    ];
    let mut arguments: Vec<String> = words
        .iter()
        .flat_map(|words| words.split(' '))
        .map(str::to_owned)
        .collect();
    let devices = match arch {
        Arch::X86_64 => [
            (
                "-drive",
                format!("if=none,id=d,format=raw,readonly=on,file={image}"),
            ),
            ("-device", "virtio-blk-pci,drive=d,bootindex=0".to_owned()),
        ],
        // Behind the device tree, which takes the first MiB of memory; the processor starts there.
        Arch::Aarch64 => [
            (
                "-device",
                format!("loader,file={image},addr=0x40200000,force-raw=on"),
            ),
            ("-device", "loader,addr=0x40200000,cpu-num=0".to_owned()),
        ],
    };
    for (flag, value) in devices {
        arguments.extend([flag.to_owned(), value]);
    }
    arguments
}

/// A guest that needs no operating system: a boot sector on x86_64, plain code on aarch64.
pub fn image(arch: Arch) -> Vec<u8> {
    match arch {
        Arch::X86_64 => {
            let mut sector = vec![
                0xfa, // cli
                0xba, 0xf8, 0x03, // mov dx, 0x3f8
                0xb0, STARTED, 0xee, // mov al, …; out dx, al
                0x66, 0xb9, 0x00, 0xc2, 0xeb, 0x0b, // mov ecx, 200_000_000
                0x66, 0x49, 0x75, 0xfc, // dec ecx; jnz
                0xb0, DONE, 0xee, // mov al, …; out dx, al
                0xf4, 0xeb, 0xfd, // hlt; again
            ];
            sector.resize(510, 0);
            sector.extend([0x55, 0xaa]);
            // A disk of one sector is too small for some firmware.
            sector.resize(1 << 20, 0);
            sector
        }
        Arch::Aarch64 => {
            let octet = |octet: u8| 0x5280_0001 | u32::from(octet) << 5; // mov w1, …
            let code = [
                0xd2a1_2000, // mov x0, 0x0900_0000: the serial port of QEMU's `virt`
                octet(STARTED),
                0x3900_0001, // strb w1, [x0]
                0xd298_4002, // movz x2, 0xc200
                0xf2a1_7d62, // movk x2, 0x0beb, lsl 16: 200_000_000
                0xf100_0442, // subs x2, x2, 1
                0x54ff_ffe1, // b.ne
                octet(DONE),
                0x3900_0001, // strb w1, [x0]
                0x1400_0000, // b .
            ];
            code.into_iter().flat_map(u32::to_le_bytes).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_guest_is_a_bootable_sector_or_plain_code() {
        let sector = image(Arch::X86_64);
        assert_eq!(sector[510..512], [0x55, 0xaa]);
        assert_eq!(sector[9..13], 200_000_000u32.to_le_bytes());
        assert_eq!(image(Arch::Aarch64).len(), 40);
    }
}
