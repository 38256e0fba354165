//! macosvm's configuration: Apple's Virtualization.framework, by a JSON file. It starts Linux by its kernel and in no other way.
//! Made from its source; run on no Mac yet.

use serde_json::{Value, json};

use super::spec::{Boot, Link, Vm};

/// The configuration of the machine.
pub fn config(vm: &Vm) -> Value {
    let mut storage: Vec<Value> = vm
        .disks
        .iter()
        .map(|disk| json!({ "type": "disk", "file": disk.path, "readOnly": disk.read_only }))
        .collect();
    let mut boot = Value::Null;
    if let Boot::Kernel {
        kernel,
        initrd,
        append,
    } = &vm.boot
    {
        let append = append.replace("ttyAMA0", "hvc0").replace("ttyS0", "hvc0");
        boot = json!({ "kernel": kernel, "parameters": append });
        let initrd = initrd.iter();
        storage
            .extend(initrd.map(|file| json!({ "type": "initrd", "file": file, "readOnly": true })));
    }
    let networks: Vec<Value> = vm
        .nics
        .iter()
        .map(|nic| match &nic.link {
            Link::Switch { switch, .. } => {
                json!({ "type": "unix", "path": switch, "mac": nic.mac })
            }
            _ => json!({ "type": "nat", "mac": nic.mac }),
        })
        .collect();
    json!({
        "version": 1,
        "os": "linux",
        "cpus": vm.cpus,
        "ram": u64::from(vm.memory_mib) << 20,
        "bootInfo": boot,
        "storage": storage,
        "networks": networks,
        "displays": [{ "width": 1024, "height": 768, "dpi": 100 }],
        "audio": false,
        "serial": true,
    })
}
