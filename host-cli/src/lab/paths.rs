//! Every file name of a lab: what is kept (state), what lives while it runs (run), and where images are (shared by all labs).
//!
//! A unix socket's address holds 103 octets on macOS and 107 on Linux, so what runs has a directory with a short name and ids
//! instead of names in it.

use std::path::{Path, PathBuf};

use crate::drivers::spec::DiskFormat;

use sha2::{Digest as _, Sha256};

/// The directories that the environment gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bases {
    /// For what is kept: `$XDG_STATE_HOME/bootjack`.
    pub state: PathBuf,
    /// For sockets: `$XDG_RUNTIME_DIR/bootjack`, or a directory of this user in /tmp.
    pub run: PathBuf,
    /// For what can be had again: `$XDG_DATA_HOME/bootjack`.
    pub data: PathBuf,
    /// For images: `$BOOTJACK_IMAGES`, which may be another disk, or a directory in `data`.
    pub images: PathBuf,
}

/// The file names of one lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabPaths {
    state: PathBuf,
    run: PathBuf,
}

/// The name of the provisioner's directory and port; no machine may be called so.
pub const PROVISIONER: &str = "provisioner";

/// Longest name of a file in the run directory, with what stands in front of an id and behind it.
const LONGEST_RUN_NAME: usize = "/12345678/12345678.con".len();
/// Longest address of a unix socket on macOS.
pub const SOCKET_NAME_MAX: usize = 103;

impl Bases {
    /// Those of this environment; `variable` reads one, `uid` is the user's.
    pub fn new(variable: impl Fn(&str) -> Option<PathBuf>, uid: u32, is_macos: bool) -> Self {
        let absolute = |name: &str| variable(name).filter(|path| path.is_absolute());
        let home = absolute("HOME").unwrap_or_else(|| PathBuf::from("/tmp"));
        let in_home = |linux: &str| match is_macos {
            true => home.join("Library/Application Support"),
            false => home.join(linux),
        };
        let short = PathBuf::from(format!("/tmp/bootjack-{uid}"));
        let run = absolute("XDG_RUNTIME_DIR").map(|dir| dir.join("bootjack"));
        let data = absolute("XDG_DATA_HOME")
            .unwrap_or_else(|| in_home(".local/share"))
            .join("bootjack");
        let images = variable("BOOTJACK_IMAGES").and_then(|dir| std::path::absolute(dir).ok());
        Self {
            images: images.unwrap_or_else(|| data.join("images")),
            state: absolute("XDG_STATE_HOME")
                .unwrap_or_else(|| in_home(".local/state"))
                .join("bootjack"),
            data,
            run: run
                .filter(|dir| dir.as_os_str().len() + LONGEST_RUN_NAME <= SOCKET_NAME_MAX)
                .unwrap_or(short),
        }
    }

    /// Of this process.
    pub fn of_environment() -> Self {
        let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
        // SAFETY: only reads an id of this process.
        let uid = unsafe { libc::geteuid() };
        Self::new(variable, uid, cfg!(target_os = "macos"))
    }

    /// All labs of this user.
    pub fn labs(&self) -> PathBuf {
        self.state.join("labs")
    }

    pub fn images(&self) -> PathBuf {
        self.images.clone()
    }

    /// The lab of this name.
    pub fn lab(&self, name: &str) -> LabPaths {
        let state = self.labs().join(name);
        let run = self.run.join(id(&state.display().to_string()));
        LabPaths { state, run }
    }
}

/// Eight hexadecimal digits that stand for a name.
pub fn id(name: &str) -> String {
    let digest = Sha256::digest(name.as_bytes());
    digest[..4]
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect()
}

impl LabPaths {
    /// What is kept of the lab.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// What lives while it runs: sockets and pid files.
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// Locked while a command changes the lab.
    pub fn lock(&self) -> PathBuf {
        self.state.join("lab.lock")
    }

    /// Which file the lab was made from.
    pub fn record(&self) -> PathBuf {
        self.state.join("lab.json")
    }

    pub fn ssh(&self) -> PathBuf {
        self.state.join("ssh")
    }

    pub fn ssh_config(&self) -> PathBuf {
        self.ssh().join("config")
    }

    pub fn ssh_key(&self) -> PathBuf {
        self.ssh().join("id_ed25519")
    }

    pub fn known_hosts(&self) -> PathBuf {
        self.ssh().join("known_hosts")
    }

    /// The private host key of a machine of the lab.
    pub fn host_key(&self, name: &str) -> PathBuf {
        self.ssh().join("hosts").join(name)
    }

    /// Certificates of the API.
    #[allow(dead_code)]
    pub fn tls(&self) -> PathBuf {
        self.state.join("tls")
    }

    pub fn switch_log(&self) -> PathBuf {
        self.state.join("net/switch.log")
    }

    pub fn provisioner(&self) -> PathBuf {
        self.state.join(PROVISIONER)
    }

    pub fn vms(&self) -> PathBuf {
        self.state.join("vm")
    }

    /// What is kept of a machine.
    pub fn vm(&self, name: &str) -> VmPaths {
        let dir = match name {
            PROVISIONER => self.provisioner(),
            name => self.vms().join(name),
        };
        let id = id(name);
        let run = |file: String| self.run.join(file);
        VmPaths {
            monitor: run(format!("{id}.qmp")),
            console: run(format!("{id}.con")),
            pid: run(format!("{id}.pid")),
            control: run(format!("{id}.ctl")),
            port: run(format!("v-{id}")),
            switch_port: run(format!("s-{id}")),
            dir,
            id,
        }
    }

    /// bootjackd's gRPC where it runs in a namespace.
    pub fn api(&self) -> PathBuf {
        self.run.join("api")
    }
}

/// The file names of one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmPaths {
    /// What stands for its name in the run directory, and at the switch.
    pub id: String,
    /// What is kept of it.
    pub dir: PathBuf,
    pub monitor: PathBuf,
    pub console: PathBuf,
    pub pid: PathBuf,
    /// What the provisioner is frozen and thawed by.
    pub control: PathBuf,
    /// Its end of the cable to the switch, and the switch's.
    pub port: PathBuf,
    pub switch_port: PathBuf,
}

impl VmPaths {
    /// What it was started as.
    pub fn record(&self) -> PathBuf {
        self.dir.join("vm.json")
    }

    pub fn disk(&self) -> PathBuf {
        self.dir.join("disk.qcow2")
    }

    /// Its disk, as a driver has it.
    pub fn disk_of(&self, format: DiskFormat) -> PathBuf {
        match format {
            DiskFormat::Qcow2 => self.disk(),
            DiskFormat::Raw => self.dir.join("disk.raw"),
        }
    }

    /// Its disk that there is, of whichever format.
    pub fn disk_there(&self) -> PathBuf {
        match self.disk_of(DiskFormat::Raw) {
            raw if raw.exists() => raw,
            _ => self.disk(),
        }
    }

    /// The provisioner's disk that outlives its machine.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data.qcow2")
    }

    /// Profiles and files that the provisioner serves.
    pub fn files(&self) -> PathBuf {
        self.dir.join("files.iso")
    }

    /// UEFI variables.
    pub fn vars(&self) -> PathBuf {
        self.dir.join("vars.fd")
    }

    pub fn seed(&self) -> PathBuf {
        self.dir.join("seed.iso")
    }

    pub fn console_log(&self) -> PathBuf {
        self.dir.join("console.log")
    }

    /// What QEMU itself had to say.
    pub fn driver_log(&self) -> PathBuf {
        self.dir.join("qemu.log")
    }

    /// The command that it was started by, as one could type it.
    pub fn command_line(&self) -> PathBuf {
        self.dir.join("qemu.sh")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bases(variables: &[(&str, &str)], is_macos: bool) -> Bases {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| PathBuf::from(value))
        };
        Bases::new(variable, 1000, is_macos)
    }

    #[test]
    fn directories_are_where_each_system_has_them() {
        let linux = bases(
            &[("HOME", "/home/me"), ("XDG_RUNTIME_DIR", "/run/user/1000")],
            false,
        );
        assert_eq!(linux.state, Path::new("/home/me/.local/state/bootjack"));
        assert_eq!(linux.run, Path::new("/run/user/1000/bootjack"));
        assert_eq!(
            linux.images(),
            Path::new("/home/me/.local/share/bootjack/images")
        );
        let macos = bases(&[("HOME", "/Users/me")], true);
        assert_eq!(
            macos.state,
            Path::new("/Users/me/Library/Application Support/bootjack")
        );
        assert_eq!(macos.run, Path::new("/tmp/bootjack-1000"));
        // The XDG base directory specification: relative paths are to be ignored.
        let odd = bases(&[("HOME", "/home/me"), ("XDG_STATE_HOME", "state")], false);
        assert_eq!(odd.state, linux.state);
    }

    #[test]
    fn sockets_have_short_names_however_long_the_home_is() {
        let deep = format!("/home/{}", "d".repeat(200));
        for runtime in ["/run/user/1000".to_owned(), deep.clone()] {
            let bases = bases(&[("HOME", &deep), ("XDG_RUNTIME_DIR", &runtime)], false);
            let vm = bases.lab("demo").vm("node-1");
            for socket in [&vm.monitor, &vm.console, &vm.pid, &vm.port, &vm.switch_port] {
                assert!(socket.as_os_str().len() <= SOCKET_NAME_MAX, "{socket:?}");
            }
        }
    }

    #[test]
    fn labs_and_machines_keep_apart() {
        let bases = bases(&[("HOME", "/home/me")], false);
        let (one, two) = (bases.lab("one"), bases.lab("two"));
        assert_ne!(one.run(), two.run());
        assert_ne!(one.vm("a").monitor, one.vm("b").monitor);
        assert_eq!(one.vm(PROVISIONER).dir, one.provisioner());
        assert_eq!(
            one.vm("a").dir,
            Path::new("/home/me/.local/state/bootjack/labs/one/vm/a")
        );
        assert_eq!(one.vm("a").id, id("a"));
    }
}
