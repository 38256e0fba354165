//! One layer: a tar archive (PAX where it says more than ustar can), the same octets for the same entries.

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

/// `security.capability` as the kernel reads it (linux/capability.h, VFS_CAP_REVISION_2): CAP_NET_BIND_SERVICE (10) and CAP_NET_RAW
/// (13) permitted and effective. So a user without rights binds ports 67, 69 and 80 and sends frames, and can do nothing else.
const CAPABILITIES: [u8; 20] = {
    let [a, b, c, d] = ((1_u32 << 10) | (1 << 13)).to_le_bytes();
    let [v0, v1, v2, v3] = 0x0200_0001_u32.to_le_bytes();
    [
        v0, v1, v2, v3, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ]
};

/// One thing in the layer.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Without a leading `/`.
    path: String,
    node: Node,
    mode: u32,
    owner: u32,
    has_capabilities: bool,
}

#[derive(Clone, Debug)]
pub enum Node {
    Directory,
    File(Vec<u8>),
}

impl Entry {
    pub fn file(path: &str, mode: u32, content: Vec<u8>) -> Self {
        Self::new(path, mode, Node::File(content))
    }

    pub fn directory(path: &str, mode: u32) -> Self {
        Self::new(path, mode, Node::Directory)
    }

    fn new(path: &str, mode: u32, node: Node) -> Self {
        Self {
            path: path.to_owned(),
            node,
            mode,
            owner: 0,
            has_capabilities: false,
        }
    }

    /// Has it belong to this user and to the group of the same number.
    pub fn owned_by(self, owner: u32) -> Self {
        Self { owner, ..self }
    }

    /// Has whoever runs it bind low ports and send raw frames.
    pub fn with_capabilities(self) -> Self {
        Self {
            has_capabilities: true,
            ..self
        }
    }
}

/// The tar archive of the entries, ordered by path, with the directories that they are in.
pub(super) fn tar(entries: &[Entry]) -> io::Result<Vec<u8>> {
    let mut all: BTreeMap<&str, Entry> = BTreeMap::new();
    for entry in entries {
        for (at, _) in entry.path.match_indices('/') {
            let parent = &entry.path[..at];
            all.entry(parent)
                .or_insert_with(|| Entry::directory(parent, 0o755));
        }
        all.insert(&entry.path, entry.clone());
    }
    let mut archive = Builder::new(Vec::new());
    for entry in all.values() {
        append(&mut archive, entry)?;
    }
    archive.into_inner()
}

fn append(archive: &mut Builder<Vec<u8>>, entry: &Entry) -> io::Result<()> {
    if entry.has_capabilities {
        let capability = ("SCHILY.xattr.security.capability", &CAPABILITIES[..]);
        archive.append_pax_extensions([capability])?;
    }
    let mut header = Header::new_ustar();
    header.set_mode(entry.mode);
    header.set_uid(entry.owner.into());
    header.set_gid(entry.owner.into());
    // The time of an image that is made twice is the same.
    header.set_mtime(0);
    let (kind, path, content) = match &entry.node {
        Node::Directory => (
            EntryType::Directory,
            format!("{}/", entry.path),
            &[] as &[u8],
        ),
        Node::File(content) => (EntryType::Regular, entry.path.clone(), &content[..]),
    };
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, path, content)
}

/// Packed by gzip, without a name or a time in it.
pub(super) fn gzip(octets: &[u8]) -> io::Result<Vec<u8>> {
    let mut packed = GzBuilder::new().write(Vec::new(), Compression::default());
    packed.write_all(octets)?;
    packed.finish()
}
