//! The authority of `bootjack auth`: certificates and tokens of those who may use the API, and the files they are kept in.
//!
//! `directory` knows every file and writes them whole or not at all; `authority` signs (pure but for randomness); the verbs are in
//! `commands::auth`.

pub mod authority;
pub mod directory;
