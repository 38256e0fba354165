//! The archive of a box: documents, then the disk. The same octets for the same files.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use flate2::{Compression, GzBuilder};
use tar::{Builder, Header};

use super::vagrant::Document;
use crate::exit::Failure;
use crate::images::progress::Progress;

pub fn write(
    to: &Path,
    documents: &[Document],
    disk_name: &str,
    disk: &Path,
) -> Result<(), Failure> {
    let file = File::open(disk).map_err(Failure::io("read", disk))?;
    let size = file.metadata().map_err(Failure::io("read", disk))?.len();
    let progress = Progress::octets("packing", Some(size));
    let out = File::options()
        .write(true)
        .create_new(true)
        .open(to)
        .map_err(Failure::io("write", to))?;
    let pack = || -> io::Result<()> {
        let packed = GzBuilder::new().mtime(0).write(out, Compression::fast());
        let mut archive = Builder::new(packed);
        for document in documents {
            let text = document.text.as_bytes();
            append(&mut archive, &document.name, text.len() as u64, text)?;
        }
        append(&mut archive, disk_name, size, progress.reading(file))?;
        archive.into_inner()?.finish()?;
        Ok(())
    };
    pack().map_err(Failure::io("write", to))
}

fn append(
    archive: &mut Builder<impl io::Write>,
    name: &str,
    size: u64,
    content: impl Read,
) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    archive.append_data(&mut header, name, content)
}
