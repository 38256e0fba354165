use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::thread::{self, JoinHandle};

use super::*;
use crate::lab::paths::{Bases, PROVISIONER};

/// Paths below a directory of this test's own.
fn paths() -> (tempfile::TempDir, VmPaths) {
    let dir = tempfile::tempdir().unwrap();
    let bases = Bases {
        state: dir.path().join("s"),
        run: dir.path().join("r"),
        data: dir.path().join("d"),
        images: dir.path().join("i"),
    };
    let lab = bases.lab("demo");
    let paths = lab.vm(PROVISIONER);
    fs::create_dir_all(&paths.dir).unwrap();
    fs::create_dir_all(lab.run()).unwrap();
    (dir, paths)
}

/// A QEMU that migrates and ends it so; answers the commands that it was given.
fn qemu(paths: &VmPaths, ends: &'static str) -> JoinHandle<Vec<String>> {
    let listener = UnixListener::bind(&paths.monitor).unwrap();
    let memory = paths.dir.join("frozen.memory");
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let mut commands = Vec::new();
        reader.get_mut().write_all(b"{\"QMP\": {}}\n").unwrap();
        let mut line = String::new();
        while reader.read_line(&mut line).unwrap() > 0 {
            let asked: Value = serde_json::from_str(&line).unwrap();
            line.clear();
            let command = asked["execute"].as_str().unwrap().to_owned();
            let answer = match command.as_str() {
                "migrate" => {
                    fs::write(&memory, "memory").unwrap();
                    json!({})
                }
                "query-migrate" if !commands.contains(&command) => json!({ "status": "active" }),
                "query-migrate" => json!({ "status": ends, "error-desc": "no space left" }),
                _ => json!({}),
            };
            commands.push(command);
            let answer = json!({ "return": answer, "id": asked["id"] });
            writeln!(reader.get_mut(), "{answer}").unwrap();
        }
        commands
    })
}

#[test]
fn a_state_is_there_once_all_of_it_is_and_the_machine_goes_on() {
    let (_dir, paths) = paths();
    fs::write(paths.disk(), "disk").unwrap();
    let frozen = Frozen::of(&paths);
    let qemu = qemu(&paths, "completed");
    frozen.save("k", &paths, None).unwrap();
    assert!(frozen.is_there("k") && !frozen.is_there("other"));
    let commands = qemu.join().unwrap();
    assert_eq!(
        commands,
        [
            "qmp_capabilities",
            "stop",
            "migrate-set-parameters",
            "migrate",
            "query-migrate",
            "query-migrate",
            "cont"
        ]
    );
    // Its disk comes back as it was.
    fs::write(paths.disk(), "written later").unwrap();
    let command = frozen.load(&paths, None).unwrap();
    assert!(command.starts_with("cat /"), "{command}");
    assert_eq!(fs::read_to_string(paths.disk()).unwrap(), "disk");
    frozen.remove();
    assert!(!frozen.is_there("k"));
}

#[test]
fn what_goes_wrong_leaves_no_state_and_a_machine_that_runs() {
    let (_dir, paths) = paths();
    fs::write(paths.disk(), "disk").unwrap();
    let frozen = Frozen::of(&paths);
    let qemu = qemu(&paths, "failed");
    let failure = frozen.save("k", &paths, None).unwrap_err();
    let said = &failure.message;
    let begins = said.starts_with("the provisioner could not be frozen: no space left; ");
    assert!(
        begins && said.ends_with(&paths.dir.display().to_string()),
        "{said}"
    );
    assert!(!frozen.is_there("k") && !paths.dir.join("frozen.memory").exists());
    assert_eq!(qemu.join().unwrap().last().unwrap(), "cont");
}

#[test]
fn commands_survive_names_with_spaces() {
    let (file, zstd) = (Path::new("/my state/m"), Path::new("/usr/bin/zstd"));
    assert_eq!(
        save_command(file, Some(zstd)),
        "/usr/bin/zstd -q -f -1 -T0 -o '/my state/m'"
    );
    assert_eq!(
        load_command(file, Some(zstd)),
        "/usr/bin/zstd -q -d -c '/my state/m'"
    );
    assert_eq!(save_command(file, None), "cat > '/my state/m'");
    assert_eq!(load_command(file, None), "cat '/my state/m'");
}
