//! One file per verb.

pub mod completion;
pub mod lab;
pub mod reservation;
