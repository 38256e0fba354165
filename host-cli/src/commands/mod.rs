//! One file per verb.

pub mod apply;
pub mod artifact;
pub mod auth;
pub mod completion;
pub mod disk;
pub mod image;
pub mod import;
pub mod labs;
pub mod lease;
pub mod machine;
pub mod man;
pub mod net;
pub mod operation;
pub mod profile;
pub mod replicas;
pub mod reservation;
pub mod server;
pub mod version;
pub mod wait;
