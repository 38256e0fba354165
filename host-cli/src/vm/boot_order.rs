//! From what a running machine boots at its next reset. QEMU reads the order when it resets, so a change says nothing of now.

use serde_json::json;

use crate::qmp::{Qmp, QmpError};

/// Where the first card and the first disk stand when the network goes first, and when the disk does. Two devices never share a
/// number, not even for a moment.
const NET_FIRST: i64 = 1;
const DISK: i64 = 2;
const NET_LAST: i64 = 3;

/// The numbers for the disk and for the card that boots, if the network goes first or not.
pub fn orders(net_first: bool) -> (u8, u8) {
    let net = if net_first { NET_FIRST } else { NET_LAST };
    (DISK as u8, net as u8)
}

/// Has the card of this id go first from the next reset on, or last.
pub fn set(qmp: &mut Qmp, nic: &str, net_first: bool) -> Result<(), QmpError> {
    let value = if net_first { NET_FIRST } else { NET_LAST };
    let path = format!("/machine/peripheral/nic-{nic}");
    let arguments = json!({ "path": path, "property": "bootindex", "value": value });
    qmp.execute("qom-set", arguments).map(|_| ())
}
