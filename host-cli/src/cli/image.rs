//! `bootjack image` and `bootjack disk`, as they are typed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::images::DiskFormat;
use crate::images::store::check_name;
use crate::labfile::parse_size;
use crate::qemu::Arch;

/// What is done with the images that are kept.
#[derive(Debug, Subcommand)]
pub enum KeptCommand {
    /// List the images that are here
    #[command(visible_alias = "ls")]
    List,

    /// Show one, and the disks that lie on top of it
    Show {
        /// Its name, or the path of a file
        name: String,

        /// Of which machines; wanted where there are images of several under the name
        #[arg(long, value_enum)]
        arch: Option<Arch>,
    },

    /// Take a file in: a qcow2, raw, vmdk or vdi disk, or a Vagrant box or OVA with one
    ///
    /// What a file is, is told by its octets. One that would have a machine read other files of this computer is refused; vmdk and
    /// vdi become qcow2.
    Import(ImportImageArgs),

    /// Read images whole, and compare them with their digests
    Verify {
        /// Which; without any, all
        names: Vec<String>,
    },

    /// Remove images; refused while a disk lies on top of one
    #[command(visible_alias = "remove")]
    Rm {
        #[arg(required = true)]
        names: Vec<String>,

        /// Of which machines; wanted where there are images of several under a name
        #[arg(long, value_enum)]
        arch: Option<Arch>,
    },

    /// Remove what no name and no disk needs: what was replaced, and what stopped commands have left
    Prune,
}

#[derive(Debug, Args)]
pub struct ImportImageArgs {
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// What it is called; without it, as the file is, up to the ending
    #[arg(long, value_parser = name)]
    pub name: Option<String>,

    /// Of which machines it is
    #[arg(long, value_enum)]
    pub arch: Option<Arch>,

    /// What it has to be; wanted for raw disks without a partition table
    #[arg(long, value_enum)]
    pub format: Option<DiskFormat>,

    /// Which file of a box or OVA with several disks
    #[arg(long, value_name = "NAME")]
    pub member: Option<String>,

    /// Put it in the place of the image that has the name
    #[arg(long)]
    pub replace: bool,
}

#[derive(Debug, Subcommand)]
pub enum DiskCommand {
    /// Make a disk: empty, or on top of an image
    Create {
        /// The file to make; there must be none
        #[arg(value_name = "FILE")]
        file: PathBuf,

        /// Such as 20GiB; with --image, that of the image if it is not said
        #[arg(long, value_parser = size, required_unless_present = "image")]
        size: Option<u64>,

        /// What it is kept as
        #[arg(long, value_enum, default_value = "qcow2", conflicts_with = "image")]
        format: DiskFormat,

        /// Name of an image, or path of one: the disk keeps what differs from it
        #[arg(long, value_name = "IMAGE")]
        image: Option<String>,

        /// Of which machines the image is
        #[arg(long, value_enum, requires = "image")]
        arch: Option<Arch>,
    },

    /// Show what a file is, how large, and what lies beneath it
    Info {
        #[arg(value_name = "FILE")]
        file: PathBuf,

        /// What it has to be; wanted for raw disks without a partition table
        #[arg(long, value_enum)]
        format: Option<DiskFormat>,
    },

    /// Change its size; the file systems on it stay as they are
    Resize {
        #[arg(value_name = "FILE")]
        file: PathBuf,

        /// Such as 20GiB
        #[arg(value_parser = size)]
        size: u64,

        /// It may become smaller; what lies behind is lost
        #[arg(long)]
        shrink: bool,

        /// What it has to be; wanted for raw disks without a partition table
        #[arg(long, value_enum)]
        format: Option<DiskFormat>,
    },

    /// States of a qcow2 disk, kept within it
    Snapshot {
        #[command(subcommand)]
        command: SnapshotCommand,
    },

    /// Make a second disk with the same content, by the file system where it can do that without a copy
    Clone {
        #[arg(value_name = "FILE")]
        file: PathBuf,

        /// The file to make; there must be none
        #[arg(value_name = "NEW-FILE")]
        to: PathBuf,

        /// What it has to be; wanted for raw disks without a partition table
        #[arg(long, value_enum)]
        format: Option<DiskFormat>,
    },
}

#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Keep the state of now
    Create { file: PathBuf, name: String },
    /// Go back to a state; what came after it is lost
    Apply { file: PathBuf, name: String },
    /// Forget a state
    Delete { file: PathBuf, name: String },
    /// List what is kept
    #[command(visible_alias = "ls")]
    List { file: PathBuf },
}

fn name(text: &str) -> Result<String, String> {
    check_name(text).map(|()| text.to_owned())
}

/// Of a disk: whole sectors.
fn size(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        octets if octets % 512 != 0 => Err(format!(
            "wanted whole sectors of 512 octets, got {octets} octets"
        )),
        octets => Ok(octets),
    }
}
