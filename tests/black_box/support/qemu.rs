//! Machines with real firmware: QEMU, and the cable between its network card and the server's link, which runs through the test
//! so that it can hide, hold back or count what passes.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::netns::Netns;
use super::service::Home;
use super::turn::Turn;
use super::wire::{Udp, Wire, checksum, wait_readable};

/// The slowest boot, a whole Debian, takes a third of it on a busy machine.
const HANG: Duration = Duration::from_secs(400);
/// Where QEMU finds its end of the cable.
const CABLE: RawFd = 100;

/// How a machine starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS, and the option ROM that QEMU's package has: an iPXE.
    BiosIpxeRom,
    /// The same, hidden from the server so that it looks like a PXE ROM of any other maker.
    BiosPxeRom,
    /// OVMF: UEFI for x86_64, with its own PXE.
    UefiPxe,
    /// The same, which fetches its program over HTTP.
    UefiHttp,
}

/// A frame towards the machine before which the cable holds everything back.
pub type Moment = Box<dyn FnMut(&[u8]) -> bool + Send>;

/// A machine that runs, or ran.
pub struct Machine {
    qemu: Child,
    console: Arc<Console>,
    gate: Arc<Gate>,
    cable: Option<JoinHandle<()>>,
    _turn: Turn,
}

/// Where the cable waits while the test does something in the middle of a boot.
#[derive(Default)]
struct Gate {
    is_shut: Mutex<bool>,
    changed: Condvar,
}

/// What comes out of the serial port, and of QEMU itself.
#[derive(Default)]
struct Console {
    text: Mutex<(String, bool)>,
    changed: Condvar,
}

impl Machine {
    /// Switches on a machine with one network card, which hangs on the link's other end: `eth0` of this namespace.
    pub fn boot(firmware: Firmware, netns: &Netns, mac: &str, home: &Home) -> Self {
        Self::boot_with_stops(firmware, netns, mac, home, Vec::new())
    }

    /// The same, with moments at which its network stands still until `go_on`, one after the other.
    pub fn boot_with_stops(
        firmware: Firmware,
        netns: &Netns,
        mac: &str,
        home: &Home,
        moments: Vec<Moment>,
    ) -> Self {
        Self::boot_with_disks(firmware, netns, mac, home, &[], moments)
    }

    /// The same, with disks (raw files) that it boots from when the network gives it nothing.
    pub fn boot_with_disks(
        firmware: Firmware,
        netns: &Netns,
        mac: &str,
        home: &Home,
        disks: &[&Path],
        moments: Vec<Moment>,
    ) -> Self {
        Self::start(firmware, netns, mac, home, disks, moments, 1024)
    }

    /// With so many MiB of memory, for a system that is whole in it.
    pub fn boot_in_memory(
        firmware: Firmware,
        netns: &Netns,
        mac: &str,
        home: &Home,
        mib: u32,
    ) -> Self {
        Self::start(firmware, netns, mac, home, &[], Vec::new(), mib)
    }

    fn start(
        firmware: Firmware,
        netns: &Netns,
        mac: &str,
        home: &Home,
        disks: &[&Path],
        moments: Vec<Moment>,
        mib: u32,
    ) -> Self {
        let turn = Turn::awaited();
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(arguments(firmware, mac, home))
            .args(["-m", &mib.to_string()])
            .args(disk_arguments(disks))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let fd = theirs.as_raw_fd();
        // SAFETY: dup2 is async-signal-safe, and the descriptor is open until the child is there.
        unsafe {
            command.pre_exec(move || match libc::dup2(fd, CABLE) {
                -1 => Err(std::io::Error::last_os_error()),
                _ => Ok(()),
            });
        }
        let mut qemu = command.spawn().unwrap_or_else(|error| {
            panic!("qemu-system-x86_64: {error}; install qemu-system-x86, or all of it by: deploy/packages.sh test")
        });
        let console = Arc::new(Console::default());
        console.listen(qemu.stdout.take().expect("piped"), true);
        console.listen(qemu.stderr.take().expect("piped"), false);
        let wire = Wire::open(netns, "eth0");
        let gate = Arc::new(Gate::default());
        let cable = Cable {
            wire,
            machine: ours,
            hides_ipxe: firmware == Firmware::BiosPxeRom,
            moments: moments.into(),
            gate: gate.clone(),
        };
        let cable = std::thread::spawn(move || cable.carry());
        Self {
            qemu,
            console,
            gate,
            cable: Some(cable),
            _turn: turn,
        }
    }

    /// Waits for the next of its moments; nothing reaches it, and nothing it sends gets out, until `go_on`.
    pub fn wait_until_held(&self) {
        let (_gate, waited) = self
            .gate
            .changed
            .wait_timeout_while(self.gate.lock(), HANG, |is_shut| !*is_shut)
            .unwrap_or_else(PoisonError::into_inner);
        let console = self.console.lock();
        assert!(
            !waited.timed_out(),
            "the moment does not come:\n{}",
            console.0
        );
    }

    /// Lets its network go on.
    pub fn go_on(&self) {
        *self.gate.lock() = false;
        self.gate.changed.notify_all();
    }

    /// Waits until the machine has switched itself off; answers what was on its console.
    pub fn wait_until_off(mut self) -> String {
        let text = self.console.wait_for(|_, ended| ended, "the machine's end");
        let status = self.qemu.wait().expect("it can be waited for");
        assert!(status.success(), "qemu: {status}\n{text}");
        text
    }

    /// Waits until this is on the console.
    pub fn wait_for(&self, wanted: &str) {
        self.console
            .wait_for(|text, _| text.contains(wanted), wanted);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        self.go_on();
        if let Some(cable) = self.cable.take() {
            let ended = cable.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the cable broke");
        }
    }
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.is_shut.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stays here until somebody opens it.
    fn shut(&self) {
        let mut is_shut = self.lock();
        *is_shut = true;
        self.changed.notify_all();
        let opened = self.changed.wait_while(is_shut, |is_shut| *is_shut);
        drop(opened);
    }
}

impl Console {
    fn lock(&self) -> MutexGuard<'_, (String, bool)> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what comes out of a stream; the end of the serial port is the machine's.
    fn listen(self: &Arc<Self>, mut stream: impl std::io::Read + Send + 'static, is_port: bool) {
        let console = self.clone();
        std::thread::spawn(move || {
            let mut octets = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut octets) {
                let text = String::from_utf8_lossy(&octets[..length]);
                console.lock().0.push_str(&text);
                console.changed.notify_all();
            }
            console.lock().1 |= is_port;
            console.changed.notify_all();
        });
    }

    fn wait_for(&self, enough: impl Fn(&str, bool) -> bool, wanted: &str) -> String {
        let (guard, _) = self
            .changed
            .wait_timeout_while(self.lock(), HANG, |(text, ended)| {
                !enough(text, *ended) && !*ended
            })
            .unwrap_or_else(PoisonError::into_inner);
        let (text, ended) = &*guard;
        assert!(enough(text, *ended), "no {wanted} on the console:\n{text}");
        text.clone()
    }
}

fn arguments(firmware: Firmware, mac: &str, home: &Home) -> Vec<String> {
    let card = format!("virtio-net-pci,netdev=n0,mac={mac},bootindex=0,romfile=");
    let mut arguments: Vec<String> = [
        "-nodefaults -no-user-config -display none -monitor none -serial stdio -no-reboot",
        "-machine q35,graphics=off -accel tcg,thread=multi -cpu max",
        "-device virtio-rng-pci -uuid 11223344-5566-7788-99aa-bbccddeeff00",
    ]
    .iter()
    .flat_map(|line| line.split(' '))
    .map(str::to_owned)
    .collect();
    arguments.extend(["-netdev".to_owned(), format!("socket,id=n0,fd={CABLE}")]);
    match firmware {
        Firmware::BiosIpxeRom | Firmware::BiosPxeRom => {
            let rom = needed("/usr/lib/ipxe/qemu/pxe-virtio.rom", "ipxe-qemu");
            // The ROM has the card's old id, which a card with `disable-legacy` announces too.
            let card = format!("{card}{},disable-legacy=on", rom.display());
            arguments.extend(["-device".to_owned(), card]);
        }
        Firmware::UefiPxe | Firmware::UefiHttp => {
            let code = needed("/usr/share/OVMF/OVMF_CODE_4M.fd", "ovmf");
            let vars = home.path().join("OVMF_VARS.fd");
            if !vars.exists() {
                let fresh = needed("/usr/share/OVMF/OVMF_VARS_4M.fd", "ovmf");
                std::fs::copy(fresh, &vars).expect("copied");
            }
            let (code, vars) = (code.display(), vars.display());
            let drive = "if=pflash,format=raw";
            arguments.extend([
                "-drive".to_owned(),
                format!("{drive},unit=0,readonly=on,file={code}"),
                "-drive".to_owned(),
                format!("{drive},unit=1,file={vars}"),
                "-device".to_owned(),
                card,
            ]);
            if firmware == Firmware::UefiHttp {
                // Its order is PXEv4, PXEv6, HTTPv4.
                for version in ["IPv4", "IPv6"] {
                    let setting = format!("name=opt/org.tianocore/{version}PXESupport,string=n");
                    arguments.extend(["-fw_cfg".to_owned(), setting]);
                }
            }
        }
    }
    arguments
}

fn disk_arguments(disks: &[&Path]) -> Vec<String> {
    let arguments = disks.iter().enumerate().flat_map(|(n, disk)| {
        let file = disk.display();
        [
            "-drive".to_owned(),
            format!("if=none,id=d{n},format=raw,cache=unsafe,file={file}"),
            "-device".to_owned(),
            format!(
                "virtio-blk-pci,drive=d{n},serial=disk-{n},bootindex={}",
                n + 1
            ),
        ]
    });
    arguments.collect()
}

/// A file of a package; what is missing fails the test by the package's name.
fn needed(path: &str, package: &str) -> PathBuf {
    let found = Path::new(path);
    assert!(
        found.exists(),
        "{path} is missing: install {package}, or all of it by: deploy/packages.sh test"
    );
    found.to_owned()
}

/// The cable's two ends and what happens in between.
struct Cable {
    wire: Wire,
    /// QEMU's side: each frame has its length before it.
    machine: UnixStream,
    hides_ipxe: bool,
    moments: VecDeque<Moment>,
    gate: Arc<Gate>,
}

impl Cable {
    /// Carries frames both ways until the machine is gone.
    fn carry(mut self) {
        let mut received = Vec::new();
        loop {
            let fds = [self.wire.fd(), self.machine.as_raw_fd()];
            let ready = wait_readable(&fds, HANG);
            while let Some(frame) = self.wire.take() {
                if self.deliver(&frame).is_err() {
                    return;
                }
            }
            if !ready[1] {
                continue;
            }
            let mut octets = [0; 65536];
            match self.machine.read(&mut octets) {
                Ok(length @ 1..) => received.extend_from_slice(&octets[..length]),
                _ => return,
            }
            while let Some((frame, rest)) = split_frame(&received) {
                let frame = frame.to_vec();
                received = rest.to_vec();
                if self.pass_on(frame).is_err() {
                    return;
                }
            }
        }
    }

    fn deliver(&mut self, frame: &[u8]) -> std::io::Result<()> {
        if self.moments.front_mut().is_some_and(|is_now| is_now(frame)) {
            self.moments.pop_front();
            self.gate.shut();
        }
        let length = u32::try_from(frame.len()).expect("short").to_be_bytes();
        self.machine.write_all(&[&length, frame].concat())
    }

    fn pass_on(&mut self, frame: Vec<u8>) -> std::io::Result<()> {
        if is_router_solicitation(&frame) {
            return self.deliver(&router_without_ipv6());
        }
        if !self.hides_ipxe {
            self.wire.send(&frame);
        } else if Udp::read(&frame).is_some_and(|datagram| datagram.to.port() == 69) {
            // The ROM's own DHCP ends where it fetches the program; that one speaks for itself.
            self.hides_ipxe = false;
            self.wire.send(&frame);
        } else {
            self.wire.send(&without_ipxe(frame));
        }
        Ok(())
    }
}

/// An ICMPv6 router solicitation (RFC 4861 §4.1).
fn is_router_solicitation(frame: &[u8]) -> bool {
    frame.len() > 54 && frame[12..14] == [0x86, 0xdd] && frame[20] == 58 && frame[54] == 133
}

/// A router advertisement that offers nothing (RFC 4861 §4.2): without any, iPXE waits a quarter of a minute for one.
fn router_without_ipv6() -> Vec<u8> {
    let from = [2, 0, 0, 0, 0, 0xfd];
    let source = [
        0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 0xfd,
    ];
    let all_nodes = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let mut message = vec![134, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    message.extend([1, 1]); // source link-layer address
    message.extend(from);
    let length = [0, u8::try_from(message.len()).expect("short")];
    let pseudo = [&source[..], &all_nodes, &[0, 0], &length, &[0, 0, 0, 58]].concat();
    let sum = checksum(&[&pseudo, &message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let ethernet = [&[0x33, 0x33, 0, 0, 0, 1][..], &from, &[0x86, 0xdd]].concat();
    let header = [&[0x60, 0, 0, 0][..], &length, &[58, 255]].concat();
    [&ethernet[..], &header, &source, &all_nodes, &message].concat()
}

fn split_frame(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = octets.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

/// The frame, with what gives iPXE away in a DHCP packet (options 77 and 175) left out.
fn without_ipxe(frame: Vec<u8>) -> Vec<u8> {
    let Some(mut datagram) = Udp::read(&frame).filter(|datagram| datagram.to.port() == 67) else {
        return frame;
    };
    let (header, mut rest) = datagram.content.split_at(240);
    let mut content = header.to_vec();
    while let [code @ 1..=254, length, ..] = *rest {
        let (option, after) = rest.split_at(2 + usize::from(length));
        if ![77, 175].contains(&code) {
            content.extend_from_slice(option);
        }
        rest = after;
    }
    content.push(255);
    datagram.content = content;
    datagram.frames().concat()
}
