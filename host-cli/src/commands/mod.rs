//! One file per verb.

pub mod apply;
pub mod completion;
pub mod image;
pub mod import;
pub mod lab;
pub mod machine;
pub mod reservation;
pub mod wait;
