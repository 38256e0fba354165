//! Real machines take a processor or two each, so tests that run at once take turns with them.

use std::sync::{Condvar, Mutex, PoisonError};

/// One of the machines, or labs of machines, that may run: as many as there are processors.
pub struct Turn;

static RUNNING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

impl Turn {
    pub fn awaited() -> Self {
        let most = std::thread::available_parallelism().map_or(1, usize::from);
        let running = RUNNING.0.lock().unwrap_or_else(PoisonError::into_inner);
        let running = RUNNING.1.wait_while(running, |running| *running >= most);
        *running.unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *RUNNING.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        RUNNING.1.notify_one();
    }
}
