//! Virtual machines that outlive the command that started them. They are found again by facts: QEMU's lock on its pid file, and
//! what its control socket says it is. A process id alone is never believed.

pub mod boot_order;
pub mod holder;
pub mod launch;
pub mod room;
pub mod state;
pub mod stop;

pub use self::launch::launch;
pub use self::state::{State, state};
pub use self::stop::{Stopped, stop};
