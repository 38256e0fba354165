//! Virtual machines that outlive the command that started them. They are found again by facts: the lock on a pid file, and what
//! its control socket says it is (`control`: QEMU's, vfkit's, or none). A process id alone is never believed.

pub mod boot_order;
pub mod control;
pub mod holder;
pub mod launch;
mod rest;
pub mod room;
pub mod state;
pub mod stop;

pub use self::launch::launch;
pub use self::state::{State, state};
pub use self::stop::{Stopped, stop};

#[cfg(test)]
mod tests;
