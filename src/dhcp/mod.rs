//! DHCPv4 (RFC 2131, 2132). `request` reads a packet, `view` looks up what is known of its sender, `answer` decides: `decide` for
//! a DHCP server with `pool`, `proxy` for a boot server beside one, `bootfile` for the boot. `chosen` picks the `options`,
//! `reply` writes the answer, `route` says where it goes, `explain` tells it in words, `limit` bounds floods, `forward`
//! says which of several replicas a packet is for and `copies` whether it came before; all pure. `server`
//! owns the sockets and `peers` sends to other replicas what is theirs; `rogue` looks for other servers, `prober` for holders of an address.

pub mod answer;
pub mod away;
pub mod bootfile;
pub mod chosen;
pub mod copies;
pub mod decide;
pub mod explain;
pub mod forward;
pub mod limit;
pub mod options;
pub mod pcap;
mod peers;
pub mod pool;
pub mod probe;
pub mod prober;
pub mod proxy;
pub mod reply;
pub mod request;
pub mod rogue;
pub mod route;
pub mod server;
pub mod view;
