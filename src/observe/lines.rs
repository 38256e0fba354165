//! Log lines on their way to standard error. Where several belong together, they go with one write: a call of the kernel's for
//! each line costs more than the line.

use std::cell::RefCell;
use std::io::{self, Write};

use tracing_subscriber::fmt::MakeWriter;

thread_local! {
    /// The lines of this thread that are held back, if any are.
    static HELD: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Where `tracing` writes to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lines;

/// Until it is dropped, the thread's lines are held back.
#[derive(Debug)]
#[must_use = "the lines are written when it is dropped"]
pub struct Gathering(());

/// Holds back the lines of this thread until the end of the caller's scope.
pub fn gather() -> Gathering {
    HELD.with_borrow_mut(|held| {
        held.get_or_insert_default();
    });
    Gathering(())
}

impl Drop for Gathering {
    fn drop(&mut self) {
        let held = HELD.with_borrow_mut(Option::take).unwrap_or_default();
        if !held.is_empty() {
            // There is nowhere to tell that nothing can be told.
            let _ = io::stderr().lock().write_all(&held);
        }
    }
}

impl Write for Lines {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.write_all(octets).map(|()| octets.len())
    }

    fn write_all(&mut self, octets: &[u8]) -> io::Result<()> {
        HELD.with_borrow_mut(|held| match held {
            Some(held) => {
                held.extend(octets);
                Ok(())
            }
            None => io::stderr().lock().write_all(octets),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}
