//! What the service can and cannot do here. In: the configuration, and this machine as the process sees it. Out: each need with how
//! it stands, what follows, and what to do: for `bootjackd doctor`, and for `Server.GetServerInfo` while it runs. Nothing is
//! changed, and nothing is sent.

use std::path::Path;

use rustix::thread::{CapabilitySet, capabilities};

use super::bind::boot_servers;
use super::privileges::{Somebody, whom};
use crate::config::Config;
use crate::grpc::access::door::server_certificate;
use crate::model::{Capability, Cpu, Firmware};
use crate::net::{now_secs, raw_socket};

/// Below this a journal may not find room at night.
const LITTLE_SPACE: u64 = 256 << 20;
/// Certificates that are over sooner want looking after now.
const SOON_SECS: u64 = 30 * 86_400;
/// Before this there was no Bootjack: the clock was never set.
const EARLIEST_SECS: u64 = 1_767_225_600;

/// Every need that can be looked at while the service runs.
pub fn survey(config: &Config) -> Vec<Capability> {
    let mut all = vec![
        user(config),
        raw(),
        privileged_ports(),
        space(&config.data_dir),
        clock(),
        buffers(),
    ];
    all.extend(programs(config));
    all.extend(certificates(config));
    all
}

fn user(config: &Config) -> Capability {
    let uid = rustix::process::geteuid();
    if !uid.is_root() {
        return Capability::good("user", format!("runs as uid {}", uid.as_raw()));
    }
    let consequence = "a flaw in the service is a flaw in root";
    match whom(config) {
        Ok(Somebody { name, .. }) => {
            Capability::good("user", format!("becomes {name} where root starts it"))
        }
        Err(None) => Capability::degraded(
            "user",
            "stays root, as configured",
            consequence,
            "take process.user out of the configuration",
        ),
        Err(Some(why)) => {
            let (why, next) = why.split_once("; ").unwrap_or((&why, ""));
            Capability::degraded("user", format!("stays root: {why}"), consequence, next)
        }
    }
}

fn raw() -> Capability {
    match raw_socket() {
        Ok(()) => Capability::good(
            "raw_socket",
            "frames can be sent to clients without an address",
        ),
        Err(error) => Capability::degraded(
            "raw_socket",
            error.to_string(),
            "broadcast only: clients without an address are answered by broadcast, and addresses are not probed by ARP",
            "grant CAP_NET_RAW (AmbientCapabilities= of the unit, or setcap cap_net_raw,cap_net_bind_service+ep)",
        ),
    }
}

fn privileged_ports() -> Capability {
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let first: u32 = first
        .ok()
        .and_then(|t| t.trim().parse().ok())
        .unwrap_or(1024);
    let has = capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::NET_BIND_SERVICE));
    if has || first <= 67 {
        return Capability::good("privileged_ports", "ports 67, 69 and 80 can be bound");
    }
    Capability::degraded(
        "privileged_ports",
        format!("ports below {first} cannot be bound"),
        "no DHCP on port 67, no TFTP on 69, no HTTP on 80: it does not start",
        "grant CAP_NET_BIND_SERVICE (AmbientCapabilities= of the unit, or setcap)",
    )
    .missing()
}

fn space(data_dir: &Path) -> Capability {
    let name = "free_space";
    let there = data_dir.ancestors().find(|dir| dir.is_dir());
    let Some(Ok(found)) = there.map(rustix::fs::statvfs) else {
        return Capability::degraded(
            name,
            format!("{} cannot be looked at", data_dir.display()),
            "nothing can be kept",
            "name another data_dir",
        )
        .missing();
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let detail = format!("{} MiB free for {}", free >> 20, data_dir.display());
    match free < LITTLE_SPACE {
        false => Capability::good(name, detail),
        true => Capability::degraded(
            name,
            detail,
            "when nothing can be written, no lease is granted and no reservation made",
            "free some, or move data_dir",
        ),
    }
}

fn clock() -> Capability {
    let next = "set it, and keep it set: timedatectl set-ntp true";
    if now_secs() < EARLIEST_SECS {
        let consequence =
            "certificates and tokens are refused or live too long, leases end at wrong times";
        return Capability::degraded("clock", "it was never set", consequence, next);
    }
    // SAFETY: zeroed is a timex that asks for nothing to be changed, and it outlives the call.
    let state = unsafe {
        let mut asked: libc::timex = std::mem::zeroed();
        libc::adjtimex(&raw mut asked)
    };
    match state {
        libc::TIME_ERROR => Capability::degraded(
            "clock",
            "nothing keeps it in step",
            "it drifts: leases and certificates end a little early or late",
            next,
        ),
        _ => Capability::good("clock", "in step"),
    }
}

fn buffers() -> Capability {
    let limit = std::fs::read_to_string("/proc/sys/net/core/rmem_max");
    let limit: u64 = limit
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    let wanted = crate::net::RECEIVE_BUFFER as u64;
    let is_admin =
        capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::NET_ADMIN));
    let name = "receive_buffers";
    if limit >= wanted || is_admin || crate::net::reserved_sockets() > 0 {
        return Capability::good(name, format!("{} MiB each", wanted >> 20));
    }
    Capability::degraded(
        name,
        format!("net.core.rmem_max is {limit}"),
        "packets are lost when hundreds of machines power on in the same instant; they ask again",
        format!("sysctl net.core.rmem_max={wanted} (deploy/bootjack.sysctl)"),
    )
}

fn programs(config: &Config) -> Vec<Capability> {
    let servers = boot_servers(config);
    let dir = config.boot.programs.display();
    let kinds = [
        ("boot_programs_bios", Cpu::X86_64, Firmware::Bios),
        ("boot_programs_x86_64_uefi", Cpu::X86_64, Firmware::Uefi),
        ("boot_programs_aarch64_uefi", Cpu::Aarch64, Firmware::Uefi),
    ];
    let look = |(name, cpu, firmware)| match servers.program(cpu, firmware, None) {
        Some(_) => Capability::good(name, format!("in {dir}")),
        None => Capability::degraded(
            name,
            format!("none in {dir}"),
            format!("machines with {cpu} {firmware} get an address and no boot file"),
            "install the package ipxe, or name another directory in boot.programs",
        ),
    };
    kinds.into_iter().map(look).collect()
}

fn certificates(config: &Config) -> Vec<Capability> {
    let mut all = Vec::new();
    if let Some(tls) = &config.http.tls {
        all.push(certificate("http_certificate", &tls.certificate, "https"));
    }
    if let Some(auth) = &config.grpc.auth {
        let place = server_certificate(&config.grpc, auth);
        all.push(certificate("grpc_certificate", &place.certificate, "gRPC"));
        let ca = auth.join(bootjack_api::access::CA_CERTIFICATE);
        all.push(certificate("grpc_authority", &ca, "gRPC"));
    }
    all
}

fn certificate(name: &'static str, file: &Path, what: &str) -> Capability {
    let refused = format!("clients refuse {what}");
    let next = match name {
        "http_certificate" => "put a new one in its place; it is read again at once".to_owned(),
        "grpc_certificate" => {
            "bootjack auth init --server makes a new one; it is read again at once".to_owned()
        }
        _ => {
            "bootjack auth init in another directory, and new certificates for everybody".to_owned()
        }
    };
    match crate::net::tls::expiry(file) {
        Err(problem) => Capability::degraded(name, problem, refused, next).missing(),
        Ok(expires) => {
            let now = now_secs();
            let days = expires.saturating_sub(now) / 86_400;
            let detail = format!("{}: good for {days} more days", file.display());
            match expires {
                expires if expires <= now => {
                    let detail = format!("{} has expired", file.display());
                    Capability::degraded(name, detail, refused, next).missing()
                }
                expires if expires - now < SOON_SECS => {
                    let consequence = format!("after that, {refused}");
                    Capability::degraded(name, detail, consequence, next)
                }
                _ => Capability::good(name, detail),
            }
        }
    }
}
