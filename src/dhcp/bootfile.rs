//! Which boot file a machine is sent. In: what its packet says of it, and which network boot programs there are. Out: a program
//! over TFTP or HTTP, a boot script for a machine that already runs iPXE, or nothing.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::request::Request;
use super::view::View;
use crate::model::{ClientArch, Cpu, Firmware, Verdict, Why};

/// What the options 66, 67 and 60 and the fields `siaddr` and `file` are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bootfile {
    /// The name of a network boot program, fetched by TFTP from the server.
    Tftp(String),
    /// A network boot program's URL, for firmware that boots by HTTP.
    HttpProgram(String),
    /// The URL of the machine's boot script, for iPXE.
    Script(String),
    /// A Raspberry Pi's ROM: it takes its files from the TFTP root by names of its own, once it has been called by its name.
    RaspberryPi,
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

/// For one processor and firmware: the words that ask for a program, and the file it is in.
type Programs = &'static [(&'static str, &'static str)];

/// Programs by what runs them: for each the word that asks for it and the file it is in. Without a word the first that is
/// there is sent. `snponly` drives the card through the firmware, which works on every card that the firmware could boot from;
/// `undionly` does the same through a PXE ROM; `ipxe` brings its own drivers. Names are those of Debian's and Fedora's packages
/// and of iPXE's own build.
pub const PROGRAMS: [(Cpu, Firmware, Programs); 7] = [
    (
        Cpu::X86_64,
        Firmware::Bios,
        &[("undionly", "undionly.kpxe"), ("ipxe", "ipxe.pxe")],
    ),
    (
        Cpu::X86_64,
        Firmware::Uefi,
        &[
            ("snponly", "snponly.efi"),
            ("snponly", "ipxe-snponly-x86_64.efi"),
            ("ipxe", "ipxe.efi"),
            ("ipxe", "ipxe-amd64.efi"),
            ("ipxe", "ipxe-x86_64.efi"),
        ],
    ),
    (
        Cpu::Aarch64,
        Firmware::Uefi,
        &[
            ("snponly", "snponly-arm64.efi"),
            ("snponly", "arm64/snponly.efi"),
            ("ipxe", "ipxe-arm64.efi"),
            ("ipxe", "arm64/ipxe.efi"),
        ],
    ),
    (
        Cpu::I386,
        Firmware::Uefi,
        &[
            ("snponly", "i386/snponly.efi"),
            ("ipxe", "ipxe-i386.efi"),
            ("ipxe", "ipxe32.efi"),
        ],
    ),
    (
        Cpu::Arm,
        Firmware::Uefi,
        &[("snponly", "arm32/snponly.efi"), ("ipxe", "ipxe-arm32.efi")],
    ),
    (
        Cpu::Riscv64,
        Firmware::Uefi,
        &[
            ("snponly", "riscv64/snponly.efi"),
            ("ipxe", "ipxe-riscv64.efi"),
        ],
    ),
    (
        Cpu::Loongarch64,
        Firmware::Uefi,
        &[
            ("snponly", "loong64/snponly.efi"),
            ("ipxe", "ipxe-loong64.efi"),
        ],
    ),
];

/// The words above.
pub const PROGRAM_WORDS: [&str; 3] = ["snponly", "ipxe", "undionly"];

/// Vendors' octets of Raspberry Pi's cards: their boot ROM calls itself a BIOS (option 93 = 0) and wants files of its own.
const RASPBERRY_PI: [[u8; 3]; 6] = [
    [0x28, 0xcd, 0xc1],
    [0x2c, 0xcf, 0x67],
    [0xb8, 0x27, 0xeb],
    [0xd8, 0x3a, 0xdd],
    [0xdc, 0xa6, 0x32],
    [0xe4, 0x5f, 0x01],
];

impl BootServers {
    /// The program for this processor and firmware, of this word if one is asked for, if there is one.
    pub fn program(
        &self,
        cpu: Cpu,
        firmware: Firmware,
        word: Option<&str>,
    ) -> Option<&'static str> {
        let (_, _, programs) = (PROGRAMS.iter()).find(|(c, f, _)| (*c, *f) == (cpu, firmware))?;
        (programs.iter())
            .filter(|(its, _)| word.is_none_or(|asked| asked == *its))
            .map(|(_, name)| *name)
            .find(|name| self.programs.contains(*name))
    }

    /// `http://198.18.0.1`, as a client reaches it that knows the server by this address.
    pub fn http_base(&self, known_as: Ipv4Addr) -> String {
        let address = self.http_address.unwrap_or(known_as);
        match self.http_port {
            80 => format!("http://{address}"),
            port => format!("http://{address}:{port}"),
        }
    }
}

/// The boot file for this client; none for one that does not boot from the network or that no program is for.
pub fn choose(request: &Request, servers: &BootServers, view: &View) -> Option<Bootfile> {
    if !request.boots_from_network() {
        return None;
    }
    let is_sent_away = is_sent_away(view);
    if is_raspberry_pi(request) {
        // Its ROM would boot what lies in the TFTP root; without an answer it goes on to its card.
        return (!is_sent_away).then_some(Bootfile::RaspberryPi);
    }
    let base = servers.http_base(view.own_address);
    // BIOS is what a client boots that names no architecture: the first PXE ROMs (PXE 2.1 allows no other).
    let arch = request.arch().unwrap_or(ClientArch(0));
    let platform = arch.platform();
    if request.ipxe().is_some_and(|ipxe| ipxe.http)
        && let Some((cpu, firmware)) = platform
        && let Some(machine) = machine_in_url(request, view)
    {
        return Some(Bootfile::Script(format!(
            "{base}{}",
            script_path(&machine, cpu, firmware)
        )));
    }
    let wants_url = arch.boots_from_http() || request.is_http_client();
    // What the operator's own program boots is not ours to say: a machine that is not to boot it gets iPXE, and its script.
    let asked = (view.program()).filter(|program| !is_sent_away || PROGRAM_WORDS.contains(program));
    let program = match asked {
        Some(url) if url.contains("://") => return Some(Bootfile::HttpProgram(url.to_owned())),
        // An iPXE without HTTP is sent ours by TFTP, like any other ROM.
        Some(word) if PROGRAM_WORDS.contains(&word) => {
            let (cpu, firmware) = platform?;
            let word = Some(word).filter(|_| servers.program(cpu, firmware, Some(word)).is_some());
            servers.program(cpu, firmware, word)?
        }
        Some(file) => file,
        None => {
            let (cpu, firmware) = platform?;
            servers.program(cpu, firmware, None)?
        }
    };
    Some(if wants_url {
        Bootfile::HttpProgram(format!("{base}/programs/{program}"))
    } else {
        Bootfile::Tftp(program.to_owned())
    })
}

/// Whether the machine is not to boot anything of its own from the network now.
fn is_sent_away(view: &View) -> bool {
    match view.verdict {
        None | Some(Verdict::Serve { .. } | Verdict::LocalDisk(Why::NothingToBoot)) => false,
        Some(Verdict::Rescue | Verdict::LocalDisk(_) | Verdict::Refuse(_)) => true,
    }
}

fn is_raspberry_pi(request: &Request) -> bool {
    let is_its_rom = request.arch().is_none_or(|arch| matches!(arch.0, 0 | 0x29));
    let mac = request.mac();
    is_its_rom
        && request.ipxe().is_none()
        && mac.is_some_and(|mac| RASPBERRY_PI.iter().any(|vendor| mac.0.starts_with(vendor)))
}

/// How a machine is named in its URLs: by its reservation's first MAC, or by its id where the reservation has none; one that is
/// not known by the MAC it shows.
fn machine_in_url(request: &Request, view: &View) -> Option<String> {
    let mac = match view.reservation {
        Some(own) => match own.macs().next() {
            Some(mac) => mac,
            None => return Some(own.id.clone()),
        },
        None => request.mac()?,
    };
    Some(mac.hyphenated())
}

/// The path of a machine's boot script.
pub fn script_path(machine: &str, cpu: Cpu, firmware: Firmware) -> String {
    format!("/machines/{machine}/boot.ipxe?arch={cpu}&firmware={firmware}")
}

impl Bootfile {
    /// The text of option 67 and, where it fits, of the field `file`.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Tftp(text) | Self::HttpProgram(text) | Self::Script(text) => text,
            Self::RaspberryPi => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::packet;
    use super::super::view::Ingress;
    use super::*;
    use crate::bindings::Bindings;
    use crate::catalog::{Catalog, Change, Settings};
    use crate::model::{MacAddr, Octets, Reservation, Source, Subnet};

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
        chosen_for(options, |_| ())
    }

    /// With a reservation, changed as the test needs it.
    fn chosen_for(
        options: &[(u8, &[u8])],
        change: impl FnOnce(&mut Reservation),
    ) -> Option<String> {
        let options = [&[(53, &[1_u8] as &[u8])], options].concat();
        let request = Request::parse(&packet(&options)).expect("valid");
        let mut own = Reservation::of("node-1".into(), Source::Api);
        own.mac = Some(MacAddr([0x52, 0x54, 0, 0, 0, 1]));
        change(&mut own);
        let catalog = Catalog::new(Settings {
            subnets: vec![Subnet::of("198.18.0.0/24".parse().expect("a network"))],
            ..Settings::default()
        });
        let catalog = catalog.with(&Change::Create(own)).expect("fits");
        let ingress = Ingress {
            server_id: SERVER,
            is_unicast: false,
            authoritative: false,
            now_secs: 0,
        };
        let bindings = Bindings::default();
        let view = View::new(&request, &catalog, &bindings, ingress).expect("a subnet");
        choose(&request, &servers(), &view).map(|file| file.as_str().to_owned())
    }

    #[test]
    fn a_machine_may_ask_for_another_program_than_its_architectures_first() {
        let uefi: [(u8, &[u8]); 2] = [(60, b"PXEClient"), (93, &[0, 7])];
        let with = |program: &str| {
            chosen_for(&uefi, |own| own.program = Some(program.into())).expect("a program")
        };
        assert_eq!(with("ipxe"), "ipxe.efi");
        assert_eq!(with("undionly"), "snponly.efi", "there is none for UEFI");
        assert_eq!(with("custom/boot.efi"), "custom/boot.efi");
        assert_eq!(
            with("http://198.18.0.9/boot.efi"),
            "http://198.18.0.9/boot.efi"
        );
    }

    #[test]
    fn a_machine_known_by_something_else_than_its_mac_finds_its_script_by_its_reservation() {
        let options: [(u8, &[u8]); 3] = [(77, b"iPXE"), (61, &[1, 2, 3]), (93, &[0, 0])];
        let url = chosen_for(&options, |own| {
            own.mac = None;
            own.identities.client_ids = vec![Octets(vec![1, 2, 3])];
        });
        assert_eq!(
            url.as_deref(),
            Some("http://198.18.0.1/machines/node-1/boot.ipxe?arch=x86_64&firmware=bios")
        );
    }

    #[test]
    fn a_raspberry_pi_is_called_by_its_name_although_it_says_bios() {
        let mut octets = packet(&[(53, &[1]), (60, b"PXEClient:Arch:00000"), (93, &[0, 0])]);
        octets[28..34].copy_from_slice(&[0xdc, 0xa6, 0x32, 1, 2, 3]);
        let request = Request::parse(&octets).expect("valid");
        assert!(is_raspberry_pi(&request));
        octets[28] = 0x52;
        assert!(!is_raspberry_pi(&Request::parse(&octets).expect("valid")));
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
