//! The machines of the lab: what a machine needs before it first starts, its start, and what is said of one that runs already.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};

use super::open::make_private;
use super::paths::VmPaths;
use super::plan::{Base, NewDisk, VmPlan};
use super::report::Report;
use crate::disk;
use crate::drivers::spec::{Boot, DiskFormat};
use crate::exit::{Exit, Failure};
use crate::files::write_whole;
use crate::images::{self, Store};
use crate::qmp::Qmp;
use crate::vm::launch::Start;
use crate::vm::{self, State};

/// What became of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    Now,
    /// It ran before.
    Already,
    /// It runs as something else than the file says by now.
    NeedsRestart,
}

/// Starts the machine if it does not run.
pub async fn start(plan: &VmPlan, store: &Store, report: &Report) -> Result<Started, Failure> {
    let (vm, paths) = (&plan.vm, &plan.paths);
    let state = vm::state(paths, &vm.uuid)?;
    if state.is_up() {
        if vm::room::is_wanting(&state) {
            vm::room::go_on(&vm.name, paths)?;
            report.done(&vm.name, "goes on: there is room for its disk again");
        }
        return Ok(match is_as_started(plan) {
            true => Started::Already,
            false => Started::NeedsRestart,
        });
    }
    prepare(plan, store).await?;
    report.waiting(&format!("{} is powered on", vm.name));
    let state = launch(plan)?;
    let pid = state
        .pid()
        .map_or_else(String::new, |pid| format!(", pid {pid}"));
    report.done(&vm.name, &format!("powered on ({}{pid})", plan.title()));
    if let Some(reason) = &plan.driver_reason {
        report.note_once("machines", &format!("are emulated: {reason}"));
    }
    Ok(Started::Now)
}

/// Starts its program, and notes as what.
pub fn launch(plan: &VmPlan) -> Result<State, Failure> {
    note(plan)?;
    if let Some((file, text)) = plan.config() {
        write_whole(&file, text)?;
    }
    let start = Start {
        name: &plan.vm.name,
        driver: plan.driver,
        program: &plan.program,
        arguments: &plan.arguments(),
        uuid: &plan.vm.uuid,
    };
    vm::launch(&start, &plan.paths)
}

/// Notes what a machine is started as: by this it is known again, however its memory came.
fn note(plan: &VmPlan) -> Result<(), Failure> {
    let arguments = lasting(plan);
    let record = json!({
        "version": 1,
        "driver": plan.driver.as_str(),
        "program": plan.program,
        "arguments": arguments,
        "uuid": plan.vm.uuid,
        // Its log goes on from one power-on to the next.
        "console_start": fs::metadata(plan.paths.console_log()).map_or(0, |log| log.len()),
    });
    write_whole(&plan.paths.record(), format!("{record:#}\n"))
}

/// Notes that a machine runs as this plan has it by now, without having been started anew.
pub fn note_change(plan: &VmPlan) -> Result<(), Failure> {
    let mut record = record(&plan.paths);
    record["arguments"] = json!(lasting(plan));
    write_whole(&plan.paths.record(), format!("{record:#}\n"))
}

/// What its console has said since it was last powered on.
pub fn console_since_power_on(paths: &VmPaths) -> String {
    let start = record(paths)["console_start"].as_u64().unwrap_or(0);
    let log = fs::read(paths.console_log()).unwrap_or_default();
    let since = usize::try_from(start).ok().and_then(|at| log.get(at..));
    String::from_utf8_lossy(since.unwrap_or(&log)).into_owned()
}

fn record(paths: &VmPaths) -> Value {
    let text = fs::read_to_string(paths.record()).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Whether it was started by the command line that it would be started by now.
pub fn is_as_started(plan: &VmPlan) -> bool {
    plain(lasting(plan)) == plain(strings(&record(&plan.paths)["arguments"]))
}

/// Its command line without what is of one start alone.
fn lasting(plan: &VmPlan) -> Vec<String> {
    let mut lasting = plan.clone();
    lasting.vm.incoming = None;
    lasting.arguments()
}

fn strings(value: &Value) -> Vec<String> {
    let words = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let words = words.iter().filter_map(Value::as_str);
    words.map(str::to_owned).collect()
}

/// Without what differs from one start to the next: which device is booted first.
fn plain(arguments: Vec<String>) -> Vec<String> {
    let strip = |argument: String| {
        let parts: Vec<&str> = argument
            .split(',')
            .filter(|part| !part.starts_with("bootindex="))
            .collect();
        parts.join(",")
    };
    arguments.into_iter().map(strip).collect()
}

/// Its directory, disk and firmware variables, those that are not there yet.
pub async fn prepare(plan: &VmPlan, store: &Store) -> Result<(), Failure> {
    make_private(&plan.paths.dir)?;
    if let Some(new) = &plan.new_disk {
        let disk = plan.paths.disk_of(new.format);
        if !disk.exists() {
            refuse_other_disk(plan, new.format)?;
            make_disk(&disk, new, store).await?;
        }
    }
    if let Some(template) = &plan.vars_template {
        let vars = plan.paths.vars();
        if !vars.exists() {
            copy(template, &vars)?;
        }
    }
    Ok(())
}

/// What is on a disk of another format would not be there.
fn refuse_other_disk(plan: &VmPlan, wanted: DiskFormat) -> Result<(), Failure> {
    let other = plan.paths.disk_there();
    if !other.exists() {
        return Ok(());
    }
    let (name, format) = (&plan.vm.name, wanted.as_str());
    let text = format!(
        "{name}: {} wants its disk as {format}, and it is {}; carry it over with bootjack disk export --vm {name} --format {format}, or begin anew: bootjack vm delete {name}",
        plan.driver.as_str(),
        other.display(),
    );
    Err(Failure::new(Exit::Conflict, text))
}

async fn make_disk(disk: &Path, new: &NewDisk, store: &Store) -> Result<(), Failure> {
    let wanted = match new.format {
        DiskFormat::Raw => images::DiskFormat::Raw,
        DiskFormat::Qcow2 => images::DiskFormat::Qcow2,
    };
    match &new.base {
        None => disk::create(store, disk, new.size, wanted).await,
        Some(Base::ToPull(name)) => {
            let text = format!("image {name} is not here; get it with: bootjack image pull {name}");
            Err(Failure::new(Exit::Missing, text))
        }
        Some(Base::Here(path, format)) => {
            let format = match format {
                DiskFormat::Raw => images::DiskFormat::Raw,
                DiskFormat::Qcow2 => images::DiskFormat::Qcow2,
            };
            let image = images::Image::at(path, Some(format), None)?;
            let size = new.size.max(image.virtual_size);
            if new.format == DiskFormat::Raw {
                return disk::raw_of(store, &image, disk, size).await;
            }
            disk::overlay(store, &image, disk, Some(size)).await
        }
    }
}

/// A copy that is there whole or not at all, and that its owner may write.
fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    let new = to.with_extension("new");
    let copied = fs::copy(from, &new).and_then(|_| {
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
        fs::rename(&new, to)
    });
    copied.map_err(Failure::io("make", to))
}

/// Has a running machine reset now, and boot from the network if `net_first`, as it is otherwise from then on.
pub fn reset(plan: &VmPlan, net_first: Option<bool>) -> Result<(), Failure> {
    let failed = |error: crate::qmp::QmpError| {
        let text = format!("{}: {error}", plan.vm.name);
        Failure::new(Exit::Vm, text)
    };
    let mut qmp = Qmp::connect(&plan.paths.monitor).map_err(failed)?;
    let nic = plan.vm.nics.iter().find(|nic| nic.boot_order.is_some());
    let usual = plan.net_first();
    match (net_first, nic) {
        (Some(net_first), Some(nic)) => {
            vm::boot_order::set(&mut qmp, &nic.id, net_first).map_err(failed)?;
            qmp.execute("system_reset", json!({})).map_err(failed)?;
            // A reset has read the order by the time it is told of. If it cannot be set back, bootjackd still says who boots what.
            match wait_for_resets(&mut qmp, resets(plan)).map_err(failed)? {
                true => vm::boot_order::set(&mut qmp, &nic.id, usual).map_err(failed),
                false => Ok(()),
            }
        }
        _ => qmp
            .execute("system_reset", json!({}))
            .map(drop)
            .map_err(failed),
    }
}

/// How many resets one becomes. SeaBIOS, when it is started again, has the machine reset once more before it does anything, and the
/// order is read again then.
fn resets(plan: &VmPlan) -> usize {
    match plan.vm.boot {
        Boot::Bios { .. } => 2,
        Boot::Uefi { .. } | Boot::Kernel { .. } => 1,
    }
}

/// Whether there were so many in time; at least one there has to be.
fn wait_for_resets(qmp: &mut Qmp, wanted: usize) -> Result<bool, crate::qmp::QmpError> {
    let until = std::time::Instant::now() + crate::qmp::ANSWER;
    let mut seen = 0;
    while seen < wanted {
        match qmp.event(until)? {
            Some(event) if event.name == "RESET" => seen += 1,
            Some(_) => {}
            None if seen > 0 => return Ok(false),
            None => return Err(crate::qmp::QmpError::Late(crate::qmp::ANSWER)),
        }
    }
    Ok(true)
}

impl VmPlan {
    /// Whether it usually boots from the network before its disk.
    pub fn net_first(&self) -> bool {
        let order = |orders: Vec<Option<u8>>| orders.into_iter().flatten().min();
        let net = order(self.vm.nics.iter().map(|nic| nic.boot_order).collect());
        let disk = order(self.vm.disks.iter().map(|disk| disk.boot_order).collect());
        match (net, disk) {
            (Some(net), Some(disk)) => net < disk,
            (net, _) => net.is_some(),
        }
    }

    /// The same machine with the network first, or the disk.
    pub fn with_net_first(mut self, net_first: bool) -> Self {
        let (_, net) = vm::boot_order::orders(net_first);
        for nic in &mut self.vm.nics {
            if nic.boot_order.is_some() {
                nic.boot_order = Some(net);
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::drivers::Driver;
    use crate::drivers::spec::{Arch, Boot, Vm};
    use crate::lab::paths::Bases;

    #[test]
    fn what_the_console_said_before_it_was_last_powered_on_is_not_its_own() {
        let home = tempfile::tempdir().unwrap();
        let at_home = |_: &str| Some(home.path().to_owned());
        let paths = Bases::new(at_home, 0, false).lab("lab").vm("a");
        fs::create_dir_all(&paths.dir).unwrap();
        fs::write(paths.console_log(), "installer: done\n").unwrap();
        assert_eq!(console_since_power_on(&paths), "installer: done\n");
        write_whole(&paths.record(), "{\"console_start\": 16}\n").unwrap();
        assert_eq!(console_since_power_on(&paths), "");
        fs::write(paths.console_log(), "installer: done\nbooted\n").unwrap();
        assert_eq!(console_since_power_on(&paths), "booted\n");
        // A log that was made anew, with less in it.
        fs::write(paths.console_log(), "new\n").unwrap();
        assert_eq!(console_since_power_on(&paths), "new\n");
    }

    /// A command may be killed right after the program was started.
    #[test]
    fn a_machine_is_known_again_however_its_memory_came() {
        let home = tempfile::tempdir().unwrap();
        let at_home = |_: &str| Some(home.path().to_owned());
        let paths = Bases::new(at_home, 0, false).lab("lab").vm("a");
        fs::create_dir_all(&paths.dir).unwrap();
        let mut plan = VmPlan {
            vm: Vm {
                name: "a".to_owned(),
                arch: Arch::X86_64,
                uuid: "uuid".to_owned(),
                cpus: 1,
                memory_mib: 512,
                boot: Boot::Bios { rom: None },
                disks: Vec::new(),
                nics: Vec::new(),
                files: super::super::plan::files(&paths),
                display: false,
                no_reboot: false,
                incoming: None,
            },
            program: PathBuf::from("qemu-system-x86_64"),
            driver: Driver::QemuTcg,
            driver_reason: None,
            vars_template: None,
            new_disk: None,
            paths,
        };
        plan.vm.incoming = Some("zstd -dc <state".to_owned());
        assert!(!is_as_started(&plan), "it was never started");
        note(&plan).unwrap();
        assert!(is_as_started(&plan));
        plan.vm.incoming = None;
        assert!(is_as_started(&plan));
        plan.vm.cpus = 2;
        assert!(!is_as_started(&plan), "it would have more");
        note_change(&plan).unwrap();
        assert!(is_as_started(&plan));
    }
}
