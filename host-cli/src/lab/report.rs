//! What a command on a lab does, for who watches: a line for each thing done, a moving line for what is waited for, on standard
//! error; or a JSON object for each, for programs.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::output::Style;

/// Tells what is done.
pub struct Report {
    started: Instant,
    style: Style,
    waiting: Mutex<Option<ProgressBar>>,
    said: Mutex<BTreeSet<String>>,
    is_json: bool,
    is_quiet: bool,
}

/// How the moving line moves.
const TICK: Duration = Duration::from_millis(120);

impl Report {
    /// For people, or with a JSON object in each line.
    pub fn new(is_json: bool, is_quiet: bool) -> Self {
        Self {
            started: Instant::now(),
            style: Style::stderr(),
            waiting: Mutex::default(),
            said: Mutex::default(),
            is_json,
            is_quiet,
        }
    }

    /// Something was done: `switch`, `started`.
    pub fn done(&self, who: &str, what: &str) {
        self.line("done", who, what);
    }

    /// Something is to be known: why it is emulated, what is missing.
    pub fn note(&self, who: &str, what: &str) {
        self.line("note", who, what);
    }

    /// The same, unless it was said before.
    pub fn note_once(&self, who: &str, what: &str) {
        let mut said = self.said.lock().expect("nobody panics with it");
        if said.insert(what.to_owned()) {
            self.note(who, what);
        }
    }

    /// A machine did something.
    pub fn event(&self, who: &str, what: &str) {
        self.line("event", who, what);
    }

    /// A machine said something.
    pub fn console(&self, who: &str, line: &str) {
        self.line("console", who, line);
    }

    /// What is waited for, until the next line.
    pub fn waiting(&self, what: &str) {
        if self.is_json || self.is_quiet {
            return;
        }
        let mut waiting = self.waiting.lock().expect("nobody panics with it");
        let bar = waiting.get_or_insert_with(|| {
            let bar = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}");
            bar.set_style(style.expect("the template is fixed"));
            bar.enable_steady_tick(TICK);
            bar
        });
        bar.set_message(what.to_owned());
    }

    /// Ends the moving line.
    pub fn still(&self) {
        self.take();
    }

    /// Ends the moving line, and says what it said.
    fn take(&self) -> Option<String> {
        let waiting = self.waiting.lock().expect("nobody panics with it").take();
        waiting.map(|bar| {
            bar.finish_and_clear();
            bar.message()
        })
    }

    fn line(&self, kind: &str, who: &str, what: &str) {
        let elapsed = self.started.elapsed();
        if self.is_json {
            let line = json!({
                "event": kind,
                "who": who,
                "what": what,
                "elapsed_ms": u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            });
            let _ = writeln!(std::io::stderr(), "{line}");
            return;
        }
        if self.is_quiet {
            return;
        }
        let waited_for = self.take();
        let who = self.style.cyan(&format!("{who:<12}"));
        let what = match kind {
            "note" => self.style.dim(what),
            "event" => format!("· {what}"),
            "console" => self.style.dim(&format!("│ {what}")),
            _ => what.to_owned(),
        };
        let _ = writeln!(
            std::io::stderr(),
            "{:>7.1}s  {who} {what}",
            elapsed.as_secs_f64()
        );
        // What happens meanwhile does not end what is waited for.
        if let (Some(what), "event" | "console") = (waited_for, kind) {
            self.waiting(&what);
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.still();
    }
}
