//! Machines that QEMU runs.

use std::io::Read;
use std::process::{Child, Command, Stdio};

use super::{NODE1, NODE2, NODE3, Peer, Switch};

/// The network card's ROM and nothing to boot: iPXE asks by DHCP for what to do.
struct Machine(Child);

impl Machine {
    fn new(switch: &Switch, port: (&str, &str), mac: &str) -> Self {
        let run = switch.run().display();
        let id = port.1;
        let netdev = format!(
            "dgram,id=n0,local.type=unix,local.path={run}/v-{id},remote.type=unix,remote.path={run}/s-{id}"
        );
        let device = format!("virtio-net-pci,netdev=n0,mac={mac},bootindex=0");
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args([
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-m",
                "64",
            ])
            .args(["-boot", "reboot-timeout=1"])
            .args(["-accel", "tcg", "-netdev", &netdev, "-device", &device])
            .stdin(Stdio::null());
        Self(
            command
                .spawn()
                .expect("wanted QEMU; run: deploy/packages.sh lab"),
        )
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads a pcap until a DHCP DISCOVER of each of these machines went by.
fn await_discovers(mut pcap: impl Read, mut wanted: Vec<[u8; 6]>) {
    let mut header = [0; 24];
    pcap.read_exact(&mut header).unwrap();
    while !wanted.is_empty() {
        let mut record = [0; 16];
        pcap.read_exact(&mut record).unwrap();
        let length = u32::from_le_bytes(record[8..12].try_into().unwrap());
        let mut frame = vec![0; length as usize];
        pcap.read_exact(&mut frame).unwrap();
        // Ethernet, IPv4 without options, UDP from port 68 to 67, BOOTP with chaddr at 28.
        let is_dhcp = frame.len() > 14 + 20 + 8 + 240 && frame[34..38] == [0, 68, 0, 67];
        let is_discover = is_dhcp && frame.windows(3).any(|option| option == [53, 1, 1]);
        if is_discover {
            wanted.retain(|mac| *mac != frame[70..76]);
        }
    }
}

#[test]
fn two_machines_of_qemu_ask_by_dhcp_also_of_a_switch_that_was_killed_meanwhile() {
    let mut switch = Switch::new();
    for port in [NODE1, NODE2, NODE3] {
        switch.add(port, false);
    }
    let macs = [[0x52, 0x54, 0, 0, 0, 1], [0x52, 0x54, 0, 0, 0, 2]];
    let third: Peer = switch.peer(NODE3);
    let capture = |switch: &Switch| {
        let mut control = switch.connect();
        control.ask(&serde_json::json!({"capture": {}}));
        control.0
    };
    let pcap = capture(&switch);
    let machines = [(NODE1, "52:54:00:00:00:01"), (NODE2, "52:54:00:00:00:02")]
        .map(|(port, mac)| Machine::new(&switch, port, mac));
    await_discovers(pcap, macs.to_vec());
    // What is broadcast reaches a third one, through its own socket.
    assert_eq!(third.receive()[..6], [0xff; 6]);
    assert_eq!(switch.port(NODE1)["macs"][0], "52:54:00:00:00:01");

    // They ask again, and start over when nobody answers; the new switch has the old one's names.
    switch.kill();
    switch.restart();
    await_discovers(capture(&switch), macs.to_vec());
    drop(machines);
}
