//! vfkit's command line: Apple's Virtualization.framework for machines of the Mac's own processor. Out: arguments, program not
//! included. What it cannot do is in `caps`. Made from its documentation; run on no Mac yet.

use super::spec::{Boot, Disk, Link, Nic, Vm};

/// The arguments that start the machine. `rest` is the socket of its control.
pub fn arguments(vm: &Vm) -> Vec<String> {
    let mut args: Vec<String> = Vec::new();
    let mut pair = |flag: &str, value: String| args.extend([flag.to_owned(), value]);
    pair("--cpus", vm.cpus.to_string());
    pair("--memory", vm.memory_mib.to_string());
    pair("--bootloader", bootloader(vm));
    pair(
        "--restful-uri",
        format!("unix://{}", vm.files.monitor.display()),
    );
    for disk in &vm.disks {
        pair("--device", block(disk));
    }
    for nic in &vm.nics {
        pair("--device", card(nic));
    }
    pair("--device", "virtio-rng".to_owned());
    let log = vm.files.console_log.display();
    pair("--device", format!("virtio-serial,logFilePath={log}"));
    args
}

fn bootloader(vm: &Vm) -> String {
    match &vm.boot {
        Boot::Kernel {
            kernel,
            initrd,
            append,
        } => {
            let initrd = initrd.as_ref();
            let initrd =
                initrd.map_or_else(String::new, |file| format!(",initrd={}", file.display()));
            // Its serial port is virtio's. Quotes keep the commas and blanks of the line together.
            let append = append.replace("ttyAMA0", "hvc0").replace("ttyS0", "hvc0");
            format!(
                "linux,kernel={}{initrd},cmdline=\"{append}\"",
                kernel.display()
            )
        }
        Boot::Uefi { vars, .. } => format!("efi,variable-store={},create", vars.display()),
        Boot::Bios { .. } => unreachable!("caps refuses it"),
    }
}

fn block(disk: &Disk) -> String {
    let path = disk.path.display();
    match (disk.read_only, &disk.serial) {
        // The only kind that it keeps from being written.
        (true, None) => format!("usb-mass-storage,path={path},readonly"),
        (_, Some(serial)) => format!("virtio-blk,path={path},deviceId={serial}"),
        (false, None) => format!("virtio-blk,path={path}"),
    }
}

fn card(nic: &Nic) -> String {
    let mac = &nic.mac;
    match &nic.link {
        Link::Switch { switch, .. } => {
            format!("virtio-net,unixSocketPath={},mac={mac}", switch.display())
        }
        Link::User { .. } => format!("virtio-net,nat,mac={mac}"),
        Link::Bridge { .. } | Link::Stream { .. } => unreachable!("caps refuses it"),
    }
}
