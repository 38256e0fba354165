//! How a machine that runs is spoken to: by QEMU's QMP, by vfkit's REST service, or, where its program hears nothing else, by
//! signals. In: its file names. Out: what it says it does, and what it was told.

use std::fs;

use serde_json::{Value, json};

use super::rest::{self, Rest};
use crate::drivers::Driver;
use crate::exit::{Exit, Failure};
use crate::lab::paths::VmPaths;
use crate::process::{Handle, Signal};
use crate::qmp::{Qmp, QmpError};

/// Its ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    Qmp,
    Rest,
    Signals,
}

/// What a machine says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// None where it has no word for it: then the lock on a pid file in our own directory says whose it is.
    pub uuid: Option<String>,
    pub status: String,
}

/// What it can be told, the mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The guest is asked, as by its power button.
    PowerButton,
    /// The program ends, and the machine with it; disks are written.
    End,
}

impl Control {
    pub fn of_driver(driver: Driver) -> Self {
        match driver {
            Driver::QemuKvm | Driver::QemuHvf | Driver::QemuTcg => Self::Qmp,
            Driver::Vfkit => Self::Rest,
            Driver::Macosvm => Self::Signals,
        }
    }

    /// By what the machine was last started with.
    pub fn of(paths: &VmPaths) -> Self {
        driver(paths).map_or(Self::Qmp, Self::of_driver)
    }

    /// Asks it.
    pub fn ask(self, paths: &VmPaths) -> Result<Said, String> {
        match self {
            Self::Qmp => ask_qmp(paths).map_err(|error| error.to_string()),
            Self::Rest => {
                let state = Rest::at(&paths.monitor).get(rest::STATE)?;
                let status = rest::status(&state)?;
                Ok(Said { uuid: None, status })
            }
            Self::Signals => Ok(Said {
                uuid: None,
                status: "running".to_owned(),
            }),
        }
    }

    /// Tells it. Whether it hears is seen from what it does. Returns whether there are words for this at all.
    pub fn tell(self, paths: &VmPaths, pid: i32, order: Order) -> bool {
        match (self, order) {
            (Self::Qmp, order) => {
                let command = match order {
                    Order::PowerButton => "system_powerdown",
                    Order::End => "quit",
                };
                if let Ok(mut qmp) = Qmp::connect(&paths.monitor) {
                    let _ = qmp.execute(command, json!({}));
                }
            }
            (Self::Rest, order) => {
                let state = match order {
                    Order::PowerButton => "Stop",
                    Order::End => "HardStop",
                };
                let _ = Rest::at(&paths.monitor).post(rest::STATE, &json!({ "state": state }));
            }
            // It hands nothing on to its guest.
            (Self::Signals, Order::PowerButton) => return false,
            (Self::Signals, Order::End) => {
                if let Ok(process) = Handle::of(pid)
                    && matches!(super::holder::holder(&paths.pid), Ok(Some(still)) if still == pid)
                {
                    let _ = process.send(Signal::Terminate);
                }
            }
        }
        true
    }
}

/// What a machine was last started by, as it was noted.
pub fn driver(paths: &VmPaths) -> Option<Driver> {
    let text = fs::read_to_string(paths.record()).ok()?;
    let record: Value = serde_json::from_str(&text).ok()?;
    let word = record["driver"].as_str()?;
    Driver::ALL
        .into_iter()
        .find(|driver| driver.as_str() == word)
}

/// Refuses what QEMU alone can do, of a machine that something else runs.
pub fn wants_qemu(name: &str, paths: &VmPaths, what: &str) -> Result<(), Failure> {
    match driver(paths) {
        Some(driver) if Control::of_driver(driver) != Control::Qmp => {
            let text = format!(
                "{name} is run by {}, which {what}; QEMU does it: bootjack vm restart {name} --driver qemu-hvf",
                driver.as_str()
            );
            Err(Failure::new(Exit::Conflict, text))
        }
        _ => Ok(()),
    }
}

fn ask_qmp(paths: &VmPaths) -> Result<Said, QmpError> {
    let mut qmp = Qmp::connect(&paths.monitor)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let uuid = qmp.execute("query-uuid", json!({}))?;
    let status = qmp.execute("query-status", json!({}))?;
    Ok(Said {
        uuid: Some(text(&uuid["UUID"])),
        status: text(&status["status"]),
    })
}
