//! An ISO 9660 image with Rock Ridge names, modes and owners, written without any program's help.
//!
//! In: a label and files. Out: pieces that make up the image in order; the same files give the same octets, since every date in
//! it is the same. It refuses paths that are none, names that fit no directory record, two entries of one path, and files of
//! 4 GiB and more. Linux, FreeBSD and macOS read the long names; others see them in capitals (ECMA-119 level 2).

mod record;
mod tree;

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::PathBuf;

use tree::Tree;

/// A block of the image, in octets.
pub const BLOCK: usize = 2048;
/// What is in front of the volume descriptors.
const SYSTEM_AREA_BLOCKS: u32 = 16;

/// A file of the image. Directories on its way are made, for everybody to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// From the root of the image, without a slash in front: `root/etc/hostname`.
    pub path: String,
    /// Permissions alone: 0o644.
    pub mode: u32,
    /// Its user and its group.
    pub owner: u32,
    pub content: Content,
}

/// What is in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Octets(Vec<u8>),
    /// A file of this computer, read when the image is written, and its size then.
    File {
        path: PathBuf,
        size: u64,
    },
}

impl Content {
    fn size(&self) -> u64 {
        match self {
            Self::Octets(octets) => octets.len() as u64,
            Self::File { size, .. } => *size,
        }
    }
}

impl Entry {
    /// A file of root's with this text.
    pub fn text(path: &str, mode: u32, text: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            mode,
            owner: 0,
            content: Content::Octets(text.into().into_bytes()),
        }
    }

    /// The same for another user.
    pub fn owned_by(mut self, owner: u32) -> Self {
        self.owner = owner;
        self
    }
}

/// An image that is laid out and not yet written.
pub struct Iso<'a> {
    /// Descriptors, path tables, directories.
    head: Vec<u8>,
    files: Vec<&'a Content>,
}

impl<'a> Iso<'a> {
    /// Lays out an image of this name: up to 32 capital letters, digits and underscores.
    pub fn new(label: &str, entries: &'a [Entry]) -> Result<Self, String> {
        if label.len() > 32 || !label.bytes().all(record::is_plain) || label.is_empty() {
            return Err(format!(
                "label {label:?}: wanted 1 to 32 capital letters, digits and underscores"
            ));
        }
        let tree = Tree::of(entries)?;
        // Behind the system area, the primary descriptor and the end of the descriptors.
        let first = SYSTEM_AREA_BLOCKS + 2;
        let table_size = tree.path_table(&tree.nowhere(), u32::to_le_bytes).len();
        let table_blocks = blocks(table_size as u64);
        let places = tree.places(first + 2 * table_blocks)?;
        let mut head = vec![0; SYSTEM_AREA_BLOCKS as usize * BLOCK];
        head.extend(record::primary(&record::Primary {
            label,
            total: places.end,
            table_size: table_size as u32,
            table_little: first,
            table_big: first + table_blocks,
            root: tree.root_record(&places),
        }));
        head.extend(record::terminator());
        for order in [u32::to_le_bytes, u32::to_be_bytes] {
            head.extend(tree.path_table(&places, order));
            pad(&mut head);
        }
        for index in 0..tree.directories() {
            head.extend(tree.directory(index, &places));
        }
        Ok(Self {
            head,
            files: tree.files().map(|entry| &entry.content).collect(),
        })
    }

    /// Writes it.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        to.write_all(&self.head)?;
        for content in &self.files {
            match content {
                Content::Octets(octets) => to.write_all(octets)?,
                Content::File { path, size } => {
                    let mut file = File::open(path)?.take(*size);
                    let copied = io::copy(&mut file, to)?;
                    if copied != *size {
                        let text = format!("{} got shorter while it was read", path.display());
                        return Err(io::Error::other(text));
                    }
                }
            }
            let over = (content.size() % BLOCK as u64) as usize;
            if over > 0 {
                to.write_all(&vec![0; BLOCK - over])?;
            }
        }
        Ok(())
    }

    /// Its octets.
    #[cfg(test)]
    pub fn octets(&self) -> io::Result<Vec<u8>> {
        let mut octets = Vec::new();
        self.write(&mut octets)?;
        Ok(octets)
    }
}

/// How many blocks so many octets take.
fn blocks(octets: u64) -> u32 {
    u32::try_from(octets.div_ceil(BLOCK as u64)).unwrap_or(u32::MAX)
}

/// Zeros to the end of the block.
fn pad(octets: &mut Vec<u8>) {
    octets.resize(octets.len().next_multiple_of(BLOCK), 0);
}

#[cfg(test)]
mod tests;
