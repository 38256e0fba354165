//! What happens in the life of a machine and of the service, one value per outcome.

use std::net::{IpAddr, Ipv4Addr};

use serde::Serialize;

use super::{ClientArch, NakReason, Silence, Subject};

/// One outcome. `observe::emit` makes a log line and a counter of it; nothing else logs.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A protocol listens. `reason` says why on this address.
    Listening {
        protocol: &'static str,
        address: String,
        reason: String,
    },
    /// A protocol listens there no longer.
    Gone {
        protocol: &'static str,
        address: String,
        reason: String,
    },
    /// Everything listens.
    Ready { reservations: usize, leases: usize },
    /// The service has stopped and everything is on disk.
    Stopped { elapsed_ms: u64 },
    /// A DHCP OFFER was sent.
    Offered(Dhcp),
    /// A DHCP ACK was sent; of an INFORM, without an address.
    Acked(Dhcp),
    /// A DHCP NAK was sent.
    Refused { dhcp: Dhcp, reason: NakReason },
    /// A DHCP packet got no answer.
    Silent { dhcp: Dhcp, reason: Silence },
    /// A DHCP packet was sent on to the replica that answers this client.
    Forwarded { dhcp: Dhcp, to: Ipv4Addr },
    /// A reply could not be sent.
    SendFailed { dhcp: Dhcp, error: String },
    /// A file went out over TFTP or HTTP, or the transfer ended early.
    Served(Transfer),
    /// A request for a file or document was refused.
    RequestRefused {
        protocol: &'static str,
        client: IpAddr,
        path: String,
        reason: String,
    },
    /// A boot script or document was rendered for a machine.
    Rendered {
        document: String,
        machine: String,
        mac: String,
        client: IpAddr,
        bytes: usize,
        elapsed_ms: u64,
        /// What a boot script does, in words; empty of any other document.
        answer: String,
    },
    /// A template failed; the machine saw the request id alone.
    RenderFailed {
        document: String,
        machine: String,
        request_id: String,
        error: String,
    },
    /// A machine's installation, or what is wanted of it, is another than before.
    Lifecycle {
        id: String,
        machine: String,
        attempt: u32,
        change: &'static str,
        reason: Option<String>,
    },
    /// An attempt is over. `outcome` is `installed`, `failed`, or `retried` where it ran into its deadline and is begun anew.
    InstallEnded {
        machine: String,
        profile: String,
        outcome: &'static str,
        seconds: u64,
    },
    /// A machine said something of its installation.
    CalledBack {
        id: String,
        machine: String,
        attempt: u32,
        what: &'static str,
        detail: String,
        percent: Option<u8>,
    },
    /// What is a known machine's was refused, to itself or to somebody else.
    Barred {
        protocol: &'static str,
        id: String,
        machine: String,
        client: IpAddr,
        path: String,
        reason: String,
    },
    /// A machine does not go on: what should have followed on its last step did not.
    Stalled {
        subject: Subject,
        what: &'static str,
        hint: &'static str,
    },
    /// A reservation was written.
    Reserved {
        machine: String,
        mac: String,
        address: Option<Ipv4Addr>,
        change: &'static str,
        revision: u64,
    },
    /// A lease was taken back, because its address was reserved for another machine.
    Revoked {
        address: Ipv4Addr,
        client: String,
        machine: String,
    },
    /// A reservation of the store contradicts the configuration and is kept, but not followed.
    SetAside { machine: String, reason: String },
    /// Profiles were read again; these are other ones than before.
    ProfilesLoaded { changed: Vec<String> },
    /// A profile was read again and is not served from: the one before it is.
    ProfileRefused { profile: String, error: String },
    /// A document of these machines would not do what it is for.
    DocumentBroken {
        profile: String,
        machines: usize,
        error: String,
    },
    /// Another DHCP server answers on a segment of ours.
    OtherServer { iface: String, server: Ipv4Addr },
    /// An address that was about to be offered is somebody's already.
    AddressInUse {
        iface: String,
        address: Ipv4Addr,
        holder: String,
    },
    /// The replicas that share the clients are others than before, or this one is no longer sure of its own share.
    Replicas {
        /// Their ids.
        members: Vec<String>,
        /// How many of the 256 buckets are this one's.
        buckets: usize,
        is_confirmed: bool,
        change: &'static str,
    },
    /// Machines that looked for an IPv6 router were told that there is none.
    NoRouterAdvertised { iface: String },
    /// A call over gRPC that would write was made, or refused.
    Audited(Audit),
    /// A call over gRPC, or a connection, was refused; one of a flood is counted and not told.
    CallRefused {
        who: String,
        from: String,
        method: String,
        reason: &'static str,
        is_flood: bool,
    },
    /// Whom the service runs as, with what; and why it is root, if it should not be.
    RunsAs {
        user: String,
        capabilities: String,
        stayed: Option<String>,
    },
    /// Something that an operator should know at start.
    Noticed { about: &'static str, detail: String },
    /// A human must act.
    Failed { about: &'static str, error: String },
}

impl Event {
    /// The packet it is about.
    pub fn dhcp_mut(&mut self) -> Option<&mut Dhcp> {
        match self {
            Self::Offered(dhcp) | Self::Acked(dhcp) => Some(dhcp),
            Self::Refused { dhcp, .. }
            | Self::Silent { dhcp, .. }
            | Self::Forwarded { dhcp, .. }
            | Self::SendFailed { dhcp, .. } => Some(dhcp),
            _ => None,
        }
    }
}

/// Who changed what over gRPC, or would have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// `certificate NAME`, `token NAME`, `uid NUMBER`, `anybody` or `stranger`.
    pub who: String,
    /// An address with its port, or a process id.
    pub from: String,
    /// Such as `bootjack.v1.Reservations/DeleteReservation`.
    pub method: String,
    /// Such as `reservations/node-1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// How many resources, of a batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<usize>,
    /// The status: `OK`, `PERMISSION_DENIED`, …
    pub outcome: String,
    /// Why it was not let in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The resource's etag after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The client's, or one made for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// What is known of one DHCP packet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dhcp {
    pub iface: String,
    pub msg_type: Option<&'static str>,
    pub xid: Option<u32>,
    /// The client, as a MAC where it has one.
    pub client: Option<String>,
    pub machine: Option<String>,
    pub giaddr: Option<Ipv4Addr>,
    pub yiaddr: Option<Ipv4Addr>,
    pub arch: Option<ClientArch>,
    pub user_class: Option<String>,
    pub bootfile: Option<String>,
    pub elapsed_us: Option<u64>,
}

/// One file on its way to one client.
#[derive(Clone, Debug, PartialEq)]
pub struct Transfer {
    pub protocol: &'static str,
    pub path: String,
    pub client: IpAddr,
    pub machine: Option<String>,
    pub status: u16,
    pub bytes: u64,
    pub ended: Ended,
    pub elapsed_ms: u64,
}

/// How a transfer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The last octet was handed to the network; over TFTP, was acknowledged.
    Complete,
    /// The client wanted to know the file's size and no more, as UEFI does before each file.
    SizeAsked,
    /// The client stopped it, over TFTP with this ERROR.
    Aborted { code: u16, text: String },
    /// The client fell silent.
    TimedOut,
    /// The client began anew, from the same port.
    Replaced,
    /// We stopped it, or could not go on.
    Cut,
}

impl Ended {
    pub fn is_complete(&self) -> bool {
        matches!(self, Self::Complete)
    }

    /// A word for log and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::SizeAsked => "size_asked",
            Self::Aborted { .. } => "aborted",
            Self::TimedOut => "timed_out",
            Self::Replaced => "replaced",
            Self::Cut => "cut",
        }
    }
}
