//! `bootjackd` boots machines off the network jack: DHCP, TFTP, HTTP and gRPC in one service.
//!
//! # Floor plan
//!
//! Every protocol is four steps: **parse, look up, decide, encode**. Three of them are pure functions on values; only the
//! look-up touches shared state, and it reads memory, never a disk or a network. A file imports only from lower floors, or from
//! its own room; rooms on floors 0 and 1 name no tokio, no file system, no clock and no socket. `tests/house.rs` holds the code
//! against this table.
//!
//! ```text
//! floor 4  main  app/  cli                                       start, wire, drain, exit
//! floor 3  dhcp/{server,peers,rogue,prober}  ndp/server  tftp/{server,session,places,content}
//!          http/{server,machine,attempt,files,artifacts,connections,pace,tls,secrets}
//!          grpc/{server,listen,accept,connection,access,convert,errors,filter,paging,mask,values}
//!          grpc/{dhcp,replicas,machines,machine_filter,events,leases,lease_filter,lease_message,lease_watch,following}
//!          grpc/{reservations,reservation_filter,reservation_size,reservation_watch,batch,profiles,profile_message,artifacts}
//!          grpc/{operations,server_info}
//!                                                                the shells: bytes in, bytes out
//! floor 2  store/  observe/  net  artifact/{store,fetch,import}  replicas/{membership,following,desk}
//!                                                                shared machinery with effects
//! floor 1  dhcp/{request,view,answer,away,decide,pool,proxy,bootfile,options,chosen,reply,route,explain,probe,pcap,limit,forward,copies}
//!                                                                pure: protocol and policy
//!          ndp/advertisement  tftp/{packet,terms,resolve,transfer,patience}  http/{document,access,callback}  render/
//!          replicas/{bucket,shares,group,record,roll,shared}
//!          catalog  bindings  lifecycle  convergence  stalls  lint/  config/  artifact/{name,used,inside,iso}
//! floor 0  model/                                                the nouns
//! ```
//!
//! Rooms on floor 1 that know each other: `bindings` and `catalog` know nobody; `config` asks `catalog` whether reservations
//! fit, and reads options, modes, limits and names of artefacts in the words of those rooms; `render` reads a profile's TOML with `config`'s reader; `dhcp`
//! looks at `catalog` and `bindings` through its `view`, and at `replicas/group` to see whose a packet is; `http/document` looks at `catalog` and renders; `lifecycle` is asked by
//! all that serve, so that no transport contradicts another; `lint` looks at what `http/document` renders.
//!
//! `grpc/convert` stands on floor 3 and not, as first planned, on floor 1: it turns the store's errors into statuses.
//!
//! # The straight paths
//!
//! | path | rooms |
//! |---|---|
//! | DHCP packet → reply | dhcp/server → request (→ forward) → view → answer (→ decide, pool, bootfile) → reply (→ chosen) → route → store → dhcp/server |
//! | TFTP request → bytes | tftp/server → packet → session → resolve → content → terms → transfer → session |
//! | HTTP request → document | http/server → machine, attempt → access → lifecycle → document → render |
//! | installer's call-back → next boot | http/server → attempt → callback → store → lifecycle |
//! | gRPC call → durable change | grpc/server → convert → store (→ catalog) → backend |

pub mod app;
pub mod artifact;
pub mod bindings;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod convergence;
pub mod dhcp;
pub mod grpc;
pub mod http;
pub mod lifecycle;
pub mod lint;
pub mod model;
pub mod ndp;
pub mod net;
pub mod observe;
pub mod render;
pub mod replicas;
pub mod stalls;
pub mod store;
pub mod tftp;
