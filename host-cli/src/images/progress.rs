//! How far a long step is: a bar at the bottom of a terminal, on standard error, and nothing anywhere else.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar; gone with this value.
pub struct Progress(ProgressBar);

impl Progress {
    /// Octets; `total` is nothing if nobody knows.
    pub fn octets(what: &str, total: Option<u64>) -> Self {
        let template = match total {
            Some(_) => {
                "{msg}  {bar:30}  {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta}"
            }
            None => "{msg}  {spinner}  {binary_bytes}  {binary_bytes_per_sec}",
        };
        Self::new(what, total, template)
    }

    /// Of a hundred.
    pub fn percent(what: &str) -> Self {
        Self::new(what, Some(100), "{msg}  {bar:30}  {pos} %")
    }

    fn new(what: &str, total: Option<u64>, template: &str) -> Self {
        let target = match std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(total, target);
        bar.set_style(ProgressStyle::with_template(template).expect("the templates are fixed"));
        bar.set_message(what.to_owned());
        Self(bar)
    }

    pub fn advance(&self, by: u64) {
        self.0.inc(by);
    }

    pub fn set(&self, position: u64) {
        self.0.set_position(position);
    }

    /// Advances by what is read.
    pub fn reading<R: std::io::Read>(&self, from: R) -> impl std::io::Read + use<R> {
        self.0.wrap_read(from)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
