//! One packet's whole answer, for the shell and for `explain` alike: which kind of server we are to it, its boot file and the
//! decision.

use super::bootfile::{self, BootServers, Bootfile};
use super::decide::{Decision, decide};
use super::proxy::{self, Port};
use super::request::Request;
use super::view::View;

/// What we are on the segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The DHCP server.
    #[default]
    Server,
    /// A boot server beside somebody else's DHCP server.
    Proxy,
}

/// The decision and the boot file that goes with it.
pub fn answer(
    request: &Request,
    port: Port,
    mode: Mode,
    servers: &BootServers,
    view: &View,
) -> (Decision, Option<Bootfile>) {
    let bootfile = bootfile::choose(request, servers, view);
    let decision = match (mode, port) {
        (Mode::Server, Port::Server) => decide(request, view),
        (Mode::Proxy, _) | (_, Port::BootServer) => {
            proxy::decide(request, port, bootfile.as_ref(), view)
        }
    };
    (decision, bootfile)
}
