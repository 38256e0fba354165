//! What machines say on their consoles while they are waited for. In: the logs of their serial ports, from `Consoles::begin` on.
//! Out: lines for who watches, as many as are wanted; and a failure for what no waiting mends.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use super::plan::VmPlan;
use super::report::Report;
use crate::cli::ConsoleView;
use crate::console::Console;
use crate::console::milestone::{Milestone, is_chatter, milestone};
use crate::exit::{Exit, Failure};

/// Nobody tells that a log has grown.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A place in what each of them says.
pub struct Consoles(Vec<Followed>);

struct Followed {
    machine: String,
    log: PathBuf,
    at: u64,
    console: Console,
}

impl Consoles {
    /// After everything that they have said by now.
    pub fn begin(vms: &[VmPlan]) -> Self {
        let followed = vms.iter().map(|vm| {
            let log = vm.paths.console_log();
            Followed {
                machine: vm.vm.name.clone(),
                at: fs::metadata(&log).map_or(0, |log| log.len()),
                log,
                console: Console::default(),
            }
        });
        Self(followed.collect())
    }

    /// Tells what they say, until one of them has failed.
    pub async fn tell(mut self, view: ConsoleView, report: &Report) -> Result<Infallible, Failure> {
        loop {
            for followed in &mut self.0 {
                followed.tell(view, report)?;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

impl Followed {
    fn tell(&mut self, view: ConsoleView, report: &Report) -> Result<(), Failure> {
        let more = self.more();
        for line in self.console.read(&more) {
            if is_shown(view, &line) {
                report.console(&self.machine, &line);
            }
            match milestone(&line) {
                Some(Milestone::Step(step)) => report.event(&self.machine, &step),
                Some(Milestone::Failed(why)) => {
                    let text = format!(
                        "{0}: {why}; its console: bootjack vm logs {0}",
                        self.machine
                    );
                    return Err(Failure::new(Exit::Vm, text));
                }
                None => {}
            }
        }
        Ok(())
    }

    /// What was added to the log. One that is not there yet has nothing in it.
    fn more(&mut self) -> Vec<u8> {
        let mut octets = Vec::new();
        let read = File::open(&self.log).and_then(|mut log| {
            // A machine that is made anew has a new log.
            if log.metadata()?.len() < self.at {
                self.at = 0;
            }
            log.seek(SeekFrom::Start(self.at))?;
            log.read_to_end(&mut octets)
        });
        self.at += read.unwrap_or(0) as u64;
        octets
    }
}

fn is_shown(view: ConsoleView, line: &str) -> bool {
    match view {
        ConsoleView::All => true,
        ConsoleView::Calm => !is_chatter(line),
        ConsoleView::None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn followed(log: PathBuf) -> Followed {
        Followed {
            machine: "node-1".to_owned(),
            at: 0,
            log,
            console: Console::default(),
        }
    }

    #[test]
    fn a_console_is_followed_as_it_grows_and_when_it_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("console.log");
        let mut console = followed(log.clone());
        assert_eq!(console.more(), b"");
        fs::write(&log, "one\n").unwrap();
        assert_eq!(console.more(), b"one\n");
        assert_eq!(console.more(), b"");
        fs::write(&log, "one\ntwo\n").unwrap();
        assert_eq!(console.more(), b"two\n");
        fs::write(&log, "new\n").unwrap();
        assert_eq!(console.more(), b"new\n");
    }

    #[test]
    fn what_no_waiting_mends_ends_it() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("console.log");
        let report = Report::new(false, true);
        let mut console = followed(log.clone());
        fs::write(&log, "[  1.3] Kernel panic - not syncing: VFS\n").unwrap();
        let failure = console.tell(ConsoleView::None, &report).unwrap_err();
        assert_eq!(failure.exit, Exit::Vm);
        assert_eq!(
            failure.message,
            "node-1: its kernel panicked: VFS; its console: bootjack vm logs node-1"
        );
    }

    #[test]
    fn chatter_is_for_those_who_want_all() {
        for (view, line, shown) in [
            (
                ConsoleView::Calm,
                "[    1.7] Segment Routing with IPv6",
                false,
            ),
            (
                ConsoleView::All,
                "[    1.7] Segment Routing with IPv6",
                true,
            ),
            (ConsoleView::Calm, "iPXE initialising devices...ok", true),
            (ConsoleView::None, "iPXE initialising devices...ok", false),
        ] {
            assert_eq!(is_shown(view, line), shown, "{view:?} {line}");
        }
    }
}
