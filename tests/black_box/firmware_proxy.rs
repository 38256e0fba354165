//! Beside a DHCP server of another make, dnsmasq, which gives addresses and knows nothing of booting: real firmware takes its
//! address from the one and its boot file from the other (PXE 2.1 §2.2).

use crate::firmware::{Lab, assert_steps};
use crate::support::clients::{Running, find};
use crate::support::netns::{Netns, run};
use crate::support::qemu::Firmware;

/// What dnsmasq is told: addresses, a router, and nothing to boot from.
const DNSMASQ: [&str; 10] = [
    "--keep-in-foreground",
    "--user=root", // there is no other in a user namespace
    "--group=",
    "--conf-file=/dev/null",
    "--port=0",
    "--no-ping",
    "--log-facility=-",
    "--interface=eth0",
    "--dhcp-range=198.18.0.50,198.18.0.59,1h",
    "--dhcp-option=option:router,198.18.0.1",
];

/// The service on a bridge, with the machine's link and the other server's in it.
struct Beside {
    lab: Lab,
    other: Running,
    _netns: Netns,
}

impl Beside {
    fn new() -> Self {
        Self::with("")
    }

    fn with(more: &str) -> Self {
        let (server, link, other) = (Netns::new("srv"), Netns::new("cli"), Netns::new("dns"));
        server.ip(&["link", "add", "lan0", "type", "bridge"]);
        for (port, far) in [("p0", &link), ("p1", &other)] {
            let (s, f) = (server.name(), far.name());
            run(&[
                "link", "add", port, "netns", s, "type", "veth", "peer", "name", "eth0", "netns", f,
            ]);
            server.ip(&["link", "set", port, "master", "lan0", "up"]);
            far.ip(&["link", "set", "eth0", "up"]);
        }
        server.ip(&["link", "set", "lan0", "up"]);
        server.ip(&["address", "add", "198.18.0.1/24", "dev", "lan0"]);
        other.ip(&["address", "add", "198.18.0.2/24", "dev", "eth0"]);
        server.without_offloads("lan0");
        other.without_offloads("eth0");
        let lab = Lab::on(server, link, |config| {
            config.replace("interfaces =", "mode = \"proxy\"\ninterfaces =") + more
        });
        let program = find("dnsmasq", "dnsmasq-base");
        let mut command = other.command(&program.display().to_string());
        command.args(DNSMASQ).arg(format!(
            "--dhcp-leasefile={}/leases",
            lab.home.path().display()
        ));
        let running = Running::start(command, "dnsmasq");
        running.wait_for_line("its range", |line| line.contains("DHCP, IP range"));
        Self {
            lab,
            other: running,
            _netns: other,
        }
    }

    /// Boots through both, up to the machine's script; what our part of it was.
    fn boot(&self, firmware: Firmware, steps: &[&str]) {
        self.lab.reserve("");
        let machine = self.lab.boot(firmware);
        let service = &self.lab.service;
        service.wait_for("rendered", |line| line["document"] == "boot.ipxe");
        let acked = "DHCPACK(eth0) 198.18.0.5";
        self.other
            .wait_for_line("an address", |line| line.contains(acked));
        let log = service.log();
        assert_steps(&log, steps);
        assert!(log.iter().all(|line| line["yiaddr"].is_null()), "{log:?}");
        drop(machine);
    }
}

#[test]
fn an_ipxe_rom_boots_beside_another_dhcp_server() {
    let steps = [
        "offered boot.ipxe?arch=x86_64&firmware=bios",
        "rendered boot.ipxe for node-1",
    ];
    Beside::new().boot(Firmware::BiosIpxeRom, &steps);
}

#[test]
fn uefi_boots_beside_another_dhcp_server() {
    let steps = [
        "offered snponly.efi",
        "served tftp snponly.efi",
        "offered boot.ipxe?arch=x86_64&firmware=uefi",
        "rendered boot.ipxe for node-1",
    ];
    Beside::new().boot(Firmware::UefiPxe, &steps);
}

#[test]
fn uefi_asks_the_boot_server_beside_another_dhcp_server_where_its_class_says_so() {
    let class = r#"
[[class]]
name = "asks port 4011"
match = { vendor_class = ["PXEClient"] }
boot_server = true
"#;
    let steps = [
        "offered snponly.efi",
        "acked snponly.efi",
        "served tftp snponly.efi",
        "rendered boot.ipxe for node-1",
    ];
    Beside::with(class).boot(Firmware::UefiPxe, &steps);
}
