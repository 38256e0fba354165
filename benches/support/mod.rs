//! What the side-by-side measurements share: the machine in words, numbers in the middle, and servers that end with the
//! measurement.

#![allow(dead_code, reason = "no measurement uses all of it")]

pub mod kea;
#[path = "../../tests/black_box/support/netns.rs"]
pub mod netns;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

/// The middle one, or the mean of both; not a number where there is none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    quantile(values, 0.5)
}

/// Between the two values next to it, in proportion; not a number where there is none.
pub fn quantile(values: impl IntoIterator<Item = f64>, share: f64) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let place = share * last as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * place.fract()
}

/// A small number from an environment variable.
pub fn from_environment(name: &str, default: u32) -> u32 {
    match std::env::var(name) {
        Err(_) => default,
        Ok(text) => match text.parse() {
            Ok(number @ 1..=60) => number,
            _ => panic!("{name}: wanted a number from 1 to 60, got {text}"),
        },
    }
}

/// Whether cargo asks for a measurement. `cargo test --all-targets` runs these programs too, and should not take ten minutes.
pub fn is_asked_for(name: &str) -> bool {
    let is_asked_for = std::env::args().any(|argument| argument == "--bench");
    if !is_asked_for {
        println!("{name}: run it by `make bench`");
    }
    is_asked_for
}

pub fn write_file(home: &Path, name: &str, content: &str) -> PathBuf {
    let path = home.join(name);
    fs::write(&path, content).expect("the directory is ours");
    path
}

/// Says what machine this is.
pub fn describe_machine() {
    let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = file("/proc/cpuinfo");
    let model = (cpu.lines()).find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    println!(
        "{} cores ({}), Linux {}",
        std::thread::available_parallelism().map_or(0, usize::from),
        model.map_or("unknown model", |(_, name)| name),
        file("/proc/sys/kernel/osrelease").trim()
    );
}

/// The first line that a program says of itself.
pub fn version(program: &str, flag: &str) -> String {
    let mut command = Command::new(program);
    command.arg(flag);
    kea::set_paths(&mut command);
    let said = command
        .output()
        .map(|output| [output.stdout, output.stderr].concat());
    let said = said.unwrap_or_else(|error| panic!("{program}: {error}; run `make bench`"));
    let said = String::from_utf8_lossy(&said).into_owned();
    said.lines().next().unwrap_or("no version").to_owned()
}

/// A process that is killed when the measurement is over.
pub struct Running(pub Child);

impl Running {
    /// User's and system's time of all its threads, and of its children that have ended.
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id()));
        let stat = stat.expect("it runs");
        let (_, fields) = stat.rsplit_once(')').expect("proc(5)");
        // Fields 14 to 17 of proc(5), of which two stand before the bracket.
        let ticks = fields.split_whitespace().skip(11).take(4);
        let ticks: u64 = ticks.map(|t| t.parse::<u64>().expect("a number")).sum();
        // USER_HZ is 100 on every architecture that Linux has now.
        Duration::from_millis(ticks * 10)
    }

    /// Memory that it has in use, in MiB.
    pub fn resident(&self) -> f64 {
        self.memory("VmRSS:")
    }

    /// The most that it ever had in use, in MiB.
    pub fn peak(&self) -> f64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, which: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(which));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kib.and_then(|kib| kib.parse::<f64>().ok())
            .expect("proc(5)")
            / 1024.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
