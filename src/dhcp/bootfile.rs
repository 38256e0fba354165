//! Which boot file a machine is sent. In: what its packet says of it, and which network boot programs there are. Out: a program
//! over TFTP or HTTP, a boot script for a machine that already runs iPXE, or nothing.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::request::Request;
use crate::model::{ClientArch, Cpu, Firmware, MacAddr};

/// What the options 66, 67 and 60 and the fields `siaddr` and `file` are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bootfile {
    /// The name of a network boot program, fetched by TFTP from the server.
    Tftp(String),
    /// A network boot program's URL, for firmware that boots by HTTP.
    HttpProgram(String),
    /// The URL of the machine's boot script, for iPXE.
    Script(String),
}

/// Where boot files are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootServers {
    /// Names of the files among the network boot programs.
    pub programs: BTreeSet<String>,
    /// The port of the HTTP server; its address is the one the client sees the server under.
    pub http_port: u16,
    /// The HTTP server's address, where it listens on one alone.
    pub http_address: Option<Ipv4Addr>,
}

/// Programs by what runs them, the first that is there is sent. `snponly` drives the card through the firmware, which works on
/// every card that the firmware could boot from; `undionly` does the same through a PXE ROM. Names are those of Debian's and
/// Fedora's packages and of iPXE's own build.
pub const PROGRAMS: [(Cpu, Firmware, &[&str]); 7] = [
    (Cpu::X86_64, Firmware::Bios, &["undionly.kpxe", "ipxe.pxe"]),
    (
        Cpu::X86_64,
        Firmware::Uefi,
        &[
            "snponly.efi",
            "ipxe-snponly-x86_64.efi",
            "ipxe.efi",
            "ipxe-amd64.efi",
            "ipxe-x86_64.efi",
        ],
    ),
    (
        Cpu::Aarch64,
        Firmware::Uefi,
        &[
            "snponly-arm64.efi",
            "arm64/snponly.efi",
            "ipxe-arm64.efi",
            "arm64/ipxe.efi",
        ],
    ),
    (
        Cpu::I386,
        Firmware::Uefi,
        &["ipxe-i386.efi", "i386/snponly.efi", "ipxe32.efi"],
    ),
    (
        Cpu::Arm,
        Firmware::Uefi,
        &["ipxe-arm32.efi", "arm32/snponly.efi"],
    ),
    (
        Cpu::Riscv64,
        Firmware::Uefi,
        &["ipxe-riscv64.efi", "riscv64/snponly.efi"],
    ),
    (
        Cpu::Loongarch64,
        Firmware::Uefi,
        &["ipxe-loong64.efi", "loong64/snponly.efi"],
    ),
];

impl BootServers {
    /// The program for this processor and firmware, if there is one.
    pub fn program(&self, cpu: Cpu, firmware: Firmware) -> Option<&'static str> {
        let (_, _, names) = PROGRAMS
            .iter()
            .find(|(c, f, _)| (*c, *f) == (cpu, firmware))?;
        names
            .iter()
            .copied()
            .find(|name| self.programs.contains(*name))
    }

    /// `http://198.18.0.1`, as a client reaches it that knows the server as `server_id`.
    pub fn http_base(&self, server_id: Ipv4Addr) -> String {
        let address = self.http_address.unwrap_or(server_id);
        match self.http_port {
            80 => format!("http://{address}"),
            port => format!("http://{address}:{port}"),
        }
    }
}

/// The boot file for this client; none for one that does not boot from the network or that no program is for.
pub fn choose(request: &Request, servers: &BootServers, server_id: Ipv4Addr) -> Option<Bootfile> {
    if !request.boots_from_network() {
        return None;
    }
    let base = servers.http_base(server_id);
    // BIOS is what a client boots that names no architecture: the first PXE ROMs (PXE 2.1 allows no other).
    let arch = request.arch().unwrap_or(ClientArch(0));
    let (cpu, firmware) = arch.platform()?;
    if request.ipxe().is_some_and(|ipxe| ipxe.http)
        && let Some(mac) = request.mac()
    {
        return Some(Bootfile::Script(format!(
            "{base}{}",
            script_path(mac, cpu, firmware)
        )));
    }
    let program = servers.program(cpu, firmware)?;
    // An iPXE without HTTP is sent ours by TFTP, like any other ROM.
    if arch.boots_from_http() || request.is_http_client() {
        return Some(Bootfile::HttpProgram(format!("{base}/programs/{program}")));
    }
    Some(Bootfile::Tftp(program.to_owned()))
}

/// The path of a machine's boot script.
pub fn script_path(mac: MacAddr, cpu: Cpu, firmware: Firmware) -> String {
    format!(
        "/machines/{}/boot.ipxe?arch={cpu}&firmware={firmware}",
        mac.hyphenated()
    )
}

impl Bootfile {
    /// The text of option 67 and, where it fits, of the field `file`.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Tftp(text) | Self::HttpProgram(text) | Self::Script(text) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::packet;
    use super::*;

    const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

    fn servers() -> BootServers {
        BootServers {
            programs: ["undionly.kpxe", "ipxe.efi", "snponly.efi", "ipxe-arm64.efi"]
                .map(str::to_owned)
                .into(),
            http_port: 80,
            http_address: None,
        }
    }

    fn chosen(options: &[(u8, &[u8])]) -> Option<String> {
        let options = [&[(53, &[1_u8] as &[u8])], options].concat();
        let request = Request::parse(&packet(&options)).expect("valid");
        choose(&request, &servers(), SERVER).map(|file| file.as_str().to_owned())
    }

    #[test]
    fn firmware_gets_the_program_of_its_architecture() {
        let pxe = (60, b"PXEClient" as &[u8]);
        for (arch, program) in [
            ([0, 0], "undionly.kpxe"),
            ([0, 7], "snponly.efi"),
            ([0, 9], "snponly.efi"),
            ([0, 11], "ipxe-arm64.efi"),
        ] {
            assert_eq!(
                chosen(&[pxe, (93, &arch)]).as_deref(),
                Some(program),
                "{arch:?}"
            );
        }
        assert_eq!(chosen(&[pxe]).as_deref(), Some("undionly.kpxe"));
        assert_eq!(chosen(&[pxe, (93, &[0, 0x1b])]), None, "none is installed");
        assert_eq!(chosen(&[pxe, (93, &[0, 2])]), None, "IA64");
    }

    #[test]
    fn http_boot_gets_a_url() {
        assert_eq!(
            chosen(&[(60, b"HTTPClient:Arch:00016"), (93, &[0, 16])]).as_deref(),
            Some("http://198.18.0.1/programs/snponly.efi")
        );
    }

    #[test]
    fn ipxe_gets_the_script_of_its_machine_and_without_http_our_own_ipxe() {
        let with_http: &[u8] = &[19, 1, 1];
        assert_eq!(
            chosen(&[(77, b"iPXE"), (175, with_http), (93, &[0, 7])]).as_deref(),
            Some(
                "http://198.18.0.1/machines/52-54-00-00-00-01/boot.ipxe?arch=x86_64&firmware=uefi"
            )
        );
        assert_eq!(
            chosen(&[(77, b"iPXE"), (175, &[33, 1, 1]), (93, &[0, 0])]).as_deref(),
            Some("undionly.kpxe")
        );
    }

    #[test]
    fn a_system_that_only_wants_an_address_gets_no_boot_file() {
        assert_eq!(chosen(&[(12, b"node-1")]), None);
    }
}
