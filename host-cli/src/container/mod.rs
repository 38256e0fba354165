//! The container image of bootjackd, made without a container engine: files in, one archive out that docker and podman load and
//! registries take.
//!
//! In: a program that needs no libraries, boot programs, certificates. Out: the octets of an archive that is an OCI image layout
//! (image-spec 1.1) and what `docker load` of any age reads in one. Pure: the same files give the same octets.
//!
//! What stands in the image is the same as what `Dockerfile` puts there; `tests` hold the one against the other.

mod archive;
mod layer;

pub use archive::{Image, pack};
pub use layer::Entry;

/// Whom the program runs as in the container: nobody that any system has.
pub const USER: u32 = 65_532;

/// The files of the image: the program, what it serves and what it writes to.
pub fn entries(
    program: Vec<u8>,
    boot_programs: Vec<(String, Vec<u8>)>,
    certificates: Option<Vec<u8>>,
) -> Vec<Entry> {
    let accounts = format!("bootjack:x:{USER}:{USER}::/var/lib/bootjack:/sbin/nologin\n");
    let groups = format!("bootjack:x:{USER}:\n");
    let mut entries = vec![
        Entry::file("bootjackd", 0o755, program).with_capabilities(),
        Entry::file("etc/passwd", 0o644, accounts.into_bytes()),
        Entry::file("etc/group", 0o644, groups.into_bytes()),
        Entry::directory("etc/bootjack", 0o755),
        Entry::directory("run/bootjack", 0o700).owned_by(USER),
        Entry::directory("tmp", 0o1777),
        Entry::directory("var/lib/bootjack", 0o700).owned_by(USER),
    ];
    if let Some(certificates) = certificates {
        let path = "etc/ssl/certs/ca-certificates.crt";
        entries.push(Entry::file(path, 0o644, certificates));
    }
    for (name, content) in boot_programs {
        entries.push(Entry::file(&format!("usr/lib/ipxe/{name}"), 0o644, content));
    }
    entries
}
