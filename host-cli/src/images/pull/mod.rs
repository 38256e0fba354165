//! Downloads.

pub mod part;
