//! One file per verb.

pub mod auth;
pub mod completion;
pub mod image;
pub mod lab;
pub mod machine;
pub mod replicas;
pub mod reservation;
pub mod wait;
