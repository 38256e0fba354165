//! HTTP: boot scripts, documents and files. `document` makes what is made for one machine, `access` says whose it is; `machine`
//! serves it under the machine's name and `attempt` under an installation's token, with its call-backs, which `callback` reads;
//! `files` serves what lies on disk, `artifacts` what the store of
//! artefacts has; `secrets` reads what is kept apart; `connections` bounds what strangers can hold, `tls`
//! encrypts them, `pace` shares the link among clients; `server`
//! owns the routes.

pub mod access;
pub mod artifacts;
mod attempt;
pub mod callback;
mod connections;
pub mod document;
mod files;
mod machine;
pub mod pace;
pub mod secrets;
pub mod server;
pub mod tls;
