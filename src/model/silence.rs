//! Why a packet got no answer, or a refusal. Silence is data: each reason is logged, counted and shown.

use std::fmt;

/// Why a DHCP packet got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Silence {
    /// Fewer than the 240 octets of header and magic cookie.
    TooShort,
    /// `op` is not BOOTREQUEST.
    NotARequest,
    /// The magic cookie of RFC 2131 §3 is missing.
    BadMagicCookie,
    /// `hlen` says more than the 16 octets of `chaddr`.
    HardwareAddressTooLong,
    /// More than 16 relay hops: a loop.
    TooManyHops,
    /// An option runs past the end of the packet.
    OptionsTruncated,
    /// An option that decides has the wrong length.
    MalformedOption,
    /// A BOOTP packet: no message type.
    NoMessageType,
    /// A message type that servers do not answer.
    UnexpectedMessageType,
    /// Neither a hardware address nor a client-id.
    NoIdentity,
    /// Beside another DHCP server only machines that boot from the network are answered.
    NotBooting,
    /// No network boot program is for the client's architecture.
    NoProgram,
    /// The client is in a class that is not answered.
    IgnoredClass,
    /// The client, or all unknown clients together, send more than anyone needs to.
    RateLimited,
    /// No subnet for this interface or relay.
    NoSubnet,
    /// Every address of the pools is taken.
    PoolExhausted,
    /// The subnet has no pool, and the machine no reserved address in it.
    NoPool,
    /// The reserved address was declined: somebody else uses it.
    ReservedAddressDeclined,
    /// A REQUEST that took another server's offer.
    OtherServerChosen,
    /// A REQUEST without the address it wants.
    NoAddressRequested,
    /// Nothing is known of this client, and another server may know it (RFC 2131 §4.3.2).
    UnknownLease,
    /// A DECLINE was noted; it has no answer.
    Declined,
    /// A RELEASE was noted; it has no answer.
    Released,
    /// A DECLINE or RELEASE of an address that the client does not hold.
    NotTheHolder,
    /// The store would not take the lease, so that it could not be promised.
    StoreFailed,
    /// The store that replicas share is away: nothing new is granted, since another may be granting it.
    StoreUnavailable,
    /// Between decision and commit the address went to somebody else.
    Overtaken,
    /// Another replica answers this client (RFC 3074).
    NotOurs,
    /// The same packet came another way too, and is answered.
    Copy,
}

/// Why a REQUEST was refused with a NAK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NakReason {
    /// The address is not of the network the client is on.
    WrongNetwork,
    /// The client's reservation says another address.
    ReservedElsewhere,
    /// The address is reserved for another machine.
    ReservedForAnother,
    /// Another client holds the address, or it was declined.
    Taken,
    /// The address is in no pool.
    NotInPool,
    /// An operator took the lease back.
    Revoked,
}

impl Silence {
    /// The label in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooShort => "too_short",
            Self::NotARequest => "not_a_request",
            Self::BadMagicCookie => "bad_magic_cookie",
            Self::HardwareAddressTooLong => "hardware_address_too_long",
            Self::TooManyHops => "too_many_hops",
            Self::OptionsTruncated => "options_truncated",
            Self::MalformedOption => "malformed_option",
            Self::NoMessageType => "no_message_type",
            Self::UnexpectedMessageType => "unexpected_message_type",
            Self::NoIdentity => "no_identity",
            Self::NotBooting => "not_booting",
            Self::NoProgram => "no_program",
            Self::IgnoredClass => "ignored_class",
            Self::RateLimited => "rate_limited",
            Self::NoSubnet => "no_subnet",
            Self::PoolExhausted => "pool_exhausted",
            Self::NoPool => "no_pool",
            Self::ReservedAddressDeclined => "reserved_address_declined",
            Self::OtherServerChosen => "other_server_chosen",
            Self::NoAddressRequested => "no_address_requested",
            Self::UnknownLease => "unknown_lease",
            Self::Declined => "declined",
            Self::Released => "released",
            Self::NotTheHolder => "not_the_holder",
            Self::StoreFailed => "store_failed",
            Self::StoreUnavailable => "store_unavailable",
            Self::Overtaken => "overtaken",
            Self::NotOurs => "not_ours",
            Self::Copy => "copy",
        }
    }
}

impl Silence {
    /// Whether another replica, or another copy of the packet, is what tells the machine's story.
    pub fn is_told_elsewhere(self) -> bool {
        matches!(self, Self::NotOurs | Self::Copy)
    }

    /// Whether the operator must act, or else machines stay without an address.
    pub fn needs_a_human(self) -> bool {
        matches!(
            self,
            Self::PoolExhausted
                | Self::ReservedAddressDeclined
                | Self::StoreFailed
                | Self::StoreUnavailable
        )
    }
}

impl NakReason {
    /// The label in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WrongNetwork => "wrong_network",
            Self::ReservedElsewhere => "reserved_elsewhere",
            Self::ReservedForAnother => "reserved_for_another",
            Self::Taken => "taken",
            Self::NotInPool => "not_in_pool",
            Self::Revoked => "revoked",
        }
    }

    /// What option 56 tells the client.
    pub fn message(self) -> &'static str {
        match self {
            Self::WrongNetwork => "address is not of this network",
            Self::ReservedElsewhere => "another address is reserved for this machine",
            Self::ReservedForAnother => "address is reserved for another machine",
            Self::Taken => "address is in use",
            Self::NotInPool => "address is in no pool",
            Self::Revoked => "lease was taken back",
        }
    }
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for NakReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
