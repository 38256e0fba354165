//! Who may use the API, and what of it. `door` opens what is needed; `visitors` bounds connections, `tls` encrypts them. `gate` stands
//! before every call: its `guard` knows by `identity`, by the `register` of who may, by the table of `scopes` and by the `rate`
//! whether it is let in; `audit` notes every write, by what `wire` makes out of it.

mod audit;
pub mod door;
pub(super) mod gate;
mod guard;
pub(super) mod identity;
pub(super) mod rate;
pub(super) mod register;
mod scopes;
pub(super) mod tls;
pub(super) mod visitors;
mod wire;
