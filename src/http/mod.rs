//! HTTP: boot scripts, documents and files. `document` makes what is made for one machine; `files` serves what lies on disk;
//! `server` owns the sockets.

pub mod document;
mod files;
pub mod server;
