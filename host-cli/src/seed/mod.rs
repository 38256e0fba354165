//! Seeds: the small read-only disk that tells a machine at its first boot who it is. In: what the machine is to be. Out: files
//! (`cloud_init`, `user_data`, pure), and the octets of an ISO 9660 image with them (`iso`, pure).

pub mod cloud_init;
pub mod iso;
pub mod user_data;

use sha2::{Digest as _, Sha256};

/// What cloud-init looks for among the disks.
pub const LABEL: &str = "CIDATA";

/// SHA-256 in hexadecimal.
pub fn digest(octets: &[u8]) -> String {
    let digest = Sha256::digest(octets);
    digest.iter().map(|octet| format!("{octet:02x}")).collect()
}
