//! How Linux makes them: `unshare`, `ioctl`.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use super::{Cable, CableKind, Right, veth};
use crate::exit::{Exit, Failure};
use crate::output::io_reason;

const TUN: &str = "/dev/net/tun";

pub(super) fn enter() -> Result<Right, Failure> {
    // SAFETY: both only read ids of this process.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    let own = libc::CLONE_NEWNET | libc::CLONE_NEWNS;
    // Root in a container may lack the right, but not a user namespace.
    if uid == 0 && unshare(own).is_ok() {
        bring_up("lo").map_err(|error| no_rights(&error))?;
        return Ok(Right::Root);
    }
    unshare(libc::CLONE_NEWUSER | own).map_err(|error| no_namespace(&error))?;
    // user_namespaces(7): without this an unprivileged process may not map its group.
    let maps = [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {uid} 1")),
        ("gid_map", format!("0 {gid} 1")),
    ];
    for (file, text) in maps {
        std::fs::write(format!("/proc/self/{file}"), text).map_err(|error| no_rights(&error))?;
    }
    bring_up("lo").map_err(|error| no_rights(&error))?;
    Ok(Right::UserNamespace)
}

pub(super) fn plug_lan(name: &str, address: Ipv4Addr, prefix: u8) -> Result<Cable, Failure> {
    let cable = match open_tap(name) {
        Ok(tap) => Cable {
            fd: tap.into(),
            kind: CableKind::Tap,
        },
        Err(no_tap) => Cable {
            fd: veth::make(name).map_err(|error| {
                let text = format!("{no_tap}; nor a pair of interfaces: {}", io_reason(&error));
                Failure::new(Exit::Missing, text)
            })?,
            kind: CableKind::Veth,
        },
    };
    // SAFETY: the descriptor is open; takes no pointers.
    checked(unsafe { libc::fcntl(cable.fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) })
        .and_then(|()| bring_up_with(name, address, prefix))
        .map_err(|error| no_rights(&error))?;
    Ok(cable)
}

fn bring_up_with(name: &str, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
    let mask = Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0));
    set_address(name, address, libc::SIOCSIFADDR as _)
        .and_then(|()| set_address(name, mask, libc::SIOCSIFNETMASK as _))
        .and_then(|()| bring_up(name))
}

fn unshare(namespaces: libc::c_int) -> io::Result<()> {
    // SAFETY: takes no pointers; this process has one thread.
    checked(unsafe { libc::unshare(namespaces) })
}

/// A tap without any header before its frames: the kernel completes their checksums.
fn open_tap(name: &str) -> Result<File, Failure> {
    let tun = File::options()
        .read(true)
        .write(true)
        .open(TUN)
        .map_err(|error| no_tun(&error))?;
    let mut request = interface_request(name);
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as _;
    // SAFETY: the descriptor is open, and the request is a whole `ifreq` that lives through the call.
    checked(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF as _, &request) })
        .map_err(|error| no_rights(&error))?;
    Ok(tun)
}

fn set_address(name: &str, address: Ipv4Addr, what: libc::c_ulong) -> io::Result<()> {
    let mut request = interface_request(name);
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as _,
        sin_port: 0,
        sin_addr: libc::in_addr {
            s_addr: u32::from(address).to_be(),
        },
        sin_zero: [0; 8],
    };
    // SAFETY: `sockaddr` and `sockaddr_in` have the same size, and every bit pattern is valid for both.
    request.ifr_ifru.ifru_addr =
        unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(address) };
    on_interface(&mut request, what)
}

fn bring_up(name: &str) -> io::Result<()> {
    set_flags(name, libc::IFF_UP | libc::IFF_RUNNING)
}

pub(super) fn set_flags(name: &str, flags: libc::c_int) -> io::Result<()> {
    let mut request = interface_request(name);
    request.ifr_ifru.ifru_flags = flags as _;
    on_interface(&mut request, libc::SIOCSIFFLAGS as _)
}

pub(super) fn on_interface(request: &mut libc::ifreq, what: libc::c_ulong) -> io::Result<()> {
    // SAFETY: makes a descriptor that nobody else has; it is checked before it is owned.
    let socket = unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        checked(fd.min(0))?;
        OwnedFd::from_raw_fd(fd)
    };
    // SAFETY: the descriptor is open, and the request is a whole `ifreq` that lives through the call.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), what as _, request as *mut libc::ifreq) })
}

pub(super) fn interface_request(name: &str) -> libc::ifreq {
    // SAFETY: all zeroes is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last octet stays zero.
    for (to, from) in request
        .ifr_name
        .iter_mut()
        .take(libc::IFNAMSIZ - 1)
        .zip(name.bytes())
    {
        *to = from as libc::c_char;
    }
    request
}

pub(super) fn checked(status: libc::c_int) -> io::Result<()> {
    if status < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn no_namespace(error: &io::Error) -> Failure {
    let off = |file: &str| std::fs::read_to_string(file).is_ok_and(|text| text.trim() == "0");
    let why = if off("/proc/sys/kernel/unprivileged_userns_clone") {
        "unprivileged user namespaces are off here (sysctl kernel.unprivileged_userns_clone)"
            .to_owned()
    } else if off("/proc/sys/user/max_user_namespaces") {
        "user namespaces are off here (sysctl user.max_user_namespaces)".to_owned()
    } else {
        format!("the kernel refuses a user namespace: {}", io_reason(error))
    };
    failure(&why)
}

/// Ubuntu 24.04 and later make the namespace, but give no rights in it.
fn no_rights(error: &io::Error) -> Failure {
    let restricted =
        std::fs::read_to_string("/proc/sys/kernel/apparmor_restrict_unprivileged_userns");
    let why = match restricted {
        Ok(text) if text.trim() == "1" => {
            "AppArmor gives no rights in user namespaces here (sysctl kernel.apparmor_restrict_unprivileged_userns)".to_owned()
        }
        _ => format!("the kernel refuses to set it up: {}", io_reason(error)),
    };
    failure(&why)
}

fn no_tun(error: &io::Error) -> Failure {
    let why = match error.kind() {
        io::ErrorKind::NotFound => format!("there is no {TUN} (kernel module tun)"),
        io::ErrorKind::PermissionDenied => {
            format!(
                "{TUN} is not for this user (other systems give it to everybody: chmod 0666 {TUN})"
            )
        }
        _ => format!("{TUN}: {}", io_reason(error)),
    };
    failure(&why)
}

fn failure(why: &str) -> Failure {
    let text =
        format!("no network of the lab's own: {why}; run the lab as root, such as with sudo");
    Failure::new(Exit::Missing, text)
}
