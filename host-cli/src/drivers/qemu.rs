//! QEMU's command line, a pure function of the machine and of what runs it. Out: arguments, program not included.

use std::path::Path;

use super::spec::{Arch, Boot, Disk, Link, Nic, Vm};

/// How QEMU runs the machine's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// Linux's own.
    Kvm,
    /// macOS's own.
    Hvf,
    /// Emulation.
    Tcg,
}

/// The arguments that start the machine.
pub fn arguments(vm: &Vm, accel: Accel) -> Vec<String> {
    let mut args = Arguments(Vec::new());
    args.frame(vm);
    args.processor(vm, accel);
    args.consoles(vm);
    args.firmware(&vm.boot);
    // edk2 from 2024-05 on boots from the network only if it has a source of randomness.
    args.pair("-device", "virtio-rng-pci");
    for disk in &vm.disks {
        args.disk(disk);
    }
    for nic in &vm.nics {
        args.nic(nic, &vm.boot);
    }
    if vm.display {
        args.pair(
            "-device",
            match vm.arch {
                Arch::X86_64 => "VGA",
                // Its firmware and kernels do not see VGA's memory.
                Arch::Aarch64 => "virtio-gpu-pci",
            },
        );
    }
    if vm.no_reboot {
        args.flag("-no-reboot");
    }
    if let Some(command) = &vm.incoming {
        // Started by a person or `up` once it is whole.
        args.flag("-S");
        args.pair("-incoming", format!("exec:{command}"));
    }
    args.0
}

/// QEMU's machine and processor.
pub fn processor(arch: Arch, accel: Accel, display: bool) -> (&'static str, &'static str) {
    let machine = match (arch, accel) {
        // graphics=off: SeaBIOS and iPXE talk to the serial port.
        (Arch::X86_64, _) if display => "q35",
        (Arch::X86_64, _) => "q35,graphics=off",
        (Arch::Aarch64, Accel::Kvm) => "virt,gic-version=host",
        (Arch::Aarch64, Accel::Hvf) => "virt,gic-version=2",
        (Arch::Aarch64, Accel::Tcg) => "virt,gic-version=3",
    };
    let cpu = match (accel, arch) {
        (Accel::Kvm | Accel::Hvf, _) => "host",
        (Accel::Tcg, Arch::X86_64) => "max",
        // `max` would emulate pointer authentication, which is slow.
        (Accel::Tcg, Arch::Aarch64) => "cortex-a57",
    };
    (machine, cpu)
}

struct Arguments(Vec<String>);

impl Arguments {
    fn flag(&mut self, flag: &str) {
        self.0.push(flag.to_owned());
    }

    fn pair(&mut self, flag: &str, value: impl ToString) {
        self.flag(flag);
        self.0.push(value.to_string());
    }

    /// A machine with nothing in it but a name.
    fn frame(&mut self, vm: &Vm) {
        self.flag("-nodefaults");
        self.flag("-no-user-config");
        self.pair("-display", "none");
        self.pair("-name", format!("{0},process={0}", text(&vm.name)));
        self.pair("-uuid", &vm.uuid);
        self.pair("-pidfile", vm.files.pid.display());
        let monitor = value(&vm.files.monitor);
        self.pair("-qmp", format!("unix:{monitor},server=on,wait=off"));
    }

    fn processor(&mut self, vm: &Vm, accel: Accel) {
        let (machine, cpu) = processor(vm.arch, accel, vm.display);
        self.pair("-machine", machine);
        self.pair(
            "-accel",
            match accel {
                Accel::Kvm => "kvm",
                Accel::Hvf => "hvf",
                Accel::Tcg => "tcg,thread=multi",
            },
        );
        self.pair("-cpu", cpu);
        self.pair("-smp", vm.cpus);
        self.pair("-m", vm.memory_mib);
    }

    /// The serial port: on a socket for whoever attaches, and always in a file.
    fn consoles(&mut self, vm: &Vm) {
        let (socket, log) = (value(&vm.files.console), value(&vm.files.console_log));
        self.pair(
            "-chardev",
            format!(
                "socket,id=console,path={socket},server=on,wait=off,logfile={log},logappend=on"
            ),
        );
        self.pair("-serial", "chardev:console");
        if let Some(control) = &vm.files.control {
            self.control(control, vm.arch);
        }
    }

    /// What is needed to freeze a machine and to thaw it: a way to talk to it, and a sign for its kernel that its random numbers
    /// have been used by another before.
    fn control(&mut self, socket: &Path, arch: Arch) {
        let socket = value(socket);
        self.pair("-device", "virtio-serial-pci");
        self.pair(
            "-chardev",
            format!("socket,id=control,path={socket},server=on,wait=off"),
        );
        self.pair(
            "-device",
            "virtserialport,chardev=control,name=bootjack.control",
        );
        // QEMU has it for PCs alone.
        if arch == Arch::X86_64 {
            self.pair("-device", "vmgenid,guid=auto");
        }
    }

    fn firmware(&mut self, boot: &Boot) {
        match boot {
            Boot::Bios { .. } => {}
            Boot::Uefi { code, vars } => {
                let flash = |unit: u8, rest: &str, file: &Path| {
                    let file = value(file);
                    format!("if=pflash,unit={unit},format=raw{rest},file={file}")
                };
                self.pair("-drive", flash(0, ",readonly=on", code));
                self.pair("-drive", flash(1, "", vars));
            }
            Boot::Kernel {
                kernel,
                initrd,
                append,
            } => {
                self.pair("-kernel", kernel.display());
                if let Some(initrd) = initrd {
                    self.pair("-initrd", initrd.display());
                }
                self.pair("-append", append);
            }
        }
    }

    fn disk(&mut self, disk: &Disk) {
        let Disk { id, path, .. } = disk;
        let read_only = if disk.read_only { ",readonly=on" } else { "" };
        // discard: what the guest frees is free on the host.
        self.pair(
            "-drive",
            format!(
                "if=none,id={id},format={},discard=unmap{read_only},file={}",
                disk.format.as_str(),
                value(path)
            ),
        );
        let serial = match &disk.serial {
            Some(serial) => format!(",serial={}", text(serial)),
            None => String::new(),
        };
        let order = order(disk.boot_order);
        self.pair(
            "-device",
            format!("virtio-blk-pci,id=disk-{id},drive={id}{serial}{order}"),
        );
    }

    fn nic(&mut self, nic: &Nic, boot: &Boot) {
        let id = &nic.id;
        let link = match &nic.link {
            Link::Switch { own, switch } => format!(
                "dgram,id={id},local.type=unix,local.path={},remote.type=unix,remote.path={}",
                value(own),
                value(switch)
            ),
            Link::User { forwards, restrict } => {
                let mut link = format!("user,id={id},ipv6=off");
                if *restrict {
                    link.push_str(",restrict=on");
                }
                for forward in forwards {
                    let (host, guest) = (forward.host_port, forward.guest_port);
                    link.push_str(&format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}"));
                }
                link
            }
            Link::Bridge { name } => format!("bridge,id={id},br={}", text(name)),
            Link::Stream { socket } => format!(
                "stream,id={id},server=off,addr.type=unix,addr.path={}",
                value(socket)
            ),
        };
        self.pair("-netdev", link);
        let rom = match boot {
            // The ROM carries the id of a modern-only card (1041), so the card must be one.
            Boot::Bios { rom: Some(rom) } if nic.boot_order.is_some() => {
                format!(",disable-legacy=on,romfile={}", value(rom))
            }
            // No ROM: the firmware's own driver and PXE, or no booting from this card at all.
            _ => ",romfile=".to_owned(),
        };
        let order = order(nic.boot_order);
        self.pair(
            "-device",
            format!(
                "virtio-net-pci,id=nic-{id},netdev={id},mac={}{order}{rom}",
                nic.mac
            ),
        );
    }
}

fn order(order: Option<u8>) -> String {
    order.map_or_else(String::new, |order| format!(",bootindex={order}"))
}

/// A path inside a comma-separated option.
pub fn value(path: &Path) -> String {
    text(&path.display().to_string())
}

fn text(text: &str) -> String {
    text.replace(',', ",,")
}
