//! Client system architecture (DHCP option 93, RFC 4578 §2.1, IANA "Processor Architecture Types").

use std::fmt;

use serde::{Deserialize, Serialize};

/// The number a client sends in option 93.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClientArch(pub u16);

/// The processor that a boot program or kernel is built for; profiles have a section for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cpu {
    /// 32-bit x86.
    #[serde(rename = "i386")]
    I386,
    /// 64-bit x86.
    #[serde(rename = "x86_64")]
    X86_64,
    /// 32-bit ARM.
    Arm,
    /// 64-bit ARM.
    #[serde(rename = "aarch64")]
    Aarch64,
    /// 64-bit RISC-V.
    #[serde(rename = "riscv64")]
    Riscv64,
    /// 64-bit LoongArch.
    #[serde(rename = "loongarch64")]
    Loongarch64,
}

/// How the machine's firmware boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    /// A PC BIOS with a PXE option ROM.
    Bios,
    /// UEFI.
    Uefi,
}

impl ClientArch {
    /// What the number means; nothing for what Bootjack has no program for.
    ///
    /// 7 and 9 are both taken as x64 UEFI: RFC 4578 and its erratum swap them, and real firmware sends either.
    pub fn platform(self) -> Option<(Cpu, Firmware)> {
        Some(match self.0 {
            // A 64-bit processor is assumed behind a BIOS: option 93 does not tell, and none other is sold.
            0x00 | 0x14 => (Cpu::X86_64, Firmware::Bios),
            0x06 | 0x0f => (Cpu::I386, Firmware::Uefi),
            0x07 | 0x09 | 0x10 | 0x11 => (Cpu::X86_64, Firmware::Uefi),
            0x0a | 0x12 => (Cpu::Arm, Firmware::Uefi),
            0x0b | 0x13 => (Cpu::Aarch64, Firmware::Uefi),
            0x1b | 0x1c => (Cpu::Riscv64, Firmware::Uefi),
            0x27 | 0x28 => (Cpu::Loongarch64, Firmware::Uefi),
            _ => return None,
        })
    }

    /// The firmware fetches its boot program by HTTP and wants a URL (UEFI HTTP boot; 0x14 is its BIOS kin).
    pub fn boots_from_http(self) -> bool {
        matches!(
            self.0,
            0x0f | 0x10
                | 0x11
                | 0x12
                | 0x13
                | 0x14
                | 0x17
                | 0x18
                | 0x1a
                | 0x1c
                | 0x1e
                | 0x26
                | 0x28
        )
    }
}

impl fmt::Display for ClientArch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.platform() {
            Some((cpu, firmware)) => write!(f, "{:#06x} ({cpu} {firmware})", self.0),
            None => write!(f, "{:#06x}", self.0),
        }
    }
}

impl Cpu {
    /// Every processor, in the order of the documentation.
    pub const ALL: [Self; 6] = [
        Self::X86_64,
        Self::Aarch64,
        Self::I386,
        Self::Arm,
        Self::Riscv64,
        Self::Loongarch64,
    ];

    /// The name used in profiles and URLs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::I386 => "i386",
            Self::X86_64 => "x86_64",
            Self::Arm => "arm",
            Self::Aarch64 => "aarch64",
            Self::Riscv64 => "riscv64",
            Self::Loongarch64 => "loongarch64",
        }
    }

    /// The processor of this name; iPXE's own word for 64-bit ARM (`arm64`, its `${buildarch}`) is understood too.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "arm64" => Some(Self::Aarch64),
            "loong64" => Some(Self::Loongarch64),
            _ => Self::ALL.into_iter().find(|cpu| cpu.as_str() == name),
        }
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Firmware {
    /// The name used in URLs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bios => "bios",
            Self::Uefi => "uefi",
        }
    }

    /// The firmware of this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Bios, Self::Uefi]
            .into_iter()
            .find(|firmware| firmware.as_str() == name)
    }
}

impl fmt::Display for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
