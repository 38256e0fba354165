//! The nouns. In: nothing. Out: plain values that every room above shares. They refuse malformed text, know no clock, no
//! socket and no file, and depend on std, serde and `ipnet` alone (`ipnet` because a prefix type of our own would only be a
//! worse one).

mod arch;
mod capability;
mod class;
mod event;
mod group;
mod hex;
mod lease;
mod mac;
mod machine;
mod moving;
mod options;
mod profile;
mod reservation;
mod silence;
mod slices;
mod sorted;
mod subnet;
mod timeline;
mod uuid;

pub use arch::{ClientArch, Cpu, Firmware};
pub use capability::{Capability, Standing};
pub use class::{Class, Match};
pub use event::{Audit, Dhcp, Ended, Event, Transfer};
pub use group::{Group, Labels, check_label};
pub use lease::{BindingChange, ClientKey, Lease, LeaseState, OFFER_HOLD_SECS};
pub use mac::{MacAddr, MalformedMac};
pub use machine::{
    BootFrom, Failure, LocalBoot, Machine, Mode, NextBoot, Phase, Token, TokenDigest, Verdict, Why,
};
pub use moving::{Move, RequestId};
pub use options::{Layer, Options};
pub use profile::{BootFiles, Document, Install, Profile, ProfileSource};
pub use reservation::{
    HIDDEN, Identities, MalformedHostname, Octets, Reservation, SecretRef, Source, Var, Vars,
    check_hostname, check_reservation_id,
};
pub use silence::{NakReason, Silence};
pub use slices::Slices;
pub use sorted::Sorted;
pub use subnet::{AddressProbe, ClientPolicy, Pool, Subnet};
pub use timeline::{Entry, Kind, Subject};
pub use uuid::{MalformedUuid, Uuid};
