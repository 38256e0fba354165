//! HTTP: boot scripts, documents and files. `document` makes what is made for one machine; `files` serves what lies on disk;
//! `connections` bounds what strangers can hold; `server` owns the routes.

mod connections;
pub mod document;
mod files;
pub mod server;
